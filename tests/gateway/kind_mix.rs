//! Whether conversations move between logins and API keys: `providers.X.mix`.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::harness::{TestGateway, request};
use crate::upstream::{Message, Upstream};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;
const AN_HOUR: &str = "content-type: application/json\r\nretry-after: 3600\r\n";
/// 2100.
const FAR: u64 = 4_102_444_800_000;

/// A login `t-1` that is preferred and refused while `is_limited`, and an API key `k`.
fn gateway(mix: &str, is_limited: &'static AtomicBool) -> TestGateway {
    let upstream = Upstream::by_key(move |key| match key {
        "t-1" if is_limited.load(Ordering::SeqCst) => (429, AN_HOUR, LIMITED),
        _ => (200, "", "{}"),
    });
    let mix = if mix.is_empty() { String::new() } else { format!("mix = \"{mix}\"\n") };
    // the section that follows is that of anthropic
    let config = format!(
        "[selection]\npreferred_account = \"login\"\n[providers.llm]\nbase_url = \"http://127.0.0.1:9\"\n{mix}"
    );
    let mut gateway = TestGateway::with(&config, "k", upstream);
    gateway.key = gateway.login("t-1", FAR);
    let path = gateway.home.path().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[providers.anthropic]\n", &format!("[providers.anthropic]\n{mix}"))).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    gateway
}

fn ask(gateway: &TestGateway, key: &str, session: &str) -> Message {
    let session = if session.is_empty() { String::new() } else { format!("x-claude-code-session-id: {session}\r\n") };
    let headers = format!("x-api-key: {key}\r\n{session}");
    gateway.http_client().send(&request("POST /anthropic/v1/messages", &headers, r#"{"model":"m"}"#))
}

fn account(message: &Message) -> (u16, Option<&str>) {
    (message.status(), message.header("x-lessor-account"))
}

#[test]
fn by_default_a_conversation_stays_on_its_kind_and_a_new_one_may_begin_on_either() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(false);
    let mut gateway = gateway("", &IS_LIMITED);
    let key = gateway.key.clone();
    assert_eq!(account(&ask(&gateway, &key, "begun")), (200, Some("login")));
    IS_LIMITED.store(true, Ordering::SeqCst);
    // a conversation that has had no answer yet has not begun: its first request may move
    assert_eq!(account(&ask(&gateway, &key, "new")), (200, Some("k")));
    for _ in 0..2 {
        let response = ask(&gateway, &key, "begun");
        assert_eq!(response.status(), 429, "{response:?}");
        assert!(response.text().contains("mix always"), "{}", response.text());
    }
    assert_eq!(account(&ask(&gateway, &key, "another")), (200, Some("k")));
    // what began on the key stays there, also after the login is free and the daemon has restarted
    IS_LIMITED.store(false, Ordering::SeqCst);
    gateway.home.client().call("account.clear_limits", json!({ "account": "login" }));
    assert_eq!(account(&ask(&gateway, &key, "new")), (200, Some("k")));
    gateway.home.stop();
    gateway.home.start();
    gateway.connect();
    let key =
        gateway.home.client().call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned();
    IS_LIMITED.store(true, Ordering::SeqCst);
    assert_eq!(ask(&gateway, &key, "begun").status(), 429);
    assert_eq!(account(&ask(&gateway, &key, "new")), (200, Some("k")));
}

#[test]
fn a_conversation_moves_to_the_other_kind_when_its_own_has_no_account_left() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(false);
    let gateway = gateway("new-sessions", &IS_LIMITED);
    let key = gateway.key.clone();
    assert_eq!(account(&ask(&gateway, &key, "s")), (200, Some("login")));
    gateway.home.client().call("account.disable", json!({ "account": "login" }));
    assert_eq!(account(&ask(&gateway, &key, "s")), (200, Some("k")));
}

#[test]
fn with_always_every_request_may_move() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(false);
    let gateway = gateway("always", &IS_LIMITED);
    let key = gateway.key.clone();
    assert_eq!(account(&ask(&gateway, &key, "s")), (200, Some("login")));
    IS_LIMITED.store(true, Ordering::SeqCst);
    assert_eq!(account(&ask(&gateway, &key, "s")), (200, Some("k")));
}

#[test]
fn with_never_a_key_keeps_its_kind_from_its_first_request() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(true);
    let gateway = gateway("never", &IS_LIMITED);
    let key = gateway.key.clone();
    let response = ask(&gateway, &key, "first");
    assert_eq!(response.status(), 429, "the first request is not moved either: {response:?}");
    assert_eq!(ask(&gateway, &key, "second").status(), 429);
    assert_eq!(ask(&gateway, &key, "").status(), 429);
    assert!(gateway.upstream.keys().iter().all(|key| key == "t-1"));
    let mut client = gateway.home.client();
    let other = client.call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned();
    assert_eq!(account(&ask(&gateway, &other, "third")), (200, Some("k")), "another key may begin on the other kind");
    IS_LIMITED.store(false, Ordering::SeqCst);
    client.call("account.clear_limits", json!({ "account": "login" }));
    assert_eq!(account(&ask(&gateway, &other, "fourth")), (200, Some("k")));
    assert_eq!(account(&ask(&gateway, &key, "second")), (200, Some("login")));
}

#[test]
fn a_reported_limit_moves_a_lease_of_a_begun_session_to_its_own_kind_only() {
    static IS_LIMITED: AtomicBool = AtomicBool::new(false);
    let gateway = gateway("", &IS_LIMITED);
    let mut client = gateway.home.client();
    let mut reported = |session: Option<&str>, has_served: bool| {
        let request = json!({ "provider": "anthropic", "agent": "claude", "session": session, "wait_ms": 0 });
        let lease = client.call("lease.acquire", request);
        assert_eq!(lease["account"]["label"], "login");
        if has_served {
            client.call("lease.report", json!({ "lease": lease["lease"], "ok": true }));
        }
        let report = json!({ "lease": lease["lease"], "reason": "rate_limit_exceeded", "retry_after_ms": 3_600_000 });
        let action = client.call("lease.report", report)["action"].as_str().unwrap().to_owned();
        client.call("account.clear_limits", json!({ "account": "login" }));
        let leases = client.call("lease.list", json!({}));
        for lease in leases.as_array().unwrap() {
            client.call("lease.release", json!({ "lease": lease["lease"] }));
        }
        action
    };
    assert_eq!(reported(Some("new"), false), "switch");
    assert_eq!(reported(None, true), "switch");
    assert_ne!(reported(Some("begun"), true), "switch");
}
