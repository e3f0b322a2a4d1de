//! `acquire`, `release`, `renew`, `leases`.

use serde_json::{Value, json};

use super::support::Home;
#[cfg(unix)]
use super::support::{PROGRAM, feed};

#[test]
fn leases_are_acquired_listed_renewed_and_released() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["leases"]).ok().says("no leases are held");
    let me = std::process::id();
    let pid = me.to_string();
    let lease = home.json(&["acquire", "claude", "--pid", &pid, "--ttl", "10m", "--label", "job", "--priority", "-5"]);
    assert_eq!((&lease["provider"], &lease["account"]["label"]), (&json!("anthropic"), &json!("work")));
    let row = &home.json(&["leases"])[0];
    assert_eq!((&row["bind"], &row["holder"]["pid"], &row["label"]), (&json!("pid"), &json!(me), &json!("job")));
    let directory = std::env::current_dir().unwrap();
    assert_eq!(row["directory"], json!(directory), "the directory of its holder");
    let short = &lease["lease"].as_str().unwrap()[..14];
    home.run(&["leases"]).ok().says(short).says("job").says("in 10 min");
    home.run(&["status"]).ok().says("claude: ").says("HOLDER").says("1/1");
    home.run(&["renew", short]).ok().says("renewed: ends in 10 min");
    home.run(&["renew", short, "--fence", "1"]).exits(1);
    assert_eq!(home.json(&["release", short]), json!({}));
    home.run(&["release", lease["lease"].as_str().unwrap()]).exits(1).complains("ended");
    home.run(&["release", "ls_nonsense"]).exits(1);
}

/// Without --pid, the lease is bound to the calling program: this test.
#[cfg(unix)]
#[test]
fn a_lease_is_bound_to_the_calling_program() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("timeout 60 {PROGRAM} acquire anthropic; true")]).env("LESSOR_HOME", home.path());
    feed(shell, "").ok().says("life     until cli-");
    assert_eq!(home.json(&["leases"])[0]["holder"]["pid"], std::process::id());
}

#[test]
fn refusals_have_their_exit_codes() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    home.run(&["acquire", "openai", "--wait", "0s"]).exits(5).complains("lessor account add openai");
    home.run(&["acquire", "nosuch", "--wait", "0s"]).exits(1).complains("no provider");
    home.run(&["acquire", "anthropic", "--account", "no-such-account", "--wait", "0s"])
        .exits(1)
        .complains("no account");
    home.run(&["acquire", "anthropic", "--wait", "5"]).exits(2).complains("5s");
    home.run(&["acquire", "anthropic", "--ttl", "1h", "--exclusive"]).ok();
    home.run(&["acquire", "anthropic", "--ttl", "1h", "--wait", "0s"]).exits(4).complains("in use");
    let refused = home.run(&["acquire", "anthropic", "--ttl", "1h", "--wait", "0s", "--json"]).exits(4);
    let error: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((&error["error"]["data"]["kind"], refused.out.as_str()), (&json!("no_capacity"), ""));
}

#[test]
fn a_lease_moves_to_another_account_by_its_id_or_its_process() {
    let home = Home::with_keys(&[("anthropic", "a"), ("anthropic", "b")]);
    let pid = std::process::id().to_string();
    let lease = home.json(&["acquire", "anthropic", "--pid", &pid]);
    let held = lease["account"]["label"].as_str().unwrap();
    let other = if held == "a" { "b" } else { "a" };
    home.run(&["move", &pid]).ok().says(&format!("{pid}: {held} → {other}"));
    let moved = home.json(&["move", lease["lease"].as_str().unwrap(), "--to", other]);
    assert_eq!((&moved["to"]["label"], &moved["at_next_request"]), (&json!(other), &json!(true)));
    let renewed = home.json(&["renew", lease["lease"].as_str().unwrap()]);
    assert_eq!(renewed["account"]["label"], other);
    home.run(&["move", &pid, "--to", other]).exits(1).complains("already");
    home.run(&["account", "disable", held]).ok();
    home.run(&["move", &pid, "--to", held]).exits(5).complains("is disabled");
}
