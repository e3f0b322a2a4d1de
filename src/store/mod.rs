//! The store: what must outlive the daemon, in one SQLite file with sealed credentials. One thread writes; nobody
//! waits for it who does not ask to be told.
//!
//! Durability: credentials, removals, refresh marks and fence reservations are fsynced before they are `done`; all
//! else survives the death of the daemon, not that of the machine.

mod database;
mod error;
mod file;
mod health;
mod key;
mod keyring;
mod load;
mod names;
mod rekey;
mod schema;
mod seal;
#[cfg(test)]
mod tests;
mod vault;
mod write;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use zeroize::Zeroizing;

use crate::credential::{Credential, Fingerprint, FingerprintKey, Link};
use crate::pool::{AccountId, Fence, Snapshot, Wall};

pub use error::{StoreError, WriteError};
pub use health::{Failure, Health};
pub use keyring::KeyringTrouble;
pub use rekey::Rekeyed;
pub use vault::KeyPlace;
pub use write::Write;

use health::Shared;
use rekey::Keeper;
use seal::{Key, Purpose};
use vault::Vault;
use writer::{Begin, Job, Listener, Message, Task, Writer};

/// Most writes that wait, for the thread or for the disk; beyond it the oldest that need no fsync are given up.
pub const MOST_WAITING: usize = 10_000;

/// Told on the store's thread what became of a write, after its commit. `Err` does not promise that the write will not
/// be found after a crash, only that it may not be.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Where the store's files are. Their directories exist.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The database.
    pub database: PathBuf,
    /// The key, apart from it.
    pub key: PathBuf,
    /// Where the key is to be.
    pub key_place: KeyPlace,
}

/// An open store, and what was in it.
#[derive(Debug)]
pub struct Opened {
    /// For writing.
    pub store: Store,
    /// What was in it.
    pub loaded: Loaded,
}

/// What outlived the last run.
pub struct Loaded {
    /// The pool's durable state.
    pub snapshot: Snapshot,
    /// What authenticates the accounts.
    pub credentials: Vec<(AccountId, Credential)>,
    /// Accounts whose refresh was begun, when, with an outcome that is not known.
    pub refreshing: Vec<(AccountId, Wall)>,
    /// Credentials that were ever kept: whose, and since when they have been known.
    pub fingerprints: Vec<(Fingerprint, AccountId, Wall)>,
    /// What those are made with.
    pub fingerprint_key: FingerprintKey,
    /// Logins that other tools have, too.
    pub links: Vec<(AccountId, Link)>,
    /// The first fence that was never reserved.
    pub fence: Fence,
    /// The port that the gateway has chosen.
    pub gateway_port: Option<u16>,
    /// Whether the last run ended in order; a new store counts as that.
    pub clean: bool,
    /// Whether the machine has run on since; else holders are gone, and so are the leases.
    pub same_boot: bool,
    /// Signs the ids of connection-bound leases; new in each boot.
    pub lease_key: [u8; 16],
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Whether nothing can be written in this run.
    pub read_only: bool,
}

impl fmt::Debug for Loaded {
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

/// The way to the store's thread.
#[derive(Debug)]
pub struct Store {
    inbox: Sender<Message>,
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store, or makes a new one where nothing is. `boot_id` names this boot of the machine.
    ///
    /// # Errors
    /// When a file is not ours, not whole, or cannot be read. It is then left as it is.
    pub fn open(paths: &Paths, boot_id: &str) -> Result<Opened, StoreError> {
        let path = &paths.database;
        let fault = |error| StoreError::from_sqlite(path, error);
        let mut warnings = Vec::new();
        let found = file::inspect(path, &mut warnings)?;
        if let Some(length) = found {
            database::recognise(path, length)?;
        }
        let vault = Vault::new(paths);
        let candidates = match found {
            Some(_) => vault.candidates(paths.key_place, &mut warnings)?,
            None => {
                let first = vault.first(paths.key_place, &mut warnings)?;
                database::create(path, &first.key, &random()?, &mut warnings)?;
                vec![first]
            }
        };
        let (database, read_only) = database::open(path, found.unwrap_or(0), &mut warnings)?;
        let (mut key, place) = rekey::fitting(&vault, candidates, &database)?;
        database::adopt_prints(&database, &mut key).map_err(fault)?;
        let same_boot = load::meta::<String>(&database, "boot_id").map_err(fault)? == boot_id;
        let sealed: Vec<u8> = load::meta(&database, "lease_key").map_err(fault)?;
        let kept = key.open(Purpose::LeaseKey, &sealed).and_then(|plain| <[u8; 16]>::try_from(&**plain).ok());
        let kept = kept.filter(|_| same_boot);
        let lease_key = kept.map_or_else(random, Ok)?;
        let contents = load::load(&database, Some(&key), same_boot).map_err(fault)?;
        warnings.extend(contents.warnings);
        let loaded = Loaded {
            snapshot: contents.snapshot,
            credentials: contents.credentials,
            refreshing: contents.refreshing,
            fingerprints: contents.fingerprints,
            fingerprint_key: key
                .fingerprints()
                .map_err(|why| StoreError::KeyDamaged { path: paths.key.clone(), why })?,
            links: contents.links,
            fence: load::next_fence(&database).map_err(fault)?,
            gateway_port: load::gateway_port(&database).map_err(fault)?,
            clean: load::meta::<i64>(&database, "clean").map_err(fault)? == 1,
            same_boot,
            lease_key,
            warnings,
            read_only,
        };
        let keeper = Keeper::new(vault, place, &key);
        let store = if read_only {
            let path = path.clone();
            Self::start(true, keeper, move |inbox, shared| writer::refuse(&inbox, &path, &shared))
        } else {
            // without random bytes for the seal the old key stays in the file: after a crash holders cannot resume
            let new = if kept.is_some() { None } else { key.seal(Purpose::LeaseKey, &lease_key).ok() };
            let begin = Task::Begin(Begin { boot_id: boot_id.to_owned(), same_boot, lease_key: new });
            let begin = Job { task: begin, listener: Listener::new(None) };
            let backlog = VecDeque::from([begin]);
            let path = path.clone();
            Self::start(false, keeper, move |inbox, shared| {
                Writer { database, key, path, shared, backlog, sessions: 0 }.run(&inbox);
            })
        };
        Ok(Opened { store: store?, loaded })
    }

    /// What can be known without the key: for as long as that cannot be had. Nothing is written by it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_without_key(paths: &Paths) -> Result<Opened, StoreError> {
        let path = &paths.database;
        let fault = |error| StoreError::from_sqlite(path, error);
        let mut warnings = Vec::new();
        let mut contents = load::Contents::default();
        if let Some(length) = file::inspect(path, &mut warnings)? {
            database::recognise(path, length)?;
            let (database, _) = database::open(path, length, &mut warnings)?;
            contents = load::load(&database, None, false).map_err(fault)?;
        }
        warnings.extend(contents.warnings);
        let nobodys = Key::new(Zeroizing::new([0; 32]));
        let loaded = Loaded {
            snapshot: contents.snapshot,
            credentials: Vec::new(),
            refreshing: Vec::new(),
            fingerprints: Vec::new(),
            fingerprint_key: FingerprintKey::new(random()?),
            links: contents.links,
            fence: Fence::default(),
            clean: true,
            same_boot: false,
            gateway_port: None,
            lease_key: random()?,
            warnings,
            read_only: true,
        };
        let keeper = Keeper::new(Vault::new(paths), paths.key_place, &nobodys);
        let path = path.clone();
        let store = Self::start(true, keeper, move |inbox, shared| writer::refuse(&inbox, &path, &shared))?;
        Ok(Opened { store, loaded })
    }

    /// Hands over a write; `done` hears what became of it. Never waits for the disk.
    pub fn write(&self, write: Write, done: Option<Done>) {
        let waiting = self.shared.waiting();
        let job = Job { task: Task::Write(write), listener: Listener::new(done) };
        if waiting >= MOST_WAITING && !job.task.must_be_synced() {
            let error = WriteError::Overloaded(waiting);
            self.shared.failed(error.to_string(), waiting, 1);
            return job.listener.hear(Err(error));
        }
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // a listener that comes back undelivered hears that the store is closed
        let _ = self.inbox.send(Message::Job(job));
    }

    /// Calls `done` when every write that was handed over until now is in the database, or with the reason why one is
    /// not yet. Never waits for the disk.
    pub fn when_saved(&self, done: Done) {
        let job = Job { task: Task::Barrier, listener: Listener::new(Some(done)) };
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        // a listener that comes back undelivered hears that the store is closed
        let _ = self.inbox.send(Message::Job(job));
    }

    /// Whether what happens is kept.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Whether the store's thread is there; it ends only when the store is closed, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Writes all that waits, notes whether the run ended in order, and closes the files; waits until that is done and
    /// answers how it ended. Later writes are refused.
    pub fn close(&self, clean: bool) -> Health {
        // a thread that has ended needs no telling
        let _ = self.inbox.send(Message::Close(clean));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // the thread cannot wait for itself, when a `done` holds the last of the store
        let thread = thread.filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.shared.failed("the store's thread has failed".into(), self.shared.waiting(), 0);
        }
        self.health()
    }

    fn start(
        read_only: bool,
        keeper: Keeper,
        work: impl FnOnce(mpsc::Receiver<Message>, Arc<Shared>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (inbox, outbox) = mpsc::channel();
        let shared = Arc::new(Shared::new(read_only));
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
        // what was handed over is written even if nobody closed; the next run learns that the end was not in order
        self.close(false);
    }
}

fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
