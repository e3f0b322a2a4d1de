//! What the user decides about leasing and selection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Backoff;

/// Everything the pool is configured by.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolSettings {
    /// Capacity and its overflow.
    pub leases: LeaseSettings,
    /// How an account is chosen.
    pub selection: SelectionSettings,
    /// How long limits are waited for, and lie without a server's word.
    pub limits: LimitSettings,
    /// Pools, thresholds and reserves.
    pub quota: QuotaSettings,
    /// Policy per account.
    pub accounts: Vec<AccountSettings>,
}

/// `[leases]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseSettings {
    /// Capacity of an account without its own.
    pub per_account: u32,
    /// What happens when every account is at its capacity.
    pub overflow: Overflow,
    /// Never more leases on one account than this.
    pub max_per_account: u32,
    /// Life of a lease that is bound to nothing else.
    pub ttl: Duration,
    /// How long grants wait for holders after an unclean restart.
    pub grace: Duration,
}

/// What happens when every account is at its capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Accounts are shared, evenly, up to the ceiling.
    #[default]
    Share,
    /// The request waits.
    Wait,
    /// The request is refused.
    Fail,
}

/// `[selection]`
#[derive(Clone, PartialEq, Debug)]
pub struct SelectionSettings {
    /// The rule among equally loaded accounts.
    pub strategy: Strategy,
    /// What happens when the wanted account is limited.
    pub mode: Mode,
    /// An account to use while it is below its capacity.
    pub preferred_account: Option<String>,
    /// Whether holders without a session start at an account of their pid's.
    pub pid_offset: bool,
    /// How long `cache-first` waits for the wanted account.
    pub max_cache_wait: Duration,
    /// How long an unused session keeps its account.
    pub session_ttl: Duration,
    /// How long a process finds again the account it released.
    pub reuse_window: Duration,
    /// Whether a better tier goes before the strategy.
    pub tier_first: bool,
    /// `[selection.health]`
    pub health: HealthSettings,
    /// `[selection.tokens]`
    pub tokens: TokenSettings,
}

/// The rule among equally loaded accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The current account until it is limited.
    Sticky,
    /// The next after the last granted.
    RoundRobin,
    /// Health, tokens and rest, with a bonus for the current one.
    #[default]
    Hybrid,
    /// The lowest utilisation.
    LeastUsed,
    /// The weekly window that resets first.
    DrainSoonest,
}

impl Strategy {
    /// The name, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::RoundRobin => "round-robin",
            Self::Hybrid => "hybrid",
            Self::LeastUsed => "least-used",
            Self::DrainSoonest => "drain-soonest",
        }
    }
}

impl Mode {
    /// The name, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CacheFirst => "cache-first",
            Self::Balance => "balance",
            Self::PerformanceFirst => "performance-first",
        }
    }
}

/// What happens when the wanted account is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Wait for it, up to `max_cache_wait`.
    CacheFirst,
    /// Move at once.
    #[default]
    Balance,
    /// Ignore sessions altogether.
    PerformanceFirst,
}

/// How the health score moves; points.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthSettings {
    /// Where it starts.
    pub initial: f64,
    /// Added by a success.
    pub success: f64,
    /// Added by a rate limit (negative).
    pub rate_limit: f64,
    /// Added by another failure (negative).
    pub failure: f64,
    /// Points regained for each hour without an event.
    pub recovery_per_hour: f64,
    /// Below this `hybrid` takes the account last.
    pub min_usable: f64,
    /// The top.
    pub max: f64,
}

/// How many attempts an account may make.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenSettings {
    /// The most it saves up.
    pub max: f64,
    /// Where it starts.
    pub initial: f64,
    /// Regained each minute.
    pub per_minute: f64,
}

/// `[limits]`, as far as the pool needs them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitSettings {
    /// How long a request waits when the caller does not say.
    pub max_rate_limit_wait: Duration,
    /// What is waited without a server's word.
    pub backoff: Backoff,
    /// Reports on one quota key within this time are one event.
    pub dedup_window: Duration,
    /// How long after the end of the last limit the ladder of `quota_exhausted` starts anew.
    pub quota_failure_ttl: Duration,
    /// Whether a first rate limit moves its holder; else it tries once more.
    pub switch_on_first_rate_limit: bool,
    /// The wait before that one more time.
    pub retry_delay: Duration,
    /// How long a failure counts as one before the next.
    pub reset_after: Duration,
}

/// `[quota]`, as far as the pool needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaSettings {
    /// The Gemini pool to start on.
    pub primary: Primary,
    /// Whether and how the other pool is tried.
    pub fallback: Fallback,
    /// Above this utilisation an account ranks last; 1 turns it off.
    pub soft_threshold: f64,
    /// Reserves kept per model.
    pub protect: Vec<Protect>,
}

/// The Gemini pool to start on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Primary {
    /// The pool of Antigravity.
    #[default]
    Antigravity,
    /// The pool of the Gemini CLI.
    GeminiCli,
}

/// Whether and how the second pool is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Never.
    #[default]
    Off,
    /// After every account's first pool.
    AccountsFirst,
    /// On the same account before the next account.
    SameAccountFirst,
}

/// A reserve: an account whose rest is smaller serves none of these models.
#[derive(Clone, PartialEq, Debug)]
pub struct Protect {
    /// Patterns of the models' names; `*` stands for any letters.
    pub models: Vec<String>,
    /// The fraction of the quota that is kept, 0 to 1.
    pub below: f64,
}

/// `[accounts."X"]`: what the configuration says of one account; it wins over the record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountSettings {
    /// Label, email or id.
    pub name: String,
    /// Both this and the record must allow it.
    pub enabled: Option<bool>,
    /// Capacity.
    pub max_leases: Option<u32>,
    /// Higher is preferred among equally loaded accounts.
    pub priority: Option<i32>,
    /// Which agents may hold it.
    pub allowed_agents: Option<Vec<String>>,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            per_account: 1,
            overflow: Overflow::default(),
            max_per_account: 16,
            ttl: Duration::from_secs(600),
            grace: Duration::from_secs(2),
        }
    }
}

impl Default for SelectionSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            mode: Mode::default(),
            preferred_account: None,
            pid_offset: false,
            max_cache_wait: Duration::from_secs(60),
            session_ttl: Duration::from_secs(3600),
            reuse_window: Duration::from_secs(60),
            tier_first: false,
            health: HealthSettings::default(),
            tokens: TokenSettings::default(),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            initial: 70.0,
            success: 1.0,
            rate_limit: -10.0,
            failure: -20.0,
            recovery_per_hour: 2.0,
            min_usable: 50.0,
            max: 100.0,
        }
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self { max: 50.0, initial: 50.0, per_minute: 6.0 }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_rate_limit_wait: Duration::from_secs(300),
            backoff: Backoff::default(),
            dedup_window: Duration::from_secs(2),
            quota_failure_ttl: Duration::from_secs(3600),
            switch_on_first_rate_limit: true,
            retry_delay: Duration::from_secs(1),
            reset_after: Duration::from_secs(120),
        }
    }
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self { primary: Primary::default(), fallback: Fallback::default(), soft_threshold: 0.9, protect: Vec::new() }
    }
}
