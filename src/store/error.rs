//! Store errors. The messages say how to repair the problem.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rusqlite::ErrorCode;

use super::key::keyring::KeyringError;

/// Why the store cannot be opened. No file is changed in any of these cases.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File { path: PathBuf, action: &'static str, source: io::Error },
    /// The path is not a regular file.
    #[error("{} is {what}, not a regular file; nothing was changed; move it away: {}", path.display(), MovedAway(path, "old"))]
    NotAFile { path: PathBuf, what: &'static str },
    /// The file belongs to another user.
    #[error("{} belongs to user {owner}, not to you (user {me}); nothing was changed; if the file is yours: sudo chown {me} {}", path.display(), Quoted(path))]
    ForeignOwner { path: PathBuf, owner: u32, me: u32 },
    /// The database cannot be read, or only in part.
    #[error("{} is damaged ({why}); nothing was changed; restore a backup (lessor restore FILE --force), or, to start without it, move it away: {}", path.display(), MovedAway(path, "damaged"))]
    Damaged { path: PathBuf, why: String },
    /// The database belongs to another program.
    #[error("{} is a database of another program, not of lessor; nothing was changed; move it away: {}", path.display(), MovedAway(path, "other"))]
    Foreign { path: PathBuf },
    /// The database was written by a newer version.
    #[error("{} was made by a newer lessor (schema {found}; this one knows up to {known}); start the newer version; nothing was changed", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// The database was written by an older version and cannot be migrated.
    #[error("{} was made by an older lessor (schema {found}; this one needs {known}) and is not writable; make it writable and start lessor once", path.display())]
    OlderReadOnly { path: PathBuf, found: i64, known: i64 },
    /// The database has sealed logins, but the key is missing.
    #[error("the key {} is missing, and the logins in {} are sealed with it; restore it from a backup, or, to start without these logins, move the database away: {}", key.display(), database.display(), MovedAway(database, "sealed"))]
    KeyMissing { key: PathBuf, database: PathBuf },
    /// The logins were sealed with another key.
    #[error("the key {} does not fit {}: its logins were sealed with another key; restore that key, or, to start without these logins, move the database away: {}", key.display(), database.display(), MovedAway(database, "sealed"))]
    KeyWrong { key: PathBuf, database: PathBuf },
    /// The key file does not hold a key.
    #[error("the key file {} is damaged ({why}); nothing was changed; restore it from a backup, or, if nothing is sealed with it, move it away: {}", path.display(), MovedAway(path, "damaged"))]
    KeyDamaged { path: PathBuf, why: &'static str },
    /// The keyring is not usable now, but may be later.
    #[error("{0}")]
    Keyring(KeyringError),
    /// The key should be in the keyring, but is not there.
    #[error("the key of {} is not in the keyring, where {} says it is; unlock the keyring that contains it, or, to start without these logins, move the database away: mv {q} {q}.sealed", database.display(), file.display(), q = Quoted(database))]
    NotInKeyring { database: PathBuf, file: PathBuf },
    /// The keyring item does not contain a key.
    #[error(
        "the keyring item for {item} does not contain a key ({why}); remove the item if no login is sealed with it"
    )]
    KeyringDamaged { item: String, why: &'static str },
    /// Everything is sealed with the new key, but the key is not at its final place yet; the next start moves it.
    #[error(
        "all secrets are sealed with the new key, but moving the key to its final place failed (the next start tries again): {0}"
    )]
    HalfRekeyed(Box<Self>),
    /// The secrets could not be sealed again.
    #[error("nothing was changed: {0}")]
    NotResealed(WriteError),
    /// Another program has the database open.
    #[error("{} is in use by another program; close that program{}, then start lessor again", path.display(), Finder(path))]
    Busy { path: PathBuf },
    /// There is no database, so that there is nothing to copy.
    #[error("there is no file {}", path.display())]
    NoDatabase { path: PathBuf },
    /// A file that must not be replaced.
    #[error("{} exists already and was not changed", path.display())]
    Exists { path: PathBuf },
    /// The database cannot be copied because it changes all the time.
    #[error("{} was changed all the time while it was read; nothing was written; try again later, or stop the daemon first: lessor stop", path.display())]
    Changing { path: PathBuf },
    /// A file that cannot be restored.
    #[error("{} cannot be restored: {why}; nothing was changed", path.display())]
    BadBackup { path: PathBuf, why: String },
    /// Restoring would replace accounts.
    #[error("{} {}; nothing was changed", path.display(), accounts.map_or("cannot be read, and may have accounts".to_owned(), |n| format!("has accounts ({n})")))]
    WouldReplace { path: PathBuf, accounts: Option<i64> },
    /// No key fits a backup. `tried` are those that were tried, in words.
    #[error("{} {}; nothing was changed", backup.display(), if tried.is_empty() {
        "was sealed with a key that is not here".to_owned()
    } else {
        format!("was sealed with another key than {}", tried.join(" and "))
    })]
    KeyOfBackup { backup: PathBuf, tried: Vec<String> },
    /// Any other error of the database.
    #[error("cannot use the database {}: {source}; check that its disk has free space and works", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    /// The system's random source failed.
    #[error("the system's random source failed: {0}; it is needed to seal secrets")]
    Random(#[from] getrandom::Error),
    /// The system could not start a thread.
    #[error("cannot start the store's thread: {0}; check the limit on processes (ulimit -u)")]
    Thread(io::Error),
}

/// Why a write failed.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused the write. Other writes fail as well until this is fixed.
    #[error("cannot write {}: {reason}; {remedy}", path.display())]
    Disk { path: PathBuf, reason: String, remedy: &'static str },
    /// This write is invalid; other writes are not affected.
    #[error("not written: {0}")]
    Refused(String),
    /// The database was opened read-only.
    #[error("{} is read-only: changes are not saved; make it and its directory writable, then restart", path.display())]
    ReadOnly { path: PathBuf },
    /// The disk is too slow: too many writes wait.
    #[error("not written: {0} writes are waiting for the disk already; find out what slows it down")]
    Overloaded(usize),
    /// The store was closed.
    #[error("not written: the store is closed")]
    Closed,
}

impl StoreError {
    /// The keyring error, when the key is not available now but may be later.
    #[must_use]
    pub fn waits_for(&self) -> Option<&KeyringError> {
        match self {
            Self::Keyring(trouble) => Some(trouble),
            _ => None,
        }
    }

    /// Maps an SQLite error during opening to an error for the file at `path`.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match &source {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { path },
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Self::Damaged { path, why: source.to_string() },
                // a generic error while reading lessor's own tables: a table or column is missing
                ErrorCode::Unknown => Self::Damaged { path, why: source.to_string() },
                _ => Self::Database { path, source },
            },
            rusqlite::Error::QueryReturnedNoRows => Self::Damaged { path, why: "a value is missing".into() },
            rusqlite::Error::InvalidColumnName(_)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::SqlInputError { .. } => Self::Damaged { path, why: source.to_string() },
            _ => Self::Database { path, source },
        }
    }

    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, action, source }
    }
}

impl WriteError {
    /// Maps an SQLite error during a write: the disk failed, or this write is invalid.
    pub(super) fn from_sqlite(path: &Path, source: &rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = source else { return Self::Refused(source.to_string()) };
        let remedy = match failure.code {
            ErrorCode::DiskFull => "free some space on that disk",
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => "make the file and its directory writable",
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "close the other program that has it open",
            ErrorCode::CannotOpen | ErrorCode::SystemIoFailure => "check that its disk is present and works",
            ErrorCode::OutOfMemory => "free some memory",
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => "stop lessor and move the file away",
            _ => return Self::Refused(source.to_string()),
        };
        Self::Disk { path: path.to_owned(), reason: source.to_string(), remedy }
    }

    /// Whether other writes would fail in the same way.
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

/// The command that moves a file out of the way.
struct MovedAway<'a>(&'a Path, &'static str);

impl fmt::Display for MovedAway<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, suffix) = *self;
        if cfg!(windows) {
            // quoted for both Windows shells; a path cannot contain a double quote
            let path = path.display();
            write!(f, "move \"{path}\" \"{path}.{suffix}\"")
        } else {
            write!(f, "mv {q} {q}.{suffix}", q = Quoted(path))
        }
    }
}

/// The command that shows which program has a file open, if the system has one.
struct Finder<'a>(&'a Path);

impl fmt::Display for Finder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(windows) { Ok(()) } else { write!(f, " (fuser {} shows it)", Quoted(self.0)) }
    }
}

/// A path, quoted for a Unix shell.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte)) {
            f.write_str(&text)
        } else {
            write!(f, "'{}'", text.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_can_be_pasted() {
        let error = StoreError::Damaged { path: "/tmp/it's here/x.db".into(), why: "it is empty".into() };
        let command = match () {
            () if cfg!(windows) => r#"move "/tmp/it's here/x.db" "/tmp/it's here/x.db.damaged""#,
            () => r"mv '/tmp/it'\''s here/x.db' '/tmp/it'\''s here/x.db'.damaged",
        };
        let said = r"/tmp/it's here/x.db is damaged (it is empty); nothing was changed; restore a backup (lessor restore FILE --force), or, to start without it, move it away: ";
        assert_eq!(error.to_string(), format!("{said}{command}"));
    }
}
