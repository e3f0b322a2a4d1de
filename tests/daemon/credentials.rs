//! Credentials that the user tries or replaces: `account.check`, and `account.set` with a new secret.

use serde_json::{Value, json};

use crate::oauth_server::OauthServer;
use crate::support::{Client, Home};
use crate::upstream::{Request, Upstream};

const REFUSED: &str = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;

/// A provider that accepts the secrets with `good` in them, and is down for those with `down`.
fn provider() -> Upstream {
    Upstream::new(|request: &Request, _| match &request.headers {
        headers if headers.contains("good") => (200, "", r#"{"data":[]}"#.to_owned()),
        headers if headers.contains("down") => (503, "", String::new()),
        headers if headers.contains("lost") => (404, "", r#"{"detail":"no such path"}"#.to_owned()),
        _ => (401, "", REFUSED.to_owned()),
    })
}

fn home(upstream: &Upstream) -> Home {
    let mut home = Home::new(&format!(
        "[providers.anthropic]\nbase_url = \"{0}\"\n[providers.mine]\nbase_url = \"{0}/v1\"\n",
        upstream.url
    ));
    home.start();
    home
}

fn add(client: &mut Client, provider: &str, label: &str, kind: &str, secret: &str) -> Value {
    client.call("account.add", json!({ "provider": provider, "label": label, "kind": kind, "secret": secret }))
}

fn account(client: &mut Client, label: &str) -> Value {
    let accounts = client.call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}

fn check(client: &mut Client, label: &str) -> Value {
    client.call("account.check", json!({ "account": label }))
}

#[test]
fn a_credential_can_be_tried_and_the_answer_becomes_the_accounts_state() {
    let upstream = provider();
    let mut home = home(&upstream);
    let mut client = home.client();
    for (label, provider, kind) in [
        ("good", "anthropic", "api_key"),
        ("bad", "anthropic", "api_key"),
        ("down", "anthropic", "api_key"),
        ("lost", "mine", "api_key"),
        ("good-token", "anthropic", "token"),
    ] {
        assert_eq!(add(&mut client, provider, label, kind, &format!("sk-{label}"))["unchecked"], true);
    }
    for (label, outcome, status, unchecked) in [
        ("good", "accepted", json!(200), false),
        ("bad", "refused", json!(401), true),
        ("down", "unreachable", Value::Null, true),
        ("lost", "unknown", json!(404), true),
        ("good-token", "accepted", json!(200), false),
    ] {
        let checked = check(&mut client, label);
        assert_eq!((&checked["outcome"], &checked["status"]), (&json!(outcome), &status), "{checked}");
        assert_eq!(
            (&checked["account"]["unchecked"], &checked["account"]["label"]),
            (&json!(unchecked), &json!(label))
        );
        let limits = checked["account"]["limits"].as_array().unwrap();
        assert_eq!(
            limits.iter().map(|limit| limit["reason"].as_str().unwrap()).collect::<Vec<_>>(),
            if outcome == "refused" { vec!["auth_failed"] } else { vec![] },
            "{checked}"
        );
        assert_ne!(checked["account"]["state"], "needs_login");
    }
    assert!(check(&mut client, "bad")["message"].as_str().unwrap().contains("invalid x-api-key"));
    let requests: Vec<String> = upstream.seen().into_iter().map(|request| request.line).collect();
    assert_eq!(requests.iter().filter(|line| **line == "GET /v1/models?limit=1 HTTP/1.1").count(), 5, "{requests:?}");
    assert_eq!(requests[3], "GET /v1/models HTTP/1.1");
    let agent = concat!("user-agent: lessor/", env!("CARGO_PKG_VERSION"));
    assert!(upstream.seen().iter().all(|request| request.headers.contains(agent)));
    assert!(upstream.seen()[4].headers.contains("authorization: bearer sk-good-token"));
    // what was accepted stays so
    home.kill();
    home.start();
    let mut client = home.client();
    assert_eq!(
        (&account(&mut client, "good")["unchecked"], &account(&mut client, "down")["unchecked"]),
        (&json!(false), &json!(true))
    );
    assert!(!home.output().contains("sk-"));
}

#[test]
fn a_successful_request_checks_its_key() {
    let home = home(&provider());
    let mut client = home.client();
    add(&mut client, "anthropic", "work", "api_key", "sk-work");
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic" }));
    assert_eq!(account(&mut client, "work")["unchecked"], true);
    client.call("lease.report", json!({ "lease": lease["lease"], "status": 400, "body": "{}" }));
    assert_eq!(account(&mut client, "work")["unchecked"], true);
    client.call("lease.report", json!({ "lease": lease["lease"], "ok": true }));
    assert_eq!(account(&mut client, "work")["unchecked"], false);
}

#[test]
fn a_key_is_replaced_in_place_and_only_its_refusals_end() {
    let upstream = provider();
    let mut home = home(&upstream);
    let mut client = home.client();
    let before = add(&mut client, "anthropic", "work", "api_key", "sk-bad");
    client.call("account.set", json!({ "account": "work", "priority": 7 }));
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "model": "claude-opus-4" }));
    client.call(
        "lease.report",
        json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 3_600_000 }),
    );
    assert_eq!(check(&mut client, "work")["outcome"], "refused");
    let reasons = |account: &Value| -> Vec<String> {
        let limits = account["limits"].as_array().unwrap().iter();
        limits.map(|limit| limit["reason"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(reasons(&account(&mut client, "work")).len(), 2);
    let replaced = client.call("account.set", json!({ "account": "work", "secret": "sk-good", "kind": "api_key" }));
    assert_eq!(
        (&replaced["id"], &replaced["label"], &replaced["priority"]),
        (&before["id"], &json!("work"), &json!(7))
    );
    assert_eq!(reasons(&replaced), ["quota_exhausted"], "{replaced}");
    assert_eq!(replaced["unchecked"], true);
    // it is on disk
    home.kill();
    home.start();
    let mut client = home.client();
    assert_eq!(check(&mut client, "work")["outcome"], "accepted");
    assert!(upstream.seen().last().unwrap().headers.contains("x-api-key: sk-good"));
}

#[test]
fn a_replacement_that_does_not_fit_changes_nothing() {
    let home = home(&provider());
    let mut client = home.client();
    add(&mut client, "anthropic", "work", "api_key", "sk-one");
    let other = add(&mut client, "anthropic", "other", "api_key", "sk-two");
    client.call(
        "account.add",
        json!({ "provider": "anthropic", "label": "login", "kind": "oauth", "secret": "at", "refresh_token": "rt" }),
    );
    for (params, part) in [
        (json!({ "account": "work", "secret": "sk-two" }), "other"),
        (json!({ "account": "work", "secret": "sk-one" }), "already"),
        (json!({ "account": "work", "secret": "tok", "kind": "token" }), "API key"),
        (json!({ "account": "work", "secret": "sk-ant-oat01-x" }), "--token-stdin"),
        (json!({ "account": "work", "kind": "token" }), "secret"),
        (json!({ "account": "work", "secret": "" }), "empty"),
        (json!({ "account": "login", "secret": "sk-three" }), "login"),
        (json!({ "account": "work", "client_id": "c" }), "no login"),
    ] {
        let error = client.ask("account.set", &params)["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(part), "{params}: {error}");
        assert_eq!(error["data"]["kind"], "bad_request", "{params}: {error}");
    }
    assert_eq!(client.call("account.list", json!({})).as_array().unwrap().len(), 3);
    // the same key again adds nothing
    assert_eq!(add(&mut client, "anthropic", "other", "api_key", "sk-two")["id"], other["id"]);
    assert_eq!(client.call("account.list", json!({})).as_array().unwrap().len(), 3);
}

#[test]
fn the_client_of_a_login_can_be_changed() {
    let server = OauthServer::start();
    let mut home = Home::new(&server.config("mine"));
    home.start();
    let mut client = home.client();
    let refresh_token = server.login_of("a", "another-client");
    client.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": "at", "refresh_token": refresh_token, "expires_at": 1,
            "label": "a" }),
    );
    assert_eq!(client.refused("account.refresh", json!({ "account": "a" })), "credential_unavailable");
    client.call("account.set", json!({ "account": "a", "client_id": "another-client" }));
    assert_eq!(client.call("account.refresh", json!({ "account": "a" }))["state"], "ready");
}

#[test]
fn a_refresh_that_is_impossible_says_what_helps() {
    let server = OauthServer::start();
    let mut home = Home::new(&server.config("mine"));
    home.start();
    let mut client = home.client();
    add(&mut client, "mine", "key", "api_key", "sk-key");
    add(&mut client, "mine", "token", "token", "tok");
    let login = |label: &str, provider: &str, refresh: Option<String>| {
        json!({ "provider": provider, "kind": "oauth", "secret": format!("at-{label}"), "refresh_token": refresh,
            "label": label, "account_id": label, "expires_at": 4_102_444_800_000_u64 })
    };
    client.call("account.add", login("without", "mine", None));
    client.call("account.add", login("unconfigured", "google", Some("rt".into())));
    client.call("account.add", login("disabled", "mine", Some(server.login("disabled"))));
    client.call("account.disable", json!({ "account": "disabled" }));
    client.call("account.add", login("ended", "mine", Some("rt-unknown".into())));
    for (label, part) in [
        ("key", "--api-key-stdin"),
        ("token", "--token-stdin"),
        ("without", "lessor login mine"),
        ("unconfigured", "lessor secrets set NAME --provider google"),
        ("disabled", "lessor account enable"),
        ("ended", "lessor login mine"),
        // the same again, when its state is known
        ("ended", "lessor login mine"),
    ] {
        let error = client.ask("account.refresh", &json!({ "account": label }))["error"].clone();
        let kind = if label == "disabled" { "no_account" } else { "needs_login" };
        assert_eq!(error["data"]["kind"], kind, "{label}: {error}");
        assert!(error["data"]["hint"].as_str().unwrap().contains(part), "{label}: {error}");
    }
    assert_eq!(account(&mut client, "ended")["state"], "needs_login");
}

#[test]
fn imported_logins_are_refreshed_by_the_client_named_after_their_tool() {
    let server = OauthServer::start();
    let mut home = Home::new(&format!(
        "[providers.google.oauth]\nissuer = \"{}\"\nclient_id = \"test-client\"\n\
         clients.antigravity = {{ client_id = \"of-antigravity\" }}\nclients.gemini-cli = {{ client_id = \"of-gemini\" }}\n",
        server.url
    ));
    home.start();
    let mut client = home.client();
    let logins = [("antigravity-manager", "of-antigravity"), ("gemini-cli", "of-gemini"), ("opencode", "test-client")];
    let entries: Vec<Value> = logins
        .iter()
        .map(|(tool, maker)| {
            // an access token that still holds: only the call below refreshes it
            json!({ "tool": tool, "provider": "google", "kind": "oauth", "secret": "at", "label": tool, "email": format!("{tool}@x.y"),
                "refresh_token": server.login_of(tool, maker), "expires_at": 4_102_444_800_000_u64 })
        })
        .collect();
    client.call("account.import", json!({ "entries": entries }));
    for (tool, maker) in logins {
        assert_eq!(client.call("account.refresh", json!({ "account": tool }))["state"], "ready", "{tool}");
        assert_eq!((server.form("client_id"), server.refreshes(tool)), (maker.to_owned(), 1));
    }
}
