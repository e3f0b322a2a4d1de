//! An answer that comes while the client still sends its request reaches the client.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::json;

use crate::harness::{TestGateway, request};
use crate::support::PATIENCE;
use crate::upstream::{Message, Upstream};

/// More than the buffers of a connection take.
const LARGE: usize = 24 << 20;

/// Sends a head and all of a body, as clients do that read nothing before, and reads the answer to its end.
fn send_all(gateway: &TestGateway, head: &str, body: &[u8]) -> Message {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap_or_else(|error| panic!("the body cannot be sent: {error}"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("the answer cannot be read: {error}"));
    let _closed = stream.shutdown(Shutdown::Both);
    Message::read(&mut &answer[..], false).expect("an answer")
}

fn head(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n")
}

#[test]
fn every_early_answer_is_readable_after_a_large_request() {
    let gateway = TestGateway::with("[gateway]\nmax_body = \"1MiB\"", "a", Upstream::by_key(|_| (200, "", "{}")));
    let (key, body) = (format!("x-api-key: {}\r\n", gateway.key), vec![b'x'; LARGE]);
    let length = format!("content-length: {LARGE}\r\n");
    for (line, headers, status) in [
        ("POST /anthropic/v1/messages", format!("{key}{length}"), 413),
        ("POST /anthropic/v1/messages", length.clone(), 401),
        ("POST /anthropic/v1/messages", format!("{key}origin: http://x.example\r\n{length}"), 403),
        ("POST /unknown/v1/messages", format!("{key}{length}"), 404),
    ] {
        let answer = send_all(&gateway, &head(line, &headers), &body);
        assert_eq!((answer.status(), answer.complete), (status, true), "{line} {headers}");
    }
    let mut chunked = format!("{LARGE:x}\r\n").into_bytes();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = send_all(
        &gateway,
        &head("POST /anthropic/v1/messages", &format!("{key}transfer-encoding: chunked\r\n")),
        &chunked,
    );
    assert_eq!((answer.status(), &answer.json()["error"]["type"]), (413, &json!("request_too_large")));
    assert!(gateway.upstream.keys().is_empty());
    // an invalid head
    let answer = send_all(&gateway, "POST /anthropic/v1/messages HTTP/1.1\r\nno header\r\n\r\n", &body);
    assert_eq!(answer.status(), 400);
}

#[test]
fn a_request_that_turns_out_too_large_while_it_is_forwarded_gets_the_same_answer() {
    let config = "[gateway]\nmax_body = \"1MiB\"\nbuffer_total = \"1MiB\"";
    let gateway = TestGateway::with(config, "a", Upstream::by_key(|_| (200, "", "{}")));
    // this one takes the whole buffer while it is sent
    let mut other = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let announced = format!("x-api-key: {}\r\ncontent-length: {}\r\n", gateway.key, 1 << 20);
    other.write_all(head("POST /anthropic/v1/messages", &announced).as_bytes()).unwrap();
    let mut chunked = format!("{LARGE:x}\r\n").into_bytes();
    chunked.extend_from_slice(&vec![b'x'; LARGE]);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let headers = format!("x-api-key: {}\r\ntransfer-encoding: chunked\r\n", gateway.key);
    let answer = send_all(&gateway, &head("POST /anthropic/v1/messages", &headers), &chunked);
    assert_eq!((answer.status(), &answer.json()["error"]["type"]), (413, &json!("request_too_large")), "{answer:?}");
    assert_eq!(gateway.account("a")["state"], "ready");
}

#[test]
fn a_rejected_request_that_was_received_in_full_keeps_its_connection() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let mut http = gateway.http_client();
    let rejected = request("POST /anthropic/v1/messages", "x-api-key: lk_wrong\r\n", "{}");
    assert_eq!(http.send(&rejected).status(), 401);
    let accepted = request("POST /anthropic/v1/messages", &format!("x-api-key: {}\r\n", gateway.key), "{}");
    assert_eq!(http.send(&accepted).status(), 200);
}
