//! Two quotas of one account, and what is kept back of one.

use std::sync::Arc;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountRecord, Action, Command, CredentialKind, Deadline, Fallback, Fence, Ineligible, LeaseRequest, OtherQuota,
    PoolSettings, Protect, RefusalKind, Strategy, Target, TargetNames, Usage, Window,
};

use crate::fixture::{Fixture, ask, id, in_session, record, secs, target};

fn gemini() -> Target {
    let route =
        |pool: &str| OtherQuota { key: pool.into(), pool: pool.into(), model: Some("m-cli".into()), first: false };
    Target {
        pool: Some(Arc::from("ag")),
        names: Some(Arc::new(TargetNames { other: Some(route("cli")), ..TargetNames::default() })),
        ..target("ag", Some("m"))
    }
}

fn on_gemini(n: u64) -> LeaseRequest {
    LeaseRequest { target: gemini(), ..ask(n) }
}

fn falling_back(fallback: Fallback) -> impl FnOnce(&mut PoolSettings) {
    move |settings| {
        settings.quota.fallback = fallback;
        settings.selection.strategy = Strategy::Sticky;
    }
}

fn fixture(letters: &str, fallback: Fallback) -> Fixture {
    let mut fixture = Fixture::new("", falling_back(fallback));
    for letter in letters.chars() {
        fixture.add(AccountRecord { kind: CredentialKind::Oauth, ..record(letter) });
    }
    fixture
}

fn spend(fixture: &mut Fixture, letter: char, pool: &str) {
    fixture.limit(letter, Scope::Pool, pool, Deadline::Mono(fixture.now.mono.after(secs(60))));
}

fn place(fixture: &Fixture, fence: Fence) -> String {
    let lease = fixture.pool.lease(fence).unwrap();
    format!("{}.{}", fixture.on(fence), lease.target.pool.as_deref().unwrap_or("-"))
}

fn peek(fixture: &mut Fixture) -> String {
    let fence = fixture.hold(on_gemini(0));
    let found = place(fixture, fence);
    fixture.release(fence);
    found
}

/// The seed's order (A.ag, B.ag, B.cli, A.cli) and the other one; each step spends what was found.
#[test]
fn quota_pools_fall_back_in_the_configured_order() {
    for (fallback, order) in [
        (Fallback::Off, &["a.ag", "b.ag"][..]),
        (Fallback::AccountsFirst, &["a.ag", "b.ag", "b.cli", "a.cli"]),
        (Fallback::SameAccountFirst, &["a.ag", "a.cli", "b.ag", "b.cli"]),
    ] {
        let mut fixture = fixture("ab", fallback);
        for wanted in order {
            let found = peek(&mut fixture);
            assert_eq!(found, *wanted, "{fallback:?}");
            let (letter, pool) = found.split_once('.').unwrap();
            spend(&mut fixture, letter.chars().next().unwrap(), pool);
        }
        let refusal = fixture.acquire(on_gemini(0)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::AllLimited, "{fallback:?}");
        assert_eq!(refusal.retry_at, Some(fixture.now.wall.after(secs(60))));
    }
}

#[test]
fn reports_move_through_the_pools_and_use_each_pool_s_model_name() {
    let mut fixture = fixture("ab", Fallback::SameAccountFirst);
    let mut held = fixture.hold(on_gemini(0));
    let mut seen = vec![];
    loop {
        let lease = fixture.pool.lease(held).unwrap();
        seen.push(format!("{} {}", place(&fixture, held), lease.target.model.as_deref().unwrap()));
        let decision = fixture.report(held, Reason::QuotaExhausted, Some(secs(600)));
        match decision.lease {
            Some(moved) => held = moved,
            None => {
                assert_eq!((decision.action, decision.after), (Action::Wait, secs(600)));
                break;
            }
        }
    }
    assert_eq!(seen, ["a.ag m", "a.cli m-cli", "b.ag m", "b.cli m-cli"]);
    // each limit lies on its own pool
    let keys: Vec<&str> = fixture.pool.account(id('a')).unwrap().limits().iter().map(|l| l.key.as_str()).collect();
    assert_eq!(keys, ["ag", "cli"]);
}

#[test]
fn an_account_limit_closes_both_pools_and_a_pinned_pool_is_not_left() {
    let mut fixture = fixture("ab", Fallback::SameAccountFirst);
    fixture.block('a', secs(60));
    assert_eq!(peek(&mut fixture), "b.ag");
    spend(&mut fixture, 'b', "ag");
    let pinned = LeaseRequest { target: Target { names: None, ..gemini() }, ..ask(1) };
    assert_eq!(fixture.refused(pinned), RefusalKind::AllLimited);
    assert_eq!(peek(&mut fixture), "b.cli");
    let named = fixture.hold(LeaseRequest { account: Some("b".into()), ..on_gemini(2) });
    assert_eq!(place(&fixture, named), "b.cli", "a request that names the account falls back on it");
}

#[test]
fn an_api_key_has_one_quota_where_logins_have_two() {
    for fallback in [Fallback::AccountsFirst, Fallback::SameAccountFirst] {
        let mut fixture = Fixture::new("k", falling_back(fallback));
        spend(&mut fixture, 'k', "ag");
        assert_eq!(fixture.refused(on_gemini(0)), RefusalKind::AllLimited, "{fallback:?}");
    }
}

#[test]
fn a_session_stays_on_its_account_when_the_pool_changes() {
    let mut fixture = fixture("abc", Fallback::SameAccountFirst);
    fixture.configure(|settings| settings.selection.strategy = Strategy::RoundRobin);
    let talking = || LeaseRequest { target: gemini(), ..in_session("s") };
    let home = fixture.peek(talking());
    spend(&mut fixture, home, "ag");
    let held = fixture.hold(talking());
    assert_eq!(place(&fixture, held), format!("{home}.cli"));
}

#[test]
fn a_queued_request_is_served_by_the_pool_that_is_free_first() {
    let mut fixture = fixture("a", Fallback::AccountsFirst);
    spend(&mut fixture, 'a', "ag");
    fixture.limit('a', Scope::Pool, "cli", Deadline::Mono(fixture.now.mono.after(secs(20))));
    let waiter = fixture.queued(LeaseRequest { wait: None, ..on_gemini(0) });
    assert_eq!(fixture.pool.eta(fixture.now, waiter), Some(fixture.now.wall.after(secs(20))));
    fixture.pass(secs(20));
    let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!((served, place(&fixture, fence)), (waiter, "a.cli".to_owned()));
}

#[test]
fn a_retry_finds_its_lease_in_the_second_pool() {
    let mut fixture = fixture("a", Fallback::AccountsFirst);
    spend(&mut fixture, 'a', "ag");
    let named = || LeaseRequest { request_id: Some("r".into()), ..on_gemini(0) };
    let held = fixture.hold(named());
    assert_eq!(fixture.hold(named()), held);
}

fn protecting(models: &str, below: f64) -> impl FnOnce(&mut PoolSettings) {
    let models = vec![models.to_owned()];
    move |settings| settings.quota.protect = vec![Protect { models, below }]
}

fn for_model(model: &str) -> LeaseRequest {
    LeaseRequest { target: target("k", Some(model)), ..ask(0) }
}

/// Antigravity-Manager's cases, where its families are patterns here; and that the last tenth itself is not kept back.
#[test]
fn a_reserve_blocks_its_models_on_a_nearly_used_up_quota() {
    for (used, opus_served) in [(None, true), (Some(0.5), true), (Some(0.9), true), (Some(0.91), false)] {
        let mut fixture = Fixture::new("a", protecting("*opus*", 0.10));
        if let Some(used) = used {
            fixture.used('a', used);
        }
        assert_eq!(fixture.acquire(for_model("claude-opus-4")).is_ok(), opus_served, "{used:?}");
        assert!(fixture.acquire(for_model("claude-sonnet-4")).is_ok());
        assert!(fixture.acquire(ask(3)).is_ok(), "a request without a model has no reserve");
    }
    let mut fixture = Fixture::new("ab", protecting("*", 0.10));
    fixture.used('a', 0.95);
    assert_eq!(fixture.peek(for_model("m")), 'b');
    fixture.used('b', 1.0);
    let refusal = fixture.acquire(for_model("m")).unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::AllLimited, Ineligible::Reserved));
}

#[test]
fn a_reserve_ends_with_its_window_or_with_a_better_reading() {
    let window = |name: &str, utilization, resets_in, fixture: &Fixture| Window {
        name: name.into(),
        utilization,
        resets_at: Some(fixture.now.wall.after(secs(resets_in))),
        as_of: fixture.now.wall,
        key: String::new(),
    };
    let reserved = || {
        let mut fixture = Fixture::new("a", protecting("m", 0.2));
        let windows =
            vec![window("5h", 0.9, 40, &fixture), window("7d", 0.81, 90, &fixture), window("x", 0.1, 9, &fixture)];
        fixture.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
        let waiter = fixture.queued(LeaseRequest { wait: None, ..for_model("m") });
        assert_eq!(fixture.pool.eta(fixture.now, waiter), Some(fixture.now.wall.after(secs(90))), "both must reset");
        (fixture, waiter)
    };
    let (mut fixture, waiter) = reserved();
    while fixture.answers().is_empty() {
        let next = fixture.pool.next_wakeup(fixture.now).unwrap();
        fixture.pass(next.since(fixture.now.mono));
    }
    assert_eq!(fixture.now.wall, lessor::pool::Wall(1_800_000_000_000 + 90_000));
    assert_eq!(fixture.answers()[0].0, waiter);
    let (mut fixture, waiter) = reserved();
    fixture.used('a', 0.1);
    assert_eq!(fixture.answers()[0].0, waiter, "a reading that shows room");
    let (mut fixture, waiter) = reserved();
    fixture.configure(|settings| settings.quota.protect.clear());
    assert_eq!(fixture.answers()[0].0, waiter);
    // the time is unknown: it may wait until its deadline for a reading
    let mut fixture = Fixture::new("a", protecting("m", 0.2));
    fixture.used('a', 0.9);
    let waiter = fixture.queued(LeaseRequest { wait: Some(secs(9)), ..for_model("m") });
    fixture.used('a', 0.3);
    assert_eq!(fixture.answers()[0].0, waiter);
}

#[test]
fn windows_of_a_model_pattern_apply_to_matching_models_only() {
    let mut fixture = Fixture::new("ab", protecting("*", 0.5));
    let windows = vec![Window {
        name: "7d".into(),
        utilization: 0.6,
        resets_at: None,
        as_of: fixture.now.wall,
        key: "k:*opus*".into(),
    }];
    fixture.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
    assert_eq!(fixture.peek(for_model("claude-opus-4")), 'b');
    assert_eq!(fixture.peek(LeaseRequest { exclude: vec![id('b')], ..for_model("claude-sonnet-4") }), 'a');
}
