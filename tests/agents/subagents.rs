//! A real Claude Code whose model starts sub-agents: they are spread over the accounts, and none sees a limit.
//!
//! `LESSOR_SCENE_AGENTS=50 .ci/agents subagents` starts so many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::fleet::{Fleet, FleetConfig, wait_for};
use super::scenes::{count, table};
use super::upstream::Limit;

/// Tool calls of each sub-agent.
const STEPS: u64 = 2;
const ACCOUNTS: u64 = 5;

/// Five accounts, of which the first has quota for a few requests only: for fewer than its share, however they are placed.
fn run(test: &str, placement: &'static str, many: u64) {
    let quota = Limit::Requests(2 + many / 4);
    let accounts: Vec<(bool, Limit)> =
        (0..ACCOUNTS).map(|number| (false, if number == 0 { quota } else { Limit::None })).collect();
    let fleet = Fleet::with(test, "anthropic", &accounts, &FleetConfig { text: placement, of_provider: "" });
    // so that they are under way together
    fleet.upstream.set_pace(Duration::from_millis(60));
    let prompt = format!("{} SUBAGENTS-{many} SUBSTEPS-{STEPS}", fleet.prompt(1, 0));
    let began = Instant::now();
    let run = fleet.start("user", &[], &["claude", "-p", &prompt]);
    let ran = wait_for(vec![(1, run)], Duration::from_secs(400));
    let took = began.elapsed();
    let seen = fleet.upstream.seen();
    assert!(ran[0].ok, "it did not finish: {}\n{seen:#?}", ran[0].text);
    let subagents: BTreeSet<&str> = seen.iter().filter_map(|seen| seen.subagent.as_deref()).collect();
    assert_eq!(subagents.len() as u64, many, "each sub-agent names itself: {seen:#?}");
    let finished = fleet.upstream.finished();
    assert_eq!(finished.len() as u64, many + 1, "all of them have ended: {finished:?}");
    let served = seen.iter().filter(|seen| seen.status == 200 && seen.subagent.is_some());
    let mut accounts: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for one in served {
        accounts.entry(one.account.unwrap()).or_default().extend(one.subagent.as_deref());
    }
    let refused = seen.iter().filter(|seen| seen.status == 429).count();
    let counts: Vec<usize> =
        (0..ACCOUNTS as usize).map(|account| accounts.get(&account).map_or(0, BTreeSet::len)).collect();
    let (_, visible) = fleet.limits();
    let title =
        format!("{test}, {many} sub-agents, {:.1} s: {refused} 429s, {visible} seen by an agent", took.as_secs_f64());
    let served = |account| seen.iter().filter(|seen| seen.account == Some(account) && seen.status == 200).count();
    let row = |(account, subagents): (usize, &usize)| vec![account, *subagents, served(account)];
    let rows: Vec<Vec<String>> =
        counts.iter().enumerate().map(|row_of| row(row_of).iter().map(usize::to_string).collect()).collect();
    table(&title, &["account", "sub-agents", "served"], &rows);
    assert!(refused > 0, "no quota ended: {seen:#?}");
    assert_eq!(visible, 0, "{}", ran[0].text);
    assert!(accounts.len() > 1, "all sub-agents are on one account: {seen:#?}");
}

#[test]
fn claude_code_with_sub_agents() {
    run("subagents-auto", "[selection]\nsubagents = \"auto\"\n", count(8, 50));
}

#[test]
fn claude_code_with_sub_agents_that_are_spread() {
    run("subagents-spread", "[selection]\nsubagents = \"spread\"\n", count(8, 50));
}
