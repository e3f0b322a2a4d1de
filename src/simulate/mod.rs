//! The pool at work in virtual time, against a modelled provider: the real code that the daemon runs, and beside it the
//! rules that other programs go by, on the same load.
//!
//! An agent has a task of 8 to 60 requests, each a session's; a request takes 4 to 24 s, and 1 to 10 s of work without
//! the provider lie between two. Every account serves so many requests in a minute and so many in five hours; the windows
//! of different accounts begin at different times. A refusal says how long it holds, in whole seconds, and is back after
//! 50 ms. An agent that is turned away comes back at the time it was told, after 5 min at the latest.
//!
//! The same [`Load`] gives the same [`Counted`] anywhere.

mod chance;
mod rules;
mod upstream;
mod world;

use crate::pool::Strategy;

use rules::{Manager, MultiAuth, Perfect, Plugin, Pooled};
use upstream::{HOUR, Ms};
use world::{Rules, World};

/// What is asked of whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Accounts of one provider.
    pub accounts: usize,
    /// Agents at work at the same time.
    pub agents: usize,
    /// How long they work.
    pub hours: u64,
    /// What chance follows from.
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

/// By which rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Whoever knows what every account has left: what can be served at all.
    Perfect,
    /// The pool, with its other settings as they come.
    Lessor(Strategy),
    /// opencode-antigravity-auth 1.6.0 with its defaults: each agent a process, which learns for itself, and a file.
    AntigravityAuth,
    /// Antigravity-Manager 4.5.8 with its defaults: one gateway for all.
    AntigravityManager,
    /// opencode-anthropic-multi-auth: each agent a process, and a file.
    AnthropicMultiAuth,
}

impl Rule {
    /// Those of other programs.
    pub const OTHERS: [Self; 3] = [Self::AntigravityAuth, Self::AntigravityManager, Self::AnthropicMultiAuth];

    /// What it is called.
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

    fn rules(self, load: &Load) -> Box<dyn Rules> {
        match self {
            Self::Perfect => Box::new(Perfect::default()),
            Self::Lessor(strategy) => Box::new(Pooled::new(load, strategy)),
            Self::AntigravityAuth => Box::new(Plugin::new(load)),
            Self::AntigravityManager => Box::new(Manager::new(load)),
            Self::AnthropicMultiAuth => Box::new(MultiAuth::new(load)),
        }
    }
}

/// What was counted in one run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Requests that all accounts together could have served.
    pub quota: u64,
    /// Requests that were served.
    pub served: u64,
    /// 429 answers.
    pub refusals: u64,
    /// Windows of an account's quota in which there was a 429.
    pub refused_windows: u64,
    /// 429 answers to requests that were sent when the window's first one had come back, other than by a probe.
    pub needless_refusals: u64,
    /// The most 429 answers of one window.
    pub most_refusals: u64,
    /// Requests that went to another account than the session's last one.
    pub moves: u64,
    /// Those of them whose last account could have served.
    pub needless_moves: u64,
    /// Time that agents slept while an account could serve, milliseconds; probes and ceilings apart.
    pub slept_ms: u64,
    /// How often an agent was told to wait or to stop while an account could serve.
    pub wrong: u64,
    /// How often an agent was turned away: it saw an error.
    pub turned_away: u64,
    /// Requests served until each of equal parts of the time.
    pub curve: Vec<u64>,
}

impl Counted {
    /// 429 answers in a window that had any.
    #[must_use]
    pub fn refusals_a_window(&self) -> f64 {
        if self.refused_windows == 0 { 0.0 } else { self.refusals as f64 / self.refused_windows as f64 }
    }
}

/// Lets the agents of `load` work by `rule`.
#[must_use]
pub fn run(load: &Load, rule: Rule) -> Counted {
    let mut rules = rule.rules(load);
    World::new(load, &mut *rules).run()
}
