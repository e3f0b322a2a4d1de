use super::*;
use crate::pool::{Mono, Wall};

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
