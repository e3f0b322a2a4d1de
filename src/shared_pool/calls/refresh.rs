//! Claims to refresh a login: one refresh at a time in the whole pool, and no lost token.

use std::time::Duration;

use super::accounts::PoolCredential;
use super::records::{small_millis, sql_time};
use crate::pool::{AccountId, Wall};
use crate::shared_pool::database::client::{PoolClient, boolean, bytea, int4, int8};
use crate::shared_pool::database::error::SharedPoolError;
use crate::shared_pool::ids::{HostId, TermId, TokenGeneration, sql_id};

/// Whether this host may send a refresh now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefreshClaim {
    /// It may: the claim is on disk.
    Claimed,
    /// Another host has claimed this generation. It may be taken over at `until`: when the access token has ended and the
    /// claim's deadline has passed.
    HeldBy {
        /// The other host.
        host: HostId,
        /// On the database's clock.
        until: Wall,
    },
    /// The credential was replaced: the pool has a newer one.
    Rotated,
    /// The user must log in again.
    LoginEnded,
}

/// What became of a refreshed credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredRefresh {
    /// It is the pool's now, with this generation.
    Stored(TokenGeneration),
    /// Another host has rotated since: adopt the pool's.
    Rotated,
}

/// What a refusal of the refresh token means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefreshRefusal {
    /// The login has ended: no other request with this token is under way.
    Final,
    /// This host has not reported what became of its own request with this token: it may have the living one.
    NotYet {
        /// The other host.
        host: HostId,
    },
    /// The credential was replaced since: the refusal concerns an older one.
    Rotated,
}

impl PoolClient {
    /// Claims the refresh of one generation of a credential (refreshers), before the request is sent. The claim survives
    /// this host; the same call again answers the same. Report its end with [`store_refreshed`](Self::store_refreshed),
    /// [`fail_refresh`](Self::fail_refresh) or [`refuse_refresh`](Self::refuse_refresh).
    ///
    /// # Errors
    /// When the database is away, this host is no refresher, the term is over or the account is not in the pool.
    pub async fn claim_refresh(
        &self,
        term: TermId,
        account: AccountId,
        generation: TokenGeneration,
        attempt: u64,
        lasts: Duration,
    ) -> Result<RefreshClaim, SharedPoolError> {
        let (attempt, lasts) = (attempt.cast_signed(), small_millis(lasts));
        let account = sql_id(account);
        let parameters = [int8(&term.0), int8(&account), int8(&generation.0), int8(&attempt), int8(&lasts)];
        let sql = "select outcome, host, until from lessor.claim_refresh($1, $2, $3, $4, $5)";
        let row = self.row(sql, &parameters).await?;
        match self.get::<&str>(&row, 0)? {
            "claimed" => Ok(RefreshClaim::Claimed),
            "rotated" => Ok(RefreshClaim::Rotated),
            "ended" => Ok(RefreshClaim::LoginEnded),
            "held" => Ok(RefreshClaim::HeldBy {
                host: HostId(self.get(&row, 1)?),
                until: Wall(self.get::<i64>(&row, 2)?.cast_unsigned()),
            }),
            other => Err(self.bad_answer(format_args!("the outcome {other:?} of a claim"))),
        }
    }

    /// Stores the answer of a refresh of generation `from` (refreshers), whichever host has the claim now: it is the only living
    /// token if no host has rotated since. Ends all claims on that generation. Without a new refresh token the old one
    /// stays.
    ///
    /// # Errors
    /// When the database is away, this host is no refresher, or the keys were replaced. Keep the answer and try again.
    pub async fn store_refreshed(
        &self,
        account: AccountId,
        from: TokenGeneration,
        credential: PoolCredential<'_>,
    ) -> Result<StoredRefresh, SharedPoolError> {
        let PoolCredential { access, refresh, expires_at, keys } = credential;
        let (account, expires_at) = (sql_id(account), expires_at.map(sql_time));
        let parameters =
            [int8(&account), int8(&from.0), int4(&keys.0), bytea(&access), bytea(&refresh), int8(&expires_at)];
        let stored: Option<i64> =
            self.value("select lessor.store_refreshed($1, $2, $3, $4, $5, $6)", &parameters).await?;
        Ok(stored.map_or(StoredRefresh::Rotated, |generation| StoredRefresh::Stored(TokenGeneration(generation))))
    }

    /// Reports that a claim is over without a new token: it was not sent (`unsent`), or it failed and no answer will come.
    ///
    /// # Errors
    /// When the database is away or this host is no refresher.
    pub async fn fail_refresh(
        &self,
        account: AccountId,
        generation: TokenGeneration,
        attempt: u64,
        unsent: bool,
    ) -> Result<(), SharedPoolError> {
        let (account, attempt) = (sql_id(account), attempt.cast_signed());
        let parameters = [int8(&account), int8(&generation.0), int8(&attempt), boolean(&unsent)];
        self.row("select lessor.fail_refresh($1, $2, $3, $4)::text", &parameters).await.map(drop)
    }

    /// Reports that the server refused the refresh token (`invalid_grant`). When that is final, set the login state.
    ///
    /// # Errors
    /// When the database is away or this host is no refresher.
    pub async fn refuse_refresh(
        &self,
        account: AccountId,
        generation: TokenGeneration,
        attempt: u64,
    ) -> Result<RefreshRefusal, SharedPoolError> {
        let (account, attempt) = (sql_id(account), attempt.cast_signed());
        let parameters = [int8(&account), int8(&generation.0), int8(&attempt)];
        let row = self.row("select outcome, host from lessor.refuse_refresh($1, $2, $3)", &parameters).await?;
        match self.get::<&str>(&row, 0)? {
            "final" => Ok(RefreshRefusal::Final),
            "rotated" => Ok(RefreshRefusal::Rotated),
            "open" => Ok(RefreshRefusal::NotYet { host: HostId(self.get(&row, 1)?) }),
            other => Err(self.bad_answer(format_args!("the outcome {other:?} of a refusal"))),
        }
    }
}
