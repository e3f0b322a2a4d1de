//! Where the gateway listens, and which requests it rejects.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, messages, request};
use crate::support::{Home, wait_until};
use crate::upstream::{Message, Upstream};

fn gateway(config: &str) -> TestGateway {
    TestGateway::with(config, "a", Upstream::by_key(|_| (200, "", "{}")))
}

fn url(home: &Home) -> Value {
    home.client().call("status", json!({}))["gateway"]["url"].clone()
}

#[test]
fn requests_without_a_key_and_from_web_pages_are_rejected() {
    let gateway = gateway("");
    let key = &gateway.key;
    for (line, headers, status) in [
        ("GET /healthz", String::new(), 200),
        ("GET /metrics", String::new(), 401),
        ("GET /metrics", format!("x-goog-api-key: {key}\r\n"), 200),
        ("POST /anthropic/v1/messages", String::new(), 401),
        ("POST /anthropic/v1/messages", "x-api-key: lk_wrong\r\n".to_owned(), 401),
        ("POST /anthropic/v1/messages", "authorization: Bearer sk-ant-of-the-user\r\n".to_owned(), 401),
        ("POST /anthropic/v1/messages", format!("authorization: Bearer {key}\r\n"), 200),
        ("POST /anthropic/v1/messages", format!("x-api-key: wrong\r\nauthorization: Bearer {key}\r\n"), 200),
        ("POST /unknown/v1/messages", format!("x-api-key: {key}\r\n"), 404),
        ("GET /", format!("x-api-key: {key}\r\n"), 404),
        ("GET /unknown", String::new(), 401),
        ("POST /anthropic/v1/messages", format!("x-api-key: {key}\r\norigin: http://evil.example\r\n"), 403),
        ("OPTIONS /anthropic/v1/messages", "origin: null\r\n".to_owned(), 403),
        ("GET /healthz", "origin: http://127.0.0.1:1\r\n".to_owned(), 403),
        (
            "GET /anthropic/v1/x",
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n".to_owned(),
            426,
        ),
        ("POST /google/v1beta/models/antigravity-gemini-3-flash:x", format!("x-api-key: {key}\r\n"), 400),
    ] {
        let response = gateway.http_client().send(&request(line, &headers, ""));
        assert_eq!(response.status(), status, "{line} {headers}: {response:?}");
    }
    let by_query = request(&format!("POST /anthropic/v1/messages?key={key}"), "", "{}");
    assert_eq!(gateway.http_client().send(&by_query).status(), 200);
    for (host, status) in [("localhost:1", 200), ("[::1]", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)]
    {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(gateway.http_client().send(request.as_bytes()).status(), status, "{host}");
    }
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(gateway.http_client().send(absolute.as_bytes()).status(), 403);
    assert_eq!(gateway.http_client().send(b"GET /healthz HTTP/1.0\r\n\r\n").status(), 403, "without a Host header");
    assert!(gateway.upstream.keys().iter().all(|key| key == "k-a"));
}

#[test]
fn a_request_that_is_too_large_is_refused_before_it_is_forwarded() {
    let gateway = gateway("[gateway]\nmax_body = \"1KiB\"");
    let mut http = gateway.http_client();
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-length: 1025\r\n\r\n",
        gateway.key
    );
    // refused by its announced length, before the body is sent
    let response = http.send(head.as_bytes());
    assert_eq!((response.status(), &response.json()["error"]["type"]), (413, &json!("request_too_large")));
    let chunked = head.replace("content-length: 1025", "transfer-encoding: chunked");
    let response = gateway.http_client().send(format!("{chunked}401\r\n{}\r\n", "x".repeat(1025)).as_bytes());
    assert_eq!(response.status(), 413);
    assert_eq!(gateway.http_client().send(&messages(&gateway.key, &"x".repeat(1024))).status(), 200);
    assert_eq!(gateway.upstream.keys().len(), 1);
}

#[test]
fn the_unix_socket_needs_no_key() {
    let gateway = gateway("");
    let path = gateway.home.client().call("status", json!({}))["gateway"]["socket"].as_str().unwrap().to_owned();
    assert_eq!(path, gateway.home.path().join("run/gateway.sock").display().to_string());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let ask = |headers: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        let request =
            format!("POST /anthropic/messages HTTP/1.1\r\nhost: anything\r\n{headers}content-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).unwrap();
        Message::read(&mut BufReader::new(stream), false).unwrap().status()
    };
    assert_eq!(ask(""), 200);
    assert_eq!(ask("x-api-key: unknown\r\n"), 200);
    assert_eq!(ask("origin: http://evil.example\r\n"), 403);
    assert_eq!(gateway.upstream.received().pop().unwrap().key(), "k-a");
    // a client that reads to the end sees it at once, not after the time for silent clients
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(4))).unwrap();
    let request = "POST /anthropic/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_address_changes_at_run_time_and_the_chosen_port_is_kept() {
    let mut gateway = gateway("");
    let config = gateway.home.path().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let mut old = gateway.http_client();
    // the gateway has accepted it: a connection that still waits in the backlog closes with the listener
    assert_eq!(old.send(&messages(&gateway.key, "{}")).status(), 200);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(&config, format!("[gateway]\nlisten = \"127.0.0.1:{free}\"\n{before}")).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("the gateway listens on the configured port", || {
        url(&gateway.home) == format!("http://127.0.0.1:{free}")
    });
    assert_eq!(HttpClient::connect(free).send(&messages(&gateway.key, "{}")).status(), 200);
    assert_eq!(old.send(&messages(&gateway.key, "{}")).status(), 200, "existing connections stay open");
    std::fs::write(&config, format!("[gateway]\nenabled = false\n{before}")).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("the gateway is off", || gateway.home.client().call("status", json!({}))["gateway"].is_null());
    std::fs::write(&config, &before).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("the gateway listens on its old port", || {
        url(&gateway.home) == format!("http://127.0.0.1:{}", gateway.port)
    });
    gateway.home.stop();
    gateway.home.start();
    assert_eq!(url(&gateway.home), format!("http://127.0.0.1:{}", gateway.port));
}

#[test]
fn a_taken_port_disables_the_gateway_and_not_the_daemon() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut home = Home::new(&format!("[gateway]\nlisten = \"127.0.0.1:{port}\"\nsocket = \"off\""));
    home.start();
    let status = home.client().call("status", json!({}));
    assert!(status["gateway"].is_null(), "{status}");
    assert!(status["warnings"].to_string().contains(&port.to_string()), "{status}");
    let access = home.client().call("gateway.key", json!({}));
    assert!(access["url"].is_null() && access["trouble"].as_str().unwrap().contains("gateway.listen"), "{access}");
    home.client().add("a");
    home.client().acquire();
}

#[test]
fn an_upstream_is_reached_through_the_provider_s_proxy() {
    let proxy = Upstream::by_key(|_| (200, "", "through the proxy"));
    let config = format!("[providers.llm]\nbase_url = \"http://llm.example/v1\"\nproxy = \"{}\"", proxy.url());
    let gateway = gateway(&config);
    gateway.add("llm", "api_key", "p");
    let headers = format!("authorization: Bearer {}\r\n", gateway.key);
    let response = gateway.http_client().send(&request("POST /llm/chat?x=1", &headers, "{}"));
    assert_eq!(response.text(), "through the proxy");
    let request = proxy.received().pop().unwrap();
    assert_eq!((request.target(), request.key().as_str()), ("http://llm.example/v1/chat?x=1", "k-p"));
}

#[test]
fn an_unreadable_certificate_file_is_named_in_the_error() {
    let config = "[providers.llm]\nbase_url = \"https://127.0.0.1:1\"\nca_file = \"/nowhere/ca.pem\"";
    let gateway = gateway(config);
    gateway.add("llm", "api_key", "p");
    let headers = format!("authorization: Bearer {}\r\n", gateway.key);
    let response = gateway.http_client().send(&request("POST /llm/chat", &headers, "{}"));
    assert_eq!(response.status(), 502);
    assert!(response.text().contains("/nowhere/ca.pem"), "{}", response.text());
}
