//! Requests of the gateway stay within the set of their lease, of their key's directory, or of the client's directory.

use serde_json::{Value, json};

use crate::harness::{TestGateway, request};
use crate::support::{Client, label, wait_until};
use crate::upstream::Upstream;

const AN_HOUR: &str = "retry-after: 3600\r\n";
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;

fn key_of(client: &mut Client, params: Value) -> (Value, String) {
    let lease = client.call("lease.acquire", params);
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    (lease, key)
}

#[test]
fn a_lease_s_key_stays_within_its_set_and_says_so_when_it_is_used_up() {
    let upstream = Upstream::by_key(|key| if key == "k-d" { (200, "", "{}") } else { (429, AN_HOUR, LIMITED) });
    let gateway = TestGateway::new("abcd", upstream);
    let mut client = gateway.home.client();
    let (_, key) = key_of(&mut client, json!({ "provider": "anthropic", "only": ["b", "d"] }));
    for _ in 0..3 {
        let response = gateway.send_with(&key);
        assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("d")));
    }
    let (_, key) = key_of(&mut client, json!({ "provider": "anthropic", "only": ["a", "c"] }));
    let response = gateway.send_with(&key);
    assert_eq!(response.status(), 429, "{response:?}");
    let accounts = client.call("account.list", json!({}));
    let leases: Vec<_> = accounts.as_array().unwrap().iter().map(|account| &account["limits"]).collect();
    assert!(leases[3].as_array().unwrap().is_empty(), "d was asked by one that may not use it: {leases:?}");
}

#[test]
fn a_lease_s_key_uses_other_providers_only_within_the_set() {
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    for label in ["x", "y"] {
        let account =
            json!({ "provider": "openai", "kind": "api_key", "secret": format!("k-{label}"), "label": label });
        client.call("account.add", account);
    }
    let (_, key) = key_of(&mut client, json!({ "provider": "anthropic", "only": ["a", "y"] }));
    let (_, narrow) = key_of(&mut client, json!({ "provider": "anthropic", "only": ["b"] }));
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some("a"));
    let openai = |key: &str| {
        let headers = format!("authorization: Bearer {key}\r\ncontent-type: application/json\r\n");
        gateway.http_client().send(&request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#))
    };
    for _ in 0..3 {
        assert_eq!(openai(&key).header("x-lessor-account"), Some("y"));
    }
    let refused = openai(&narrow);
    assert!(refused.status() >= 400 && refused.text().contains("no openai account is in the set"), "{refused:?}");
}

#[test]
fn a_lasting_key_has_the_set_of_its_directory() {
    let root = crate::support::directory();
    let base = root.path().canonicalize().unwrap();
    let gateway = TestGateway::new("abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let params = json!({ "label": "editor", "directory": base.join("client-a/src") });
    let key = client.call("gateway.key", params)["key"].as_str().unwrap().to_owned();
    let path = gateway.home.path().join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    for account in ["c", "b"] {
        let section =
            format!("\n[directories.{:?}]\naccounts = [{account:?}]\n", base.join("client-a").display().to_string());
        std::fs::write(&path, before.clone() + &section).unwrap();
        client.call("config.reload", json!({}));
        for _ in 0..3 {
            assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(account));
        }
    }
    let listed = client.call("gateway.keys", json!({}));
    let listed = listed.as_array().unwrap().iter().find(|key| key["label"] == "editor").unwrap().clone();
    assert!(listed["directory"].as_str().unwrap().ends_with("/client-a/src"), "{listed}");
    // other keys are not restricted
    let (lease, _) = key_of(&mut client, json!({ "provider": "anthropic", "only": ["a"] }));
    assert_eq!(label(&lease), "a");
}

#[test]
fn a_session_on_a_fallback_moves_back_at_its_next_request() {
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    client.call("account.set", json!({ "account": "b", "fallback_only": true }));
    client.call("account.disable", json!({ "account": "a" }));
    let (_, key) = gateway.lease(&mut client);
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some("b"));
    client.call("account.enable", json!({ "account": "a" }));
    wait_until("the run is on a again", || gateway.send_with(&key).header("x-lessor-account") == Some("a"));
}
