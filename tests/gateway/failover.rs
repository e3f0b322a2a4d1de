//! Before the first byte, the next account; and when there is none, a word that the agent understands.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::scene::{Scene, messages, request};
use crate::support::wait_until;
use crate::upstream::{Upstream, begin_stream, chunk, end_stream, say};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}"#;
const AN_HOUR: &str = "content-type: application/json\r\nretry-after: 3600\r\n";

#[test]
fn a_limit_moves_on_at_once_and_protects_the_next_request() {
    let upstream = Upstream::by_key(|key| match key {
        "k-c" => (200, "", "{}"),
        _ => (429, AN_HOUR, LIMITED),
    });
    let scene = Scene::new("abc", upstream);
    let start = Instant::now();
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.header("x-lessor-account")), (200, Some("c")));
    assert_eq!(answer.header("x-lessor-attempts"), Some("3"));
    assert!(start.elapsed() < Duration::from_secs(5), "somebody slept");
    assert_eq!(scene.account("a")["state"], "limited");
    assert_eq!(scene.ask().header("x-lessor-attempts"), Some("1"));
    assert_eq!(scene.upstream.keys().len(), 4);
    let metrics = scene.metrics();
    assert!(metrics.contains("lessor_upstream_failures_total{provider=\"anthropic\",account=\"a\""), "{metrics}");
}

#[test]
fn an_error_that_opens_a_stream_moves_on() {
    let upstream = Upstream::start(|asked, stream| {
        begin_stream(stream);
        if asked.key() == "k-a" {
            chunk(stream, ": hello\n\n");
            chunk(stream, &format!("event: error\ndata: {LIMITED}\n\n"));
        } else {
            chunk(stream, "event: message_start\ndata: {\"type\":\"message_start\"}\n\n");
        }
        end_stream(stream)
    });
    let scene = Scene::new("ab", upstream);
    let answer = scene.ask();
    assert_eq!((answer.header("x-lessor-account"), answer.header("x-lessor-attempts")), (Some("b"), Some("2")));
    assert_eq!(answer.text(), "event: message_start\ndata: {\"type\":\"message_start\"}\n\n");
    assert_eq!(scene.account("a")["state"], "limited");
}

#[test]
fn an_error_behind_a_handshake_moves_on_too() {
    let upstream = Upstream::start(|asked, stream| {
        begin_stream(stream);
        chunk(stream, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n");
        if asked.key() == "k-o1" {
            let failed = json!({ "type": "response.failed", "response": { "status": "failed", "error": {
                "code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 20m." } } });
            chunk(stream, &format!("event: response.failed\ndata: {failed}\n\n"));
        } else {
            chunk(stream, "data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n");
        }
        end_stream(stream)
    });
    let scene = Scene::new("", upstream);
    scene.add("openai", "api_key", "o1");
    scene.add("openai", "api_key", "o2");
    let headers = format!("authorization: Bearer {}\r\n", scene.key);
    let answer = scene.visitor().ask(&request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#));
    assert_eq!(answer.header("x-lessor-account"), Some("o2"), "{answer:?}");
    assert!(answer.text().starts_with("event: response.created\n"), "{}", answer.text());
}

#[test]
fn a_dead_key_is_left_and_its_owner_told() {
    let upstream = Upstream::by_key(|key| match key {
        "k-b" => (200, "", "{}"),
        _ => (
            401,
            "content-type: application/json\r\n",
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
        ),
    });
    let scene = Scene::new("ab", upstream);
    assert_eq!(scene.ask().header("x-lessor-account"), Some("b"));
    assert_eq!(scene.account("a")["state"], "needs_login");
}

#[test]
fn the_request_s_own_fault_is_passed_on_at_once() {
    const BODY: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: required"}}"#;
    let scene = Scene::new("ab", Upstream::by_key(|_| (400, "content-type: application/json\r\n", BODY)));
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.text().as_str()), (400, BODY));
    assert_eq!(scene.upstream.keys().len(), 1);
    assert_eq!(scene.account("a")["state"], "ready");
}

#[test]
fn the_service_is_asked_again_a_few_times() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|_, stream| match ASKED.fetch_add(1, Ordering::SeqCst) {
        0 => say(stream, 500, "content-type: text/html\r\n", "<html>oops</html>"),
        // no word at all
        1 => false,
        _ => say(stream, 200, "", "{}"),
    });
    let scene = Scene::new("a", upstream);
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.header("x-lessor-attempts")), (200, Some("3")));
    assert_eq!(scene.account("a")["state"], "ready", "it is not the account's fault");
}

#[test]
fn a_service_that_stays_down_is_heard_in_its_own_words() {
    const BODY: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let upstream = Upstream::by_key(|_| (529, "content-type: application/json\r\n", BODY));
    let scene = Scene::with("[limits]\nmax_attempts = 2", "ab", upstream);
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.text().as_str(), answer.header("x-lessor-attempts")), (529, BODY, Some("2")));
}

#[test]
fn an_upstream_that_is_not_there_is_a_502_in_the_provider_s_shape() {
    let scene = Scene::with("[limits]\nmax_attempts = 1", "a", Upstream::start(|_, _| false));
    let answer = scene.ask();
    assert_eq!((answer.status(), &answer.json()["error"]["type"]), (502, &json!("api_error")));
    assert!(!answer.text().contains("k-a"), "{}", answer.text());
}

#[test]
fn when_all_are_limited_each_agent_hears_it_in_its_words() {
    let upstream = Upstream::start(|asked, stream| {
        let body = match asked.target() {
            path if path.starts_with("/v1beta") => {
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"quota","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3600s"}]}}"#
            }
            "/v1/responses" => r#"{"error":{"type":"usage_limit_reached","message":"limit","resets_in_seconds":3600}}"#,
            _ => LIMITED,
        };
        say(stream, 429, AN_HOUR, body)
    });
    let scene = Scene::new("ab", upstream);
    scene.add("openai", "api_key", "o");
    scene.add("google", "api_key", "g");
    let key = format!("authorization: Bearer {}\r\n", scene.key);
    for round in 0..2 {
        let answer = scene.ask();
        let after: u64 = answer.header("x-lessor-retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&after), "{answer:?}");
        assert_eq!(
            (answer.status(), answer.header("x-should-retry"), answer.header("retry-after")),
            (429, Some("false"), None)
        );
        assert_eq!(answer.json()["error"]["type"], "rate_limit_error", "round {round}");
        let answer = scene.visitor().ask(&request("POST /openai/v1/responses", &key, r#"{"model":"gpt-5"}"#));
        assert_eq!((answer.status(), &answer.json()["error"]["type"]), (429, &json!("usage_limit_reached")));
        assert!(answer.json()["error"]["resets_at"].as_u64().unwrap() > 1_700_000_000);
        let answer =
            scene.visitor().ask(&request("POST /google/v1beta/models/gemini-3-pro:generateContent", &key, "{}"));
        assert_eq!((answer.status(), &answer.json()["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
        let delay = answer.json()["error"]["details"][0]["retryDelay"].as_str().unwrap().to_owned();
        assert!(delay.starts_with("35") || delay == "3600.000s", "{delay}");
    }
    // the second round asked nobody
    assert_eq!(scene.upstream.keys().len(), 4);
}

#[test]
fn a_short_limit_is_waited_out() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let upstream = Upstream::start(|_, stream| match ASKED.fetch_add(1, Ordering::SeqCst) {
        0 => say(stream, 429, "retry-after: 1\r\n", LIMITED),
        _ => say(stream, 200, "", "{}"),
    });
    let scene = Scene::new("a", upstream);
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.header("x-lessor-attempts")), (200, Some("2")), "{answer:?}");
}

#[test]
fn who_waits_is_served_when_an_account_comes_back() {
    let scene = Scene::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = scene.home.client();
    client.call("account.disable", json!({ "account": "a" }));
    assert_eq!(scene.ask().status(), 429, "nobody waits for what may never come");
    client.call("account.enable", json!({ "account": "a" }));
    assert_eq!(scene.ask().status(), 200);
}

#[test]
fn without_room_to_keep_it_a_request_gets_one_attempt() {
    let upstream = Upstream::by_key(|key| if key == "k-b" { (200, "", "{}") } else { (429, AN_HOUR, LIMITED) });
    let scene = Scene::with("[gateway]\nbuffer_total = \"1KiB\"", "ab", upstream);
    let body = format!(r#"{{"model":"claude-sonnet-4-5","x":"{}"}}"#, "x".repeat(2000));
    let answer = scene.visitor().ask(&messages(&scene.key, &body));
    assert_eq!((answer.status(), answer.text().as_str()), (429, LIMITED));
    let large = format!(r#"{{"model":"claude-sonnet-4-5","x":"{}"}}"#, "x".repeat(300_000));
    let answer = scene.visitor().ask(&messages(&scene.key, &large));
    assert_eq!((answer.status(), answer.header("x-lessor-account")), (200, Some("b")));
    assert_eq!(scene.upstream.asked().pop().unwrap().text(), large);
}

#[test]
fn a_model_s_limit_is_that_model_s() {
    const OPUS: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit for this model reached: claude-opus-4"}}"#;
    let headers = "anthropic-ratelimit-unified-status: rejected\r\nanthropic-ratelimit-unified-5h-status: allowed\r\n\
                   anthropic-ratelimit-unified-7d-status: allowed\r\nanthropic-ratelimit-unified-7d_oi-status: rejected\r\n\
                   anthropic-ratelimit-unified-7d_oi-utilization: 1.0\r\nanthropic-ratelimit-unified-7d_oi-reset: 4102444800\r\n";
    let upstream = Upstream::start(move |asked, stream| {
        let is_opus = asked.text().contains("opus");
        if is_opus && asked.key() == "k-a" { say(stream, 429, headers, OPUS) } else { say(stream, 200, "", "{}") }
    });
    let scene = Scene::new("ab", upstream);
    let ask = |model: &str| {
        let body = json!({ "messages": [], "model": model }).to_string();
        scene.visitor().ask(&messages(&scene.key, &body)).header("x-lessor-account").unwrap().to_owned()
    };
    assert_eq!(ask("claude-opus-4"), "b");
    let limits = scene.account("a")["limits"].clone();
    assert_eq!((&limits[0]["scope"], &limits[0]["key"]), (&json!("model"), &json!("claude:claude-opus-4")), "{limits}");
    assert_eq!(limits.as_array().unwrap().len(), 1);
}

#[test]
fn nobody_who_has_gone_is_served() {
    let scene = Scene::with("[leases]\noverflow = \"wait\"", "a", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = scene.home.client();
    let held = client.acquire();
    let mut visitor = scene.visitor();
    visitor.send(&messages(&scene.key, "{}"));
    client.wait_for_queue(1);
    drop(visitor);
    client.wait_for_queue(0);
    let mut waiting = scene.visitor();
    waiting.send(&messages(&scene.key, "{}"));
    client.wait_for_queue(1);
    client.call("lease.release", json!({ "lease": held["lease"] }));
    assert_eq!(waiting.receive().status(), 200);
    wait_until("its lease has ended", || client.call("lease.list", json!({})) == json!([]));
    assert_eq!(scene.upstream.keys().len(), 1);
    // nothing of it is in the log but words
    assert!(!scene.home.said().contains("k-a") && !scene.home.said().contains(&scene.key));
    let _flushed = std::io::stdout().flush();
}
