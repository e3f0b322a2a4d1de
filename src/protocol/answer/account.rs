//! Accounts: what their owner sees, their limits and their quota windows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Text;
use crate::pool::{AccountId, CredentialKind, Pool, Tier};

/// An account, as shown to its holder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountName<'a> {
    /// Its id.
    pub id: Text<'a>,
    /// The label that the user chose.
    pub label: Option<Text<'a>>,
    /// The email address of the login, followed by the organisation if an earlier account has the same address.
    pub email: Option<Text<'a>>,
    /// The plan.
    pub tier: Tier,
}

/// An account's id and what people call it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccountLabel {
    /// Its id.
    pub id: String,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
}

impl AccountLabel {
    /// Of an account in the pool; only the id if it was removed.
    #[must_use]
    pub fn of(pool: &Pool, id: AccountId) -> Self {
        let record = pool.account(id).map(|account| &account.record);
        Self {
            id: id.to_string(),
            label: record.and_then(|record| record.label.clone()),
            email: record.and_then(|record| record.email.clone()),
        }
    }
}

/// An account, as shown to its owner.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountInfo {
    /// Its id.
    pub id: String,
    /// The upstream.
    pub provider: String,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// Whether its key or token was never accepted by the provider.
    pub unchecked: bool,
    /// `ready`, `partly_limited`, `limited`, `waiting_for_token`, `cannot_renew`, `needs_login`, `needs_verification` or
    /// `disabled`.
    pub state: String,
    /// Why it is not ready, for people.
    pub state_reason: Option<String>,
    /// The URL where the user can resolve it.
    pub state_link: Option<String>,
    /// Whether both the user and the configuration enable it.
    pub enabled: bool,
    /// How many leases it has.
    pub leases: u32,
    /// How many leases it takes before the overflow rule applies.
    pub capacity: u32,
    /// Accounts with a higher priority are preferred.
    pub priority: i32,
    /// Which agents may use it; `any` for all.
    #[serde(rename = "use")]
    pub allowed_agents: Vec<String>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// When its credential expires, epoch ms.
    pub credential_expires_at: Option<u64>,
    /// Its current limits.
    pub limits: Vec<LimitInfo>,
    /// Its known quota windows.
    pub usage: Vec<UsageInfo>,
    /// When it was added, epoch ms.
    pub created_at: u64,
    /// When it was last leased, epoch ms.
    pub last_used_at: Option<u64>,
    /// The provider's id of the account: at OpenAI that of the workspace, else that of the person.
    pub account_id: Option<String>,
    /// The other tool that has the same login.
    pub link: Option<LinkInfo>,
    /// The provider's name for the plan.
    pub plan: Option<String>,
    /// Why the latest usage query failed.
    pub usage_trouble: Option<String>,
    /// The provider's id of the person.
    pub person_id: Option<String>,
    /// The provider's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
    /// How many requests of the gateway are under way on it: sent, and neither refused nor answered in full.
    #[serde(default)]
    pub in_flight: u64,
    /// When its usage is asked for next, epoch ms; null if that is not planned.
    pub usage_next_at: Option<u64>,
    /// Of an account that needs its user: the command that lets it serve, or what else does.
    pub remedy: Option<String>,
    /// The API that the login is for, if it is one for the provider's public API: it is used like a key of that API.
    pub resource: Option<String>,
    /// The id of the OAuth client that made the login, where that is known.
    pub client_id: Option<String>,
    /// The limit resets that it has banked with its provider; null if none are known.
    pub resets: Option<BankedResetsInfo>,
    /// The part of its windows that is kept for requests that name it, 0 to 1.
    #[serde(default)]
    pub reserve: f64,
    /// Whether it is used only while no other account can serve.
    #[serde(default)]
    pub fallback_only: bool,
    /// How many requests of the gateway may be under way on it: as configured, or as learnt from its limits.
    pub in_flight_cap: Option<u64>,
    /// How many leases of sub-agents it has.
    #[serde(default)]
    pub subagents: u32,
    /// With a shared pool: `pool` (all its hosts use the account) or `own` (this host only).
    pub sharing: Option<String>,
    /// The seats of it that other hosts hold.
    #[serde(default)]
    pub elsewhere: Vec<HostSeatsInfo>,
}

/// Seats of one account on one other host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HostSeatsInfo {
    /// The name of the host.
    pub host: String,
    /// How many seats.
    pub seats: u64,
}

impl AccountInfo {
    /// Which kind of credential the provider takes it as.
    #[must_use]
    pub fn api_kind(&self) -> CredentialKind {
        if self.resource.is_some() { CredentialKind::ApiKey } else { self.kind }
    }
}

/// The limit resets that an account has banked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct BankedResetsInfo {
    /// How many can be used.
    pub available: u32,
    /// When the first of them expires, epoch ms, if that is known.
    pub next_expires_at: Option<u64>,
    /// When this was read, epoch ms.
    pub as_of: u64,
    /// Whether the use of one has begun and its result is not known; `account.reset` repeats it.
    pub unfinished: bool,
}

/// What became of the use of a banked reset.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UsedResetInfo {
    /// How many windows the provider has reset, if it says so.
    pub windows: Option<u32>,
    /// Whether an earlier attempt, whose result was not known, had used it already. No second reset was used.
    pub was_used_before: bool,
    /// Why the usage could not be read afterwards; limits last until it is.
    pub usage_trouble: Option<String>,
    /// The account afterwards.
    pub account: AccountInfo,
}

/// What a provider answered to the credential of an account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckInfo {
    /// `accepted`, `refused`, `unreachable`, or `unknown` if the answer says nothing about the credential.
    pub outcome: String,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// What the provider said, or why it was not reached.
    pub message: Option<String>,
    /// The URL where the user can resolve it.
    pub link: Option<String>,
    /// The account afterwards.
    pub account: AccountInfo,
}

/// A login that another tool stores.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LinkInfo {
    /// The tool.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// `link` (the tool refreshes it), `take-over` (lessor does), `share` (both do) or `start-tool` (the tool does, when
    /// lessor starts it).
    pub mode: String,
    /// Why its file cannot be read now.
    pub trouble: Option<String>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LimitInfo {
    /// The quota key it applies to; empty for the whole account.
    pub key: String,
    /// Why.
    pub reason: String,
    /// What it applies to.
    pub scope: String,
    /// When it ends, epoch ms.
    pub until: u64,
    /// Where it comes from: `server`, `report` or `table` (the configured backoff).
    pub source: String,
    /// When it was set, epoch ms.
    pub since: u64,
    /// The evidence, in a few words.
    pub evidence: Option<String>,
    /// The URL where the user can resolve it.
    pub link: Option<String>,
}

/// A quota window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UsageInfo {
    /// Its name.
    pub window: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was reported, epoch ms.
    pub as_of: u64,
    /// The quota key it belongs to, and a model behind a colon; empty for the whole account.
    pub key: String,
    /// Whether it is a short-term rate of requests or tokens. Rates do not influence which account is chosen.
    pub rate: bool,
    /// Whether it may be out of date: it is old, or the window has been reset since.
    pub stale: bool,
    /// How fast it is used: at 1 it lasts exactly until the reset, at 2 half as long. Null where the window's length
    /// or its reset is not known.
    pub pace: Option<f64>,
}

/// How many accounts there are, by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccountTotals {
    /// All.
    pub total: u64,
    /// Can be leased.
    pub ready: u64,
    /// Limited for a model or for one of several quotas.
    pub partly_limited: u64,
    /// Limited altogether.
    pub limited: u64,
    /// Wait for a token that is being refreshed.
    #[serde(default)]
    pub waiting_for_token: u64,
    /// Have a token that has ended, and lack settings for its refresh.
    #[serde(default)]
    pub cannot_renew: u64,
    /// Must log in again.
    pub needs_login: u64,
    /// Must be verified with the provider.
    pub needs_verification: u64,
    /// Disabled.
    pub disabled: u64,
}
