//! What is answered. Borrowed where the daemon answers from its own state, owned where a client keeps it.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::{CredentialKind, Tier};

use super::explanation::{ExplainInfo, ForecastInfo};

type Text<'a> = Cow<'a, str>;

/// The answer to a call; the order of the variants is part of the binary protocol.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "most answers are the large one, and none is kept")]
pub enum Answer<'a> {
    /// To `hello`.
    Hello(HelloInfo),
    /// A lease that is held.
    Lease(LeaseInfo<'a>),
    /// It is done.
    Done(Empty),
    /// To `lease.credential`.
    Credential(CredentialInfo<'a>),
    /// To `lease.report`.
    Decision(Box<DecisionInfo<'a>>),
    /// To `lease.list`.
    Leases(Vec<LeaseRow>),
    /// To `account.list`.
    Accounts(Vec<AccountInfo>),
    /// To what changes an account.
    Account(Box<AccountInfo>),
    /// To `status`.
    Status(Box<DaemonStatus>),
    /// To `config.get`: a JSON document.
    Config(String),
    /// To `config.reload`.
    Reloaded(ReloadInfo),
    /// To `account.import`.
    Imported(ImportInfo),
    /// To `account.export`.
    Exported(ExportInfo),
    /// To `forecast`.
    Forecast(ForecastInfo),
    /// To `explain`.
    Explained(Box<ExplainInfo>),
    /// To `gateway.key`.
    GatewayAccess(GatewayAccess),
    /// What became of the key.
    Rekeyed(RekeyInfo),
}

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Empty {}

/// Text that is a secret: it goes over the wire, but is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretText<'a>(pub Text<'a>);

/// To `hello`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HelloInfo {
    /// `lessor`.
    pub server: String,
    /// The daemon's version.
    pub version: String,
    /// The protocol both speak.
    pub protocol: u32,
    /// The daemon's process id.
    pub pid: u32,
    /// What it can do beyond the first version, and the encoding of its binary frames.
    pub features: Vec<String>,
}

/// A lease that is held.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseInfo<'a> {
    /// Its id.
    pub lease: Text<'a>,
    /// Its number; only grows.
    pub fence: u64,
    /// What it is a lease of.
    pub account: AccountName<'a>,
    /// The upstream.
    pub provider: Text<'a>,
    /// Which of several quotas of the account.
    pub pool: Option<Text<'a>>,
    /// The model, as the upstream names it.
    pub model: Option<Text<'a>>,
    /// What its limits are filed under.
    pub quota_key: Text<'a>,
    /// How many others hold the account.
    pub shared_with: u32,
    /// When it ends by itself, epoch ms.
    pub expires_at: Option<u64>,
    /// What to authenticate with, unless the caller did not want it.
    pub credential: Option<CredentialInfo<'a>>,
    /// The cloud project.
    pub project_id: Option<Text<'a>>,
}

/// An account, as its holder sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountName<'a> {
    /// Its id.
    pub id: Text<'a>,
    /// The user's name for it.
    pub label: Option<Text<'a>>,
    /// The login's address.
    pub email: Option<Text<'a>>,
    /// The plan.
    pub tier: Tier,
}

/// What to authenticate with, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CredentialInfo<'a> {
    /// What it is.
    pub kind: CredentialKind,
    /// The secret itself.
    pub secret: SecretText<'a>,
    /// When it ends, epoch ms.
    pub expires_at: Option<u64>,
    /// The header it belongs in.
    pub header: Text<'a>,
    /// The word before it.
    pub scheme: Option<Text<'a>>,
}

/// What to do next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DecisionInfo<'a> {
    /// `continue`, `retry`, `switch`, `wait` or `stop`.
    pub action: Text<'a>,
    /// How long to wait before it, ms.
    pub after_ms: u64,
    /// What was understood.
    pub reason: Option<Text<'a>>,
    /// How far it reaches.
    pub scope: Option<Text<'a>>,
    /// With `switch`, the new lease.
    pub lease: Option<LeaseInfo<'a>>,
    /// What showed the reason, in a few words.
    pub evidence: Option<Text<'a>>,
    /// Where the user can do something about it.
    pub link: Option<Text<'a>>,
}

/// One row of `lease.list`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseRow {
    /// Its id.
    pub lease: String,
    /// Its number.
    pub fence: u64,
    /// What it is a lease of.
    pub account: AccountLabel,
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// Which of several quotas.
    pub pool: Option<String>,
    /// Its conversation.
    pub session: Option<String>,
    /// The holder's name for it.
    pub label: Option<String>,
    /// `connection`, `pid` or `ttl`.
    pub bind: String,
    /// Who holds it.
    pub holder: Option<HolderInfo>,
    /// Since when, epoch ms.
    pub granted_at: u64,
    /// Until when, epoch ms.
    pub expires_at: Option<u64>,
}

/// An account by its two short names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountLabel {
    /// Its id.
    pub id: String,
    /// The user's name for it.
    pub label: Option<String>,
}

/// Who holds a lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HolderInfo {
    /// Process id.
    pub pid: u32,
    /// The program's name.
    pub program: Option<String>,
}

/// An account, as its owner sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AccountInfo {
    /// Its id.
    pub id: String,
    /// The upstream.
    pub provider: String,
    /// The user's name for it.
    pub label: Option<String>,
    /// The login's address.
    pub email: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// `ready`, `limited`, `needs_login`, `needs_verification` or `disabled`.
    pub state: String,
    /// Why it is not ready, in words.
    pub state_reason: Option<String>,
    /// Where the user can do something about it.
    pub state_link: Option<String>,
    /// Whether the user and the configuration want it used.
    pub enabled: bool,
    /// How many leases it carries.
    pub leases: u32,
    /// How many it takes before it is shared or waited for.
    pub capacity: u32,
    /// Higher is preferred.
    pub priority: i32,
    /// Which agents may hold it; `any` for everybody.
    #[serde(rename = "use")]
    pub allowed_agents: Vec<String>,
    /// The cloud project.
    pub project_id: Option<String>,
    /// When its credential ends, epoch ms.
    pub credential_expires_at: Option<u64>,
    /// What it cannot be used for.
    pub limits: Vec<LimitInfo>,
    /// What is known of its quota.
    pub usage: Vec<UsageInfo>,
    /// When it was added, epoch ms.
    pub created_at: u64,
    /// When it was last leased, epoch ms.
    pub last_used_at: Option<u64>,
    /// The vendor's own id of the account.
    pub account_id: Option<String>,
    /// Where another tool keeps the same login.
    pub link: Option<LinkInfo>,
    /// The plan, as the provider calls it.
    pub plan: Option<String>,
    /// Why its provider could not be asked lately what it has used.
    pub usage_trouble: Option<String>,
}

/// Where another tool keeps a login.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LinkInfo {
    /// The tool.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// `link` (the tool refreshes it), `take-over` (lessor does) or `share` (both do).
    pub mode: String,
    /// Why its file cannot be followed now.
    pub trouble: Option<String>,
}

/// What has become of what was to be taken in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportInfo {
    /// One for each entry, in order.
    pub entries: Vec<ImportedEntry>,
}

/// What has become of one entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImportedEntry {
    /// `added`, `updated`, `same`, `linked` or `refused`.
    pub outcome: String,
    /// The account; none when it was refused, or would only be added.
    pub account: Option<AccountLabel>,
    /// What that means, or why, in a sentence.
    pub message: String,
}

/// All that is known of all accounts, so that `account.import` can take it in again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportInfo {
    /// The version of this document.
    pub lessor_export: u64,
    /// When it was made, epoch ms.
    pub exported_at: u64,
    /// The accounts.
    pub accounts: Vec<ExportedAccount>,
}

/// All that is known of an account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedAccount {
    /// Its id.
    pub id: String,
    /// The upstream.
    pub provider: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The user's name for it.
    pub label: Option<String>,
    /// The login's address.
    pub email: Option<String>,
    /// The vendor's own id of the account.
    pub account_id: Option<String>,
    /// The plan.
    pub tier: Tier,
    /// The cloud project.
    pub project_id: Option<String>,
    /// Which agents may hold it, where that is not the default.
    #[serde(rename = "use")]
    pub allowed_agents: Option<Vec<String>>,
    /// Its own capacity.
    pub max_leases: Option<u32>,
    /// Higher is preferred.
    pub priority: i32,
    /// Whether the user wants it used.
    pub enabled: bool,
    /// Why not.
    pub disabled_reason: Option<String>,
    /// Why the user must log in again.
    pub needs_login: Option<String>,
    /// What the provider wants confirmed.
    pub needs_verification: Option<String>,
    /// What it cannot be used for.
    pub limits: Vec<LimitInfo>,
    /// What is known of its quota.
    pub usage: Vec<ExportedWindow>,
    /// When it was last leased, epoch ms.
    pub last_used_at: Option<u64>,
    /// Where another tool keeps it.
    pub link: Option<ExportedLink>,
    /// Since when this credential has been known, epoch ms.
    pub as_of: Option<u64>,
    /// What authenticates it; only when asked for.
    pub credential: Option<ExportedCredential>,
}

/// A quota window of an account that was exported.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedWindow {
    /// Its name.
    pub window: String,
    /// The quota key it belongs to; empty for the whole account.
    pub key: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it starts anew, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was learnt, epoch ms.
    pub as_of: u64,
}

/// Where another tool keeps a login that was exported.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedLink {
    /// The tool.
    pub tool: String,
    /// Its file.
    pub path: String,
    /// What names the login within the file.
    pub item: String,
    /// Who refreshes it.
    pub mode: String,
}

/// What authenticates an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExportedCredential {
    /// The key, the token, or the login's access token.
    pub access: SecretText<'static>,
    /// The login's refresh token.
    pub refresh: Option<SecretText<'static>>,
    /// When `access` ends, epoch ms.
    pub expires_at: Option<u64>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LimitInfo {
    /// What it is filed under; empty for the whole account.
    pub key: String,
    /// Why.
    pub reason: String,
    /// How far it reaches.
    pub scope: String,
    /// Until when, epoch ms.
    pub until: u64,
    /// Who said so: `server`, `report` or `table`.
    pub source: String,
    /// Since when, epoch ms.
    pub since: u64,
    /// What showed it, in a few words.
    pub evidence: Option<String>,
    /// Where the user can do something about it.
    pub link: Option<String>,
}

/// A quota window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UsageInfo {
    /// Its name.
    pub window: String,
    /// How much is used, from 0 to 1.
    pub utilization: f64,
    /// When it starts anew, epoch ms.
    pub resets_at: Option<u64>,
    /// When this was learnt, epoch ms.
    pub as_of: u64,
    /// The quota key it belongs to, and a model behind a colon; empty for the whole account.
    pub key: String,
    /// Whether it is a rate: of requests or tokens in a short time. Rates have no weight in choosing.
    pub rate: bool,
    /// It may be another by now: it is old, or the window has started anew since.
    pub stale: bool,
    /// How fast it is used: 1 lasts exactly until the window starts anew, 2 half as long. Null where the window's length
    /// or its end is not known.
    pub pace: Option<f64>,
}

/// The whole picture.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run, ms.
    pub uptime_ms: u64,
    /// Where it listens.
    pub socket: String,
    /// Where the gateway listens; none while it does not.
    pub gateway: Option<GatewayInfo>,
    /// Where its configuration is, and how it stands.
    pub config: ConfigState,
    /// How many accounts there are, by state.
    pub accounts: AccountTotals,
    /// How many leases are held.
    pub leases: u64,
    /// Who waits, in order.
    pub queue: Vec<QueueRow>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Where the gateway listens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GatewayInfo {
    /// `http://HOST:PORT`; a provider's name follows, then what its own URL would have.
    pub url: Option<String>,
    /// The Unix socket, where no key is needed.
    pub socket: Option<String>,
}

/// A key to the gateway, and where that is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GatewayAccess {
    /// The key; it goes wherever the client puts its API key.
    pub key: SecretText<'static>,
    /// `http://HOST:PORT`; a provider's name follows, then what its own URL would have.
    pub url: Option<String>,
    /// The Unix socket, where no key is needed.
    pub socket: Option<String>,
    /// Why it does not listen everywhere it should.
    pub trouble: Option<String>,
}

/// How the configuration stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfigState {
    /// The file.
    pub path: String,
    /// `ok`, `rejected` or `default`.
    pub state: String,
    /// Why it was rejected.
    pub error: Option<String>,
}

/// What reading the configuration came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReloadInfo {
    /// The file.
    pub path: String,
    /// `ok`, `rejected` (the last good one is kept) or `default` (there is no file).
    pub state: String,
    /// Why it was rejected: every error with its place.
    pub error: Option<String>,
    /// Whether the file says something else than before.
    pub changed: bool,
    /// What will not do what one may expect.
    pub notes: Vec<String>,
}

/// What became of the key that secrets are sealed with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RekeyInfo {
    /// `file` or `keyring`.
    pub key: String,
    /// Where it is, in words.
    pub place: String,
    /// How many accounts' secrets are sealed with it.
    pub accounts: u64,
}

/// How many accounts there are, by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct AccountTotals {
    /// All.
    pub total: u64,
    /// Can be leased.
    pub ready: u64,
    /// Limited for some key.
    pub limited: u64,
    /// Must log in again.
    pub needs_login: u64,
    /// Must be confirmed with the provider.
    pub needs_verification: u64,
    /// Turned off.
    pub disabled: u64,
}

/// One that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueueRow {
    /// Its place, from 1.
    pub position: u64,
    /// The earliest it could be served, epoch ms, where that is known.
    pub eta_at: Option<u64>,
    /// The upstream.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// The holder's name for it.
    pub label: Option<String>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventInfo {
    /// What.
    pub kind: String,
    /// When, epoch ms.
    pub at: u64,
    /// To which account.
    pub account: Option<AccountLabel>,
    /// Of which upstream.
    pub provider: Option<String>,
    /// To which lease.
    pub lease: Option<String>,
    /// Its number.
    pub fence: Option<u64>,
    /// The model.
    pub model: Option<String>,
    /// The holder's name for it.
    pub label: Option<String>,
    /// The quota key.
    pub key: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How far it reaches.
    pub scope: Option<String>,
    /// Until when, epoch ms.
    pub until: Option<u64>,
    /// How many wait.
    pub queue: Option<u64>,
    /// The account's state, when it has changed.
    pub state: Option<String>,
}

impl fmt::Debug for SecretText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
