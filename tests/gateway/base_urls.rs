//! How a configured base URL and a client's path become the URL of the upstream.

use serde_json::{Value, json};

use crate::harness::{HttpClient, request};
use crate::support::{Home, wait_until};
use crate::upstream::{Upstream, respond};

/// 2100.
const FAR: u64 = 4_102_444_800_000;

fn upstream() -> Upstream {
    Upstream::start(|_, stream| respond(stream, 200, "content-type: application/json\r\n", "{}"))
}

fn start(config: &str) -> Home {
    let mut home = Home::new(config);
    home.start();
    home
}

/// A client of the gateway, and a function that adds a key to a head.
fn gateway(home: &Home, agent: &str) -> (HttpClient, String) {
    let access = home.client().call("gateway.key", json!({ "agent": agent }));
    let port = access["url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    (HttpClient::connect(port), format!("authorization: Bearer {}\r\n", access["key"].as_str().unwrap()))
}

fn account(provider: &str, kind: &str) -> Value {
    let mut account = json!({ "provider": provider, "kind": kind, "secret": format!("{kind}-1"), "label": kind });
    if kind == "oauth" {
        account["refresh_token"] = json!("r");
        account["expires_at"] = json!(FAR);
    }
    account
}

#[test]
fn a_version_at_the_end_of_a_base_url_is_not_doubled() {
    let upstream = upstream();
    let url = upstream.url();
    let home = start(&format!(
        "[quota]\npoll = \"off\"\n[providers.anthropic]\nbase_url = \"{url}/v1\"\n[providers.openai]\nbase_url = \
         \"{url}/x/v1/\"\n[providers.google]\nbase_url = \"{url}/v1beta\"\n[providers.llm]\nbase_url = \"{url}/v1\"\n"
    ));
    for provider in ["anthropic", "openai", "google", "llm"] {
        let mut account = account(provider, "api_key");
        account["label"] = json!(provider);
        home.client().call("account.add", account);
    }
    let (mut http, key) = gateway(&home, "test");
    for (path, expected) in [
        ("/anthropic/v1/messages?beta=true", "/v1/messages?beta=true"),
        ("/anthropic/messages", "/v1/messages"),
        ("/anthropic/v1/v1/messages", "/v1/messages"),
        ("/anthropic/api/hello", "/api/hello"),
        ("/openai/v1/responses", "/x/v1/responses"),
        ("/openai/responses", "/x/v1/responses"),
        ("/google/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
        ("/google/v1/models", "/v1/models"),
        ("/llm/v1/chat/completions", "/v1/chat/completions"),
        ("/llm/chat/completions", "/v1/chat/completions"),
    ] {
        assert_eq!(http.send(&request(&format!("POST {path}"), &key, "{}")).status(), 200, "{path}");
        assert_eq!(upstream.received().pop().unwrap().target(), expected, "{path}");
    }
}

#[test]
fn a_version_at_the_end_of_a_base_url_for_logins_is_not_doubled_either() {
    for provider in ["anthropic", "google"] {
        let upstream = upstream();
        let url = upstream.url();
        let home = start(&format!("[quota]\npoll = \"1s\"\n[providers.{provider}.oauth]\nbase_url = \"{url}/v1\"\n"));
        home.client().call("account.add", account(provider, "oauth"));
        let (line, agent) = match provider {
            "anthropic" => ("POST /anthropic/v1/messages", "claude"),
            _ => ("POST /google/v1internal:generateContent", "gemini"),
        };
        let (mut http, key) = gateway(&home, agent);
        assert_eq!(http.send(&request(line, &key, "{}")).status(), 200, "{provider}");
        // the request and those for the usage
        let targets = || upstream.received().iter().map(|received| received.target().to_owned()).collect::<Vec<_>>();
        wait_until("the usage is read", || targets().len() >= 2);
        for target in targets() {
            let is_right =
                ["/v1/messages", "/api/oauth/usage"].contains(&target.as_str()) || target.starts_with("/v1internal:");
            assert!(is_right, "{provider}: {target}");
        }
    }
}

#[test]
fn codex_works_with_both_kinds_whatever_path_it_was_set_up_with() {
    let upstream = upstream();
    let url = upstream.url();
    let home = start(&format!(
        "[quota]\npoll = \"off\"\n[providers.openai]\nbase_url = \"{url}/keys\"\nmix = \"always\"\n[providers.openai.oauth]\n\
         base_url = \"{url}/logins\"\n"
    ));
    let mut client = home.client();
    for kind in ["api_key", "oauth"] {
        client.call("account.add", account("openai", kind));
    }
    let (mut http, key) = gateway(&home, "codex");
    for (kind, other, target) in [("oauth", "api_key", "/logins/responses"), ("api_key", "oauth", "/keys/v1/responses")]
    {
        client.call("account.enable", json!({ "account": kind }));
        client.call("account.disable", json!({ "account": other }));
        for path in ["/openai/responses", "/openai/v1/responses"] {
            let response = http.send(&request(&format!("POST {path}"), &key, r#"{"model":"gpt-5"}"#));
            assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some(kind)), "{path}");
            let received = upstream.received().pop().unwrap();
            assert_eq!((received.target(), received.key()), (target, format!("{kind}-1")), "{path}");
        }
    }
}
