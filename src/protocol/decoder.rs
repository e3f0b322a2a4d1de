//! Bytes in, calls out: finds messages in what has arrived, never more than the cap.

use zeroize::Zeroize as _;

use super::call::Call;
use super::error::{ErrorInfo, INVALID_REQUEST, PARSE_ERROR};
use super::{Codec, MAX_MESSAGE, frame, json};

/// Collects what a connection sends and takes the messages out of it.
#[derive(Debug, Default)]
pub struct Decoder {
    codec: Option<Codec>,
    buffer: Vec<u8>,
    /// Where the first message not yet taken begins.
    start: usize,
    /// How far a line's end has been looked for.
    searched: usize,
}

/// One message from a client.
#[derive(Debug, PartialEq)]
pub struct Incoming {
    /// What the answer carries; `None` for a notification, which gets none.
    pub id: Option<RequestId>,
    /// The call, or why it is none.
    pub call: Result<Call, ErrorInfo>,
}

/// What an answer is told by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestId {
    /// A number, in both codecs.
    Number(u64),
    /// Any other JSON value, as it came.
    Json(Box<str>),
}

/// The connection cannot go on; the error goes out before it is closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fatal {
    /// How to say it.
    pub codec: Codec,
    /// What is wrong.
    pub error: Box<ErrorInfo>,
}

impl Decoder {
    /// The codec, once the first byte has chosen it.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Where to append what arrives; room for some of it is there.
    pub fn inbox(&mut self) -> &mut Vec<u8> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.searched = 0;
        } else if self.start > 0 && self.buffer.capacity() - self.buffer.len() < READ_ROOM {
            self.buffer.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ_ROOM);
        &mut self.buffer
    }

    /// Whether part of a message has arrived, and the rest has not.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Overwrites all it has read: secrets come this way.
    pub fn wipe(&mut self) {
        self.buffer.zeroize();
        self.start = 0;
        self.searched = 0;
    }

    /// Gives back memory that a large message needed.
    pub fn shrink(&mut self) {
        if !self.is_partial() && self.buffer.capacity() > 4 * READ_ROOM {
            self.buffer.zeroize();
            self.buffer = Vec::new();
            self.start = 0;
            self.searched = 0;
        }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When no further message can be found in what this connection sends.
    pub fn take(&mut self) -> Result<Option<Incoming>, Fatal> {
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

    /// The last message of a client that closes without a line's end.
    pub fn take_rest(&mut self) -> Option<Incoming> {
        if self.codec != Some(Codec::Json) || !self.is_partial() {
            return None;
        }
        let line = &self.buffer[self.start..];
        let incoming = (!line.trim_ascii().is_empty()).then(|| json::parse(line));
        self.start = self.buffer.len();
        incoming
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
            let error = ErrorInfo::new("unsupported_version", "this daemon speaks version 1 of the binary protocol");
            return Err(Fatal { codec: Codec::Json, error: Box::new(error) });
        } else {
            let text = "a connection begins with `{` (JSON-RPC, a message a line) or the binary magic";
            return Err(Fatal { codec: Codec::Json, error: Box::new(ErrorInfo::malformed(PARSE_ERROR, text)) });
        };
        self.codec = Some(codec);
        Ok(Some(codec))
    }

    fn take_line(&mut self) -> Result<Option<Incoming>, Fatal> {
        loop {
            let from = self.searched.max(self.start);
            let Some(end) = self.buffer[from..].iter().position(|byte| *byte == b'\n') else {
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
            let line = &self.buffer[self.start..end];
            let incoming = (!line.trim_ascii().is_empty()).then(|| json::parse(line));
            self.start = end + 1;
            self.searched = self.start;
            if incoming.is_some() {
                return Ok(incoming);
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Incoming>, Fatal> {
        let pending = &self.buffer[self.start..];
        let Some((header, rest)) = pending.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        // the length is judged before anything is reserved for it
        if length > MAX_MESSAGE {
            return Err(too_large(Codec::Binary));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let incoming = frame::parse(body).map_err(|text| Fatal {
            codec: Codec::Binary,
            error: Box::new(ErrorInfo::malformed(INVALID_REQUEST, text)),
        });
        self.start += header.len() + length;
        incoming.map(Some)
    }
}

/// What is read at once.
const READ_ROOM: usize = 4096;

fn too_large(codec: Codec) -> Fatal {
    let error = ErrorInfo::new("too_large", format!("a message may have {MAX_MESSAGE} bytes"));
    Fatal { codec, error: Box::new(error) }
}
