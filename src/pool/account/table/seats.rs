//! The seats of accounts that other hosts use, too.

use super::Accounts;
use crate::pool::lease::{LeaseCounts, LeaseKind};
use crate::pool::model::{AccountId, Now, PoolSettings};
use crate::pool::seats::account::AccountSeats;
use crate::pool::timers::Timers;
use std::time::Duration;

impl Accounts {
    /// Shares an account, or not any more.
    pub fn set_seats(
        &mut self,
        slot: usize,
        seats: Option<AccountSeats>,
        settings: &PoolSettings,
        now: Now,
        timers: &mut Timers,
    ) {
        self.list[slot].seats = seats.map(Box::new);
        self.apply_policy(slot, settings);
        self.set_timers(slot, now, timers);
        self.dirty.mark_all();
    }

    /// The limits of a shared account have changed.
    pub fn follow_limits(&mut self, slot: usize, settings: &PoolSettings) {
        self.apply_policy(slot, settings);
        self.dirty.mark_all();
    }

    /// Changes the seats of a shared account; `None` for another one.
    pub fn change_seats<R>(
        &mut self,
        slot: usize,
        now: Now,
        timers: &mut Timers,
        change: impl FnOnce(&mut AccountSeats, LeaseCounts) -> R,
    ) -> Option<R> {
        let account = &mut self.list[slot];
        let counts = account.lease_counts();
        let seats = account.seats.as_mut()?;
        let result = change(seats, counts);
        seats.note_use(counts, now.mono);
        timers.set_seats(account.record.id, seats.next_change(self.linger));
        self.seats_changed.push(account.record.id);
        self.digest_key(slot);
        Some(result)
    }

    /// The leases of an account have changed: if it is shared, it may need more seats, or fewer.
    #[inline]
    pub fn note_seat_use(&mut self, slot: usize, now: Now, timers: &mut Timers) {
        if self.list[slot].seats.is_some() {
            self.change_seats(slot, now, timers, |_, _| ());
        }
    }

    /// For a trial selection: one request less, or more, waits for a seat.
    pub fn count_waiting(&mut self, slot: usize, kind: LeaseKind, comes: bool) {
        if let Some(seats) = &mut self.list[slot].seats {
            seats.count_waiting(kind, comes);
            self.seats_changed.push(self.list[slot].record.id);
            self.digest_key(slot);
        }
    }

    /// Shared accounts whose leases or seats have changed since [`Self::take_seats_changed`].
    pub fn seats_changed(&self) -> &[AccountId] {
        &self.seats_changed
    }

    pub fn take_seats_changed(&mut self) -> Vec<AccountId> {
        std::mem::take(&mut self.seats_changed)
    }

    pub fn linger(&self) -> Duration {
        self.linger
    }
}
