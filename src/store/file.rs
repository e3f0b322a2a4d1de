//! Files that contain secrets: readable by their owner only, and written atomically.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::{ffi::OsString, io};

use super::error::StoreError;

/// Files that other users can read, and their modes. They are closed only when the store is accepted: a refusal changes
/// nothing.
#[derive(Default, Debug)]
pub(super) struct ExposedFiles(Vec<(PathBuf, u32)>);

impl ExposedFiles {
    /// Removes other users' access to these files, and reports each.
    pub(super) fn close(&self, warnings: &mut Vec<String>) {
        #[cfg(unix)]
        for (path, mode) in &self.0 {
            use std::os::unix::fs::PermissionsExt;
            let closed = mode & 0o700;
            let outcome = match fs::set_permissions(path, fs::Permissions::from_mode(closed)) {
                Ok(()) => format!("it was changed to {closed:03o}"),
                Err(error) => format!("changing that failed: {error}"),
            };
            warnings.push(format!("{} was open to other users (mode {mode:03o}); {outcome}", path.display()));
        }
        #[cfg(windows)]
        let _ = (&self.0, warnings);
    }
}

/// The length of the regular file at `path`, or `None` if it does not exist. Anything else is refused. Nothing is
/// changed.
pub(super) fn inspect(path: &Path, exposed: &mut ExposedFiles) -> Result<Option<u64>, StoreError> {
    let facts = match fs::symlink_metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::file("inspect", path)(error)),
    };
    let kind = facts.file_type();
    if !kind.is_file() {
        let what = match () {
            () if kind.is_symlink() => "a symbolic link",
            () if kind.is_dir() => "a directory",
            () => "a device, a pipe or a socket",
        };
        return Err(StoreError::NotAFile { path: path.to_owned(), what });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let me = rustix::process::geteuid().as_raw();
        if facts.uid() != me {
            return Err(StoreError::ForeignOwner { path: path.to_owned(), owner: facts.uid(), me });
        }
        let mode = facts.mode() & 0o7777;
        if mode & 0o077 != 0 && exposed.0.iter().all(|(known, _)| known != path) {
            exposed.0.push((path.to_owned(), mode));
        }
    }
    #[cfg(windows)]
    let _ = exposed;
    Ok(Some(facts.len()))
}

/// Creates a file at `path`, which must not exist.
pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(path).map_err(StoreError::file("create", path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // a umask can remove bits from the mode of a new file, even for its owner
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(StoreError::file("protect", path))?;
    }
    Ok(file)
}

/// Renames a finished, synced file to `path` and makes the name durable.
#[cfg(unix)]
pub(super) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(temporary, path).map_err(StoreError::file("create", path))?;
    sync_directory(path)
}

/// As [`publish`], but a file of that name may exist.
#[cfg(unix)]
pub(super) fn replace(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    publish(temporary, path)
}

/// Renames a finished, synced file to `path`, which must not exist, and makes the name durable.
#[cfg(windows)]
pub(super) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    use winsafe::{MoveFileEx, co};
    let fault = StoreError::file("create", path);
    let (Some(from), Some(to)) = (temporary.to_str(), path.to_str()) else {
        return Err(fault(io::Error::new(io::ErrorKind::InvalidInput, "the path is not Unicode")));
    };
    MoveFileEx(from, Some(to), co::MOVEFILE::WRITE_THROUGH)
        .map_err(|error| fault(io::Error::from_raw_os_error(error.raw().cast_signed())))
}

/// As [`publish`], but a file of that name may exist.
#[cfg(windows)]
pub(super) fn replace(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(temporary, path).map_err(StoreError::file("create", path))?;
    // syncing the file also makes its new name durable
    let named = OpenOptions::new().write(true).open(path);
    named.and_then(|file| file.sync_all()).map_err(StoreError::file("sync", path))
}

/// Makes the names in the directory of `path` durable.
#[cfg(unix)]
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = directory_of(path);
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // some network file systems cannot sync directories
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(StoreError::file("sync", directory)),
    }
}

/// Syncing a file has made its name durable.
#[cfg(windows)]
pub(super) fn sync_directory(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Removes a file that an interrupted start left behind.
pub(super) fn clear(path: &Path) -> Result<(), StoreError> {
    // checked first: a read-only disk refuses even to remove a file that does not exist
    match fs::symlink_metadata(path).and_then(|_| fs::remove_file(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether the existing file and its directory are writable.
pub(super) fn writable(path: &Path) -> bool {
    if OpenOptions::new().write(true).open(path).is_err() {
        return false;
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(directory_of(path), Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }
    #[cfg(windows)]
    true
}

/// A name that no file has, for a file that is set aside.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let free = (1..1000).map(|n| beside(path, &format!(".old{n}"))).find(|name| fs::symlink_metadata(name).is_err());
    free.unwrap_or_else(|| beside(path, ".old"))
}

/// `path` with `suffix` appended.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(unix)]
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
