use super::wants::WANT_LASTS;
use super::*;

const LINGER: Duration = Duration::from_secs(30);
const VALID: TermStanding = TermStanding { valid: true, fenced: true, connected: true };

fn seats(held: u32, ceiling: u32) -> AccountSeats {
    let mut seats = AccountSeats::new(Some(SeatLimits { capacity: 1, ceiling }), VALID);
    seats.hold(held);
    seats
}

fn leases(leases: u32) -> LeaseCounts {
    LeaseCounts { leases, subagents: 0, exclusive: false }
}

#[test]
fn a_lease_needs_a_free_seat_and_a_valid_term_or_a_claim_that_may_succeed() {
    let mut of = seats(1, 4);
    assert!(of.has_seat(LeaseKind::Shared, leases(0)) && !of.has_seat(LeaseKind::Shared, leases(1)));
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(1)), None, "another one can be claimed");
    of.set_standing(TermStanding { connected: false, ..VALID });
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(0)), None, "the seats stay valid without the database");
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(1)), Some(Ineligible::NoSeat));
    for standing in [TermStanding { valid: false, ..VALID }, TermStanding { fenced: false, ..VALID }] {
        of.set_standing(standing);
        assert_eq!(of.obstacle(LeaseKind::Shared, leases(0)), Some(Ineligible::NoSeat));
    }
}

#[test]
fn sub_agents_need_one_seat_together_and_an_exclusive_lease_all() {
    let of = seats(1, 2);
    let beside = LeaseCounts { leases: 1, subagents: 3, exclusive: false };
    assert!(of.has_seat(LeaseKind::OfSubagent, beside));
    assert!(!of.has_seat(LeaseKind::Exclusive, leases(0)) && seats(2, 2).has_seat(LeaseKind::Exclusive, leases(0)));
    assert_eq!(of.spare(LeaseCounts { leases: 0, ..beside }), 0, "the sub-agents keep it");
    assert_eq!(seats(2, 2).spare(LeaseCounts { leases: 1, subagents: 0, exclusive: true }), 0);
    assert!(!seats(0, 2).has_seat(LeaseKind::OfSubagent, leases(0)));
}

#[test]
fn a_claim_asks_for_as_many_as_wait_and_may_be_had_once_at_a_time() {
    let mut of = seats(1, 4);
    (0..9).for_each(|_| of.count_waiting(LeaseKind::Shared, true));
    of.set_elsewhere(1);
    assert_eq!(of.new_claim(leases(1), 4), Some(NewClaim { seats: 2, most: 4, whole: false }));
    assert_eq!(
        of.new_claim(leases(1), 3),
        Some(NewClaim { seats: 1, most: 3, whole: false }),
        "the host's own ceiling"
    );
    of.begin_claim(false, Mono(0));
    assert_eq!(of.new_claim(leases(1), 4), None);
    assert!(of.claimed(2, 1) && of.counts() == SeatCounts { held: 3, elsewhere: 1 });
    assert!(!of.claimed(1, 0), "no claim is under way");
    assert_eq!(of.counts().held, 3);
}

#[test]
fn an_exclusive_lease_claims_all_that_is_missing_and_without_requests_nothing_is_claimed() {
    let mut of = seats(1, 4);
    assert_eq!(of.new_claim(leases(1), 4), None);
    of.count_waiting(LeaseKind::Exclusive, true);
    assert_eq!(of.new_claim(leases(0), 2), Some(NewClaim { seats: 3, most: 4, whole: true }));
    of.count_waiting(LeaseKind::Exclusive, false);
    of.ask();
    assert_eq!(of.new_claim(leases(1), 4), Some(NewClaim { seats: 1, most: 4, whole: false }));
    assert_eq!(of.new_claim(leases(0), 4), None, "there is a free one");
}

#[test]
fn a_denied_account_is_not_claimed_again_before_others_have_fewer_seats_or_a_pause_has_passed() {
    let mut of = seats(0, 2);
    of.count_waiting(LeaseKind::Shared, true);
    of.begin_claim(false, Mono(0));
    of.denied(2, SeatDenial::Full, Mono(100));
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(0)), Some(Ineligible::Busy));
    assert_eq!((of.new_claim(leases(0), 2), of.next_change(LINGER)), (None, Some(Mono(1_100))));
    assert!(of.set_elsewhere(1) && of.new_claim(leases(0), 2).is_some());
    of.denied(1, SeatDenial::Full, Mono(200));
    assert!(!of.set_elsewhere(1) && of.new_claim(leases(0), 2).is_none());
    of.pass(leases(0), Mono(1_200), LINGER);
    assert!(of.new_claim(leases(0), 2).is_some());
    of.denied(1, SeatDenial::Refused, Mono(2_000));
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(0)), Some(Ineligible::NoSeat));
    assert!(of.set_elsewhere(0) && of.new_claim(leases(0), 2).is_none(), "this host may claim none");
}

#[test]
fn a_denied_claim_of_all_seats_keeps_no_other_request_away() {
    let mut of = seats(0, 2);
    of.count_waiting(LeaseKind::Exclusive, true);
    of.begin_claim(true, Mono(0));
    of.denied(1, SeatDenial::Full, Mono(0));
    assert_eq!(of.obstacle(LeaseKind::Exclusive, leases(0)), Some(Ineligible::Busy));
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(0)), None);
}

#[test]
fn a_claim_without_an_answer_fails_after_a_time() {
    let mut of = seats(0, 2);
    of.count_waiting(LeaseKind::Shared, true);
    of.begin_claim(false, Mono(0));
    let at = of.next_change(LINGER).unwrap();
    assert_eq!(at, Mono(0).after(CLAIM_LASTS));
    of.pass(leases(0), at, LINGER);
    assert!(!of.is_claiming() && of.obstacle(LeaseKind::Shared, leases(0)) == Some(Ineligible::NoSeat));
}

#[test]
fn seats_that_no_lease_needed_for_a_while_go_back_and_no_others() {
    let mut of = seats(3, 4);
    of.note_use(leases(1), Mono(0));
    of.note_use(leases(2), Mono(10_000));
    of.note_use(leases(0), Mono(20_000));
    assert_eq!((of.next_change(LINGER), of.pass(leases(0), Mono(29_999), LINGER)), (Some(Mono(30_000)), 0));
    assert_eq!((of.pass(leases(0), Mono(30_000), LINGER), of.counts().held), (1, 2), "two were in use meanwhile");
    assert_eq!((of.pass(leases(0), Mono(60_000), LINGER), of.counts().held), (2, 0));
    assert_eq!(of.next_change(LINGER), None);
}

#[test]
fn a_seat_whose_return_was_lost_goes_back_with_the_spare_seats_of_the_new_term() {
    let mut of = seats(2, 4);
    of.note_use(leases(0), Mono(0));
    of.hold(3);
    of.note_use(leases(0), Mono(20_000));
    assert_eq!((of.pass(leases(0), Mono(30_000), LINGER), of.counts().held), (3, 0));
    of.hold(2);
    of.note_use(leases(1), Mono(31_000));
    assert_eq!(of.pass(leases(1), Mono(31_000), LINGER), 1, "it was to go back a moment ago");
    // one whose claim was not answered may be needed
    of.hold(1);
    of.note_use(leases(1), Mono(40_000));
    of.hold(2);
    of.note_use(leases(1), Mono(50_000));
    assert_eq!(of.next_change(LINGER), Some(Mono(80_000)));
}

#[test]
fn a_wanted_seat_goes_back_when_it_is_free_and_is_not_claimed_again_at_once() {
    let mut of = seats(2, 2);
    of.set_wanted(true, Mono(0));
    assert_eq!(of.take_unneeded(leases(2), Mono(1)), 0, "both are in use");
    assert_eq!((of.take_unneeded(leases(1), Mono(2)), of.counts().held), (1, 1));
    assert_eq!(of.obstacle(LeaseKind::Shared, leases(1)), Some(Ineligible::Busy));
    assert_eq!(of.take_unneeded(leases(0), Mono(3)), 0, "one want is served once");
    of.set_wanted(true, Mono(0));
    of.pass(leases(1), Mono(0).after(WANT_LASTS), LINGER);
    assert_eq!(of.take_unneeded(leases(0), Mono(20_000)), 0, "the other host waits no more");
}

#[test]
fn a_seat_that_is_claimed_for_a_request_here_does_not_go_to_a_host_that_waited_before() {
    let mut of = seats(0, 2);
    of.set_wanted(true, Mono(0));
    of.count_waiting(LeaseKind::Shared, true);
    of.begin_claim(false, Mono(1));
    assert!(of.claimed(1, 0) && of.take_unneeded(leases(0), Mono(2)) == 0, "it was wanted before this host held one");
    of.set_wanted(true, Mono(3));
    of.begin_claim(false, Mono(4));
    assert!(of.claimed(1, 0) && of.take_unneeded(leases(1), Mono(5)) == 0, "the other host could have had this one");
    of.set_wanted(true, Mono(6));
    assert_eq!(of.take_unneeded(leases(1), Mono(7)), 1, "it says so again");
}

#[test]
fn after_an_exclusive_lease_one_seat_stays_for_a_while() {
    let mut of = seats(4, 4);
    of.note_surplus();
    assert_eq!((of.take_unneeded(leases(0), Mono(0)), of.counts().held), (3, 1));
}

#[test]
fn others_hold_no_seat_that_this_host_holds() {
    let mut of = seats(3, 4);
    of.set_elsewhere(4);
    assert_eq!(of.counts(), SeatCounts { held: 3, elsewhere: 1 });
    of.note_use(leases(3), Mono(0));
    assert_eq!(of.check(leases(3), false), Ok(()));
    assert!(of.check(leases(4), false).is_err() && of.check(leases(4), true).is_ok());
}
