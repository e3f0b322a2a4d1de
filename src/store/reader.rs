//! Reading a database before anything is changed: a refusal leaves every file as it was.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::database::schema::{self, APPLICATION, STEPS, TAGS_SINCE};
use super::database::{
    self,
    row_tags::{self, RowTags},
};
use super::error::StoreError;
use super::file::{self, ExposedFiles, beside};
use super::key::seal::{SealKey, SealPurpose};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The length of SQLite's header, and the offset of the application id in it.
const HEADER: usize = 100;
const APPLICATION_AT: usize = 68;
/// The stored data is bounded; lessor never writes a file of this size.
const LARGEST: u64 = 256 << 20;
/// Up to this size every page is checked at the start.
const CHECKED: u64 = 64 << 20;
/// Above this size that takes longer than starting a thread for it.
const CHECKED_AT_ONCE: u64 = 256 << 10;

/// A database that is open for reading only. No file is created or changed for it.
pub(super) struct Reader {
    pub(super) database: Connection,
    path: PathBuf,
    version: i64,
    /// The bytes of the file.
    length: u64,
}

impl Reader {
    /// Opens the database and checks that this version of lessor can read it, and that its pages are whole.
    pub(super) fn open(path: &Path, exposed: &mut ExposedFiles) -> Result<Self, StoreError> {
        let length = recognise(path)?;
        for suffix in database::COMPANIONS {
            file::inspect(&beside(path, suffix), exposed)?;
        }
        wait_for_lock(path)?;
        let database = connect(path)?;
        let version = check(&database, path)?;
        if length <= CHECKED {
            check_pages(&database, path)?;
        }
        Ok(Self { database, path: path.to_owned(), version, length })
    }

    /// Checks the indexes, too. They are not needed to read the rows, but to write.
    pub(super) fn begin_index_check(&self) -> Result<IndexCheck, StoreError> {
        IndexCheck::begin(&self.database, &self.path, self.length)
    }

    /// Whether the values in the database were sealed with this key, which makes these tags.
    pub(super) fn fits(&self, key: &SealKey, tags: &RowTags) -> rusqlite::Result<bool> {
        let find = "SELECT value FROM meta WHERE name = 'key_check'";
        let check: Option<Vec<u8>> = self.database.query_row(find, [], |row| row.get(0)).optional()?;
        let opened = check.and_then(|check| key.open(SealPurpose::Check, &check));
        // a damaged check must not look like a wrong key
        Ok(opened.is_some_and(|plain| **plain == *database::CHECK)
            || self.version >= TAGS_SINCE && row_tags::any_fits(&self.database, tags)?)
    }

    /// Whether the database has to be migrated, which needs a disk that can be written.
    pub(super) fn is_older(&self) -> Option<StoreError> {
        let (found, known) = (self.version, schema::known(STEPS));
        (found < known).then(|| StoreError::OlderReadOnly { path: self.path.clone(), found, known })
    }

    /// The content in the newest schema. An older database is migrated in a copy in memory; without a key, rows get no
    /// tags there.
    pub(super) fn content(self, tags: Option<&RowTags>) -> Result<Connection, StoreError> {
        if self.version == schema::known(STEPS) {
            return Ok(self.database);
        }
        let copy = || -> rusqlite::Result<Connection> {
            let mut copy = Connection::open_in_memory()?;
            Backup::new(&self.database, &mut copy)?.step(-1)?;
            tags.map(|tags| tags.define(&copy)).transpose()?;
            schema::migrate(&mut copy, STEPS, tags.is_some())?;
            Ok(copy)
        };
        copy().map_err(|error| StoreError::from_sqlite(&self.path, error))
    }
}

/// Checks the header only: whether this can be a database of lessor. Returns the file's length.
pub(super) fn recognise(path: &Path) -> Result<u64, StoreError> {
    let length = fs::metadata(path).map_err(StoreError::file("inspect", path))?.len();
    let damaged = |why: &str| StoreError::Damaged { path: path.to_owned(), why: why.into() };
    if length == 0 {
        return Err(damaged("it is empty"));
    }
    let mut header = [0u8; HEADER];
    let read = File::open(path).and_then(|mut opened| opened.read_exact(&mut header));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged("it is too short to be a database"));
        }
        other => other.map_err(StoreError::file("read", path))?,
    }
    if !header.starts_with(MAGIC) {
        return Err(damaged("it is not a database"));
    }
    if header[APPLICATION_AT..APPLICATION_AT + 4] != APPLICATION.to_be_bytes() {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if length > LARGEST {
        return Err(damaged(&format!("{} MiB is far more than lessor ever writes", length >> 20)));
    }
    Ok(length)
}

/// If there is a log it must be read, and SQLite cannot lock a file that is opened read-only; the daemon's lock on the
/// directory replaces that lock. Without a log, `immutable` keeps SQLite from creating one.
fn uri(path: &Path) -> PathBuf {
    let logged = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let how = match logged {
        true if cfg!(unix) => "mode=ro&vfs=unix-none",
        true => "mode=ro",
        false => "mode=ro&immutable=1",
    };
    let mut text = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    PathBuf::from(format!("{text}?{how}"))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let opened = Connection::open_with_flags(uri(path), flags).map_err(fault)?;
    opened.busy_timeout(database::PATIENCE).map_err(fault)?;
    database::keep_log(&opened, true).map_err(fault)?;
    // exclusive: the index of the log is kept in memory, because no file may be created for it
    opened
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; \
             PRAGMA trusted_schema = OFF;",
        )
        .map_err(fault)?;
    Ok(opened)
}

/// The schema version, if this version of lessor supports it.
fn check(database: &Connection, path: &Path) -> Result<i64, StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let damaged = |why: &str| StoreError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let (found, known) = (schema::version(database).map_err(fault)?, schema::known(STEPS));
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    if found < 1 {
        return Err(damaged(&format!("schema {found} does not exist")));
    }
    match check_schema(database).map_err(fault)? {
        Some(why) => Err(damaged(why)),
        None => Ok(found),
    }
}

/// What is wrong with an index, if the rows themselves can be read.
type IndexDamage = Option<String>;

/// The check of the indexes. That of a large file takes about as long as reading it, and is made beside that.
#[must_use]
pub(super) struct IndexCheck {
    /// Those of a small file, which were checked at once.
    found: IndexDamage,
    running: Option<JoinHandle<Result<IndexDamage, StoreError>>>,
}

impl IndexCheck {
    fn begin(database: &Connection, path: &Path, length: u64) -> Result<Self, StoreError> {
        if length > CHECKED {
            return Ok(Self { found: None, running: None });
        }
        // elsewhere, one connection keeps the other from reading
        if length > CHECKED_AT_ONCE && cfg!(unix) {
            let path = path.to_owned();
            let check = move || check_indexes(&connect(&path)?, &path);
            if let Ok(running) = thread::Builder::new().name("lessor-indexes".to_owned()).spawn(check) {
                return Ok(Self { found: None, running: Some(running) });
            }
        }
        Ok(Self { found: check_indexes(database, path)?, running: None })
    }

    /// Waits for the result.
    pub(super) fn finish(mut self) -> Result<IndexDamage, StoreError> {
        match self.running.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(self.found.take()),
        }
    }
}

impl Drop for IndexCheck {
    /// Its file is closed before the store is opened again.
    fn drop(&mut self) {
        if let Some(thread) = self.running.take() {
            let _unwanted = thread.join();
        }
    }
}

/// Whether all rows can be read. The indexes do not matter: they can be made again from the rows.
fn check_pages(database: &Connection, path: &Path) -> Result<(), StoreError> {
    match verdict(database, path, "PRAGMA quick_check(1)")? {
        of_rows if of_rows == "ok" => Ok(()),
        why => Err(StoreError::Damaged { path: path.to_owned(), why }),
    }
}

fn check_indexes(database: &Connection, path: &Path) -> Result<IndexDamage, StoreError> {
    let of_all = verdict(database, path, "PRAGMA integrity_check(1)")?;
    if of_all == "ok" {
        return Ok(None);
    }
    // the rows again: the disk may have changed meanwhile
    check_pages(database, path).map(|()| Some(of_all))
}

fn verdict(database: &Connection, path: &Path, check: &str) -> Result<String, StoreError> {
    let found = database.query_row(check, [], |row| row.get::<_, String>(0));
    found.map_err(|error| StoreError::from_sqlite(path, error))
}

/// What is wrong with the definitions of the tables, as far as they tell without their rows.
fn check_schema(database: &Connection) -> rusqlite::Result<Option<&'static str>> {
    let mut definitions = database.prepare("SELECT type, sql FROM sqlite_schema")?;
    let mut rows = definitions.query([])?;
    while let Some(row) = rows.next()? {
        if let b"trigger" | b"view" = row.get_ref(0)?.as_bytes()? {
            return Ok(Some("it has triggers or views, which lessor never makes"));
        }
        // the names of columns are taken from it as text
        let is_text = row.get_ref(1)?.as_bytes_or_null()?.is_none_or(|sql| str::from_utf8(sql).is_ok());
        if !is_text {
            return Ok(Some("its schema is no text"));
        }
    }
    Ok(None)
}

/// Waits until no other program is writing, for a short time.
#[cfg(unix)]
fn wait_for_lock(path: &Path) -> Result<(), StoreError> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;
    use std::time::Duration;
    const STEP: Duration = Duration::from_millis(10);
    let opened = File::open(path).map_err(StoreError::file("open", path))?;
    let mut waited = Duration::ZERO;
    // file systems without locks: SQLite reports what is wrong
    while let Err(Errno::AGAIN | Errno::ACCESS) = fcntl_lock(&opened, FlockOperation::NonBlockingLockShared) {
        if waited >= database::PATIENCE {
            return Err(StoreError::Busy { path: path.to_owned() });
        }
        thread::sleep(STEP);
        waited += STEP;
    }
    Ok(())
}

/// SQLite waits itself: there, its locks keep others from reading.
#[cfg(windows)]
fn wait_for_lock(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}
