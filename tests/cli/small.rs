//! `events`, `completions`, `man`.

use serde_json::{Value, json};

use super::support::Home;

#[test]
fn events_are_told_as_lines_of_json() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["acquire", "anthropic", "--ttl", "10m"]).ok();
    let done = home.run(&["events", "--kind", "lease.granted"]).ok();
    let events: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["kind"], &events[0]["account"]["label"]), (&json!("lease.granted"), &json!("work")));
    home.run(&["events", "--kind", "nonsense"]).exits(2).complains("lease.granted");
}

#[test]
fn what_shells_and_man_read_is_printed_without_a_daemon() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        home.run(&["completions", shell]).ok().says("lessor");
    }
    home.run(&["man"]).ok().says(".TH lessor 1").says("LESSOR ACCOUNT ADD");
    home.run(&["nonsense"]).exits(2);
    home.run(&["--version"]).ok().says(env!("CARGO_PKG_VERSION"));
    assert!(!home.places().state.exists(), "no daemon was started");
}
