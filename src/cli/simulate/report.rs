//! What came out, for people and for programs.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::output::{Output, Tint};
use crate::cli::table::{Column, Table};
use crate::simulate::{Counted, Load, Rule};

use super::chart;

/// What `simulate` found.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Findings {
    accounts: usize,
    agents: usize,
    hours: u64,
    seed: u64,
    per_minute: u64,
    per_five_hours: u64,
    /// Requests that all accounts together could have served in that time.
    quota: u64,
    /// Requests that these agents are served by whoever knows what every account has left.
    usable: u64,
    rules: Vec<Finding>,
}

/// What one set of rules came to.
#[derive(Serialize, JsonSchema)]
struct Finding {
    /// Whose rules.
    name: &'static str,
    /// Requests that were served.
    served: u64,
    /// The same as a share of `usable`.
    served_share: f64,
    /// 429 answers.
    refusals: u64,
    /// Windows of an account's quota in which there was a 429.
    refused_windows: u64,
    /// 429 answers for each of these windows.
    refusals_per_window: f64,
    /// 429 answers to requests that were sent when the window's first one was known, probes apart.
    needless_refusals: u64,
    /// Requests that went to another account than their session's last one.
    moves: u64,
    /// Those of them whose last account could have served.
    needless_moves: u64,
    /// Time that agents slept while an account could serve, all agents together.
    slept_ms: u64,
    /// How often an agent was told to wait or to stop while an account could serve.
    wrong_waits: u64,
    /// How often an agent saw an error.
    turned_away: u64,
}

impl Findings {
    pub(super) fn new(load: &Load, perfect: &Counted, results: &[(Rule, Counted)]) -> Self {
        let usable = usable(perfect, results);
        let finding = |(rule, counted): &(Rule, Counted)| Finding {
            name: rule.name(),
            served: counted.served,
            served_share: share(counted, usable),
            refusals: counted.refusals,
            refused_windows: counted.refused_windows,
            refusals_per_window: counted.refusals_a_window(),
            needless_refusals: counted.needless_refusals,
            moves: counted.moves,
            needless_moves: counted.needless_moves,
            slept_ms: counted.slept_ms,
            wrong_waits: counted.wrong,
            turned_away: counted.turned_away,
        };
        Self {
            accounts: load.accounts,
            agents: load.agents,
            hours: load.hours,
            seed: load.seed,
            per_minute: load.per_minute,
            per_five_hours: load.per_five_hours,
            quota: perfect.quota,
            usable,
            rules: results.iter().map(finding).collect(),
        }
    }
}

/// What perfect knowledge serves; whoever is luckier shows that a little more is possible.
fn usable(perfect: &Counted, results: &[(Rule, Counted)]) -> u64 {
    results.iter().map(|(_, counted)| counted.served).fold(perfect.served, u64::max)
}

fn share(counted: &Counted, usable: u64) -> f64 {
    if usable == 0 { 1.0 } else { counted.served as f64 / usable as f64 }
}

pub(super) fn text(
    load: &Load,
    perfect: &Counted,
    results: &[(Rule, Counted)],
    findings: &Findings,
    output: &Output,
) -> String {
    let columns = [
        Column::flexible("RULES", 12),
        Column::number("SERVED"),
        Column::number("429s/WINDOW"),
        Column::number("MOVES"),
        Column::number("SLEPT"),
        Column::number("WRONG"),
        Column::number("ERRORS"),
    ];
    let mut table = Table::new(&columns);
    for (rule, counted) in results {
        let share = share(counted, findings.usable);
        let judge = |good: bool| Some(if good { Tint::Good } else { Tint::Warn });
        let of_lessor = matches!(rule, Rule::Lessor(_));
        table.row(vec![
            (rule.name().into(), of_lessor.then_some(Tint::Strong)),
            (format!("{:.1} %", 100.0 * share), judge(share >= 0.99)),
            (format!("{:.2}", counted.refusals_a_window()), judge(counted.needless_refusals == 0)),
            (counted.needless_moves.to_string(), judge(counted.needless_moves == 0)),
            (hours(counted.slept_ms), judge(counted.slept_ms == 0)),
            (counted.wrong.to_string(), judge(counted.wrong == 0)),
            (counted.turned_away.to_string(), None),
        ]);
    }
    let Load { accounts, agents, hours, seed, per_minute, per_five_hours } = load;
    format!(
        "{agents} agents for {hours} h, seed {seed}\n\
         {accounts} accounts of {per_minute} requests a minute and {per_five_hours} in five hours\n\
         {} of the {} requests of all quotas can be used\n\n{}\n{}\n{}",
        findings.usable,
        perfect.quota,
        table.render(output),
        chart::served(load, results, findings.usable, output),
        output.tint(Tint::Faint, LEGEND),
    )
}

const LEGEND: &str = "\
SERVED       of what perfect knowledge serves on this load
429s/WINDOW  in a window of an account's quota that had any; 1 is how one learns
MOVES        of sessions, away from an account that could serve
SLEPT        by all agents together, while an account could serve
WRONG        told to wait or to stop while an account could serve
ERRORS       seen by agents, who then come back at the time they were told";

/// Of agents' time.
fn hours(ms: u64) -> String {
    match ms / 1_000 {
        0 => "0 s".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
