//! Zstandard, block by block: a few bytes can be a thousand blocks of 128 KiB.

use std::io::{self, Read as _};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::DecodedOutput;
use crate::gateway::memory::PoolShare;

/// A frame that needs a larger window is not decoded.
const MAX_WINDOW: u64 = 8 << 20;
/// What a decoder takes beside its window: its tables, and the block that it decodes.
const OVERHEAD: u64 = 512 * 1024;
const MAX_BLOCK: usize = 128 * 1024;
const BLOCK_HEADER: usize = 3;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A skippable frame begins with one of 16 values, which differ in their first half byte.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The part of a stream that was received.
pub(super) struct ZstdStream {
    frame: Box<FrameDecoder>,
    pending: Vec<u8>,
    state: FrameState,
    /// The memory of the decoder, and the window that it is for.
    share: PoolShare,
    window: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FrameState {
    /// The header of a frame is expected.
    Header,
    /// A block is expected; whether a checksum follows the last one.
    Block { has_checksum: bool },
    /// Bytes of a frame that is skipped.
    Skipped(usize),
}

/// A frame's header.
struct FrameHeader {
    length: usize,
    window: u64,
    has_checksum: bool,
}

impl ZstdStream {
    pub(super) fn new(share: PoolShare) -> Self {
        let mut frame = Box::new(FrameDecoder::new());
        frame.set_max_window_size(MAX_WINDOW);
        Self { frame, pending: Vec::new(), state: FrameState::Header, share, window: 0 }
    }

    /// Decodes the blocks that are complete; `has_room`: memory need not be in the pool.
    pub(super) fn write(&mut self, piece: &[u8], has_room: bool, out: &mut DecodedOutput<'_>) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        let mut at = 0;
        while let Some(taken) = self.step(at, has_room, out)? {
            at += taken;
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Decodes what begins at this place; returns how long it is, if it is complete.
    fn step(&mut self, at: usize, has_room: bool, out: &mut DecodedOutput<'_>) -> io::Result<Option<usize>> {
        let bytes = &self.pending[at..];
        match self.state {
            FrameState::Skipped(left) => {
                let taken = left.min(bytes.len());
                self.state = if taken == left { FrameState::Header } else { FrameState::Skipped(left - taken) };
                Ok((taken > 0 || left == 0).then_some(taken))
            }
            FrameState::Header => self.header(at, has_room),
            FrameState::Block { has_checksum } => {
                let Some(header) = bytes.get(..BLOCK_HEADER) else { return Ok(None) };
                let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
                let (is_last, kind, size) = (header & 1 == 1, (header >> 1) & 3, (header >> 3) as usize);
                if kind == 3 || size > MAX_BLOCK {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let checksum = if is_last && has_checksum { 4 } else { 0 };
                let length = BLOCK_HEADER + if kind == 1 { 1 } else { size } + checksum;
                let Some(block) = bytes.get(..length) else { return Ok(None) };
                self.frame.decode_blocks(block, BlockDecodingStrategy::UptoBlocks(1)).map_err(invalid)?;
                let mut room = [0; 8192];
                loop {
                    let read = self.frame.read(&mut room)?;
                    if read == 0 {
                        break;
                    }
                    out.write(&room[..read])?;
                }
                if is_last {
                    self.state = FrameState::Header;
                }
                Ok(Some(length))
            }
        }
    }

    fn header(&mut self, at: usize, has_room: bool) -> io::Result<Option<usize>> {
        let bytes = &self.pending[at..];
        let Some(magic) = bytes.get(..4) else { return Ok(None) };
        if magic[1..] == SKIPPABLE && magic[0] & 0xf0 == 0x50 {
            let Some(size) = bytes.get(4..8) else { return Ok(None) };
            self.state = FrameState::Skipped(u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize);
            return Ok(Some(8));
        }
        if magic != MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(FrameHeader { length, window, has_checksum }) = FrameHeader::read(bytes) else { return Ok(None) };
        if window > MAX_WINDOW {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if window > self.window {
            // the decoder's buffer grows in powers of two
            let more = 2 * (window - self.window) + if self.window == 0 { OVERHEAD } else { 0 };
            if !self.share.grow(more as usize) && !has_room {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.window = window;
        }
        self.frame.reset(&bytes[..length]).map_err(invalid)?;
        self.state = FrameState::Block { has_checksum };
        Ok(Some(length))
    }
}

impl FrameHeader {
    /// `None` if it is not complete.
    fn read(bytes: &[u8]) -> Option<Self> {
        let descriptor = *bytes.get(4)?;
        let is_single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size = [usize::from(is_single), 2, 4, 8][usize::from(descriptor >> 6)];
        let before_size = 5 + usize::from(!is_single) + dictionary;
        let length = before_size + size;
        let mut content = [0; 8];
        content[..size].copy_from_slice(bytes.get(before_size..length)?);
        let window = if is_single {
            u64::from_le_bytes(content) + if size == 2 { 256 } else { 0 }
        } else {
            let base = 1_u64 << (10 + (bytes[5] >> 3));
            base + base / 8 * u64::from(bytes[5] & 7)
        };
        Some(Self { length, window, has_checksum: descriptor & 4 != 0 })
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
