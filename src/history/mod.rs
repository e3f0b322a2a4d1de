//! What happened: requests of the gateway, leases that ended, and events, kept in a file of their own.
//!
//! Its own file cannot hurt the accounts' database or make it slow, and its size can be bounded exactly. One thread
//! writes, one reads; a sender never waits. A power failure may cost the last seconds, the death of the daemon only what
//! is still in the queue.

mod database;
mod filter;
mod groups;
mod pace;
mod plausible_clock;
mod prices;
mod query;
mod queue;
mod reader;
mod rows;
mod summed;
#[cfg(test)]
mod tests;
mod tidy;
mod writer;

use std::collections::VecDeque;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, time::Duration};

pub use filter::{HistoryQuery, InvalidQuery, QueryFault};
pub use prices::{Price, PriceTable};
pub use queue::{HistoryQueue, HistoryRecord, LeaseNote};
pub use reader::QueryGuard;

use pace::WritePace;
use reader::HistoryReader;
use writer::HistoryWriter;

use crate::protocol::RequestRow;

/// What is kept, and for how long. The default keeps nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistorySettings {
    /// Rows that are older are deleted; zero turns the history off.
    pub max_age: Duration,
    /// The most bytes of its files; zero turns the history off.
    pub max_size: u64,
    /// What tokens cost.
    pub prices: PriceTable,
}

impl HistorySettings {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.max_age.is_zero() || self.max_size == 0
    }
}

/// What the history's thread needs of the daemon.
pub trait HistoryObserver: Send + 'static {
    /// The time of day, epoch ms.
    fn now(&self) -> u64;
    /// How long the daemon runs, by a clock that cannot be set.
    fn running(&self) -> Duration;
    /// Completes records before they are written: makes rows and events of what is noted of leases, and finds the
    /// programs and directories of holders.
    fn complete(&mut self, records: &mut Vec<HistoryRecord>);
    /// When [`Self::complete`] wants to be called again, even without records.
    fn next_look(&self) -> Option<Duration>;
    /// Whether someone wants to know the requests that end.
    fn is_followed(&self) -> bool;
    /// These requests have ended and, unless the history is off, are written.
    fn recorded(&mut self, requests: Vec<RequestRow>);
    /// How much processor time the calling thread has used; where the system does not say, how much time has passed.
    fn work_time(&self) -> Duration;
    /// How much processor time the daemon has used; zero where the system does not say.
    fn process_time(&self) -> Duration;
}

/// The history. Until it is started, it keeps nothing.
#[derive(Debug, Default)]
pub struct History {
    queue: Arc<HistoryQueue>,
    settings: Arc<Mutex<Arc<HistorySettings>>>,
    path: OnceLock<PathBuf>,
    /// Started by the first query.
    reader: Mutex<Option<HistoryReader>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Deref for History {
    type Target = HistoryQueue;

    fn deref(&self) -> &HistoryQueue {
        &self.queue
    }
}

impl History {
    /// Starts to keep what happens in the file at `path`, and to serve queries.
    ///
    /// # Errors
    /// When a thread cannot be started. A file that cannot be used is no error: see [`HistoryQueue::trouble`].
    pub fn start(&self, path: PathBuf, settings: HistorySettings, observer: impl HistoryObserver) -> io::Result<()> {
        let is_kept = !settings.is_off();
        self.set(settings);
        _ = self.path.set(path.clone());
        let writer = HistoryWriter {
            queue: self.queue.clone(),
            path,
            settings: self.settings.clone(),
            observer,
            file: None,
            unwritten: VecDeque::new(),
            pace: WritePace::default(),
            summed_at: Duration::ZERO,
            next_request: 1,
            trouble: None,
            has_old: false,
            is_off: false,
            clock: None,
        };
        let thread = thread::Builder::new().name("lessor-history".into()).spawn(move || writer.run())?;
        self.queue.open(is_kept);
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// The queue, for those that only add to it.
    #[must_use]
    pub fn queue(&self) -> Arc<HistoryQueue> {
        self.queue.clone()
    }

    /// What a request has cost by the table of prices, in US dollars. The gateway asks at the end of each request; the
    /// history keeps what the row says.
    #[must_use]
    pub fn cost(&self, row: &RequestRow) -> Option<f64> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        settings.prices.cost(row.model.as_deref()?, row.tokens.as_ref()?)
    }

    /// Applies other settings.
    pub fn configure(&self, settings: HistorySettings) {
        if self.set(settings) {
            // wakes the thread
            self.queue.flush(|| {});
        }
    }

    /// Answers a query from all records that were handed over until now; `done` is called on the reader's thread. The
    /// query ends with the guard.
    ///
    /// # Errors
    /// When too many queries wait, or the history is not started.
    pub fn query(
        &self,
        query: HistoryQuery,
        done: impl FnOnce(Result<crate::protocol::HistoryInfo, QueryFault>) + Send + 'static,
    ) -> Result<QueryGuard, QueryFault> {
        let path = self.path.get().filter(|_| self.queue.is_kept()).ok_or(QueryFault::Off)?;
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            let started = HistoryReader::start(path.clone(), self.queue.clone());
            *reader = Some(started.map_err(|error| QueryFault::Unreadable(format!("starting a thread: {error}")))?);
        }
        reader.as_ref().ok_or(QueryFault::Off)?.query(query, Box::new(done))
    }

    /// Writes what waits, and closes the file.
    pub fn end(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // a thread that has panicked has ended, too
        let _panicked = thread.map(JoinHandle::join);
    }

    /// Whether that was a change.
    fn set(&self, settings: HistorySettings) -> bool {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let is_change = **current != settings;
        *current = Arc::new(settings);
        is_change
    }
}
