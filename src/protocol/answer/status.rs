//! The daemon itself: greeting, status, configuration, gateway, events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::{AccountLabel, AccountTotals, UsageInfo};
use super::lease::{HolderInfo, QueueRow, SecretText};
use super::pool::PoolSummaryInfo;
use super::request::RequestRow;

/// How the warning of a daemon begins that ends, or is restarted, and waits for something before.
pub const ENDING: &str = "stopping: ";

/// To `hello`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HelloInfo {
    /// `lessor`.
    pub server: String,
    /// The daemon's version.
    pub version: String,
    /// The protocol version that both sides speak.
    pub protocol: u32,
    /// The daemon's process id.
    pub pid: u32,
    /// Its features beyond the first version, and the encoding of its binary frames.
    pub features: Vec<String>,
}

/// The state of the daemon.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has been running, ms.
    pub uptime_ms: u64,
    /// Where it listens.
    pub socket: String,
    /// Where the gateway listens; none while it does not.
    pub gateway: Option<GatewayInfo>,
    /// The configuration file and its state.
    pub config: ConfigState,
    /// How many accounts there are, by state.
    pub accounts: AccountTotals,
    /// The number of leases.
    pub leases: u64,
    /// The waiting requests, in order.
    pub queue: Vec<QueueRow>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Why the gateway does not listen on a configured address.
    pub gateway_trouble: Option<String>,
    /// How many requests of the gateway are under way; those that wait for an account are not counted.
    #[serde(default)]
    pub in_flight: u64,
    /// The history; none while it is turned off.
    pub history: Option<HistoryStatus>,
    /// Of each provider with accounts: whether an agent can start now, and on what.
    #[serde(default)]
    pub providers: Vec<ProviderInfo>,
    /// The pool that this host shares with others; none without one.
    pub pool: Option<PoolSummaryInfo>,
    /// The other machines and containers that use this daemon's accounts.
    #[serde(default)]
    pub guests: Vec<GuestInfo>,
    /// The daemon whose accounts this one uses; null while it uses its own.
    pub host: Option<HostInfo>,
}

/// Another machine, or a container, that uses this daemon's accounts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GuestInfo {
    /// User and host name as the guest states them, or the name of the share.
    pub name: String,
    /// `ssh` or `socket`.
    pub kind: String,
    /// `up`; or `down` while its leases wait for the link to come back.
    pub state: String,
    /// Since when it is in this state, epoch ms.
    pub since: u64,
    /// How many leases it has.
    pub leases: u64,
    /// How many it may have.
    pub max_leases: Option<u32>,
    /// The accounts that it may use; null for all.
    pub only: Option<Vec<String>>,
    /// The version of lessor there.
    pub version: Option<String>,
}

/// The daemon whose accounts this one uses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// As it was given to `lessor join`.
    pub name: String,
    /// `up` or `down`.
    pub state: String,
    /// Since when, epoch ms.
    pub since: u64,
    /// Why the link is down.
    pub trouble: Option<String>,
}

/// The state of the history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryStatus {
    /// When it begins, epoch ms; none while it is empty.
    pub begins_at: Option<u64>,
    /// How large its files are, in bytes.
    pub bytes: u64,
    /// How many requests, leases and events have no row of their own since the daemon was started, because there was too
    /// much to write or the disk failed. The sums count these requests all the same.
    pub dropped: u64,
    /// How many requests the sums lack since then.
    #[serde(default)]
    pub uncounted: u64,
}

/// Whether an agent of a provider can start now, on what, and if not, when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProviderInfo {
    /// The provider.
    pub provider: String,
    /// The vendor's agent, for which this holds; null for a provider without one.
    pub agent: Option<String>,
    /// How many accounts it has.
    pub accounts: u64,
    /// How many of them can serve a request without a model now.
    pub serving: u64,
    /// How many could, but have as many leases as they may have.
    pub busy: u64,
    /// How many have limits for such a request.
    pub limited: u64,
    /// How many of those can still serve other models or quota pools.
    pub partly_limited: u64,
    /// How many leases can be granted now.
    pub grantable: u64,
    /// The account that the next agent gets; null if that depends on its process.
    pub next: Option<AccountLabel>,
    /// If none can serve: when the first can, epoch ms, if known.
    pub free_at: Option<u64>,
    /// Which account that is.
    pub first_free: Option<AccountLabel>,
}

/// The account of an agent's session, and what the agent may want to show of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AgentSessionInfo {
    /// The account that the session's last request was given, else the one that the agent has leased; null if neither is
    /// known.
    pub account: Option<AccountLabel>,
    /// The account's state.
    pub state: Option<String>,
    /// If it is limited: until when, epoch ms.
    pub limited_until: Option<u64>,
    /// Its quota windows, without rates.
    pub usage: Vec<UsageInfo>,
    /// Whether something was learnt of what the agent states.
    pub learnt: bool,
    /// How many requests wait for an account of the provider.
    pub waiting: u64,
    /// The provider's accounts; null if it has none.
    pub provider: Option<ProviderInfo>,
}

/// Where the gateway listens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GatewayInfo {
    /// `http://HOST:PORT`; requests append the provider's name and the path of its own API.
    pub url: Option<String>,
    /// The Unix socket, which needs no key.
    pub socket: Option<String>,
    /// `https://HOST:PORT`, if the gateway also serves TLS.
    pub secure_url: Option<String>,
    /// The certificate of lessor's own CA, for programs that add it to the system's.
    pub ca_file: Option<String>,
    /// The system's certificates and lessor's, for programs that replace the system's by it.
    pub ca_bundle: Option<String>,
    /// The first moment at which the certificate for TLS is valid, epoch ms.
    pub certificate_from: Option<u64>,
    /// The last moment, epoch ms; another certificate takes its place before that.
    pub certificate_until: Option<u64>,
}

/// A key for the gateway, and the gateway's addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GatewayAccess {
    /// The key, to be used as the client's API key.
    pub key: SecretText<'static>,
    /// `http://HOST:PORT`; requests append the provider's name and the path of its own API.
    pub url: Option<String>,
    /// The Unix socket, which needs no key.
    pub socket: Option<String>,
    /// Why it does not listen on a configured address.
    pub trouble: Option<String>,
    /// Of a lasting key: its id, which is no secret.
    pub id: Option<String>,
    /// When the key ends, epoch ms; the key of a lease ends with the lease.
    pub expires_at: Option<u64>,
    /// `https://HOST:PORT`, if the gateway also serves TLS.
    pub secure_url: Option<String>,
    /// The certificate of lessor's own CA, for programs that add it to the system's.
    pub ca_file: Option<String>,
    /// The system's certificates and lessor's, for programs that replace the system's by it.
    pub ca_bundle: Option<String>,
    /// Whether the gateway relays WebSockets of the Responses API.
    pub websocket: Option<bool>,
}

/// A way into the gateway's page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PageAccess {
    /// Where the page is; none while the gateway does not listen.
    pub url: Option<String>,
    /// Why the gateway does not listen on a configured address.
    pub trouble: Option<String>,
    /// The code that opens the page once, as the fragment of the URL; none in the answer to `wait_for`.
    pub code: Option<SecretText<'static>>,
    /// When the code ends, epoch ms.
    pub expires_at: Option<u64>,
    /// `open`: the code can be used; `used`, or `ended`: it was not used in time.
    pub state: String,
}

/// A lasting key of the gateway, without the key itself: only its hash is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GatewayKeyInfo {
    /// Its id, made from the hash.
    pub id: String,
    /// The label that was given to it.
    pub label: Option<String>,
    /// The agent that it is for.
    pub agent: Option<String>,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// When it was made, epoch ms; not known of a key that an earlier version made.
    pub created_at: Option<u64>,
    /// Since when it is listed, epoch ms.
    pub listed_at: u64,
    /// When it ends, epoch ms.
    pub expires_at: Option<u64>,
    /// When it was last used, epoch ms.
    pub last_used_at: Option<u64>,
    /// When it was revoked, epoch ms.
    pub revoked_at: Option<u64>,
    /// How many requests with it have a lease or wait for an account.
    pub leases: u32,
    /// How many it may have at the same time.
    pub max_leases: Option<u32>,
    /// The directory that its clients work in.
    #[serde(default)]
    pub directory: Option<String>,
}

/// A key that was revoked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevokedKeyInfo {
    /// The key.
    pub key: GatewayKeyInfo,
    /// How many requests were cut off.
    pub cut_off: u32,
}

/// The state of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfigState {
    /// The file.
    pub path: String,
    /// `ok`, `rejected` or `default`.
    pub state: String,
    /// Why it was rejected.
    pub error: Option<String>,
}

/// The result of a reload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReloadInfo {
    /// The file.
    pub path: String,
    /// `ok`, `rejected` (the last good one is kept) or `default` (there is no file).
    pub state: String,
    /// Why it was rejected: every error with its position.
    pub error: Option<String>,
    /// Whether the configuration has changed.
    pub changed: bool,
    /// Warnings about settings that may not have the expected effect.
    pub notes: Vec<String>,
}

/// A restart that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RestartInfo {
    /// The gateway's requests in flight, which the restart waits for.
    pub in_flight: u64,
    /// How long it waits for them at most, in ms.
    pub drain_ms: u64,
    /// Whether the same process continues, with the program executed again; else the caller starts the next daemon.
    pub comes_back: bool,
}

/// The new location of the key that seals secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RekeyInfo {
    /// `file` or `keyring`.
    pub key: String,
    /// Its location, for people.
    pub place: String,
    /// The number of accounts whose secrets it seals.
    pub accounts: u64,
}

/// An event.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventInfo {
    /// What.
    pub kind: String,
    /// When, epoch ms.
    pub at: u64,
    /// The account.
    pub account: Option<AccountLabel>,
    /// The upstream.
    pub provider: Option<String>,
    /// The lease.
    pub lease: Option<String>,
    /// Its fencing token.
    pub fence: Option<u64>,
    /// The model.
    pub model: Option<String>,
    /// The label that the holder chose, or that of the gateway's key.
    pub label: Option<String>,
    /// The quota key; of `key.created` and `key.revoked`, the id of the gateway's key.
    pub key: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What it applies to.
    pub scope: Option<String>,
    /// When it ends, epoch ms.
    pub until: Option<u64>,
    /// The number of waiting requests.
    pub queue: Option<u64>,
    /// The account's state, when it has changed.
    pub state: Option<String>,
    /// The quota pool, for providers with several.
    pub pool: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The agent that the holder stated.
    pub agent: Option<String>,
    /// The holder of the lease.
    pub holder: Option<HolderInfo>,
    /// Of a lease that was moved: the account before.
    pub from: Option<AccountLabel>,
    /// Of a limit: the HTTP status of the refusal.
    pub status: Option<u16>,
    /// Of a limit: the wait that the provider stated, in ms.
    pub stated_wait_ms: Option<u64>,
    /// Of a limit: the provider's words, shortened.
    pub evidence: Option<String>,
    /// Of `request.ended`: the request.
    pub request: Option<Box<RequestRow>>,
    /// Of `usage.updated`: the quota windows as they were read then, rates left out.
    pub usage: Option<Vec<UsageInfo>>,
    /// Of the lease of a sub-agent: its id within the run, whose process holds the lease.
    pub subagent: Option<String>,
}
