//! The response of an upstream on its way to a client, for `fuzz/`.

use hyper::body::Bytes;
use hyper::header::HeaderMap;

use super::sse::SseParser;
use super::token_usage::UsageParser;
use super::{created_ids, first_bytes};
use crate::fuzzing::message::Message;
use crate::gateway::content_decoder::ContentDecoder;
use crate::limits::is_error_event;
use crate::provider::{is_final_event, is_preamble_event};

/// A longer event is not kept, in bytes.
const MAX_PENDING: usize = 64 * 1024 + 1;
/// The most bytes of decoded text that are compared.
const MAX_COMPARED: usize = 1 << 20;

/// A response: `PROVIDER`, headers, body.
pub fn gateway_response(input: &[u8]) {
    let message = Message::of(input);
    let (headers, provider) = (message.header_map(), message.word(0));
    let piece = usize::from(input.last().copied().unwrap_or_default()) + 1;
    let whole = observed(&headers, message.body, message.body.len().max(1), provider);
    let by_pieces = observed(&headers, message.body, piece, provider);
    if whole.is_decoded && by_pieces.is_decoded && whole.text.len() < MAX_COMPARED {
        assert_eq!(whole.text, by_pieces.text, "in pieces of {piece}");
        assert_eq!(whole.events, by_pieces.events, "in pieces of {piece}");
    }
    let first = [Bytes::copy_from_slice(message.body)];
    for id in created_ids(provider, &headers, &first) {
        assert!(!id.is_empty() && id.len() <= 256 && !id.contains(['"', '\\', ' ']), "{id:?}");
    }
    let _is_error = first_bytes::begins_as_error(&whole.text);
}

/// What the gateway has read of a response.
struct ObservedText {
    text: Vec<u8>,
    /// The names and data of the events.
    events: Vec<(Option<String>, Vec<u8>)>,
    /// All of it could be decoded.
    is_decoded: bool,
}

fn observed(headers: &HeaderMap, body: &[u8], piece: usize, provider: &str) -> ObservedText {
    let mut decoder = ContentDecoder::of_response(headers);
    let (mut parser, mut usage) = (SseParser::default(), UsageParser::default());
    let (mut text, mut events) = (Vec::new(), Vec::new());
    let mut read = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        usage.push(bytes);
        parser.push(bytes, |event| {
            let _kind = (
                is_error_event(event.name, event.data),
                is_final_event(event.name, event.data),
                is_preamble_event(provider, event.name, event.data),
            );
            events.push((event.name.map(str::to_owned), event.data.to_vec()));
        });
        assert!(parser.pending() <= MAX_PENDING, "{} bytes of an event are kept", parser.pending());
    };
    for bytes in body.chunks(piece) {
        decoder.push(bytes, &mut read);
    }
    decoder.finish(&mut read);
    let is_decoded = !decoder.is_unreadable();
    ObservedText { text, events, is_decoded }
}
