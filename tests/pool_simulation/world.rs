//! The clients, the provider, the store and the clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountId, AccountRecord, Action, Bind, Command, ConnectionId, CredentialKind, Effect, Fence, Holder, Lease,
    LeaseRequest, LimitRecord, LoginState, Mode, Mono, Now, Overflow, Pool, PoolSettings, PoolStart, Process,
    RefusalDetails, Reply, RequestOutcome, Strategy, Target, Ticket, Tier, WaiterId, Wall,
};

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
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a client believes.
#[derive(Clone, Debug)]
enum State {
    Idle,
    Waiting(WaiterId),
    Holding {
        fence: Fence,
        left: u64,
    },
    /// The daemon died under it: it will come back with this.
    Lost {
        ticket: Ticket,
        durable: bool,
        left: u64,
    },
}

struct Client {
    state: State,
    next_at: Mono,
    connection: ConnectionId,
}

/// The upstream: so many requests of each account in a window.
struct Quota {
    left: u64,
    renews_at: Mono,
    /// What some client has reported: no request may be sent there before.
    known_until: Mono,
}

pub struct World {
    chance: Chance,
    now: Now,
    pool: Pool,
    pub settings: PoolSettings,
    clients: Vec<Client>,
    quotas: BTreeMap<AccountId, Quota>,
    leases: BTreeMap<Fence, Lease>,
    limits: BTreeMap<(AccountId, Scope, String), LimitRecord>,
    mark: Fence,
    newest: Fence,
    /// Identical requests in the order they began to wait.
    line: VecDeque<WaiterId>,
    connections: u64,
    pub served: u64,
    refused: u64,
    pub restarts: u64,
}

const WINDOW: Duration = Duration::from_secs(60);

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut settings = PoolSettings::default();
        settings.leases.overflow = [Overflow::Wait, Overflow::Fail, Overflow::Share][chance.below(3) as usize];
        settings.leases.per_account = 1 + chance.below(2) as u32;
        settings.leases.max_per_account = 4;
        let strategies =
            [Strategy::Sticky, Strategy::RoundRobin, Strategy::Hybrid, Strategy::LeastUsed, Strategy::DrainSoonest];
        settings.selection.strategy = strategies[chance.below(5) as usize];
        settings.selection.mode = [Mode::Balance, Mode::PerformanceFirst][chance.below(2) as usize];
        let now = Now { mono: Mono(5_000_000), wall: Wall(1_800_000_000_000) };
        let accounts = 1 + chance.below(8);
        let mut pool = Pool::new(settings.clone());
        let mut quotas = BTreeMap::new();
        for n in 0..accounts {
            let record = account(n);
            quotas.insert(record.id, Quota { left: 20, renews_at: now.mono.after(WINDOW), known_until: Mono(0) });
            pool.handle(now, Command::AddAccount(Box::new(record)), &mut vec![]).unwrap();
        }
        let clients = (0..1 + chance.below(24))
            .map(|n| Client {
                state: State::Idle,
                next_at: now.mono.after(Duration::from_millis(n)),
                connection: ConnectionId(n),
            })
            .collect();
        Self {
            chance,
            now,
            pool,
            settings,
            clients,
            quotas,
            leases: BTreeMap::new(),
            limits: BTreeMap::new(),
            mark: Fence(1),
            newest: Fence(0),
            line: VecDeque::new(),
            connections: 1_000,
            served: 0,
            refused: 0,
            restarts: 0,
        }
    }

    fn run(&mut self, command: Command) -> Result<Reply, lessor::pool::Refusal> {
        let mut effects = Vec::new();
        let reply = self.pool.handle(self.now, command, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        if self.chance.one_in(16) {
            self.pool.check(self.now).unwrap();
        }
        self.count_beliefs();
        reply
    }

    /// The shell and the store, as far as they matter here.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SaveLease(fence) => drop(self.leases.insert(fence, self.pool.lease(fence).unwrap().clone())),
            Effect::Ended(lease, _) => drop(self.leases.remove(&lease.fence)),
            Effect::SaveLimit(record) => {
                drop(self.limits.insert((record.account, record.scope, record.key.clone()), record));
            }
            Effect::DropLimit(id, Some((scope, key))) => drop(self.limits.remove(&(id, scope, key))),
            Effect::ReserveFences(mark) => self.mark = mark,
            Effect::Answer { waiter, result } => {
                let waits = |client: &&mut Client| matches!(client.state, State::Waiting(id) if id == waiter);
                let client = self.clients.iter_mut().find(waits).expect("only who waits is answered, and once");
                let place = self.line.iter().position(|id| *id == waiter).unwrap();
                client.next_at = self.now.mono.after(Duration::from_millis(1));
                match result {
                    Ok(fence) => {
                        assert_eq!(place, 0, "{waiter:?} is served before {:?}", self.line[0]);
                        client.state = State::Holding { fence, left: 5 };
                        self.granted(fence);
                    }
                    Err(_) => client.state = State::Idle,
                }
                self.line.remove(place);
            }
            _ => {}
        }
    }

    fn granted(&mut self, fence: Fence) {
        assert!(fence > self.newest, "{fence:?} after {:?}", self.newest);
        self.newest = fence;
        self.served += 1;
        let account = self.pool.lease(fence).unwrap().account;
        let quota = &self.quotas[&account];
        assert!(quota.known_until <= self.now.mono, "sent to {account}, which is known to be limited");
    }

    /// No account has more holders who believe in it than it may have.
    fn count_beliefs(&self) {
        let mut holders: BTreeMap<AccountId, u32> = BTreeMap::new();
        for client in &self.clients {
            if let State::Holding { fence, .. } = client.state {
                let lease = self.pool.lease(fence).expect("a holder's lease is alive");
                *holders.entry(lease.account).or_default() += 1;
            }
        }
        let most = match self.settings.leases.overflow {
            Overflow::Share => self.settings.leases.max_per_account,
            _ => self.settings.leases.per_account,
        };
        assert!(holders.values().all(|count| *count <= most), "over-granted: {holders:?}, at most {most}");
    }

    /// Advances to the next event.
    pub fn step(&mut self) {
        let next = self.clients.iter().map(|client| client.next_at).min().unwrap();
        let next = self.pool.next_wakeup(self.now).map_or(next, |at| at.min(next));
        let ms = next.0.saturating_sub(self.now.mono.0);
        self.now = Now { mono: Mono(self.now.mono.0 + ms), wall: Wall(self.now.wall.0 + ms) };
        if self.chance.one_in(200) {
            let jump = self.chance.below(8_000_000) as i64 - 4_000_000;
            self.now.wall = Wall(self.now.wall.0.saturating_add_signed(jump));
        }
        self.run(Command::Tick).unwrap();
        if self.chance.one_in(300) {
            self.crash();
        }
        for n in 0..self.clients.len() {
            if self.clients[n].next_at <= self.now.mono {
                let pause = Duration::from_millis(1 + self.chance.below(2_000));
                self.clients[n].next_at = self.now.mono.after(pause);
                self.act(n, true);
            }
        }
    }

    fn act(&mut self, n: usize, asks: bool) {
        match self.clients[n].state.clone() {
            State::Idle if asks => self.acquire(n),
            State::Idle | State::Waiting(_) => {
                if asks && self.chance.one_in(20) {
                    self.hang_up(n);
                }
            }
            State::Holding { fence, left: 0 } => {
                if self.chance.one_in(3)
                    && self.pool.lease(fence).unwrap().bind == Bind::Connection(self.clients[n].connection)
                {
                    self.hang_up(n);
                } else {
                    self.run_as(n, Command::Release(fence)).unwrap();
                    self.clients[n].state = State::Idle;
                }
            }
            State::Holding { fence, left } => self.request(n, fence, left),
            State::Lost { ticket, durable, left } => self.come_back(n, &ticket, durable, left),
        }
    }

    /// While the command runs the client believes in nothing.
    fn run_as(&mut self, n: usize, command: Command) -> Result<Reply, lessor::pool::Refusal> {
        self.clients[n].state = State::Idle;
        self.run(command)
    }

    fn acquire(&mut self, n: usize) {
        let connection = self.clients[n].connection;
        let process = Process { pid: n as u32, start: 1 };
        let ask = LeaseRequest {
            target: target(),
            connection,
            bind: if self.chance.one_in(3) { Bind::Process(process) } else { Bind::Connection(connection) },
            holder: Holder { process: Some(process), ..Holder::default() },
            ttl: None,
            session: None,
            label: None,
            agent: None,
            account: None,
            exclude: vec![],
            set: lessor::pool::AccountSet::default(),
            priority: 0,
            wait: None,
            exclusive: false,
            request_id: None,
            subagent: None,
        };
        match self.run(Command::Acquire(Box::new(ask))) {
            Ok(Reply::Held(fence)) => {
                assert!(self.line.is_empty(), "served before those who wait for the same");
                self.clients[n].state = State::Holding { fence, left: self.chance.below(12) };
                self.granted(fence);
            }
            Ok(Reply::Queued(waiter)) => {
                self.clients[n].state = State::Waiting(waiter);
                self.line.push_back(waiter);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => self.refused += 1,
        }
    }

    fn request(&mut self, n: usize, fence: Fence, left: u64) {
        let account = self.pool.lease(fence).unwrap().account;
        let now = self.now.mono;
        let quota = self.quotas.get_mut(&account).unwrap();
        if quota.renews_at <= now {
            (quota.left, quota.renews_at) = (20, now.after(WINDOW));
        }
        if quota.left > 0 {
            quota.left -= 1;
            self.clients[n].state = State::Holding { fence, left: left - 1 };
            self.run(Command::Report { fence, outcome: RequestOutcome::Ok }).unwrap();
            return;
        }
        let wait = quota.renews_at.since(now).max(Duration::from_secs(2));
        quota.known_until = now.after(wait);
        let outcome = RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::QuotaExhausted, Some(wait))));
        let Ok(Reply::Decision(decision)) = self.run_as(n, Command::Report { fence, outcome }) else {
            panic!("{fence:?} is alive")
        };
        match (decision.action, decision.lease) {
            (Action::Switch, Some(moved)) => {
                self.clients[n].state = State::Holding { fence: moved, left };
                self.granted(moved);
            }
            (Action::Wait, None) => {
                self.clients[n].state = State::Holding { fence, left };
                self.clients[n].next_at = now.after(decision.after);
            }
            other => panic!("{other:?}"),
        }
    }

    fn hang_up(&mut self, n: usize) {
        let connection = self.clients[n].connection;
        if let State::Waiting(waiter) = self.clients[n].state {
            self.line.retain(|id| *id != waiter);
        }
        self.connections += 1;
        self.clients[n].connection = ConnectionId(self.connections);
        self.run_as(n, Command::ConnectionClosed(connection)).unwrap();
    }

    /// Killed, and started again with what the store has.
    fn crash(&mut self) {
        self.restarts += 1;
        for n in 0..self.clients.len() {
            self.connections += 1;
            let client = &mut self.clients[n];
            client.connection = ConnectionId(self.connections);
            client.next_at = self.now.mono.after(Duration::from_millis(self.chance.below(3_000)));
            client.state = match client.state.clone() {
                State::Holding { fence, left } => {
                    let lease = self.pool.lease(fence).unwrap();
                    let ticket = Ticket {
                        fence,
                        account: lease.account,
                        exclusive: lease.exclusive,
                        target: (*lease.target).clone(),
                        session: None,
                        label: None,
                        set: lessor::pool::AccountSet::default(),
                    };
                    State::Lost { ticket, durable: lease.is_durable(), left }
                }
                // a holder that did not resume in one run does not try in the next: its account may have another lease
                State::Lost { durable: false, .. } | State::Idle | State::Waiting(_) => State::Idle,
                lost @ State::Lost { .. } => lost,
            };
        }
        self.line.clear();
        let mut snapshot = self.pool.snapshot(self.now);
        snapshot.leases = self.leases.values().cloned().collect();
        snapshot.limits = self.limits.values().cloned().collect();
        let start = PoolStart { fence: self.mark, grace: true };
        assert!(start.fence > self.newest, "a fence would be granted twice");
        let mut effects = Vec::new();
        self.pool = Pool::restore(self.now, self.settings.clone(), snapshot, start, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        self.pool.check(self.now).unwrap();
    }

    fn come_back(&mut self, n: usize, ticket: &Ticket, durable: bool, left: u64) {
        let holder = Holder { process: Some(Process { pid: n as u32, start: 1 }), ..Holder::default() };
        let connection = self.clients[n].connection;
        let (fence, in_grace) = (ticket.fence, self.pool.in_grace());
        let command = Command::Resume { ticket: Box::new(ticket.clone()), connection, holder };
        match self.run_as(n, command) {
            Ok(_) => self.clients[n].state = State::Holding { fence, left },
            Err(refusal) => assert!(!in_grace && !durable, "in time, and refused: {refusal:?}"),
        }
    }

    /// No new requests: every queued one is answered within the longest wait, and every lease ends.
    pub fn wind_up(&mut self) {
        let last = self.now.mono.after(Duration::from_secs(301));
        while self.pool.waiters().next().is_some() || self.clients.iter().any(|c| !matches!(c.state, State::Idle)) {
            let next = self.clients.iter().map(|client| client.next_at).min().unwrap();
            let next = self.pool.next_wakeup(self.now).map_or(next, |at| at.min(next));
            let ms = next.0.saturating_sub(self.now.mono.0);
            self.now = Now { mono: Mono(self.now.mono.0 + ms), wall: Wall(self.now.wall.0 + ms) };
            assert!(self.now.mono <= last || self.pool.waiters().next().is_none(), "a request is queued for ever");
            self.run(Command::Tick).unwrap();
            for n in 0..self.clients.len() {
                if self.clients[n].next_at <= self.now.mono {
                    self.clients[n].next_at = self.now.mono.after(Duration::from_millis(500));
                    self.act(n, false);
                }
            }
        }
        assert_eq!(self.pool.lease_count(), 0, "a lease has leaked");
        assert!(self.leases.is_empty(), "the store has kept {:?}", self.leases);
    }
}

pub fn account(n: u64) -> AccountRecord {
    AccountRecord {
        id: AccountId::from_bits(n),
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
        owner: lessor::pool::AccountOwner::default(),
        created_at: Wall(0),
        last_used_at: None,
    }
}

pub fn target() -> Target {
    Target {
        provider: Arc::from("p"),
        family: Arc::from("f"),
        key: Arc::from("k"),
        pool: None,
        model: None,
        names: None,
    }
}
