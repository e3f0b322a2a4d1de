//! The whole state of the pool, and its invariants, which the tests check after every step.

use crate::pool::account::table::Accounts;
use crate::pool::lease::recent::{Refusals, Released, Requests};
use crate::pool::lease::table::Leases;
use crate::pool::model::{AccountId, Now, PoolSettings, WaiterId};
use crate::pool::queue::{Queue, QueueDirty};
use crate::pool::report::request_fault::RequestFaults;
use crate::pool::select::choose::Choice;
use crate::pool::session::Sessions;
use crate::pool::timers::Timers;
use rustc_hash::FxHashMap;

/// The accounts, leases, queue and sessions, and the rules for them.
///
/// A pool is driven by [`handle`](Self::handle): pass the time and a [`Command`](super::Command), and receive a reply.
/// What must be done outside (save, answer, notify) is appended to the effects, to be carried out in order. The pool
/// reads no clock: call it with [`Command::Tick`](super::Command::Tick) no later than
/// [`next_wakeup`](Self::next_wakeup) says. A queued request is answered by an [`Effect::Answer`](super::Effect::Answer).
///
/// ```
/// use lessor::limits::Reason;
/// use lessor::pool::*;
/// use std::time::Duration;
/// # fn account(n: u64) -> Box<AccountRecord> {
/// #     Box::new(serde_json::from_value(serde_json::json!({
/// #         "id": AccountId::from_bits(n), "provider": "anthropic", "label": null, "email": null, "tier": "pro",
/// #         "kind": "oauth", "login_state": "ready", "enabled": true, "disabled_reason": null, "max_leases": null,
/// #         "priority": 0, "allowed_agents": null, "project_id": null, "vendor_id": null, "created_at": 0, "last_used_at": null
/// #     })).unwrap())
/// # }
/// let (mut pool, mut effects) = (Pool::new(PoolSettings::default()), Vec::new());
/// let mut now = Now { mono: Mono(1_000), wall: Wall(1_800_000_000_000) };
/// for n in 0..2 {
///     pool.handle(now, Command::AddAccount(account(n)), &mut effects)?;
/// }
/// let request = LeaseRequest::new("anthropic", "claude", ConnectionId(1));
/// let Reply::Held(fence) = pool.handle(now, Command::Acquire(Box::new(request)), &mut effects)? else { panic!() };
///
/// // the upstream refuses a request: the lease moves to the other account at once
/// let details = RefusalDetails::reported(Reason::RateLimitExceeded, Some(Duration::from_secs(30)));
/// let report = Command::Report { fence, outcome: RequestOutcome::Refused(Box::new(details)) };
/// let Reply::Decision(decision) = pool.handle(now, report, &mut effects)? else { panic!() };
/// assert_eq!(decision.action, Action::Switch);
///
/// // the limit ends when its time has passed
/// let at = pool.next_wakeup(now).unwrap();
/// now = Now { mono: at, wall: now.wall_of(at) };
/// pool.handle(now, Command::Tick, &mut effects)?;
/// assert!(effects.iter().any(|effect| matches!(effect, Effect::Emit(Event::Recovered(..)))));
/// # Ok::<(), Refusal>(())
/// ```
#[derive(Debug, Default)]
pub struct Pool {
    pub(crate) settings: PoolSettings,
    pub(crate) accounts: Accounts,
    pub(crate) leases: Leases,
    pub(crate) queue: Queue,
    pub(crate) sessions: Sessions,
    pub(crate) timers: Timers,
    pub(crate) request_faults: RequestFaults,
    pub(crate) refusals: Refusals,
    pub(crate) released: Released,
    pub(crate) requests: Requests,
    pub(crate) draining: bool,
    /// Changes for the queue that belong to no sub-state: the grace period has ended.
    pub(crate) queue_dirty: QueueDirty,
    /// The difference between the clocks when the queue was last served.
    pub(crate) skew: i64,
    /// The leading accounts of the last selection: kept, so that a selection allocates nothing.
    pub(crate) ties: Vec<usize>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Checks the whole state against the invariants of docs/architecture.md.
    ///
    /// # Errors
    /// The first invariant that does not hold, in words.
    pub fn check(&mut self, now: Now) -> Result<(), String> {
        self.accounts.check(now, &self.timers)?;
        self.leases.check(now)?;
        self.check_leases_of_accounts()?;
        let leases = self.leases.iter().map(|lease| (lease.fence, lease.expires));
        let waiters = self.queue.in_order().map(|(id, waiter)| (id, waiter.deadline));
        must(self.timers.are(leases, waiters), || {
            "timers without a lease or a queued request, or none for one".into()
        })?;
        self.check_queue(now)
    }

    fn check_leases_of_accounts(&self) -> Result<(), String> {
        let mut counted: FxHashMap<AccountId, (u32, bool)> = FxHashMap::default();
        for lease in self.leases.iter() {
            let (leases, exclusive) = counted.entry(lease.account).or_default();
            *leases += 1;
            *exclusive |= lease.exclusive;
        }
        let ceiling = self.settings.leases.max_per_account.max(1);
        for account in self.accounts.iter() {
            let id = account.record.id;
            let (leases, exclusive) = counted.remove(&id).unwrap_or_default();
            must(account.leases == leases, || format!("{id} counts {} leases, has {leases}", account.leases))?;
            must(account.exclusive == exclusive, || format!("{id} is wrong about being exclusive"))?;
            must(!exclusive || leases == 1, || format!("{id} is exclusive and has {leases} leases"))?;
            let most = self.settings.leases.ceiling(account.policy.capacity).min(ceiling);
            must(leases <= most.max(account.tolerated), || format!("{id} has {leases} leases, may have {most} (I1)"))?;
        }
        must(counted.is_empty(), || format!("leases on accounts that do not exist: {counted:?}"))
    }

    fn check_queue(&mut self, now: Now) -> Result<(), String> {
        let clean = self.queue_dirty.is_clean() && self.accounts.dirty().is_clean();
        must(self.queue.is_empty() || clean, || "the queue has changes and was not served".into())?;
        must(self.queue.is_consistent(), || "the queue's indices disagree".into())?;
        must(!self.draining || self.queue.is_empty(), || "a request is queued while the daemon shuts down".into())?;
        if self.timers.grace().is_some() {
            return Ok(());
        }
        let waiting: Vec<WaiterId> = self.queue.in_order().map(|(id, _)| id).collect();
        for id in waiting {
            let Some(waiter) = self.queue.get(id) else { continue };
            let choice = self.choose_with(now, &waiter.ask, waiter.since, &mut Vec::new());
            let fits = matches!(choice, Choice::Wait { .. }) && !choice.too_late(waiter.deadline);
            must(fits, || format!("{:?} is queued although {choice:?}", waiter.ask))?;
            must(waiter.deadline > now.mono, || format!("{id:?} is queued beyond its deadline"))?;
        }
        Ok(())
    }
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
