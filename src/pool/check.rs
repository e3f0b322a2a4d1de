//! What must hold after every step; the tests call it after each.

use rustc_hash::FxHashMap;

use super::hot::{Hot, Like};
use super::id::{AccountId, ConnectionId, Fence, Process};
use super::lease::{Bind, Lease};
use super::select::Choice;
use super::settings::Overflow;
use super::time::Now;
use super::{Pool, WaiterId};

impl Pool {
    /// Checks the whole state against DESIGN §3.
    ///
    /// # Errors
    /// The first invariant that does not hold, in words.
    pub fn check(&mut self, now: Now) -> Result<(), String> {
        self.check_accounts()?;
        self.check_leases(now)?;
        self.check_queue(now)
    }

    fn check_accounts(&self) -> Result<(), String> {
        let mut counted: FxHashMap<AccountId, (u32, bool)> = FxHashMap::default();
        for lease in self.leases.values() {
            let (leases, exclusive) = counted.entry(lease.account).or_default();
            *leases += 1;
            *exclusive |= lease.exclusive;
        }
        must(self.hot.len() == self.accounts.len() && self.likes.len() == self.accounts.len(), || {
            "a digest too many or too few".into()
        })?;
        let ceiling = self.settings.leases.max_per_account.max(1);
        for (slot, account) in self.accounts.iter().enumerate() {
            let id = account.record.id;
            let (leases, exclusive) = counted.remove(&id).unwrap_or_default();
            must(self.slots.get(&id) == Some(&slot), || format!("{id} is not filed under its slot"))?;
            must(self.hot[slot] == Hot::of(account) && self.likes[slot] == Like::of(account), || {
                format!("the digest of {id} is stale")
            })?;
            must(account.leases == leases, || format!("{id} counts {} leases, has {leases}", account.leases))?;
            must(account.exclusive == exclusive, || format!("{id} is wrong about being exclusive"))?;
            must(!exclusive || leases == 1, || format!("{id} is exclusive and has {leases} leases"))?;
            let most = match self.settings.leases.overflow {
                Overflow::Share => ceiling,
                Overflow::Wait | Overflow::Fail => account.policy.capacity.min(ceiling),
            };
            must(leases <= most.max(account.tolerated), || format!("{id} has {leases} leases, may have {most} (I1)"))?;
        }
        must(counted.is_empty(), || format!("leases on accounts that do not exist: {counted:?}"))
    }

    fn check_leases(&self, now: Now) -> Result<(), String> {
        for (fence, lease) in &self.leases {
            must(lease.fence == *fence, || format!("{fence:?} is filed wrongly"))?;
            must(*fence < self.next_fence, || format!("{fence:?} is not below the next fence (I4)"))?;
            let found = match lease.bind {
                Bind::Connection(connection) => holds(self.by_connection.get(&connection), *fence),
                Bind::Process(process) => holds(self.by_process.get(&process), *fence),
                Bind::Ttl => lease.expires.is_some(),
            };
            must(found, || format!("{fence:?} cannot be found by what it is bound to (I3)"))?;
            if let Some(expires) = lease.expires {
                must(self.expiries.contains(&(expires, *fence)), || format!("{fence:?} would never expire"))?;
                must(expires > now.mono, || format!("{fence:?} has outlived its time"))?;
            }
        }
        let stirred = self.stirred.all || !self.stirred.freed.is_empty();
        must(self.queue.is_empty() || !stirred, || "the queue was stirred and not served".into())?;
        let expiring = self.leases.values().filter(|lease| lease.expires.is_some()).count();
        must(self.expiries.len() == expiring, || "expiries of leases that have ended".into())?;
        let bound = |wanted: fn(&Lease) -> bool| self.leases.values().filter(|lease| wanted(lease)).count();
        let connected: usize = self.by_connection.values().map(Vec::len).sum();
        let of_processes: usize = self.by_process.values().map(Vec::len).sum();
        must(connected == bound(|l| matches!(l.bind, Bind::Connection(_))), || "ended leases of connections".into())?;
        must(of_processes == bound(|l| matches!(l.bind, Bind::Process(_))), || "ended leases of processes".into())
    }

    fn check_queue(&self, now: Now) -> Result<(), String> {
        must(self.queue.is_consistent(), || "the queue's indexes disagree".into())?;
        must(!self.draining || self.queue.is_empty(), || "somebody waits for a daemon that is ending".into())?;
        if self.grace_until.is_some() {
            return Ok(());
        }
        let waiting: Vec<WaiterId> = self.queue.in_order().map(|(id, _)| id).collect();
        for id in waiting {
            let Some(waiter) = self.queue.get(id) else { continue };
            let choice = self.choose_with(now, &waiter.ask, waiter.since, &mut Vec::new());
            let fits = matches!(choice, Choice::Wait { .. }) && !choice.too_late(waiter.deadline);
            must(fits, || format!("{:?} waits although {choice:?}", waiter.ask))?;
            must(waiter.deadline > now.mono, || format!("{id:?} waits beyond its time"))?;
        }
        Ok(())
    }

    /// Leases of one connection, oldest first; for tests.
    #[must_use]
    pub fn held_by_connection(&self, connection: ConnectionId) -> &[Fence] {
        self.by_connection.get(&connection).map_or(&[], Vec::as_slice)
    }

    /// Leases of one process, oldest first.
    #[must_use]
    pub fn held_by_process(&self, process: Process) -> &[Fence] {
        self.by_process.get(&process).map_or(&[], Vec::as_slice)
    }
}

fn holds(fences: Option<&Vec<Fence>>, fence: Fence) -> bool {
    fences.is_some_and(|fences| fences.contains(&fence))
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
