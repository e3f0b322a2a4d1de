//! The queue: order, bounds, and what its members are told.

use lessor::limits::Reason;
use lessor::pool::{
    Action, Bind, Command, ConnectionId, Effect, LeaseRequest, Mono, Overflow, RefusalKind, Reply, WaiterId,
};

use crate::fixture::{Fixture, ask, id, process, secs};

fn busy() -> (Fixture, lessor::pool::Fence) {
    let mut fixture = Fixture::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let held = fixture.hold(ask(0));
    (fixture, held)
}

fn patient(n: u64) -> LeaseRequest {
    LeaseRequest { wait: None, ..ask(n) }
}

#[test]
fn first_come_first_served_within_a_priority() {
    let (mut fixture, mut held) = busy();
    let low = fixture.queued(LeaseRequest { priority: -1, ..patient(1) });
    let first = fixture.queued(patient(2));
    let second = fixture.queued(patient(3));
    let high = fixture.queued(LeaseRequest { priority: 10, ..patient(4) });
    let order: Vec<WaiterId> = fixture.pool.waiters().map(|(id, _)| id).collect();
    assert_eq!(order, [high, first, second, low]);
    for wanted in order {
        fixture.release(held);
        let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
        assert_eq!(served, wanted);
        held = fence;
    }
}

#[test]
fn a_request_that_cannot_be_served_does_not_block_those_behind_it() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    let (one, two) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
    let (on_one, on_two) = (fixture.on(one), fixture.on(two));
    let pinned = fixture.queued(LeaseRequest { account: Some(on_one.to_string().into()), priority: 9, ..patient(2) });
    let second = fixture.queued(patient(3));
    fixture.release(two);
    let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!((served, fixture.on(fence)), (second, on_two));
    fixture.release(one);
    assert_eq!(fixture.answers()[0].0, pinned);
}

#[test]
fn a_queued_request_is_refused_at_its_deadline_or_as_soon_as_waiting_cannot_help() {
    let (mut fixture, _) = busy();
    let waiter = fixture.queued(LeaseRequest { wait: Some(secs(10)), ..patient(1) });
    assert_eq!(fixture.pool.next_wakeup(fixture.now), Some(Mono(fixture.now.mono.0 + 10_000)));
    fixture.pass(secs(10));
    assert_eq!(fixture.answers(), [(waiter, Err(RefusalKind::WaitTimeout))]);
    fixture.block('a', secs(301));
    assert_eq!(fixture.refused(patient(1)), RefusalKind::AllLimited, "300 s are not enough");
    let waiter = fixture.queued(LeaseRequest { wait: Some(secs(301)), ..patient(1) });
    fixture.block('a', secs(302));
    assert_eq!(fixture.answers(), [(waiter, Err(RefusalKind::AllLimited))], "it learns of it when it is known");
}

#[test]
fn a_request_that_can_be_served_at_its_deadline_is_granted() {
    let mut fixture = Fixture::new("a", |settings| settings.leases.overflow = Overflow::Wait);
    let _ = fixture.hold(LeaseRequest { ttl: Some(secs(10)), ..ask(0) });
    let waiter = fixture.queued(LeaseRequest { wait: Some(secs(10)), ..patient(1) });
    fixture.pass(secs(10));
    let [(served, Ok(_))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(served, waiter);
}

#[test]
fn the_eta_is_the_end_of_what_blocks_the_request() {
    let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
    fixture.block('a', secs(50));
    let held = fixture.hold(LeaseRequest { ttl: Some(secs(20)), ..ask(0) });
    assert_eq!(fixture.on(held), 'b');
    let second = fixture.queued(patient(1));
    let pinned = fixture.queued(LeaseRequest { account: Some("a".into()), ..patient(2) });
    let eta = |fixture: &Fixture, waiter| fixture.pool.eta(fixture.now, waiter).map(|at| at.since(fixture.now.wall));
    assert_eq!(eta(&fixture, second), Some(secs(20)));
    assert_eq!(eta(&fixture, pinned), Some(secs(50)), "another account's end does not help it");
    fixture.release(held);
    assert_eq!(eta(&fixture, second), None, "it was served");
}

#[test]
fn the_queue_is_bounded() {
    let (mut fixture, held) = busy();
    // checked by the fixture after every step: without the check, for speed
    for n in 0..4096 {
        let reply = fixture.pool.handle(fixture.now, Command::Acquire(Box::new(patient(n))), &mut fixture.effects);
        assert!(matches!(reply, Ok(Reply::Queued(_))));
    }
    assert_eq!(fixture.refused(patient(9)), RefusalKind::Overloaded);
    fixture.run(Command::ConnectionClosed(ConnectionId(9))).unwrap();
    let _ = fixture.queued(patient(9));
    fixture.release(held);
    assert_eq!(fixture.answers().len(), 1, "one account, one lease: no herd");
    fixture.run(Command::Drain).unwrap();
    assert_eq!(fixture.answers().len(), 4095);
    assert!(fixture.answers().iter().all(|(_, result)| *result == Err(RefusalKind::ShuttingDown)));
    assert_eq!(fixture.refused(patient(9)), RefusalKind::ShuttingDown);
}

#[test]
fn a_request_leaves_the_queue_when_it_is_cancelled_or_its_connection_or_process_ends() {
    let (mut fixture, held) = busy();
    let cancelled = fixture.queued(patient(1));
    let _closed = fixture.queued(patient(2));
    let dead = fixture.queued(LeaseRequest { bind: Bind::Process(process(7)), ..patient(3) });
    let last = fixture.queued(patient(4));
    fixture.run(Command::Cancel(cancelled)).unwrap();
    fixture.run(Command::ConnectionClosed(ConnectionId(2))).unwrap();
    fixture.run(Command::ProcessEnded(process(7))).unwrap();
    assert_eq!(fixture.answers(), [(dead, Err(RefusalKind::BadRequest))]);
    fixture.release(held);
    assert_eq!(fixture.answers()[0].0, last);
    fixture.run(Command::Cancel(cancelled)).unwrap();
}

#[test]
fn a_process_is_watched_while_a_lease_or_request_is_bound_to_it() {
    let (mut fixture, held) = busy();
    let bound = |n| LeaseRequest { bind: Bind::Process(process(7)), ..patient(n) };
    let unwatched = |fixture: &Fixture| fixture.effects.contains(&Effect::Unwatch(process(7)));
    let _ = fixture.queued(bound(1));
    let second = fixture.queued(bound(2));
    fixture.release(held);
    let [(_, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    fixture.release(fence);
    assert!(!unwatched(&fixture), "the next lease of the same process was granted in the same breath");
    let [(served, Ok(fence))] = fixture.answers()[..] else { panic!("{:?}", fixture.answers()) };
    assert_eq!(served, second);
    let moved = {
        fixture.add(crate::fixture::record('b'));
        fixture.report(fence, Reason::RateLimitExceeded, None).lease.unwrap()
    };
    assert!(!unwatched(&fixture), "a lease that moves is still the process's");
    fixture.release(moved);
    assert!(unwatched(&fixture));
    let _ = fixture.hold(LeaseRequest { account: Some("b".into()), ..ask(5) });
    let waiter = fixture.queued(bound(6));
    fixture.run(Command::Cancel(waiter)).unwrap();
    assert!(unwatched(&fixture), "nor is a request queued for it any more");
}

#[test]
fn every_event_that_frees_an_account_serves_the_queue() {
    let frees: [fn(&mut Fixture); 7] = [
        |fixture| fixture.add(crate::fixture::record('z')),
        |fixture| drop(fixture.run(Command::ClearLimits(id('b')))),
        |fixture| fixture.pass(secs(100)),
        |fixture| fixture.configure(|settings| settings.leases.overflow = Overflow::Share),
        |fixture| drop(fixture.run(Command::ConnectionClosed(ConnectionId(0)))),
        |fixture| fixture.configure(|settings| settings.leases.per_account = 2),
        |fixture| drop(fixture.run(Command::RemoveAccount(id('a')))),
    ];
    for (n, free) in frees.into_iter().enumerate() {
        let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = Overflow::Wait);
        let _ = fixture.hold(LeaseRequest { account: Some("a".into()), ..ask(0) });
        fixture.block('b', secs(100));
        let waiter = fixture.queued(patient(1));
        free(&mut fixture);
        let served = fixture.answers().iter().any(|(id, result)| *id == waiter && result.is_ok());
        assert_eq!(served, n < 6, "case {n}: {:?}", fixture.answers());
    }
}

#[test]
fn an_account_is_waited_for_by_requests_that_could_use_it() {
    let mut fixture = Fixture::new("abc", |settings| settings.leases.overflow = Overflow::Wait);
    let waited_for =
        |fixture: &Fixture| "abc".chars().filter(|c| fixture.pool.is_waited_for(fixture.now, id(*c))).collect();
    for n in 0..3 {
        fixture.hold(ask(n));
    }
    let letters: String = waited_for(&fixture);
    assert_eq!(letters, "", "no request waits");
    let pinned = fixture.queued(LeaseRequest { account: Some(id('b').to_string().into()), ..patient(3) });
    let letters: String = waited_for(&fixture);
    assert_eq!(letters, "b");
    fixture.queued(LeaseRequest { exclude: vec![id('a'), id('b')], ..patient(4) });
    let letters: String = waited_for(&fixture);
    assert_eq!(letters, "bc");
    fixture.block('c', secs(30));
    fixture.run(Command::Cancel(pinned)).unwrap();
    let letters: String = waited_for(&fixture);
    assert_eq!(letters, "", "room is of no use on an account that is limited");
}

#[test]
fn a_holder_s_wait_may_end_sooner_unless_every_account_is_limited_until_a_known_time() {
    for (overflow, other_is_limited, expected) in
        [(Overflow::Wait, false, true), (Overflow::Wait, true, false), (Overflow::Fail, false, false)]
    {
        let mut fixture = Fixture::new("ab", |settings| settings.leases.overflow = overflow);
        let (one, two) = (fixture.hold(ask(0)), fixture.hold(ask(1)));
        if other_is_limited {
            fixture.block(fixture.on(two), secs(7200));
        }
        let decision = fixture.report(one, Reason::QuotaExhausted, Some(secs(3600)));
        assert_eq!((decision.action, decision.after), (Action::Wait, secs(3600)));
        assert_eq!(decision.may_end_sooner, expected, "{overflow:?} {other_is_limited}");
    }
}
