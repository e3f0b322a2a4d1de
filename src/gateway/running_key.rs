//! The key of the request that a connection serves, and the seats of a shared pool that it uses: the connection is cut when
//! the key is revoked or the seats end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::watch;

use crate::daemon::{GatewayClient, KeyUse, RequestSeats};

/// Turns true when a key is revoked.
type Revocation = Option<watch::Receiver<bool>>;

/// What a connection serves with which key.
#[derive(Clone, Debug)]
pub(super) struct RunningKey(Arc<Mutex<KeyInUse>>);

/// Ends when the key is revoked, or the seats end.
pub(super) struct KeyCut(RunningKey);

/// The key of the last request of a connection, and the seats that it uses.
#[derive(Debug, Default)]
struct KeyInUse {
    revocation: Revocation,
    /// None for an account that no other host uses.
    seats: Option<RequestSeats>,
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
    /// The seats that it uses.
    seats: Option<RequestSeats>,
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
        }
        // those of the last request
        let had_seats = in_use.seats.take().is_some();
        in_use.changes += u64::from(!is_awaited || had_seats);
        in_use.is_serving = true;
        KeyedRequest { connection: self.clone(), key_use: None, seats: None }
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

impl KeyedRequest {
    /// The request is sent to an account with these seats; without them, to one that no other host uses.
    pub(super) fn uses(&mut self, seats: Option<&RequestSeats>) {
        if self.seats.as_ref() == seats {
            return;
        }
        self.seats = seats.cloned();
        let in_use = &mut *self.connection.in_use();
        in_use.seats = seats.cloned();
        in_use.changes += 1;
    }

    /// Whether the time of its seats is over. The boot clock is looked at, because timers stand still while the machine is
    /// suspended.
    pub(super) fn has_lost_seats(&self) -> bool {
        self.seats.as_ref().is_some_and(|seats| !seats.are_valid())
    }
}

impl Drop for KeyedRequest {
    fn drop(&mut self) {
        self.connection.in_use().is_serving = false;
    }
}

impl KeyCut {
    /// Waits until a key is revoked, or its seats end, while a request with it runs; answers why it is cut. The task that
    /// serves the connection polls this, after what it serves.
    pub(super) async fn happens(&mut self) -> &'static str {
        loop {
            let (seen, revocation, seats) = {
                let in_use = self.0.in_use();
                (in_use.changes, in_use.revocation.clone(), in_use.seats.clone())
            };
            let why = tokio::select! {
                biased;
                () = self.0.changes_after(seen) => continue,
                () = is_revoked(revocation) => "the key was revoked",
                () = have_ended(seats) => "the seats of this host in the shared pool have ended",
            };
            if self.0.in_use().is_serving {
                return why;
            }
            // a request that has ended is not cut
            self.0.changes_after(seen).await;
        }
    }
}

async fn have_ended(seats: Option<RequestSeats>) {
    match seats {
        Some(seats) => seats.ended().await,
        None => std::future::pending().await,
    }
}

async fn is_revoked(revocation: Revocation) {
    match revocation {
        Some(mut revocation) => drop(revocation.wait_for(|is_revoked| *is_revoked).await),
        None => std::future::pending().await,
    }
}
