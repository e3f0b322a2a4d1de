//! What can be asked: one table of methods, and the parameters of each.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, Tier};

use super::answer::SecretText;
use super::heard::{BodyText, HeaderList, ObjectText};

/// Declares each method once: its variant, its parameters, its name on the wire.
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $variant:ident($params:ty) = $name:literal;)*) => {
        /// A call; the order of the variants is part of the binary protocol.
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
    /// Who is there, and which protocol; must come first on a binary connection.
    Hello(HelloParams) = "hello";
    /// Lease an account, or wait for one.
    Acquire(Box<AcquireParams>) = "lease.acquire";
    /// Add the lease's life to its time.
    Renew(LeaseRef) = "lease.renew";
    /// Give it back.
    Release(LeaseRef) = "lease.release";
    /// Take it up again after a restart of the daemon.
    Resume(LeaseRef) = "lease.resume";
    /// The credential as it is now.
    Credential(CredentialParams) = "lease.credential";
    /// What the upstream answered.
    Report(ReportParams) = "lease.report";
    /// All leases.
    ListLeases(NoParams) = "lease.list";
    /// All accounts.
    ListAccounts(ListAccountsParams) = "account.list";
    /// Take in an account.
    AddAccount(Box<AddAccountParams>) = "account.add";
    /// Take out an account.
    RemoveAccount(AccountRef) = "account.remove";
    /// Change an account.
    SetAccount(Box<SetAccountParams>) = "account.set";
    /// Let it be leased again.
    EnableAccount(AccountRef) = "account.enable";
    /// Let it be leased no more.
    DisableAccount(DisableAccountParams) = "account.disable";
    /// The whole picture.
    Status(NoParams) = "status";
    /// Be told what happens.
    Subscribe(SubscribeParams) = "events.subscribe";
    /// The effective configuration.
    GetConfig(NoParams) = "config.get";
    /// End the daemon, gracefully.
    Stop(NoParams) = "daemon.stop";
    /// Read the configuration now.
    ReloadConfig(NoParams) = "config.reload";
    /// Take in what other tools keep.
    ImportAccounts(Box<ImportAccountsParams>) = "account.import";
    /// All that is known of all accounts.
    ExportAccounts(ExportAccountsParams) = "account.export";
    /// What could be had, now and next.
    Forecast(ForecastParams) = "forecast";
    /// Forget an account's limits.
    ClearLimits(AccountRef) = "account.clear_limits";
    /// Why an account was chosen, and the others were not.
    Explain(ExplainParams) = "explain";
    /// A new token for a login, now.
    RefreshAccount(AccountRef) = "account.refresh";
    /// A key to the gateway.
    GatewayKey(GatewayKeyParams) = "gateway.key";
    /// Lease an account, or have again the lease that the same process holds for the same purpose.
    Token(Box<AcquireParams>) = "lease.token";
    /// Learn now what an account has used, as far as its provider lets itself be asked.
    AskUsage(AccountRef) = "account.usage";
    /// Find out whether its owner has confirmed an account with its provider.
    VerifyAccount(VerifyAccountParams) = "account.verify";
    /// Seal all secrets with a new key.
    Rekey(NoParams) = "secrets.rekey";
}

/// No parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// `hello`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HelloParams {
    /// The client's name and version.
    pub client: String,
    /// The lowest and highest protocol it speaks.
    pub protocol: (u32, u32),
}

/// `lease.acquire`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcquireParams {
    /// The upstream.
    pub provider: String,
    /// The model it is for.
    #[serde(default)]
    pub model: Option<String>,
    /// Pins one of several quotas of an account.
    #[serde(default)]
    pub pool: Option<String>,
    /// A conversation that wants to stay on one account.
    #[serde(default)]
    pub session: Option<String>,
    /// A name for people.
    #[serde(default)]
    pub label: Option<String>,
    /// This account and no other.
    #[serde(default)]
    pub account: Option<String>,
    /// Not these accounts.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// From -10 to 10; higher is served first.
    #[serde(default)]
    pub priority: i8,
    /// How long to wait, in ms; 0 does not wait; `None` waits as configured.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// The life of the lease, in ms.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// What ends the lease.
    #[serde(default)]
    pub bind: BindTo,
    /// Whether the answer carries the credential.
    #[serde(default = "yes")]
    pub credential: bool,
    /// The agent's name, for the `use` policy.
    #[serde(default)]
    pub agent: Option<String>,
    /// Nobody else on the account meanwhile.
    #[serde(default)]
    pub exclusive: bool,
    /// The same id gets the same answer for 60 s.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// What ends a lease, besides its holder and its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindTo {
    /// The end of this connection.
    #[default]
    Connection,
    /// The death of this process.
    Pid(u32),
    /// Its time alone.
    Ttl,
}

/// A lease, and its fence for those who keep it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRef {
    /// The id.
    pub lease: String,
    /// The fence it was granted with.
    #[serde(default)]
    pub fence: Option<u64>,
}

/// `lease.credential`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialParams {
    /// The id.
    pub lease: String,
    /// A new one, because the upstream refused the old.
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
    /// It worked.
    #[serde(default)]
    pub ok: Option<bool>,
    /// Why it was refused.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// The wait the upstream stated, in ms.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// What the account has used of its windows: one window, as `account.list` has it, or windows by their names.
    #[serde(default)]
    pub usage: Option<ObjectText>,
    /// The HTTP status of the upstream's answer.
    #[serde(default)]
    pub status: Option<u16>,
    /// Its headers.
    #[serde(default)]
    pub headers: Option<HeaderList>,
    /// Its body, or the beginning of it.
    #[serde(default)]
    pub body: Option<BodyText>,
}

/// `forecast`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastParams {
    /// The upstream.
    pub provider: String,
    /// The model they are wanted for.
    #[serde(default)]
    pub model: Option<String>,
    /// How many leases are wanted.
    #[serde(default)]
    pub count: Option<u32>,
}

/// `explain`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainParams {
    /// A lease or the beginning of its id, an account, or `LAST` for the last decision of all; nothing is `LAST`.
    pub what: Option<String>,
    /// For an account: which model is asked about.
    pub model: Option<String>,
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
    #[serde(default)]
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` ends, epoch ms.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The user's name for it.
    #[serde(default)]
    pub label: Option<String>,
    /// The login's address.
    #[serde(default)]
    pub email: Option<String>,
    /// The plan.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// Its own capacity.
    #[serde(default)]
    pub max_leases: Option<u32>,
    /// Higher is preferred.
    #[serde(default)]
    pub priority: Option<i32>,
    /// Which agents may hold it.
    #[serde(default, rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// The cloud project.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The vendor's own id of the account.
    #[serde(default)]
    pub account_id: Option<String>,
}

/// `account.import`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportAccountsParams {
    /// What other tools keep, in order: later ones meet what has become of earlier ones.
    pub entries: Vec<ImportEntry>,
    /// What is wanted of logins that rotate: `link`, `take-over` or `share` [default: as the entry says, else `link`].
    #[serde(default)]
    pub mode: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// One login or key of another tool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    /// Whose it is: a tool's stable name.
    pub tool: String,
    /// What names it within its file.
    #[serde(default)]
    pub item: String,
    /// Its file, where the tool goes on writing it.
    #[serde(default)]
    pub file: Option<String>,
    /// Whether each refresh ends the refresh token before it.
    #[serde(default)]
    pub rotates: bool,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token; empty for a login of which only the refresh token is known.
    pub secret: SecretText<'static>,
    /// The login's refresh token.
    #[serde(default)]
    pub refresh_token: Option<SecretText<'static>>,
    /// When `secret` ends, epoch ms.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The login's address.
    #[serde(default)]
    pub email: Option<String>,
    /// The user's name for it.
    #[serde(default)]
    pub label: Option<String>,
    /// The vendor's own id of the account.
    #[serde(default)]
    pub account_id: Option<String>,
    /// The cloud project.
    #[serde(default)]
    pub project_id: Option<String>,
    /// The plan.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// Limits that are not over.
    #[serde(default)]
    pub limits: Vec<ImportLimit>,
    /// What was known of its quota windows.
    #[serde(default)]
    pub usage: Vec<ImportWindow>,
    /// When it was last used, epoch ms.
    #[serde(default)]
    pub last_used_at: Option<u64>,
    /// Turned off there, and why.
    #[serde(default)]
    pub disabled: Option<String>,
    /// The provider wants something confirmed: what, and where.
    #[serde(default)]
    pub verification: Option<String>,
    /// Its login is known to have ended, and why.
    #[serde(default)]
    pub login_ended: Option<String>,
    /// Which agents may hold it.
    #[serde(default, rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    #[serde(default)]
    pub max_leases: Option<u32>,
    /// Higher is preferred.
    #[serde(default)]
    pub priority: Option<i32>,
    /// When this state of it was written down, epoch ms.
    #[serde(default)]
    pub as_of: Option<u64>,
    /// Who refreshes it, where that is known already: `link`, `take-over` or `share`; the call's own `mode` goes before.
    #[serde(default)]
    pub mode: Option<String>,
}

/// A limit that another tool has met.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportLimit {
    /// How far it reaches: `model`, `pool` or `account`.
    pub scope: Scope,
    /// The quota key, or the model within it; empty for the account.
    #[serde(default)]
    pub key: String,
    /// Why.
    pub reason: Reason,
    /// Until when, epoch ms.
    pub until: u64,
}

/// A quota window, as another tool has last seen it.
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
    /// When it starts anew, epoch ms.
    #[serde(default)]
    pub resets_at: Option<u64>,
    /// When this was learnt, epoch ms.
    pub as_of: u64,
}

/// `account.export`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportAccountsParams {
    /// With keys and tokens, refresh tokens among them.
    pub secrets: bool,
}

/// `gateway.key`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayKeyParams {
    /// The lease it carries: requests with it are served by the lease's account, and it dies with the lease. Without
    /// one it is a key that lasts, for clients that `run` does not start.
    pub lease: Option<String>,
    /// Of a key that lasts: the agent's name, for the `use` policy.
    pub agent: Option<String>,
    /// Of a key that lasts: a name for people.
    pub label: Option<String>,
    /// Of a lease's key: where its holder works, for the account of what was used.
    pub directory: Option<String>,
}

/// An account by id, unique prefix of an id, email or label.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRef {
    /// Which.
    pub account: String,
}

/// `account.verify`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyAccountParams {
    /// Which.
    pub account: String,
    /// Its owner says so: the provider is not asked.
    #[serde(default)]
    pub confirmed: bool,
}

/// `account.set`; what is not given stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAccountParams {
    /// Which.
    pub account: String,
    /// The user's name for it; empty takes it away.
    #[serde(default)]
    pub label: Option<String>,
    /// The login's address; empty takes it away.
    #[serde(default)]
    pub email: Option<String>,
    /// The plan.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// The cloud project; empty takes it away.
    #[serde(default)]
    pub project_id: Option<String>,
    /// Its own capacity; 0 takes it away.
    #[serde(default)]
    pub max_leases: Option<u32>,
    /// Higher is preferred.
    #[serde(default)]
    pub priority: Option<i32>,
    /// Which agents may hold it; empty goes back to the default.
    #[serde(default, rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
}

/// `account.disable`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisableAccountParams {
    /// Which.
    pub account: String,
    /// Why, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `events.subscribe`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscribeParams {
    /// Only these kinds; all when empty.
    pub kinds: Vec<String>,
    /// First what happened lately, ended by an event of kind `replay.end`.
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
