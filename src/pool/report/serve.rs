//! A holder's lease serves its next request, or moves to an account that can.

use crate::limits::Reason;
use crate::pool::command::{Effects, Handled, MoveCause, Reply};
use crate::pool::lease::{Lease, reacquire};
use crate::pool::model::{
    AccountId, Action, Decision, Fence, Ineligible, LeaseRequest, Mode, Now, Refusal, RefusalKind, RequestNeeds,
};
use crate::pool::select::choose::Choice;
use crate::pool::select::workspace::Workspace;
use crate::pool::state::Pool;
use std::time::Duration;

impl Pool {
    /// Checks that the lease's account can serve a request; else moves the lease to one that can.
    pub(crate) fn serve(&mut self, now: Now, asked: Fence, need: &RequestNeeds, effects: &mut Effects) -> Handled {
        let fence = self.follow_move(now, asked, effects).unwrap_or(asked);
        let lease = self.leases.get_shared(fence).ok_or_else(Refusal::stale)?.used_for(need);
        let slot = self.accounts.slot_of(lease.account)?;
        let ask = LeaseRequest { exclude: need.exclude.clone(), ..reacquire(&lease, lease.pinned_account()) };
        let goes_on = match self.ineligible(slot, &ask, now) {
            // another host may be probing it
            _ if self.awaits_probe(slot, lease.target.quota()) => false,
            None => true,
            Some((why, _)) if self.is_by_leases(slot, why) => true,
            // it may be the probe itself
            Some((Ineligible::Limited, _)) => self.probes(slot, fence),
            // where every account lacks the model, any of them may be asked
            Some((Ineligible::LacksModel, _)) => lease.pinned || !self.has_open_account(&ask, now),
            Some(_) => false,
        };
        if goes_on {
            if let Some(fence) = self.rotate(now, &lease, slot, &need.exclude, effects) {
                return Ok(Reply::Decision(Decision::switched_to(fence)));
            }
            self.leases.set_sent_at(fence, now.mono);
            self.admit(now, slot, fence, lease.target.quota());
            let goes_on = Decision::new(Action::Continue, Duration::ZERO);
            return Ok(Reply::Decision(if fence == asked { goes_on } else { Decision::switched_to(fence) }));
        }
        let limits = self.accounts[slot].limits.iter();
        let reason = limits.filter(|limit| limit.blocks(lease.target.quota())).map(|limit| limit.reason).next();
        let decision = self.move_on(now, &lease, reason.unwrap_or(Reason::Unknown), &need.exclude, effects);
        // it has moved in any case, wherever the request goes
        let lease = decision.lease.or((fence != asked).then_some(fence));
        Ok(Reply::Decision(Decision { lease, ..decision }))
    }

    /// Moves a lease that could stay: to take accounts in turn, to one whose plan is not used up, or away from a fallback.
    fn rotate(
        &mut self,
        now: Now,
        lease: &Lease,
        slot: usize,
        exclude: &[AccountId],
        effects: &mut Effects,
    ) -> Option<Fence> {
        let in_turn = self.settings.selection.mode == Mode::PerformanceFirst;
        let is_fixed = lease.pinned || lease.exclusive || self.draining || self.timers.grace().is_some();
        let account = &self.accounts[slot];
        let is_fallback = account.policy.fallback_only;
        if is_fixed || !in_turn && !is_fallback && account.overage.is_empty() {
            return None;
        }
        let ask = LeaseRequest { exclude: exclude.to_vec(), ..reacquire(lease, None) };
        let quotas = ask.target.quotas(&self.settings.quota);
        if !in_turn && !self.is_left_for_another(now, &ask, quotas, slot) {
            return None;
        }
        match self.choose_at_once(now, lease, &ask) {
            // it stays where it is until the seat is there
            Choice::Claim { chosen, is_full: false } if chosen.slot != slot => {
                self.ask_for_seat(now, chosen.slot, &ask);
                None
            }
            Choice::Grant(chosen) if chosen.slot != slot => {
                let cause = match (in_turn, is_fallback) {
                    (true, _) => MoveCause::Turn,
                    (false, true) => MoveCause::Fallback,
                    (false, false) => MoveCause::Overage,
                };
                let pays_overage = cause == MoveCause::Overage;
                let fence = self.switch(now, lease, ask, chosen, cause, effects);
                if pays_overage {
                    self.leases.set_moved_from(fence, lease.account, Reason::QuotaExhausted);
                }
                Some(fence)
            }
            _ => None,
        }
    }

    fn has_open_account(&self, ask: &LeaseRequest, now: Now) -> bool {
        let provider = self.accounts.of_provider(&ask.target.provider);
        provider.is_some_and(|all| all.slots().iter().any(|&slot| self.ineligible(slot, ask, now).is_none()))
    }

    /// Why a request gets nothing now.
    pub fn refusal_for(&self, now: Now, ask: &LeaseRequest) -> Refusal {
        match self.choose_with(now, ask, now.mono, &mut Workspace::default()) {
            Choice::Refuse(refusal) => *refusal,
            Choice::Wait { kind, .. } => self.refusal(now, ask, kind),
            Choice::Claim { .. } => self.refusal(now, ask, RefusalKind::NoCapacity),
            Choice::Grant(_) => self.refusal(now, ask, RefusalKind::WaitTimeout),
        }
    }

    /// Whether the lease is the probe of every limit that holds.
    fn probes(&self, slot: usize, fence: Fence) -> bool {
        self.accounts[slot].limits.iter().all(|limit| !limit.is_closed() && limit.probe().is_none_or(|by| by == fence))
    }
}
