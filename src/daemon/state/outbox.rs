//! What others have to say on a connection: answers of waits, answers that had to be kept first, events.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::daemon::memory::{MemoryBudget, MemoryShare};

/// More than this unread, and the client is not worth waiting for.
pub const MOST_UNREAD: usize = 1 << 20;
/// Calls of one connection that wait for an answer.
pub const MOST_IN_FLIGHT: usize = 64;

/// Up to this many bytes are not counted against the budget of all connections, and kept by an empty outbox.
const UNCOUNTED: usize = 4096;

/// The way to a connection from elsewhere.
#[derive(Debug)]
pub struct Outbox {
    unread: Mutex<Unread>,
    closed: AtomicBool,
    in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Unread {
    bytes: Vec<u8>,
    memory: MemoryShare,
    /// Too much was left unread: nothing is kept any more.
    overflowed: bool,
    /// The connection's task; a `Notify` would cost a queue's work for each message read.
    waker: Option<Waker>,
}

#[cfg(test)]
impl Default for Outbox {
    fn default() -> Self {
        Self::new(&MemoryBudget::new(usize::MAX))
    }
}

impl Outbox {
    /// An empty one, whose contents count against this budget.
    pub(crate) fn new(answers: &MemoryBudget) -> Self {
        let unread = Unread { bytes: Vec::new(), memory: answers.share(), overflowed: false, waker: None };
        Self { unread: Mutex::new(unread), closed: AtomicBool::new(false), in_flight: AtomicUsize::new(0) }
    }

    /// Appends; a client that leaves too much unread is closed.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let waker = {
            let unread = &mut *self.unread();
            if !unread.overflowed {
                write(&mut unread.bytes);
            }
            let length = unread.bytes.len();
            let is_counted = length > UNCOUNTED && !unread.overflowed;
            if length > MOST_UNREAD || is_counted && unread.memory.resize(length).is_err() {
                unread.bytes = Vec::new();
                unread.memory.clear();
                unread.overflowed = true;
                self.closed.store(true, Ordering::Relaxed);
            }
            unread.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until so much is unread that nothing more is kept.
    pub async fn overflowed(&self) {
        self.until(|unread| unread.overflowed).await;
    }

    /// Waits until something was appended, or no call waits for an answer any more; answers whether one does.
    pub async fn answered(&self) -> bool {
        self.until(|unread| !unread.bytes.is_empty() || !self.is_waited_for()).await;
        self.is_waited_for()
    }

    /// Takes what was appended, to the end of `out`.
    pub fn drain_into(&self, out: &mut Vec<u8>) {
        let Unread { bytes, memory, .. } = &mut *self.unread();
        if !bytes.is_empty() {
            out.append(bytes);
            memory.clear();
            if bytes.capacity() > UNCOUNTED {
                *bytes = Vec::new();
            }
        }
    }

    /// Waits until something was appended, or the connection is to end.
    pub async fn changed(&self) {
        self.until(|unread| !unread.bytes.is_empty() || self.is_closed()).await;
    }

    async fn until(&self, is_so: impl Fn(&Unread) -> bool) {
        std::future::poll_fn(|context| {
            let unread = &mut *self.unread();
            if is_so(unread) {
                return Poll::Ready(());
            }
            match &mut unread.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }

    /// Ends the connection, after what was appended has gone out.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.push(|_| {});
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        // bytes are only appended and taken: there is no state in between
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection is to end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether one more call may wait.
    pub fn has_room(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) < MOST_IN_FLIGHT
    }

    fn is_waited_for(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Counts a call that waits.
    pub fn begin_wait(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call that waited has its answer, or will never get one.
    pub fn end_wait(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let waker = self.unread().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
