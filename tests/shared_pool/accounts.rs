//! Accounts: adding, changing, removing.

use lessor::pool::{LimitRecord, LimitSource, LoginState, Tier, Verification, Wall};
use lessor::shared_pool::{PoolCredential, SeatClaim, SharedLimit, SharedPoolErrorKind, TokenGeneration};

use crate::harness::{KEYS, LIFE, add, hard, id, record, sealed, with_pool};

#[test]
fn an_account_comes_back_as_it_was_added() {
    with_pool(hard(2), async |pool| {
        let admin = pool.first().await;
        let now = admin.pool_info().await.unwrap().db_time;
        let mut added = record(0xff_ffff_ffff);
        added.email = Some("someone@example.org".into());
        added.tier = Tier::Ultra;
        added.reserve = 0.25;
        added.max_leases = Some(1);
        added.login_state = LoginState::NeedsVerification(Verification::at(Some("https://example.org/")));
        let limit = LimitRecord {
            account: added.id,
            key: String::new(),
            scope: lessor::limits::Scope::Account,
            reason: lessor::limits::Reason::OutOfCredit,
            until: now.after(std::time::Duration::from_secs(60)),
            source: LimitSource::Server,
            since: Some(now),
            evidence: None,
            link: Some("https://example.org/credit".into()),
        };
        let access: Vec<u8> = (0..=255).collect();
        let credential = PoolCredential { access: &access, refresh: None, expires_at: None, keys: KEYS };
        let generation = admin.add_account(&added, credential, std::slice::from_ref(&limit)).await.unwrap();
        let news = admin.news(None, None).await.unwrap();
        let shared = &news.accounts[0];
        assert_eq!(shared.record, added);
        assert_eq!((shared.access.as_slice(), shared.has_refresh, shared.expires_at), (access.as_slice(), false, None));
        assert_eq!((shared.capacity, shared.ceiling, shared.generation, shared.keys), (1, 1, generation, KEYS));
        assert_eq!(news.limits, [SharedLimit::Set(limit)]);
        assert_eq!(admin.refresh_token(added.id).await.unwrap(), None);
    });
}

#[test]
fn ids_and_labels_are_unique() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        add(&admin, 1).await;
        let error = admin.add_account(&record(1), sealed(b"x", 5), &[]).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::Conflict);
        let mut same = record(2);
        same.label = record(1).label;
        let error = admin.add_account(&same, sealed(b"x", 5), &[]).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::Conflict);
        same.label = None;
        admin.add_account(&same, sealed(b"x", 5), &[]).await.unwrap();
        let error = admin.save_account(&record(3)).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotFound);
    });
}

#[test]
fn a_removed_account_keeps_its_seats_and_generations() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let account = add(&admin, 1).await;
        let term = admin.begin_term(LIFE).await.unwrap();
        admin.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        let position = admin.news(None, Some(term)).await.unwrap().position;
        admin.remove_account(account).await.unwrap();
        admin.remove_account(account).await.unwrap();
        let news = admin.news(Some(position), Some(term)).await.unwrap();
        assert_eq!((news.removed, news.accounts.len()), (vec![account], 0));
        assert_eq!(admin.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Gone);
        assert_eq!(admin.refresh_token(account).await.unwrap(), None);
        // its label is free
        let mut other = record(2);
        other.label = record(1).label;
        admin.add_account(&other, sealed(b"x", 5), &[]).await.unwrap();
        admin.remove_account(id(2)).await.unwrap();
        // back again: the seat is still held, and a late answer to an old refresh does not fit
        let generation = admin.add_account(&record(1), sealed(b"new", 5), &[]).await.unwrap();
        assert_eq!(generation, TokenGeneration(2));
        let claim = admin.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Full { elsewhere: 0 }), "{claim:?}");
        assert_eq!(admin.give_back_seats(term, LIFE, account, 1).await.unwrap(), 1);
    });
}

#[test]
fn a_new_login_replaces_the_old_one_and_its_claims() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let account = add(&admin, 1).await;
        let term = admin.begin_term(LIFE).await.unwrap();
        let first = TokenGeneration(1);
        admin.claim_refresh(term, account, first, 1, std::time::Duration::from_secs(60)).await.unwrap();
        let credential = PoolCredential { access: b"key", refresh: None, expires_at: Some(Wall(9)), keys: KEYS };
        assert_eq!(admin.replace_credential(&record(1), credential).await.unwrap(), TokenGeneration(2));
        assert_eq!(admin.refresh_token(account).await.unwrap(), None, "the refresh token of the old login");
        let stored = admin.store_refreshed(account, first, sealed(b"late", 5)).await.unwrap();
        assert_eq!(stored, lessor::shared_pool::StoredRefresh::Rotated);
        let left = pool.root().await.query_one("select count(*) from lessor.refresh_claim", &[]).await.unwrap();
        assert_eq!(left.get::<_, i64>(0), 0);
    });
}
