//! Whether a sub-agent runs on the account of the agent that has started it.

use super::InFlight;
use crate::pool::lease::reacquire;
use crate::pool::limit::Limit;
use crate::pool::model::{
    AccountId, ApartFromParent, Fence, LeaseRequest, Mono, Now, RequestNeeds, SubagentPlacement, Target,
};
use crate::pool::select::choose::Choice;
use crate::pool::select::workspace::Workspace;
use crate::pool::state::Pool;

/// With `auto`, so many sub-agents share the account of their parent, and so many requests may be under way there.
const MOST_BESIDE: u32 = 4;

impl Pool {
    /// Why a new sub-agent that asks for `target` does not get its parent's account before others; `None` if it does.
    /// With `auto`, the account must have room for the sub-agent's conversation to go on there, as the prompt cache of it
    /// will be there: only such an account is worth more than one with less load.
    #[must_use]
    pub fn apart_from_parent(
        &self,
        now: Now,
        parent: AccountId,
        target: &Target,
        in_flight: &InFlight,
    ) -> Option<ApartFromParent> {
        match self.settings.selection.subagents {
            SubagentPlacement::WithParent => return None,
            SubagentPlacement::Spread => return Some(ApartFromParent::Setting),
            SubagentPlacement::Auto => {}
        }
        let slot = self.accounts.slot(parent)?;
        let account = &self.accounts[slot];
        let quotas = target.quotas(&self.settings.quota);
        let (quota, under_way) = (self.quota_in_use(account, quotas, now).quota, in_flight.under_way(parent));
        let is_full = in_flight.cap(parent, now.mono).is_some_and(|cap| under_way >= cap);
        if account.limits.iter().any(|limit: &Limit| limit.blocks(quota)) {
            Some(ApartFromParent::Limit)
        } else if self.is_over_threshold(slot, quotas, now) {
            Some(ApartFromParent::SoftThreshold)
        } else if is_full || under_way >= MOST_BESIDE {
            Some(ApartFromParent::InFlight)
        } else if account.subagents >= MOST_BESIDE {
            Some(ApartFromParent::Subagents)
        } else {
            None
        }
    }

    /// The accounts that can serve a request now, that of a lease which it has first, if it can.
    #[must_use]
    pub fn open_accounts(&self, now: Now, ask: &LeaseRequest, held: Option<AccountId>) -> Vec<AccountId> {
        let of_provider = self.accounts.of_provider(&ask.target.provider);
        let slots = of_provider.map_or(&[][..], |provider| provider.slots());
        let pinned = ask.account.as_deref().map(|name| self.accounts.find(name, Some(&ask.target.provider)).ok());
        let is_open = |slot: &usize| {
            let is_held = held == Some(self.accounts[*slot].record.id);
            pinned.is_none_or(|pinned| pinned == Some(*slot))
                && self.ineligible(*slot, ask, now).is_none_or(|(why, _)| is_held && self.is_by_leases(*slot, why))
        };
        let open = slots.iter().copied().filter(is_open).map(|slot| self.accounts[slot].record.id);
        let mut open: Vec<AccountId> = open.collect();
        open.sort_by_key(|id| Some(*id) != held);
        open
    }

    /// Whether a request would get a lease at once.
    #[must_use]
    pub fn would_grant(&self, now: Now, ask: &LeaseRequest) -> bool {
        self.timers.grace().is_none()
            && !self.draining
            && self.has_guest_room(ask)
            && matches!(self.choose_with(now, ask, now.mono, &mut Workspace::default()), Choice::Grant(_))
    }

    /// Whether a lease would serve a request on its account.
    #[must_use]
    pub fn serves_now(&self, now: Now, fence: Fence, needs: &RequestNeeds) -> bool {
        let Some(lease) = self.leases.get_shared(fence).map(|lease| lease.used_for(needs)) else { return false };
        let ask = LeaseRequest { exclude: needs.exclude.clone(), ..reacquire(&lease, None) };
        let slot = self.accounts.slot(lease.account);
        slot.is_some_and(|slot| self.ineligible(slot, &ask, now).is_none_or(|(why, _)| self.is_by_leases(slot, why)))
    }

    /// The account that a session is bound to.
    #[must_use]
    pub fn account_of_session(&self, provider: &str, session: &str, now: Mono) -> Option<AccountId> {
        self.sessions.get(provider, session, now, self.settings.selection.session_ttl)
    }
}
