//! Claims: how many, by which roof, all or none.

use lessor::pool::{Fence, Overflow};
use lessor::shared_pool::{SeatClaim, SharedPoolSettings};

use crate::harness::{LIFE, add, hard, id, record, with_pool};

/// `(claimed, elsewhere)`, or `None` when it was full.
fn taken(claim: SeatClaim) -> Option<(u32, u32)> {
    match claim {
        SeatClaim::Claimed { seats, elsewhere, .. } => Some((seats, elsewhere)),
        SeatClaim::Full { .. } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn claims_keep_to_the_roof_and_to_all_or_none() {
    let settings = SharedPoolSettings { per_account: 2, max_per_account: 4, ..SharedPoolSettings::default() };
    assert_eq!(settings.overflow, Overflow::Share);
    with_pool(settings, async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        // (by a, seats, most, whole, expected)
        let rows = [
            (true, 2, 2, false, Some((2, 0))),
            // two are taken: the roof of two is reached
            (false, 1, 2, false, None),
            (false, 2, 3, false, Some((1, 2))),
            (false, 3, 4, true, None),
            (false, 1, 4, true, Some((1, 2))),
            (true, 1, 100, false, None),
            (true, 0, 4, false, None),
        ];
        for (at, (by_a, seats, most, whole, expected)) in rows.into_iter().enumerate() {
            let (host, term, life) = if by_a { (&a, ta, 1) } else { (&b, tb, 2) };
            assert_eq!(
                taken(host.claim_seats(term, life, account, seats, most, whole).await.unwrap()),
                expected,
                "row {at}"
            );
        }
        // b holds the seats 3 and 4, a gives back one of 1 and 2: the roof of three is reached by those above
        assert_eq!(a.give_back_seats(ta, 1, account, 1).await.unwrap(), 1);
        assert_eq!(taken(a.claim_seats(ta, 1, account, 1, 3, false).await.unwrap()), None);
        assert_eq!(taken(a.claim_seats(ta, 1, account, 1, 4, false).await.unwrap()), Some((1, 2)));
    });
}

#[test]
fn a_lowered_ceiling_takes_no_seat_and_gives_none() {
    with_pool(hard(3), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let term = a.begin_term(LIFE).await.unwrap();
        assert_eq!(taken(a.claim_seats(term, LIFE, account, 3, 3, false).await.unwrap()), Some((3, 0)));
        let mut lower = record(1);
        lower.max_leases = Some(2);
        a.save_account(&lower).await.unwrap();
        let news = a.news(None, Some(term)).await.unwrap();
        assert_eq!((news.accounts[0].capacity, news.accounts[0].ceiling), (2, 2));
        // two of three left: full
        assert_eq!(a.give_back_seats(term, LIFE, account, 1).await.unwrap(), 1);
        assert_eq!(taken(a.claim_seats(term, LIFE, account, 1, 3, false).await.unwrap()), None);
        assert_eq!(a.give_back_seats(term, LIFE, account, 1).await.unwrap(), 1);
        assert_eq!(taken(a.claim_seats(term, LIFE, account, 3, 3, false).await.unwrap()), Some((1, 0)));
        // raised again: the rows are there
        a.set_settings(&hard(5)).await.unwrap();
        lower.max_leases = None;
        a.save_account(&lower).await.unwrap();
        assert_eq!(taken(a.claim_seats(term, LIFE, account, 9, 9, false).await.unwrap()), Some((3, 0)));
    });
}

#[test]
fn fences_rise_over_all_hosts() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        let mut highest = Fence(0);
        for _ in 0..3 {
            for (host, term, life) in [(&a, ta, 1), (&b, tb, 2)] {
                let claim = host.claim_seats(term, life, account, 1, 1, false).await.unwrap();
                let SeatClaim::Claimed { fences, .. } = claim else { panic!("{claim:?}") };
                assert!(fences.from > highest && fences.to.0 == fences.from.0 + 4095, "{fences:?}");
                let block = host.claim_fences().await.unwrap();
                assert!(block.from > fences.to);
                highest = block.to;
                host.give_back_seats(term, life, account, 1).await.unwrap();
            }
        }
        a.raise_fences(Fence(1_000_000)).await.unwrap();
        assert_eq!(b.claim_fences().await.unwrap().from, Fence(1_000_001));
        // lower ones change nothing
        a.raise_fences(Fence(1_004_096)).await.unwrap();
        assert_eq!(b.claim_fences().await.unwrap().from, Fence(1_004_097));
    });
}

#[test]
fn a_host_that_finds_no_seat_is_known_to_those_that_hold_one() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let (account, unheld) = (add(&a, 1).await, add(&a, 2).await);
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        assert_eq!(taken(a.claim_seats(ta, 1, account, 1, 1, false).await.unwrap()), Some((1, 0)));
        let position = pool.settled(&a).await;
        for account in [account, unheld] {
            // more than there are, all or none
            assert_eq!(taken(b.claim_seats(tb, 2, account, 2, 2, true).await.unwrap()), None);
        }
        assert_eq!(a.news(Some(position), Some(ta)).await.unwrap().wanted, [account]);
        assert_eq!(b.news(Some(position), Some(tb)).await.unwrap().wanted, [], "its own wants");
        a.give_back_seats(ta, 1, account, 1).await.unwrap();
        let news = b.news(Some(position), Some(tb)).await.unwrap();
        assert_eq!(news.elsewhere, [(account, 0)]);
        assert_eq!(taken(b.claim_seats(tb, 2, account, 1, 1, false).await.unwrap()), Some((1, 0)));
        assert_eq!(a.news(Some(position), Some(ta)).await.unwrap().wanted, []);
        // the wants of a term end with it
        a.claim_seats(ta, 1, account, 1, 1, false).await.unwrap();
        assert_eq!(b.news(Some(position), Some(tb)).await.unwrap().wanted, [account]);
        a.end_term(ta, 1).await.unwrap();
        assert_eq!(b.news(Some(position), Some(tb)).await.unwrap().wanted, []);
        assert_eq!(b.claim_seats(tb, 2, id(99), 1, 1, false).await.unwrap(), SeatClaim::Gone);
    });
}

#[test]
fn seats_that_a_raised_ceiling_adds_are_kept_for_a_host_that_held_all() {
    with_pool(hard(2), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let (whole, half) = (add(&a, 1).await, add(&a, 2).await);
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        let by_b = async |account| taken(b.claim_seats(tb, 2, account, 1, 4, false).await.unwrap());
        let kept = async || -> Vec<_> {
            let accounts = a.news(None, Some(ta)).await.unwrap().accounts;
            accounts.iter().filter(|one| one.has_kept_seats).map(|one| one.record.id).collect()
        };
        // an exclusive lease on one of them
        assert_eq!(taken(a.claim_seats(ta, 1, whole, 2, 2, true).await.unwrap()), Some((2, 0)));
        assert_eq!(taken(a.claim_seats(ta, 1, half, 1, 2, false).await.unwrap()), Some((1, 0)));
        a.set_settings(&hard(3)).await.unwrap();
        assert_eq!((by_b(whole).await, by_b(half).await), (None, Some((1, 1))));
        assert_eq!(kept().await, [whole]);
        assert!(b.news(None, Some(tb)).await.unwrap().accounts.iter().all(|one| !one.has_kept_seats));
        // it claims the seat that its exclusive lease lacks
        assert_eq!(taken(a.claim_seats(ta, 1, whole, 1, 3, true).await.unwrap()), Some((1, 0)));
        assert_eq!(kept().await, []);
        // or it has none
        a.set_settings(&hard(4)).await.unwrap();
        assert_eq!((by_b(whole).await, kept().await), (None, vec![whole]));
        b.release_kept_seats(tb, 2, whole).await.unwrap();
        assert_eq!(kept().await, [whole], "another host has no say");
        a.release_kept_seats(ta, 1, whole).await.unwrap();
        assert_eq!((by_b(whole).await, kept().await), (Some((1, 3)), vec![]));
        // a return, and the end of the term, free them too
        assert_eq!(b.give_back_seats(tb, 2, whole, 1).await.unwrap(), 1);
        assert_eq!(taken(a.claim_seats(ta, 1, whole, 1, 4, true).await.unwrap()), Some((1, 0)));
        a.set_settings(&hard(5)).await.unwrap();
        assert_eq!(a.give_back_seats(ta, 1, whole, 1).await.unwrap(), 1);
        assert_eq!(kept().await, []);
        assert_eq!(taken(a.claim_seats(ta, 1, whole, 2, 5, true).await.unwrap()), Some((2, 0)));
        a.set_settings(&hard(6)).await.unwrap();
        assert_eq!(by_b(whole).await, None);
        a.end_term(ta, 1).await.unwrap();
        assert_eq!(by_b(whole).await, Some((1, 0)));
    });
}
