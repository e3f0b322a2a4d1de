//! What can go wrong between a client and the daemon.

use std::fmt;
use std::path::PathBuf;

use crate::protocol::ErrorInfo;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no daemon.
    #[error(transparent)]
    NoDaemon(Box<NoDaemon>),
    /// The connection ended, or nothing came back in time.
    #[error("the connection to the daemon was lost: {0}")]
    Lost(std::io::Error),
    /// Client and daemon do not speak the same protocol.
    #[error("{message}")]
    Mismatch {
        /// What each of them speaks.
        message: String,
        /// Which one is older, and what to do.
        hint: String,
    },
    /// The daemon said no.
    #[error(transparent)]
    Refused(Box<ErrorInfo>),
    /// The daemon answered with something else than what was asked.
    #[error("the daemon's answer is not understood: {0}")]
    Unexpected(String),
}

/// No daemon, and why none could be started.
#[derive(Debug, Default)]
pub struct NoDaemon {
    /// Where it was looked for.
    pub socket: PathBuf,
    /// Why there is none.
    pub why: String,
    /// The last lines that a daemon which was started wrote.
    pub log: Vec<String>,
}

impl fmt::Display for NoDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no daemon at {}: {}", self.socket.display(), self.why)?;
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
    /// The stable kind of a refusal.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => Some(&error.data.kind),
            _ => None,
        }
    }
}
