//! `events`, `completions`, `man`.

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

#[test]
fn completions_and_the_manual_page_need_no_daemon() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        home.run(&["completions", shell]).ok().says("lessor");
    }
    home.run(&["man"]).ok().says(".TH lessor 1").says("LESSOR ACCOUNT ADD");
    home.run(&["nonsense"]).exits(2);
    home.run(&["--version"]).ok().says(env!("CARGO_PKG_VERSION"));
    assert!(!home.places().state.exists(), "no daemon was started");
}
