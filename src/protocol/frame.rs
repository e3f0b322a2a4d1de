//! Binary frames, private to lessor's own programs: `u32` little-endian length, then bincode.
//!
//! bincode 2.0.1 is the last working version (3.0.0 is a tombstone that does not compile), so it is pinned and
//! named in this file only. The way out needs no change of the wire: wincode, set to variable-length integers, writes
//! and reads the same bytes. Another encoding could also be added beside it: `hello` names the one in use.

mod lease_answer;
mod plain_call;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, EventInfo, LeaseInfo};
use super::error::{ErrorInfo, ErrorKind};
use super::message::{Incoming, RequestId};
use super::{MAX_MESSAGE, call::Call};

/// The first bytes of a binary connection: three letters and the version of the framing.
pub const MAGIC: [u8; 4] = *b"LSR\x01";
/// The name of this encoding in `hello`.
pub const ENCODING: &str = "enc:bincode2";

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE>();

#[derive(Serialize, Deserialize)]
struct FromClient {
    id: u64,
    call: Call,
}

/// One message from the daemon. The order of the variants is part of the protocol.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "most messages are answers, and none is kept")]
pub enum FromServer<'a> {
    /// The answer to a call.
    Answer(u64, Answer<'a>),
    /// The refusal of a call.
    Refusal(u64, ErrorInfo),
    /// An event.
    Event(Box<EventInfo>),
}

/// Buffers what the daemon sends and extracts the messages.
#[derive(Debug, Default)]
pub struct ServerFrames {
    buffer: Vec<u8>,
}

/// The daemon sent a message that this client cannot decode.
#[derive(Debug, thiserror::Error)]
#[error("the daemon sent a message that this client cannot decode: {0}")]
pub struct BadFrame(String);

impl ServerFrames {
    /// The buffer to append received bytes to.
    pub fn inbox(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The next complete message.
    ///
    /// # Errors
    /// When the bytes are not a message of this protocol.
    pub fn take(&mut self) -> Result<Option<FromServer<'static>>, BadFrame> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_ANSWER {
            return Err(BadFrame(format!("{length} bytes are announced")));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (message, used) =
            bincode::serde::decode_from_slice(body, ANSWER_CONFIG).map_err(|error| BadFrame(error.to_string()))?;
        if used != length {
            return Err(BadFrame("bytes are left over".into()));
        }
        self.buffer.drain(..header.len() + length);
        Ok(Some(message))
    }
}

/// The largest answer a client takes: a list of all leases can be long.
const MAX_ANSWER: usize = 64 << 20;
/// A text within an answer cannot be longer either, whatever length it states: memory is reserved for it before it is read.
const ANSWER_CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_ANSWER>> =
    bincode::config::standard().with_limit::<MAX_ANSWER>();

/// Appends a call, as a client sends it.
///
/// # Errors
/// When it is larger than a message may be.
pub fn encode_call(id: u64, call: Call, out: &mut Vec<u8>) -> Result<(), ErrorInfo> {
    let start = out.len();
    frame(out, |out| value(&FromClient { id, call }, out));
    if out.len() - start - 4 > MAX_MESSAGE {
        out.truncate(start);
        return Err(ErrorInfo::new(
            ErrorKind::TooLarge,
            format!("a message must not be larger than {MAX_MESSAGE} bytes"),
        ));
    }
    Ok(())
}

pub(super) use plain_call::parse as parse_plain;

/// Reads the body of one frame.
pub(super) fn parse(body: &[u8]) -> Result<Incoming, String> {
    let (message, used): (FromClient, usize) =
        bincode::serde::decode_from_slice(body, CONFIG).map_err(|error| format!("not a frame: {error}"))?;
    // bincode itself takes no offence at bytes that are left over
    if used != body.len() {
        return Err("not a frame: bytes are left over".into());
    }
    Ok(Incoming { id: Some(RequestId::Number(message.id)), call: Ok(message.call) })
}

/// The id of a frame of which only the beginning is known.
pub(super) fn id_of_beginning(body: &[u8]) -> Option<RequestId> {
    let (id, _) = bincode::serde::decode_from_slice::<u64, _>(body, CONFIG).ok()?;
    Some(RequestId::Number(id))
}

/// Which call the body of a daemon's frame answers; none of an event.
///
/// # Errors
/// When it is no message.
pub(super) fn answered_id(body: &[u8]) -> Result<Option<u64>, BadFrame> {
    let bad = |error: bincode::error::DecodeError| BadFrame(error.to_string());
    // the variant of `FromServer`, and its first field
    let (variant, used) = bincode::serde::decode_from_slice::<u32, _>(body, CONFIG).map_err(bad)?;
    match variant {
        0 | 1 => Ok(Some(bincode::serde::decode_from_slice::<u64, _>(&body[used..], CONFIG).map_err(bad)?.0)),
        2 => Ok(None),
        _ => Err(BadFrame(format!("there is no variant {variant}"))),
    }
}

pub(super) fn answer(id: &RequestId, answer: &Answer<'_>, out: &mut Vec<u8>) {
    // encoded as the variant of `FromServer` it is, without taking the answer over
    #[derive(Serialize)]
    enum Borrowed<'a> {
        Answer(u64, &'a Answer<'a>),
    }
    frame(out, |out| match answer {
        Answer::Lease(info) => lease_answer::answer(number(id), info, out),
        other => value(&Borrowed::Answer(number(id), other), out),
    });
}

pub(super) fn lease(id: &RequestId, lease: &LeaseInfo<'_>, out: &mut Vec<u8>) {
    frame(out, |out| lease_answer::answer(number(id), lease, out));
}

pub(super) fn refusal(id: &RequestId, error: &ErrorInfo, out: &mut Vec<u8>) {
    frame(out, |out| value(&FromServer::Refusal(number(id), error.clone()), out));
}

pub(super) fn event(event: &EventInfo, out: &mut Vec<u8>) {
    frame(out, |out| value(&FromServer::Event(Box::new(event.clone())), out));
}

/// Appends a frame whose body is what `write` appends.
fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn value(message: &impl Serialize, out: &mut Vec<u8>) {
    // our own types are written to memory: this cannot fail
    let written = bincode::serde::encode_into_std_write(message, out, bincode::config::standard());
    debug_assert!(written.is_ok(), "{written:?}");
}

fn number(id: &RequestId) -> u64 {
    match id {
        RequestId::Number(number) => *number,
        // only for errors on connections that have not sent a call yet
        RequestId::Json(_) => 0,
    }
}
