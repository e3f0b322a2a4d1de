//! The configuration, typed.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::origins::Origins;
use super::schema::types::{GatewaySocket, KeyLocation, KindMix, Listen, LogLevel};
use crate::pool;

/// The whole configuration; `Config::default()` holds the documented defaults.
///
/// The sections' own `Default`s are blank: the defaults are in the table of `schema/keys.rs` only.
/// Two configurations are equal when their values are equal, whatever their sources.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[daemon]`
    pub daemon: DaemonSection,
    /// The pool's settings: `[leases]`, `[selection]`, `[accounts]`, parts of `[limits]` and `[quota]`.
    pub pool: pool::PoolSettings,
    /// The rest of `[limits]`.
    pub limits: LimitsSection,
    /// The rest of `[quota]`.
    pub quota: QuotaSection,
    /// `[refresh]`
    pub refresh: RefreshSection,
    /// `[gateway]`
    pub gateway: GatewaySection,
    /// `[telemetry]`
    pub telemetry: TelemetrySection,
    /// `[notify]`
    pub notify: NotifySection,
    /// `[history]`
    pub history: HistorySection,
    /// `[prices]`, by pattern of the model's name.
    pub prices: BTreeMap<String, PriceSection>,
    /// `[secrets]`
    pub secrets: SecretsSection,
    /// `[pool]`: the pool that many machines share.
    pub shared_pool: SharedPoolSection,
    /// `[providers.*]`, by name.
    pub providers: BTreeMap<String, ProviderSection>,
    /// `[agents.*]`, by name.
    pub agents: BTreeMap<String, AgentSection>,
    /// `[join]`
    pub join: JoinSection,
    /// `[share.*]`, by name.
    pub shares: BTreeMap<String, ShareSection>,
    pub(super) origins: Origins,
}

impl Config {
    /// Every value unset; the table of keys fills in the defaults.
    pub(super) fn blank() -> Self {
        Self {
            daemon: DaemonSection::default(),
            pool: pool::PoolSettings::default(),
            limits: LimitsSection::default(),
            quota: QuotaSection::default(),
            refresh: RefreshSection::default(),
            gateway: GatewaySection::default(),
            telemetry: TelemetrySection::default(),
            notify: NotifySection::default(),
            history: HistorySection::default(),
            prices: BTreeMap::new(),
            secrets: SecretsSection::default(),
            shared_pool: SharedPoolSection::default(),
            providers: BTreeMap::new(),
            agents: BTreeMap::new(),
            join: JoinSection::default(),
            shares: BTreeMap::new(),
            origins: Origins::default(),
        }
    }
}

/// `[daemon]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DaemonSection {
    /// The least important messages that are logged.
    pub log: LogLevel,
    /// How long an auto-started daemon may be unused before it exits.
    pub idle_exit: Option<Duration>,
}

/// `[limits]`, beyond what the pool needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LimitsSection {
    /// The gateway's attempts at service, request and network failures.
    pub max_attempts: u32,
}

/// `[quota]`, beyond what the pool needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuotaSection {
    /// How often usage is polled.
    pub poll: Option<Duration>,
}

/// `[refresh]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RefreshSection {
    /// How long before its expiry a token is refreshed.
    pub ahead: Duration,
    /// A token whose remaining lifetime is shorter is not handed out.
    pub min_life: Duration,
    /// How long a holder waits for a refresh before it gets another account.
    pub wait: Duration,
}

/// `[gateway]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GatewaySection {
    /// Whether it serves.
    pub enabled: bool,
    /// Where it listens.
    pub listen: Listen,
    /// The largest request, in bytes.
    pub max_body: u64,
    /// Bytes kept for retries over all requests.
    pub buffer_total: u64,
    /// Its Unix socket.
    pub socket: GatewaySocket,
    /// Whether it may listen beyond loopback.
    pub allow_remote: bool,
    /// Whether it also listens for TLS, on loopback.
    pub tls: bool,
    /// Whether it relays WebSockets of the Responses API.
    pub websocket: bool,
}

/// `[telemetry]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TelemetrySection {
    /// The base URL of a collector that metrics and traces are sent to.
    pub otlp: Option<String>,
    /// How often they are sent.
    pub interval: Duration,
}

/// `[notify]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NotifySection {
    /// Whether they are shown on the desktop.
    pub desktop: bool,
    /// The program that gets them, and its arguments; none when empty.
    pub command: Vec<String>,
    /// The URL that they are sent to.
    pub webhook: Option<String>,
}

impl NotifySection {
    /// Whether notifications go anywhere.
    pub(crate) fn is_on(&self) -> bool {
        self.desktop || !self.command.is_empty() || self.webhook.is_some()
    }
}

/// `[history]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HistorySection {
    /// Rows that are older are deleted; zero turns the history off.
    pub max_age: Duration,
    /// The most bytes of the history's files; zero turns the history off.
    pub max_size: u64,
}

/// `[prices."MODEL"]`: US dollars for a million tokens.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PriceSection {
    /// Of input.
    pub input: Option<f64>,
    /// Of output.
    pub output: Option<f64>,
    /// Of input that was read from a cache.
    pub cached: Option<f64>,
    /// Of input that was written to a cache.
    pub cache_written: Option<f64>,
}

/// `[secrets]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecretsSection {
    /// Where the key that seals secrets is.
    pub key: KeyLocation,
}

/// `[pool]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedPoolSection {
    /// The URL of its database, without a password; none: this machine shares no pool.
    pub url: Option<String>,
    /// Whether this machine may refresh its logins, if an admin of the pool has given it the right.
    pub refresher: bool,
    /// The accounts of this machine that are never given to it.
    pub own_accounts: Vec<String>,
    /// A PEM file with the certificates to trust for the database.
    pub root_certificate: Option<PathBuf>,
}

impl Default for SharedPoolSection {
    fn default() -> Self {
        Self { url: None, refresher: true, own_accounts: Vec::new(), root_certificate: None }
    }
}

/// `[join]`: the daemon whose accounts this one uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinSection {
    /// Its machine, as ssh knows it; none to use this machine's own accounts.
    pub host: Option<String>,
    /// Options of ssh, each as after `-o`.
    pub options: Vec<String>,
    /// The file of lessor there.
    pub program: String,
    /// How long leases outlive the link.
    pub grace: Duration,
}

/// `[share.X]`: a socket for a container.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShareSection {
    /// Its path.
    pub socket: Option<PathBuf>,
    /// The user that is served.
    pub uid: Option<u32>,
    /// The group that is served.
    pub gid: Option<u32>,
    /// Only these accounts.
    pub only: Vec<String>,
    /// At most so many leases.
    pub max_leases: Option<u32>,
}

/// `[agents.X]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AgentSection {
    /// Executables and scripts that are this agent, besides those that are built in.
    pub programs: Vec<String>,
}

/// `[providers.X]`: changes to a built-in provider, or a new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProviderSection {
    /// Where API keys are served.
    pub base_url: Option<String>,
    /// The proxy for requests to it.
    pub proxy: Option<String>,
    /// A PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// The URL of its usage API.
    pub usage_url: Option<String>,
    /// When a conversation may move between logins and API keys.
    pub mix: KindMix,
    /// `[providers.X.oauth]`
    pub oauth: OauthSection,
    /// `[providers.X.direct]`
    pub direct: DirectLoginSection,
}

/// `[providers.X.direct]`: the login for the public API.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DirectLoginSection {
    /// OpenID issuer whose discovery fills the URLs below.
    pub issuer: Option<String>,
    /// Where users log in.
    pub authorize_url: Option<String>,
    /// Where tokens come from.
    pub token_url: Option<String>,
    /// Loopback port of the redirect; 0 means any.
    pub redirect_port: u16,
}

/// `[providers.X.oauth]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OauthSection {
    /// Where OAuth credentials are served, if elsewhere.
    pub base_url: Option<String>,
    /// OpenID issuer whose discovery fills the URLs below.
    pub issuer: Option<String>,
    /// Where users log in.
    pub authorize_url: Option<String>,
    /// Where tokens come from.
    pub token_url: Option<String>,
    /// Where device codes come from.
    pub device_url: Option<String>,
    /// The client's id.
    pub client_id: Option<String>,
    /// Name of the environment variable with the client's secret.
    pub client_secret_env: Option<String>,
    /// The requested scopes.
    pub scopes: Vec<String>,
    /// Loopback port of the redirect; 0 means any.
    pub redirect_port: u16,
    /// Other clients, by the name that the user chose.
    pub clients: BTreeMap<String, OauthClientSection>,
}

/// `[providers.X.oauth.clients.NAME]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OauthClientSection {
    /// The client's id.
    pub client_id: Option<String>,
    /// Name of the environment variable with the client's secret.
    pub client_secret_env: Option<String>,
}
