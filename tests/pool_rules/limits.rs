//! Limits: what they block, how long, and what a report makes of them.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    Action, Command, Deadline, Effect, LeaseRequest, LimitSource, LoginState, Mode, Overflow, RefusalKind,
    RequestOutcome,
};

use crate::desk::{Desk, ask, id, in_session, secs, target};

const DAY: u64 = 86_400;

#[test]
fn the_longest_wins_whoever_says_so() {
    let mut desk = Desk::new("a", |_| {});
    for (span, left) in [(60, 60), (30, 60), (60, 60), (300, 300), (299, 300)] {
        desk.block('a', secs(span));
        assert_eq!(desk.limited_for('a'), Some(secs(left)));
    }
    desk.limit('a', Scope::Account, "", Deadline::Wall(desk.now.wall.after(secs(400))));
    assert_eq!(desk.limited_for('a'), Some(secs(400)), "on either clock");
    desk.restart(false);
    assert_eq!(desk.limited_for('a'), Some(secs(400)));
    desk.pass(secs(400));
    assert_eq!(desk.limited_for('a'), None);
    assert_eq!(desk.peek(ask(0)), 'a', "free at the very instant");
}

/// The seed's cases of what a key blocks.
#[test]
fn a_limit_blocks_what_its_scope_names() {
    let rows: [(Scope, &str, [bool; 4]); 4] = [
        (Scope::Model, "k:pro", [true, false, false, false]),
        (Scope::Pool, "k", [true, true, true, false]),
        (Scope::Account, "", [true, true, true, true]),
        (Scope::Service, "k", [false, false, false, false]),
    ];
    for (scope, key, blocked) in rows {
        let mut desk = Desk::new("a", |_| {});
        desk.limit('a', scope, key, Deadline::Mono(desk.now.mono.after(secs(9))));
        let targets =
            [target("k", Some("pro")), target("k", Some("flash")), target("k", None), target("l", Some("pro"))];
        for (target, blocked) in targets.into_iter().zip(blocked) {
            let reply = desk.acquire(LeaseRequest { target: target.clone(), ..ask(0) });
            assert_eq!(reply.is_err(), blocked, "{scope:?} {key}: {target:?}");
            desk.run(Command::ConnectionClosed(ask(0).connection)).unwrap();
        }
    }
}

/// The seed's rows on the shortest wait: the earliest over the accounts, the latest within one; a limit that another
/// row of ours does not know is no wait. Differs: a cool-down counts like any limit, and a disabled account never.
#[test]
fn the_wait_is_the_earliest_of_the_accounts() {
    let mut desk = Desk::new("abc", |settings| {
        settings.accounts.push(lessor::pool::AccountSettings {
            name: "c".into(),
            enabled: Some(false),
            ..Default::default()
        });
    });
    for (letter, span) in [('a', 60), ('b', 30), ('c', 10)] {
        desk.block(letter, secs(span));
    }
    desk.limit('b', Scope::Pool, "k", Deadline::Mono(desk.now.mono.after(secs(40))));
    let refusal = desk.acquire(ask(0)).unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_at), (RefusalKind::AllLimited, Some(desk.now.wall.after(secs(40)))));
    assert_eq!(refusal.accounts.len(), 3);
}

#[test]
fn a_set_clock_moves_only_what_was_stated_as_a_time_of_day() {
    for (jump, relative, stated) in [(-3_600_000, 60, 3_660), (30_000, 60, 30), (60_000, 60, 0)] {
        let mut desk = Desk::new("ab", |_| {});
        desk.block('a', secs(60));
        desk.limit('b', Scope::Account, "", Deadline::Wall(desk.now.wall.after(secs(60))));
        desk.set_clock(jump);
        assert_eq!(desk.limited_for('a'), Some(secs(relative)));
        assert_eq!(desk.limited_for('b').unwrap_or_default(), secs(stated));
    }
}

#[test]
fn who_waits_is_judged_anew_when_the_clock_is_set() {
    let mut desk = Desk::new("a", |_| {});
    desk.limit('a', Scope::Account, "", Deadline::Wall(desk.now.wall.after(secs(60))));
    let waiter = desk.queued(LeaseRequest { wait: None, ..ask(0) });
    desk.set_clock(-3_600_000);
    assert_eq!(desk.answers(), [(waiter, Err(RefusalKind::AllLimited))], "an hour is more than it waits");
    let waiter = desk.queued(LeaseRequest { wait: Some(secs(2 * 3600)), ..ask(0) });
    desk.set_clock(3_660_000);
    let [(served, Ok(_))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(served, waiter);
}

#[test]
fn more_than_32_days_are_not_believed() {
    let mut desk = Desk::new("ab", |_| {});
    desk.block('a', secs(32 * DAY + 1));
    assert_eq!(desk.limited_for('a'), None);
    desk.block('a', secs(32 * DAY));
    assert_eq!(desk.limited_for('a'), Some(secs(32 * DAY)), "a known time is never capped");
    let held = desk.hold(ask(0));
    assert_eq!(desk.on(held), 'b');
    // in a report the table's wait stands in: the account is still not to be used
    let decision = desk.report(held, Reason::RateLimitExceeded, Some(secs(33 * DAY)));
    assert_eq!(desk.limited_for('b'), Some(secs(30)));
    assert_eq!((decision.action, decision.after), (Action::Wait, secs(30)));
    assert_eq!(desk.pool.account(id('b')).unwrap().limits()[0].source, LimitSource::Table);
}

#[test]
fn a_report_moves_its_holder_and_everybody_else() {
    let mut desk = Desk::new("ab", |_| {});
    let held = desk.hold(ask(0));
    let (from, to) = if desk.on(held) == 'a' { ('a', 'b') } else { ('b', 'a') };
    let decision = desk.report(held, Reason::RateLimitExceeded, None);
    assert_eq!((decision.action, decision.after, decision.scope), (Action::Switch, Duration::ZERO, Some(Scope::Pool)));
    assert_eq!(desk.on(decision.lease.unwrap()), to);
    assert_eq!(desk.pool.lease_count(), 1, "the old lease has ended");
    assert_eq!(desk.take(ask(1)), to, "nobody walks into it again");
    let other = LeaseRequest { target: target("other", None), ..ask(2) };
    assert_eq!(desk.take(other), from, "another quota of the account is as good as before");
    let late = desk.run(Command::Report { fence: held, outcome: RequestOutcome::Ok });
    assert_eq!(late.unwrap_err().kind, RefusalKind::StaleLease);
}

#[test]
fn without_a_hint_each_reason_has_its_wait() {
    let rows = [
        (Reason::QuotaExhausted, Action::Wait, 60),
        (Reason::RateLimitExceeded, Action::Retry, 1),
        (Reason::ModelCapacityExhausted, Action::Retry, 15),
        (Reason::ServerError, Action::Retry, 20),
        (Reason::Unknown, Action::Retry, 1),
        (Reason::AuthFailed, Action::Stop, 0),
        (Reason::VerificationRequired, Action::Stop, 0),
        (Reason::Forbidden, Action::Wait, 60),
        (Reason::OutOfCredit, Action::Wait, 60),
        (Reason::RequestRejected, Action::Stop, 0),
    ];
    for (reason, action, after) in rows {
        let mut desk = Desk::new("a", |_| {});
        let held = desk.hold(ask(0));
        let decision = desk.report(held, reason, None);
        assert_eq!((decision.action, decision.after), (action, secs(after)), "{reason:?}");
        assert!(desk.pool.lease(held).is_some(), "the lease stays where there is no other");
        let stated = desk.report(held, reason, Some(Duration::from_millis(1)));
        if !matches!(action, Action::Stop) {
            assert!(stated.after >= secs(2), "a stated wait is at least two seconds: {stated:?}");
        }
    }
}

#[test]
fn service_failures_blame_no_account() {
    let mut desk = Desk::new("ab", |_| {});
    let held = desk.hold(ask(0));
    let on = desk.on(held);
    for _ in 0..50 {
        assert_eq!(desk.report(held, Reason::ModelCapacityExhausted, None).action, Action::Retry);
    }
    assert_eq!(desk.limited_for(on), None);
    desk.release(held);
    desk.configure(|settings| settings.selection.strategy = lessor::pool::Strategy::Sticky);
    assert_eq!(desk.peek(ask(1)), on);
}

#[test]
fn the_ladder_climbs_by_events_not_by_reports_and_starts_anew_after_its_time_or_a_success() {
    let mut desk = Desk::new("a", |settings| settings.leases.per_account = 16);
    let held: Vec<_> = (0..10).map(|n| desk.hold(ask(n))).collect();
    let step = |desk: &mut Desk, wanted: u64| {
        for fence in &held {
            desk.report(*fence, Reason::QuotaExhausted, None);
            assert_eq!(desk.limited_for('a'), Some(secs(wanted)), "ten reports of one event are one");
        }
        desk.pass(secs(wanted));
    };
    for wanted in [60, 300, 1800, 7200, 7200] {
        step(&mut desk, wanted);
    }
    // an hour after the end of the last limit it is forgotten, and not before
    desk.pass(secs(3600));
    step(&mut desk, 7200);
    desk.pass(secs(3601));
    step(&mut desk, 60);
    desk.run(Command::Report { fence: held[0], outcome: RequestOutcome::Ok }).unwrap();
    desk.pass(secs(120));
    step(&mut desk, 60);
    // a success under a live limit began before it, and proves nothing
    desk.report(held[0], Reason::QuotaExhausted, None);
    assert_eq!(desk.limited_for('a'), Some(secs(300)));
    desk.run(Command::Report { fence: held[1], outcome: RequestOutcome::Ok }).unwrap();
    assert_eq!(desk.limited_for('a'), Some(secs(300)));
    desk.pass(secs(300));
    step(&mut desk, 1800);
}

#[test]
fn the_ladder_is_remembered_from_the_end_of_the_longest_limit() {
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(0));
    desk.report(held, Reason::QuotaExhausted, Some(secs(7_200)));
    desk.pass(secs(10));
    desk.report(held, Reason::QuotaExhausted, Some(secs(5)));
    assert_eq!(desk.limited_for('a'), Some(secs(7_190)));
    desk.pass(secs(7_190 + 3_599));
    desk.report(held, Reason::QuotaExhausted, None);
    assert_eq!(desk.limited_for('a'), Some(secs(1_800)));
}

#[test]
fn switching_only_at_the_second_limit_is_the_user_s_choice() {
    let mut desk = Desk::new("ab", |settings| {
        settings.limits.switch_on_first_rate_limit = false;
        settings.leases.per_account = 2;
    });
    let mine = desk.hold(ask(0));
    let decision = desk.report(mine, Reason::RateLimitExceeded, None);
    assert_eq!((decision.action, decision.after), (Action::Retry, secs(1)));
    desk.pass(secs(1));
    assert_eq!(desk.report(mine, Reason::RateLimitExceeded, None).action, Action::Switch, "one more was one too many");
    // a long wait that the server states is no case for trying again, nor is an exhausted quota
    let mut desk = Desk::new("ab", |settings| settings.limits.switch_on_first_rate_limit = false);
    let mine = desk.hold(ask(0));
    assert_eq!(desk.report(mine, Reason::RateLimitExceeded, Some(secs(60))).action, Action::Switch);
    let mut desk = Desk::new("ab", |settings| settings.limits.switch_on_first_rate_limit = false);
    let mine = desk.hold(ask(0));
    assert_eq!(desk.report(mine, Reason::QuotaExhausted, None).action, Action::Switch);
}

#[test]
fn cache_first_waits_for_a_session_s_account_after_a_report_too() {
    for (wait, action) in [(60, Action::Wait), (61, Action::Switch)] {
        let mut desk = Desk::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
        let held = desk.hold(in_session("s"));
        assert_eq!(desk.report(held, Reason::RateLimitExceeded, Some(secs(wait))).action, action);
    }
}

#[test]
fn no_request_is_sent_to_a_limited_account_because_the_others_are_busy() {
    for overflow in [Overflow::Wait, Overflow::Fail] {
        let mut desk = Desk::new("ab", |settings| settings.leases.overflow = overflow);
        let (mine, _) = (desk.hold(ask(0)), desk.hold(ask(1)));
        let decision = desk.report(mine, Reason::RateLimitExceeded, Some(secs(40)));
        assert_eq!((decision.action, decision.after), (Action::Wait, secs(40)), "{overflow:?}");
    }
}

#[test]
fn a_login_that_does_not_work_is_out_until_the_user_says_so() {
    let mut desk = Desk::new("a", |settings| settings.leases.per_account = 2);
    let (first, second) = (desk.hold(ask(0)), desk.hold(ask(1)));
    assert_eq!(desk.report(first, Reason::AuthFailed, None).action, Action::Stop);
    assert!(desk.effects.contains(&Effect::SaveAccount(id('a'))));
    desk.report(second, Reason::AuthFailed, None);
    assert!(!desk.effects.contains(&Effect::SaveAccount(id('a'))), "it is known already");
    assert_eq!(desk.refused(ask(2)), RefusalKind::NeedsLogin);
    desk.pass(secs(40 * DAY));
    assert!(matches!(desk.pool.account(id('a')).unwrap().record.login_state, LoginState::NeedsLogin(_)));
    assert_eq!(desk.pool.lease_count(), 2, "no lease is taken from its holder");
}

#[test]
fn zero_back_offs_send_nobody_in_circles() {
    let mut desk = Desk::new("a", |settings| {
        settings.limits.backoff.rate_limit = Duration::ZERO;
        settings.limits.backoff.quota = vec![];
        settings.limits.backoff.unknown = Duration::ZERO;
    });
    let held = desk.hold(ask(0));
    for reason in [Reason::RateLimitExceeded, Reason::QuotaExhausted, Reason::Unknown] {
        let decision = desk.report(held, reason, None);
        assert!(matches!(decision.action, Action::Wait | Action::Retry) && !decision.after.is_zero(), "{decision:?}");
    }
}

#[test]
fn the_number_of_limits_of_one_account_is_bounded() {
    let mut desk = Desk::new("a", |_| {});
    for n in 0..1_000 {
        let until = Deadline::Mono(desk.now.mono.after(secs(100 + n)));
        desk.limit('a', Scope::Model, &format!("k:m{n}"), until);
    }
    assert_eq!(desk.pool.account(id('a')).unwrap().limits().len(), 256);
    assert_eq!(desk.limited_for('a'), Some(secs(1_099)), "what ends first went first");
    desk.run(Command::ClearLimits(id('a'))).unwrap();
    assert_eq!(desk.limited_for('a'), None);
    assert_eq!(desk.pool.next_wakeup(desk.now), None);
}
