//! `token`: for programs that run a command to get their key.

use std::process::{Command, Stdio};

use serde_json::json;

use super::support::{Home, PROGRAM, eventually, feed};

const ASK: &str = "LESSOR_TEST_ASKS_FOR_A_TOKEN";

/// Not a test: a program that gets a token through a shell, like `apiKeyHelper`.
#[test]
fn get_a_token() {
    if std::env::var_os(ASK).is_none() {
        return;
    }
    for _ in 0..2 {
        let asked = Command::new("sh").args(["-c", &format!("timeout 60 {PROGRAM} token anthropic")]).output().unwrap();
        println!("<{}>", String::from_utf8(asked.stdout).unwrap().replace('\n', "|"));
    }
}

fn asks(home: &Home) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "token::get_a_token", "--nocapture"]).env(ASK, "1").env("LESSOR_HOME", home.path());
    let done = feed(command, "").ok();
    let line = |line: &str| Some(line.split_once('<')?.1.trim_end_matches('>').to_owned());
    done.out.lines().filter_map(line).collect()
}

#[test]
fn a_caller_gets_the_same_key_and_others_get_others() {
    let home = Home::with_keys(&[("anthropic", "one"), ("anthropic", "two")]);
    let mine = home.run(&["token", "anthropic"]).ok();
    assert!(mine.out == "sk-canary-one\n" || mine.out == "sk-canary-two\n", "{mine:?}");
    assert_eq!(mine.err, "");
    for _ in 0..3 {
        assert_eq!(home.run(&["token", "claude"]).ok().out, mine.out, "the same caller, the same account");
    }
    let leases = home.json(&["leases"]);
    assert_eq!(leases.as_array().unwrap().len(), 1, "one caller holds one lease: {leases}");
    assert_eq!(leases[0]["holder"]["pid"], json!(std::process::id()));
    // another program, twice: through a shell and a launcher
    let theirs = asks(&home);
    let other = if mine.out == "sk-canary-one\n" { "sk-canary-two|" } else { "sk-canary-one|" };
    assert_eq!(theirs, [other, other]);
    // that program has ended
    eventually("its lease has ended", || home.json(&["leases"]).as_array().unwrap().len() == 1);
}

#[test]
fn a_caller_with_a_limited_account_gets_another_and_keeps_it() {
    let home = Home::with_keys(&[("anthropic", "one"), ("anthropic", "two")]);
    let first = home.run(&["token", "anthropic"]).ok().out;
    let label = first.trim().trim_start_matches("sk-canary-").to_owned();
    home.run(&["account", "disable", &label]).ok();
    let second = home.run(&["token", "anthropic"]).ok().out;
    assert_ne!(first, second);
    home.run(&["account", "enable", &label]).ok();
    assert_eq!(home.run(&["token", "anthropic"]).ok().out, second, "the caller keeps the second account");
    // another purpose gets another lease
    home.run(&["token", "anthropic", "--session", "s1", "-m", "claude-opus-4-1"]).ok();
    assert_eq!(home.json(&["leases"]).as_array().unwrap().len(), 2);
    home.run(&["account", "disable", "one"]).ok();
    home.run(&["account", "disable", "two"]).ok();
    let none = home.run(&["token", "anthropic", "--wait", "0s"]).exits(5);
    assert_eq!(none.out, "", "nothing but a token is ever printed");
}

#[test]
fn the_document_is_the_lease() {
    let home = Home::with_keys(&[("openai", "work")]);
    let lease = home.json(&["token", "codex"]);
    assert_eq!((&lease["provider"], &lease["credential"]["secret"]), (&json!("openai"), &json!("sk-canary-work")));
    let again = home.json(&["token", "openai"]);
    assert_eq!(lease["lease"], again["lease"]);
    home.run(&["token", "unknown-one"]).exits(1).complains("unknown-one");
    let mut silent = home.command(&["token", "openai"]);
    let closed = silent.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(closed.stdout, b"sk-canary-work\n");
}
