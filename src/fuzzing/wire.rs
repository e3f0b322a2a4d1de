//! What a client sends, in both codecs, and what a client reads.

use serde_json::Value;

use super::message::assert_hidden;
use crate::protocol::{
    Call, Codec, Fatal, FromServer, Incoming, MAGIC, MAX_MESSAGE, MessageDecoder, RawMessage, RequestId, ServerFrames,
    encode_call,
};

/// Binary frames, without the magic that begins a connection.
pub fn frames(input: &[u8]) {
    let bytes = [&MAGIC[..], input].concat();
    for incoming in decoded(&bytes) {
        if let Ok(call) = &incoming.call {
            assert_encodable(call);
        }
    }
}

/// JSON lines.
pub fn lines(input: &[u8]) {
    let bytes = [b"{", input].concat();
    let printed: Vec<String> = decoded(&bytes)
        .iter()
        .map(|incoming| {
            match &incoming.call {
                Ok(call) => assert_encodable(call),
                Err(error) => assert!(!error.message.is_empty()),
            }
            format!("{incoming:?}")
        })
        .collect();
    let documents = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    for secret in documents.flat_map(|document| secrets(&document)) {
        printed.iter().for_each(|printed| assert_hidden(&secret, &bytes, printed));
    }
}

/// Frames of the daemon, as a client reads them.
pub fn answers(input: &[u8]) {
    let mut frames = ServerFrames::default();
    frames.inbox().extend_from_slice(input);
    while let Ok(Some(message)) = frames.take() {
        let encode = |message: &FromServer<'static>| {
            let mut out = Vec::new();
            match message {
                FromServer::Answer(id, answer) => Codec::Binary.answer(&RequestId::Number(*id), answer, &mut out),
                FromServer::Refusal(id, error) => Codec::Binary.refusal(&RequestId::Number(*id), error, &mut out),
                FromServer::Event(event) => Codec::Binary.event(event, &mut out),
            }
            out
        };
        let first = encode(&message);
        let mut again = ServerFrames::default();
        again.inbox().extend_from_slice(&first);
        let Ok(Some(message)) = again.take() else { panic!("an encoded message is not read") };
        assert_eq!(encode(&message), first);
        let _printed = format!("{message:?}");
    }
}

/// The messages in bytes, which must not depend on how the bytes arrive.
fn decoded(bytes: &[u8]) -> Vec<Incoming> {
    let whole = decoded_by(bytes, bytes.len().max(1));
    let piece = usize::from(bytes.last().copied().unwrap_or_default()) + 1;
    let by_pieces = decoded_by(bytes, piece);
    assert_eq!(format!("{whole:?}"), format!("{by_pieces:?}"), "in pieces of {piece}");
    whole.0
}

/// The messages, and the kind of the error that ended the connection.
fn decoded_by(bytes: &[u8], piece: usize) -> (Vec<Incoming>, Option<String>) {
    let mut decoder = MessageDecoder::default();
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.inbox().extend_from_slice(piece);
        loop {
            match decoder.take_raw().and_then(|raw| raw.map(|raw| parsed(&raw)).transpose()) {
                Ok(Some(incoming)) => found.push(incoming),
                Ok(None) => break,
                Err(fatal) => return (found, Some(message_of(&fatal))),
            }
        }
        let room = decoder.inbox().capacity();
        assert!(room <= 4 * MAX_MESSAGE.max(bytes.len()), "{room} bytes are kept");
    }
    match decoder.take_rest().map(|raw| parsed(&raw)).transpose() {
        Ok(rest) => found.extend(rest),
        Err(fatal) => return (found, Some(message_of(&fatal))),
    }
    (found, None)
}

fn parsed(raw: &RawMessage<'_>) -> Result<Incoming, Fatal> {
    let incoming = raw.parse()?;
    if let (Some(id), true) = (raw.id(), incoming.call.is_ok()) {
        assert_eq!(Some(id), incoming.id, "the id at the beginning of a message is another one");
    }
    Ok(incoming)
}

fn message_of(fatal: &Fatal) -> String {
    assert!(!fatal.error.message.is_empty());
    fatal.error.message.clone()
}

/// Checks that a call is the same after it was encoded and decoded.
fn assert_encodable(call: &Call) {
    let encode = |call: &Call| {
        let mut out = Vec::new();
        // a call of a long line can be too long for a frame
        encode_call(7, call.clone(), &mut out).ok().map(|()| out)
    };
    let Some(first) = encode(call) else { return };
    let (mut again, fatal) = decoded_by(&[&MAGIC[..], &first].concat(), usize::MAX);
    assert_eq!((again.len(), fatal), (1, None));
    let Some(Incoming { id: Some(RequestId::Number(7)), call: Ok(call) }) = again.pop() else {
        panic!("another message than was encoded");
    };
    // not compared as values: a number that is none does not equal itself
    assert_eq!(encode(&call).as_deref(), Some(&first[..]));
}

/// The values of a call's parameters that are secrets.
fn secrets(document: &Value) -> Vec<String> {
    let Some(params) = document.get("params") else { return Vec::new() };
    let entries = params.get("entries").and_then(Value::as_array);
    let objects = entries.into_iter().flatten().chain([params]);
    let secrets = objects.flat_map(|object| [object.get("secret"), object.get("refresh_token")]);
    secrets.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
