//! The pure core: accounts, leases, queue, sessions, selection. It is handed the time and a command, and answers a
//! reply and effects; it knows no socket, file, clock, thread or random source.
//!
//! ```
//! use lessor::pool::{Command, Now, Pool, PoolSettings};
//!
//! let mut pool = Pool::new(PoolSettings::default());
//! let mut effects = Vec::new();
//! let reply = pool.handle(Now::default(), Command::Tick, &mut effects);
//! assert!(reply.is_ok() && effects.is_empty());
//! ```

mod account;
mod accounts;
mod again;
mod blame;
mod check;
mod command;
mod counting;
mod error;
mod explain;
mod forecast;
mod glob;
mod grant;
mod health;
mod hot;
mod id;
mod lease;
mod limit;
mod limits;
mod memory;
mod need;
mod obstacle;
mod queue;
mod recovery;
mod renewing;
mod report;
mod resolve;
mod select;
mod session;
mod settings;
mod snapshot;
mod strategy;
mod target;
mod time;
mod usage;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::limits::Reason;

pub use account::{Account, AccountRecord, CredentialKind, LoginProblem, LoginState, Renewing, Tier, Verification};
pub use command::{
    AccountChange, Action, Command, Decision, Effect, Event, LeaseRequest, RefusalDetails, Reply, RequestOutcome,
    StatedWait, Ticket,
};
pub use error::{Ineligible, IneligibleAccount, Refusal, RefusalKind};
pub use explain::{CandidateAccount, Exclusion, Explanation, LeaseExplanation, RefusedRequest, SelectionResult};
pub use forecast::{Forecast, Outlook};
pub use health::{Bucket, Health};
pub use id::{AccountId, BadAccountId, ConnectionId, Fence, Process, WaiterId};
pub use lease::{Bind, Ending, Holder, Lease};
pub use limit::{Limit, LimitRecord, LimitSource, model_key};
pub use need::RequestNeeds;
pub use queue::{MOST_WAITERS, QueuedRequest};
pub use report::reacquire;
pub use select::ChosenBy;
pub use session::SessionRecord;
pub use settings::{
    AccountSettings, Fallback, HealthSettings, LeaseSettings, LimitSettings, Mode, Overflow, PoolSettings, Primary,
    Protect, QuotaSettings, SelectionSettings, Strategy, TokenSettings,
};
pub use snapshot::{PoolStart, Snapshot};
pub use strategy::hybrid_score;
pub use target::{OtherQuota, Quota, Target, TargetNames};
pub use time::{Deadline, Mono, Now, Wall, millis, spoken};
pub use usage::{Usage, Window};

use blame::Chain;
use hot::{Hot, Like};
use memory::{Released, Requests};
use queue::Queue;
use session::Sessions;

/// The whole state of the core.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    /// In the order they were added; a *slot* is an index into it.
    accounts: Vec<Account>,
    /// For each slot, what choosing reads first.
    likes: Vec<Like>,
    /// For each slot, what the strategies read.
    hot: Vec<Hot>,
    /// For each slot, its place among its provider's accounts.
    places: Vec<usize>,
    slots: FxHashMap<AccountId, usize>,
    rings: FxHashMap<Arc<str>, Ring>,
    leases: FxHashMap<Fence, Lease>,
    by_connection: FxHashMap<ConnectionId, Vec<Fence>>,
    by_process: FxHashMap<Process, Vec<Fence>>,
    expiries: BTreeSet<(Mono, Fence)>,
    queue: Queue,
    sessions: Sessions,
    /// Processes that a lease or a waiter was bound to until this command.
    unbound: Vec<Process>,
    /// What holders that were moved met on the way, by the lease they have now.
    chains: FxHashMap<Fence, Chain>,
    /// Where leases that a report moved come from, and why they did not stay.
    moves: FxHashMap<Fence, (AccountId, Reason)>,
    /// Who was refused lately, and why.
    refusals: VecDeque<RefusedRequest>,
    released: Released,
    requests: Requests,
    next_fence: Fence,
    /// Fences below this one were granted before this run.
    first_fence: Fence,
    reserved_fence: Fence,
    /// Fences from before this run whose leases have ended in it: they do not come back.
    spent: FxHashSet<Fence>,
    grace_until: Option<Mono>,
    draining: bool,
    stirred: Stirred,
    /// How the clocks stood to each other when the queue was last looked through.
    skew: i64,
    next_limit_end: LimitEnds,
    /// The next time a window starts anew, where that may serve somebody: only reserves make an account wait for it.
    next_reset: Option<Wall>,
    scratch: Vec<usize>,
}

/// One provider's accounts in order, and where the strategies stand.
#[derive(Debug, Default)]
struct Ring {
    slots: Vec<usize>,
    families: FxHashMap<Arc<str>, Pointer>,
}

/// Where the strategies stand in one family.
#[derive(Clone, Copy, Debug, Default)]
struct Pointer {
    current: Option<AccountId>,
    last: Option<AccountId>,
}

/// What changed that may serve or doom somebody in the queue.
#[derive(Debug, Default)]
struct Stirred {
    /// Anything: everybody's chances must be looked at anew.
    all: bool,
    /// Only that these accounts carry less than before.
    freed: Vec<usize>,
}

/// Clocks that drift apart by more than this have been set.
const CLOCK_SET: u64 = 1_000;

/// The next end of any limit, on each clock.
#[derive(Clone, Copy, Debug, Default)]
struct LimitEnds {
    mono: Option<Mono>,
    wall: Option<Wall>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self {
            settings,
            accounts: Vec::new(),
            likes: Vec::new(),
            hot: Vec::new(),
            places: Vec::new(),
            slots: FxHashMap::default(),
            rings: FxHashMap::default(),
            leases: FxHashMap::default(),
            by_connection: FxHashMap::default(),
            by_process: FxHashMap::default(),
            expiries: BTreeSet::new(),
            queue: Queue::default(),
            sessions: Sessions::default(),
            unbound: Vec::new(),
            chains: FxHashMap::default(),
            moves: FxHashMap::default(),
            refusals: VecDeque::new(),
            released: Released::default(),
            requests: Requests::default(),
            next_fence: Fence(1),
            first_fence: Fence(1),
            reserved_fence: Fence(0),
            spent: FxHashSet::default(),
            grace_until: None,
            draining: false,
            stirred: Stirred::default(),
            skew: 0,
            next_limit_end: LimitEnds::default(),
            next_reset: None,
            scratch: Vec::new(),
        }
    }

    /// Carries out `command` at `now`; what the shell must do is appended to `effects`, in order.
    ///
    /// # Errors
    /// A [`Refusal`] that says why, and what would help.
    pub fn handle(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let queued_before = self.queue.len();
        self.pass_time(now, effects);
        self.serve_queue(now, effects);
        let reply = self.carry_out(now, command, effects);
        self.serve_queue(now, effects);
        if !self.unbound.is_empty() {
            self.unwatch(effects);
        }
        if self.queue.len() != queued_before {
            effects.push(Effect::Emit(Event::QueueChanged(self.queue.len())));
        }
        reply
    }

    /// When the pool next wants to be called, if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self, now: Now) -> Option<Mono> {
        let lease = self.expiries.first().map(|(at, _)| *at);
        let limit = self.next_limit_end.wall.map(|at| now.mono_of(at));
        let reset = self.next_reset.filter(|_| !self.queue.is_empty()).map(|at| now.mono_of(at));
        [lease, limit, reset, self.next_limit_end.mono, self.queue.first_deadline(), self.grace_until]
            .into_iter()
            .flatten()
            .min()
    }

    fn carry_out(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        match command {
            Command::Acquire(ask) => self.acquire(now, *ask, effects),
            Command::Cancel(waiter) => self.cancel(waiter),
            Command::ExtendLease(fence) => self.renew(now, fence, effects),
            Command::Release(fence) => self.release(now, fence, effects),
            Command::Resume { ticket, connection, holder } => self.resume(now, *ticket, connection, holder, effects),
            Command::Report { fence, outcome } => self.report(now, fence, &outcome, None, effects),
            Command::ReportOf { fence, outcome, need } => self.report(now, fence, &outcome, Some(&*need), effects),
            Command::Serve { fence, need } => self.serve(now, fence, &need, effects),
            Command::ConnectionClosed(connection) => self.connection_closed(now, connection, effects),
            Command::ProcessEnded(process) => self.process_ended(now, process, effects),
            Command::AddAccount(record) => self.add_account(now, *record, effects),
            Command::RemoveAccount(id) => self.remove_account(now, id, effects),
            Command::ChangeAccount(id, change) => self.change_account(id, *change, effects),
            Command::SetRenewing(id, renewing) => self.set_renewing(id, renewing, effects),
            Command::Move { fence, wait } => self.move_lease(now, fence, wait, effects),
            Command::SetLimit(id, limit) => self.limit_account(now, id, limit, effects),
            Command::ClearLimits(id) => self.clear_limits(now, id, effects),
            Command::SetUsage(id, usage) => self.set_usage(now, id, usage, effects),
            Command::LearnUsage(id, read) => self.learn_usage(now, id, read, effects),
            Command::Configure(settings) => self.configure(now, *settings),
            Command::Drain => self.drain(effects),
            Command::Tick => Ok(Reply::Done),
        }
    }

    /// Ends what time ends.
    fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(&(at, fence)) = self.expiries.first().filter(|(at, _)| *at <= now.mono) {
            debug_assert!(self.leases.contains_key(&fence), "{fence:?} expires at {at:?} but is not held");
            self.end_lease(now, fence, Ending::Expired, effects);
            self.expiries.remove(&(at, fence));
        }
        if self.grace_until.is_some_and(|until| until <= now.mono) {
            self.grace_until = None;
            self.stirred.all = true;
        }
        // somebody set the clock: what is stated as a time of day is nearer or farther now
        let set = now.skew().abs_diff(self.skew) >= CLOCK_SET;
        if set {
            self.skew = now.skew();
            self.find_next_reset(now);
            self.stirred.all = true;
        }
        let over = self.next_limit_end.mono.is_some_and(|at| at <= now.mono)
            || self.next_limit_end.wall.is_some_and(|at| at <= now.wall);
        if over {
            self.end_limits(now, effects);
        }
        if self.next_reset.is_some_and(|at| at <= now.wall) {
            self.find_next_reset(now);
            self.stirred.all = true;
        }
        if set {
            self.save_spans(now, effects);
        }
    }
}

/// What may be read.
impl Pool {
    /// What it is configured by.
    #[must_use]
    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// All accounts, in the order they were added.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// One account.
    #[must_use]
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.slots.get(&id).map(|slot| &self.accounts[*slot])
    }

    /// The account that `reference` names: id, unique prefix of an id, email or label.
    ///
    /// # Errors
    /// When none or several have that name.
    pub fn find_account(&self, reference: &str) -> Result<&Account, Refusal> {
        self.resolve(reference, None).map(|slot| &self.accounts[slot])
    }

    /// All leases, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// One lease.
    #[must_use]
    pub fn lease(&self, fence: Fence) -> Option<&Lease> {
        self.leases.get(&fence)
    }

    /// How many leases are held.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Who waits, in the order they will be served.
    pub fn waiters(&self) -> impl Iterator<Item = (WaiterId, &QueuedRequest)> {
        self.queue.in_order()
    }

    /// How many leases a holder shares its account with.
    #[must_use]
    pub fn shared_with(&self, account: AccountId) -> u32 {
        self.account(account).map_or(0, |account| account.leases.saturating_sub(1))
    }

    /// The earliest time the waiter could be served, where that is known.
    #[must_use]
    pub fn eta(&self, now: Now, waiter: WaiterId) -> Option<Wall> {
        let ask = &self.queue.get(waiter)?.ask;
        let ring = self.rings.get(&ask.target.provider)?;
        let pinned = match &ask.account {
            Some(reference) => Some(self.resolve(reference, Some(&ask.target.provider)).ok()?),
            None => None,
        };
        let slots = pinned.as_ref().map_or(&ring.slots[..], std::slice::from_ref);
        let limited = slots.iter().filter_map(|&slot| match self.obstacle(slot, ask, now)? {
            (Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, Some(until)) => Some(until.mono(now)),
            _ => None,
        });
        let ends = |fence: &Fence| {
            let slot = *self.slots.get(&self.leases.get(fence)?.account)?;
            let serves = slots.contains(&slot) && matches!(self.obstacle(slot, ask, now), Some((Ineligible::Busy, _)));
            serves.then_some(())
        };
        // the first that expires on an account that is merely busy
        let freed = self.expiries.iter().find(|(_, fence)| ends(fence).is_some()).map(|(at, _)| *at);
        let earliest = limited.chain(freed).min();
        self.grace_until.max(earliest).map(|at| now.wall_of(at))
    }

    /// The next fence; every lease so far has a lower one.
    #[must_use]
    pub fn next_fence(&self) -> Fence {
        self.next_fence
    }

    /// Whether a fence was given out before this run.
    #[must_use]
    pub fn is_from_before(&self, fence: Fence) -> bool {
        fence < self.first_fence
    }

    /// Whether grants wait for holders to come back after an unclean restart.
    #[must_use]
    pub fn in_grace(&self) -> bool {
        self.grace_until.is_some()
    }
}
