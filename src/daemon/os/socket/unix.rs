//! A Unix socket in a directory of ours.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::uds_local_socket::tokio::Listener as AdoptedListener;

use super::SocketError;
use crate::daemon::os::socket_activation::Inherited;

/// The longest path a socket can have: `sun_path` less its final zero.
pub const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A socket that is ours as long as it is there.
#[derive(Debug)]
pub struct Socket {
    listener: Listener,
    path: PathBuf,
    identity: (u64, u64),
    /// A service manager made it and keeps it.
    inherited: bool,
}

/// Makes ready where the socket is to be: one of lessor's own directories is made, and closed to others.
///
/// # Errors
/// When that is not possible, or not safe.
pub fn prepare_place(socket: &Path) -> Result<(), SocketError> {
    let Some(directory) = socket.parent() else { return Ok(()) };
    let is_own = ["lessor", "run"].iter().any(|name| directory.ends_with(name)) || !directory.exists();
    if is_own { private_directory(directory) } else { Ok(()) }
}

/// Makes a directory that only we can enter, or makes sure that it is one.
///
/// # Errors
/// When it is a link, belongs to somebody else, or cannot be made.
pub fn private_directory(path: &Path) -> Result<(), SocketError> {
    let io = |doing| move |error| SocketError::Io { doing, path: path.to_owned(), error };
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io("making the parent of"))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // on a read-only disk an existing directory may be told so
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(io("making")(error)),
    }
    let metadata = check_directory(path)?;
    // wider by somebody's doing, or narrower by the umask's
    if metadata.mode() & 0o777 != 0o700 {
        let tightened = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        tightened.map_err(io("closing to others"))?;
    }
    Ok(())
}

/// Makes sure that a directory is real, ours, and not open for writing to others.
fn check_directory(path: &Path) -> Result<fs::Metadata, SocketError> {
    let unsafe_because = |why, remedy| SocketError::Directory { path: path.to_owned(), why, remedy };
    let shown = path.display();
    let metadata = fs::symlink_metadata(path).map_err(|error| SocketError::Io {
        doing: "looking at",
        path: path.to_owned(),
        error,
    })?;
    if metadata.is_symlink() {
        return Err(unsafe_because("is a symbolic link", format!("replace it by a directory: rm {shown}")));
    }
    if !metadata.is_dir() {
        return Err(unsafe_because("is not a directory", format!("move it away: mv {shown} {shown}.old")));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let remedy = "set LESSOR_HOME or LESSOR_SOCKET to a place of your own".to_owned();
        return Err(unsafe_because("belongs to another user", remedy));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(unsafe_because("is open for writing to others", format!("chmod 0700 {shown}")));
    }
    Ok(metadata)
}

impl Socket {
    /// Binds; to be called under the lock of the data directory only, after `private_directory` where the directory
    /// is lessor's own.
    ///
    /// # Errors
    /// When the place is not safe, or not free.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            return Err(SocketError::TooLong { path: path.to_owned(), length });
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        check_directory(directory)?;
        clear_the_dead(path)?;
        let io = |doing| move |error| SocketError::Io { doing, path: path.to_owned(), error };
        let name = path.to_fs_name::<GenericFilePath>().map_err(io("naming"))?;
        let options = ListenerOptions::new().name(name).reclaim_name(false);
        let listener = options.create_tokio().map_err(io("listening at"))?;
        // whatever the umask; the directory has kept others out meanwhile
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io("closing to others"))?;
        let metadata = fs::symlink_metadata(path).map_err(io("looking at"))?;
        Ok(Self { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), inherited: false })
    }

    /// Takes over the listening socket of a service manager; `None` when its path has been removed or replaced, so that
    /// no client could come. To be called within the runtime.
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
        let listener = adopted.map_err(|error| SocketError::Io { doing: "adopting", path: path.clone(), error })?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Some(Self { listener: listener.into(), path, identity, inherited: true }))
    }

    /// Whether a service manager holds it.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The next client.
    ///
    /// # Errors
    /// When it cannot be accepted: no descriptor is left, for instance.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }

    /// Whether clients still reach us by the path.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let identity = fs::symlink_metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        identity.is_ok_and(|identity| identity == self.identity)
    }

    /// Takes the socket away, unless another one has taken its place, or a service manager keeps it for the next daemon.
    pub fn remove(&self) {
        if !self.inherited
            && self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), "the socket could not be removed: {error}");
        }
    }
}

/// Removes the socket of a daemon that died; refuses everything else.
fn clear_the_dead(path: &Path) -> Result<(), SocketError> {
    let shown = path.display();
    let in_the_way = |why, remedy| Err(SocketError::InTheWay { path: path.to_owned(), why, remedy });
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::Io { doing: "looking at", path: path.to_owned(), error }),
    };
    if !metadata.file_type().is_socket() {
        let why = if metadata.is_symlink() { "is a symbolic link" } else { "exists and is not a socket" };
        return in_the_way(why, format!("move it away: mv {shown} {shown}.old"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return in_the_way("is a socket of another user", "set LESSOR_SOCKET to a place of your own".to_owned());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let remedy = "give this one another socket (LESSOR_SOCKET), or stop the other program".to_owned();
            in_the_way("is in use by another program, or by a daemon with another data directory", remedy)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| SocketError::Io { doing: "removing the dead socket", path: path.to_owned(), error }),
        Err(error) => Err(SocketError::Io { doing: "trying", path: path.to_owned(), error }),
    }
}

/// Before a client is left that may not have heard the last word: this system keeps it for it.
pub async fn part(_stream: &Stream) {}

/// Lets in the owner only; answers the process at the other end, where the system tells.
pub fn admit(stream: &Stream) -> Option<Option<u32>> {
    let credentials = match stream.peer_creds() {
        Ok(credentials) => credentials,
        Err(error) => {
            tracing::debug!(%error, "a client left before it was known");
            return None;
        }
    };
    let ours = rustix::process::geteuid().as_raw();
    if credentials.euid() != Some(ours) {
        tracing::warn!(uid = credentials.euid(), "a client of another user was turned away");
        return None;
    }
    Some(credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0))
}
