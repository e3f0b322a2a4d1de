//! Calls: one table of methods, and the parameters of each.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::answer::SecretText;
use super::upstream_response::{BodyText, HeaderList, ObjectText};
use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, Tier};

/// Declares each method once: its variant, its parameters, its name on the wire.
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $variant:ident($params:ty) = $name:literal;)*) => {
        /// A call. The order of the variants is part of the binary protocol.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        pub enum Call {
            $($(#[doc = $doc])* $variant($params),)*
        }

        impl Call {
            /// All methods, as on the wire.
            pub const METHODS: &[&str] = &[$($name),*];

            /// The method's name on the wire.
            #[must_use]
            pub fn method(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Reads the parameters of `method`; `None` when there is no such method.
            pub(super) fn parse(method: &str, params: &RawValue) -> Option<Result<Self, serde_json::Error>> {
                match method {
                    $($name => Some(serde_json::from_str(params.get()).map(Self::$variant)),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    /// Exchanges versions; must be the first call on a binary connection.
    Hello(HelloParams) = "hello";
    /// Lease an account, or wait for one.
    Acquire(Box<AcquireParams>) = "lease.acquire";
    /// Extend a lease by its TTL.
    Renew(LeaseRef) = "lease.renew";
    /// Release a lease.
    Release(LeaseRef) = "lease.release";
    /// Resume a lease after a restart of the daemon.
    Resume(LeaseRef) = "lease.resume";
    /// Get the current credential of a lease.
    Credential(CredentialParams) = "lease.credential";
    /// Report an upstream response.
    Report(ReportParams) = "lease.report";
    /// List all leases.
    ListLeases(NoParams) = "lease.list";
    /// List accounts.
    ListAccounts(ListAccountsParams) = "account.list";
    /// Add an account.
    AddAccount(Box<AddAccountParams>) = "account.add";
    /// Remove an account.
    RemoveAccount(AccountRef) = "account.remove";
    /// Change an account.
    SetAccount(Box<SetAccountParams>) = "account.set";
    /// Enable an account.
    EnableAccount(AccountRef) = "account.enable";
    /// Disable an account.
    DisableAccount(DisableAccountParams) = "account.disable";
    /// The state of the daemon.
    Status(NoParams) = "status";
    /// Subscribe to events.
    Subscribe(SubscribeParams) = "events.subscribe";
    /// Get the effective configuration.
    GetConfig(NoParams) = "config.get";
    /// Stop the daemon gracefully.
    Stop(NoParams) = "daemon.stop";
    /// Reload the configuration.
    ReloadConfig(NoParams) = "config.reload";
    /// Import logins and keys of other tools.
    ImportAccounts(Box<ImportAccountsParams>) = "account.import";
    /// Export all accounts.
    ExportAccounts(ExportAccountsParams) = "account.export";
    /// Forecast which leases are available now and next.
    Forecast(ForecastParams) = "forecast";
    /// Clear an account's limits.
    ClearLimits(AccountRef) = "account.clear_limits";
    /// Explain why an account was chosen.
    Explain(ExplainParams) = "explain";
    /// Refresh a login's token now.
    RefreshAccount(AccountRef) = "account.refresh";
    /// Create a key for the gateway.
    GatewayKey(GatewayKeyParams) = "gateway.key";
    /// Lease an account, or return the lease that the same process holds for the same purpose.
    Token(Box<AcquireParams>) = "lease.token";
    /// Query an account's usage now, within its provider's request budget.
    AskUsage(AccountRef) = "account.usage";
    /// Check whether an account's owner has verified it with the provider.
    VerifyAccount(VerifyAccountParams) = "account.verify";
    /// Seal all secrets with a new key.
    Rekey(NoParams) = "secrets.rekey";
    /// Restart the daemon; its socket, its gateway and its leases stay.
    Restart(RestartParams) = "daemon.restart";
    /// Try an account's credential with a request that costs nothing.
    CheckAccount(AccountRef) = "account.check";
    /// List the lasting keys of the gateway.
    GatewayKeys(NoParams) = "gateway.keys";
    /// Revoke a lasting key of the gateway.
    RevokeGatewayKey(RevokeKeyParams) = "gateway.revoke";
    /// Query the requests, leases and events of the past.
    QueryHistory(Box<HistoryParams>) = "history.query";
    /// Move a lease to another account.
    MoveLease(MoveLeaseParams) = "lease.move";
    /// Open the gateway's page for a browser, or wait until it was opened.
    OpenPage(OpenPageParams) = "page.open";
}

/// No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// `daemon.restart`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartParams {
    /// How long the gateway's requests in flight may take, in ms [default: 50 s].
    pub drain_ms: Option<u64>,
}

/// `hello`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HelloParams {
    /// The client's name and version.
    pub client: String,
    /// The lowest and highest protocol version it speaks.
    pub protocol: (u32, u32),
}

/// `lease.acquire`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcquireParams {
    /// The upstream.
    pub provider: String,
    /// The model that the lease is for.
    pub model: Option<String>,
    /// Requires this quota pool.
    pub pool: Option<String>,
    /// The session that should stay on one account.
    pub session: Option<String>,
    /// A label for people.
    pub label: Option<String>,
    /// Requires this account.
    pub account: Option<String>,
    /// Excludes these accounts.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// From -10 to 10; higher is served first.
    #[serde(default)]
    pub priority: i8,
    /// How long to wait, in ms; 0 does not wait, `None` waits as configured.
    pub wait_ms: Option<u64>,
    /// The TTL of the lease, in ms.
    pub ttl_ms: Option<u64>,
    /// What ends the lease.
    #[serde(default)]
    pub bind: BindTo,
    /// Whether the answer carries the credential.
    #[serde(default = "yes")]
    pub credential: bool,
    /// The agent's name, for the `use` policy.
    pub agent: Option<String>,
    /// Whether the account must have no other lease meanwhile.
    #[serde(default)]
    pub exclusive: bool,
    /// Calls with the same id get the same answer for 60 s.
    pub request_id: Option<String>,
}

/// What ends a lease, besides a release and its TTL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindTo {
    /// The end of this connection.
    #[default]
    Connection,
    /// The end of this process.
    Pid(u32),
    /// Its TTL only.
    Ttl,
}

/// A lease, and optionally its fencing token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRef {
    /// The id.
    pub lease: String,
    /// The fencing token it was granted with.
    pub fence: Option<u64>,
}

/// `lease.credential`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialParams {
    /// The id.
    pub lease: String,
    /// Forces a refresh, because the upstream refused the credential.
    #[serde(default)]
    pub force: bool,
}

/// `lease.report`: one of `ok` (with `usage` and `headers`), `status` (with `headers` and `body`), or a `reason` (with
/// `retry_after_ms`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {
    /// The id.
    pub lease: String,
    /// Whether the request succeeded.
    pub ok: Option<bool>,
    /// Why the upstream refused.
    pub reason: Option<Reason>,
    /// The wait the upstream stated, in ms.
    pub retry_after_ms: Option<u64>,
    /// The account's usage: one window in the form of `account.list`, or several by name.
    pub usage: Option<ObjectText>,
    /// The HTTP status of the upstream's response.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Option<HeaderList>,
    /// Its body or the beginning of it.
    pub body: Option<BodyText>,
}

/// `forecast`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastParams {
    /// The upstream.
    pub provider: String,
    /// The model that the leases are for.
    pub model: Option<String>,
    /// How many leases are wanted.
    pub count: Option<u32>,
}

/// `explain`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainParams {
    /// A lease or a prefix of its id, an account, or `LAST` for the last decision; default: `LAST`.
    pub what: Option<String>,
    /// For an account: the model to explain it for.
    pub model: Option<String>,
}

/// `history.query`: everything that is given must match.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryParams {
    /// `requests` (the default), `leases` or `events`.
    pub of: Option<String>,
    /// From then on, epoch ms [default: 24 hours ago].
    pub since: Option<u64>,
    /// Before then, epoch ms [default: now].
    pub until: Option<u64>,
    /// An id, a unique prefix of it, a label or an email address; also of an account that was removed, by its id. A
    /// request matches if one of its attempts used the account.
    pub account: Option<String>,
    /// The upstream.
    pub provider: Option<String>,
    /// The model; `*` stands for any characters.
    pub model: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The directory, or one above it.
    pub directory: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// An HTTP status (`429`), a class of it (`5xx`), or an outcome: `ok`, `refused`, `broken`, `cancelled`; `limited`
    /// matches requests with an attempt that met a limit.
    pub status: Option<String>,
    /// Of events: only these kinds.
    pub kinds: Vec<String>,
    /// Groups the sums: `minute` (of two hours at most), `hour`, `day`, `account`, `model`, `agent`, `dir` or `provider`.
    pub by: Option<String>,
    /// The most rows [default: 100, at most 1000]; 0 asks for sums only.
    pub limit: Option<u32>,
    /// Rows before this one only: `next` of the last answer.
    pub before: Option<u64>,
}

/// `lease.move`: one of `lease` and `pid`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoveLeaseParams {
    /// The lease, or a unique prefix of its id.
    pub lease: Option<String>,
    /// The holder's process, if it holds one lease.
    pub pid: Option<u32>,
    /// The account to move to [default: the best other one].
    pub to: Option<String>,
}

/// `page.open`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenPageParams {
    /// Whether the page may also change something, such as disable an account or release a lease.
    pub actions: bool,
    /// A code of an earlier answer: waits until a browser has used it or it has ended, and makes no new one.
    pub wait_for: Option<SecretText<'static>>,
}

/// `account.list`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListAccountsParams {
    /// Of this upstream only.
    pub provider: Option<String>,
}

/// `account.add`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddAccountParams {
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token.
    pub secret: SecretText<'static>,
    /// The login's refresh token.
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// Which agents may use it.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The provider's id of the account: at OpenAI that of the workspace, else that of the person.
    pub account_id: Option<String>,
    /// The id of the OAuth client that made the login [default: the one that its token names, else the provider's].
    pub client_id: Option<String>,
    /// The provider's id of the person.
    pub person_id: Option<String>,
    /// The provider's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
}

/// `account.import`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportAccountsParams {
    /// The logins and keys, imported in this order: later ones see the result of earlier ones.
    pub entries: Vec<ImportEntry>,
    /// The mode for logins with rotating refresh tokens: `link`, `take-over`, `share` or `start-tool` [default: as the
    /// entry says, else `link`].
    pub mode: Option<String>,
    /// Reports what would happen, without changes.
    #[serde(default)]
    pub dry_run: bool,
}

/// One login or key of another tool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    /// The stable name of the tool.
    pub tool: String,
    /// Its name within the tool's file.
    #[serde(default)]
    pub item: String,
    /// The tool's file, if the tool still writes it.
    pub file: Option<String>,
    /// Whether each refresh invalidates the previous refresh token.
    #[serde(default)]
    pub rotates: bool,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token; empty if only the login's refresh token is known.
    pub secret: SecretText<'static>,
    /// The login's refresh token.
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` expires, epoch ms.
    pub expires_at: Option<u64>,
    /// The email address of the login.
    pub email: Option<String>,
    /// The label that the user chose.
    pub label: Option<String>,
    /// The provider's id of the account.
    pub account_id: Option<String>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// Limits that have not ended.
    #[serde(default)]
    pub limits: Vec<ImportLimit>,
    /// Its known quota windows.
    #[serde(default)]
    pub usage: Vec<ImportWindow>,
    /// When it was last used, epoch ms.
    pub last_used_at: Option<u64>,
    /// Why the tool has disabled it, if it has.
    pub disabled: Option<String>,
    /// What the owner must verify with the provider, and where.
    pub verification: Option<String>,
    /// Why its login is invalid, if that is known.
    pub login_ended: Option<String>,
    /// Which agents may use it.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// When this state was saved, epoch ms.
    pub as_of: Option<u64>,
    /// Which side refreshes it, if already known: `link`, `take-over`, `share` or `start-tool`; the call's `mode`
    /// overrides it.
    pub mode: Option<String>,
    /// The id of the OAuth client that made the login.
    pub client_id: Option<String>,
    /// The provider's id of the person.
    pub person_id: Option<String>,
    /// The provider's id of the organisation or workspace.
    pub organization_id: Option<String>,
    /// The name of that organisation.
    pub organization: Option<String>,
}

/// A limit that another tool recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportLimit {
    /// How far it reaches: `model`, `pool` or `account`.
    pub scope: Scope,
    /// The quota key, or the model; empty for the account.
    #[serde(default)]
    pub key: String,
    /// Why.
    pub reason: Reason,
    /// When it ends, epoch ms.
    pub until: u64,
}

/// A quota window that another tool recorded.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportWindow {
    /// Its name.
    pub window: String,
    /// The quota key it belongs to; empty for the whole account.
    #[serde(default)]
    pub key: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it resets, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was reported, epoch ms.
    pub as_of: u64,
}

/// `account.export`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportAccountsParams {
    /// Whether to include keys and tokens, also refresh tokens.
    pub secrets: bool,
}

/// `gateway.key`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayKeyParams {
    /// The lease of the key: requests with the key use the lease's account, and the key ends with the lease. Without
    /// a lease, it is a lasting key, for clients that `run` does not start.
    pub lease: Option<String>,
    /// Of a lasting key: the agent's name, for the `use` policy.
    pub agent: Option<String>,
    /// Of a lasting key: a label for people.
    pub label: Option<String>,
    /// Of a lease's key: the holder's working directory, for the usage statistics.
    pub directory: Option<String>,
    /// Of a lasting key: it ends after this time, in ms.
    pub ttl_ms: Option<u64>,
    /// Of a lasting key: how many leases it may have at the same time, at least 1.
    pub max_leases: Option<u32>,
}

/// `gateway.revoke`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeKeyParams {
    /// Its id, a unique beginning of the id, its label if no other key has it, or the key itself.
    pub key: SecretText<'static>,
}

/// An account by id, unique prefix of an id, email or label.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRef {
    /// The account.
    pub account: String,
}

/// `account.verify`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyAccountParams {
    /// The account.
    pub account: String,
    /// Whether the owner confirms it; the provider is not queried then.
    #[serde(default)]
    pub confirmed: bool,
}

/// `account.set`; omitted fields do not change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAccountParams {
    /// The account.
    pub account: String,
    /// The label; empty removes it.
    pub label: Option<String>,
    /// The email address of the login; empty removes it.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project; empty removes it.
    pub project_id: Option<String>,
    /// Its own capacity; 0 removes it.
    pub max_leases: Option<u32>,
    /// Accounts with a higher priority are preferred.
    pub priority: Option<i32>,
    /// Which agents may use it; empty restores the default.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// A new key or token in place of the account's; the account keeps its id, settings and limits.
    pub secret: Option<SecretText<'static>>,
    /// What the new secret is, `api_key` or `token`; must be what the account has [default: that].
    pub kind: Option<CredentialKind>,
    /// The OAuth client that made the account's login, by its id or its name in the configuration; empty for the
    /// provider's default.
    pub client_id: Option<String>,
    /// When the new secret expires, epoch ms [default: it does not].
    pub expires_at: Option<u64>,
}

/// `account.disable`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisableAccountParams {
    /// The account.
    pub account: String,
    /// The reason, for people.
    pub reason: Option<String>,
}

/// `events.subscribe`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscribeParams {
    /// The kinds of events; empty means all.
    pub kinds: Vec<String>,
    /// Whether recent events are replayed first, followed by an event of kind `replay.end`.
    pub recent: bool,
}

impl Default for HelloParams {
    fn default() -> Self {
        Self { client: String::new(), protocol: (super::PROTOCOL, super::PROTOCOL) }
    }
}

fn yes() -> bool {
    true
}
