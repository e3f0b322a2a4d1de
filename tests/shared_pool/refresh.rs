//! Refresh claims: who may send, what is stored, what is final.

use std::time::Duration;

use lessor::pool::{LoginProblem, LoginState, Wall};
use lessor::shared_pool::{
    KeyGeneration, PoolCredential, RefreshClaim, RefreshRefusal, SharedPoolErrorKind, StoredRefresh, TokenGeneration,
};

use crate::harness::{KEYS, LIFE, TestPool, add, hard, record, sealed, with_pool};

const LASTS: Duration = Duration::from_secs(60);
const G1: TokenGeneration = TokenGeneration(1);
const G2: TokenGeneration = TokenGeneration(2);

/// As if the access token and every deadline had passed.
async fn pass_time(pool: &TestPool, token: bool, deadline: bool) {
    let root = pool.root().await;
    if token {
        root.batch_execute("update lessor.account set expires_at = 1").await.unwrap();
    }
    if deadline {
        root.batch_execute("update lessor.refresh_claim set deadline = 1").await.unwrap();
    }
}

#[test]
fn a_claim_is_taken_over_only_after_the_token_and_the_deadline() {
    // (token ended, deadline passed, whether another host may)
    for (token, deadline, may) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
    {
        with_pool(hard(1), async |pool| {
            let a = pool.first().await;
            let (b, _, _) = pool.join("b", false, true).await;
            let account = add(&a, 1).await;
            let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
            assert_eq!(a.claim_refresh(ta, account, G1, 10, LASTS).await.unwrap(), RefreshClaim::Claimed);
            assert_eq!(a.claim_refresh(ta, account, G1, 10, LASTS).await.unwrap(), RefreshClaim::Claimed, "again");
            // the claim survives its term
            a.end_term(ta, LIFE).await.unwrap();
            pass_time(pool, token, deadline).await;
            let claim = b.claim_refresh(tb, account, G1, 20, LASTS).await.unwrap();
            if may {
                assert_eq!(claim, RefreshClaim::Claimed);
                // the late answer is kept: nobody has rotated
                assert_eq!(
                    a.store_refreshed(account, G1, sealed(b"late", 5)).await.unwrap(),
                    StoredRefresh::Stored(G2)
                );
                assert_eq!(b.store_refreshed(account, G1, sealed(b"b", 5)).await.unwrap(), StoredRefresh::Rotated);
                assert_eq!(b.refuse_refresh(account, G1, 20).await.unwrap(), RefreshRefusal::Rotated);
            } else {
                assert!(matches!(claim, RefreshClaim::HeldBy { host, .. } if host == pool.first), "{claim:?}");
            }
        });
    }
}

#[test]
fn a_reported_claim_is_free_and_an_unsent_one_is_gone() {
    for unsent in [false, true] {
        with_pool(hard(1), async |pool| {
            let a = pool.first().await;
            let (b, _, _) = pool.join("b", false, true).await;
            let account = add(&a, 1).await;
            let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
            a.claim_refresh(ta, account, G1, 10, LASTS).await.unwrap();
            b.fail_refresh(account, G1, 10, unsent).await.unwrap();
            let claim = b.claim_refresh(tb, account, G1, 20, LASTS).await.unwrap();
            assert!(matches!(claim, RefreshClaim::HeldBy { .. }), "only its owner reports: {claim:?}");
            a.fail_refresh(account, G1, 10, unsent).await.unwrap();
            assert_eq!(b.claim_refresh(tb, account, G1, 20, LASTS).await.unwrap(), RefreshClaim::Claimed);
            let left = pool.root().await.query_one("select count(*) from lessor.refresh_claim", &[]).await.unwrap();
            assert_eq!(left.get::<_, i64>(0), if unsent { 1 } else { 2 });
        });
    }
}

#[test]
fn a_refusal_is_final_only_without_other_open_claims() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, b_id) = pool.join("b", false, true).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
        b.claim_refresh(tb, account, G1, 1, LASTS).await.unwrap();
        pass_time(pool, true, true).await;
        assert_eq!(a.claim_refresh(ta, account, G1, 2, LASTS).await.unwrap(), RefreshClaim::Claimed);
        // b may have the living token
        assert_eq!(a.refuse_refresh(account, G1, 2).await.unwrap(), RefreshRefusal::NotYet { host: b_id });
        assert_eq!(a.refuse_refresh(account, G1, 2).await.unwrap(), RefreshRefusal::NotYet { host: b_id });
        assert!(a.evict(b_id).await.unwrap());
        assert_eq!(a.refuse_refresh(account, G1, 2).await.unwrap(), RefreshRefusal::Final);
        let ended = LoginState::NeedsLogin(LoginProblem::RefreshRejected {
            code: "invalid_grant".into(),
            answer_lost_at: None,
        });
        assert!(a.set_login_state(account, G1, &ended).await.unwrap());
        assert_eq!(a.claim_refresh(ta, account, G1, 3, LASTS).await.unwrap(), RefreshClaim::LoginEnded);
        // an answer that comes even later is a living token
        assert_eq!(a.store_refreshed(account, G1, sealed(b"late", 5)).await.unwrap(), StoredRefresh::Stored(G2));
        assert!(!a.set_login_state(account, G1, &ended).await.unwrap(), "evidence about an older credential");
        let news = a.news(None, None).await.unwrap();
        assert_eq!((&news.accounts[0].record.login_state, news.accounts[0].generation), (&LoginState::Ready, G2));
        assert_eq!(a.claim_refresh(ta, account, G1, 3, LASTS).await.unwrap(), RefreshClaim::Rotated);
        assert_eq!(a.claim_refresh(ta, account, G2, 3, LASTS).await.unwrap(), RefreshClaim::Claimed);
    });
}

#[test]
fn an_access_token_that_has_ended_is_no_end_of_the_login() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let term = a.begin_term(LIFE).await.unwrap();
        let ended = LoginState::NeedsLogin(LoginProblem::AccessTokenEnded);
        assert!(a.set_login_state(account, G1, &ended).await.unwrap());
        assert_eq!(a.claim_refresh(term, account, G1, 1, LASTS).await.unwrap(), RefreshClaim::Claimed);
    });
}

#[test]
fn an_own_claim_is_an_obstacle_only_while_its_term_lives_elsewhere() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let (first, second) = (a.begin_term(1).await.unwrap(), a.begin_term(2).await.unwrap());
        assert_eq!(a.claim_refresh(first, account, G1, 1, LASTS).await.unwrap(), RefreshClaim::Claimed);
        // the same term, after a restart of the daemon
        assert_eq!(a.claim_refresh(first, account, G1, 2, LASTS).await.unwrap(), RefreshClaim::Claimed);
        // a copy of the host has a term of its own
        let claim = a.claim_refresh(second, account, G1, 3, LASTS).await.unwrap();
        assert!(matches!(claim, RefreshClaim::HeldBy { host, .. } if host == pool.first), "{claim:?}");
        a.end_term(first, 1).await.unwrap();
        assert_eq!(a.claim_refresh(second, account, G1, 3, LASTS).await.unwrap(), RefreshClaim::Claimed);
        let error = a.claim_refresh(first, account, G1, 4, LASTS).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::TermOver);
    });
}

#[test]
fn of_two_claims_at_once_one_is_granted() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let (b, _, _) = pool.join("b", false, true).await;
        let account = add(&a, 1).await;
        let (ta, tb) = (a.begin_term(LIFE).await.unwrap(), b.begin_term(LIFE).await.unwrap());
        let mut generation = G1;
        for attempt in 0..50 {
            let (first, second) = tokio::join!(
                a.claim_refresh(ta, account, generation, attempt, LASTS),
                b.claim_refresh(tb, account, generation, attempt, LASTS),
            );
            let claims = [first.unwrap(), second.unwrap()];
            assert_eq!(claims.iter().filter(|claim| **claim == RefreshClaim::Claimed).count(), 1, "{claims:?}");
            let (one, other) = tokio::join!(
                a.store_refreshed(account, generation, sealed(b"a", 5_000_000_000_000)),
                b.store_refreshed(account, generation, sealed(b"b", 5_000_000_000_000)),
            );
            let (one, other) = (one.unwrap(), other.unwrap());
            let next = TokenGeneration(generation.0 + 1);
            assert!([(one, other), (other, one)].contains(&(StoredRefresh::Stored(next), StoredRefresh::Rotated)));
            generation = next;
        }
    });
}

#[test]
fn a_refresh_token_that_is_not_replaced_stays() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let answer = PoolCredential { access: b"new", refresh: None, expires_at: Some(Wall(7)), keys: KEYS };
        assert_eq!(a.store_refreshed(account, G1, answer).await.unwrap(), StoredRefresh::Stored(G2));
        assert_eq!(a.refresh_token(account).await.unwrap(), Some((G2, KEYS, b"refresh".to_vec())));
        let shared = a.news(None, None).await.unwrap().accounts.remove(0);
        assert_eq!(
            (shared.access.as_slice(), shared.has_refresh, shared.expires_at),
            (&b"new"[..], true, Some(Wall(7)))
        );
        let old = PoolCredential { keys: KeyGeneration(9), ..answer };
        let error = a.store_refreshed(account, G2, old).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::KeysReplaced);
    });
}

#[test]
fn all_hosts_know_how_long_a_refreshed_token_lives() {
    with_pool(hard(1), async |pool| {
        let a = pool.first().await;
        let account = add(&a, 1).await;
        let life = async || a.news(None, None).await.unwrap().accounts.remove(0).token_life;
        assert_eq!(life().await, None, "it may be an old login");
        let now = a.pool_info().await.unwrap().db_time;
        a.store_refreshed(account, G1, sealed(b"new", now.0 + 30_000)).await.unwrap();
        let known = life().await.unwrap();
        assert!(known <= Duration::from_secs(30) && known > Duration::from_secs(10), "{known:?}");
        a.store_refreshed(account, G2, sealed(b"late", 5)).await.unwrap();
        assert_eq!(life().await, None, "it had ended when the pool got it");
        a.replace_credential(&record(1), sealed(b"login", now.0 + 30_000)).await.unwrap();
        assert_eq!(life().await, None);
    });
}
