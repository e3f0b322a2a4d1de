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
        let options = std::env::var(ASK).unwrap();
        let line = format!("timeout 60 {PROGRAM} token anthropic {options}");
        let asked = Command::new("sh").args(["-c", &line]).output().unwrap();
        let printed = [asked.stdout, asked.stderr].concat();
        println!("<{}>", String::from_utf8(printed).unwrap().replace('\n', "|"));
    }
}

fn asks(home: &Home) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "token::get_a_token", "--nocapture"]).env(ASK, "").env("LESSOR_HOME", home.path());
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

/// What the token command prints for a program with this name, twice.
fn named(name: &str, home: &Home, options: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(name);
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "token::get_a_token", "--nocapture"]).env(ASK, options).env("LESSOR_HOME", home.path());
    command.env_remove("ANTHROPIC_BASE_URL").envs(variables.iter().copied());
    let done = feed(command, "").ok();
    let line = |line: &str| Some(line.split_once('<')?.1.trim_end_matches('>').to_owned());
    done.out.lines().filter_map(line).collect()
}

/// Claude Code sends what it prints as a key, without the header that a login needs.
#[test]
fn a_login_s_token_is_refused_to_a_program_that_would_send_it_as_a_key() {
    let home = Home::with_keys(&[]);
    let add = ["account", "add", "anthropic", "--token-stdin", "--label", "login"];
    home.feed(&add, "sk-ant-oat01-canary\n").ok();
    let url = home.run(&["gateway", "url"]).ok().out.trim().to_owned();
    for refused in named("claude", &home, "", &[]) {
        assert!(refused.contains("its token needs the header anthropic-beta"), "{refused}");
        assert!(refused.contains("lessor run claude") && refused.contains(&format!("{url}/anthropic")), "{refused}");
        assert!(!refused.contains("canary"), "{refused}");
    }
    assert_eq!(home.json(&["leases"]).as_array().unwrap().len(), 0, "nothing is held");
    // a key for the gateway, where the program's requests go
    let base = format!("{}/anthropic", url.replace("127.0.0.1", "localhost"));
    let of_address = named("claude", &home, "", &[("ANTHROPIC_BASE_URL", &base)]);
    let of_option = named("claude", &home, "--gateway", &[]);
    for keys in [of_address, of_option] {
        assert!(keys.len() == 2 && keys.iter().all(|key| key.starts_with("lk_") && key.ends_with('|')), "{keys:?}");
        assert_eq!(keys[0], keys[1], "the same lease, the same key");
    }
}

/// A key of the account's would be refused at the gateway, too.
#[test]
fn a_program_whose_address_is_the_gateway_gets_a_key_for_it() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let url = home.run(&["gateway", "url"]).ok().out.trim().to_owned();
    let at = |address: &str| named("claude", &home, "", &[("ANTHROPIC_BASE_URL", address)]).remove(0);
    assert!(at(&format!("{url}/anthropic")).starts_with("lk_"));
    assert_eq!(at("https://api.anthropic.com"), "sk-canary-work|");
    let lease = home.json(&["token", "anthropic", "--gateway"]);
    assert_eq!(
        (&lease["credential"]["header"], &lease["credential"]["kind"]),
        (&json!("x-api-key"), &json!("api_key"))
    );
}
