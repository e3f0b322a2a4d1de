//! The timer table: everything in the pool that time changes, on the clock it was stated on.

use crate::pool::model::{AccountId, Fence, Mono, Now, WaiterId, Wall};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// All timers. Each sub-state sets and clears its own; the pool asks for what is due, and for the next one.
#[derive(Debug, Default)]
pub struct Timers {
    leases: BTreeSet<(Mono, Fence)>,
    waiters: BTreeSet<(Mono, WaiterId)>,
    /// The end of the grace period after an unclean restart.
    grace: Option<Mono>,
    accounts: FxHashMap<AccountId, AccountTimers>,
    limits: BTreeSet<(Mono, AccountId)>,
    wall_limits: BTreeSet<(Wall, AccountId)>,
    resets: BTreeSet<(Wall, AccountId)>,
    seats: BTreeSet<(Mono, AccountId)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AccountTimers {
    /// The next change of a limit that was stated as a span.
    pub limit: Option<Mono>,
    /// The next end of a limit that was stated as a time of day.
    pub wall_limit: Option<Wall>,
    /// The next reset of a window, where a reserve makes requests wait for it.
    pub reset: Option<Wall>,
    /// The next change of a shared account's seats.
    pub seats: Option<Mono>,
}

impl Timers {
    pub fn set_lease(&mut self, fence: Fence, expires: Option<Mono>) {
        self.leases.extend(expires.map(|at| (at, fence)));
    }

    pub fn clear_lease(&mut self, fence: Fence, expires: Option<Mono>) {
        if let Some(at) = expires {
            self.leases.remove(&(at, fence));
        }
    }

    pub fn set_waiter(&mut self, waiter: WaiterId, deadline: Mono) {
        self.waiters.insert((deadline, waiter));
    }

    pub fn clear_waiter(&mut self, waiter: WaiterId, deadline: Mono) {
        self.waiters.remove(&(deadline, waiter));
    }

    pub fn set_grace(&mut self, until: Option<Mono>) {
        self.grace = until;
    }

    /// Until when no new lease is granted, because earlier holders may still resume theirs.
    pub fn grace(&self) -> Option<Mono> {
        self.grace
    }

    pub fn set_account(&mut self, account: AccountId, timers: AccountTimers) {
        let before = self.accounts.get(&account).copied().unwrap_or_default();
        if before == timers {
            return;
        }
        replace(&mut self.limits, account, before.limit, timers.limit);
        replace(&mut self.wall_limits, account, before.wall_limit, timers.wall_limit);
        replace(&mut self.resets, account, before.reset, timers.reset);
        replace(&mut self.seats, account, before.seats, timers.seats);
        if timers == AccountTimers::default() {
            self.accounts.remove(&account);
        } else {
            self.accounts.insert(account, timers);
        }
    }

    /// Sets only the time of an account's seats.
    pub fn set_seats(&mut self, account: AccountId, at: Option<Mono>) {
        self.set_account(account, AccountTimers { seats: at, ..self.account(account) });
    }

    /// An account whose seats time changes now.
    pub fn due_seats(&self, now: Now) -> Option<AccountId> {
        self.seats.first().filter(|(at, _)| *at <= now.mono).map(|(_, account)| *account)
    }

    /// Leases that expire, soonest first.
    pub fn expiries(&self) -> impl Iterator<Item = (Mono, Fence)> {
        self.leases.iter().copied()
    }

    pub fn due_lease(&self, now: Now) -> Option<Fence> {
        self.leases.first().filter(|(at, _)| *at <= now.mono).map(|(_, fence)| *fence)
    }

    pub fn due_waiter(&self, now: Now) -> Option<WaiterId> {
        self.waiters.first().filter(|(at, _)| *at <= now.mono).map(|(_, waiter)| *waiter)
    }

    /// Ends the grace period if its time is over; returns whether it ended.
    pub fn end_grace(&mut self, now: Now) -> bool {
        self.grace.take_if(|until| *until <= now.mono).is_some()
    }

    /// Whether time changes a limit now.
    #[inline]
    pub fn has_due_limits(&self, now: Now) -> bool {
        self.limits.first().is_some_and(|(at, _)| *at <= now.mono)
            || self.wall_limits.first().is_some_and(|(at, _)| *at <= now.wall)
    }

    /// Accounts with a limit that time changes now.
    pub fn due_limits(&self, now: Now) -> impl Iterator<Item = AccountId> {
        let wall = self.wall_limits.iter().take_while(move |(at, _)| *at <= now.wall).map(|(_, account)| *account);
        self.limits.iter().take_while(move |(at, _)| *at <= now.mono).map(|(_, account)| *account).chain(wall)
    }

    /// An account with a window that has reset.
    pub fn due_reset(&self, now: Now) -> Option<AccountId> {
        self.resets.first().filter(|(at, _)| *at <= now.wall).map(|(_, account)| *account)
    }

    /// The next time that anything is due. A reset matters only while a request is `queued`.
    pub fn next(&self, now: Now, queued: bool) -> Option<Mono> {
        let mut next = self.grace;
        let mut note = |at: Mono| next = Some(next.map_or(at, |next| next.min(at)));
        // mostly there is none of a kind
        self.leases.first().into_iter().for_each(|(at, _)| note(*at));
        self.waiters.first().into_iter().for_each(|(at, _)| note(*at));
        self.limits.first().into_iter().for_each(|(at, _)| note(*at));
        self.seats.first().into_iter().for_each(|(at, _)| note(*at));
        self.wall_limits.first().into_iter().for_each(|(at, _)| note(now.mono_of(*at)));
        self.resets.first().into_iter().filter(|_| queued).for_each(|(at, _)| note(now.mono_of(*at)));
        next
    }

    /// Whether the timers are exactly those of these leases and queued requests.
    pub fn are(
        &self,
        leases: impl Iterator<Item = (Fence, Option<Mono>)>,
        waiters: impl Iterator<Item = (WaiterId, Mono)>,
    ) -> bool {
        let leases: BTreeSet<_> = leases.filter_map(|(fence, at)| Some((at?, fence))).collect();
        let waiters: BTreeSet<_> = waiters.map(|(waiter, at)| (at, waiter)).collect();
        self.leases == leases && self.waiters == waiters
    }

    pub fn account(&self, account: AccountId) -> AccountTimers {
        self.accounts.get(&account).copied().unwrap_or_default()
    }
}

fn replace<T: Ord>(set: &mut BTreeSet<(T, AccountId)>, account: AccountId, before: Option<T>, after: Option<T>) {
    if let Some(at) = before {
        set.remove(&(at, account));
    }
    set.extend(after.map(|at| (at, account)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms), wall: Wall(1_000_000 + ms) }
    }

    #[test]
    fn the_next_wakeup_is_the_earliest_timer_of_any_kind() {
        let (mut timers, account) = (Timers::default(), AccountId::from_bits(1));
        assert_eq!(timers.next(at(0), true), None);
        timers.set_account(account, AccountTimers { reset: Some(Wall(1_000_010)), ..AccountTimers::default() });
        assert_eq!((timers.next(at(0), true), timers.next(at(0), false)), (Some(Mono(10)), None));
        timers.set_lease(Fence(1), Some(Mono(50)));
        timers.set_waiter(WaiterId(1), Mono(40));
        timers.set_grace(Some(Mono(30)));
        assert_eq!(timers.next(at(0), false), Some(Mono(30)));
        assert!(!timers.end_grace(at(29)) && timers.end_grace(at(30)));
        assert_eq!((timers.next(at(0), false), timers.due_waiter(at(40))), (Some(Mono(40)), Some(WaiterId(1))));
        timers.clear_waiter(WaiterId(1), Mono(40));
        assert_eq!((timers.due_lease(at(49)), timers.due_lease(at(50))), (None, Some(Fence(1))));
    }

    #[test]
    fn a_wall_timer_follows_the_clock_and_an_account_s_timers_are_replaced_as_one() {
        let (mut timers, account) = (Timers::default(), AccountId::from_bits(1));
        let limits =
            AccountTimers { limit: Some(Mono(90)), wall_limit: Some(Wall(1_000_020)), ..AccountTimers::default() };
        timers.set_account(account, limits);
        assert_eq!(timers.due_limits(at(19)).next(), None);
        assert_eq!(timers.due_limits(at(20)).next(), Some(account));
        let set_forward = Now { mono: Mono(1), wall: Wall(2_000_000) };
        assert_eq!(timers.next(set_forward, false), Some(Mono(0)));
        timers.set_account(account, AccountTimers { limit: Some(Mono(70)), ..AccountTimers::default() });
        assert_eq!(timers.next(set_forward, false), Some(Mono(70)));
        timers.set_account(account, AccountTimers::default());
        assert_eq!((timers.next(at(0), true), timers.accounts.len()), (None, 0));
    }
}
