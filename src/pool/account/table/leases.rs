//! How many leases each account has.

use super::Accounts;
use crate::pool::lease::{LeaseCounts, LeaseKind};
use crate::pool::model::{Fence, Now, Past, TokenSettings};
use crate::pool::timers::Timers;

impl Accounts {
    pub fn take_lease(&mut self, slot: usize, fence: Fence, kind: LeaseKind, tokens: &TokenSettings, now: Now) {
        let account = &mut self.list[slot];
        account.resumable = false;
        account.newest_fence = Some(fence);
        account.bucket.take(tokens, now.mono);
        self.count_lease(slot, kind, now);
    }

    /// Counts a lease from the store. It may exceed the account's ceiling, which then tolerates it.
    pub fn restore_lease(&mut self, slot: usize, exclusive: bool) {
        let account = &mut self.list[slot];
        account.leases += 1;
        account.exclusive |= exclusive;
        account.tolerated = account.leases;
        self.digest(slot);
    }

    pub fn end_lease(&mut self, slot: usize, fence: Fence, kind: LeaseKind, now: Now, timers: &mut Timers) {
        let account = &mut self.list[slot];
        match kind {
            LeaseKind::OfSubagent => account.subagents -= 1,
            LeaseKind::Shared | LeaseKind::Exclusive => {
                account.leases -= 1;
                account.exclusive = false;
                account.tolerated = account.tolerated.min(account.leases);
            }
        }
        if let Some(seats) = &mut account.seats
            && kind == LeaseKind::Exclusive
        {
            seats.note_surplus();
        }
        // the strategies read nothing that has changed
        self.digest_key(slot);
        self.note_seat_use(slot, now, timers);
        let was_probe = self.count_admission(slot, now, timers, |limits| limits.release_probe(fence, now.mono));
        if was_probe {
            // without a probe under way it is known how long other limits last
            self.dirty.mark_all();
        }
        if self.list[slot].seats.is_some() {
            // a request may want a seat of other hosts now, which it does not find among the freed accounts
            self.dirty.mark_all();
        } else {
            self.dirty.mark_freed(slot);
        }
    }

    /// Leaves out a lease of an account for a trial selection; returns the true numbers, to be set again.
    pub fn leave_out(&mut self, slot: usize, kind: LeaseKind) -> LeaseCounts {
        let before = self.list[slot].lease_counts();
        let without = match kind {
            LeaseKind::OfSubagent => LeaseCounts { subagents: before.subagents - 1, ..before },
            LeaseKind::Shared | LeaseKind::Exclusive => {
                LeaseCounts { leases: before.leases - 1, exclusive: false, ..before }
            }
        };
        self.set_lease_counts(slot, without);
        before
    }

    /// Sets how many leases an account has.
    pub fn set_lease_counts(&mut self, slot: usize, counts: LeaseCounts) {
        let account = &mut self.list[slot];
        (account.leases, account.subagents, account.exclusive) = (counts.leases, counts.subagents, counts.exclusive);
        self.digest(slot);
    }

    /// Counts a lease that is new or, from before this run, is resumed.
    pub fn count_lease(&mut self, slot: usize, kind: LeaseKind, now: Now) {
        let account = &mut self.list[slot];
        if kind == LeaseKind::OfSubagent {
            account.subagents += 1;
        } else {
            account.leases += 1;
            account.exclusive = kind == LeaseKind::Exclusive;
        }
        account.last_used = Some(Past::from(now.mono));
        account.record.last_used_at = Some(now.wall);
        self.digest(slot);
    }
}
