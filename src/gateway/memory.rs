//! Bounds of the memory that the gateway holds for others: counted pools, and bodies without the unused rest of the
//! buffers that they were read into.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Bytes;

/// The state of decoders that live as long as their response.
pub(super) static DECODERS: MemoryPool = MemoryPool::new(24 << 20);
/// The first bytes of responses, as they were received, and the text of refusals.
pub(super) static RESPONSES: MemoryPool = MemoryPool::new(24 << 20);

/// Pieces are copied together up to this length, in bytes. An allocator takes blocks as long as this from the system one by
/// one, and gives each back when it is freed; shorter ones would stay in its heap for as long as one after them is used.
const BLOCK: usize = 256 * 1024;
/// A shorter body is always copied.
const LEAST_WHOLE: usize = 1024;

/// How many bytes are held for one purpose, by all requests.
#[derive(Debug)]
pub(super) struct MemoryPool {
    used: AtomicUsize,
    most: usize,
}

/// A part of a pool; it is given back on drop.
#[derive(Debug)]
pub(super) struct PoolShare {
    pool: &'static MemoryPool,
    bytes: usize,
}

impl MemoryPool {
    const fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    pub(super) const fn share(&'static self) -> PoolShare {
        PoolShare { pool: self, bytes: 0 }
    }
}

impl PoolShare {
    /// Takes more, unless the pool has no more.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.pool.most);
        let is_taken = self.pool.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        self.bytes += if is_taken { bytes } else { 0 };
        is_taken
    }

    /// Takes more in any case; returns whether the pool had it.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.pool.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.pool.most
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for PoolShare {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// Bytes in the order they came in. A piece that is received is a part of a larger buffer and keeps all of it, so a body
/// that comes in small pieces would take a thousand times its length: pieces are copied into blocks of their own. Only a
/// body of one piece is kept as it was received: it keeps one read buffer at most, mostly that of its head.
#[derive(Debug, Default)]
pub(super) struct KeptBytes {
    only: Option<Bytes>,
    blocks: Vec<Bytes>,
    last: Vec<u8>,
    length: usize,
}

impl KeptBytes {
    pub(super) fn push(&mut self, piece: &Bytes) {
        if self.length == 0 && piece.len() >= LEAST_WHOLE {
            (self.only, self.length) = (Some(piece.clone()), piece.len());
            return;
        }
        if let Some(only) = self.only.take() {
            self.copy(&only);
        }
        self.length += piece.len();
        self.copy(piece);
    }

    fn copy(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.last.is_empty() && !self.blocks.is_empty() {
                self.last.reserve_exact(BLOCK);
            }
            let (now, later) = piece.split_at(piece.len().min(BLOCK - self.last.len()));
            self.last.extend_from_slice(now);
            if self.last.len() == BLOCK {
                self.end_block();
            }
            piece = later;
        }
    }

    fn end_block(&mut self) {
        let mut block = std::mem::take(&mut self.last);
        block.shrink_to_fit();
        self.blocks.push(block.into());
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn into_blocks(mut self) -> Vec<Bytes> {
        if let Some(only) = self.only {
            return vec![only];
        }
        if !self.last.is_empty() {
            self.end_block();
        }
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pool_gives_what_it_has_and_gets_it_back() {
        static POOL: MemoryPool = MemoryPool::new(100);
        let (mut one, mut other) = (POOL.share(), POOL.share());
        assert!(one.grow(60) && !other.grow(50) && other.grow(40) && !other.take(1));
        one.give_back(20);
        assert!(!other.grow(20) && other.grow(19));
        drop((one, other));
        assert_eq!(POOL.used.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn kept_bytes_are_those_that_came_in(pieces in prop::collection::vec(0usize..400_000, 0..12)) {
            let (mut kept, mut all) = (KeptBytes::default(), Vec::new());
            for (at, length) in pieces.into_iter().enumerate() {
                let piece = Bytes::from(vec![at as u8; length]);
                kept.push(&piece);
                all.extend_from_slice(&piece);
            }
            prop_assert_eq!(kept.len(), all.len());
            let blocks = kept.into_blocks();
            prop_assert!(blocks.iter().rev().skip(1).all(|block| block.len() == BLOCK), "as it was, or in blocks");
            prop_assert_eq!(blocks.concat(), all);
        }
    }
}
