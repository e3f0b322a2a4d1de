//! The numbers agree: what the clients saw, what the upstream sent, `/metrics`, the history and the events.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, request};
use crate::support::wait_until;
use crate::upstream::{Message, Upstream, begin_stream, chunk, end_stream, respond};

const WORKERS: u64 = 8;
const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
const OVERLOADED: &str = r#"{"type":"error","error":{"type":"api_error","message":"internal"}}"#;
const USAGE: &str = r#"{"type":"message","usage":{"input_tokens":3,"output_tokens":2,"cache_read_input_tokens":1}}"#;

/// What the upstream has sent, by account and status; and the tokens that it has stated.
#[derive(Debug, Default)]
struct SentRecord {
    responses: BTreeMap<(String, u64), u64>,
    silent: u64,
    output_tokens: u64,
}

/// What the clients have seen.
#[derive(Debug, Default)]
struct SeenRecord {
    ok: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    cancelled: AtomicU64,
}

/// What each request is to meet: its first attempt, or all.
fn scene(number: u64) -> &'static str {
    match number % 25 {
        0 | 11 => "limited",
        3 => "failing",
        5 => "cut",
        8 => "gives-up",
        13 => "leaves",
        17 => "missing",
        n if n % 2 == 0 => "stream",
        _ => "plain",
    }
}

/// The first request of a name is met, later attempts are answered.
fn upstream(sent: Arc<Mutex<SentRecord>>) -> Upstream {
    let met: Mutex<std::collections::BTreeSet<String>> = Mutex::default();
    Upstream::start(move |received: &Message, stream| {
        let target = received.target().to_owned();
        let scene = target.rsplit('/').nth(1).unwrap_or_default().to_owned();
        let is_first = met.lock().unwrap().insert(target);
        let note = |status: u64, tokens: u64| {
            let record = &mut *sent.lock().unwrap();
            *record.responses.entry((received.key(), status)).or_default() += 1;
            record.output_tokens += tokens;
        };
        match scene.as_str() {
            "limited" if is_first => {
                note(429, 0);
                respond(stream, 429, "retry-after: 1\r\n", LIMITED)
            }
            "failing" if is_first => {
                note(500, 0);
                respond(stream, 500, "", OVERLOADED)
            }
            "missing" => {
                note(404, 0);
                respond(stream, 404, "", r#"{"type":"error","error":{"type":"not_found_error","message":"x"}}"#)
            }
            "cut" => {
                note(200, 0);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n01234";
                let _sent = stream.write_all(head.as_bytes());
                false
            }
            "gives-up" => {
                sent.lock().unwrap().silent += 1;
                let _closed = std::io::Read::read(stream, &mut [0]);
                false
            }
            "leaves" => {
                note(200, 0);
                begin_stream(stream);
                chunk(stream, "data: {\"type\":\"x\"}\n\n");
                let _closed = std::io::Read::read(stream, &mut [0]);
                false
            }
            "stream" => {
                note(200, 2);
                let usage = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":2}}\n\n";
                begin_stream(stream)
                    && chunk(stream, "data: {\"type\":\"x\"}\n\n")
                    && chunk(stream, usage)
                    && end_stream(stream)
            }
            _ => {
                note(200, 2);
                respond(stream, 200, "content-type: application/json\r\n", USAGE)
            }
        }
    })
}

/// Sends one request and notes how it ended.
fn ask(gateway: &TestGateway, number: u64, seen: &SeenRecord, http: &mut HttpClient) {
    let scene = scene(number);
    let headers = format!("x-api-key: {}\r\ncontent-type: application/json\r\n", gateway.key);
    let bytes = request(&format!("POST /anthropic/v1/{scene}/{number}"), &headers, r#"{"model":"m"}"#);
    let target = format!("/v1/{scene}/{number}");
    match scene {
        "gives-up" => {
            let mut own = gateway.http_client();
            own.write(&bytes);
            let came = || gateway.upstream.received().iter().any(|message| message.target() == target);
            wait_until("it is sent", came);
            seen.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        "leaves" => {
            let mut own = gateway.http_client();
            own.write(&bytes);
            own.read_until("data:");
            seen.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        "cut" => {
            let mut own = gateway.http_client();
            own.write(&bytes);
            assert!(!own.receive().complete);
            seen.broken.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            let response = http.send(&bytes);
            assert!(response.complete, "{response:?}");
            let counter = if response.status() < 400 { &seen.ok } else { &seen.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The sum of a metric's values whose labels contain all of `labels`.
fn metric(text: &str, name: &str, labels: &[&str]) -> u64 {
    let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let wanted = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// All rows of the history, page by page.
fn all_rows(gateway: &TestGateway) -> Vec<Value> {
    let (mut rows, mut before) = (Vec::new(), None);
    loop {
        let page = json!({ "of": "requests", "limit": 1000, "before": before });
        let found = gateway.home.client().call("history.query", page);
        rows.extend(found["requests"].as_array().unwrap().iter().cloned());
        match found["next"].as_u64() {
            Some(next) => before = Some(next),
            None => return rows,
        }
    }
}

fn numbers_agree(requests: u64) {
    let sent: Arc<Mutex<SentRecord>> = Arc::default();
    let config = "[limits]\nmax_attempts = 2\n[leases]\nper_account = 8\n";
    let gateway = TestGateway::with(config, "abcdefgh", upstream(sent.clone()));
    let mut events = gateway.home.client();
    events.call("events.subscribe", json!({ "kinds": ["request.ended"] }));
    let ended = Arc::new(AtomicU64::new(0));
    let counted = ended.clone();
    std::thread::spawn(move || {
        while let Ok(event) = events.receive() {
            counted.fetch_add(u64::from(event["params"]["kind"] == "request.ended"), Ordering::Relaxed);
        }
    });
    let seen = SeenRecord::default();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (gateway, seen) = (&gateway, &seen);
            scope.spawn(move || {
                let mut http = gateway.http_client();
                (worker..requests).step_by(WORKERS as usize).for_each(|number| ask(gateway, number, seen, &mut http));
            });
        }
    });
    let totals = || gateway.home.client().call("history.query", json!({ "limit": 0 }))["totals"].clone();
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
    wait_until("all are recorded", || number(&totals(), "requests") >= requests);
    let (totals, text, rows) = (totals(), gateway.metrics(), all_rows(&gateway));
    let sent = sent.lock().unwrap();
    // outcomes: clients, history, metrics
    let outcomes =
        [("ok", &seen.ok), ("refused", &seen.refused), ("broken", &seen.broken), ("cancelled", &seen.cancelled)];
    for (outcome, count) in outcomes {
        let count = count.load(Ordering::Relaxed);
        assert!(count > 0, "no request was {outcome}");
        assert_eq!(number(&totals, outcome), count, "{outcome}: {totals}");
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(metric(&text, "lessor_requests_total", &[&label]), count, "{outcome}");
        assert_eq!(rows.iter().filter(|row| row["outcome"] == outcome).count() as u64, count, "{outcome}");
    }
    assert_eq!((number(&totals, "requests"), rows.len() as u64), (requests, requests));
    // attempts: the upstream, history, metrics; by account and status
    let received = gateway.upstream.received().len() as u64;
    assert_eq!(number(&totals, "attempts"), received, "{totals}");
    assert_eq!(metric(&text, "lessor_attempts_total", &[]), received);
    let mut attempts: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for attempt in rows.iter().flat_map(|row| row["attempts"].as_array().unwrap()) {
        let key = format!("k-{}", attempt["account"]["label"].as_str().unwrap());
        *attempts.entry((key, attempt["status"].as_u64().unwrap_or(0))).or_default() += 1;
    }
    let silent: u64 = attempts.iter().filter(|((_, status), _)| *status == 0).map(|(_, count)| *count).sum();
    attempts.retain(|(_, status), _| *status != 0);
    assert_eq!((&attempts, silent), (&sent.responses, sent.silent));
    let limits: u64 = sent.responses.iter().filter(|((_, status), _)| *status == 429).map(|(_, count)| *count).sum();
    assert_eq!((number(&totals, "limited"), metric(&text, "lessor_limits_total", &[])), (limits, limits));
    // tokens
    let tokens = metric(&text, "lessor_tokens_total", &["kind=\"output\""]);
    assert_eq!((number(&totals["tokens"], "output"), tokens), (sent.output_tokens, sent.output_tokens));
    // times
    assert_eq!(metric(&text, "lessor_request_duration_seconds_count", &[]), requests);
    let began = rows.iter().filter(|row| !row["first_byte_ms"].is_null()).count() as u64;
    assert_eq!(metric(&text, "lessor_first_byte_seconds_count", &[]), began);
    // events, and what is left
    wait_until("all events have come", || ended.load(Ordering::Relaxed) >= requests);
    assert_eq!(ended.load(Ordering::Relaxed), requests);
    assert_eq!(metric(&text, "lessor_history_dropped_total", &[]), 0);
    let status = gateway.home.client().call("status", json!({}));
    assert_eq!((status["in_flight"].as_u64(), metric(&text, "lessor_requests_in_flight", &[])), (Some(0), 0));
    for account in "abcdefgh".chars() {
        assert_eq!(gateway.account(&account.to_string())["in_flight"], 0);
    }
    println!("{requests} requests, {received} attempts, {limits} limits: all numbers agree");
}

#[test]
fn clients_upstream_metrics_history_and_events_agree() {
    numbers_agree(300);
}

/// Run by `.ci/agree`.
#[test]
#[ignore = "takes minutes: .ci/agree"]
fn the_numbers_of_many_requests_agree() {
    let requests = std::env::var("REQUESTS").ok().and_then(|requests| requests.parse().ok()).unwrap_or(10_000);
    numbers_agree(requests);
}
