//! The world: one daemon after the other on one disk, their clients, and the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use faulty_disk::{Fault, FaultyDisk};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Chance;
use super::actions::{Client, OpenCalls};
use super::contents::{Answered, Contents};
use super::endpoint::{Endpoint, credential};
use super::figures::Figures;
use crate::config::{Config, LoadedConfig};
use crate::daemon::log::LogLevelHandle;
use crate::daemon::os::clock::simulated::SimulatedClock;
use crate::daemon::refresh::ManualWorker;
use crate::daemon::run::restore;
use crate::daemon::state::{ActiveConfig, Daemon, RunInfo, save};
use crate::pool::{
    AccountId, AccountOwner, AccountRecord, Command, CredentialKind, LoginState, Mono, Now, Process, Tier, Wall,
};
use crate::store::{KeyBackend, Store, StorePaths, Write};

/// How many accounts there are at most.
const MOST_ACCOUNTS: u64 = 6;
const OVERFLOWS: [&str; 3] = ["wait", "share", "fail"];

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) now: Now,
    pub(super) endpoint: Endpoint,
    pub(super) clients: Vec<Client>,
    pub(super) calls: OpenCalls,
    pub(super) figures: Figures,
    /// The state when everything was last saved, and after each change since.
    stages: Vec<Contents>,
    /// What was answered since, while the disk worked.
    answered: Answered,
    life: Option<Life>,
    clock: Arc<SimulatedClock>,
    worker: ManualWorker,
    disk: FaultyDisk,
    paths: StorePaths,
    boot: u64,
    overflow: usize,
    next_account: u64,
    is_disk_failing: bool,
    /// Limits are kept by the time of day: after a jump they differ from those in memory.
    has_jumped: bool,
    home: tempfile::TempDir,
}

/// One run of the daemon.
struct Life {
    daemon: Arc<Daemon>,
    runtime: Runtime,
    _ended: UnboundedReceiver<Process>,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LifeEnd {
    Kill,
    PowerFailure,
    Clean,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (data, config) = (home.path().join("data"), home.path().join("config"));
        std::fs::create_dir(&data).unwrap();
        std::fs::create_dir(&config).unwrap();
        let key_backend = KeyBackend::File;
        let paths = StorePaths { database: data.join("lessor.db"), key: config.join("key"), key_backend };
        let now = Now { mono: Mono(100_000), wall: Wall(1_790_000_000_000) };
        let mut world = Self {
            chance: Chance(seed),
            now,
            endpoint: Endpoint::default(),
            clients: Vec::new(),
            calls: OpenCalls::default(),
            figures: Figures::default(),
            stages: Vec::new(),
            answered: Answered::default(),
            life: None,
            clock: Arc::default(),
            worker: ManualWorker::default(),
            disk: FaultyDisk::watch(&data).unwrap(),
            paths,
            boot: 0,
            overflow: 0,
            next_account: 1,
            is_disk_failing: false,
            has_jumped: false,
            home,
        };
        world.clock.set(now);
        world.clock.clone().join();
        world.endpoint.play();
        world.begin_life();
        for _ in 0..3 {
            world.add_account();
        }
        world
    }

    pub(super) fn daemon(&self) -> &Arc<Daemon> {
        &self.life.as_ref().unwrap().daemon
    }

    fn runtime(&self) -> &Runtime {
        &self.life.as_ref().unwrap().runtime
    }

    /// Runs `work` where tasks can be started.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _context = self.runtime().enter();
        work()
    }

    pub(super) fn step(&mut self) {
        self.figures.steps += 1;
        if self.chance.one_in(60) && self.is_healthy() {
            self.add_account();
        }
        self.change_disk();
        let end = self.chance.one_in(80).then(|| match self.chance.below(4) {
            0 => LifeEnd::PowerFailure,
            1 if !self.is_disk_failing => LifeEnd::Clean,
            _ => LifeEnd::Kill,
        });
        if end.is_some_and(|end| end != LifeEnd::Clean) && !self.is_disk_failing && self.chance.one_in(2) {
            // the kill comes in the middle of the writes of this step
            let changes = self.chance.below(8) as u64;
            self.disk.end_after(changes);
        }
        for _ in 0..self.chance.below(3) + 1 {
            let release = self.hold_writer();
            self.act();
            self.note_answers();
            self.stage();
            drop(release);
            self.settle();
        }
        if let Some(end) = end {
            self.end_life(end);
            self.begin_life();
        }
        self.check();
    }

    /// Ends the run with a last kill.
    pub(super) fn end(mut self) -> Figures {
        self.end_life(LifeEnd::Kill);
        self.begin_life();
        self.check();
        drop(self.life.take());
        drop(self.home);
        self.figures
    }

    fn is_healthy(&self) -> bool {
        !self.is_disk_failing && self.stages.len() == 1
    }

    /// The disk begins to fail, or works again.
    fn change_disk(&mut self) {
        if self.is_disk_failing && self.chance.one_in(4) {
            self.disk.fail_after(None);
            self.is_disk_failing = false;
        } else if !self.is_disk_failing && self.chance.one_in(80) {
            let fault = self.chance.pick(&[Fault::Full, Fault::ShortWrite, Fault::FailedSync]).unwrap();
            let changes = self.chance.below(12) as u64;
            self.disk.fail_after(Some((changes, fault)));
            self.is_disk_failing = true;
        }
    }

    /// Holds the disk writer until the sender is dropped, so that what is written together depends on the seed only.
    fn hold_writer(&self) -> std::sync::mpsc::Sender<()> {
        let (release, held) = channel();
        self.daemon().store.on_writer(move || assert!(held.recv().is_err()));
        release
    }

    /// Notes the state, so that a later crash may restore it.
    fn stage(&mut self) {
        let contents = Contents::of(&self.daemon().state(), self.now);
        if self.stages.last() != Some(&contents) {
            self.stages.push(contents);
        }
    }

    /// Which stage an answer belongs to that came just now.
    fn current_stage(&mut self) -> usize {
        self.stage();
        self.stages.len() - 1
    }

    /// Lets everything that was begun come to its end: writes, tasks, and what follows from them.
    fn settle(&mut self) {
        for _ in 0..3 {
            let is_saved = self.written();
            let is_over = self.disk.has_ended();
            let release = self.hold_writer();
            self.runtime().block_on(async {
                for _ in 0..6 {
                    tokio::task::yield_now().await;
                }
            });
            if !is_over {
                self.note_answers();
            }
            self.stage();
            drop(release);
            if is_saved && !is_over && !self.is_disk_failing && self.written() && !self.disk.has_ended() {
                let last = self.stages.pop().unwrap();
                self.stages = vec![last];
                self.answered = Answered::default();
            }
        }
        let tokens: Vec<String> =
            self.stages.last().unwrap().refresh_tokens().map(|(_, token)| token.to_owned()).collect();
        if !self.disk.has_ended() {
            tokens.iter().for_each(|token| self.endpoint.in_use(token));
        }
    }

    /// Waits until the disk writer has tried everything; answers whether all is saved.
    fn written(&self) -> bool {
        let (done, outcome) = channel();
        self.daemon().store.when_saved(Box::new(move |result| drop(done.send(result))));
        outcome.recv_timeout(Duration::from_secs(60)).unwrap().is_ok()
    }

    /// Reads the answers, and notes what they promise.
    fn note_answers(&mut self) {
        let promised = self.read_answers();
        // after its end the daemon answers nothing
        if self.is_disk_failing || self.disk.has_ended() || promised.is_empty() {
            return;
        }
        let stage = self.current_stage();
        promised.into_iter().for_each(|what| self.answered.note(what, stage));
    }

    fn check(&mut self) {
        let now = self.now;
        let life = self.life.as_ref().unwrap();
        let mut state = life.daemon.state();
        state.pool.check(now).unwrap();
        for client in &self.clients {
            assert!(!client.is_closed || state.pool.held_by_connection(client.session.connection).is_empty(), "(I3)");
        }
        drop(state);
        self.endpoint.check();
    }

    fn end_life(&mut self, end: LifeEnd) {
        let Life { daemon, runtime, .. } = self.life.take().unwrap();
        if self.disk.has_ended() {
            self.figures.torn += 1;
        }
        self.figures.failed_writes += self.disk.failed();
        match end {
            LifeEnd::Clean => {
                daemon.store.close(true);
                self.figures.clean_ends += 1;
            }
            LifeEnd::Kill | LifeEnd::PowerFailure => self.disk.end_after(0),
        }
        // the tasks end, and then the disk writer, which has no effect any more
        drop(runtime);
        drop(daemon);
        self.endpoint.forget_requests();
        self.is_disk_failing = false;
        match end {
            LifeEnd::Clean => {}
            LifeEnd::Kill => self.figures.kills += 1,
            LifeEnd::PowerFailure => {
                self.figures.power_failures += 1;
                let chance = &mut self.chance;
                self.disk.lose_power(|below| chance.below(below)).unwrap();
                self.boot += 1;
                self.now.mono = Mono(10_000 + self.chance.below(10_000) as u64);
                self.clock.set(self.now);
            }
        }
        self.disk.restart();
        self.calls.forget();
    }

    /// The next daemon starts; what it restores is compared with what was there.
    fn begin_life(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let boot = format!("boot {}", self.boot);
        let opened = Store::open(&self.paths, &boot).unwrap_or_else(|error| panic!("the next start fails: {error}"));
        let is_same_boot = opened.loaded.same_boot;
        let info = RunInfo {
            started: self.now,
            socket: String::new(),
            state_directory: self.paths.key.with_file_name("state"),
            warnings: Vec::new(),
            log_level: LogLevelHandle::new(),
            may_idle_exit: false,
            keyring: None,
            most_connections: 1000,
            gateway_port: None,
            gateway_tls_port: None,
            may_resume: false,
        };
        let config = ActiveConfig::new(self.config(), "config.toml".into());
        let clock = self.clock.clone();
        opened.store.on_writer(move || clock.join());
        let (daemon, ended) = runtime.block_on(async { restore(config, opened, info) });
        self.life = Some(Life { daemon, runtime, _ended: ended });
        self.check_restored(is_same_boot);
        self.stages.clear();
        self.stage();
        self.answered = Answered::default();
        self.has_jumped = false;
        // no two runs of a daemon begin within the same millisecond
        self.pass(Duration::from_millis(5));
        self.connect_clients();
    }

    fn check_restored(&mut self, is_same_boot: bool) {
        let state = self.daemon().state();
        let mut restored = Contents::of(&state, self.now);
        let next = state.pool.next_fence().0;
        let marked: BTreeSet<AccountId> = state.logins.unanswered.keys().copied().collect();
        drop(state);
        let highest = self.calls.highest_fence();
        // a reservation that could not be saved is made good by the time of day, unless that was set back meanwhile
        let is_exempt = self.has_jumped && self.stages.len() > 1;
        assert!(highest < next || is_exempt, "fence {highest} was granted, {next} is the next one (I4)");
        if self.stages.is_empty() {
            return;
        }
        let mut stages = std::mem::take(&mut self.stages);
        if self.has_jumped {
            stages.iter_mut().chain([&mut restored]).for_each(Contents::forget_limits);
        }
        if is_same_boot {
            restored.check_after_kill(&stages, &self.answered);
        } else {
            restored.check_after_power_failure(&stages);
        }
        let lost =
            restored.refresh_tokens().filter(|(id, token)| self.endpoint.check_restored(token, marked.contains(id)));
        self.figures.lost_answers += lost.count() as u64;
    }

    fn config(&self) -> LoadedConfig {
        let text = format!(
            "[leases]\nper_account = {}\noverflow = \"{}\"\nmax_per_account = 3\nttl = \"2m\"\n[refresh]\nwait = \"2s\"\n\
             [providers.p]\nbase_url = \"http://127.0.0.1:9\"\n[providers.p.oauth]\n\
             token_url = \"http://127.0.0.1:9/token\"\nclient_id = \"client\"\n",
            self.overflow % 2 + 1,
            OVERFLOWS[self.overflow % 3],
        );
        Config::from_text(Some(&text), "config.toml".as_ref()).unwrap()
    }

    /// Another configuration is applied.
    pub(super) fn configure(&mut self) {
        self.overflow = self.chance.below(6);
        let loaded = self.config();
        let state = &mut *self.daemon().state();
        state.config.replace(loaded);
        let accounts: Vec<AccountId> = state.pool.accounts().iter().map(|account| account.record.id).collect();
        state.logins.configure(&state.config.config, accounts.into_iter());
        let settings = Box::new(state.config.config.pool.clone());
        state.apply_internal(self.now, Command::Configure(settings));
    }

    /// Time passes, on both clocks or, if the time of day is set, on one.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono.after(time), wall: self.now.wall.after(time) };
        self.clock.set(self.now);
        self.runtime().block_on(tokio::time::advance(time));
        let _next = self.daemon().tick(Duration::from_secs(30));
    }

    pub(super) fn set_time_of_day(&mut self) {
        let hours = Duration::from_secs(3600 * (1 + self.chance.below(20) as u64));
        let wall = self.now.wall;
        self.now.wall = if self.chance.one_in(2) { wall.after(hours) } else { Wall(wall.0 - hours.as_millis() as u64) };
        self.has_jumped = true;
        self.clock.set(self.now);
        let _next = self.daemon().tick(Duration::from_secs(30));
    }

    /// Starts the refreshes that are due.
    pub(super) fn refresh(&mut self) {
        let begun = self.within(|| self.worker.work(self.daemon()));
        self.figures.refreshes += begun as u64;
    }

    /// Adds a login or a key, as `account.add` does: on disk first.
    fn add_account(&mut self) {
        if self.daemon().state().pool.accounts().len() as u64 >= MOST_ACCOUNTS {
            return;
        }
        let number = self.next_account;
        self.next_account += 1;
        let id = AccountId::from_bits(number);
        self.endpoint.add_login(number);
        let credential = credential(number, 0, self.now.wall);
        let record = record(id);
        let write = Write::SaveAccount { record: Box::new(record.clone()), credential: Some(credential.duplicate()) };
        self.runtime().block_on(save(&self.daemon().store, write)).unwrap();
        {
            let state = &mut *self.daemon().state();
            state.keep_credential(id, credential);
            state.apply(self.now, Command::AddAccount(Box::new(record))).no_answer().unwrap();
        }
        assert!(self.written());
        self.stages.clear();
        self.stage();
    }
}

fn record(id: AccountId) -> AccountRecord {
    AccountRecord {
        id,
        provider: "p".into(),
        label: None,
        email: None,
        tier: Tier::Unknown,
        kind: CredentialKind::Oauth,
        login_state: LoginState::Ready,
        enabled: true,
        disabled_reason: None,
        max_leases: None,
        priority: 0,
        allowed_agents: None,
        reserve: 0.0,
        fallback_only: false,
        project_id: None,
        owner: AccountOwner::default(),
        created_at: Wall(0),
        last_used_at: None,
    }
}
