//! Serving requests under a lease whose needs differ from what the lease was acquired for.

use crate::limits::Reason;
use crate::pool::command::{Effects, Handled, Reply};
use crate::pool::lease::reacquire;
use crate::pool::model::{Action, Decision, Fence, Ineligible, LeaseRequest, Now, Refusal, RefusalKind, RequestNeeds};
use crate::pool::select::choose::Choice;
use crate::pool::state::Pool;
use std::time::Duration;

impl Pool {
    /// Checks that the lease's account can serve a request; else moves the lease to one that can.
    pub(crate) fn serve(&mut self, now: Now, fence: Fence, need: &RequestNeeds, effects: &mut Effects) -> Handled {
        let lease = self.leases.get(fence).ok_or_else(Refusal::stale)?.used_for(need);
        let slot = self.accounts.slot_of(lease.account)?;
        let ask = LeaseRequest { exclude: need.exclude.clone(), ..reacquire(&lease, None) };
        let goes_on = match self.ineligible(slot, &ask, now) {
            None | Some((Ineligible::Busy, _)) => true,
            // it may be the probe itself
            Some((Ineligible::Limited, _)) => self.probes(slot, fence),
            Some(_) => false,
        };
        if goes_on {
            self.admit(now, slot, fence, lease.target.quota());
            return Ok(Reply::Decision(Decision::new(Action::Continue, Duration::ZERO)));
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
