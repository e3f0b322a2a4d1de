//! How limits end: a probe first, then more and more; by a reading; by proof that the request was at fault.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    Action, Command, Effect, Event, Fence, LeaseRequest, LimitSource, LoginState, Overflow, RefusalDetails,
    RefusalKind, StatedWait, Usage, Verification, WaiterId, Wall, Window,
};

use crate::desk::{Desk, ask, id, secs, target};

const HOUR: u64 = 3_600;

fn patient(n: u64) -> LeaseRequest {
    LeaseRequest { wait: Some(secs(20_000)), ..ask(n) }
}

/// One account, limited for ten minutes, and six that wait for it.
fn crowd() -> (Desk, Vec<WaiterId>) {
    let mut desk = Desk::new("a", |settings| settings.leases.overflow = Overflow::Share);
    desk.block('a', secs(600));
    let waiting = (0..6).map(|n| desk.queued(patient(n))).collect();
    (desk, waiting)
}

fn served(desk: &Desk) -> Vec<(WaiterId, Fence)> {
    desk.answers().into_iter().map(|(waiter, result)| (waiter, result.unwrap())).collect()
}

#[test]
fn one_goes_first_and_its_success_lets_in_more_and_more_in_order() {
    let (mut desk, waiting) = crowd();
    desk.pass(secs(600));
    let [(first, probe)] = served(&desk)[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(first, waiting[0]);
    assert!(desk.effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Recovered(..)))));
    desk.pass(secs(20));
    assert!(served(&desk).is_empty(), "never two probes");
    assert_eq!(desk.refused(ask(9)), RefusalKind::AllLimited);
    desk.ok(probe);
    let order: Vec<WaiterId> = served(&desk).into_iter().map(|(waiter, _)| waiter).collect();
    assert_eq!(order, waiting[1..3], "two more at once");
    desk.pass(secs(1));
    let order: Vec<WaiterId> = served(&desk).into_iter().map(|(waiter, _)| waiter).collect();
    assert_eq!(order, waiting[3..5], "and as many again");
    desk.pass(secs(1));
    assert_eq!(served(&desk)[0].0, waiting[5]);
    desk.pass(secs(2));
    assert_eq!(desk.pool.account(id('a')).unwrap().limits(), [], "nothing is left of it");
}

#[test]
fn where_few_can_be_on_an_account_a_short_limit_ends_for_all_at_once() {
    for (overflow, pauses) in [(Overflow::Wait, false), (Overflow::Share, true)] {
        let mut desk = Desk::new("a", |settings| settings.leases.overflow = overflow);
        desk.block('a', secs(10));
        let mut waiting: Vec<WaiterId> = (0..6).map(|n| desk.queued(patient(n))).collect();
        desk.pass(secs(10));
        let mut turns = 0;
        while let Some((waiter, fence)) = served(&desk).first().copied() {
            assert_eq!(waiter, waiting.remove(0));
            desk.release(fence);
            turns += 1;
        }
        assert_eq!(turns < 6, pauses, "{overflow:?}: {turns} turns in the same moment");
    }
}

#[test]
fn a_probe_that_is_refused_limits_the_rest_again() {
    let (mut desk, _) = crowd();
    desk.pass(secs(600));
    let [(_, probe)] = served(&desk)[..] else { panic!("{:?}", desk.answers()) };
    let scope = Some(Scope::Account);
    let decision = desk.report_at(probe, Reason::QuotaExhausted, scope, Some(secs(900)));
    assert_eq!((decision.action, decision.after), (Action::Wait, secs(900)));
    assert_eq!(desk.limited_for('a'), Some(secs(900)));
    assert!(served(&desk).is_empty());
    // who waits on its account is the next probe, and the queue stays behind it
    desk.pass(secs(900));
    assert!(served(&desk).is_empty());
    desk.ok(probe);
    assert_eq!(served(&desk).len(), 2);
}

#[test]
fn a_probe_whose_holder_vanishes_passes_on_and_one_that_is_silent_has_come_through() {
    let (mut desk, waiting) = crowd();
    desk.pass(secs(600));
    for (n, waiter) in waiting.iter().enumerate().take(3) {
        let [(probing, _)] = served(&desk)[..] else { panic!("{:?}", desk.answers()) };
        assert_eq!(probing, *waiter);
        desk.run(Command::ConnectionClosed(ask(n as u64).connection)).unwrap();
    }
    let [(probing, probe)] = served(&desk)[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(probing, waiting[3]);
    // failures of the service say nothing of the quota
    desk.report(probe, Reason::ServerError, None);
    assert!(served(&desk).is_empty());
    assert_eq!(desk.pool.next_wakeup(desk.now), Some(desk.now.mono.after(secs(60))));
    desk.pass(secs(60));
    assert_eq!(served(&desk).len(), 2);
}

#[test]
fn a_short_limit_needs_no_probe_and_lets_in_more_and_more() {
    let mut desk = Desk::new("a", |settings| settings.leases.max_per_account = 40);
    desk.block('a', secs(299));
    let waiting: Vec<WaiterId> = (0..40).map(|n| desk.queued(patient(n))).collect();
    desk.pass(secs(299));
    assert!(desk.effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Recovered(..)))));
    let (began, mut order, mut times) = (desk.now.mono, Vec::new(), Vec::new());
    loop {
        for (waiter, _) in served(&desk) {
            order.push(waiter);
            times.push(desk.now.mono.since(began).as_millis());
        }
        if order.len() == waiting.len() {
            break;
        }
        let next = desk.pool.next_wakeup(desk.now).unwrap();
        desk.pass(next.since(desk.now.mono));
    }
    assert_eq!(order, waiting, "in order");
    assert_eq!(times[..12], [0, 0, 500, 1_000, 1_250, 1_500, 1_750, 2_000, 2_125, 2_250, 2_375, 2_500]);
    assert_eq!(times[32..], [4_000; 8], "and after four seconds all");
    assert_eq!(desk.pool.account(id('a')).unwrap().limits(), [], "nothing is left of it");
}

#[test]
fn whoever_gives_up_waiting_while_a_probe_is_out_is_told_to_ask_again_soon() {
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Share);
    desk.block('a', secs(600));
    desk.block('b', secs(9_000));
    let soon = desk.queued(LeaseRequest { wait: Some(secs(610)), ..ask(0) });
    let later = desk.queued(LeaseRequest { wait: Some(secs(610)), ..ask(1) });
    desk.pass(secs(600));
    assert_eq!(served(&desk)[0].0, soon);
    desk.pass(secs(10));
    let refused = desk.effects.iter().find_map(|effect| match effect {
        Effect::Answer { waiter, result: Err(refusal) } if *waiter == later => Some(refusal),
        _ => None,
    });
    let refusal = refused.expect("its time is over");
    assert_eq!(refusal.kind, RefusalKind::WaitTimeout);
    assert_eq!(refusal.retry_at, Some(desk.now.wall.after(secs(2))), "not in two hours");
}

#[test]
fn holders_that_wait_on_their_account_come_back_one_after_the_other() {
    let mut desk = Desk::new("a", |_| {});
    let held: Vec<Fence> = (0..4).map(|n| desk.hold(ask(n))).collect();
    let waits: Vec<Duration> =
        held.iter().map(|fence| desk.report(*fence, Reason::QuotaExhausted, Some(secs(900))).after).collect();
    assert_eq!(waits, [900_000, 900_500, 901_000, 901_500].map(Duration::from_millis));
}

#[test]
fn thirteen_hours_are_thirteen_hours_also_after_a_restart_and_two_seconds_are_two() {
    let day = |desk: &Desk| desk.now.wall.after(secs(13 * HOUR));
    for stated in
        [|_: &Desk| StatedWait::In(secs(13 * HOUR)), |desk: &Desk| StatedWait::At(desk.now.wall.after(secs(13 * HOUR)))]
    {
        let mut desk = Desk::new("a", |_| {});
        let held = desk.hold(ask(0));
        let until = day(&desk);
        let finding = RefusalDetails {
            wait: Some(stated(&desk)),
            source: LimitSource::Server,
            evidence: Some("resets_at".into()),
            link: Some("https://example.org/plan".into()),
            ..RefusalDetails::reported(Reason::QuotaExhausted, None)
        };
        assert_eq!(desk.found(held, finding).after, secs(13 * HOUR));
        desk.pass(secs(HOUR));
        desk.restart(false);
        let limit = &desk.pool.account(id('a')).unwrap().limits()[0];
        assert_eq!((limit.until.wall(desk.now), limit.source), (until, LimitSource::Server));
        assert_eq!(
            (limit.evidence.as_deref(), limit.link.as_deref()),
            (Some("resets_at"), Some("https://example.org/plan"))
        );
        let refusal = desk.acquire(ask(1)).unwrap_err();
        assert_eq!(refusal.retry_at, Some(until));
        // and over a restart after its end too one goes first
        desk.pass(secs(11 * HOUR));
        desk.now.wall = until;
        desk.now.mono = desk.now.mono.after(secs(HOUR));
        desk.restart(false);
        let probe = desk.hold(ask(2));
        assert_eq!(desk.refused(ask(3)), RefusalKind::AllLimited);
        desk.ok(probe);
        let _ = desk.hold(ask(3));
    }
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(0));
    assert_eq!(desk.report(held, Reason::QuotaExhausted, Some(secs(2))).after, secs(2));
    desk.pass(secs(2));
    let _ = desk.hold(ask(1));
}

#[test]
fn what_is_stated_in_the_past_or_for_a_moment_is_two_seconds() {
    for stated in
        [StatedWait::In(Duration::ZERO), StatedWait::At(Wall(0)), StatedWait::In(Duration::from_millis(1_999))]
    {
        let mut desk = Desk::new("a", |_| {});
        let held = desk.hold(ask(0));
        let finding =
            RefusalDetails { wait: Some(stated), ..RefusalDetails::reported(Reason::RateLimitExceeded, None) };
        assert_eq!(desk.found(held, finding).after, secs(2), "{stated:?}");
    }
}

#[test]
fn five_reports_of_one_event_count_once() {
    let mut desk = Desk::new("ab", |settings| settings.leases.per_account = 5);
    let held: Vec<Fence> = (0..5).map(|n| desk.hold(LeaseRequest { account: Some("a".into()), ..ask(n) })).collect();
    let health =
        |desk: &Desk| desk.pool.account(id('a')).unwrap().health(&desk.pool.settings().selection.health, desk.now.mono);
    let before = health(&desk);
    for fence in held {
        desk.pass(Duration::from_millis(300));
        desk.report(fence, Reason::QuotaExhausted, None);
    }
    assert_eq!(health(&desk), before - 10.0);
    let left = desk.limited_for('a').unwrap();
    assert!(left <= secs(60), "the ladder has taken one step: {left:?}");
}

#[test]
fn a_storm_of_overload_leaves_everybody_s_health_untouched() {
    let mut desk = Desk::new("ab", |_| {});
    let health = |desk: &Desk| {
        let settings = &desk.pool.settings().selection.health;
        [id('a'), id('b')].map(|id| desk.pool.account(id).unwrap().health(settings, desk.now.mono))
    };
    let before = health(&desk);
    for n in 0..100 {
        let held = desk.hold(ask(n));
        let decision = desk.report(held, Reason::ModelCapacityExhausted, Some(secs(n)));
        assert_eq!(decision.action, Action::Retry);
        desk.release(held);
    }
    assert_eq!(health(&desk), before);
    assert!(desk.pool.accounts().iter().all(|account| account.limits().is_empty()));
}

/// opencode-antigravity-auth's counter: twice as long with each failure, one event within two seconds, new after 120 s.
#[test]
fn the_only_account_is_tried_again_and_again() {
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(0));
    let other = desk.hold(ask(1));
    let fail = |desk: &mut Desk, wanted: u64| {
        let decision = desk.report(held, Reason::RateLimitExceeded, None);
        assert_eq!((decision.action, decision.after), (Action::Retry, secs(wanted)));
        assert_eq!(desk.limited_for('a'), Some(secs(wanted)), "nobody else is sent there before");
        decision.after
    };
    for wanted in [1, 2, 4, 8, 16, 32, 60, 60] {
        let after = fail(&mut desk, wanted);
        let same = desk.report(other, Reason::RateLimitExceeded, None);
        assert_eq!((same.action, same.after), (Action::Retry, after), "the same event");
        desk.pass(after);
    }
    desk.pass(secs(120));
    let after = fail(&mut desk, 1);
    desk.pass(after + secs(2));
    let after = fail(&mut desk, 2);
    desk.pass(after);
    desk.ok(held);
    desk.pass(secs(2));
    fail(&mut desk, 1);
    // a stated wait is a stated wait, and an exhausted quota climbs its own ladder
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(0));
    assert_eq!(desk.report(held, Reason::RateLimitExceeded, Some(secs(30))).after, secs(30));
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(0));
    assert_eq!(desk.report(held, Reason::QuotaExhausted, None).after, secs(60));
    // with another one, even a limited one, it is not the only one
    let mut desk = Desk::new("ab", |_| {});
    desk.block('b', secs(9_000));
    let held = desk.hold(ask(0));
    assert_eq!(desk.report(held, Reason::RateLimitExceeded, None).action, Action::Wait);
}

#[test]
fn several_accounts_that_refuse_the_same_request_prove_that_it_is_the_request() {
    for (letters, reason, refusals) in
        [("abcde", Reason::Forbidden, 3), ("abcde", Reason::Unknown, 3), ("ab", Reason::Forbidden, 2)]
    {
        let mut desk = Desk::new(letters, |_| {});
        let mut held = desk.hold(ask(0));
        let decision = loop {
            let decision = desk.report(held, reason, None);
            match decision.lease {
                Some(moved) => held = moved,
                None => break decision,
            }
        };
        assert_eq!(desk.pool.next_fence(), Fence(1 + refusals), "{letters} {reason:?}");
        assert_eq!(
            (decision.action, decision.reason, decision.scope),
            (Action::Stop, Some(Reason::RequestRejected), Some(Scope::Request))
        );
        for account in desk.pool.accounts() {
            assert_eq!(account.limits(), [], "no account is charged with it");
            assert_eq!(account.health(&desk.pool.settings().selection.health, desk.now.mono), 70.0);
        }
    }
}

#[test]
fn stale_accounts_prove_nothing_against_the_request() {
    for (reason, wait) in
        [(Reason::QuotaExhausted, None), (Reason::AuthFailed, None), (Reason::Forbidden, Some(secs(60)))]
    {
        let mut desk = Desk::new("abcdefgh", |_| {});
        let mut held = desk.hold(ask(0));
        for _ in 0..7 {
            held = desk.report(held, reason, wait).lease.expect("the next one");
        }
        let last = desk.report(held, reason, wait);
        assert_ne!(last.reason, Some(Reason::RequestRejected), "{last:?}");
    }
    // in a row: a success in between, and the row is over
    let mut desk = Desk::new("abcde", |_| {});
    let mut held = desk.hold(ask(0));
    for _ in 0..4 {
        held = desk.report(held, Reason::Unknown, None).lease.expect("the next one");
        desk.ok(held);
    }
}

#[test]
fn a_newer_reading_that_shows_room_ends_a_limit_by_the_quota() {
    let window = |name: &str, key: &str, used: f64, resets_in: u64, desk: &Desk| Window {
        name: name.into(),
        utilization: used,
        resets_at: Some(desk.now.wall.after(secs(resets_in))),
        as_of: desk.now.wall,
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
        let mut desk = Desk::new("a", |_| {});
        let held = desk.hold(ask(0));
        desk.report(held, Reason::QuotaExhausted, Some(secs(HOUR)));
        let waiter = desk.queued(patient(1));
        desk.pass(secs(1));
        let windows =
            windows.iter().map(|(name, key, used, resets)| window(name, key, *used, *resets, &desk)).collect();
        desk.run(Command::SetUsage(id('a'), Usage { windows, ..Usage::default() })).unwrap();
        assert_eq!(desk.limited_for('a').is_none(), ends);
        assert_eq!(desk.answers().first().is_some_and(|(served, _)| *served == waiter), ends);
    }
    // older than the limit, it proves nothing; nor against a rate limit
    let mut desk = Desk::new("a", |_| {});
    let old = window("5h", "", 0.1, 4 * HOUR, &desk);
    desk.pass(secs(1));
    let held = desk.hold(ask(0));
    desk.report(held, Reason::QuotaExhausted, Some(secs(HOUR)));
    desk.run(Command::LearnUsage(id('a'), Usage { windows: vec![old], ..Usage::default() })).unwrap();
    assert!(desk.limited_for('a').is_some());
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(LeaseRequest { target: target("k", Some("opus")), ..ask(0) });
    desk.report(held, Reason::RateLimitExceeded, Some(secs(HOUR)));
    desk.pass(secs(1));
    let new = window("5h", "", 0.1, 4 * HOUR, &desk);
    desk.run(Command::LearnUsage(id('a'), Usage { windows: vec![new], ..Usage::default() })).unwrap();
    assert!(desk.limited_for('a').is_some());
    // a model's limit ends by the model's own windows
    desk.run(Command::ClearLimits(id('a'))).unwrap();
    desk.report_at(held, Reason::QuotaExhausted, Some(Scope::Model), Some(secs(HOUR)));
    desk.pass(secs(1));
    let new = window("7d", "k:*opus*", 0.1, 90 * HOUR, &desk);
    desk.run(Command::LearnUsage(id('a'), Usage { windows: vec![new], ..Usage::default() })).unwrap();
    assert!(desk.limited_for('a').is_none());
}

#[test]
fn learnt_windows_are_merged_by_name_and_key_and_the_newest_stands() {
    let mut desk = Desk::new("a", |_| {});
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
        desk.run(Command::LearnUsage(id('a'), Usage { windows: vec![window(name, used, as_of)], ..Usage::default() }))
            .unwrap();
        assert_eq!(desk.effects.contains(&Effect::Emit(Event::UsageUpdated(id('a')))), is_news, "{name} {used}");
    }
    assert_eq!(desk.pool.account(id('a')).unwrap().usage().windows, [window("5h", 0.3, 20), window("7d", 0.2, 30)]);
    for n in 0..100 {
        desk.run(Command::LearnUsage(
            id('a'),
            Usage { windows: vec![window(&n.to_string(), 0.1, 10)], ..Usage::default() },
        ))
        .unwrap();
    }
    assert_eq!(desk.pool.account(id('a')).unwrap().usage().windows.len(), 64, "bounded");
}

#[test]
fn what_the_user_must_do_comes_with_its_link() {
    let mut desk = Desk::new("ab", |_| {});
    let held = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
    let link = Some("https://accounts.example.org/verify".into());
    desk.found(held, RefusalDetails { link, ..RefusalDetails::reported(Reason::VerificationRequired, None) });
    let login_state = &desk.pool.account(id('a')).unwrap().record.login_state;
    let verification = Verification::at(Some("https://accounts.example.org/verify"));
    assert_eq!(*login_state, LoginState::NeedsVerification(verification));
    let held = desk.hold(LeaseRequest { account: Some("b".into()), ..ask(0) });
    let finding = RefusalDetails {
        link: Some("https://example.org/billing".into()),
        evidence: Some("x".repeat(1_000).into()),
        ..RefusalDetails::reported(Reason::OutOfCredit, None)
    };
    desk.found(held, finding);
    let limit = &desk.pool.account(id('b')).unwrap().limits()[0];
    assert_eq!((limit.reason, limit.link.as_deref()), (Reason::OutOfCredit, Some("https://example.org/billing")));
    assert_eq!(limit.evidence.as_deref().map(str::len), Some(300));
}
