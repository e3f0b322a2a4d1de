//! The database file: created atomically, and opened for writing.

pub(super) mod meta;
pub(super) mod row_tags;
pub(super) mod schema;
pub(super) mod write_ahead_log;

use std::fs::{self, OpenOptions};
use std::{path::Path, time::Duration};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use zeroize::Zeroizing;

use super::error::StoreError;
use super::file::{self, beside};
use super::key::seal::{SealKey, SealPurpose};
use super::shared_pool::reseal_membership;
use super::statement::ApplyError;
use meta::MetaValues;
use row_tags::RowTags;
use schema::{APPLICATION, STEPS};

/// How long to wait for another program that has the database locked.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// The sealed value that proves that a key fits.
pub(super) const CHECK: &[u8] = b"lessor";
/// The files that SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

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
    prepare(&mut database, key).and_then(|_tags| row_tags::renew_with_writes(&database)).map_err(fault)?;
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
        let aside = file::free_name(&companion);
        fs::rename(&companion, &aside).map_err(StoreError::file("move away", &companion))?;
        warnings.push(format!(
            "{} was left by another database and was renamed to {}",
            companion.display(),
            aside.display()
        ));
    }
    Ok(())
}

/// Opens a database whose content was read and accepted, for writing; migrates it and repairs its indexes. `None` if it
/// cannot be written; then a warning says why.
pub(super) fn open(
    path: &Path,
    key: &SealKey,
    index_damage: Option<&str>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Connection, RowTags)>, StoreError> {
    let why = if file::writable(path) {
        let log = beside(path, "-wal");
        let had_log = log.exists();
        let opened = open_for_writing(path, key, index_damage.is_some());
        if opened.is_err() && !had_log && fs::metadata(&log).is_ok_and(|log| log.len() == 0) {
            // SQLite has created an empty log; a refusal leaves no file behind
            let _ = fs::remove_file(&log);
        }
        match opened {
            Err(StoreError::Database { source, .. }) if disk_refuses(&source) => source.to_string(),
            Ok(opened) => {
                if let Some(why) = index_damage {
                    warnings.push(format!("an index of {} was damaged ({why}) and was made again", path.display()));
                }
                return Ok(Some(opened));
            }
            Err(error) => return Err(error),
        }
    } else {
        "no permission to write".to_owned()
    };
    if let Some(why) = index_damage {
        warnings.push(format!("an index of {} is damaged ({why})", path.display()));
    }
    warnings.push(format!(
        "{} cannot be written ({why}): changes are not saved; make it and its directory writable, then \
         restart",
        path.display()
    ));
    Ok(None)
}

fn disk_refuses(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure};
    error
        .sqlite_error_code()
        .is_some_and(|code| matches!(code, ReadOnly | CannotOpen | PermissionDenied | DiskFull | SystemIoFailure))
}

/// Opens a database for writing. Before the first write: [`row_tags::renew_with_writes`].
pub(super) fn open_for_writing(path: &Path, key: &SealKey, reindex: bool) -> Result<(Connection, RowTags), StoreError> {
    let fault = |error| StoreError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut database = Connection::open_with_flags(path, flags).map_err(fault)?;
    // set first, because even the settings below may have to read: another program may have the database locked briefly
    database.busy_timeout(PATIENCE).map_err(fault)?;
    // until it is open, a refusal must leave the log unchanged
    keep_log(&database, true).map_err(fault)?;
    // exclusive: one daemon per data directory, and no shared-memory file
    database
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; \
             PRAGMA cache_size = -512; PRAGMA synchronous = NORMAL; PRAGMA fullfsync = ON; \
             PRAGMA checkpoint_fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON;",
        )
        .map_err(fault)?;
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        let why = format!("its journal mode is {mode}, not WAL");
        return Err(StoreError::Damaged { path: path.to_owned(), why });
    }
    database.execute_batch("PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 1048576;").map_err(fault)?;
    if reindex {
        database.execute_batch("REINDEX").map_err(fault)?;
    }
    let tags = prepare(&mut database, key).map_err(fault)?;
    Ok((database, tags))
}

/// Brings the tables to the newest schema.
fn prepare(database: &mut Connection, key: &SealKey) -> rusqlite::Result<RowTags> {
    let tags = RowTags::new(key)?;
    tags.define(database)?;
    schema::migrate(database, STEPS, true)?;
    Ok(tags)
}

/// Sets whether closing keeps the write-ahead log.
pub(super) fn keep_log(database: &Connection, keep: bool) -> rusqlite::Result<()> {
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}

/// The fingerprint key that is stored, if the database was sealed with another key before.
pub(super) fn stored_prints(meta: &MetaValues, key: &SealKey) -> rusqlite::Result<Option<Zeroizing<[u8; 16]>>> {
    let sealed: Option<Vec<u8>> = meta.get("fingerprint_key")?;
    let plain = sealed.and_then(|sealed| key.open(SealPurpose::FingerprintKey, &sealed));
    Ok(plain.and_then(|plain| <[u8; 16]>::try_from(&**plain).ok()).map(Zeroizing::new))
}

/// The value that proves that this key fits.
pub(super) fn key_check(key: &SealKey) -> Result<Vec<u8>, String> {
    key.seal(SealPurpose::Check, CHECK)
}

/// Seals all values again with `new`, or none. Returns the number of accounts whose secrets were sealed.
pub(super) fn reseal(database: &Connection, tags: &RowTags, old: &SealKey, new: &SealKey) -> Result<u64, ApplyError> {
    let seal = |purpose, plain: &[u8]| new.seal(purpose, plain).map_err(ApplyError::Refused);
    let set = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
    let sealed: Vec<u8> =
        database.query_row("SELECT value FROM meta WHERE name = 'lease_key'", [], |row| row.get(0))?;
    let lease_key = old.open(SealPurpose::LeaseKey, &sealed).ok_or_else(|| unopened("the lease key"))?;
    let prints = old.prints().map_err(|why| ApplyError::Refused(why.to_owned()))?;
    database.execute(set, params!["key_check", seal(SealPurpose::Check, CHECK)?])?;
    database.execute(set, params!["lease_key", seal(SealPurpose::LeaseKey, &lease_key)?])?;
    database.execute(set, params!["fingerprint_key", seal(SealPurpose::FingerprintKey, &*prints)?])?;
    let count = reseal_credentials(database, "credential", old, new)?;
    reseal_credentials(database, "former_credential", old, new)?;
    reseal_clients(database, old, new)?;
    reseal_membership(database, old, new)?;
    row_tags::tag_again(database, tags, new)?;
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

/// Seals the secrets of the OAuth clients again.
fn reseal_clients(database: &Connection, old: &SealKey, new: &SealKey) -> Result<(), ApplyError> {
    let mut rows = database.prepare("SELECT name, sealed FROM oauth_client WHERE sealed IS NOT NULL")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows: Vec<(String, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    for (name, sealed) in rows {
        let purpose = SealPurpose::ClientSecret(&name);
        let plain = old.open(purpose, &sealed).ok_or_else(|| {
            let why = format!("the secret of the OAuth client {name:?} cannot be decrypted");
            ApplyError::Refused(format!("{why}; store it again (lessor secrets set NAME), or remove it"))
        })?;
        let sealed = new.seal(purpose, &plain).map_err(ApplyError::Refused)?;
        database.execute("UPDATE oauth_client SET sealed = ?2 WHERE name = ?1", params![name, sealed])?;
    }
    Ok(())
}

fn unopened(what: &str) -> ApplyError {
    ApplyError::Refused(format!("the secret of {what} cannot be decrypted; log in to that account again, or remove it"))
}
