//! `simulate`: the strategies of lessor, and the rules of other tools, on a modelled load in virtual time.

mod report;
mod svg;

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};

use crate::cli::ui::progress;
use crate::cli::{context::Context, error::CliError};
use crate::simulate::{Counted, Load, Rule, run};
use crate::{pool::Strategy, protocol::ErrorKind};

pub(super) use report::SimulationResult;

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The number of accounts, each with its own quota
    #[arg(long, value_name = "N", default_value_t = Load::default().accounts, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    accounts: usize,
    /// The number of agents that work at the same time
    #[arg(long, value_name = "N", default_value_t = Load::default().agents, value_parser = RangedU64ValueParser::<usize>::new().range(1..=200))]
    agents: usize,
    /// Simulate this strategy only; may be repeated [default: all strategies, and other tools]
    #[arg(long, value_name = "STRATEGY",
          value_parser = PossibleValuesParser::new(STRATEGIES.map(Strategy::name)))]
    strategy: Vec<String>,
    /// The simulated time, in hours
    #[arg(long, value_name = "N", default_value_t = Load::default().hours, value_parser = RangedU64ValueParser::<u64>::new().range(1..=720))]
    hours: u64,
    /// Requests that an account serves in a minute
    #[arg(long, value_name = "N", default_value_t = Load::default().per_minute, value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    per_minute: u64,
    /// Requests that an account serves in five hours
    #[arg(long, value_name = "N", default_value_t = Load::default().per_five_hours, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    per_five_hours: u64,
    /// The seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = Load::default().seed)]
    seed: u64,
    /// Also write a chart of the served requests over time
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

const STRATEGIES: [Strategy; 5] =
    [Strategy::Hybrid, Strategy::Sticky, Strategy::RoundRobin, Strategy::LeastUsed, Strategy::DrainSoonest];

impl SimulateArgs {
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
        let is_chosen =
            |strategy: &Strategy| self.strategy.is_empty() || self.strategy.iter().any(|name| name == strategy.name());
        let others = Rule::OTHERS.into_iter().filter(|_| self.strategy.is_empty());
        STRATEGIES.into_iter().filter(is_chosen).map(Rule::Lessor).chain(others).collect()
    }
}

pub(super) fn execute(options: &SimulateArgs, context: &Context) -> Result<(), CliError> {
    let load = options.load();
    let rules = options.rules();
    let progress = progress::bar(rules.len() + 1);
    let run = |rule: Rule| {
        progress.says(rule.name());
        let counted = run(&load, rule);
        progress.step();
        counted
    };
    let perfect = run(Rule::Perfect);
    let results: Vec<(Rule, Counted)> = rules.into_iter().map(|rule| (rule, run(rule))).collect();
    drop(progress);
    if let Some(path) = &options.svg {
        std::fs::write(path, svg::draw(&load, &perfect, &results))
            .map_err(|error| CliError::new(ErrorKind::Io, format!("cannot write {}: {error}", path.display())))?;
    }
    let findings = SimulationResult::new(&load, &perfect, &results);
    context.output.result(&findings, || report::text(&load, &perfect, &results, &findings, &context.output))
}
