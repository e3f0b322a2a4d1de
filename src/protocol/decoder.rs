//! Finds complete messages in received bytes, and never buffers more than the limit.

use zeroize::Zeroize as _;

use super::call::{GUEST_MAGIC, GuestGreeting, LONGEST_GUEST_GREETING};
use super::error::{ErrorInfo, ErrorKind, INVALID_REQUEST, PARSE_ERROR};
use super::message::{Incoming, PlainMessage, RequestId};
use super::{Codec, MAX_MESSAGE, frame, json};

/// Buffers what a connection sends and extracts the messages.
#[derive(Debug, Default)]
pub struct MessageDecoder {
    codec: Option<Codec>,
    buffer: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// How far the buffer has been searched for a line's end.
    searched: usize,
    /// The rest of this message is discarded.
    discarding: Option<Discarding>,
}

/// The rest of a message that is discarded while it arrives.
#[derive(Clone, Copy, Debug)]
enum Discarding {
    /// Until the line's end; so many bytes of it have been discarded.
    Line(usize),
    /// So many bytes.
    Frame(usize),
}

/// One whole message, not yet parsed.
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'a> {
    /// Its encoding.
    pub codec: Codec,
    /// A line without its end, or the body of a frame.
    pub bytes: &'a [u8],
}

impl<'a> RawMessage<'a> {
    /// Its call, if it is one about a lease in a plain form: most are. [`Self::parse`] would read the same.
    #[must_use]
    pub fn plain(&self) -> Option<PlainMessage<'a>> {
        match self.codec {
            Codec::Json => json::parse_plain(self.bytes),
            Codec::Binary => frame::parse_plain(self.bytes),
        }
    }

    /// Parses it.
    ///
    /// # Errors
    /// When the connection cannot continue after it.
    pub fn parse(&self) -> Result<Incoming, Fatal> {
        match self.codec {
            Codec::Json => Ok(json::parse(self.bytes)),
            Codec::Binary => frame::parse(self.bytes).map_err(|text| Fatal {
                codec: Codec::Binary,
                error: Box::new(ErrorInfo::malformed(INVALID_REQUEST, text)),
            }),
        }
    }

    /// The message's id, if it is near its beginning; the message may be incomplete.
    #[must_use]
    pub fn id(&self) -> Option<RequestId> {
        let beginning = &self.bytes[..self.bytes.len().min(ID_WITHIN)];
        match self.codec {
            Codec::Json => json::id_of_beginning(beginning),
            Codec::Binary => frame::id_of_beginning(beginning),
        }
    }
}

/// The connection cannot continue; the error is sent before it is closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The encoding of the error.
    pub codec: Codec,
    /// The error.
    pub error: Box<ErrorInfo>,
}

/// How a connection begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GuestStart {
    /// As that of a client of this machine.
    No,
    /// Perhaps with the greeting of a guest: more has to arrive.
    Partial,
    /// With this greeting of a guest, which was taken out.
    Greeting(Box<GuestGreeting>),
}

impl MessageDecoder {
    /// Looks for the greeting of a guest, before the first message is taken.
    ///
    /// # Errors
    /// When it is one, and cannot be read.
    pub fn take_guest_start(&mut self) -> Result<GuestStart, Fatal> {
        let pending = &self.buffer[self.start..];
        let begins = pending.len().min(GUEST_MAGIC.len());
        if self.codec.is_some() || pending.is_empty() || pending[..begins] != GUEST_MAGIC[..begins] {
            return Ok(GuestStart::No);
        }
        // `L` begins both kinds of magic
        let Some((header, rest)) = pending.get(GUEST_MAGIC.len()..).and_then(|rest| rest.split_first_chunk::<4>())
        else {
            return Ok(GuestStart::Partial);
        };
        let fatal = |text: String| Fatal {
            codec: Codec::Json,
            error: Box::new(
                ErrorInfo::new(ErrorKind::UnsupportedVersion, format!("the greeting of a guest {text}"))
                    .hint("use the same version of lessor on both machines"),
            ),
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > LONGEST_GUEST_GREETING {
            return Err(fatal(format!("may have {LONGEST_GUEST_GREETING} bytes")));
        }
        let Some(document) = rest.get(..length) else { return Ok(GuestStart::Partial) };
        let greeting = serde_json::from_slice(document).map_err(|error| fatal(format!("cannot be read: {error}")))?;
        self.start += GUEST_MAGIC.len() + header.len() + length;
        self.searched = self.start;
        Ok(GuestStart::Greeting(Box::new(greeting)))
    }

    /// The codec, once the first byte has determined it.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// The buffer to append received bytes to, with some capacity reserved.
    pub fn inbox(&mut self) -> &mut Vec<u8> {
        let room = self.wanted_room();
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.searched = 0;
        } else if self.start > 0 && self.buffer.capacity() - self.buffer.len() < room {
            self.buffer.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        if self.buffer.capacity() - self.buffer.len() < room {
            // twice the size, but not more than the largest message needs
            let more = self.buffer.len().min(MAX_MESSAGE.saturating_sub(self.buffer.len())).max(room);
            self.buffer.reserve_exact(more);
        }
        &mut self.buffer
    }

    /// How much room a read needs. The buffer is small until the client fills it: most connections are idle, and send one
    /// short call at a time.
    fn wanted_room(&self) -> usize {
        let (capacity, length) = (self.buffer.capacity(), self.buffer.len());
        match capacity {
            0 => FIRST_ROOM,
            ..=FIRST_ROOM if capacity - length >= LEAST_ROOM => LEAST_ROOM,
            _ => READ_ROOM,
        }
    }

    /// Whether only a part of a message has arrived.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// The bytes that have arrived and belong to no message that was taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The memory that the buffer occupies.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Overwrites the buffer, which may contain secrets.
    pub fn wipe(&mut self) {
        self.buffer.zeroize();
        self.start = 0;
        self.searched = 0;
    }

    /// Frees the memory of a large message.
    pub fn shrink(&mut self) {
        if self.pending() <= READ_ROOM && self.buffer.capacity() > 2 * READ_ROOM {
            let rest = self.buffer[self.start..].to_vec();
            self.wipe();
            self.buffer = rest;
        }
    }

    /// Discards the message that has arrived in part, and what will arrive of it; returns its id, if it is known.
    pub fn discard(&mut self) -> Option<RequestId> {
        let pending = &self.buffer[self.start..];
        let codec = self.codec?;
        let (id, discarding) = match codec {
            Codec::Json => (RawMessage { codec, bytes: pending }.id(), Discarding::Line(pending.len())),
            Codec::Binary => {
                let (header, body) = pending.split_first_chunk::<4>()?;
                let length = u32::from_le_bytes(*header) as usize;
                (RawMessage { codec, bytes: body }.id(), Discarding::Frame(length.saturating_sub(body.len())))
            }
        };
        self.discarding = Some(discarding);
        self.wipe();
        id
    }

    /// The next complete message.
    ///
    /// # Errors
    /// When the connection's bytes cannot be split into messages any more.
    pub fn take(&mut self) -> Result<Option<Incoming>, Fatal> {
        self.take_raw()?.map(|message| message.parse()).transpose()
    }

    /// The next complete message, unparsed.
    ///
    /// # Errors
    /// When the connection's bytes cannot be split into messages any more.
    pub fn take_raw(&mut self) -> Result<Option<RawMessage<'_>>, Fatal> {
        if !self.is_discarded()? {
            return Ok(None);
        }
        let codec = match self.codec {
            Some(codec) => codec,
            None => match self.choose_codec()? {
                Some(codec) => codec,
                None => return Ok(None),
            },
        };
        match codec {
            Codec::Json => self.take_line(),
            Codec::Binary => self.take_frame(),
        }
    }

    /// Discards what has arrived of a discarded message; answers whether all of it has.
    fn is_discarded(&mut self) -> Result<bool, Fatal> {
        let pending = &self.buffer[self.start..];
        let (used, rest) = match self.discarding {
            None => return Ok(true),
            Some(Discarding::Line(before)) => match memchr::memchr(b'\n', pending) {
                Some(end) => (end + 1, None),
                None if before + pending.len() > MAX_MESSAGE => return Err(too_large(Codec::Json)),
                None => (pending.len(), Some(Discarding::Line(before + pending.len()))),
            },
            Some(Discarding::Frame(left)) if left > pending.len() => {
                (pending.len(), Some(Discarding::Frame(left - pending.len())))
            }
            Some(Discarding::Frame(left)) => (left, None),
        };
        self.start += used;
        self.searched = self.start;
        self.discarding = rest;
        Ok(rest.is_none())
    }

    /// The last message of a client that closes the connection without a line's end.
    pub fn take_rest(&mut self) -> Option<RawMessage<'_>> {
        if self.codec != Some(Codec::Json) || !self.is_partial() || self.discarding.is_some() {
            return None;
        }
        let line = &self.buffer[self.start..];
        self.start = self.buffer.len();
        (!line.trim_ascii().is_empty()).then_some(RawMessage { codec: Codec::Json, bytes: line })
    }

    fn choose_codec(&mut self) -> Result<Option<Codec>, Fatal> {
        let pending = &self.buffer[self.start..];
        let Some(first) = pending.first() else { return Ok(None) };
        let codec = if *first == b'{' {
            Codec::Json
        } else if pending.len() < frame::MAGIC.len() && frame::MAGIC.starts_with(pending) {
            return Ok(None);
        } else if pending.starts_with(&frame::MAGIC) {
            self.start += frame::MAGIC.len();
            Codec::Binary
        } else if pending.len() >= frame::MAGIC.len() && pending[..3] == frame::MAGIC[..3] {
            let error =
                ErrorInfo::new(ErrorKind::UnsupportedVersion, "this daemon speaks version 1 of the binary protocol");
            return Err(Fatal { codec: Codec::Json, error: Box::new(error) });
        } else {
            let text = "a connection must begin with `{` (JSON-RPC, one message per line) or with the binary magic";
            return Err(Fatal { codec: Codec::Json, error: Box::new(ErrorInfo::malformed(PARSE_ERROR, text)) });
        };
        self.codec = Some(codec);
        Ok(Some(codec))
    }

    fn take_line(&mut self) -> Result<Option<RawMessage<'_>>, Fatal> {
        loop {
            let from = self.searched.max(self.start);
            let Some(end) = memchr::memchr(b'\n', &self.buffer[from..]) else {
                self.searched = self.buffer.len();
                if self.buffer.len() - self.start > MAX_MESSAGE {
                    return Err(too_large(Codec::Json));
                }
                return Ok(None);
            };
            let end = from + end;
            if end - self.start > MAX_MESSAGE {
                return Err(too_large(Codec::Json));
            }
            let line = self.start..end;
            self.start = end + 1;
            self.searched = self.start;
            if !self.buffer[line.clone()].trim_ascii().is_empty() {
                return Ok(Some(RawMessage { codec: Codec::Json, bytes: &self.buffer[line] }));
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<RawMessage<'_>>, Fatal> {
        let pending = &self.buffer[self.start..];
        let Some((header, rest)) = pending.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        // the length is checked before any memory is reserved for it
        if length > MAX_MESSAGE {
            return Err(too_large(Codec::Binary));
        }
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        self.start += header.len() + length;
        Ok(Some(RawMessage { codec: Codec::Binary, bytes }))
    }
}

/// The number of bytes read at once.
const READ_ROOM: usize = 4096;
/// The same at first.
const FIRST_ROOM: usize = 1024;
/// With less room than this, a buffer is full.
const LEAST_ROOM: usize = 64;
/// Where the id of a message is looked for that is not parsed.
const ID_WITHIN: usize = 1024;

fn too_large(codec: Codec) -> Fatal {
    let error = ErrorInfo::new(ErrorKind::TooLarge, format!("a message must not be larger than {MAX_MESSAGE} bytes"));
    Fatal { codec, error: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Call, NoParams, encode_call};

    fn methods(decoder: &mut MessageDecoder) -> Vec<&'static str> {
        let mut found = Vec::new();
        while let Some(incoming) = decoder.take().unwrap() {
            found.push(incoming.call.map_or("malformed", |call| call.method()));
        }
        found
    }

    #[test]
    fn a_discarded_line_ends_at_its_end_however_it_arrives() {
        let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"{}\"}}\n", "y".repeat(20_000));
        let status = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n";
        for cut in [10_000, long.len() - 1] {
            let mut decoder = MessageDecoder::default();
            decoder.inbox().extend_from_slice(&long.as_bytes()[..cut]);
            assert_eq!(methods(&mut decoder), [""; 0]);
            assert_eq!(decoder.discard(), Some(RequestId::Json("\"x\"".into())));
            assert!(decoder.pending() == 0 && decoder.take_rest().is_none());
            for piece in long.as_bytes()[cut..].chunks(4000) {
                assert_eq!(methods(&mut decoder), [""; 0]);
                decoder.inbox().extend_from_slice(piece);
            }
            decoder.inbox().extend_from_slice(status.as_bytes());
            assert_eq!(methods(&mut decoder), ["status"]);
        }
    }

    #[test]
    fn a_discarded_line_without_an_end_is_too_large_in_the_end() {
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(b"{\"id\":1");
        assert_eq!(methods(&mut decoder), [""; 0]);
        decoder.discard();
        let mut pieces = 0;
        let fatal = loop {
            decoder.inbox().extend_from_slice(&[b'y'; 10_000]);
            pieces += 1;
            match decoder.take_raw() {
                Ok(None) => assert!(pieces * 10_000 <= MAX_MESSAGE),
                Ok(Some(message)) => panic!("{message:?}"),
                Err(fatal) => break fatal,
            }
        };
        assert_eq!(fatal.error.data.kind, ErrorKind::TooLarge);
    }

    #[test]
    fn a_discarded_frame_ends_after_its_length() {
        let mut frames = Vec::new();
        let reason = "y".repeat(20_000);
        let long =
            Call::DisableAccount(crate::protocol::DisableAccountParams { account: "a".into(), reason: Some(reason) });
        encode_call(300, long, &mut frames).unwrap();
        let end = frames.len();
        encode_call(301, Call::Status(NoParams {}), &mut frames).unwrap();
        for cut in [10_000, end - 1] {
            let mut decoder = MessageDecoder::default();
            decoder.inbox().extend_from_slice(&frame::MAGIC);
            decoder.inbox().extend_from_slice(&frames[..cut]);
            assert_eq!(methods(&mut decoder), [""; 0]);
            assert_eq!(decoder.discard(), Some(RequestId::Number(300)));
            decoder.inbox().extend_from_slice(&frames[cut..]);
            assert_eq!(methods(&mut decoder), ["status"]);
        }
    }

    #[test]
    fn an_id_is_found_in_the_beginning_of_a_call_only_where_it_is_complete() {
        let id = |text: &str| RawMessage { codec: Codec::Json, bytes: text.as_bytes() }.id();
        assert_eq!(id("{\"jsonrpc\":\"2.0\",\"id\":17,\"method\":\"acc"), Some(RequestId::Number(17)));
        assert_eq!(id("{\"method\":\"x\",\"params\":{\"id\":3},\"id\":4"), None, "it may go on");
        assert_eq!(id("{\"method\":\"x\",\"params\":{\"id\":3},\"id\":4,\"x\":[1"), Some(RequestId::Number(4)));
        assert_eq!(id("{\"params\":{\"id\":3,\"y\":\""), None);
        assert_eq!(id("{\"id\":[1],\"method\":\"x\"}"), None);
        assert_eq!(id("nonsense"), None);
    }

    #[test]
    fn the_buffer_is_small_until_it_is_filled() {
        let call = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n";
        let mut decoder = MessageDecoder::default();
        for _ in 0..100 {
            decoder.inbox().extend_from_slice(call);
            assert_eq!(methods(&mut decoder), ["status"]);
        }
        assert_eq!(decoder.capacity(), FIRST_ROOM);
        // a client that sends ahead fills the buffer, with a part of a call at its end
        let (mut sent, mut served) = (call.repeat(100), 0);
        while !sent.is_empty() {
            let inbox = decoder.inbox();
            let most = sent.len().min(inbox.capacity() - inbox.len());
            inbox.extend(sent.drain(..most));
            served += methods(&mut decoder).len();
        }
        assert_eq!(served, 100);
        assert!((READ_ROOM..=2 * READ_ROOM).contains(&decoder.capacity()), "{}", decoder.capacity());
    }

    #[test]
    fn the_buffer_stays_within_the_largest_message_and_shrinks() {
        let mut decoder = MessageDecoder::default();
        decoder.inbox().extend_from_slice(b"{\"id\":1,\"x\":\"");
        while decoder.pending() < MAX_MESSAGE {
            assert_eq!(methods(&mut decoder), [""; 0]);
            let inbox = decoder.inbox();
            let room = (inbox.capacity() - inbox.len()).min(MAX_MESSAGE - inbox.len());
            inbox.extend(std::iter::repeat_n(b'y', room));
        }
        assert!(decoder.capacity() <= MAX_MESSAGE + 2 * READ_ROOM, "{}", decoder.capacity());
        decoder.inbox().extend_from_slice(b"\n{");
        assert_eq!(methods(&mut decoder), ["malformed"]);
        decoder.shrink();
        assert!(decoder.pending() == 1 && decoder.capacity() <= 2 * READ_ROOM, "{}", decoder.capacity());
    }
}
