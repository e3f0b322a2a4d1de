//! Finds the ends of heads and of chunked bodies in the bytes of a connection, however they are split. Only times and places
//! depend on it; hyper parses the same bytes.

/// Finds the end of a chunked body. Only times depend on it: what it cannot read has no end.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkScan {
    pub(super) state: ChunkState,
    /// Bytes have come after the end.
    pub(super) is_next_here: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChunkState {
    /// In the line of a chunk's size; whether it has a digit, and whether the digits have ended.
    Size {
        size: u64,
        has_digit: bool,
        is_over: bool,
    },
    /// So much of the chunk is left.
    Data(u64),
    /// After a chunk: the rest of its line.
    DataEnd,
    /// In a line of the trailers; whether it has no byte but carriage returns so far.
    Trailer {
        is_line_empty: bool,
    },
    End,
    Invalid,
}

/// Finds the end of a head: the first empty line after one that is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadScan {
    pub(super) length: usize,
    /// The line that is coming has no byte but carriage returns so far.
    is_line_empty: bool,
    /// There was a line that is not empty.
    has_begun: bool,
    is_whole: bool,
    /// How many bytes have come after its end, and where they end if they are a chunked body.
    pub(super) after: u64,
    pub(super) chunks: ChunkScan,
    /// It began behind another request, where its end is not seen.
    pub(super) is_hidden: bool,
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b'\r')
}

impl HeadScan {
    /// `is_hidden`: its end will not be seen.
    pub(super) const fn new(is_hidden: bool) -> Self {
        Self {
            length: 0,
            is_line_empty: true,
            has_begun: false,
            is_whole: false,
            after: 0,
            chunks: ChunkScan::new(),
            is_hidden,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_whole || self.is_hidden {
            self.after += bytes.len() as u64;
            self.chunks.push(bytes);
            return;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let is_empty = self.is_line_empty && is_blank(&bytes[start..end]);
            if is_empty && self.has_begun {
                self.is_whole = true;
                self.length += end + 1;
                self.after = (bytes.len() - end - 1) as u64;
                self.chunks.push(&bytes[end + 1..]);
                return;
            }
            self.has_begun |= !is_empty;
            (self.is_line_empty, start) = (true, end + 1);
        }
        self.is_line_empty &= is_blank(&bytes[start..]);
        self.length += bytes.len();
    }
}

impl ChunkScan {
    const START: ChunkState = ChunkState::Size { size: 0, has_digit: false, is_over: false };

    pub(super) const fn new() -> Self {
        Self { state: Self::START, is_next_here: false }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let (Some((byte, rest)), true) = (bytes.split_first(), self.state != ChunkState::Invalid) {
            if self.state == ChunkState::End {
                self.is_next_here = true;
                return;
            }
            if let ChunkState::Data(left) = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - taken as u64;
                self.state = if left == 0 { ChunkState::DataEnd } else { ChunkState::Data(left) };
                bytes = &bytes[taken..];
                continue;
            }
            self.state = self.state.after(*byte);
            bytes = rest;
        }
    }
}

impl ChunkState {
    /// The state after a byte that is no data.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { has_digit: false, .. }, b'\n') => Self::Invalid,
            (Self::Size { size: 0, .. }, b'\n') => Self::Trailer { is_line_empty: true },
            (Self::Size { size, .. }, b'\n') => Self::Data(size),
            (Self::Size { size, has_digit, is_over: false }, byte) => match char::from(byte).to_digit(16) {
                Some(_) if size >= 1 << 56 => Self::Invalid,
                Some(digit) => Self::Size { size: size * 16 + u64::from(digit), has_digit: true, is_over: false },
                // so that a body that is not chunked is not read
                None if !has_digit => Self::Invalid,
                None => Self::Size { size, has_digit, is_over: true },
            },
            (Self::DataEnd, b'\n') => ChunkScan::START,
            (Self::DataEnd, b'\r') => self,
            (Self::Trailer { is_line_empty: true }, b'\n') => Self::End,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { is_line_empty: true },
            (Self::Trailer { is_line_empty }, byte) => Self::Trailer { is_line_empty: is_line_empty && byte == b'\r' },
            (Self::Size { .. }, _) => self,
            (Self::Data(_) | Self::DataEnd | Self::End | Self::Invalid, _) => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes of these belong to the head, and how many follow; `None` if the head is not whole.
    fn scanned(bytes: &[u8], step: usize) -> Option<(usize, u64)> {
        let mut scan = HeadScan::new(false);
        bytes.chunks(step).for_each(|piece| scan.push(piece));
        scan.is_whole.then_some((scan.length, scan.after))
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_split() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Some((27, 0))),
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nbody", Some((27, 4))),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\nab", Some((22, 2))),
            ("GET / HTTP/1.1\n\nab", Some((16, 2))),
            ("GET / HTTP/1.1\r\nhost: a\r\n", None),
            ("GET / HTTP/1.1\r\n\r", None),
            ("\r\n\r\n\r\n", None),
            ("", None),
        ] {
            for step in [1, 2, 3, 100] {
                assert_eq!(scanned(text.as_bytes(), step), expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn what_follows_a_chunked_body_is_found_however_it_is_split() {
        for (text, expected) in [
            ("0\r\n\r\n", Some(false)),
            ("0\r\n\r\nG", Some(true)),
            ("3\r\nabc\r\n0\r\n\r\nGET /", Some(true)),
            ("B;x=\"y\"\r\n0\r\n\r\nabcdef\r\n000\r\nx-sum: 1\r\nx: 2\r\n\r\n", Some(false)),
            ("1\na\n0\n\nG", Some(true)),
            ("3\r\nabc\r\n", None),
            ("0\r\nx: 1\r\n", None),
            ("3\r\nabcd\r\n0\r\n\r\nG", None),
            ("fffffffffffffffff\r\nG", None),
            ("\r\nG", None),
            ("{\n0\r\n\r\nG", None),
        ] {
            for step in [1, 2, 3, 100] {
                let mut scan = ChunkScan::new();
                text.as_bytes().chunks(step).for_each(|piece| scan.push(piece));
                let found = (scan.state == ChunkState::End).then_some(scan.is_next_here);
                assert_eq!(found, expected, "{text:?} by {step}");
            }
        }
    }
}
