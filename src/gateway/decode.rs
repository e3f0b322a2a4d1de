//! Undoes the compression of what is only to be read; what is passed on stays as it is.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use ruzstd::decoding::FrameDecoder;

/// So much is taken in at once.
const PIECE: usize = 4096;
/// More than this out of one piece is a trap.
const MOST_AT_ONCE: usize = 8 << 20;
/// A zstd frame that wants a larger window is not read.
const LARGEST_WINDOW: u64 = 8 << 20;
/// The longest head of a zstd frame, and of its first block.
const ZSTD_HEAD: usize = 18 + 3;

/// Undoes one compression, piece by piece.
pub(super) enum Decoder {
    /// There is none.
    Plain,
    Gzip(Box<MultiGzDecoder<Out>>),
    Zlib(Box<ZlibDecoder<Out>>),
    Deflate(Box<DeflateDecoder<Out>>),
    /// `deflate` is one of the two: its first byte says which.
    EitherDeflate,
    Brotli(Box<DecompressorWriter<Out>>),
    Zstd(Box<Zstd>),
    /// Nobody knows, or it is broken: nothing is read.
    Blind,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder(…)")
    }
}

/// Where decoded bytes go; it has room for so many.
#[derive(Debug, Default)]
pub(super) struct Out(Vec<u8>);

/// A frame as far as it has come.
pub(super) struct Zstd {
    frame: FrameDecoder,
    begun: bool,
    waiting: Vec<u8>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_AT_ONCE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// For a message with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let coding = match (codings.next(), codings.next()) {
            (None, _) => return Self::Plain,
            (Some(coding), None) => coding.trim().to_ascii_lowercase(),
            // one upon the other: nobody does that
            (Some(_), Some(_)) => return Self::Blind,
        };
        match coding.as_str() {
            "" | "identity" => Self::Plain,
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(Out::default()))),
            "deflate" => Self::EitherDeflate,
            "br" => Self::Brotli(Box::new(DecompressorWriter::new(Out::default(), PIECE))),
            "zstd" => {
                let mut frame = FrameDecoder::new();
                frame.set_max_window_size(LARGEST_WINDOW);
                Self::Zstd(Box::new(Zstd { frame, begun: false, waiting: Vec::new() }))
            }
            _ => Self::Blind,
        }
    }

    /// Takes in more, and hands on what comes of it; what is broken ends it without a word.
    pub(super) fn push(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8])) {
        if matches!(self, Self::Plain) {
            return read(bytes);
        }
        for piece in bytes.chunks(PIECE) {
            if self.decode(piece, &mut read).is_err() {
                *self = Self::Blind;
            }
            if matches!(self, Self::Blind) {
                return;
            }
        }
    }

    /// There is no more: hands on what was still held back.
    pub(super) fn end(&mut self, mut read: impl FnMut(&[u8])) {
        let ended = match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            Self::Zstd(zstd) => zstd.decode(true, &mut read),
            Self::Plain | Self::EitherDeflate | Self::Blind => Ok(()),
        };
        // what was read up to the break is good
        let _broken = ended;
        self.hand_on(&mut read);
    }

    fn decode(&mut self, piece: &[u8], read: &mut impl FnMut(&[u8])) -> io::Result<()> {
        if let (Self::EitherDeflate, Some(first)) = (&self, piece.first()) {
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(Out::default())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(Out::default())))
            };
        }
        let written = match self {
            Self::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Brotli(decoder) => decoder.write_all(piece),
            Self::Zstd(zstd) => {
                zstd.waiting.extend_from_slice(piece);
                zstd.decode(false, read)
            }
            Self::Plain | Self::EitherDeflate | Self::Blind => Ok(()),
        };
        self.hand_on(read);
        written
    }

    fn hand_on(&mut self, read: &mut impl FnMut(&[u8])) {
        let out = match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Plain | Self::EitherDeflate | Self::Zstd(_) | Self::Blind => return,
        };
        if !out.0.is_empty() {
            read(&out.0);
            out.0.clear();
        }
    }
}

impl Zstd {
    /// Decodes the blocks that are whole.
    fn decode(&mut self, is_last: bool, read: &mut impl FnMut(&[u8])) -> io::Result<()> {
        if !self.begun && self.waiting.len() < ZSTD_HEAD && !is_last {
            return Ok(());
        }
        let mut room = vec![0; 16 * PIECE];
        loop {
            let decoded = self.frame.decode_from_to(&self.waiting, &mut room);
            let (taken, written) = decoded.map_err(|error| io::Error::other(error.to_string()))?;
            self.begun = true;
            self.waiting.drain(..taken.min(self.waiting.len()));
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
        let (mut decoder, mut text) = (Decoder::of(&headers(coding)), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.push(piece, |bytes| text.extend_from_slice(bytes));
        }
        decoder.end(|bytes| text.extend_from_slice(bytes));
        text
    }

    fn packed<W: Write>(mut encoder: W, finish: impl FnOnce(W) -> Vec<u8>) -> Vec<u8> {
        encoder.write_all(TEXT).unwrap();
        finish(encoder)
    }

    #[test]
    fn every_coding_is_undone_however_it_is_cut() {
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
            assert_eq!(decoded("gzip", TEXT, step), b"", "what is broken is not read");
            assert_eq!(decoded("zstd", TEXT, step), b"");
        }
    }

    #[test]
    fn a_trap_is_not_stepped_into() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let mut longest = 0;
        let mut decoder = Decoder::of(&headers("gzip"));
        decoder.push(&bomb, |bytes| longest = longest.max(bytes.len()));
        assert!(longest <= MOST_AT_ONCE);
    }
}
