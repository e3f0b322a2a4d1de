//! The whole state of the pool.

use crate::pool::account::table::Accounts;
use crate::pool::lease::recent::{Refusals, Released, Requests};
use crate::pool::lease::table::Leases;
use crate::pool::model::{LimitedGuests, PoolSettings};
use crate::pool::queue::{Queue, QueueDirty};
use crate::pool::report::request_fault::RequestFaults;
use crate::pool::seats::term::Term;
use crate::pool::select::workspace::Workspace;
use crate::pool::session::Sessions;
use crate::pool::timers::Timers;

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
/// #         "priority": 0, "allowed_agents": null, "project_id": null, "created_at": 0, "last_used_at": null
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
    /// For how long this host's seats of shared accounts are valid.
    pub(crate) term: Term,
    pub(crate) request_faults: RequestFaults,
    pub(crate) refusals: Refusals,
    pub(crate) released: Released,
    pub(crate) requests: Requests,
    pub(crate) guests: LimitedGuests,
    pub(crate) draining: bool,
    /// Changes for the queue that belong to no sub-state: the grace period has ended.
    pub(crate) queue_dirty: QueueDirty,
    /// The difference between the clocks when the queue was last served.
    pub(crate) skew: i64,
    /// None while a selection uses it.
    pub(crate) workspace: Option<Box<Workspace>>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(settings: PoolSettings) -> Self {
        Self { settings, workspace: Some(Box::new(Workspace::indexed())), ..Self::default() }
    }
}
