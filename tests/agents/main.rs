//! Real agents, unmodified, through `lessor run` and the gateway, against providers on loopback that count.
//!
//! Run by `.ci/agents`, which installs them and closes the network.

mod fleet;
mod upstream;
mod vendors;

use fleet::{Fleet, check, file, wait};

/// Calls of a tool in each run; after the last one the agent is told that it has finished.
const STEPS: u64 = 3;

/// Three runs at once. The quotas are what they need, to the last request, and the first account's is gone in the
/// middle of its session.
fn three_at_once(test: &str, provider: &str, extra: u64, args: &[&str], command: impl Fn(&str) -> Vec<String>) {
    let all = 3 * (STEPS + 1 + extra);
    let quotas = [2, (all - 2) / 2, all - 2 - (all - 2) / 2];
    let fleet = Fleet::new(test, provider, &quotas);
    let start = |run: u64| {
        let command = command(&fleet.prompt(run, STEPS));
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        (run, fleet.start(args, &command))
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
    three_at_once("claude", "anthropic", 0, &[], |prompt| words(&["claude", "-p", prompt]));
}

#[test]
fn codex() {
    three_at_once("codex", "openai", 0, &[], |prompt| {
        words(&["codex", "exec", "--skip-git-repo-check", "-m", "gpt-5.1-codex", "-s", "danger-full-access", prompt])
    });
}

#[test]
fn gemini_cli() {
    three_at_once("gemini", "google", 0, &[], |prompt| {
        words(&["gemini", "--skip-trust", "-m", "gemini-2.5-pro", "-p", prompt])
    });
}

/// It asks for a title of the session beside.
#[test]
fn opencode() {
    three_at_once("opencode", "anthropic", 1, &["-p", "anthropic"], |prompt| {
        words(&["opencode", "run", "-m", "anthropic/claude-sonnet-4-5", prompt])
    });
}

fn sdk(provider: &str) {
    three_at_once(&format!("sdk-{provider}"), provider, 0, &["-p", provider], |prompt| {
        words(&["python", file("sdk.py").to_str().unwrap(), provider, &(STEPS + 1).to_string(), prompt])
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
