//! The connection to an upstream: the end of its opening, and the first events of a turn.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use hyper::http::response::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::{MAX_EVENT, READ_BUFFER, message};
use crate::daemon::LeasedAccount;
use crate::gateway::forward::{AttemptOutcome, UpstreamRefusal};
use crate::gateway::response::{IDLE_TIMEOUT, first_bytes::PREAMBLE_TIMEOUT};
use crate::gateway::waiting::now;
use crate::limits::is_error_event;
use crate::pool::AccountId;

/// The value that RFC 6455 has both ends hash with the client's key.
const PROTOCOL_ID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The most ids of responses that are kept: clients continue the last one.
const MOST_IDS: usize = 64;

pub(super) type SocketStream = WebSocketStream<TokioIo<Upgraded>>;

/// An open socket to an upstream, with the credential of an account.
pub(super) struct UpstreamSocket {
    stream: SocketStream,
    pub(super) account: AccountId,
    /// The ids of the responses that it has created, the newest last.
    created: VecDeque<String>,
}

/// What the next message of a socket is.
pub(super) enum SocketMessage {
    Message(Message),
    /// The other end has closed it, with this frame.
    Closed(Option<CloseFrame>),
    Lost(String),
}

/// What a server answers to a client's key.
pub(super) fn accept_value(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{PROTOCOL_ID}").as_bytes());
    Some(STANDARD.encode(hash.as_ref()))
}

/// A socket on a connection that has switched to it; `max_message` in bytes.
pub(super) async fn socket(stream: Upgraded, role: Role, max_message: usize) -> SocketStream {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    WebSocketStream::from_raw_socket(TokioIo::new(stream), role, Some(config)).await
}

/// The next message of a socket.
pub(super) async fn next_message(stream: &mut SocketStream) -> SocketMessage {
    match stream.next().await {
        Some(Ok(Message::Close(frame))) => SocketMessage::Closed(frame),
        Some(Ok(message)) => SocketMessage::Message(message),
        Some(Err(error)) => SocketMessage::Lost(error.to_string()),
        None => SocketMessage::Lost("the connection has ended".to_owned()),
    }
}

impl UpstreamSocket {
    /// The socket that a response with status 101 opens; `sent` are the headers of the request.
    ///
    /// # Errors
    /// When the response is not that of a WebSocket.
    pub(super) async fn of(head: &mut Parts, sent: &HeaderMap, account: &LeasedAccount) -> Result<Self, String> {
        let accepted = head.headers.get(SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
        if accepted.map(str::trim) != accept_value(sent).as_deref() {
            return Err("the response has another sec-websocket-accept than RFC 6455 requires".to_owned());
        }
        let upgrade = head.extensions.remove::<OnUpgrade>().ok_or("the connection was not switched")?;
        let stream = upgrade.await.map_err(|error| format!("the connection was not switched: {error}"))?;
        let stream = socket(stream, Role::Client, MAX_EVENT).await;
        Ok(Self { stream, account: account.id, created: VecDeque::new() })
    }

    /// Whether it has created a response: only here can a turn continue one that is not stored.
    pub(super) fn has_created(&self, id: &str) -> bool {
        self.created.iter().any(|known| known == id)
    }

    pub(super) fn note_created(&mut self, ids: &[String]) {
        for id in ids {
            if !self.has_created(id) {
                self.created.push_back(id.clone());
            }
        }
        self.created.drain(..self.created.len().saturating_sub(MOST_IDS));
    }

    pub(super) async fn next(&mut self) -> SocketMessage {
        next_message(&mut self.stream).await
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.stream.send(message).await
    }

    /// Sends a turn, and reads its events until one of them says that it is served or refused.
    ///
    /// # Errors
    /// When the connection has ended before.
    pub(super) async fn begin_turn(&mut self, text: Utf8Bytes) -> Result<AttemptOutcome<()>, String> {
        self.send(Message::Text(text)).await.map_err(|error| error.to_string())?;
        let (mut first, mut hold): (Vec<Bytes>, _) = (Vec::new(), None);
        loop {
            let next = async {
                match hold {
                    Some(until) => timeout_at(until, self.next()).await.ok(),
                    None => Some(timeout(IDLE_TIMEOUT, self.next()).await.unwrap_or_else(|_| {
                        SocketMessage::Lost(format!("no event within {} s", IDLE_TIMEOUT.as_secs()))
                    })),
                }
            };
            let Some(next) = next.await else { return Ok(served(first)) };
            let text = match next {
                SocketMessage::Message(Message::Text(text)) => text,
                // the library has answered a ping
                SocketMessage::Message(_) => continue,
                SocketMessage::Closed(frame) => return Err(close_reason(frame.as_ref())),
                SocketMessage::Lost(reason) => return Err(reason),
            };
            let data = Bytes::from(text);
            first.push(data.clone());
            if is_error_event(None, &data) {
                let status = message::stated_status(&data).and_then(|status| StatusCode::from_u16(status).ok());
                let head = head(status.unwrap_or(StatusCode::OK));
                let refused = UpstreamRefusal::of_event(head, first, data.to_vec(), ());
                return Ok(AttemptOutcome::Refused(Box::new(refused)));
            }
            if !message::is_preamble(&data) {
                return Ok(served(first));
            }
            hold.get_or_insert_with(|| now() + PREAMBLE_TIMEOUT);
        }
    }
}

/// Why the other end has closed a socket.
pub(super) fn close_reason(frame: Option<&CloseFrame>) -> String {
    frame.map_or_else(
        || "the socket was closed".to_owned(),
        |frame| format!("the socket was closed with code {}", u16::from(frame.code)),
    )
}

fn served(first: Vec<Bytes>) -> AttemptOutcome<()> {
    AttemptOutcome::Response(Box::new(head(StatusCode::OK)), first, ())
}

/// The head that a turn's response would have over HTTP.
fn head(status: StatusCode) -> Parts {
    let mut head = Response::new(()).into_parts().0;
    head.status = status;
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        let mut headers = HeaderMap::new();
        assert_eq!(accept_value(&headers), None);
        // the example of RFC 6455, section 1.3
        headers.insert(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert_eq!(accept_value(&headers).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
