//! `report`, `explain`, `account clear-limits`: the report of a script, and the explanation for a user.

use serde_json::json;

use super::support::Home;

const BODY: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"You are over your limit."}}"#;

#[test]
fn a_script_follows_the_decision_and_a_user_sees_the_reason() {
    let home = Home::with_keys(&[("anthropic", "work"), ("anthropic", "home")]);
    home.run(&["explain"]).exits(1).complains("nothing was granted or refused");
    let pid = std::process::id().to_string();
    let lease = home.json(&["acquire", "claude", "--pid", &pid, "-m", "claude-sonnet-4-5"]);
    let (id, first) = (lease["lease"].as_str().unwrap(), lease["account"]["label"].as_str().unwrap());
    home.run(&["report", &id[..20], "--ok"]).ok().says("continue");
    let status =
        ["report", id, "--status", "429", "--header", "retry-after: 46800", "--header", "x-should-retry: false"];
    let body = home.path().join("body.json");
    std::fs::write(&body, BODY).unwrap();
    let moved = home.json(&[&status[..], &["--body", body.to_str().unwrap()]].concat());
    assert_eq!((&moved["action"], &moved["reason"]), (&json!("switch"), &json!("rate_limit_exceeded")));
    let second = moved["lease"]["account"]["label"].as_str().unwrap();
    assert!(second != first && moved["lease"]["credential"]["secret"] == format!("sk-canary-{second}"), "{moved}");
    home.run(&["report", id, "--ok"]).exits(1).complains("ended");
    let id = moved["lease"]["lease"].as_str().unwrap();

    let explained = home.run(&["explain"]).ok();
    let words = ["claude-sonnet-4-5 of anthropic", &format!("the lease moved from {first}: rate limit")];
    for word in words.into_iter().chain([", in 13 h", "retry-after: 46800", "You are over your limit."]) {
        assert!(explained.out.contains(word), "no {word:?} in {}", explained.out);
    }
    assert!(explained.out.lines().all(|line| line.chars().count() <= 80), "{}", explained.out);
    assert_eq!(home.run(&["explain", id]).ok().out.lines().next(), explained.out.lines().next());
    home.run(&["explain", first]).ok().says("a plain request now: ").says(second);
    home.run(&["explain", "unknown-one"]).exits(1).complains("unknown-one");
    home.run(&["account", "show", first]).ok().says("stated just now").says("You are over your limit.");
    home.run(&["status"]).ok().says("rate limit until").says(", in 13 h");

    // no account is left: the time is known
    let said = home.feed(&["report", id, "--status", "429", "--header", "retry-after: 7200", "--body", "-"], BODY).ok();
    let said = said.says("wait 2 h").says("evidence 429 rate_limit_error");
    assert!(said.out.lines().all(|line| line.chars().count() <= 80), "{}", said.out);
    let acquire = ["acquire", "claude", "--pid", &pid, "--wait", "1s"];
    home.run(&acquire).exits(4).complains("every anthropic account");
    home.run(&["explain", "LAST"]).ok().says("refused").says("home can serve first");

    home.run(&["account", "clear-limits", first]).ok().says("cleared the limits of");
    assert_eq!(home.json(&["acquire", "claude", "--pid", &pid, "--wait", "0s"])["account"]["label"], first);
    home.run(&["report", id, "--reason", "out_of_credit", "--retry-after", "90s"]).ok().says("out of credit");
    home.run(&["report", id, "--status", "400", "--ok"]).exits(2);
    home.run(&["report", id, "--status", "429", "--body", "/nonexistent/file"]).exits(1).complains("/nonexistent/file");
}
