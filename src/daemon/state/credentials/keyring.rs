//! Waiting for a locked keyring that holds the key of all secrets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::store::{KeyringError, Store};

/// A keyring that is waited for.
#[derive(Debug)]
pub(crate) struct KeyringWait {
    why: Mutex<String>,
    over: Notify,
    given_up: AtomicBool,
}

impl KeyringWait {
    /// Starts to wait on a thread of its own.
    pub(crate) fn begin(first: &KeyringError) -> std::io::Result<Arc<Self>> {
        let waiting = Arc::new(Self {
            why: Mutex::new(first.to_string()),
            over: Notify::new(),
            given_up: AtomicBool::new(false),
        });
        let theirs = waiting.clone();
        std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
            let given_up = || theirs.given_up.load(Ordering::Relaxed);
            Store::wait_for_keyring(&given_up, |trouble| *theirs.reason() = trouble.to_string());
            theirs.over.notify_one();
        })?;
        Ok(waiting)
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
