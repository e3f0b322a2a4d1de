//! Turns: how long one connection may be served before others are.
//!
//! A connection that has served its turn and has more input waits for the gate, which admits one such connection at a
//! time. Between two of them the runtime serves every connection that has just become ready. So a client that sends
//! one call after the other waits for at most one turn, however many clients pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a turn takes, apart from its last call.
const TURN: Duration = Duration::from_micros(50);
/// The clock is read once for this many messages.
const MESSAGES_PER_READING: u32 = 4;
/// The most bytes that are received in one turn.
const MOST_BYTES: usize = 32 * 1024;

/// What a connection has used of its turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When its first messages had been served; a turn of few messages needs no clock.
    since: Option<Instant>,
    messages: u32,
    bytes: usize,
    is_over: bool,
}

impl Turn {
    /// Bytes were received.
    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.is_over |= self.bytes > MOST_BYTES;
    }

    /// A message was served.
    pub(super) fn served(&mut self) {
        self.messages += 1;
        if self.messages.is_multiple_of(MESSAGES_PER_READING) {
            #[expect(clippy::disallowed_methods, reason = "how long the thread was used, not the time")]
            let now = Instant::now();
            let since = *self.since.get_or_insert(now);
            self.is_over |= now.duration_since(since) >= TURN;
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The connection has waited for input, or begins a turn that the gate has admitted.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }
}

/// Admits one connection at a time, in order, of those whose turn was over.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

/// A turn that the gate has admitted.
#[derive(Debug)]
pub(super) struct AdmittedTurn(OwnedSemaphorePermit);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits for the connection's next turn.
    pub(super) async fn enter(&self) -> Option<AdmittedTurn> {
        // it is never closed
        self.0.clone().acquire_owned().await.ok().map(AdmittedTurn)
    }
}

impl AdmittedTurn {
    /// Ends the turn; the next one begins after the runtime has looked for new input and has served it.
    pub(super) async fn end(self) {
        tokio::task::yield_now().await;
        drop(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_bytes_and_a_short_one_does_not() {
        let mut turn = Turn::default();
        turn.received(MOST_BYTES);
        turn.served();
        assert!(!turn.is_over());
        turn.received(1);
        assert!(turn.is_over());
        turn.begin();
        assert!(!turn.is_over());
    }

    #[test]
    fn a_turn_ends_by_time() {
        let mut turn = Turn::default();
        #[expect(clippy::disallowed_methods, reason = "the clock of turns")]
        let begun = Instant::now();
        while !turn.is_over() {
            turn.served();
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert!(begun.elapsed() >= TURN);
    }
}
