//! Limits: what they block, how long, and what a report makes of them.

use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    Action, Command, Deadline, Effect, Event, Fence, LeaseRequest, LimitSource, LoginState, Mode, Overflow,
    RefusalDetails, RefusalKind, RequestOutcome,
};

use crate::fixture::{Fixture, ask, id, in_session, secs, target};

const DAY: u64 = 86_400;

#[test]
fn the_longest_stated_limit_wins_on_either_clock() {
    let mut fixture = Fixture::new("a", |_| {});
    for (span, left) in [(60, 60), (30, 60), (60, 60), (300, 300), (299, 300)] {
        fixture.block('a', secs(span));
        assert_eq!(fixture.limited_for('a'), Some(secs(left)));
    }
    fixture.limit('a', Scope::Account, "", Deadline::Wall(fixture.now.wall.after(secs(400))));
    assert_eq!(fixture.limited_for('a'), Some(secs(400)), "on either clock");
    fixture.restart(false);
    assert_eq!(fixture.limited_for('a'), Some(secs(400)));
    fixture.pass(secs(400));
    assert_eq!(fixture.limited_for('a'), None);
    assert_eq!(fixture.peek(ask(0)), 'a', "free at the very instant");
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
        let mut fixture = Fixture::new("a", |_| {});
        fixture.limit('a', scope, key, Deadline::Mono(fixture.now.mono.after(secs(9))));
        let targets =
            [target("k", Some("pro")), target("k", Some("flash")), target("k", None), target("l", Some("pro"))];
        for (target, blocked) in targets.into_iter().zip(blocked) {
            let reply = fixture.acquire(LeaseRequest { target: target.clone(), ..ask(0) });
            assert_eq!(reply.is_err(), blocked, "{scope:?} {key}: {target:?}");
            fixture.run(Command::ConnectionClosed(ask(0).connection)).unwrap();
        }
    }
}

/// The seed's rows on the shortest wait: the earliest over the accounts, the latest within one; a limit that another
/// row of ours does not know is no wait. Differs: a cool-down counts like any limit, and a disabled account never.
#[test]
fn the_stated_wait_is_the_earliest_of_all_accounts() {
    let mut fixture = Fixture::new("abc", |settings| {
        settings.accounts.push(lessor::pool::AccountSettings {
            name: "c".into(),
            enabled: Some(false),
            ..Default::default()
        });
    });
    for (letter, span) in [('a', 60), ('b', 30), ('c', 10)] {
        fixture.block(letter, secs(span));
    }
    fixture.limit('b', Scope::Pool, "k", Deadline::Mono(fixture.now.mono.after(secs(40))));
    let refusal = fixture.acquire(ask(0)).unwrap_err();
    assert_eq!((refusal.kind, refusal.retry_at), (RefusalKind::AllLimited, Some(fixture.now.wall.after(secs(40)))));
    assert_eq!(refusal.accounts.len(), 3);
}

#[test]
fn setting_the_clock_moves_only_limits_stated_as_a_time_of_day() {
    for (jump, relative, stated) in [(-3_600_000, 60, 3_660), (30_000, 60, 30), (60_000, 60, 0)] {
        let mut fixture = Fixture::new("ab", |_| {});
        fixture.block('a', secs(60));
        fixture.limit('b', Scope::Account, "", Deadline::Wall(fixture.now.wall.after(secs(60))));
        fixture.set_clock(jump);
        assert_eq!(fixture.limited_for('a'), Some(secs(relative)));
        assert_eq!(fixture.limited_for('b').unwrap_or_default(), secs(stated));
    }
}

#[test]
fn queued_requests_are_considered_again_when_the_clock_is_set() {
    let mut fixture = Fixture::new("a", |_| {});
    fixture.limit('a', Scope::Account, "", Deadline::Wall(fixture.now.wall.after(secs(60))));
    let waiter = fixture.queued(LeaseRequest { wait: None, ..ask(0) });
    fixture.set_clock(-3_600_000);
    assert_eq!(fixture.answers(), [(waiter, Err(RefusalKind::AllLimited))], "an hour is more than it waits");
    let waiter = fixture.queued(LeaseRequest { wait: Some(secs(2 * 3600)), ..ask(0) });
    fixture.set_clock(3_660_000);
    let [(served, Ok(_))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(served, waiter);
}

#[test]
fn a_wait_of_more_than_32_days_is_ignored() {
    let mut fixture = Fixture::new("ab", |_| {});
    fixture.block('a', secs(32 * DAY + 1));
    assert_eq!(fixture.limited_for('a'), None);
    fixture.block('a', secs(32 * DAY));
    assert_eq!(fixture.limited_for('a'), Some(secs(32 * DAY)), "a known time is never capped");
    let held = fixture.hold(ask(0));
    assert_eq!(fixture.on(held), 'b');
    // in a report the table's wait stands in: the account is still not to be used
    let decision = fixture.report(held, Reason::RateLimitExceeded, Some(secs(33 * DAY)));
    assert_eq!(fixture.limited_for('b'), Some(secs(30)));
    assert_eq!((decision.action, decision.after), (Action::Wait, secs(30)));
    assert_eq!(fixture.pool.account(id('b')).unwrap().limits()[0].source, LimitSource::Table);
}

#[test]
fn a_reported_limit_applies_to_all_holders_immediately() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(ask(0));
    let (from, to) = if fixture.on(held) == 'a' { ('a', 'b') } else { ('b', 'a') };
    let decision = fixture.report(held, Reason::RateLimitExceeded, None);
    assert_eq!((decision.action, decision.after, decision.scope), (Action::Switch, Duration::ZERO, Some(Scope::Pool)));
    assert_eq!(fixture.on(decision.lease.unwrap()), to);
    assert_eq!(fixture.pool.lease_count(), 1, "the old lease has ended");
    assert_eq!(fixture.take(ask(1)), to, "no other holder meets it again");
    let other = LeaseRequest { target: target("other", None), ..ask(2) };
    assert_eq!(fixture.take(other), from, "another quota of the account is as good as before");
    let late = fixture.run(Command::Report { fence: held, outcome: RequestOutcome::Ok });
    assert_eq!(late.unwrap_err().kind, RefusalKind::StaleLease);
}

#[test]
fn without_a_stated_wait_each_reason_has_its_own() {
    let rows = [
        (Reason::QuotaExhausted, Action::Wait, 60),
        (Reason::RateLimitExceeded, Action::Retry, 1),
        (Reason::ModelCapacityExhausted, Action::Retry, 15),
        (Reason::ServerError, Action::Retry, 20),
        (Reason::Unknown, Action::Retry, 1),
        (Reason::AuthFailed, Action::Wait, 10),
        (Reason::VerificationRequired, Action::Stop, 0),
        (Reason::Forbidden, Action::Wait, 10),
        (Reason::OutOfCredit, Action::Wait, 60),
        (Reason::RequestRejected, Action::Stop, 0),
    ];
    for (reason, action, after) in rows {
        let mut fixture = Fixture::new("a", |_| {});
        let held = fixture.hold(ask(0));
        let decision = fixture.report(held, reason, None);
        assert_eq!((decision.action, decision.after), (action, secs(after)), "{reason:?}");
        assert!(fixture.pool.lease(held).is_some(), "the lease stays where there is no other");
        let stated = fixture.report(held, reason, Some(Duration::from_millis(1)));
        if !matches!(action, Action::Stop) {
            assert!(stated.after >= secs(2), "a stated wait is at least two seconds: {stated:?}");
        }
    }
}

#[test]
fn service_failures_limit_no_account() {
    let mut fixture = Fixture::new("ab", |_| {});
    let mut held = fixture.hold(ask(0));
    let mut moves = 0;
    for _ in 0..50 {
        let decision = fixture.report(held, Reason::ModelCapacityExhausted, None);
        moves += usize::from(decision.action == Action::Switch);
        assert!(matches!(decision.action, Action::Retry | Action::Switch), "{decision:?}");
        held = decision.lease.unwrap_or(held);
    }
    assert_eq!(moves, 1, "each account is asked once, then the service fails");
    assert!(['a', 'b'].iter().all(|letter| fixture.limited_for(*letter).is_none()));
}

#[test]
fn quota_back_off_counts_events_not_reports_and_resets_by_time_or_success() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 16);
    let held: Vec<_> = (0..10).map(|n| fixture.hold(ask(n))).collect();
    let step = |fixture: &mut Fixture, wanted: u64| {
        for fence in &held {
            fixture.report(*fence, Reason::QuotaExhausted, None);
            assert_eq!(fixture.limited_for('a'), Some(secs(wanted)), "ten reports of one event are one");
        }
        fixture.pass(secs(wanted));
    };
    for wanted in [60, 300, 1800, 7200, 7200] {
        step(&mut fixture, wanted);
    }
    // an hour after the end of the last limit it is forgotten, and not before
    fixture.pass(secs(3600));
    step(&mut fixture, 7200);
    fixture.pass(secs(3601));
    step(&mut fixture, 60);
    fixture.run(Command::Report { fence: held[0], outcome: RequestOutcome::Ok }).unwrap();
    fixture.pass(secs(120));
    step(&mut fixture, 60);
    // a request that takes from no quota proves nothing of one
    let counted = fixture.hold(LeaseRequest { target: target("a", None).without_quota(), ..ask(20) });
    fixture.run(Command::Report { fence: counted, outcome: RequestOutcome::Ok }).unwrap();
    step(&mut fixture, 300);
    fixture.run(Command::Report { fence: held[0], outcome: RequestOutcome::Ok }).unwrap();
    fixture.pass(secs(120));
    step(&mut fixture, 60);
    // a success under a live limit began before it, and proves nothing
    fixture.report(held[0], Reason::QuotaExhausted, None);
    assert_eq!(fixture.limited_for('a'), Some(secs(300)));
    fixture.run(Command::Report { fence: held[1], outcome: RequestOutcome::Ok }).unwrap();
    assert_eq!(fixture.limited_for('a'), Some(secs(300)));
    fixture.pass(secs(300));
    step(&mut fixture, 1800);
}

#[test]
fn quota_back_off_resets_after_the_end_of_the_longest_limit() {
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(0));
    fixture.report(held, Reason::QuotaExhausted, Some(secs(7_200)));
    fixture.pass(secs(10));
    fixture.report(held, Reason::QuotaExhausted, Some(secs(5)));
    assert_eq!(fixture.limited_for('a'), Some(secs(7_190)));
    fixture.pass(secs(7_190 + 3_599));
    fixture.report(held, Reason::QuotaExhausted, None);
    assert_eq!(fixture.limited_for('a'), Some(secs(300)), "what arrived while it was limited is the same event");
}

#[test]
fn switch_on_first_rate_limit_off_retries_once_before_a_switch() {
    let mut fixture = Fixture::new("ab", |settings| {
        settings.limits.switch_on_first_rate_limit = false;
        settings.leases.per_account = 2;
    });
    let mine = fixture.hold(ask(0));
    let decision = fixture.report(mine, Reason::RateLimitExceeded, None);
    assert_eq!((decision.action, decision.after), (Action::Retry, secs(1)));
    fixture.pass(secs(1));
    assert_eq!(
        fixture.report(mine, Reason::RateLimitExceeded, None).action,
        Action::Switch,
        "one more was one too many"
    );
    // a refusal that may reach this request only is no exception
    let mut fixture = Fixture::new("ab", |settings| settings.limits.switch_on_first_rate_limit = false);
    let mine = fixture.hold(ask(0));
    let of_request =
        RefusalDetails { scope: Some(Scope::Request), ..RefusalDetails::reported(Reason::RateLimitExceeded, None) };
    let decision = fixture.found(mine, of_request.clone());
    assert_eq!((decision.action, decision.after, decision.once_more), (Action::Retry, secs(1), true));
    fixture.pass(secs(1));
    assert_eq!(fixture.found(mine, of_request).action, Action::Switch);
    // a long wait that the server states is no case for trying again, nor is an exhausted quota
    let mut fixture = Fixture::new("ab", |settings| settings.limits.switch_on_first_rate_limit = false);
    let mine = fixture.hold(ask(0));
    assert_eq!(fixture.report(mine, Reason::RateLimitExceeded, Some(secs(60))).action, Action::Switch);
    let mut fixture = Fixture::new("ab", |settings| settings.limits.switch_on_first_rate_limit = false);
    let mine = fixture.hold(ask(0));
    assert_eq!(fixture.report(mine, Reason::QuotaExhausted, None).action, Action::Switch);
}

#[test]
fn cache_first_also_waits_for_a_session_s_account_after_a_report() {
    for (wait, action) in [(60, Action::Wait), (61, Action::Switch)] {
        let mut fixture = Fixture::new("ab", |settings| settings.selection.mode = Mode::CacheFirst);
        let held = fixture.hold(in_session("s"));
        assert_eq!(fixture.report(held, Reason::RateLimitExceeded, Some(secs(wait))).action, action);
    }
}

#[test]
fn a_limited_account_gets_no_request_while_the_others_are_busy() {
    for overflow in [Overflow::Wait, Overflow::Fail] {
        let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = overflow);
        let (mine, _) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
        let decision = fixture.report(mine, Reason::RateLimitExceeded, Some(secs(40)));
        assert_eq!((decision.action, decision.after), (Action::Wait, secs(40)), "{overflow:?}");
    }
}

#[test]
fn an_account_that_must_be_verified_serves_nothing_until_the_user_acts() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 2);
    let (first, second) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
    assert_eq!(fixture.report(first, Reason::VerificationRequired, None).action, Action::Stop);
    assert!(fixture.effects.contains(&Effect::SaveAccount(id('a'))));
    fixture.report(second, Reason::VerificationRequired, None);
    assert!(!fixture.effects.contains(&Effect::SaveAccount(id('a'))), "it is known already");
    assert_eq!(fixture.refused(ask(2)), RefusalKind::NeedsVerification);
    fixture.pass(secs(40 * DAY));
    assert!(matches!(fixture.pool.account(id('a')).unwrap().record.login_state, LoginState::NeedsVerification(_)));
    assert_eq!(fixture.pool.lease_count(), 2, "no lease is taken from its holder");
}

#[test]
fn a_back_off_of_zero_does_not_return_to_the_same_account() {
    let mut fixture = Fixture::new("a", |settings| {
        settings.limits.backoff.rate_limit = Duration::ZERO;
        settings.limits.backoff.quota = vec![];
        settings.limits.backoff.unknown = Duration::ZERO;
    });
    let held = fixture.hold(ask(0));
    for reason in [Reason::RateLimitExceeded, Reason::QuotaExhausted, Reason::Unknown] {
        let decision = fixture.report(held, reason, None);
        assert!(matches!(decision.action, Action::Wait | Action::Retry) && !decision.after.is_zero(), "{decision:?}");
    }
}

#[test]
fn the_number_of_limits_of_one_account_is_bounded() {
    let mut fixture = Fixture::new("a", |_| {});
    for n in 0..1_000 {
        let until = Deadline::Mono(fixture.now.mono.after(secs(100 + n)));
        fixture.limit('a', Scope::Model, &format!("k:m{n}"), until);
    }
    assert_eq!(fixture.pool.account(id('a')).unwrap().limits().len(), 256);
    assert_eq!(fixture.limited_for('a'), Some(secs(1_099)), "what ends first went first");
    fixture.run(Command::ClearLimits(id('a'))).unwrap();
    assert_eq!(fixture.limited_for('a'), None);
    assert_eq!(fixture.pool.next_wakeup(fixture.now), None);
}

/// I8: a guessed wait never replaces a server's word that still holds, whichever is longer, and the longest stated one wins.
#[test]
fn a_guess_never_replaces_a_stated_wait_and_the_longest_stated_wait_wins() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 9);
    let held: Vec<_> = (0..6).map(|n| fixture.hold(ask(n))).collect();
    for (fence, wait, left) in [
        (held[0], None, 60),     // a guess
        (held[1], Some(20), 20), // the server's word replaces it, although it is shorter
        (held[2], None, 20),     // a guess, although longer, does not replace the server's word
        (held[3], Some(10), 20), // a shorter stated wait does not
        (held[4], Some(90), 90), // a longer one does
    ] {
        let details = RefusalDetails::reported(Reason::QuotaExhausted, wait.map(secs));
        fixture.found(fence, RefusalDetails { source: LimitSource::Server, scope: Some(Scope::Account), ..details });
        assert_eq!(fixture.limited_for('a'), Some(secs(left)), "{wait:?}");
    }
    fixture.pass(secs(91));
    fixture.found(held[5], RefusalDetails::reported(Reason::QuotaExhausted, None));
    assert!(fixture.limited_for('a') >= Some(secs(60)), "the server's word no longer holds");
}

#[test]
fn refusals_that_were_under_way_together_are_one_event() {
    let mut fixture = Fixture::new("a", |settings| {
        (settings.leases.per_account, settings.leases.max_per_account) = (30, 30);
    });
    let held: Vec<Fence> = (0..30).map(|n| fixture.hold(ask(n))).collect();
    let mut events = 0;
    for fence in &held {
        fixture.pass(Duration::from_millis(5));
        fixture.report(*fence, Reason::QuotaExhausted, Some(secs(1_200)));
        let is_limited = |effect: &&Effect| matches!(effect, Effect::Emit(Event::Limited(_)));
        events += fixture.effects.iter().filter(is_limited).count();
    }
    assert_eq!(events, 1);
    // a much longer wait is news
    fixture.report(held[0], Reason::QuotaExhausted, Some(secs(7_200)));
    assert!(fixture.effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Limited(_)))));
}
