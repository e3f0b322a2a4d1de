//! Failures of the service: they limit no account, but one that only a single account has is left for another one.

use crate::pool::command::{Effects, MoveCause};
use crate::pool::lease::{Lease, reacquire};
use crate::pool::model::{Action, Decision, LeaseRequest, Now, RefusalDetails};
use crate::pool::select::choose::Choice;
use crate::pool::state::Pool;
use std::time::Duration;

/// Before a longer wait another account is asked.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// The account that fails a request so often in a row is left.
const OFTEN: u32 = 2;
/// So many accounts that fail one request prove that the service fails.
const SEVERAL: usize = 3;

impl Pool {
    /// The service failed: try again, or on another account. The gateway counts the attempts of a request itself, and
    /// chooses where it sends the last one: then `is_counted` is set.
    pub(crate) fn service_failed(
        &mut self,
        now: Now,
        lease: &Lease,
        details: &RefusalDetails,
        is_counted: bool,
        effects: &mut Effects,
    ) -> Decision {
        self.give_token_back(now, lease);
        let after = self.until_of(now, details, 0).mono(now).since(now.mono);
        let retry = Decision::new(Action::Retry, after);
        let Some(slot) = self.accounts.slot(lease.account) else { return retry };
        let failed = self.request_faults.note_failure(lease.fence, lease.account, now.mono);
        let is_only_here = self.note_service_failure(now, slot);
        let is_long = details.wait.is_some_and(|wait| wait.span(now) > LONG_WAIT);
        let leaves = !is_counted && (is_long || is_only_here || failed.times >= OFTEN);
        if !leaves || failed.accounts.len() >= SEVERAL || self.draining || self.timers.grace().is_some() {
            return retry;
        }
        let mut seen = failed.accounts;
        seen.sort_unstable();
        let ask = LeaseRequest { exclude: seen, ..reacquire(lease, lease.pinned_account()) };
        match self.choose_at_once(now, lease, &ask) {
            Choice::Grant(chosen) => {
                let fence = self.switch(now, lease, ask, chosen, MoveCause::Refused(details.reason), effects);
                self.leases.set_moved_from(fence, lease.account, details.reason);
                Decision { lease: Some(fence), ..Decision::new(Action::Switch, Duration::ZERO) }
            }
            Choice::Claim { chosen, .. } => {
                self.ask_for_seat(now, chosen.slot, &ask);
                retry
            }
            Choice::Wait { .. } | Choice::Refuse(_) => retry,
        }
    }

    /// Notes a failure of the service on an account. Where another account has succeeded since the first one, it is the
    /// account's own, and costs it health. Returns whether that is so.
    fn note_service_failure(&mut self, now: Now, slot: usize) -> bool {
        let since = *self.accounts.failures_mut(slot).service.since.get_or_insert(now.mono);
        let provider = &self.accounts[slot].record.provider;
        let is_only_here = self.accounts.of_provider(provider).is_some_and(|all| {
            let succeeded =
                |&other: &usize| self.accounts[other].failures.service.succeeded.is_some_and(|at| at > since);
            all.slots().iter().any(|other| *other != slot && succeeded(other))
        });
        let window = self.settings.limits.dedup_window;
        let service = &mut self.accounts.failures_mut(slot).service;
        let is_event = service.charged.is_none_or(|at| now.mono.since(at) >= window);
        if is_only_here && is_event {
            service.charged = Some(now.mono);
            let settings = &self.settings.selection.health;
            self.accounts.add_health(slot, settings.failure, settings, now.mono);
        }
        is_only_here
    }
}
