//! Where it listens, and who is turned away.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::scene::{Scene, Visitor, messages, request};
use crate::support::{Home, wait_until};
use crate::upstream::{Message, Upstream};

fn scene(config: &str) -> Scene {
    Scene::with(config, "a", Upstream::by_key(|_| (200, "", "{}")))
}

fn url(home: &Home) -> Value {
    home.client().call("status", json!({}))["gateway"]["url"].clone()
}

#[test]
fn only_who_has_a_key_and_no_web_page_comes_in() {
    let scene = scene("");
    let key = &scene.key;
    for (line, headers, status) in [
        ("GET /healthz", String::new(), 200),
        ("GET /metrics", String::new(), 401),
        ("GET /metrics", format!("x-goog-api-key: {key}\r\n"), 200),
        ("POST /anthropic/v1/messages", String::new(), 401),
        ("POST /anthropic/v1/messages", "x-api-key: lk_wrong\r\n".to_owned(), 401),
        ("POST /anthropic/v1/messages", "authorization: Bearer sk-ant-of-the-user\r\n".to_owned(), 401),
        ("POST /anthropic/v1/messages", format!("authorization: Bearer {key}\r\n"), 200),
        ("POST /anthropic/v1/messages", format!("x-api-key: wrong\r\nauthorization: Bearer {key}\r\n"), 200),
        ("POST /nobody/v1/messages", format!("x-api-key: {key}\r\n"), 404),
        ("GET /", format!("x-api-key: {key}\r\n"), 404),
        ("GET /nobody", String::new(), 401),
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
        let answer = scene.visitor().ask(&request(line, &headers, ""));
        assert_eq!(answer.status(), status, "{line} {headers}: {answer:?}");
    }
    let by_query = request(&format!("POST /anthropic/v1/messages?key={key}"), "", "{}");
    assert_eq!(scene.visitor().ask(&by_query).status(), 200);
    for (host, status) in [("localhost:1", 200), ("[::1]", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)]
    {
        let asked = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(scene.visitor().ask(asked.as_bytes()).status(), status, "{host}");
    }
    let absolute = "GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(scene.visitor().ask(absolute.as_bytes()).status(), 403);
    assert_eq!(scene.visitor().ask(b"GET /healthz HTTP/1.0\r\n\r\n").status(), 403, "no host at all");
    assert!(scene.upstream.keys().iter().all(|key| key == "k-a"));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let scene = scene("[gateway]\nmax_body = \"1KiB\"");
    let mut visitor = scene.visitor();
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-length: 1025\r\n\r\n",
        scene.key
    );
    // not a byte of the body is needed
    let answer = visitor.ask(head.as_bytes());
    assert_eq!((answer.status(), &answer.json()["error"]["type"]), (413, &json!("request_too_large")));
    let chunked = head.replace("content-length: 1025", "transfer-encoding: chunked");
    let answer = scene.visitor().ask(format!("{chunked}401\r\n{}\r\n", "x".repeat(1025)).as_bytes());
    assert_eq!(answer.status(), 413);
    assert_eq!(scene.visitor().ask(&messages(&scene.key, &"x".repeat(1024))).status(), 200);
    assert_eq!(scene.upstream.keys().len(), 1);
}

#[test]
fn the_user_s_own_socket_needs_no_key() {
    let scene = scene("");
    let path = scene.home.client().call("status", json!({}))["gateway"]["socket"].as_str().unwrap().to_owned();
    assert_eq!(path, scene.home.path().join("run/gateway.sock").display().to_string());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let ask = |headers: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        let asked =
            format!("POST /anthropic/messages HTTP/1.1\r\nhost: anything\r\n{headers}content-length: 2\r\n\r\n{{}}");
        stream.write_all(asked.as_bytes()).unwrap();
        Message::read(&mut BufReader::new(stream), false).unwrap().status()
    };
    assert_eq!(ask(""), 200);
    assert_eq!(ask("x-api-key: whatever\r\n"), 200);
    assert_eq!(ask("origin: http://evil.example\r\n"), 403);
    assert_eq!(scene.upstream.asked().pop().unwrap().key(), "k-a");
}

#[test]
fn it_moves_while_it_runs_and_its_port_is_kept() {
    let mut scene = scene("");
    let config = scene.home.path().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let mut old = scene.visitor();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(&config, format!("[gateway]\nlisten = \"127.0.0.1:{free}\"\n{before}")).unwrap();
    scene.home.client().call("config.reload", json!({}));
    wait_until("it listens elsewhere", || url(&scene.home) == format!("http://127.0.0.1:{free}"));
    assert_eq!(Visitor::connect(free).ask(&messages(&scene.key, "{}")).status(), 200);
    assert_eq!(old.ask(&messages(&scene.key, "{}")).status(), 200, "who was there is not sent away");
    std::fs::write(&config, format!("[gateway]\nenabled = false\n{before}")).unwrap();
    scene.home.client().call("config.reload", json!({}));
    wait_until("it is off", || scene.home.client().call("status", json!({}))["gateway"].is_null());
    std::fs::write(&config, &before).unwrap();
    scene.home.client().call("config.reload", json!({}));
    wait_until("it is where it was", || url(&scene.home) == format!("http://127.0.0.1:{}", scene.port));
    scene.home.stop();
    scene.home.start();
    assert_eq!(url(&scene.home), format!("http://127.0.0.1:{}", scene.port));
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
fn an_upstream_is_reached_by_the_provider_s_own_proxy() {
    let proxy = Upstream::by_key(|_| (200, "", "by proxy"));
    let config = format!("[providers.llm]\nbase_url = \"http://llm.example/v1\"\nproxy = \"{}\"", proxy.url());
    let scene = scene(&config);
    scene.add("llm", "api_key", "p");
    let headers = format!("authorization: Bearer {}\r\n", scene.key);
    let answer = scene.visitor().ask(&request("POST /llm/chat?x=1", &headers, "{}"));
    assert_eq!(answer.text(), "by proxy");
    let asked = proxy.asked().pop().unwrap();
    assert_eq!((asked.target(), asked.key().as_str()), ("http://llm.example/v1/chat?x=1", "k-p"));
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let config = "[providers.llm]\nbase_url = \"https://127.0.0.1:1\"\nca_file = \"/nowhere/ca.pem\"";
    let scene = scene(config);
    scene.add("llm", "api_key", "p");
    let headers = format!("authorization: Bearer {}\r\n", scene.key);
    let answer = scene.visitor().ask(&request("POST /llm/chat", &headers, "{}"));
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("/nowhere/ca.pem"), "{}", answer.text());
}
