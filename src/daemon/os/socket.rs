//! The socket: a place nobody else can reach, taken over from the dead but never from the living.

use std::io;
use std::path::PathBuf;

#[cfg_attr(unix, path = "socket/unix.rs")]
#[cfg_attr(windows, path = "socket/windows.rs")]
mod system;

pub(crate) use system::{LONGEST_PATH, part, private_directory};
#[cfg(unix)]
pub use system::{Socket, admit, prepare_place};
#[cfg(windows)]
pub(crate) use system::{Socket, admit, prepare_place};

/// One that came in by a socket.
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
    /// Something that is not ours is in the way.
    #[error("{path} {why}; {remedy}")]
    InTheWay {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        why: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A service manager handed over something that is of no use.
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
        /// The system's word.
        error: io::Error,
    },
}
