//! Terms: heartbeats, resuming, the end by their host and by silence.

use lessor::shared_pool::{SeatClaim, TermId};

use crate::harness::{LIFE, TestPool, add, hard, with_pool};

/// As if the last heartbeat had come long ago.
pub async fn silence(pool: &TestPool, term: TermId) {
    let root = pool.root().await;
    let changed = root.execute("update lessor.term set beat_at = beat_at - 3600000 where id = $1", &[&term.0]).await;
    assert_eq!(changed.unwrap(), 1);
}

#[test]
fn a_heartbeat_is_counted_for_its_own_process_only() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let term = host.begin_term(LIFE).await.unwrap();
        let first = host.beat(term, LIFE).await.unwrap().unwrap();
        let second = host.beat(term, LIFE).await.unwrap().unwrap();
        assert_eq!(second.beat, first.beat + 1);
        assert!(second.timeline >= 1 && second.db_time.0 > 1_600_000_000_000);
        assert_eq!(host.beat(term, LIFE + 1).await.unwrap(), None, "another process");
        assert_eq!(host.beat(TermId(term.0 + 99), LIFE).await.unwrap(), None, "no such term");
        let (other, _, _) = pool.join("other", false, false).await;
        assert_eq!(other.beat(term, LIFE).await.unwrap(), None, "another host");
    });
}

#[test]
fn of_two_copies_of_a_host_one_goes_on_with_the_term() {
    with_pool(hard(2), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        host.claim_seats(term, LIFE, account, 2, 2, false).await.unwrap();
        let copy = pool.first().await;
        assert_eq!(host.resume_term(term, LIFE, 7).await.unwrap(), Some(vec![(account, 2)]));
        assert_eq!(copy.resume_term(term, LIFE, 8).await.unwrap(), None);
        assert_eq!(copy.beat(term, LIFE).await.unwrap(), None);
        assert!(host.beat(term, 7).await.unwrap().is_some());
        // a term of the copy takes nothing from the other one
        let copied = copy.begin_term(8).await.unwrap();
        assert!(matches!(
            copy.claim_seats(copied, 8, account, 1, 2, false).await.unwrap(),
            SeatClaim::Full { elsewhere: 2 }
        ));
        assert!(host.beat(term, 7).await.unwrap().is_some());
    });
}

#[test]
fn a_new_term_of_the_same_process_ends_its_older_one() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let older = host.begin_term(LIFE).await.unwrap();
        host.claim_seats(older, LIFE, account, 1, 1, false).await.unwrap();
        let newer = host.begin_term(LIFE).await.unwrap();
        assert_eq!(host.beat(older, LIFE).await.unwrap(), None);
        let claim = host.claim_seats(newer, LIFE, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { seats: 1, elsewhere: 0, .. }), "{claim:?}");
    });
}

#[test]
fn a_term_is_ended_by_others_only_when_it_is_silent() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        let beat = host.beat(term, LIFE).await.unwrap().unwrap().beat;
        let (other, _, _) = pool.join("other", false, false).await;
        assert!(!other.end_silent_term(term, beat).await.unwrap(), "it has beaten just now");
        silence(pool, term).await;
        assert!(!other.end_silent_term(term, beat - 1).await.unwrap(), "an older number");
        let theirs = other.begin_term(1).await.unwrap();
        let claim = other.claim_seats(theirs, 1, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Full { elsewhere: 1 }), "silent is not ended: {claim:?}");
        assert!(other.end_silent_term(term, beat).await.unwrap());
        assert!(!other.end_silent_term(term, beat).await.unwrap(), "once");
        assert_eq!(host.beat(term, LIFE).await.unwrap(), None);
        assert_eq!(host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Over);
        let claim = other.claim_seats(theirs, 1, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { .. }), "{claim:?}");
        assert_eq!(host.give_back_seats(term, LIFE, account, 1).await.unwrap(), 0, "it is another's now");
    });
}

#[test]
fn a_handed_out_token_keeps_its_seat_beyond_the_term() {
    with_pool(hard(2), async |pool| {
        let host = pool.first().await;
        let (short, long) = (add(&host, 1).await, add(&host, 2).await);
        let term = host.begin_term(LIFE).await.unwrap();
        assert!(!host.mark_handed_out(term, LIFE, short, None).await.unwrap(), "no seat");
        host.claim_seats(term, LIFE, short, 1, 2, false).await.unwrap();
        host.claim_seats(term, LIFE, long, 1, 2, false).await.unwrap();
        let now = host.pool_info().await.unwrap().db_time;
        let in_an_hour = lessor::pool::Wall(now.0 + 3_600_000);
        assert!(host.mark_handed_out(term, LIFE, short, Some(in_an_hour)).await.unwrap());
        assert!(host.mark_handed_out(term, LIFE, long, None).await.unwrap());
        // seats that are claimed later carry the mark too
        host.claim_seats(term, LIFE, short, 1, 2, false).await.unwrap();
        host.end_term(term, LIFE).await.unwrap();
        let term = host.begin_term(LIFE).await.unwrap();
        let claim = host.claim_seats(term, LIFE, short, 1, 2, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Full { elsewhere: 2 }), "{claim:?}");
        let claim = host.claim_seats(term, LIFE, long, 2, 2, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { seats: 1, elsewhere: 1, .. }), "{claim:?}");
        // an hour later
        pool.root()
            .await
            .batch_execute(
                "update lessor.seat set handed_out_until = handed_out_until - 7200000 where handed_out_until > 0",
            )
            .await
            .unwrap();
        let claim = host.claim_seats(term, LIFE, short, 2, 2, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { seats: 2, elsewhere: 0, .. }), "{claim:?}");
    });
}

#[test]
fn giving_a_seat_back_clears_its_mark() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        assert!(host.mark_handed_out(term, LIFE, account, None).await.unwrap());
        assert_eq!(host.give_back_seats(term, LIFE, account, 5).await.unwrap(), 1);
        let claim = host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { seats: 1, .. }), "{claim:?}");
        let seats = host.seats_of_hosts().await.unwrap();
        assert_eq!((seats.len(), seats[0].host, seats[0].seats, seats[0].handed_out), (1, Some(pool.first), 1, 0));
    });
}

#[test]
fn another_database_pauses_claims() {
    with_pool(hard(1), async |pool| {
        let host = pool.first().await;
        let account = add(&host, 1).await;
        let term = host.begin_term(LIFE).await.unwrap();
        let before = host.beat(term, LIFE).await.unwrap().unwrap();
        let position = host.news(None, Some(term)).await.unwrap().position;
        let root = pool.root().await;
        // as after a failover
        root.batch_execute("update lessor.pool set timeline = timeline + 1").await.unwrap();
        let after = host.beat(term, LIFE).await.unwrap().unwrap();
        assert_eq!(after.incarnation, before.incarnation + 1);
        assert_eq!(host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Paused);
        assert!(host.pool_info().await.unwrap().paused_until.is_some());
        assert_eq!(host.beat(term, LIFE).await.unwrap().unwrap().incarnation, after.incarnation, "once");
        // everything is news
        let news = host.news(Some(position), Some(term)).await.unwrap();
        assert_eq!((news.accounts.len(), news.incarnation, news.settings_changed), (1, after.incarnation, true));
        root.batch_execute("update lessor.pool set paused_until = 0").await.unwrap();
        // a host that has read further than the database has come
        let far = lessor::shared_pool::NewsPosition(position.0 + 1_000_000);
        let news = host.news(Some(far), Some(term)).await.unwrap();
        assert!(news.full && news.accounts.len() == 1, "{news:?}");
        assert_eq!(host.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Paused);
    });
}
