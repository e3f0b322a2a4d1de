//! Whether other users could change a file: its owner and permissions, and those of every directory and link on the way
//! to it.
//!
//! A path is trusted when everything on it belongs to the user or to root, and no one else may write to it. Links are
//! followed. The check goes from the root downwards: once a directory is trusted, other users can no longer change what
//! its names refer to, so nothing is exchanged between the check and the use.

#[cfg(unix)]
mod group;
#[cfg(unix)]
mod rule;
#[cfg(unix)]
mod walk;

use std::{fmt, fs::File, io, path::Path, path::PathBuf};

/// A part of a path that other users can change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UntrustedPath {
    /// The file, the directory or the link.
    pub path: PathBuf,
    why: String,
    remedy: String,
}

impl UntrustedPath {
    /// What is wrong, and with what.
    #[must_use]
    pub fn problem(&self) -> String {
        format!("{} {}", self.path.display(), self.why)
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for UntrustedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem(), self.remedy)
    }
}

impl std::error::Error for UntrustedPath {}

impl From<UntrustedPath> for io::Error {
    fn from(untrusted: UntrustedPath) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}

/// Checks what exists of a path; a part that does not exist yet is not an error.
///
/// # Errors
/// When other users can change a part of it.
#[cfg(unix)]
pub fn check(path: &Path) -> Result<(), UntrustedPath> {
    walk::check(path).map(|_| ())
}

/// Checks several paths as [`check`] does; those in the same directory quicker, if they follow one another.
///
/// # Errors
/// When other users can change a part of one of them.
#[cfg(unix)]
pub fn check_all<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), UntrustedPath> {
    walk::check_all(paths)
}

/// Checks a path, and that the opened file is the one it leads to.
///
/// # Errors
/// When other users can change a part of the path or the file, or it was replaced meanwhile.
#[cfg(unix)]
pub fn check_opened(path: &Path, file: &File) -> Result<(), UntrustedPath> {
    walk::check_opened(path, file)
}

/// Opens a file to read it, to be checked with [`check_opened`]. It does not block: at the path, another user may have
/// put a pipe that no program writes to.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.read(true).open(path)
}

/// The access control lists of this system are not checked.
///
/// # Errors
/// Never on this system.
#[cfg(not(unix))]
pub fn check(_path: &Path) -> Result<(), UntrustedPath> {
    Ok(())
}

/// The access control lists of this system are not checked.
///
/// # Errors
/// Never on this system.
#[cfg(not(unix))]
pub fn check_all<'a>(_paths: impl IntoIterator<Item = &'a Path>) -> Result<(), UntrustedPath> {
    Ok(())
}

/// The access control lists of this system are not checked.
///
/// # Errors
/// Never on this system.
#[cfg(not(unix))]
pub fn check_opened(_path: &Path, _file: &File) -> Result<(), UntrustedPath> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
