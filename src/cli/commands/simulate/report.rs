//! The result of a simulation, as a document, and as text with a chart of the requests served over time.

use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::ui::{Column, Output, Table, Tint};
use crate::simulate::{Counted, Load, Rule};

/// The bars of the chart.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The width of the names in the chart.
const NAME: usize = 29;
const MAX_BARS: usize = 48;

/// The result of a simulation.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SimulationResult {
    #[serde(flatten)]
    load: Load,
    /// Requests that all accounts together could have served in that time.
    quota: u64,
    /// Requests that a scheduler with perfect knowledge of every quota serves.
    usable: u64,
    rules: Vec<RuleResult>,
}

/// The result of one set of rules.
#[derive(Serialize, JsonSchema)]
struct RuleResult {
    /// The name of the rules.
    name: &'static str,
    #[serde(flatten)]
    counted: Counted,
    /// The share of `usable` that was served.
    served_share: f64,
    /// 429 responses per window with at least one.
    refusals_per_window: f64,
}

impl SimulationResult {
    pub(super) fn new(load: &Load, perfect: &Counted, results: &[(Rule, Counted)]) -> Self {
        let usable = usable(perfect, results);
        let finding = |(rule, counted): &(Rule, Counted)| RuleResult {
            name: rule.name(),
            served_share: share(counted, usable),
            refusals_per_window: counted.refusals_a_window(),
            counted: counted.clone(),
        };
        Self { load: *load, quota: perfect.quota, usable, rules: results.iter().map(finding).collect() }
    }
}

/// What perfect knowledge serves, or the best rules if they happen to serve more.
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
    findings: &SimulationResult,
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
    let legend: String = LEGEND.iter().map(|(name, meaning)| output.field(name, 13, meaning)).collect();
    let head = format!(
        "{agents} agents for {hours} h, seed {seed}\n\
         {accounts} accounts of {per_minute} requests a minute and {per_five_hours} in five hours\n\
         {} of the {} requests of all quotas can be used\n\n",
        findings.usable, perfect.quota,
    );
    let chart = chart(load, results, findings.usable, output);
    format!("{}{}\n{chart}\n{legend}", output.prose(&head), table.render(output))
}

const LEGEND: [(&str, &str); 6] = [
    ("SERVED", "share of what perfect knowledge serves on this load"),
    ("429s/WINDOW", "per quota window with at least one; 1 is the minimum"),
    ("MOVES", "of sessions away from an account that could serve"),
    ("SLEPT", "by all agents while an account could serve"),
    ("WRONG", "orders to wait or stop while an account could serve"),
    ("ERRORS", "seen by agents, which retry at the stated time"),
];

fn hours(ms: u64) -> String {
    match ms / 1_000 {
        0 => "0 s".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The requests served in each part of the time, relative to the busiest part.
fn chart(load: &Load, results: &[(Rule, Counted)], usable: u64, output: &Output) -> String {
    let bars = MAX_BARS.min(output.width.saturating_sub(NAME + 3));
    let lines: Vec<Vec<u64>> = results.iter().map(|(_, counted)| parts(&counted.curve, bars)).collect();
    let most = lines.iter().flatten().copied().max().unwrap_or(0).max(usable.div_ceil(bars.max(1) as u64)).max(1);
    let minutes = load.hours * 60 / bars.max(1) as u64;
    let mut text = format!("requests served over time, one bar per {minutes} min\n");
    for ((rule, _), line) in results.iter().zip(&lines) {
        let drawn: String = line.iter().map(|part| bar(*part, most)).collect();
        let tint = if matches!(rule, Rule::Lessor(_)) { Tint::Good } else { Tint::Warn };
        text.push_str(&format!("{:<NAME$}  {}\n", rule.name(), output.tint(tint, &drawn)));
    }
    text
}

/// The requests served in each of `bars` equal parts of the curve.
fn parts(curve: &[u64], bars: usize) -> Vec<u64> {
    let until = |n: usize| (n * curve.len()).checked_div(bars).unwrap_or(0).checked_sub(1).map_or(0, |at| curve[at]);
    (0..bars).map(|n| until(n + 1) - until(n)).collect()
}

fn bar(part: u64, most: u64) -> char {
    let eighths = (part * 8).div_ceil(most) as usize;
    BARS[eighths.min(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_the_requests_served_in_its_part() {
        assert_eq!(parts(&[1, 3, 6, 10], 4), [1, 2, 3, 4]);
        assert_eq!(parts(&[1, 3, 6, 10], 2), [3, 7]);
        assert_eq!(parts(&[], 2), [0, 0]);
        assert_eq!([0, 1, 4, 8].map(|part| bar(part, 8)), [' ', '▁', '▄', '█']);
    }
}
