//! What `/metrics` counts: a response that the client has received in full is complete, however its end is marked.

use std::io::{Read, Write};

use crate::harness::{HttpClient, TestGateway, request};
use crate::support::wait_until;
use crate::upstream::{Message, Upstream, begin_stream, chunk, end_stream, respond};

/// Waits until the gateway has counted `count` responses of this outcome in sum, and checks that no other outcome is.
fn wait_for(gateway: &TestGateway, outcome: &str, count: u64) {
    let mut rows = Vec::new();
    wait_until(&format!("{count} × {outcome}"), || {
        let metrics = gateway.metrics();
        rows = metrics.lines().filter(|line| line.starts_with("lessor_requests_total")).map(str::to_owned).collect();
        let total: f64 = rows.iter().filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        total >= count as f64
    });
    let wanted = format!("outcome=\"{outcome}\"");
    assert!(rows.iter().all(|row| row.contains(&wanted)), "{rows:#?}");
}

/// The requests under way: on the accounts `a` and `b`, and of the whole gateway.
fn in_flight(gateway: &TestGateway) -> [u64; 3] {
    let of = |label| gateway.account(label)["in_flight"].as_u64().unwrap();
    let all = gateway.home.client().call("status", serde_json::json!({}));
    [of("a"), of("b"), all["in_flight"].as_u64().unwrap()]
}

fn ask(gateway: &TestGateway, line: &str, more: &str) -> Vec<u8> {
    let headers = format!("x-api-key: {}\r\ncontent-type: application/json\r\n{more}", gateway.key);
    request(line, &headers, r#"{"model":"m"}"#)
}

/// Responds in the way that the path names.
fn by_path(received: &Message, stream: &mut std::net::TcpStream) -> bool {
    let path = received.target();
    if path.ends_with("/length") {
        respond(stream, 200, "content-type: application/json\r\n", r#"{"type":"message"}"#)
    } else if path.ends_with("/pieces") {
        // the rest comes later than the beginning
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n01234";
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.flush());
        sent.and_then(|()| stream.write_all(b"56789")).is_ok()
    } else if path.ends_with("/chunked") {
        begin_stream(stream) && chunk(stream, "data: {\"type\":\"x\"}\n\n") && end_stream(stream)
    } else if path.ends_with("/empty") {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok()
    } else if path.ends_with("/to-the-end") {
        let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end");
        false
    } else {
        respond(stream, 200, "", "{}")
    }
}

#[test]
fn every_way_to_end_a_response_counts_as_complete() {
    let gateway = TestGateway::new("a", Upstream::start(by_path));
    let mut sent = 0;
    for path in ["length", "pieces", "chunked", "empty", "to-the-end"] {
        let line = format!("POST /anthropic/v1/{path}");
        // one after the other on one connection, and one on a connection that closes
        let mut http = gateway.http_client();
        for _ in 0..2 {
            assert!(http.send(&ask(&gateway, &line, "")).complete, "{path}");
        }
        assert!(gateway.http_client().send(&ask(&gateway, &line, "connection: close\r\n")).complete, "{path}");
        sent += 3;
        wait_for(&gateway, "ok", sent);
    }
    let head = format!("HEAD /anthropic/api/hello HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", gateway.key);
    gateway.http_client().send_for_head(head.as_bytes());
    wait_for(&gateway, "ok", sent + 1);
}

#[test]
fn a_client_that_closes_after_the_last_byte_or_event_has_the_whole_answer() {
    let upstream = Upstream::start(|received, stream| {
        if received.target().ends_with("/stream") {
            begin_stream(stream);
            chunk(stream, "event: message_start\ndata: {\"type\":\"message_start\"}\n\n");
            chunk(stream, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
            // the upstream keeps the stream open until the gateway closes it
            let _closed = stream.read(&mut [0]);
            return false;
        }
        by_path(received, stream)
    });
    let gateway = TestGateway::new("a", upstream);
    let mut streaming = gateway.http_client();
    streaming.write(&ask(&gateway, "POST /anthropic/v1/stream", ""));
    streaming.read_until("message_stop\"}\n\n");
    drop(streaming);
    wait_for(&gateway, "ok", 1);
    let mut http: HttpClient = gateway.http_client();
    http.write(&ask(&gateway, "POST /anthropic/v1/pieces", ""));
    http.read_until("56789");
    drop(http);
    wait_for(&gateway, "ok", 2);
}

#[test]
fn a_response_that_breaks_off_counts_as_broken() {
    let upstream = Upstream::start(|_, stream| {
        let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n01234");
        false
    });
    let gateway = TestGateway::new("a", upstream);
    let mut http = gateway.http_client();
    http.write(&ask(&gateway, "POST /anthropic/v1/x", ""));
    http.read_until("01234");
    wait_for(&gateway, "broken", 1);
}

#[test]
fn a_request_is_in_flight_on_its_account_until_its_response_has_ended() {
    const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#;
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let upstream = Upstream::start(move |received, stream| {
        if received.key() == "k-a" {
            return respond(stream, 429, "retry-after: 3600\r\n", LIMITED);
        }
        if received.target().ends_with("/silent") {
            // until the gateway closes it
            let _closed = stream.read(&mut [0]);
            return false;
        }
        begin_stream(stream) && chunk(stream, "data: {\"type\":\"x\"}\n\n") && {
            may_go_on.lock().unwrap().recv().unwrap();
            end_stream(stream)
        }
    });
    let gateway = TestGateway::with("[selection]\npreferred_account = \"a\"", "ab", upstream);
    let mut http = gateway.http_client();
    http.write(&ask(&gateway, "POST /anthropic/v1/stream", ""));
    http.read_until("data:");
    // the account that refused it first has none
    assert_eq!(in_flight(&gateway), [0, 1, 1]);
    go_on.send(()).unwrap();
    wait_until("the stream has ended", || in_flight(&gateway) == [0, 0, 0]);
    let mut silent = gateway.http_client();
    silent.write(&ask(&gateway, "POST /anthropic/v1/silent", ""));
    wait_until("it is sent", || in_flight(&gateway) == [0, 1, 1]);
    drop(silent);
    wait_until("its client has gone", || in_flight(&gateway) == [0, 0, 0]);
}
