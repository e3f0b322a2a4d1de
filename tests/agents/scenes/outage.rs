//! An outage: the provider refuses every request with 401 or 403 for some seconds. The accounts are ready again soon, and
//! all agents finish.

use std::time::{Duration, Instant};

use super::{CLAUDE, count, outcome, seconds, table, trouble};
use crate::fleet::{Fleet, FleetConfig, wait_for};
use crate::trouble::Trouble;
use crate::upstream::Limit;

const OUTAGE: Duration = Duration::from_secs(6);
/// All accounts are ready again after this time.
const READY: Duration = Duration::from_secs(15);
const STEPS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(240);

fn scene(status: u16) {
    let runs = count(3, 8);
    let accounts = [false, false, false, true, true].map(|is_login| (is_login, Limit::None));
    let fleet = Fleet::with(&format!("outage-{status}"), "anthropic", &accounts, &FleetConfig::default());
    fleet.upstream.plan(Trouble::outage(runs, status, OUTAGE));
    let agents = (1..=runs).map(|run| CLAUDE.start(&fleet, run, STEPS, &[])).collect();
    let end = trouble(&fleet) + OUTAGE;
    let mut states = Vec::new();
    let mut ready = None;
    // from the end of the outage, without any command that could mend something
    while Instant::now() < end + 4 * READY && ready.is_none() {
        std::thread::sleep(Duration::from_millis(250));
        let accounts = fleet.json(&["account", "list"]);
        let text = |state: &serde_json::Value| state["state"].as_str().unwrap_or_default().to_owned();
        states = accounts.as_array().unwrap().iter().map(text).collect();
        let now = Instant::now();
        ready = Some(now).filter(|now| *now >= end && states.iter().all(|state| state == "ready"));
    }
    let ran = wait_for(agents, PATIENCE);
    let seen = fleet.upstream.seen();
    let rows: Vec<Vec<String>> = ran
        .iter()
        .map(|ran| {
            let refused = seen.iter().filter(|seen| seen.run == Some(ran.run) && seen.status == status).count();
            vec![ran.run.to_string(), outcome(ran), seconds(end, ran.ended), refused.to_string()]
        })
        .collect();
    let after = ready.map_or("never".to_owned(), |ready| seconds(end, ready));
    let title = format!("outage, 6 s of {status}, 5 accounts: all ready {after} s after its end; states {states:?}");
    table(&title, &["run", "outcome", "ended after the end s", "refused upstream"], &rows);
    for ran in &ran {
        assert!(ran.ok, "run {} did not finish: {}\n{seen:#?}", ran.run, ran.text);
    }
    assert!(ready.is_some_and(|ready| ready - end <= READY), "all ready {after} s after the outage: {states:?}");
}

#[test]
fn of_401() {
    scene(401);
}

#[test]
fn of_403() {
    scene(403);
}
