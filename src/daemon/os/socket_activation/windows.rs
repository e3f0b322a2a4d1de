//! No service manager of this system hands over a pipe: whoever comes before the daemon starts one.

use std::io;
use std::path::Path;

use super::lock::{LockHolder, Taken};
use super::socket::SocketError;

/// A listening pipe from a service manager: there is none.
#[derive(Debug)]
pub(crate) enum Inherited {}

/// Clients that wait for one.
#[derive(Debug)]
pub(crate) enum WaitingClients {}

impl Inherited {
    /// Takes what was handed over: nothing.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn take() -> Result<Option<Self>, SocketError> {
        Ok(None)
    }

    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn waiting(&self) -> Option<WaitingClients> {
        match *self {}
    }
}

impl WaitingClients {
    pub(crate) fn send_away(&self) {
        match *self {}
    }
}

/// Leaves the other daemon alone.
///
/// # Errors
/// Never.
pub(crate) fn succeed(holder: LockHolder, _lock: &Path) -> io::Result<Taken> {
    Ok(Taken::Theirs(Some(holder)))
}
