//! The way of records to the history's thread. It is bounded in number and memory and never makes a sender wait: what
//! finds no room has no row of its own, and is counted. Requests are summed up then.

use std::mem::size_of;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::summed::{SummedGroup, SummedRequests};
use crate::pool::{Ending, Lease, Process, Wall};
use crate::protocol::{AccountLabel, AttemptRow, EventInfo, HistoryStatus, HolderInfo, PastLease, RequestRow};

/// The most records that wait to be written.
pub(super) const MOST_RECORDS: usize = 20_000;
/// The most memory that they take, in bytes.
const MOST_BYTES: usize = 8 << 20;
/// With so many records the thread does not wait for more.
const FULL_BATCH: usize = 2_000;

/// Something that is to be kept.
#[derive(Clone, PartialEq, Debug)]
pub enum HistoryRecord {
    /// A request of the gateway has ended.
    Request(Box<RequestRow>),
    /// A lease has ended, and its holder, whose program and directory are still to be found.
    Lease(Box<PastLease>, Option<Process>),
    /// An event, and the holder that it names, whose program is still to be found.
    Event(Box<EventInfo>, Option<Process>),
    /// A process holds a lease from now on: its program and directory are found while it is alive.
    Holder(Process),
    /// A lease was granted. [`super::HistoryObserver::complete`] makes the event of it, and the holder.
    Granted(LeaseNote),
    /// A lease has ended. [`super::HistoryObserver::complete`] makes the row and the event of it.
    Ended(LeaseNote, Ending),
    /// Requests that found no room, summed up.
    Summed(SummedGroup),
}

/// What happened to a lease, not yet in words: under the state's lock there is no time for them.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaseNote {
    /// When it happened.
    pub at: Wall,
    /// The lease, as it was then.
    pub lease: Arc<Lease>,
    /// What its account was called then.
    pub account: Arc<AccountLabel>,
}

impl HistoryRecord {
    /// How many records are made of it.
    fn count(&self) -> usize {
        match self {
            Self::Granted(note) => 1 + usize::from(note.lease.holder.process.is_some()),
            Self::Ended(..) => 2,
            Self::Request(_) | Self::Lease(..) | Self::Event(..) | Self::Holder(_) | Self::Summed(_) => 1,
        }
    }
}

/// Records that wait for the history's thread.
#[derive(Debug, Default)]
pub struct HistoryQueue {
    waiting: Mutex<WaitingRecords>,
    changed: Condvar,
    /// Records that have no row of their own, and the requests among them that are in no sum either.
    dropped: AtomicU64,
    uncounted: AtomicU64,
    /// Whether there is a thread that takes records.
    is_open: AtomicBool,
    /// Whether records are kept, or at least the ends of requests are reported to subscribers.
    is_kept: AtomicBool,
    /// A lease or an event has found no room, and nothing was written since.
    is_full: AtomicBool,
    /// What the files hold; none while nothing is kept.
    status: Mutex<Option<HistoryStatus>>,
    /// Why nothing is written.
    trouble: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct WaitingRecords {
    records: Vec<HistoryRecord>,
    /// How many there are, with those that the thread has taken and not written yet, and what they take.
    unwritten: usize,
    bytes: usize,
    /// The requests that found no room.
    summed: SummedRequests,
    flushes: Vec<FlushCallback>,
    /// The thread waits for the first record.
    is_idle: bool,
    /// No record comes any more.
    is_closed: bool,
}

/// Called on the history's thread when every record from before it was written.
struct FlushCallback(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for FlushCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlushCallback")
    }
}

/// What the thread has taken from the queue.
#[derive(Debug, Default)]
pub(super) struct RecordBatch {
    pub(super) records: Vec<HistoryRecord>,
    flushes: Vec<FlushCallback>,
    /// Whether it is the last one.
    pub(super) is_last: bool,
}

impl RecordBatch {
    /// Whether someone waits until it is written.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_last || !self.flushes.is_empty()
    }

    /// Reports that the batch is written to those that wait for it.
    pub(super) fn written(self) {
        self.flushes.into_iter().for_each(|flush| flush.0());
    }
}

impl WaitingRecords {
    /// Whether another record finds room. The last quarter is for what tells more than that a request was served.
    fn has_room(&self, is_plain: bool, bytes: usize) -> bool {
        let share = |most: usize| if is_plain { most / 4 * 3 } else { most };
        !self.is_closed && self.unwritten < share(MOST_RECORDS) && self.bytes + bytes <= share(MOST_BYTES)
    }

    /// Adds a record; whether the thread is to be woken.
    fn add(&mut self, record: HistoryRecord, bytes: usize) -> bool {
        self.unwritten += record.count();
        self.records.push(record);
        self.bytes += bytes;
        std::mem::take(&mut self.is_idle) || self.records.len() == FULL_BATCH
    }
}

impl HistoryQueue {
    /// Hands over the end of a request; never waits. One that finds no room is only summed up.
    pub fn request(&self, row: impl Into<Box<RequestRow>>) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let row = row.into();
        let is_plain = is_plain(&row);
        let mut waiting = self.waiting();
        // measured only if there may be room
        let bytes = if waiting.has_room(is_plain, 0) { memory_of_request(&row) } else { usize::MAX / 2 };
        if waiting.has_room(is_plain, bytes) {
            let is_woken = waiting.add(HistoryRecord::Request(row), bytes);
            drop(waiting);
            if is_woken {
                self.changed.notify_one();
            }
            return;
        }
        let is_summed = !waiting.is_closed && self.is_kept() && waiting.summed.add(&row);
        drop(waiting);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.uncounted.fetch_add(u64::from(!is_summed), Ordering::Relaxed);
    }

    /// Hands over a lease or an event; never waits.
    pub fn push(&self, record: HistoryRecord) {
        let bytes = memory_of(&record);
        let mut waiting = self.waiting();
        if !waiting.has_room(false, bytes) {
            self.is_full.store(waiting.unwritten > 0, Ordering::Relaxed);
            self.dropped.fetch_add(record.count() as u64, Ordering::Relaxed);
            return;
        }
        let is_woken = waiting.add(record, bytes);
        drop(waiting);
        if is_woken {
            self.changed.notify_one();
        }
    }

    /// Whether leases and events are kept, so that it is worth describing them.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    /// Whether leases and events are kept, and a record of one, which is made of so many, will find room. One that will
    /// not is counted here, before it is described.
    #[must_use]
    pub fn has_room_for(&self, records: u64) -> bool {
        if !self.is_kept() {
            return false;
        }
        let is_full = self.is_full.load(Ordering::Relaxed);
        if is_full {
            self.dropped.fetch_add(records, Ordering::Relaxed);
        }
        !is_full
    }

    /// Whether records wait.
    #[cfg(test)]
    pub(super) fn is_filled(&self) -> bool {
        !self.waiting().records.is_empty()
    }

    /// How many records have no row of their own. The requests among them are in the sums, but for
    /// [`Self::uncounted`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many requests are in no sum.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    /// The state of the history; none while it is turned off.
    #[must_use]
    pub fn status(&self) -> Option<HistoryStatus> {
        let status = *self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.map(|status| HistoryStatus { dropped: self.dropped(), uncounted: self.uncounted(), ..status })
    }

    /// Why the history cannot be written, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn set_kept(&self, is_kept: bool) {
        if self.is_open.load(Ordering::Relaxed) {
            self.is_kept.store(is_kept, Ordering::Relaxed);
        }
    }

    pub(super) fn set_status(&self, status: Option<HistoryStatus>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Calls `done` when all records from before it are written; at once if there is no thread.
    pub fn flush(&self, done: impl FnOnce() + Send + 'static) {
        let done = FlushCallback(Box::new(done));
        let unserved = {
            let waiting = &mut *self.waiting();
            if waiting.is_closed || !self.is_open.load(Ordering::Relaxed) {
                Some(done)
            } else {
                waiting.flushes.push(done);
                None
            }
        };
        match unserved {
            Some(done) => done.0(),
            None => self.changed.notify_one(),
        }
    }

    /// Opens the queue: a thread takes its records from now on. `is_kept`: whether it keeps leases and events.
    pub(super) fn open(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Ordering::Relaxed);
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// Has the thread write what waits, and end.
    pub(super) fn close(&self) {
        self.is_kept.store(false, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Relaxed);
        self.waiting().is_closed = true;
        self.changed.notify_all();
    }

    /// Counts records that could not be written.
    pub(super) fn lost(&self, records: &[HistoryRecord]) {
        for record in records {
            let (dropped, uncounted) = match record {
                HistoryRecord::Request(_) => (1, 1),
                // dropped before
                HistoryRecord::Summed(group) => (0, group.requests),
                HistoryRecord::Lease(..) | HistoryRecord::Event(..) => (1, 0),
                HistoryRecord::Granted(_) | HistoryRecord::Ended(..) => (record.count() as u64, 0),
                HistoryRecord::Holder(_) => (0, 0),
            };
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            self.uncounted.fetch_add(uncounted, Ordering::Relaxed);
        }
    }

    /// Makes room: so many records that were taken are written, or lost.
    pub(super) fn finished(&self, records: usize) {
        let waiting = &mut *self.waiting();
        let left = waiting.unwritten.saturating_sub(records);
        waiting.bytes = if left == 0 { 0 } else { waiting.bytes / waiting.unwritten * left };
        waiting.unwritten = left;
        self.is_full.store(false, Ordering::Relaxed);
    }

    /// The requests that found no room since it was last asked.
    pub(super) fn take_summed(&self) -> Vec<SummedGroup> {
        self.waiting().summed.take()
    }

    /// The next records: those that have come within `collect` after the first one. Without one, an empty batch after
    /// `most`.
    pub(super) fn next(&self, most: Duration, collect: Duration) -> RecordBatch {
        let mut waiting = self.waiting();
        if waiting.records.is_empty() && waiting.flushes.is_empty() && !waiting.is_closed {
            waiting.is_idle = true;
            let idle = |waiting: &mut WaitingRecords| {
                waiting.records.is_empty() && waiting.flushes.is_empty() && !waiting.is_closed
            };
            let woken = self.changed.wait_timeout_while(waiting, most, idle);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.is_idle = false;
        }
        if !waiting.records.is_empty() {
            let may_collect = |waiting: &mut WaitingRecords| {
                waiting.records.len() < FULL_BATCH && waiting.flushes.is_empty() && !waiting.is_closed
            };
            let woken = self.changed.wait_timeout_while(waiting, collect, may_collect);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_last = waiting.is_closed;
        let (records, flushes) = (std::mem::take(&mut waiting.records), std::mem::take(&mut waiting.flushes));
        RecordBatch { records, flushes, is_last }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingRecords> {
        // records are only added and taken: there is no state in between
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request tells no more than that it was served at once: many such rows say little more than their sums.
fn is_plain(row: &RequestRow) -> bool {
    row.attempts.len() == 1 && row.reason.is_none() && row.outcome == "ok"
}

/// About how much memory a record takes.
fn memory_of(record: &HistoryRecord) -> usize {
    size_of::<HistoryRecord>()
        + match record {
            HistoryRecord::Holder(_) => 0,
            // of what is made of them
            HistoryRecord::Granted(note) => size_of::<EventInfo>() + of_note(note),
            HistoryRecord::Ended(note, _) => {
                size_of::<HistoryRecord>() + size_of::<EventInfo>() + size_of::<PastLease>() + 2 * of_note(note)
            }
            HistoryRecord::Summed(group) => memory_of_request(&group.row),
            HistoryRecord::Request(row) => memory_of_request(row),
            HistoryRecord::Lease(lease, _) => {
                let texts = [&lease.model, &lease.pool, &lease.session, &lease.label, &lease.agent, &lease.directory];
                let plain = lease.lease.len() + lease.provider.len() + lease.reason.len();
                size_of::<PastLease>() + lengths(&texts) + plain + of_account(&lease.account)
            }
            HistoryRecord::Event(event, _) => {
                let texts = [
                    &event.provider,
                    &event.lease,
                    &event.model,
                    &event.label,
                    &event.key,
                    &event.reason,
                    &event.scope,
                    &event.state,
                    &event.pool,
                    &event.session,
                    &event.agent,
                    &event.evidence,
                ];
                size_of::<EventInfo>()
                    + lengths(&texts)
                    + event.kind.len()
                    + event.account.as_ref().map_or(0, of_account)
                    + event.from.as_ref().map_or(0, of_account)
            }
        }
}

fn memory_of_request(row: &RequestRow) -> usize {
    // what requests share is counted for each: it may be the last one that has it
    let shared = [&row.agent, &row.directory, &row.session, &row.label, &row.pool, &row.model];
    let plain = row.provider.len() + row.path.len() + row.outcome.len();
    size_of::<HistoryRecord>()
        + size_of::<RequestRow>()
        + lengths(&[&row.lease, &row.reason])
        + lengths(&shared)
        + plain
        + row.account.as_deref().map_or(0, of_account)
        + of_holder(row.holder.as_deref())
        + row.attempts.iter().map(of_attempt).sum::<usize>()
}

fn of_note(LeaseNote { lease, account, .. }: &LeaseNote) -> usize {
    let texts = lengths(&[&lease.target.model, &lease.session, &lease.label, &lease.agent]);
    LONGEST_USUAL_ID + lease.target.provider.len() + texts + of_account(account)
}

/// About how long the id of a lease is.
const LONGEST_USUAL_ID: usize = 80;

fn lengths<T: Deref<Target = str>>(texts: &[&Option<T>]) -> usize {
    texts.iter().map(|text| text.as_deref().map_or(0, str::len)).sum()
}

fn of_account(account: &AccountLabel) -> usize {
    account.id.len() + lengths(&[&account.label, &account.email])
}

fn of_holder(holder: Option<&HolderInfo>) -> usize {
    holder.map_or(0, |holder| lengths(&[&holder.program]))
}

fn of_attempt(attempt: &AttemptRow) -> usize {
    size_of::<AttemptRow>()
        + of_account(&attempt.account)
        + lengths(&[&attempt.reason, &attempt.scope, &attempt.evidence])
}
