//! The store: everything that must outlive the daemon, in one SQLite file with sealed credentials. One thread writes;
//! callers do not wait unless they pass a callback.
//!
//! Durability: credentials, removals, refresh marks, fence reservations, changes of the gateway's keys and of what is kept
//! of a shared pool are fsynced before their callback runs. All other writes survive a crash of the daemon, but not of the
//! machine.

mod backup;
mod database;
mod error;
mod file;
mod gateway_key;
mod health;
mod key;
mod load;
mod names;
mod open;
mod reader;
mod rows;
mod shared_pool;
mod statement;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, sync::atomic::Ordering};

use crate::credential::{
    Credential, Fingerprint, FingerprintKey, FormerCredential, Link, SecretBytes, oauth::StoredClient,
};
use crate::pool::{AccountId, Fence, Snapshot, Wall};

pub use backup::{BackupSummary, RestoreSummary, back_up, copy_key, restore};
pub use error::{StoreError, WriteError};
pub use gateway_key::GatewayKeyRecord;
pub use health::{StoreHealth, WriteFailure};
pub use key::keyring::KeyringError;
pub use key::location::KeyBackend;
pub use key::rekey::Rekeyed;
pub use open::AcceptedStore;
pub use write::Write;

use health::WriterStatus;
use key::rekey::KeyManager;
use writer::{WriteJob, WriteListener, WriterMessage, WriterTask};

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
    /// The leases that holders of moved ones have now, by the fences that they were granted.
    pub moved_leases: Vec<(Fence, String)>,
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
    /// What this machine has as a host of a shared pool: the bytes of its membership.
    pub membership: Option<SecretBytes>,
    /// The term in which it last held seats of that pool, and the number of the process that had it.
    pub pool_term: Option<(i64, u64)>,
    /// The accounts of that pool, and of which generation their stored credentials are; 0 if that is not known.
    pub shared_accounts: Vec<(AccountId, i64)>,
    /// The accounts whose stored credential is an answer that the pool does not have yet, and the generation of the
    /// refresh token that was sent for it.
    pub pool_answers: Vec<(AccountId, i64)>,
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
            moved_leases: Vec::new(),
            refreshing: Vec::new(),
            fingerprints: Vec::new(),
            fingerprint_key,
            links: Vec::new(),
            formers: Vec::new(),
            clients: Vec::new(),
            membership: None,
            pool_term: None,
            shared_accounts: Vec::new(),
            pool_answers: Vec::new(),
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

impl Store {
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

fn random() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
