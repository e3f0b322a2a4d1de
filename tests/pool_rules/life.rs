//! The life of a lease: binding, ending, request ids, restart; accounts that change under it.

use std::time::Duration;

use lessor::limits::Reason;
use lessor::pool::{
    AccountChange, Action, Bind, Command, ConnectionId, Effect, Ending, Fence, LeaseRequest, Overflow, Pool,
    PoolSettings, PoolStart, RefusalDetails, RefusalKind, Reply, Snapshot,
};

use crate::desk::{Desk, ask, by, id, process, record, secs, target};

#[test]
fn each_bind_ends_by_its_own_event() {
    let mut desk = Desk::new("abc", |_| {});
    let connection = desk.hold(ask(1));
    let bound = desk.hold(LeaseRequest { bind: Bind::Process(process(5)), ..ask(1) });
    let timed = desk.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let ended = |desk: &Desk| -> Vec<(Fence, Ending)> {
        let end = |effect: &Effect| match effect {
            Effect::Ended(lease, why) => Some((lease.fence, *why)),
            _ => None,
        };
        desk.effects.iter().filter_map(end).collect()
    };
    desk.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(ended(&desk), [(connection, Ending::ConnectionClosed)]);
    desk.run(Command::ProcessEnded(process(5))).unwrap();
    assert_eq!(ended(&desk), [(bound, Ending::ProcessEnded)]);
    desk.pass(secs(599));
    desk.run(Command::ExtendLease(timed)).unwrap();
    desk.pass(secs(599));
    assert!(desk.pool.lease(timed).is_some());
    desk.pass(secs(1));
    assert_eq!(ended(&desk), [(timed, Ending::Expired)]);
    assert_eq!(desk.run(Command::ExtendLease(timed)).unwrap_err().kind, RefusalKind::StaleLease);
    assert_eq!(desk.refused(LeaseRequest { ttl: Some(Duration::ZERO), ..ask(1) }), RefusalKind::BadRequest);
    let short = desk.hold(LeaseRequest { ttl: Some(Duration::from_nanos(1)), ..ask(1) });
    assert!(desk.pool.lease(short).is_some(), "a life below the clock's step is one step");
}

#[test]
fn a_durable_lease_is_saved_before_it_is_known() {
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(LeaseRequest { bind: Bind::Ttl, ..ask(1) });
    let at = |wanted: &dyn Fn(&Effect) -> bool| desk.effects.iter().position(wanted).unwrap();
    let saved = at(&|effect| *effect == Effect::SaveLease(held));
    let told = at(&|effect| matches!(effect, Effect::Emit(lessor::pool::Event::Granted(_))));
    assert!(saved < told);
}

#[test]
fn the_same_request_gets_the_same_lease() {
    let mut desk = Desk::new("ab", |_| {});
    let named = |n| LeaseRequest { request_id: Some("r".into()), ..ask(n) };
    let held = desk.hold(named(1));
    assert_eq!(desk.hold(named(2)), held, "from another connection, because the first answer was lost");
    desk.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert!(desk.pool.lease(held).is_some(), "it has followed its holder");
    let other = LeaseRequest { target: target("other", None), ..named(2) };
    assert_eq!(desk.refused(other), RefusalKind::BadRequest, "one id, one request");
    desk.run(Command::Drain).unwrap();
    assert_eq!(desk.hold(named(2)), held, "even while the daemon ends");
    desk.run(Command::ConnectionClosed(ConnectionId(2))).unwrap();
    assert!(desk.pool.lease(held).is_none());
    let mut desk = Desk::new("ab", |_| {});
    let held = desk.hold(named(1));
    desk.release(held);
    let again = desk.hold(named(1));
    assert_ne!(again, held, "an ended lease serves nobody");
    desk.pass(secs(60));
    assert_ne!(desk.hold(named(1)), again, "after a minute it is a new request");
}

#[test]
fn the_same_request_waits_once() {
    let mut desk = Desk::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let first = desk.hold(ask(0));
    let named = |n| LeaseRequest { request_id: Some("r".into()), wait: None, ..ask(n) };
    let waiter = desk.queued(named(1));
    assert_eq!(desk.queued(named(2)), waiter);
    desk.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(desk.pool.waiters().count(), 1, "it waits for the second connection now");
    desk.release(first);
    let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(served, waiter);
    assert_eq!(desk.hold(named(3)), fence);
}

#[test]
fn request_ids_outlive_a_restart_with_their_lease() {
    let mut desk = Desk::new("ab", |_| {});
    let named = |n| LeaseRequest { request_id: Some("r".into()), bind: Bind::Process(process(3)), ..ask(n) };
    let held = desk.hold(named(1));
    desk.restart(false);
    assert_eq!(desk.hold(named(2)), held);
}

#[test]
fn holders_come_back_within_the_grace_and_newcomers_wait() {
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let held = desk.hold(ask(1));
    let (on, ticket) = (desk.on(held), desk.ticket(held));
    desk.restart(true);
    assert_eq!(desk.refused(ask(2)), RefusalKind::NoCapacity);
    let early = desk.queued(LeaseRequest { wait: None, ..ask(3) });
    assert_eq!(desk.resume(&ticket, 9), Ok(Reply::Held(held)));
    assert_eq!(desk.resume(&ticket, 9), Ok(Reply::Held(held)), "twice is once");
    desk.pass(secs(2));
    let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(served, early);
    assert_ne!(desk.on(fence), on, "nothing is granted twice");
    assert!(fence > held);
    // the connection it came back on ends it
    desk.run(Command::ConnectionClosed(ConnectionId(9))).unwrap();
    assert!(desk.pool.lease(held).is_none());
    assert_eq!(desk.resume(&ticket, 9).unwrap_err().kind, RefusalKind::StaleLease, "what has ended has ended");
}

#[test]
fn a_lease_is_not_resumed_once_its_account_was_granted_anew() {
    let mut desk = Desk::new("a", |settings| settings.leases.per_account = 3);
    let held = desk.hold(ask(1));
    let ticket = desk.ticket(held);
    desk.restart(true);
    desk.pass(secs(2));
    let newer = desk.hold(ask(2));
    desk.release(newer);
    assert_eq!(desk.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
    // nor when the account went and came back
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(1));
    let ticket = desk.ticket(held);
    desk.restart(false);
    desk.run(Command::RemoveAccount(id('a'))).unwrap();
    desk.add(record('a'));
    assert_eq!(desk.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
}

#[test]
fn a_released_lease_is_not_resumed_in_the_same_run() {
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(ask(1));
    let ticket = desk.ticket(held);
    desk.release(held);
    assert_eq!(desk.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease);
    let durable = desk.hold(LeaseRequest { bind: Bind::Process(process(2)), ..ask(1) });
    let ticket = desk.ticket(durable);
    desk.restart(true);
    desk.run(Command::ProcessEnded(process(2))).unwrap();
    assert_eq!(desk.resume(&ticket, 1).unwrap_err().kind, RefusalKind::StaleLease, "its process is dead");
}

#[test]
fn a_forged_ticket_is_worth_nothing() {
    let mut desk = Desk::new("ab", |_| {});
    let held = desk.hold(ask(1));
    let ticket = desk.ticket(held);
    let other = if desk.on(held) == 'a' { 'b' } else { 'a' };
    for fence in [Fence(0), Fence(held.0 + 1), Fence(u64::MAX)] {
        let forged = lessor::pool::Ticket { fence, ..ticket.clone() };
        if fence != Fence(0) {
            assert_eq!(desk.resume(&forged, 2).unwrap_err().kind, RefusalKind::StaleLease, "{fence:?}");
        }
    }
    let forged = lessor::pool::Ticket { account: id(other), ..ticket };
    assert_eq!(desk.resume(&forged, 2).unwrap_err().kind, RefusalKind::StaleLease, "alive, but not there");
    desk.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    assert_eq!(desk.pool.lease_count(), 0, "it was not moved away from its connection");
}

#[test]
fn exclusive_leases_come_back_alone() {
    let mut desk = Desk::new("a", |settings| settings.leases.per_account = 3);
    let alone = desk.hold(LeaseRequest { exclusive: true, ..ask(1) });
    let ticket = desk.ticket(alone);
    assert_eq!(desk.refused(ask(2)), RefusalKind::NoCapacity);
    desk.restart(true);
    assert_eq!(desk.resume(&ticket, 1), Ok(Reply::Held(alone)));
    desk.pass(secs(2));
    assert_eq!(desk.refused(ask(2)), RefusalKind::NoCapacity);
    desk.release(alone);
    let (one, _two) = (desk.hold(ask(2)), desk.hold(ask(3)));
    assert_eq!(desk.refused(LeaseRequest { exclusive: true, ..ask(4) }), RefusalKind::NoCapacity);
    desk.release(one);
    assert_eq!(desk.refused(LeaseRequest { exclusive: true, ..ask(4) }), RefusalKind::NoCapacity, "one is still there");
}

#[test]
fn a_holder_of_before_the_restart_can_move_on_with_its_policy() {
    let mut desk = Desk::new("", |_| {});
    for letter in ['a', 'b'] {
        desk.add(lessor::pool::AccountRecord { allowed_agents: Some(vec!["claude".into()]), ..record(letter) });
    }
    let held = desk.hold(LeaseRequest { agent: Some("claude".into()), ..ask(1) });
    let ticket = desk.ticket(held);
    desk.restart(true);
    desk.resume(&ticket, 1).unwrap();
    assert_eq!(desk.report(held, Reason::RateLimitExceeded, None).action, Action::Wait, "nothing is granted in grace");
    desk.pass(secs(2));
    assert_eq!(desk.report(held, Reason::RateLimitExceeded, None).action, Action::Switch);
}

#[test]
fn fences_are_reserved_before_the_first_grant_of_a_run() {
    let mut desk = Desk::new("a", |_| {});
    desk.restart(false);
    assert!(matches!(desk.effects[..], [Effect::ReserveFences(mark)] if mark > desk.pool.next_fence()));
}

#[test]
fn what_no_longer_fits_is_left_out_of_a_restore_and_the_store_is_told() {
    let mut desk = Desk::new("ab", |_| {});
    let gone = desk.hold(LeaseRequest { bind: Bind::Ttl, account: Some("a".into()), ..ask(1) });
    let alone = desk.hold(LeaseRequest { bind: Bind::Ttl, account: Some("b".into()), exclusive: true, ..ask(2) });
    let mut snapshot = desk.pool.snapshot(desk.now);
    snapshot.accounts.retain(|record| record.id == id('b'));
    let mut twin = snapshot.leases[1].clone();
    twin.fence = Fence(alone.0 + 1);
    twin.exclusive = false;
    snapshot.leases.push(twin);
    let mut effects = Vec::new();
    let start = PoolStart { fence: Fence(100), grace: false };
    let mut pool = Pool::restore(desk.now, PoolSettings::default(), snapshot, start, &mut effects);
    pool.check(desk.now).unwrap();
    let ended: Vec<Fence> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Ended(lease, Ending::Revoked) => Some(lease.fence),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [alone, gone], "the newer of two that exclude each other is the true one");
    assert_eq!(pool.lease_count(), 1);
    let empty = Pool::restore(desk.now, PoolSettings::default(), Snapshot::default(), start, &mut vec![]);
    assert_eq!(empty.lease_count(), 0);
}

#[test]
fn a_lowered_capacity_revokes_nobody_and_adds_nobody() {
    let mut desk = Desk::new("a", |settings| {
        settings.leases.per_account = 3;
        settings.leases.overflow = Overflow::Wait;
    });
    let held: Vec<Fence> = (0..3).map(|n| desk.hold(ask(n))).collect();
    desk.configure(|settings| settings.leases.per_account = 1);
    assert_eq!(desk.pool.lease_count(), 3);
    let waiter = desk.queued(LeaseRequest { wait: None, ..ask(7) });
    desk.release(held[0]);
    desk.release(held[1]);
    assert!(desk.answers().is_empty());
    desk.release(held[2]);
    assert_eq!(desk.answers()[0].0, waiter);
}

#[test]
fn the_ceiling_holds_even_when_sharing() {
    let mut desk = Desk::new("a", |settings| settings.leases.max_per_account = 2);
    let (_one, _two) = (desk.hold(ask(0)), desk.hold(ask(1)));
    assert_eq!(desk.refused(ask(2)), RefusalKind::NoCapacity);
    desk.configure(|settings| settings.leases.max_per_account = 0);
    desk.run(Command::ConnectionClosed(ConnectionId(0))).unwrap();
    desk.run(Command::ConnectionClosed(ConnectionId(1))).unwrap();
    let _ = desk.hold(ask(2));
}

#[test]
fn a_removed_account_s_leases_end_and_a_disabled_one_s_do_not() {
    let mut desk = Desk::new("ab", |_| {});
    let held: Vec<Fence> = (0..2).map(|n| desk.hold(ask(n))).collect();
    for letter in ['a', 'b'] {
        let off = AccountChange { enabled: Some((false, None)), ..AccountChange::default() };
        desk.run(Command::ChangeAccount(id(letter), Box::new(off))).unwrap();
    }
    assert_eq!(desk.pool.lease_count(), 2);
    assert_eq!(desk.refused(ask(5)), RefusalKind::NoAccount);
    desk.run(Command::RemoveAccount(id('a'))).unwrap();
    assert_eq!(desk.pool.lease_count(), 1);
    let gone = held.iter().find(|fence| desk.pool.lease(**fence).is_none()).unwrap();
    assert_eq!(desk.run(Command::Release(*gone)).unwrap_err().kind, RefusalKind::StaleLease);
    desk.run(Command::RemoveAccount(id('b'))).unwrap();
    assert_eq!(desk.refused(ask(5)), RefusalKind::NoAccount);
}

#[test]
fn reports_of_the_dead_change_nothing() {
    let mut desk = Desk::new("a", |_| {});
    let held = desk.hold(by(1));
    desk.release(held);
    let outcome = lessor::pool::RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::AuthFailed, None)));
    assert_eq!(desk.run(Command::Report { fence: held, outcome }).unwrap_err().kind, RefusalKind::StaleLease);
    assert!(desk.effects.is_empty());
    assert_eq!(desk.peek(ask(2)), 'a');
}

#[test]
fn clocks_that_run_backwards_or_far_ahead_panic_nobody() {
    use lessor::pool::{Mono, Now, Wall};
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let times = [u64::MAX, 0, 1, u64::MAX - 1, 1 << 62, 5_000];
    for (n, mono) in times.into_iter().enumerate() {
        for wall in times {
            desk.effects.clear();
            let now = Now { mono: Mono(mono), wall: Wall(wall) };
            let timed =
                LeaseRequest { ttl: Some(Duration::MAX), session: Some("s".into()), wait: None, ..by(n as u32) };
            let reply = desk.pool.handle(now, Command::Acquire(Box::new(timed)), &mut desk.effects);
            if let Ok(Reply::Held(fence)) = reply {
                let wait = Some(Duration::MAX);
                let outcome = lessor::pool::RequestOutcome::Refused(Box::new(RefusalDetails::reported(
                    Reason::QuotaExhausted,
                    wait,
                )));
                let _ = desk.pool.handle(now, Command::Report { fence, outcome }, &mut desk.effects);
            }
            let _ = desk.pool.next_wakeup(now);
            let _ = desk.pool.snapshot(now);
            assert!(desk.pool.accounts().iter().all(|account| account.leases() <= 1), "over-granted");
        }
    }
}
