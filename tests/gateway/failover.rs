//! Before the first byte, a refusal leads to the next account; without one, the agent gets an error it understands.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{TestGateway, messages, request};
use crate::support::wait_until;
use crate::upstream::{Upstream, begin_stream, chunk, end_stream, respond};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}"#;
const AN_HOUR: &str = "content-type: application/json\r\nretry-after: 3600\r\n";

#[test]
fn a_limit_leads_to_the_next_account_at_once_and_applies_to_the_next_request() {
    let upstream = Upstream::by_key(|key| match key {
        "k-c" => (200, "", "{}"),
        _ => (429, AN_HOUR, LIMITED),
    });
    let gateway = TestGateway::new("abc", upstream);
    let start = Instant::now();
    let response = gateway.send();
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("c")));
    assert_eq!(response.header("x-lessor-attempts"), Some("3"));
    assert!(start.elapsed() < Duration::from_secs(5), "the gateway waited");
    assert_eq!(gateway.account("a")["state"], "limited");
    assert_eq!(gateway.send().header("x-lessor-attempts"), Some("1"));
    assert_eq!(gateway.upstream.keys().len(), 4);
    // it is counted when its sender is known
    let failure = "lessor_upstream_failures_total{provider=\"anthropic\",account=\"a\"";
    wait_until("the failure is counted", || gateway.metrics().contains(failure));
}

#[test]
fn an_error_at_the_start_of_a_stream_leads_to_the_next_account() {
    let upstream = Upstream::start(|request, stream| {
        begin_stream(stream);
        if request.key() == "k-a" {
            chunk(stream, ": hello\n\n");
            chunk(stream, &format!("event: error\ndata: {LIMITED}\n\n"));
        } else {
            chunk(stream, "event: message_start\ndata: {\"type\":\"message_start\"}\n\n");
        }
        end_stream(stream)
    });
    let gateway = TestGateway::new("ab", upstream);
    let response = gateway.send();
    assert_eq!((response.header("x-lessor-account"), response.header("x-lessor-attempts")), (Some("b"), Some("2")));
    assert_eq!(response.text(), "event: message_start\ndata: {\"type\":\"message_start\"}\n\n");
    assert_eq!(gateway.account("a")["state"], "limited");
}

#[test]
fn an_error_after_a_preamble_leads_to_the_next_account() {
    let upstream = Upstream::start(|request, stream| {
        begin_stream(stream);
        chunk(stream, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n");
        if request.key() == "k-o1" {
            let failed = json!({ "type": "response.failed", "response": { "status": "failed", "error": {
                "code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 20m." } } });
            chunk(stream, &format!("event: response.failed\ndata: {failed}\n\n"));
        } else {
            chunk(stream, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n");
        }
        end_stream(stream)
    });
    let gateway = TestGateway::new("", upstream);
    gateway.add("openai", "api_key", "o1");
    gateway.add("openai", "api_key", "o2");
    let headers = format!("authorization: Bearer {}\r\n", gateway.key);
    let response = gateway.http_client().send(&request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#));
    assert_eq!(response.header("x-lessor-account"), Some("o2"), "{response:?}");
    assert!(response.text().starts_with("event: response.created\n"), "{}", response.text());
}

#[test]
fn a_rejected_key_leads_to_the_next_account_and_is_tried_again_later() {
    let upstream = Upstream::by_key(|key| match key {
        "k-b" => (200, "", "{}"),
        _ => (
            401,
            "content-type: application/json\r\n",
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
        ),
    });
    let gateway = TestGateway::new("ab", upstream);
    assert_eq!(gateway.send().header("x-lessor-account"), Some("b"));
    let refused = gateway.account("a");
    assert_eq!((&refused["state"], &refused["limits"][0]["reason"]), (&json!("limited"), &json!("auth_failed")));
}

#[test]
fn an_invalid_request_is_not_retried() {
    const BODY: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: required"}}"#;
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (400, "content-type: application/json\r\n", BODY)));
    let response = gateway.send();
    assert_eq!((response.status(), response.text().as_str()), (400, BODY));
    assert_eq!(gateway.upstream.keys().len(), 1);
    assert_eq!(gateway.account("a")["state"], "ready");
}

#[test]
fn a_failing_service_is_retried() {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|_, stream| match ATTEMPTS.fetch_add(1, Ordering::SeqCst) {
        0 => respond(stream, 500, "content-type: text/html\r\n", "<html>oops</html>"),
        // no response at all
        1 => false,
        _ => respond(stream, 200, "", "{}"),
    });
    let gateway = TestGateway::new("a", upstream);
    let response = gateway.send();
    assert_eq!((response.status(), response.header("x-lessor-attempts")), (200, Some("3")));
    assert_eq!(gateway.account("a")["state"], "ready", "the account did not cause it");
}

#[test]
fn a_persistent_service_error_is_relayed_unchanged() {
    const BODY: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let upstream = Upstream::by_key(|_| (529, "content-type: application/json\r\n", BODY));
    let gateway = TestGateway::with("[limits]\nmax_attempts = 2", "ab", upstream);
    let response = gateway.send();
    assert_eq!(
        (response.status(), response.text().as_str(), response.header("x-lessor-attempts")),
        (529, BODY, Some("2"))
    );
}

#[test]
fn an_unreachable_upstream_is_a_502_in_the_provider_s_shape() {
    let gateway = TestGateway::with("[limits]\nmax_attempts = 1", "a", Upstream::start(|_, _| false));
    let response = gateway.send();
    assert_eq!((response.status(), &response.json()["error"]["type"]), (502, &json!("api_error")));
    assert!(!response.text().contains("k-a"), "{}", response.text());
}

#[test]
fn when_all_accounts_are_limited_the_error_has_the_provider_s_shape() {
    let upstream = Upstream::start(|request, stream| {
        let body = match request.target() {
            path if path.starts_with("/v1beta") => {
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"quota","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3600s"}]}}"#
            }
            "/v1/responses" => r#"{"error":{"type":"usage_limit_reached","message":"limit","resets_in_seconds":3600}}"#,
            _ => LIMITED,
        };
        respond(stream, 429, AN_HOUR, body)
    });
    let gateway = TestGateway::new("ab", upstream);
    gateway.add("openai", "api_key", "o");
    gateway.add("google", "api_key", "g");
    let key = format!("authorization: Bearer {}\r\n", gateway.key);
    for round in 0..2 {
        let response = gateway.send();
        let after: u64 = response.header("x-lessor-retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&after), "{response:?}");
        assert_eq!(
            (response.status(), response.header("x-should-retry"), response.header("retry-after")),
            (429, Some("false"), None)
        );
        assert_eq!(response.json()["error"]["type"], "rate_limit_error", "round {round}");
        let response = gateway.http_client().send(&request("POST /openai/v1/responses", &key, r#"{"model":"gpt-5"}"#));
        assert_eq!((response.status(), &response.json()["error"]["type"]), (429, &json!("usage_limit_reached")));
        assert!(response.json()["error"]["resets_at"].as_u64().unwrap() > 1_700_000_000);
        let response =
            gateway.http_client().send(&request("POST /google/v1beta/models/gemini-3-pro:generateContent", &key, "{}"));
        assert_eq!((response.status(), &response.json()["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
        let details = response.json()["error"]["details"].clone();
        assert_eq!((&details[0]["reason"], &details[1]["retryDelay"]), (&json!("QUOTA_EXHAUSTED"), &json!("60.000s")));
    }
    // in the second round, no request went upstream
    assert_eq!(gateway.upstream.keys().len(), 4);
}

#[test]
fn a_request_waits_for_the_end_of_a_short_limit() {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|_, stream| match ATTEMPTS.fetch_add(1, Ordering::SeqCst) {
        0 => respond(stream, 429, "retry-after: 1\r\n", LIMITED),
        _ => respond(stream, 200, "", "{}"),
    });
    let gateway = TestGateway::new("a", upstream);
    let response = gateway.send();
    assert_eq!((response.status(), response.header("x-lessor-attempts")), (200, Some("2")), "{response:?}");
}

#[test]
fn a_disabled_account_refuses_at_once_and_serves_again_when_enabled() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    client.call("account.disable", json!({ "account": "a" }));
    assert_eq!(gateway.send().status(), 429, "the request does not wait: the account may stay disabled");
    client.call("account.enable", json!({ "account": "a" }));
    assert_eq!(gateway.send().status(), 200);
}

#[test]
fn a_request_that_does_not_fit_the_buffer_gets_one_attempt() {
    let upstream = Upstream::by_key(|key| if key == "k-b" { (200, "", "{}") } else { (429, AN_HOUR, LIMITED) });
    let gateway = TestGateway::with("[gateway]\nbuffer_total = \"1KiB\"", "ab", upstream);
    let body = format!(r#"{{"model":"claude-sonnet-4-5","x":"{}"}}"#, "x".repeat(2000));
    let response = gateway.http_client().send(&messages(&gateway.key, &body));
    assert_eq!((response.status(), response.text().as_str()), (429, LIMITED));
    let large = format!(r#"{{"model":"claude-sonnet-4-5","x":"{}"}}"#, "x".repeat(300_000));
    let response = gateway.http_client().send(&messages(&gateway.key, &large));
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, Some("b")));
    assert_eq!(gateway.upstream.received().pop().unwrap().text(), large);
}

#[test]
fn a_limit_of_a_model_applies_to_that_model_only() {
    const OPUS: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit for this model reached: claude-opus-4"}}"#;
    let headers = "anthropic-ratelimit-unified-status: rejected\r\nanthropic-ratelimit-unified-5h-status: allowed\r\n\
                   anthropic-ratelimit-unified-7d-status: allowed\r\nanthropic-ratelimit-unified-7d_oi-status: rejected\r\n\
                   anthropic-ratelimit-unified-7d_oi-utilization: 1.0\r\nanthropic-ratelimit-unified-7d_oi-reset: 4102444800\r\n";
    let upstream = Upstream::start(move |request, stream| {
        let is_opus = request.text().contains("opus");
        if is_opus && request.key() == "k-a" {
            respond(stream, 429, headers, OPUS)
        } else {
            respond(stream, 200, "", "{}")
        }
    });
    let gateway = TestGateway::new("ab", upstream);
    let ask = |model: &str| {
        let body = json!({ "messages": [], "model": model }).to_string();
        gateway.http_client().send(&messages(&gateway.key, &body)).header("x-lessor-account").unwrap().to_owned()
    };
    assert_eq!(ask("claude-opus-4"), "b");
    let limits = gateway.account("a")["limits"].clone();
    assert_eq!((&limits[0]["scope"], &limits[0]["key"]), (&json!("model"), &json!("claude:claude-opus-4")), "{limits}");
    assert_eq!(limits.as_array().unwrap().len(), 1);
}

#[test]
fn a_client_that_disconnects_leaves_the_queue() {
    let gateway = TestGateway::with("[leases]\noverflow = \"wait\"", "a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let held = client.acquire();
    let mut http = gateway.http_client();
    http.write(&messages(&gateway.key, "{}"));
    client.wait_for_queue(1);
    drop(http);
    client.wait_for_queue(0);
    let mut waiting = gateway.http_client();
    waiting.write(&messages(&gateway.key, "{}"));
    client.wait_for_queue(1);
    client.call("lease.release", json!({ "lease": held["lease"] }));
    assert_eq!(waiting.receive().status(), 200);
    wait_until("the request's lease has ended", || client.call("lease.list", json!({})) == json!([]));
    assert_eq!(gateway.upstream.keys().len(), 1);
    // the log contains no key
    assert!(!gateway.home.output().contains("k-a") && !gateway.home.output().contains(&gateway.key));
    let _flushed = std::io::stdout().flush();
}
