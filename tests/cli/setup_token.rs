//! `login claude --token`: long-lived tokens of Claude subscriptions.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::support::{Done, Home};

/// A home whose Anthropic is played here.
fn home() -> Home {
    let home = Home::new();
    home.run(&["config", "set", "providers.anthropic.base_url", &play_anthropic()]).ok();
    home
}

/// Accepts tokens that contain `good` or `known`, and says whose the latter are: what is between `known-` and `-`.
fn play_anthropic() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                let read = stream.read_line(&mut line).unwrap_or_default();
                if read == 0 || line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_ascii_lowercase());
            }
            let Some(request) = head.first() else { continue };
            let token = head.iter().find_map(|line| line.strip_prefix("authorization: bearer ")).unwrap_or_default();
            let (status, body) = answer(request, token);
            let body = body.to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
            let _closed = write!(stream.get_mut(), "{head}content-length: {length}\r\n\r\n{body}");
        }
    });
    url
}

fn answer(request: &str, token: &str) -> (u16, Value) {
    let refusal = |kind: &str| json!({ "type": "error", "error": { "type": kind, "message": "refused" } });
    let owner = token.split_once("known-").and_then(|(_, rest)| rest.split('-').next());
    match owner {
        _ if !token.contains("good") && owner.is_none() => (401, refusal("authentication_error")),
        _ if request.starts_with("get /v1/models") => (200, json!({ "data": [] })),
        Some(owner) if request.starts_with("get /api/oauth/profile") => {
            let account = json!({ "uuid": format!("u-{owner}"), "email": format!("{owner}@b.c") });
            (200, json!({ "account": account, "organization": { "uuid": "o-1", "name": "Team" } }))
        }
        // the scope of a setup token
        _ => (403, refusal("permission_error")),
    }
}

fn add(home: &Home, token: &str, options: &[&str]) -> Done {
    home.feed(&[&["login", "claude", "--token"], options].concat(), token)
}

#[test]
fn a_token_is_checked_and_added_with_its_end_and_the_next_step() {
    let home = home();
    let done = add(&home, "sk-ant-oat01-good\n  canary1\n", &[]).ok().says("added claude-token (anthropic)");
    for part in [
        "at the latest",
        "--token --label claude-token",
        "Anthropic intends",
        "lessor leases it to Claude Code only",
        "lessor run claude",
    ] {
        assert!(done.err.contains(part), "no {part:?} in {done:?}");
    }
    assert!(!done.err.contains("canary"), "{done:?}");
    let account = home.json(&["account", "list"])[0].clone();
    assert_eq!((&account["kind"], &account["unchecked"]), (&json!("token"), &json!(false)), "{account}");
    assert_eq!(account["use"], json!(["claude"]));
    let days =
        (account["credential_expires_at"].as_u64().unwrap() - account["created_at"].as_u64().unwrap()) / 86_400_000;
    assert!((364..=365).contains(&days), "{days}");
    add(&home, "sk-ant-oat01-goodcanary2", &[]).ok().says("added claude-token-2");
}

#[test]
fn a_token_of_the_same_name_or_person_is_replaced_in_place() {
    let home = home();
    add(&home, "sk-ant-oat01-good-1", &["--label", "work"]).ok();
    home.run(&["account", "set", "work", "priority=7"]).ok();
    add(&home, "sk-ant-oat01-known-ann-1", &[]).ok().says("added claude-token-ann");
    let before = home.json(&["account", "list"]);
    add(&home, "sk-ant-oat01-good-2", &["--label", "work"]).ok().says("replaced the token of work");
    add(&home, "sk-ant-oat01-known-ann-2", &[]).ok().says("replaced the token of claude-token-ann");
    add(&home, "sk-ant-oat01-known-bob-1", &[]).ok().says("added claude-token-bob");
    let after = home.json(&["account", "list"]);
    assert_eq!(after.as_array().unwrap().len(), 3);
    for place in [0, 1] {
        assert_eq!(after[place]["id"], before[place]["id"]);
        assert!(after[place]["credential_expires_at"].is_u64(), "{after}");
    }
    assert_eq!(home.json(&["account", "show", "work"])["priority"], 7);
    home.run(&["account", "set", "work", "use=any"]).ok();
    let lease = home.json(&["acquire", "claude", "--account", "work", "--ttl", "1m"]);
    assert_eq!(lease["credential"]["secret"], "sk-ant-oat01-good-2");
}

#[test]
fn a_token_of_a_person_with_a_login_is_said_to_share_its_quota() {
    let home = home();
    let login = r#"{"access_token":"at","refresh_token":"rt","expires_at":"2099-01-01T00:00:00Z","email":"ann@b.c",
        "person_id":"u-ann","organization_id":"o-1"}"#;
    home.feed(&["account", "add", "claude", "--oauth-stdin", "--label", "mine"], login).ok();
    add(&home, "sk-ant-oat01-known-ann-1", &["--label", "second"]).ok().complains("as the login mine");
}

#[test]
fn a_refused_token_is_not_added_and_replaces_nothing() {
    let home = home();
    add(&home, "sk-ant-oat01-good", &["--label", "work"]).ok();
    let refused = add(&home, "sk-ant-oat01-badcanary", &["--label", "work"]).exits(1);
    assert!(refused.err.contains("Anthropic refuses this token (401)"), "{refused:?}");
    assert!(refused.err.contains("lessor login claude --token"), "{refused:?}");
    assert!(!refused.err.contains("canary"), "{refused:?}");
    assert_eq!(refused.err.lines().count(), 2, "{refused:?}");
    home.run(&["account", "set", "work", "use=any"]).ok();
    let lease = home.json(&["acquire", "claude", "--ttl", "1m"]);
    assert_eq!(lease["credential"]["secret"], "sk-ant-oat01-good");
}

#[test]
fn a_token_that_cannot_be_checked_is_kept_unchecked() {
    let home = Home::new();
    home.run(&["config", "set", "providers.anthropic.base_url", "http://127.0.0.1:1"]).ok();
    let done = add(&home, "sk-ant-oat01-good", &[]).ok().says("added claude-token");
    assert!(done.err.contains("not known yet whether Anthropic accepts"), "{done:?}");
    assert_eq!(home.json(&["account", "list"])[0]["unchecked"], true);
}

#[test]
fn what_is_no_such_token_is_refused_with_the_next_step() {
    let home = home();
    for (token, why, next) in [
        ("sk-ant-api03-x", "API key", "lessor account add anthropic --api-key-stdin"),
        ("sk-other", "sk-ant-oat", "lessor account add anthropic --token-stdin"),
        ("", "nothing was pasted", "lessor login claude --token"),
        ("abc#state", "code of the login page", "lessor login claude --token"),
    ] {
        let refused = add(&home, token, &["--paste"]).exits(1).complains(why).complains(next);
        assert_eq!(refused.err.lines().count(), 2, "{refused:?}");
    }
    home.feed(&["login", "openai", "--token"], "x").exits(2).complains("lessor account add openai --token-stdin");
    for option in [&["--device"][..], &["--no-browser"], &["--client", "x"]] {
        add(&home, "", option).exits(2);
    }
    assert_eq!(home.json(&["account", "list"]), json!([]));
}

#[test]
fn an_account_whose_token_has_ended_names_the_way_to_another_one() {
    let home = home();
    add(&home, "sk-ant-oat01-good", &["--label", "work"]).ok();
    let account = home.json(&["account", "show", "work"]);
    assert_eq!(account["remedy"], Value::Null);
    home.feed(&["account", "set", "work", "--token-stdin"], "sk-ant-oat01-bad").ok();
    home.run(&["account", "check", "work"]).exits(5).complains("lessor login claude --token --label work");
}
