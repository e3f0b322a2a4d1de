//! Watched processes: leases end with the process that they hang on.
//!
//! A process is found and opened before the state is locked ([`OpenedProcess::open`]); under the lock only its handle
//! changes hands. Its end arrives over a channel.

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::daemon::os::opened_process::OpenedProcess;
use crate::pool::{ConnectionId, Holder, Process};

/// Below this many, a process that nothing hangs on stays watched: it will likely come back.
const KEPT_IDLE: usize = 256;

/// All watched processes.
#[derive(Debug)]
pub(crate) struct WatchedProcesses {
    /// Below this many, idle ones are kept.
    kept: usize,
    watched: FxHashMap<Process, Watched>,
    of_connection: FxHashMap<ConnectionId, Process>,
    ended: mpsc::UnboundedSender<Process>,
}

#[derive(Debug)]
struct Watched {
    task: AbortHandle,
    connections: FxHashSet<ConnectionId>,
    /// Whether a lease is bound to the process itself.
    bound: bool,
}

impl WatchedProcesses {
    /// For a daemon that can have so many connections (each watched process takes a descriptor); the ends of processes
    /// go to `ended`.
    pub(crate) fn new(most_connections: usize, ended: mpsc::UnboundedSender<Process>) -> Self {
        let kept = KEPT_IDLE.min(most_connections / 2);
        Self { kept, watched: FxHashMap::default(), of_connection: FxHashMap::default(), ended }
    }

    /// Watches a process, and answers who holds a lease by it. `opened` is taken unless the process is watched already; what is left of it is to be dropped
    /// after the lock.
    pub(crate) fn watch(&mut self, opened: &mut Option<OpenedProcess>) -> Option<Holder> {
        let holder = opened.as_ref()?.holder();
        let process = opened.as_ref()?.process();
        if !self.watched.contains_key(&process)
            && let Some(opened) = opened.take()
        {
            let ended = self.ended.clone();
            let task = tokio::spawn(async move {
                match opened.ended().await {
                    // the receiver is gone at the end of the daemon
                    Ok(()) => drop(ended.send(process)),
                    Err(error) => tracing::error!(pid = process.pid, "a process can no longer be watched: {error}"),
                }
            });
            let watched = Watched { task: task.abort_handle(), connections: FxHashSet::default(), bound: false };
            self.watched.insert(process, watched);
        }
        Some(holder)
    }

    /// The leases of a connection hang on this process, too.
    pub(crate) fn connect(&mut self, process: Process, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&process) {
            watched.connections.insert(connection);
            self.of_connection.insert(connection, process);
        }
    }

    /// A lease is bound to this process.
    pub(crate) fn bind(&mut self, process: Process) {
        if let Some(watched) = self.watched.get_mut(&process) {
            watched.bound = true;
        }
    }

    /// No lease is bound to this process any more.
    pub(crate) fn unbind(&mut self, process: Process) {
        if let Some(watched) = self.watched.get_mut(&process) {
            watched.bound = false;
        }
        self.release(process);
    }

    pub(crate) fn connection_ended(&mut self, connection: ConnectionId) {
        let Some(process) = self.of_connection.remove(&connection) else { return };
        if let Some(watched) = self.watched.get_mut(&process) {
            watched.connections.remove(&connection);
        }
        self.release(process);
    }

    /// A process has ended; answers the connections it made.
    pub(crate) fn ended(&mut self, process: Process) -> Vec<ConnectionId> {
        let connections = self.watched.remove(&process).map(|watched| watched.connections).unwrap_or_default();
        for connection in &connections {
            self.of_connection.remove(connection);
        }
        connections.into_iter().collect()
    }

    /// Stops watching a process that nothing hangs on, unless there is room to spare.
    pub(crate) fn release(&mut self, process: Process) {
        let idle = self.watched.get(&process).is_some_and(|watched| !watched.bound && watched.connections.is_empty());
        if idle
            && self.watched.len() > self.kept
            && let Some(watched) = self.watched.remove(&process)
        {
            watched.task.abort();
        }
    }
}
