//! Keys of leases: they use the lease, follow it to another account, and end with it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{TestGateway, messages, request};
use crate::support::{reference, wait_until};
use crate::upstream::{Upstream, respond};

/// 2100.
const FAR: u64 = 4_102_444_800_000;
const AN_HOUR: &str = "retry-after: 3600\r\n";
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;

#[test]
fn parallel_runs_use_distinct_accounts_and_stay_on_them() {
    let gateway = TestGateway::new("abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut clients: Vec<_> = (0..3).map(|_| gateway.home.client()).collect();
    let runs: Vec<_> = clients.iter_mut().map(|client| gateway.lease(client)).collect();
    let mut seen = BTreeSet::new();
    for (lease, key) in &runs {
        for _ in 0..3 {
            let response = gateway.send_with(key);
            assert_eq!(response.header("x-lessor-account"), lease["account"]["label"].as_str());
        }
        seen.insert(lease["account"]["label"].to_string());
    }
    assert_eq!(seen.len(), 3);
    let leases = gateway.home.client().call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 3, "requests took further leases: {leases}");
}

#[test]
fn a_key_follows_its_lease_and_ends_with_it() {
    let upstream = Upstream::by_key(|key| if key == "k-b" { (200, "", "{}") } else { (429, AN_HOUR, LIMITED) });
    let gateway = TestGateway::new("ab", upstream);
    let mut client = gateway.home.client();
    let other = client.acquire();
    let (lease, key) = gateway.lease(&mut client);
    let moved_from = lease["account"]["label"].as_str().unwrap();
    // b becomes free for the run that must leave a
    client.call("lease.release", reference(&other));
    let response = gateway.send_with(&key);
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "from {moved_from}");
    assert_eq!(gateway.send_with(&key).header("x-lessor-attempts"), Some("1"));
    let leases = client.call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
    client.call("lease.release", json!({ "lease": leases[0]["lease"] }));
    assert_eq!(gateway.send_with(&key).status(), 401);
    assert_eq!(client.refused("gateway.key", json!({ "lease": lease["lease"] })), "stale_lease");
}

#[test]
fn a_run_s_key_ends_with_its_connection() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let (_, key) = gateway.lease(&mut client);
    assert_eq!(gateway.send_with(&key).status(), 200);
    drop(client);
    wait_until("the key has ended", || gateway.send_with(&key).status() == 401);
    assert_eq!(gateway.send().status(), 200);
}

#[test]
fn the_key_of_a_process_s_lease_survives_a_restart_of_the_daemon() {
    let mut gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let bind = json!({ "pid": std::process::id() });
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": bind }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let (lasting, port) = (gateway.key.clone(), gateway.port);
    gateway.home.kill();
    gateway.home.start();
    gateway.connect();
    assert_eq!(gateway.port, port, "the port was kept");
    let response = gateway.send_with(&key);
    assert_eq!(response.header("x-lessor-account"), lease["account"]["label"].as_str(), "{response:?}");
    assert_eq!(gateway.send_with(&lasting).status(), 200);
    gateway.home.client().call("lease.release", json!({ "lease": lease["lease"] }));
    assert_eq!(gateway.send_with(&key).status(), 401);
}

#[test]
fn one_key_serves_every_provider_of_a_run() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    gateway.add("openai", "api_key", "o");
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    for _ in 0..2 {
        let headers = format!("authorization: Bearer {key}\r\n");
        let request = request("POST /openai/v1/chat/completions", &headers, r#"{"model":"gpt-5"}"#);
        assert_eq!(gateway.http_client().send(&request).header("x-lessor-account"), Some("o"));
    }
    let count = |client: &mut crate::support::Client| client.call("lease.list", json!({})).as_array().unwrap().len();
    assert_eq!(count(&mut client), 2);
    client.call("lease.release", reference(&lease));
    assert_eq!(count(&mut client), 0, "it ends with the run's own lease");
}

#[test]
fn a_session_stays_on_its_account() {
    let gateway = TestGateway::new("abcd", Upstream::by_key(|_| (200, "", "{}")));
    let ask = |session: &str| {
        let headers = format!("x-api-key: {}\r\nx-claude-code-session-id: {session}\r\n", gateway.key);
        let request = request("POST /anthropic/v1/messages", &headers, "{}");
        gateway.http_client().send(&request).header("x-lessor-account").unwrap().to_owned()
    };
    let first: Vec<String> = ["s1", "s2", "s3"].map(&ask).to_vec();
    for _ in 0..2 {
        assert_eq!(["s1", "s2", "s3"].map(&ask).to_vec(), first);
    }
}

#[test]
fn a_login_serves_only_its_agent_and_is_sent_with_its_beta_header() {
    let gateway = TestGateway::new("", Upstream::by_key(|_| (200, "", "{}")));
    let key = gateway.login("t-1", FAR);
    let response = gateway.send();
    assert_eq!(response.status(), 429, "{response:?}");
    let mut http = gateway.http_client();
    assert_eq!(http.send(&messages(&key, "{}")).status(), 200);
    let request = gateway.upstream.received().pop().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer t-1"));
    assert_eq!((request.header("anthropic-beta"), request.header("x-api-key")), (Some("oauth-2025-04-20"), None));
}

const OAUTH: &str = "[providers.anthropic.oauth]\ntoken_url = \"URL/token\"\nclient_id = \"test\"";

/// An upstream with a token endpoint; it accepts only the new token.
fn refreshing() -> Upstream {
    Upstream::start(|request, stream| match (request.target(), request.key().as_str()) {
        ("/token", _) => {
            let new = r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
            respond(stream, 200, "content-type: application/json\r\n", new)
        }
        (_, "t-new" | "k-b") => respond(stream, 200, "", "{}"),
        _ => {
            respond(stream, 401, "", r#"{"type":"error","error":{"type":"authentication_error","message":"expired"}}"#)
        }
    })
}

#[test]
fn a_rejected_login_is_refreshed_once_and_keeps_its_session() {
    let gateway = TestGateway::with(OAUTH, "", refreshing());
    let key = gateway.login("t-old", FAR);
    gateway.add("anthropic", "api_key", "b");
    // so that the session is on the login
    gateway.home.client().call("account.disable", json!({ "account": "b" }));
    let response = gateway.send_with(&key);
    assert_eq!((response.status(), response.header("x-lessor-attempts")), (200, Some("2")), "{response:?}");
    assert_eq!(response.header("x-lessor-account"), Some("login"));
    assert_eq!(gateway.upstream.keys(), ["t-old", "", "t-new"]);
    assert_eq!(gateway.account("login")["state"], "ready");
}

#[test]
fn an_expired_login_is_refreshed_before_the_request_is_forwarded() {
    let gateway = TestGateway::with(OAUTH, "", refreshing());
    let key = gateway.login("t-old", 1_000);
    let response = gateway.send_with(&key);
    assert_eq!((response.status(), response.header("x-lessor-attempts")), (200, Some("1")), "{response:?}");
    assert_eq!(gateway.upstream.keys(), ["", "t-new"]);
}

#[test]
fn a_login_that_cannot_be_refreshed_leads_to_the_next_account() {
    let upstream = Upstream::start(|request, stream| match (request.target(), request.key().as_str()) {
        ("/token", _) => respond(stream, 400, "", r#"{"error":"invalid_grant"}"#),
        (_, "k-b") => respond(stream, 200, "", "{}"),
        _ => {
            respond(stream, 401, "", r#"{"type":"error","error":{"type":"authentication_error","message":"revoked"}}"#)
        }
    });
    let gateway = TestGateway::with(&format!("[selection]\npreferred_account = \"login\"\n{OAUTH}"), "", upstream);
    let key = gateway.login("t-old", FAR);
    gateway.add("anthropic", "api_key", "b");
    let response = gateway.send_with(&key);
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "{response:?}");
    assert_eq!(gateway.account("login")["state"], "needs_login");
}

#[test]
fn a_login_that_stays_refused_is_refreshed_once() {
    let upstream = Upstream::start(|request, stream| match request.target() {
        "/token" => {
            let new = r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
            respond(stream, 200, "content-type: application/json\r\n", new)
        }
        _ => respond(stream, 401, "", r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#),
    });
    let gateway = TestGateway::with(OAUTH, "", upstream);
    let key = gateway.login("t-old", FAR);
    let response = gateway.send_with(&key);
    assert_eq!((response.status(), response.header("x-lessor-attempts")), (401, Some("3")), "{response:?}");
    // the limit was probed with the token that there is
    assert_eq!(gateway.upstream.keys(), ["t-old", "", "t-new", "t-new"]);
    assert_eq!(gateway.account("login")["state"], "limited");
}

/// In debug builds, `/metrics` shows how often the gateway's thread has taken the daemon's lock.
#[test]
#[cfg(debug_assertions)]
fn a_request_takes_the_daemon_s_lock_at_most_twice() {
    const REQUESTS: u64 = 20;
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let (_lease, key) = gateway.lease(&mut client);
    for key in [&key, &gateway.key] {
        let locks = || {
            let metrics = gateway.metrics();
            let (_, count) = metrics.rsplit_once("lessor_debug_gateway_locks ").unwrap();
            count.trim().parse::<u64>().unwrap()
        };
        let before = locks();
        let mut http = gateway.http_client();
        for _ in 0..REQUESTS {
            assert_eq!(http.send(&messages(key, r#"{"model":"claude-sonnet-4-5"}"#)).status(), 200);
        }
        // `/metrics` takes the lock once, and so do the check of a connection's first key and the record of its holder
        let taken = locks() - before - 3;
        assert!(taken <= 2 * REQUESTS, "{taken} locks for {REQUESTS} requests");
    }
}

#[test]
fn a_request_waits_for_a_token_that_is_late() {
    let (send, token_may_come) = std::sync::mpsc::channel::<()>();
    let token_may_come = std::sync::Mutex::new(token_may_come);
    let upstream = Upstream::start(move |request, stream| {
        if request.target() == "/token" {
            token_may_come.lock().unwrap().recv().unwrap();
            let new = r#"{"access_token":"t-new","refresh_token":"r-2","token_type":"Bearer","expires_in":36000}"#;
            return respond(stream, 200, "content-type: application/json\r\n", new);
        }
        respond(stream, 200, "", "{}")
    });
    let config = format!("[refresh]\nwait = \"500ms\"\n{OAUTH}");
    let gateway = TestGateway::with(&config, "", upstream);
    let key = gateway.login("t-old", 1);
    let mut http = gateway.http_client();
    http.stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    http.write(&messages(&key, "{}"));
    assert!(http.try_receive().is_none(), "it was refused after refresh.wait");
    http.stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    send.send(()).unwrap();
    assert_eq!(http.receive().status(), 200);
}

/// `lessor run -p anthropic,openai`: each lease may have moved before the daemon is restarted, the first one or both.
#[test]
fn the_key_of_two_leases_serves_both_providers_after_a_restart() {
    let config = "[leases]\ngrace = \"0s\"\n";
    let mut gateway = TestGateway::with(config, "ab", Upstream::by_key(|_| (200, "", "{}")));
    ["c", "d"].iter().for_each(|label| gateway.add("openai", "api_key", label));
    let mut client = gateway.home.client();
    let bind = json!({ "pid": std::process::id() });
    let acquire = |client: &mut crate::support::Client, provider: &str| {
        client.call("lease.acquire", json!({ "provider": provider, "bind": bind, "credential": false }))
    };
    let leases = ["anthropic", "openai"].map(|provider| acquire(&mut client, provider));
    let key = client.call("gateway.key", json!({ "lease": leases[0]["lease"] }))["key"].as_str().unwrap().to_owned();
    let ask = |gateway: &TestGateway, path: &str| {
        let headers = format!("x-api-key: {key}\r\n");
        let answer = gateway.http_client().send(&request(&format!("POST {path}"), &headers, r#"{"model":"m"}"#));
        assert_eq!(answer.status(), 200, "{path}: {answer:?}");
        answer.header("x-lessor-account").unwrap().to_owned()
    };
    let both = |gateway: &TestGateway| {
        ["/anthropic/v1/messages", "/openai/v1/chat/completions"].map(|path| ask(gateway, path))
    };
    assert_eq!(both(&gateway), [&leases[0], &leases[1]].map(crate::support::label));
    for moved in ["anthropic", "openai", "anthropic"] {
        let held = gateway.home.client().call("lease.list", json!({}));
        let lease = held.as_array().unwrap().iter().find(|lease| lease["provider"] == moved).unwrap()["lease"].clone();
        gateway.home.client().call("lease.move", json!({ "lease": lease }));
        let before = both(&gateway);
        gateway.home.kill();
        gateway.home.start();
        gateway.connect();
        assert_eq!(both(&gateway), before, "after a move of the {moved} lease");
        let held = gateway.home.client().call("lease.list", json!({}));
        assert_eq!(held.as_array().unwrap().len(), 2, "{held:#}");
    }
}
