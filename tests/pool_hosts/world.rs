//! The hosts, the database between them, and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lessor::pool::{
    AccountId, AccountOwner, AccountRecord, Command, CredentialKind, Effect, Ending, Event, Fence, LoginState, Mono,
    Overflow, PoolSettings, Refusal, Reply, SeatDenial, SeatLimits, Strategy, Target, Tier, WaiterId, Wall,
};

use super::database::{Answer, Database, Fault, Request};
use super::host::{Host, MARGIN, TTL};
use super::learning::POLL;
use super::link::{Sent, TIMEOUT};

/// splitmix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What has happened, so that a run in which nothing happens does not pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub granted: u64,
    pub claims: u64,
    pub denied: u64,
    pub given_back: u64,
    pub cut_off: u64,
    pub warned: u64,
    pub takeovers: u64,
    pub restarts: u64,
    pub exclusive: u64,
    pub moved: u64,
    /// Claims that were answered too late.
    pub late: u64,
    /// Limits that were set, and duties to probe that were claimed.
    pub limited: u64,
    pub probes: u64,
}

pub struct World {
    pub chance: Chance,
    pub time: u64,
    pub hosts: Vec<Host>,
    pub database: Database,
    pub shared: Vec<AccountId>,
    /// Every fence that was granted on a shared account.
    fences: BTreeSet<Fence>,
    newest: BTreeMap<AccountId, Fence>,
    pub tally: Tally,
    /// The answers of queued requests that were watched.
    pub watched: BTreeMap<(usize, WaiterId), Option<Result<Fence, Refusal>>>,
    /// What is done comes from the database: it is not sent back.
    pub is_from_database: bool,
    /// Whether everything that happens is printed: with `LESSOR_SIM_TRACE`.
    is_traced: bool,
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

    /// Lets time pass until then, with everything that is due.
    pub fn advance(&mut self, to: u64) {
        while let Some((at, n, what)) = self.next_event().filter(|(at, ..)| *at <= to) {
            self.time = self.time.max(at);
            if self.is_traced {
                eprintln!("{} host {n} {what:?}", self.time);
            }
            self.happen(n, what);
            self.check();
            self.compare_limits();
        }
        self.time = self.time.max(to);
        self.check();
    }

    fn next_event(&mut self) -> Option<(u64, usize, Due)> {
        let mut next: Option<(u64, usize, Due)> = None;
        for (n, host) in self.hosts.iter().enumerate() {
            let mut note = |at: u64, what: Due| {
                if next.as_ref().is_none_or(|(known, ..)| at < *known) {
                    next = Some((at, n, what));
                }
            };
            if let Some((at, place)) = host.link.next_out() {
                note(at, Due::AtDatabase(place));
            }
            let Some(pool) = &host.pool else {
                note(host.down_until, Due::Restart);
                continue;
            };
            let after_freeze = |at: u64| at.max(host.frozen_until);
            let of_mono = |mono: u64| after_freeze(host.time_of(mono));
            if let Some(at) = pool.next_wakeup(host.now(self.time)) {
                note(of_mono(at.0), Due::Wakeup);
            }
            if !host.link.is_up {
                note(after_freeze(host.link.retry_at), Due::Connect);
                continue;
            }
            if let Some((at, place)) = host.link.next_back() {
                note(after_freeze(at), Due::AtHost(place));
            }
            if let Some(sent) = host.link.awaited_since() {
                note(of_mono(sent + TIMEOUT), Due::Timeout);
            }
            if host.term.is_some() {
                note(of_mono(host.next_beat), Due::Beat);
                note(of_mono(host.next_poll), Due::Poll);
            }
        }
        next
    }

    fn happen(&mut self, n: usize, what: Due) {
        let time = self.time;
        match what {
            Due::AtDatabase(place) => {
                let (_, epoch, request) = self.hosts[n].link.out.remove(place);
                let asked = self.is_traced.then(|| format!("{request:?}"));
                let (answer, told) = self.database.carry_out(time, n, request);
                if let Some(asked) = asked {
                    eprintln!("{} host {n} asks {asked}: {answer:?}", self.time);
                }
                self.tally.takeovers = self.database.takeovers;
                if let Answer::Claimed { account, fences, .. } = &answer {
                    let before = self.newest.get(account).copied().unwrap_or_default();
                    assert!(fences.from > before, "{fences:?} on {account} after {before:?}");
                }
                self.hosts[n].link.answer(time, epoch, answer, &mut self.chance);
                for (host, notice) in told {
                    // a notice of limits may be lost
                    if matches!(notice, Answer::Notice) && self.chance.one_in(4) {
                        continue;
                    }
                    let epoch = self.hosts[host].link.epoch;
                    self.hosts[host].link.answer(time, epoch, notice, &mut self.chance);
                }
            }
            Due::Restart => {
                self.tally.restarts += 1;
                let grace = self.chance.one_in(2);
                self.hosts[n].restart(time, grace);
                self.hosts[n].link.retry_at = time + self.chance.below(3_000);
                for account in self.shared.clone() {
                    let limits = self.database.limits[&account];
                    self.run(n, Command::ShareAccount(account, limits)).unwrap();
                }
            }
            Due::Wakeup => drop(self.run(n, Command::Tick)),
            Due::Connect => {
                let life = self.chance.next();
                self.hosts[n].link.connect();
                for request in self.hosts[n].first_requests(life) {
                    self.send(n, request);
                }
            }
            Due::Timeout => self.give_up(n),
            Due::Beat => {
                let host = &mut self.hosts[n];
                host.next_beat = host.mono(time) + TTL / 3;
                host.learning.compare_clocks();
                if let Some((term, life)) = host.term {
                    self.send(n, Request::Beat { term, life });
                }
            }
            Due::Poll => {
                let host = &mut self.hosts[n];
                // by a clock that may be slow
                host.next_poll = host.mono(time) + 300 + self.chance.below(POLL * 9 / 10 - 300);
                let (term, after) = (host.term.map(|(term, _)| term), host.learning.position());
                self.send(n, Request::News { term, after });
            }
            Due::AtHost(place) => {
                let (_, _, answer) = self.hosts[n].link.back.remove(place);
                self.deliver(n, answer);
            }
        }
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

    /// An answer has not come in time.
    fn give_up(&mut self, n: usize) {
        match self.hosts[n].link.awaited() {
            Some(Sent { request: Request::Claim { account, .. }, is_given_up, .. }) => {
                *is_given_up = true;
                let account = *account;
                let elsewhere = self.hosts[n].pool.as_ref().unwrap().seats(account).unwrap().elsewhere;
                self.run(n, Command::SeatsDenied { account, elsewhere, why: SeatDenial::Unavailable }).unwrap();
            }
            Some(Sent { request: Request::ClaimProbe { account, .. }, is_given_up, .. }) => {
                *is_given_up = true;
                let account = *account;
                drop(self.run(n, Command::ProbeDenied(account)));
            }
            _ => self.cut(n, 100),
        }
    }

    /// The term is over: another one begins.
    fn begin_again(&mut self, n: usize) {
        self.hosts[n].term = None;
        self.run(n, Command::LoseSeats).unwrap();
        for request in self.hosts[n].beginning() {
            self.send(n, request);
        }
    }

    fn deliver(&mut self, n: usize, answer: Answer) {
        if matches!(answer, Answer::Wanted | Answer::Notice) {
            // the news say of which accounts
            return self.hosts[n].poll_now(self.time);
        }
        let Sent { mono: sent, request, is_given_up } = self.hosts[n].link.sent.remove(0);
        if let (Answer::Probe(answer), Request::ClaimProbe { account, .. }) = (&answer, &request) {
            return self.probe_answered(n, *account, answer.clone(), is_given_up);
        }
        if is_given_up {
            if let (Answer::Claimed { account, seats, .. }, Request::Claim { term, life, .. }) = (answer, request) {
                self.tally.late += 1;
                self.send(n, Request::GiveBack { term, life, account, seats });
            }
            return;
        }
        let longer = if self.database.fault == Fault::LongTerms { TTL } else { 0 };
        let until = Mono(sent + TTL - MARGIN + longer);
        match (answer, request) {
            (Answer::Begun { term }, Request::Begin { life }) => {
                self.hosts[n].may_resume = false;
                self.joined(n, term, life);
                self.run(n, Command::JoinTerm { until }).unwrap();
            }
            (Answer::Resumed(Some(seats)), Request::Resume { term, new_life, .. }) => {
                let of_this_run = !std::mem::take(&mut self.hosts[n].may_resume);
                self.joined(n, term, new_life);
                if of_this_run && !self.hosts[n].is_valid(self.time) {
                    // its time was over while the answer was on its way
                    return self.begin_again(n);
                }
                self.run(n, Command::ResumeTerm { until, seats }).unwrap();
            }
            (Answer::Resumed(None), _) => {
                self.hosts[n].may_resume = false;
                self.begin_again(n);
            }
            (Answer::Beaten(true), _) if self.hosts[n].term.is_some() => {
                self.run(n, Command::ExtendSeats { until }).unwrap();
                // its time had passed before: the term is over
                if self.hosts[n].pool.as_ref().unwrap().seats_until().is_none() {
                    self.begin_again(n);
                }
            }
            (Answer::Beaten(false) | Answer::Over, _) if self.hosts[n].term.is_some() => self.begin_again(n),
            (Answer::Claimed { account, seats, elsewhere, fences }, _) if self.hosts[n].term.is_some() => {
                let seats = seats + u32::from(self.database.fault == Fault::TooManySeats);
                let claimed = self.run(n, Command::SeatsClaimed { account, seats, elsewhere, fences });
                self.hosts[n].claimed_from.insert(account, fences.from);
                if claimed.is_err() && self.hosts[n].term.is_some() {
                    // the pool does not know of these seats: a new connection asks what this host holds
                    self.cut(n, 10);
                }
            }
            (Answer::Full { account, elsewhere }, _) if self.hosts[n].term.is_some() => {
                self.tally.denied += 1;
                self.run(n, Command::SeatsDenied { account, elsewhere, why: SeatDenial::Full }).unwrap();
            }
            (Answer::Fences(fences), _) => drop(self.run(n, Command::TakeFences(fences))),
            (Answer::News { elsewhere, beats, wanted, revision, limits }, Request::News { term, after }) => {
                self.read_limits(n, (after, revision), limits);
                if self.hosts[n].term.map(|(term, _)| term) == term {
                    self.run(n, Command::SeatsElsewhere(elsewhere)).unwrap();
                    self.run(n, Command::SeatsWanted(wanted)).unwrap();
                }
                self.watch(n, &beats);
            }
            // of a term that is over
            _ => {}
        }
    }

    fn joined(&mut self, n: usize, term: usize, life: u64) {
        let host = &mut self.hosts[n];
        (host.term, host.store.term) = (Some((term, life)), Some((term, life)));
        host.offered.clear();
        host.next_beat = host.mono(self.time) + TTL / 3;
        host.next_poll = host.mono(self.time) + 50;
    }

    /// Ends terms of other hosts that were silent for long enough.
    fn watch(&mut self, n: usize, beats: &[(usize, u64)]) {
        let host = &mut self.hosts[n];
        let mono = host.mono(self.time);
        let lasts = if self.database.fault == Fault::HastyTakeovers { TTL / 2 } else { TTL + MARGIN };
        let mut silent = Vec::new();
        for (term, beat) in beats {
            let seen = host.seen.entry(*term).or_insert((*beat, mono));
            if seen.0 != *beat {
                *seen = (*beat, mono);
            } else if mono - seen.1 >= lasts {
                silent.push((*term, *beat));
            }
        }
        host.seen.retain(|term, _| beats.iter().any(|(of, _)| of == term));
        for (term, beat) in silent {
            self.send(n, Request::EndSilent { term, beat });
        }
    }

    /// Gives a host's pool a command, carries out its effects, and checks it.
    pub fn run(&mut self, n: usize, command: Command) -> Result<Reply, Refusal> {
        let mut commands = vec![command];
        let mut first = None;
        while let Some(command) = commands.pop() {
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
            if self.is_traced {
                eprintln!("{} host {n} {command:?}", self.time);
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

    fn granted(&mut self, n: usize, fence: Fence) {
        let host = &mut self.hosts[n];
        assert!(fence > host.last_fence || host.may_resume, "{fence:?} after {:?} on host {n}", host.last_fence);
        host.last_fence = host.last_fence.max(fence);
        let pool = host.pool.as_ref().unwrap();
        let Some(lease) = pool.lease(fence) else { return };
        let (account, exclusive) = (lease.account, lease.exclusive);
        self.tally.granted += 1;
        if !self.shared.contains(&account) {
            return;
        }
        self.check_grant(n, account);
        let host = &self.hosts[n];
        assert!(host.is_valid(self.time), "{fence:?} was granted on {account} beyond the term of host {n}");
        assert!(fence <= host.store.mark, "{fence:?} is not reserved");
        let from = host.claimed_from.get(&account).copied().unwrap_or_default();
        assert!(fence >= from, "{fence:?} on {account} is lower than {from:?} of its seat");
        assert!(self.fences.insert(fence), "{fence:?} was granted twice");
        let newest = self.newest.entry(account).or_default();
        *newest = fence.max(*newest);
        self.tally.exclusive += u64::from(exclusive);
    }

    /// The invariants over all hosts together, by true time.
    pub fn check(&self) {
        self.check_probes();
        for account in &self.shared {
            let limits = self.database.limits[account];
            let (mut live, mut all, mut exclusive) = (0, 0, false);
            for host in self.hosts.iter().filter(|host| host.is_valid(self.time)) {
                let pool = host.pool.as_ref().unwrap();
                let (leases, subagents) =
                    pool.account(*account).map_or((0, 0), |account| (account.leases(), account.subagents()));
                live += leases;
                all += leases + subagents;
                exclusive |= leases == 1 && pool.leases().any(|lease| lease.account == *account && lease.exclusive);
                let held = pool.seats(*account).unwrap().held;
                if let Some((term, _)) = host.store.term {
                    let rows = self.database.held(*account, term);
                    assert!(held <= rows, "host {} uses {held} seats of {account}, and has {rows}", host.n);
                }
            }
            assert!(live <= limits.ceiling, "{live} live leases on {account} of {limits:?} at {} (I1)", self.time);
            assert!(!exclusive || all == 1, "an exclusive lease on {account} is one of {all}");
        }
    }
}

/// What happens next at a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    AtDatabase(usize),
    AtHost(usize),
    Wakeup,
    Beat,
    Poll,
    Timeout,
    Connect,
    Restart,
}
