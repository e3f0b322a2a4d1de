//! How often something failed: the retry counter, and the ladder of exhausted quotas.

use std::time::Duration;

use crate::limits::{Reason, SHORTEST_HINT};

use super::Pool;
use super::account::Refused as Counted;
use super::command::{RefusalDetails, StatedWait};
use super::error::Ineligible;
use super::report::{Refused, reacquire};
use super::settings::LimitSettings;
use super::time::{Deadline, Now};

/// Most refusals of one account that are remembered for counting; the oldest goes first.
const MOST_REFUSED: usize = 32;
/// A back-off is at least the clock's own step.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);
/// The first retry on the only account there is; twice as long with each failure in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest of them.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What counting a refusal came to.
pub(super) struct Count {
    /// Whether it is an event of its own.
    pub(super) counts: bool,
    /// Whether its holder tries once more before it moves.
    pub(super) once_more: bool,
    /// Failures in a row, this one included.
    pub(super) failures: u32,
}

impl LimitSettings {
    /// The wait before the next attempt on the only account there is.
    pub(super) fn retry_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(10);
        (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY)
    }
}

impl Pool {
    /// Whether nobody else could ever serve, and only trying again tells how long this account cannot.
    pub(super) fn is_only(&self, now: Now, refused: &Refused<'_>) -> bool {
        let RefusalDetails { reason, wait, .. } = *refused.finding;
        if wait.is_some() || !matches!(reason, Reason::RateLimitExceeded | Reason::Unknown) {
            return false;
        }
        let lease = refused.lease;
        let Some(ring) = self.rings.get(&lease.target.provider) else { return false };
        let ask = reacquire(lease, None);
        let may_serve = |slot: usize| {
            let why = self.obstacle(slot, &ask, now).map(|(why, _)| why);
            matches!(
                why,
                None | Some(Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing | Ineligible::Busy)
            )
        };
        ring.slots.iter().all(|&slot| slot == refused.slot || !may_serve(slot))
    }

    /// Whether the first of these is answered by one more attempt instead of a move.
    pub(super) fn may_try_again(&self, finding: &RefusalDetails, now: Now) -> bool {
        let short = |wait: StatedWait| match wait {
            StatedWait::In(span) => span <= SHORTEST_HINT,
            StatedWait::At(at) => at.since(now.wall) <= SHORTEST_HINT,
        };
        !self.settings.limits.switch_on_first_rate_limit
            && matches!(finding.reason, Reason::RateLimitExceeded | Reason::Unknown)
            && finding.wait.is_none_or(short)
    }

    /// Counts a refusal, unless it is the same event as one counted just before. `only` says that the holder retries in
    /// any case, `once` that it does so the first time.
    pub(super) fn count_refusal(&mut self, now: Now, refused: &Refused<'_>, only: bool, once: bool) -> Count {
        let (window, memory) = (self.settings.limits.dedup_window, self.settings.limits.reset_after);
        let (scope, key, fence) = (refused.scope, &refused.key, refused.lease.fence);
        let known = &mut self.accounts[refused.slot].refused;
        known.retain(|known| now.mono.since(known.at) < memory.max(window));
        let Some(known) = known.iter_mut().find(|known| known.scope == scope && known.key == *key) else {
            if known.len() >= MOST_REFUSED {
                known.remove(0);
            }
            let retried = only || once;
            known.push(Counted { scope, key: key.clone(), at: now.mono, fence, retried, failures: 1 });
            return Count { counts: true, once_more: once && !only, failures: 1 };
        };
        let same_event = now.mono.since(known.at) < window;
        // who was told to try once more and is back has met a second event, however soon
        let back = known.retried && known.fence == fence;
        if same_event && !back {
            return Count { counts: false, once_more: once && !only && known.retried, failures: known.failures };
        }
        (known.at, known.fence, known.retried) = (now.mono, fence, only);
        known.failures = known.failures.saturating_add(1);
        Count { counts: true, once_more: false, failures: known.failures }
    }

    /// A success: nothing failed in a row, but one event is still one.
    pub(super) fn forget_failures(&mut self, now: Now, slot: usize) {
        let window = self.settings.limits.dedup_window;
        let account = &mut self.accounts[slot];
        account.quota_failures = 0;
        account.refused.retain(|refused| now.mono.since(refused.at) < window);
        for refused in &mut account.refused {
            refused.failures = 0;
        }
    }

    /// The failures before this one, for the ladder.
    pub(super) fn climb(&mut self, now: Now, slot: usize, reason: Reason, counts: bool) -> u32 {
        let ttl = self.settings.limits.quota_failure_ttl;
        let account = &mut self.accounts[slot];
        if !climbs(reason) {
            return 0;
        }
        if now.mono > account.quota_until.after(ttl) {
            account.quota_failures = 0;
        }
        if !counts {
            return account.quota_failures.saturating_sub(1);
        }
        account.quota_failures = account.quota_failures.saturating_add(1);
        account.quota_failures - 1
    }

    /// Until when the refusal holds: the stated time, not sooner than in two seconds, else the table's.
    pub(super) fn until_of(&self, now: Now, finding: &RefusalDetails, failures: u32) -> Deadline {
        let soonest = now.mono.after(SHORTEST_HINT);
        match finding.wait {
            Some(StatedWait::At(at)) if now.mono_of(at) >= soonest => Deadline::Wall(at),
            Some(StatedWait::At(_)) => Deadline::Mono(soonest),
            Some(StatedWait::In(span)) => Deadline::Mono(now.mono.after(span).max(soonest)),
            None => Deadline::Mono(now.mono.after(self.backoff(finding.reason, failures))),
        }
    }

    fn backoff(&self, reason: Reason, failures: u32) -> Duration {
        let table = self.settings.limits.backoff.wait(reason, None, failures as usize);
        // a configured zero would send the holder back to the account that just refused it
        table.max(SHORTEST_BACKOFF)
    }
}

/// Whether this reason climbs the ladder.
pub(super) fn climbs(reason: Reason) -> bool {
    matches!(reason, Reason::QuotaExhausted | Reason::OutOfCredit | Reason::Forbidden)
}
