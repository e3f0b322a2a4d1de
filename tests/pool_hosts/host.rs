//! One host: a real pool, its clock, its store, and a shell that speaks with the database.

use std::collections::BTreeMap;

use lessor::pool::{
    AccountId, AccountRecord, Fence, Lease, LimitRecord, Mono, Now, Pool, PoolSettings, PoolStart, Snapshot, Wall,
};

use super::database::Request;
use super::learning::{BEGIN, Learning};
use super::limits::LimitKey;
use super::link::Link;

/// How long a term is valid after a heartbeat was sent, and by how much that is shortened against clocks that differ.
pub const TTL: u64 = 10_000;
pub const MARGIN: u64 = 1_000;
/// Clocks run faster or slower by at most so many parts in a million.
const DRIFT: u64 = 40_000;

pub struct Host {
    pub n: usize,
    /// None while the daemon is down.
    pub pool: Option<Pool>,
    pub settings: PoolSettings,
    base: u64,
    drift: i64,
    pub skew: i64,
    /// Until when, in true time, the machine is frozen, or the daemon is down.
    pub frozen_until: u64,
    pub down_until: u64,
    pub link: Link,
    /// The term and its life, once the database has answered.
    pub term: Option<(usize, u64)>,
    /// That of the connection, for the terms that it begins or resumes.
    pub life: u64,
    /// Those with which connections that broke have tried to resume the term of the store.
    pub offered: Vec<u64>,
    /// The daemon has started, and may go on with the term of its store.
    pub may_resume: bool,
    pub next_beat: u64,
    pub next_poll: u64,
    /// The beats of other terms, and since when each has not changed by this host's clock.
    pub seen: BTreeMap<usize, (u64, u64)>,
    pub store: HostStore,
    pub learning: Learning,
    /// The first fence of the newest claim of each account.
    pub claimed_from: BTreeMap<AccountId, Fence>,
    pub last_fence: Fence,
}

/// What survives the daemon.
#[derive(Default)]
pub struct HostStore {
    pub accounts: Vec<AccountRecord>,
    pub shared: Vec<AccountId>,
    pub leases: BTreeMap<Fence, Lease>,
    pub limits: BTreeMap<LimitKey, LimitRecord>,
    pub mark: Fence,
    pub term: Option<(usize, u64)>,
}

impl Host {
    pub fn new(n: usize, settings: PoolSettings, mut number: impl FnMut(u64) -> u64) -> Self {
        Self {
            n,
            pool: Some(Pool::new(settings.clone())),
            settings,
            base: 1_000 + number(1_000_000),
            drift: number(2 * DRIFT) as i64 - DRIFT as i64,
            skew: number(600_000) as i64 - 300_000,
            frozen_until: 0,
            down_until: 0,
            link: Link::default(),
            term: None,
            life: 0,
            offered: Vec::new(),
            may_resume: false,
            next_beat: 0,
            next_poll: 0,
            seen: BTreeMap::new(),
            store: HostStore::default(),
            learning: Learning::default(),
            claimed_from: BTreeMap::new(),
            last_fence: Fence(0),
        }
    }

    pub fn mono(&self, time: u64) -> u64 {
        self.base + time.saturating_add_signed(time as i64 * self.drift / 1_000_000)
    }

    pub fn now(&self, time: u64) -> Now {
        let wall = Wall((BEGIN + time).saturating_add_signed(self.clock_offset(time)));
        Now { mono: Mono(self.mono(time)), wall }
    }

    /// What must be added to the database's time of day to get this host's: both of its clocks drift alike.
    pub fn clock_offset(&self, time: u64) -> i64 {
        self.mono(time) as i64 - (self.base + time) as i64 + self.skew
    }

    /// The first true time at which this host's clock shows `mono`.
    pub fn time_of(&self, mono: u64) -> u64 {
        let mut time = (mono.saturating_sub(self.base) as i64 * 1_000_000 / (1_000_000 + self.drift)) as u64;
        time = time.saturating_sub(3);
        while self.mono(time) < mono {
            time += 1;
        }
        time
    }

    /// The news are read at once.
    pub fn poll_now(&mut self, time: u64) {
        self.next_poll = self.next_poll.min(self.mono(time));
    }

    /// Whether the leases on shared accounts may be used: by its own clock, which is looked at before each request.
    pub fn is_valid(&self, time: u64) -> bool {
        let until = self.pool.as_ref().and_then(Pool::seats_until);
        until.is_some_and(|until| self.mono(time) < until.0)
    }

    /// Begins again from the store.
    pub fn restart(&mut self, time: u64, grace: bool) {
        let snapshot = Snapshot {
            accounts: self.store.accounts.clone(),
            leases: self.store.leases.values().cloned().collect(),
            limits: self.store.limits.values().cloned().collect(),
            shared: self.store.shared.clone(),
            ..Snapshot::default()
        };
        let start = PoolStart { fence: Fence(self.store.mark.0 + 1), grace };
        let mut effects = Vec::new();
        let pool = Pool::restore(self.now(time), self.settings.clone(), snapshot, start, &mut effects);
        for effect in effects {
            match effect {
                lessor::pool::Effect::ReserveFences(mark) => self.store.mark = mark,
                lessor::pool::Effect::Ended(lease, _) => drop(self.store.leases.remove(&lease.fence)),
                lessor::pool::Effect::DropLimit(account, Some((scope, key))) => {
                    self.store.limits.remove(&(account, scope, key));
                }
                _ => {}
            }
        }
        self.pool = Some(pool);
        self.learning = Learning::restored(&self.store.limits);
        (self.term, self.may_resume) = (None, true);
        self.offered.clear();
        self.seen.clear();
    }

    /// What the shell sends first over a new connection.
    pub fn first_requests(&mut self, new_life: u64) -> Vec<Request> {
        self.life = new_life;
        let has_seats = self.may_resume || self.pool.as_ref().is_some_and(|pool| pool.seats_until().is_some());
        match self.known_lives().filter(|_| has_seats) {
            Some((term, lives)) => {
                self.offered.push(new_life);
                vec![Request::Resume { term, lives, new_life }]
            }
            None => self.beginning(),
        }
    }

    /// Begins a term in place of the one before, whose leases have ended.
    pub fn beginning(&mut self) -> Vec<Request> {
        let end = self.known_lives().map(|(term, lives)| Request::End { term, lives });
        end.into_iter().chain([Request::Begin { life: self.life }]).collect()
    }

    /// The term of the store, and the lives that it may have.
    fn known_lives(&self) -> Option<(usize, Vec<u64>)> {
        let (term, life) = self.store.term?;
        Some((term, [life].into_iter().chain(self.offered.iter().copied()).collect()))
    }
}
