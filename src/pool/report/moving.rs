//! What the holder of a refused request does next: it moves to another account, waits, or stops.

use crate::limits::{Reason, SHORTEST_HINT, Scope};
use crate::pool::command::{Effect, Effects, Event, LeaseMove, MoveCause};
use crate::pool::lease::{ChosenBy, Ending, Lease, reacquire};
use crate::pool::limit::Limit;
use crate::pool::limit::apply::emit_ends;
use crate::pool::model::{
    AccountId, Action, Decision, Fallback, Fence, Ineligible, LeaseRequest, Now, RefusalDetails, RefusalKind,
};
use crate::pool::report::request_fault::{RequestRefusal, RequestRefusals};
use crate::pool::report::{REFRESH_RETRY, SEAT_RETRY};
use crate::pool::select::choose::{Choice, Chosen};
use crate::pool::select::eligibility::is_closed;
use crate::pool::state::Pool;
use std::time::Duration;

impl Pool {
    /// The refusal reaches this request only: move it to an account that has not refused it, without a limit or a penalty.
    pub(crate) fn pass_on(
        &mut self,
        now: Now,
        lease: &Lease,
        details: &RefusalDetails,
        exclude: &[AccountId],
        effects: &mut Effects,
    ) -> Decision {
        let RefusalDetails { reason, wait, .. } = *details;
        let (account, key) = (lease.account, String::new());
        if !self.draining && self.may_try_again(details, now) && self.request_faults.try_again(lease.fence, account) {
            let retry = Decision::new(Action::Retry, self.settings.limits.retry_delay);
            return Decision { once_more: true, ..retry };
        }
        let step = RequestRefusal { account, reason, scope: Scope::Request, key, points: 0.0 };
        self.request_faults.note(lease.fence, Some(step));
        let decision = self.move_on(now, lease, reason, exclude, effects);
        // a retry on the same account may succeed later, or with a smaller request
        let is_rate = matches!(reason, Reason::RateLimitExceeded | Reason::QuotaExhausted | Reason::Unknown);
        let may_come_through = is_rate && decision.reason.is_none();
        if matches!(decision.action, Action::Stop | Action::Wait) && may_come_through && !self.draining {
            let after = self.until_of(now, &RefusalDetails { wait, ..details.clone() }, 0).mono(now).since(now.mono);
            return Decision { action: Action::Retry, after, ..decision };
        }
        decision
    }

    /// Moves the lease to another account, if there is one; else decides what its holder does.
    pub(crate) fn move_on(
        &mut self,
        now: Now,
        lease: &Lease,
        reason: Reason,
        exclude: &[AccountId],
        effects: &mut Effects,
    ) -> Decision {
        if self.request_faults.is_at_fault(lease.fence, false) {
            return self.stop_faulty_request(now, lease, effects);
        }
        if let Some(fence) = self.follow_move(now, lease.fence, effects) {
            return Decision::switched_to(fence);
        }
        let mut seen_by = self.request_faults.blamed_by(lease.fence);
        seen_by.extend_from_slice(exclude);
        if self.lacks_model(lease, now) {
            seen_by.extend(self.others_without_model(lease, now));
        }
        seen_by.sort_unstable();
        let ask = LeaseRequest { exclude: seen_by, ..reacquire(lease, lease.pinned_account()) };
        // the end of its own account's limit, for when no other time is known
        let own = self.accounts.slot(lease.account).and_then(|slot| match self.ineligible(slot, &ask, now) {
            Some((Ineligible::Limited, Some(until))) => Some((slot, until.mono(now).since(now.mono))),
            _ => None,
        });
        // after a restart nothing is granted before earlier holders had time to resume their leases
        let choice = match self.timers.grace() {
            Some(until) => Choice::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) },
            None => self.choose_at_once(now, lease, &ask),
        };
        if let Choice::Grant(chosen) = choice
            && !self.draining
        {
            let fence = self.switch(now, lease, ask, chosen, MoveCause::Refused(reason), effects);
            self.leases.set_moved_from(fence, lease.account, reason);
            return Decision { lease: Some(fence), ..Decision::new(Action::Switch, Duration::ZERO) };
        }
        if self.request_faults.is_at_fault(lease.fence, true) {
            return self.stop_faulty_request(now, lease, effects);
        }
        let is_renewed = self.account(lease.account).is_some_and(|account| account.renewing.is_some());
        if is_renewed && !self.draining {
            // its own account will be free first, or none will
            return Decision::new(Action::Retry, REFRESH_RETRY);
        }
        if let Choice::Claim { chosen, is_full: false } = choice
            && !self.draining
        {
            // the seat is there in a moment: the holder tries again then
            self.ask_for_seat(now, chosen.slot, &ask);
            return Decision::new(Action::Wait, SEAT_RETRY);
        }
        let after = match (&choice, own) {
            (Choice::Wait { earliest: Some(at), .. }, _) => at.since(now.mono),
            // the others are busy: no request is sent before its own account's limit has ended
            (_, Some((_, own))) if !self.draining => own,
            (Choice::Wait { .. } | Choice::Claim { .. }, _) => SHORTEST_HINT,
            (Choice::Grant(_) | Choice::Refuse(_), _) => return Decision::new(Action::Stop, Duration::ZERO),
        };
        let later = match own {
            Some((slot, own)) if own <= after => self.wait_out(now, slot, lease.fence),
            _ => Duration::ZERO,
        };
        // only where all accounts are limited until known times is it known that none is free before
        let may_end_sooner = !matches!(choice, Choice::Wait { earliest: Some(_), .. } | Choice::Refuse(_));
        Decision { may_end_sooner, ..Decision::new(Action::Wait, after + later) }
    }

    /// Whether the lease's account is known to lack the model.
    fn lacks_model(&self, lease: &Lease, now: Now) -> bool {
        let quota = lease.target.quota();
        let lacks = |limit: &Limit| limit.is_missing_model() && limit.blocks(quota) && !limit.until.passed(now);
        self.account(lease.account).is_some_and(|account| account.limits.iter().any(lacks))
    }

    /// All accounts that are known to lack the model: it is no use to ask them after another one has said so.
    fn others_without_model(&self, lease: &Lease, now: Now) -> Vec<AccountId> {
        let quota = lease.target.quota();
        let lacks = |limit: &Limit| limit.is_missing_model() && limit.blocks(quota) && !limit.until.passed(now);
        let accounts = self.accounts.iter().filter(|account| account.limits.iter().any(lacks));
        accounts.map(|account| account.record.id).collect()
    }

    /// Ends the lease, and continues the request's row of refusals under a new one. `cause` is why, unless the account
    /// cannot serve it any more.
    pub(crate) fn switch(
        &mut self,
        now: Now,
        lease: &Lease,
        ask: LeaseRequest,
        chosen: Chosen,
        cause: MoveCause,
        effects: &mut Effects,
    ) -> Fence {
        let refusals = self.request_faults.take(lease.fence);
        let obstacle = self.obstacle_of(now, lease).filter(|_| cause != MoveCause::Requested);
        let cause = obstacle.unwrap_or(cause);
        self.end_lease(now, lease.fence, Ending::Switched, effects);
        let fence = self.grant(now, Box::new(ask), chosen, effects);
        self.emit_move(lease, fence, cause, effects);
        if let Some(refusals) = refusals {
            self.request_faults.put(fence, refusals);
        }
        fence
    }

    /// Tells subscribers that `to` replaces a lease that has ended, before they learn of its grant. A lease that only
    /// changes the quota pool keeps its account.
    pub(crate) fn emit_move(&self, before: &Lease, to: Fence, cause: MoveCause, effects: &mut Effects) {
        let (before, from) = (before.fence, before.account);
        if self.leases.get(to).is_some_and(|lease| lease.account != from) {
            let granted = effects.pop_if(|effect| *effect == Effect::Emit(Event::Granted(to)));
            effects.push(Effect::Emit(Event::Moved(Box::new(LeaseMove { before, from, to, cause }))));
            effects.extend(granted);
        }
    }

    /// Why the account of a lease cannot serve its next request, if it cannot: its limit that ends last, or its state.
    pub(crate) fn obstacle_of(&self, now: Now, lease: &Lease) -> Option<MoveCause> {
        let account = self.account(lease.account)?;
        let quota = lease.target.quota();
        let limits = account.limits.iter().filter(|limit| limit.is_closed() && limit.holds(now) && limit.blocks(quota));
        if let Some(limit) = limits.max_by_key(|limit| limit.until.mono(now)) {
            return Some(MoveCause::Limited(limit.record(lease.account, now)));
        }
        let slot = self.accounts.slot(lease.account)?;
        match self.ineligible(slot, &reacquire(lease, lease.pinned_account()), now)? {
            // it is this lease that takes the room
            (why, _) if self.is_by_leases(slot, why) => None,
            (why, until) => Some(MoveCause::Unavailable(why, until.map(|until| until.wall(now)))),
        }
    }

    /// Several accounts refused the same request: it is at fault, not the accounts. Where all of them forbid it, it is
    /// tried again for a while first.
    fn stop_faulty_request(&mut self, now: Now, lease: &Lease, effects: &mut Effects) -> Decision {
        if let Some(refusals) = self.request_faults.take(lease.fence) {
            let next = refusals.next_round();
            self.undo_penalties(now, refusals, effects);
            if let Some((row, pause)) = next {
                self.request_faults.put(lease.fence, row);
                return Decision::new(Action::Retry, pause);
            }
        }
        let (reason, scope) = (Some(Reason::RequestRejected), Some(Scope::Request));
        Decision { reason, scope, ..Decision::new(Action::Stop, Duration::ZERO) }
    }

    /// Reverses what the accounts were charged for a request that is itself at fault.
    fn undo_penalties(&mut self, now: Now, refusals: RequestRefusals, effects: &mut Effects) {
        // answers that blamed the request cost their accounts nothing
        for refusal in refusals.refusals.into_iter().filter(|refusal| refusal.scope != Scope::Request) {
            let RequestRefusal { account, reason, scope, key, points } = refusal;
            let Some(slot) = self.accounts.slot(account) else { continue };
            self.accounts.add_health(slot, -points, &self.settings.selection.health, now.mono);
            self.accounts.failures_mut(slot).acquit(scope, &key);
            if self.accounts[slot].limits.is_empty() {
                continue;
            }
            let timers = &mut self.timers;
            let end = self.accounts.change_limits(slot, now, timers, |limits| limits.remove_guess(scope, &key, reason));
            emit_ends(account, end.into_iter().collect(), effects);
        }
    }

    /// Selects as if the lease had ended: a moving lease makes room itself, also for its account's other quota pool.
    pub(crate) fn choose_without(&mut self, now: Now, lease: &Lease, ask: &LeaseRequest) -> Choice {
        let Some(slot) = self.accounts.slot(lease.account) else { return self.choose(now, ask, now.mono) };
        let before = self.accounts.leave_out(slot, lease.kind());
        let fence = lease.fence;
        let probes = self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.take_probes(fence));
        let choice = match self.other_quota(now, slot, ask) {
            Some(choice) => choice,
            None => self.choose(now, ask, now.mono),
        };
        self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.set_probes(probes));
        self.accounts.set_lease_counts(slot, before);
        choice
    }

    /// The same for a lease that must move at once, if it moves: to an account of which this host holds a seat, rather
    /// than to a better one whose seat it would have to claim first.
    pub(crate) fn choose_at_once(&mut self, now: Now, lease: &Lease, ask: &LeaseRequest) -> Choice {
        let choice = self.choose_without(now, lease, ask);
        if !matches!(choice, Choice::Claim { .. }) {
            return choice;
        }
        let with_seats = self.only_with_seats(ask, Some(lease.account));
        match self.choose_without(now, lease, &with_seats) {
            Choice::Grant(chosen) => Choice::Grant(chosen.of_fewer()),
            _ => choice,
        }
    }

    /// A holder waits for the end of its account's limits; returns how much later than that end it should return.
    fn wait_out(&mut self, now: Now, slot: usize, fence: Fence) -> Duration {
        let Some(lease) = self.leases.get(fence) else { return Duration::ZERO };
        let quota = lease.target.quota();
        self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.wait_out(quota, fence, now))
    }

    /// The other quota pool of the lease's own account, where the settings prefer it to another account.
    fn other_quota(&self, now: Now, slot: usize, ask: &LeaseRequest) -> Option<Choice> {
        let quotas = ask.target.quotas(&self.settings.quota);
        if self.settings.quota.fallback != Fallback::SameAccountFirst || quotas.second.is_none() {
            return None;
        }
        let other = is_closed(&self.accounts[slot], self.quotas_of(slot, ask, quotas).first, now);
        let grant = Choice::Grant(Chosen { other, ..Chosen::new(slot, ChosenBy::SameAccount) });
        self.ineligible(slot, ask, now).is_none().then_some(grant)
    }
}
