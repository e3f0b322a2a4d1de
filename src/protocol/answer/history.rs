//! What happened: requests, leases and events of the past, and sums of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::AccountLabel;
use super::lease::HolderInfo;
use super::request::{RequestRow, TokenSums};
use super::status::EventInfo;

/// What happened in a span of time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryInfo {
    /// The beginning of the span, epoch ms.
    pub since: u64,
    /// Its end, epoch ms.
    pub until: u64,
    /// When the history begins, epoch ms: older rows were deleted, or there are none.
    pub begins_at: Option<u64>,
    /// How many requests, leases and events have no row of their own since the daemon was started, because there was too
    /// much to write or the disk failed. The sums count these requests all the same.
    pub dropped: u64,
    /// How many requests the sums lack since then.
    #[serde(default)]
    pub uncounted: u64,
    /// Sums over all requests of the span that match.
    pub totals: RequestSums,
    /// The same by `by`: hours and days in order of time, all others by the number of requests.
    pub groups: Vec<HistoryGroup>,
    /// With `of = "requests"`: the latest ones, newest first.
    pub requests: Vec<RequestRow>,
    /// With `of = "leases"`: the latest ones, newest first.
    pub leases: Vec<PastLease>,
    /// With `of = "events"`: the latest ones, newest first.
    pub events: Vec<EventInfo>,
    /// There are more rows: `before` for the next page.
    pub next: Option<u64>,
    /// With a shared pool: what this host is called there. Everything here happened on this host.
    pub host: Option<String>,
    /// To a guest: what it calls the host whose history this is a part of.
    pub guest_of: Option<String>,
}

/// Sums over requests.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestSums {
    /// All.
    pub requests: u64,
    /// With a complete response that is no refusal.
    pub ok: u64,
    /// The client got a refusal of the provider, or of lessor.
    pub refused: u64,
    /// Responses that broke off, or said in their middle that they failed.
    pub broken: u64,
    /// The client closed its connection before the response was complete.
    pub cancelled: u64,
    /// Attempts at the provider: more than requests where accounts were switched.
    pub attempts: u64,
    /// Attempts that met a limit of their account.
    pub limited: u64,
    /// Time that requests waited for an account, in ms.
    pub waited_ms: u64,
    /// What the provider stated.
    pub tokens: TokenSums,
    /// What the tokens cost by the table of prices, in US dollars; only of models that it knows.
    pub cost_usd: f64,
}

/// The requests of one hour, day, account, model, agent or directory.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryGroup {
    /// Its name; empty where the requests did not name one.
    pub name: String,
    /// Of an hour or a day: its beginning, epoch ms.
    pub at: Option<u64>,
    /// Of an account: the account.
    pub account: Option<AccountLabel>,
    /// The sums.
    pub sums: RequestSums,
}

/// A lease that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PastLease {
    /// Its id.
    pub lease: String,
    /// Its fencing token.
    pub fence: u64,
    /// The leased account.
    pub account: AccountLabel,
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The quota pool, for providers with several.
    pub pool: Option<String>,
    /// Its session.
    pub session: Option<String>,
    /// The label that the holder chose.
    pub label: Option<String>,
    /// The agent that the holder stated.
    pub agent: Option<String>,
    /// Its holder.
    pub holder: Option<HolderInfo>,
    /// The directory of its holder.
    pub directory: Option<String>,
    /// When it was granted, epoch ms.
    pub granted_at: u64,
    /// When it ended, epoch ms.
    pub ended_at: u64,
    /// Why it ended.
    pub reason: String,
}
