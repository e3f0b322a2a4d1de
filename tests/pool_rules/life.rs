//! The life of a lease: binding, ending, request ids, restart; accounts that change under it.

use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    AccountChange, Action, Attestation, Bind, Command, ConnectionId, Effect, Ending, Event, Fence, LeaseRequest,
    LoginProblem, LoginState, Overflow, Pool, PoolSettings, PoolStart, RefusalDetails, RefusalKind, Renewing, Reply,
    RequestNeeds, Snapshot,
};

use crate::fixture::{Fixture, ask, by, id, process, record, secs, target};

#[test]
fn a_lease_ends_by_the_event_it_is_bound_to() {
    let mut fixture = Fixture::new("abc", |_| {});
    let connection = fixture.hold(ask(1));
    let bound = fixture.hold(LeaseRequest { bind: Bind::Process(process(5)), ..ask(1) });
    let timed = fixture.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let ended = |fixture: &Fixture| -> Vec<(Fence, Ending)> {
        let end = |effect: &Effect| match effect {
            Effect::Ended(lease, why) => Some((lease.fence, *why)),
            _ => None,
        };
        fixture.effects.iter().filter_map(end).collect()
    };
    fixture.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(ended(&fixture), [(connection, Ending::ConnectionClosed)]);
    fixture.run(Command::ProcessEnded(process(5))).unwrap();
    assert_eq!(ended(&fixture), [(bound, Ending::ProcessEnded)]);
    fixture.pass(secs(599));
    fixture.run(Command::ExtendLease(timed)).unwrap();
    fixture.pass(secs(599));
    assert!(fixture.pool.lease(timed).is_some());
    fixture.pass(secs(1));
    assert_eq!(ended(&fixture), [(timed, Ending::Expired)]);
    assert_eq!(fixture.run(Command::ExtendLease(timed)).unwrap_err().kind, RefusalKind::StaleLease);
    assert_eq!(fixture.refused(LeaseRequest { ttl: Some(Duration::ZERO), ..ask(1) }), RefusalKind::BadRequest);
    let short = fixture.hold(LeaseRequest { ttl: Some(Duration::from_nanos(1)), ..ask(1) });
    assert!(fixture.pool.lease(short).is_some(), "a life below the clock's step is one step");
}

#[test]
fn a_durable_lease_is_saved_before_it_is_answered() {
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let at = |wanted: &dyn Fn(&Effect) -> bool| fixture.effects.iter().position(wanted).unwrap();
    let saved = at(&|effect| *effect == Effect::SaveLease(held));
    let told = at(&|effect| matches!(effect, Effect::Emit(Event::Granted(_))));
    assert!(saved < told);
}

#[test]
fn a_retry_with_the_same_request_id_gets_the_same_lease() {
    let mut fixture = Fixture::new("ab", |_| {});
    let named = |n| LeaseRequest { request_id: Some("r".into()), ..ask(n) };
    let held = fixture.hold(named(1));
    assert_eq!(fixture.hold(named(2)), held, "from another connection, because the first answer was lost");
    fixture.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert!(fixture.pool.lease(held).is_some(), "it has followed its holder");
    let other = LeaseRequest { target: target("other", None), ..named(2) };
    assert_eq!(fixture.refused(other), RefusalKind::BadRequest, "one id, one request");
    fixture.run(Command::Drain).unwrap();
    assert_eq!(fixture.hold(named(2)), held, "even while the daemon ends");
    fixture.run(Command::ConnectionClosed(ConnectionId(2))).unwrap();
    assert!(fixture.pool.lease(held).is_none());
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(named(1));
    fixture.release(held);
    let again = fixture.hold(named(1));
    assert_ne!(again, held, "an ended lease is not returned");
    fixture.pass(secs(60));
    assert_ne!(fixture.hold(named(1)), again, "after a minute it is a new request");
}

#[test]
fn a_retry_with_the_same_request_id_is_queued_once() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let first = fixture.hold(ask(0));
    let named = |n| LeaseRequest { request_id: Some("r".into()), wait: None, ..ask(n) };
    let waiter = fixture.queued(named(1));
    assert_eq!(fixture.queued(named(2)), waiter);
    fixture.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(fixture.pool.waiters().count(), 1, "it waits for the second connection now");
    fixture.release(first);
    let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(served, waiter);
    assert_eq!(fixture.hold(named(3)), fence);
}

#[test]
fn request_ids_of_durable_leases_survive_a_restart() {
    let mut fixture = Fixture::new("ab", |_| {});
    let named = |n| LeaseRequest { request_id: Some("r".into()), bind: Bind::Process(process(3)), ..ask(n) };
    let held = fixture.hold(named(1));
    fixture.restart(false);
    assert_eq!(fixture.hold(named(2)), held);
}

#[test]
fn during_the_grace_period_holders_resume_and_new_requests_wait() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let held = fixture.hold(ask(1));
    let (on, ticket) = (fixture.on(held), fixture.ticket(held));
    fixture.restart(true);
    assert_eq!(fixture.refused(ask(2)), RefusalKind::NoCapacity);
    let early = fixture.queued(LeaseRequest { wait: None, ..ask(3) });
    assert_eq!(fixture.resume(&ticket, 9), Ok(Reply::Held(held)));
    assert_eq!(fixture.resume(&ticket, 9), Ok(Reply::Held(held)), "twice is once");
    fixture.pass(secs(2));
    let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(served, early);
    assert_ne!(fixture.on(fence), on, "nothing is granted twice");
    assert!(fence > held);
    // the connection it came back on ends it
    fixture.run(Command::ConnectionClosed(ConnectionId(9))).unwrap();
    assert!(fixture.pool.lease(held).is_none());
    assert_eq!(fixture.resume(&ticket, 9).unwrap_err().kind, RefusalKind::StaleLease, "what has ended has ended");
}

#[test]
fn a_lease_is_not_resumed_after_a_new_grant_on_its_account() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 3);
    let held = fixture.hold(ask(1));
    let ticket = fixture.ticket(held);
    fixture.restart(true);
    fixture.pass(secs(2));
    let newer = fixture.hold(ask(2));
    fixture.release(newer);
    assert_eq!(fixture.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
    // nor when the account went and came back
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(1));
    let ticket = fixture.ticket(held);
    fixture.restart(false);
    fixture.run(Command::RemoveAccount(id('a'))).unwrap();
    fixture.add(record('a'));
    assert_eq!(fixture.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
}

#[test]
fn a_released_lease_is_not_resumed_in_the_same_run() {
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(ask(1));
    let ticket = fixture.ticket(held);
    fixture.release(held);
    assert_eq!(fixture.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
    let durable = fixture.hold(LeaseRequest { bind: Bind::Process(process(2)), ..ask(1) });
    let ticket = fixture.ticket(durable);
    fixture.restart(true);
    fixture.run(Command::ProcessEnded(process(2))).unwrap();
    assert_eq!(fixture.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease, "its process is dead");
}

#[test]
fn a_forged_ticket_is_refused() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held = fixture.hold(ask(1));
    let ticket = fixture.ticket(held);
    let other = if fixture.on(held) == 'a' { 'b' } else { 'a' };
    for fence in [Fence(0), Fence(held.0 + 1), Fence(u64::MAX)] {
        let forged = lessor::pool::Ticket { fence, ..ticket.clone() };
        if fence != Fence(0) {
            assert_eq!(fixture.resume(&forged, 2).unwrap_err().kind, RefusalKind::StaleLease, "{fence:?}");
        }
    }
    let forged = lessor::pool::Ticket { account: id(other), ..ticket };
    assert_eq!(fixture.resume(&forged, 2).unwrap_err().kind, RefusalKind::StaleLease, "alive, but not there");
    fixture.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(fixture.pool.lease_count(), 0, "it was not moved away from its connection");
}

#[test]
fn an_exclusive_lease_is_resumed_only_on_an_account_without_leases() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.per_account = 3);
    let alone = fixture.hold(LeaseRequest { exclusive: true, ..ask(1) });
    let ticket = fixture.ticket(alone);
    assert_eq!(fixture.refused(ask(2)), RefusalKind::NoCapacity);
    fixture.restart(true);
    assert_eq!(fixture.resume(&ticket, 1), Ok(Reply::Held(alone)));
    fixture.pass(secs(2));
    assert_eq!(fixture.refused(ask(2)), RefusalKind::NoCapacity);
    fixture.release(alone);
    let (one, _two) = (fixture.hold(ask(2)), fixture.hold(ask(3)));
    assert_eq!(fixture.refused(LeaseRequest { exclusive: true, ..ask(4) }), RefusalKind::NoCapacity);
    fixture.release(one);
    assert_eq!(
        fixture.refused(LeaseRequest { exclusive: true, ..ask(4) }),
        RefusalKind::NoCapacity,
        "one is still there"
    );
}

#[test]
fn a_resumed_lease_moves_under_its_account_s_use_policy() {
    let mut fixture = Fixture::new("", |_| {});
    for letter in ['a', 'b'] {
        fixture.add(lessor::pool::AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record(letter) });
    }
    let held = fixture.hold(LeaseRequest { agent: Some("claude".into()), ..ask(1) });
    let ticket = fixture.ticket(held);
    fixture.restart(true);
    fixture.resume(&ticket, 1).unwrap();
    assert_eq!(
        fixture.report(held, Reason::RateLimitExceeded, None).action,
        Action::Wait,
        "nothing is granted in grace"
    );
    fixture.pass(secs(2));
    assert_eq!(fixture.report(held, Reason::RateLimitExceeded, None).action, Action::Switch);
}

#[test]
fn fences_are_reserved_before_the_first_grant_of_a_run() {
    let mut fixture = Fixture::new("a", |_| {});
    fixture.restart(false);
    assert!(matches!(fixture.effects[..], [Effect::ReserveFences(mark)] if mark > fixture.pool.next_fence()));
}

#[test]
fn a_restore_drops_what_no_longer_fits_and_deletes_it_from_the_store() {
    let mut fixture = Fixture::new("ab", |_| {});
    let gone = fixture.hold(LeaseRequest { bind: Bind::Ttl, account: Some("a".into()), ..ask(1) });
    let alone = fixture.hold(LeaseRequest { bind: Bind::Ttl, account: Some("b".into()), exclusive: true, ..ask(2) });
    let mut snapshot = fixture.pool.snapshot(fixture.now);
    snapshot.accounts.retain(|record| record.id == id('b'));
    let mut twin = snapshot.leases[1].clone();
    twin.fence = Fence(alone.0 + 1);
    twin.exclusive = false;
    snapshot.leases.push(twin);
    let mut effects = Vec::new();
    let start = PoolStart { fence: Fence(100), grace: false };
    let mut pool = Pool::restore(fixture.now, PoolSettings::default(), snapshot, start, &mut effects);
    pool.check(fixture.now).unwrap();
    let ended: Vec<Fence> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Ended(lease, Ending::Revoked) => Some(lease.fence),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [alone, gone], "the newer of two that exclude each other is the true one");
    assert_eq!(pool.lease_count(), 1);
    let empty = Pool::restore(fixture.now, PoolSettings::default(), Snapshot::default(), start, &mut vec![]);
    assert_eq!(empty.lease_count(), 0);
}

#[test]
fn lowering_the_capacity_ends_no_lease_and_grants_no_more() {
    let mut fixture = Fixture::new("a", |settings| {
        settings.leases.per_account = 3;
        settings.leases.overflow = Overflow::Wait;
    });
    let held: Vec<Fence> = (0..3).map(|n| fixture.hold(ask(n))).collect();
    fixture.configure(|settings| settings.leases.per_account = 1);
    assert_eq!(fixture.pool.lease_count(), 3);
    let waiter = fixture.queued(LeaseRequest { wait: None, ..ask(7) });
    fixture.release(held[0]);
    fixture.release(held[1]);
    assert!(fixture.answers().is_empty());
    fixture.release(held[2]);
    assert_eq!(fixture.answers()[0].0, waiter);
}

#[test]
fn the_ceiling_holds_even_when_sharing() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.max_per_account = 2);
    let (_one, _two) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
    assert_eq!(fixture.refused(ask(2)), RefusalKind::NoCapacity);
    fixture.configure(|settings| settings.leases.max_per_account = 0);
    fixture.run(Command::ConnectionClosed(ConnectionId(0))).unwrap();
    fixture.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    let _ = fixture.hold(ask(2));
}

#[test]
fn removing_an_account_ends_its_leases_and_disabling_it_does_not() {
    let mut fixture = Fixture::new("ab", |_| {});
    let held: Vec<Fence> = (0..2).map(|n| fixture.hold(ask(n))).collect();
    for letter in ['a', 'b'] {
        let off = AccountChange { enabled: Some((false, None)), ..AccountChange::default() };
        fixture.run(Command::ChangeAccount(id(letter), Box::new(off))).unwrap();
    }
    assert_eq!(fixture.pool.lease_count(), 2);
    assert_eq!(fixture.refused(ask(5)), RefusalKind::NoAccount);
    fixture.run(Command::RemoveAccount(id('a'))).unwrap();
    assert_eq!(fixture.pool.lease_count(), 1);
    let gone = held.iter().find(|fence| fixture.pool.lease(**fence).is_none()).unwrap();
    assert_eq!(fixture.run(Command::Release(*gone)).unwrap_err().kind, RefusalKind::StaleLease);
    fixture.run(Command::RemoveAccount(id('b'))).unwrap();
    assert_eq!(fixture.refused(ask(5)), RefusalKind::NoAccount);
}

#[test]
fn reports_with_an_ended_lease_change_nothing() {
    let mut fixture = Fixture::new("a", |_| {});
    let held = fixture.hold(by(1));
    fixture.release(held);
    let outcome = lessor::pool::RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::AuthFailed, None)));
    assert_eq!(fixture.run(Command::Report { fence: held, outcome }).unwrap_err().kind, RefusalKind::StaleLease);
    assert!(fixture.effects.is_empty());
    assert_eq!(fixture.peek(ask(2)), 'a');
}

#[test]
fn clocks_that_run_backwards_or_far_ahead_do_not_panic() {
    use lessor::pool::{Mono, Now, Wall};
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let times = [u64::MAX, 0, 1, u64::MAX - 1, 1 << 62, 5_000];
    for (n, mono) in times.into_iter().enumerate() {
        for wall in times {
            fixture.effects.clear();
            let now = Now { mono: Mono(mono), wall: Wall(wall) };
            let timed =
                LeaseRequest { ttl: Some(Duration::MAX), session: Some("s".into()), wait: None, ..by(n as u32) };
            let reply = fixture.pool.handle(now, Command::Acquire(Box::new(timed)), &mut fixture.effects);
            if let Ok(Reply::Held(fence)) = reply {
                let wait = Some(Duration::MAX);
                let outcome = lessor::pool::RequestOutcome::Refused(Box::new(RefusalDetails::reported(
                    Reason::QuotaExhausted,
                    wait,
                )));
                let _ = fixture.pool.handle(now, Command::Report { fence, outcome }, &mut fixture.effects);
            }
            let _ = fixture.pool.next_wakeup(now);
            let _ = fixture.pool.snapshot(now);
            assert!(fixture.pool.accounts().iter().all(|account| account.leases() <= 1), "over-granted");
        }
    }
}

/// The account of a lease is changed in this way.
fn move_by(fixture: &mut Fixture, held: Fence, cause: &str) {
    let change = match cause {
        "disabled" => AccountChange { enabled: Some((false, None)), ..AccountChange::default() },
        "needs_login" => {
            let login_state = Some(LoginState::NeedsLogin(LoginProblem::AccessTokenEnded));
            AccountChange { login_state, ..AccountChange::default() }
        }
        refused => {
            let is_error = refused == "server_error";
            let reason = if is_error { Reason::ServerError } else { Reason::RateLimitExceeded };
            fixture.report(held, reason, Some(secs(76)));
            return;
        }
    };
    let lease = fixture.pool.lease(held).unwrap();
    let (account, target) = (lease.account, (*lease.target).clone());
    fixture.run(Command::ChangeAccount(account, Box::new(change))).unwrap();
    let need = RequestNeeds { target, exclude: vec![], attested: Attestation::default() };
    fixture.run(Command::Serve { fence: held, need: Box::new(need) }).unwrap();
}

#[test]
fn a_lease_that_changes_its_account_is_an_event_with_its_cause_before_the_new_grant() {
    for cause in ["rate_limit_exceeded", "disabled", "needs_login", "server_error"] {
        let mut fixture = Fixture::new("ab", |_| {});
        let held = fixture.hold(ask(0));
        let from = fixture.pool.lease(held).unwrap().account;
        move_by(&mut fixture, held, cause);
        let event = |effect: &Effect| match effect {
            Effect::Ended(lease, why) => Some((lease.account, why.name())),
            Effect::Emit(Event::Moved(moved)) => {
                assert_eq!(moved.before, held);
                assert_ne!(fixture.pool.lease(moved.to).unwrap().account, from);
                Some((moved.from, moved.cause.name()))
            }
            Effect::Emit(Event::Granted(fence)) => Some((fixture.pool.lease(*fence).unwrap().account, "granted")),
            _ => None,
        };
        let events: Vec<_> = fixture.effects.iter().filter_map(event).collect();
        let to = events.last().unwrap().0;
        assert_eq!(events, [(from, "switched"), (from, cause), (to, "granted")]);
        assert_ne!(from, to);
    }
}

#[test]
fn a_lease_that_waits_for_its_next_account_is_moved_when_it_gets_it() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let (held, other) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
    let (from, to) = (fixture.pool.lease(held).unwrap().account, fixture.pool.lease(other).unwrap().account);
    fixture.run(Command::SetRenewing(from, Some(Renewing { until: None }))).unwrap();
    let reply = fixture.run(Command::Reacquire { fence: held, wait: Some(secs(60)) });
    assert!(matches!(reply, Ok(Reply::Queued(_))), "{reply:?}");
    fixture.release(other);
    let moved = fixture.effects.iter().find_map(|effect| match effect {
        Effect::Emit(Event::Moved(moved)) => Some((moved.before, moved.from, moved.cause.name())),
        _ => None,
    });
    assert_eq!(moved, Some((held, from, "waiting_for_token")));
    assert!(fixture.pool.leases().any(|lease| lease.account == to));
}
