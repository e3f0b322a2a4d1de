//! The database's write-ahead log, read before SQLite reads it: whether it is there, and whether it is whole. SQLite
//! ignores a missing log, and everything that follows a damaged place in one.

use std::{fs, path::Path};

/// A log beyond this size is not read; lessor's logs stay far below it.
const LARGEST: u64 = 64 << 20;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What a log looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum LogState {
    /// There is none, or it has no content.
    Missing,
    /// Everything in it can be read, but for an end that was never completed.
    Whole,
    /// Finished changes follow a place that cannot be read.
    Damaged,
}

impl LogState {
    /// Looks at the log at `path`. One that cannot be read is left to SQLite, which reports why.
    pub(in crate::store) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(facts) if facts.len() > LARGEST => Self::Whole,
            Ok(facts) if facts.is_file() => fs::read(path).map_or(Self::Whole, |bytes| Self::of_bytes(&bytes)),
            Ok(_) => Self::Whole,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Missing,
            Err(_) => Self::Whole,
        }
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let Some((header, frames)) = bytes.split_at_checked(HEADER).filter(|(_, frames)| !frames.is_empty()) else {
            return Self::Missing;
        };
        let page = word(header, 8) as usize;
        if !matches!(word(header, 0), 0x377f_0682 | 0x377f_0683) || !(512..=65536).contains(&page) {
            return Self::Damaged;
        }
        let big = word(header, 0) & 1 == 1;
        let mut sum = checksum((0, 0), &header[..24], big);
        if sum != (word(header, 24), word(header, 28)) {
            return Self::Damaged;
        }
        let mut is_broken = false;
        for frame in frames.chunks_exact(FRAME_HEADER + page) {
            let ends_a_change = word(frame, 4) != 0;
            // frames of an earlier log, which may follow in the same file, have other salts
            let is_of_this_log = frame[8..16] == header[16..24];
            if is_broken && is_of_this_log && ends_a_change {
                return Self::Damaged;
            }
            sum = checksum(checksum(sum, &frame[..8], big), &frame[FRAME_HEADER..], big);
            is_broken = is_broken || !is_of_this_log || sum != (word(frame, 16), word(frame, 20));
        }
        Self::Whole
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

/// SQLite's checksum, continued from `sum`.
fn checksum(sum: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let of = |four: &[u8]| {
        let value = word(four, 0);
        if big { value } else { value.swap_bytes() }
    };
    bytes.chunks_exact(8).fold(sum, |(first, second), eight| {
        let first = first.wrapping_add(of(&eight[..4])).wrapping_add(second);
        (first, second.wrapping_add(of(&eight[4..])).wrapping_add(first))
    })
}
