//! Decompresses bodies so that they can be read; the bytes that are forwarded stay as they are. What a decoder takes and
//! what comes out of it are bounded while it decodes: a few bytes can become gigabytes.

mod brotli;
mod zstd;

use std::io::{self, Write};

use tokio::sync::Semaphore;

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use super::memory::DECODERS;
use brotli::BrotliStream;
use zstd::ZstdStream;

/// How many bytes are decoded at once.
const STEP: usize = 512;
/// The most bytes that one step may expand to.
const MAX_STEP: usize = 1 << 20;
/// The most bytes that what is received at once may expand to: more is a decompression bomb.
const MAX_BURST: usize = 4 << 20;
/// About so much is decoded before other requests are served.
const TURN: usize = 64 * 1024;
/// How many bytes are decoded first and at least: of zstd they may be some blocks of 128 KiB.
const FIRST_STEP: usize = 16;
const LEAST_STEP: usize = 8;
/// The most decoded bytes of a response.
const MAX_RESPONSE: usize = 128 << 20;
/// The most decoded bytes of a request; clients that compress nothing may send no more by default.
const MAX_REQUEST: usize = 32 << 20;
/// What a decoder of gzip or deflate takes: its window, tables and buffers, in bytes.
const INFLATE: usize = 96 * 1024;

/// One request decodes at a time.
static TURNS: Semaphore = Semaphore::const_new(1);

pub(super) struct ContentDecoder {
    coding: DecoderCoding,
    /// How many bytes are decoded at once, in turns: few of those that expand to many.
    step: usize,
    /// How many bytes may still come out.
    left: usize,
    /// It ends before other requests are served, and need not fit into the pool.
    is_brief: bool,
}

enum DecoderCoding {
    Plain,
    Gzip(Box<MultiGzDecoder<DecodedBytes>>),
    Zlib(Box<ZlibDecoder<DecodedBytes>>),
    Deflate(Box<DeflateDecoder<DecodedBytes>>),
    /// `deflate` means either of the two: the first byte tells which.
    EitherDeflate,
    Brotli(Box<BrotliStream>),
    Zstd(Box<ZstdStream>),
    /// The coding is unknown, the data is invalid, or there is no room: nothing is decoded.
    Unreadable,
}

/// Decoded bytes of one step.
#[derive(Debug)]
pub(super) struct DecodedBytes {
    bytes: Vec<u8>,
    share: super::memory::PoolShare,
}

/// Decodes when no other request does, and serves all that is ready before the next one may: what a request decodes delays
/// the others by one turn, however many decode.
pub(super) async fn in_turn<T>(decode: impl FnOnce() -> T) -> T {
    // it is never closed
    let _turn = TURNS.acquire().await;
    let decoded = decode();
    tokio::task::yield_now().await;
    decoded
}

/// Takes decoded bytes, as long as they may come.
struct DecodedOutput<'a> {
    left: usize,
    read: &'a mut dyn FnMut(&[u8]),
}

impl Default for DecodedBytes {
    fn default() -> Self {
        Self { bytes: Vec::new(), share: DECODERS.share() }
    }
}

impl Write for DecodedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(MAX_STEP - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..fits]);
        if fits == 0 && !bytes.is_empty() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(fits) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DecodedBytes {
    fn emit(&mut self, out: &mut DecodedOutput<'_>) -> io::Result<()> {
        let written = out.write(&self.bytes);
        self.bytes.clear();
        // so that a decoder which lives for long is small
        self.bytes.shrink_to(16 * 1024);
        written
    }
}

impl DecodedOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len().min(self.left);
        if fits > 0 {
            (self.read)(&bytes[..fits]);
        }
        self.left -= fits;
        if fits < bytes.len() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }
}

impl ContentDecoder {
    /// A decoder that lives while a response comes; without room for it, nothing is decoded.
    pub(super) fn of_response(headers: &HeaderMap) -> Self {
        Self::new(headers, MAX_RESPONSE, false)
    }

    /// The same for a request.
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        Self::new(headers, MAX_REQUEST, false)
    }

    /// For a body that is not read.
    pub(super) const fn none() -> Self {
        Self { coding: DecoderCoding::Unreadable, step: FIRST_STEP, left: 0, is_brief: false }
    }

    /// A decoder for bytes that are all there, and for at most this many decoded ones.
    pub(super) fn at_once(headers: &HeaderMap, most: usize) -> Self {
        Self::new(headers, most, true)
    }

    fn new(headers: &HeaderMap, left: usize, is_brief: bool) -> Self {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let coding = match (codings.next(), codings.next()) {
            (None, _) => String::new(),
            (Some(coding), None) => coding.trim().to_ascii_lowercase(),
            // combined codings do not occur
            (Some(_), Some(_)) => "combined".to_owned(),
        };
        let inflate = || {
            let mut decoded = DecodedBytes::default();
            (decoded.share.grow(INFLATE) || is_brief).then_some(decoded)
        };
        let coding = match coding.as_str() {
            "" | "identity" => DecoderCoding::Plain,
            "gzip" | "x-gzip" => match inflate() {
                Some(decoded) => DecoderCoding::Gzip(Box::new(MultiGzDecoder::new(decoded))),
                None => DecoderCoding::Unreadable,
            },
            "deflate" => DecoderCoding::EitherDeflate,
            "br" => DecoderCoding::Brotli(Box::new(BrotliStream::new(DECODERS.share(), is_brief))),
            "zstd" => DecoderCoding::Zstd(Box::new(ZstdStream::new(DECODERS.share()))),
            _ => DecoderCoding::Unreadable,
        };
        Self { coding, step: FIRST_STEP, left, is_brief }
    }

    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.coding, DecoderCoding::Plain)
    }

    /// Nothing more is decoded.
    pub(super) const fn is_unreadable(&self) -> bool {
        matches!(self.coding, DecoderCoding::Unreadable)
    }

    /// Decodes more and passes the result to `read`; after invalid data, or too much of it, it decodes nothing more.
    pub(super) fn push(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8])) {
        if self.is_plain() {
            return read(bytes);
        }
        let most = MAX_BURST.min(self.left);
        let mut out = DecodedOutput { left: most, read: &mut read };
        for piece in bytes.chunks(STEP) {
            if self.is_unreadable() {
                break;
            }
            if self.coding.decode(piece, self.is_brief, &mut out).is_err() {
                self.coding = DecoderCoding::Unreadable;
            }
        }
        self.left -= most - out.left;
    }

    /// The same, with other requests served in between.
    pub(super) async fn push_in_turns(&mut self, bytes: &[u8], mut read: impl FnMut(&[u8]) + Send) {
        if self.is_plain() {
            return read(bytes);
        }
        let (before, mut rest) = (self.left, bytes);
        while !rest.is_empty() && !self.is_unreadable() {
            let taken = in_turn(|| self.push_turn(rest, &mut read)).await;
            rest = &rest[taken..];
            if before - self.left > MAX_BURST {
                self.coding = DecoderCoding::Unreadable;
            }
        }
    }

    /// Decodes some of these bytes; returns how many.
    fn push_turn(&mut self, bytes: &[u8], read: &mut dyn FnMut(&[u8])) -> usize {
        let (before, mut taken) = (self.left, 0);
        while taken < bytes.len() && before - self.left < TURN && !self.is_unreadable() {
            let rest = &bytes[taken..];
            let piece = &rest[..rest.len().min(self.step)];
            let most = MAX_BURST.min(self.left);
            let mut out = DecodedOutput { left: most, read };
            if self.coding.decode(piece, self.is_brief, &mut out).is_err() {
                self.coding = DecoderCoding::Unreadable;
            }
            let decoded = most - out.left;
            self.left -= decoded;
            taken += piece.len();
            self.step = match decoded {
                ..8192 => (2 * self.step).min(STEP),
                8192..=TURN => self.step,
                _ => (self.step / 4).max(LEAST_STEP),
            };
        }
        taken
    }

    /// Passes the rest to `read` at the end of the body.
    pub(super) fn finish(&mut self, mut read: impl FnMut(&[u8])) {
        let most = MAX_BURST.min(self.left);
        let finished = self.coding.finish(&mut DecodedOutput { left: most, read: &mut read });
        // what was decoded before an error is valid
        if finished.is_err() {
            self.coding = DecoderCoding::Unreadable;
        }
    }
}

impl DecoderCoding {
    fn decode(&mut self, piece: &[u8], is_brief: bool, out: &mut DecodedOutput<'_>) -> io::Result<()> {
        if let (Self::EitherDeflate, Some(first)) = (&self, piece.first()) {
            let mut decoded = DecodedBytes::default();
            if !decoded.share.grow(INFLATE) && !is_brief {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(decoded)))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(decoded)))
            };
        }
        let written = match self {
            Self::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Deflate(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Self::Brotli(decoder) => decoder.write(piece, is_brief),
            Self::Zstd(zstd) => zstd.write(piece, is_brief, out),
            Self::Plain | Self::EitherDeflate | Self::Unreadable => Ok(()),
        };
        self.emit(out).and(written)
    }

    fn finish(&mut self, out: &mut DecodedOutput<'_>) -> io::Result<()> {
        let finished = match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Brotli(decoder) => decoder.close(),
            Self::Plain | Self::EitherDeflate | Self::Zstd(_) | Self::Unreadable => Ok(()),
        };
        self.emit(out).and(finished)
    }

    fn emit(&mut self, out: &mut DecodedOutput<'_>) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.get_mut().emit(out),
            Self::Zlib(decoder) => decoder.get_mut().emit(out),
            Self::Deflate(decoder) => decoder.get_mut().emit(out),
            Self::Brotli(decoder) => decoder.decoded().emit(out),
            Self::Plain | Self::EitherDeflate | Self::Zstd(_) | Self::Unreadable => Ok(()),
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
        let (mut decoder, mut text) = (ContentDecoder::of_response(&headers(coding)), Vec::new());
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
    fn a_decompression_bomb_ends_at_its_bound_in_every_coding() {
        for (coding, bomb) in bombs() {
            let (mut longest, mut all) = (0, 0);
            let mut decoder = ContentDecoder::of_response(&headers(coding));
            decoder.push(&bomb, |bytes| (longest, all) = (longest.max(bytes.len()), all + bytes.len()));
            assert!(longest <= MAX_STEP && all <= MAX_BURST && all > MAX_BURST / 2, "{coding}: {longest} {all}");
            assert!(decoder.is_unreadable(), "{coding}");
            // a bound of its own is kept, and all of it is filled
            let (mut decoder, mut all) = (ContentDecoder::at_once(&headers(coding), 10_000), 0);
            decoder.push(&bomb, |bytes| all += bytes.len());
            decoder.finish(|bytes| all += bytes.len());
            assert_eq!(all, 10_000, "{coding}");
        }
    }

    #[tokio::test]
    async fn in_turns_a_bomb_takes_little_at_a_time_and_others_go_on() {
        for (coding, bomb) in bombs() {
            let mut decoder = ContentDecoder::of_request(&headers(coding));
            let (mut all, mut most, mut taken) = (0, 0, 0);
            while taken < bomb.len() && !decoder.is_unreadable() {
                let before = all;
                taken += decoder.push_turn(&bomb[taken..], &mut |bytes| all += bytes.len());
                most = most.max(all - before);
            }
            assert_eq!(all, MAX_REQUEST, "{coding}: all that may come out");
            assert!(most <= 5 * 128 * 1024, "{coding}: {most} in one turn");
        }
        let (_, bomb) = bombs().swap_remove(0);
        let turns = std::cell::Cell::new(0);
        let decode = async |bytes: &[u8]| {
            let mut decoder = ContentDecoder::of_request(&headers("gzip"));
            decoder.push_in_turns(bytes, |_| {}).await;
            decoder.is_unreadable()
        };
        let ended = tokio::select! {
            ended = async { tokio::join!(decode(&bomb), decode(&bomb)) } => ended,
            () = async { loop { turns.set(turns.get() + 1); tokio::task::yield_now().await } } => unreachable!(),
        };
        assert_eq!(ended, (true, true), "a burst ends it");
        assert!(turns.get() > 16, "{} turns", turns.get());
    }

    #[tokio::test]
    async fn in_turns_every_body_is_decoded_as_a_whole() {
        use flate2::{Compression, write};
        let text: Vec<u8> =
            (0_u32..300_000).flat_map(|at| (at.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
        let mut gzip = write::GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
        for (coding, bytes) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd), ("identity", text.clone())] {
            let (mut decoder, mut decoded) = (ContentDecoder::of_request(&headers(coding)), Vec::new());
            for part in bytes.chunks(4096) {
                decoder.push_in_turns(part, |bytes| decoded.extend_from_slice(bytes)).await;
            }
            decoder.finish(|bytes| decoded.extend_from_slice(bytes));
            assert!(decoded == text, "{coding}");
        }
    }

    /// 64 MiB of zeros in few bytes.
    fn bombs() -> Vec<(&'static str, Vec<u8>)> {
        use flate2::{Compression, write};
        let zeros = vec![0; 64 << 20];
        let mut gzip = write::GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&zeros).unwrap();
        let mut zlib = write::ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&zeros).unwrap();
        // a frame with a window of 1 MiB and blocks that repeat one byte 128 Ki times
        let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
        for _ in 0..512 {
            zstd.extend_from_slice(&(((128 * 1024) << 3 | 1 << 1) as u32).to_le_bytes()[..3]);
            zstd.push(0);
        }
        vec![("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap()), ("zstd", zstd)]
    }

    #[test]
    fn a_zstd_frame_with_a_huge_window_and_a_brotli_stream_with_one_are_not_decoded() {
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
        let mut decoder = ContentDecoder::of_response(&headers("zstd"));
        decoder.push(&huge, |_| panic!("nothing comes out"));
        assert!(decoder.is_unreadable());
        // the mark of a large window, and 30 bits of it
        let mut decoder = ContentDecoder::of_response(&headers("br"));
        decoder.push(&[0x11, 0x1e, 0x0b, 0x05, 0x80], |_| panic!("nothing comes out"));
        assert!(decoder.is_unreadable());
    }

    #[test]
    fn decoders_that_live_for_long_share_a_pool_and_brief_ones_need_no_room() {
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
        let mut decoders: Vec<ContentDecoder> = (0..5).map(|_| ContentDecoder::of_response(&headers("zstd"))).collect();
        for decoder in &mut decoders {
            decoder.push(&window, |_| {});
        }
        assert!(!decoders[0].is_unreadable() && decoders[4].is_unreadable());
        // a window of 16 MiB, and the first byte of as long a block
        let brotli = [0xcf, 0xff, 0xff, 0xff, b'x'];
        let mut other = ContentDecoder::of_response(&headers("br"));
        other.push(&brotli, |_| {});
        assert!(other.is_unreadable());
        let mut brief = ContentDecoder::at_once(&headers("br"), 10);
        brief.push(&brotli, |_| {});
        assert!(!brief.is_unreadable());
        drop(brief);
        let mut brief = ContentDecoder::at_once(&headers("zstd"), 10);
        brief.push(&window, |_| {});
        assert!(!brief.is_unreadable());
        drop(brief);
        drop(decoders);
        let mut other = ContentDecoder::of_response(&headers("zstd"));
        other.push(&window, |_| {});
        assert!(!other.is_unreadable());
    }

    #[test]
    fn several_zstd_frames_and_skipped_ones_are_decoded() {
        let frame = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        let skipped =
            [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
        let all = [&skipped[..], &frame, &skipped, &frame].concat();
        for step in [1, 7, 4096] {
            assert_eq!(decoded("zstd", &all, step), [TEXT, TEXT].concat(), "by {step}");
        }
    }
}
