//! The invariants, checked by the tests after every step.

use crate::pool::lease::Lease;
use crate::pool::model::{AccountId, Fence, Now, WaiterId};
use crate::pool::select::choose::Choice;
use crate::pool::select::workspace::Workspace;
use crate::pool::state::Pool;
use rustc_hash::FxHashMap;

impl Pool {
    /// Checks the whole state against the invariants of docs/architecture.md.
    ///
    /// # Errors
    /// The first invariant that does not hold, in words.
    pub fn check(&mut self, now: Now) -> Result<(), String> {
        self.accounts.check(now, &self.timers)?;
        if let Some(index) = self.workspace.as_mut().and_then(|workspace| workspace.index.as_mut()) {
            index.check(&self.accounts, &self.settings, now)?;
        }
        self.leases.check(now)?;
        self.check_seats(now)?;
        self.check_guests()?;
        self.check_leases_of_accounts()?;
        let leases = self.leases.iter().map(|lease| (lease.fence, lease.expires));
        let waiters = self.queue.in_order().map(|(id, waiter)| (id, waiter.ends()));
        must(self.timers.are(leases, waiters), || {
            "timers without a lease or a queued request, or none for one".into()
        })?;
        self.check_queue(now)
    }

    fn check_leases_of_accounts(&self) -> Result<(), String> {
        let mut counted: FxHashMap<AccountId, (u32, u32, bool)> = FxHashMap::default();
        for lease in self.leases.iter() {
            let (leases, subagents, exclusive) = counted.entry(lease.account).or_default();
            *(if lease.subagent.is_some() { subagents } else { leases }) += 1;
            *exclusive |= lease.exclusive;
        }
        let ceiling = self.settings.leases.max_per_account.max(1);
        for account in self.accounts.iter() {
            let id = account.record.id;
            let (leases, subagents, exclusive) = counted.remove(&id).unwrap_or_default();
            must(account.subagents == subagents, || {
                format!("{id} counts {} leases of sub-agents, has {subagents}", account.subagents)
            })?;
            must(account.leases == leases, || format!("{id} counts {} leases, has {leases}", account.leases))?;
            must(account.exclusive == exclusive, || format!("{id} is wrong about being exclusive"))?;
            must(!exclusive || leases + subagents == 1, || format!("{id} is exclusive and has {leases} leases"))?;
            let most = account.ceiling(&self.settings.leases).min(ceiling);
            must(leases <= most.max(account.tolerated), || format!("{id} has {leases} leases, may have {most} (I1)"))?;
        }
        must(counted.is_empty(), || format!("leases on accounts that do not exist: {counted:?}"))
    }

    /// The seats: no lease without one, none beyond the term, and fences that only this host has.
    fn check_seats(&self, now: Now) -> Result<(), String> {
        must(!self.term.has_passed(now.mono), || "the seats are held beyond their time".into())?;
        let mut waiting: FxHashMap<AccountId, u32> = FxHashMap::default();
        for claim in self.queue.in_order().filter_map(|(_, waiter)| waiter.claim) {
            *waiting.entry(claim.account).or_default() += 1;
        }
        let standing = self.term.standing(now.mono, self.leases.has_block());
        for account in self.accounts.iter() {
            let id = account.record.id;
            let waiting = waiting.remove(&id).unwrap_or_default();
            let limits = &account.limits;
            must(limits.fits_sharing(account.seats.is_some()), || format!("{id} has a limit of the wrong phase"))?;
            let Some(seats) = &account.seats else { continue };
            must(seats.has_probe() == limits.uses_duty(), || format!("{id} is wrong about its duty to probe"))?;
            must(self.term.is_used(), || format!("{id} is shared without a pool"))?;
            must(seats.waiting() == waiting, || format!("{waiting} requests wait for {id}, not {}", seats.waiting()))?;
            let is_claiming = seats.is_claiming() || limits.is_claiming_duty();
            must(waiting == 0 || is_claiming, || format!("{waiting} requests wait for {id}, and no claim"))?;
            must(seats.standing() == standing, || format!("{id} does not know the standing {standing:?}"))?;
            let may_differ = self.term.may_resume();
            seats.check(account.lease_counts(), may_differ).map_err(|why| format!("{id}: {why}"))?;
            let last = self.leases.block().map_or(Fence(0), |block| block.to);
            let is_foreign =
                |lease: &&Lease| lease.account == id && lease.fence > last && !self.leases.is_from_before(lease.fence);
            let foreign = self.leases.iter().find(is_foreign).map(|lease| lease.fence);
            must(foreign.is_none(), || format!("{foreign:?} on {id} is not a fence of this host"))?;
        }
        Ok(())
    }

    fn check_queue(&mut self, now: Now) -> Result<(), String> {
        let clean = self.queue_dirty.is_clean() && self.accounts.dirty().is_clean();
        must(self.queue.is_empty() || clean, || "the queue has changes and was not served".into())?;
        must(self.queue.is_consistent(), || "the queue's indices disagree".into())?;
        must(!self.draining || self.queue.is_empty(), || "a request is queued while the daemon shuts down".into())?;
        if self.timers.grace().is_some() {
            return Ok(());
        }
        let waiting: Vec<WaiterId> = self.queue.in_order().map(|(id, _)| id).collect();
        for id in waiting {
            let Some(waiter) = self.queue.get(id) else { continue };
            must(waiter.ends() > now.mono, || format!("{id:?} is queued beyond its time"))?;
            if waiter.claim.is_some() {
                continue;
            }
            let choice = self.choose_with(now, &waiter.ask, waiter.since, &mut Workspace::default());
            let fits = matches!(choice, Choice::Wait { .. }) && !choice.too_late(waiter.deadline);
            must(fits, || format!("{:?} is queued although {choice:?}", waiter.ask))?;
            must(waiter.deadline > now.mono, || format!("{id:?} is queued beyond its deadline"))?;
        }
        Ok(())
    }
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
