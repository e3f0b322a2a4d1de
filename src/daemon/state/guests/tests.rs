use std::time::Duration;

use super::*;
use crate::daemon::api::reply::tests::{TestDaemon, key};
use crate::daemon::os::clock;
use crate::pool::{Bind, Command, LeaseRequest, Mono, Wall};

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(ms) }
}

fn greeting(link: &str) -> GuestGreeting {
    GuestGreeting {
        link: link.to_owned(),
        name: "me@build: x\n".to_owned(),
        grace_ms: 5000,
        ..GuestGreeting::default()
    }
}

const LINK: &str = "0123456789abcdef";

fn holder(number: u32) -> GuestHolder {
    GuestHolder { number, pid: 4711, program: Some("claude".to_owned()) }
}

#[test]
fn a_holder_is_known_while_its_guest_vouches_for_it_and_never_again() {
    let mut guests = Guests::default();
    let id = guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    assert_eq!(guests.holder(id, Some(7)), Err(GuestRefusal::NoHolder));
    assert_eq!(guests.holder(id, None), Err(GuestRefusal::NoHolder));
    guests.holder_begins(id, &holder(7)).unwrap();
    let known = guests.holder(id, Some(7)).unwrap();
    assert_eq!(known.program.as_deref(), Some("me@build x\\n: claude"), "the name cannot forge another's");
    assert_eq!(known.process, Some(Process::of_guest(id, 7, 4711)));
    assert_eq!(guests.holder_ends(id, 7), known.process);
    // what a connection sent before arrives after the end
    guests.holder_begins(id, &holder(7)).unwrap();
    assert_eq!(guests.holder(id, Some(7)), Err(GuestRefusal::NoHolder));
}

#[test]
fn a_guest_that_is_gone_has_its_grace_and_comes_back_as_the_same() {
    let mut guests = Guests::default();
    let id = guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    assert_eq!(guests.client_begins(&greeting(LINK)), Ok(id));
    guests.holder_begins(id, &holder(7)).unwrap();
    assert_eq!(guests.connection_ended(ConnectionId(2), at(2)), None);
    assert_eq!(guests.connection_ended(ConnectionId(1), at(3)), Some((id, at(3), Duration::from_secs(5))));
    assert_eq!(guests.client_begins(&greeting(LINK)), Err(GuestRefusal::NoLink));
    assert_eq!(guests.link_begins(ConnectionId(4), &greeting(LINK), at(4)), Ok(id));
    assert!(guests.holder(id, Some(7)).is_ok());
    // its older link ends later, and is not its link any more
    assert_eq!(guests.connection_ended(ConnectionId(1), at(5)), None);
}

#[test]
fn a_guest_without_holders_has_nothing_that_waits() {
    let mut guests = Guests::default();
    let id = guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    assert_eq!(guests.connection_ended(ConnectionId(1), at(3)), Some((id, at(3), Duration::ZERO)));
}

#[test]
fn ids_are_random_numbers_and_those_of_others_are_refused() {
    let mut guests = Guests::default();
    for invalid in ["", "0123", "0123456789abcdeg", "+123456789abcdef", "0123456789abcdef0"] {
        let refused = guests.link_begins(ConnectionId(1), &greeting(invalid), at(1));
        assert_eq!(refused, Err(GuestRefusal::InvalidLink), "{invalid}");
    }
    guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    // the same lowest 30 bits
    let other = "1123456789abcdef";
    assert_eq!(guests.link_begins(ConnectionId(2), &greeting(other), at(1)), Err(GuestRefusal::Taken));
    assert_eq!(guests.client_begins(&greeting(other)), Err(GuestRefusal::NoLink));
}

#[test]
fn the_number_of_holders_is_bounded() {
    let mut guests = Guests::default();
    let id = guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    for number in 0..MOST_HOLDERS as u32 {
        guests.holder_begins(id, &holder(number)).unwrap();
    }
    assert_eq!(guests.holder_begins(id, &holder(u32::MAX)), Err(GuestRefusal::TooMany));
}

#[test]
fn a_name_that_a_guest_states_is_none_that_the_host_gives() {
    let mut guests = Guests::default();
    let stated = GuestGreeting { name: "box".to_owned(), ..greeting(LINK) };
    let id = guests.link_begins(ConnectionId(1), &stated, at(1)).unwrap();
    assert_eq!(&*guests.name(id), "@box", "a share may be called box");
    let given = GuestGreeting { policy: Some("build".to_owned()), ..greeting(LINK) };
    let id = guests.link_begins(ConnectionId(2), &given, at(2)).unwrap();
    assert_eq!(&*guests.name(id), "build");
}

#[test]
fn links_with_a_name_of_the_host_are_bounded() {
    let mut guests = Guests::default();
    let named = |number: usize, name: &str| GuestGreeting {
        policy: Some(name.to_owned()),
        ..greeting(&format!("{number:016x}"))
    };
    for number in 0..MOST_OF_ONE_NAME {
        guests.link_begins(ConnectionId(number as u64), &named(number, "build"), at(1)).unwrap();
    }
    let more = guests.link_begins(ConnectionId(99), &named(99, "build"), at(1));
    assert_eq!(more, Err(GuestRefusal::TooMany));
    guests.link_begins(ConnectionId(99), &named(99, "other"), at(1)).unwrap();
    guests.link_begins(ConnectionId(100), &named(0, "build"), at(1)).unwrap();
}

#[cfg(unix)]
#[test]
fn no_random_number_of_a_guest_is_the_id_of_a_share() {
    let share = share_id("box");
    let mut guests = Guests::default();
    let same_bits = format!("{:016x}", share.bits());
    let id = guests.link_begins(ConnectionId(1), &greeting(&same_bits), at(1)).unwrap();
    assert_ne!(id, share);
    assert_eq!(guests.share_begins("box", GuestPolicy::default(), at(1)), Ok(share));
}

fn request(process: Process) -> Command {
    let holder = Holder { process: Some(process), ..Holder::default() };
    let request = LeaseRequest::new("p", "claude", ConnectionId(1));
    Command::Acquire(Box::new(LeaseRequest { bind: Bind::Process(process), holder, ..request }))
}

#[tokio::test]
async fn a_holder_that_is_stated_again_stays_the_process_that_it_was() {
    let test = TestDaemon::new(&[]);
    let daemon = &test.daemon;
    let id = daemon.state().guests.link_begins(ConnectionId(1), &greeting(LINK), at(1)).unwrap();
    let known = || daemon.state().guests.holder(id, Some(7)).unwrap();
    daemon.guest_holders(id, &[holder(7)], (&[], false)).unwrap();
    let first = known();
    for pid in 0..1000 {
        let other = GuestHolder { pid, program: Some(format!("p{pid}")), ..holder(7) };
        daemon.guest_holders(id, &[other], (&[], false)).unwrap();
    }
    assert_eq!(known().process, first.process);
    assert_eq!(daemon.guest_names.len(), 1, "nothing is kept of the others");
    daemon.guest_holders(id, &[], (&[7, 7, 7], false)).unwrap();
    assert_eq!(daemon.guest_names.len(), 0);
    let many = vec![1; MOST_HOLDERS + 1];
    assert_eq!(daemon.guest_holders(id, &[], (&many, false)), Err(GuestRefusal::TooMany));
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn after_a_restart_leases_of_a_share_end_whose_holders_it_does_not_name() {
    let test = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    let daemon = &test.daemon;
    let share = share_id("box");
    {
        let state = &mut *daemon.state();
        for number in [7, 8] {
            state.apply_internal(clock::now(), request(Process::of_guest(share, number, 4711)));
        }
        assert_eq!(state.pool.leases_of_guest(share), 2);
    }
    daemon.await_restored_guests();
    daemon.state().guests.share_begins("box", GuestPolicy::default(), clock::now()).unwrap();
    daemon.guest_holders(share, &[holder(8)], (&[], false)).unwrap();
    tokio::time::sleep(RESTORED_GRACE + Duration::from_secs(1)).await;
    let state = daemon.state();
    let left: Vec<u32> = state.pool.leases().filter_map(|lease| Some(lease.bind.process()?.guest_number())).collect();
    assert_eq!(left, [8]);
}

#[tokio::test]
async fn what_a_guest_may_use_follows_the_names_of_accounts() {
    let test = TestDaemon::new(&[(1, key("a")), (2, key("b"))]);
    let daemon = &test.daemon;
    let state = &mut *daemon.state();
    let now = clock::now();
    let ids: Vec<_> = state.pool.accounts().iter().map(|account| account.record.id).collect();
    let rename = |id, name: &str| {
        let change = crate::pool::AccountChange { label: Some(name.to_owned()), ..Default::default() };
        Command::ChangeAccount(id, Box::new(change))
    };
    state.apply_internal(now, rename(ids[0], "work"));
    let only = GuestGreeting { only: Some(vec!["work".to_owned(), "typo".to_owned()]), ..greeting(LINK) };
    let id = state.guests.link_begins(ConnectionId(1), &only, now).unwrap();
    state.limit_guest(id, now);
    state.apply_internal(now, request(Process::of_guest(id, 1, 1)));
    let on = |state: &crate::daemon::state::State| state.pool.leases().map(|lease| lease.account).collect::<Vec<_>>();
    assert_eq!(on(state), [ids[0]]);
    state.apply_internal(now, rename(ids[0], "private"));
    assert_eq!(on(state), [], "no account of that name is left");
    state.apply_internal(now, rename(ids[1], "work"));
    state.apply_internal(now, request(Process::of_guest(id, 1, 1)));
    assert_eq!(on(state), [ids[1]]);
}

#[tokio::test]
async fn guests_leave_half_of_all_connections_to_this_machine() {
    use crate::daemon::api::session_guest::SessionGuest;
    let test = TestDaemon::new(&[]);
    let half = test.daemon.run.most_connections / 2;
    let link = |number: u64| {
        let greeting = GuestGreeting { role: crate::protocol::GuestRole::Link, ..greeting(LINK) };
        SessionGuest::greeted(&test.daemon, ConnectionId(number), greeting)
    };
    let mut open: Vec<SessionGuest> = (0..half as u64).map(|number| link(number).unwrap()).collect();
    let refused = link(9999).unwrap_err();
    assert_eq!(refused.data.kind, crate::protocol::ErrorKind::Overloaded);
    open.pop();
    link(10000).unwrap();
}
