//! Real, unmodified agents through `lessor run` and the gateway, against providers on loopback that count requests.
//!
//! Run by `.ci/agents`, which installs the agents and disables the network.

mod body;
mod children;
mod fleet;
mod native;
mod refusals;
mod scenes;
mod subagents;
mod tls;
mod trouble;
mod upstream;
mod vendors;
mod view;
mod websocket;

use fleet::{Fleet, check, file, wait};

/// Tool calls in each run; the response after the last one ends the run.
const STEPS: u64 = 3;

/// What the agents do.
#[derive(Default)]
struct Task<'a> {
    test: &'a str,
    provider: &'a str,
    /// Requests that each agent makes besides those of the task.
    extra: u64,
    /// Each run has its own home directory.
    separate_homes: bool,
    /// Arguments of `lessor run`.
    args: &'a [&'a str],
}

/// Three runs at once. The quotas are exactly what they need, and the first account's is used up in the middle of its
/// session.
fn three_at_once(task: &Task<'_>, command: impl Fn(&str) -> Vec<String>) {
    let Task { test, provider, extra, separate_homes, args } = *task;
    let all = 3 * (STEPS + 1 + extra);
    let quotas = [2, (all - 2) / 2, all - 2 - (all - 2) / 2];
    let fleet = Fleet::new(test, provider, &quotas);
    let start = |run: u64| {
        let command = command(&fleet.prompt(run, STEPS));
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let home = if separate_homes { format!("user-{run}") } else { "user".to_owned() };
        (run, fleet.start(&home, args, &command))
    };
    let ran = wait((1..=3).map(start).collect());
    check(&fleet, &ran, 1);
    assert_eq!(fleet.upstream.repeated(), 0, "an agent tried again: {:#?}", fleet.upstream.seen());
    assert_eq!(fleet.upstream.left(), 0, "all of the quota was used: {:#?}", fleet.upstream.seen());
}

fn owned(owned: &[&str]) -> Vec<String> {
    owned.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn claude_code() {
    three_at_once(&Task { test: "claude", provider: "anthropic", ..Task::default() }, |prompt| {
        owned(&["claude", "-p", prompt])
    });
}

/// The daemon is killed in the middle of a session: the agent retries and reaches the restarted daemon.
#[test]
fn claude_code_survives_a_restart_of_the_daemon() {
    let fleet = Fleet::new("claude-daemon", "anthropic", &[100]);
    let run = fleet.start("user", &[], &["claude", "-p", &fleet.prompt(1, 2 * STEPS)]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fleet.upstream.seen().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "the agent sends no request");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fleet.kill_daemon();
    let ran = wait(vec![(1, run)]);
    check(&fleet, &ran, 0);
    assert!(ran[0].text.contains("lessor: the daemon died and was started again"), "{ran:?}");
}

#[test]
fn codex() {
    three_at_once(&Task { test: "codex", provider: "openai", ..Task::default() }, |prompt| {
        owned(&["codex", "exec", "--skip-git-repo-check", "-m", "gpt-5.1-codex", "-s", "danger-full-access", prompt])
    });
}

#[test]
fn gemini_cli() {
    three_at_once(&Task { test: "gemini", provider: "google", ..Task::default() }, |prompt| {
        owned(&["gemini", "--skip-trust", "-m", "gemini-2.5-pro", "-p", prompt])
    });
}

/// It also requests a title for the session. In a shared home, three first runs would create its database at once, and
/// two of them would fail.
#[test]
fn opencode() {
    let args = ["-p", "anthropic"];
    let task = Task { test: "opencode", provider: "anthropic", extra: 1, separate_homes: true, args: &args };
    three_at_once(&task, |prompt| owned(&["opencode", "run", "-m", "anthropic/claude-sonnet-4-5", prompt]));
}

fn sdk(provider: &str) {
    let (test, args) = (format!("sdk-{provider}"), ["-p", provider]);
    three_at_once(&Task { test: &test, provider, args: &args, ..Task::default() }, |prompt| {
        owned(&["python", "-W", "ignore", file("sdk.py").to_str().unwrap(), provider, &(STEPS + 1).to_string(), prompt])
    });
}

#[test]
fn python_sdk_of_anthropic() {
    sdk("anthropic");
}

#[test]
fn python_sdk_of_openai() {
    sdk("openai");
}

#[test]
fn python_sdk_of_google() {
    sdk("google");
}
