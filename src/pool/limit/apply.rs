//! Commands and events that set and end limits.

use crate::limits::{Reason, Scope};
use crate::pool::account::failures::Failures;
use crate::pool::account::usage::Usage;
use crate::pool::command::{DenialsEnd, Effect, Effects, Event, Handled, NewLimit, RefusalOrigin, Reply};
use crate::pool::lease::Lease;
use crate::pool::limit::Limit;
use crate::pool::limit::limits::{AccountLimits, LimitEnd, LimitPassing};
use crate::pool::limit::phase::RAMP;
use crate::pool::model::{AccountId, Deadline, Fence, Now, Quota};
use crate::pool::state::Pool;

impl Pool {
    /// Sets a limit; `refusal` is where it comes from.
    pub(crate) fn limit_account(
        &mut self,
        now: Now,
        id: AccountId,
        limit: Limit,
        refusal: RefusalOrigin,
        effects: &mut Effects,
    ) -> Handled {
        self.put_limit(now, id, (limit, refusal), |limits, limit, ends| limits.set(limit, now, ends), effects)
    }

    /// Sets a limit that the other hosts know, whatever this one has of its scope and key.
    pub(crate) fn replace_limit(&mut self, now: Now, id: AccountId, limit: Limit, effects: &mut Effects) -> Handled {
        let limit = (limit, RefusalOrigin::default());
        self.put_limit(now, id, limit, |limits, limit, ends| limits.replace(limit, now, ends), effects)
    }

    fn put_limit(
        &mut self,
        now: Now,
        id: AccountId,
        (limit, refusal): (Limit, RefusalOrigin),
        put: impl FnOnce(&mut AccountLimits, Limit, &mut Vec<LimitEnd>) -> Option<Limit>,
        effects: &mut Effects,
    ) -> Handled {
        let (slot, mut ends) = (self.accounts.slot_of(id)?, Vec::new());
        let is_known = self.accounts[slot].limits.iter().any(|old| self.says_the_same(old, &limit, now));
        let set = self.accounts.change_limits(slot, now, &mut self.timers, |limits| put(limits, limit, &mut ends));
        emit_ends(id, ends, effects);
        if let Some(limit) = set {
            let record = limit.record(id, now);
            effects.push(Effect::SaveLimit(record.clone()));
            if !is_known {
                effects.push(Effect::Emit(Event::Limited(Box::new(NewLimit { record, refusal }))));
            }
        }
        Ok(Reply::Done)
    }

    /// Whether subscribers know of the limit: answers that were under way together name ends that are close together.
    fn says_the_same(&self, old: &Limit, new: &Limit, now: Now) -> bool {
        let (old_end, new_end) = (old.until.mono(now), new.until.mono(now));
        old.is_of(new.scope, &new.key)
            && old.is_closed()
            && (old.reason, old.source) == (new.reason, new.source)
            && new_end.since(old_end).max(old_end.since(new_end)) <= self.settings.limits.dedup_window
    }

    pub(crate) fn clear_limits(&mut self, now: Now, id: AccountId, effects: &mut Effects) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let failures = self.accounts.failures_mut(slot);
        *failures = Failures { service: failures.service, ..Failures::default() };
        if !self.accounts[slot].limits.is_empty() {
            effects.push(Effect::DropLimit(id, None));
        }
        let ends = self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.clear());
        emit_ends(id, ends, effects);
        Ok(Reply::Done)
    }

    pub(crate) fn clear_limit(
        &mut self,
        now: Now,
        id: AccountId,
        (scope, key): (Scope, &str),
        effects: &mut Effects,
    ) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        if self.accounts[slot].limits.iter().any(|limit| limit.is_of(scope, key)) {
            let ends = self
                .accounts
                .change_limits(slot, now, &mut self.timers, |limits| limits.end_elsewhere(scope, key, now.mono));
            emit_ends(id, ends, effects);
        }
        Ok(Reply::Done)
    }

    /// What was refused before does not hold any more.
    pub(crate) fn forget_denials(
        &mut self,
        now: Now,
        id: AccountId,
        why: DenialsEnd,
        effects: &mut Effects,
    ) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        if why != DenialsEnd::Refreshed {
            let failures = self.accounts.failures_mut(slot);
            failures.denied = None;
            failures.unexplained.clear();
        }
        let is_over = |limit: &Limit| match why {
            DenialsEnd::Refreshed => limit.is_denial() && limit.reason == Reason::AuthFailed,
            DenialsEnd::Replaced => limit.is_denial() || limit.is_missing_model(),
            DenialsEnd::Accepted => limit.is_denial(),
        };
        if self.accounts[slot].limits.iter().any(is_over) {
            let ends = self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.end_where(is_over));
            emit_ends(id, ends, effects);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn end_limits(&mut self, now: Now, effects: &mut Effects) {
        let mut due: Vec<usize> = self.timers.due_limits(now).filter_map(|id| self.accounts.slot(id)).collect();
        due.sort_unstable();
        due.dedup();
        if !due.is_empty() {
            // a probe that begins at once makes others wait for longer than they may
            self.queue_dirty.mark_all();
        }
        for slot in due {
            let account = &self.accounts[slot];
            let (id, most) = (account.record.id, account.ceiling(&self.settings.leases));
            let leases = &self.leases;
            let shared = account.seats.as_ref().map(|seats| seats.standing().can_ask());
            // an account that may have so few leases needs no ramp
            let how = LimitPassing { needs_no_ramp: most <= RAMP, shared };
            let ends = self.accounts.change_limits(slot, now, &mut self.timers, |limits| {
                limits.pass(now, how, |fence| leases.contains(fence))
            });
            emit_ends(id, ends, effects);
        }
    }

    /// A lease is used on this quota: recovering limits count it, and a half-open one takes it as its probe.
    pub(crate) fn admit(&mut self, now: Now, slot: usize, fence: Fence, quota: Quota<'_>) {
        let takes_a_place = |limit: &Limit| limit.is_recovering() && limit.blocks(quota);
        if self.accounts[slot].limits.iter().any(takes_a_place) {
            // others wait for the next place now: some of them for longer than they may
            self.queue_dirty.mark_all();
        }
        self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.admit(quota, fence, now.mono));
    }

    /// A request of this lease succeeded: limits that it probed are over, and recovering ones admit more.
    pub(crate) fn probe_succeeded(&mut self, now: Now, slot: usize, lease: &Lease, effects: &mut Effects) {
        let (fence, quota) = (lease.fence, lease.target.quota());
        if self.accounts[slot].limits.iter().any(|limit| !limit.is_kept() && limit.blocks(quota)) {
            self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.widen_ramp(quota));
        }
        if !self.accounts[slot].limits.iter().any(|limit| limit.probe() == Some(fence)) {
            return;
        }
        let id = self.accounts[slot].record.id;
        let ends = self.accounts.change_limits(slot, now, &mut self.timers, |l| l.probe_succeeded(fence, now.mono));
        emit_ends(id, ends, effects);
    }

    /// Ends the limits that the account's usage disproves (I7).
    pub(crate) fn end_disproved(&mut self, now: Now, slot: usize, effects: &mut Effects) {
        let disproves =
            |usage: &Usage, limit: &Limit| limit.reason == Reason::QuotaExhausted && usage.disproves(limit, now);
        let account = &self.accounts[slot];
        if !account.limits.iter().any(|limit| disproves(&account.usage, limit)) {
            return;
        }
        let (id, usage) = (account.record.id, account.usage.clone());
        let ends = self.accounts.change_limits(slot, now, &mut self.timers, |limits| {
            limits.end_disproved(|limit| disproves(&usage, limit))
        });
        emit_ends(id, ends, effects);
    }

    /// The clock was set: the store keeps ends on the wall clock, so the limits that are spans are saved again. Otherwise
    /// a restart would shorten or stretch them (I7).
    pub(crate) fn save_spans(&self, now: Now, effects: &mut Effects) {
        for account in self.accounts.iter() {
            let is_span = |limit: &&Limit| limit.is_kept() && matches!(limit.until, Deadline::Mono(_));
            let spans = account.limits.iter().filter(is_span);
            effects.extend(spans.map(|limit| Effect::SaveLimit(limit.record(account.record.id, now))));
        }
    }
}

/// Tells the store and the subscribers about limits that have ended.
pub(crate) fn emit_ends(id: AccountId, ends: Vec<LimitEnd>, effects: &mut Effects) {
    for end in ends {
        if end.is_deleted {
            effects.push(Effect::DropLimit(id, Some((end.scope, end.key.clone()))));
        }
        if end.is_recovered {
            effects.push(Effect::Emit(Event::Recovered(id, end.key)));
        }
    }
}
