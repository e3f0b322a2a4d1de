//! What can go wrong with the store, in the words of a person who must repair it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::keyring::KeyringTrouble;

/// Why the store cannot be opened. None of these changes a file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something other than a regular file is in its place.
    #[error("{} is {what}, not a regular file; nothing was changed; move it away: {}", path.display(), MovedAway(path, "old"))]
    NotAFile {
        /// Which file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Another user's file.
    #[error("{} belongs to user {owner}, not to you (user {me}); nothing was changed; if it is yours to take: sudo chown {me} {}", path.display(), Quoted(path))]
    ForeignOwner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// The database cannot be read, wholly or in part.
    #[error("{} is damaged ({why}); nothing was changed; to start without it move it away: {}", path.display(), MovedAway(path, "damaged"))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A database of another program.
    #[error("{} is a database of another program, not of lessor; nothing was changed; move it away: {}", path.display(), MovedAway(path, "other"))]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A database of a newer version.
    #[error("{} was made by a newer lessor (schema {found}; this one knows up to {known}); run that one; nothing was changed", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Our schema.
        known: i64,
    },
    /// A database of an older version that cannot be brought up to date.
    #[error("{} was made by an older lessor (schema {found}; this one needs {known}) and cannot be written; make it writable and start once", path.display())]
    OlderReadOnly {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Our schema.
        known: i64,
    },
    /// There are sealed logins, and no key.
    #[error("the key {} is missing, and the logins in {} are sealed with it; put it back from a backup, or, to start without these logins, move the database away: {}", key.display(), database.display(), MovedAway(database, "sealed"))]
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
        /// What it opens.
        database: PathBuf,
    },
    /// The key is not the one the logins were sealed with.
    #[error("the key {} does not fit {}: the logins there were sealed with another one; put the right key back, or, to start without these logins, move the database away: {}", key.display(), database.display(), MovedAway(database, "sealed"))]
    KeyWrong {
        /// The key.
        key: PathBuf,
        /// What it should open.
        database: PathBuf,
    },
    /// The key file does not hold a key.
    #[error("the key file {} is damaged ({why}); nothing was changed; put it back from a backup, or, if nothing is sealed with it, move it away: {}", path.display(), MovedAway(path, "damaged"))]
    KeyDamaged {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The keyring gives or takes nothing now; it may later.
    #[error("{0}")]
    Keyring(KeyringTrouble),
    /// The key should be in the keyring, and is not.
    #[error("the key of {} is not in the keyring, where {} says it is; open the keyring it was put in, or, to start without these logins, move the database away: mv {q} {q}.sealed", database.display(), file.display(), q = Quoted(database))]
    NotInKeyring {
        /// What it opens.
        database: PathBuf,
        /// Who says that it is there.
        file: PathBuf,
    },
    /// What the keyring has is no key.
    #[error("what the keyring has as the key of {item} is none ({why}); remove it there if nothing is sealed with it")]
    KeyringDamaged {
        /// Its name there.
        item: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// All is sealed anew, but one step is left that the next start will do.
    #[error(
        "all is sealed with a new key, but that is not in its final place yet, and the next start puts it there: {0}"
    )]
    HalfRekeyed(Box<Self>),
    /// The database could not be sealed anew.
    #[error("nothing was changed: {0}")]
    NotResealed(WriteError),
    /// Somebody else has it open.
    #[error("{} is in use by another program; close that one{}, then start again", path.display(), Finder(path))]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// Any other failure of the database.
    #[error("cannot use the database {}: {source}; see whether its disk has room and works", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system gave no random bytes.
    #[error("the system's random source failed: {0}; nothing can be sealed without it")]
    Random(#[from] getrandom::Error),
    /// The system gave no thread.
    #[error("cannot start the store's thread: {0}; see the limit on processes (ulimit -u)")]
    Thread(io::Error),
}

/// Why something was not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused; other writes fail as well until that is mended.
    #[error("cannot write {}: {reason}; {remedy}", path.display())]
    Disk {
        /// Which file.
        path: PathBuf,
        /// What was said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// This one write makes no sense; others are not affected.
    #[error("not written: {0}")]
    Refused(String),
    /// The database was opened read-only.
    #[error("{} is read-only: nothing is kept; make it and its directory writable, then restart", path.display())]
    ReadOnly {
        /// Which file.
        path: PathBuf,
    },
    /// The disk is so slow that too many writes wait.
    #[error("not written: {0} writes wait for the disk already; see what slows it")]
    Overloaded(usize),
    /// The store was closed.
    #[error("not written: the store is closed")]
    Closed,
}

impl StoreError {
    /// What has to happen first, when the key cannot be had yet but may be later.
    #[must_use]
    pub fn waits_for(&self) -> Option<&KeyringTrouble> {
        match self {
            Self::Keyring(trouble) => Some(trouble),
            _ => None,
        }
    }

    /// What an SQLite error at opening means for the file at `path`.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match &source {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { path },
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Self::Damaged { path, why: source.to_string() },
                // a generic error while reading our own tables: a table or column is not there
                ErrorCode::Unknown => Self::Damaged { path, why: source.to_string() },
                _ => Self::Database { path, source },
            },
            rusqlite::Error::QueryReturnedNoRows => Self::Damaged { path, why: "a value is missing".into() },
            rusqlite::Error::InvalidColumnName(_)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Self::Damaged { path, why: source.to_string() },
            _ => Self::Database { path, source },
        }
    }

    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, action, source }
    }
}

impl WriteError {
    /// What an SQLite error at writing means: the disk's fault, or this one write's.
    pub(super) fn from_sqlite(path: &Path, source: &rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = source else { return Self::Refused(source.to_string()) };
        let remedy = match failure.code {
            ErrorCode::DiskFull => "free some space on that disk",
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => "make the file and its directory writable",
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "close the other program that has it open",
            ErrorCode::CannotOpen | ErrorCode::SystemIoFailure => "see whether its disk is there and works",
            ErrorCode::OutOfMemory => "free some memory",
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => "stop lessor and move the file away",
            _ => return Self::Refused(source.to_string()),
        };
        Self::Disk { path: path.to_owned(), reason: source.to_string(), remedy }
    }

    /// Whether another write would fail in the same way.
    pub(super) fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. })
    }
}

/// The command that moves a file away.
struct MovedAway<'a>(&'a Path, &'static str);

impl fmt::Display for MovedAway<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, suffix) = *self;
        if cfg!(windows) {
            // as both of its shells take it; no path can have a double quote
            let path = path.display();
            write!(f, "move \"{path}\" \"{path}.{suffix}\"")
        } else {
            write!(f, "mv {q} {q}.{suffix}", q = Quoted(path))
        }
    }
}

/// How to find out who has a file open, where the system has a command for it.
struct Finder<'a>(&'a Path);

impl fmt::Display for Finder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(windows) { Ok(()) } else { write!(f, " (fuser {} names it)", Quoted(self.0)) }
    }
}

/// A path as a Unix shell takes it.
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
        let said =
            r"/tmp/it's here/x.db is damaged (it is empty); nothing was changed; to start without it move it away: ";
        assert_eq!(error.to_string(), format!("{said}{command}"));
    }
}
