//! A Unix socket in a directory that only its user can enter.

use std::fs::TryLockError;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fs, io};

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::uds_local_socket::tokio::Listener as AdoptedListener;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use rustix::process::geteuid;
use tokio::io::{Interest, unix::AsyncFd};

use super::{SocketError, check_length, in_the_way, unsafe_directory};
use crate::daemon::os::socket_activation::Inherited;
use crate::ownership;

/// The longest path a socket can have: `sun_path` less its final zero.
pub const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// How long to wait for another daemon that replaces or removes a socket in the same directory.
const MOST_LOCKED: Duration = Duration::from_secs(2);
const LOCK_STEP: Duration = Duration::from_millis(1);

/// How long a write that the client's buffer has no room for waits where no descriptor is left to wait with.
const WRITE_PAUSE: Duration = Duration::from_millis(10);

/// The socket of this daemon.
#[derive(Debug)]
pub struct Socket {
    listener: Listener,
    path: PathBuf,
    identity: (u64, u64),
    /// A service manager created it and keeps it.
    inherited: bool,
}

/// Prepares the directory of the socket: one of lessor's own is created, and closed to others.
///
/// # Errors
/// When that is not possible, or not safe.
pub fn prepare_directory(socket: &Path) -> Result<(), SocketError> {
    let Some(directory) = socket.parent() else { return Ok(()) };
    let is_own = ["lessor", "run"].iter().any(|name| directory.ends_with(name)) || !directory.exists();
    if is_own { private_directory(directory) } else { Ok(()) }
}

/// Creates a directory that only its user can enter, or closes an existing one to others. Links are followed.
///
/// # Errors
/// When other users could change a part of the path, or it cannot be created.
pub fn private_directory(path: &Path) -> Result<(), SocketError> {
    let io = |doing| SocketError::io(doing, path);
    // before anything is created where a link of another user leads
    ownership::check(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io("making the parent of"))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // a read-only disk may report another error for an existing directory
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(io("making")(error)),
    }
    // again: another user may have created what did not exist
    let metadata = check_directory(path)?;
    if metadata.uid() != geteuid().as_raw() {
        let remedy = "set LESSOR_HOME or LESSOR_SOCKET to a place of your own".to_owned();
        return unsafe_directory(path, "belongs to another user", remedy);
    }
    // it may have been widened by its user, or narrowed by the umask
    if metadata.mode() & 0o777 != 0o700 {
        let tightened = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        tightened.map_err(io("closing to others"))?;
    }
    Ok(())
}

/// Checks that a path leads to a directory, and that other users can change no part of it.
fn check_directory(path: &Path) -> Result<fs::Metadata, SocketError> {
    ownership::check(path)?;
    let metadata = fs::metadata(path).map_err(SocketError::io("looking at", path))?;
    if !metadata.is_dir() {
        let shown = path.display();
        return unsafe_directory(path, "is not a directory", format!("move it away: mv {shown} {shown}.old"));
    }
    Ok(metadata)
}

impl Socket {
    /// Binds; to be called under the lock of the data directory only, and after [`prepare_directory`].
    ///
    /// # Errors
    /// When the directory is not safe, or the path is in use.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        check_length(path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_directory(directory)?;
        let _locked = lock_directory(directory)?;
        remove_dead_socket(path)?;
        let io = |doing| SocketError::io(doing, path);
        let name = path.to_fs_name::<GenericFilePath>().map_err(io("naming"))?;
        let options = ListenerOptions::new().name(name).reclaim_name(false);
        let listener = options.create_tokio().map_err(io("listening at"))?;
        // regardless of the umask; until now the directory has kept others out
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io("closing to others"))?;
        let metadata = fs::symlink_metadata(path).map_err(io("looking at"))?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), inherited: false })
    }

    /// Takes over the listening socket of a service manager; `None` when its path was removed or replaced, so that no
    /// client could connect. To be called within the runtime.
    ///
    /// # Errors
    /// When the directory is not safe, or the system refuses.
    pub(crate) fn adopt(inherited: Inherited) -> Result<Option<Self>, SocketError> {
        let Inherited { listener, path } = inherited;
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => metadata,
            _ => return Ok(None),
        };
        check_directory(path.parent().unwrap_or(Path::new("/")))?;
        let adopted = AdoptedListener::try_from(OwnedFd::from(listener));
        let listener = adopted.map_err(SocketError::io("adopting", &path))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Some(Self { listener: listener.into(), path, identity, inherited: true }))
    }

    /// Takes over the listening socket of the last run of this process; `is_managers`: a service manager keeps it. To be
    /// called within the runtime.
    ///
    /// # Errors
    /// When the path was removed, or the system refuses.
    pub(crate) fn take_over(listener: OwnedFd, path: &Path, is_managers: bool) -> Result<Self, SocketError> {
        let metadata = fs::symlink_metadata(path).map_err(SocketError::io("looking at", path))?;
        let taking_over = || SocketError::io("taking over", path);
        let listener = std::os::unix::net::UnixListener::from(listener);
        if listener.local_addr().ok().as_ref().and_then(|address| address.as_pathname()) != Some(path) {
            return Err(taking_over()(io::Error::other("it listens elsewhere")));
        }
        let listener = AdoptedListener::try_from(OwnedFd::from(listener)).map_err(taking_over())?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { listener: listener.into(), path: path.to_owned(), identity, inherited: is_managers })
    }

    /// The listening socket, for the next run of this process.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        let Listener::UdSocket(listener) = &self.listener;
        listener.as_fd().try_clone_to_owned()
    }

    /// Whether a service manager keeps it.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The next client.
    ///
    /// # Errors
    /// When it cannot be accepted, for example because no descriptor is left.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }

    /// Whether clients can still connect by the path.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let identity = fs::symlink_metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        identity.is_ok_and(|identity| identity == self.identity)
    }

    /// Removes the socket, unless it was replaced, or a service manager keeps it for the next daemon.
    pub fn remove(&self) {
        let _locked = self.path.parent().map(lock_directory);
        if !self.inherited
            && self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), "the socket could not be removed: {error}");
        }
    }
}

/// Locks a directory while a socket in it is replaced or removed: between the look at a dead socket and its removal, a
/// daemon with another data directory could put its own there.
fn lock_directory(path: &Path) -> Result<Option<fs::File>, SocketError> {
    let Ok(directory) = fs::File::open(path) else { return Ok(None) };
    let mut waited = Duration::ZERO;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) if waited < MOST_LOCKED => {
                std::thread::sleep(LOCK_STEP);
                waited += LOCK_STEP;
            }
            Err(TryLockError::WouldBlock) => {
                let why = "has been locked by another program for 2 s";
                return unsafe_directory(path, why, format!("find it with: fuser -v {}", path.display()));
            }
            // some network file systems have no locks
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the socket's directory cannot be locked");
                return Ok(None);
            }
        }
    }
}

/// Removes the socket of a dead daemon; anything else at the path is an error.
fn remove_dead_socket(path: &Path) -> Result<(), SocketError> {
    let shown = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::io("looking at", path)(error)),
    };
    if !metadata.file_type().is_socket() {
        let why = if metadata.is_symlink() { "is a symbolic link" } else { "exists and is not a socket" };
        return in_the_way(path, why, format!("move it away: mv {shown} {shown}.old"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return in_the_way(path, "is a socket of another user", "set LESSOR_SOCKET to a place of your own".to_owned());
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            let remedy = "give this one another socket (LESSOR_SOCKET), or stop the other program".to_owned();
            in_the_way(path, "is in use by another program, or by a daemon with another data directory", remedy)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(SocketError::io("removing the dead socket", path))
        }
        Err(error) => Err(SocketError::io("connecting to", path)(error)),
    }
}

/// An admitted client. The system reports when something arrives; that a write has room again only while one waits for
/// it: otherwise each answer that the client reads would wake the daemon.
#[derive(Debug)]
pub(crate) struct ClientStream(AsyncFd<UnixStream>);

impl ClientStream {
    /// # Errors
    /// When the system refuses to watch it.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        let Stream::UdSocket(stream) = stream;
        let stream = UnixStream::from(OwnedFd::try_from(stream)?);
        watched(stream, Interest::READABLE).map(Self)
    }

    /// Appends what has arrived to `inbox`, as much as its capacity holds; 0 bytes are the end.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, inbox: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.0.poll_read_ready(context))?;
            let room = inbox.capacity() - inbox.len();
            match readable.try_io(|stream| Ok(recv(stream, spare_capacity(inbox), RecvFlags::empty())?.0)) {
                Ok(Ok(length)) => {
                    // where less than the room has arrived, nothing is left to be read: the next bytes are reported
                    if 0 < length && length < room {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(length));
                }
                Ok(failed) => return Poll::Ready(failed),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes some of the bytes, as soon as there is room for them.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.0.get_ref();
        let write = || {
            let mut stream = stream;
            stream.write(bytes)
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
        loop {
            // one descriptor cannot be watched twice
            match stream.try_clone().and_then(|copy| watched(copy, Interest::WRITABLE)) {
                Ok(watched) => watched.writable().await?.retain_ready(),
                Err(_no_descriptor) => tokio::time::sleep(WRITE_PAUSE).await,
            }
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    /// Nothing to do on this system: a client can read the last answer after the connection was closed.
    pub(crate) async fn finish_reading(&self) {}
}

fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    #[expect(deprecated, reason = "its successor is `unsafe` for descriptors that may close early")]
    AsyncFd::with_interest(stream, interest)
}

/// Admits the daemon's user only; returns the process at the other end, if the system knows it.
pub fn admit(stream: &Stream) -> Option<Option<u32>> {
    let credentials = match stream.peer_creds() {
        Ok(credentials) => credentials,
        Err(error) => {
            tracing::debug!(%error, "a client disconnected before it was identified");
            return None;
        }
    };
    let ours = geteuid().as_raw();
    if credentials.euid() != Some(ours) {
        tracing::warn!(uid = credentials.euid(), "a client of another user was refused");
        return None;
    }
    let pid = credentials.pid().or_else(|| peer_pid(stream));
    Some(pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
}

/// The process at the other end: macOS tells it in a way of its own (`LOCAL_PEEREPID`).
#[cfg(target_os = "macos")]
fn peer_pid(stream: &Stream) -> Option<i32> {
    let Stream::UdSocket(stream) = stream;
    stream.inner().peer_cred().ok()?.pid()
}

/// Other systems tell it with the credentials, or not at all.
#[cfg(not(target_os = "macos"))]
const fn peer_pid(_stream: &Stream) -> Option<i32> {
    None
}
