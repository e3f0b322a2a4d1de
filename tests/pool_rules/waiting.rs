//! The queue: order, bounds, and what its members are told.

use lessor::pool::{Bind, Command, ConnectionId, Effect, LeaseRequest, Mono, Overflow, RefusalKind, Reply, WaiterId};

use crate::desk::{Desk, ask, id, process, secs};

fn busy() -> (Desk, lessor::pool::Fence) {
    let mut desk = Desk::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let held = desk.hold(ask(0));
    (desk, held)
}

fn patient(n: u64) -> LeaseRequest {
    LeaseRequest { wait: None, ..ask(n) }
}

#[test]
fn first_come_first_served_within_a_priority() {
    let (mut desk, mut held) = busy();
    let low = desk.queued(LeaseRequest { priority: -1, ..patient(1) });
    let first = desk.queued(patient(2));
    let second = desk.queued(patient(3));
    let high = desk.queued(LeaseRequest { priority: 10, ..patient(4) });
    let order: Vec<WaiterId> = desk.pool.waiters().map(|(id, _)| id).collect();
    assert_eq!(order, [high, first, second, low]);
    for wanted in order {
        desk.release(held);
        let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
        assert_eq!(served, wanted);
        held = fence;
    }
}

#[test]
fn nobody_behind_is_held_up_by_somebody_who_cannot_be_served() {
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let (one, two) = (desk.hold(ask(0)), desk.hold(ask(1)));
    let (on_one, on_two) = (desk.on(one), desk.on(two));
    let pinned = desk.queued(LeaseRequest { account: Some(on_one.to_string().into()), priority: 9, ..patient(2) });
    let anybody = desk.queued(patient(3));
    desk.release(two);
    let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!((served, desk.on(fence)), (anybody, on_two));
    desk.release(one);
    assert_eq!(desk.answers()[0].0, pinned);
}

#[test]
fn who_waits_is_told_when_its_time_is_over_and_at_once_when_it_cannot_help() {
    let (mut desk, _) = busy();
    let waiter = desk.queued(LeaseRequest { wait: Some(secs(10)), ..patient(1) });
    assert_eq!(desk.pool.next_wakeup(desk.now), Some(Mono(desk.now.mono.0 + 10_000)));
    desk.pass(secs(10));
    assert_eq!(desk.answers(), [(waiter, Err(RefusalKind::WaitTimeout))]);
    desk.block('a', secs(301));
    assert_eq!(desk.refused(patient(1)), RefusalKind::AllLimited, "300 s are not enough");
    let waiter = desk.queued(LeaseRequest { wait: Some(secs(301)), ..patient(1) });
    desk.block('a', secs(302));
    assert_eq!(desk.answers(), [(waiter, Err(RefusalKind::AllLimited))], "it learns of it when it is known");
}

#[test]
fn in_the_last_moment_a_lease_is_better_than_an_apology() {
    let mut desk = Desk::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let _ = desk.hold(LeaseRequest { ttl: Some(secs(10)), ..ask(0) });
    let waiter = desk.queued(LeaseRequest { wait: Some(secs(10)), ..patient(1) });
    desk.pass(secs(10));
    let [(served, Ok(_))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(served, waiter);
}

#[test]
fn the_eta_is_the_end_of_what_is_in_the_way() {
    let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    desk.block('a', secs(50));
    let held = desk.hold(LeaseRequest { ttl: Some(secs(20)), ..ask(0) });
    assert_eq!(desk.on(held), 'b');
    let anybody = desk.queued(patient(1));
    let pinned = desk.queued(LeaseRequest { account: Some("a".into()), ..patient(2) });
    let eta = |desk: &Desk, waiter| desk.pool.eta(desk.now, waiter).map(|at| at.since(desk.now.wall));
    assert_eq!(eta(&desk, anybody), Some(secs(20)));
    assert_eq!(eta(&desk, pinned), Some(secs(50)), "another account's end does not help it");
    desk.release(held);
    assert_eq!(eta(&desk, anybody), None, "it was served");
}

#[test]
fn the_queue_has_an_end() {
    let (mut desk, held) = busy();
    // checked by the desk after every step: without the check, for speed
    for n in 0..4096 {
        let reply = desk.pool.handle(desk.now, Command::Acquire(Box::new(patient(n))), &mut desk.effects);
        assert!(matches!(reply, Ok(Reply::Queued(_))));
    }
    assert_eq!(desk.refused(patient(9)), RefusalKind::Overloaded);
    desk.run(Command::ConnectionClosed(ConnectionId(9))).unwrap();
    let _ = desk.queued(patient(9));
    desk.release(held);
    assert_eq!(desk.answers().len(), 1, "one account, one lease: no herd");
    desk.run(Command::Drain).unwrap();
    assert_eq!(desk.answers().len(), 4095);
    assert!(desk.answers().iter().all(|(_, result)| *result == Err(RefusalKind::ShuttingDown)));
    assert_eq!(desk.refused(patient(9)), RefusalKind::ShuttingDown);
}

#[test]
fn cancelling_closing_and_dying_leave_the_queue() {
    let (mut desk, held) = busy();
    let cancelled = desk.queued(patient(1));
    let _closed = desk.queued(patient(2));
    let dead = desk.queued(LeaseRequest { bind: Bind::Process(process(7)), ..patient(3) });
    let last = desk.queued(patient(4));
    desk.run(Command::Cancel(cancelled)).unwrap();
    desk.run(Command::ConnectionClosed(ConnectionId(2))).unwrap();
    desk.run(Command::ProcessEnded(process(7))).unwrap();
    assert_eq!(desk.answers(), [(dead, Err(RefusalKind::BadRequest))]);
    desk.release(held);
    assert_eq!(desk.answers()[0].0, last);
    desk.run(Command::Cancel(cancelled)).unwrap();
}

#[test]
fn a_process_is_watched_as_long_as_anything_hangs_on_it() {
    let (mut desk, held) = busy();
    let bound = |n| LeaseRequest { bind: Bind::Process(process(7)), ..patient(n) };
    let unwatched = |desk: &Desk| desk.effects.contains(&Effect::Unwatch(process(7)));
    let _ = desk.queued(bound(1));
    let second = desk.queued(bound(2));
    desk.release(held);
    let [(_, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    desk.release(fence);
    assert!(!unwatched(&desk), "the next lease of the same process was granted in the same breath");
    let [(served, Ok(fence))] = desk.answers()[..] else { panic!("{:?}", desk.answers()) };
    assert_eq!(served, second);
    let moved = {
        desk.add(crate::desk::record('b'));
        desk.report(fence, lessor::limits::Reason::RateLimitExceeded, None).lease.unwrap()
    };
    assert!(!unwatched(&desk), "a lease that moves is still the process's");
    desk.release(moved);
    assert!(unwatched(&desk));
    let _ = desk.hold(LeaseRequest { account: Some("b".into()), ..ask(5) });
    let waiter = desk.queued(bound(6));
    desk.run(Command::Cancel(waiter)).unwrap();
    assert!(unwatched(&desk), "nor does anybody wait for it any more");
}

#[test]
fn what_frees_an_account_serves_the_queue() {
    let frees: [fn(&mut Desk); 7] = [
        |desk| desk.add(crate::desk::record('z')),
        |desk| drop(desk.run(Command::ClearLimits(id('b')))),
        |desk| desk.pass(secs(100)),
        |desk| desk.configure(|settings| settings.leases.overflow = Overflow::Share),
        |desk| drop(desk.run(Command::ConnectionClosed(ConnectionId(0)))),
        |desk| desk.configure(|settings| settings.leases.per_account = 2),
        |desk| drop(desk.run(Command::RemoveAccount(id('a')))),
    ];
    for (n, free) in frees.into_iter().enumerate() {
        let mut desk = Desk::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
        let _ = desk.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
        desk.block('b', secs(100));
        let waiter = desk.queued(patient(1));
        free(&mut desk);
        let served = desk.answers().iter().any(|(id, result)| *id == waiter && result.is_ok());
        assert_eq!(served, n < 6, "case {n}: {:?}", desk.answers());
    }
}
