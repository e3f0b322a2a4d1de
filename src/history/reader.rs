//! The thread that reads: queries wait for one another, but nothing else waits for them.

use std::cell::LazyCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use jiff::tz::TimeZone;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, InterruptHandle};

use super::filter::{HistoryQuery, QueryFault};
use super::query;
use super::queue::HistoryQueue;
use super::writer::open_reader;
use crate::pool::model_matches;
use crate::protocol::HistoryInfo;

/// The most queries that wait.
const MOST_WAITING: usize = 32;
/// How long a query waits until the records before it are written.
const FLUSH: Duration = Duration::from_secs(5);

type QueryCallback = Box<dyn FnOnce(Result<HistoryInfo, QueryFault>) + Send>;

/// The way to the thread.
#[derive(Debug)]
pub(super) struct HistoryReader {
    inbox: SyncSender<QueryJob>,
    current: CurrentQuery,
}

/// The query that is being answered, and how it is ended.
#[derive(Clone, Default)]
struct CurrentQuery(Arc<Mutex<Option<RunningQuery>>>);

/// Whether the query was ended, and what interrupts it.
type RunningQuery = (Arc<AtomicBool>, InterruptHandle);

impl fmt::Debug for CurrentQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentQuery")
    }
}

struct QueryJob {
    query: HistoryQuery,
    is_ended: Arc<AtomicBool>,
    done: QueryCallback,
}

/// Ends its query when it is dropped.
#[derive(Debug)]
pub struct QueryGuard {
    is_ended: Arc<AtomicBool>,
    current: CurrentQuery,
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        let current = self.current.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((query, interrupt)) = &*current
            && Arc::ptr_eq(query, &self.is_ended)
        {
            interrupt.interrupt();
        }
    }
}

impl HistoryReader {
    pub(super) fn start(path: PathBuf, queue: Arc<HistoryQueue>) -> io::Result<Self> {
        let (inbox, jobs) = sync_channel(MOST_WAITING);
        let current = CurrentQuery::default();
        let serving = current.clone();
        // it ends with the last sender
        thread::Builder::new().name("history-query".into()).spawn(move || serve(&jobs, &path, &queue, &serving))?;
        Ok(Self { inbox, current })
    }

    pub(super) fn query(&self, query: HistoryQuery, done: QueryCallback) -> Result<QueryGuard, QueryFault> {
        let is_ended = Arc::new(AtomicBool::new(false));
        match self.inbox.try_send(QueryJob { query, is_ended: is_ended.clone(), done }) {
            Ok(()) => Ok(QueryGuard { is_ended, current: self.current.clone() }),
            Err(TrySendError::Full(_)) => Err(QueryFault::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(QueryFault::Off),
        }
    }
}

fn serve(jobs: &Receiver<QueryJob>, path: &Path, queue: &HistoryQueue, current: &CurrentQuery) {
    // finding it looks through many files: not before the first query
    let zone = LazyCell::new(TimeZone::system);
    for QueryJob { query, is_ended, done } in jobs {
        if is_ended.load(Ordering::Relaxed) {
            done(Err(QueryFault::Ended));
            continue;
        }
        let answer = flush(queue).and_then(|()| read(path, &query, &zone, (&is_ended, current)));
        *current.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        done(answer.map(|info| HistoryInfo { dropped: queue.dropped(), uncounted: queue.uncounted(), ..info }));
    }
}

/// Waits until what was recorded before the query is written.
fn flush(queue: &HistoryQueue) -> Result<(), QueryFault> {
    let (done, flushed) = channel();
    queue.flush(move || _ = done.send(()));
    match flushed.recv_timeout(FLUSH) {
        Ok(()) => Ok(()),
        Err(RecvTimeoutError::Timeout) => Err(QueryFault::Unreadable("the disk does not answer".to_owned())),
        Err(RecvTimeoutError::Disconnected) => Err(QueryFault::Off),
    }
}

fn read(
    path: &Path,
    wanted: &HistoryQuery,
    zone: &TimeZone,
    (is_ended, current): (&Arc<AtomicBool>, &CurrentQuery),
) -> Result<HistoryInfo, QueryFault> {
    // opened for each query: the file may have been renamed aside, and a connection costs less than a query
    let mut reader = open_reader(path)?;
    define_functions(&reader)?;
    *current.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((is_ended.clone(), reader.get_interrupt_handle()));
    if is_ended.load(Ordering::Relaxed) {
        return Err(QueryFault::Ended);
    }
    query::answer(&mut reader, wanted, zone)
}

/// Lets SQL compare names of models with patterns.
pub(super) fn define_functions(reader: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    reader.create_scalar_function("model_matches", 2, flags, |call| {
        let (pattern, model) = (call.get::<String>(0)?, call.get::<Option<String>>(1)?);
        Ok(model.is_some_and(|model| model_matches(&pattern, &model)))
    })
}
