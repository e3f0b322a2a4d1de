//! News: only what has changed, and everything that has.

use lessor::shared_pool::PoolNoticeKind;

use crate::harness::{LIFE, add, hard, with_pool};

#[test]
fn news_is_what_has_changed_since() {
    with_pool(hard(2), async |pool| {
        let a = pool.first().await;
        let (b, _, b_id) = pool.join("b", false, false).await;
        let (one, two) = (add(&a, 1).await, add(&a, 2).await);
        let (ta, tb) = (a.begin_term(1).await.unwrap(), b.begin_term(2).await.unwrap());
        let full = a.news(None, Some(ta)).await.unwrap();
        assert!(full.full && full.settings_changed);
        assert_eq!((full.accounts.len(), full.hosts.len(), full.beats.len(), full.elsewhere.len()), (2, 2, 2, 2));
        let host = full.hosts.iter().find(|host| host.id == b_id).unwrap();
        assert_eq!(
            (host.name.as_str(), host.admin, &host.terms, host.public_key.as_slice()),
            ("b", false, &vec![tb], &b"own key"[..])
        );
        let none = a.news(Some(pool.settled(&a).await), Some(ta)).await.unwrap();
        assert!(!none.full && !none.settings_changed);
        assert_eq!((none.accounts.len(), none.hosts.len(), none.beats.len(), none.elsewhere.len()), (0, 0, 2, 0));
        b.claim_seats(tb, 2, two, 2, 2, false).await.unwrap();
        a.claim_seats(ta, 1, one, 1, 2, false).await.unwrap();
        let seats = a.news(Some(none.position), Some(ta)).await.unwrap();
        let mut elsewhere = seats.elsewhere.clone();
        elsewhere.sort_unstable();
        assert_eq!((elsewhere, seats.accounts.len()), (vec![(one, 0), (two, 2)], 0));
        // a heartbeat is in every reading and changes nothing else
        let before = seats.beats.clone();
        b.beat(tb, 2).await.unwrap();
        let settled = pool.settled(&a).await;
        let beats = a.news(Some(settled), Some(ta)).await.unwrap();
        assert_ne!(beats.beats, before);
        assert!(beats.elsewhere.is_empty() && beats.hosts.is_empty());
        a.set_settings(&hard(3)).await.unwrap();
        let settings = a.news(Some(beats.position), Some(ta)).await.unwrap();
        assert!(settings.settings_changed);
        assert_eq!(settings.accounts.iter().map(|account| account.ceiling).collect::<Vec<_>>(), [3, 3]);
    });
}

#[test]
fn notices_come_for_what_cannot_wait() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let address = pool.address_of(&pool.first_user);
        let (b, mut notices) = lessor::shared_pool::PoolClient::connect(&address).await.unwrap();
        let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(2).await.unwrap());
        a.claim_seats(ta, LIFE, account, 1, 1, false).await.unwrap();
        b.claim_seats(tb, 2, account, 1, 1, false).await.unwrap();
        a.give_back_seats(ta, LIFE, account, 1).await.unwrap();
        a.set_settings(&hard(1)).await.unwrap();
        let mut kinds = Vec::new();
        while kinds.last() != Some(&PoolNoticeKind::Pool) {
            let notice =
                tokio::time::timeout(std::time::Duration::from_secs(30), notices.next()).await.unwrap().unwrap();
            kinds.push(notice.kind);
        }
        // two terms began
        let host = PoolNoticeKind::Host;
        assert_eq!(kinds, [host, host, PoolNoticeKind::Wanted, PoolNoticeKind::Freed, PoolNoticeKind::Pool]);
        // the end of the connection is the end of the notices
        let kill = "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen lessor'";
        pool.root().await.query(kill, &[]).await.unwrap();
        while notices.next().await.is_some() {}
    });
}

#[test]
fn what_is_of_no_more_use_is_removed_at_heartbeats() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let old = a.begin_term(1).await.unwrap();
        a.claim_seats(old, 1, account, 1, 1, false).await.unwrap();
        a.mark_handed_out(old, 1, account, None).await.unwrap();
        a.end_term(old, 1).await.unwrap();
        let term = a.begin_term(LIFE).await.unwrap();
        a.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        a.clear_limit(account, None, None).await.unwrap();
        let position = a.news(None, Some(term)).await.unwrap().position;
        let root = pool.root().await;
        root.batch_execute(
            "update lessor.term set ended_at = 1 where ended_at is not null; update lessor.want set at = 1; \
             update lessor.account_limit set cleared_at = 1; update lessor.seat set handed_out_until = 1",
        )
        .await
        .unwrap();
        for _ in 0..8 {
            a.beat(term, LIFE).await.unwrap().unwrap();
        }
        let left = "select (select count(*) from lessor.term) + (select count(*) from lessor.want) \
            + (select count(*) from lessor.account_limit)";
        assert_eq!(root.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1, "only the living term");
        // that the token has ended is news
        assert_eq!(a.news(Some(position), Some(term)).await.unwrap().elsewhere, [(account, 0)]);
    });
}
