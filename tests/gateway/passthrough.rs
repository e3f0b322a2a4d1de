//! Requests and responses pass through unchanged, except for the credential.

use std::io::Write;

use crate::harness::{TestGateway, request};
use crate::upstream::{Message, Upstream};

/// A request to the gateway, and the request line that the upstream receives.
struct Row {
    line: &'static str,
    out: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
}

/// What claude, codex, gemini and SDKs send, shortened.
const REQUESTS: &[Row] = &[
    Row {
        line: "POST /anthropic/v1/messages?beta=true",
        out: "POST /v1/messages?beta=true HTTP/1.1",
        headers: &[
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
            ("User-Agent", "claude-cli/2.1.329 (external, sdk-cli)"),
            ("X-Claude-Code-Session-Id", "5d1c0e0a-0000-4000-8000-000000000000"),
            ("X-Stainless-Lang", "js"),
            ("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14"),
            ("anthropic-version", "2023-06-01"),
            ("x-app", "cli"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ],
        body: b"{\"model\":\"claude-sonnet-4-5\", \"messages\" : [ {\"role\":\"user\",\"content\":\"\xc3\xa4 \\u00e4\"} ],\"stream\":true}",
    },
    Row { line: "POST /anthropic/messages", out: "POST /v1/messages HTTP/1.1", headers: &[("x-dup", "1"), ("X-Dup", "2"), ("x-empty", "")], body: b"not json" },
    Row {
        line: "POST /openai/v1/responses",
        out: "POST /v1/responses HTTP/1.1",
        headers: &[("content-encoding", "zstd"), ("session_id", "s"), ("OpenAI-Beta", "responses=experimental")],
        body: b"\x28\xb5\x2f\xfd\x04\x00\xff\x00\x01\x02 no frame at all",
    },
    Row {
        line: "POST /google/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse&key=KEY&x=%2F%20+;",
        out: "POST /v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse&x=%2F%20+; HTTP/1.1",
        headers: &[("x-goog-api-client", "gl-node/22")],
        body: b"{}",
    },
    Row { line: "DELETE /openai/v1//files/..%7Ea?", out: "DELETE /v1//files/..%7Ea? HTTP/1.1", headers: &[], body: b"" },
    Row { line: "GET /anthropic/v1/models", out: "GET /v1/models HTTP/1.1", headers: &[], body: b"" },
];

const HOP: [&str; 6] = ["host", "connection", "x-api-key", "authorization", "x-goog-api-key", "content-length"];

fn rest(message: &Message) -> Vec<(String, String)> {
    message.headers.iter().filter(|(name, _)| !HOP.contains(&name.to_ascii_lowercase().as_str())).cloned().collect()
}

fn sent(row: &Row, key: &str) -> Vec<u8> {
    let mut bytes = format!("{} HTTP/1.1\r\nHost: localhost\r\n", row.line.replace("KEY", key)).into_bytes();
    for (name, value) in row.headers {
        write!(bytes, "{name}: {value}\r\n").unwrap();
    }
    if !row.line.contains("KEY") {
        write!(bytes, "Authorization: Bearer {key}\r\n").unwrap();
    }
    if !row.body.is_empty() {
        write!(bytes, "Content-Length: {}\r\n", row.body.len()).unwrap();
    }
    bytes.extend_from_slice(b"Connection: keep-alive\r\n\r\n");
    bytes.extend_from_slice(row.body);
    bytes
}

#[test]
fn requests_are_forwarded_unchanged() {
    let upstream = Upstream::by_key(|_| (200, "", "{}"));
    let gateway = TestGateway::new("a", upstream);
    gateway.add("openai", "api_key", "o");
    gateway.add("google", "api_key", "g");
    // on one connection, like agents
    let mut http = gateway.http_client();
    for row in REQUESTS {
        let response = http.send(&sent(row, &gateway.key));
        assert_eq!((response.status(), response.text().as_str()), (200, "{}"), "{}", row.line);
        let request = gateway.upstream.received().pop().unwrap();
        assert_eq!(request.line, row.out);
        assert_eq!(request.body, row.body, "{}", row.line);
        let expected: Vec<_> =
            row.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(rest(&request), expected, "{}", row.line);
        assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", gateway.upstream.port).as_str()));
        let all = format!("{request:?}");
        assert!(!all.contains(&gateway.key), "the gateway's key was sent upstream: {all}");
        assert!(request.key().starts_with("k-"), "{all}");
    }
}

#[test]
fn a_chunked_request_stays_chunked_and_keeps_its_trailers() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n",
        gateway.key
    );
    let body = "5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n";
    assert_eq!(gateway.http_client().send(format!("{head}{body}").as_bytes()).status(), 200);
    let request = gateway.upstream.received().pop().unwrap();
    assert_eq!((request.text().as_str(), request.header("transfer-encoding")), ("hello world", Some("chunked")));
    assert_eq!(request.trailers, [("x-sum".to_owned(), "11".to_owned())]);
}

/// Responses of the upstream: the client gets them unchanged, plus the headers that lessor adds.
const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 Fine\r\nX-Mixed-Case: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nretry-after: 5\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 201 Created\r\nDate: Sat, 21 Nov 2026 17:00:11 GMT\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://elsewhere.example/v1\r\ncontent-length: 2\r\n\r\nno",
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nrequest-id: r1\r\ncontent-length: 76\r\n\r\n{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no body\"}}",
    "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 22\r\n\r\nnot gzip, yet relayed!",
];

#[test]
fn responses_are_relayed_unchanged() {
    let gateway = TestGateway::new("a", {
        Upstream::start(|request, stream| {
            let number: usize = request.header("x-response").unwrap().parse().unwrap();
            stream.write_all(ANSWERS[number].as_bytes()).is_ok()
        })
    });
    let mut http = gateway.http_client();
    for (number, response) in ANSWERS.iter().enumerate() {
        let headers = format!("x-api-key: {}\r\nx-response: {number}\r\n", gateway.key);
        let received = http.send(&request("POST /anthropic/v1/messages", &headers, "{}"));
        let sent = Message::read(&mut response.as_bytes(), false).unwrap();
        assert_eq!((&received.line, received.text()), (&sent.line, sent.text()));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            received.headers.iter().cloned().partition(|(name, _)| name.starts_with("x-lessor-"));
        assert_eq!(theirs, sent.headers, "{response}");
        let expected = [("x-lessor-account", "a"), ("x-lessor-attempts", "1")];
        assert_eq!(ours, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[test]
fn a_response_to_head_has_all_headers_and_no_body() {
    let gateway = TestGateway::new(
        "a",
        Upstream::start(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nx: y\r\n\r\n").is_ok()
        }),
    );
    let mut http = gateway.http_client();
    for _ in 0..2 {
        let request =
            format!("HEAD /anthropic/api/hello HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", gateway.key);
        let head = http.send_for_head(request.as_bytes());
        assert_eq!((head.status(), head.header("content-length"), head.header("x")), (200, Some("1234"), Some("y")));
    }
}
