//! The store: everything that must outlive the daemon, in one SQLite file with sealed credentials. One thread writes;
//! callers do not wait unless they pass a callback.
//!
//! Durability: credentials, removals, refresh marks, fence reservations and changes of the gateway's keys are fsynced
//! before their callback runs. All other writes survive a crash of the daemon, but not of the machine.

mod backup;
mod database;
mod error;
mod file;
mod gateway_key;
mod health;
mod key;
mod load;
mod names;
mod reader;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{collections::VecDeque, fmt, sync::atomic::Ordering};

use zeroize::Zeroizing;

use crate::credential::{Credential, Fingerprint, FingerprintKey, FormerCredential, Link, oauth::StoredClient};
use crate::pool::{AccountId, Fence, Snapshot, Wall};

pub use backup::{BackupSummary, RestoreSummary, back_up, copy_key, restore};
pub use error::{StoreError, WriteError};
pub use gateway_key::GatewayKeyRecord;
pub use health::{StoreHealth, WriteFailure};
pub use key::keyring::KeyringError;
pub use key::location::KeyBackend;
pub use key::rekey::Rekeyed;
pub use write::Write;

use database::meta::MetaValues;
use database::write_ahead_log::LogState;
use file::ExposedFiles;
use health::WriterStatus;
use key::location::{KeyCandidate, KeyStorage};
use key::rekey::{self, KeyManager};
use key::seal::{SealKey, SealPurpose};
use load::Repairs;
use reader::Reader;
use writer::{RunStart, WriteJob, WriteListener, Writer, WriterMessage, WriterTask};

/// The maximum number of writes that may wait for the thread or the disk. Beyond it the oldest writes that need no
/// fsync are dropped.
pub const MOST_WAITING: usize = 10_000;

/// Called on the store's thread with the result of a write, after its commit. `Err` does not promise that the write is
/// absent after a crash, only that it may be.
pub type WriteCallback = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// The store's files. Their directories exist.
#[derive(Clone, Debug)]
pub struct StorePaths {
    /// The database.
    pub database: PathBuf,
    /// The key file, in another directory than the database.
    pub key: PathBuf,
    /// Where the key is to be stored.
    pub key_backend: KeyBackend,
}

/// An open store and its content.
#[derive(Debug)]
pub struct OpenedStore {
    /// Accepts writes.
    pub store: Store,
    /// What was stored.
    pub loaded: LoadedState,
}

/// The state that outlived the last run.
pub struct LoadedState {
    /// The pool's durable state.
    pub snapshot: Snapshot,
    /// The accounts' credentials.
    pub credentials: Vec<(AccountId, Credential)>,
    /// Accounts whose refresh was started and when; its outcome is not known.
    pub refreshing: Vec<(AccountId, Wall)>,
    /// Every credential that was ever stored: its account, and since when it is known.
    pub fingerprints: Vec<(Fingerprint, AccountId, Wall)>,
    /// The key that the fingerprints are made with.
    pub fingerprint_key: FingerprintKey,
    /// Logins that are shared with other tools.
    pub links: Vec<(AccountId, Link)>,
    /// The other credentials of accounts that follow a file.
    pub formers: Vec<(AccountId, FormerCredential)>,
    /// The OAuth clients with stored secrets, by name.
    pub clients: Vec<StoredClient>,
    /// The lasting keys of the gateway.
    pub gateway_keys: Vec<GatewayKeyRecord>,
    /// Whether keys of the gateway that are not among them may be valid by their content.
    pub sealed_gateway_keys: bool,
    /// The lowest fence that was never reserved.
    pub fence: Fence,
    /// The port that the gateway chose.
    pub gateway_port: Option<u16>,
    /// The port that it chose for TLS.
    pub gateway_tls_port: Option<u16>,
    /// Whether the last run ended cleanly; true for a new store.
    pub clean: bool,
    /// Whether the machine has not rebooted since. Otherwise the lease holders are gone, and so are the leases.
    pub same_boot: bool,
    /// Signs the ids of connection-bound leases; replaced at every boot.
    pub lease_key: [u8; 16],
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Whether the database is read-only in this run.
    pub read_only: bool,
}

impl LoadedState {
    /// Nothing, in a run that cannot write.
    fn empty(fingerprint_key: FingerprintKey, lease_key: [u8; 16]) -> Self {
        Self {
            snapshot: Snapshot::default(),
            credentials: Vec::new(),
            refreshing: Vec::new(),
            fingerprints: Vec::new(),
            fingerprint_key,
            links: Vec::new(),
            formers: Vec::new(),
            clients: Vec::new(),
            gateway_keys: Vec::new(),
            sealed_gateway_keys: false,
            fence: Fence::default(),
            gateway_port: None,
            gateway_tls_port: None,
            clean: true,
            same_boot: false,
            lease_key,
            warnings: Vec::new(),
            read_only: true,
        }
    }
}

impl fmt::Debug for LoadedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("snapshot", &self.snapshot)
            .field("credentials", &self.credentials)
            .field("fence", &self.fence)
            .field("clean", &self.clean)
            .field("same_boot", &self.same_boot)
            .field("warnings", &self.warnings)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// A handle to the store's thread.
#[derive(Debug)]
pub struct Store {
    inbox: Sender<WriterMessage>,
    shared: Arc<WriterStatus>,
    keeper: Arc<KeyManager>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What was read from the database with the key that fits.
struct ReadContent<'a> {
    fits: &'a KeyCandidate,
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
        let path = &paths.database;
        let fault = |error| StoreError::from_sqlite(path, error);
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
        let (reader, pages) = Reader::open(path, &mut exposed)?;
        let older = reader.is_older();
        let read = Self::read(paths, boot_id, (&storage, &candidates), reader);
        // first: what was read of a damaged file counts for nothing
        let index_damage = pages.finish()?;
        let ReadContent { fits, key, meta, is_new_lease_key, repairs, mut loaded } = read?;
        warnings.extend(meta.log_warning(path, log).map_err(fault)?);
        loaded.warnings.splice(..0, warnings);
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
            Self::start(false, keeper, move |inbox, shared| {
                let renews_tags = Cell::new(false);
                Writer { database, key, tags, renews_tags, path, shared, backlog, sessions: 0 }.run(&inbox);
            })
        } else {
            Self::start(true, keeper, move |inbox, shared| writer::refuse(&inbox, &path, &shared))
        };
        Ok(OpenedStore { store: store?, loaded })
    }

    /// Reads everything with the key that fits.
    fn read<'a>(
        paths: &StorePaths,
        boot_id: &str,
        (storage, candidates): (&KeyStorage, &'a [KeyCandidate]),
        reader: Reader,
    ) -> Result<ReadContent<'a>, StoreError> {
        let fault = |error| StoreError::from_sqlite(&paths.database, error);
        let (fits, tags) = rekey::fitting(storage, candidates, &reader)?;
        let mut key = fits.key.duplicate();
        let content = reader.content(Some(&tags))?;
        let meta = MetaValues::read(&content, &tags).map_err(fault)?;
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
            fence: load::next_fence(&content, &meta, &tags).map_err(fault)?,
            gateway_port: meta.get("gateway_port").map_err(fault)?,
            gateway_tls_port: meta.get("gateway_tls_port").map_err(fault)?,
            clean: meta.required::<i64>("clean").map_err(fault)? == Some(1),
            same_boot,
            warnings,
            ..LoadedState::empty(key.fingerprints().map_err(damaged)?, lease_key)
        };
        let mut repairs = load::load(&content, Some((&key, &tags)), &mut loaded).map_err(fault)?;
        let had_sealed = meta.get::<i64>("sealed_gateway_keys").map_err(fault)?.is_some();
        gateway_key::accept_sealed(&content, had_sealed, &mut loaded).map_err(fault)?;
        repairs.rows |= !meta.damaged.is_empty();
        if meta.damaged.iter().any(|name| name == "fingerprint_key") {
            // made with a key that is lost
            loaded.fingerprints.clear();
        }
        Ok(ReadContent { fits, key, meta, is_new_lease_key: kept.is_none(), repairs, loaded })
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
            let (reader, pages) = Reader::open(path, &mut exposed)?;
            pages.finish()?;
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

    /// Queues a write; `done` is called with its result. Never waits for the disk.
    pub fn write(&self, write: Write, done: Option<WriteCallback>) {
        let waiting = self.shared.waiting();
        let job = WriteJob { task: WriterTask::Write(write), listener: WriteListener::new(done) };
        if waiting >= MOST_WAITING && !job.task.must_be_synced() {
            let error = WriteError::Overloaded(waiting);
            self.shared.failed(error.to_string(), waiting, 1);
            return job.listener.hear(Err(error));
        }
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // if the channel is closed, the returned callback runs with `WriteError::Closed`
        let _ = self.inbox.send(WriterMessage::Job(job));
    }

    /// Runs `work` on the writer's thread, so that a test can hold or end it.
    #[cfg(test)]
    pub(crate) fn on_writer(&self, work: impl FnOnce() + Send + 'static) {
        let _ = self.inbox.send(WriterMessage::Touch(Box::new(move |_| work())));
    }

    /// Calls `done` when every write that was handed over until now is in the database, or with the reason why one is
    /// not yet. Never waits for the disk.
    pub fn when_saved(&self, done: WriteCallback) {
        let job = WriteJob { task: WriterTask::Barrier, listener: WriteListener::new(Some(done)) };
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // the listener of an undelivered message is called with the error that the store is closed
        let _ = self.inbox.send(WriterMessage::Job(job));
    }

    /// Whether changes are being saved.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.shared.health()
    }

    /// Whether the store's thread is running. It ends only when the store is closed, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes everything that waits, records whether the run ended cleanly, and closes the files. Blocks until that is
    /// done and returns the final health. Later writes are refused.
    pub fn close(&self, clean: bool) -> StoreHealth {
        // a thread that has ended needs no message
        let _ = self.inbox.send(WriterMessage::Close(clean));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // the thread must not join itself, which happens when a callback owns the last reference to the store
        let thread = thread.filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.shared.failed("the store's thread has failed".into(), self.shared.waiting(), 0);
        }
        self.health()
    }

    fn start(
        read_only: bool,
        keeper: KeyManager,
        work: impl FnOnce(mpsc::Receiver<WriterMessage>, Arc<WriterStatus>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (inbox, outbox) = mpsc::channel();
        let shared = Arc::new(WriterStatus::new(read_only));
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("lessor-store".into()).spawn(move || work(outbox, theirs));
        Ok(Self {
            inbox,
            shared,
            keeper: Arc::new(keeper),
            thread: Mutex::new(Some(thread.map_err(StoreError::Thread)?)),
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // queued writes are still written; the next run sees that this one did not end cleanly
        self.close(false);
    }
}

/// A key without its database.
fn database_is_missing(key: &str, database: &Path) -> String {
    format!(
        "the database {} is missing, although its key is there ({key}): lessor has started without accounts; if it was \
         not moved away on purpose, stop lessor and restore it: lessor restore BACKUP",
        database.display()
    )
}

fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
