//! A named pipe that only its user can open, from this machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{ffi::OsStr, fs, io, path::Path, time::Duration};

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::windows::local_socket::ListenerOptionsExt;
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use widestring::U16CString;
use winsafe::co;

use super::{SocketError, check_length, in_the_way, unsafe_directory};
use crate::client::this_user;
use crate::daemon::os::socket_activation::Inherited;

/// The longest name a pipe can have, with its `\\.\pipe\`.
pub const LONGEST_PATH: usize = 256;

/// A client that sends nothing for this long has finished.
const SILENCE: Duration = Duration::from_millis(200);

/// The pipe of this daemon. Its name is free again when the last handle is closed; until then no other process can take
/// it.
#[derive(Debug)]
pub struct Socket {
    /// `None` when no client is accepted any more.
    listener: Mutex<Option<Arc<Listener>>>,
}

/// Creates a directory. It inherits the rights of the user's profile, which keep others out.
///
/// # Errors
/// When it is a link, or cannot be created.
pub fn private_directory(path: &Path) -> Result<(), SocketError> {
    let created = fs::create_dir_all(path);
    let Ok(metadata) = fs::symlink_metadata(path) else { return created.map_err(SocketError::io("making", path)) };
    let shown = path.display();
    if metadata.is_symlink() {
        return unsafe_directory(path, "is a symbolic link", format!("replace it by a directory: rmdir \"{shown}\""));
    }
    if !metadata.is_dir() {
        return unsafe_directory(path, "is not a directory", format!("move it away: ren \"{shown}\" *.old"));
    }
    Ok(())
}

/// Nothing to do on this system: a pipe is in no directory.
///
/// # Errors
/// Never on this system.
pub fn prepare_directory(_socket: &Path) -> Result<(), SocketError> {
    Ok(())
}

impl Socket {
    /// Creates the pipe; to be called under the lock of the data directory only.
    ///
    /// # Errors
    /// When the name is not that of a pipe, or is in use.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        check_length(path)?;
        let Ok(name) = path.to_fs_name::<GenericFilePath>() else {
            let pipe = path.file_name().unwrap_or(OsStr::new("lessor"));
            let example = Path::new(r"\\.\pipe").join(pipe);
            let remedy = format!("set LESSOR_SOCKET to one, as in {}", example.display());
            return in_the_way(path, "is not the name of a pipe", remedy);
        };
        let rights = only_this_user().map_err(SocketError::io("setting the rights of", path))?;
        let options = ListenerOptions::new().name(name).reclaim_name(false).security_descriptor(rights);
        match options.create_tokio() {
            Ok(listener) => Ok(Self { listener: Mutex::new(Some(Arc::new(listener))) }),
            Err(error) if is_taken(&error) => {
                let remedy = "give this one another pipe (LESSOR_SOCKET), or stop the other program".to_owned();
                in_the_way(path, "is in use by another program, or by a daemon with another data directory", remedy)
            }
            Err(error) => Err(SocketError::io("listening at", path)(error)),
        }
    }

    /// Takes over the socket of a service manager; this system has none that hands one over.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn adopt(inherited: Inherited) -> Result<Option<Self>, SocketError> {
        match inherited {}
    }

    /// Whether a service manager keeps it: none does.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        false
    }

    /// The next client.
    ///
    /// # Errors
    /// When it cannot be accepted.
    pub async fn accept(&self) -> io::Result<Stream> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match listener {
            Some(listener) => listener.accept().await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether clients can still connect by the name: no other process can take it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        true
    }

    /// Stops accepting clients.
    pub fn remove(&self) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Whether another process has a pipe of this name: the error depends on its rights.
fn is_taken(error: &io::Error) -> bool {
    let codes = [co::ERROR::ACCESS_DENIED, co::ERROR::PIPE_BUSY].map(|code| code.raw().cast_signed());
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// All rights for this user, none for others, none inherited. The user is named by id, because the owner of what an
/// elevated process creates is the group of administrators.
fn only_this_user() -> io::Result<SecurityDescriptor> {
    let text = format!("D:P(A;;GA;;;{})", this_user()?);
    let text = U16CString::from_str(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    SecurityDescriptor::deserialize(&text)
}

/// An admitted client.
#[derive(Debug)]
pub(crate) struct ClientStream(Stream);

impl ClientStream {
    /// # Errors
    /// Never on this system.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self(stream))
    }

    /// Appends what has arrived to `inbox`, as much as its capacity holds; 0 bytes are the end.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, inbox: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        // a read that has not begun is not lost: it takes nothing before it is ready
        std::pin::pin!((&mut &self.0).read_buf(inbox)).poll(context)
    }

    /// Writes some of the bytes, as soon as there is room for them.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes).await
    }

    /// Reads and discards what a client still sends, until it closes or pauses: a pipe is closed only when all was read,
    /// so a client that writes without end would never see the end of the connection.
    pub(crate) async fn finish_reading(&self) {
        let (mut stream, mut discarded) = (&self.0, [0; 4096]);
        while matches!(timeout(SILENCE, stream.read(&mut discarded)).await, Ok(Ok(length)) if length > 0) {}
    }
}

/// Admits every client, because only the pipe's user can open it; returns the process at the other end.
#[expect(clippy::option_option, reason = "not admitted, or admitted and unknown")]
pub fn admit(stream: &Stream) -> Option<Option<u32>> {
    match stream.peer_creds() {
        Ok(credentials) => Some(credentials.pid().filter(|pid| *pid > 0)),
        Err(error) => {
            tracing::debug!(%error, "a client disconnected before it was identified");
            None
        }
    }
}
