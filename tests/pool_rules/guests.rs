//! Guests: the accounts that one may use and the leases that it may have, whatever it does and however that changes.

use std::time::Duration;

use lessor::pool::{
    AccountId, AccountSet, Action, Bind, Command, ConnectionId, Effect, Ending, Fence, GuestId, GuestLimits, Holder,
    LeaseRequest, Overflow, Process, RefusalKind, Reply, Ticket,
};

use crate::fixture::{Fixture, ask, id, secs};

fn guest(number: u64) -> GuestId {
    GuestId::from_bits(number)
}

/// A request of a holder of a guest.
fn of(of: GuestId, number: u32) -> LeaseRequest {
    let process = Process::of_guest(of, number, 4711);
    let holder = Holder { process: Some(process), ..Holder::default() };
    LeaseRequest { bind: Bind::Process(process), holder, ..ask(u64::from(number)) }
}

fn only(letters: &str) -> GuestLimits {
    let mut ids: Vec<AccountId> = letters.chars().map(id).collect();
    ids.sort_unstable();
    GuestLimits { only: Some(ids.into()), ..GuestLimits::default() }
}

fn most(leases: u32) -> GuestLimits {
    GuestLimits { most_leases: Some(leases), ..GuestLimits::default() }
}

/// Accounts with one lease each.
fn fixture(letters: &str) -> Fixture {
    Fixture::new(letters, |settings| {
        (settings.leases.per_account, settings.leases.overflow) = (1, Overflow::Wait);
    })
}

fn limit(fixture: &mut Fixture, guest: GuestId, limits: GuestLimits) {
    fixture.run(Command::LimitGuest(guest, Box::new(limits))).unwrap();
}

/// The leases that the last command has ended, and why.
fn ended(fixture: &Fixture) -> Vec<(Fence, Ending)> {
    let end = |effect: &Effect| match effect {
        Effect::Ended(lease, why) => Some((lease.fence, *why)),
        _ => None,
    };
    fixture.effects.iter().filter_map(end).collect()
}

fn resume(fixture: &mut Fixture, ticket: Ticket, of: LeaseRequest) -> Result<Reply, RefusalKind> {
    let command = Command::Resume { ticket: Box::new(ticket), connection: ConnectionId(99), holder: of.holder };
    fixture.run(command).map_err(|refusal| refusal.kind)
}

#[test]
fn a_guest_gets_its_accounts_only_and_no_more_leases_than_it_may_have() {
    let mut fixture = fixture("abcd");
    let (one, other) = (guest(1), guest(2));
    limit(&mut fixture, one, GuestLimits { most_leases: Some(2), ..only("abc") });
    for number in 0..2 {
        assert!("abc".contains(fixture.take(of(one, number))));
    }
    assert_eq!(fixture.refused(of(one, 2)), RefusalKind::NoCapacity);
    assert_eq!(fixture.refused(LeaseRequest { wait: None, ..of(one, 2) }), RefusalKind::NoCapacity, "it may not wait");
    assert_eq!(fixture.refused(LeaseRequest { account: Some("d".into()), ..of(one, 2) }), RefusalKind::NoCapacity);
    // neither another guest nor this machine is bounded by that
    let further: Vec<char> = vec![fixture.take(of(other, 1)), fixture.take(ask(5))];
    assert!(further.contains(&'d'), "{further:?}");
}

#[test]
fn a_guest_that_names_another_account_learns_nothing_of_it() {
    let mut fixture = fixture("ab");
    limit(&mut fixture, guest(1), only("a"));
    let refusal = fixture.acquire(LeaseRequest { account: Some("b".into()), ..of(guest(1), 1) }).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotAllowed);
    assert!(refusal.accounts.is_empty() && !refusal.message.contains("account b"), "{refusal:?}");
}

#[test]
fn leases_on_accounts_that_a_guest_may_not_use_any_more_end() {
    let mut fixture = fixture("abc");
    let leases: Vec<(Fence, char)> = (0..3)
        .map(|number| {
            let fence = fixture.hold(of(guest(1), number));
            (fence, fixture.on(fence))
        })
        .collect();
    limit(&mut fixture, guest(1), only("a"));
    let expected: Vec<(Fence, Ending)> =
        leases.iter().filter(|(_, on)| *on != 'a').map(|(fence, _)| (*fence, Ending::Revoked)).collect();
    assert_eq!(ended(&fixture), expected);
    limit(&mut fixture, guest(1), only("a"));
    assert_eq!(ended(&fixture), [], "nothing has changed");
}

#[test]
fn of_too_many_leases_the_newest_end_after_the_requests_that_wait() {
    let mut fixture = fixture("abc");
    let held: Vec<Fence> = (0..3).map(|number| fixture.hold(of(guest(1), number))).collect();
    let waiting = fixture.queued(LeaseRequest { wait: None, ..of(guest(1), 3) });
    limit(&mut fixture, guest(1), most(3));
    assert_eq!((fixture.answers(), ended(&fixture)), (vec![(waiting, Err(RefusalKind::NoCapacity))], vec![]));
    limit(&mut fixture, guest(1), most(1));
    assert_eq!(ended(&fixture), [(held[2], Ending::Revoked), (held[1], Ending::Revoked)]);
    assert_eq!(fixture.refused(of(guest(1), 4)), RefusalKind::NoCapacity);
    fixture.release(held[0]);
    fixture.hold(of(guest(1), 4));
}

#[test]
fn a_request_that_waits_gets_only_what_its_guest_may_use_when_it_is_served() {
    let mut fixture = fixture("ab");
    let (one, two) = (fixture.hold(ask(1)), fixture.hold(ask(2)));
    let waiting = fixture.queued(LeaseRequest { wait: None, ..of(guest(1), 1) });
    let allowed = fixture.on(two);
    limit(&mut fixture, guest(1), only(&allowed.to_string()));
    fixture.release(one);
    assert_eq!(fixture.answers(), [], "that account is not for it");
    fixture.release(two);
    assert!(matches!(fixture.answers()[..], [(waiter, Ok(_))] if waiter == waiting), "{:?}", fixture.answers());
}

#[test]
fn a_lease_moves_within_what_its_guest_may_use_at_the_time() {
    let mut fixture = fixture("abc");
    limit(&mut fixture, guest(1), only("a"));
    let held = fixture.hold(of(guest(1), 1));
    let listed = LeaseRequest { set: AccountSet { only: only("a").only, directory: None }, ..of(guest(2), 1) };
    fixture.block('a', secs(600));
    let refused = fixture.report(held, lessor::limits::Reason::QuotaExhausted, Some(secs(600)));
    assert_ne!(refused.action, Action::Switch, "there is no other account for it: {refused:?}");
    limit(&mut fixture, guest(1), only("ab"));
    let moved = fixture.report(held, lessor::limits::Reason::QuotaExhausted, Some(secs(600)));
    assert_eq!(moved.action, Action::Switch, "{moved:?}");
    assert_eq!(fixture.on(moved.lease.unwrap()), 'b');
    // what a request listed itself is not widened
    limit(&mut fixture, guest(2), only("ac"));
    fixture.run(Command::ClearLimits(id('a'))).unwrap();
    let own = fixture.hold(listed);
    limit(&mut fixture, guest(2), only("abc"));
    assert_eq!(fixture.pool.lease(own).unwrap().set().only, only("a").only);
}

#[test]
fn guests_of_one_name_have_their_leases_together() {
    let mut fixture = fixture("abcd");
    let build = |most: u32| GuestLimits {
        most_leases: Some(most),
        group: Some("build".into()),
        name: "build".into(),
        ..GuestLimits::default()
    };
    for number in [1, 2] {
        limit(&mut fixture, guest(number), build(2));
    }
    let first = fixture.hold(of(guest(1), 1));
    let second = fixture.hold(of(guest(2), 1));
    for number in [1, 2] {
        assert_eq!(fixture.refused(of(guest(number), 9)), RefusalKind::NoCapacity, "by another link");
    }
    assert_eq!(fixture.pool.leases_of_guest(guest(1)), 2);
    limit(&mut fixture, guest(1), build(1));
    assert_eq!(ended(&fixture), [(second, Ending::Revoked)]);
    limit(&mut fixture, guest(2), build(1));
    fixture.release(first);
    fixture.hold(of(guest(2), 2));
}

#[test]
fn what_requests_with_the_key_of_a_guests_lease_take_counts_too() {
    let mut fixture = fixture("abc");
    limit(&mut fixture, guest(1), most(1));
    fixture.hold(of(guest(1), 1));
    // it ends with a request, and its holder is that of the lease
    let one_request = LeaseRequest { bind: Bind::Connection(ConnectionId(7)), ..of(guest(1), 1) };
    assert!(!fixture.pool.would_grant(fixture.now, &one_request));
    assert_eq!(fixture.refused(one_request), RefusalKind::NoCapacity);
}

#[test]
fn a_guest_resumes_neither_what_is_not_a_guests_nor_more_than_it_may_have() {
    let mut fixture = fixture("abc");
    let own = fixture.hold(ask(1));
    let ticket = fixture.ticket(own);
    assert_eq!(resume(&mut fixture, ticket, of(guest(1), 1)), Err(RefusalKind::StaleLease));
    fixture.release(own);
    // the guest's daemon has been restarted: it is a new guest, with the tickets of the old one
    let leases: Vec<Fence> = (1..3).map(|number| fixture.hold(of(guest(1), number))).collect();
    limit(&mut fixture, guest(2), most(1));
    let tickets: Vec<Ticket> = leases.iter().map(|fence| fixture.ticket(*fence)).collect();
    assert_eq!(resume(&mut fixture, tickets[0].clone(), of(guest(2), 1)), Ok(Reply::Held(leases[0])));
    assert_eq!(resume(&mut fixture, tickets[0].clone(), of(guest(2), 2)), Ok(Reply::Held(leases[0])), "it has it");
    assert_eq!(resume(&mut fixture, tickets[1].clone(), of(guest(2), 1)), Err(RefusalKind::NoCapacity));
    let on = fixture.on(leases[1]);
    let others: String = "abc".chars().filter(|letter| *letter != on).collect();
    limit(&mut fixture, guest(3), only(&others));
    assert_eq!(resume(&mut fixture, tickets[1].clone(), of(guest(3), 1)), Err(RefusalKind::StaleLease));
}

#[test]
fn a_request_id_is_that_of_its_guest_alone() {
    let mut fixture = fixture("abc");
    let with = |ask: LeaseRequest| LeaseRequest { request_id: Some("r".into()), ..ask };
    let own = fixture.hold(with(ask(1)));
    let first = fixture.hold(with(of(guest(1), 1)));
    let second = fixture.hold(with(of(guest(2), 1)));
    assert!(own != first && first != second, "{own:?} {first:?} {second:?}");
    assert_eq!(fixture.hold(with(of(guest(1), 1))), first, "the same request again");
    fixture.restart(false);
    fixture.pass(Duration::from_millis(1));
    assert_eq!(fixture.hold(with(of(guest(1), 1))), first, "also after a restart");
}
