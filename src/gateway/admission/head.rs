//! How long a connection may take: for the head of a request, between two requests, and for reading a response.

use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::{sync::Arc, time::Duration};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::admitted::AdmittedConnection;
use super::scan::{ChunkScan, HeadScan};
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

/// When a connection ends if nothing changes until then, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConnectionDue {
    Now(ConnectionEnd),
    At(Instant, ConnectionEnd),
    /// It may take any time.
    Never,
}

/// What a connection does, seen from its bytes.
#[derive(Debug)]
pub(in crate::gateway) struct ConnectionWatch {
    admitted: AdmittedConnection,
    state: Mutex<WatchState>,
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
    /// The connection has become a WebSocket.
    Socket,
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
        Arc::new(Self { admitted, state: Mutex::new(state) })
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
            WatchPhase::Socket => return true,
            WatchPhase::Ended(_) => return false,
            WatchPhase::Idle(_) => (now(), HeadScan::new(false)),
            WatchPhase::Head(began, scan) => (*began, *scan),
        };
        let before = scan.length;
        scan.push(bytes);
        self.admitted.grow_head(scan.length - before);
        let is_too_large = scan.length > MAX_HEAD;
        state.phase =
            if is_too_large { WatchPhase::Ended(ConnectionEnd::HeadTooLarge) } else { WatchPhase::Head(began, scan) };
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

    /// The connection becomes a WebSocket, when the response that says so was sent.
    pub(in crate::gateway) fn upgrade(&self) {
        self.state().phase = WatchPhase::Socket;
    }

    pub(in crate::gateway) fn is_socket(&self) -> bool {
        matches!(self.state().phase, WatchPhase::Socket)
    }

    /// A turn begins in the WebSocket: the place is not given away until it has ended.
    pub(in crate::gateway) fn turn_begins(&self) {
        self.admitted.begin();
    }

    /// The turn has ended: the WebSocket is idle.
    pub(in crate::gateway) fn turn_ended(&self) {
        self.admitted.end();
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

    /// Waits until the connection has taken too long. What it does changes only while it is served, and nothing announces
    /// that: the task that serves it polls this after each change.
    pub(in crate::gateway) async fn overdue(&self) -> ConnectionEnd {
        let mut timer = pin!(sleep_until(now() + HEAD_TIMEOUT));
        std::future::poll_fn(|context| {
            loop {
                let (due, end) = match self.state().due() {
                    ConnectionDue::Now(end) => return Poll::Ready(end),
                    ConnectionDue::At(due, end) => (due, end),
                    ConnectionDue::Never => return Poll::Pending,
                };
                // a timer that is early is left alone: most connections change before it
                if due < timer.deadline() {
                    timer.as_mut().reset(due);
                }
                ready!(timer.as_mut().poll(context));
                if due <= timer.deadline() {
                    return Poll::Ready(end);
                }
                timer.as_mut().reset(due);
            }
        })
        .await
    }
}

impl WatchState {
    fn due(&self) -> ConnectionDue {
        let late = ConnectionEnd::HeadTooLate(HEAD_TIMEOUT.as_secs());
        let unread = self.unread_since.map(|since| since + UNREAD_TIMEOUT);
        match &self.phase {
            WatchPhase::Ended(end) => ConnectionDue::Now(*end),
            WatchPhase::Head(began, _) => ConnectionDue::At(*began + HEAD_TIMEOUT, late),
            WatchPhase::Idle(since) if !self.has_key => ConnectionDue::At(*since + HEAD_TIMEOUT, late),
            WatchPhase::Idle(since) => {
                let idle = *since + IDLE_TIMEOUT;
                ConnectionDue::At(unread.map_or(idle, |unread| unread.min(idle)), ConnectionEnd::Silent)
            }
            WatchPhase::Request { .. } | WatchPhase::Socket => {
                unread.map_or(ConnectionDue::Never, |unread| ConnectionDue::At(unread, ConnectionEnd::Silent))
            }
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

    #[test]
    fn what_a_connection_does_has_its_own_time() {
        let start = now();
        let due = |phase, has_key, unread_since| WatchState { phase, has_key, unread_since, is_writing: false }.due();
        let after = |time, end| ConnectionDue::At(start + time, end);
        let (late, silent) = (ConnectionEnd::HeadTooLate(10), ConnectionEnd::Silent);
        assert_eq!(due(WatchPhase::Idle(start), false, None), after(HEAD_TIMEOUT, late));
        assert_eq!(due(WatchPhase::Idle(start), true, None), after(IDLE_TIMEOUT, silent));
        assert_eq!(due(WatchPhase::Idle(start), true, Some(start)), after(UNREAD_TIMEOUT, silent));
        assert_eq!(due(WatchPhase::Head(start, HeadScan::new(false)), true, None), after(HEAD_TIMEOUT, late));
        let request = || WatchPhase::Request { after: 0, body: RequestLength::Known(0) };
        assert_eq!(due(request(), true, Some(start)), after(UNREAD_TIMEOUT, silent));
        assert_eq!(due(request(), true, None), ConnectionDue::Never);
        assert_eq!(
            due(WatchPhase::Ended(ConnectionEnd::HeadTooLarge), true, None),
            ConnectionDue::Now(ConnectionEnd::HeadTooLarge)
        );
    }
}
