//! Keys of leases: they carry the lease, follow it, and die with it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::scene::{Scene, messages};
use crate::support::{reference, wait_until};
use crate::upstream::{Upstream, say};

/// 2100.
const FAR: u64 = 4_102_444_800_000;
const AN_HOUR: &str = "retry-after: 3600\r\n";
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;

#[test]
fn parallel_runs_use_distinct_accounts_and_stay_on_them() {
    let scene = Scene::new("abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut clients: Vec<_> = (0..3).map(|_| scene.home.client()).collect();
    let runs: Vec<_> = clients.iter_mut().map(|client| scene.run(client)).collect();
    let mut seen = BTreeSet::new();
    for (lease, key) in &runs {
        for _ in 0..3 {
            let answer = scene.ask_with(key);
            assert_eq!(answer.header("x-lessor-account"), lease["account"]["label"].as_str());
        }
        seen.insert(lease["account"]["label"].to_string());
    }
    assert_eq!(seen.len(), 3);
    let leases = scene.home.client().call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 3, "requests took leases of their own: {leases}");
}

#[test]
fn a_key_follows_its_lease_and_dies_with_it() {
    let upstream = Upstream::by_key(|key| if key == "k-b" { (200, "", "{}") } else { (429, AN_HOUR, LIMITED) });
    let scene = Scene::new("ab", upstream);
    let mut client = scene.home.client();
    let other = client.acquire();
    let (lease, key) = scene.run(&mut client);
    let moved_from = lease["account"]["label"].as_str().unwrap();
    // whoever has b gives it to the run that must leave a
    client.call("lease.release", reference(&other));
    let answer = scene.ask_with(&key);
    assert_eq!((answer.status(), answer.header("x-lessor-account")), (200, Some("b")), "from {moved_from}");
    assert_eq!(scene.ask_with(&key).header("x-lessor-attempts"), Some("1"));
    let leases = client.call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
    client.call("lease.release", json!({ "lease": leases[0]["lease"] }));
    assert_eq!(scene.ask_with(&key).status(), 401);
    assert_eq!(client.refused("gateway.key", json!({ "lease": lease["lease"] })), "stale_lease");
}

#[test]
fn a_run_s_key_dies_with_its_connection() {
    let scene = Scene::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = scene.home.client();
    let (_, key) = scene.run(&mut client);
    assert_eq!(scene.ask_with(&key).status(), 200);
    drop(client);
    wait_until("the key is dead", || scene.ask_with(&key).status() == 401);
    assert_eq!(scene.ask().status(), 200);
}

#[test]
fn a_key_of_a_process_s_lease_outlives_the_daemon() {
    let mut scene = Scene::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = scene.home.client();
    let bind = json!({ "pid": std::process::id() });
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": bind }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let (lasting, port) = (scene.key.clone(), scene.port);
    scene.home.kill();
    scene.home.start();
    scene.meet();
    assert_eq!(scene.port, port, "the port was kept");
    let answer = scene.ask_with(&key);
    assert_eq!(answer.header("x-lessor-account"), lease["account"]["label"].as_str(), "{answer:?}");
    assert_eq!(scene.ask_with(&lasting).status(), 200);
    scene.home.client().call("lease.release", json!({ "lease": lease["lease"] }));
    assert_eq!(scene.ask_with(&key).status(), 401);
}

#[test]
fn one_key_serves_every_provider_of_a_run() {
    let scene = Scene::new("a", Upstream::by_key(|_| (200, "", "{}")));
    scene.add("openai", "api_key", "o");
    let mut client = scene.home.client();
    let (lease, key) = scene.run(&mut client);
    for _ in 0..2 {
        let headers = format!("authorization: Bearer {key}\r\n");
        let asked = crate::scene::request("POST /openai/v1/chat/completions", &headers, r#"{"model":"gpt-5"}"#);
        assert_eq!(scene.visitor().ask(&asked).header("x-lessor-account"), Some("o"));
    }
    let count = |client: &mut crate::support::Client| client.call("lease.list", json!({})).as_array().unwrap().len();
    assert_eq!(count(&mut client), 2);
    client.call("lease.release", reference(&lease));
    assert_eq!(count(&mut client), 0, "it goes with the run's own");
}

#[test]
fn a_session_stays_on_its_account() {
    let scene = Scene::new("abcd", Upstream::by_key(|_| (200, "", "{}")));
    let ask = |session: &str| {
        let headers = format!("x-api-key: {}\r\nx-claude-code-session-id: {session}\r\n", scene.key);
        let asked = crate::scene::request("POST /anthropic/v1/messages", &headers, "{}");
        scene.visitor().ask(&asked).header("x-lessor-account").unwrap().to_owned()
    };
    let first: Vec<String> = ["s1", "s2", "s3"].map(&ask).to_vec();
    for _ in 0..2 {
        assert_eq!(["s1", "s2", "s3"].map(&ask).to_vec(), first);
    }
}

#[test]
fn a_login_serves_its_agent_only_and_is_announced() {
    let scene = Scene::new("", Upstream::by_key(|_| (200, "", "{}")));
    let key = scene.login("t-1", FAR);
    let answer = scene.ask();
    assert_eq!(answer.status(), 429, "{answer:?}");
    let mut visitor = scene.visitor();
    assert_eq!(visitor.ask(&messages(&key, "{}")).status(), 200);
    let asked = scene.upstream.asked().pop().unwrap();
    assert_eq!(asked.header("authorization"), Some("Bearer t-1"));
    assert_eq!((asked.header("anthropic-beta"), asked.header("x-api-key")), (Some("oauth-2025-04-20"), None));
}

const OAUTH: &str = "[providers.anthropic.oauth]\ntoken_url = \"URL/token\"\nclient_id = \"test\"";

/// Where tokens come from, and where only the new one is good.
fn renewing() -> Upstream {
    Upstream::start(|asked, stream| match (asked.target(), asked.key().as_str()) {
        ("/token", _) => {
            let new = r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
            say(stream, 200, "content-type: application/json\r\n", new)
        }
        (_, "t-new" | "k-b") => say(stream, 200, "", "{}"),
        _ => say(stream, 401, "", r#"{"type":"error","error":{"type":"authentication_error","message":"expired"}}"#),
    })
}

#[test]
fn a_refused_login_is_renewed_once_and_goes_on_where_it_was() {
    let scene = Scene::with(OAUTH, "", renewing());
    let key = scene.login("t-old", FAR);
    scene.add("anthropic", "api_key", "b");
    // the session is the login's
    scene.home.client().call("account.disable", json!({ "account": "b" }));
    let answer = scene.ask_with(&key);
    assert_eq!((answer.status(), answer.header("x-lessor-attempts")), (200, Some("2")), "{answer:?}");
    assert_eq!(answer.header("x-lessor-account"), Some("login"));
    assert_eq!(scene.upstream.keys(), ["t-old", "", "t-new"]);
    assert_eq!(scene.account("login")["state"], "ready");
}

#[test]
fn a_login_that_has_ended_is_renewed_before_it_goes_upstream() {
    let scene = Scene::with(OAUTH, "", renewing());
    let key = scene.login("t-old", 1_000);
    let answer = scene.ask_with(&key);
    assert_eq!((answer.status(), answer.header("x-lessor-attempts")), (200, Some("1")), "{answer:?}");
    assert_eq!(scene.upstream.keys(), ["", "t-new"]);
}

#[test]
fn a_login_that_cannot_be_renewed_is_left() {
    let upstream = Upstream::start(|asked, stream| match (asked.target(), asked.key().as_str()) {
        ("/token", _) => say(stream, 400, "", r#"{"error":"invalid_grant"}"#),
        (_, "k-b") => say(stream, 200, "", "{}"),
        _ => say(stream, 401, "", r#"{"type":"error","error":{"type":"authentication_error","message":"revoked"}}"#),
    });
    let scene = Scene::with(&format!("[selection]\npreferred_account = \"login\"\n{OAUTH}"), "", upstream);
    let key = scene.login("t-old", FAR);
    scene.add("anthropic", "api_key", "b");
    let answer = scene.ask_with(&key);
    assert_eq!((answer.status(), answer.header("x-lessor-account")), (200, Some("b")), "{answer:?}");
    assert_eq!(scene.account("login")["state"], "needs_login");
}
