//! `events`, `top`, `gateway`, `backup`, `restore`, `completions`, `man`.

use serde_json::{Value, json};

use super::support::Home;

#[test]
fn events_are_printed_as_json_lines() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["acquire", "anthropic", "--ttl", "10m"]).ok();
    let done = home.run(&["events", "--kind", "lease.granted"]).ok();
    let events: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["kind"], &events[0]["account"]["label"]), (&json!("lease.granted"), &json!("work")));
    home.run(&["events", "--kind", "nonsense"]).exits(2).complains("lease.granted");
}

/// It draws for people: a pipe and a program get the command that is for them.
#[test]
fn the_dashboard_is_refused_without_a_terminal_and_as_json() {
    let home = Home::new();
    home.run(&["top"]).exits(2).complains("lessor status");
    home.run(&["top", "--json"]).exits(2).complains("lessor status --json");
}

#[test]
fn completions_and_manual_pages_need_no_daemon() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        home.run(&["completions", shell]).ok().says("lessor");
    }
    home.run(&["man"]).ok().says(".TH LESSOR 1").says("EXIT STATUS");
    home.run(&["man", "account", "add"]).ok().says(".TH LESSOR-ACCOUNT-ADD 1").says("EXAMPLES");
    home.run(&["man", "account", "nonsense"]).exits(2).complains("lessor help");
    let pages = home.path().join("pages");
    home.run(&["man", "--dir", pages.to_str().unwrap()]).ok();
    assert!(pages.join("lessor.1").exists() && pages.join("lessor-account-list.1").exists());
    home.run(&["nonsense"]).exits(2);
    home.run(&["--version"]).ok().says(env!("CARGO_PKG_VERSION"));
    assert!(!home.places().state.exists(), "no daemon was started");
}

#[test]
fn gateway_keys_are_named_limited_listed_and_revoked() {
    let home = Home::new();
    home.run(&["gateway", "keys"]).ok().says("no gateway keys");
    let key = home.run(&["gateway", "key", "--label", "my editor", "--ttl", "30d", "--max-leases", "2"]).ok().out;
    let other = home.json(&["gateway", "key", "--agent", "claude"]);
    assert!(other["id"].as_str().unwrap().starts_with("gk_") && other["expires_at"].is_null(), "{other}");
    let list = home.run(&["gateway", "keys"]).ok().says("my editor").says("in 30 d").says("0/2").says("claude");
    assert!(!list.out.contains(key.trim()));
    // a key on the command line could be read by other users
    home.run(&["gateway", "revoke", key.trim()]).exits(2).complains("command line");
    home.run(&["gateway", "revoke", "nothing"]).exits(1).complains("lessor gateway keys");
    home.run(&["gateway", "revoke", "my editor"]).ok().says("revoked gk_");
    home.feed(&["gateway", "revoke", "-"], other["key"].as_str().unwrap()).ok().says("revoked gk_");
    let states = home.json(&["gateway", "keys"]);
    assert!(states.as_array().unwrap().iter().all(|key| key["state"] == "revoked"), "{states}");
    home.run(&["gateway", "revoke", "--unused", "1h"]).ok().says("every key was used");
}

#[test]
fn a_backup_says_what_is_not_in_it_and_is_restored_only_with_its_key() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (backup, key) = (file("backup"), file("key"));
    let lines =
        home.run(&["backup", &backup]).ok().says("1 account backed up").says("not in it: the configuration").out;
    assert_eq!(lines.lines().count(), 3, "{lines}");
    home.run(&["backup", &backup]).exits(1).complains("--force");
    home.run(&["backup", &backup, "--force", "--key-file", &key]).ok().says("keep that in another place");
    home.run(&["restore", &backup]).exits(1).complains("lessor stop");
    let other = Home::new();
    other.run(&["restore", &backup]).exits(1).complains("nothing was changed").complains("--key-file");
    other.run(&["restore", &backup, "--key-file", &key]).ok().says("1 account restored");
    other.run(&["account", "list"]).ok().says("work");
}
