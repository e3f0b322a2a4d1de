//! How limits end: a probe first, then more and more; by a reading; by proof that the request was at fault.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    Action, Command, Effect, Event, Fence, LeaseRequest, LimitSource, LoginState, Overflow, RefusalDetails,
    RefusalKind, StatedWait, Usage, Verification, WaiterId, Wall, Window,
};

use crate::fixture::{Fixture, ask, id, secs, target};

const HOUR: u64 = 3_600;

fn patient(n: u64) -> LeaseRequest {
    LeaseRequest { wait: Some(secs(20_000)), ..ask(n) }
}

/// One account, limited for ten minutes, and six that wait for it.
fn crowd() -> (Fixture, Vec<WaiterId>) {
    let mut fixture = Fixture::new("a", |settings| settings.leases.overflow = Overflow::Share);
    fixture.block('a', secs(600));
    let waiting = (0..6).map(|n| fixture.queued(patient(n))).collect();
    (fixture, waiting)
}

fn served(fixture: &Fixture) -> Vec<(WaiterId, Fence)> {
    fixture.answers().into_iter().map(|(waiter, result)| (waiter, result.unwrap())).collect()
}

#[test]
fn one_goes_first_and_its_success_lets_in_more_and_more_in_order() {
    let (mut fixture, waiting) = crowd();
    fixture.pass(secs(600));
    let [(first, probe)] = served(&fixture)[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(first, waiting[0]);
    assert!(fixture.effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Recovered(..)))));
    fixture.pass(secs(20));
    assert!(served(&fixture).is_empty(), "never two probes");
    assert_eq!(fixture.refused(ask(9)), RefusalKind::AllLimited);
    fixture.ok(probe);
    let order: Vec<WaiterId> = served(&fixture).into_iter().map(|(waiter, _)| waiter).collect();
    assert_eq!(order, waiting[1..2], "one more at once");
    for (ms, next) in [(2_000, 2..3), (2_000, 3..5), (2_000, 5..6)] {
        fixture.pass(Duration::from_millis(ms));
        let order: Vec<WaiterId> = served(&fixture).into_iter().map(|(waiter, _)| waiter).collect();
        assert_eq!(order, waiting[next], "and as many again");
    }
    fixture.pass(secs(2));
    assert_eq!(fixture.pool.account(id('a')).unwrap().limits(), [], "nothing is left of it");
}

#[test]
fn where_few_can_be_on_an_account_a_short_limit_ends_for_all_at_once() {
    for (overflow, pauses) in [(Overflow::Wait, false), (Overflow::Share, true)] {
        let mut fixture = Fixture::new("a", |settings| settings.leases.overflow = overflow);
        fixture.block('a', secs(10));
        let mut waiting: Vec<WaiterId> = (0..6).map(|n| fixture.queued(patient(n))).collect();
        fixture.pass(secs(10));
        let mut turns = 0;
        while let Some((waiter, fence)) = served(&fixture).first().copied() {
            assert_eq!(waiter, waiting.remove(0));
            fixture.release(fence);
            turns += 1;
        }
        assert_eq!(turns < 6, pauses, "{overflow:?}: {turns} turns in the same moment");
    }
}

#[test]
fn a_probe_that_is_refused_limits_the_rest_again() {
    let (mut fixture, _) = crowd();
    fixture.pass(secs(600));
    let [(_, probe)] = served(&fixture)[..] else { panic!("{:?}", fixture.answers()) };
    let scope = Some(Scope::Account);
    let decision = fixture.report_at(probe, Reason::QuotaExhausted, scope, Some(secs(900)));
    assert_eq!((decision.action, decision.after), (Action::Wait, secs(900)));
    assert_eq!(fixture.limited_for('a'), Some(secs(900)));
    assert!(served(&fixture).is_empty());
    // who waits on its account is the next probe, and the queue stays behind it
    fixture.pass(secs(900));
    assert!(served(&fixture).is_empty());
    fixture.ok(probe);
    assert_eq!(served(&fixture).len(), 1);
}

#[test]
fn a_probe_passes_on_when_its_lease_ends_and_succeeds_when_it_stays_silent() {
    let (mut fixture, waiting) = crowd();
    fixture.pass(secs(600));
    for (n, waiter) in waiting.iter().enumerate().take(3) {
        let [(probing, _)] = served(&fixture)[..] else { panic!("{:?}", fixture.answers()) };
        assert_eq!(probing, *waiter);
        fixture.run(Command::ConnectionClosed(ask(n as u64).connection)).unwrap();
    }
    let [(probing, probe)] = served(&fixture)[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(probing, waiting[3]);
    // failures of the service say nothing of the quota
    fixture.report(probe, Reason::ServerError, None);
    assert!(served(&fixture).is_empty());
    assert_eq!(fixture.pool.next_wakeup(fixture.now), Some(fixture.now.mono.after(secs(60))));
    fixture.pass(secs(60));
    assert_eq!(served(&fixture).len(), 1);
}

#[test]
fn a_short_limit_needs_no_probe_and_lets_in_more_and_more() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.max_per_account = 40);
    fixture.block('a', secs(299));
    let waiting: Vec<WaiterId> = (0..40).map(|n| fixture.queued(patient(n))).collect();
    fixture.pass(secs(299));
    assert!(fixture.effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Recovered(..)))));
    let (began, mut order, mut times) = (fixture.now.mono, Vec::new(), Vec::new());
    loop {
        for (waiter, _) in served(&fixture) {
            order.push(waiter);
            times.push(fixture.now.mono.since(began).as_millis());
        }
        if order.len() == waiting.len() {
            break;
        }
        let next = fixture.pool.next_wakeup(fixture.now).unwrap();
        fixture.pass(next.since(fixture.now.mono));
    }
    assert_eq!(order, waiting, "in order");
    assert_eq!(times[..8], [0, 2_000, 3_000, 4_000, 4_500, 5_000, 5_500, 6_000]);
    assert_eq!(times[16..], [8_000; 24], "and after eight seconds all");
    assert_eq!(fixture.pool.account(id('a')).unwrap().limits(), [], "nothing is left of it");
}

#[test]
fn a_request_that_times_out_during_a_probe_is_told_to_retry_soon() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Share);
    fixture.block('a', secs(600));
    fixture.block('b', secs(9_000));
    let soon = fixture.queued(LeaseRequest { wait: Some(secs(610)), ..ask(0) });
    let later = fixture.queued(LeaseRequest { wait: Some(secs(610)), ..ask(1) });
    fixture.pass(secs(600));
    assert_eq!(served(&fixture)[0].0, soon);
    fixture.pass(secs(10));
    let refused = fixture.effects.iter().find_map(|effect| match effect {
        Effect::Answer { waiter, result: Err(refusal) } if *waiter == later => Some(refusal),
        _ => None,
    });
    let refusal = refused.expect("its time is over");
    assert_eq!(refusal.kind, RefusalKind::WaitTimeout);
    assert_eq!(refusal.retry_at, Some(fixture.now.wall.after(secs(2))), "not in two hours");
}

#[test]
fn holders_that_wait_on_their_account_come_back_one_after_the_other() {
    let mut fixture = Fixture::new("a", |_| {});
    let held: Vec<Fence> = (0..4).map(|n| fixture.hold(ask(n))).collect();
    let waits: Vec<Duration> =
        held.iter().map(|fence| fixture.report(*fence, Reason::QuotaExhausted, Some(secs(900))).after).collect();
    assert_eq!(waits, [900_000, 900_500, 901_000, 901_500].map(Duration::from_millis));
}

#[test]
fn thirteen_hours_are_thirteen_hours_also_after_a_restart_and_two_seconds_are_two() {
    let day = |fixture: &Fixture| fixture.now.wall.after(secs(13 * HOUR));
    for stated in [
        |_: &Fixture| StatedWait::In(secs(13 * HOUR)),
        |fixture: &Fixture| StatedWait::At(fixture.now.wall.after(secs(13 * HOUR))),
    ] {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        let until = day(&fixture);
        let finding = RefusalDetails {
            wait: Some(stated(&fixture)),
            source: LimitSource::Server,
            evidence: Some("resets_at".into()),
            link: Some("https://example.org/plan".into()),
            ..RefusalDetails::reported(Reason::QuotaExhausted, None)
        };
        assert_eq!(fixture.found(held, finding).after, secs(13 * HOUR));
        fixture.pass(secs(HOUR));
        fixture.restart(false);
        let limit = &fixture.pool.account(id('a')).unwrap().limits()[0];
        assert_eq!((limit.until.wall(fixture.now), limit.source), (until, LimitSource::Server));
        assert_eq!(
            (limit.evidence.as_deref(), limit.link.as_deref()),
            (Some("resets_at"), Some("https://example.org/plan"))
        );
        let refusal = fixture.acquire(ask(1)).unwrap_err();
        assert_eq!(refusal.retry_at, Some(until));
        // and over a restart after its end too one goes first
        fixture.pass(secs(11 * HOUR));
        fixture.now.wall = until;
        fixture.now.mono = fixture.now.mono.after(secs(HOUR));
        fixture.restart(false);
        let probe = fixture.hold(ask(2));
        assert_eq!(fixture.refused(ask(3)), RefusalKind::AllLimited);
        fixture.ok(probe);
        let _ = fixture.hold(ask(3));
    }
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.report(held, Reason::QuotaExhausted, Some(secs(2))).after, secs(2));
    fixture.pass(secs(2));
    let _ = fixture.hold(ask(1));
}

#[test]
fn what_is_stated_in_the_past_or_for_a_moment_is_two_seconds() {
    for stated in
        [StatedWait::In(Duration::ZERO), StatedWait::At(Wall(0)), StatedWait::In(Duration::from_millis(1_999))]
    {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        let finding =
            RefusalDetails { wait: Some(stated), ..RefusalDetails::reported(Reason::RateLimitExceeded, None) };
        assert_eq!(fixture.found(held, finding).after, secs(2), "{stated:?}");
    }
}

#[test]
fn five_reports_of_one_event_count_once() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.per_account = 5);
    let held: Vec<Fence> = (0..5).map(|n| fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(n) })).collect();
    let health = |fixture: &Fixture| {
        fixture.pool.account(id('a')).unwrap().health(&fixture.pool.settings().selection.health, fixture.now.mono)
    };
    let before = health(&fixture);
    for fence in held {
        fixture.pass(Duration::from_millis(300));
        fixture.report(fence, Reason::QuotaExhausted, None);
    }
    assert_eq!(health(&fixture), before - 10.0);
    let left = fixture.limited_for('a').unwrap();
    assert!(left <= secs(60), "the ladder has taken one step: {left:?}");
}

#[test]
fn upstream_overload_leaves_the_health_of_all_accounts_unchanged() {
    let mut fixture = Fixture::new("ab", |_| {});
    let health = |fixture: &Fixture| {
        let settings = &fixture.pool.settings().selection.health;
        [id('a'), id('b')].map(|id| fixture.pool.account(id).unwrap().health(settings, fixture.now.mono))
    };
    let before = health(&fixture);
    for n in 0..100 {
        let held = fixture.hold(ask(n));
        let decision = fixture.report(held, Reason::ModelCapacityExhausted, Some(secs(n)));
        // before a long wait another account is asked
        assert_eq!(decision.action, if n <= 5 { Action::Retry } else { Action::Switch });
        fixture.release(decision.lease.unwrap_or(held));
    }
    assert_eq!(health(&fixture), before);
    assert!(fixture.pool.accounts().iter().all(|account| account.limits().is_empty()));
}

/// opencode-antigravity-auth's counter: twice as long with each failure, one event within two seconds, new after 120 s.
#[test]
fn the_only_account_is_tried_again_and_again() {
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    let other = fixture.hold(ask(1));
    let fail = |fixture: &mut Fixture, wanted: u64| {
        let decision = fixture.report(held, Reason::RateLimitExceeded, None);
        assert_eq!((decision.action, decision.after), (Action::Retry, secs(wanted)));
        assert_eq!(fixture.limited_for('a'), Some(secs(wanted)), "no other request is sent there before");
        decision.after
    };
    for wanted in [1, 2, 4, 8, 16, 32, 60, 60] {
        let after = fail(&mut fixture, wanted);
        let same = fixture.report(other, Reason::RateLimitExceeded, None);
        assert_eq!((same.action, same.after), (Action::Retry, after), "the same event");
        fixture.pass(after);
    }
    fixture.pass(secs(120));
    let after = fail(&mut fixture, 1);
    fixture.pass(after + secs(2));
    let after = fail(&mut fixture, 2);
    fixture.pass(after);
    fixture.ok(held);
    fixture.pass(secs(2));
    fail(&mut fixture, 1);
    // a stated wait is a stated wait, and an exhausted quota climbs its own ladder
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.report(held, Reason::RateLimitExceeded, Some(secs(30))).after, secs(30));
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.report(held, Reason::QuotaExhausted, None).after, secs(60));
    // with another one, even a limited one, it is not the only one
    let mut fixture = Fixture::new("ab", |_| {});
    fixture.block('b', secs(9_000));
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.report(held, Reason::RateLimitExceeded, None).action, Action::Wait);
}

#[test]
fn several_accounts_that_refuse_the_same_request_prove_that_it_is_the_request() {
    // three are proof enough, except where an account may be closed altogether: then every one is asked
    for (letters, reason, refusals, retries) in [
        ("abcde", Reason::Unknown, 3, 0),
        ("ab", Reason::Unknown, 2, 0),
        ("abcde", Reason::Forbidden, 20, 3),
        ("ab", Reason::Forbidden, 8, 3),
    ] {
        let mut pauses = Vec::new();
        let mut fixture = Fixture::new(letters, |_| {});
        let (mut held, mut refused) = (fixture.hold(ask(0)), 0);
        let decision = loop {
            let decision = fixture.report(held, reason, None);
            refused += 1;
            match decision.lease {
                Some(moved) => held = moved,
                None if decision.action == Action::Retry => {
                    pauses.push(decision.after.as_secs());
                    fixture.pass(decision.after);
                }
                None => break decision,
            }
        };
        assert_eq!((refused, pauses.len()), (refusals, retries), "{letters} {reason:?}");
        assert!(pauses.iter().sum::<u64>() <= 30, "{pauses:?}");
        assert_eq!(
            (decision.action, decision.reason, decision.scope),
            (Action::Stop, Some(Reason::RequestRejected), Some(Scope::Request))
        );
        for account in fixture.pool.accounts() {
            assert_eq!(account.limits(), [], "no account is charged with it");
            assert_eq!(account.health(&fixture.pool.settings().selection.health, fixture.now.mono), 70.0);
        }
    }
}

#[test]
fn stale_accounts_prove_nothing_against_the_request() {
    for (reason, wait) in
        [(Reason::QuotaExhausted, None), (Reason::AuthFailed, None), (Reason::Forbidden, Some(secs(60)))]
    {
        let mut fixture = Fixture::new("abcdefgh", |_| {});
        let mut held = fixture.hold(ask(0));
        for _ in 0..7 {
            held = fixture.report(held, reason, wait).lease.expect("the next one");
        }
        let last = fixture.report(held, reason, wait);
        assert_ne!(last.reason, Some(Reason::RequestRejected), "{last:?}");
    }
    // in a row: a success in between, and the row is over
    let mut fixture = Fixture::new("abcde", |_| {});
    let mut held = fixture.hold(ask(0));
    for _ in 0..4 {
        held = fixture.report(held, Reason::Unknown, None).lease.expect("the next one");
        fixture.ok(held);
    }
}

#[test]
fn a_newer_reading_that_shows_room_ends_a_limit_by_the_quota() {
    let window = |name: &str, key: &str, used: f64, resets_in: u64, fixture: &Fixture| Window {
        name: name.into(),
        utilization: used,
        resets_at: Some(fixture.now.wall.after(secs(resets_in))),
        as_of: fixture.now.wall,
        key: key.into(),
    };
    // what is read a second after the limit by `k` until in an hour, and whether it ends it
    type Row = (&'static [(&'static str, &'static str, f64, u64)], bool);
    let rows: [Row; 7] = [
        (&[("5h", "", 0.1, 4 * HOUR)], true),
        (&[("5h", "", 1.0, 4 * HOUR)], false),
        (&[("5h", "", 0.1, 4 * HOUR), ("7d", "", 1.0, 90 * HOUR)], false),
        (&[("1m", "", 0.1, 60)], false),
        (&[("5h", "other", 0.1, 4 * HOUR)], false),
        (&[("5h", "k:*opus*", 0.1, 4 * HOUR)], false),
        (&[], false),
    ];
    for (windows, ends) in rows {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        fixture.report(held, Reason::QuotaExhausted, Some(secs(HOUR)));
        let waiter = fixture.queued(patient(1));
        fixture.pass(secs(1));
        let windows =
            windows.iter().map(|(name, key, used, resets)| window(name, key, *used, *resets, &fixture)).collect();
        fixture.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
        assert_eq!(fixture.limited_for('a').is_none(), ends);
        assert_eq!(fixture.answers().first().is_some_and(|(served, _)| *served == waiter), ends);
    }
    // older than the limit, it proves nothing; nor against a rate limit
    let mut fixture = Fixture::new("a", |_| {});
    let old = window("5h", "", 0.1, 4 * HOUR, &fixture);
    fixture.pass(secs(1));
    let held = fixture.hold(ask(0));
    fixture.report(held, Reason::QuotaExhausted, Some(secs(HOUR)));
    fixture.run(Command::LearnUsage(id('a'), Usage { windows: vec![old], ..Usage::default() })).unwrap();
    assert!(fixture.limited_for('a').is_some());
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(LeaseRequest { target: target("k", Some("opus")), ..ask(0) });
    fixture.report(held, Reason::RateLimitExceeded, Some(secs(HOUR)));
    fixture.pass(secs(1));
    let new = window("5h", "", 0.1, 4 * HOUR, &fixture);
    fixture.run(Command::LearnUsage(id('a'), Usage { windows: vec![new], ..Usage::default() })).unwrap();
    assert!(fixture.limited_for('a').is_some());
    // a model's limit ends by the model's own windows
    fixture.run(Command::ClearLimits(id('a'))).unwrap();
    fixture.report_at(held, Reason::QuotaExhausted, Some(Scope::Model), Some(secs(HOUR)));
    fixture.pass(secs(1));
    let new = window("7d", "k:*opus*", 0.1, 90 * HOUR, &fixture);
    fixture.run(Command::LearnUsage(id('a'), Usage { windows: vec![new], ..Usage::default() })).unwrap();
    assert!(fixture.limited_for('a').is_none());
}

#[test]
fn learnt_windows_are_merged_by_name_and_key_and_the_newest_stands() {
    let mut fixture = Fixture::new("a", |_| {});
    let window = |name: &str, used: f64, as_of: u64| Window {
        name: name.into(),
        utilization: used,
        resets_at: None,
        as_of: Wall(as_of),
        key: String::new(),
    };
    for (name, used, as_of, is_news) in [
        ("5h", 0.1, 10, true),
        ("7d", 0.2, 10, true),
        ("5h", 0.3, 20, true),
        ("5h", 0.0, 15, false),
        ("7d", 0.2, 30, false),
    ] {
        fixture
            .run(Command::LearnUsage(id('a'), Usage { windows: vec![window(name, used, as_of)], ..Usage::default() }))
            .unwrap();
        assert_eq!(fixture.effects.contains(&Effect::Emit(Event::UsageUpdated(id('a')))), is_news, "{name} {used}");
    }
    assert_eq!(fixture.pool.account(id('a')).unwrap().usage().windows, [window("5h", 0.3, 20), window("7d", 0.2, 30)]);
    for n in 0..100 {
        fixture
            .run(Command::LearnUsage(
                id('a'),
                Usage { windows: vec![window(&n.to_string(), 0.1, 10)], ..Usage::default() },
            ))
            .unwrap();
    }
    assert_eq!(fixture.pool.account(id('a')).unwrap().usage().windows.len(), 64, "bounded");
}

#[test]
fn a_required_user_action_includes_its_link() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    let link = Some("https://accounts.example.org/verify".into());
    fixture.found(held, RefusalDetails { link, ..RefusalDetails::reported(Reason::VerificationRequired, None) });
    let login_state = &fixture.pool.account(id('a')).unwrap().record.login_state;
    let verification = Verification::at(Some("https://accounts.example.org/verify"));
    assert_eq!(*login_state, LoginState::NeedsVerification(verification));
    let held = fixture.hold(LeaseRequest { account: Some("b".into()), ..ask(0) });
    let finding = RefusalDetails {
        link: Some("https://example.org/billing".into()),
        evidence: Some("x".repeat(1_000).into()),
        ..RefusalDetails::reported(Reason::OutOfCredit, None)
    };
    fixture.found(held, finding);
    let limit = &fixture.pool.account(id('b')).unwrap().limits()[0];
    assert_eq!((limit.reason, limit.link.as_deref()), (Reason::OutOfCredit, Some("https://example.org/billing")));
    assert_eq!(limit.evidence.as_deref().map(str::len), Some(300));
}
