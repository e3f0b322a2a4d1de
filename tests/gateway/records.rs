//! Each request ends in exactly one row of the history, whatever ends it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, request};
use crate::support::{reference, wait_until};
use crate::upstream::{Message, Upstream, begin_stream, chunk, end_stream, respond};

const LIMITED: &str =
    r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down, sk-canary-0123456789"}}"#;
const OVERLOADED: &str =
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
const EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
const USAGE: &str = r#"{"type":"message","usage":{"input_tokens":5,"output_tokens":7,"cache_read_input_tokens":2,
    "cache_creation_input_tokens":1}}"#;

/// Responds in the way that the path names.
fn by_path(received: &Message, stream: &mut std::net::TcpStream) -> bool {
    let scene = received.target().split('?').next().unwrap().rsplit('/').next().unwrap();
    match scene {
        "switched" if received.key() == "k-a" => respond(stream, 429, "retry-after: 3600\r\n", LIMITED),
        "missing" => respond(stream, 404, "", r#"{"type":"error","error":{"type":"not_found_error","message":"x"}}"#),
        "quoted" => {
            let body =
                format!(r#"{{"error":{{"type":"invalid_request_error","message":"{} is bad"}}}}"#, received.key());
            respond(stream, 400, "", &body)
        }
        "breaks" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n01234";
            let _sent = stream.write_all(head.as_bytes());
            false
        }
        "fails-later" => {
            // more than what is held back
            begin_stream(stream) && chunk(stream, EVENT) && chunk(stream, OVERLOADED) && end_stream(stream)
        }
        "silent" => {
            let _closed = stream.read(&mut [0]);
            false
        }
        "endless" | "cut" | "holds" => {
            begin_stream(stream);
            chunk(stream, EVENT);
            let _closed = stream.read(&mut [0]);
            false
        }
        "empty" => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
        _ => respond(stream, 200, "content-type: application/json\r\n", USAGE),
    }
}

/// The rows of a gateway, when there are so many, in order of their requests.
fn rows(gateway: &TestGateway, count: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    wait_until(&format!("{count} rows"), || {
        let found = gateway.home.client().call("history.query", json!({ "of": "requests", "limit": 1000 }));
        rows = found["requests"].as_array().unwrap().clone();
        rows.len() >= count
    });
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows.reverse();
    rows
}

fn ask(scene: &str, key: &str) -> Vec<u8> {
    let headers = format!("x-api-key: {key}\r\ncontent-type: application/json\r\nx-claude-code-session-id: s-1\r\n");
    request(&format!("POST /anthropic/v1/{scene}?key=lk_canary"), &headers, r#"{"model":"m"}"#)
}

/// What a row must say: its path's end, outcome, status (0: none), a part of its reason, the accounts of its attempts.
type Expected = (&'static str, &'static str, u16, &'static str, &'static [&'static str]);

fn check(row: &Value, (scene, outcome, status, reason, accounts): Expected) {
    assert!(row["path"].as_str().unwrap().ends_with(scene), "{scene}: {row:#}");
    assert_eq!(row["outcome"], outcome, "{scene}: {row:#}");
    assert_eq!(row["status"].as_u64().unwrap_or(0), u64::from(status), "{scene}: {row:#}");
    let said = row["reason"].as_str().unwrap_or_default();
    assert!(said.contains(reason) && said.is_empty() == reason.is_empty(), "{scene}: {row:#}");
    let attempts = row["attempts"].as_array().unwrap();
    let labels: Vec<&str> = attempts.iter().map(|of| of["account"]["label"].as_str().unwrap()).collect();
    assert_eq!(labels, accounts, "{scene}: {row:#}");
}

#[test]
fn every_way_to_end_a_request_ends_in_one_row() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[gateway]\nmax_body = \"4KiB\"\n[limits]\nmax_attempts = 1\n[selection]\npreferred_account = \"a\"\n\
         [providers.gone]\nbase_url = \"http://127.0.0.1:{closed}\"\n"
    );
    let gateway = TestGateway::with(&config, "ab", Upstream::start(by_path));
    gateway.add("gone", "api_key", "g");
    let key = gateway.key.as_str();
    let send = |bytes: &[u8]| gateway.http_client().send(bytes).status();
    let mut expected: Vec<Expected> = Vec::new();
    for (scene, row) in [
        ("plain", ("plain", "ok", 200, "", &["a"][..])),
        ("empty", ("empty", "ok", 204, "", &["a"])),
        ("missing", ("missing", "refused", 404, "", &["a"])),
        ("quoted", ("quoted", "refused", 400, "request_rejected", &["a"])),
        ("switched", ("switched", "ok", 200, "", &["a", "b"])),
    ] {
        // the reason of a refusal that is no limit is its class
        let row = if scene == "missing" { ("missing", "refused", 404, "re", &["a"][..]) } else { row };
        assert_eq!(send(&ask(scene, key)), row.2);
        expected.push(row);
    }
    let read_until = |scene: &'static str, key: &str, part: &str| -> HttpClient {
        let mut http = gateway.http_client();
        http.write(&ask(scene, key));
        http.read_until(part);
        http
    };
    let mut breaks = gateway.http_client();
    assert!(!breaks.send(&ask("breaks", key)).complete);
    expected.push(("breaks", "broken", 200, "broke off", &["b"]));
    rows(&gateway, expected.len());
    read_until("fails-later", key, "overloaded_error");
    expected.push(("fails-later", "broken", 200, "model_capacity_exhausted", &["b"]));
    rows(&gateway, expected.len());
    let mut silent = gateway.http_client();
    silent.write(&ask("silent", key));
    let has_come = |scene: &str| gateway.upstream.received().iter().any(|message| message.target().contains(scene));
    wait_until("it is sent", || has_come("silent"));
    drop(silent);
    expected.push(("silent", "cancelled", 0, "before the response", &["b"]));
    rows(&gateway, expected.len());
    drop(read_until("endless", key, "content_block_delta"));
    expected.push(("endless", "cancelled", 200, "during the response", &["b"]));
    rows(&gateway, expected.len());
    let large = request("POST /anthropic/v1/large", &format!("x-api-key: {key}\r\n"), &"x".repeat(5000));
    assert_eq!(send(&large), 413);
    expected.push(("large", "refused", 413, "gateway.max_body", &[]));
    let head = format!(
        "POST /anthropic/v1/half HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-length: 9\r\n\r\nx"
    );
    let mut half = gateway.http_client();
    half.write(head.as_bytes());
    half.stream.shutdown(Shutdown::Write).unwrap();
    let _closed = half.stream.read(&mut [0]);
    expected.push(("half", "refused", 408, "incomplete", &[]));
    rows(&gateway, expected.len());
    let headers = format!("authorization: Bearer {key}\r\n");
    assert_eq!(send(&request("POST /openai/v1/responses", &headers, r#"{"model":"gpt-5"}"#)), 429);
    expected.push(("responses", "refused", 429, "account", &[]));
    assert_eq!(send(&request("POST /gone/v1/x", &headers, "{}")), 502);
    expected.push(("x", "refused", 502, "no response from gone", &["g"]));
    // a key that serves one request at a time
    let of_one = gateway.home.client().call("gateway.key", json!({ "agent": "test", "max_leases": 1, "label": "one" }));
    let holds = read_until("holds", of_one["key"].as_str().unwrap(), "content_block_delta");
    let mut waits = gateway.http_client();
    waits.write(&ask("waits", of_one["key"].as_str().unwrap()));
    // an answer to the next request of another connection says that this one was read
    assert_eq!(send(&ask("plain", key)), 200);
    expected.push(("plain", "ok", 200, "", &["b"]));
    rows(&gateway, expected.len());
    drop(waits);
    expected.push(("waits", "cancelled", 0, "while it waited", &[]));
    rows(&gateway, expected.len());
    gateway.home.client().call("gateway.revoke", json!({ "key": of_one["id"] }));
    expected.push(("holds", "broken", 200, "the key was revoked", &["b"]));
    let all = rows(&gateway, expected.len());
    drop(holds);
    let mut client = gateway.home.client();
    let (lease, of_lease) = gateway.lease(&mut client);
    assert_eq!(send(&ask("of-lease", &of_lease)), 200);
    expected.push(("of-lease", "ok", 200, "", &["b"]));
    // the key is known on its connection, and its lease ends
    let mut http = gateway.http_client();
    assert_eq!(http.send(&ask("of-lease", &of_lease)).status(), 200);
    expected.push(("of-lease", "ok", 200, "", &["b"]));
    client.call("lease.release", reference(&lease));
    assert_eq!(http.send(&ask("ended", &of_lease)).status(), 401);
    expected.push(("ended", "refused", 401, "lease of its key has ended", &[]));
    // no key, no provider, no request for a provider: no row
    assert_eq!(send(&ask("x", "lk_wrong")), 401);
    assert_eq!(send(&request("POST /nobody/x", &headers, "{}")), 404);
    gateway.metrics();
    assert_eq!(send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"), 200);
    let last = rows(&gateway, expected.len());
    assert_eq!(all.len() + 3, last.len());
    let failed = last.iter().find(|row| row["path"] == "/v1/fails-later").unwrap();
    assert_eq!(
        failed["attempts"][0]["evidence"], "overloaded_error",
        "only the type of an error in a stream: {failed}"
    );
    let mut left = last.clone();
    for expected in &expected {
        let is_it = |row: &Value| row["path"].as_str().unwrap().ends_with(&format!("/{}", expected.0));
        let at = left.iter().position(is_it).unwrap_or_else(|| panic!("no row of {}", expected.0));
        check(&left.remove(at), *expected);
    }
    assert!(left.is_empty(), "{left:#?}");
    let text = Value::from(last).to_string();
    for secret in ["lk_", "k-a", "canary", gateway.key.as_str(), of_lease.as_str()] {
        assert!(!text.contains(secret), "{secret} was recorded");
    }
}

#[test]
fn a_row_says_who_sent_the_request_and_what_its_attempts_met() {
    let config = "[selection]\npreferred_account = \"a\"\n";
    let gateway = TestGateway::with(config, "ab", Upstream::start(by_path));
    let mut client = gateway.home.client();
    let bind = json!({ "pid": std::process::id() });
    let params = json!({ "provider": "anthropic", "bind": bind, "label": "agent-1", "agent": "claude" });
    let lease = client.call("lease.acquire", params);
    let access = client.call("gateway.key", json!({ "lease": lease["lease"], "directory": "/work/x" }));
    let before = now();
    assert_eq!(gateway.http_client().send(&ask("switched", access["key"].as_str().unwrap())).status(), 200);
    let row = &rows(&gateway, 1)[0];
    assert!((before..=now()).contains(&row["at"].as_u64().unwrap()), "{row:#}");
    let current = &client.call("lease.list", json!({}))[0];
    for (field, value) in [
        ("agent", json!("claude")),
        ("label", json!("agent-1")),
        ("directory", json!("/work/x")),
        ("session", json!("s-1")),
        ("provider", json!("anthropic")),
        ("model", json!("m")),
        ("path", json!("/v1/switched")),
        ("lease", current["lease"].clone()),
        ("account", current["account"].clone()),
        ("tokens", json!({ "input": 8, "output": 7, "cached": 2, "cache_written": 1 })),
    ] {
        assert_eq!(row[field], value, "{field}: {row:#}");
    }
    assert_eq!(row["holder"]["pid"], std::process::id(), "{row:#}");
    assert!(row["holder"]["program"].is_string(), "{row:#}");
    let refused = &row["attempts"][0];
    assert_eq!((&refused["status"], &refused["reason"]), (&json!(429), &json!("rate_limit_exceeded")));
    assert!(refused["until"].as_u64().unwrap() > before + 3_000_000, "{row:#}");
    let evidence = refused["evidence"].as_str().unwrap();
    assert!(evidence.contains("slow down") && !evidence.contains("canary"), "{evidence}");
    assert!(row["attempts"][1]["reason"].is_null() && row["attempts"][1]["status"] == 200, "{row:#}");
    let time = |of: &Value| of.as_u64().unwrap();
    assert!(
        time(&row["first_byte_ms"]) <= time(&row["duration_ms"])
            && time(&row["waited_ms"]) <= time(&row["duration_ms"])
    );
    // with a lasting key, the program at the other end of the connection
    let mut http = gateway.http_client();
    assert_eq!(http.send(&ask("plain", &gateway.key)).status(), 200);
    let row = &rows(&gateway, 2)[1];
    assert_eq!((&row["holder"]["pid"], &row["agent"]), (&json!(std::process::id()), &json!("test")), "{row:#}");
    let here = std::env::current_dir().unwrap();
    assert_eq!(row["directory"], here.to_str().unwrap(), "{row:#}");
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn a_request_that_the_restart_of_the_daemon_cuts_is_recorded() {
    let mut gateway = TestGateway::new("a", Upstream::start(by_path));
    let mut http = gateway.http_client();
    http.write(&ask("cut", &gateway.key));
    http.read_until("content_block_delta");
    gateway.home.client().restart(10);
    while http.stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    gateway.connect();
    check(&rows(&gateway, 1)[0], ("cut", "broken", 200, "the daemon was stopped or restarted", &["a"]));
}
