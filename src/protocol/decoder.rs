//! Finds complete messages in received bytes, and never buffers more than the limit.

use zeroize::Zeroize as _;

use super::error::{ErrorInfo, ErrorKind, INVALID_REQUEST, PARSE_ERROR};
use super::message::Incoming;
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
}

/// The connection cannot continue; the error is sent before it is closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The encoding of the error.
    pub codec: Codec,
    /// The error.
    pub error: Box<ErrorInfo>,
}

impl MessageDecoder {
    /// The codec, once the first byte has determined it.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// The buffer to append received bytes to, with some capacity reserved.
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

    /// Whether only a part of a message has arrived.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }

    /// Overwrites the buffer, which may contain secrets.
    pub fn wipe(&mut self) {
        self.buffer.zeroize();
        self.start = 0;
        self.searched = 0;
    }

    /// Frees the memory of a large message.
    pub fn shrink(&mut self) {
        if !self.is_partial() && self.buffer.capacity() > 4 * READ_ROOM {
            self.buffer.zeroize();
            *self = Self { codec: self.codec, ..Self::default() };
        }
    }

    /// The next complete message.
    ///
    /// # Errors
    /// When the connection's bytes cannot be split into messages any more.
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

    /// The last message of a client that closes the connection without a line's end.
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
        // the length is checked before any memory is reserved for it
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

/// The number of bytes read at once.
const READ_ROOM: usize = 4096;

fn too_large(codec: Codec) -> Fatal {
    let error = ErrorInfo::new(ErrorKind::TooLarge, format!("a message must not be larger than {MAX_MESSAGE} bytes"));
    Fatal { codec, error: Box::new(error) }
}
