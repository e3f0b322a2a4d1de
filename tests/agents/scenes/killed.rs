//! The daemon is killed while an agent runs and another waits for an account; and it is restarted while agents run.

use std::time::{Duration, Instant};

use super::{CLAUDE, count, outcome, seconds, table};
use crate::fleet::{Fleet, FleetConfig, Ran, wait_for};
use crate::upstream::Limit;

const STEPS: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(200);
const QUEUED: &str = "the request continues in the queue of the next one";

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rows(ran: &[Ran], from: Instant) -> Vec<Vec<String>> {
    let notes = |ran: &Ran| {
        let lines = ran.text.lines().filter(|line| line.starts_with("lessor: "));
        lines.collect::<Vec<_>>().join(" / ")
    };
    ran.iter().map(|ran| vec![ran.run.to_string(), outcome(ran), seconds(from, ran.ended), notes(ran)]).collect()
}

#[test]
fn while_an_agent_waits_for_an_account() {
    let config = FleetConfig { text: "[leases]\noverflow = \"wait\"\n", of_provider: "" };
    let fleet = Fleet::with("killed", "anthropic", &[(false, Limit::None)], &config);
    fleet.upstream.set_pace(Duration::from_millis(300));
    let running = CLAUDE.start(&fleet, 1, STEPS, &[]);
    wait_until("the first agent works", || !fleet.upstream.seen().is_empty());
    let waiting = CLAUDE.start(&fleet, 2, 1, &["--wait", "150s"]);
    let queue = || fleet.json(&["status"])["queue"].as_array().map_or(0, Vec::len);
    wait_until("the second one waits", || queue() == 1);
    fleet.kill_daemon();
    let killed = Instant::now();
    wait_until("it waits again", || queue() == 1);
    let again = Instant::now();
    let ran = wait_for(vec![running, waiting], PATIENCE);
    let title = format!("killed in the queue: it waits again {} s after the kill", seconds(killed, again));
    table(&title, &["run", "outcome", "ended s", "notes"], &rows(&ran, killed));
    for ran in &ran {
        assert!(ran.ok, "run {} did not finish: {}", ran.run, ran.text);
    }
    assert_eq!(ran[1].text.replace('\n', " ").matches(QUEUED).count(), 1, "{}", ran[1].text);
}

#[test]
fn a_restart_while_agents_have_streams_under_way() {
    let runs = count(2, 8);
    let accounts = [(false, Limit::None); 3];
    let fleet = Fleet::with("restarted", "anthropic", &accounts, &FleetConfig::default());
    // a response takes two seconds
    fleet.upstream.set_pace(Duration::from_millis(300));
    let agents: Vec<_> = (1..=runs).map(|run| CLAUDE.start(&fleet, run, STEPS, &[])).collect();
    wait_until("all agents work", || {
        (1..=runs).all(|run| fleet.upstream.seen().iter().any(|seen| seen.run == Some(run)))
    });
    let begun = Instant::now();
    let mut restarts = Vec::new();
    for _ in 0..2 {
        restarts.push(fleet.json(&["restart"]));
    }
    let ran = wait_for(agents, PATIENCE);
    let seen = fleet.upstream.seen();
    let asked = |run| seen.iter().filter(|seen| seen.run == Some(run)).count();
    let mut rows = rows(&ran, begun);
    rows.iter_mut().zip(&ran).for_each(|(row, ran)| row.insert(3, asked(ran.run).to_string()));
    let took: Vec<String> =
        restarts.iter().map(|one| format!("{} ms, {} in flight", one["took_ms"], one["in_flight"])).collect();
    let title = format!("restarted while {runs} agents run: {took:?}");
    table(&title, &["run", "outcome", "ended s", "requests", "notes"], &rows);
    for ran in &ran {
        assert!(ran.ok, "run {} did not finish: {}\n{seen:#?}", ran.run, ran.text);
        // a stream that was cut would be asked for again
        assert_eq!(asked(ran.run) as u64, STEPS + 1, "run {}: {seen:#?}", ran.run);
    }
    assert!(restarts.iter().all(|restart| restart["restarted"] == true), "{restarts:?}");
}
