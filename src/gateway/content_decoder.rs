//! Decompresses bodies so that they can be read; the bytes that are forwarded stay as they are.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use ruzstd::decoding::FrameDecoder;

/// How many bytes are decoded at once.
const PIECE: usize = 4096;
/// A piece that expands to more bytes is a decompression bomb.
const MAX_EXPANSION: usize = 8 << 20;
/// A zstd frame that needs a larger window is not decoded.
const MAX_ZSTD_WINDOW: u64 = 8 << 20;
/// The longest header of a zstd frame, with that of its first block.
const ZSTD_HEAD: usize = 18 + 3;

pub(super) enum ContentDecoder {
    Plain,
    Gzip(Box<MultiGzDecoder<DecodedBytes>>),
    Zlib(Box<ZlibDecoder<DecodedBytes>>),
    Deflate(Box<DeflateDecoder<DecodedBytes>>),
    /// `deflate` means either of the two: the first byte tells which.
    EitherDeflate,
    Brotli(Box<DecompressorWriter<DecodedBytes>>),
    Zstd(Box<ZstdStream>),
    /// The coding is unknown, or the data is invalid: nothing is decoded.
    Unreadable,
}

/// Decoded bytes, up to [`MAX_EXPANSION`].
#[derive(Debug, Default)]
pub(super) struct DecodedBytes(Vec<u8>);

/// The part of a zstd stream that was received.
pub(super) struct ZstdStream {
    frame: FrameDecoder,
    has_begun: bool,
    pending: Vec<u8>,
}

impl Write for DecodedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_EXPANSION {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ContentDecoder {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let coding = match (codings.next(), codings.next()) {
            (None, _) => return Self::Plain,
            (Some(coding), None) => coding.trim().to_ascii_lowercase(),
            // combined codings do not occur
            (Some(_), Some(_)) => return Self::Unreadable,
        };
        match coding.as_str() {
            "" | "identity" => Self::Plain,
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(DecodedBytes::default()))),
            "deflate" => Self::EitherDeflate,
            "br" => Self::Brotli(Box::new(DecompressorWriter::new(DecodedBytes::default(), PIECE))),
            "zstd" => {
                let mut frame = FrameDecoder::new();
                frame.set_max_window_size(MAX_ZSTD_WINDOW);
                Self::Zstd(Box::new(ZstdStream { frame, has_begun: false, pending: Vec::new() }))
            }
            _ => Self::Unreadable,
        }
    }

    /// Decodes more and passes the result to `read`; after invalid data it decodes nothing more.
    pub(super) fn push(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8])) {
        if matches!(self, Self::Plain) {
            return read(bytes);
        }
        for piece in bytes.chunks(PIECE) {
            if self.decode(piece, &mut read).is_err() {
                *self = Self::Unreadable;
            }
            if matches!(self, Self::Unreadable) {
                return;
            }
        }
    }

    /// Passes the rest to `read` at the end of the body.
    pub(super) fn finish(&mut self, mut read: impl FnMut(&[u8])) {
        let finished = match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(zstd) => zstd.decode(true, &mut read),
            Self::Plain | Self::EitherDeflate | Self::Unreadable => Ok(()),
        };
        // what was decoded before an error is valid
        let _invalid = finished;
        self.emit(&mut read);
    }

    fn decode(&mut self, piece: &[u8], read: &mut impl FnMut(&[u8])) -> io::Result<()> {
        if let (Self::EitherDeflate, Some(first)) = (&self, piece.first()) {
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(DecodedBytes::default())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(DecodedBytes::default())))
            };
        }
        let written = match self {
            Self::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Brotli(decoder) => decoder.write_all(piece),
            Self::Zstd(zstd) => {
                zstd.pending.extend_from_slice(piece);
                zstd.decode(false, read)
            }
            Self::Plain | Self::EitherDeflate | Self::Unreadable => Ok(()),
        };
        self.emit(read);
        written
    }

    fn emit(&mut self, read: &mut impl FnMut(&[u8])) {
        let out = match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Plain | Self::EitherDeflate | Self::Zstd(_) | Self::Unreadable => return,
        };
        if !out.0.is_empty() {
            read(&out.0);
            out.0.clear();
        }
    }
}

impl ZstdStream {
    /// Decodes the blocks that are complete.
    fn decode(&mut self, is_last: bool, read: &mut impl FnMut(&[u8])) -> io::Result<()> {
        if !self.has_begun && self.pending.len() < ZSTD_HEAD && !is_last {
            return Ok(());
        }
        let mut room = vec![0; 16 * PIECE];
        loop {
            let decoded = self.frame.decode_from_to(&self.pending, &mut room);
            let (taken, written) = decoded.map_err(|error| io::Error::other(error.to_string()))?;
            self.has_begun = true;
            self.pending.drain(..taken.min(self.pending.len()));
            if written > 0 {
                read(&room[..written]);
            }
            if taken == 0 && written == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const TEXT: &[u8] = b"{\"model\":\"gpt-5\",\"input\":\"hello hello hello hello\"}";

    fn headers(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))])
    }

    fn decoded(coding: &'static str, bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut decoder, mut text) = (ContentDecoder::of(&headers(coding)), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.push(piece, |bytes| text.extend_from_slice(bytes));
        }
        decoder.finish(|bytes| text.extend_from_slice(bytes));
        text
    }

    fn packed<W: Write>(mut encoder: W, finish: impl FnOnce(W) -> Vec<u8>) -> Vec<u8> {
        encoder.write_all(TEXT).unwrap();
        finish(encoder)
    }

    #[test]
    fn every_coding_is_decoded_however_the_body_is_split() {
        use flate2::{Compression, write};
        let level = Compression::default();
        let gzip = packed(write::GzEncoder::new(Vec::new(), level), |encoder| encoder.finish().unwrap());
        let zlib = packed(write::ZlibEncoder::new(Vec::new(), level), |encoder| encoder.finish().unwrap());
        let raw = packed(write::DeflateEncoder::new(Vec::new(), level), |encoder| encoder.finish().unwrap());
        let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        for step in [1, 3, 4096] {
            for (coding, bytes) in [("gzip", &gzip), ("deflate", &zlib), ("deflate", &raw), ("zstd", &zstd)] {
                assert_eq!(decoded(coding, bytes, step), TEXT, "{coding} by {step}");
            }
            assert_eq!(decoded("br", b"\x0b\x05\x80hello world\x03", step), b"hello world");
            assert_eq!(decoded("identity", TEXT, step), TEXT);
            assert_eq!(decoded("snappy", TEXT, step), b"");
            assert_eq!(decoded("gzip", TEXT, step), b"", "invalid data is not decoded");
            assert_eq!(decoded("zstd", TEXT, step), b"");
        }
    }

    #[test]
    fn a_decompression_bomb_is_not_decoded() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut longest = 0;
        let mut decoder = ContentDecoder::of(&headers("gzip"));
        decoder.push(&bomb, |bytes| longest = longest.max(bytes.len()));
        assert!(longest <= MAX_EXPANSION);
    }
}
