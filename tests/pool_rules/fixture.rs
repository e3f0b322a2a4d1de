//! A fixture that drives the pool: accounts by letter, time by hand.

use std::sync::Arc;
use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountId, AccountRecord, Bind, Command, ConnectionId, CredentialKind, Deadline, Decision, Effect, Fence, Holder,
    LeaseRequest, Limit, LimitSource, LoginState, Mono, Now, Pool, PoolSettings, Process, Refusal, RefusalDetails,
    RefusalKind, Reply, RequestOutcome, Target, Ticket, Tier, Usage, WaiterId, Wall, Window,
};

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn id(letter: char) -> AccountId {
    AccountId::from_bits(u64::from(letter as u32) << 32 | u64::from(letter as u32))
}

pub fn record(letter: char) -> AccountRecord {
    AccountRecord {
        id: id(letter),
        provider: "p".into(),
        label: Some(letter.to_string()),
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

pub fn target(key: &str, model: Option<&str>) -> Target {
    Target {
        provider: Arc::from("p"),
        family: Arc::from(key),
        key: Arc::from(key),
        pool: None,
        model: model.map(Into::into),
        names: None,
    }
}

/// A request of connection `n` that does not wait.
pub fn ask(n: u64) -> LeaseRequest {
    LeaseRequest {
        target: target("k", None),
        connection: ConnectionId(n),
        bind: Bind::Connection(ConnectionId(n)),
        holder: Holder::default(),
        ttl: None,
        session: None,
        label: None,
        agent: None,
        account: None,
        exclude: vec![],
        set: lessor::pool::AccountSet::default(),
        priority: 0,
        wait: Some(Duration::ZERO),
        exclusive: false,
        request_id: None,
        subagent: None,
    }
}

pub fn process(pid: u32) -> Process {
    Process { pid, start: 1 }
}

pub fn by(pid: u32) -> LeaseRequest {
    LeaseRequest { holder: Holder { process: Some(process(pid)), ..Holder::default() }, ..ask(u64::from(pid)) }
}

pub fn in_session(name: &str) -> LeaseRequest {
    LeaseRequest { session: Some(name.into()), ..ask(0) }
}

pub struct Fixture {
    pub pool: Pool,
    pub now: Now,
    pub effects: Vec<Effect>,
}

impl Fixture {
    pub fn new(letters: &str, change: impl FnOnce(&mut PoolSettings)) -> Self {
        let mut settings = PoolSettings::default();
        change(&mut settings);
        let now = Now { mono: Mono(1_000_000), wall: Wall(1_800_000_000_000) };
        let mut fixture = Self { pool: Pool::new(settings), now, effects: vec![] };
        for letter in letters.chars() {
            fixture.add(record(letter));
        }
        fixture
    }

    pub fn add(&mut self, record: AccountRecord) {
        self.run(Command::AddAccount(Box::new(record))).unwrap();
    }

    pub fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.effects.clear();
        let reply = self.pool.handle(self.now, command, &mut self.effects);
        self.pool.check(self.now).unwrap();
        reply
    }

    pub fn pass(&mut self, by: Duration) {
        let ms = by.as_millis() as u64;
        self.now = Now { mono: Mono(self.now.mono.0 + ms), wall: Wall(self.now.wall.0 + ms) };
        self.run(Command::Tick).unwrap();
    }

    pub fn set_clock(&mut self, by_ms: i64) {
        self.now.wall = Wall(self.now.wall.0.checked_add_signed(by_ms).unwrap());
        self.run(Command::Tick).unwrap();
    }

    pub fn configure(&mut self, change: impl FnOnce(&mut PoolSettings)) {
        let mut settings = self.pool.settings().clone();
        change(&mut settings);
        self.run(Command::Configure(Box::new(settings))).unwrap();
    }

    pub fn acquire(&mut self, ask: LeaseRequest) -> Result<Reply, Refusal> {
        self.run(Command::Acquire(Box::new(ask)))
    }

    /// The fence of a lease that must be granted at once.
    pub fn hold(&mut self, ask: LeaseRequest) -> Fence {
        match self.acquire(ask) {
            Ok(Reply::Held(fence)) => fence,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// The account of a lease that must be granted at once.
    pub fn take(&mut self, ask: LeaseRequest) -> char {
        let fence = self.hold(ask);
        self.on(fence)
    }

    /// Takes and gives back: what would be chosen.
    pub fn peek(&mut self, ask: LeaseRequest) -> char {
        let fence = self.hold(ask);
        let on = self.on(fence);
        self.run(Command::Release(fence)).unwrap();
        on
    }

    pub fn refused(&mut self, ask: LeaseRequest) -> RefusalKind {
        self.acquire(ask).expect_err("granted").kind
    }

    pub fn queued(&mut self, ask: LeaseRequest) -> WaiterId {
        match self.acquire(ask) {
            Ok(Reply::Queued(waiter)) => waiter,
            other => panic!("does not wait: {other:?}"),
        }
    }

    pub fn on(&self, fence: Fence) -> char {
        let account = self.pool.lease(fence).expect("it is held").account;
        char::from_u32((account.bits() & 0xff) as u32).unwrap()
    }

    pub fn release(&mut self, fence: Fence) {
        self.run(Command::Release(fence)).unwrap();
    }

    /// Who was answered by the last command, and how.
    pub fn answers(&self) -> Vec<(WaiterId, Result<Fence, RefusalKind>)> {
        let answer = |effect: &Effect| match effect {
            Effect::Answer { waiter, result } => Some((*waiter, result.clone().map_err(|refusal| refusal.kind))),
            _ => None,
        };
        self.effects.iter().filter_map(answer).collect()
    }

    pub fn limit(&mut self, letter: char, scope: Scope, key: &str, until: Deadline) {
        let limit = Limit::new(scope, key, Reason::QuotaExhausted, until, LimitSource::Server);
        self.run(Command::SetLimit(id(letter), limit)).unwrap();
    }

    /// Limits the whole account for a while.
    pub fn block(&mut self, letter: char, span: Duration) {
        self.limit(letter, Scope::Account, "", Deadline::Mono(self.now.mono.after(span)));
    }

    pub fn report(&mut self, fence: Fence, reason: Reason, wait: Option<Duration>) -> Decision {
        self.report_at(fence, reason, None, wait)
    }

    pub fn report_at(
        &mut self,
        fence: Fence,
        reason: Reason,
        scope: Option<Scope>,
        wait: Option<Duration>,
    ) -> Decision {
        self.found(fence, RefusalDetails { scope, ..RefusalDetails::reported(reason, wait) })
    }

    pub fn ok(&mut self, fence: Fence) {
        self.run(Command::Report { fence, outcome: RequestOutcome::Ok }).unwrap();
    }

    pub fn found(&mut self, fence: Fence, finding: RefusalDetails) -> Decision {
        match self.run(Command::Report { fence, outcome: RequestOutcome::Refused(Box::new(finding)) }) {
            Ok(Reply::Decision(decision)) => decision,
            other => panic!("no decision: {other:?}"),
        }
    }

    /// How long the account's longest limit still lasts.
    pub fn limited_for(&self, letter: char) -> Option<Duration> {
        let limits = self.pool.account(id(letter)).unwrap().limits().iter();
        let live = limits.filter(|limit| !limit.until.passed(self.now));
        live.map(|limit| limit.until.mono(self.now).since(self.now.mono)).max()
    }

    pub fn used(&mut self, letter: char, utilization: f64) {
        let window =
            Window { name: "7d".into(), utilization, resets_at: None, as_of: self.now.wall, key: String::new() };
        self.run(Command::SetUsage(id(letter), Usage { windows: vec![window], ..Usage::default() })).unwrap();
    }

    pub fn ticket(&self, fence: Fence) -> Ticket {
        let lease = self.pool.lease(fence).expect("it is held");
        Ticket {
            fence,
            account: lease.account,
            exclusive: lease.exclusive,
            target: (*lease.target).clone(),
            session: lease.session.clone(),
            label: lease.label.clone(),
            set: lease.set().clone(),
        }
    }

    pub fn resume(&mut self, ticket: &Ticket, connection: u64) -> Result<Reply, Refusal> {
        let ticket = Box::new(ticket.clone());
        self.run(Command::Resume { ticket, connection: ConnectionId(connection), holder: Holder::default() })
    }

    /// The daemon is killed and starts again.
    pub fn restart(&mut self, grace: bool) {
        let start = lessor::pool::PoolStart { fence: Fence(self.pool.next_fence().0 + 1_000), grace };
        let settings = self.pool.settings().clone();
        let snapshot = self.pool.snapshot(self.now);
        self.effects.clear();
        self.pool = Pool::restore(self.now, settings, snapshot, start, &mut self.effects);
        self.pool.check(self.now).unwrap();
    }
}
