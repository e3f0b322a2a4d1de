//! The history, as the daemon keeps it: started with the daemon's settings; the programs and directories of holders are
//! found on the history's thread, while the holders are alive.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::{io, time::Duration};

use rustc_hash::FxHashMap;

use super::handle::GatewayHandle;
use super::os::{clock, peer_process, process};
use super::state::Daemon;
use super::state::events::lease_event;
use super::state::guests::guest_holder;
use crate::config::Config;
use crate::history::{HistoryObserver, HistoryRecord, HistorySettings, LeaseNote, Price, PriceTable};
use crate::pool::{Ending, Mono, Process};
use crate::protocol::{AccountLabel, HolderInfo, LeaseKey, PastLease, RequestRow};

/// When a holder is looked up again: `lessor run` becomes the agent's program, and agents change their name.
const LOOKS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// How often a holder is looked up afterwards. One that has ended then is forgotten: the end of its lease was not recorded.
const LATER: Duration = Duration::from_secs(600);
/// The most holders that are known at a time.
const MOST_HOLDERS: usize = 8192;

impl GatewayHandle {
    /// How many records of requests, leases and events were dropped since the daemon was started.
    #[must_use]
    pub fn history_dropped(&self) -> u64 {
        self.history().dropped()
    }

    /// Records a request that has ended. Never waits: what finds no room in the queue is dropped and counted.
    pub fn record(&self, row: Box<RequestRow>) {
        self.history().request(row);
    }

    /// What a request has cost by the table of prices, if that knows its model.
    #[must_use]
    pub fn cost(&self, row: &RequestRow) -> Option<f64> {
        self.history().cost(row)
    }
}

/// Starts to keep the history at this path.
pub(crate) fn start(daemon: &Arc<Daemon>, path: PathBuf) -> io::Result<()> {
    let (settings, held) = {
        let state = &*daemon.state();
        let here = |process: &Process| process.guest().is_none();
        let held = state.pool.leases().filter_map(|lease| lease.holder.process.filter(here));
        let held: Vec<Process> = held.collect();
        (settings(&state.config.config), held)
    };
    let (key, holders) = (daemon.lease_key.clone(), KnownHolders::default());
    let observer = DaemonObserver { daemon: Arc::downgrade(daemon), key, holders };
    daemon.history.start(path, settings, observer)?;
    held.into_iter().for_each(|process| daemon.history.push(HistoryRecord::Holder(process)));
    Ok(())
}

/// What the configuration says of the history.
pub(super) fn settings(config: &Config) -> HistorySettings {
    let prices = config.prices.iter().filter_map(|(model, price)| {
        let (input, output) = price.input.zip(price.output)?;
        Some((model.clone(), Price { input, output, cached: price.cached, cache_written: price.cache_written }))
    });
    HistorySettings {
        max_age: config.history.max_age,
        max_size: config.history.max_size,
        prices: PriceTable::new(prices),
    }
}

/// The daemon, as the history's thread sees it.
struct DaemonObserver {
    daemon: Weak<Daemon>,
    /// For the ids of leases.
    key: LeaseKey,
    holders: KnownHolders,
}

impl HistoryObserver for DaemonObserver {
    fn now(&self) -> u64 {
        clock::now().wall.0
    }

    fn running(&self) -> Duration {
        Duration::from_millis(clock::now().mono.0)
    }

    fn complete(&mut self, records: &mut Vec<HistoryRecord>) {
        let now = clock::now().mono;
        *records = records.drain(..).flat_map(|record| in_words(record, &self.key)).flatten().collect();
        for record in &mut *records {
            match record {
                HistoryRecord::Holder(process) => self.holders.begin(*process, now),
                HistoryRecord::Event(event, Some(process)) => {
                    event.holder = Some(HolderInfo { pid: process.pid, program: self.holders.program(*process) });
                }
                HistoryRecord::Lease(..)
                | HistoryRecord::Request(_)
                | HistoryRecord::Summed(_)
                | HistoryRecord::Granted(_)
                | HistoryRecord::Ended(..)
                | HistoryRecord::Event(_, None) => {}
            }
        }
        // afterwards: the events of a lease name its holder, too
        for record in records {
            if let HistoryRecord::Lease(lease, Some(process)) = record {
                let holder = self.holders.end(*process, now);
                lease.holder = Some(HolderInfo { pid: process.pid, program: holder.program });
                lease.directory = holder.directory;
            }
        }
        self.holders.look_again(now);
    }

    fn next_look(&self) -> Option<Duration> {
        self.holders.next_look().map(clock::until)
    }

    fn is_followed(&self) -> bool {
        self.daemon.upgrade().is_some_and(|daemon| daemon.state().events.has_followers())
    }

    fn work_time(&self) -> Duration {
        clock::work_time()
    }

    fn process_time(&self) -> Duration {
        clock::process_time()
    }

    fn recorded(&mut self, requests: Vec<RequestRow>) {
        let Some(daemon) = self.daemon.upgrade() else { return };
        daemon.state().events.requests_ended(requests);
    }
}

/// What is made of a record: of a lease that was granted its holder and an event, of one that has ended a row and an
/// event.
fn in_words(record: HistoryRecord, key: &LeaseKey) -> [Option<HistoryRecord>; 2] {
    // the holder of a guest is named already, and no process of this system
    let process = |note: &LeaseNote| note.lease.holder.process.filter(|process| process.guest().is_none());
    let event = |note: &LeaseNote, why| HistoryRecord::Event(Box::new(lease_event(note, why, key)), process(note));
    match record {
        HistoryRecord::Granted(note) => [process(&note).map(HistoryRecord::Holder), Some(event(&note, None))],
        HistoryRecord::Ended(note, why) => {
            let past = HistoryRecord::Lease(Box::new(past_lease(&note, why, key)), process(&note));
            [Some(past), Some(event(&note, Some(why)))]
        }
        other => [Some(other), None],
    }
}

/// A lease that has ended. Its holder is found later.
fn past_lease(LeaseNote { at, lease, account }: &LeaseNote, why: Ending, key: &LeaseKey) -> PastLease {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    PastLease {
        lease: key.id(lease),
        fence: lease.fence.0,
        account: AccountLabel::clone(account),
        provider: lease.target.provider.to_string(),
        model: lease.target.model.as_deref().map(str::to_owned),
        pool: lease.target.pool.as_deref().map(str::to_owned),
        session: text(&lease.session),
        label: text(&lease.label),
        agent: text(&lease.agent),
        holder: guest_holder(&lease.holder),
        directory: None,
        granted_at: lease.granted_at.0,
        ended_at: at.0,
        reason: why.name().to_owned(),
    }
}

/// Processes that hold leases.
#[derive(Debug, Default)]
struct KnownHolders(FxHashMap<Process, KnownHolder>);

#[derive(Debug)]
struct KnownHolder {
    leases: u32,
    found: FoundHolder,
    /// When it was last looked up.
    found_at: Mono,
    looks: usize,
    next_look: Mono,
}

/// What was found of a holder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct FoundHolder {
    program: Option<String>,
    directory: Option<String>,
}

impl KnownHolders {
    /// A process holds one more lease.
    fn begin(&mut self, process: Process, now: Mono) {
        if self.0.len() >= MOST_HOLDERS && !self.0.contains_key(&process) {
            return;
        }
        let known = self.0.entry(process).or_insert_with(|| KnownHolder {
            leases: 0,
            found: look_up(process).unwrap_or_default(),
            found_at: now,
            looks: 0,
            next_look: now.after(LOOKS[0]),
        });
        known.leases += 1;
    }

    /// A lease of a process has ended: what is known of the process. Those of one batch of records look it up once.
    fn end(&mut self, process: Process, now: Mono) -> FoundHolder {
        let Some(known) = self.0.get_mut(&process) else { return look_up(process).unwrap_or_default() };
        // its program may be another one by now
        if known.looks < LOOKS.len()
            && known.found_at != now
            && let Some(found) = look_up(process)
        {
            known.found = found;
            known.found_at = now;
        }
        known.leases = known.leases.saturating_sub(1);
        if known.leases > 0 {
            return known.found.clone();
        }
        self.0.remove(&process).map(|known| known.found).unwrap_or_default()
    }

    /// The program of a process, by now or when it was last seen.
    fn program(&self, process: Process) -> Option<String> {
        match self.0.get(&process) {
            Some(known) => known.found.program.clone(),
            None => look_up(process).unwrap_or_default().program,
        }
    }

    fn look_again(&mut self, now: Mono) {
        self.0.retain(|process, known| {
            if known.next_look > now {
                return true;
            }
            let found = look_up(*process);
            let is_forgotten = found.is_none() && known.looks >= LOOKS.len();
            known.found = found.unwrap_or_else(|| std::mem::take(&mut known.found));
            known.looks += 1;
            known.next_look = now.after(LOOKS.get(known.looks).copied().unwrap_or(LATER));
            !is_forgotten
        });
    }

    fn next_look(&self) -> Option<Mono> {
        self.0.values().map(|known| known.next_look).min()
    }
}

/// The program and the directory of a process; `None` when it has ended.
fn look_up(process: Process) -> Option<FoundHolder> {
    let directory = peer_process::directory_of(process.pid);
    // looked up last: if the pid was reused, this is another process
    let found = process::running(process)?;
    Some(FoundHolder { program: found.program.as_deref().map(str::to_owned), directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_known_until_its_last_lease_has_ended() {
        let process = process::find(std::process::id()).unwrap().unwrap().process;
        let mut holders = KnownHolders::default();
        holders.begin(process, Mono(0));
        holders.begin(process, Mono(0));
        let here = std::env::current_dir().unwrap().to_string_lossy().into_owned();
        assert_eq!(holders.end(process, Mono(1)).directory, Some(here));
        assert_eq!(holders.0.len(), 1);
        assert!(holders.end(process, Mono(2)).program.is_some());
        assert!(holders.0.is_empty());
    }

    #[test]
    fn a_holder_is_looked_up_once_for_the_records_of_one_moment() {
        let process = process::find(std::process::id()).unwrap().unwrap().process;
        let mut holders = KnownHolders::default();
        for _ in 0..3 {
            holders.begin(process, Mono(7));
        }
        let seen_before = FoundHolder { program: Some("seen before".into()), directory: None };
        holders.0.get_mut(&process).unwrap().found = seen_before.clone();
        assert_eq!(holders.end(process, Mono(7)), seen_before);
        assert_ne!(holders.end(process, Mono(8)), seen_before, "its program may be another one by now");
    }

    #[test]
    fn a_holder_is_looked_up_again_a_few_times() {
        let process = process::find(std::process::id()).unwrap().unwrap().process;
        let mut holders = KnownHolders::default();
        holders.begin(process, Mono(0));
        let mut looks = Vec::new();
        while let Some(next) = holders.next_look().filter(|_| looks.len() < 5) {
            looks.push(next.0);
            holders.look_again(next);
        }
        assert_eq!(looks, [1_000, 6_000, 36_000, 636_000, 1_236_000]);
    }

    #[test]
    fn many_holders_come_and_go_and_none_is_left() {
        let mut holders = KnownHolders::default();
        let holder = |start: u64| Process { pid: std::process::id(), start };
        // the ends of some leases are not recorded
        for number in 1..=2000 {
            holders.begin(holder(number), Mono(number));
            if number % 4 != 0 {
                holders.end(holder(number), Mono(number));
            }
        }
        assert_eq!(holders.0.len(), 500);
        let mut looks = 0;
        while let Some(next) = holders.next_look() {
            holders.look_again(next);
            looks += 1;
        }
        assert!(holders.0.is_empty() && looks <= 4 * 500, "{looks} looks");
    }

    #[test]
    fn what_was_found_stays_known_after_the_process_has_ended() {
        let gone = Process { pid: std::process::id(), start: 1 };
        let mut holders = KnownHolders::default();
        let found = FoundHolder { program: Some("claude".into()), directory: Some("/home/a".into()) };
        holders.0.insert(
            gone,
            KnownHolder { leases: 1, found: found.clone(), found_at: Mono(0), looks: 0, next_look: Mono(0) },
        );
        holders.look_again(Mono(5));
        assert_eq!(holders.end(gone, Mono(6)), found);
    }
}
