//! Which processes are watched, and for whom: leases end with the process they hang on.

use std::io;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::AbortHandle;

use crate::pool::{ConnectionId, Process};

use crate::daemon::os::process;
use crate::daemon::os::process::FoundProcess;
use crate::daemon::state::Daemon;

/// Below this many, a process nobody needs watched stays watched: it will likely come again.
const KEPT_IDLE: usize = 256;

/// All watched processes.
#[derive(Debug)]
pub struct WatchedProcesses {
    /// Below this many, idle ones are kept.
    kept: usize,
    watched: FxHashMap<u32, Watched>,
    of_connection: FxHashMap<ConnectionId, u32>,
}

#[derive(Debug)]
struct Watched {
    found: FoundProcess,
    task: AbortHandle,
    connections: FxHashSet<ConnectionId>,
    /// Whether a lease is bound to the process itself.
    bound: bool,
}

impl WatchedProcesses {
    /// For a daemon that can have so many connections: each watched process takes a descriptor.
    pub(crate) fn new(most_connections: usize) -> Self {
        let kept = KEPT_IDLE.min(most_connections / 2);
        Self { kept, watched: FxHashMap::default(), of_connection: FxHashMap::default() }
    }

    /// Watches a living process; `None` when it is dead.
    pub(crate) fn watch(&mut self, daemon: &Arc<Daemon>, pid: u32) -> io::Result<Option<FoundProcess>> {
        if let Some(watched) = self.watched.get(&pid) {
            return Ok(Some(watched.found.clone()));
        }
        let Some(found) = process::find(pid)? else { return Ok(None) };
        let Some(handle) = process::watch(found.process)? else { return Ok(None) };
        let (daemon, process) = (daemon.clone(), found.process);
        let task = tokio::spawn(async move {
            match process::wait_for_end(handle).await {
                Ok(()) => daemon.process_ended(process),
                Err(error) => tracing::error!(pid = process.pid, "a process can no longer be watched: {error}"),
            }
        });
        let watched = Watched {
            found: found.clone(),
            task: task.abort_handle(),
            connections: FxHashSet::default(),
            bound: false,
        };
        self.watched.insert(pid, watched);
        Ok(Some(found))
    }

    /// A connection's leases hang on this process too.
    pub(crate) fn connect(&mut self, pid: u32, connection: ConnectionId) {
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.connections.insert(connection);
            self.of_connection.insert(connection, pid);
        }
    }

    /// A lease is bound to this process.
    pub(crate) fn bind(&mut self, pid: u32) {
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.bound = true;
        }
    }

    /// No lease is bound to this process any more.
    pub(crate) fn process_is_free(&mut self, process: Process) {
        if let Some(watched) = self.watched.get_mut(&process.pid).filter(|watched| watched.found.process == process) {
            watched.bound = false;
        }
        self.let_go(process.pid);
    }

    /// A connection has ended.
    pub(crate) fn connection_ended(&mut self, connection: ConnectionId) {
        let Some(pid) = self.of_connection.remove(&connection) else { return };
        if let Some(watched) = self.watched.get_mut(&pid) {
            watched.connections.remove(&connection);
        }
        self.let_go(pid);
    }

    /// A process is dead; answers the connections it made.
    pub(crate) fn ended(&mut self, process: Process) -> Vec<ConnectionId> {
        if self.watched.get(&process.pid).is_none_or(|watched| watched.found.process != process) {
            return Vec::new();
        }
        let connections = self.watched.remove(&process.pid).map(|watched| watched.connections).unwrap_or_default();
        for connection in &connections {
            self.of_connection.remove(connection);
        }
        connections.into_iter().collect()
    }

    /// Watches no longer, unless something is bound to the process or made by it, or there is room to spare.
    pub(crate) fn let_go(&mut self, pid: u32) {
        let idle = self.watched.get(&pid).is_some_and(|watched| !watched.bound && watched.connections.is_empty());
        if idle
            && self.watched.len() > self.kept
            && let Some(watched) = self.watched.remove(&pid)
        {
            watched.task.abort();
        }
    }
}
