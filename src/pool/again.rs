//! Who comes back: a process that asks once more for what it holds already.

use super::Pool;
use super::command::LeaseRequest;
use super::id::Fence;
use super::lease::{Bind, Lease};
use super::obstacle::closed_on;
use super::target::{Lane, Lanes};
use super::time::Now;

impl Pool {
    /// The lease that the process of `ask` holds for the same purpose, and whether its account still serves it; of
    /// several the newest. How many leases the account carries does not matter: this is one of them.
    #[must_use]
    pub fn held_already(&self, now: Now, ask: &LeaseRequest) -> Option<(Fence, bool)> {
        let Bind::Process(process) = ask.bind else { return None };
        let held = self.by_process.get(&process)?.iter().filter_map(|fence| self.leases.get(fence));
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
        // of two quotas the one it was leased on; what is kept back for others was decided then
        let lane = Lane { quota: lease.target.quota(), reserve: 0.0 };
        account.can_serve()
            && account.allows(ask.agent.as_deref())
            && !ask.exclude.contains(&account.record.id)
            && closed_on(account, Lanes::only(lane), now).is_none()
    }
}

/// Whether the lease is what `ask` asks for.
fn is_for(lease: &Lease, ask: &LeaseRequest) -> bool {
    lease.target.asks_like(&ask.target)
        && lease.session == ask.session
        && lease.agent == ask.agent
        && lease.pinned == ask.account.is_some()
        && !lease.exclusive
        && !ask.exclusive
}
