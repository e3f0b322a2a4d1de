//! Settings of leasing and selection.

use crate::limits::Backoff;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// All settings of the pool.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolSettings {
    /// Capacities and lifetimes.
    pub leases: LeaseSettings,
    /// How an account is chosen.
    pub selection: SelectionSettings,
    /// How long requests wait, and how long a limit lasts when the server states no time.
    pub limits: LimitSettings,
    /// Quota pools, thresholds and reserves.
    pub quota: QuotaSettings,
    /// Settings of single accounts, in the order of their names.
    pub accounts: Vec<AccountSettings>,
    /// Sets of accounts for directories, in the order of their names.
    pub directories: Vec<DirectorySettings>,
}

/// `[leases]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseSettings {
    /// Capacity of an account that has no own setting.
    pub per_account: u32,
    /// What happens when every account is at its capacity.
    pub overflow: Overflow,
    /// No account ever has more leases than this.
    pub max_per_account: u32,
    /// Lifetime of a lease that is bound to nothing else.
    pub ttl: Duration,
    /// After an unclean restart, how long new grants wait for earlier holders to resume their leases.
    pub grace: Duration,
    /// How long a free seat of a shared account is kept before it is given back.
    pub linger: Duration,
    /// How many requests may be under way on an account; 0: any number.
    pub max_in_flight: u32,
    /// How many requests may be under way with one key of the gateway; 0: any number.
    pub max_in_flight_per_key: u32,
}

/// What happens when every account is at its capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Accounts are shared evenly, up to `max_per_account`.
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
    /// How to choose among equally loaded accounts.
    pub strategy: Strategy,
    /// What happens when the wanted account is limited.
    pub mode: Mode,
    /// An account to prefer while it is below its capacity.
    pub preferred_account: Option<String>,
    /// Whether holders without a session start at an account that depends on their pid.
    pub pid_offset: bool,
    /// How long `cache-first` waits for the wanted account.
    pub max_cache_wait: Duration,
    /// How long an unused session keeps its account.
    pub session_ttl: Duration,
    /// How long a process gets back the account that it released.
    pub reuse_window: Duration,
    /// Whether a better tier outranks the strategy.
    pub tier_first: bool,
    /// Where the requests of sub-agents go.
    pub subagents: SubagentPlacement,
    /// `[selection.health]`
    pub health: HealthSettings,
    /// `[selection.tokens]`
    pub tokens: TokenSettings,
}

/// How to choose among equally loaded accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The current account until it is limited.
    Sticky,
    /// The account after the last granted one.
    RoundRobin,
    /// A score of health, tokens and idle time, with a bonus for the current account.
    #[default]
    Hybrid,
    /// The account with the lowest utilization.
    LeastUsed,
    /// The account whose weekly window resets first.
    DrainSoonest,
}

stable_names!(
    Strategy:
    Sticky = "sticky", RoundRobin = "round-robin", Hybrid = "hybrid", LeastUsed = "least-used",
    DrainSoonest = "drain-soonest",
);

impl PoolSettings {
    /// The set of the innermost directory that `directory` is, or is in: its index.
    pub fn set_of_directory(&self, directory: &str) -> Option<usize> {
        let length =
            |set: &DirectorySettings| set.paths.iter().filter(|path| is_within(directory, path)).map(String::len).max();
        let sets = self.directories.iter().enumerate().filter(|(_, set)| !set.accounts.is_empty());
        let found = sets.filter_map(|(at, set)| Some((length(set)?, at)));
        found.max().map(|(_, at)| at)
    }
}

/// Whether a directory is `path`, or in it.
fn is_within(directory: &str, path: &str) -> bool {
    // only the root ends in a slash
    directory.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || path.ends_with('/'))
}

/// Where the requests of sub-agents go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubagentPlacement {
    /// To the account of their parent.
    WithParent,
    /// To the accounts with the least load.
    Spread,
    /// With their parent while there is room, else as with `Spread`.
    #[default]
    Auto,
}

stable_names!(SubagentPlacement: WithParent = "with-parent", Spread = "spread", Auto = "auto");

impl LeaseSettings {
    /// How many leases an account of this capacity may have.
    #[inline]
    pub(crate) fn ceiling(&self, capacity: u32) -> u32 {
        match self.overflow {
            Overflow::Share => self.max_per_account.max(1),
            Overflow::Wait | Overflow::Fail => capacity,
        }
    }
}

stable_names!(Mode: CacheFirst = "cache-first", Balance = "balance", PerformanceFirst = "performance-first");

/// What happens when the wanted account is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Wait for it, up to `max_cache_wait`.
    CacheFirst,
    /// Take another account at once.
    #[default]
    Balance,
    /// Ignore sessions.
    PerformanceFirst,
}

/// How the health score moves; points.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthSettings {
    /// The initial score.
    pub initial: f64,
    /// Added by a success.
    pub success: f64,
    /// Added by a rate limit (negative).
    pub rate_limit: f64,
    /// Added by another failure (negative).
    pub failure: f64,
    /// Points regained per hour without an event.
    pub recovery_per_hour: f64,
    /// Below this `hybrid` takes the account last.
    pub min_usable: f64,
    /// The maximum.
    pub max: f64,
}

/// The token bucket of attempts of an account.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenSettings {
    /// Its capacity.
    pub max: f64,
    /// Its initial content.
    pub initial: f64,
    /// Tokens added per minute.
    pub per_minute: f64,
}

/// `[limits]`, as far as the pool needs them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitSettings {
    /// How long a request waits when the caller does not say.
    pub max_rate_limit_wait: Duration,
    /// The waits when the server states none.
    pub backoff: Backoff,
    /// Reports on one quota key within this time are one event.
    pub dedup_window: Duration,
    /// How long after the end of the last limit the waits of `quota_exhausted` start again from the first.
    pub quota_failure_ttl: Duration,
    /// Whether the first rate limit moves the holder to another account; else it retries once.
    pub switch_on_first_rate_limit: bool,
    /// The wait before that retry.
    pub retry_delay: Duration,
    /// Failures that are further apart than this are not consecutive.
    pub reset_after: Duration,
}

/// `[quota]`, as far as the pool needs it.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaSettings {
    /// The Gemini pool to start on.
    pub primary: Primary,
    /// Whether and when the other pool is tried.
    pub fallback: Fallback,
    /// From this utilization on an account ranks last; 1 disables the threshold.
    pub soft_threshold: f64,
    /// Quota reserved from some models.
    pub protect: Vec<Protect>,
    /// Whether an account may be used beyond its plan while another one has room.
    pub overage: OveragePolicy,
}

/// Whether an account may be used beyond its plan while another one has room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OveragePolicy {
    /// Sessions move to an account whose plan is not used up, if there is one.
    #[default]
    Avoid,
    /// Requests stay where they are, and are paid for.
    Allow,
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

/// Whether and when the second pool is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Never.
    #[default]
    Off,
    /// When no account's first pool is open.
    AccountsFirst,
    /// On the same account before the next account.
    SameAccountFirst,
}

/// A reserve: an account with less quota left serves none of these models.
#[derive(Clone, PartialEq, Debug)]
pub struct Protect {
    /// Patterns of model names; `*` stands for any characters.
    pub models: Vec<String>,
    /// The fraction of the quota that is reserved, 0 to 1.
    pub below: f64,
}

/// `[directories."X"]`: what is started there may use these accounts only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DirectorySettings {
    /// The directory, as the configuration names it.
    pub name: String,
    /// The absolute paths that it stands for, with `/` between the names and none at the end: as it is written, and with
    /// its links resolved. Where the system ignores case, they are in lower case.
    pub paths: Vec<String>,
    /// Labels, email addresses or ids. An address names every account that has it.
    pub accounts: Vec<String>,
}

/// `[accounts."X"]`: settings of one account; they override its record.
#[derive(Clone, PartialEq, Debug, Default)]
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
    /// The part of its windows that is kept for requests that name it, 0 to 1.
    pub reserve: Option<f64>,
    /// Whether it is used only while no other account can serve.
    pub fallback_only: Option<bool>,
    /// Whether the agent that a holder states must be the program that is found.
    pub attest: Option<AttestPolicy>,
}

/// What the agent that a holder states counts for, on an account that only some agents may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttestPolicy {
    /// It is believed; if another program is found, there is a warning.
    #[default]
    Declared,
    /// It is believed only if its program is found.
    Strict,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            per_account: 1,
            overflow: Overflow::default(),
            max_per_account: 16,
            ttl: Duration::from_secs(600),
            grace: Duration::from_secs(2),
            linger: Duration::from_secs(30),
            max_in_flight: 0,
            max_in_flight_per_key: 0,
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
            subagents: SubagentPlacement::default(),
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
        Self {
            primary: Primary::default(),
            fallback: Fallback::default(),
            soft_threshold: 0.9,
            protect: Vec::new(),
            overage: OveragePolicy::default(),
        }
    }
}
