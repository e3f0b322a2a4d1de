//! The clients that are connected: each is served by a task of its own.

use std::{sync::Arc, time::Duration};

use interprocess::local_socket::tokio::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::daemon::api::connection::planner::Planner;
use crate::daemon::api::connection::{self, SharedLimits};
use crate::daemon::os::socket::{Socket, admit};
use crate::daemon::state::{Daemon, Outbox};
use crate::pool::ConnectionId;

/// How many clients are accepted before others are served.
const ACCEPTED_AT_ONCE: u32 = 4;
/// How long to wait after a client could not be accepted, for example because no descriptor was left.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The tasks, and what they share.
pub(super) struct Connections {
    /// The daemon, once its state is restored.
    daemon: watch::Sender<Option<Arc<Daemon>>>,
    /// The clients that came before.
    early: Vec<(ConnectionId, Arc<Outbox>)>,
    limits: Arc<SharedLimits>,
    pub(super) room: Arc<Semaphore>,
    pub(super) tasks: JoinSet<()>,
    next: u64,
    /// Clients that were accepted without a pause.
    pub(super) accepted: u32,
}

impl Connections {
    pub(super) fn new(planner: &Planner, most: usize) -> Self {
        Self {
            daemon: watch::Sender::new(None),
            early: Vec::new(),
            limits: SharedLimits::new(planner),
            room: Arc::new(Semaphore::new(most)),
            tasks: JoinSet::new(),
            next: 0,
            accepted: 0,
        }
    }

    /// Serves the clients that came before the state was restored, and those to come.
    pub(super) fn begin(&mut self, daemon: &Arc<Daemon>) {
        daemon.state().connections.extend(self.early.drain(..));
        self.daemon.send_replace(Some(daemon.clone()));
        // a daemon that waits for its key has nothing to share, and must not be waited for
        #[cfg(unix)]
        if daemon.run.keyring.is_none() {
            self.tasks.spawn(crate::daemon::shares::keep(daemon.clone(), self.limits.clone()));
        }
    }

    /// Serves a client, if it belongs to the same user.
    pub(super) fn serve(&mut self, stream: Stream, permit: OwnedSemaphorePermit) {
        // the memory of a task stays until it is joined: those that have ended must not wait for their turn in the loop
        // while clients come and go
        while self.tasks.try_join_next().is_some() {}
        let id = ConnectionId(self.next);
        self.next += 1;
        let Some(pid) = admit(&stream) else { return };
        let (outbox, limits) = (self.limits.outbox(), self.limits.clone());
        let restored = self.daemon.borrow().clone();
        let Some(daemon) = restored else {
            self.early.push((id, outbox.clone()));
            let restored = self.daemon.subscribe();
            self.tasks.spawn(async move {
                connection::serve_early(restored, limits, stream, (id, pid), outbox).await;
                drop(permit);
            });
            return;
        };
        // inserted before its task runs: a stop in between must close it
        daemon.state().connections.insert(id, outbox.clone());
        self.tasks.spawn(async move {
            connection::serve(daemon, limits, stream, (id, pid), outbox).await;
            drop(permit);
        });
    }
}

/// Accepts a client when there is room; `None` after a failure.
pub(super) async fn accept(
    socket: &Socket,
    accepted: &mut u32,
    room: &Arc<Semaphore>,
) -> Option<(Stream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    // the clients that are connected already are served between those that come
    *accepted += 1;
    if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
        tokio::task::yield_now().await;
    }
    match socket.accept().await {
        Ok(stream) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!("no connection can be accepted for a moment: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
