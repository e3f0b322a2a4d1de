//! `lessor simulate`: the pool's strategies against a modelled provider in virtual time, and the rules of others on the
//! same load.

mod chart;
mod report;
mod svg;

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::RangedU64ValueParser};

use crate::pool::Strategy;
use crate::simulate::{Counted, Load, Rule, run};

use super::context::Context;
use super::failure::Failure;

pub(super) use report::Findings;

/// `simulate`
#[derive(Debug, Args)]
#[command(after_help = "The same options and seed give the same figures, on every machine.")]
pub(super) struct Simulate {
    /// Accounts, each with a quota of its own
    #[arg(long, value_name = "N", default_value_t = Load::default().accounts, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    accounts: usize,
    /// Agents at work at the same time
    #[arg(long, value_name = "N", default_value_t = Load::default().agents, value_parser = RangedU64ValueParser::<usize>::new().range(1..=200))]
    agents: usize,
    /// Only this strategy of lessor's, and no other rules; may be given several times [default: everything]
    #[arg(long, value_name = "STRATEGY", value_enum)]
    strategy: Vec<Named>,
    /// How long they work, in simulated hours
    #[arg(long, value_name = "N", default_value_t = Load::default().hours, value_parser = RangedU64ValueParser::<u64>::new().range(1..=720))]
    hours: u64,
    /// Requests an account serves in a minute
    #[arg(long, value_name = "N", default_value_t = Load::default().per_minute, value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    per_minute: u64,
    /// Requests an account serves in five hours
    #[arg(long, value_name = "N", default_value_t = Load::default().per_five_hours, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    per_five_hours: u64,
    /// What chance follows from
    #[arg(long, value_name = "N", default_value_t = Load::default().seed)]
    seed: u64,
    /// Also write a chart of what was served over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A strategy, as the configuration names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Named {
    Sticky,
    RoundRobin,
    Hybrid,
    LeastUsed,
    DrainSoonest,
}

const STRATEGIES: [Named; 5] = [Named::Hybrid, Named::Sticky, Named::RoundRobin, Named::LeastUsed, Named::DrainSoonest];

impl Named {
    fn rule(self) -> Rule {
        Rule::Lessor(match self {
            Self::Sticky => Strategy::Sticky,
            Self::RoundRobin => Strategy::RoundRobin,
            Self::Hybrid => Strategy::Hybrid,
            Self::LeastUsed => Strategy::LeastUsed,
            Self::DrainSoonest => Strategy::DrainSoonest,
        })
    }
}

impl Simulate {
    fn load(&self) -> Load {
        Load {
            accounts: self.accounts,
            agents: self.agents,
            hours: self.hours,
            seed: self.seed,
            per_minute: self.per_minute,
            per_five_hours: self.per_five_hours,
        }
    }

    fn rules(&self) -> Vec<Rule> {
        if !self.strategy.is_empty() {
            let chosen = STRATEGIES.into_iter().filter(|named| self.strategy.contains(named));
            return chosen.map(Named::rule).collect();
        }
        STRATEGIES.into_iter().map(Named::rule).chain(Rule::OTHERS).collect()
    }
}

/// Runs the simulation.
pub(super) fn simulate(options: &Simulate, context: &Context) -> Result<(), Failure> {
    let load = options.load();
    let perfect = run(&load, Rule::Perfect);
    let results: Vec<(Rule, Counted)> = options.rules().into_iter().map(|rule| (rule, run(&load, rule))).collect();
    if let Some(path) = &options.svg {
        std::fs::write(path, svg::draw(&load, &perfect, &results))
            .map_err(|error| Failure::new("io", format!("cannot write {}: {error}", path.display())))?;
    }
    let findings = Findings::new(&load, &perfect, &results);
    context.output.result(&findings, || report::text(&load, &perfect, &results, &findings, &context.output))
}
