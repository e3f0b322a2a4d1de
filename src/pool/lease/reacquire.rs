//! Acquiring again: a process that requests what it holds already.

use crate::pool::lease::Lease;
use crate::pool::model::{Bind, Fence, LeaseRequest, Now, QuotaChoice, QuotaChoices};
use crate::pool::select::eligibility::closed_on;
use crate::pool::state::Pool;

impl Pool {
    /// The newest lease that the process of `ask` already holds for the same request, and whether its account can still
    /// serve it. The number of leases of the account does not matter: this is one of them.
    #[must_use]
    pub fn held_already(&self, now: Now, ask: &LeaseRequest) -> Option<(Fence, bool)> {
        let Bind::Process(process) = ask.bind else { return None };
        let held = self.leases.of_process(process).iter().filter_map(|fence| self.leases.get(*fence));
        let pinned = ask.account.as_deref().map(|reference| self.find_account(reference).ok());
        let named = |lease: &&Lease| match &pinned {
            Some(account) => account.is_some_and(|account| account.record.id == lease.account),
            None => true,
        };
        let same = held.filter(|lease| is_for(lease, ask)).filter(named).max_by_key(|lease| lease.fence)?;
        Some((same.fence, self.serves_on(now, same, ask)))
    }

    fn serves_on(&self, now: Now, lease: &Lease, ask: &LeaseRequest) -> bool {
        let Some(account) = self.account(lease.account) else { return false };
        // the quota it was leased on; reserves were checked then
        let quota = QuotaChoice { quota: lease.target.quota(), reserve: 0.0 };
        account.can_serve()
            && account.allows(ask.agent.as_deref())
            && !ask.exclude.contains(&account.record.id)
            && closed_on(account, QuotaChoices::only(quota), now).is_none()
    }
}

/// Whether the lease is what `ask` requests.
fn is_for(lease: &Lease, ask: &LeaseRequest) -> bool {
    lease.target.is_same_request(&ask.target)
        && lease.session == ask.session
        && lease.agent == ask.agent
        && lease.pinned == ask.account.is_some()
        && !lease.exclusive
        && !ask.exclusive
}
