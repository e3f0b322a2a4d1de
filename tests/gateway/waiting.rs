//! While no account can serve: how long a request waits, and the answer that makes its agent come back or stop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, request};
use crate::support::{Client, wait_until};
use crate::upstream::{Message, Upstream, respond};

const OK: (u16, &str, &str) = (200, "", "{}");
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Please retry in 4108s"}}"#;
const MODEL: &str = r#"{"model":"claude-sonnet-4-5","messages":[]}"#;

/// A messages request of a session, whose client waits for as long as `timeout` says, in seconds.
fn ask(gateway: &TestGateway, session: &str, timeout: u64, user_agent: &str) -> Message {
    gateway.http_client().send(&asked(gateway, session, timeout, user_agent))
}

fn asked(gateway: &TestGateway, session: &str, timeout: u64, user_agent: &str) -> Vec<u8> {
    let headers = format!(
        "x-api-key: {}\r\nx-claude-code-session-id: {session}\r\nx-stainless-timeout: {timeout}\r\nuser-agent: {user_agent}\r\n",
        gateway.key
    );
    request("POST /anthropic/v1/messages", &headers, MODEL)
}

fn seconds(response: &Message, name: &str) -> Option<u64> {
    response.header(name).map(|value| value.parse().unwrap())
}

fn comes_back(response: &Message) -> bool {
    assert_eq!(response.status(), 429, "{response:?}");
    response.header("x-should-retry").is_none()
}

#[test]
fn a_request_that_waits_is_named_to_those_that_ask_for_it() {
    let mut gateway = TestGateway::new("a", Upstream::by_key(|_| (429, "retry-after: 4\r\n", LIMITED)));
    let (mut holder, mut watcher) = (gateway.home.client(), gateway.home.client());
    gateway.key = gateway.lease(&mut holder).1;
    watcher.call("events.subscribe", json!({ "kinds": ["request.waiting"] }));
    let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(comes_back(&ask(&gateway, "s", 2, "claude-cli/2")));
    let event = watcher.receive().expect("an event")["params"].clone();
    assert_eq!((&event["kind"], &event["holder"]["pid"]), (&json!("request.waiting"), &json!(std::process::id())));
    let until = event["until"].as_u64().unwrap();
    assert!((sent + 3000..sent + 6000).contains(&until), "{event} after {sent}");
}

#[test]
fn a_request_that_waits_for_the_account_of_its_own_lease_is_named_too() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
        0 => respond(stream, 429, "retry-after: 2\r\n", LIMITED),
        _ => respond(stream, 200, "", "{}"),
    });
    let mut gateway = TestGateway::new("a", upstream);
    let (mut holder, mut watcher) = (gateway.home.client(), gateway.home.client());
    gateway.key = gateway.lease(&mut holder).1;
    watcher.call("events.subscribe", json!({ "kinds": ["request.waiting", "request.ended"] }));
    let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert_eq!(ask(&gateway, "s", 600, "claude-cli/2").status(), 200);
    let mut next = || watcher.receive().expect("an event")["params"].clone();
    let event = next();
    assert_eq!((&event["kind"], &event["session"]), (&json!("request.waiting"), &json!("s")));
    let until = event["until"].as_u64().unwrap();
    assert!((sent + 1000..sent + 4000).contains(&until), "{event} after {sent}");
    assert_eq!(next()["kind"], "request.ended", "one wait is one event");
}

/// A gateway with `overflow = "wait"` and the accounts `a` and `b`: the one that a key's lease is on is limited for hours by
/// its first request, and the other one is leased by another client.
struct LimitedRun {
    gateway: TestGateway,
    other: Client,
    /// The lease of the other account.
    leased: Value,
    _holder: Client,
}

fn limited_run(limit: &str) -> LimitedRun {
    let first: Mutex<Option<String>> = Mutex::new(None);
    let upstream = Upstream::start(move |request, stream| {
        let is_first = *first.lock().unwrap().get_or_insert(request.key()) == request.key();
        let (status, headers) = if is_first { (429, "retry-after: 7200\r\n") } else { (200, "") };
        respond(stream, status, headers, LIMITED)
    });
    let config = format!("[leases]\noverflow = \"wait\"\n[limits]\nmax_rate_limit_wait = \"{limit}\"");
    let mut gateway = TestGateway::with(&config, "ab", upstream);
    let (mut holder, mut other) = (gateway.home.client(), gateway.home.client());
    gateway.key = gateway.lease(&mut holder).1;
    let leased = other.acquire();
    LimitedRun { gateway, other, leased, _holder: holder }
}

#[test]
fn a_request_whose_account_is_limited_for_hours_is_served_when_the_one_in_use_is_free() {
    let LimitedRun { gateway, mut other, leased, _holder } = limited_run("5m");
    let mut watcher = gateway.home.client();
    watcher.call("events.subscribe", json!({ "kinds": ["request.waiting"] }));
    // the lease is limited by the first of them, and before the second one comes
    for _ in 0..2 {
        let mut waiting = gateway.http_client();
        waiting.write(&asked(&gateway, "s", 600, "claude-cli/2"));
        let event = watcher.receive().expect("an event")["params"].clone();
        assert_eq!(event["kind"], "request.waiting", "it is answered: {event}");
        waiting.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(waiting.stream.peek(&mut [0]).is_err(), "it has an answer");
        // its client has given up
    }
    let mut waiting = gateway.http_client();
    waiting.write(&asked(&gateway, "s", 600, "claude-cli/2"));
    watcher.receive().expect("an event");
    other.call("lease.release", json!({ "lease": leased["lease"] }));
    let response = waiting.receive();
    let free = leased["account"]["label"].as_str();
    assert_eq!((response.status(), response.header("x-lessor-account")), (200, free), "{response:?}");
}

#[test]
fn a_request_waits_for_an_account_in_use_no_longer_than_its_session_may() {
    let run = limited_run("2s");
    let start = Instant::now();
    let response = ask(&run.gateway, "s", 600, "claude-cli/2");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(1900) && waited < Duration::from_secs(6), "{waited:?}");
    assert!(!comes_back(&response));
    // the account in use may be free at any moment: no time would be true
    assert_eq!((response.header("retry-after"), response.header("x-lessor-retry-after")), (None, None));
    let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(": limited") && message.contains(": in use"), "{message}");
}

#[test]
fn an_agent_whose_patience_ends_is_asked_to_come_back_and_is_served_then() {
    for leased in [false, true] {
        let count = AtomicUsize::new(0);
        let upstream = Upstream::start(move |request, stream| match request.key().as_str() {
            "k-a" if count.fetch_add(1, Ordering::SeqCst) > 0 => respond(stream, 200, "", "{}"),
            "k-a" => respond(stream, 429, "retry-after: 4\r\n", LIMITED),
            _ => respond(stream, 429, "retry-after: 100\r\n", LIMITED),
        });
        let mut gateway = TestGateway::new("ab", upstream);
        let mut holder = gateway.home.client();
        if leased {
            gateway.key = gateway.lease(&mut holder).1;
        }
        let start = Instant::now();
        let response = ask(&gateway, "s", 2, "claude-cli/2");
        let waited = start.elapsed();
        assert!(waited > Duration::from_secs(1) && waited < Duration::from_secs(3), "{waited:?}");
        assert!(comes_back(&response), "{response:?}");
        let after = seconds(&response, "retry-after").unwrap();
        assert!((1..=3).contains(&after), "{response:?}");
        assert_eq!(seconds(&response, "x-lessor-retry-after"), Some(after));
        let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("a, b: limited") && message.contains("a is first free at "), "{message}");
        // what the upstream said does not reach the agent: some agents act on it
        assert!(!response.text().contains("4108"), "{message}");
        assert_eq!(ask(&gateway, "s", 600, "claude-cli/2").status(), 200);
    }
}

#[test]
fn a_wait_known_to_be_too_long_ends_at_once_and_the_message_has_one_form() {
    let upstream = Upstream::by_key(|_| (429, "retry-after: 1200\r\n", LIMITED));
    let gateway = TestGateway::new("ab", upstream);
    let start = Instant::now();
    for round in 0..3 {
        let response = ask(&gateway, "s", 600, "claude-cli/2");
        assert!(!comes_back(&response) && response.header("retry-after").is_none(), "{round}: {response:?}");
        assert!((1190..=1200).contains(&seconds(&response, "x-lessor-retry-after").unwrap()), "{response:?}");
        let message = response.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("lessor: no anthropic account is free (a, b: limited); "), "{message}");
        assert!(message.ends_with(", in 20 min") && !message.contains("4108"), "{message}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "a request waited");
    assert_eq!(gateway.upstream.keys().len(), 2);
}

/// A gateway whose only account is in use, without a time when it is free.
fn in_use(limit: &str) -> (TestGateway, Client, String) {
    let config = format!("[leases]\noverflow = \"wait\"\n[limits]\nmax_rate_limit_wait = \"{limit}\"");
    let gateway = TestGateway::with(&config, "a", Upstream::by_key(|_| OK));
    let mut client = gateway.home.client();
    let lease = client.acquire()["lease"].as_str().unwrap().to_owned();
    (gateway, client, lease)
}

#[test]
fn a_session_comes_back_until_its_limit_is_reached_counted_from_its_first_refusal() {
    let (gateway, _client, _lease) = in_use("4s");
    let (start, mut refusals) = (Instant::now(), 0);
    let last = loop {
        let response = ask(&gateway, "s", 1, "");
        if !comes_back(&response) {
            break response;
        }
        refusals += 1;
        // no time is known
        assert_eq!((response.header("retry-after"), response.header("x-lessor-retry-after")), (None, None));
        assert!(start.elapsed() < Duration::from_secs(15), "it never ends");
    };
    assert!((3..=5).contains(&refusals) && start.elapsed() >= Duration::from_millis(3900), "{refusals} refusals");
    assert!(last.text().contains("(a: in use)"), "{}", last.text());
    assert!(!comes_back(&ask(&gateway, "s", 1, "")), "a session that does not stop is not held again");
    assert!(comes_back(&ask(&gateway, "other", 1, "")), "another session has its own limit");
}

#[test]
fn a_success_begins_the_count_again() {
    let (gateway, mut client, lease) = in_use("2s");
    while comes_back(&ask(&gateway, "s", 1, "")) {}
    client.call("lease.release", json!({ "lease": lease }));
    assert_eq!(ask(&gateway, "s", 1, "").status(), 200);
    let _lease = client.acquire();
    assert!(comes_back(&ask(&gateway, "s", 1, "")));
}

#[test]
fn counting_tokens_does_not_begin_the_count_again() {
    let upstream = Upstream::start(|request, stream| match request.target() {
        "/v1/messages" => respond(stream, 429, "retry-after: 2\r\n", r#"{"error":{"type":"rate_limit_error"}}"#),
        _ => respond(stream, 200, "", "{}"),
    });
    let gateway = TestGateway::with("[limits]\nmax_rate_limit_wait = \"4s\"", "a", upstream);
    let start = Instant::now();
    while comes_back(&ask(&gateway, "s", 1, "")) {
        let headers = format!("x-api-key: {}\r\nx-claude-code-session-id: s\r\n", gateway.key);
        let count = request("POST /anthropic/v1/messages/count_tokens", &headers, MODEL);
        assert_eq!(gateway.http_client().send(&count).status(), 200);
        assert!(start.elapsed() < Duration::from_secs(15), "it never ends");
    }
}

#[test]
fn a_program_that_never_asks_again_gets_no_answer_that_asks_it_to() {
    let (gateway, _client, _lease) = in_use("1m");
    assert!(!comes_back(&ask(&gateway, "s", 1, "google-genai-sdk/3.4.0 gl-python/3.11")));
    assert!(comes_back(&ask(&gateway, "s", 1, "GeminiCLI/0.61.0")));
}

#[test]
fn each_provider_s_agents_get_the_answer_that_they_come_back_for() {
    let upstream = Upstream::start(|_, stream| {
        let error = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded","type":"tokens","status":"RESOURCE_EXHAUSTED"}}"#;
        respond(stream, 429, "retry-after: 100\r\n", error)
    });
    let gateway = TestGateway::new("", upstream);
    gateway.add("openai", "api_key", "o");
    gateway.add("google", "api_key", "g");
    let headers = format!("authorization: Bearer {}\r\nx-stainless-timeout: 1\r\n", gateway.key);
    let response = gateway.http_client().send(&request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#));
    assert!(comes_back(&response), "{response:?}");
    let error = response.json()["error"].clone();
    assert_eq!((&error["type"], seconds(&response, "retry-after")), (&json!("rate_limit_exceeded"), Some(60)));
    let line = "POST /google/v1beta/models/gemini-3-pro:generateContent";
    let response = gateway.http_client().send(&request(line, &headers, "{}"));
    assert!(comes_back(&response), "{response:?}");
    let details = response.json()["error"]["details"].clone();
    assert_eq!(details[0]["retryDelay"], "60.000s");
    assert_eq!(details.as_array().unwrap().len(), 1);
}

#[test]
fn after_a_limit_is_known_no_request_starts_on_its_account() {
    static SENT: Mutex<Vec<Instant>> = Mutex::new(Vec::new());
    let upstream = Upstream::start(|_, stream| {
        let mut sent = SENT.lock().unwrap();
        sent.push(Instant::now());
        if sent.len() == 1 {
            respond(stream, 429, "retry-after: 2\r\n", LIMITED)
        } else {
            respond(stream, 200, "", "{}")
        }
    });
    let gateway = TestGateway::new("a", upstream);
    let mut first = gateway.http_client();
    first.write(&asked(&gateway, "0", 600, ""));
    wait_until("the limit is known", || gateway.account("a")["state"] == "limited");
    let mut clients: Vec<HttpClient> = (1..8).map(|_| gateway.http_client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(&asked(&gateway, &number.to_string(), 600, ""));
    }
    clients.push(first);
    assert!(clients.iter_mut().all(|client| client.receive().status() == 200));
    let sent = SENT.lock().unwrap();
    let early = sent[1..].iter().filter(|at| at.duration_since(sent[0]) < Duration::from_millis(1950)).count();
    assert_eq!((sent.len(), early), (9, 0));
}

#[test]
fn without_switching_the_first_rate_limit_leads_to_a_retry_on_the_same_account() {
    // with a time, and with nothing that says more than the status
    const BARE: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Error"}}"#;
    for (headers, provider) in [("retry-after: 1\r\n", "anthropic"), ("", "anthropic"), ("", "openai")] {
        let attempts = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_, stream| match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => respond(stream, 429, headers, BARE),
            _ => respond(stream, 200, "", "{}"),
        });
        let config = "[limits]\nswitch_on_first_rate_limit = false\nretry_delay = \"1500ms\"";
        let gateway = TestGateway::with(config, "", upstream);
        gateway.add(provider, "api_key", "a");
        gateway.add(provider, "api_key", "b");
        let start = Instant::now();
        let key = format!("x-api-key: {}\r\n", gateway.key);
        let response = gateway.http_client().send(&request(&format!("POST /{provider}/v1/messages"), &key, MODEL));
        assert_eq!((response.status(), response.header("x-lessor-attempts")), (200, Some("2")), "{provider} {headers}");
        let keys = gateway.upstream.keys();
        assert_eq!(keys[0], keys[1], "it moved to another account: {provider} {headers}");
        assert!(start.elapsed() >= Duration::from_millis(1500), "it did not wait for retry_delay");
    }
}

#[test]
fn a_request_that_takes_from_no_quota_is_served_while_every_quota_is_used_up() {
    let upstream = Upstream::start(|request, stream| match request.target() {
        "/v1/messages" => respond(stream, 429, "retry-after: 1200\r\n", LIMITED),
        _ => respond(stream, 200, "", "{}"),
    });
    let gateway = TestGateway::new("a", upstream);
    assert!(!comes_back(&ask(&gateway, "s", 600, "")));
    let key = format!("x-api-key: {}\r\n", gateway.key);
    for line in ["POST /anthropic/v1/messages/count_tokens", "GET /anthropic/v1/models", "HEAD /anthropic/api/hello"] {
        let response = gateway.http_client().send_for_head(&request(line, &key, MODEL));
        assert_eq!(response.status(), 200, "{line}");
    }
}
