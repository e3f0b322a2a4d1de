//! What the hosts learn about accounts: limits, usage, and who looks next.

use std::time::Duration;

use super::client::{PoolClient, int8, text};
use super::error::SharedPoolError;
use super::ids::TermId;
use super::records::{limits_json, small_millis, sql_id, sql_time};
use crate::limits::Scope;
use crate::pool::{AccountId, LimitRecord, Usage, Wall};

/// What one host does for all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DutyKind {
    /// Reads the usage of an account.
    Usage,
    /// Tests whether a limit is over.
    Probe,
}

impl DutyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Probe => "probe",
        }
    }
}

impl PoolClient {
    /// Merges a limit into the pool by invariant I8; its times are on the database's clock. Returns whether the pool took
    /// it: not when a stronger one holds, or when it was set before its last clearing.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn set_limit(&self, limit: &LimitRecord) -> Result<bool, SharedPoolError> {
        let json = limits_json(std::slice::from_ref(limit)).map_err(|error| self.bad_answer(error))?;
        self.value("select lessor.set_limits($1::json) > 0", &[text(&json)]).await
    }

    /// Clears one limit of an account, or all. What was set before this moment does not come back.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn clear_limit(&self, account: AccountId, which: Option<(Scope, &str)>) -> Result<(), SharedPoolError> {
        let (scope, key) = which.map_or((None, None), |(scope, key)| (Some(scope.name()), Some(key)));
        let account = sql_id(account);
        let parameters = [int8(&account), text(&scope), text(&key)];
        self.row("select lessor.clear_limit($1, $2, $3)::text", &parameters).await.map(drop)
    }

    /// Merges what was read of an account's usage, window by window: the later reading wins. Times are on the database's
    /// clock.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn set_usage(&self, account: AccountId, usage: &Usage, read_at: Wall) -> Result<(), SharedPoolError> {
        let windows = serde_json::to_string(&usage.windows).map_err(|error| self.bad_answer(error))?;
        let (account, read_at) = (sql_id(account), sql_time(read_at));
        let parameters = [int8(&account), text(&windows), int8(&read_at)];
        self.row("select lessor.set_usage($1, $2::json, $3)::text", &parameters).await.map(drop)
    }

    /// Whether this host does this now: then no other does for `every`.
    ///
    /// # Errors
    /// When the database is away, this host is no member, or the term is over.
    pub async fn claim_duty(
        &self,
        term: TermId,
        account: AccountId,
        kind: DutyKind,
        every: Duration,
    ) -> Result<bool, SharedPoolError> {
        let (account, kind, every) = (sql_id(account), kind.name(), small_millis(every));
        let parameters = [int8(&term.0), int8(&account), text(&kind), int8(&every)];
        self.value("select lessor.claim_duty($1, $2, $3, $4)", &parameters).await
    }
}
