//! The duty to probe a shared account: asked for when a request needs it, given up when no limit does.

use crate::pool::command::{Effect, Effects, Handled, Reply};
use crate::pool::model::{AccountId, LeaseRequest, Now, Quota, Refusal, RefusalKind};
use crate::pool::state::Pool;

impl Pool {
    /// Whether a request on this quota would be a probe that another host may be sending.
    #[inline]
    pub(crate) fn awaits_probe(&self, slot: usize, quota: Quota<'_>) -> bool {
        let account = &self.accounts[slot];
        account.seats.is_some() && account.limits.awaits_duty(quota)
    }

    /// A request needs the duty: it is asked for at the end of the command.
    pub(crate) fn want_probe(&mut self, now: Now, slot: usize, ask: &LeaseRequest) {
        let quotas = ask.target.quotas(&self.settings.quota);
        for quota in std::iter::once(quotas.first).chain(quotas.second).map(|choice| choice.quota) {
            if self.awaits_probe(slot, quota) {
                self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.want_duty(quota));
            }
        }
    }

    pub(crate) fn probe_claimed(&mut self, now: Now, id: AccountId) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let leases = &self.leases;
        let is_needed = self.accounts.change_limits(slot, now, &mut self.timers, |limits| {
            limits.duty_claimed(now.mono, |fence| leases.contains(fence))
        });
        self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.probe_answered(is_needed));
        if is_needed {
            return Ok(Reply::Done);
        }
        Err(Refusal::new(RefusalKind::BadRequest, format!("no limit of {id} waits for the duty to probe it")))
    }

    pub(crate) fn probe_denied(&mut self, now: Now, id: AccountId) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.duty_denied(now.mono));
        self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.probe_answered(false));
        Ok(Reply::Done)
    }

    /// Asks for the duty if a request needs it, and gives it up if no limit does.
    pub(crate) fn claim_probe(&mut self, now: Now, slot: usize, effects: &mut Effects) {
        let (limits, account) = (&self.accounts[slot].limits, self.accounts[slot].record.id);
        if limits.is_claiming_duty() {
            let limits = self.accounts.count_admission(slot, now, &mut self.timers, |l| l.claim_duty(now.mono));
            if !limits.is_empty() {
                effects.push(Effect::ClaimProbe { account, limits });
            }
        }
        let uses_duty = self.accounts[slot].limits.uses_duty();
        let is_over = self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.leave_probe(uses_duty));
        if is_over == Some(true) {
            effects.push(Effect::GiveUpProbe(account));
        }
    }
}
