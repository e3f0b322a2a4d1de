//! What a daemon needs that passes calls on: calls in the client's encoding, and answers of which only the id is read.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call::Call;
use super::error::ErrorInfo;
use super::message::RequestId;
use super::{Codec, frame, json};

/// The largest answer that is passed on.
const LARGEST_ANSWER: usize = 8 << 20;

/// Appends a call; a notification has no id, and in binary frames `u64::MAX`.
///
/// # Errors
/// When it is larger than a message may be.
pub fn encode_call_as(codec: Codec, id: Option<&RequestId>, call: Call, out: &mut Vec<u8>) -> Result<(), ErrorInfo> {
    match codec {
        Codec::Binary => {
            let number = match id {
                Some(RequestId::Number(number)) => *number,
                Some(RequestId::Json(_)) | None => u64::MAX,
            };
            frame::encode_call(number, call, out)
        }
        Codec::Json => json::encode_call(id, &call, out),
    }
}

/// Splits what a daemon answers into whole messages.
#[derive(Debug)]
pub struct AnswerSplitter {
    codec: Codec,
    buffer: Vec<u8>,
    start: usize,
}

/// One message, with its frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayedAnswer {
    /// The call that it answers; none of an event.
    pub id: Option<RequestId>,
    /// The message as it came.
    pub bytes: Vec<u8>,
}

/// What the other daemon sent is no message of the protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other daemon sent what is no answer")]
pub struct NotAnAnswer;

impl AnswerSplitter {
    /// Of answers in this encoding.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self { codec, buffer: Vec::new(), start: 0 }
    }

    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When it is none of the protocol, or too large.
    pub fn take(&mut self) -> Result<Option<RelayedAnswer>, NotAnAnswer> {
        let pending = &self.buffer[self.start..];
        if pending.len() > LARGEST_ANSWER {
            return Err(NotAnAnswer);
        }
        let (length, id) = match self.codec {
            Codec::Json => {
                let Some(end) = memchr::memchr(b'\n', pending) else { return Ok(None) };
                (end + 1, json_id(&pending[..end])?)
            }
            Codec::Binary => {
                let Some((header, rest)) = pending.split_first_chunk::<4>() else { return Ok(None) };
                let length = u32::from_le_bytes(*header) as usize;
                if length > LARGEST_ANSWER {
                    return Err(NotAnAnswer);
                }
                let Some(body) = rest.get(..length) else { return Ok(None) };
                (header.len() + length, frame::answered_id(body).map_err(|_| NotAnAnswer)?.map(RequestId::Number))
            }
        };
        let bytes = pending[..length].to_vec();
        self.start += length;
        if self.start > LARGEST_ANSWER / 8 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(Some(RelayedAnswer { id, bytes }))
    }
}

impl Drop for AnswerSplitter {
    /// Answers hold secrets.
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.buffer);
    }
}

fn json_id(line: &[u8]) -> Result<Option<RequestId>, NotAnAnswer> {
    #[derive(Deserialize)]
    struct Beginning<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let Beginning { id } = serde_json::from_slice(line).map_err(|_| NotAnAnswer)?;
    Ok(id.map(json::request_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, Empty, ErrorKind, EventInfo, LeaseRef, MessageDecoder};

    #[test]
    fn answers_are_split_whatever_pieces_they_come_in() {
        for codec in [Codec::Json, Codec::Binary] {
            let ids = [RequestId::Number(7), RequestId::Number(u64::MAX)];
            let mut all = Vec::new();
            codec.answer(&ids[0], &Answer::Done(Empty {}), &mut all);
            codec.event(&EventInfo { kind: "lease.ended".into(), ..EventInfo::default() }, &mut all);
            codec.refusal(&ids[1], &ErrorInfo::new(ErrorKind::StaleLease, "it has\nended"), &mut all);
            for piece in 1..all.len() {
                let mut splitter = AnswerSplitter::new(codec);
                let mut found = Vec::new();
                for bytes in all.chunks(piece) {
                    splitter.push(bytes);
                    while let Some(answer) = splitter.take().unwrap() {
                        found.push(answer);
                    }
                }
                let known: Vec<_> = found.iter().map(|answer| answer.id.clone()).collect();
                assert_eq!(known, [Some(ids[0].clone()), None, Some(ids[1].clone())]);
                assert_eq!(found.into_iter().flat_map(|answer| answer.bytes).collect::<Vec<_>>(), all);
            }
        }
    }

    #[test]
    fn a_call_is_the_same_in_either_encoding() {
        let call = Call::Release(LeaseRef { lease: "ls_1".into(), fence: Some(3) });
        for (codec, id) in [
            (Codec::Json, RequestId::Json("\"a\"".into())),
            (Codec::Json, RequestId::Number(4)),
            (Codec::Binary, RequestId::Number(4)),
        ] {
            let mut out = if codec == Codec::Binary { crate::protocol::MAGIC.to_vec() } else { Vec::new() };
            encode_call_as(codec, Some(&id), call.clone(), &mut out).unwrap();
            let mut decoder = MessageDecoder::default();
            decoder.inbox().extend_from_slice(&out);
            let incoming = decoder.take().unwrap().unwrap();
            assert_eq!((incoming.id, incoming.call), (Some(id), Ok(call.clone())));
        }
    }
}
