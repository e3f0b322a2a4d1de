//! Orders of the answers of the database, the server and the disk, and that none of them loses a token.

use std::sync::Mutex;

use super::claims::RefreshClaims;
use super::steps::LocalLogin;
use super::*;
use crate::pool::{CredentialKind, Wall};
use crate::shared_pool::{
    HostId, HostKeyPair, KeyGeneration, PoolAddress, PoolCredential, PoolKeys, RefreshClaim, RefreshRefusal,
    SharedPoolError, SharedPoolErrorKind, StoredRefresh, TermId,
};

const POOL: &str = "pool-1";
const TERM: TermId = TermId(4);

fn account() -> AccountId {
    AccountId::from_bits(1)
}

fn membership(keys: PoolKeys) -> Membership {
    Membership {
        pool: POOL.to_owned(),
        host: HostId(1),
        name: "laptop".to_owned(),
        address: PoolAddress { url: "postgres://h1@db/lessor".to_owned(), password: None, root_certificate: None },
        key_pair: HostKeyPair::generate().unwrap(),
        keys,
        admin: false,
        refresher: true,
    }
}

fn credential(token: &str) -> Credential {
    Credential {
        refresh: Some(Secret::new(token.to_owned())),
        expires_at: Some(Wall(1_000)),
        ..Credential::new(CredentialKind::Oauth, Secret::new(format!("access-of-{token}")))
    }
}

/// What a database, a disk and a worker were asked for, in order.
type Asked = Mutex<Vec<String>>;

/// A database with one account, and the rules of its functions.
struct FakePool<'a> {
    asked: &'a Asked,
    keys: PoolKeys,
    key_generation: Mutex<KeyGeneration>,
    state: Mutex<FakeAccount>,
    /// The calls with these names fail, in this way.
    fails: Mutex<Vec<(&'static str, SharedPoolErrorKind)>>,
    /// What other hosts answer to a claim or a refusal.
    held: Mutex<Option<(HostId, Wall)>>,
    open_elsewhere: Mutex<Option<HostId>>,
}

struct FakeAccount {
    generation: i64,
    token: Option<String>,
    claimed: Option<(i64, u64)>,
}

impl<'a> FakePool<'a> {
    fn new(asked: &'a Asked, keys: &PoolKeys) -> Self {
        Self {
            asked,
            keys: keys.duplicate(),
            key_generation: Mutex::new(keys.generation()),
            state: Mutex::new(FakeAccount { generation: 3, token: Some("rt-3".to_owned()), claimed: None }),
            fails: Mutex::default(),
            held: Mutex::default(),
            open_elsewhere: Mutex::default(),
        }
    }

    fn call(&self, name: &'static str) -> Result<(), SharedPoolError> {
        self.asked.lock().unwrap().push(format!("pool {name}"));
        let fails = self.fails.lock().unwrap();
        match fails.iter().find(|(failing, _)| *failing == name) {
            Some((_, kind)) => Err(SharedPoolError::for_tests(*kind)),
            None => Ok(()),
        }
    }

    fn fail(&self, name: &'static str, kind: SharedPoolErrorKind) {
        self.fails.lock().unwrap().push((name, kind));
    }

    fn heal(&self) {
        self.fails.lock().unwrap().clear();
    }

    /// Another host has stored a token.
    fn rotate(&self, token: &str) {
        let state = &mut *self.state.lock().unwrap();
        (state.generation, state.token, state.claimed) = (state.generation + 1, Some(token.to_owned()), None);
    }

    fn stored(&self) -> (i64, Option<String>) {
        let state = self.state.lock().unwrap();
        (state.generation, state.token.clone())
    }
}

impl RefreshClaims for FakePool<'_> {
    async fn refresh_token(
        &self,
        id: AccountId,
    ) -> Result<Option<(TokenGeneration, KeyGeneration, Vec<u8>)>, SharedPoolError> {
        self.call("refresh_token")?;
        let state = self.state.lock().unwrap();
        let sealed = |token: &String| self.keys.seal_refresh(POOL, id, &Secret::new(token.clone())).unwrap();
        let generation = TokenGeneration(state.generation);
        Ok(state.token.as_ref().map(|token| (generation, *self.key_generation.lock().unwrap(), sealed(token))))
    }

    async fn claim(
        &self,
        term: TermId,
        attempt: RefreshAttempt,
        lasts: Duration,
    ) -> Result<RefreshClaim, SharedPoolError> {
        assert_eq!((term, lasts), (TERM, LONGEST_ATTEMPT));
        self.call("claim")?;
        let state = &mut *self.state.lock().unwrap();
        if attempt.generation.0 != state.generation {
            return Ok(RefreshClaim::Rotated);
        }
        if let Some((host, until)) = *self.held.lock().unwrap() {
            return Ok(RefreshClaim::HeldBy { host, until });
        }
        state.claimed = Some((attempt.generation.0, attempt.number));
        Ok(RefreshClaim::Claimed)
    }

    async fn store(
        &self,
        id: AccountId,
        from: TokenGeneration,
        credential: PoolCredential<'_>,
    ) -> Result<StoredRefresh, SharedPoolError> {
        self.call("store")?;
        let state = &mut *self.state.lock().unwrap();
        if from.0 != state.generation {
            return Ok(StoredRefresh::Rotated);
        }
        let access = self.keys.open_access(POOL, id, credential.keys, credential.access).unwrap();
        assert!(access.refresh.is_none(), "a member must not see the refresh token");
        assert_eq!(credential.expires_at, access.expires_at.map(|at| Wall(at.0 + 7)), "on the database's clock");
        let token = credential.refresh.map(|sealed| self.keys.open_refresh(POOL, id, credential.keys, sealed).unwrap());
        state.token = token.map(|token| token.expose().to_owned()).or(state.token.take());
        (state.generation, state.claimed) = (state.generation + 1, None);
        Ok(StoredRefresh::Stored(TokenGeneration(state.generation)))
    }

    async fn fail(&self, attempt: RefreshAttempt, unsent: bool) -> Result<(), SharedPoolError> {
        self.call(if unsent { "fail unsent" } else { "fail" })?;
        let state = &mut *self.state.lock().unwrap();
        state.claimed = state.claimed.filter(|claimed| *claimed != (attempt.generation.0, attempt.number));
        Ok(())
    }

    async fn refuse(&self, attempt: RefreshAttempt) -> Result<RefreshRefusal, SharedPoolError> {
        self.call("refuse")?;
        if attempt.generation.0 != self.state.lock().unwrap().generation {
            return Ok(RefreshRefusal::Rotated);
        }
        let open = *self.open_elsewhere.lock().unwrap();
        Ok(open.map_or(RefreshRefusal::Final, |host| RefreshRefusal::NotYet { host }))
    }
}

/// A disk and a memory with one login.
struct FakeLocal<'a> {
    asked: &'a Asked,
    state: Mutex<FakeLogin>,
}

struct FakeLogin {
    generation: i64,
    used: String,
    answer_from: Option<i64>,
    is_removed: bool,
}

impl<'a> FakeLocal<'a> {
    fn new(asked: &'a Asked) -> Self {
        let login = FakeLogin { generation: 3, used: "rt-3".to_owned(), answer_from: None, is_removed: false };
        Self { asked, state: Mutex::new(login) }
    }

    fn note(&self, what: &str) {
        self.asked.lock().unwrap().push(what.to_owned());
    }

    /// The news bring what the pool has.
    fn adopt(&self, pool: &FakePool<'_>) {
        let (generation, token) = pool.stored();
        let login = &mut *self.state.lock().unwrap();
        if generation > login.generation {
            (login.generation, login.used) = (generation, token.unwrap());
        }
    }

    fn used(&self) -> String {
        self.state.lock().unwrap().used.clone()
    }

    fn waits_for_pool(&self) -> bool {
        self.answer(account()).is_some()
    }
}

impl LocalLogin for FakeLocal<'_> {
    async fn keep_answer(
        &self,
        _account: AccountId,
        from: TokenGeneration,
        credential: Credential,
        _life: Option<Duration>,
    ) -> bool {
        self.note("disk");
        let login = &mut *self.state.lock().unwrap();
        if login.is_removed || login.generation != from.0 {
            return false;
        }
        login.used = credential.refresh.as_ref().map(|token| token.expose().to_owned()).unwrap();
        login.answer_from = Some(from.0);
        true
    }

    fn answer(&self, _account: AccountId) -> Option<(TokenGeneration, Credential)> {
        let login = self.state.lock().unwrap();
        let from = login.answer_from.filter(|from| login.generation <= *from)?;
        Some((TokenGeneration(from), credential(&login.used)))
    }

    async fn answer_stored(&self, _account: AccountId, generation: TokenGeneration) {
        self.note("stored");
        let login = &mut *self.state.lock().unwrap();
        login.generation = login.generation.max(generation.0);
        login.answer_from = None;
    }

    fn read_news(&self) {
        self.note("news");
    }

    fn to_database(&self, at: Wall) -> Wall {
        Wall(at.0 + 7)
    }
}

/// One host before a refresh of generation 3.
struct Scene<'a> {
    asked: &'a Asked,
    membership: Membership,
    pool: FakePool<'a>,
    local: FakeLocal<'a>,
}

impl<'a> Scene<'a> {
    fn new(asked: &'a Asked) -> Self {
        let keys = PoolKeys::first().unwrap();
        let pool = FakePool::new(asked, &keys);
        Self { asked, membership: membership(keys), pool, local: FakeLocal::new(asked) }
    }

    fn host(&self) -> RefreshingHost<'_> {
        RefreshingHost { membership: &self.membership, term: TERM, lasts: LONGEST_ATTEMPT }
    }

    async fn claim(&self) -> ClaimAnswer {
        let known = self.local.state.lock().unwrap().generation;
        claim(&self.pool, self.host(), (account(), TokenGeneration(known)), 99).await
    }

    async fn claimed(&self) -> RefreshAttempt {
        match self.claim().await {
            ClaimAnswer::Claimed(claimed) => {
                assert_eq!(Some(claimed.refresh.expose().to_owned()), self.pool.stored().1);
                claimed.attempt
            }
            other => panic!("{other:?}"),
        }
    }

    async fn answered(&self, attempt: RefreshAttempt, token: &str) -> HandOver {
        settle_new(&self.pool, &self.local, &self.membership, attempt, (credential(token), None)).await
    }

    async fn hand_over(&self) -> HandOver {
        hand_over(&self.pool, &self.local, &self.membership, account()).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn wait_of(answer: ClaimAnswer) -> RefreshWait {
    match answer {
        ClaimAnswer::Waits(wait) => wait,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refresh_is_claimed_then_on_disk_then_in_the_pool() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    assert_eq!(attempt, RefreshAttempt { account: account(), generation: TokenGeneration(3), number: 99 });
    assert_eq!(scene.answered(attempt, "rt-4").await, HandOver::Stored(TokenGeneration(4)));
    assert_eq!(scene.asked(), ["pool refresh_token", "pool claim", "disk", "pool store", "stored"]);
    assert_eq!(scene.pool.stored(), (4, Some("rt-4".to_owned())));
    assert!(!scene.local.waits_for_pool());
    // the next one begins from there
    assert_eq!(scene.claimed().await.generation, TokenGeneration(4));
}

#[tokio::test]
async fn a_claim_that_another_host_has_is_waited_for() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    *scene.pool.held.lock().unwrap() = Some((HostId(2), Wall(5000)));
    let wait = wait_of(scene.claim().await);
    assert_eq!((wait.until, wait.reads_news), (RefreshWaitEnd::Database(Wall(5000)), false));
    assert!(wait.why.contains("host 2 of the shared pool is refreshing it"), "{}", wait.why);
    *scene.pool.held.lock().unwrap() = None;
    scene.claimed().await;
}

#[tokio::test]
async fn a_newer_credential_of_the_pool_is_adopted_instead() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    scene.pool.rotate("rt-other");
    assert!(wait_of(scene.claim().await).reads_news);
    assert_eq!(scene.asked(), ["pool refresh_token"], "nothing is claimed");
    scene.local.adopt(&scene.pool);
    assert_eq!(scene.claimed().await.generation, TokenGeneration(4));
}

/// Every call of the way to a claim can fail: nothing is sent then.
#[tokio::test]
async fn without_the_database_nothing_is_claimed() {
    for call in ["refresh_token", "claim"] {
        for kind in [SharedPoolErrorKind::Unreachable, SharedPoolErrorKind::TermOver, SharedPoolErrorKind::Evicted] {
            let asked = Asked::default();
            let scene = Scene::new(&asked);
            scene.pool.fail(call, kind);
            let wait = wait_of(scene.claim().await);
            let is_temporary = kind == SharedPoolErrorKind::Unreachable;
            assert_eq!(matches!(wait.until, RefreshWaitEnd::After(_)), is_temporary, "{call} {kind:?}: {wait:?}");
            assert!(is_temporary || wait.until == RefreshWaitEnd::Later && !wait.why.is_empty());
        }
    }
}

#[tokio::test]
async fn a_login_without_a_refresh_token_or_keys_is_not_claimed() {
    let asked = Asked::default();
    let mut scene = Scene::new(&asked);
    *scene.pool.key_generation.lock().unwrap() = KeyGeneration(2);
    let wait = wait_of(scene.claim().await);
    assert!(wait.reads_news && wait.why.contains("generation 2"), "{}", wait.why);
    *scene.pool.key_generation.lock().unwrap() = KeyGeneration(1);
    scene.membership.keys = scene.membership.keys.without_refresh();
    assert!(wait_of(scene.claim().await).why.contains("no refresher"));
    scene.pool.state.lock().unwrap().token = None;
    assert!(matches!(scene.claim().await, ClaimAnswer::LoginEnded));
    assert!(!scene.asked().contains(&"pool claim".to_owned()));
}

#[tokio::test]
async fn an_answer_is_kept_while_the_database_is_away_and_handed_over_later() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    for kind in [SharedPoolErrorKind::Unreachable, SharedPoolErrorKind::KeysReplaced] {
        scene.pool.fail("store", kind);
    }
    assert_eq!(scene.answered(attempt, "rt-4").await, HandOver::Later);
    assert_eq!((scene.local.used(), scene.local.waits_for_pool()), ("rt-4".to_owned(), true), "it is used here");
    assert_eq!(scene.hand_over().await, HandOver::Later);
    scene.pool.heal();
    assert_eq!(scene.hand_over().await, HandOver::Stored(TokenGeneration(4)));
    assert_eq!(scene.hand_over().await, HandOver::Gone, "once");
    assert_eq!(scene.pool.stored(), (4, Some("rt-4".to_owned())));
}

/// The call took effect, but its answer was lost: the second call finds a later generation, which was this host's.
#[tokio::test]
async fn an_answer_that_was_stored_without_a_word_is_adopted_again() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    scene.pool.fail("store", SharedPoolErrorKind::Unreachable);
    assert_eq!(scene.answered(attempt, "rt-4").await, HandOver::Later);
    scene.pool.heal();
    scene.pool.rotate("rt-4");
    assert_eq!(scene.hand_over().await, HandOver::Rotated);
    scene.local.adopt(&scene.pool);
    assert_eq!((scene.local.used(), scene.local.waits_for_pool()), ("rt-4".to_owned(), false));
}

#[tokio::test]
async fn the_token_of_the_host_that_was_first_wins_and_ours_is_used_until_it_is_adopted() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    scene.pool.rotate("rt-other");
    assert_eq!(scene.answered(attempt, "rt-late").await, HandOver::Rotated);
    assert_eq!(scene.pool.stored(), (4, Some("rt-other".to_owned())), "the pool's stays");
    assert_eq!((scene.local.used(), scene.local.waits_for_pool()), ("rt-late".to_owned(), true));
    assert_eq!(scene.asked().last().unwrap(), "news");
    scene.local.adopt(&scene.pool);
    assert_eq!((scene.local.used(), scene.local.waits_for_pool()), ("rt-other".to_owned(), false));
    assert_eq!(scene.hand_over().await, HandOver::Gone);
}

/// The news were read between the request and its answer.
#[tokio::test]
async fn a_late_answer_does_not_replace_what_was_adopted_meanwhile() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    scene.pool.rotate("rt-other");
    scene.local.adopt(&scene.pool);
    assert_eq!(scene.answered(attempt, "rt-late").await, HandOver::Rotated);
    assert_eq!((scene.local.used(), scene.local.waits_for_pool()), ("rt-other".to_owned(), false));
}

/// It may be the only living token of the login: the pool gets it.
#[tokio::test]
async fn an_answer_that_this_host_cannot_keep_goes_to_the_pool() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    scene.local.state.lock().unwrap().is_removed = true;
    assert_eq!(scene.answered(attempt, "rt-4").await, HandOver::Stored(TokenGeneration(4)));
    assert_eq!(scene.pool.stored(), (4, Some("rt-4".to_owned())));
    scene.pool.fail("store", SharedPoolErrorKind::NotFound);
    let attempt = RefreshAttempt { generation: TokenGeneration(4), ..attempt };
    assert_eq!(scene.answered(attempt, "rt-5").await, HandOver::Gone, "the account was removed everywhere");
}

#[tokio::test]
async fn a_pool_that_is_older_than_this_host_is_noticed() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    scene.local.state.lock().unwrap().generation = 5;
    assert!(matches!(scene.claim().await, ClaimAnswer::PoolIsBehind(TokenGeneration(3))));
    assert_eq!(scene.asked(), ["pool refresh_token"]);
}

#[tokio::test]
async fn a_refusal_is_final_only_when_no_other_host_may_have_the_next_token() {
    let asked = Asked::default();
    let scene = Scene::new(&asked);
    let attempt = scene.claimed().await;
    *scene.pool.open_elsewhere.lock().unwrap() = Some(HostId(2));
    for _ in 0..2 {
        let RefusalAnswer::Waits(wait) = settle_refused(&scene.pool, attempt).await else { panic!("it is final") };
        assert!(wait.reads_news && wait.why.contains("host 2"), "{}", wait.why);
        // looked at again, with a claim of its own
        scene.claimed().await;
    }
    scene.pool.fail("refuse", SharedPoolErrorKind::Unreachable);
    assert!(matches!(settle_refused(&scene.pool, attempt).await, RefusalAnswer::Waits(_)), "without the database");
    scene.pool.heal();
    *scene.pool.open_elsewhere.lock().unwrap() = None;
    assert_eq!(settle_refused(&scene.pool, attempt).await, RefusalAnswer::Final);
    scene.pool.rotate("rt-other");
    let RefusalAnswer::Waits(wait) = settle_refused(&scene.pool, attempt).await else { panic!("it is final") };
    assert!(wait.reads_news, "the other host had the next token");
}

#[tokio::test]
async fn a_claim_ends_when_its_request_was_not_sent_or_not_answered() {
    for (unsent, call) in [(true, "pool fail unsent"), (false, "pool fail")] {
        let asked = Asked::default();
        let scene = Scene::new(&asked);
        let attempt = scene.claimed().await;
        settle_failed(&scene.pool, attempt, unsent).await;
        assert!(scene.pool.state.lock().unwrap().claimed.is_none());
        assert_eq!(scene.asked().last().unwrap(), call);
    }
}
