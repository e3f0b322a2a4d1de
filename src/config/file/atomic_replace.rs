//! Replaces the file atomically, and never overwrites a concurrent change.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{load, problem::ConfigErrors};

/// A locked file and its content when the change began.
///
/// The lock serialises lessor's own commands. Editors do not take it, so the content is compared before the file is
/// replaced.
#[derive(Debug)]
pub struct LockedFile {
    path: PathBuf,
    /// The target of the link, if `path` is a link.
    target: PathBuf,
    before: Option<Vec<u8>>,
    #[cfg(unix)]
    about: Option<fs::Metadata>,
    /// Held until this is dropped; not every file system has locks.
    _lock: Option<File>,
}

/// Why a file was not replaced; it is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The path is not a regular configuration file.
    #[error(transparent)]
    NotAFile(#[from] ConfigErrors),
    /// Another program changed it in the meantime.
    #[error("{} was changed by another program in the meantime; nothing was written, try again", .0.display())]
    Changed(PathBuf),
    /// The owner of the new file could not be set to the owner of the old one.
    #[error("{} belongs to another user or group, and the new file's owner cannot be set to them: {error}", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A system call failed.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl LockedFile {
    /// Locks a file, which need not exist yet; creates its directory with mode 0700.
    pub fn lock(path: &Path) -> Result<Self, ReplaceError> {
        load::trusted(path)?;
        let target = target_of(path)?;
        let directory = directory_of(&target);
        make_private(directory)?;
        let lock = lock(directory);
        let before = load::bytes_at(&target)?;
        Ok(Self {
            path: path.to_owned(),
            before,
            #[cfg(unix)]
            about: fs::metadata(&target).ok(),
            target,
            _lock: lock,
        })
    }

    /// The content; `None` if the file does not exist.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.before.as_deref()
    }

    /// Replaces the content and keeps the owner and the mode; a new file has mode 0600.
    pub fn replace(&self, text: &str) -> Result<(), ReplaceError> {
        let directory = directory_of(&self.target);
        let io = |doing| move |error| ReplaceError::Io { doing, path: directory.to_owned(), error };
        let mut file = tempfile::Builder::new()
            .prefix(".lessor-")
            .suffix(".tmp")
            .tempfile_in(directory)
            .map_err(io("cannot create a new file in"))?;
        file.write_all(text.as_bytes()).map_err(io("cannot write a new file in"))?;
        self.copy_owner_and_mode(file.as_file())?;
        file.as_file().sync_all().map_err(io("cannot write a new file in"))?;
        if target_of(&self.path)? != self.target || load::bytes_at(&self.target)? != self.before {
            return Err(ReplaceError::Changed(self.path.clone()));
        }
        let named = match self.before {
            Some(_) => file.persist(&self.target),
            None => file.persist_noclobber(&self.target),
        };
        named.map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => ReplaceError::Changed(self.path.clone()),
            _ => ReplaceError::Io { doing: "cannot replace", path: self.target.clone(), error: refused.error },
        })?;
        sync(directory).map_err(io("cannot sync"))
    }

    /// Sets the owner and the mode of the new file to those of the old one.
    #[cfg(unix)]
    fn copy_owner_and_mode(&self, file: &File) -> Result<(), ReplaceError> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let io = |doing| move |error| ReplaceError::Io { doing, path: self.target.clone(), error };
        let mut mode = 0o600;
        if let Some(old) = &self.about {
            let new = file.metadata().map_err(io("cannot read the attributes of the copy of"))?;
            let user = (old.uid() != new.uid()).then_some(old.uid());
            let group = (old.gid() != new.gid()).then_some(old.gid());
            if user.is_some() || group.is_some() {
                fchown(file, user, group).map_err(|error| ReplaceError::Owner { path: self.target.clone(), error })?;
            }
            mode = old.mode() & 0o7777;
        }
        // After the owner, because a change of the owner clears mode bits.
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(io("cannot set the mode of the copy of"))
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "files inherit their permissions here")]
    fn copy_owner_and_mode(&self, _: &File) -> Result<(), ReplaceError> {
        Ok(())
    }
}

/// The file at the end of all links.
fn target_of(path: &Path) -> Result<PathBuf, ReplaceError> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_symlink() => match fs::canonicalize(path) {
            Ok(target) => Ok(target),
            Err(error) => {
                // Prefer the error that reading gives.
                load::bytes_at(path)?;
                Err(ReplaceError::Io { doing: "cannot follow the link", path: path.to_owned(), error })
            }
        },
        _ => Ok(path.to_owned()),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn make_private(directory: &Path) -> Result<(), ReplaceError> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let error = |error| ReplaceError::Io { doing: "cannot create the directory", path: directory.to_owned(), error };
    builder.create(directory).map_err(error)
}

/// Locks the directory: the file itself is about to be replaced, and a lock file would stay behind.
#[cfg(unix)]
fn lock(directory: &Path) -> Option<File> {
    File::open(directory).ok().filter(|directory| directory.lock().is_ok())
}

/// Directories cannot be locked here; the content is still compared before the file is replaced.
#[cfg(not(unix))]
fn lock(_: &Path) -> Option<File> {
    None
}

#[cfg(unix)]
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some network file systems cannot sync directories.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).map_or(0, |about| about.mode() & 0o7777)
    }

    #[test]
    fn a_new_file_and_its_directory_are_private() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/config.toml");
        let held = LockedFile::lock(&path).unwrap();
        assert_eq!(held.bytes(), None);
        held.replace("x").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        assert_eq!((mode(&path), mode(path.parent().unwrap()), mode(&home.path().join("a"))), (0o600, 0o700, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no file is left behind");
    }

    #[test]
    fn the_mode_and_the_links_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("dotfiles")).unwrap();
        fs::write(at("dotfiles/lessor.toml"), "old").unwrap();
        fs::set_permissions(at("dotfiles/lessor.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("dotfiles/lessor.toml", at("middle.toml")).unwrap();
        symlink(at("middle.toml"), at("config.toml")).unwrap();
        LockedFile::lock(&at("config.toml")).unwrap().replace("new").unwrap();
        assert_eq!(fs::read_to_string(at("dotfiles/lessor.toml")).unwrap(), "new");
        assert_eq!(mode(&at("dotfiles/lessor.toml")), 0o640);
        assert_eq!(fs::read_link(at("config.toml")).unwrap(), at("middle.toml"));
        assert_eq!(fs::read_link(at("middle.toml")).unwrap(), Path::new("dotfiles/lessor.toml"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_concurrent_change_is_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        let changed = |change: &dyn Fn()| {
            let held = LockedFile::lock(&path).unwrap();
            change();
            assert!(matches!(held.replace("mine").unwrap_err(), ReplaceError::Changed(_)));
        };
        changed(&|| fs::write(&path, "theirs").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        changed(&|| fs::write(&path, "theirs again").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs again");
        changed(&|| fs::remove_file(&path).unwrap());
        assert!(!path.exists());
        fs::write(home.path().join("other"), "mine").unwrap();
        changed(&|| symlink("other", &path).unwrap());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "no file is left behind");
    }

    #[test]
    fn paths_that_are_not_files_are_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        symlink("nowhere", &path).unwrap();
        assert!(LockedFile::lock(&path).unwrap_err().to_string().contains("is a link to a file that does not exist"));
        assert!(LockedFile::lock(home.path()).unwrap_err().to_string().contains("is a directory"));
        fs::write(home.path().join("file"), "").unwrap();
        let below = LockedFile::lock(&home.path().join("file/config.toml")).unwrap_err();
        assert!(below.to_string().starts_with("cannot create the directory"), "{below}");
    }

    #[test]
    fn concurrent_changes_are_serialised() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let held = LockedFile::lock(&path).unwrap();
                    let more = format!("{}x", String::from_utf8_lossy(held.bytes().unwrap_or_default()));
                    held.replace(&more).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "xxxxxxxx");
    }
}
