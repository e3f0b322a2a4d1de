//! Codex over WebSockets: the providers' end of a socket, and what Codex does when an account reaches its limit in one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::body::PacedBody;
use super::fleet::{Fleet, FleetConfig, check, wait};
use super::upstream::{Limit, Upstream};
use super::vendors::{AgentRequest, Vendor};

/// A socket that is open at a provider.
pub struct Turns {
    upgrade: OnUpgrade,
    key: String,
    path: String,
}

/// The answer to a request for a socket, and the socket, if it opens.
pub fn open(request: &mut Request<Incoming>) -> (Response<PacedBody>, Option<Turns>) {
    let path = request.uri().path().to_owned();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut answer = Response::new(PacedBody::whole(String::new()));
    if !path.ends_with("/responses") {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return (answer, None);
    }
    let key = header(AUTHORIZATION).trim_start_matches("Bearer ").to_owned();
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", header(SEC_WEBSOCKET_KEY));
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = STANDARD.encode(hash.as_ref());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, "Upgrade".parse().unwrap());
    answer.headers_mut().insert(UPGRADE, "websocket".parse().unwrap());
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept.parse().unwrap());
    (answer, Some(Turns { upgrade: hyper::upgrade::on(request), key, path }))
}

impl Turns {
    pub async fn serve(self, upstream: Upstream) {
        let Ok(stream) = self.upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
        // what a conversation has so far: only this connection knows it
        let (mut input, mut text): (Vec<Value>, String) = (Vec::new(), String::new());
        let mut has_conversation = false;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(message) = message else { continue };
            let mut turn: Value = serde_json::from_str(&message).unwrap();
            let is_continued = !turn["previous_response_id"].is_null();
            if is_continued && !has_conversation {
                let error = json!({ "type": "invalid_request_error", "code": "previous_response_not_found",
                    "message": "Previous response not found." });
                let event = json!({ "type": "error", "status": 400, "error": error });
                if socket.send(Message::text(event.to_string())).await.is_err() {
                    return;
                }
                continue;
            }
            if !is_continued {
                input.clear();
                text.clear();
            }
            input.extend(turn["input"].as_array().cloned().unwrap_or_default());
            text.push_str(&message);
            let is_warmup = turn["generate"] == false;
            turn["input"] = input.clone().into();
            let request = AgentRequest::read(Vendor::Openai, "/v1/responses", &turn, &text);
            let (status, answer, pace) = if is_warmup {
                (200, warmup(), std::time::Duration::ZERO)
            } else {
                upstream.turn(&self.key, &self.path, &request).await
            };
            has_conversation = status == 200;
            for event in events(status, &answer) {
                if socket.send(Message::text(event)).await.is_err() {
                    return;
                }
                tokio::time::sleep(pace).await;
            }
        }
    }
}

/// A turn that only prepares the connection.
fn warmup() -> String {
    let event =
        |kind: &str| json!({ "type": kind, "response": { "id": "resp_1", "status": "completed", "output": [] } });
    format!("data: {}\n\ndata: {}\n\n", event("response.created"), event("response.completed"))
}

/// What comes over HTTP as a stream or as an error, as messages.
fn events(status: u16, answer: &str) -> Vec<String> {
    if status == 200 {
        return answer.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect();
    }
    let mut event: Value = serde_json::from_str(answer).unwrap_or_else(|_| json!({}));
    event["type"] = "error".into();
    event["status"] = status.into();
    vec![event.to_string()]
}

fn codex(prompt: &str) -> [&str; 8] {
    ["codex", "exec", "--skip-git-repo-check", "-m", "gpt-5.1-codex", "-s", "danger-full-access", prompt]
}

/// Tool calls over one socket; the limit in the middle is unseen, and the conversation goes on over another socket.
#[test]
fn a_limit_in_the_middle_moves_codex_to_the_next_account() {
    // exactly what the run needs, whichever account comes first
    let fleet = Fleet::new("codex-socket", "openai", &[3, 4]);
    let ran = wait(vec![(1, fleet.start("user", &[], &codex(&fleet.prompt(1, 6))))]);
    let seen = fleet.upstream.seen();
    check(&fleet, &ran, 1);
    let text = &ran[0].text;
    assert!(!text.contains("Reconnecting") && !text.contains("usage limit"), "the limit is seen: {text}");
    assert_eq!((fleet.upstream.left(), fleet.upstream.sockets()), (0, 2), "a socket for each account: {seen:#?}");
}

#[test]
fn without_websockets_codex_uses_http_at_once() {
    let config = FleetConfig { text: "[gateway]\nwebsocket = false\n", ..FleetConfig::default() };
    let fleet = Fleet::with("codex-no-socket", "openai", &[(false, Limit::None)], &config);
    let ran = wait(vec![(1, fleet.start("user", &[], &codex(&fleet.prompt(1, 3))))]);
    check(&fleet, &ran, 0);
    assert_eq!((fleet.upstream.sockets(), fleet.upstream.seen().len()), (0, 4));
    assert!(!ran[0].text.contains("WebSocket"), "it tried one: {}", ran[0].text);
}
