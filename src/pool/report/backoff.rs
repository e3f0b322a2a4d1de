//! Back-off: counting failures, and the waits where the server states none.

use crate::limits::{Reason, SHORTEST_HINT, Scope, Verdict};
use crate::pool::account::failures::{CountedRefusal, FIRST_DENIAL};
use crate::pool::lease::reacquire;
use crate::pool::limit::Limit;
use crate::pool::model::{Deadline, Ineligible, LimitSettings, Now, RefusalDetails, StatedWait};
use crate::pool::report::{AccountRefusal, LASTING};
use crate::pool::state::Pool;
use std::time::Duration;

/// Most refusals of one account that are kept for counting; the oldest is dropped first.
const MOST_REFUSED: usize = 32;
/// The shortest back-off: the clock's resolution.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);
/// The first retry wait on the only account; twice as long with each consecutive failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest retry wait on the only account.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

pub(crate) struct CountedEvent {
    /// Whether it is an event of its own.
    pub(crate) counts: bool,
    /// Whether its holder retries once before it moves.
    pub(crate) once_more: bool,
    /// Consecutive failures, including this one.
    pub(crate) failures: u32,
    /// Its request was sent before the last counted refusal.
    pub(crate) was_under_way: bool,
}

/// How long a first refusal of this kind, which the request is not at fault for, keeps the account or model from use.
/// Zero where waiting does not help.
#[must_use]
pub fn first_wait(settings: &LimitSettings, verdict: &Verdict) -> Duration {
    let is_denial = matches!(verdict.reason, Reason::AuthFailed | Reason::Forbidden);
    if verdict.lasting && verdict.scope != Scope::Pool {
        verdict.wait.unwrap_or_default().max(LASTING)
    } else if is_denial && verdict.scope == Scope::Account && verdict.wait.is_none() {
        FIRST_DENIAL
    } else {
        settings.backoff.wait(verdict.reason, verdict.wait, 0)
    }
}

impl LimitSettings {
    /// The wait before the next attempt on the only account.
    pub(crate) fn retry_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(10);
        (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY)
    }
}

impl Pool {
    /// Whether no other account could ever serve, and only another attempt shows how long this one cannot.
    pub(crate) fn is_only(&self, now: Now, refused: &AccountRefusal) -> bool {
        let RefusalDetails { reason, wait, lasting, .. } = *refused.details;
        if wait.is_some() || lasting || !matches!(reason, Reason::RateLimitExceeded | Reason::Unknown) {
            return false;
        }
        let lease = refused.lease;
        let Some(provider) = self.accounts.of_provider(&lease.target.provider) else { return false };
        let ask = reacquire(lease, None);
        let may_serve = |slot: usize| {
            let why = self.ineligible(slot, &ask, now).map(|(why, _)| why);
            matches!(
                why,
                None | Some(Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing | Ineligible::Busy)
            )
        };
        provider.slots().iter().all(|&slot| slot == refused.slot || !may_serve(slot))
    }

    /// Whether the first such refusal leads to a retry instead of a move.
    pub(crate) fn may_try_again(&self, details: &RefusalDetails, now: Now) -> bool {
        let short = |wait: StatedWait| match wait {
            StatedWait::In(span) => span <= SHORTEST_HINT,
            StatedWait::At(at) => at.since(now.wall) <= SHORTEST_HINT,
        };
        !self.settings.limits.switch_on_first_rate_limit
            && matches!(details.reason, Reason::RateLimitExceeded | Reason::Unknown)
            && details.wait.is_none_or(short)
    }

    /// Counts a refusal, unless it is the same event as one counted before. `only` says that the holder always retries,
    /// `once` that it retries the first time.
    pub(crate) fn count(&mut self, now: Now, refused: &AccountRefusal, only: bool, once: bool) -> CountedEvent {
        let (window, memory) = (self.settings.limits.dedup_window, self.settings.limits.reset_after);
        let (scope, key, fence) = (refused.scope, &refused.key, refused.lease.fence);
        // while its limit is closed, what arrives was under way before
        let of_key = |limit: &&Limit| limit.is_of(scope, key) && limit.is_closed() && !limit.until.passed(now);
        let is_closed = self.accounts[refused.slot].limits.iter().any(|limit| of_key(&limit));
        let back_at = once.then(|| now.mono.after(self.settings.limits.retry_delay)).or(only.then_some(now.mono));
        let known = &mut self.accounts.failures_mut(refused.slot).recent;
        known.retain(|known| now.mono.since(known.at) < memory.max(window));
        let Some(known) = known.iter_mut().find(|known| known.scope == scope && known.key == *key) else {
            if known.len() >= MOST_REFUSED {
                known.remove(0);
            }
            known.push(CountedRefusal { scope, key: key.clone(), at: now.mono, fence, back_at, failures: 1 });
            return CountedEvent {
                counts: !is_closed,
                once_more: once && !only,
                failures: 1,
                was_under_way: is_closed,
            };
        };
        let was_under_way = is_closed || refused.sent_at < known.at;
        let same_event = was_under_way || now.mono.since(known.at) < window;
        // a holder whose report was answered `retry` reports a second event, however soon
        let is_back = known.fence == fence && known.back_at.is_some_and(|at| now.mono >= at);
        if same_event && (was_under_way || !is_back) {
            let once_more = once && !only && known.back_at.is_some();
            return CountedEvent { counts: false, once_more, failures: known.failures, was_under_way };
        }
        (known.at, known.fence, known.back_at) = (now.mono, fence, back_at.filter(|_| only));
        known.failures = known.failures.saturating_add(1);
        CountedEvent { counts: true, once_more: false, failures: known.failures, was_under_way: false }
    }

    /// A success ends the row of failures; but within the window one event still counts once.
    pub(crate) fn forget_failures(&mut self, now: Now, slot: usize) {
        let window = self.settings.limits.dedup_window;
        let failures = self.accounts.failures_mut(slot);
        failures.quota = 0;
        failures.recent.retain(|counted| now.mono.since(counted.at) < window);
        for counted in &mut failures.recent {
            counted.failures = 0;
        }
    }

    /// Counts a quota failure, if it is an event of its own; returns the number of consecutive ones before it.
    pub(crate) fn count_quota_failure(&mut self, now: Now, slot: usize, reason: Reason, counts: bool) -> u32 {
        let ttl = self.settings.limits.quota_failure_ttl;
        let failures = self.accounts.failures_mut(slot);
        if !is_quota_failure(reason) {
            return 0;
        }
        if now.mono > failures.quota_until.after(ttl) {
            failures.quota = 0;
        }
        if !counts {
            return failures.quota.saturating_sub(1);
        }
        failures.quota = failures.quota.saturating_add(1);
        failures.quota - 1
    }

    /// Until when the refusal holds: the stated time, but at least two seconds; else the back-off table's.
    pub(crate) fn until_of(&self, now: Now, details: &RefusalDetails, failures: u32) -> Deadline {
        let soonest = now.mono.after(SHORTEST_HINT);
        match details.wait {
            Some(StatedWait::At(at)) if now.mono_of(at) >= soonest => Deadline::Wall(at),
            Some(StatedWait::At(_)) => Deadline::Mono(soonest),
            Some(StatedWait::In(span)) => Deadline::Mono(now.mono.after(span).max(soonest)),
            None => Deadline::Mono(now.mono.after(self.backoff(details.reason, failures))),
        }
    }

    fn backoff(&self, reason: Reason, failures: u32) -> Duration {
        let table = self.settings.limits.backoff.wait(reason, None, failures as usize);
        // a wait of zero would send the holder back to the account that just refused it
        table.max(SHORTEST_BACKOFF)
    }
}

/// Whether the back-off of this reason grows with consecutive failures.
pub(crate) fn is_quota_failure(reason: Reason) -> bool {
    matches!(reason, Reason::QuotaExhausted | Reason::OutOfCredit)
}
