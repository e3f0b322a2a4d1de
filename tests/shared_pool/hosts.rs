//! Joining, leaving, evicting, new keys.

use std::time::Duration;

use lessor::credential::Secret;
use lessor::shared_pool::{
    KeyGeneration, NewInvitation, PoolClient, PoolCredential, ResealedAccount, SeatClaim, SharedPoolErrorKind,
    TokenGeneration,
};

use crate::harness::{KEYS, LIFE, TestPool, add, hard, sealed, with_pool};

async fn invite(pool: &TestPool, name: &str, password: &Secret) -> lessor::shared_pool::Invited {
    let invitation = NewInvitation {
        name,
        admin: false,
        refresher: false,
        public_key: b"one-time",
        wrapped: b"keys for the invitation",
        keys: KEYS,
        lasts: Duration::from_secs(600),
        password,
    };
    pool.first().await.invite(&invitation).await.unwrap()
}

#[test]
fn an_invitation_is_accepted_once_and_its_password_ends() {
    with_pool(hard(1), async |pool| {
        let password = Secret::new("a password of a test".into());
        let invited = invite(pool, "b", &password).await;
        let address = pool.address_of(&invited.user);
        let error = PoolClient::connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotMember, "{error}");
        let joining = PoolClient::connect_to_join(&address).await.unwrap();
        let own = joining.own_host().await.unwrap();
        assert_eq!(
            (own.pool.as_str(), own.host, own.name.as_str(), own.joined),
            (pool.name.as_str(), invited.host, "b", false)
        );
        assert_eq!(own.wrapped, b"keys for the invitation");
        assert!(joining.begin_term(1).await.is_err(), "nothing else before");
        let other = Secret::new("another password".into());
        joining.accept_invitation(b"own", KEYS, b"wrapped", &other).await.unwrap();
        let error = joining.accept_invitation(b"own", KEYS, b"wrapped", &other).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotFound);
        let error = PoolClient::connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::Auth, "the password of the token: {error}");
        assert!(!error.to_string().contains("password of a test"));
        let mut address = pool.address_of(&invited.user);
        address.password = Some(other);
        let (joined, _) = PoolClient::connect(&address).await.unwrap();
        let own = joined.own_host().await.unwrap();
        assert!(own.joined && !own.admin && own.wrapped == b"wrapped" && own.public_key == b"own");
    });
}

#[test]
fn an_invitation_ends_by_time_and_its_name_is_free_again() {
    with_pool(hard(1), async |pool| {
        let password = Secret::new("a password of a test".into());
        let invited = invite(pool, "b", &password).await;
        let taken = pool.first().await.hosts().await.unwrap();
        assert!(
            taken
                .iter()
                .any(|host| host.id == invited.host && host.invited_until.is_some() && host.joined_at.is_none())
        );
        pool.root()
            .await
            .batch_execute("update lessor.host set invited_until = 1 where joined_at is null")
            .await
            .unwrap();
        let late = PoolClient::connect_to_join(&pool.address_of(&invited.user)).await.unwrap();
        let error = late.accept_invitation(b"own", KEYS, b"wrapped", &password).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotFound);
        let again = invite(pool, "b", &password).await;
        assert_ne!(again.host, invited.host);
        let error = PoolClient::connect_to_join(&pool.address_of(&invited.user)).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::Auth, "{error}");
    });
}

#[test]
fn an_evicted_host_is_out_at_once_and_its_seats_wait_for_silence() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let (b, user, b_id) = pool.join("b", false, false).await;
        let account = add(&admin, 1).await;
        let theirs = b.begin_term(LIFE).await.unwrap();
        b.claim_seats(theirs, LIFE, account, 1, 1, false).await.unwrap();
        assert!(admin.evict(b_id).await.unwrap());
        assert!(!admin.evict(b_id).await.unwrap());
        assert!(b.beat(theirs, LIFE).await.is_err(), "its connection has ended");
        let error = PoolClient::connect(&pool.address_of(&user)).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::Auth, "{error}");
        let term = admin.begin_term(1).await.unwrap();
        let claim = admin.claim_seats(term, 1, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Full { elsewhere: 1 }), "{claim:?}");
        crate::terms::silence(pool, theirs).await;
        let beats = admin.news(None, Some(term)).await.unwrap().beats;
        let beat = beats.iter().find(|(known, _)| *known == theirs).unwrap().1;
        assert!(admin.end_silent_term(theirs, beat).await.unwrap());
        let error = admin.evict(pool.first).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::NotPermitted);
    });
}

/// A connection that outlives the eviction, as behind a connection pooler.
#[test]
fn a_session_of_an_evicted_host_may_do_nothing() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let (b, _, b_id) = pool.join("b", false, false).await;
        let account = add(&admin, 1).await;
        let term = b.begin_term(LIFE).await.unwrap();
        pool.root().await.execute("update lessor.host set ended_at = 1 where id = $1", &[&b_id.0]).await.unwrap();
        assert_eq!(b.beat(term, LIFE).await.unwrap(), None);
        assert_eq!(b.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Over);
        assert_eq!(b.news(None, None).await.unwrap_err().kind(), SharedPoolErrorKind::Evicted);
    });
}

#[test]
fn a_host_leaves_but_not_the_last_admin() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let (b, user, b_id) = pool.join("b", false, false).await;
        let account = add(&admin, 1).await;
        let error = admin.leave().await.unwrap_err();
        assert!(error.to_string().contains("last admin"), "{error}");
        let theirs = b.begin_term(LIFE).await.unwrap();
        b.claim_seats(theirs, LIFE, account, 1, 1, false).await.unwrap();
        b.leave().await.unwrap();
        assert!(PoolClient::connect(&pool.address_of(&user)).await.is_err());
        let term = admin.begin_term(1).await.unwrap();
        assert!(matches!(admin.claim_seats(term, 1, account, 1, 1, false).await.unwrap(), SeatClaim::Claimed { .. }));
        let hosts = admin.hosts().await.unwrap();
        assert!(hosts.iter().any(|host| host.id == b_id && host.ended_at.is_some()));
        // the name is free, and alone the last one may go
        pool.join("b", false, false).await.0.leave().await.unwrap();
        admin.leave().await.unwrap();
    });
}

#[test]
fn new_keys_need_everything_as_it_was_read() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let (_b, _, b_id) = pool.join("b", false, false).await;
        let account = add(&admin, 1).await;
        let password = Secret::new("a password of a test".into());
        let invited = invite(pool, "c", &password).await;
        let new = KeyGeneration(2);
        let resealed =
            |generation| ResealedAccount { account, generation, access: b"A".to_vec(), refresh: Some(b"R".to_vec()) };
        let (first, second) = (TokenGeneration(1), TokenGeneration(2));
        let both = [(pool.first, b"w1".to_vec()), (b_id, b"w2".to_vec())];
        assert!(!admin.rekey(new, &[], &both).await.unwrap(), "an account is missing");
        assert!(!admin.rekey(new, &[resealed(second)], &both).await.unwrap(), "another generation");
        let without = ResealedAccount { refresh: None, ..resealed(first) };
        assert!(!admin.rekey(new, &[without], &both).await.unwrap(), "a refresh token is missing");
        assert!(!admin.rekey(new, &[resealed(first)], &both[..1]).await.unwrap(), "a host is missing");
        assert!(!admin.rekey(KeyGeneration(3), &[resealed(first)], &both).await.unwrap(), "not the next keys");
        assert!(admin.rekey(new, &[resealed(first)], &both).await.unwrap());
        assert_eq!(admin.refresh_token(account).await.unwrap(), Some((first, new, b"R".to_vec())));
        let news = admin.news(None, None).await.unwrap();
        assert_eq!((news.keys, news.accounts[0].access.as_slice(), news.accounts[0].keys), (new, &b"A"[..], new));
        let own = admin.own_host().await.unwrap();
        assert_eq!((own.wrapped.as_slice(), own.keys), (&b"w1"[..], new));
        let error = admin.store_refreshed(account, first, sealed(b"x", 5)).await.unwrap_err();
        assert_eq!(error.kind(), SharedPoolErrorKind::KeysReplaced);
        let sealed = PoolCredential { keys: new, ..sealed(b"x", 5) };
        admin.store_refreshed(account, first, sealed).await.unwrap();
        // the invitation that nobody had accepted
        assert!(PoolClient::connect_to_join(&pool.address_of(&invited.user)).await.is_err());
    });
}
