//! Explanations of decisions, and forecasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::{AccountLabel, LimitInfo};
use crate::{pool::Tier, protocol::error::ErrorKind};

/// Which leases of a provider are available now and next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ForecastInfo {
    /// How many leases could be granted now.
    pub grantable: u32,
    /// How many of them without sharing an account beyond its capacity.
    pub unshared: u32,
    /// When the next account becomes available, or, if more leases were requested than are available, when there are
    /// enough; epoch ms. Null if not known.
    pub next_at: Option<u64>,
    /// Every account of the provider.
    pub accounts: Vec<OutlookInfo>,
    /// The accounts that may be used, in words; null if any.
    #[serde(default)]
    pub set: Option<String>,
}

/// The outlook for one account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutlookInfo {
    /// Its id.
    pub id: String,
    /// The label that the user chose.
    pub label: Option<String>,
    /// How many leases it would take now.
    pub room: u32,
    /// What blocks it; null if nothing does.
    pub why: Option<String>,
    /// Until when, epoch ms, if known.
    pub until: Option<u64>,
}

/// How a request was decided, and what it would get now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExplainInfo {
    /// What is explained: `lease`, `refusal` or `account`.
    pub subject: String,
    /// The request.
    pub request: RequestInfo,
    /// The decision; none if only an account is explained.
    pub decided: Option<DecidedInfo>,
    /// The explained account.
    pub account: Option<AccountLabel>,
    /// Every limit of that account, whatever it applies to.
    pub limits: Vec<LimitInfo>,
    /// What the same request would get now.
    pub now: VerdictInfo,
    /// The strategy for choosing among equally loaded accounts.
    pub strategy: String,
    /// The mode, which says what happens when the preferred account is limited.
    pub mode: String,
    /// Every account of the provider; available ones first, in the order of preference.
    pub candidates: Vec<CandidateInfo>,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RequestInfo {
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The requested quota pool.
    pub pool: Option<String>,
    /// The key of the quota that its limits apply to.
    pub quota_key: String,
    /// Its session.
    pub session: Option<String>,
    /// The label that the holder chose.
    pub label: Option<String>,
    /// The agent's name.
    pub agent: Option<String>,
    /// The requested account.
    pub account: Option<String>,
    /// The accounts that it may use, in words; null if any.
    #[serde(default)]
    pub set: Option<String>,
}

/// How a request was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecidedInfo {
    /// When, epoch ms.
    pub at: u64,
    /// The lease that was granted.
    pub lease: Option<String>,
    /// Its fencing token.
    pub fence: Option<u64>,
    /// Whether it is still held.
    pub held: bool,
    /// Its account.
    pub account: Option<AccountLabel>,
    /// What determined the account: `account`, `session`, `parent`, `preferred`, `reuse`, `pid_offset`, `strategy`,
    /// `current`, `same_account`, `moved` or `resumed`.
    pub by: Option<String>,
    /// The account that a report switched it from.
    pub moved_from: Option<AccountLabel>,
    /// Why it was switched.
    pub moved_because: Option<String>,
    /// Of a refusal, the kind.
    pub kind: Option<ErrorKind>,
    /// Of a refusal, its message.
    pub message: Option<String>,
    /// What decided for the account over the others, when the lease was granted.
    pub compared: Option<ComparedInfo>,
    /// Of a refusal, the earliest time at which another try could succeed, epoch ms, if it was known.
    pub until: Option<u64>,
    /// Its holder's process.
    pub pid: Option<u32>,
    /// The id of the sub-agent that it is for, as its agent names it.
    pub subagent: Option<String>,
    /// The account of the agent that has started the sub-agent, at that time.
    pub parent: Option<AccountLabel>,
    /// Why the sub-agent was not to get that account before others: `setting`, `subagents`, `in_flight`,
    /// `soft_threshold`, `limit` or `moved`.
    pub apart: Option<String>,
}

/// What decided for an account over the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComparedInfo {
    /// The account that would have been next; null if no other one could serve.
    pub over: Option<AccountLabel>,
    /// The first criterion in which the two differ: `quota_pool`, `overage`, `soft_threshold`, `leases`, `subagents`, `priority`,
    /// `tier`, `pid_offset`, `current`, `turn`, `health`, `tokens`, `score`, `used_7d`, `used_5h`, `resets_7d_at`,
    /// `used`, `idle` or `order`. Null if the order did not decide.
    pub criterion: Option<String>,
    /// The value of the chosen account, for people; of `pid_offset` the process id.
    pub chosen: Option<String>,
    /// The value of the other account.
    pub other: Option<String>,
    /// The account that would have come first, and could not serve.
    pub passed: Option<PassedInfo>,
}

/// An account that comes before the order, and cannot serve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PassedInfo {
    /// The account.
    pub account: AccountLabel,
    /// What it is: `session` or `preferred`.
    pub by: String,
    /// Why it cannot serve, as for a candidate; `overage` if its plan is used up.
    pub why: String,
    /// Until when, epoch ms, if known.
    pub until: Option<u64>,
}

/// The outcome of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerdictInfo {
    /// `grant`, `wait` or `refuse`.
    pub outcome: String,
    /// The account it would get.
    pub account: Option<AccountLabel>,
    /// What would determine the account.
    pub by: Option<String>,
    /// The kind of refusal, or what it would wait for.
    pub kind: Option<ErrorKind>,
    /// The earliest end of the wait, epoch ms, if known.
    pub until: Option<u64>,
    /// What would decide for the account over the others.
    pub compared: Option<ComparedInfo>,
    /// The message of the refusal.
    pub message: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
}

/// An account as a candidate for the request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CandidateInfo {
    /// Its id.
    pub id: String,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
    /// Its rank among the available accounts, from 1.
    pub rank: Option<u64>,
    /// Why it cannot serve.
    pub why: Option<String>,
    /// Until when, epoch ms, if known.
    pub until: Option<u64>,
    /// For people: why the login does not work, why it was disabled, what is left of a reserve.
    pub note: Option<String>,
    /// The limits that block it, with their evidence.
    pub limits: Vec<LimitInfo>,
    /// The quota pool that would be used.
    pub pool: Option<String>,
    /// Its number of leases.
    pub leases: u32,
    /// How many leases it takes before the overflow rule applies.
    pub capacity: u32,
    /// Accounts with a higher priority are preferred.
    pub priority: i32,
    /// The plan.
    pub tier: Tier,
    /// Whether its usage is above the soft threshold, so that it ranks last.
    pub over_threshold: bool,
    /// Its health, in points.
    pub health: f64,
    /// Its remaining tokens.
    pub tokens: f64,
    /// The time since its last use, ms; null if it was never used.
    pub idle_ms: Option<u64>,
    /// Its score in the strategy `hybrid`, from health, tokens and idle time.
    pub score: f64,
    /// Whether it is the family's current account.
    pub current: bool,
    /// The used share of its 5-hour window, from 0 to 1.
    pub used_5h: Option<f64>,
    /// The used share of its weekly window, from 0 to 1.
    pub used_7d: Option<f64>,
    /// When the weekly window resets, epoch ms.
    pub resets_7d_at: Option<u64>,
    /// Whether it is used only while no other account can serve.
    #[serde(default)]
    pub fallback_only: bool,
}
