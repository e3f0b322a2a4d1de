//! WebSockets of the Responses API: turns within a socket are requests.

use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message as Frame, WebSocket};

use crate::harness::TestGateway;
use crate::support::{PATIENCE, label, wait_until};
use crate::upstream::{Message, Upstream, respond};

const PATH: &str = "/openai/v1/responses";

/// What the upstream does after a message.
#[derive(Clone)]
enum Act {
    Say(String),
    Close(u16),
    /// Ends the connection without a word.
    Drop,
    /// Waits until the test goes on.
    Wait,
}

/// A turn at the upstream: the account's key, the number of the turn on its connection, and its text.
struct Turn<'a> {
    key: &'a str,
    number: usize,
    text: &'a str,
}

/// An upstream whose sockets act as the test says; it keeps the texts of all turns, with their keys.
struct SocketUpstream {
    upstream: Upstream,
    turns: Arc<Mutex<Vec<(String, String)>>>,
    go_on: Sender<()>,
}

impl SocketUpstream {
    /// `opens` gives the status for the opening of a socket (101: it opens), and its body.
    fn start(
        opens: impl Fn(&str) -> (u16, &'static str) + Send + Sync + 'static,
        acts: impl Fn(&Turn<'_>) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let turns: Arc<Mutex<Vec<_>>> = Arc::default();
        let (go_on, goes_on) = channel();
        let (kept, goes_on) = (turns.clone(), Mutex::new(goes_on));
        let upstream = Upstream::start(move |request, stream| {
            if request.header("upgrade").is_none() {
                return respond(stream, 200, "", "{}");
            }
            let (status, body) = opens(&request.key());
            if status != 101 {
                return respond(stream, status, "content-type: application/json\r\n", body);
            }
            accept(request, stream);
            serve(request, stream, &acts, &kept, &goes_on);
            false
        });
        Self { upstream, turns, go_on }
    }

    /// Every socket opens.
    fn acting(acts: impl Fn(&Turn<'_>) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start(|_| (101, ""), acts)
    }

    fn gateway(&self, config: &str, accounts: &[&str]) -> TestGateway {
        let gateway = TestGateway::with(config, "", self.upstream.clone());
        accounts.iter().for_each(|label| gateway.add("openai", "api_key", label));
        gateway
    }

    fn turns(&self) -> Vec<(String, String)> {
        self.turns.lock().unwrap().clone()
    }

    /// The keys of the turns so far.
    fn keys(&self) -> Vec<String> {
        self.turns().into_iter().map(|(key, _)| key).collect()
    }
}

fn accept(request: &Message, stream: &mut TcpStream) {
    use std::io::Write as _;
    let key = request.header("sec-websocket-key").unwrap();
    let accept = tokio_tungstenite_accept(key);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\
         x-models-etag: e-1\r\nx-codex-primary-used-percent: 12\r\nx-codex-primary-window-minutes: 300\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
}

/// The answer to a client's key.
fn tokio_tungstenite_accept(key: &str) -> String {
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash.as_ref())
}

fn serve(
    request: &Message,
    stream: &TcpStream,
    acts: &dyn Fn(&Turn<'_>) -> Vec<Act>,
    kept: &Mutex<Vec<(String, String)>>,
    goes_on: &Mutex<Receiver<()>>,
) {
    let mut socket = WebSocket::from_raw_socket(stream.try_clone().unwrap(), Role::Server, None);
    let (key, mut number) = (request.key(), 0);
    while let Ok(frame) = socket.read() {
        let Frame::Text(text) = frame else { continue };
        if !text.contains("response.create") {
            kept.lock().unwrap().push((key.clone(), text.to_string()));
            continue;
        }
        kept.lock().unwrap().push((key.clone(), text.to_string()));
        for act in acts(&Turn { key: &key, number, text: &text }) {
            let sent = match act {
                Act::Say(event) => socket.send(Frame::text(event)),
                Act::Close(code) => {
                    socket.close(Some(CloseFrame { code: CloseCode::from(code), reason: "why".into() }))
                }
                Act::Drop => {
                    let _closed = stream.shutdown(Shutdown::Both);
                    return;
                }
                Act::Wait => {
                    let _in_time = goes_on.lock().unwrap().recv_timeout(PATIENCE);
                    Ok(())
                }
            };
            if sent.is_err() {
                return;
            }
        }
        number += 1;
    }
}

fn say(event: &Value) -> Act {
    Act::Say(event.to_string())
}

/// The events of a turn that succeeds; its response has this id.
fn answer(id: &str) -> Vec<Act> {
    let usage = json!({ "input_tokens": 11, "input_tokens_details": { "cached_tokens": 4 }, "output_tokens": 7 });
    vec![
        say(&json!({ "type": "response.created", "response": { "id": id, "status": "in_progress" } })),
        say(&json!({ "type": "response.output_text.delta", "delta": "Good" })),
        say(&json!({ "type": "response.completed", "response": { "id": id, "usage": usage } })),
    ]
}

fn limit() -> Act {
    let error = json!({ "type": "usage_limit_reached", "message": "used up", "resets_in_seconds": 3600 });
    say(&json!({ "type": "error", "status": 429, "error": error }))
}

/// A turn that begins a conversation, or continues one.
fn create(previous: Option<&str>) -> String {
    let mut turn = json!({ "type": "response.create", "model": "gpt-5.2", "store": false, "input": [{ "x": "1  2" }] });
    if let Some(previous) = previous {
        turn["previous_response_id"] = previous.into();
    }
    turn.to_string()
}

/// A client's socket.
struct Client(WebSocket<TcpStream>);

impl Client {
    /// The answer to a request for a socket: its head, or all of a refusal.
    fn ask(gateway: &TestGateway, path: &str, key: &str, more: &str) -> (Message, TcpStream) {
        let mut http = gateway.http_client();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nauthorization: Bearer {key}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate\r\nsession-id: s-1\r\n{more}\r\n"
        );
        let answer = http.send_for_head(request.as_bytes());
        (answer, http.stream)
    }

    fn open(gateway: &TestGateway, key: &str) -> Self {
        let (head, stream) = Self::ask(gateway, PATH, key, "");
        assert_eq!(head.status(), 101, "{head:?}");
        Self(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    fn send(&mut self, text: &str) {
        self.0.send(Frame::text(text)).unwrap();
    }

    /// The next event, or the code with which the socket is closed (0: without one).
    fn next(&mut self) -> Result<String, u16> {
        loop {
            match self.0.read() {
                Ok(Frame::Text(text)) => return Ok(text.to_string()),
                Ok(Frame::Close(frame)) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Ok(_) => {}
                Err(_) => return Err(0),
            }
        }
    }

    /// Sends a turn and reads its events, until the last one or the end of the socket.
    fn turn(&mut self, text: &str) -> Result<Vec<String>, u16> {
        self.send(text);
        let mut events = Vec::new();
        loop {
            let event = self.next()?;
            let is_last = event.contains("response.completed") || event.contains("\"error\"");
            events.push(event);
            if is_last {
                return Ok(events);
            }
        }
    }
}

fn texts(acts: Vec<Act>) -> Vec<String> {
    acts.into_iter().map(|act| if let Act::Say(text) = act { text } else { String::new() }).collect()
}

/// The rows of the history, when there are so many, oldest first.
fn rows(gateway: &TestGateway, count: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    wait_until(&format!("{count} rows"), || {
        let found = gateway.home.client().call("history.query", json!({ "of": "requests", "limit": 1000 }));
        rows = found["requests"].as_array().unwrap().clone();
        rows.len() >= count
    });
    assert_eq!(rows.len(), count, "{rows:#?}");
    // they are written when their senders are known
    rows.sort_by_key(|row| (row["at"].as_u64(), row["id"].as_u64()));
    rows
}

#[test]
fn turns_pass_unchanged_and_each_is_a_row() {
    let upstream = SocketUpstream::acting(|turn| answer(&format!("resp_{}", turn.number)));
    let gateway = upstream.gateway("", &["a"]);
    let (head, stream) = Client::ask(&gateway, PATH, &gateway.key, "openai-project: mine\r\n");
    assert_eq!((head.status(), head.header("x-models-etag")), (101, Some("e-1")), "{head:?}");
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((head.header("x-lessor-account"), head.header("sec-websocket-extensions")), (Some("a"), None));
    let mut client = Client(WebSocket::from_raw_socket(stream, Role::Client, None));
    let first = create(None).replace("\"1  2\"", "\"1  2 é\"");
    assert_eq!(client.turn(&first), Ok(texts(answer("resp_0"))));
    let second = create(Some("resp_0"));
    assert_eq!(client.turn(&second), Ok(texts(answer("resp_1"))));
    assert_eq!(upstream.turns(), [("k-a".to_owned(), first), ("k-a".to_owned(), second)]);
    let opened = &upstream.upstream.received()[0];
    assert_eq!((opened.key().as_str(), opened.target()), ("k-a", "/v1/responses"));
    assert_eq!((opened.header("sec-websocket-extensions"), opened.header("openai-project")), (None, None));
    let rows = rows(&gateway, 2);
    for row in &rows {
        let found = (&row["status"], &row["outcome"], &row["model"], &row["account"]["label"], &row["session"]);
        assert_eq!(found, (&json!(200), &json!("ok"), &json!("gpt-5.2"), &json!("a"), &json!("s-1")), "{row:#}");
        assert_eq!((&row["tokens"]["input"], &row["tokens"]["cached"]), (&json!(11), &json!(4)), "{row:#}");
    }
    let windows = gateway.account("a")["usage"].to_string();
    assert!(windows.contains("\"5h\"") && windows.contains("0.12"), "the opening told of a window: {windows}");
}

#[test]
fn a_refused_opening_is_tried_on_the_next_account() {
    for (status, body) in [
        (429, r#"{"error":{"type":"usage_limit_reached","message":"x","resets_in_seconds":3600}}"#),
        (403, r#"{"error":{"message":"Your account is deactivated","code":"account_deactivated"}}"#),
        (401, r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#),
    ] {
        let first = Arc::new(Mutex::new(None));
        // whichever account is asked first is refused
        let refused = first.clone();
        let opens = move |key: &str| {
            let is_first = refused.lock().unwrap().get_or_insert_with(|| key.to_owned()) == key;
            if is_first { (status, body) } else { (101, "") }
        };
        let upstream = SocketUpstream::start(opens, |_| answer("resp_1"));
        let gateway = upstream.gateway("", &["a", "b"]);
        let mut client = Client::open(&gateway, &gateway.key);
        assert!(client.turn(&create(None)).is_ok());
        let first = first.lock().unwrap().clone().unwrap();
        assert_eq!(gateway.account(&first[2..])["state"], "limited", "{status}");
        assert_ne!(upstream.keys(), [first], "{status}");
        let row = &rows(&gateway, 2)[0];
        assert_eq!((&row["status"], row["attempts"].as_array().unwrap().len()), (&json!(101), 2), "{row:#}");
    }
}

#[test]
fn when_no_account_can_serve_the_opening_is_answered_as_a_request() {
    let body = r#"{"error":{"type":"usage_limit_reached","message":"x","resets_in_seconds":3600}}"#;
    let upstream = SocketUpstream::start(move |_| (429, body), |_| Vec::new());
    let gateway = upstream.gateway("", &["a", "b"]);
    for attempts in [2, 0] {
        let (head, _) = Client::ask(&gateway, PATH, &gateway.key, "user-agent: codex_exec/1\r\n");
        assert_eq!((head.status(), head.header("x-lessor-attempts")), (429, Some(attempts.to_string().as_str())));
        assert!(head.header("x-codex-promo-message").unwrap().contains("a, b: limited"), "{head:?}");
    }
    assert_eq!(rows(&gateway, 2)[0]["status"], 429);
}

#[test]
fn a_conversation_that_begins_moves_to_the_next_account_under_the_same_socket() {
    let upstream = SocketUpstream::acting(|turn| match turn.key {
        "k-a" if turn.number > 0 => vec![limit()],
        _ => answer(&format!("resp_{}", turn.key)),
    });
    let gateway = upstream.gateway("", &["a"]);
    let mut client = Client::open(&gateway, &gateway.key);
    assert!(client.turn(&create(None)).is_ok());
    gateway.add("openai", "api_key", "b");
    assert_eq!(client.turn(&create(None)), Ok(texts(answer("resp_k-b"))), "no error is seen");
    assert_eq!(upstream.keys(), ["k-a", "k-a", "k-b"]);
    let row = &rows(&gateway, 2)[1];
    assert_eq!((&row["attempts"][0]["reason"], &row["account"]["label"]), (&json!("quota_exhausted"), &json!("b")));
    assert_eq!(gateway.account("a")["state"], "limited");
    // the new connection has the conversation
    assert!(client.turn(&create(Some("resp_k-b"))).is_ok());
    assert_eq!(upstream.keys().last().unwrap(), "k-b");
}

/// A limit as the first event of a turn that continues a conversation, and one after content.
#[test]
fn a_limit_within_a_conversation_is_learnt_and_the_socket_closed_so_that_its_client_reconnects() {
    for has_content in [false, true] {
        let upstream = SocketUpstream::acting(move |turn| match turn.key {
            "k-a" if turn.number > 0 => {
                let mut acts = answer("resp_2");
                acts.truncate(if has_content { 2 } else { 0 });
                acts.push(limit());
                acts
            }
            _ => answer("resp_1"),
        });
        let gateway = upstream.gateway("", &["a"]);
        let mut client = Client::open(&gateway, &gateway.key);
        assert!(client.turn(&create(None)).is_ok());
        gateway.add("openai", "api_key", "b");
        assert_eq!(client.turn(&create(Some("resp_1"))), Err(1012), "no error is seen");
        assert_eq!(gateway.account("a")["state"], "limited", "it was learnt before");
        let mut client = Client::open(&gateway, &gateway.key);
        assert!(client.turn(&create(None)).is_ok());
        assert_eq!(upstream.keys(), ["k-a", "k-a", "k-b"]);
        let rows = rows(&gateway, 3);
        assert_eq!((&rows[1]["outcome"], &rows[2]["outcome"]), (&json!("broken"), &json!("ok")));
        assert!(rows[1]["reason"].as_str().unwrap().contains("quota_exhausted"), "{:#}", rows[1]);
    }
}

#[test]
fn an_error_of_the_request_or_in_the_middle_of_a_failing_service_passes_and_the_socket_stays() {
    let invalid = r#"{"type":"error","status":400,"error":{"type":"invalid_request_error","code":"previous_response_not_found","message":"x"}}"#;
    let failed = r#"{"type":"response.failed","response":{"id":"resp_9","status":"failed","error":{"code":"server_error","message":"x"}}}"#;
    let upstream = SocketUpstream::acting(move |turn| match turn.number {
        0 => vec![Act::Say(invalid.to_owned())],
        1 => answer("resp_1").into_iter().take(2).chain([Act::Say(failed.to_owned())]).collect(),
        _ => answer("resp_3"),
    });
    let gateway = upstream.gateway("", &["a", "b"]);
    let mut client = Client::open(&gateway, &gateway.key);
    assert_eq!(client.turn(&create(Some("resp_0"))), Ok(vec![invalid.to_owned()]));
    assert_eq!(client.turn(&create(None)).unwrap().last().unwrap(), failed);
    assert!(client.turn(&create(None)).is_ok());
    let rows = rows(&gateway, 3);
    let found: Vec<_> = rows.iter().map(|row| (row["outcome"].as_str().unwrap(), row["status"].as_u64())).collect();
    assert_eq!(found, [("refused", Some(400)), ("broken", Some(200)), ("ok", Some(200))]);
}

#[test]
fn a_failing_service_is_tried_again_as_over_http() {
    let overloaded =
        json!({ "type": "error", "status": 503, "error": { "code": "server_is_overloaded", "message": "x" } });
    let upstream = SocketUpstream::acting(move |turn| match turn.number {
        0 => vec![say(&overloaded)],
        _ => answer("resp_1"),
    });
    let gateway = upstream.gateway("", &["a"]);
    assert_eq!(Client::open(&gateway, &gateway.key).turn(&create(None)), Ok(texts(answer("resp_1"))));
}

#[test]
fn windows_in_events_are_learnt() {
    let event = json!({ "type": "codex.rate_limits", "rate_limits": {
        "primary": { "used_percent": 77, "window_minutes": 300, "reset_after_seconds": 500 } } });
    let upstream = SocketUpstream::acting(move |_| [say(&event)].into_iter().chain(answer("resp_1")).collect());
    let gateway = upstream.gateway("", &["a"]);
    let events = Client::open(&gateway, &gateway.key).turn(&create(None)).unwrap();
    assert!(events[0].contains("codex.rate_limits"), "it passes: {events:?}");
    wait_until("the window", || gateway.account("a")["usage"].to_string().contains("0.77"));
}

#[test]
fn an_idle_socket_is_closed_when_its_lease_moves_or_its_account_goes() {
    let upstream = SocketUpstream::acting(|_| answer("resp_1"));
    let gateway = upstream.gateway("", &["a", "b"]);
    let mut user = gateway.home.client();
    let lease = user.call("lease.acquire", json!({ "provider": "openai", "wait_ms": 0 }));
    let key = user.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let mut client = Client::open(&gateway, &key);
    assert!(client.turn(&create(None)).is_ok());
    let other = if label(&lease) == "a" { "b" } else { "a" };
    user.call("lease.move", json!({ "lease": lease["lease"], "to": other }));
    assert_eq!(client.next(), Err(1012));
    let mut client = Client::open(&gateway, &key);
    assert!(client.turn(&create(None)).is_ok());
    assert_eq!(*upstream.keys().last().unwrap(), format!("k-{other}"));
    let id = gateway.account(other)["id"].clone();
    user.call("account.remove", json!({ "account": id }));
    assert_eq!(client.next(), Err(1012));
}

#[test]
fn a_revoked_key_cuts_its_sockets() {
    let upstream = SocketUpstream::acting(|_| answer("resp_1"));
    let gateway = upstream.gateway("", &["a"]);
    let mut client = Client::open(&gateway, &gateway.key);
    assert!(client.turn(&create(None)).is_ok());
    gateway.home.client().call("gateway.revoke", json!({ "key": gateway.key }));
    assert_eq!(client.next(), Err(0));
    assert_eq!(Client::ask(&gateway, PATH, &gateway.key, "").0.status(), 401);
}

#[test]
fn a_restart_waits_for_a_turn_and_closes_idle_sockets() {
    let upstream = SocketUpstream::acting(|turn| match turn.text.contains("slow") {
        true => {
            let mut acts = answer("resp_1");
            acts.insert(2, Act::Wait);
            acts
        }
        false => answer("resp_1"),
    });
    let gateway = upstream.gateway("", &["a"]);
    let (mut idle, mut busy) = (Client::open(&gateway, &gateway.key), Client::open(&gateway, &gateway.key));
    assert!(idle.turn(&create(None)).is_ok());
    busy.send(&create(None).replace("1  2", "slow"));
    assert!(busy.next().unwrap().contains("response.created") && busy.next().unwrap().contains("delta"));
    let client = gateway.home.client();
    let restarted = std::thread::spawn(move || client.restart(60_000));
    assert_eq!(idle.next(), Err(1012));
    upstream.go_on.send(()).unwrap();
    assert!(busy.next().unwrap().contains("response.completed"));
    assert_eq!(busy.next(), Err(1012));
    restarted.join().unwrap();
    assert!(Client::open(&gateway, &gateway.key).turn(&create(None)).is_ok());
}

#[test]
fn a_client_that_leaves_ends_its_turn_and_an_upstream_that_leaves_closes_the_socket() {
    let upstream = SocketUpstream::acting(|turn| match turn.text {
        text if text.contains("waits") => vec![answer("resp_1").remove(0), answer("resp_1").remove(1), Act::Wait],
        text if text.contains("drops") => vec![answer("resp_1").remove(0), answer("resp_1").remove(1), Act::Drop],
        text if text.contains("closes") => answer("resp_1").into_iter().chain([Act::Close(4001)]).collect(),
        _ => answer("resp_1"),
    });
    let gateway = upstream.gateway("", &["a"]);
    let mut client = Client::open(&gateway, &gateway.key);
    client.send(&create(None).replace("1  2", "waits"));
    assert!(client.next().is_ok() && client.next().is_ok());
    drop(client);
    assert_eq!(rows(&gateway, 1)[0]["outcome"], "cancelled");
    upstream.go_on.send(()).unwrap();

    let mut client = Client::open(&gateway, &gateway.key);
    client.send(&create(None).replace("1  2", "drops"));
    assert!(client.next().is_ok() && client.next().is_ok());
    assert_eq!(client.next(), Err(1012));
    assert_eq!(rows(&gateway, 2)[1]["outcome"], "broken");

    let mut client = Client::open(&gateway, &gateway.key);
    assert!(client.turn(&create(None).replace("1  2", "closes")).is_ok());
    assert_eq!(client.next(), Err(4001), "closed as by the upstream");
}

#[test]
fn what_is_no_socket_of_the_responses_api_gets_status_426() {
    let upstream = SocketUpstream::start(|_| (404, "{}"), |_| Vec::new());
    let gateway = upstream.gateway("", &["a"]);
    for (path, reason) in [
        ("/openai/v1/realtime", "only WebSockets of the Responses API"),
        ("/google/v1beta/models", "only WebSockets of the Responses API"),
        ("/anthropic/v1/responses", "only WebSockets of the Responses API"),
        (PATH, "has no WebSockets here"),
    ] {
        let mut http = gateway.http_client();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nauthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: \
             websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            gateway.key
        );
        let answer = http.send(request.as_bytes());
        assert_eq!(answer.status(), 426, "{path}");
        assert!(answer.text().contains(reason), "{path}: {}", answer.text());
    }
    let without_key = Client::ask(&gateway, PATH, "lk_wrong", "").0;
    assert_eq!(without_key.status(), 401);
}

#[test]
fn the_setting_turns_sockets_off_without_a_restart() {
    let upstream = SocketUpstream::acting(|_| answer("resp_1"));
    let gateway = upstream.gateway("", &["a"]);
    assert_eq!(Client::ask(&gateway, PATH, &gateway.key, "").0.status(), 101);
    let path = gateway.home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}\n[gateway]\nwebsocket = false\n")).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("status 426", || Client::ask(&gateway, PATH, &gateway.key, "").0.status() == 426);
    let access = gateway.home.client().call("gateway.key", json!({ "agent": "test" }));
    assert_eq!(access["websocket"], false);
}

#[test]
fn hostile_frames_end_their_own_socket_only() {
    use std::io::{Read as _, Write as _};
    let upstream = SocketUpstream::acting(|_| answer("resp_1"));
    let gateway = upstream.gateway("[gateway]\nmax_body = \"64KiB\"\n", &["a"]);
    let mut good = Client::open(&gateway, &gateway.key);
    let long = [vec![0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4], vec![b'x'; 64]].concat();
    let mut hostile: Vec<Vec<u8>> = vec![
        vec![0x81, 0x05, b'h', b'e', b'l', b'l', b'o'],
        vec![0xf1, 0x80, 0, 0, 0, 0],
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0x09, 0x80, 0, 0, 0, 0],
        vec![0x89, 0xfe, 0, 200, 0, 0, 0, 0],
        vec![0x80, 0x80, 0, 0, 0, 0],
        vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe],
        long,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    // any bytes, from a seed
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    hostile.extend((0..40).map(|_| {
        (0..200)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_le_bytes()[3]
            })
            .collect()
    }));
    for bytes in hostile {
        let (head, mut stream) = Client::ask(&gateway, PATH, &gateway.key, "");
        assert_eq!(head.status(), 101);
        let _gone = stream.write_all(&bytes);
        let _half = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock), "{bytes:?}");
    }
    assert!(good.turn(&create(None)).is_ok());
    let too_long = create(None).replace("1  2", &"x".repeat(70_000));
    let sent = good.0.send(Frame::text(too_long));
    let end = if sent.is_ok() || matches!(sent, Err(Error::Io(_))) { good.next() } else { Err(0) };
    assert_eq!(end, Err(1009));
}

/// What says so: the headers of the opening, or the message, as Codex does both.
#[test]
fn a_sub_agent_s_turns_use_its_own_lease_and_its_idle_socket_does_not_follow_the_run_s() {
    for in_message in [false, true] {
        let upstream = SocketUpstream::acting(|turn| answer(&format!("resp_{}", turn.number)));
        let gateway = upstream.gateway("[selection]\nsubagents = \"spread\"\n", &["a", "b", "c"]);
        let mut user = gateway.home.client();
        let lease = user.call("lease.acquire", json!({ "provider": "openai", "wait_ms": 0 }));
        let key = user.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
        let run = format!("k-{}", label(&lease));
        let marks = "thread-id: t-2\r\nx-codex-parent-thread-id: t-1\r\n";
        let (head, stream) = Client::ask(&gateway, PATH, &key, if in_message { "" } else { marks });
        assert_eq!(head.status(), 101, "{head:?}");
        let mut subagent = Client(WebSocket::from_raw_socket(stream, Role::Client, None));
        let stated = r#"{"client_metadata":{"thread-id":"t-2","x-codex-parent-thread-id":"t-1"},"#;
        let turn = |previous: Option<&str>| match in_message {
            true => create(previous).replacen('{', stated, 1),
            false => create(previous),
        };
        assert_eq!(subagent.turn(&turn(None)).map(|_| ()), Ok(()));
        assert!(subagent.turn(&turn(Some("resp_0"))).is_ok());
        let own = upstream.keys().pop().unwrap();
        assert_ne!(own, run, "in the message: {in_message}");
        let leases = user.call("lease.list", json!({}));
        let found: Vec<_> = leases.as_array().unwrap().iter().map(|row| row["account"]["label"].clone()).collect();
        assert_eq!(found.len(), 2, "{leases:#}");
        let mut main = Client::open(&gateway, &key);
        assert!(main.turn(&create(None)).is_ok());
        let free = ["a", "b", "c"].into_iter().find(|name| ![&own, &run].contains(&&format!("k-{name}"))).unwrap();
        user.call("lease.move", json!({ "lease": lease["lease"], "to": own[2..] }));
        assert_eq!(main.next(), Err(1012));
        let moved = lease_of_run(&mut user);
        user.call("lease.move", json!({ "lease": moved, "to": free }));
        assert!(subagent.turn(&turn(Some("resp_1"))).is_ok(), "the run's move does not concern it");
        assert_eq!(upstream.keys().pop().unwrap(), own);
    }
}

/// The lease that is no sub-agent's.
fn lease_of_run(user: &mut crate::support::Client) -> Value {
    let leases = user.call("lease.list", json!({}));
    let run = leases.as_array().unwrap().iter().find(|row| row["subagent"].is_null());
    run.unwrap_or_else(|| panic!("{leases:#}"))["lease"].clone()
}

#[test]
fn an_idle_socket_takes_no_place_of_a_request_and_a_turn_takes_one_until_its_last_event() {
    let upstream = SocketUpstream::acting(|turn| {
        let mut acts = answer(&format!("resp_{}", turn.number));
        if turn.text.contains("slow") {
            acts.insert(2, Act::Wait);
        }
        acts
    });
    let gateway = upstream.gateway("[leases]\nmax_in_flight = 1\n", &["a"]);
    let mut sockets: Vec<Client> = (0..3).map(|_| Client::open(&gateway, &gateway.key)).collect();
    for socket in &mut sockets {
        assert!(socket.turn(&create(None)).is_ok(), "idle sockets take no place");
    }
    let slow = create(None).replace("1  2", "slow");
    sockets[0].send(&slow);
    assert!(sockets[0].next().is_ok() && sockets[0].next().is_ok());
    // the opening asks no model
    let began = std::time::Instant::now();
    sockets.push(Client::open(&gateway, &gateway.key));
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "it does not wait for a place");
    sockets[1].send(&create(Some("resp_0")));
    wait_until("the turn waits", || gateway.metrics().contains("\nlessor_in_flight_waiting 1\n"));
    let sent = upstream.turns().len();
    upstream.go_on.send(()).unwrap();
    assert!(sockets[0].next().unwrap().contains("response.completed"));
    assert!(sockets[1].next().unwrap().contains("resp_1"), "on its own connection");
    assert_eq!(upstream.turns().len(), sent + 1);
    // a client that leaves gives its place back
    for _ in 0..2 {
        let mut gone = Client::open(&gateway, &gateway.key);
        gone.send(&slow);
        assert!(gone.next().is_ok() && gone.next().is_ok());
        drop(gone);
        assert!(sockets[2].turn(&create(None)).is_ok());
        upstream.go_on.send(()).unwrap();
    }
}

#[test]
fn a_socket_through_the_https_port_is_served_in_the_same_way() {
    use std::io::Write as _;
    let upstream = SocketUpstream::acting(|turn| answer(&format!("resp_{}", turn.number)));
    let gateway = upstream.gateway("[gateway]\ntls = true\n", &["a"]);
    let mut tls = crate::secure_port::TlsClient::of(&gateway);
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: localhost\r\nauthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: \
         websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        gateway.key
    );
    tls.0.get_mut().write_all(request.as_bytes()).unwrap();
    assert_eq!(tls.receive(true).status(), 101);
    let mut socket = WebSocket::from_raw_socket(tls.0.into_inner(), Role::Client, None);
    for previous in [None, Some("resp_0"), Some("resp_1")] {
        socket.send(Frame::text(create(previous))).unwrap();
        while !matches!(socket.read().unwrap(), Frame::Text(text) if text.contains("response.completed")) {}
    }
    gateway.home.client().call("gateway.revoke", json!({ "key": gateway.key }));
    assert!(socket.read().is_err(), "it is cut with its key");
    assert_eq!(upstream.keys(), ["k-a", "k-a", "k-a"]);
}
