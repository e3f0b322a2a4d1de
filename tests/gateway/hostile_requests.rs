//! Requests that mean another thing than they say: paths that lead out of their base, hosts of another machine, heads and
//! bodies that two programs read differently. Each gets one answer, and nothing of it reaches the upstream.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::harness::{HttpClient, TestGateway, request};
use crate::upstream::{Message, Upstream};

fn gateway() -> TestGateway {
    TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")))
}

fn socket(gateway: &TestGateway) -> UnixStream {
    let path = gateway.home.client().call("status", json!({}))["gateway"]["socket"].as_str().unwrap().to_owned();
    UnixStream::connect(path).unwrap()
}

#[test]
fn a_path_with_a_dot_segment_is_refused_and_never_forwarded() {
    let gateway = gateway();
    let headers = format!("x-api-key: {}\r\n", gateway.key);
    for path in [
        "/anthropic/../../x",
        "/anthropic/..",
        "/anthropic/./v1/messages",
        "/anthropic/%2e%2e/x",
        "/anthropic/%2E./x",
        "/anthropic/.%2e/x",
        "/anthropic/%252e%252e/x",
        "/anthropic/..;/x",
        "/anthropic/..%2fx",
        "/anthropic/..\\x",
        "/anthropic/%5c..%5cx",
        "/../healthz",
        "http://localhost/anthropic/../x",
    ] {
        let response = gateway.http_client().send(&request(&format!("GET {path}"), &headers, ""));
        assert_eq!(response.status(), 400, "{path}: {response:?}");
        assert!(response.text().contains("segment"), "{path}: {}", response.text());
        let mut stream = socket(&gateway);
        stream.write_all(&request(&format!("GET {path}"), "", "")).unwrap();
        assert_eq!(Message::read(&mut BufReader::new(stream), false).unwrap().status(), 400, "{path}");
    }
    assert!(gateway.upstream.received().is_empty(), "{:?}", gateway.upstream.received());
    // everything else passes byte for byte
    let path = "/anthropic/v1/files/a%2Fb%20c..d/...;x=%25?q=../%2e%2e";
    assert_eq!(gateway.http_client().send(&request(&format!("GET {path}"), &headers, "")).status(), 200);
    assert_eq!(gateway.upstream.received().pop().unwrap().target(), path.strip_prefix("/anthropic").unwrap());
}

#[test]
fn over_tcp_only_loopback_names_are_hosts_and_over_the_socket_any() {
    let gateway = gateway();
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:65535", 200),
        ("127.9.9.9", 200),
        ("[::1]:1", 200),
        ("agent.localhost:8080", 200),
        ("0.0.0.0", 403),
        ("192.168.1.1", 403),
        ("[::1].evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("localhost:80:80", 403),
        ("localhost, evil.example", 403),
        ("", 403),
    ] {
        let bytes = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(gateway.http_client().send(bytes.as_bytes()).status(), status, "{host}");
        let mut stream = socket(&gateway);
        stream.write_all(bytes.as_bytes()).unwrap();
        assert_eq!(Message::read(&mut BufReader::new(stream), false).unwrap().status(), 200, "{host}");
    }
}

/// What the gateway makes of bytes: the statuses of all its answers until it closes the connection.
fn statuses(gateway: &TestGateway, bytes: &[u8]) -> Vec<u16> {
    let mut http: HttpClient = gateway.http_client();
    http.write(bytes);
    let first = http.try_receive();
    // no more is sent: a connection that is still open ends. It may be closed already
    let _closed = http.stream.shutdown(std::net::Shutdown::Write);
    let rest = std::iter::from_fn(|| http.try_receive());
    first.into_iter().chain(rest).map(|answer| answer.status()).collect()
}

#[test]
fn heads_and_bodies_that_can_be_read_in_two_ways_are_refused() {
    let gateway = gateway();
    let key = format!("x-api-key: {}\r\n", gateway.key);
    let post = |rest: &str| format!("POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\n{key}{rest}");
    // a second request that is hidden in the body of the first
    let hidden = format!("GET /anthropic/v1/hidden HTTP/1.1\r\nhost: localhost\r\n{key}\r\n");
    let length = hidden.len();
    for (what, bytes) in [
        ("two hosts", post("host: localhost\r\ncontent-length: 0\r\n\r\n")),
        ("two hosts of which one is foreign", post("host: evil.example\r\ncontent-length: 0\r\n\r\n")),
        ("no host", format!("GET /anthropic/v1/x HTTP/1.1\r\n{key}\r\n")),
        ("a folded header", post("x-a: 1\r\n folded: 2\r\ncontent-length: 0\r\n\r\n")),
        ("a zero byte in a name", post("x-\0a: 1\r\ncontent-length: 0\r\n\r\n")),
        ("a zero byte in a value", post("x-a: \x001\r\ncontent-length: 0\r\n\r\n")),
        ("a blank before the colon", post("content-length : 0\r\n\r\n")),
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"))),
        ("two lengths in one", post(&format!("content-length: 0, {length}\r\n\r\n{hidden}"))),
        ("a signed length", post("content-length: +2\r\n\r\n{}")),
        ("a negative length", post("content-length: -1\r\n\r\n")),
        ("a length beyond all numbers", post("content-length: 99999999999999999999\r\n\r\n")),
        ("a hexadecimal length", post("content-length: 0x2\r\n\r\n{}")),
        ("an unknown transfer coding", post("transfer-encoding: gzip\r\n\r\n")),
        ("chunked, but not last", post("transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n")),
        ("a chunk beyond all numbers", post("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n")),
        ("a negative chunk", post("transfer-encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n")),
        ("a chunk without its end", post("transfer-encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n")),
        ("HTTP/2 without an agreement", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("an unknown version", format!("GET /anthropic/v1/x HTTP/3.7\r\nhost: localhost\r\n{key}\r\n")),
        ("a request line of an old protocol", "GET /anthropic/v1/x\r\n\r\n".to_owned()),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03\r\n\r\n".to_owned()),
    ] {
        let got = statuses(&gateway, bytes.as_bytes());
        assert!(got.len() <= 1 && got.iter().all(|status| (400..500).contains(status)), "{what}: {got:?}");
        assert!(gateway.upstream.received().is_empty(), "{what}: {:?}", gateway.upstream.received());
    }
}

#[test]
fn of_a_length_and_chunks_the_chunks_count_and_no_request_hides_in_them() {
    let gateway = gateway();
    let key = format!("x-api-key: {}\r\n", gateway.key);
    let hidden = format!("GET /anthropic/v1/hidden HTTP/1.1\r\nhost: localhost\r\n{key}\r\n");
    for headers in [
        format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", hidden.len() + 5),
        format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", hidden.len() + 5),
    ] {
        let bytes =
            format!("POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\n{key}{headers}\r\n0\r\n\r\n{hidden}");
        let before = gateway.upstream.received().len();
        let got = statuses(&gateway, bytes.as_bytes());
        let received = gateway.upstream.received().split_off(before);
        // whatever is forwarded, has one framing, so that the upstream sees the same requests
        assert!(got.len() <= 2, "{got:?}");
        for request in &received {
            let (length, coding) = (request.header("content-length"), request.header("transfer-encoding"));
            assert!(length.is_none() || coding.is_none(), "{request:?}");
            assert!(request.complete && request.text().is_empty(), "{request:?}");
        }
    }
}

#[test]
fn lines_that_end_in_a_bare_newline_are_one_request() {
    let gateway = gateway();
    let bytes = format!("GET /anthropic/v1/x HTTP/1.1\nhost: localhost\nx-api-key: {}\n\n", gateway.key);
    let got = statuses(&gateway, bytes.as_bytes());
    assert!(matches!(got[..], [200 | 400]), "{got:?}");
    for request in gateway.upstream.received() {
        assert!(request.headers.iter().all(|(_, value)| !value.contains('\n')), "{request:?}");
    }
    // a lone carriage return ends no line
    let bytes = format!(
        "GET /anthropic/v1/y HTTP/1.1\r\nhost: localhost\r\nx-a: b\rx-c: d\r\nx-api-key: {}\r\n\r\n",
        gateway.key
    );
    assert_eq!(statuses(&gateway, bytes.as_bytes()), [400]);
}

#[test]
fn garbage_ends_only_its_own_connection() {
    let gateway = gateway();
    let mut other = gateway.http_client();
    assert_eq!(other.send(&crate::harness::messages(&gateway.key, "{}")).status(), 200);
    for seed in 0_u8..16 {
        let bytes: Vec<u8> = (0..2000_u32).map(|at| (at as u8).wrapping_mul(seed.wrapping_mul(7) | 1) ^ seed).collect();
        let mut http = gateway.http_client();
        // the connection may be closed while it is written
        let _closed = http.stream.write_all(&bytes);
        let _closed = http.stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _reset = http.stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{seed}: {text}");
    }
    assert_eq!(other.send(&crate::harness::messages(&gateway.key, "{}")).status(), 200);
}
