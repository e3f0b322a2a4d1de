//! A living process, found and opened before the state is locked, so that it can be watched under the lock.

use std::io;

use super::process::{self, FoundProcess, Handle};
use crate::pool::{Holder, Process};

/// A living process, ready to be watched.
#[derive(Debug)]
pub(crate) struct OpenedProcess {
    found: FoundProcess,
    handle: Handle,
}

impl OpenedProcess {
    /// Finds and opens a process; `None` when there is none with this pid.
    ///
    /// # Errors
    /// When the process belongs to another user, or no descriptor is left.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(found) = process::find(pid)? else { return Ok(None) };
        Ok(process::watch(found.process)?.map(|handle| Self { found, handle }))
    }

    /// The same of whatever user: for clients of containers.
    ///
    /// # Errors
    /// When it cannot be watched.
    #[cfg(unix)]
    pub(crate) fn open_of_any_user(pid: u32) -> io::Result<Option<Self>> {
        let Some(found) = process::find_of_any_user(pid)? else { return Ok(None) };
        Ok(process::watch(found.process)?.map(|handle| Self { found, handle }))
    }

    pub(crate) fn process(&self) -> Process {
        self.found.process
    }

    /// The process as the holder of a lease.
    pub(crate) fn holder(&self) -> Holder {
        Holder { process: Some(self.found.process), program: self.found.program.clone(), ..Holder::default() }
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it can no longer be watched.
    pub(crate) async fn ended(self) -> io::Result<()> {
        process::wait_for_end(self.handle).await
    }
}
