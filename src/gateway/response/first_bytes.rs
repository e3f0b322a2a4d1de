//! Reads the first bytes of a response that has a success status, to see whether it is an error all the same.

use std::{borrow::Cow, pin::pin, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::{Instant, timeout, timeout_at};

use super::sse::SseParser;
use super::{content_type, is_event_stream};
use crate::gateway::content_decoder::{ContentDecoder, in_turn};
use crate::gateway::memory::{KeptBytes, PoolShare, RESPONSES};
use crate::gateway::waiting::in_time;
use crate::limits::{MAX_BODY, is_error_event};
use crate::provider::is_preamble_event;

/// How long events that only announce a stream are held back.
pub(crate) const PREAMBLE_TIMEOUT: Duration = Duration::from_millis(150);
/// An unfinished event that is longer is content: errors are short. In bytes.
const MAX_ERROR_EVENT: usize = 16 * 1024;
/// A stream that has only announced itself within so many bytes is passed on.
const MAX_PREAMBLE: usize = 64 * 1024;
/// How much of a document tells whether it is an error, decoded.
const DOCUMENT_START: usize = 4096;
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
    /// A document that is an error.
    ErrorDocument(RefusalText),
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
#[derive(Debug)]
pub(crate) struct RefusalText {
    pub(crate) decoded: Vec<u8>,
    /// As it was received.
    pub(crate) first: Vec<Bytes>,
    /// Nothing of it is missing, and all could be decoded.
    pub(crate) is_complete: bool,
    /// For the memory of both.
    pub(crate) share: PoolShare,
}

/// Reads the body of a refusal.
pub(crate) async fn read_refusal(headers: &HeaderMap, body: &mut Incoming) -> RefusalText {
    collect(headers, body, KeptBytes::default()).await
}

enum StreamStart {
    Error(Option<String>, Vec<u8>),
    Content,
}

async fn read_stream(headers: &HeaderMap, body: &mut Incoming, provider: &str, idle: Duration) -> FirstBytes {
    let (mut decoder, mut events) = (ContentDecoder::of_response(headers), SseParser::default());
    // the first piece is mostly all
    let (mut first, mut share) = (KeptBytes::default(), RESPONSES.share());
    if decoder.is_unreadable() {
        return FirstBytes::Success(Vec::new());
    }
    let mut preamble_ends: Option<Instant> = None;
    loop {
        let next = next_piece(body, idle);
        let piece = match preamble_ends {
            Some(end) => match timeout_at(end, next).await {
                Ok(piece) => piece,
                Err(_) => return FirstBytes::Success(first.into_blocks()),
            },
            None => next.await,
        };
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return FirstBytes::Success(first.into_blocks()),
            Err(why) => return FirstBytes::Broken(why),
        };
        let mut start = None;
        let read = |bytes: &[u8]| {
            events.push(bytes, |event| {
                if start.is_none() {
                    start = stream_start(event.name, event.data, provider);
                }
            });
        };
        decoder.push_in_turns(&piece, read).await;
        first.push(&piece);
        let is_too_long = first.len() > MAX_PREAMBLE || !share.grow(piece.len());
        match start {
            Some(StreamStart::Error(name, data)) => {
                return FirstBytes::ErrorEvent { name, data, first: first.into_blocks() };
            }
            Some(StreamStart::Content) => return FirstBytes::Success(first.into_blocks()),
            None if is_too_long || events.pending() > MAX_ERROR_EVENT || decoder.is_unreadable() => {
                return FirstBytes::Success(first.into_blocks());
            }
            #[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
            None => _ = preamble_ends.get_or_insert_with(|| Instant::now() + PREAMBLE_TIMEOUT),
        }
    }
}

/// The next piece of a body; `None` at its end or before trailers.
async fn next_piece(body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, String> {
    match in_time(idle, pin!(body.frame())).await {
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
    if !begins_as_error(&decoded_start(headers, std::slice::from_ref(&first), DOCUMENT_START)) {
        return FirstBytes::Success(vec![first]);
    }
    let mut kept = KeptBytes::default();
    kept.push(&first);
    FirstBytes::ErrorDocument(collect(headers, body, kept).await)
}

/// So many bytes of a text, decoded; those of a single piece that is not encoded are not copied.
pub(super) fn decoded_start<'p>(headers: &HeaderMap, pieces: &'p [Bytes], most: usize) -> Cow<'p, [u8]> {
    match pieces {
        [] => Cow::Borrowed(&[]),
        [only] if !headers.contains_key(CONTENT_ENCODING) => Cow::Borrowed(&only[..only.len().min(most)]),
        _ => decode(headers, pieces, most).0.into(),
    }
}

/// Decodes at most so many bytes; returns whether that was all.
fn decode(headers: &HeaderMap, pieces: &[Bytes], most: usize) -> (Vec<u8>, bool) {
    let (mut decoder, mut text) = (ContentDecoder::at_once(headers, most), Vec::new());
    let mut is_whole = true;
    let mut keep = |bytes: &[u8]| {
        let fits = bytes.len().min(most - text.len());
        text.extend_from_slice(&bytes[..fits]);
        is_whole &= fits == bytes.len();
    };
    pieces.iter().for_each(|piece| decoder.push(piece, &mut keep));
    decoder.finish(&mut keep);
    (text, is_whole && !decoder.is_unreadable())
}

/// Whether a document begins as only errors do.
pub(super) fn begins_as_error(text: &[u8]) -> bool {
    let dense = || text.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    let begins = |start: &[u8]| {
        let mut dense = dense().peekable();
        _ = dense.next_if_eq(&b'[');
        start.iter().all(|byte| dense.next() == Some(*byte))
    };
    begins(b"{\"error\":{") || begins(b"{\"type\":\"error\"")
}

/// Reads on until the end, until [`MAX_BODY`] bytes are read, until it takes too long, or until there is no room for more.
/// It is decoded when all of it is there, so that few decoders are at work at a time.
async fn collect(headers: &HeaderMap, body: &mut Incoming, mut kept: KeptBytes) -> RefusalText {
    let mut share = RESPONSES.share();
    let read_all = async {
        while kept.len() < MAX_BODY {
            let Some(frame) = body.frame().await else { return true };
            // the end, or trailers
            let Ok(piece) = frame.map(|frame| frame.into_data().ok()) else { return false };
            let Some(piece) = piece else { return true };
            kept.push(&piece);
            if !share.grow(piece.len()) {
                return false;
            }
        }
        false
    };
    // after the timeout, what was received is judged
    let is_read = timeout(ERROR_TIMEOUT, read_all).await.unwrap_or(false);
    let first = kept.into_blocks();
    let decode = || decode(headers, &first, MAX_BODY);
    let (decoded, is_whole) = if headers.contains_key(CONTENT_ENCODING) { in_turn(decode).await } else { decode() };
    share.take(decoded.len());
    RefusalText { decoded, first, is_complete: is_read && is_whole, share }
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
