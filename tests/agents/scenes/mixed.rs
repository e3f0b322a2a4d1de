//! A login and a key of one provider: whether a session may move from one to the other.

use std::time::Duration;

use super::{AgentKind, CLAUDE, CODEX, outcome, seconds, table, trouble};
use crate::fleet::{Fleet, FleetConfig, Ran, wait_for};
use crate::trouble::Trouble;
use crate::upstream::Limit;

/// How long the account is spent on which the first session began.
const SPENT: Duration = Duration::from_secs(25);
const STEPS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(200);

fn scene(kind: AgentKind, mix: &str) {
    let of_provider = match mix {
        "never" => "mix = \"never\"",
        "always" => "mix = \"always\"",
        _ => "mix = \"new-sessions\"",
    };
    let config = FleetConfig { text: "", of_provider };
    let accounts = [(false, Limit::None), (true, Limit::None)];
    let fleet = Fleet::with(&format!("mixed-{}-{mix}", kind.name), kind.provider, &accounts, &config);
    fleet.upstream.plan(Trouble::spent_account(2, SPENT));
    let first = kind.start(&fleet, 1, STEPS, &[]);
    let began = trouble(&fleet);
    let second = kind.start(&fleet, 2, STEPS, &[]);
    let ran = wait_for(vec![first, second], PATIENCE);
    let seen = fleet.upstream.seen();
    // whether a run was served by the key (0) and by the login (1)
    let kinds = |run: u64| -> Vec<&str> {
        let served =
            |account| seen.iter().any(|seen| (seen.run, seen.account, seen.status) == (Some(run), Some(account), 200));
        [(0, "key"), (1, "login")].into_iter().filter(|(account, _)| served(*account)).map(|(_, name)| name).collect()
    };
    let row =
        |ran: &Ran| vec![ran.run.to_string(), outcome(ran), seconds(began, ran.ended), kinds(ran.run).join(" + ")];
    let rows: Vec<Vec<String>> = ran.iter().map(row).collect();
    let title =
        format!("mixed kinds, mix = {mix}: {} on a key and a login; the first account is spent for 25 s", kind.name);
    table(&title, &["run", "outcome", "ended s", "served by"], &rows);
    for ran in &ran {
        assert!(ran.ok, "run {} did not finish: {}\n{seen:#?}", ran.run, ran.text);
    }
    match mix {
        "always" => {
            assert_eq!(kinds(1).len(), 2, "the session moves: {seen:#?}");
            assert!(ran[0].ended - began < SPENT, "the session moves at once: {seen:#?}");
        }
        _ => assert_eq!(kinds(1).len(), 1, "the session stays on its kind: {seen:#?}"),
    }
    if mix == "new-sessions" {
        assert_ne!(kinds(1), kinds(2), "a new session takes the other kind: {seen:#?}");
    }
}

#[test]
fn claude_never() {
    scene(CLAUDE, "never");
}

#[test]
fn claude_new_sessions() {
    scene(CLAUDE, "new-sessions");
}

#[test]
fn claude_always() {
    scene(CLAUDE, "always");
}

#[test]
fn codex_never() {
    scene(CODEX, "never");
}

#[test]
fn codex_new_sessions() {
    scene(CODEX, "new-sessions");
}

#[test]
fn codex_always() {
    scene(CODEX, "always");
}
