//! This system cannot execute another program in the same process: the daemon ends, and the client that asked for the
//! restart starts the next one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::daemon::os::lock::Lock;
use crate::daemon::os::socket::{Socket, SocketError};

/// Whether the process that is restarted continues.
pub(crate) const CONTINUES: bool = false;

/// What the next run takes over: nothing.
#[derive(Debug)]
pub(crate) enum Handover {}

/// The listening sockets of the gateway, which are opened again.
#[derive(Debug, Default)]
pub(crate) struct GatewayListeners {
    /// Always `None`.
    pub(crate) tcp: Option<std::net::TcpListener>,
    /// Always `None`.
    pub(crate) tls: Option<std::net::TcpListener>,
}

impl Handover {
    /// Not on this system.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn of(_: Lock, _: &Socket, _: GatewayListeners, _may_resume: bool) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing was handed over.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn take() -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn lock(&self) -> io::Result<Lock> {
        match *self {}
    }

    pub(crate) fn has_managers_socket(&self) -> bool {
        match *self {}
    }

    pub(crate) fn may_resume(&self) -> bool {
        match *self {}
    }

    pub(crate) fn open(self, _path: &Path) -> Result<(Socket, GatewayListeners), SocketError> {
        match self {}
    }

    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        match *self {}
    }

    pub(crate) fn execute(self, _is_stop_requested: &AtomicBool) -> Option<io::Error> {
        match self {}
    }
}

/// The program is not executed again.
///
/// # Errors
/// Never.
pub(crate) fn check_program() -> Result<(), String> {
    Ok(())
}
