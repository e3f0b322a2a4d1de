//! Seats that go back, and wants: which of them notify, which wait for the disk, and that neither misses the other.

use std::time::Duration;

use lessor::shared_pool::{PoolClient, PoolNotice, PoolNoticeKind, PoolNotices, SeatClaim};

use crate::harness::{TestPool, add, hard, id, with_pool};

/// The number that the database has for the only account.
async fn number(pool: &TestPool) -> i64 {
    pool.root().await.query_one("select id from lessor.account", &[]).await.unwrap().get(0)
}

/// All notices that were sent before this call.
async fn notices(pool: &TestPool, listening: &mut PoolNotices) -> Vec<PoolNotice> {
    pool.root().await.batch_execute("notify lessor, 'p'").await.unwrap();
    let mut found = Vec::new();
    loop {
        let notice = listening.next().await.unwrap();
        if notice.kind == PoolNoticeKind::Pool {
            return found;
        }
        found.push(notice);
    }
}

fn is_claimed(claim: SeatClaim) -> bool {
    matches!(claim, SeatClaim::Claimed { .. })
}

#[test]
fn a_return_notifies_only_if_another_host_waits() {
    with_pool(hard(2), async |pool| {
        let (a, mut listening) = PoolClient::connect(&pool.address_of(&pool.first_user)).await.unwrap();
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        let give_back = async || assert_eq!(b.give_back_seats(tb, 2, account, 1).await.unwrap(), 1);
        assert!(is_claimed(b.claim_seats(tb, 2, account, 2, 2, false).await.unwrap()));
        notices(pool, &mut listening).await;
        give_back().await;
        assert_eq!(notices(pool, &mut listening).await, [], "no host waits");
        assert!(is_claimed(b.claim_seats(tb, 2, account, 1, 2, false).await.unwrap()));
        assert!(!is_claimed(a.claim_seats(ta, 1, account, 1, 2, false).await.unwrap()));
        give_back().await;
        let kinds: Vec<_> = notices(pool, &mut listening).await.iter().map(|notice| notice.kind).collect();
        assert_eq!(kinds, [PoolNoticeKind::Wanted, PoolNoticeKind::Freed]);
        // the request that waited is gone
        a.withdraw_want(ta, 1, account).await.unwrap();
        assert_eq!(b.news(None, Some(tb)).await.unwrap().wanted, []);
        give_back().await;
        assert_eq!(notices(pool, &mut listening).await, [], "no host waits any more");
    });
}

#[test]
fn a_want_notifies_only_if_another_host_can_give_a_seat_back() {
    with_pool(hard(1), async |pool| {
        let (a, mut listening) = PoolClient::connect(&pool.address_of(&pool.first_user)).await.unwrap();
        let account = add(&a, 1).await;
        let term = a.begin_term(1).await.unwrap();
        assert!(is_claimed(a.claim_seats(term, 1, account, 1, 1, false).await.unwrap()));
        notices(pool, &mut listening).await;
        // all seats are its own: an exclusive lease needs more than there are
        assert!(!is_claimed(a.claim_seats(term, 1, account, 1, 1, true).await.unwrap()));
        assert_eq!(notices(pool, &mut listening).await, []);
    });
}

#[test]
fn a_want_is_withdrawn_only_by_the_connection_that_has_the_term() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        assert!(is_claimed(a.claim_seats(ta, 1, account, 1, 1, false).await.unwrap()));
        assert!(!is_claimed(b.claim_seats(tb, 2, account, 1, 1, false).await.unwrap()));
        // by another host, by an earlier connection, of another account
        a.withdraw_want(tb, 2, account).await.unwrap();
        b.withdraw_want(tb, 3, account).await.unwrap();
        b.withdraw_want(tb, 2, id(9)).await.unwrap();
        assert_eq!(a.news(None, Some(ta)).await.unwrap().wanted, [account]);
        b.withdraw_want(tb, 2, account).await.unwrap();
        assert_eq!(a.news(None, Some(ta)).await.unwrap().wanted, []);
    });
}

#[test]
fn a_claim_waits_for_a_return_that_is_under_way() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, user, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        assert!(is_claimed(b.claim_seats(tb, 2, account, 1, 1, false).await.unwrap()));
        let raw = pool.raw(&user).await;
        let give_back = format!("begin; select lessor.give_back_seats({}, 2, {}, 1)", tb.0, number(pool).await);
        raw.batch_execute(&give_back).await.unwrap();
        let claim = tokio::spawn(async move { a.claim_seats(ta, 1, account, 1, 1, false).await });
        let root = pool.root().await;
        let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted \
            and database = (select oid from pg_database where datname = current_database())";
        let mut tries = 0;
        while root.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 && !claim.is_finished() {
            tries += 1;
            assert!(tries < 1000, "the claim does not wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        raw.batch_execute("commit").await.unwrap();
        let claim = claim.await.unwrap().unwrap();
        assert!(is_claimed(claim), "neither was the seat claimed nor would the return have notified: {claim:?}");
    });
}

/// Commits without a flush do not hold up those that notify, and a claim is on disk before it is confirmed.
#[test]
fn only_what_a_host_relies_on_waits_for_the_disk() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, user, _) = pool.join("b", false, false).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        let raw = pool.raw(&user).await;
        let mode_after = async |call: &str| -> String {
            raw.batch_execute(&format!("begin; select {call}")).await.unwrap();
            let mode = raw.query_one("select current_setting('synchronous_commit')", &[]).await.unwrap().get(0);
            raw.batch_execute("commit").await.unwrap();
            mode
        };
        let (term, number) = (tb.0, number(pool).await);
        let claim = format!("lessor.claim_seats({term}, 2, {number}, 1, 1, false)");
        assert_eq!(mode_after(&claim).await, "on", "a seat");
        assert_eq!(mode_after(&format!("lessor.beat({term}, 2)")).await, "on", "a heartbeat");
        assert_eq!(mode_after(&format!("lessor.mark_handed_out({term}, 2, {number}, 1)")).await, "on", "a mark");
        assert_eq!(mode_after(&format!("lessor.give_back_seats({term}, 2, {number}, 1)")).await, "off", "a return");
        assert!(is_claimed(a.claim_seats(ta, 1, account, 1, 1, false).await.unwrap()));
        assert_eq!(mode_after(&claim).await, "off", "a want");
        assert_eq!(mode_after(&format!("lessor.withdraw_want({term}, 2, {number})")).await, "off", "a withdrawal");
    });
}
