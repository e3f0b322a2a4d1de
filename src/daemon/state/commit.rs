//! What must survive a `kill -9` of the daemon before an answer that depends on it may go out.
//!
//! [`State::apply`](super::State::apply) hands every write to the store at once and in order, so dropping an
//! [`Unsaved`] never loses a write. What the type holds back is the *answer*: its value can be sent only through
//! `api::reply` or [`Shared::saved`], and both wait for the store.

use tokio::sync::oneshot;

use super::Shared;
use crate::store::{Store, Write, WriteError};

/// What the store still has to write before an answer may go out, the stronger demand last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pending {
    /// Nothing.
    Nothing,
    /// A lease or a limit. While the disk fails the daemon serves it from memory and goes on trying, so the answer
    /// goes out all the same.
    Lease,
    /// A change of accounts. While the disk fails the answer is an error.
    Account,
}

/// A result whose changes may not be on disk yet.
#[must_use = "answer through `api::reply`, wait with `Shared::saved`, or say with `no_answer` that there is none"]
#[derive(Debug)]
pub(crate) struct Unsaved<T> {
    value: T,
    pending: Pending,
}

impl<T> Unsaved<T> {
    /// A value for which the store still has to write this.
    pub(crate) fn pending(value: T, pending: Pending) -> Self {
        Self { value, pending }
    }

    /// A result that changed nothing.
    pub(crate) fn nothing_to_save(value: T) -> Self {
        Self { value, pending: Pending::Nothing }
    }

    /// The value, to decide by; not to answer with.
    pub(crate) fn peek(&self) -> &T {
        &self.value
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Unsaved<U> {
        Unsaved { value: change(self.value), pending: self.pending }
    }

    /// `next`, once this is saved, too.
    pub(crate) fn then<U>(self, next: Unsaved<U>) -> Unsaved<U> {
        Unsaved { value: next.value, pending: self.pending.max(next.pending) }
    }

    /// The value, where no answer depends on it.
    pub(crate) fn no_answer(self) -> T {
        self.value
    }

    /// For `api::reply`, which waits before it sends.
    pub(crate) fn into_parts(self) -> (T, Pending) {
        (self.value, self.pending)
    }
}

impl<T, E> Unsaved<Result<T, E>> {
    /// The two cases apart; both stay unsaved.
    pub(crate) fn into_result(self) -> Result<Unsaved<T>, Unsaved<E>> {
        let pending = self.pending;
        match self.value {
            Ok(value) => Ok(Unsaved { value, pending }),
            Err(error) => Err(Unsaved { value: error, pending }),
        }
    }
}

impl Shared {
    /// Waits until everything the value depends on is saved. While the disk fails it does not wait: leases are served
    /// from memory then.
    pub(crate) async fn saved<T>(&self, unsaved: Unsaved<T>) -> T {
        if unsaved.pending != Pending::Nothing {
            let (done, outcome) = oneshot::channel();
            // the receiver is gone when the request was cancelled
            self.store.when_saved(Box::new(move |result| drop(done.send(result))));
            if let Ok(Err(error)) = outcome.await {
                tracing::warn!("served from memory, not saved yet: {error}");
            }
        }
        unsaved.value
    }
}

/// Writes one thing, and waits until it is on disk.
pub(crate) async fn save(store: &Store, write: Write) -> Result<(), WriteError> {
    let (done, outcome) = oneshot::channel();
    store.write(write, Some(Box::new(move |result| drop(done.send(result)))));
    outcome.await.unwrap_or(Err(WriteError::Closed))
}
