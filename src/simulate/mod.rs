//! Simulates the pool in virtual time against a modelled provider: the code that the daemon runs, and the rules of other
//! programs on the same load.
//!
//! An agent has tasks of 8 to 60 requests, each task one session. A request takes 4 to 24 s, with 1 to 10 s of other work
//! between two. Every account serves a number of requests per minute and per five hours; the windows of different
//! accounts begin at different times. A refusal arrives after 50 ms and states its wait in whole seconds. An agent that is
//! refused returns at the stated time, or after 5 min if that is sooner.
//!
//! The same [`Load`] gives the same [`Counted`] on every machine.

mod rng;
mod rules;
mod upstream;
mod world;

use crate::pool::Strategy;
use rules::{ManagerRules, MultiAuthRules, PerfectRules, PluginRules, PoolRules};
use schemars::JsonSchema;
use serde::Serialize;
use upstream::{HOUR, Ms};
use world::{RoutingRules, Simulation};

/// The accounts and the agents of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Load {
    /// Accounts of one provider.
    pub accounts: usize,
    /// Agents at work at the same time.
    pub agents: usize,
    /// How long they work.
    pub hours: u64,
    /// The seed of all random numbers.
    pub seed: u64,
    /// Requests an account serves in a minute.
    pub per_minute: u64,
    /// Requests an account serves in five hours.
    pub per_five_hours: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { accounts: 8, agents: 20, hours: 24, seed: 1, per_minute: 10, per_five_hours: 1_800 }
    }
}

impl Load {
    fn length(&self) -> Ms {
        self.hours * HOUR
    }
}

/// Which rules choose the accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Perfect knowledge of what every account has left: the most that can be served.
    Perfect,
    /// The pool with this strategy and its default settings.
    Lessor(Strategy),
    /// opencode-antigravity-auth 1.6.0 with its defaults: each agent is a process with its own knowledge, and a shared file.
    AntigravityAuth,
    /// Antigravity-Manager 4.5.8 with its defaults: one gateway for all agents.
    AntigravityManager,
    /// opencode-anthropic-multi-auth: each agent is a process, with a shared file.
    AnthropicMultiAuth,
}

impl Rule {
    /// The rules of other programs.
    pub const OTHERS: [Self; 3] = [Self::AntigravityAuth, Self::AntigravityManager, Self::AnthropicMultiAuth];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Perfect => "perfect knowledge",
            Self::Lessor(Strategy::Sticky) => "lessor, sticky",
            Self::Lessor(Strategy::RoundRobin) => "lessor, round-robin",
            Self::Lessor(Strategy::Hybrid) => "lessor, hybrid",
            Self::Lessor(Strategy::LeastUsed) => "lessor, least-used",
            Self::Lessor(Strategy::DrainSoonest) => "lessor, drain-soonest",
            Self::AntigravityAuth => "opencode-antigravity-auth",
            Self::AntigravityManager => "Antigravity-Manager",
            Self::AnthropicMultiAuth => "opencode-anthropic-multi-auth",
        }
    }

    fn rules(self, load: &Load) -> Box<dyn RoutingRules> {
        match self {
            Self::Perfect => Box::new(PerfectRules::default()),
            Self::Lessor(strategy) => Box::new(PoolRules::new(load, strategy)),
            Self::AntigravityAuth => Box::new(PluginRules::new(load)),
            Self::AntigravityManager => Box::new(ManagerRules::new(load)),
            Self::AnthropicMultiAuth => Box::new(MultiAuthRules::new(load)),
        }
    }
}

/// What was counted in one run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
pub struct Counted {
    /// Requests that all accounts together could have served.
    #[serde(skip)]
    pub quota: u64,
    /// Requests that were served.
    pub served: u64,
    /// 429 responses.
    pub refusals: u64,
    /// Quota windows of an account with at least one 429 response.
    pub refused_windows: u64,
    /// 429 responses to requests that were sent after the first one of the window was known, except probes.
    pub needless_refusals: u64,
    /// The most 429 answers of one window.
    #[serde(skip)]
    pub most_refusals: u64,
    /// Requests that used another account than the last request of their session.
    pub moves: u64,
    /// Moves away from an account that could have served the request.
    pub needless_moves: u64,
    /// Time in which agents slept while an account could serve, in ms, summed over all agents.
    pub slept_ms: u64,
    /// How often an agent had to wait or stop while an account could serve.
    #[serde(rename = "wrong_waits")]
    pub wrong: u64,
    /// How often an agent received an error.
    pub turned_away: u64,
    /// Requests served until each of equal parts of the time.
    #[serde(skip)]
    pub curve: Vec<u64>,
}

impl Counted {
    /// 429 answers in a window that had any.
    #[must_use]
    pub fn refusals_a_window(&self) -> f64 {
        if self.refused_windows == 0 { 0.0 } else { self.refusals as f64 / self.refused_windows as f64 }
    }
}

/// Runs the agents of `load` under `rule`.
#[must_use]
pub fn run(load: &Load, rule: Rule) -> Counted {
    let mut rules = rule.rules(load);
    Simulation::new(load, &mut *rules).run()
}
