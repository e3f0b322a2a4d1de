//! What the provider itself refuses reaches the client in the provider's words; what only one account has, does not.

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{TestGateway, messages, request};
use crate::upstream::{Upstream, respond};

const JSON: &str = "content-type: application/json\r\n";

#[test]
fn when_every_account_is_refused_the_client_gets_the_provider_s_own_refusal() {
    let refused = |status: u16, body: &'static str| {
        let gateway = TestGateway::new("ab", Upstream::by_key(move |_| (status, JSON, body)));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let start = Instant::now();
                    let response = gateway.send();
                    assert_eq!((response.status(), response.text().as_str()), (status, body));
                    assert_eq!(response.header("content-type"), Some("application/json"));
                    // 28 s of tries, and less than the minute for which every agent waits
                    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
                });
            }
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refused(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#);
        });
        refused(
            403,
            r#"{"type":"error","error":{"type":"permission_error","message":"not allowed for this organization"}}"#,
        );
    });
}

#[test]
fn a_limit_without_reason_and_time_is_relayed_quickly() {
    const BARE: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Error"}}"#;
    let upstream = Upstream::start(|request, stream| match request.text().contains("poisoned") {
        true => respond(stream, 429, JSON, BARE),
        false => respond(stream, 200, "", "{}"),
    });
    for accounts in ["a", "abc"] {
        let gateway = TestGateway::new(accounts, upstream.clone());
        let start = Instant::now();
        let ask =
            |text: &str| gateway.http_client().send(&messages(&gateway.key, &format!(r#"{{"messages":"{text}"}}"#)));
        let response = ask("poisoned");
        assert_eq!((response.status(), response.text().as_str()), (429, BARE));
        assert_eq!(ask("fine").status(), 200);
        assert!(start.elapsed() < Duration::from_secs(5), "a request waited");
    }
}

#[test]
fn a_bare_refusal_of_one_request_leaves_google_s_accounts_to_others() {
    const BARE: &str = r#"{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}"#;
    let upstream = Upstream::start(|request, stream| match request.text().contains("poisoned") {
        true => respond(stream, 429, JSON, BARE),
        false => respond(stream, 200, "", "{}"),
    });
    let gateway = TestGateway::new("", upstream);
    for label in ["g", "h", "i"] {
        gateway.add("google", "api_key", label);
    }
    let key = format!("x-goog-api-key: {}\r\n", gateway.key);
    let line = "POST /google/v1beta/models/gemini-3-pro:generateContent";
    let start = Instant::now();
    let response = gateway.http_client().send(&request(line, &key, r#"{"contents":"poisoned"}"#));
    assert_eq!((response.status(), response.text().as_str()), (429, BARE));
    let response = gateway.http_client().send(&request(line, &key, r#"{"contents":"fine"}"#));
    assert_eq!(response.status(), 200, "{response:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "a request waited");
}

#[test]
fn the_last_attempt_after_failures_of_one_account_goes_to_another() {
    for failure in ["500", "reset"] {
        let upstream = Upstream::start(move |request, stream| match (request.key().as_str(), failure) {
            ("k-b", _) => respond(stream, 200, "", "{}"),
            (_, "500") => respond(stream, 500, JSON, r#"{"type":"error","error":{"type":"api_error"}}"#),
            _ => false,
        });
        let gateway = TestGateway::with("[selection]\npreferred_account = \"a\"", "ab", upstream);
        let response = gateway.send();
        assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "{failure}");
        assert_eq!(response.header("x-lessor-attempts"), Some("3"), "{failure}");
    }
}

#[test]
fn without_another_account_the_last_attempt_is_made_on_the_same_one() {
    let count = Mutex::new(0);
    let upstream = Upstream::start(move |_, stream| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count < 3 { respond(stream, 500, JSON, "{}") } else { respond(stream, 200, "", "{}") }
    });
    let gateway = TestGateway::new("a", upstream);
    assert_eq!(gateway.send().header("x-lessor-attempts"), Some("3"));
}

#[test]
fn other_accounts_are_asked_before_a_long_wait_of_the_service_is_passed_on() {
    const FULL: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let upstream = Upstream::by_key(|key| match key {
        "k-b" => (200, "", "{}"),
        _ => (529, "retry-after: 40\r\n", FULL),
    });
    let gateway = TestGateway::with("[selection]\npreferred_account = \"a\"", "ab", upstream);
    let start = Instant::now();
    let response = gateway.send();
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")), "{response:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "the service's wait was kept");
}

#[test]
fn a_request_that_an_account_left_without_a_response_goes_to_another_when_it_comes_again() {
    let upstream = Upstream::start(|request, stream| {
        if request.key() == "k-b" {
            return respond(stream, 200, "", "{}");
        }
        // nothing until the client closes
        let _closed = stream.read(&mut [0]);
        false
    });
    let gateway = TestGateway::with("[selection]\npreferred_account = \"a\"", "ab", upstream);
    let headers = format!("x-api-key: {}\r\nx-session-id: s\r\nx-stainless-timeout: 1\r\n", gateway.key);
    let ask = request("POST /anthropic/v1/messages", &headers, r#"{"model":"claude-sonnet-4-5"}"#);
    let mut impatient = gateway.http_client();
    impatient.stream.set_read_timeout(Some(Duration::from_millis(1200))).unwrap();
    impatient.write(&ask);
    assert!(impatient.try_receive().is_none(), "the account responded");
    drop(impatient);
    let mut leases = gateway.home.client();
    crate::support::wait_until("the request has ended", || leases.call("lease.list", json!({})) == json!([]));
    let response = gateway.http_client().send(&ask);
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")));
}

#[test]
fn a_limit_in_an_error_event_s_own_headers_limits_the_account() {
    const EVENT: &str = "event: error\ndata: {\"type\":\"error\",\"status\":429,\"error\":{\"type\":\"usage_limit_reached\",\"message\":\"limit\"},\"headers\":{\"x-codex-primary-used-percent\":\"100\",\"x-codex-primary-window-minutes\":\"300\",\"x-codex-primary-reset-after-seconds\":\"3600\",\"retry-after\":\"3600\"}}\n\n";
    let upstream = Upstream::by_key(|key| match key {
        "k-p" => (200, "content-type: text/event-stream\r\n", "data: {\"type\":\"response.completed\"}\n\n"),
        _ => (200, "content-type: text/event-stream\r\n", EVENT),
    });
    let gateway = TestGateway::with("[selection]\npreferred_account = \"o\"", "", upstream);
    gateway.add("openai", "api_key", "o");
    gateway.add("openai", "api_key", "p");
    let key = format!("authorization: Bearer {}\r\n", gateway.key);
    let response = gateway.http_client().send(&request("POST /openai/v1/responses", &key, r#"{"model":"gpt-5"}"#));
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("p")), "{response:?}");
    assert_eq!(gateway.account("o")["state"], "limited");
}

#[test]
fn a_refusal_that_quotes_a_key_reaches_no_other_client() {
    for (quotes, second) in [(false, "invalid x-api-key"), (true, "lessor: ")] {
        let upstream = Upstream::start(move |request, stream| {
            let key = request.key();
            let masked = format!("invalid x-api-key {}...{}", &key[..3], &key[key.len() - 4..]);
            let message = if quotes { masked.as_str() } else { "invalid x-api-key" };
            let error = json!({ "type": "error", "error": { "type": "authentication_error", "message": message } });
            respond(stream, 401, JSON, &error.to_string())
        });
        let gateway = TestGateway::with("", "", upstream);
        let account =
            json!({ "provider": "anthropic", "kind": "api_key", "secret": "k-0123456789-wxyz", "label": "a" });
        gateway.home.client().call("account.add", account);
        let head = format!("x-api-key: {}\r\nx-stainless-timeout: 3\r\n", gateway.key);
        let ask = || gateway.http_client().send(&request("POST /anthropic/v1/messages", &head, r#"{"model":"m"}"#));
        let first = ask();
        assert_eq!((first.status(), first.text().contains("wxyz")), (401, quotes), "its own answer: {first:?}");
        let other = ask();
        assert!(other.status() == 401 && other.text().contains(second), "{other:?}");
        assert!(!other.text().contains("wxyz"), "{other:?}");
    }
}
