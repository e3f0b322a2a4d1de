//! One lease, many requests: what the next one needs may differ from what the lease was taken for.

use std::time::Duration;

use crate::limits::Reason;

use super::Pool;
use super::command::{Action, Decision, Effect, LeaseRequest, Reply};
use super::error::{Ineligible, Refusal, RefusalKind};
use super::id::{AccountId, Fence};
use super::lease::Lease;
use super::report::reacquire;
use super::select::Choice;
use super::target::Target;
use super::time::Now;

/// What a request needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestNeeds {
    /// What it is for.
    pub target: Target,
    /// Not these accounts: those that are not served where it goes, and those that have refused it. Sorted.
    pub exclude: Vec<AccountId>,
}

impl Lease {
    /// The lease as this request uses it.
    pub(super) fn used_for(&self, need: &RequestNeeds) -> Self {
        let mut lease = self.clone();
        // on the request's other quota it stays where it is
        if !lease.target.asks_like(&need.target) {
            lease.target = need.target.clone();
        }
        lease
    }
}

impl Pool {
    /// Whether the lease's account can serve a request; else its holder is moved to one that can.
    pub(super) fn serve(
        &mut self,
        now: Now,
        fence: Fence,
        need: &RequestNeeds,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let lease = self.leases.get(&fence).ok_or_else(Refusal::stale)?.used_for(need);
        let slot = self.slot(lease.account)?;
        let ask = LeaseRequest { exclude: need.exclude.clone(), ..reacquire(&lease, None) };
        let goes_on = match self.obstacle(slot, &ask, now) {
            None | Some((Ineligible::Busy, _)) => true,
            // what it probes with is its own
            Some((Ineligible::Limited, _)) => self.probes(slot, fence),
            Some(_) => false,
        };
        if goes_on {
            self.let_lease_through(now, slot, &lease);
            let (action, after) = (Action::Continue, Duration::ZERO);
            return Ok(Reply::Decision(Decision { action, after, reason: None, scope: None, lease: None }));
        }
        let limits = self.accounts[slot].limits.iter();
        let reason = limits.filter(|limit| limit.blocks(lease.target.quota())).map(|limit| limit.reason).next();
        Ok(Reply::Decision(self.move_on(now, &lease, reason.unwrap_or(Reason::Unknown), &need.exclude, effects)))
    }

    /// Why a request gets nothing now.
    #[must_use]
    pub fn refusal_for(&self, now: Now, ask: &LeaseRequest) -> Refusal {
        match self.choose_with(now, ask, now.mono, &mut Vec::new()) {
            Choice::Refuse(refusal) => *refusal,
            Choice::Wait { kind, .. } => self.refusal(now, ask, kind),
            Choice::Grant { .. } => self.refusal(now, ask, RefusalKind::WaitTimeout),
        }
    }

    /// Whether the lease is the probe of every limit that holds.
    fn probes(&self, slot: usize, fence: Fence) -> bool {
        self.accounts[slot].limits.iter().all(|limit| !limit.is_closed() && limit.probe().is_none_or(|by| by == fence))
    }
}
