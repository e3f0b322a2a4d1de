//! What has no effect is refused or said; a command that repairs says whether that helped.

use std::fs;

use super::support::Home;

#[test]
fn an_account_without_leases_is_disabled_instead() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["account", "set", "work", "max_leases=0"]).exits(2).complains("lessor account disable work");
    let add = ["account", "add", "anthropic", "--api-key-stdin", "--max-leases", "0"];
    home.feed(&add, "sk-canary-2\n").exits(2).complains("lessor account disable");
    fs::write(home.path().join("zero.toml"), "[accounts.work]\nmax_leases = 0\n").unwrap();
    let file = home.path().join("zero.toml").display().to_string();
    home.run(&["config", "check", &file]).exits(6).complains("max_leases");
    assert_eq!(home.json(&["account", "set", "work", "tier=MAX"])["tier"], "ultra");
}

#[test]
fn options_that_do_not_apply_to_the_daemon_that_serves_are_named() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let other = home.path().join("other.toml");
    fs::write(&other, "").unwrap();
    let other = other.display().to_string();
    home.run(&["leases", "--config", &other]).ok().complains("--config").complains("has no effect");
    let own = home.places().config.display().to_string();
    assert_eq!(home.run(&["leases", "--config", &own]).ok().err, "");
    let socket = home.path().join("other.sock").display().to_string();
    home.run(&["leases", "--socket", &socket]).ok().complains("--socket").complains("has no effect");
}

#[test]
fn a_broken_configuration_without_a_daemon_names_the_line_and_the_command() {
    let home = Home::new();
    fs::write(home.path().join("config.toml"), "[leases]\nper_acount = 2\n").unwrap();
    for command in [&["status"][..], &["account", "list"], &["acquire", "anthropic"], &["leases"]] {
        home.run(command).exits(6).complains("config.toml:2").complains("lessor config edit");
    }
    fs::write(home.path().join("config.toml"), "").unwrap();
}

#[test]
fn settings_that_match_no_account_are_named_when_they_are_read() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["config", "set", "selection.preferred_account", "wrok"]).ok().says("wrok");
    home.run(&["config", "set", "accounts.hmoe.priority", "3"]).ok().says("matches no account");
    home.run(&["reload"]).ok().says("matches no account");
    home.run(&["config", "check"])
        .ok()
        .says("accounts.hmoe: no account")
        .says("selection.preferred_account: no account");
    home.run(&["config", "set", "selection.preferred_account", "work"]).ok();
}

#[test]
fn a_policy_refusal_names_the_command_that_allows_it() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["account", "set", "work", "use=claude"]).ok();
    let refused = home.run(&["acquire", "anthropic", "--agent", "codex", "--wait", "0s"]);
    let refused = refused.exits(5).complains("lessor account set work use=any");
    assert!(!refused.err.contains("name the agent"), "it is named: {refused:?}");
    home.run(&["acquire", "anthropic", "--wait", "0s"]).exits(5).complains("name the agent");
}

#[test]
fn where_all_accounts_are_disabled_none_is_to_be_added() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["account", "disable", "work"]).ok();
    let refused = home.run(&["run", "claude", "--", "true"]).exits(5).complains("lessor account enable");
    assert!(!refused.err.contains("lessor import"), "{refused:?}");
}

#[test]
fn enable_and_verify_say_whether_the_account_can_serve() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["account", "disable", "work"]).ok();
    home.run(&["account", "enable", "work"]).ok().says("work is enabled and can serve");
    let lease = home.json(&["acquire", "anthropic", "--ttl", "10m"])["lease"].as_str().unwrap().to_owned();
    home.run(&["report", &lease, "--reason", "quota_exhausted", "--retry-after", "10m"]).ok();
    home.run(&["account", "disable", "work"]).ok();
    let done = home.run(&["account", "enable", "work"]).exits(5);
    done.complains("cannot serve now: limited until").complains("lessor account clear-limits");
    home.run(&["doctor"]).exits(1).says("anthropic: 0 of 1 account can serve now").says("work is the first that can");
}

#[test]
fn a_command_without_a_document_refuses_json() {
    let home = Home::new();
    for command in [&["run", "--json", "claude"][..], &["man", "--json"], &["completions", "bash", "--json"]] {
        home.run(command).exits(2).complains("prints no JSON document");
    }
    assert!(!home.places().state.exists(), "no daemon was started");
}

#[test]
fn the_log_has_one_line_for_each_limit_and_each_switch() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "home")]);
    let lease = home.json(&["acquire", "anthropic", "--ttl", "10m", "--model", "claude-opus-4-1", "--agent", "claude"]);
    let (id, from) = (lease["lease"].as_str().unwrap(), lease["account"]["label"].as_str().unwrap());
    let report = ["report", id, "--status", "429", "--header", "retry-after: 76"];
    let decision = home.json(&report);
    let to = decision["lease"]["account"]["label"].as_str().unwrap();
    let log = home.run(&["logs", "-n", "all"]).ok().out;
    let lines = |kind: &str| log.lines().filter(|line| line.contains(kind)).map(str::to_owned).collect::<Vec<_>>();
    let [limited] = &lines("kind=account.limited")[..] else { panic!("{log}") };
    for part in [
        &format!("{from} limited"),
        "until ",
        "(in 76 s): the provider gave no known reason",
        "status 429",
        "stated wait 76 s",
    ] {
        assert!(limited.contains(part), "{part}: {limited}");
    }
    assert!(limited.contains("model=claude-opus-4-1") && limited.contains("stated_wait_ms=76000"), "{limited}");
    let [moved] = &lines("kind=lease.moved")[..] else { panic!("{log}") };
    let sentence = format!("from {from} to {to}: {from} limited");
    assert!(moved.contains("switched claude") && moved.contains(&sentence), "{moved}");
}

/// Options of one command that contradict each other, or of which one has no effect.
const CONTRADICTIONS: &[&[&str]] = &[
    &["status", "--oneline", "--json"],
    &["explain", "--model", "claude-opus-4-5"],
    &["explain", "LAST", "--model", "claude-opus-4-5"],
    &["explain", "ls_1a2b3c", "--model", "claude-opus-4-5"],
    &["acquire", "anthropic", "--account", "work", "--exclude", "work"],
    &["report", "ls_1", "--ok", "--status", "200"],
    &["report", "ls_1", "--ok", "--body", "-"],
    &["report", "ls_1", "--status", "429", "--retry-after", "5m"],
    &["report", "ls_1", "--reason", "unknown", "--header", "a: b"],
    &["history", "--since", "1h", "--until", "2h"],
    &["history", "--since", "yesterday-ish"],
    &["history", "--leases", "--by", "account"],
    &["history", "--leases", "--status", "429"],
    &["history", "--csv", "--json"],
    &["requests", "--since", "1h", "--until", "2h"],
    &["requests", "--follow", "--until", "1h"],
    &["events", "--all", "--kind", "usage.updated"],
    &["account", "remove", "work", "--all", "--yes"],
    &["account", "remove", "--all"],
    &["account", "set", "work", "label=a", "label=b"],
    &["account", "set", "work", "--api-key-stdin", "--token-stdin"],
    &["account", "add", "anthropic", "--api-key-stdin", "--oauth-stdin"],
    &["export", "--yes"],
    &["import", "--take-over", "--share"],
    &["import", "accounts.json", "--from", "codex"],
    &["login", "anthropic", "--device", "--paste"],
    &["gateway", "revoke", "gk_1", "--stdin"],
    &["gateway", "revoke", "gk_1", "--unused", "30d"],
    &["man", "status", "--dir", "pages"],
    &["run", "claude", "-p", "openai"],
];

#[test]
fn options_that_contradict_each_other_are_refused_before_a_daemon_is_started() {
    let home = Home::new();
    for command in CONTRADICTIONS {
        let done = home.run(command).exits(2);
        assert_eq!(done.out, "", "{command:?}");
    }
    assert!(!home.places().state.exists(), "no daemon was started");
}

#[test]
fn the_remedy_of_an_account_that_the_configuration_disables_works_in_a_shell() {
    for name in ["work", "my work", "ann@example.com", "it's", r#"the "best""#] {
        let home = Home::with_keys(&[("anthropic", "a")]);
        home.run(&["account", "set", "a", &format!("label={name}")]).ok();
        let text = format!("[accounts.{name:?}]\nenabled = false\n");
        fs::write(home.path().join("config.toml"), text).unwrap();
        home.run(&["reload"]).ok();
        let account = home.json(&["account", "show", name]);
        assert_eq!(account["state"], "disabled", "{name}");
        assert!(
            account["state_reason"].as_str().unwrap().starts_with("by the configuration: config.toml:2"),
            "{account}"
        );
        home.run(&["account", "enable", name]).exits(5).complains("lessor config set");
        let remedy = account["remedy"].as_str().unwrap();
        let arguments = std::process::Command::new("sh")
            .args(["-c", &format!("set -- {remedy}; printf '%s\\n' \"$@\"")])
            .output()
            .unwrap();
        let arguments = String::from_utf8(arguments.stdout).unwrap();
        let arguments: Vec<&str> = arguments.lines().collect();
        assert_eq!(arguments[0], "lessor");
        home.run(&arguments[1..]).ok();
        assert_eq!(home.json(&["account", "show", name])["state"], "ready", "{remedy}");
    }
}
