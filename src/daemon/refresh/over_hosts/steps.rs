//! The steps of the refresh of a shared login, without the daemon: what is claimed, what is kept, what is handed over.
//!
//! A refresh token works once. So a refresh is claimed in the database before it is sent; its answer is on this host's
//! disk before it is used or handed over; and the database takes an answer only for the generation that it still has.

use std::time::Duration;

use super::claims::{RefreshAttempt, RefreshClaims};
use crate::credential::{Credential, Secret};
use crate::pool::{AccountId, Wall};
use crate::shared_pool::{
    HostId, Membership, PoolCredential, PoolKeyError, RefreshClaim, RefreshRefusal, SharedPoolError,
    SharedPoolErrorKind, StoredRefresh, TermId, TokenGeneration,
};

/// How soon a claim is tried again when nothing says when that is of use. News of another credential end the wait.
const AGAIN: Duration = Duration::from_secs(5);

/// What this host is in the pool while it refreshes.
#[derive(Clone, Copy)]
pub(in crate::daemon) struct RefreshingHost<'a> {
    pub(in crate::daemon) membership: &'a Membership,
    pub(in crate::daemon) term: TermId,
    /// How long a claim lasts: a request, and saving its answer.
    pub(in crate::daemon) lasts: Duration,
}

/// A refresh that this host may send, and no other host.
#[derive(Debug)]
pub(in crate::daemon) struct ClaimedRefresh {
    pub(in crate::daemon) attempt: RefreshAttempt,
    pub(in crate::daemon) refresh: Secret,
}

/// Why a refresh is not sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::daemon) struct RefreshWait {
    /// In words, for `status`.
    pub(in crate::daemon) why: String,
    /// When it is tried again.
    pub(in crate::daemon) until: RefreshWaitEnd,
    /// The pool has something that this host has not: its news are read now.
    pub(in crate::daemon) reads_news: bool,
}

/// When a refresh is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::daemon) enum RefreshWaitEnd {
    /// At a time of the database's clock.
    Database(Wall),
    /// After this time.
    After(Duration),
    /// After a time that grows with each try.
    Later,
}

/// Whether a refresh may be sent.
#[derive(Debug)]
pub(in crate::daemon) enum ClaimAnswer {
    /// It may.
    Claimed(ClaimedRefresh),
    /// Not now.
    Waits(RefreshWait),
    /// The pool is behind this host: it has lost the answer to a refresh, and is given the login again.
    PoolIsBehind(TokenGeneration),
    /// There is nothing to refresh: the login has ended, or was never one that can be refreshed.
    LoginEnded,
}

/// What became of the answer to a refresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::daemon) enum HandOver {
    /// The pool has it as this generation.
    Stored(TokenGeneration),
    /// Another host was first: the pool's credential is adopted, and this one is used until then.
    Rotated,
    /// The database is away, or the keys were replaced: it is handed over later.
    Later,
    /// This host has it no more.
    Gone,
}

/// What became of the server's refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::daemon) enum RefusalAnswer {
    /// The login has ended.
    Final,
    /// The login may go on elsewhere.
    Waits(RefreshWait),
}

/// The login on this host's disk and in its memory.
pub(in crate::daemon) trait LocalLogin: Sync {
    /// Saves an answer and the mark that the pool does not have it, and puts it in use when both are on disk. `false` when
    /// the account has another credential by now, or was removed.
    fn keep_answer(
        &self,
        account: AccountId,
        from: TokenGeneration,
        credential: Credential,
        life: Option<Duration>,
    ) -> impl Future<Output = bool> + Send;

    /// A copy of the answer that the pool does not have yet.
    fn answer(&self, account: AccountId) -> Option<(TokenGeneration, Credential)>;

    /// The pool has the answer now, as this generation.
    fn answer_stored(&self, account: AccountId, generation: TokenGeneration) -> impl Future<Output = ()> + Send;

    /// Has the news of the pool read now.
    fn read_news(&self);

    /// A time of this host's clock, on the database's.
    fn to_database(&self, at: Wall) -> Wall;
}

/// Claims the refresh of an account of which this host has generation `known`.
pub(in crate::daemon) async fn claim(
    claims: &impl RefreshClaims,
    host: RefreshingHost<'_>,
    (account, known): (AccountId, TokenGeneration),
    number: u64,
) -> ClaimAnswer {
    let (generation, keys, sealed) = match claims.refresh_token(account).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return ClaimAnswer::LoginEnded,
        Err(error) => return ClaimAnswer::Waits(wait_after(&error)),
    };
    if generation > known {
        return ClaimAnswer::Waits(is_rotated());
    }
    if generation < known {
        return ClaimAnswer::PoolIsBehind(generation);
    }
    let membership = host.membership;
    let refresh = match membership.keys.open_refresh(&membership.pool, account, keys, &sealed) {
        Ok(refresh) => refresh,
        Err(error) => return ClaimAnswer::Waits(wait_for_keys(&error)),
    };
    let attempt = RefreshAttempt { account, generation, number };
    match claims.claim(host.term, attempt, host.lasts).await {
        Ok(RefreshClaim::Claimed) => ClaimAnswer::Claimed(ClaimedRefresh { attempt, refresh }),
        Ok(RefreshClaim::HeldBy { host, until }) => ClaimAnswer::Waits(is_held(host, until)),
        Ok(RefreshClaim::Rotated) => ClaimAnswer::Waits(is_rotated()),
        Ok(RefreshClaim::LoginEnded) => ClaimAnswer::LoginEnded,
        Err(error) => ClaimAnswer::Waits(wait_after(&error)),
    }
}

/// The server has answered with a new credential: it is kept here first, then handed over.
pub(in crate::daemon) async fn settle_new(
    claims: &impl RefreshClaims,
    local: &impl LocalLogin,
    membership: &Membership,
    attempt: RefreshAttempt,
    (credential, life): (Credential, Option<Duration>),
) -> HandOver {
    let RefreshAttempt { account, generation, .. } = attempt;
    let copy = credential.duplicate();
    // before the clock of this host may be set
    let ends = end_of(local, &credential);
    if local.keep_answer(account, generation, credential, life).await {
        return hand_over_until(claims, local, membership, account, Some(ends)).await;
    }
    // the account is another one here; the pool may have no other living token
    let handed = give(claims, membership, (account, generation, &copy), ends).await;
    local.read_news();
    match handed {
        HandOver::Later => HandOver::Gone,
        handed => handed,
    }
}

/// Hands an answer over that the pool does not have yet.
pub(in crate::daemon) async fn hand_over(
    claims: &impl RefreshClaims,
    local: &impl LocalLogin,
    membership: &Membership,
    account: AccountId,
) -> HandOver {
    hand_over_until(claims, local, membership, account, None).await
}

/// The same, with the end of its token, if it was converted when the answer came.
async fn hand_over_until(
    claims: &impl RefreshClaims,
    local: &impl LocalLogin,
    membership: &Membership,
    account: AccountId,
    ends: Option<ConvertedEnd>,
) -> HandOver {
    let Some((from, credential)) = local.answer(account) else { return HandOver::Gone };
    let ends = ends.unwrap_or_else(|| end_of(local, &credential));
    let handed = give(claims, membership, (account, from, &credential), ends).await;
    match handed {
        HandOver::Stored(generation) => local.answer_stored(account, generation).await,
        // ours stays until the pool's is adopted, which removes the mark
        HandOver::Rotated | HandOver::Later => local.read_news(),
        HandOver::Gone => {}
    }
    handed
}

/// When a token ends, on the database's clock.
struct ConvertedEnd(Option<Wall>);

fn end_of(local: &impl LocalLogin, credential: &Credential) -> ConvertedEnd {
    ConvertedEnd(credential.expires_at.map(|at| local.to_database(at)))
}

async fn give(
    claims: &impl RefreshClaims,
    membership: &Membership,
    (account, from, credential): (AccountId, TokenGeneration, &Credential),
    ConvertedEnd(expires_at): ConvertedEnd,
) -> HandOver {
    let (pool, keys) = (&membership.pool, &membership.keys);
    let access = keys.seal_access(pool, account, credential);
    let refresh = credential.refresh.as_ref().map(|token| keys.seal_refresh(pool, account, token)).transpose();
    let (access, refresh) = match (access, refresh) {
        (Ok(access), Ok(refresh)) => (access, refresh),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%account, "a refreshed login cannot be given to the shared pool: {error}");
            return HandOver::Later;
        }
    };
    let keys = keys.generation();
    let sealed = PoolCredential { access: &access, refresh: refresh.as_deref(), expires_at, keys };
    match claims.store(account, from, sealed).await {
        Ok(StoredRefresh::Stored(generation)) => HandOver::Stored(generation),
        Ok(StoredRefresh::Rotated) => HandOver::Rotated,
        // it is not in the pool any more
        Err(error) if error.kind() == SharedPoolErrorKind::NotFound => HandOver::Gone,
        Err(error) => {
            tracing::warn!(
                %account,
                "a refreshed login is used here and is given to the shared pool as soon as that is possible: {error}"
            );
            HandOver::Later
        }
    }
}

/// The server has refused the refresh token. That is final only if no other host may have its successor.
pub(in crate::daemon) async fn settle_refused(claims: &impl RefreshClaims, attempt: RefreshAttempt) -> RefusalAnswer {
    match claims.refuse(attempt).await {
        Ok(RefreshRefusal::Final) => RefusalAnswer::Final,
        Ok(RefreshRefusal::NotYet { host }) => RefusalAnswer::Waits(RefreshWait {
            why: format!(
                "its refresh token was used by host {} of the shared pool, which has not reported the answer yet",
                host.0
            ),
            until: RefreshWaitEnd::After(AGAIN),
            reads_news: true,
        }),
        Ok(RefreshRefusal::Rotated) => RefusalAnswer::Waits(is_rotated()),
        Err(error) => RefusalAnswer::Waits(wait_after(&error)),
    }
}

/// The claim is over without a new token. If the database does not learn that, the claim's deadline ends it.
pub(in crate::daemon) async fn settle_failed(claims: &impl RefreshClaims, attempt: RefreshAttempt, unsent: bool) {
    if let Err(error) = claims.fail(attempt, unsent).await {
        tracing::debug!(account = %attempt.account, "the end of a claim was not reported: {error}");
    }
}

/// Until the pool can be asked again.
pub(in crate::daemon) fn is_away() -> RefreshWait {
    RefreshWait {
        why: "the database of the shared pool cannot be reached".to_owned(),
        until: RefreshWaitEnd::After(AGAIN),
        reads_news: false,
    }
}

/// Until the news bring what another host has stored.
fn is_rotated() -> RefreshWait {
    RefreshWait {
        why: "another host of the shared pool has refreshed it".to_owned(),
        until: RefreshWaitEnd::After(AGAIN),
        reads_news: true,
    }
}

fn is_held(host: HostId, until: Wall) -> RefreshWait {
    RefreshWait {
        why: format!("host {} of the shared pool is refreshing it", host.0),
        until: RefreshWaitEnd::Database(until),
        reads_news: false,
    }
}

fn wait_for_keys(error: &PoolKeyError) -> RefreshWait {
    // a newer generation comes with the news
    let reads_news = matches!(error, PoolKeyError::OtherGeneration { .. });
    let until = if reads_news { RefreshWaitEnd::After(AGAIN) } else { RefreshWaitEnd::Later };
    RefreshWait { why: error.to_string(), until, reads_news }
}

fn wait_after(error: &SharedPoolError) -> RefreshWait {
    let reads_news = matches!(error.kind(), SharedPoolErrorKind::KeysReplaced | SharedPoolErrorKind::NotFound);
    let until = if error.is_temporary() || reads_news { RefreshWaitEnd::After(AGAIN) } else { RefreshWaitEnd::Later };
    RefreshWait { why: error.to_string(), until, reads_news }
}
