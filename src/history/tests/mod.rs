//! Tests of the history with real files, and of its sums against a model in memory.

mod budgets;
mod files;
mod load;
mod queue;
mod sums;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::protocol::{AccountLabel, AttemptRow, EventInfo, HistoryInfo, HistoryParams, PastLease, TokenSums};

const NOW: u64 = 1_790_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A clock that tests set, and what was reported.
struct TestObserver {
    now: Arc<AtomicU64>,
    running: Arc<AtomicU64>,
    /// How much longer the thread seems to have worked each time it is asked, in ms.
    work: u64,
    worked: AtomicU64,
    ended: Sender<RequestRow>,
}

impl HistoryObserver for TestObserver {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn running(&self) -> Duration {
        Duration::from_millis(self.running.load(Ordering::Relaxed))
    }

    fn complete(&mut self, _: &mut Vec<HistoryRecord>) {}

    fn next_look(&self) -> Option<Duration> {
        None
    }

    fn is_followed(&self) -> bool {
        true
    }

    fn work_time(&self) -> Duration {
        Duration::from_millis(self.worked.fetch_add(self.work, Ordering::Relaxed))
    }

    fn process_time(&self) -> Duration {
        Duration::ZERO
    }

    fn recorded(&mut self, requests: Vec<RequestRow>) {
        requests.into_iter().for_each(|request| _ = self.ended.send(request));
    }
}

struct TestHistory {
    history: History,
    now: Arc<AtomicU64>,
    /// How long it runs, in ms.
    running: Arc<AtomicU64>,
    ended: Mutex<Receiver<RequestRow>>,
}

impl TestHistory {
    fn start(path: &Path, settings: HistorySettings) -> Self {
        Self::start_slow(path, settings, 0)
    }

    /// The thread seems to work so long for each group of records, in ms; [`Self::pass`] lets it go on.
    fn start_slow(path: &Path, settings: HistorySettings, work: u64) -> Self {
        let history = History::default();
        let now = Arc::new(AtomicU64::new(NOW));
        let running = Arc::<AtomicU64>::default();
        let (ended, receiver) = channel();
        let observer =
            TestObserver { now: now.clone(), running: running.clone(), work, worked: AtomicU64::new(0), ended };
        history.start(path.to_owned(), settings, observer).unwrap();
        Self { history, now, running, ended: Mutex::new(receiver) }
    }

    fn ask(&self, params: &HistoryParams) -> HistoryInfo {
        let query = HistoryQuery::new(params, params.account.clone(), self.now.load(Ordering::Relaxed) + 1).unwrap();
        let (done, answer) = channel();
        let _guard = self.history.query(query, move |result| _ = done.send(result)).unwrap();
        answer.recv().unwrap().unwrap()
    }

    fn all(&self, of: &str) -> HistoryInfo {
        self.ask(&HistoryParams { of: Some(of.to_owned()), since: Some(0), ..HistoryParams::default() })
    }

    /// Time goes on.
    fn pass(&self, time: Duration) {
        let millis = crate::pool::millis(time);
        self.now.fetch_add(millis, Ordering::Relaxed);
        self.running.fetch_add(millis, Ordering::Relaxed);
    }

    /// Waits until what was handed over is written, and the file is within its budget.
    fn flush(&self) {
        let (done, flushed) = channel();
        self.history.flush(move || _ = done.send(()));
        flushed.recv().unwrap();
    }
}

fn settings(max_size: u64) -> HistorySettings {
    HistorySettings { max_age: 30 * DAY, max_size, prices: PriceTable::default() }
}

fn account(id: &str) -> AccountLabel {
    AccountLabel { id: id.to_owned(), label: Some(format!("label of {id}")), email: Some(format!("{id}@example.org")) }
}

fn request(at: u64) -> RequestRow {
    RequestRow {
        at,
        account: Some(account("ac_1").into()),
        provider: "anthropic".into(),
        path: "/v1/messages".into(),
        model: Some("claude-sonnet-4-5-20250929".into()),
        status: Some(200),
        outcome: "ok".into(),
        attempts: vec![AttemptRow { account: account("ac_1").into(), status: Some(200), ..AttemptRow::default() }],
        tokens: Some(TokenSums { input: 2_000_000, output: 1_000_000, cached: 1_000_000, cache_written: 0 }),
        cost_usd: Some(0.5),
        ..RequestRow::default()
    }
}

fn lease(ended_at: u64) -> HistoryRecord {
    let lease = PastLease {
        lease: "ls_1".to_owned(),
        account: account("ac_1"),
        provider: "anthropic".to_owned(),
        ended_at,
        reason: "process_ended".to_owned(),
        ..PastLease::default()
    };
    HistoryRecord::Lease(Box::new(lease), None)
}

fn event(at: u64) -> HistoryRecord {
    let event = EventInfo {
        kind: "account.limited".to_owned(),
        at,
        account: Some(account("ac_1")),
        until: Some(at + 60_000),
        ..EventInfo::default()
    };
    HistoryRecord::Event(Box::new(event), None)
}
