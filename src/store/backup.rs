//! Copies of the database: made while it is in use, and put in the place of one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::database::COMPANIONS;
use super::database::meta::MetaValues;
use super::error::StoreError;
use super::file::{self, ExposedFiles, beside};
use super::health::wall_now;
use super::key::location::{KeyCandidate, KeySlot, KeyStorage};
use super::key::{self, rekey};
use super::reader::Reader;
use super::{LoadedState, StorePaths, database, load, random, shared_pool};
use crate::credential::FingerprintKey;
use crate::pool::Wall;

/// How long to try to read a database that another process is writing.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a backup contains.
#[derive(Clone, Debug)]
pub struct BackupSummary {
    /// The number of accounts.
    pub accounts: usize,
    /// When it was made, if it was made by [`back_up`].
    pub made_at: Option<Wall>,
    /// Where the key is that it was sealed with.
    pub key_location: String,
    /// What is damaged in it.
    pub warnings: Vec<String>,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct RestoreSummary {
    /// What is in the database now.
    pub backup: BackupSummary,
    /// Where the database went that was there before.
    pub set_aside: Option<PathBuf>,
    /// The number of leases that were held when the backup was made; they have ended.
    pub ended_leases: usize,
}

/// Writes a copy of the database to `to`, also while a daemon uses it. The secrets stay sealed.
///
/// # Errors
/// When the database or its key cannot be read, or the copy cannot be written; then there is no file at `to`, or still the
/// one from before.
pub fn back_up(paths: &StorePaths, to: &Path, overwrite: bool) -> Result<BackupSummary, StoreError> {
    let mut exposed = ExposedFiles::default();
    if file::inspect(&paths.database, &mut exposed)?.is_none() {
        return Err(StoreError::NoDatabase { path: paths.database.clone() });
    }
    if !overwrite && fs::symlink_metadata(to).is_ok() {
        return Err(StoreError::Exists { path: to.to_owned() });
    }
    let storage = KeyStorage::new(paths);
    let candidates = storage.candidates(paths.key_backend, &mut exposed)?;
    let copy = PrivateCopy::of(&paths.database, directory_of(to))?;
    let verified = verify(&copy.path, &storage, &candidates);
    let (fits, mut summary, _) = verified.map_err(|error| of_original(&paths.database, error))?;
    let now = wall_now();
    summary.made_at = Some(now);
    summary.key_location = storage.describe(fits.place);
    settle(&copy.path, fits, |database| {
        let made = "INSERT OR REPLACE INTO meta (name, value) VALUES ('backup_made_at', ?1)";
        database.execute(made, [now.0.cast_signed()]).map(drop)
    })?;
    if overwrite {
        file::replace(&copy.path, to)?;
    } else {
        // a file that has appeared meanwhile stays
        fs::hard_link(&copy.path, to).or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Err(StoreError::Exists { path: to.to_owned() }),
            // file systems without links
            _ => file::publish(&copy.path, to),
        })?;
        file::sync_directory(to)?;
    }
    Ok(summary)
}

/// Writes the key that fits the database to the new file `to`.
///
/// # Errors
/// When no key fits, or the file exists or cannot be written.
pub fn copy_key(paths: &StorePaths, to: &Path) -> Result<(), StoreError> {
    let mut exposed = ExposedFiles::default();
    let storage = KeyStorage::new(paths);
    let candidates = storage.candidates(paths.key_backend, &mut exposed)?;
    let copy = PrivateCopy::of(&paths.database, directory_of(to))?;
    let reader = Reader::open(&copy.path, &mut exposed)?;
    let (fits, _) = rekey::fitting(&storage, &candidates, &reader)?;
    let fits = &candidates[fits];
    if fs::symlink_metadata(to).is_ok() {
        return Err(StoreError::Exists { path: to.to_owned() });
    }
    let mut opened = file::create(to)?;
    opened.write_all(&key::print(&fits.key)).map_err(StoreError::file("write", to))?;
    opened.sync_all().map_err(StoreError::file("sync", to))
}

/// Puts a backup in the place of the database, which no daemon may be using. `key` is the key of the backup, if it is not
/// the one that is there. The database from before is set aside.
///
/// # Errors
/// When the backup or its key is not usable, or there are accounts already and `overwrite` is not set. The database is
/// then unchanged.
pub fn restore(
    paths: &StorePaths,
    from: &Path,
    key: Option<Zeroizing<Vec<u8>>>,
    overwrite: bool,
) -> Result<RestoreSummary, StoreError> {
    let mut exposed = ExposedFiles::default();
    if file::inspect(from, &mut exposed)?.is_none() {
        return Err(StoreError::BadBackup { path: from.to_owned(), why: "there is no such file".to_owned() });
    }
    let storage = KeyStorage::new(paths);
    let present = match storage.candidates(paths.key_backend, &mut exposed) {
        Err(StoreError::KeyMissing { .. } | StoreError::KeyDamaged { .. } | StoreError::NotInKeyring { .. }) => {
            Vec::new()
        }
        present => present?,
    };
    let present_place = present.first().map(|candidate| candidate.place);
    let place = present_place.unwrap_or(paths.key_backend);
    let given = key.map(|text| key::parse_given(&text)).transpose();
    let given = given.map_err(|why| StoreError::KeyDamaged { path: "the given key".into(), why })?;
    let tried = present_place.map(|place| storage.describe(place)).into_iter();
    let tried = tried.chain(given.is_some().then(|| "the given one".to_owned())).collect();
    let given = given.map(|key| KeyCandidate { key, place, slot: KeySlot::Next });
    let candidates: Vec<KeyCandidate> = present.into_iter().chain(given).collect();
    if !overwrite {
        refuse_to_replace(&paths.database)?;
    }
    let copy = PrivateCopy::of(from, directory_of(&paths.database))?;
    let (fits, mut summary, leases) = match verify(&copy.path, &storage, &candidates) {
        Err(StoreError::KeyWrong { .. }) => {
            return Err(StoreError::KeyOfBackup { backup: from.to_owned(), tried });
        }
        verified => verified.map_err(|error| of_backup(from, error))?,
    };
    settle(&copy.path, fits, |database| {
        let restored = "INSERT OR REPLACE INTO meta (name, value) VALUES ('restored_at', ?1), ('clean', 1)";
        database.execute(restored, params![wall_now().0.cast_signed()])?;
        shared_pool::forget_term(database)?;
        // their holders have not had them since
        database.execute("DELETE FROM lease", [])?;
        database.execute("DELETE FROM moved_lease", []).map(drop)
    })?;
    // a crash from here on leaves a key that fits whichever database is there
    let is_new_key = candidates.len() > 1 && fits.slot == KeySlot::Next || present_place.is_none();
    match present_place {
        Some(place) if is_new_key => {
            storage.keep_former(place, &candidates[0].key)?;
            storage.prepare(place, &fits.key)?;
        }
        None => {
            // what is there is no key
            if fs::symlink_metadata(&paths.key).is_ok() {
                let aside = file::free_name(&paths.key);
                fs::rename(&paths.key, aside).map_err(StoreError::file("move away", &paths.key))?;
            }
            storage.put(place, &fits.key)?;
        }
        Some(_) => {}
    }
    let set_aside = set_aside(&paths.database)?;
    file::publish(&copy.path, &paths.database)?;
    if is_new_key && present_place.is_some() {
        storage.promote(place, &fits.key)?;
    }
    summary.key_location = storage.describe(place);
    Ok(RestoreSummary { backup: summary, set_aside, ended_leases: leases })
}

/// Refuses to replace a database that has accounts, or may have some.
fn refuse_to_replace(database: &Path) -> Result<(), StoreError> {
    let mut exposed = ExposedFiles::default();
    if file::inspect(database, &mut exposed)?.is_none() {
        return Ok(());
    }
    let count = |reader: Reader| {
        let count = "SELECT count(*) FROM account";
        Ok(reader.database.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap_or(-1))
    };
    match Reader::open(database, &mut exposed).and_then(count) {
        Ok(0) => Ok(()),
        Ok(..0) | Err(_) => Err(StoreError::WouldReplace { path: database.to_owned(), accounts: None }),
        Ok(accounts) => Err(StoreError::WouldReplace { path: database.to_owned(), accounts: Some(accounts) }),
    }
}

/// An error about the copy of the database at `path`.
fn of_original(path: &Path, error: StoreError) -> StoreError {
    let path = path.to_owned();
    match error {
        StoreError::Damaged { why, .. } => StoreError::Damaged { path, why },
        StoreError::Foreign { .. } => StoreError::Foreign { path },
        StoreError::Newer { found, known, .. } => StoreError::Newer { path, found, known },
        StoreError::Database { source, .. } => StoreError::Database { path, source },
        other => other,
    }
}

/// An error about the copy of a file that is to be restored.
fn of_backup(path: &Path, error: StoreError) -> StoreError {
    let why = match error {
        StoreError::Damaged { why, .. } => format!("it is damaged ({why})"),
        StoreError::Foreign { .. } => "it is a database of another program, not of lessor".to_owned(),
        StoreError::Newer { found, known, .. } => {
            format!("it was made by a newer lessor (schema {found}; this one knows up to {known})")
        }
        other => return of_original(path, other),
    };
    StoreError::BadBackup { path: path.to_owned(), why }
}

/// Reads all of a copy: the key that fits, what is in it, and how many leases.
fn verify<'a>(
    copy: &Path,
    storage: &KeyStorage,
    candidates: &'a [KeyCandidate],
) -> Result<(&'a KeyCandidate, BackupSummary, usize), StoreError> {
    let fault = |error| StoreError::from_sqlite(copy, error);
    let reader = Reader::open(copy, &mut ExposedFiles::default())?;
    let (fits, tags) = rekey::fitting(storage, candidates, &reader)?;
    let fits = &candidates[fits];
    let content = reader.content(Some(&tags))?;
    let meta = MetaValues::read(&content, &tags).map_err(fault)?;
    let mut loaded = LoadedState { same_boot: true, ..LoadedState::empty(FingerprintKey::new(random()?), random()?) };
    load::load(&content, Some((&fits.key, &tags)), &mut loaded).map_err(fault)?;
    loaded.warnings.extend(meta.warning());
    let made_at = meta.get::<i64>("backup_made_at").map_err(fault)?.map(|at| Wall(at.unsigned_abs()));
    let summary = BackupSummary {
        accounts: loaded.snapshot.accounts.len(),
        made_at,
        key_location: String::new(),
        warnings: loaded.warnings,
    };
    Ok((fits, summary, loaded.snapshot.leases.len()))
}

/// Brings a copy to the newest schema, changes it, and makes it one durable file.
fn settle(
    copy: &Path,
    fits: &KeyCandidate,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let fault = |error| StoreError::from_sqlite(copy, error);
    let (database, _tags) = database::open_for_writing(copy, &fits.key, true)?;
    database::row_tags::renew_with_writes(&database).map_err(fault)?;
    change(&database).map_err(fault)?;
    let expected = "INSERT OR REPLACE INTO meta (name, value) VALUES ('log_expected', 0)";
    database.execute(expected, []).map_err(fault)?;
    database::keep_log(&database, false).map_err(fault)?;
    database.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(fault)?;
    database.close().map_err(|(_, error)| fault(error))?;
    let opened = fs::OpenOptions::new().write(true).open(copy);
    opened.and_then(|opened| opened.sync_all()).map_err(StoreError::file("sync", copy))
}

/// Renames the database and the files that belong to it; the new name of the database.
fn set_aside(database: &Path) -> Result<Option<PathBuf>, StoreError> {
    let names = [""].into_iter().chain(COMPANIONS);
    let found: Vec<&str> = names.filter(|suffix| fs::symlink_metadata(beside(database, suffix)).is_ok()).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let aside = file::free_name(database);
    for suffix in found {
        let (from, to) = (beside(database, suffix), beside(&aside, suffix));
        fs::rename(&from, &to).map_err(StoreError::file("move away", &from))?;
    }
    Ok(Some(aside))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A copy of a database and its log, in a directory of its own that is removed with it.
struct PrivateCopy {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl PrivateCopy {
    fn of(database: &Path, directory: &Path) -> Result<Self, StoreError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lessor-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let directory = builder.tempdir_in(directory).map_err(StoreError::file("create a directory in", directory))?;
        let path = directory.path().join("lessor.db");
        let (content, log) = snapshot(database)?;
        for (path, bytes) in [(path.clone(), content), (beside(&path, "-wal"), log)] {
            if !bytes.is_empty() || !path.to_string_lossy().ends_with("-wal") {
                let mut copy = file::create(&path)?;
                copy.write_all(&bytes).map_err(StoreError::file("write", &path))?;
            }
        }
        Ok(Self { path, _directory: directory })
    }
}

/// The bytes of a database and its log at one moment. Both are read twice: if nothing has changed in between, they were
/// there together at the moment between the two readings. That is what a crash at that moment would have left, so SQLite
/// recovers every finished change from it.
fn snapshot(database: &Path) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let log = beside(database, "-wal");
    let read = || -> std::io::Result<(Vec<u8>, Vec<u8>)> {
        let log = match fs::read(&log) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            log => log?,
        };
        Ok((fs::read(database)?, log))
    };
    let begun = Instant::now();
    let mut before = read().map_err(StoreError::file("read", database))?;
    loop {
        let after = read().map_err(StoreError::file("read", database))?;
        if after == before {
            return Ok(after);
        }
        if begun.elapsed() >= PATIENCE {
            return Err(StoreError::Changing { path: database.to_owned() });
        }
        before = after;
    }
}
