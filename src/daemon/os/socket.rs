//! The daemon's socket, which only its user can reach. The socket of a dead daemon is replaced, one in use never.

use std::io;
use std::path::{Path, PathBuf};

#[cfg_attr(unix, path = "socket/unix.rs")]
#[cfg_attr(windows, path = "socket/windows.rs")]
mod system;

use crate::ownership::UntrustedPath;

pub(crate) use system::ClientStream;
use system::LONGEST_PATH;
pub use system::private_directory;
#[cfg(unix)]
pub use system::{Socket, admit, prepare_directory};
#[cfg(windows)]
pub(crate) use system::{Socket, admit, prepare_directory};

/// The connection of a client.
#[cfg(unix)]
pub type LocalStream = interprocess::local_socket::tokio::Stream;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The path does not fit.
    #[error(
        "the socket's path {path} has {length} bytes, and {LONGEST_PATH} is the most; set LESSOR_SOCKET to a shorter one"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The directory is not safe.
    #[error("the directory {path} {why}; {remedy}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What to do.
        remedy: String,
    },
    /// Other users could change a part of the path.
    #[error("{0}")]
    Untrusted(#[from] UntrustedPath),
    /// Something else is at the path.
    #[error("{path} {why}; {remedy}")]
    InTheWay {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        why: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A service manager handed over something unusable.
    #[error("the service manager handed over {why}; lessor.socket must have one `ListenStream=`, an absolute path")]
    Inherited {
        /// What it is.
        why: String,
    },
    /// The system refused.
    #[error("{doing} {path}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's message.
        error: io::Error,
    },
}

impl SocketError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }
}

fn unsafe_directory<T>(path: &Path, why: &'static str, remedy: String) -> Result<T, SocketError> {
    Err(SocketError::Directory { path: path.to_owned(), why, remedy })
}

fn in_the_way<T>(path: &Path, why: &'static str, remedy: String) -> Result<T, SocketError> {
    Err(SocketError::InTheWay { path: path.to_owned(), why, remedy })
}

fn check_length(path: &Path) -> Result<(), SocketError> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH { Err(SocketError::TooLong { path: path.to_owned(), length }) } else { Ok(()) }
}
