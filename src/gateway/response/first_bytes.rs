//! Reads the first bytes of a response that has a success status, to see whether it is an error all the same.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use tokio::time::{Instant, timeout, timeout_at};

use super::sse::SseParser;
use super::{content_type, is_event_stream};
use crate::limits::{MAX_BODY, is_error_event};
use crate::{gateway::content_decoder::ContentDecoder, provider::is_preamble_event};

/// How long events that only announce a stream are held back.
const PREAMBLE_TIMEOUT: Duration = Duration::from_millis(150);
/// An unfinished event that is longer is content: errors are short. In bytes.
const MAX_ERROR_EVENT: usize = 16 * 1024;
/// How long to wait for the rest of an error.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) enum FirstBytes {
    /// A success: these bytes go to the client, then the rest.
    Success(Vec<Bytes>),
    ErrorEvent {
        name: Option<String>,
        data: Vec<u8>,
        first: Vec<Bytes>,
    },
    /// A document that is an error: decoded, and as it was received.
    ErrorDocument {
        text: Vec<u8>,
        first: Vec<Bytes>,
    },
    /// The response broke off before it said anything.
    Broken(String),
}

/// Reads the first bytes of a body; `idle` is the longest silence.
pub(crate) async fn read(headers: &HeaderMap, body: &mut Incoming, provider: &str, idle: Duration) -> FirstBytes {
    if is_event_stream(headers) {
        read_stream(headers, body, provider, idle).await
    } else if content_type(headers).contains("json") {
        read_document(headers, body, idle).await
    } else {
        FirstBytes::Success(Vec::new())
    }
}

/// The body of a refusal, as far as it matters.
pub(crate) struct RefusalText {
    pub(crate) decoded: Vec<u8>,
    /// As it was received.
    pub(crate) first: Vec<Bytes>,
    /// Nothing of it is missing, and all could be decoded.
    pub(crate) is_complete: bool,
}

/// Reads the body of a refusal.
pub(crate) async fn read_refusal(headers: &HeaderMap, body: &mut Incoming) -> RefusalText {
    let (mut decoder, mut decoded, mut first) = (ContentDecoder::of(headers), Vec::new(), Vec::new());
    let is_read = collect(body, &mut decoder, &mut decoded, &mut first).await;
    RefusalText { is_complete: is_read && !matches!(decoder, ContentDecoder::Unreadable), decoded, first }
}

enum StreamStart {
    Error(Option<String>, Vec<u8>),
    Content,
}

async fn read_stream(headers: &HeaderMap, body: &mut Incoming, provider: &str, idle: Duration) -> FirstBytes {
    let (mut decoder, mut events, mut first) = (ContentDecoder::of(headers), SseParser::default(), Vec::new());
    if matches!(decoder, ContentDecoder::Unreadable) {
        return FirstBytes::Success(first);
    }
    let mut preamble_ends: Option<Instant> = None;
    loop {
        let next = next_piece(body, idle);
        let piece = match preamble_ends {
            Some(end) => match timeout_at(end, next).await {
                Ok(piece) => piece,
                Err(_) => return FirstBytes::Success(first),
            },
            None => next.await,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return FirstBytes::Success(first),
            Err(why) => return FirstBytes::Broken(why),
        };
        let mut start = None;
        decoder.push(&piece, |bytes| {
            events.push(bytes, |event| {
                if start.is_none() {
                    start = stream_start(event.name, event.data, provider);
                }
            });
        });
        first.push(piece);
        match start {
            Some(StreamStart::Error(name, data)) => return FirstBytes::ErrorEvent { name, data, first },
            Some(StreamStart::Content) => return FirstBytes::Success(first),
            None if events.pending() > MAX_ERROR_EVENT || matches!(decoder, ContentDecoder::Unreadable) => {
                return FirstBytes::Success(first);
            }
            #[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
            None => _ = preamble_ends.get_or_insert_with(|| Instant::now() + PREAMBLE_TIMEOUT),
        }
    }
}

/// The next piece of a body; `None` at its end or before trailers.
async fn next_piece(body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, String> {
    match timeout(idle, body.frame()).await {
        Err(_) => Err(format!("the upstream has sent nothing for {} s", idle.as_secs())),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(frame.into_data().ok()),
    }
}

/// What the first event says; `None` when it only announces the stream.
fn stream_start(name: Option<&str>, data: &[u8], provider: &str) -> Option<StreamStart> {
    if is_error_event(name, data) {
        return Some(StreamStart::Error(name.map(str::to_owned), data.to_vec()));
    }
    // the Responses API announces a response before it reports an overload
    (!is_preamble_event(provider, name, data)).then_some(StreamStart::Content)
}

async fn read_document(headers: &HeaderMap, body: &mut Incoming, idle: Duration) -> FirstBytes {
    let first = match next_piece(body, idle).await {
        Ok(Some(piece)) => piece,
        Ok(None) => return FirstBytes::Success(Vec::new()),
        Err(why) => return FirstBytes::Broken(why),
    };
    let (mut decoder, mut text) = (ContentDecoder::of(headers), Vec::new());
    decoder.push(&first, |bytes| text.extend_from_slice(bytes));
    let mut pieces = vec![first];
    if !begins_as_error(&text) {
        return FirstBytes::Success(pieces);
    }
    collect(body, &mut decoder, &mut text, &mut pieces).await;
    FirstBytes::ErrorDocument { text, first: pieces }
}

/// Whether a document begins as only errors do.
pub(super) fn begins_as_error(text: &[u8]) -> bool {
    let dense: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(24).collect();
    let dense = dense.strip_prefix(b"[").unwrap_or(&dense);
    dense.starts_with(b"{\"error\":{") || dense.starts_with(b"{\"type\":\"error\"")
}

/// Reads on until the end, until [`MAX_BODY`] bytes are read, or until it takes too long; returns whether the end was
/// reached.
async fn collect(
    body: &mut Incoming,
    decoder: &mut ContentDecoder,
    text: &mut Vec<u8>,
    pieces: &mut Vec<Bytes>,
) -> bool {
    let read_all = async {
        let mut length: usize = pieces.iter().map(Bytes::len).sum();
        while length < MAX_BODY {
            let Some(frame) = body.frame().await else { return true };
            // the end, or trailers
            let Ok(piece) = frame.map(|frame| frame.into_data().ok()) else { return false };
            let Some(piece) = piece else { return true };
            decoder.push(&piece, |bytes| text.extend_from_slice(bytes));
            length += piece.len();
            pieces.push(piece);
        }
        false
    };
    // after the timeout, what was received is judged
    let is_complete = timeout(ERROR_TIMEOUT, read_all).await.unwrap_or(false);
    decoder.finish(|bytes| text.extend_from_slice(bytes));
    let is_whole = text.len() <= MAX_BODY;
    text.truncate(MAX_BODY);
    is_complete && is_whole
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
    fn an_announcement_is_held_back_and_an_error_is_found() {
        let start = |data: &str| stream_start(None, data.as_bytes(), "openai");
        assert!(start("{\"type\":\"response.created\",\"response\":{}}").is_none());
        assert!(matches!(start("{\"type\":\"response.output_text.delta\"}"), Some(StreamStart::Content)));
        assert!(matches!(start("{\"type\":\"response.failed\",\"response\":{}}"), Some(StreamStart::Error(..))));
    }
}
