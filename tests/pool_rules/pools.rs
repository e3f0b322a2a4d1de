//! Two quotas of one account, and what is kept back of one.

use std::sync::Arc;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountRecord, Action, Command, CredentialKind, Deadline, Fallback, Fence, Ineligible, LeaseRequest, OtherQuota,
    PoolSettings, Protect, RefusalKind, Strategy, Target, TargetNames, Usage, Window,
};

use crate::desk::{Desk, ask, id, in_session, record, secs, target};

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

fn desk(letters: &str, fallback: Fallback) -> Desk {
    let mut desk = Desk::new("", falling_back(fallback));
    for letter in letters.chars() {
        desk.add(AccountRecord { kind: CredentialKind::Oauth, ..record(letter) });
    }
    desk
}

fn spend(desk: &mut Desk, letter: char, pool: &str) {
    desk.limit(letter, Scope::Pool, pool, Deadline::Mono(desk.now.mono.after(secs(60))));
}

fn place(desk: &Desk, fence: Fence) -> String {
    let lease = desk.pool.lease(fence).unwrap();
    format!("{}.{}", desk.on(fence), lease.target.pool.as_deref().unwrap_or("-"))
}

fn peek(desk: &mut Desk) -> String {
    let fence = desk.hold(on_gemini(0));
    let found = place(desk, fence);
    desk.release(fence);
    found
}

/// The seed's order (A.ag, B.ag, B.cli, A.cli) and the other one; each step spends what was found.
#[test]
fn pools_fall_back_in_the_order_that_was_chosen() {
    for (fallback, order) in [
        (Fallback::Off, &["a.ag", "b.ag"][..]),
        (Fallback::AccountsFirst, &["a.ag", "b.ag", "b.cli", "a.cli"]),
        (Fallback::SameAccountFirst, &["a.ag", "a.cli", "b.ag", "b.cli"]),
    ] {
        let mut desk = desk("ab", fallback);
        for wanted in order {
            let found = peek(&mut desk);
            assert_eq!(found, *wanted, "{fallback:?}");
            let (letter, pool) = found.split_once('.').unwrap();
            spend(&mut desk, letter.chars().next().unwrap(), pool);
        }
        let refusal = desk.acquire(on_gemini(0)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::AllLimited, "{fallback:?}");
        assert_eq!(refusal.retry_at, Some(desk.now.wall.after(secs(60))));
    }
}

#[test]
fn reports_walk_the_pools_and_name_the_model_as_each_does() {
    let mut desk = desk("ab", Fallback::SameAccountFirst);
    let mut held = desk.hold(on_gemini(0));
    let mut seen = vec![];
    loop {
        let lease = desk.pool.lease(held).unwrap();
        seen.push(format!("{} {}", place(&desk, held), lease.target.model.as_deref().unwrap()));
        let decision = desk.report(held, Reason::QuotaExhausted, Some(secs(600)));
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
    let keys: Vec<&str> = desk.pool.account(id('a')).unwrap().limits().iter().map(|l| l.key.as_str()).collect();
    assert_eq!(keys, ["ag", "cli"]);
}

#[test]
fn a_limit_of_the_whole_account_closes_both_pools_and_a_pin_stays_in_its_own() {
    let mut desk = desk("ab", Fallback::SameAccountFirst);
    desk.block('a', secs(60));
    assert_eq!(peek(&mut desk), "b.ag");
    spend(&mut desk, 'b', "ag");
    let pinned = LeaseRequest { target: Target { names: None, ..gemini() }, ..ask(1) };
    assert_eq!(desk.refused(pinned), RefusalKind::AllLimited);
    assert_eq!(peek(&mut desk), "b.cli");
    let named = desk.hold(LeaseRequest { account: Some("b".into()), ..on_gemini(2) });
    assert_eq!(place(&desk, named), "b.cli", "whoever names the account falls back on it");
}

#[test]
fn a_key_has_one_quota_whatever_logins_have() {
    for fallback in [Fallback::AccountsFirst, Fallback::SameAccountFirst] {
        let mut desk = Desk::new("k", falling_back(fallback));
        spend(&mut desk, 'k', "ag");
        assert_eq!(desk.refused(on_gemini(0)), RefusalKind::AllLimited, "{fallback:?}");
    }
}

#[test]
fn a_session_stays_on_its_account_when_the_pool_changes() {
    let mut desk = desk("abc", Fallback::SameAccountFirst);
    desk.configure(|settings| settings.selection.strategy = Strategy::RoundRobin);
    let talking = || LeaseRequest { target: gemini(), ..in_session("s") };
    let home = desk.peek(talking());
    spend(&mut desk, home, "ag");
    let held = desk.hold(talking());
    assert_eq!(place(&desk, held), format!("{home}.cli"));
}

#[test]
fn a_request_that_waits_is_served_by_whichever_pool_comes_back_first() {
    let mut desk = desk("a", Fallback::AccountsFirst);
    spend(&mut desk, 'a', "ag");
    desk.limit('a', Scope::Pool, "cli", Deadline::Mono(desk.now.mono.after(secs(20))));
    let waiter = desk.queued(LeaseRequest { wait: None, ..on_gemini(0) });
    assert_eq!(desk.pool.eta(desk.now, waiter), Some(desk.now.wall.after(secs(20))));
    desk.pass(secs(20));
    let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!((served, place(&desk, fence)), (waiter, "a.cli".to_owned()));
}

#[test]
fn the_same_request_finds_its_lease_on_the_second_pool() {
    let mut desk = desk("a", Fallback::AccountsFirst);
    spend(&mut desk, 'a', "ag");
    let named = || LeaseRequest { request_id: Some("r".into()), ..on_gemini(0) };
    let held = desk.hold(named());
    assert_eq!(desk.hold(named()), held);
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
fn a_reserve_keeps_its_models_off_what_is_nearly_spent() {
    for (used, opus_served) in [(None, true), (Some(0.5), true), (Some(0.9), true), (Some(0.91), false)] {
        let mut desk = Desk::new("a", protecting("*opus*", 0.10));
        if let Some(used) = used {
            desk.used('a', used);
        }
        assert_eq!(desk.acquire(for_model("claude-opus-4")).is_ok(), opus_served, "{used:?}");
        assert!(desk.acquire(for_model("claude-sonnet-4")).is_ok());
        assert!(desk.acquire(ask(3)).is_ok(), "a request without a model has no reserve");
    }
    let mut desk = Desk::new("ab", protecting("*", 0.10));
    desk.used('a', 0.95);
    assert_eq!(desk.peek(for_model("m")), 'b');
    desk.used('b', 1.0);
    let refusal = desk.acquire(for_model("m")).unwrap_err();
    assert_eq!((refusal.kind, refusal.accounts[0].why), (RefusalKind::AllLimited, Ineligible::Reserved));
}

#[test]
fn a_reserve_ends_with_its_window_or_with_a_better_reading() {
    let window = |name: &str, utilization, resets_in, desk: &Desk| Window {
        name: name.into(),
        utilization,
        resets_at: Some(desk.now.wall.after(secs(resets_in))),
        as_of: desk.now.wall,
        key: String::new(),
    };
    let reserved = || {
        let mut desk = Desk::new("a", protecting("m", 0.2));
        let windows = vec![window("5h", 0.9, 40, &desk), window("7d", 0.81, 90, &desk), window("x", 0.1, 9, &desk)];
        desk.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
        let waiter = desk.queued(LeaseRequest { wait: None, ..for_model("m") });
        assert_eq!(desk.pool.eta(desk.now, waiter), Some(desk.now.wall.after(secs(90))), "both must start anew");
        (desk, waiter)
    };
    let (mut desk, waiter) = reserved();
    while desk.answers().is_empty() {
        let next = desk.pool.next_wakeup(desk.now).unwrap();
        desk.pass(next.since(desk.now.mono));
    }
    assert_eq!(desk.now.wall, lessor::pool::Wall(1_800_000_000_000 + 90_000));
    assert_eq!(desk.answers()[0].0, waiter);
    let (mut desk, waiter) = reserved();
    desk.used('a', 0.1);
    assert_eq!(desk.answers()[0].0, waiter, "a reading that shows room");
    let (mut desk, waiter) = reserved();
    desk.configure(|settings| settings.quota.protect.clear());
    assert_eq!(desk.answers()[0].0, waiter);
    // nobody knows when: it may wait its time out, for a reading
    let mut desk = Desk::new("a", protecting("m", 0.2));
    desk.used('a', 0.9);
    let waiter = desk.queued(LeaseRequest { wait: Some(secs(9)), ..for_model("m") });
    desk.used('a', 0.3);
    assert_eq!(desk.answers()[0].0, waiter);
}

#[test]
fn windows_of_one_model_class_count_for_it_alone() {
    let mut desk = Desk::new("ab", protecting("*", 0.5));
    let windows = vec![Window {
        name: "7d".into(),
        utilization: 0.6,
        resets_at: None,
        as_of: desk.now.wall,
        key: "k:*opus*".into(),
    }];
    desk.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
    assert_eq!(desk.peek(for_model("claude-opus-4")), 'b');
    assert_eq!(desk.peek(LeaseRequest { exclude: vec![id('b')], ..for_model("claude-sonnet-4") }), 'a');
}
