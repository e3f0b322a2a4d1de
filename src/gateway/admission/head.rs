//! How long a connection may take: for the head of a request, between two requests, and for reading a response.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{sync::Arc, time::Duration};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::admitted::AdmittedConnection;
use crate::gateway::BodyError;
use crate::gateway::response::ClientBody;
use crate::gateway::waiting::now;

/// A larger head is rejected, in bytes.
pub(in crate::gateway) const MAX_HEAD: usize = 64 * 1024;
/// How long the head of a request may take from its first byte on, and a connection without a key between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that has shown a key may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a client may leave its response unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Why a connection is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum ConnectionEnd {
    /// The head was not complete in time; with the seconds that it had.
    HeadTooLate(u64),
    HeadTooLarge,
    /// No request has come for long, or the response was not read.
    Silent,
}

/// What a connection does, seen from its bytes.
#[derive(Debug)]
pub(in crate::gateway) struct ConnectionWatch {
    admitted: AdmittedConnection,
    state: Mutex<WatchState>,
    /// The next deadline may be earlier than the last one.
    changed: Notify,
}

#[derive(Debug)]
struct WatchState {
    phase: WatchPhase,
    has_key: bool,
    /// Since when bytes of a response cannot be written.
    unread_since: Option<Instant>,
    /// Bytes of a response were written that may not all be with the system yet.
    is_writing: bool,
}

#[derive(Debug)]
enum WatchPhase {
    /// No byte of a request has come.
    Idle(Instant),
    /// A head is coming: since when, and how much of it has come.
    Head(Instant, HeadScan),
    /// A request is served. How many bytes have come after its head, and how many of them are its body.
    Request {
        after: u64,
        body: RequestLength,
    },
    Ended(ConnectionEnd),
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug)]
enum RequestLength {
    Known(u64),
    Chunked(ChunkScan),
    /// Its head was hidden.
    Hidden,
}

/// Finds the end of a chunked body. Only times depend on it: what it cannot read has no end.
#[derive(Clone, Copy, Debug)]
struct ChunkScan {
    state: ChunkState,
    /// Bytes have come after the end.
    is_next_here: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChunkState {
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
struct HeadScan {
    length: usize,
    /// The line that is coming has no byte but carriage returns so far.
    is_line_empty: bool,
    /// There was a line that is not empty.
    has_begun: bool,
    is_whole: bool,
    /// How many bytes have come after its end, and where they end if they are a chunked body.
    after: u64,
    chunks: ChunkScan,
    /// It began behind another request, where its end is not seen.
    is_hidden: bool,
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b'\r')
}

impl HeadScan {
    /// `is_hidden`: its end will not be seen.
    const fn new(is_hidden: bool) -> Self {
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

    fn push(&mut self, bytes: &[u8]) {
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

    const fn new() -> Self {
        Self { state: Self::START, is_next_here: false }
    }

    fn push(&mut self, mut bytes: &[u8]) {
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

impl RequestLength {
    /// Whether what has come after the head, so many bytes, is more than the body.
    fn is_exceeded(self, after: u64) -> bool {
        match self {
            Self::Known(length) => after > length,
            Self::Chunked(chunks) => chunks.is_next_here,
            // a client that sends requests ahead loses its connection sooner than others when it is idle
            Self::Hidden => true,
        }
    }
}

impl ConnectionWatch {
    pub(in crate::gateway) fn new(admitted: AdmittedConnection, has_key: bool) -> Arc<Self> {
        let phase = WatchPhase::Idle(now());
        let state = WatchState { phase, has_key, unread_since: None, is_writing: false };
        Arc::new(Self { admitted, state: Mutex::new(state), changed: Notify::new() })
    }

    pub(in crate::gateway) fn admitted(&self) -> &AdmittedConnection {
        &self.admitted
    }

    /// Whether a request with a valid key has come on the connection.
    pub(in crate::gateway) fn has_key(&self) -> bool {
        self.state().has_key
    }

    pub(in crate::gateway) fn show_key(&self) {
        self.state().has_key = true;
        self.admitted.show_key();
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        // one task has it, so the lock is always free; a panic ends the connection
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes were received; returns whether they may be read.
    pub(in crate::gateway) fn received(&self, bytes: &[u8]) -> bool {
        let state = &mut *self.state();
        let (began, mut scan) = match &mut state.phase {
            WatchPhase::Request { after, body } => {
                *after += bytes.len() as u64;
                if let RequestLength::Chunked(chunks) = body {
                    chunks.push(bytes);
                }
                return true;
            }
            WatchPhase::Ended(_) => return false,
            WatchPhase::Idle(_) => {
                self.changed.notify_one();
                (now(), HeadScan::new(false))
            }
            WatchPhase::Head(began, scan) => (*began, *scan),
        };
        let before = scan.length;
        scan.push(bytes);
        self.admitted.grow_head(scan.length - before);
        let is_too_large = scan.length > MAX_HEAD;
        state.phase = if is_too_large {
            self.changed.notify_one();
            WatchPhase::Ended(ConnectionEnd::HeadTooLarge)
        } else {
            WatchPhase::Head(began, scan)
        };
        !is_too_large
    }

    /// A write was tried; `is_done` if it took bytes.
    pub(in crate::gateway) fn wrote(&self, is_done: bool) {
        let state = &mut *self.state();
        state.is_writing = true;
        state.unread_since = if is_done { None } else { state.unread_since.or_else(|| Some(now())) };
    }

    /// All that was written is with the system.
    pub(in crate::gateway) fn flushed(&self) {
        let state = &mut *self.state();
        (state.is_writing, state.unread_since) = (false, None);
    }

    /// Whether an answer can be written without being taken for a part of another one.
    pub(in crate::gateway) fn can_answer(&self) -> bool {
        !self.state().is_writing
    }

    /// A head is whole: a request begins, with a body of this length, if it is known. It ends when the guard is dropped.
    pub(in crate::gateway) fn begin(self: &Arc<Self>, body: Option<u64>) -> RequestGuard {
        let state = &mut *self.state();
        let scan = if let WatchPhase::Head(_, scan) = &state.phase { *scan } else { HeadScan::new(false) };
        let body = match body {
            // what came behind a hidden head was not counted from its end on
            _ if scan.is_hidden => RequestLength::Hidden,
            Some(length) => RequestLength::Known(length),
            None => RequestLength::Chunked(scan.chunks),
        };
        state.phase = WatchPhase::Request { after: scan.after, body };
        self.admitted.begin();
        RequestGuard(self.clone())
    }

    fn end(&self) {
        let state = &mut *self.state();
        if let WatchPhase::Request { after, body } = state.phase {
            let is_next_here = body.is_exceeded(after);
            state.phase =
                if is_next_here { WatchPhase::Head(now(), HeadScan::new(true)) } else { WatchPhase::Idle(now()) };
            self.admitted.end();
        }
    }

    /// Waits until the connection has taken too long.
    pub(in crate::gateway) async fn overdue(&self) -> ConnectionEnd {
        loop {
            let (due, end) = self.state().due();
            if due <= now() {
                return end;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

impl WatchState {
    /// When the connection must be looked at again, and why it ends if nothing has changed until then.
    fn due(&self) -> (Instant, ConnectionEnd) {
        let unread = self.unread_since.map(|since| since + UNREAD_TIMEOUT);
        let silent = |at: Instant| (unread.map_or(at, |unread| unread.min(at)), ConnectionEnd::Silent);
        match &self.phase {
            WatchPhase::Ended(end) => (now(), *end),
            WatchPhase::Head(began, _) => (*began + HEAD_TIMEOUT, ConnectionEnd::HeadTooLate(HEAD_TIMEOUT.as_secs())),
            WatchPhase::Idle(since) if self.has_key => silent(*since + IDLE_TIMEOUT),
            WatchPhase::Idle(since) => (*since + HEAD_TIMEOUT, ConnectionEnd::HeadTooLate(HEAD_TIMEOUT.as_secs())),
            // no change is announced while a request is served
            WatchPhase::Request { .. } => unread.map_or_else(
                || (now() + HEAD_TIMEOUT, ConnectionEnd::Silent),
                |unread| (unread, ConnectionEnd::Silent),
            ),
        }
    }
}

/// A request is served until this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct RequestGuard(Arc<ConnectionWatch>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of a response, whose end is noted.
pub(in crate::gateway) struct WatchedBody {
    body: ClientBody,
    _request: RequestGuard,
}

impl WatchedBody {
    pub(in crate::gateway) fn new(body: ClientBody, request: RequestGuard) -> Self {
        Self { body, _request: request }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
        ] {
            for step in [1, 2, 3, 100] {
                let mut scan = ChunkScan::new();
                text.as_bytes().chunks(step).for_each(|piece| scan.push(piece));
                let found = (scan.state == ChunkState::End).then_some(scan.is_next_here);
                assert_eq!(found, expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn what_a_connection_does_has_its_own_time() {
        let start = now();
        let due = |phase, has_key, unread_since| {
            let (due, end) = WatchState { phase, has_key, unread_since, is_writing: false }.due();
            (due.duration_since(start), end)
        };
        let late = ConnectionEnd::HeadTooLate(10);
        assert_eq!(due(WatchPhase::Idle(start), false, None), (HEAD_TIMEOUT, late));
        assert_eq!(due(WatchPhase::Idle(start), true, None), (IDLE_TIMEOUT, ConnectionEnd::Silent));
        assert_eq!(due(WatchPhase::Idle(start), true, Some(start)), (UNREAD_TIMEOUT, ConnectionEnd::Silent));
        assert_eq!(due(WatchPhase::Head(start, HeadScan::new(false)), true, None), (HEAD_TIMEOUT, late));
        let request = || WatchPhase::Request { after: 0, body: RequestLength::Known(0) };
        assert_eq!(due(request(), true, Some(start)), (UNREAD_TIMEOUT, ConnectionEnd::Silent));
        assert!(due(request(), true, None).0 >= HEAD_TIMEOUT);
    }
}
