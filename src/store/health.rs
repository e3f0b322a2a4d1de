//! Whether changes are being saved.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pool::{Wall, millis};

/// Whether changes are being saved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StoreHealth {
    /// Everything is written.
    #[default]
    Ok,
    /// The database was opened read-only: nothing is written in this run.
    ReadOnly,
    /// Writes fail and are retried.
    Failing(WriteFailure),
}

/// Why and since when writes fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteFailure {
    /// The error and its remedy.
    pub message: String,
    /// When the failures began.
    pub since: Wall,
    /// The number of writes that wait to be retried.
    pub waiting: usize,
    /// The number of writes that were dropped because too many waited.
    pub dropped: u64,
}

/// State shared between the store's thread and its callers.
#[derive(Debug, Default)]
pub(super) struct WriterStatus {
    health: Mutex<StoreHealth>,
    /// The number of writes that are queued and not yet taken by the thread.
    pub(super) queued: AtomicUsize,
}

impl WriterStatus {
    pub(super) fn new(read_only: bool) -> Self {
        let health = if read_only { StoreHealth::ReadOnly } else { StoreHealth::Ok };
        Self { health: Mutex::new(health), queued: AtomicUsize::new(0) }
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.lock().clone()
    }

    /// Records that all waiting writes are done.
    pub(super) fn well(&self) {
        let mut health = self.lock();
        if matches!(*health, StoreHealth::Failing(_)) {
            *health = StoreHealth::Ok;
        }
    }

    /// Records that writing failed. The start time of a series of failures stays.
    pub(super) fn failed(&self, message: String, waiting: usize, more_dropped: u64) {
        if more_dropped > 0 {
            tracing::error!(dropped = more_dropped, "writes were dropped because too many were waiting: {message}");
        }
        let mut health = self.lock();
        let (since, dropped) = match &*health {
            StoreHealth::Failing(before) => (before.since, before.dropped),
            _ => (wall_now(), 0),
        };
        *health = StoreHealth::Failing(WriteFailure { message, since, waiting, dropped: dropped + more_dropped });
    }

    pub(super) fn waiting(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, StoreHealth> {
        // the value is replaced as a whole, so a poisoned lock does not leave it half-changed
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn wall_now() -> Wall {
    Wall(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)))
}
