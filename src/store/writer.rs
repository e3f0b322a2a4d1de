//! The store's thread: takes writes, commits them together, runs their callbacks, and retries failed writes.
//!
//! If the disk fails, a write with a callback is over: its callback gets the error, so that an operation that was
//! reported as failed does not take effect later; a caller that must not lose the data (a refreshed login) submits it
//! again. A write without a callback waits, in order, and is retried with the next write or after [`PAUSE`]. Every
//! write contains the whole value, so applying it twice is harmless. No write overtakes a waiting one: an older record
//! must not replace a newer one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::{collections::VecDeque, path::PathBuf, sync::Arc, sync::atomic::Ordering, time::Duration};

use rusqlite::{Connection, TransactionBehavior, params};

use super::database;
use super::database::row_tags::{self, RowTags};
use super::error::WriteError;
use super::health::WriterStatus;
use super::key::seal::SealKey;
use super::statement::ApplyError;
use super::write::{MOST_ROWS, RAISE_FENCE, Write, prune, prune_sessions};
use super::{MOST_WAITING, WriteCallback, rows::Repairs};

/// The pause between retries when no new write arrives.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// How long no write has to arrive until the memory of the last ones is given back.
const QUIET: Duration = Duration::from_millis(500);
/// The maximum number of writes in one transaction.
const BATCH: usize = 1000;
pub(super) enum WriterMessage {
    Job(WriteJob),
    /// Write everything and end; the flag says whether the end is clean.
    Close(bool),
    /// Seal everything with this key from now on, and return the number of accounts whose secrets were sealed.
    Reseal(Box<SealKey>, Box<dyn FnOnce(Result<u64, WriteError>) + Send>),
    /// Lets a test access the open database.
    #[cfg(test)]
    Touch(Box<dyn FnOnce(&Connection) + Send>),
}
pub(super) struct WriteJob {
    pub(super) task: WriterTask,
    pub(super) listener: WriteListener,
}

/// The callback of a write, if it has one. It runs exactly once, even if the thread ends before it processes the write.
pub(super) struct WriteListener(Option<WriteCallback>);

impl WriteListener {
    pub(super) fn new(done: Option<WriteCallback>) -> Self {
        Self(done)
    }

    pub(super) fn hear(mut self, result: Result<(), WriteError>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), WriteError>) {
        let Some(done) = self.0.take() else { return };
        // a panic in a caller's callback must not end the thread that saves all logins
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            tracing::error!("the callback of a write panicked");
        }
    }

    fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for WriteListener {
    fn drop(&mut self) {
        self.tell(Err(WriteError::Closed));
    }
}

pub(super) enum WriterTask {
    Write(Write),
    Begin(RunStart),
    /// Nothing to write: its listener is called when everything before it is written.
    Barrier,
}

/// The changes at the start of a run.
pub(super) struct RunStart {
    pub(super) boot_id: String,
    /// Whether the machine has not rebooted; otherwise all leases end.
    pub(super) same_boot: bool,
    /// A new lease key, sealed.
    pub(super) lease_key: Option<Vec<u8>>,
    /// What shows that the key fits, if that was damaged.
    pub(super) key_check: Option<Vec<u8>>,
    /// What was found damaged.
    pub(super) repairs: Repairs,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) database: Connection,
    pub(super) key: SealKey,
    pub(super) tags: RowTags,
    /// Whether the rows' tags are renewed with every write. That is prepared by this thread: the start does not wait.
    pub(super) renews_tags: Cell<bool>,
    pub(super) path: PathBuf,
    pub(super) shared: Arc<WriterStatus>,
    /// Writes that are not done yet, in order.
    pub(super) backlog: VecDeque<WriteJob>,
    /// The number of sessions saved since they were last pruned.
    pub(super) sessions: usize,
}

impl Writer {
    /// Runs until the store is closed or dropped.
    pub(super) fn run(mut self, inbox: &Receiver<WriterMessage>) {
        self.flush();
        self.log_begins();
        loop {
            let mut next = if self.backlog.is_empty() { self.next_when_idle(inbox) } else { inbox.recv_timeout(PAUSE) };
            let mut end = matches!(next, Err(RecvTimeoutError::Disconnected)).then_some(false);
            while let Ok(message) = next {
                match message {
                    WriterMessage::Job(job) => {
                        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                        self.backlog.push_back(job);
                    }
                    WriterMessage::Close(clean) => end = Some(clean),
                    WriterMessage::Reseal(key, told) => {
                        self.flush();
                        told(self.reseal(*key));
                    }
                    #[cfg(test)]
                    WriterMessage::Touch(touch) => touch(&self.database),
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

    /// Waits for the next message. When there is none for a while, the statements and pages that SQLite has kept in memory
    /// are given back, and the room of a long backlog.
    fn next_when_idle(&mut self, inbox: &Receiver<WriterMessage>) -> Result<WriterMessage, RecvTimeoutError> {
        match inbox.recv_timeout(QUIET) {
            Err(RecvTimeoutError::Timeout) => {
                self.database.flush_prepared_statement_cache();
                let _kept = self.database.execute_batch("PRAGMA shrink_memory");
                self.backlog.shrink_to(BATCH);
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            }
            next => next,
        }
    }

    /// Writes the backlog, as far as the disk allows.
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
                    // one by one, so that an invalid write does not make the others fail
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

    /// Has the rows' tags renewed with every write, before the first one.
    fn prepare_tags(&self) -> rusqlite::Result<()> {
        if !self.renews_tags.get() {
            row_tags::renew_with_writes(&self.database)?;
            self.renews_tags.set(true);
        }
        Ok(())
    }

    /// Commits the first `count` writes of the backlog in one transaction.
    fn commit(&mut self, count: usize) -> Result<(), WriteError> {
        let jobs = self.backlog.iter().take(count);
        let synced = jobs.clone().any(|job| job.task.must_be_synced());
        let saved = jobs.clone().filter(|job| matches!(job.task, WriterTask::Write(Write::SaveSession(_)))).count();
        self.prepare_tags().map_err(|error| WriteError::from_sqlite(&self.path, &error))?;
        let attempt = || -> Result<(), ApplyError> {
            // a synced commit also syncs everything before it in the log
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
        attempt().map_err(|error| error.at(&self.path))?;
        self.sessions = if self.sessions + saved > MOST_ROWS / 10 { 0 } else { self.sessions + saved };
        Ok(())
    }

    /// Removes the first `count` writes from the backlog and runs their callbacks.
    fn tell(&mut self, count: usize) {
        if count == self.backlog.len() {
            // set first, so that a caller that sees its write succeed also sees this state
            self.shared.well();
        }
        for job in self.backlog.drain(..count) {
            job.listener.hear(Ok(()));
        }
    }

    /// Handles the failure of the first write. Returns whether the disk failed, so that no more can be written now.
    fn give_up_or_wait(&mut self, error: WriteError) -> bool {
        if error.is_disk() {
            self.wait(&error);
            return true;
        }
        if let Some(job) = self.backlog.pop_front() {
            if !job.listener.is_there() {
                tracing::error!("an invalid write was dropped: {error}");
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
            // the oldest are dropped first; synced writes only when no others are left
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

    /// Seals everything with `key` from now on, if the disk allows.
    fn reseal(&mut self, key: SealKey) -> Result<u64, WriteError> {
        let mut attempt = || -> Result<u64, ApplyError> {
            self.prepare_tags()?;
            self.database.execute_batch("PRAGMA synchronous = FULL")?;
            let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let count = database::reseal(&transaction, &self.tags, &self.key, &key)?;
            transaction.execute(LOG_EXPECTED, [false])?;
            transaction.commit()?;
            Ok(count)
        };
        let count = match attempt() {
            Ok(count) => count,
            Err(error) => {
                self.tags.set_key(&self.key).map_err(|error| WriteError::from_sqlite(&self.path, &error))?;
                return Err(error.at(&self.path));
            }
        };
        self.key = key;
        // removes values sealed with the old key from the log; if that fails, the log contains no more than before
        if let Err(error) = self.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!("the log still contains values sealed with the old key: {error}");
        }
        self.log_begins();
        Ok(count)
    }

    /// Records in the database file itself that there is a log from now on, so that the next start notices if it is
    /// lost.
    fn log_begins(&self) {
        let begin = || -> rusqlite::Result<()> {
            self.prepare_tags()?;
            self.database.execute(LOG_EXPECTED, [true])?;
            // the log keeps its content until it is written again from its beginning
            self.database.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
        };
        if let Err(error) = begin() {
            tracing::debug!("a loss of the log would not be noticed: {error}");
        }
    }

    fn end(self, clean: bool) {
        let finish = || -> rusqlite::Result<()> {
            self.prepare_tags()?;
            self.database.execute(LOG_EXPECTED, [false])?;
            // a run that lost writes did not end cleanly
            if clean && self.backlog.is_empty() {
                self.database.execute_batch("PRAGMA synchronous = FULL")?;
                self.database.execute(SET_META, params!["clean", 1])?;
            }
            self.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
            database::keep_log(&self.database, false)
        };
        let finished = finish();
        let closed = self.database.close().map_err(|(_, error)| error);
        if let Err(error) = finished.and(closed) {
            let error = WriteError::from_sqlite(&self.path, &error);
            tracing::error!("the store could not be closed cleanly: {error}");
            self.shared.failed(error.to_string(), self.backlog.len(), 0);
        }
    }
}

/// Replaces the writer when the database was opened read-only.
pub(super) fn refuse(inbox: &Receiver<WriterMessage>, path: &std::path::Path, shared: &WriterStatus) {
    while let Ok(message) = inbox.recv() {
        match message {
            WriterMessage::Job(job) => {
                shared.queued.fetch_sub(1, Ordering::Relaxed);
                job.listener.hear(Err(WriteError::ReadOnly { path: path.to_owned() }));
            }
            WriterMessage::Close(_) => return,
            WriterMessage::Reseal(_, told) => told(Err(WriteError::ReadOnly { path: path.to_owned() })),
            #[cfg(test)]
            WriterMessage::Touch(_) => {}
        }
    }
}

impl WriterTask {
    pub(super) fn must_be_synced(&self) -> bool {
        match self {
            Self::Write(write) => write.must_be_synced(),
            // after a crash of the machine the boot id shows that the holders are gone
            Self::Begin(_) | Self::Barrier => false,
        }
    }

    fn apply(&self, database: &Connection, key: &SealKey) -> Result<(), ApplyError> {
        match self {
            Self::Write(write) => write.apply(database, key),
            Self::Begin(begin) => begin.apply(database).map_err(ApplyError::Database),
            Self::Barrier => Ok(()),
        }
    }
}

/// Sets a value of `meta`.
const SET_META: &str = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
/// Records whether the database needs its log to be complete.
const LOG_EXPECTED: &str = "INSERT OR REPLACE INTO meta (name, value) VALUES ('log_expected', ?1)";

impl RunStart {
    fn apply(&self, database: &Connection) -> rusqlite::Result<()> {
        // first: what follows must not build on a damaged row
        if self.repairs.rows || self.key_check.is_some() {
            row_tags::drop_damaged(database)?;
        }
        for id in &self.repairs.credentials {
            let clear = "UPDATE credential SET refresh_started_at = NULL, tag = NULL WHERE account = ?1";
            database.execute(clear, [id.to_string()])?;
        }
        if let Some(check) = &self.key_check {
            database.execute(SET_META, params!["key_check", check])?;
        }
        database.execute(SET_META, params!["clean", 0])?;
        database.execute(SET_META, params!["boot_id", self.boot_id])?;
        if let Some(lease_key) = &self.lease_key {
            database.execute(SET_META, params!["lease_key", lease_key])?;
        }
        // also where it was lost
        database.execute(RAISE_FENCE, [1])?;
        if !self.same_boot {
            let intact = row_tags::is_intact(database, "lease")?;
            let highest = format!("SELECT max(fence) FROM lease WHERE {intact}");
            let highest: Option<i64> = database.query_row(&highest, [], |row| row.get(0))?;
            database.execute(RAISE_FENCE, [highest.unwrap_or(0).saturating_add(1)])?;
            database.execute("DELETE FROM lease", [])?;
            database.execute("DELETE FROM moved_lease", [])?;
        }
        prune(database)
    }
}
