//! Bytes in are bytes out, but for the credential.

use std::io::Write;

use crate::scene::{Scene, request};
use crate::upstream::{Message, Upstream};

/// A request that goes in, below `POST /provider`, and how its line comes out.
struct Row {
    line: &'static str,
    out: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
}

/// What claude, codex, gemini and SDKs send, cut short.
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
    Row { line: "DELETE /openai/v1//files/../%7Ea?", out: "DELETE /v1//files/../%7Ea? HTTP/1.1", headers: &[], body: b"" },
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
fn requests_come_out_as_they_went_in() {
    let upstream = Upstream::by_key(|_| (200, "", "{}"));
    let scene = Scene::new("a", upstream);
    scene.add("openai", "api_key", "o");
    scene.add("google", "api_key", "g");
    // on one connection, as agents do
    let mut visitor = scene.visitor();
    for row in REQUESTS {
        let answer = visitor.ask(&sent(row, &scene.key));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"), "{}", row.line);
        let asked = scene.upstream.asked().pop().unwrap();
        assert_eq!(asked.line, row.out);
        assert_eq!(asked.body, row.body, "{}", row.line);
        let expected: Vec<_> =
            row.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(rest(&asked), expected, "{}", row.line);
        assert_eq!(asked.header("host"), Some(format!("127.0.0.1:{}", scene.upstream.port).as_str()));
        let all = format!("{asked:?}");
        assert!(!all.contains(&scene.key), "our key went upstream: {all}");
        assert!(asked.key().starts_with("k-"), "{all}");
    }
}

#[test]
fn a_chunked_request_stays_one_and_keeps_its_trailers() {
    let scene = Scene::new("a", Upstream::by_key(|_| (200, "", "{}")));
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n",
        scene.key
    );
    let body = "5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 11\r\n\r\n";
    assert_eq!(scene.visitor().ask(format!("{head}{body}").as_bytes()).status(), 200);
    let asked = scene.upstream.asked().pop().unwrap();
    assert_eq!((asked.text().as_str(), asked.header("transfer-encoding")), ("hello world", Some("chunked")));
    assert_eq!(asked.trailers, [("x-sum".to_owned(), "11".to_owned())]);
}

/// An answer as the upstream says it; what comes out is the same but for what is of the connection, and what we add.
const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 Fine\r\nX-Mixed-Case: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nretry-after: 5\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 201 Created\r\nDate: Sat, 21 Nov 2026 17:00:11 GMT\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://elsewhere.example/v1\r\ncontent-length: 2\r\n\r\nno",
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nrequest-id: r1\r\ncontent-length: 76\r\n\r\n{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no body\"}}",
    "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>",
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 22\r\n\r\nnot gzip, but not ours",
];

#[test]
fn answers_come_out_as_they_went_in() {
    let scene = Scene::new("a", {
        Upstream::start(|asked, stream| {
            let number: usize = asked.header("x-answer").unwrap().parse().unwrap();
            stream.write_all(ANSWERS[number].as_bytes()).is_ok()
        })
    });
    let mut visitor = scene.visitor();
    for (number, answer) in ANSWERS.iter().enumerate() {
        let headers = format!("x-api-key: {}\r\nx-answer: {number}\r\n", scene.key);
        let heard = visitor.ask(&request("POST /anthropic/v1/messages", &headers, "{}"));
        let said = Message::read(&mut answer.as_bytes(), false).unwrap();
        assert_eq!((&heard.line, heard.text()), (&said.line, said.text()));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            heard.headers.iter().cloned().partition(|(name, _)| name.starts_with("x-lessor-"));
        assert_eq!(theirs, said.headers, "{answer}");
        let expected = [("x-lessor-account", "a"), ("x-lessor-attempts", "1")];
        assert_eq!(ours, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[test]
fn a_head_has_no_body_and_all_headers() {
    let scene = Scene::new(
        "a",
        Upstream::start(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nx: y\r\n\r\n").is_ok()
        }),
    );
    let mut visitor = scene.visitor();
    for _ in 0..2 {
        let asked =
            format!("HEAD /anthropic/api/hello HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", scene.key);
        let head = visitor.ask_for_head(asked.as_bytes());
        assert_eq!((head.status(), head.header("content-length"), head.header("x")), (200, Some("1234"), Some("y")));
    }
}
