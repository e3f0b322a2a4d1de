//! A lock on the open file; it does not keep others from reading the file.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::{io, path::Path};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::ownership;

/// Opens, or creates, and locks the file; `None` when another process holds the lock.
pub(super) fn open_locked(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed());
    // on a read-only disk the file can be locked, but not written
    let file = options.open(path).or_else(|error| File::open(path).map_err(|_| error))?;
    ownership::check_opened(path, &file)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // regardless of the umask
    if let Err(error) = file.set_permissions(Permissions::from_mode(0o600)) {
        tracing::warn!(path = %path.display(), %error, "the mode of the lock file was not changed");
    }
    Ok(Some(file))
}

/// Whether a process holds the lock of the file at `path`; the file is not created.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

pub(super) fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}
