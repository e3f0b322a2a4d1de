//! Whether what happens is kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pool::{Wall, millis};

/// Whether what happens is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Everything is written.
    #[default]
    Ok,
    /// The database was opened read-only: nothing is written in this run.
    ReadOnly,
    /// Writes fail, and are tried again.
    Failing(Failure),
}

/// How writing fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What, where, and what to do.
    pub message: String,
    /// Since when.
    pub since: Wall,
    /// How many writes wait to be tried again.
    pub waiting: usize,
    /// How many were given up because too many waited.
    pub dropped: u64,
}

/// What the store's thread and its users both see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    health: Mutex<Health>,
    /// Writes handed over and not yet taken by the thread.
    pub(super) queued: AtomicUsize,
}

impl Shared {
    pub(super) fn new(read_only: bool) -> Self {
        let health = if read_only { Health::ReadOnly } else { Health::Ok };
        Self { health: Mutex::new(health), queued: AtomicUsize::new(0) }
    }

    pub(super) fn health(&self) -> Health {
        self.lock().clone()
    }

    /// Everything that waited is written.
    pub(super) fn well(&self) {
        let mut health = self.lock();
        if matches!(*health, Health::Failing(_)) {
            *health = Health::Ok;
        }
    }

    /// Writing failed, or was given up; the first time of a row of failures stands.
    pub(super) fn failed(&self, message: String, waiting: usize, more_dropped: u64) {
        if more_dropped > 0 {
            tracing::error!(dropped = more_dropped, "writes were given up because too many waited: {message}");
        }
        let mut health = self.lock();
        let (since, dropped) = match &*health {
            Health::Failing(before) => (before.since, before.dropped),
            _ => (wall_now(), 0),
        };
        *health = Health::Failing(Failure { message, since, waiting, dropped: dropped + more_dropped });
    }

    pub(super) fn waiting(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // a whole value is put in at once: there is no half-changed state to fear
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall_now() -> Wall {
    Wall(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)))
}
