//! Brotli, with its memory counted: a stream chooses how much its decoder takes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use brotli_decompressor::writer::DecompressorWriterCustomAlloc;
use brotli_decompressor::{Allocator, BrotliDecoderParameter, SliceWrapper, StandardAlloc};

use super::DecodedBytes;
use crate::gateway::memory::PoolShare;

/// How many bytes are decoded at once.
const OUTPUT: usize = 4096;

type OutputMemory = <StandardAlloc as Allocator<u8>>::AllocatedMemory;
type BrotliWriter = DecompressorWriterCustomAlloc<DecodedBytes, OutputMemory, CountedAlloc, CountedAlloc, CountedAlloc>;

/// A decoder of one stream.
pub(super) struct BrotliStream {
    writer: BrotliWriter,
    memory: Arc<Mutex<CountedMemory>>,
}

struct CountedMemory {
    share: PoolShare,
    is_over: bool,
}

/// Counts what a decoder allocates. The window, which may be 16 MiB, is refused if there is no room; tables are not, for
/// the decoder takes them for granted: the stream ends with the next bytes then.
#[derive(Clone)]
struct CountedAlloc {
    memory: Arc<Mutex<CountedMemory>>,
    may_fail: bool,
}

impl<T: Clone + Default> Allocator<T> for CountedAlloc
where
    StandardAlloc: Allocator<T>,
{
    type AllocatedMemory = <StandardAlloc as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, length: usize) -> Self::AllocatedMemory {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = length * size_of::<T>();
        let has_room = if self.may_fail { memory.share.grow(bytes) } else { memory.share.take(bytes) };
        memory.is_over |= !has_room;
        if has_room || !self.may_fail { StandardAlloc::default().alloc_cell(length) } else { Default::default() }
    }

    fn free_cell(&mut self, cell: Self::AllocatedMemory) {
        let bytes = size_of_val(cell.slice());
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).share.give_back(bytes);
    }
}

impl BrotliStream {
    /// `has_room` is whether `share` may be exceeded: for a decoder that ends before others run.
    pub(super) fn new(share: PoolShare, has_room: bool) -> Self {
        let memory = Arc::new(Mutex::new(CountedMemory { share, is_over: false }));
        let alloc = |may_fail| CountedAlloc { memory: memory.clone(), may_fail };
        let output = Allocator::<u8>::alloc_cell(&mut StandardAlloc::default(), OUTPUT);
        let (window, tables) = (alloc(!has_room), alloc(false));
        let mut writer = BrotliWriter::new(DecodedBytes::default(), output, window, tables.clone(), tables);
        // such a window may have a gigabyte
        writer.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
        Self { writer, memory }
    }

    pub(super) fn write(&mut self, piece: &[u8], has_room: bool) -> io::Result<()> {
        self.writer.write_all(piece)?;
        let is_over = self.memory.lock().unwrap_or_else(PoisonError::into_inner).is_over;
        if is_over && !has_room { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    pub(super) fn close(&mut self) -> io::Result<()> {
        self.writer.close()
    }

    pub(super) fn decoded(&mut self) -> &mut DecodedBytes {
        self.writer.get_mut()
    }
}
