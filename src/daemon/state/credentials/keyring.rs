//! Waiting for a locked keyring that holds the key of all secrets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A keyring that is waited for.
#[derive(Debug)]
pub(crate) struct KeyringWait {
    why: Mutex<String>,
    over: Notify,
    given_up: AtomicBool,
}

impl KeyringWait {
    pub(crate) fn new(why: String) -> Self {
        Self { why: Mutex::new(why), over: Notify::new(), given_up: AtomicBool::new(false) }
    }

    /// The keyring is still locked, for this reason.
    pub(crate) fn set_why(&self, why: String) {
        *self.reason() = why;
    }

    /// The key may be available.
    pub(crate) fn end(&self) {
        self.over.notify_one();
    }

    /// Whether the wait was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Waits no longer.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Waits until the key may be available.
    pub(crate) async fn unlocked(&self) {
        self.over.notified().await;
    }

    /// Why the key is not available.
    pub(crate) fn why(&self) -> String {
        self.reason().clone()
    }

    fn reason(&self) -> MutexGuard<'_, String> {
        // a whole text is replaced at once
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
