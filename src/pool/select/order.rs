//! The order of accounts before the strategy: fallbacks and paid overage come last, then what is nearly used up.

use crate::pool::account::Account;
use crate::pool::account::digest::Rank;
use crate::pool::model::{LeaseRequest, Now, QuotaChoice, QuotaChoices};
use crate::pool::select::eligibility::is_closed;
use crate::pool::select::place;
use crate::pool::state::Pool;

/// Why an account is used after others, whatever their load: the later, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Resort {
    is_fallback: bool,
    pays_overage: bool,
}

impl Pool {
    /// Whether the account is a last resort, and one that is to be used before it can serve: it pays for requests beyond
    /// its plan and the other one does not, or it is a fallback and the other one is not.
    pub(crate) fn is_left_for_another(&self, now: Now, ask: &LeaseRequest, quotas: QuotaChoices, slot: usize) -> bool {
        let resort = self.resort(slot, ask, quotas, now);
        if resort == Resort::default() {
            return false;
        }
        // any quota of another account is used before a fallback
        let quotas = if resort.is_fallback { ask.target.quotas(&self.settings.quota) } else { quotas };
        let is_earlier = |other: usize| {
            other != slot
                && self.resort(other, ask, quotas, now) < resort
                && self.ineligible_on(other, ask, quotas, now).is_none()
        };
        let provider = self.accounts.of_provider(&ask.target.provider);
        provider.is_some_and(|all| all.slots().iter().any(|&other| is_earlier(other)))
    }

    fn resort(&self, slot: usize, ask: &LeaseRequest, quotas: QuotaChoices, now: Now) -> Resort {
        let pays_overage = self.avoids(slot, self.quotas_of(slot, ask, quotas), now);
        Resort { is_fallback: self.accounts[slot].policy.fallback_only, pays_overage }
    }

    /// Whether the quota that would serve is paid for beyond the plan, which the settings avoid.
    pub(crate) fn avoids(&self, slot: usize, quotas: QuotaChoices, now: Now) -> bool {
        let account = &self.accounts[slot];
        !account.overage.is_empty()
            && place::avoids(account, &self.settings.quota, self.quota_in_use(account, quotas, now).quota, now)
    }

    /// The account's rank on the quota that would serve.
    pub(crate) fn rank_on(&self, slot: usize, rank: Rank, quotas: QuotaChoices, now: Now) -> Rank {
        let account = &self.accounts[slot];
        place::rank_on(rank, account, &self.settings, self.quota_in_use(account, quotas, now).quota, now)
    }

    /// Whether the quota that would serve is over the soft threshold.
    pub(crate) fn is_over_threshold(&self, slot: usize, quotas: QuotaChoices, now: Now) -> bool {
        let account = &self.accounts[slot];
        let quota = self.quota_in_use(account, quotas, now).quota;
        place::is_over_threshold(account, &self.settings.quota, quota, now)
    }

    /// The quota of the account that would serve.
    pub(crate) fn quota_in_use<'a>(&self, account: &Account, quotas: QuotaChoices<'a>, now: Now) -> QuotaChoice<'a> {
        quotas.second.filter(|_| is_closed(account, quotas.first, now)).unwrap_or(quotas.first)
    }
}
