//! The hosts, the database between them, and the time: what a run consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lessor::pool::{
    AccountId, AccountOwner, AccountRecord, Command, CredentialKind, Effect, Ending, Event, Fence, LoginState,
    Overflow, PoolSettings, Refusal, Reply, SeatDenial, SeatLimits, Strategy, Target, Tier, WaiterId, Wall,
};

use super::chance::Chance;
use super::database::{Database, Fault, Request};
use super::host::Host;
use super::tally::Tally;

pub struct World {
    pub chance: Chance,
    pub time: u64,
    pub hosts: Vec<Host>,
    pub database: Database,
    pub shared: Vec<AccountId>,
    /// Every fence that was granted on a shared account.
    pub fences: BTreeSet<Fence>,
    pub newest: BTreeMap<AccountId, Fence>,
    pub tally: Tally,
    /// The answers of queued requests that were watched.
    pub watched: BTreeMap<(usize, WaiterId), Option<Result<Fence, Refusal>>>,
    /// What is done comes from the database: it is not sent back.
    pub is_from_database: bool,
    /// Whether everything that happens is printed: with `LESSOR_SIM_TRACE`.
    pub is_traced: bool,
}

pub fn target() -> Target {
    Target {
        provider: Arc::from("p"),
        family: Arc::from("k"),
        key: Arc::from("k"),
        pool: None,
        model: None,
        names: None,
    }
}

pub fn record(bits: u64) -> AccountRecord {
    AccountRecord {
        id: AccountId::from_bits(bits),
        provider: "p".into(),
        label: None,
        email: None,
        tier: Tier::Unknown,
        kind: CredentialKind::ApiKey,
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

pub fn settings(chance: &mut Chance) -> PoolSettings {
    let mut settings = PoolSettings::default();
    settings.leases.per_account = 1 + chance.below(2) as u32;
    settings.leases.max_per_account = 2 + chance.below(4) as u32;
    settings.leases.overflow =
        [Overflow::Share, Overflow::Share, Overflow::Wait, Overflow::Fail][chance.below(4) as usize];
    settings.leases.linger = Duration::from_millis(500 + chance.below(20_000));
    settings.selection.strategy =
        [Strategy::Hybrid, Strategy::Sticky, Strategy::RoundRobin, Strategy::LeastUsed][chance.below(4) as usize];
    settings.selection.mode = match chance.below(4) {
        0 => lessor::pool::Mode::PerformanceFirst,
        1 => lessor::pool::Mode::CacheFirst,
        _ => lessor::pool::Mode::Balance,
    };
    settings
}

impl World {
    pub fn new(seed: u64, fault: Fault) -> Self {
        let mut chance = Chance(seed);
        let mut database = Database::new(fault);
        let shared: Vec<AccountId> = (0..1 + chance.below(4)).map(|n| AccountId::from_bits(100 + n)).collect();
        for account in &shared {
            let ceiling = 1 + chance.below(4) as u32;
            database.add(*account, SeatLimits { capacity: 1 + chance.below(u64::from(ceiling)) as u32, ceiling });
        }
        let hosts = 2 + chance.below(4) as usize;
        let mut world = Self {
            chance,
            time: 0,
            hosts: Vec::new(),
            database,
            shared,
            fences: BTreeSet::new(),
            newest: BTreeMap::new(),
            tally: Tally::default(),
            watched: BTreeMap::new(),
            is_from_database: false,
            is_traced: std::env::var_os("LESSOR_SIM_TRACE").is_some(),
        };
        for n in 0..hosts {
            let settings = settings(&mut world.chance);
            let host = Host::new(n, settings, |below| world.chance.below(below));
            world.hosts.push(host);
            for own in 0..world.chance.below(2) {
                world.add(n, record(1_000 * (n as u64 + 1) + own));
            }
            for at in 0..world.shared.len() {
                let account = world.shared[at];
                world.add(n, record(account.bits()));
                world.hosts[n].store.shared.push(account);
                let limits = world.database.limits[&account];
                world.run(n, Command::ShareAccount(account, limits)).unwrap();
            }
        }
        world
    }

    fn add(&mut self, n: usize, record: AccountRecord) {
        self.hosts[n].store.accounts.push(record.clone());
        self.run(n, Command::AddAccount(Box::new(record))).unwrap();
    }

    pub fn is_up(&self, n: usize) -> bool {
        self.hosts[n].pool.is_some() && self.hosts[n].frozen_until <= self.time
    }

    pub fn send(&mut self, n: usize, request: Request) {
        let host = &mut self.hosts[n];
        let mono = host.mono(self.time);
        host.link.send(self.time, mono, request, &mut self.chance);
    }

    /// Breaks the connection of a host.
    pub fn cut(&mut self, n: usize, away: u64) {
        let host = &mut self.hosts[n];
        let unanswered = host.link.sent.iter().map(|sent| sent.request.clone()).collect();
        host.learning.take_back(unanswered);
        host.link.cut(self.time, away, &mut self.chance);
        self.hosts[n].term = None;
        if self.hosts[n].pool.is_some() {
            self.run(n, Command::LoseConnection).unwrap();
        }
    }

    pub fn crash(&mut self, n: usize, down: u64) {
        self.hosts[n].link.cut(self.time, 0, &mut self.chance);
        let host = &mut self.hosts[n];
        (host.pool, host.term, host.down_until) = (None, None, self.time + down);
        self.watched.retain(|(of, _), _| *of != n);
    }

    /// Gives a host's pool a command, carries out its effects, and checks it.
    pub fn run(&mut self, n: usize, command: Command) -> Result<Reply, Refusal> {
        let mut commands = vec![command];
        let mut first = None;
        while let Some(command) = commands.pop() {
            if self.is_traced {
                eprintln!("{} host {n} {command:?}", self.time);
            }
            let now = self.hosts[n].now(self.time);
            let pool = self.hosts[n].pool.as_mut().unwrap();
            let mut effects = Vec::new();
            let reply = pool.handle(now, command.clone(), &mut effects);
            if let Err(wrong) = pool.check(now) {
                panic!("host {n} at {}: {wrong}, after {command:?} with {effects:?}", self.time);
            }
            for effect in effects {
                commands.extend(self.carry_out(n, effect));
            }
            first.get_or_insert(reply);
        }
        self.send_learnt(n);
        self.check();
        first.unwrap()
    }

    fn carry_out(&mut self, n: usize, effect: Effect) -> Option<Command> {
        let host = &mut self.hosts[n];
        let term = host.term.filter(|_| host.link.is_up);
        match effect {
            Effect::ClaimSeats { account, seats, most, whole } => {
                assert!(seats > 0, "a claim of nothing");
                self.tally.claims += 1;
                let Some((term, life)) = term else {
                    return Some(Command::SeatsDenied { account, elsewhere: 0, why: SeatDenial::Unavailable });
                };
                self.send(n, Request::Claim { term, life, account, seats, most, whole });
            }
            Effect::GiveBackSeats { account, seats } => {
                self.tally.given_back += u64::from(seats);
                let seats = seats + u32::from(self.database.fault == Fault::UsedSeatsGoBack);
                if let Some((term, life)) = term {
                    self.send(n, Request::GiveBack { term, life, account, seats });
                }
            }
            Effect::WithdrawWant { account } => {
                if let Some((term, _)) = term {
                    self.send(n, Request::WithdrawWant { term, account });
                }
            }
            Effect::ClaimFences { above } if term.is_some() => self.send(n, Request::Fences { above }),
            Effect::ClaimFences { .. } => {}
            Effect::ClaimProbe { account, limits } => return self.claim_probe(n, account, limits),
            Effect::GiveUpProbe(account) => self.probe_given_up(n, account),
            Effect::SaveLimit(record) => self.limit_saved(n, &record),
            Effect::DropLimit(account, which) => self.limit_dropped(n, account, which),
            Effect::Emit(Event::Limited(_)) => self.tally.limited += 1,
            Effect::ReserveFences(mark) => host.store.mark = mark,
            Effect::SaveLease(fence) => {
                if let Some(lease) = host.pool.as_ref().unwrap().lease(fence) {
                    host.store.leases.insert(fence, lease.clone());
                }
            }
            Effect::Ended(lease, why) => {
                host.store.leases.remove(&lease.fence);
                self.tally.cut_off += u64::from(why == Ending::CutOff);
            }
            Effect::Answer { waiter, result } => {
                if let Some(answer) = self.watched.get_mut(&(n, waiter)) {
                    *answer = Some(result);
                }
            }
            Effect::Emit(Event::Granted(fence)) => self.granted(n, fence),
            Effect::Emit(Event::Moved(_)) => self.tally.moved += 1,
            Effect::Emit(Event::SeatsEnd(..)) => self.tally.warned += 1,
            _ => {}
        }
        None
    }
}
