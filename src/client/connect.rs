//! Finding the daemon: at its socket, else at the socket that its lock file names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;

use crate::config::AppPaths;

use super::connection::{Client, GREETING, is_timeout};
use super::error::{ClientError, NoDaemon};
use super::start::DaemonStarter;
use super::transport::Transport;
use super::{RetryTimer, start};

/// What `daemon.lock` says; only what a client needs of it.
#[derive(Deserialize)]
struct LockFile {
    socket: PathBuf,
}

/// What is said of a daemon that closes before it has said a word.
const ENDING: &str = "it is ending";
/// More than any lock file holds.
const LONGEST_LOCK: u64 = 64 * 1024;

impl Client {
    /// Connects to a daemon that runs.
    ///
    /// # Errors
    /// When there is none, or it does not speak this protocol.
    pub fn connect(places: &AppPaths) -> Result<Self, ClientError> {
        let first = match Self::connect_at(&places.socket) {
            // where a service manager holds the socket, the next daemon comes by itself
            Err(ClientError::NoDaemon(first)) if first.why == ENDING => match Self::connect_at(&places.socket) {
                Err(ClientError::NoDaemon(again)) => again,
                found => return found,
            },
            Err(ClientError::NoDaemon(first)) => first,
            found => return found,
        };
        match locked_socket(&places.lock).filter(|socket| *socket != places.socket) {
            Some(socket) => Self::connect_at(&socket),
            None => Err(ClientError::NoDaemon(first)),
        }
    }

    /// Connects, and starts a daemon if there is none.
    ///
    /// # Errors
    /// When none could be started, or it does not speak this protocol.
    pub fn connect_or_start(places: &AppPaths, how: &DaemonStarter) -> Result<Self, ClientError> {
        match Self::connect(places) {
            Err(ClientError::NoDaemon(_)) => start::start(places, how),
            found => found,
        }
    }

    /// Connects to the daemon at this socket, and no other.
    ///
    /// # Errors
    /// When there is none, or it does not speak this protocol.
    pub fn connect_at(socket: &Path) -> Result<Self, ClientError> {
        let nobody =
            |why: String| ClientError::from(NoDaemon { socket: socket.to_owned(), why, ..NoDaemon::default() });
        let mut backoff = RetryTimer::until(Instant::now() + GREETING);
        let stream = loop {
            match Transport::connect(socket, GREETING) {
                Ok(stream) => break stream,
                // its queue of connections is full: it is there, and busy
                Err(error) if is_timeout(&error) => {
                    if !backoff.wait() {
                        return Err(ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "it is too busy")));
                    }
                }
                Err(error) => {
                    return Err(nobody(match error.kind() {
                        io::ErrorKind::NotFound => "nothing is there".to_owned(),
                        io::ErrorKind::ConnectionRefused => "nobody listens there any more".to_owned(),
                        _ => error.to_string(),
                    }));
                }
            }
        };
        stream.check_owner().map_err(nobody)?;
        match Self::greet(stream, socket) {
            // it closed before it said a word: a daemon about to end
            Err(ClientError::Lost(error)) if !is_timeout(&error) => Err(nobody(ENDING.to_owned())),
            greeted => greeted,
        }
    }
}

/// The socket of the daemon that has the data directory, if it has said so.
fn locked_socket(lock: &Path) -> Option<PathBuf> {
    let mut text = String::new();
    File::open(lock).ok()?.take(LONGEST_LOCK).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok().map(|LockFile { socket }| socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_is_read_with_indulgence() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("daemon.lock");
        assert_eq!(locked_socket(&lock), None);
        for (text, expected) in [
            ("", None),
            ("{\"pid\":7,\"sock", None),
            ("{\"pid\":7,\"socket\":\"/s\"}\n", Some("/s")),
            ("{\"pid\":7,\"socket\":\"/s\",\"since\":1}\n", Some("/s")),
        ] {
            std::fs::write(&lock, text).unwrap();
            assert_eq!(locked_socket(&lock), expected.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn where_nothing_is_the_error_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = if cfg!(windows) {
            PathBuf::from(r"\\.\pipe\lessor-test-nowhere")
        } else {
            directory.path().join("none.sock")
        };
        let error = Client::connect_at(&nowhere).unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon(_)), "{error:?}");
        assert!(error.to_string().contains("nothing is there"), "{error}");
    }
}
