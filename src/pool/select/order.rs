//! The order of accounts before the strategy: fallbacks and paid overage come last, then what is nearly used up. A scan
//! finds the accounts that lead it.

use crate::pool::account::Account;
use crate::pool::account::digest::{Rank, SelectionKey};
use crate::pool::model::{LeaseRequest, Now, QuotaChoice, QuotaChoices};
use crate::pool::select::eligibility::{is_closed, is_closed_on};
use crate::pool::select::place;
use crate::pool::select::workspace::Leaders;
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
        let account = &self.accounts[slot];
        let pays_overage = !account.overage.is_empty() && self.avoids(slot, self.quotas_of(slot, ask, quotas), now);
        Resort { is_fallback: account.policy.fallback_only, pays_overage }
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

impl Pool {
    /// Finds the leaders among `slots`; whether there are any.
    pub(super) fn leading(
        &self,
        now: Now,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        slots: impl Iterator<Item = usize>,
        leaders: &mut Leaders,
    ) -> bool {
        leaders.clear();
        let mut agents = None;
        let leases = &self.settings.leases;
        let parent = ask.subagent.as_ref().and_then(|subagent| self.accounts.slot(subagent.parent?));
        let tier_first = self.settings.selection.tier_first;
        let set = self.membership(&ask.set);
        let are_alike = ask.exclude.is_empty() && !set.is_restricted();
        for slot in slots {
            let key = self.accounts.key(slot);
            if leaders.add_alike(slot, key) {
                continue;
            }
            let rank = key.rank_for(ask);
            let order = if tier_first { rank } else { rank.any_tier() };
            // an account that ranks behind even below the threshold, and has more load than another, changes nothing
            if leaders.ignore(order) {
                continue;
            }
            let has_room = key.has_room(leases, ask);
            if !key.is_ready()
                || !has_room && parent != Some(slot)
                || key.lacks_seat(ask)
                || set.is_restricted() && !set.has(&self.accounts[slot])
                || !self.is_open(slot, key, ask, quotas, now, &mut agents)
            {
                continue;
            }
            leaders.note_load(order);
            let order = if key.is_unmeasured() {
                order
            } else {
                self.rank_on(slot, order, self.quotas_of(slot, ask, quotas), now)
            };
            // the parent's account may lead without room, the others may not
            let is_plain = are_alike && has_room && key.is_unlimited() && key.is_unmeasured();
            leaders.add(slot, order, is_plain.then_some(key));
        }
        !leaders.ties.is_empty()
    }

    /// Whether an account that is ready and has room is eligible: as `ineligible`, without the reason. `agents` keeps the
    /// answer for the list of agents compared last; neighbours mostly share one.
    #[inline]
    pub(super) fn is_open(
        &self,
        slot: usize,
        key: SelectionKey,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        now: Now,
        agents: &mut Option<(usize, bool)>,
    ) -> bool {
        let account = &self.accounts[slot];
        let is_plain = key.is_unlimited() && key.is_unmeasured() && !quotas.pools_only;
        if !is_plain && (self.is_kept_back(slot, ask) || is_closed_on(account, self.quotas_of(slot, ask, quotas), now))
            || !ask.exclude.is_empty() && ask.exclude.binary_search(&account.record.id).is_ok()
        {
            return false;
        }
        match *agents {
            _ if key.allowed_agents() == 0 => true,
            Some((known, allowed)) if key.allowed_agents() == known => allowed,
            _ => {
                let allowed = account.admits(ask.agent.as_deref(), &ask.holder);
                *agents = Some((key.allowed_agents(), allowed));
                allowed
            }
        }
    }
}
