//! Agents that other programs start: a script under `lessor run`, a shell with aliases, Claude Code in the background.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::{Fleet, FleetConfig, Ran, wait};
use super::upstream::{Limit, Seen};

const STEPS: u64 = 2;

/// Accounts by number: 0 to 2 of Anthropic, the first of them with this limit, 3 of OpenAI, 4 of Google.
fn fleet(test: &str, limit: Limit) -> Fleet {
    let providers = ["anthropic", "anthropic", "anthropic", "openai", "google"];
    let mut accounts = providers.map(|provider| (provider, false, Limit::None));
    accounts[0].2 = limit;
    Fleet::of(test, &accounts, &FleetConfig::default())
}

fn script(fleet: &Fleet, text: &str) -> String {
    let path = fleet.work().join("fleet.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// All runs have finished, each on an account of its provider; `parallel` began on distinct accounts; no limit reached an
/// agent.
fn check(fleet: &Fleet, ran: &Ran, runs: &[(u64, &[usize])], parallel: &[u64]) {
    let seen = &fleet.upstream.seen()[..];
    for (run, accounts) in runs {
        assert!(ran.text.contains(&format!("FINISHED-RUN-{run}")), "run {run} did not finish: {}\n{seen:#?}", ran.text);
        let of_run: Vec<_> = seen.iter().filter(|seen| seen.run == Some(*run)).collect();
        let is_right = |seen: &&&Seen| seen.account.is_some_and(|account| accounts.contains(&account));
        assert!(!of_run.is_empty() && of_run.iter().all(|seen| is_right(&seen)), "run {run}: {of_run:#?}");
    }
    let first = |run: &u64| seen.iter().find(|seen| seen.run == Some(*run)).and_then(|seen| seen.account);
    let mut firsts: Vec<_> = parallel.iter().map(first).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), parallel.len(), "parallel agents share an account: {seen:#?}");
    assert!(!ran.text.contains("not passed on"), "{}", ran.text);
    let hit = seen.iter().filter(|seen| seen.status == 429).count() as u64;
    assert_eq!(fleet.limits(), (hit, 0), "limits that were met, and that agents saw: {seen:#?}");
}

const CODEX: &str = "codex exec --skip-git-repo-check -m gpt-5.1-codex -s danger-full-access";
const GEMINI: &str = "gemini --skip-trust -m gemini-2.5-pro -p";
const OPENCODE: &str = "opencode run -m anthropic/claude-sonnet-4-5";

#[test]
fn a_script_starts_every_agent_at_once() {
    let fleet = fleet("children-script", Limit::Requests(2));
    let prompt = |run| fleet.prompt(run, STEPS);
    let text = format!(
        "claude -p '{}' & {CODEX} '{}' & {GEMINI} '{}' & {OPENCODE} '{}' & claude -p '{}' & wait",
        prompt(1),
        prompt(2),
        prompt(3),
        prompt(4),
        prompt(5)
    );
    let script = script(&fleet, &text);
    let ran = wait(vec![(1, fleet.start("user", &["anthropic"], &[&script]))]);
    let anthropic: &[usize] = &[0, 1, 2];
    let runs = [(1, anthropic), (2, &[3]), (3, &[4]), (4, anthropic), (5, anthropic)];
    check(&fleet, &ran[0], &runs, &[1, 4, 5]);
    assert!(fleet.limits().0 > 0, "the first account's quota has ended");
    assert_eq!(fleet.json(&["leases"]), serde_json::json!([]));
}

/// One account for one lease: two agents of a script take turns on it.
#[test]
fn agents_of_a_script_take_turns() {
    let config = FleetConfig { text: "[leases]\noverflow = \"wait\"", ..FleetConfig::default() };
    let fleet = Fleet::of("children-turns", &[("anthropic", false, Limit::None)], &config);
    let text = format!("claude -p '{}' & claude -p '{}' & wait", fleet.prompt(1, STEPS), fleet.prompt(2, STEPS));
    let script = script(&fleet, &text);
    let ran = wait(vec![(1, fleet.start("user", &["anthropic"], &[&script]))]);
    let seen = fleet.upstream.seen();
    check(&fleet, &ran[0], &[(1, &[0]), (2, &[0])], &[]);
    let order: Vec<_> = seen.iter().filter_map(|seen| seen.run).collect();
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 1, "one after the other: {order:?}");
}

#[test]
fn plain_agents_run_through_lessor_by_their_aliases() {
    let fleet = fleet("children-alias", Limit::Requests(2));
    let aliases = fleet.json(&["alias", "install", "claude", "codex", "gemini"]);
    let file = std::path::PathBuf::from(aliases["aliases"][0]["file"].as_str().unwrap());
    let line = format!(
        "PATH={}:$PATH; claude -p '{}' & {CODEX} '{}' & {GEMINI} '{}' & claude -p '{}' & wait",
        file.parent().unwrap().display(),
        fleet.prompt(1, STEPS),
        fleet.prompt(2, STEPS),
        fleet.prompt(3, STEPS),
        fleet.prompt(4, STEPS)
    );
    let ran = wait(vec![(1, fleet.start_shell("user", &line))]);
    let anthropic: &[usize] = &[0, 1, 2];
    check(&fleet, &ran[0], &[(1, anthropic), (2, &[3]), (3, &[4]), (4, anthropic)], &[1, 4]);
}

/// Ends what Claude Code has left in the background.
struct Background<'a>(&'a Fleet);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ended = self.0.start_shell("user", "claude daemon stop --any").wait();
    }
}

/// A session in the background outlives the run that has started it: it has a lease and a key of its own.
#[test]
fn a_session_of_claude_code_in_the_background_leases_for_itself() {
    let fleet = fleet("children-background", Limit::None);
    let home = fleet.work().parent().unwrap().join("user");
    std::fs::create_dir_all(&home).unwrap();
    let work = fleet.work();
    let settings = serde_json::json!({
        "hasCompletedOnboarding": true, "projects": { work.to_str().unwrap(): { "hasTrustDialogAccepted": true } }
    });
    std::fs::write(home.join(".claude.json"), settings.to_string()).unwrap();
    let _ends = Background(&fleet);
    let started = fleet.start("user", &["claude"], &["--bg", &fleet.prompt(1, 0)]);
    let run = u64::from(started.id());
    let output = started.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // the lease of the run has ended; that of the session serves its requests
    let deadline = Instant::now() + Duration::from_secs(60);
    let held = loop {
        let leases = fleet.json(&["leases"]);
        let leases: Vec<Value> = leases.as_array().unwrap().clone();
        let is_served = fleet.upstream.seen().iter().any(|seen| seen.run == Some(1) && seen.status == 200);
        if is_served && leases.iter().all(|lease| lease["holder"]["pid"] != run) {
            break leases;
        }
        assert!(Instant::now() < deadline, "{leases:?} {:#?} {output:?}", fleet.upstream.seen());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(held.len(), 1, "one session, one lease: {held:#?}");
    assert_eq!(held[0]["agent"], "claude", "{held:#?}");
    assert!(fleet.upstream.seen().iter().all(|seen| seen.account.is_some()), "{:#?}", fleet.upstream.seen());
    drop(_ends);
    let deadline = Instant::now() + Duration::from_secs(60);
    while fleet.json(&["leases"]) != serde_json::json!([]) {
        assert!(Instant::now() < deadline, "the lease ends with the session");
        std::thread::sleep(Duration::from_millis(50));
    }
}
