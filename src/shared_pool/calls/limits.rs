//! What the hosts learn about accounts: limits, usage, and who looks next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::records::{limits_json, small_millis, sql_time};
use crate::limits::Scope;
use crate::pool::{AccountId, LimitRecord, Usage, Wall};
use crate::shared_pool::database::client::{PoolClient, int8, text};
use crate::shared_pool::database::error::SharedPoolError;
use crate::shared_pool::ids::{TermId, sql_id};

/// The answer to a claim of the duty to probe an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeClaim {
    /// This host alone probes it.
    Claimed(ProbeEnd),
    /// Another host does.
    Held,
    /// These limits are over already: another host has found out.
    Cleared(Vec<(Scope, String)>),
    /// The account is limited again.
    Limited,
}

/// When the duty of a probe ends, on the database's clock: it names one claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeEnd(pub i64);

#[derive(Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum ProbeAnswer {
    Claimed { until: i64 },
    Held,
    Cleared { cleared: Vec<LimitName> },
    Limited,
}

/// Which limit of an account.
#[derive(Serialize, Deserialize)]
struct LimitName {
    scope: Scope,
    key: String,
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

    /// Clears one limit of an account, or all, as far as they were set before `at`, or before this moment. What was set
    /// before does not come back.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn clear_limit(
        &self,
        account: AccountId,
        which: Option<(Scope, &str)>,
        at: Option<Wall>,
    ) -> Result<(), SharedPoolError> {
        let (scope, key) = which.map_or((None, None), |(scope, key)| (Some(scope.name()), Some(key)));
        let (account, at) = (sql_id(account), at.map(sql_time));
        let parameters = [int8(&account), text(&scope), text(&key), int8(&at)];
        self.row("select lessor.clear_limit($1, $2, $3, $4)::text", &parameters).await.map(drop)
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

    /// Whether this host reads the usage of an account now: then no other does for `every`.
    ///
    /// # Errors
    /// When the database is away, this host is no member, or the term is over.
    pub async fn claim_reading(
        &self,
        term: TermId,
        account: AccountId,
        every: Duration,
    ) -> Result<bool, SharedPoolError> {
        let (account, every) = (sql_id(account), small_millis(every));
        let parameters = [int8(&term.0), int8(&account), int8(&every)];
        self.value("select lessor.claim_reading($1, $2, $3)", &parameters).await
    }

    /// Claims the duty to probe an account, to find out whether these limits are over: no other host does for as long as
    /// `lasts`, the term, or until [`Self::end_probe`].
    ///
    /// # Errors
    /// When the database is away, this host is no member, or the term is over.
    pub async fn claim_probe(
        &self,
        term: TermId,
        account: AccountId,
        limits: &[(Scope, String)],
        lasts: Duration,
    ) -> Result<ProbeClaim, SharedPoolError> {
        let names = limits.iter().map(|(scope, key)| LimitName { scope: *scope, key: key.clone() });
        let names = names.collect::<Vec<_>>();
        let names = serde_json::to_string(&names).map_err(|error| self.bad_answer(error))?;
        let (account, lasts) = (sql_id(account), small_millis(lasts));
        let parameters = [int8(&term.0), int8(&account), text(&names), int8(&lasts)];
        let json: String = self.value("select lessor.claim_probe($1, $2, $3::json, $4)::text", &parameters).await?;
        Ok(match serde_json::from_str(&json).map_err(|error| self.bad_answer(error))? {
            ProbeAnswer::Claimed { until } => ProbeClaim::Claimed(ProbeEnd(until)),
            ProbeAnswer::Held => ProbeClaim::Held,
            ProbeAnswer::Cleared { cleared } => {
                ProbeClaim::Cleared(cleared.into_iter().map(|limit| (limit.scope, limit.key)).collect())
            }
            ProbeAnswer::Limited => ProbeClaim::Limited,
        })
    }

    /// Ends the duty to probe an account that was claimed.
    ///
    /// # Errors
    /// When the database is away or this host is no member.
    pub async fn end_probe(&self, term: TermId, account: AccountId, claim: ProbeEnd) -> Result<(), SharedPoolError> {
        let account = sql_id(account);
        let parameters = [int8(&term.0), int8(&account), int8(&claim.0)];
        self.row("select lessor.end_probe($1, $2, $3)::text", &parameters).await.map(drop)
    }
}
