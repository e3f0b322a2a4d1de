//! The configuration, typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::show::Origins;
use crate::pool;

/// Everything a user can decide; `Config::default()` holds the documented defaults.
///
/// The sections' own `Default`s are blank: only the table in `keys.rs` knows defaults.
/// Two configurations are equal when they say the same, wherever each value came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[daemon]`
    pub daemon: DaemonSection,
    /// What the pool decides by: `[leases]`, `[selection]`, `[accounts]`, parts of `[limits]` and `[quota]`.
    pub pool: pool::PoolSettings,
    /// The rest of `[limits]`.
    pub limits: LimitsSection,
    /// The rest of `[quota]`.
    pub quota: QuotaSection,
    /// `[refresh]`
    pub refresh: RefreshSection,
    /// `[gateway]`
    pub gateway: GatewaySection,
    /// `[notify]`
    pub notify: NotifySection,
    /// `[secrets]`
    pub secrets: SecretsSection,
    /// `[providers.*]`, by name.
    pub providers: BTreeMap<String, ProviderSection>,
    /// Where every value came from.
    pub(super) origins: Origins,
}

/// `[daemon]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DaemonSection {
    /// The least important messages that are logged.
    pub log: LogLevel,
    /// An auto-started daemon ends itself when unused for so long.
    pub idle_exit: Option<Duration>,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And what a user should look at.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
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
    /// A token with less life is not handed out.
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
}

/// A listening address; port 0 means any free one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl FromStr for Listen {
    type Err = std::net::AddrParseError;

    /// Reads `ADDRESS:PORT`; `localhost` is the IPv4 one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse().map(Self),
            None => text.parse().map(Self),
        }
    }
}

/// The gateway's Unix socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum GatewaySocket {
    /// `gateway.sock` beside the lease socket.
    #[default]
    Beside,
    /// None.
    Off,
    /// A place of its own.
    At(PathBuf),
}

/// `[notify]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NotifySection {
    /// Whether desktop notifications are sent.
    pub desktop: bool,
}

/// `[secrets]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecretsSection {
    /// Where the key that seals secrets is.
    pub key: KeyLocation,
}

/// Where the key that seals secrets is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyLocation {
    /// A file in the state directory.
    #[default]
    File,
    /// The system's keyring.
    Keyring,
}

/// `[providers.X]`: what differs from the built-in provider, or a new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProviderSection {
    /// Where API keys are served.
    pub base_url: Option<String>,
    /// The proxy it is reached by.
    pub proxy: Option<String>,
    /// A PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Where usage is asked for.
    pub usage_url: Option<String>,
    /// `[providers.X.oauth]`
    pub oauth: OauthSection,
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
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
    /// Loopback port of the redirect; 0 means any.
    pub redirect_port: u16,
}
