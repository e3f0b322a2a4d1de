//! Reading the state of the pool.

use crate::pool::account::Account;
use crate::pool::account::record::AccountRecord;
use crate::pool::lease::Lease;
use crate::pool::model::{
    AccountId, AccountSettings, ConnectionId, Fence, Ineligible, Mono, Now, Past, PoolSettings, Process, Refusal,
    WaiterId, Wall,
};
use crate::pool::queue::QueuedRequest;
use crate::pool::seats::SeatCounts;
use crate::pool::state::Pool;
use crate::visible::shell_word;
use std::sync::Arc;

/// Of how many queued requests it is looked at whether they could use an account.
const MOST_ASKED: usize = 64;

/// Reading.
impl Pool {
    /// Its settings.
    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// Whether it grants no lease any more, because the daemon shuts down.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// All accounts, in the order they were added.
    pub fn accounts(&self) -> &[Account] {
        self.accounts.as_slice()
    }

    /// One account.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(id)
    }

    /// The account that `reference` names: id, unique prefix of an id, email or label.
    ///
    /// # Errors
    /// When none or several accounts match.
    pub fn find_account(&self, reference: &str) -> Result<&Account, Refusal> {
        self.accounts.find(reference, None).map(|slot| &self.accounts[slot])
    }

    /// What an account is called in a command that the user copies: its name as one word of a shell if it names no
    /// other account, else its id.
    pub fn account_reference(&self, id: AccountId) -> String {
        let Some(account) = self.account(id) else { return id.to_string() };
        let name = account.display_name();
        let is_only = self.find_account(&name).is_ok_and(|found| found.record.id == id);
        shell_word(&name).filter(|_| is_only).unwrap_or_else(|| id.to_string())
    }

    /// The section of an account in the settings.
    pub fn configured(&self, record: &AccountRecord) -> Option<&AccountSettings> {
        record.configured(&self.settings)
    }

    /// The last use of every account, for the store: it is saved now and then, not with every grant.
    pub fn last_uses(&self) -> impl Iterator<Item = (AccountId, Option<Mono>)> {
        self.accounts.iter().map(|account| (account.record.id, account.last_used.map(Past::mono)))
    }

    /// All leases, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter()
    }

    /// One lease.
    pub fn lease(&self, fence: Fence) -> Option<&Lease> {
        self.leases.get(fence)
    }

    /// One lease, to be kept as it is now.
    pub fn shared_lease(&self, fence: Fence) -> Option<&Arc<Lease>> {
        self.leases.get_shared(fence)
    }

    /// How many leases are held.
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Leases of one connection, oldest first.
    pub fn held_by_connection(&self, connection: ConnectionId) -> &[Fence] {
        self.leases.of_connection(connection)
    }

    /// Leases of one process, oldest first.
    pub fn held_by_process(&self, process: Process) -> &[Fence] {
        self.leases.of_process(process)
    }

    /// The queued requests, in the order they will be served.
    pub fn waiters(&self) -> impl Iterator<Item = (WaiterId, &QueuedRequest)> {
        self.queue.in_order()
    }

    /// Whether one of the queued requests could use this account, if it had room. Of a long queue, the first ones are asked.
    pub fn is_waited_for(&self, now: Now, account: AccountId) -> bool {
        let Some(slot) = self.accounts.slot(account) else { return false };
        let could_use = |waiter: &QueuedRequest| {
            let ask = &waiter.ask;
            *ask.target.provider == *self.accounts[slot].record.provider
                && ask.account.as_deref().is_none_or(|name| self.accounts.find(name, None) == Ok(slot))
                && matches!(self.ineligible(slot, ask, now), None | Some((Ineligible::Busy | Ineligible::NoSeat, _)))
        };
        let mut waiters = self.queue.in_order();
        waiters.by_ref().take(MOST_ASKED).any(|(_, waiter)| could_use(waiter)) || waiters.next().is_some()
    }

    /// How many other leases the account of a lease has.
    pub fn shared_with(&self, account: AccountId) -> u32 {
        self.account(account).map_or(0, |account| account.leases.saturating_sub(1))
    }

    /// The earliest time a queued request could be served, where that is known.
    pub fn eta(&self, now: Now, waiter: WaiterId) -> Option<Wall> {
        let ask = &self.queue.get(waiter)?.ask;
        let provider = self.accounts.of_provider(&ask.target.provider)?;
        let pinned = match &ask.account {
            Some(reference) => Some(self.accounts.find(reference, Some(&ask.target.provider)).ok()?),
            None => None,
        };
        let slots = pinned.as_ref().map_or(provider.slots(), std::slice::from_ref);
        let limited = slots.iter().filter_map(|&slot| match self.ineligible(slot, ask, now)? {
            (Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, Some(until)) => Some(until.mono(now)),
            _ => None,
        });
        let frees = |fence: Fence| {
            let slot = self.leases.get(fence).and_then(|lease| self.accounts.slot(lease.account));
            let is_busy = |slot| matches!(self.ineligible(slot, ask, now), Some((Ineligible::Busy, _)));
            slot.is_some_and(|slot| slots.contains(&slot) && is_busy(slot))
        };
        // the first lease that expires on an account that is only busy
        let freed = self.timers.expiries().find(|(_, fence)| frees(*fence)).map(|(at, _)| at);
        let earliest = limited.chain(freed).min();
        self.timers.grace().max(earliest).map(|at| now.wall_of(at))
    }

    /// Until when this host's seats are valid, if it has a term.
    pub fn seats_until(&self) -> Option<Mono> {
        self.term.until()
    }

    /// The seats of a shared account; `None` for an account of this host alone.
    pub fn seats(&self, account: AccountId) -> Option<SeatCounts> {
        self.account(account)?.seats()
    }

    /// The next fence; every lease so far has a lower one.
    pub fn next_fence(&self) -> Fence {
        self.leases.next_fence()
    }

    /// Whether a fence was granted before this run.
    pub fn is_from_before(&self, fence: Fence) -> bool {
        self.leases.is_from_before(fence)
    }

    /// Whether new grants wait for earlier holders to resume their leases, after an unclean restart.
    pub fn in_grace(&self) -> bool {
        self.timers.grace().is_some()
    }
}
