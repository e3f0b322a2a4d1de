//! The database file: created atomically, recognised before it is modified, and opened read-write or, if necessary,
//! read-only.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::{io::Read, time::Duration};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use zeroize::Zeroizing;

use super::file::{self, beside};
use super::schema::{self, APPLICATION, STEPS};
use super::seal::{SealKey, SealPurpose};
use super::{error::StoreError, write::ApplyError};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The length of SQLite's header, and the offset of the application id in it.
const HEADER: usize = 100;
const APPLICATION_AT: usize = 68;
/// The stored data is bounded; lessor never writes a file of this size.
const LARGEST: u64 = 256 << 20;
/// Up to this size every page is checked at the start, which takes a few milliseconds.
const CHECKED: u64 = 64 << 20;
/// How long to wait for another program that has the database locked.
const PATIENCE: Duration = Duration::from_millis(250);
/// The sealed value that proves that a key fits.
const CHECK: &[u8] = b"lessor";
/// The files that SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Creates an empty database at `path`, which appears only when it is complete.
pub(super) fn create(
    path: &Path,
    key: &SealKey,
    lease_key: &[u8; 16],
    warnings: &mut Vec<String>,
) -> Result<(), StoreError> {
    set_companions_aside(path, warnings)?;
    let temporary = beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        file::clear(&beside(&temporary, suffix))?;
    }
    drop(file::create(&temporary)?);
    let made = fill(&temporary, key, lease_key);
    made.inspect_err(|_| _ = fs::remove_file(&temporary))?;
    // opened for writing, because some systems do not sync a file that is opened for reading
    let made = OpenOptions::new().write(true).open(&temporary);
    made.and_then(|made| made.sync_all()).map_err(StoreError::file("sync", &temporary))?;
    file::publish(&temporary, path)
}

fn fill(path: &Path, key: &SealKey, lease_key: &[u8; 16]) -> Result<(), StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let sealed = |purpose, plain: &[u8]| {
        key.seal(purpose, plain).map_err(|why| StoreError::File {
            path: path.to_owned(),
            action: "seal values for",
            source: std::io::Error::other(why),
        })
    };
    let mut database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
    // durability does not matter yet: an unfinished file is created again at the next start
    let setup =
        format!("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA application_id = {APPLICATION};");
    database.execute_batch(&setup).map_err(fault)?;
    schema::migrate(&mut database, STEPS).map_err(fault)?;
    let check = sealed(SealPurpose::Check, CHECK)?;
    let lease_key = sealed(SealPurpose::LeaseKey, lease_key)?;
    let statement = "INSERT INTO meta (name, value) VALUES \
                     ('key_check', ?1), ('lease_key', ?2), ('boot_id', ''), ('clean', 1), ('next_fence', 1)";
    database.execute(statement, params![check, lease_key]).map_err(fault)?;
    database.close().map_err(|(_, error)| fault(error))
}

/// SQLite would apply a leftover log of another database to the new one. The log may contain the last logins, so it is
/// renamed instead of removed.
fn set_companions_aside(path: &Path, warnings: &mut Vec<String>) -> Result<(), StoreError> {
    for suffix in COMPANIONS {
        let companion = beside(path, suffix);
        if fs::symlink_metadata(&companion).is_err() {
            continue;
        }
        let free = (1..1000).map(|n| beside(&companion, &format!(".old{n}"))).find(|name| !name.exists());
        let aside = free.unwrap_or_else(|| beside(&companion, ".old"));
        fs::rename(&companion, &aside).map_err(StoreError::file("move away", &companion))?;
        warnings.push(format!(
            "{} was left by another database and was renamed to {}",
            companion.display(),
            aside.display()
        ));
    }
    Ok(())
}

/// Checks the header only: whether this can be a database of lessor.
pub(super) fn recognise(path: &Path, length: u64) -> Result<(), StoreError> {
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
    Ok(())
}

/// Opens the database for writing if possible, otherwise for reading; the second value says whether it is read-only.
/// The content is checked and migrated.
pub(super) fn open(path: &Path, length: u64, warnings: &mut Vec<String>) -> Result<(Connection, bool), StoreError> {
    for suffix in COMPANIONS {
        file::inspect(&beside(path, suffix), warnings)?;
    }
    let why = if file::writable(path) {
        let log = beside(path, "-wal");
        let had_log = log.exists();
        let opened = open_for_writing(path, length);
        if opened.is_err() && !had_log && fs::metadata(&log).is_ok_and(|log| log.len() == 0) {
            // SQLite has created an empty log; a refusal leaves no file behind
            let _ = fs::remove_file(&log);
        }
        match opened {
            Err(StoreError::Database { source, .. }) if disk_refuses(&source) => source.to_string(),
            other => return other.map(|database| (database, false)),
        }
    } else {
        "no permission to write".to_owned()
    };
    let database = open_for_reading(path, length)?;
    warnings.push(format!(
        "{} cannot be written ({why}): changes are not saved; make it and its directory writable, then \
         restart",
        path.display()
    ));
    Ok((database, true))
}

fn disk_refuses(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    error
        .sqlite_error_code()
        .is_some_and(|code| matches!(code, ReadOnly | CannotOpen | PermissionDenied | DiskFull | SystemIoFailure))
}

fn open_for_writing(path: &Path, length: u64) -> Result<Connection, StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut database = Connection::open_with_flags(path, flags).map_err(fault)?;
    // set first, because even the settings below may have to read: another program may have the database locked briefly
    database.busy_timeout(PATIENCE).map_err(fault)?;
    // until everything is checked, a refusal must leave the file and its log unchanged
    keep_log(&database, true).map_err(fault)?;
    // exclusive: one daemon per data directory, and no shared-memory file
    database
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; \
             PRAGMA cache_size = -512; PRAGMA synchronous = NORMAL; PRAGMA fullfsync = ON; \
             PRAGMA checkpoint_fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;",
        )
        .map_err(fault)?;
    check(&database, path, length)?;
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        let why = format!("its journal mode is {mode}, not WAL");
        return Err(StoreError::Damaged { path: path.to_owned(), why });
    }
    database.execute_batch("PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 1048576;").map_err(fault)?;
    schema::migrate(&mut database, STEPS).map_err(fault)?;
    Ok(database)
}

fn open_for_reading(path: &Path, length: u64) -> Result<Connection, StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let database = Connection::open_with_flags(uri(path), flags).map_err(fault)?;
    // exclusive: the index of the log is kept in memory, because no file can be created for it
    database
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;")
        .map_err(fault)?;
    let found = check(&database, path, length)?;
    if found < schema::known(STEPS) {
        return Err(StoreError::OlderReadOnly { path: path.to_owned(), found, known: schema::known(STEPS) });
    }
    Ok(database)
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

/// The schema version, if this version of lessor supports it and the pages are intact.
fn check(database: &Connection, path: &Path, length: u64) -> Result<i64, StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let (found, known) = (schema::version(database).map_err(fault)?, schema::known(STEPS));
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    if found < 1 {
        return Err(StoreError::Damaged { path: path.to_owned(), why: format!("schema {found} does not exist") });
    }
    if length <= CHECKED {
        let verdict: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fault)?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), why: verdict });
        }
    }
    Ok(found)
}

/// Whether the values in the database were sealed with this key.
pub(super) fn fits(database: &Connection, key: &SealKey) -> rusqlite::Result<bool> {
    let check: Vec<u8> = super::load::meta(database, "key_check")?;
    Ok(key.open(SealPurpose::Check, &check).is_some_and(|plain| **plain == *CHECK))
}

/// Sets whether closing keeps the write-ahead log.
pub(super) fn keep_log(database: &Connection, keep: bool) -> rusqlite::Result<()> {
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}

/// Adopts the stored fingerprint key, if the database was sealed with another key before.
pub(super) fn adopt_prints(database: &Connection, key: &mut SealKey) -> rusqlite::Result<()> {
    let find = "SELECT value FROM meta WHERE name = 'fingerprint_key'";
    let sealed: Option<Vec<u8>> = database.query_row(find, [], |row| row.get(0)).optional()?;
    let plain = sealed.and_then(|sealed| key.open(SealPurpose::FingerprintKey, &sealed));
    if let Some(bytes) = plain.and_then(|plain| <[u8; 16]>::try_from(&**plain).ok()) {
        key.adopt_prints(Zeroizing::new(bytes));
    }
    Ok(())
}

/// Seals all values again with `new`, or none. Returns the number of accounts whose secrets were sealed.
pub(super) fn reseal(database: &Connection, old: &SealKey, new: &SealKey) -> Result<u64, ApplyError> {
    let seal = |purpose, plain: &[u8]| new.seal(purpose, plain).map_err(ApplyError::Refused);
    let set = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
    let sealed: Vec<u8> = super::load::meta(database, "lease_key")?;
    let lease_key = old.open(SealPurpose::LeaseKey, &sealed).ok_or_else(|| unopened("the lease key"))?;
    let prints = old.prints().map_err(|why| ApplyError::Refused(why.to_owned()))?;
    database.execute(set, params!["key_check", seal(SealPurpose::Check, CHECK)?])?;
    database.execute(set, params!["lease_key", seal(SealPurpose::LeaseKey, &lease_key)?])?;
    database.execute(set, params!["fingerprint_key", seal(SealPurpose::FingerprintKey, &*prints)?])?;
    let count = reseal_credentials(database, "credential", old, new)?;
    reseal_credentials(database, "former_credential", old, new)?;
    Ok(count)
}

/// Seals the credentials of a table again; returns their number.
fn reseal_credentials(database: &Connection, table: &str, old: &SealKey, new: &SealKey) -> Result<u64, ApplyError> {
    let mut count = 0;
    let mut rows = database.prepare(&format!("SELECT account, sealed FROM {table}"))?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows: Vec<(String, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    let update = format!("UPDATE {table} SET sealed = ?2 WHERE account = ?1");
    for (name, sealed) in rows {
        let account = name.parse().map_err(|_| unopened(&name))?;
        let plain = old.open(SealPurpose::Credential(account), &sealed).ok_or_else(|| unopened(&name))?;
        let sealed = new.seal(SealPurpose::Credential(account), &plain).map_err(ApplyError::Refused)?;
        database.execute(&update, params![name, sealed])?;
        count += 1;
    }
    Ok(count)
}

fn unopened(what: &str) -> ApplyError {
    ApplyError::Refused(format!("the secret of {what} cannot be decrypted; log in to that account again, or remove it"))
}
