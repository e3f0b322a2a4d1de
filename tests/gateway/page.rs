//! The page of the gateway, `/ui`: who gets in, what it answers, and what it never answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::{TestGateway, messages, request};
use crate::support::{Home, wait_until};
use crate::upstream::{Message, Upstream};

const SECRET: &str = "sk-ant-canary-of-the-page";

fn gateway(config: &str) -> TestGateway {
    TestGateway::with(config, "a", Upstream::by_key(|_| (200, "", "{}")))
}

/// A code for the page.
fn code(gateway: &TestGateway, actions: bool) -> String {
    let access = gateway.home.client().call("page.open", json!({ "actions": actions }));
    assert_eq!(access["url"], format!("http://127.0.0.1:{}/ui", gateway.port));
    assert_eq!(access["state"], "open");
    access["code"].as_str().unwrap().to_owned()
}

fn post(gateway: &TestGateway, path: &str, headers: &str, body: &str) -> Message {
    let origin = format!("origin: http://127.0.0.1\r\ncontent-type: application/json\r\n{headers}");
    gateway.http_client().send(&request(&format!("POST {path}"), &origin, body))
}

fn exchange(gateway: &TestGateway, code: &str) -> Message {
    post(gateway, "/ui/api/session", "", &json!({ "code": code }).to_string())
}

/// The key of a new session.
fn session(gateway: &TestGateway, actions: bool) -> String {
    let opened = exchange(gateway, &code(gateway, actions)).json();
    assert_eq!(opened["actions"], actions);
    opened["session"].as_str().unwrap().to_owned()
}

fn call(gateway: &TestGateway, session: &str, method: &str, params: Value) -> Value {
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = post(gateway, "/ui/api/call", &format!("x-lessor-session: {session}\r\n"), &message.to_string());
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_code_opens_one_session_and_its_calls_have_the_answers_of_the_socket() {
    let gateway = gateway("");
    let code = code(&gateway, false);
    let mut waiting = gateway.home.client();
    let opened = exchange(&gateway, &code);
    assert_eq!(opened.status(), 200, "{opened:?}");
    let session = opened.json()["session"].as_str().unwrap().to_owned();
    assert_eq!(waiting.call("page.open", json!({ "wait_for": code }))["state"], "used");
    assert_eq!(exchange(&gateway, &code).status(), 403, "a code works once");
    assert_eq!(exchange(&gateway, &session).status(), 403, "a key is no code");
    let mut client = gateway.home.client();
    for (method, params) in [("account.list", json!({})), ("lease.list", json!({}))] {
        assert_eq!(call(&gateway, &session, method, params.clone())["result"], client.call(method, params), "{method}");
    }
    let status = call(&gateway, &session, "status", json!({}))["result"].clone();
    let expected = client.call("status", json!({}));
    for part in ["version", "pid", "accounts", "leases", "queue", "gateway", "warnings"] {
        assert_eq!(status[part], expected[part], "{part}");
    }
    // it is no agent's request
    assert!(gateway.upstream.keys().is_empty());
    assert!(!gateway.metrics().contains("/ui"));
    // the session ends with the daemon
    let mut gateway = gateway;
    gateway.home.stop();
    gateway.home.start();
    gateway.connect();
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "status" }).to_string();
    let late = post(&gateway, "/ui/api/call", &format!("x-lessor-session: {session}\r\n"), &message);
    assert_eq!(late.status(), 401);
}

#[test]
fn without_a_session_or_from_elsewhere_nothing_is_answered() {
    let gateway = gateway("");
    let session = session(&gateway, false);
    let key = format!("x-lessor-session: {session}\r\ncontent-type: application/json\r\n");
    let status = json!({ "jsonrpc": "2.0", "id": 1, "method": "status" }).to_string();
    let own = "origin: http://127.0.0.1\r\n";
    for (line, headers, expected) in [
        ("POST /ui/api/call", format!("{key}{own}"), 200),
        ("POST /ui/api/call", format!("{key}{own}sec-fetch-site: same-origin\r\n"), 200),
        ("POST /ui/api/call", format!("{own}content-type: application/json\r\n"), 401),
        ("POST /ui/api/call", format!("{own}x-lessor-session: wrong\r\ncontent-type: application/json\r\n"), 401),
        ("POST /ui/api/call", format!("{own}x-api-key: {}\r\ncontent-type: application/json\r\n", gateway.key), 401),
        ("POST /ui/api/call", format!("{own}cookie: x-lessor-session={session}\r\n{own}"), 401),
        ("POST /ui/api/call", format!("{key}x-lessor-session: other\r\n"), 401),
        ("POST /ui/api/call", format!("{key}origin: http://evil.example\r\n"), 403),
        ("POST /ui/api/call", format!("{key}origin: http://127.0.0.1:1\r\n"), 403),
        ("POST /ui/api/call", format!("{key}origin: null\r\n"), 403),
        ("POST /ui/api/call", format!("{key}sec-fetch-site: cross-site\r\n"), 403),
        ("POST /ui/api/call", format!("{key}sec-fetch-site: same-site\r\n"), 403),
        ("POST /ui/api/call", format!("x-lessor-session: {session}\r\ncontent-type: text/plain\r\n"), 415),
        ("GET /ui/api/call", key.clone(), 405),
        ("HEAD /ui/api/session", key.clone(), 405),
        ("OPTIONS /ui/api/call", format!("{own}access-control-request-method: POST\r\n"), 405),
        ("OPTIONS /ui", String::new(), 405),
        ("DELETE /ui/app.js", String::new(), 405),
        ("POST /ui/api/events", key.clone(), 405),
        ("GET /ui/api/events", String::new(), 401),
        ("GET /ui/api/export", key.clone(), 404),
        ("GET /ui/api/", key.clone(), 404),
        ("GET /ui", String::new(), 200),
        ("GET /ui/", "sec-fetch-site: none\r\n".to_owned(), 200),
        ("GET /ui/style.css", String::new(), 200),
        ("GET /ui/style.css", "sec-fetch-site: cross-site\r\n".to_owned(), 403),
        (
            "GET /ui",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n".to_owned(),
            403,
        ),
        (
            "GET /ui",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n".to_owned(),
            200,
        ),
        ("GET /ui/../healthz", String::new(), 400),
        ("GET /ui/%2e%2e/healthz", String::new(), 400),
        ("GET /ui/..%2f..%2fetc/passwd", String::new(), 400),
        ("GET /ui//etc/passwd", String::new(), 404),
        ("GET /ui/static/index.html", String::new(), 404),
        ("GET /ui/data/lessor.db", String::new(), 404),
        ("GET /uix", String::new(), 401),
    ] {
        let body = if line.starts_with("POST") { status.as_str() } else { "" };
        let mut http = gateway.http_client();
        let is_head = line.starts_with("HEAD");
        let sent = request(line, &headers, body);
        let response = if is_head { http.send_for_head(&sent) } else { http.send(&sent) };
        assert_eq!(response.status(), expected, "{line} {headers}");
        assert_eq!(response.header("access-control-allow-origin"), None, "{line}");
        if line.contains("/ui") && !line.contains("/uix") {
            let policy = response.header("content-security-policy").unwrap_or_default();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{line}");
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
            assert_eq!(response.header("set-cookie"), None);
        }
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "192.168.0.1"] {
        for path in ["/ui", "/ui/app.js", "/ui/api/events"] {
            let sent = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nx-lessor-session: {session}\r\n\r\n");
            assert_eq!(gateway.http_client().send(sent.as_bytes()).status(), 403, "{host} {path}");
        }
    }
    let long = post(&gateway, "/ui/api/call", &key, &" ".repeat(17 * 1024));
    assert_eq!(long.status(), 413);
}

#[test]
fn wrong_codes_are_refused_and_soon_have_to_wait() {
    let gateway = gateway("");
    let answers: Vec<u16> = (0..12).map(|_| exchange(&gateway, "guess").status()).collect();
    assert_eq!(answers, [[403; 10].as_slice(), &[429; 2]].concat());
    let refused = exchange(&gateway, &code(&gateway, false));
    assert_eq!(refused.status(), 429);
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn a_session_that_calls_without_a_pause_has_to_wait() {
    let gateway = gateway("");
    let headers = format!("x-lessor-session: {}\r\n", session(&gateway, false));
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "lease.list" }).to_string();
    let mut refused = None;
    for _ in 0..1000 {
        let answer = post(&gateway, "/ui/api/call", &headers, &message);
        if answer.status() != 200 {
            refused = Some(answer);
            break;
        }
    }
    // the test may be slower than what is served
    let Some(refused) = refused else { return };
    assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")), "{refused:?}");
    wait_until("a call is served", || post(&gateway, "/ui/api/call", &headers, &message).status() == 200);
}

#[test]
fn codes_and_sessions_are_in_no_file() {
    let mut gateway = gateway("");
    gateway.home.stop();
    let mut command = gateway.home.command();
    command.env("LESSOR_LOG", "trace");
    gateway.home.start_as(command);
    gateway.connect();
    let code = code(&gateway, true);
    let session = exchange(&gateway, &code).json()["session"].as_str().unwrap().to_owned();
    call(&gateway, &session, "status", json!({}));
    call(&gateway, &session, "account.disable", json!({ "account": "a" }));
    exchange(&gateway, &code);
    gateway.home.stop();
    let mut folders = vec![gateway.home.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).unwrap();
                for secret in [&code, &session] {
                    let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                    assert!(!is_there, "{}", entry.path().display());
                }
            }
        }
    }
    assert!(files > 2, "log, accounts and history were looked at");
}

#[test]
fn the_unix_socket_leads_to_the_page_only_with_a_session_and_for_this_machine() {
    let gateway = gateway("");
    let session = session(&gateway, false);
    let path = gateway.home.client().call("status", json!({}))["gateway"]["socket"].as_str().unwrap().to_owned();
    let ask = |host: &str, headers: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "status" }).to_string();
        let length = body.len();
        let head = format!("POST /ui/api/call HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{headers}");
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        Message::read(&mut BufReader::new(stream), false).unwrap().status()
    };
    assert_eq!(ask("localhost", ""), 401);
    assert_eq!(ask("localhost", &format!("x-lessor-session: {session}\r\n")), 200);
    assert_eq!(ask("evil.example", &format!("x-lessor-session: {session}\r\n")), 403);
}

#[test]
fn a_page_changes_something_only_with_actions() {
    let gateway = gateway("");
    let (view, full) = (session(&gateway, false), session(&gateway, true));
    let disable = || json!({ "account": "a" });
    let refused = call(&gateway, &view, "account.disable", disable());
    assert_eq!(refused["error"]["data"]["kind"], "not_allowed", "{refused}");
    assert_eq!(gateway.account("a")["state"], "ready");
    assert_eq!(call(&gateway, &full, "account.disable", disable())["result"]["state"], "disabled");
    assert_eq!(call(&gateway, &full, "account.enable", disable())["result"]["state"], "ready");
    assert_eq!(call(&gateway, &full, "account.clear_limits", disable())["result"]["label"], "a");
    let mut holder = gateway.home.client();
    let lease = holder.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }))["lease"].clone();
    assert!(call(&gateway, &view, "lease.release", json!({ "lease": lease }))["error"].is_object());
    assert_eq!(call(&gateway, &full, "lease.release", json!({ "lease": lease }))["result"], json!({}));
    // whatever the session may do, it gets no secret, and stops nothing
    for (method, params) in [
        ("account.export", json!({ "secrets": true })),
        ("gateway.key", json!({})),
        ("lease.acquire", json!({ "provider": "anthropic" })),
        ("lease.credential", json!({ "lease": lease })),
        ("page.open", json!({ "actions": true })),
        ("account.add", json!({ "provider": "anthropic", "kind": "api_key", "secret": "x" })),
        ("account.remove", json!({ "account": "a" })),
        ("config.get", json!({})),
        ("daemon.stop", json!({})),
        ("daemon.restart", json!({})),
        ("secrets.rekey", json!({})),
        ("events.subscribe", json!({})),
    ] {
        let refused = call(&gateway, &full, method, params);
        assert_eq!(refused["error"]["data"]["kind"], "not_allowed", "{method}: {refused}");
    }
    for message in ["", "[]", "{}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}", "\u{0}"] {
        let headers = format!("x-lessor-session: {full}\r\n");
        let answer = post(&gateway, "/ui/api/call", &headers, message);
        assert!(answer.json()["error"].is_object(), "{message}: {answer:?}");
    }
}

#[test]
fn events_arrive_and_stop_with_the_daemon() {
    let mut gateway = gateway("");
    let session = session(&gateway, false);
    let head = format!("GET /ui/api/events HTTP/1.1\r\nhost: localhost\r\nx-lessor-session: {session}\r\n\r\n");
    let http = gateway.http_client();
    (&http.stream).write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(http.stream.try_clone().unwrap()).lines();
    let mut wait_for = |part: &str| {
        let found = lines.by_ref().map(Result::unwrap).find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part}"))
    };
    wait_for("event: open");
    let mut client = gateway.home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0, "label": "<b>x</b>" }));
    let granted = wait_for("lease.granted");
    let event: Value = serde_json::from_str(granted.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&event["params"]["lease"], &event["params"]["label"]), (&lease["lease"], &json!("<b>x</b>")));
    drop(client);
    wait_for("lease.ended");
    // a thousand leases in a row do not fall behind: all of them arrive
    let mut client = gateway.home.client();
    for _ in 0..1000 {
        let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0, "credential": false }));
        client.call("lease.release", json!({ "lease": lease["lease"] }));
    }
    let last = client.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
    wait_for(last["lease"].as_str().unwrap());
    gateway.home.stop();
    wait_for("event: ending");
}

#[test]
fn a_page_that_does_not_read_is_dropped_and_its_place_is_free_again() {
    let gateway = gateway("");
    let session = session(&gateway, false);
    let head = format!("GET /ui/api/events HTTP/1.1\r\nhost: localhost\r\nx-lessor-session: {session}\r\n\r\n");
    let mut open: Vec<_> = (0..16)
        .map(|_| {
            let mut http = gateway.http_client();
            http.write(head.as_bytes());
            http.read_until("event: open");
            http
        })
        .collect();
    assert_eq!(gateway.http_client().send(head.as_bytes()).status(), 429);
    open.clear();
    wait_until("a place is free", || gateway.http_client().send_for_head(head.as_bytes()).status() == 200);
}

#[test]
fn no_answer_has_a_secret() {
    let gateway = gateway("");
    let account = json!({ "provider": "anthropic", "kind": "oauth", "secret": SECRET, "refresh_token": SECRET,
        "expires_at": 4_000_000_000_000_u64, "email": "me@example.org", "label": "canary" });
    let mut client = gateway.home.client();
    client.call("account.add", account);
    let (_, lease_key) = gateway.lease(&mut client);
    gateway.http_client().send(&messages(&gateway.key, "{}"));
    let session = session(&gateway, true);
    let mut answers = String::new();
    for (method, params) in [
        ("status", json!({})),
        ("account.list", json!({})),
        ("lease.list", json!({})),
        ("history.query", json!({ "of": "requests" })),
        ("history.query", json!({ "of": "leases" })),
        ("history.query", json!({ "of": "events" })),
        ("account.disable", json!({ "account": "canary" })),
        ("account.enable", json!({ "account": "canary" })),
        ("account.export", json!({ "secrets": true })),
        ("lease.release", json!({ "lease": "ls_1" })),
    ] {
        answers += &call(&gateway, &session, method, params).to_string();
    }
    assert!(answers.contains("me@example.org"));
    for secret in [SECRET, &gateway.key, &lease_key, &session, "k-a"] {
        assert!(!answers.contains(&format!("{secret}\"")), "{secret} in {answers}");
    }
    assert!(!answers.contains(SECRET));
}

#[test]
fn without_a_gateway_the_page_is_refused_with_its_remedy() {
    let mut home = Home::new("[gateway]\nenabled = false");
    home.start();
    let refused = home.client().ask("page.open", &json!({}))["error"].clone();
    assert_eq!(refused["data"]["kind"], "no_gateway", "{refused}");
    assert!(refused["data"]["hint"].as_str().unwrap().contains("lessor config set gateway.enabled true"));
}
