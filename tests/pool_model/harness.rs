//! Drives the pool and the reference side by side, keeps what the store would keep, and compares after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use lessor::limits::{Reason, Scope};
use lessor::pool::{
    AccountId, AccountRecord, Action, Bind, Command, ConnectionId, Deadline, Effect, Fence, Holder, Ineligible, Lease,
    LeaseRequest, Limit, LimitRecord, LimitSource, Mono, MoveTime, Now, Pool, PoolSettings, PoolStart, Process,
    Refusal, RefusalDetails, RefusalKind, Reply, RequestOutcome, SessionRecord, Snapshot, Ticket, Usage, WaiterId,
    Wall, Window,
};

use crate::cast::{ask_again, ask_of, change_of, id_of, kind, process_of, record_of, settings_of};
use crate::limits::{MLimit, Phase};
use crate::ops::{AskOp, Op};
use crate::reference::{MAccount, MWaiter, Model, Verdict};

/// What the database would hold.
#[derive(Default)]
pub struct Store {
    pub accounts: Vec<AccountRecord>,
    pub limits: BTreeMap<(AccountId, Scope, String), LimitRecord>,
    pub sessions: BTreeMap<(String, String), SessionRecord>,
    pub leases: BTreeMap<Fence, Lease>,
    pub mark: Fence,
}

pub struct World {
    pub pool: Pool,
    pub model: Model,
    pub store: Store,
    pub tickets: Vec<Ticket>,
    /// By lease: who has refused its request as such.
    pub refused_by: BTreeMap<Fence, BTreeSet<AccountId>>,
    pub answered: BTreeSet<WaiterId>,
    /// Let go of by the last command.
    pub unwatched: Vec<Process>,
    /// The clock was set back at some time: a limit whose end lies ahead may have been over before, and yields then.
    pub went_back: bool,
    pub trace: String,
}

impl World {
    pub fn new() -> Self {
        let settings = PoolSettings::default();
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };
        let mut store = Store::default();
        let mut effects = Vec::new();
        let start = PoolStart { fence: Fence(1), grace: false };
        let pool = Pool::restore(now, settings.clone(), Snapshot::default(), start, &mut effects);
        if let [Effect::ReserveFences(mark)] = effects[..] {
            store.mark = mark;
        }
        let model = Model {
            now,
            settings,
            accounts: vec![],
            leases: vec![],
            waiters: vec![],
            sessions: vec![],
            released: vec![],
            requests: vec![],
            spent: vec![],
            first_fence: Fence(1),
            newest: Fence(0),
            grace: None,
            draining: false,
        };
        Self {
            pool,
            model,
            store,
            tickets: vec![],
            refused_by: BTreeMap::new(),
            answered: BTreeSet::new(),
            unwatched: vec![],
            went_back: false,
            trace: String::new(),
        }
    }

    pub fn carry_out(&mut self, op: &Op) {
        let pick = |n: u8, len: usize| (len > 0).then(|| n as usize % len);
        let fences: Vec<Fence> = {
            let mut all: Vec<Fence> = self.model.leases.iter().map(|lease| lease.fence).collect();
            all.sort_unstable();
            all
        };
        let fence = |n: u8| pick(n, fences.len()).map(|at| fences[at]);
        let account = |n: u8| id_of(n);
        match op {
            Op::Acquire(op) => self.acquire(op),
            Op::Cancel(n) => {
                if let Some(at) = pick(*n, self.model.waiters.len()) {
                    let id = self.model.waiters[at].id;
                    self.just(Command::Cancel(id));
                }
            }
            Op::Renew(n) => fence(*n).map_or((), |fence| self.just(Command::ExtendLease(fence))),
            Op::Release(n) => fence(*n).map_or((), |fence| self.just(Command::Release(fence))),
            Op::Stale(n, what) => self.stale(*n, *what),
            Op::Resume { lease, connection, forged } => self.resume(*lease, *connection, *forged),
            Op::ReportOk(n) => {
                if let Some(fence) = fence(*n) {
                    self.just(Command::Report { fence, outcome: RequestOutcome::Ok });
                }
            }
            Op::Move { lease, to, when } => {
                if let Some(fence) = fence(*lease) {
                    let when = [MoveTime::AtOnce, MoveTime::NextCall, MoveTime::NextRequest][*when as usize];
                    self.move_lease(fence, to.map(account), when);
                }
            }
            Op::Report { lease, reason, scope, wait_s } => {
                if let Some(fence) = fence(*lease) {
                    let scopes = [Scope::Request, Scope::Model, Scope::Pool, Scope::Account, Scope::Service];
                    let reason = Reason::ALL[*reason as usize];
                    // a plan that lacks a model is not part of the reference: `pool_rules` has its own tests of it
                    let is_missing_model = matches!(reason, Reason::Forbidden | Reason::RequestRejected);
                    let scope = scopes.get(*scope as usize).copied();
                    let outcome = RequestOutcome::Refused(Box::new(RefusalDetails {
                        scope: scope.filter(|scope| *scope != Scope::Model || !is_missing_model),
                        ..RefusalDetails::reported(reason, wait_s.map(|s| Duration::from_secs(s.into())))
                    }));
                    self.just(Command::Report { fence, outcome });
                }
            }
            Op::ConnectionClosed(n) => self.just(Command::ConnectionClosed(ConnectionId((*n).into()))),
            Op::ProcessEnded(n) => self.just(Command::ProcessEnded(process_of(*n))),
            Op::Add { id, provider, capacity, allowed_agents, tier, priority } => {
                let record = record_of(*id, *provider, *capacity, *allowed_agents, *tier, *priority);
                self.just(Command::AddAccount(Box::new(record)));
            }
            Op::Remove(n) => self.just(Command::RemoveAccount(account(*n))),
            Op::Change { account: n, what } => {
                self.just(Command::ChangeAccount(account(*n), Box::new(change_of(*n, *what))));
            }
            Op::Limit { account: n, scope, key, secs, wall } => {
                let (scope, key) = match scope {
                    0 => (Scope::Account, String::new()),
                    1 if *key == 2 => (Scope::Pool, "j0".to_owned()),
                    1 => (Scope::Pool, format!("k{key}")),
                    _ => (Scope::Model, format!("k0:m{key}")),
                };
                let now = self.model.now;
                let at = Wall((now.wall.0 as i64 + i64::from(*secs) * 1000).max(0) as u64);
                let until = if *wall { Deadline::Wall(at) } else { Deadline::Mono(now.mono_of(at)) };
                let source = if *wall { LimitSource::Server } else { LimitSource::Report };
                let limit = Limit::new(scope, key, Reason::QuotaExhausted, until, source);
                self.just(Command::SetLimit(account(*n), limit));
            }
            Op::Clear(n) => self.just(Command::ClearLimits(account(*n))),
            Op::Usage { account: n, key, used, resets_s } => {
                let now = self.model.now.wall;
                let resets_at = (*resets_s > 0).then(|| now.after(Duration::from_secs((*resets_s).into())));
                let key = match *key {
                    2 => String::new(),
                    3 => "j0".to_owned(),
                    _ => format!("k{key}"),
                };
                let window =
                    Window { name: "7d".into(), utilization: f64::from(*used) / 10.0, resets_at, as_of: now, key };
                self.just(Command::SetUsage(account(*n), Usage { windows: vec![window], ..Usage::default() }));
            }
            Op::Configure(overflow, mode, strategy, bits, quota, sets) => {
                let settings = settings_of(*overflow, *mode, *strategy, *bits, *quota, *sets);
                self.just(Command::Configure(Box::new(settings)));
            }
            Op::Drain => self.just(Command::Drain),
            Op::Time { ms } => self.pass(u64::from(*ms), 0),
            Op::Jump { secs } => {
                self.went_back |= *secs < 0;
                self.pass(0, i64::from(*secs) * 1000);
            }
            Op::Wakeup => {
                if let Some(at) = self.pool.next_wakeup(self.model.now) {
                    let now = self.model.now.mono;
                    assert!(at > now, "a wake-up at {at:?} would be a busy loop at {now:?}");
                    // far ends would let everything else run out
                    self.pass((at.0 - now.0).min(3_600_000), 0);
                }
            }
            Op::Crash { grace, reboot_s } => self.crash(*grace, u64::from(*reboot_s) * 1000),
        }
    }

    /// Ends with a drain: whatever waits is answered, whatever is held can be given back.
    pub fn finish(mut self) {
        self.just(Command::Drain);
        assert!(self.model.waiters.is_empty());
        while let Some(lease) = self.model.leases.first() {
            let fence = lease.fence;
            // it may expire in the very millisecond
            self.just(Command::Release(fence));
        }
        assert_eq!(self.pool.lease_count(), 0);
        assert!(self.store.leases.is_empty(), "the store keeps leases that have ended");
    }

    fn pass(&mut self, ms: u64, jump: i64) {
        let now = self.model.now;
        let wall = (now.wall.0 as i64 + ms as i64 + jump).max(0) as u64;
        self.run(Now { mono: Mono(now.mono.0 + ms), wall: Wall(wall) }, Command::Tick).unwrap();
    }

    fn just(&mut self, command: Command) {
        let _ = self.step(command);
    }

    fn step(&mut self, command: Command) -> Result<Reply, Refusal> {
        let now =
            Now { mono: Mono(self.model.now.mono.0 + 1), wall: self.model.now.wall.after(Duration::from_millis(1)) };
        // what time does comes first; then the command alone
        self.run(now, Command::Tick).unwrap();
        self.run(now, command)
    }

    fn acquire(&mut self, op: &AskOp) {
        let ask = ask_of(op);
        let now =
            Now { mono: Mono(self.model.now.mono.0 + 1), wall: self.model.now.wall.after(Duration::from_millis(1)) };
        self.run(now, Command::Tick).unwrap();
        let known = ask.request_id.as_deref().and_then(|id| self.model.remembered(id));
        let verdict = self.model.verdict(&ask, now.mono);
        let reply = self.run(now, Command::Acquire(Box::new(ask.clone())));
        if let Some(answer) = known {
            self.check_repeated(&ask, answer, &reply);
            return;
        }
        let deadline = now.mono.after(ask.wait.unwrap_or(self.model.settings.limits.max_rate_limit_wait));
        match (verdict, &reply) {
            _ if self.model.draining => assert_eq!(kind(&reply), Some(RefusalKind::ShuttingDown)),
            (Verdict::Grant(_), Ok(Reply::Held(fence))) => {
                if let Some(id) = &ask.request_id {
                    self.model.remember(id, Ok(*fence));
                }
            }
            (Verdict::Refuse(wanted), Err(refusal)) => assert_eq!(refusal.kind, wanted, "{refusal:?}"),
            (Verdict::Wait { kind: wanted, earliest }, reply) => {
                if deadline <= now.mono || earliest.is_some_and(|earliest| earliest > deadline) {
                    assert_eq!(kind(reply), Some(wanted), "{reply:?}");
                } else {
                    let Ok(Reply::Queued(id)) = *reply else { panic!("should wait: {reply:?}") };
                    if let Some(request) = &ask.request_id {
                        self.model.remember(request, Err(id));
                    }
                    self.model.waiters.push(MWaiter { id, ask, since: now.mono, deadline });
                }
            }
            (verdict, reply) => panic!("expected {verdict:?}, got {reply:?} for {ask:?}"),
        }
        self.compare();
    }

    fn check_repeated(&mut self, ask: &LeaseRequest, answer: Result<Fence, WaiterId>, reply: &Result<Reply, Refusal>) {
        match answer {
            Ok(fence) => {
                let lease = self.model.leases.iter_mut().find(|lease| lease.fence == fence).unwrap();
                let is_other = lease.exclusive != ask.exclusive || lease.set().only != ask.set.only;
                if lease.target.as_asked() != ask.target || is_other {
                    assert_eq!(kind(reply), Some(RefusalKind::BadRequest));
                } else {
                    assert_eq!(*reply, Ok(Reply::Held(fence)));
                    if let Bind::Connection(connection) = &mut lease.bind {
                        *connection = ask.connection;
                        lease.holder = ask.holder.clone();
                    }
                }
            }
            Err(id) => {
                let waiter = self.model.waiters.iter_mut().find(|waiter| waiter.id == id).unwrap();
                let is_other = waiter.ask.exclusive != ask.exclusive || waiter.ask.set.only != ask.set.only;
                if waiter.ask.target != ask.target || is_other {
                    assert_eq!(kind(reply), Some(RefusalKind::BadRequest));
                } else {
                    assert_eq!(*reply, Ok(Reply::Queued(id)));
                    waiter.ask.connection = ask.connection;
                    waiter.ask.bind = ask.bind;
                    waiter.ask.holder = ask.holder.clone();
                }
            }
        }
        self.compare();
    }

    /// The user moves a lease: it gets an account that could serve it, or stays where it is.
    fn move_lease(&mut self, fence: Fence, to: Option<AccountId>, when: MoveTime) {
        let now =
            Now { mono: Mono(self.model.now.mono.0 + 1), wall: self.model.now.wall.after(Duration::from_millis(1)) };
        self.run(now, Command::Tick).unwrap();
        let Some(lease) = self.model.leases.iter().find(|lease| lease.fence == fence).cloned() else { return };
        let reply = self.run(now, Command::MoveLease { fence, to, exclude: vec![], when });
        let held = self.pool.lease(fence).is_some();
        match (&reply, when) {
            (Ok(Reply::Held(moved_to)), MoveTime::AtOnce) => {
                assert!(!held && *moved_to > fence, "{moved_to:?} replaces {fence:?} (I4)");
                let moved = self.pool.lease(*moved_to).expect("it is held");
                assert_ne!(moved.account, lease.account);
                assert!(to.is_none_or(|to| to == moved.account));
                assert_eq!((&moved.session, moved.bind, moved.pinned), (&lease.session, lease.bind, lease.pinned));
            }
            (Ok(Reply::Done), MoveTime::NextCall) => {
                assert!(held && self.pool.moves_to(fence).is_some_and(|next| next != lease.account));
            }
            (Ok(Reply::Done), MoveTime::NextRequest) => assert!(held && lease.session.is_some()),
            (Err(refusal), _) => {
                assert!(held, "a refused move ends nothing");
                let is_other = matches!(refusal.kind, RefusalKind::BadRequest | RefusalKind::ShuttingDown)
                    || when == MoveTime::NextCall && lease.pinned
                    || self.model.grace.is_some()
                    || to.is_some_and(|to| self.model.account(to).is_none_or(|to| self.model.is_kept(to)));
                let account = to.map(|to| to.to_string().into());
                let ask = LeaseRequest { account, exclude: vec![lease.account], ..ask_again(&lease) };
                self.model.leases.retain(|held| held.fence != fence);
                let verdict = self.model.verdict(&ask, now.mono);
                self.model.leases.push(lease);
                // a lease would leave a fallback again for the account that it has now
                let is_kept =
                    |id: &AccountId| self.model.account(*id).is_some_and(|account| self.model.is_kept(account));
                let would_leave = refusal.kind == RefusalKind::NotAllowed
                    && matches!(&verdict, Verdict::Grant(ids) if ids.iter().all(is_kept));
                let fits = is_other || would_leave || !matches!(verdict, Verdict::Grant(_));
                assert!(fits, "{refusal:?}, but {verdict:?} for {ask:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn stale(&mut self, n: u8, what: u8) {
        let ended: Vec<Fence> = self.tickets.iter().map(|ticket| ticket.fence).collect();
        let fence = ended.get(n as usize % (ended.len() + 1)).copied().unwrap_or(Fence(u64::MAX));
        if self.model.leases.iter().any(|lease| lease.fence == fence) {
            return;
        }
        let refused = RequestOutcome::Refused(Box::new(RefusalDetails::reported(Reason::AuthFailed, None)));
        let reply = self.step(match what {
            0 => Command::ExtendLease(fence),
            1 => Command::Release(fence),
            _ => Command::Report { fence, outcome: refused },
        });
        assert_eq!(kind(&reply), Some(RefusalKind::StaleLease));
    }

    fn resume(&mut self, n: u8, connection: u8, forged: bool) {
        let Some(at) = (!self.tickets.is_empty()).then(|| n as usize % self.tickets.len()) else { return };
        let mut ticket = self.tickets[self.tickets.len() - 1 - at].clone();
        if forged {
            ticket.account = id_of(n);
        }
        let connection = ConnectionId(connection.into());
        let holder = Holder { process: Some(process_of(n % 3)), ..Holder::default() };
        let live = self.model.leases.iter().find(|lease| lease.fence == ticket.fence).map(|lease| lease.account);
        // whether it would be alone is judged when time has done its part
        let now = Now { mono: Mono(self.model.now.mono.0 + 1), ..self.model.now };
        self.run(now, Command::Tick).unwrap();
        let live = live.filter(|_| self.model.leases.iter().any(|lease| lease.fence == ticket.fence));
        let may = self.model.may_resume(ticket.fence, ticket.account, ticket.exclusive)
            && self.model.account(ticket.account).is_some_and(|a| a.record.provider == *ticket.target.provider);
        let fence = ticket.fence;
        let known = self.model.account(ticket.account).is_some();
        let account = ticket.account;
        let reply = self.run(now, Command::Resume { ticket: Box::new(ticket), connection, holder: holder.clone() });
        match live {
            Some(on) if on == account => {
                assert_eq!(reply, Ok(Reply::Held(fence)));
                let lease = self.model.leases.iter_mut().find(|lease| lease.fence == fence).unwrap();
                if let Bind::Connection(before) = &mut lease.bind {
                    (*before, lease.holder) = (connection, holder);
                }
            }
            Some(_) => assert_eq!(kind(&reply), Some(RefusalKind::StaleLease)),
            None if self.model.draining => assert_eq!(kind(&reply), Some(RefusalKind::ShuttingDown)),
            None if may => assert_eq!(reply, Ok(Reply::Held(fence))),
            None => assert_eq!(kind(&reply), Some(RefusalKind::StaleLease), "{known}"),
        }
        self.compare();
    }

    /// The daemon dies and comes back with what the store kept.
    fn crash(&mut self, grace: bool, down: u64) {
        let before = self.model.now;
        let snapshot = self.pool.snapshot(before);
        let kept: Vec<Lease> = self.store.leases.values().cloned().collect();
        assert_eq!(snapshot.leases, kept, "the store does not know the durable leases");
        let keys: BTreeSet<_> = snapshot.limits.iter().map(|l| (l.account, l.scope, l.key.clone())).collect();
        assert_eq!(keys, self.store.limits.keys().cloned().collect(), "the store does not know the limits");
        let sessions: BTreeSet<_> =
            snapshot.sessions.iter().map(|s| (s.provider.clone(), s.session.clone(), s.account)).collect();
        let stored: BTreeSet<_> =
            self.store.sessions.values().map(|s| (s.provider.clone(), s.session.clone(), s.account)).collect();
        assert_eq!(sessions, stored, "the store does not know the sessions");
        assert!(self.store.mark > self.model.newest, "a fence would be granted twice (C2)");

        let now = Now { mono: Mono(before.mono.0 + down), wall: Wall(before.wall.0 + down) };
        let snapshot = Snapshot {
            accounts: self.store.accounts.clone(),
            limits: self.store.limits.values().cloned().collect(),
            sessions: self.store.sessions.values().cloned().collect(),
            usage: snapshot.usage,
            leases: kept,
            shared: Vec::new(),
        };
        let start = PoolStart { fence: self.store.mark, grace };
        let mut effects = Vec::new();
        let settings = self.model.settings.clone();
        self.pool = Pool::restore(now, settings.clone(), snapshot, start, &mut effects);
        let _ = writeln!(self.trace, "crash {effects:?}");
        let model = &mut self.model;
        model.waiters.clear();
        self.answered.clear();
        self.refused_by.clear();
        model.released.clear();
        model.spent.clear();
        model.draining = false;
        model.first_fence = start.fence;
        model.grace = grace.then(|| now.mono.after(settings.leases.grace));
        let ago = |at: Wall| Mono(now.mono.0.saturating_sub(now.wall.0.saturating_sub(at.0)));
        let sessions = self.store.sessions.values();
        model.sessions = sessions.map(|s| (s.provider.clone(), s.session.clone(), s.account, ago(s.used_at))).collect();
        model.leases = self.store.leases.values().cloned().collect();
        model.requests.clear();
        for lease in &self.store.leases {
            if let Some(id) = &lease.1.request_id {
                model.requests.retain(|(known, _, _)| **known != **id);
                model.requests.push((id.to_string(), Ok(*lease.0), now.mono));
            }
        }
        for account in &mut model.accounts {
            account.fresh = false;
            let kept = self.pool.account(account.record.id).unwrap().limits().iter();
            account.limits = kept.map(|limit| MLimit::kept(limit, now)).collect();
        }
        for (key, record) in &self.store.limits {
            let live = self.pool.account(key.0).unwrap().limits().iter();
            let live = live.filter(|limit| limit.scope == record.scope && limit.key == record.key);
            let dropped = effects
                .iter()
                .any(|e| matches!(e, Effect::DropLimit(id, Some((s, k))) if (*id, *s, k) == (key.0, key.1, &key.2)));
            assert!(dropped || live.count() == 1, "a limit is lost (I7): {record:?}");
            assert!(!dropped || record.until <= now.wall, "a live limit was dropped: {record:?}");
        }
        self.model.pass(now);
        self.digest(&Command::Tick, &Ok(Reply::Done), effects);
        self.compare();
    }

    fn run(&mut self, now: Now, command: Command) -> Result<Reply, Refusal> {
        let mut effects = Vec::new();
        let reply = self.pool.handle(now, command.clone(), &mut effects);
        let _ = writeln!(self.trace, "{now:?} {command:?} -> {reply:?} {effects:?}");
        self.model.pass(now);
        self.apply(&command, &reply);
        self.digest(&command, &reply, effects);
        self.note_wait(&command, &reply);
        if !matches!(command, Command::Acquire(_) | Command::Resume { .. }) {
            self.compare();
        }
        reply
    }

    /// What a command does to the reference, apart from granting and ending.
    fn apply(&mut self, command: &Command, reply: &Result<Reply, Refusal>) {
        let model = &mut self.model;
        let ok = reply.is_ok();
        match command {
            Command::Cancel(id) => model.waiters.retain(|waiter| waiter.id != *id),
            Command::ExtendLease(fence) if *reply == Ok(Reply::Held(*fence)) => {
                if let Some(lease) = model.leases.iter_mut().find(|lease| lease.fence == *fence) {
                    lease.expires = lease.ttl.map(|ttl| model.now.mono.after(ttl));
                }
            }
            Command::MoveLease { fence, when: MoveTime::NextRequest, .. } if ok => {
                let session =
                    self.pool.lease(*fence).map(|lease| (lease.target.provider.clone(), lease.session.clone()));
                if let Some((provider, Some(session))) = session {
                    let account = self.pool.session_account(model.now, self.pool.lease(*fence).unwrap());
                    model.rebind(&provider, &session, account.expect("it was bound"));
                }
            }
            Command::ConnectionClosed(connection) => {
                model.waiters.retain(|waiter| waiter.ask.connection != *connection);
            }
            Command::ProcessEnded(process) => model.released.retain(|(released, _, _)| released != process),
            Command::AddAccount(record) => {
                let label = |a: &MAccount| a.record.label == record.label;
                let fails = model.accounts.iter().any(|a| a.record.id == record.id || label(a));
                assert_eq!(ok, !fails, "{reply:?}");
                if ok {
                    let record = (**record).clone();
                    self.store.accounts.push(record.clone());
                    model.accounts.push(MAccount { record, limits: vec![], usage: Usage::default(), fresh: true });
                }
            }
            Command::RemoveAccount(id) => {
                assert_eq!(ok, model.account(*id).is_some());
                model.accounts.retain(|account| account.record.id != *id);
                model.sessions.retain(|(_, _, account, _)| account != id);
            }
            Command::ChangeAccount(id, change) => {
                let others = || model.accounts.iter().filter(|account| account.record.id != *id);
                let taken = change.label.is_some() && others().any(|account| account.record.label == change.label);
                assert_eq!(ok, model.account(*id).is_some() && !taken, "{reply:?}");
            }
            Command::ClearLimits(id) => {
                for account in model.accounts.iter_mut().filter(|account| account.record.id == *id) {
                    account.limits.clear();
                }
            }
            Command::SetUsage(id, usage) => {
                for account in model.accounts.iter_mut().filter(|account| account.record.id == *id) {
                    account.usage = usage.clone();
                    // what ramps has ended already: a reading may clear it away
                    let kept = self.pool.account(*id).unwrap().limits();
                    account.limits.retain(|limit| {
                        let known = kept.iter().any(|known| known.scope == limit.scope && known.key == limit.key);
                        known || !matches!(limit.phase, Phase::Ramp(..))
                    });
                }
            }
            Command::Report { fence, outcome: RequestOutcome::Ok } if ok => {
                let lease = model.leases.iter().find(|lease| lease.fence == *fence).cloned();
                for limit in model.accounts.iter_mut().flat_map(|account| {
                    let is_its = lease.as_ref().is_some_and(|lease| lease.account == account.record.id);
                    account.limits.iter_mut().filter(move |_| is_its)
                }) {
                    let blocks = lease.as_ref().is_some_and(|lease| limit.blocks(&lease.target));
                    if let Phase::Ramp(_, let_in) = &mut limit.phase
                        && blocks
                    {
                        *let_in = let_in.saturating_sub(1);
                    }
                }
                for limit in model.accounts.iter_mut().flat_map(|account| &mut account.limits) {
                    if matches!(limit.phase, Phase::Probing(Some((probe, _))) if probe == *fence) {
                        limit.phase = Phase::Ramp(model.now.mono, 0);
                    }
                }
            }
            Command::Configure(settings) => model.settings = (**settings).clone(),
            Command::Drain => model.draining = true,
            _ => {}
        }
    }

    /// Who waits out a limit on its own account is the first to come back.
    fn note_wait(&mut self, command: &Command, reply: &Result<Reply, Refusal>) {
        let (Command::Report { fence, outcome }, Ok(Reply::Decision(decision))) = (command, reply) else { return };
        let Some(lease) = self.model.leases.iter().find(|lease| lease.fence == *fence).cloned() else { return };
        let now = self.model.now;
        // an account that refused the request as such is not asked again for it
        if matches!(outcome, RequestOutcome::Refused(f) if f.scope.unwrap_or_else(|| f.reason.scope()) == Scope::Request)
        {
            return;
        }
        let Some(account) = self.model.account(lease.account) else { return };
        let own = match self.model.obstacle(account, &ask_again(&lease)) {
            Some((Ineligible::Limited, Some(until))) => until.since(now.mono),
            _ => return,
        };
        if decision.action != Action::Wait || own > decision.after {
            return;
        }
        let account = self.model.accounts.iter_mut().find(|account| account.record.id == lease.account).unwrap();
        for limit in account.limits.iter_mut().filter(|limit| limit.long && limit.blocks(&lease.target)) {
            if let Phase::Closed { first_back } = &mut limit.phase {
                first_back.get_or_insert(*fence);
            }
        }
    }
}
