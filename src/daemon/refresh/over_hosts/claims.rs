//! What the refresh of a shared login asks the pool's database.

use std::time::Duration;

use crate::pool::AccountId;
use crate::shared_pool::{
    KeyGeneration, PoolClient, PoolCredential, RefreshClaim, RefreshRefusal, SharedPoolError, StoredRefresh, TermId,
    TokenGeneration,
};

/// An answer of the database, or why there is none.
type FromPool<T> = Result<T, SharedPoolError>;

/// One generation of an account's credential, and the attempt to refresh it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::daemon) struct RefreshAttempt {
    pub(in crate::daemon) account: AccountId,
    pub(in crate::daemon) generation: TokenGeneration,
    /// A random number.
    pub(in crate::daemon) number: u64,
}

/// The calls, so that the tests can order their answers.
pub(in crate::daemon) trait RefreshClaims: Sync {
    /// The sealed refresh token of an account, with the generations of the credential and of the keys.
    fn refresh_token(
        &self,
        account: AccountId,
    ) -> impl Future<Output = FromPool<Option<(TokenGeneration, KeyGeneration, Vec<u8>)>>> + Send;

    /// Claims a refresh; the claim is on disk when this returns.
    fn claim(
        &self,
        term: TermId,
        attempt: RefreshAttempt,
        lasts: Duration,
    ) -> impl Future<Output = FromPool<RefreshClaim>> + Send;

    /// Stores what followed that generation, if nothing has.
    fn store(
        &self,
        account: AccountId,
        from: TokenGeneration,
        credential: PoolCredential<'_>,
    ) -> impl Future<Output = FromPool<StoredRefresh>> + Send;

    /// The claim is over without a new token.
    fn fail(&self, attempt: RefreshAttempt, unsent: bool) -> impl Future<Output = FromPool<()>> + Send;

    /// The server has refused the refresh token.
    fn refuse(&self, attempt: RefreshAttempt) -> impl Future<Output = FromPool<RefreshRefusal>> + Send;
}

impl RefreshClaims for PoolClient {
    async fn refresh_token(&self, account: AccountId) -> FromPool<Option<(TokenGeneration, KeyGeneration, Vec<u8>)>> {
        Self::refresh_token(self, account).await
    }

    async fn claim(&self, term: TermId, attempt: RefreshAttempt, lasts: Duration) -> FromPool<RefreshClaim> {
        self.claim_refresh(term, attempt.account, attempt.generation, attempt.number, lasts).await
    }

    async fn store(
        &self,
        account: AccountId,
        from: TokenGeneration,
        credential: PoolCredential<'_>,
    ) -> FromPool<StoredRefresh> {
        self.store_refreshed(account, from, credential).await
    }

    async fn fail(&self, attempt: RefreshAttempt, unsent: bool) -> FromPool<()> {
        self.fail_refresh(attempt.account, attempt.generation, attempt.number, unsent).await
    }

    async fn refuse(&self, attempt: RefreshAttempt) -> FromPool<RefreshRefusal> {
        self.refuse_refresh(attempt.account, attempt.generation, attempt.number).await
    }
}
