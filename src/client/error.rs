//! What can go wrong between a client and the daemon.

use std::{fmt, io, path::PathBuf};

use crate::protocol::{ErrorInfo, ErrorKind};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No daemon is running.
    #[error(transparent)]
    NoDaemon(Box<NoDaemon>),
    /// The connection ended, or nothing came back in time.
    #[error("the connection to the daemon was lost: {0}")]
    Lost(io::Error),
    /// Client and daemon do not speak the same protocol.
    #[error("{message}")]
    Mismatch {
        /// The versions of both sides.
        message: String,
        /// Which side is older, and what to do.
        hint: String,
    },
    /// The daemon refused the call.
    #[error(transparent)]
    Refused(Box<ErrorInfo>),
    /// The daemon's answer does not belong to the call.
    #[error("unexpected answer of the daemon: {0}")]
    Unexpected(String),
}

/// No daemon is running, and why none could be started.
#[derive(Debug, Default)]
pub struct NoDaemon {
    /// The socket that was tried; empty if it is not known where that is.
    pub socket: PathBuf,
    /// Why there is none.
    pub why: String,
    /// The last log lines of a daemon that was started.
    pub log: Vec<String>,
}

impl fmt::Display for NoDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket.as_os_str().is_empty() {
            true => write!(f, "no daemon: {}", self.why)?,
            false => write!(f, "no daemon at {}: {}", self.socket.display(), self.why)?,
        }
        self.log.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for NoDaemon {}

impl From<ErrorInfo> for ClientError {
    fn from(error: ErrorInfo) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<NoDaemon> for ClientError {
    fn from(error: NoDaemon) -> Self {
        Self::NoDaemon(Box::new(error))
    }
}

impl ClientError {
    /// Whether the daemon ended during the call: it died, or it is stopping or restarting.
    #[must_use]
    pub fn is_end_of_daemon(&self) -> bool {
        match self {
            Self::Lost(error) => !is_timeout(error),
            Self::Refused(error) => error.data.kind == ErrorKind::ShuttingDown,
            Self::NoDaemon(_) | Self::Mismatch { .. } | Self::Unexpected(_) => false,
        }
    }

    /// Whether there is no daemon to connect to: none runs, or the one that did is ending.
    #[must_use]
    pub fn says_no_daemon(&self) -> bool {
        matches!(self, Self::NoDaemon(_)) || self.is_end_of_daemon()
    }

    /// The stable kind of a refusal.
    #[must_use]
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Refused(error) => Some(&error.data.kind),
            _ => None,
        }
    }
}

/// Systems use either of two kinds for a timeout.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
