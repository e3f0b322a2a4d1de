//! Finds the daemon: at its socket, else at the socket that its lock file names.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::connection::{Client, GREETING};
use super::error::{ClientError, NoDaemon, is_timeout};
use super::{RetryTimer, start};
use super::{start::DaemonStarter, transport::Transport};
use crate::config::AppPaths;
use crate::protocol::Call;

/// The part of `daemon.lock` that a client needs.
#[derive(Deserialize)]
struct LockFile {
    socket: PathBuf,
}

/// The message for a daemon that closes the connection before it answers.
const ENDING: &str = "it is shutting down";
/// The number of bytes read from a lock file; it is smaller.
const LONGEST_LOCK: u64 = 64 * 1024;

impl Client {
    /// Connects to a running daemon.
    ///
    /// # Errors
    /// When there is no daemon, or it does not speak this protocol.
    pub fn connect(paths: &AppPaths) -> Result<Self, ClientError> {
        Self::find(paths, None)
    }

    fn find(paths: &AppPaths, ahead: Option<&Call>) -> Result<Self, ClientError> {
        let named = paths.socket_is_named;
        let first = match Self::greet_at(&paths.socket, named, ahead) {
            // where a service manager holds the socket, connecting starts the next daemon
            Err(ClientError::NoDaemon(first)) if first.why == ENDING => {
                match Self::greet_at(&paths.socket, named, ahead) {
                    Err(ClientError::NoDaemon(again)) => again,
                    found => return found,
                }
            }
            Err(ClientError::NoDaemon(first)) => first,
            found => return found,
        };
        match locked_socket(&paths.lock).filter(|socket| *socket != paths.socket) {
            Some(socket) => Self::greet_at(&socket, false, ahead),
            None => Err(ClientError::NoDaemon(first)),
        }
    }

    /// Connects to a running daemon, and sends `ahead` together with the greeting: if it is the first call that is made, the
    /// client does not wait twice. It must be a call that may be made twice: it is if the daemon ends meanwhile.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_ahead(paths: &AppPaths, ahead: &Call) -> Result<Self, ClientError> {
        Self::find(paths, Some(ahead))
    }

    /// Connects, and starts a daemon if none is running.
    ///
    /// # Errors
    /// When none could be started, or it does not speak this protocol.
    pub fn connect_or_start(paths: &AppPaths, starter: &DaemonStarter) -> Result<Self, ClientError> {
        match Self::connect(paths) {
            Err(error) if error.says_no_daemon() => start::start(paths, starter),
            found => found,
        }
    }

    /// Connects to the daemon at this socket only.
    ///
    /// # Errors
    /// When there is no daemon, or it does not speak this protocol.
    pub fn connect_at(socket: &Path) -> Result<Self, ClientError> {
        Self::greet_at(socket, true, None)
    }

    /// `is_named`: the user has named this socket, or was connected to it before.
    fn greet_at(socket: &Path, is_named: bool, ahead: Option<&Call>) -> Result<Self, ClientError> {
        let no_daemon =
            |why: String| ClientError::from(NoDaemon { socket: socket.to_owned(), why, ..NoDaemon::default() });
        let mut backoff = RetryTimer::until(Instant::now() + GREETING);
        let stream = loop {
            match Transport::connect(socket, GREETING) {
                Ok(stream) => break stream,
                // its queue of connections is full: it is running, but busy
                Err(error) if is_timeout(&error) => {
                    if !backoff.wait() {
                        return Err(ClientError::Lost(io::Error::new(io::ErrorKind::TimedOut, "it is overloaded")));
                    }
                }
                Err(error) => {
                    return Err(no_daemon(match error.kind() {
                        io::ErrorKind::NotFound => "the socket does not exist".to_owned(),
                        io::ErrorKind::ConnectionRefused => "no process listens there any more".to_owned(),
                        _ => error.to_string(),
                    }));
                }
            }
        };
        let is_of_another_user = stream.is_of_another_user(is_named).map_err(no_daemon)?;
        match Self::greet(stream, (socket, is_of_another_user), ahead) {
            // it closed before it answered: a daemon that is shutting down
            Err(ClientError::Lost(error)) if !is_timeout(&error) => Err(no_daemon(ENDING.to_owned())),
            greeted => greeted,
        }
    }
}

/// A call that ends this run of a daemon, the same in every version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndingCall {
    /// Another run of it takes over.
    Restart,
    /// It ends.
    Stop,
}

/// Asks a daemon that speaks another version of the protocol to restart or to stop, by a JSON line, and waits until it
/// closes the connection.
///
/// # Errors
/// When there is no daemon, it refuses, or it does not close the connection in time.
pub fn end_other_version(paths: &AppPaths, call: EndingCall, within: Duration) -> Result<(), ClientError> {
    let socket = locked_socket(&paths.lock).unwrap_or_else(|| paths.socket.clone());
    let no_daemon = |why: String| ClientError::from(NoDaemon { socket: socket.clone(), why, ..NoDaemon::default() });
    let mut stream = Transport::connect(&socket, GREETING).map_err(|error| no_daemon(error.to_string()))?;
    stream.is_of_another_user(false).map_err(no_daemon)?;
    stream.set_recv_timeout(Some(within)).map_err(ClientError::Lost)?;
    let call: &[u8] = match call {
        EndingCall::Restart => b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.restart\",\"params\":{}}\n",
        EndingCall::Stop => b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.stop\",\"params\":{}}\n",
    };
    stream.write_all(call).map_err(ClientError::Lost)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(ClientError::Lost(error)),
            Err(_) => return Ok(()),
        }
        if answer.windows(8).any(|part| part == b"\"error\":") {
            let answer = String::from_utf8_lossy(&answer).trim().to_owned();
            return Err(ClientError::Unexpected(answer));
        }
    }
}

/// The socket of the daemon that has locked the data directory, if its lock file names one.
fn locked_socket(lock: &Path) -> Option<PathBuf> {
    let mut text = String::new();
    File::open(lock).ok()?.take(LONGEST_LOCK).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok().map(|LockFile { socket }| socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_and_newer_lock_files_are_accepted() {
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
    fn a_missing_socket_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = if cfg!(windows) {
            PathBuf::from(r"\\.\pipe\lessor-test-nowhere")
        } else {
            directory.path().join("none.sock")
        };
        let error = Client::connect_at(&nowhere).unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon(_)), "{error:?}");
        assert!(error.to_string().contains("the socket does not exist"), "{error}");
    }
}
