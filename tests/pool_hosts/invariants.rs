//! What must hold at each grant, and at all times over all hosts together.

use lessor::pool::Fence;

use super::world::World;

impl World {
    /// A lease was granted.
    pub fn granted(&mut self, n: usize, fence: Fence) {
        let host = &mut self.hosts[n];
        assert!(fence > host.last_fence || host.may_resume, "{fence:?} after {:?} on host {n}", host.last_fence);
        host.last_fence = host.last_fence.max(fence);
        let pool = host.pool.as_ref().unwrap();
        let Some(lease) = pool.lease(fence) else { return };
        let (account, exclusive) = (lease.account, lease.exclusive);
        self.tally.granted += 1;
        if !self.shared.contains(&account) {
            return;
        }
        self.check_grant(n, account);
        let host = &self.hosts[n];
        assert!(host.is_valid(self.time), "{fence:?} was granted on {account} beyond the term of host {n}");
        assert!(fence <= host.store.mark, "{fence:?} is not reserved");
        let from = host.claimed_from.get(&account).copied().unwrap_or_default();
        assert!(fence >= from, "{fence:?} on {account} is lower than {from:?} of its seat");
        assert!(self.fences.insert(fence), "{fence:?} was granted twice");
        let newest = self.newest.entry(account).or_default();
        *newest = fence.max(*newest);
        self.tally.exclusive += u64::from(exclusive);
    }

    /// The invariants over all hosts together, by true time.
    pub fn check(&self) {
        self.check_probes();
        for account in &self.shared {
            let limits = self.database.limits[account];
            let (mut live, mut all, mut exclusive) = (0, 0, false);
            for host in self.hosts.iter().filter(|host| host.is_valid(self.time)) {
                let pool = host.pool.as_ref().unwrap();
                let (leases, subagents) =
                    pool.account(*account).map_or((0, 0), |account| (account.leases(), account.subagents()));
                live += leases;
                all += leases + subagents;
                exclusive |= leases == 1 && pool.leases().any(|lease| lease.account == *account && lease.exclusive);
                let held = pool.seats(*account).unwrap().held;
                if let Some((term, _)) = host.store.term {
                    let rows = self.database.held(*account, term);
                    assert!(held <= rows, "host {} uses {held} seats of {account}, and has {rows}", host.n);
                }
            }
            assert!(live <= limits.ceiling, "{live} live leases on {account} of {limits:?} at {} (I1)", self.time);
            assert!(!exclusive || all == 1, "an exclusive lease on {account} is one of {all}");
        }
    }
}
