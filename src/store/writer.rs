//! The store's thread: takes writes, commits them together, tells who waits, tries again what failed.
//!
//! What happens to a write that fails because of the disk depends on whether somebody was told. A write with a `done`
//! is over when its `done` hears of the failure: what a user was told is not added must not appear later, and whoever
//! must not lose it (a refreshed login) hands it in again. A write without a `done` waits, in order, and is tried
//! again with the next write or after [`PAUSE`]; all writes state a whole value, so that doing one twice is harmless.
//! Nothing overtakes a waiting write: an older record must not be written over a newer one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::database;
use super::error::WriteError;
use super::health::Shared;
use super::seal::Key;
use super::write::{Fault, MOST_ROWS, Write, prune, prune_sessions};
use super::{Done, MOST_WAITING};

/// How long failed writes rest when no new one comes.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// Most writes in one transaction.
const BATCH: usize = 1000;

/// One thing handed to the thread.
#[expect(clippy::large_enum_variant, reason = "almost every one is a write: boxing it would cost an allocation each")]
pub(super) enum Message {
    Job(Job),
    /// Write everything and end; whether the end is a clean one.
    Close(bool),
    /// Seal everything with this key from now on, and tell how many accounts' secrets that was.
    Reseal(Box<Key>, Box<dyn FnOnce(Result<u64, WriteError>) + Send>),
    /// Lets a test do something to the open database.
    #[cfg(test)]
    Touch(Box<dyn FnOnce(&Connection) + Send>),
}

/// A write, and who wants to hear of it.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) listener: Listener,
}

/// Who hears of a write, if anybody: exactly once, even when the thread ends before the write is looked at.
pub(super) struct Listener(Option<Done>);

impl Listener {
    pub(super) fn new(done: Option<Done>) -> Self {
        Self(done)
    }

    pub(super) fn hear(mut self, result: Result<(), WriteError>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), WriteError>) {
        let Some(done) = self.0.take() else { return };
        // somebody else's mistake must not end the thread that keeps everybody's logins
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            tracing::error!("who waited for a write panicked on hearing of it");
        }
    }

    fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tell(Err(WriteError::Closed));
    }
}

#[expect(clippy::large_enum_variant, reason = "almost every one is a write: boxing it would cost an allocation each")]
pub(super) enum Task {
    Write(Write),
    Begin(Begin),
    /// Nothing to write: its listener hears when everything before it is written.
    Barrier,
}

/// What the beginning of a run changes.
pub(super) struct Begin {
    pub(super) boot_id: String,
    /// Whether the machine has run on; else the leases end.
    pub(super) same_boot: bool,
    /// A new lease key, sealed.
    pub(super) lease_key: Option<Vec<u8>>,
}

/// The thread's own.
pub(super) struct Writer {
    pub(super) database: Connection,
    pub(super) key: Key,
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
    /// Not yet written, in order.
    pub(super) backlog: VecDeque<Job>,
    /// Sessions saved since they were last counted.
    pub(super) sessions: usize,
}

impl Writer {
    /// Works until the store is closed or dropped.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        self.flush();
        loop {
            let mut next = if self.backlog.is_empty() {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                inbox.recv_timeout(PAUSE)
            };
            let mut end = matches!(next, Err(RecvTimeoutError::Disconnected)).then_some(false);
            while let Ok(message) = next {
                match message {
                    Message::Job(job) => {
                        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                        self.backlog.push_back(job);
                    }
                    Message::Close(clean) => end = Some(clean),
                    Message::Reseal(key, told) => {
                        self.flush();
                        told(self.reseal(*key));
                    }
                    #[cfg(test)]
                    Message::Touch(touch) => touch(&self.database),
                }
                if end.is_some() || self.backlog.len() >= MOST_WAITING + BATCH {
                    break;
                }
                next = inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            self.flush();
            if let Some(clean) = end {
                return self.end(clean);
            }
        }
    }

    /// Writes all that waits, as far as the disk lets it.
    fn flush(&mut self) {
        while !self.backlog.is_empty() {
            let count = self.backlog.len().min(BATCH);
            match self.commit(count) {
                Ok(()) => self.tell(count),
                Err(error) if count == 1 => {
                    if self.give_up_or_wait(error) {
                        return;
                    }
                }
                Err(_) => {
                    // one by one, so that a bad write does not sink the others
                    for _ in 0..count {
                        match self.commit(1) {
                            Ok(()) => self.tell(1),
                            Err(error) => {
                                if self.give_up_or_wait(error) {
                                    return;
                                }
                            }
                        }
                    }
                }
            }
        }
        self.shared.well();
    }

    /// Commits the first `count` writes of the backlog together.
    fn commit(&mut self, count: usize) -> Result<(), WriteError> {
        let fault = |error: Fault| match error {
            Fault::Database(error) => WriteError::from_sqlite(&self.path, &error),
            Fault::Refused(why) => WriteError::Refused(why),
        };
        let jobs = self.backlog.iter().take(count);
        let synced = jobs.clone().any(|job| job.task.must_be_synced());
        let saved = jobs.clone().filter(|job| matches!(job.task, Task::Write(Write::SaveSession(_)))).count();
        let attempt = || -> Result<(), Fault> {
            // a synced commit syncs everything before it in the log, too
            self.database.execute_batch(if synced {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for job in jobs {
                job.task.apply(&transaction, &self.key)?;
            }
            if self.sessions + saved > MOST_ROWS / 10 {
                prune_sessions(&transaction)?;
            }
            transaction.commit()?;
            Ok(())
        };
        attempt().map_err(fault)?;
        self.sessions = if self.sessions + saved > MOST_ROWS / 10 { 0 } else { self.sessions + saved };
        Ok(())
    }

    /// The first `count` writes are in the database.
    fn tell(&mut self, count: usize) {
        if count == self.backlog.len() {
            // first, so that whoever hears of success also sees it
            self.shared.well();
        }
        for job in self.backlog.drain(..count) {
            job.listener.hear(Ok(()));
        }
    }

    /// Handles the failure of the first write; says whether the disk is at fault and nothing more can be written now.
    fn give_up_or_wait(&mut self, error: WriteError) -> bool {
        if error.is_disk() {
            self.wait(&error);
            return true;
        }
        if let Some(job) = self.backlog.pop_front() {
            if !job.listener.is_there() {
                tracing::error!("a write makes no sense and is left out: {error}");
            }
            job.listener.hear(Err(error));
        }
        false
    }

    fn wait(&mut self, error: &WriteError) {
        let (told, mut waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.backlog).into_iter().partition(|job| job.listener.is_there());
        let mut dropped = 0;
        while waiting.len() > MOST_WAITING {
            // the oldest go first; what must be synced only when nothing else is left
            let place = waiting.iter().position(|job| !job.task.must_be_synced()).unwrap_or(0);
            waiting.remove(place);
            dropped += 1;
        }
        self.backlog = waiting;
        self.shared.failed(error.to_string(), self.backlog.len(), dropped);
        for job in told {
            job.listener.hear(Err(error.clone()));
        }
    }

    /// Seals everything with `key` from now on, if that can be written.
    fn reseal(&mut self, key: Key) -> Result<u64, WriteError> {
        let fault = |error: Fault| match error {
            Fault::Database(error) => WriteError::from_sqlite(&self.path, &error),
            Fault::Refused(why) => WriteError::Refused(why),
        };
        let mut attempt = || -> Result<u64, Fault> {
            self.database.execute_batch("PRAGMA synchronous = FULL")?;
            let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let count = database::reseal(&transaction, &self.key, &key)?;
            transaction.commit()?;
            Ok(count)
        };
        let count = attempt().map_err(fault)?;
        self.key = key;
        // what was sealed with the old key is not left in the log; if it is, that is no more than was there before
        if let Err(error) = self.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!("the log still holds what the old key opens: {error}");
        }
        Ok(count)
    }

    fn end(self, clean: bool) {
        let finish = || -> rusqlite::Result<()> {
            // a run whose writes are lost did not end cleanly
            if clean && self.backlog.is_empty() {
                self.database.execute_batch("PRAGMA synchronous = FULL")?;
                self.database.execute("UPDATE meta SET value = 1 WHERE name = 'clean'", [])?;
            }
            self.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
            database::keep_log(&self.database, false)
        };
        let finished = finish();
        let closed = self.database.close().map_err(|(_, error)| error);
        if let Err(error) = finished.and(closed) {
            let error = WriteError::from_sqlite(&self.path, &error);
            tracing::error!("the store could not be closed in order: {error}");
            self.shared.failed(error.to_string(), self.backlog.len(), 0);
        }
    }
}

/// Stands in for the writer when the database was opened read-only.
pub(super) fn refuse(inbox: &Receiver<Message>, path: &std::path::Path, shared: &Shared) {
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Job(job) => {
                shared.queued.fetch_sub(1, Ordering::Relaxed);
                job.listener.hear(Err(WriteError::ReadOnly { path: path.to_owned() }));
            }
            Message::Close(_) => return,
            Message::Reseal(_, told) => told(Err(WriteError::ReadOnly { path: path.to_owned() })),
            #[cfg(test)]
            Message::Touch(_) => {}
        }
    }
}

impl Task {
    pub(super) fn must_be_synced(&self) -> bool {
        match self {
            Self::Write(write) => write.must_be_synced(),
            // who starts again after a crash of the machine sees by the boot id that holders are gone
            Self::Begin(_) | Self::Barrier => false,
        }
    }

    fn apply(&self, database: &Connection, key: &Key) -> Result<(), Fault> {
        match self {
            Self::Write(write) => write.apply(database, key),
            Self::Begin(begin) => begin.apply(database).map_err(Fault::Database),
            Self::Barrier => Ok(()),
        }
    }
}

impl Begin {
    fn apply(&self, database: &Connection) -> rusqlite::Result<()> {
        let set = "UPDATE meta SET value = ?2 WHERE name = ?1";
        database.execute(set, params!["clean", 0])?;
        database.execute(set, params!["boot_id", self.boot_id])?;
        if let Some(lease_key) = &self.lease_key {
            database.execute(set, params!["lease_key", lease_key])?;
        }
        if !self.same_boot {
            let highest: Option<i64> = database.query_row("SELECT max(fence) FROM lease", [], |row| row.get(0))?;
            let raise = "UPDATE meta SET value = max(value, ?1) WHERE name = 'next_fence'";
            database.execute(raise, [highest.unwrap_or(0).saturating_add(1)])?;
            database.execute("DELETE FROM lease", [])?;
        }
        prune(database)
    }
}
