//! The beginning of a response that seems to be a success: whether it is one.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::{sleep, timeout};

use crate::limits::{Dialect, MAX_BODY, is_error_event};

use super::decode::Decoder;
use super::events::Events;

/// So long at most is held back what only says that a stream has begun.
const HANDSHAKE: Duration = Duration::from_millis(150);
/// An event that is longer and not whole yet is content: errors are short.
const LONGEST_ERROR: usize = 16 * 1024;
/// How long the rest of an error is waited for.
const REST: Duration = Duration::from_secs(5);

/// What the beginning says.
#[derive(Debug)]
pub(super) enum Beginning {
    /// It goes to the client: these bytes, then the rest.
    Good(Vec<Bytes>),
    /// A stream that begins with an error event.
    Event { name: Option<String>, data: Vec<u8>, first: Vec<Bytes> },
    /// A document that is an error; decoded, and as it came.
    Document { text: Vec<u8>, first: Vec<Bytes> },
    /// It broke off before anything was said.
    Broken(String),
}

/// Looks at the beginning of a body.
pub(super) async fn look(headers: &HeaderMap, body: &mut Incoming, dialect: Dialect, idle: Duration) -> Beginning {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        of_stream(headers, body, dialect, idle).await
    } else if kind.contains("json") {
        of_document(headers, body, idle).await
    } else {
        Beginning::Good(Vec::new())
    }
}

/// What an event tells of its stream.
enum Told {
    Error(Option<String>, Vec<u8>),
    Content,
}

async fn of_stream(headers: &HeaderMap, body: &mut Incoming, dialect: Dialect, idle: Duration) -> Beginning {
    let (mut decoder, mut events, mut first) = (Decoder::of(headers), Events::default(), Vec::new());
    if matches!(decoder, Decoder::Blind) {
        return Beginning::Good(first);
    }
    let mut patience: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
    loop {
        let frame = tokio::select! {
            biased;
            frame = timeout(idle, body.frame()) => frame,
            () = async { match &mut patience { Some(sleep) => sleep.await, None => std::future::pending().await } } => {
                return Beginning::Good(first);
            }
        };
        let piece = match frame {
            Err(_) => return broken(first, format!("nothing came for {} s", idle.as_secs())),
            Ok(Some(Err(error))) => return broken(first, error.to_string()),
            Ok(None) => return Beginning::Good(first),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(piece) => piece,
                // trailers: there is no more
                Err(_) => return Beginning::Good(first),
            },
        };
        let mut told = None;
        decoder.push(&piece, |bytes| {
            events.push(bytes, |event| {
                if told.is_none() {
                    told = what(event.name, event.data, dialect);
                }
            });
        });
        first.push(piece);
        match told {
            Some(Told::Error(name, data)) => return Beginning::Event { name, data, first },
            Some(Told::Content) => return Beginning::Good(first),
            None if events.waiting() > LONGEST_ERROR || matches!(decoder, Decoder::Blind) => {
                return Beginning::Good(first);
            }
            None => patience = patience.or_else(|| Some(Box::pin(sleep(HANDSHAKE)))),
        }
    }
}

/// What was said already must not be said twice.
fn broken(first: Vec<Bytes>, why: String) -> Beginning {
    debug_assert!(first.iter().all(|piece| !piece.is_empty()), "{why}");
    Beginning::Broken(why)
}

fn what(name: Option<&str>, data: &[u8], dialect: Dialect) -> Option<Told> {
    if is_error_event(name, data) {
        return Some(Told::Error(name.map(str::to_owned), data.to_vec()));
    }
    // before it says anything, the Responses API says that it is about to; overload comes after that
    let word = |word: &[u8]| memchr::memmem::find(&data[..data.len().min(64)], word).is_some();
    let is_handshake = name == Some("ping")
        || dialect != Dialect::Anthropic
            && [&b"\"response.created\""[..], b"\"response.in_progress\"", b"\"response.queued\""]
                .into_iter()
                .any(word);
    (!is_handshake).then_some(Told::Content)
}

async fn of_document(headers: &HeaderMap, body: &mut Incoming, idle: Duration) -> Beginning {
    let first = match timeout(idle, body.frame()).await {
        Err(_) => return Beginning::Broken(format!("nothing came for {} s", idle.as_secs())),
        Ok(Some(Err(error))) => return Beginning::Broken(error.to_string()),
        Ok(None) => return Beginning::Good(Vec::new()),
        Ok(Some(Ok(frame))) => match frame.into_data() {
            Ok(piece) => piece,
            Err(_) => return Beginning::Good(Vec::new()),
        },
    };
    let (mut decoder, mut text) = (Decoder::of(headers), Vec::new());
    decoder.push(&first, |bytes| text.extend_from_slice(bytes));
    let mut pieces = vec![first];
    if !begins_as_error(&text) {
        return Beginning::Good(pieces);
    }
    collect(body, &mut decoder, &mut text, &mut pieces).await;
    Beginning::Document { text, first: pieces }
}

/// Whether a document begins as only errors do.
fn begins_as_error(text: &[u8]) -> bool {
    let dense: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(24).collect();
    let dense = dense.strip_prefix(b"[").unwrap_or(&dense);
    dense.starts_with(b"{\"error\":{") || dense.starts_with(b"{\"type\":\"error\"")
}

/// Reads the body of a refusal, as far as it matters: decoded, and as it came.
pub(super) async fn read(headers: &HeaderMap, body: &mut Incoming) -> (Vec<u8>, Vec<Bytes>) {
    let (mut decoder, mut text, mut pieces) = (Decoder::of(headers), Vec::new(), Vec::new());
    collect(body, &mut decoder, &mut text, &mut pieces).await;
    (text, pieces)
}

/// Reads on until the end, or until enough is known, or until it takes too long.
async fn collect(body: &mut Incoming, decoder: &mut Decoder, text: &mut Vec<u8>, pieces: &mut Vec<Bytes>) {
    let all = async {
        let mut length: usize = pieces.iter().map(Bytes::len).sum();
        while length < MAX_BODY {
            let Some(Ok(frame)) = body.frame().await else { break };
            let Ok(piece) = frame.into_data() else { break };
            decoder.push(&piece, |bytes| text.extend_from_slice(bytes));
            length += piece.len();
            pieces.push(piece);
        }
    };
    // what has come by then is what there is
    let _in_time = timeout(REST, all).await;
    decoder.end(|bytes| text.extend_from_slice(bytes));
    text.truncate(MAX_BODY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_begin_like_errors() {
        for (text, expected) in [
            ("{\"error\": {\"message\":\"x\"}}", true),
            (" [ {\n \"error\" : {", true),
            ("{\"type\":\"error\",\"error\":{}}", true),
            ("{\"error\":null,\"id\":1}", false),
            ("{\"type\":\"message\"}", false),
            ("{\"id\":\"x\",\"error\":{}}", false),
            ("", false),
        ] {
            assert_eq!(begins_as_error(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_only_says_that_it_begins_is_held_back() {
        let held = |name, data: &str, dialect| what(name, data.as_bytes(), dialect).is_none();
        assert!(held(None, "{\"type\":\"response.created\",\"response\":{}}", Dialect::Openai));
        assert!(!held(None, "{\"type\":\"response.output_text.delta\"}", Dialect::Openai));
        assert!(held(Some("ping"), "{\"type\":\"ping\"}", Dialect::Anthropic));
        assert!(!held(Some("message_start"), "{\"type\":\"message_start\"}", Dialect::Anthropic));
        let error = what(None, b"{\"type\":\"response.failed\",\"response\":{}}", Dialect::Openai);
        assert!(matches!(error, Some(Told::Error(..))));
    }
}
