//! What is answered to those who ask why, and what could be had.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::Tier;

use super::answer::{AccountLabel, LimitInfo};

/// What could be had of a provider, now and next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ForecastInfo {
    /// How many leases could be granted now.
    pub grantable: u32,
    /// How many of them without sharing an account beyond its capacity.
    pub unshared: u32,
    /// When the next account comes back, or, where more were asked for than can be had, when so many can be; epoch ms.
    /// Null where that is not known.
    pub next_at: Option<u64>,
    /// Every account of the provider.
    pub accounts: Vec<OutlookInfo>,
}

/// What could be had of one account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutlookInfo {
    /// Its id.
    pub id: String,
    /// The user's name for it.
    pub label: Option<String>,
    /// How many leases it would take now.
    pub room: u32,
    /// What stands in its way; null if nothing does.
    pub why: Option<String>,
    /// Until when, epoch ms, where that is known.
    pub until: Option<u64>,
}

/// Why a request got what it got, and what it would get now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExplainInfo {
    /// What is explained: `lease`, `refusal` or `account`.
    pub subject: String,
    /// What was asked for.
    pub request: RequestInfo,
    /// How it was decided, unless only an account is asked about.
    pub decided: Option<DecidedInfo>,
    /// The account that is asked about.
    pub account: Option<AccountLabel>,
    /// Every limit on that account, whatever it stands in the way of.
    pub limits: Vec<LimitInfo>,
    /// What the same request would come to now.
    pub now: VerdictInfo,
    /// The rule among equally loaded accounts.
    pub strategy: String,
    /// What happens when the wanted account is limited.
    pub mode: String,
    /// Every account of the provider, those that can serve first, in the order they would be taken.
    pub candidates: Vec<CandidateInfo>,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RequestInfo {
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The quota it was for.
    pub pool: Option<String>,
    /// What its limits are filed under.
    pub quota_key: String,
    /// Its conversation.
    pub session: Option<String>,
    /// The holder's name for it.
    pub label: Option<String>,
    /// The agent's name.
    pub agent: Option<String>,
    /// The account it named.
    pub account: Option<String>,
}

/// How a request was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecidedInfo {
    /// When, epoch ms.
    pub at: u64,
    /// The lease that was granted.
    pub lease: Option<String>,
    /// Its number.
    pub fence: Option<u64>,
    /// Whether it is still held.
    pub held: bool,
    /// Its account.
    pub account: Option<AccountLabel>,
    /// What decided for the account: `account`, `session`, `preferred`, `reuse`, `pid_offset`, `strategy`, `current`,
    /// `same_account` or `resumed`.
    pub by: Option<String>,
    /// The account a report moved it from.
    pub moved_from: Option<AccountLabel>,
    /// Why it did not stay there.
    pub moved_because: Option<String>,
    /// Of a refusal, its kind.
    pub kind: Option<String>,
    /// Of a refusal, what was said.
    pub message: Option<String>,
}

/// What a request comes to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerdictInfo {
    /// `grant`, `wait` or `refuse`.
    pub outcome: String,
    /// The account it would get.
    pub account: Option<AccountLabel>,
    /// What would decide for it.
    pub by: Option<String>,
    /// What it would wait for or be refused for.
    pub kind: Option<String>,
    /// Until when at least, epoch ms, where that is known.
    pub until: Option<u64>,
    /// What it would be told.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// An account, as choosing sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CandidateInfo {
    /// Its id.
    pub id: String,
    /// The user's name for it.
    pub label: Option<String>,
    /// Its login's address.
    pub email: Option<String>,
    /// Its place among those that can serve, from 1.
    pub rank: Option<u64>,
    /// Why it cannot serve.
    pub why: Option<String>,
    /// Until when, epoch ms, where that is known.
    pub until: Option<u64>,
    /// In words: why the login does not work, why it was disabled, what is left of a reserve.
    pub note: Option<String>,
    /// The limits that stand in its way, with what showed them.
    pub limits: Vec<LimitInfo>,
    /// Which of its quotas would serve.
    pub pool: Option<String>,
    /// Live leases.
    pub leases: u32,
    /// How many it takes before it is shared or waited for.
    pub capacity: u32,
    /// Higher is preferred.
    pub priority: i32,
    /// The plan.
    pub tier: Tier,
    /// Whether it is used beyond the soft threshold, and ranks last.
    pub over_threshold: bool,
    /// How well it has done lately, in points.
    pub health: f64,
    /// What is left of its allowance of attempts.
    pub tokens: f64,
    /// How long it has not been used, ms; null if never.
    pub idle_ms: Option<u64>,
    /// What the strategy `hybrid` makes of health, tokens and rest.
    pub score: f64,
    /// Whether it is the family's current account.
    pub current: bool,
    /// Used of its 5-hour window, from 0 to 1.
    pub used_5h: Option<f64>,
    /// Used of its weekly window.
    pub used_7d: Option<f64>,
    /// When that starts anew, epoch ms.
    pub resets_7d_at: Option<u64>,
}
