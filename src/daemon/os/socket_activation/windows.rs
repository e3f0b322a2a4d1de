//! No service manager of this system hands over a pipe: a client that finds no daemon starts one.

use std::{io, path::Path};

use super::lock::{LockHolder, Taken};
use super::socket::SocketError;

/// A pipe from a service manager; none exists.
#[derive(Debug)]
pub(crate) enum Inherited {}

/// Clients that wait for it.
#[derive(Debug)]
pub(crate) enum WaitingClients {}

impl Inherited {
    /// Nothing is handed over.
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
    pub(crate) fn disconnect(&self) {
        match *self {}
    }
}

/// The other daemon is not replaced.
///
/// # Errors
/// Never.
pub(crate) fn replace_daemon(holder: LockHolder, _lock: &Path) -> io::Result<Taken> {
    Ok(Taken::Theirs(Some(holder)))
}
