//! The file: opened, created, brought to the newest schema, and set aside when it cannot be read.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::{ffi::OsString, io, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The application id in the header of the file: "LSHI".
const APPLICATION: i64 = 0x4c53_4849;
/// Step n brings schema n to schema n + 1. A released step is never changed.
const STEPS: &[&str] = &[include_str!("schema/1.sql"), include_str!("schema/2.sql")];
/// The files that SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// What the name of a file that was set aside continues with.
const ASIDE: &str = ".damaged-";
/// How long a checkpoint waits for a query: longer than a query may take.
const BUSY: Duration = Duration::from_secs(12);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HistoryFault {
    /// Its content is not a history that this version can read.
    #[error("{0}")]
    Damaged(String),
    /// SQLite reports an error.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<rusqlite::Error> for HistoryFault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            // rows or tables that this version does not know
            Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// Opens the history at `path`, or begins one. A file that cannot be read is renamed aside; then a sentence says so.
pub(super) fn open(path: &Path, now: u64) -> Result<(Connection, Option<String>), HistoryFault> {
    match try_open(path) {
        Ok(database) => Ok((database, None)),
        Err(HistoryFault::Damaged(why)) => {
            let words = set_aside(path, now, &why)?;
            Ok((try_open(path)?, Some(words)))
        }
        Err(other) => Err(other),
    }
}

/// Renames the file aside, so that a new one can begin; says so.
pub(super) fn set_aside(path: &Path, now: u64, why: &str) -> io::Result<String> {
    remove_asides(path)?;
    let aside = beside(path, &format!("{ASIDE}{now}"));
    fs::rename(path, &aside)?;
    for suffix in COMPANIONS {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(format!(
        "the history {} cannot be read ({why}); it was renamed to {}, and a new one begins",
        path.display(),
        aside.display()
    ))
}

/// Only the latest file is kept aside.
fn remove_asides(path: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let beginning = format!("{name}{ASIDE}");
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&beginning)) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn try_open(path: &Path) -> Result<Connection, HistoryFault> {
    prepare_file(path)?;
    let mut database =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    database.busy_timeout(BUSY)?;
    // so that the file can shrink; without effect on a file that has tables
    database.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    let application: i64 = database.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if application != APPLICATION && (application != 0 || version != 0) {
        return Err(HistoryFault::Damaged("it is not a history of lessor".to_owned()));
    }
    if !(0..=known).contains(&version) {
        let why = format!("it has schema {version}, and this version knows {known}");
        return Err(HistoryFault::Damaged(why));
    }
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(HistoryFault::Damaged(format!("its journal mode is {mode}, not WAL")));
    }
    // NORMAL: a power failure may cost the last seconds, but never the file. The log is written back by `Writer::tidy`
    database.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 0; \
         PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA cache_size = -2048; PRAGMA trusted_schema = OFF;",
    )?;
    let check: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(HistoryFault::Damaged(check));
    }
    migrate(&mut database, usize::try_from(version).unwrap_or_default())?;
    Ok(database)
}

/// Runs the missing steps in one transaction.
fn migrate(database: &mut Connection, from: usize) -> Result<(), HistoryFault> {
    if from == STEPS.len() {
        return Ok(());
    }
    let steps = database.transaction()?;
    for step in &STEPS[from..] {
        steps.execute_batch(step)?;
    }
    steps.execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};", STEPS.len()))?;
    Ok(steps.commit()?)
}

/// Creates the file for its owner only, or removes other users' access to it.
fn prepare_file(path: &Path) -> Result<(), HistoryFault> {
    match fs::symlink_metadata(path) {
        Ok(facts) if !facts.is_file() => return Err(HistoryFault::Damaged("it is not a file".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // what is left of another file would be applied to the new one
            remove_companions(path)?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            drop(options.open(path)?);
        }
        Err(error) => return Err(error.into()),
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Removes the history with its companions.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_asides(path)?;
    remove_if_there(path)?;
    remove_companions(path)
}

fn remove_companions(path: &Path) -> io::Result<()> {
    COMPANIONS.iter().try_for_each(|suffix| remove_if_there(&beside(path, suffix)))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How many bytes the write-ahead log has.
pub(super) fn log_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |facts| facts.len())
}

/// How many bytes the files have.
pub(super) fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len()) + log_bytes(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// A history without a file, for tests.
#[cfg(test)]
pub(super) fn in_memory() -> Connection {
    let mut database = Connection::open_in_memory().unwrap();
    migrate(&mut database, 0).unwrap();
    database
}
