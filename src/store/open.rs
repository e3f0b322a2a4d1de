//! Opening the store: the database is accepted or refused first, then read, then opened for writing.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::Path;

use zeroize::Zeroizing;

use super::database::row_tags::RowTags;
use super::database::{self, meta::MetaValues, write_ahead_log::LogState};
use super::error::StoreError;
use super::file::{self, ExposedFiles};
use super::key::location::{KeyCandidate, KeyStorage};
use super::key::rekey::{self, KeyManager};
use super::key::seal::{SealKey, SealPurpose};
use super::load;
use super::reader::{self, Reader};
use super::rows::Repairs;
use super::writer::{self, RunStart, WriteJob, WriteListener, Writer, WriterTask};
use super::{LoadedState, OpenedStore, Store, StorePaths, gateway_key, random};
use crate::credential::FingerprintKey;

/// A database that is accepted: it is one of lessor's, the pages of one up to 64 MiB can be read, and a key fits. Its content is not read yet,
/// and nothing in it is changed.
pub struct AcceptedStore {
    paths: StorePaths,
    storage: KeyStorage,
    candidates: Vec<KeyCandidate>,
    /// Which of them fits.
    fits: usize,
    tags: RowTags,
    reader: Reader,
    log: LogState,
    warnings: Vec<String>,
    exposed: ExposedFiles,
}

/// What was read from an accepted database.
struct ReadContent {
    key: SealKey,
    meta: MetaValues,
    /// The one that was stored is of another boot, or is lost.
    is_new_lease_key: bool,
    repairs: Repairs,
    loaded: LoadedState,
}

impl Store {
    /// Opens the store, or creates it. `boot_id` identifies this boot of the machine.
    ///
    /// # Errors
    /// When a file is not lessor's, is damaged, or cannot be read. The file is then left unchanged.
    pub fn open(paths: &StorePaths, boot_id: &str) -> Result<OpenedStore, StoreError> {
        Self::accept(paths)?.open(boot_id)
    }

    /// Checks whether the store can be opened, or creates it. What takes longer with more accounts comes later, with
    /// [`AcceptedStore::open`], except for the check of the pages.
    ///
    /// # Errors
    /// When a file is not lessor's, is damaged, or cannot be read. The file is then left unchanged.
    pub fn accept(paths: &StorePaths) -> Result<AcceptedStore, StoreError> {
        let path = &paths.database;
        let (mut warnings, mut exposed) = (Vec::new(), ExposedFiles::default());
        let storage = KeyStorage::new(paths);
        let candidates = if file::inspect(path, &mut exposed)?.is_some() {
            reader::recognise(path)?;
            storage.candidates(paths.key_backend, &mut exposed)?
        } else {
            let (first, existed) = storage.first(paths.key_backend, &mut exposed)?;
            warnings.extend(existed.then(|| database_is_missing(&storage.describe(first.place), path)));
            database::create(path, &first.key, &random()?, &mut warnings)?;
            vec![first]
        };
        let log = LogState::of(&file::beside(path, "-wal"));
        let reader = Reader::open(path, &mut exposed)?;
        let (fits, tags) = rekey::fitting(&storage, &candidates, &reader)?;
        Ok(AcceptedStore { paths: paths.clone(), storage, candidates, fits, tags, reader, log, warnings, exposed })
    }

    /// Reads what can be read without the key, while the key is not available. Nothing is written.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_without_key(paths: &StorePaths) -> Result<OpenedStore, StoreError> {
        let path = &paths.database;
        let fault = |error| StoreError::from_sqlite(path, error);
        let mut loaded = LoadedState::empty(FingerprintKey::new(random()?), random()?);
        let mut exposed = ExposedFiles::default();
        if file::inspect(path, &mut exposed)?.is_some() {
            let reader = Reader::open(path, &mut exposed)?;
            let content = reader.content(None)?;
            load::load(&content, None, &mut loaded).map_err(fault)?;
            exposed.close(&mut loaded.warnings);
        }
        // without the key they cannot be compared with anything
        loaded.fingerprints.clear();
        let no_key = SealKey::new(Zeroizing::new([0; 32]));
        let keeper = KeyManager::new(KeyStorage::new(paths), paths.key_backend, &no_key);
        let path = path.clone();
        let store = Self::start(true, keeper, move |inbox, shared| writer::refuse(&inbox, &path, &shared))?;
        Ok(OpenedStore { store, loaded })
    }
}

impl AcceptedStore {
    /// Reads the content, and opens the database for writing. `boot_id` identifies this boot of the machine.
    ///
    /// # Errors
    /// When the database cannot be read, or cannot be migrated. The file is then left unchanged.
    pub fn open(self, boot_id: &str) -> Result<OpenedStore, StoreError> {
        let Self { paths, storage, candidates, fits, tags, reader, log, warnings, exposed } = self;
        let (path, fits) = (&paths.database, &candidates[fits]);
        let fault = |error| StoreError::from_sqlite(path, error);
        let older = reader.is_older();
        let indexes = reader.begin_index_check()?;
        let read = read(&paths, boot_id, (&fits.key, &tags), reader);
        // first: what was read of a damaged file counts for nothing
        let index_damage = indexes.finish()?;
        let ReadContent { key, meta, is_new_lease_key, repairs, mut loaded } = read?;
        loaded.warnings.splice(..0, warnings.into_iter().chain(meta.log_warning(path, log).map_err(fault)?));
        // everything was read, and closed: from here on, files may be changed
        let opened = database::open(path, &key, index_damage.as_deref(), &mut loaded.warnings)?;
        loaded.read_only = opened.is_none();
        if let (None, Some(older)) = (&opened, older) {
            return Err(older);
        }
        exposed.close(&mut loaded.warnings);
        rekey::settle(&storage, &candidates, fits);
        let keeper = KeyManager::new(storage, fits.place, &key);
        let path = path.clone();
        let store = if let Some((database, tags)) = opened {
            // without random bytes for the seal the old key stays in the file: after a crash, holders cannot resume
            // their leases
            let new = is_new_lease_key.then(|| key.seal(SealPurpose::LeaseKey, &loaded.lease_key).ok()).flatten();
            let key_check = if meta.damaged.is_empty() { None } else { database::key_check(&key).ok() };
            let same_boot = loaded.same_boot;
            let begin = RunStart { boot_id: boot_id.to_owned(), same_boot, lease_key: new, key_check, repairs };
            let begin = WriteJob { task: WriterTask::Begin(begin), listener: WriteListener::new(None) };
            let backlog = VecDeque::from([begin]);
            Store::start(false, keeper, move |inbox, shared| {
                let renews_tags = Cell::new(false);
                Writer { database, key, tags, renews_tags, path, shared, backlog, sessions: 0 }.run(&inbox);
            })
        } else {
            Store::start(true, keeper, move |inbox, shared| writer::refuse(&inbox, &path, &shared))
        };
        Ok(OpenedStore { store: store?, loaded })
    }
}

/// Reads everything with the key that fits.
fn read(
    paths: &StorePaths,
    boot_id: &str,
    (key, tags): (&SealKey, &RowTags),
    reader: Reader,
) -> Result<ReadContent, StoreError> {
    let fault = |error| StoreError::from_sqlite(&paths.database, error);
    let mut key = key.duplicate();
    let content = reader.content(Some(tags))?;
    let meta = MetaValues::read(&content, tags).map_err(fault)?;
    if let Some(prints) = database::stored_prints(&meta, &key).map_err(fault)? {
        key.adopt_prints(prints);
    }
    let same_boot = meta.required::<String>("boot_id").map_err(fault)?.is_some_and(|stored| stored == boot_id);
    let sealed: Vec<u8> = meta.required("lease_key").map_err(fault)?.unwrap_or_default();
    let kept = key.open(SealPurpose::LeaseKey, &sealed).and_then(|plain| <[u8; 16]>::try_from(&**plain).ok());
    let kept = kept.filter(|_| same_boot);
    let lease_key = kept.map_or_else(random, Ok)?;
    let damaged = |why| StoreError::KeyDamaged { path: paths.key.clone(), why };
    let mut warnings: Vec<String> = meta.warning().into_iter().collect();
    warnings.extend(meta.restored_warning().map_err(fault)?);
    let mut loaded = LoadedState {
        fence: load::next_fence(&content, &meta, tags).map_err(fault)?,
        gateway_port: meta.get("gateway_port").map_err(fault)?,
        gateway_tls_port: meta.get("gateway_tls_port").map_err(fault)?,
        clean: meta.required::<i64>("clean").map_err(fault)? == Some(1),
        same_boot,
        warnings,
        ..LoadedState::empty(key.fingerprints().map_err(damaged)?, lease_key)
    };
    let mut repairs = load::load(&content, Some((&key, tags)), &mut loaded).map_err(fault)?;
    let had_sealed = meta.get::<i64>("sealed_gateway_keys").map_err(fault)?.is_some();
    gateway_key::accept_sealed(&content, had_sealed, &mut loaded).map_err(fault)?;
    repairs.rows |= !meta.damaged.is_empty();
    if meta.damaged.iter().any(|name| name == "fingerprint_key") {
        // made with a key that is lost
        loaded.fingerprints.clear();
    }
    Ok(ReadContent { key, meta, is_new_lease_key: kept.is_none(), repairs, loaded })
}

/// A key without its database.
fn database_is_missing(key: &str, database: &Path) -> String {
    format!(
        "the database {} is missing, although its key is there ({key}): lessor has started without accounts; if it was \
         not moved away on purpose, stop lessor and restore it: lessor restore BACKUP",
        database.display()
    )
}
