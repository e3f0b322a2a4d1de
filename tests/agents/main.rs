//! Real agents, unmodified, through `lessor run` and the gateway, against providers on loopback that count.
//!
//! Run by `.ci/agents`, which installs them and closes the network.

mod fleet;
mod upstream;
mod vendors;

use fleet::{Fleet, check, file, wait};

/// Calls of a tool in each run; after the last one the agent is told that it has finished.
const STEPS: u64 = 3;

/// What the agents are set to.
#[derive(Default)]
struct Task<'a> {
    test: &'a str,
    provider: &'a str,
    /// Requests each makes beside those of the task.
    beside: u64,
    /// Each run has a home of its own.
    homes_apart: bool,
    /// Of `lessor run`.
    args: &'a [&'a str],
}

/// Three runs at once. The quotas are what they need, to the last request, and the first account's is gone in the
/// middle of its session.
fn three_at_once(task: &Task<'_>, command: impl Fn(&str) -> Vec<String>) {
    let Task { test, provider, beside, homes_apart, args } = *task;
    let all = 3 * (STEPS + 1 + beside);
    let quotas = [2, (all - 2) / 2, all - 2 - (all - 2) / 2];
    let fleet = Fleet::new(test, provider, &quotas);
    let start = |run: u64| {
        let command = command(&fleet.prompt(run, STEPS));
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let home = if homes_apart { format!("user-{run}") } else { "user".to_owned() };
        (run, fleet.start(&home, args, &command))
    };
    let ran = wait((1..=3).map(start).collect());
    check(&ran, &fleet.upstream.seen(), 1);
    assert_eq!(fleet.upstream.left(), 0, "all of the quota was used: {:#?}", fleet.upstream.seen());
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn claude_code() {
    three_at_once(&Task { test: "claude", provider: "anthropic", ..Task::default() }, |prompt| {
        words(&["claude", "-p", prompt])
    });
}

/// The daemon dies in the middle of a session: the agent asks again, and there is another one.
#[test]
fn claude_code_outlives_its_daemon() {
    let fleet = Fleet::new("claude-daemon", "anthropic", &[100]);
    let run = fleet.start("user", &[], &["claude", "-p", &fleet.prompt(1, 2 * STEPS)]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while fleet.upstream.seen().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "it asks for nothing");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fleet.kill_daemon();
    let ran = wait(vec![(1, run)]);
    check(&ran, &fleet.upstream.seen(), 0);
    assert!(ran[0].text.contains("lessor: the daemon had died and was started again"), "{ran:?}");
}

#[test]
fn codex() {
    three_at_once(&Task { test: "codex", provider: "openai", ..Task::default() }, |prompt| {
        words(&["codex", "exec", "--skip-git-repo-check", "-m", "gpt-5.1-codex", "-s", "danger-full-access", prompt])
    });
}

#[test]
fn gemini_cli() {
    three_at_once(&Task { test: "gemini", provider: "google", ..Task::default() }, |prompt| {
        words(&["gemini", "--skip-trust", "-m", "gemini-2.5-pro", "-p", prompt])
    });
}

/// It asks for a title of the session beside. Three that are the first in one home make its database at once, and all
/// but one fail.
#[test]
fn opencode() {
    let args = ["-p", "anthropic"];
    let task = Task { test: "opencode", provider: "anthropic", beside: 1, homes_apart: true, args: &args };
    three_at_once(&task, |prompt| words(&["opencode", "run", "-m", "anthropic/claude-sonnet-4-5", prompt]));
}

fn sdk(provider: &str) {
    let (test, args) = (format!("sdk-{provider}"), ["-p", provider]);
    three_at_once(&Task { test: &test, provider, args: &args, ..Task::default() }, |prompt| {
        words(&["python", "-W", "ignore", file("sdk.py").to_str().unwrap(), provider, &(STEPS + 1).to_string(), prompt])
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
