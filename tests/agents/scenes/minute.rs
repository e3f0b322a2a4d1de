//! Short windows: more agents than the accounts can serve in a minute. No agent sees a rate limit, and few are hit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CLAUDE, count, is_full, outcome, seconds, table};
use crate::fleet::{Fleet, FleetConfig, wait_for};
use crate::upstream::Limit;

const WINDOW: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(600);
/// Rate limits per account and window: on average, and the most.
const AVERAGE: f64 = 1.2;
const WORST: usize = 3;

#[test]
#[ignore = "takes minutes: .ci/agents --ignored"]
fn no_agent_sees_a_limit_of_a_minute() {
    let runs = count(3, 12);
    let (accounts, in_window, steps) = if is_full() { (5, 6, 7) } else { (2, 3, 5) };
    let limits = vec![(false, Limit::Window(in_window, WINDOW)); accounts];
    let fleet = Fleet::with("minute", "anthropic", &limits, &FleetConfig::default());
    let begun = std::time::Instant::now();
    let agents = (1..=runs).map(|run| CLAUDE.start(&fleet, run, steps, &[])).collect();
    let ran = wait_for(agents, PATIENCE);
    let metrics = fleet.metrics();
    let seen = fleet.upstream.seen();
    // each window of each account in which anything was asked
    let mut windows: BTreeMap<(Option<usize>, u128), (usize, usize)> = BTreeMap::new();
    for seen in &seen {
        let (served, limited) = windows.entry((seen.account, seen.window)).or_default();
        *if seen.status == 429 { limited } else { served } += 1;
    }
    let limited =
        |windows: &BTreeMap<_, (usize, usize)>| windows.values().map(|(_, limited)| *limited).collect::<Vec<_>>();
    let limited = limited(&windows);
    let average = limited.iter().sum::<usize>() as f64 / limited.len() as f64;
    let worst = limited.iter().copied().max().unwrap_or_default();
    let rows: Vec<Vec<String>> = windows
        .iter()
        .map(|((account, window), (served, limited))| {
            let account = account.map_or("unknown".to_owned(), |number| format!("anthropic-{number}"));
            vec![window.to_string(), account, format!("{served}/{in_window}"), limited.to_string()]
        })
        .collect();
    let took = ran.iter().map(|ran| ran.ended).max().map_or_else(String::new, |ended| seconds(begun, ended));
    let refused: Vec<&str> = metrics.lines().filter(|line| is_refusal(line)).collect();
    let outcomes: Vec<String> = ran.iter().map(outcome).collect();
    let title = format!(
        "minute, {runs} agents on {accounts} accounts, {took} s: {average:.2} 429s per account and window, worst {worst}; \
         refusals to agents {refused:?}; {outcomes:?}"
    );
    table(&title, &["window", "account", "served", "429s"], &rows);
    for ran in &ran {
        assert!(ran.ok, "run {} did not finish: {}\n{seen:#?}", ran.run, ran.text);
    }
    assert!(refused.is_empty(), "an agent saw a limit: {refused:?}");
    assert!(
        average <= AVERAGE && worst <= WORST,
        "{average:.2} 429s per account and window, worst {worst}: {windows:?}"
    );
}

/// Whether a line of the metrics counts responses that refused an agent.
fn is_refusal(line: &str) -> bool {
    line.starts_with("lessor_refusals_total{") || line.contains("outcome=\"refused\"")
}
