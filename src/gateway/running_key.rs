//! The key of the request that a connection serves: the connection is cut when that key is revoked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::watch;

use crate::daemon::{GatewayClient, KeyUse};

/// Turns true when a key is revoked.
type Revocation = Option<watch::Receiver<bool>>;

/// What a connection serves with which key.
#[derive(Clone, Debug)]
pub(super) struct RunningKey(Arc<Mutex<KeyInUse>>);

/// Ends when the key is revoked.
pub(super) struct KeyCut(RunningKey);

/// The key of the last request of a connection.
#[derive(Debug, Default)]
struct KeyInUse {
    revocation: Revocation,
    /// How often it has changed.
    changes: u64,
    /// The request is being served.
    is_serving: bool,
}

/// A request that runs with a key: from its head until its response has ended.
#[derive(Debug)]
pub(super) struct KeyedRequest {
    connection: RunningKey,
    /// Counts it among the requests of the key.
    pub(super) key_use: Option<KeyUse>,
}

impl RunningKey {
    pub(super) fn new() -> (Self, KeyCut) {
        let running = Self(Arc::default());
        (running.clone(), KeyCut(running))
    }

    /// Begins a request; the connection serves one at a time.
    pub(super) fn begin(&self, client: &GatewayClient) -> KeyedRequest {
        let in_use = &mut *self.in_use();
        let revocation = client.revocation();
        // a connection mostly has one key, whose revocation is awaited already
        let is_awaited = match (&in_use.revocation, &revocation) {
            (Some(awaited), Some(new)) => awaited.same_channel(new) && !*awaited.borrow(),
            (None, None) => true,
            _ => false,
        };
        if !is_awaited {
            in_use.revocation = revocation;
            in_use.changes += 1;
        }
        in_use.is_serving = true;
        KeyedRequest { connection: self.clone(), key_use: None }
    }

    fn in_use(&self) -> MutexGuard<'_, KeyInUse> {
        // each change is an assignment
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another key is in use than at this count of changes. Nothing announces that: the task that serves the
    /// connection polls this after each change.
    async fn changes_after(&self, seen: u64) {
        std::future::poll_fn(|_| if self.in_use().changes == seen { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

impl Drop for KeyedRequest {
    fn drop(&mut self) {
        self.connection.in_use().is_serving = false;
    }
}

impl KeyCut {
    /// Waits until a key is revoked while a request with it runs. The task that serves the connection polls this, after
    /// what it serves.
    pub(super) async fn happens(&mut self) {
        loop {
            let (seen, revocation) = {
                let in_use = self.0.in_use();
                (in_use.changes, in_use.revocation.clone())
            };
            tokio::select! {
                biased;
                () = self.0.changes_after(seen) => {}
                () = is_revoked(revocation) => {
                    if self.0.in_use().is_serving {
                        return;
                    }
                    // a request that has ended is not cut
                    self.0.changes_after(seen).await;
                }
            }
        }
    }
}

async fn is_revoked(revocation: Revocation) {
    match revocation {
        Some(mut revocation) => drop(revocation.wait_for(|is_revoked| *is_revoked).await),
        None => std::future::pending().await,
    }
}
