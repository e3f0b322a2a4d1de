//! The thread that writes: takes what waits in the queue, writes it in groups, and keeps the file within its budget.
//!
//! It works for a small share of the time only. What that does not suffice for waits here and in the queue, which is
//! bounded; what is asked for, and what is left at the end, is written at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::database::{self, HistoryFault};
use super::pace::{PaceMoment, WritePace};
use super::plausible_clock::PlausibleClock;
use super::queue::{HistoryQueue, HistoryRecord};
use super::rows::{insert_event, insert_lease, insert_request, unsigned};
use super::{HistoryObserver, HistorySettings, tidy};
use crate::protocol::{HistoryStatus, RequestRow};

/// How long records are collected before they are written and reported.
const COLLECT: Duration = Duration::from_millis(200);
/// How often old rows are looked for when nothing is written.
const IDLE: Duration = Duration::from_secs(600);
/// The same while rows are left to be deleted.
const BUSY: Duration = Duration::from_millis(20);
/// How long requests are summed up that find no room in the queue, before their sums are written.
const SUM: Duration = Duration::from_secs(10);
/// How many records one transaction has at most: the file grows by so much before it is looked at again.
const MOST_AT_ONCE: usize = 250;

/// The thread's own part.
pub(super) struct HistoryWriter<O> {
    pub(super) queue: Arc<HistoryQueue>,
    pub(super) path: PathBuf,
    pub(super) settings: Arc<Mutex<Arc<HistorySettings>>>,
    pub(super) observer: O,
    pub(super) file: Option<Connection>,
    /// Records that are complete, and wait to be written.
    pub(super) unwritten: VecDeque<HistoryRecord>,
    /// When it may write.
    pub(super) pace: WritePace,
    /// When sums were last written.
    pub(super) summed_at: Duration,
    /// The id of the next request.
    pub(super) next_request: u64,
    /// The last trouble with the file that was reported: each is reported once.
    pub(super) trouble: Option<String>,
    /// Rows are left to be deleted.
    pub(super) has_old: bool,
    /// The history is turned off, and deleted.
    pub(super) is_off: bool,
    /// The time by which rows are old, since the file was opened.
    pub(super) clock: Option<PlausibleClock>,
}

impl<O: HistoryObserver> HistoryWriter<O> {
    /// Runs until the queue is closed.
    pub(super) fn run(mut self) {
        self.tidy();
        loop {
            let mut batch = self.queue.next(self.next_work(), COLLECT);
            let began = self.observer.work_time();
            let is_urgent = batch.is_urgent();
            self.receive(std::mem::take(&mut batch.records));
            if self.write_some(is_urgent) || self.unwritten.is_empty() {
                self.tidy();
            }
            let work = self.observer.work_time().saturating_sub(began);
            self.pace.worked(work, self.moment());
            let is_last = batch.is_last;
            batch.written();
            if is_last {
                break;
            }
        }
        if let Some(file) = self.file.take() {
            // closing writes the log back
            let _closed = file.close();
        }
    }

    fn current_settings(&self) -> Arc<HistorySettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn moment(&self) -> PaceMoment {
        PaceMoment { running: self.observer.running(), used: self.observer.process_time() }
    }

    /// How long it waits for records at most.
    fn next_work(&self) -> Duration {
        let idle = if self.has_old { BUSY } else { IDLE };
        let look = self.observer.next_look().map_or(idle, |look| look.min(idle));
        if self.unwritten.is_empty() { look } else { look.min(self.pace.left(self.moment())) }
    }

    /// Completes records, gives requests their ids and reports them; from now on they wait to be written.
    fn receive(&mut self, mut records: Vec<HistoryRecord>) {
        self.observer.complete(&mut records);
        if records.is_empty() {
            return;
        }
        let is_numbered = !self.current_settings().is_off() && self.ensure_open().is_ok();
        let is_followed = self.observer.is_followed();
        let mut ended = Vec::new();
        for record in &mut records {
            let HistoryRecord::Request(row) = record else { continue };
            if is_numbered {
                row.id = self.next_id();
            }
            if is_followed {
                ended.push(RequestRow::clone(row));
            }
        }
        if !ended.is_empty() {
            self.observer.recorded(ended);
        }
        self.unwritten.extend(records);
    }

    fn next_id(&mut self) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        id
    }

    /// Writes what waits, if it is time or urgent; whether it has. Without urgency, as much as one transaction has.
    fn write_some(&mut self, is_urgent: bool) -> bool {
        let running = self.observer.running();
        if !is_urgent && !self.pace.left(self.moment()).is_zero() {
            return false;
        }
        // the sums of requests for which there was no room: with the last records that had some
        let is_rest = self.unwritten.len() <= MOST_AT_ONCE;
        if is_urgent || is_rest || running.saturating_sub(self.summed_at) >= SUM {
            for mut group in self.queue.take_summed() {
                // like those of requests: an id that the database chose could be that of a request which waits
                group.row.id = self.next_id();
                self.unwritten.push_back(HistoryRecord::Summed(group));
            }
            self.summed_at = running;
        }
        let settings = self.current_settings();
        let mut has_written = false;
        while !self.unwritten.is_empty() && (is_urgent || !has_written) {
            let part: Vec<HistoryRecord> = self.unwritten.drain(..MOST_AT_ONCE.min(self.unwritten.len())).collect();
            self.write(&part, &settings);
            let is_of_queue = |record: &&HistoryRecord| !matches!(record, HistoryRecord::Summed(_));
            self.queue.finished(part.iter().filter(is_of_queue).count());
            has_written = true;
        }
        has_written
    }

    /// Writes records. What cannot be written is counted.
    fn write(&mut self, records: &[HistoryRecord], settings: &HistorySettings) {
        if settings.is_off() {
            return;
        }
        let mut result = self.try_write(records, settings);
        if let Err(HistoryFault::Damaged(why)) = &result {
            let why = why.clone();
            self.begin_again(&why);
            result = self.try_write(records, settings);
        }
        match result {
            Ok(()) => self.well(),
            Err(error) => {
                self.queue.lost(records);
                self.say(format!("the history {} cannot be written: {error}", self.path.display()));
            }
        }
    }

    fn try_write(&mut self, records: &[HistoryRecord], settings: &HistorySettings) -> Result<(), HistoryFault> {
        self.ensure_open()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        let transaction = file.transaction()?;
        for record in records {
            match record {
                HistoryRecord::Request(row) => _ = insert_request(&transaction, row, 1)?,
                HistoryRecord::Summed(group) => _ = insert_request(&transaction, &group.row, group.requests)?,
                HistoryRecord::Lease(row, _) => insert_lease(&transaction, row)?,
                HistoryRecord::Event(event, _) => insert_event(&transaction, event)?,
                // notes were completed before
                HistoryRecord::Holder(_) | HistoryRecord::Granted(_) | HistoryRecord::Ended(..) => {}
            }
        }
        transaction.commit()?;
        tidy::keep_size(file, &self.path, settings.max_size)
    }

    fn ensure_open(&mut self) -> Result<(), HistoryFault> {
        if self.file.is_none() {
            let (file, words) = database::open(&self.path, self.observer.now())?;
            self.next_request = self.next_request.max(last_request(&file)? + 1);
            self.file = Some(file);
            if let Some(words) = words {
                tracing::warn!("{words}");
            }
        }
        Ok(())
    }

    /// Renames a damaged file aside, so that a new one begins.
    fn begin_again(&mut self, why: &str) {
        self.file = None;
        match database::set_aside(&self.path, self.observer.now(), why) {
            Ok(words) => tracing::warn!("{words}"),
            Err(error) => self.say(format!("the damaged history {} cannot be renamed: {error}", self.path.display())),
        }
    }

    /// Deletes what is too old or too much, and publishes what the file holds.
    fn tidy(&mut self) {
        let settings = self.current_settings();
        self.queue.set_kept(!settings.is_off());
        if settings.is_off() {
            self.turn_off();
            return;
        }
        self.is_off = false;
        let (now, running) = (self.observer.now(), self.observer.running());
        let path = self.path.clone();
        let tidied = self.ensure_open().and_then(|()| {
            let Some(file) = &mut self.file else { return Ok(false) };
            let clock = match &mut self.clock {
                Some(clock) => clock,
                None => self.clock.insert(PlausibleClock::new(newest(file)?.unwrap_or(now), running)),
            };
            let oldest = clock.now(now, running).saturating_sub(crate::pool::millis(settings.max_age));
            let has_old = tidy::delete_older(file, oldest)?;
            tidy::keep_size(file, &path, settings.max_size)?;
            // pages that SQLite has kept in memory: the next write is some time away
            file.execute_batch("PRAGMA shrink_memory")?;
            Ok(has_old)
        });
        match tidied {
            Ok(has_old) => {
                self.has_old = has_old;
                self.well();
            }
            Err(HistoryFault::Damaged(why)) => self.begin_again(&why),
            Err(error) => self.say(format!("the history {} cannot be kept: {error}", path.display())),
        }
        self.publish();
    }

    fn publish(&self) {
        let begins_at = self.file.as_ref().and_then(|file| begins_at(file).ok().flatten());
        self.queue.set_status(Some(HistoryStatus {
            begins_at,
            bytes: database::bytes(&self.path),
            ..HistoryStatus::default()
        }));
    }

    /// Deletes the history: it is turned off.
    fn turn_off(&mut self) {
        if std::mem::replace(&mut self.is_off, true) {
            return;
        }
        self.file = None;
        self.has_old = false;
        self.queue.set_status(None);
        if let Err(error) = database::remove(&self.path) {
            self.say(format!("the history {} is turned off, but cannot be deleted: {error}", self.path.display()));
        } else {
            self.well();
        }
    }

    /// The file can be used.
    fn well(&mut self) {
        if self.trouble.take().is_some() {
            self.queue.set_trouble(None);
        }
    }

    /// Warns once of the same.
    fn say(&mut self, words: String) {
        if self.trouble.as_ref() != Some(&words) {
            tracing::warn!("{words}");
        }
        self.trouble = Some(words);
        self.queue.set_trouble(self.trouble.clone());
    }
}

/// When the history begins.
pub(super) fn begins_at(file: &Connection) -> rusqlite::Result<Option<u64>> {
    let first = "SELECT min(at) FROM (SELECT min(at) AS at FROM request UNION ALL SELECT min(at) FROM lease UNION ALL \
                 SELECT min(at) FROM event)";
    let first: Option<i64> = file.prepare_cached(first)?.query_row([], |row| row.get(0))?;
    Ok(first.map(unsigned))
}

/// The highest id that a request ever had.
fn last_request(file: &Connection) -> rusqlite::Result<u64> {
    let last = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'request'";
    let last: Option<i64> = file.query_row(last, [], |row| row.get(0))?;
    Ok(last.map_or(0, unsigned))
}

/// The time of the newest row.
fn newest(file: &Connection) -> rusqlite::Result<Option<u64>> {
    let newest = "SELECT max(at) FROM (SELECT max(at) AS at FROM request UNION ALL SELECT max(at) FROM lease UNION ALL \
                  SELECT max(at) FROM event)";
    let newest: Option<i64> = file.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    Ok(newest.map(unsigned))
}

/// A connection that reads only.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    use rusqlite::OpenFlags;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.busy_timeout(Duration::from_secs(2))?;
    reader.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096; PRAGMA trusted_schema = OFF;")?;
    Ok(reader)
}
