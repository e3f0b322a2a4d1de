//! The invariants, checked by the tests after every step.

use crate::pool::model::{AccountId, Now, WaiterId};
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
        self.check_leases_of_accounts()?;
        let leases = self.leases.iter().map(|lease| (lease.fence, lease.expires));
        let waiters = self.queue.in_order().map(|(id, waiter)| (id, waiter.deadline));
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
            let most = self.settings.leases.ceiling(account.policy.capacity).min(ceiling);
            must(leases <= most.max(account.tolerated), || format!("{id} has {leases} leases, may have {most} (I1)"))?;
        }
        must(counted.is_empty(), || format!("leases on accounts that do not exist: {counted:?}"))
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
