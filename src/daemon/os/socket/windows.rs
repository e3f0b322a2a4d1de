//! A named pipe that only our user may open, from this machine.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::windows::local_socket::ListenerOptionsExt;
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use widestring::U16CString;
use winsafe::co;

use crate::client::this_user;

use super::SocketError;
use crate::daemon::os::socket_activation::Inherited;

/// The longest name a pipe can have, with its `\\.\pipe\`.
pub const LONGEST_PATH: usize = 256;

/// Who has said nothing for so long has said all.
const SILENCE: Duration = Duration::from_millis(200);

/// A pipe that is ours as long as this lives: names of pipes go with the last handle, and nobody else can take them.
#[derive(Debug)]
pub struct Socket {
    /// `None` once nobody is to come any more.
    listener: Mutex<Option<Arc<Listener>>>,
}

/// Makes a directory, or makes sure that it is one. That others cannot enter is the doing of the user's profile, whose
/// rights it inherits.
///
/// # Errors
/// When it is a link, or cannot be made.
pub fn private_directory(path: &Path) -> Result<(), SocketError> {
    let io = |doing| move |error| SocketError::Io { doing, path: path.to_owned(), error };
    let made = fs::create_dir_all(path);
    let Ok(metadata) = fs::symlink_metadata(path) else { return made.map_err(io("making")) };
    let shown = path.display();
    let unsafe_because = |why, remedy| Err(SocketError::Directory { path: path.to_owned(), why, remedy });
    if metadata.is_symlink() {
        return unsafe_because("is a symbolic link", format!("replace it by a directory: rmdir \"{shown}\""));
    }
    if !metadata.is_dir() {
        return unsafe_because("is not a directory", format!("move it away: ren \"{shown}\" *.old"));
    }
    Ok(())
}

/// Nothing: a pipe is a name, and in no directory.
///
/// # Errors
/// Never on this system.
pub fn prepare_place(_socket: &Path) -> Result<(), SocketError> {
    Ok(())
}

impl Socket {
    /// Makes the pipe; to be called under the lock of the data directory only.
    ///
    /// # Errors
    /// When the name is no pipe's, or not free.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(SocketError::TooLong { path: path.to_owned(), length });
        }
        let io = |doing| move |error| SocketError::Io { doing, path: path.to_owned(), error };
        let name = path.to_fs_name::<GenericFilePath>().map_err(|_| no_pipe(path))?;
        let rights = ours_alone().map_err(io("choosing who may open"))?;
        let options = ListenerOptions::new().name(name).reclaim_name(false).security_descriptor(rights);
        match options.create_tokio() {
            Ok(listener) => Ok(Self { listener: Mutex::new(Some(Arc::new(listener))) }),
            Err(error) if is_taken(&error) => Err(SocketError::InTheWay {
                path: path.to_owned(),
                why: "is in use by another program, or by a daemon with another data directory",
                remedy: "give this one another pipe (LESSOR_SOCKET), or stop the other program".to_owned(),
            }),
            Err(error) => Err(io("listening at")(error)),
        }
    }

    /// Takes over what a service manager has handed over: on this system nothing ever is.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn adopt(inherited: Inherited) -> Result<Option<Self>, SocketError> {
        match inherited {}
    }

    /// Whether a service manager holds it: none does.
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

    /// Whether clients still reach us by the name: nobody can take it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        true
    }

    /// Lets nobody come any more.
    pub fn remove(&self) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn no_pipe(path: &Path) -> SocketError {
    let name = path.file_name().unwrap_or(OsStr::new("lessor"));
    SocketError::InTheWay {
        path: path.to_owned(),
        why: "is not the name of a pipe",
        remedy: format!("set LESSOR_SOCKET to one, as in {}", Path::new(r"\\.\pipe").join(name).display()),
    }
}

/// The first instance of a pipe is refused when there is one already, and a further one by the other's rights.
fn is_taken(error: &io::Error) -> bool {
    let codes = [co::ERROR::ACCESS_DENIED, co::ERROR::PIPE_BUSY].map(|code| code.raw().cast_signed());
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Everything to this user, nothing to anybody else, and nothing inherited. Named by its id, because the owner of what
/// an elevated process makes is the group of administrators.
fn ours_alone() -> io::Result<SecurityDescriptor> {
    let text = format!("D:P(A;;GA;;;{})", this_user()?);
    let text = U16CString::from_str(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    SecurityDescriptor::deserialize(&text)
}

/// Before a client is left that may not have heard the last word: takes what it is still saying, until it has closed or
/// fallen silent. A pipe does not end for its client before all has been read, so one that only writes, because it
/// said too much, would write for ever.
pub async fn part(mut stream: &Stream) {
    let mut unheard = [0; 4096];
    while matches!(timeout(SILENCE, stream.read(&mut unheard)).await, Ok(Ok(length)) if length > 0) {}
}

/// Who comes is let in, because the pipe opens to its owner only; answers the process at the other end.
#[expect(clippy::option_option, reason = "not let in, or let in and not known")]
pub fn admit(stream: &Stream) -> Option<Option<u32>> {
    match stream.peer_creds() {
        Ok(credentials) => Some(credentials.pid().filter(|pid| *pid > 0)),
        Err(error) => {
            tracing::debug!(%error, "a client left before it was known");
            None
        }
    }
}
