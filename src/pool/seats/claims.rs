//! Claiming seats, and giving them back: decided after every command, from what waits and what is free.

use crate::pool::command::{Effect, Effects};
use crate::pool::lease::LeaseKind;
use crate::pool::model::{AccountId, Ineligible, LeaseRequest, Mono, Now, WaiterId, spoken};
use crate::pool::queue::SeatWait;
use crate::pool::seats::account::{CLAIM_LASTS, NewClaim};
use crate::pool::state::Pool;

/// For how many accounts at once a host lets the others know that it wants a seat.
const MOST_WANTED: usize = 8;

impl Pool {
    /// A queued request waits for a claim of a seat of this account, or of the duty to probe it; the claim follows at the end of the command.
    pub(crate) fn await_seat(&mut self, now: Now, id: WaiterId, slot: usize) {
        let Some(kind) = self.queue.get(id).map(|waiter| waiter.ask.kind()) else { return };
        let account = self.accounts[slot].record.id;
        let after = self.accounts[slot].seats.as_ref().map_or(0, |seats| seats.ended_claims());
        let wait = SeatWait { account, until: now.mono.after(CLAIM_LASTS), after };
        self.queue.set_claim(id, Some(wait), &mut self.timers);
        self.accounts.count_waiting(slot, kind, true);
        if self.accounts[slot].has_seat(kind)
            && let Some(ask) = self.queue.get(id).map(|waiter| waiter.ask.clone())
        {
            // without a seat it could not use the duty
            self.want_probe(now, slot, &ask);
        }
    }

    /// A request does not wait for a claim any more: there may be room for another one.
    pub(crate) fn end_seat_wait(&mut self, now: Now, account: AccountId, kind: LeaseKind) {
        let Some(slot) = self.accounts.slot(account) else { return };
        self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.count_waiting(kind, false));
        self.accounts.dirty().mark_all();
    }

    /// Claims a seat, or the duty to probe, for a lease that cannot wait: its holder tries again.
    pub(crate) fn ask_for_seat(&mut self, now: Now, slot: usize, ask: &LeaseRequest) {
        if self.accounts[slot].limits.is_empty() || !self.accounts[slot].has_seat(ask.kind()) {
            self.ask_for_another_seat(now, slot);
        } else {
            self.want_probe(now, slot, ask);
        }
    }

    fn ask_for_another_seat(&mut self, now: Now, slot: usize) {
        self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.ask());
    }

    /// The request without the accounts of which this host holds no seat for it; `own` is that of its lease.
    pub(crate) fn only_with_seats(&self, ask: &LeaseRequest, own: Option<AccountId>) -> LeaseRequest {
        let mut ask = ask.clone();
        let all = self.accounts.of_provider(&ask.target.provider).map_or(&[][..], |all| all.slots());
        let quota = ask.target.quotas(&self.settings.quota).first.quota;
        let lacks = |slot: &&usize| !self.accounts[**slot].has_seat(ask.kind()) || self.awaits_probe(**slot, quota);
        let lacking = all.iter().filter(lacks).map(|slot| &self.accounts[*slot]);
        let lacking: Vec<AccountId> = lacking.map(|account| account.record.id).filter(|id| Some(*id) != own).collect();
        ask.exclude.extend(lacking);
        ask.exclude.sort_unstable();
        ask.exclude.dedup();
        ask
    }

    /// An account that only the seats of other hosts fill: a claim tells them that one is wanted here. Only a few at once: in
    /// a large pool that is full, the claims of all hosts would keep its database from everything else. The accounts take
    /// turns.
    pub(crate) fn wanted_seat(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> Option<usize> {
        let of_slot = |slot: &&usize| self.accounts[**slot].seats.as_ref();
        let wanted = slots.iter().filter(|slot| of_slot(slot).is_some_and(|seats| seats.is_being_wanted()));
        if wanted.take(MOST_WANTED).count() == MOST_WANTED {
            return None;
        }
        let kind = ask.kind();
        let is_full_elsewhere = |slot: &usize| {
            let account = &self.accounts[*slot];
            let Some(seats) = &account.seats else { return false };
            let own = account.leases + seats.waiting();
            let fits = if kind == LeaseKind::Exclusive {
                own + account.subagents == 0
            } else {
                own < account.ceiling(&self.settings.leases)
            };
            fits && seats.counts().elsewhere > 0
                && !account.exclusive
                && !account.has_seat(kind)
                && account.seat_obstacle(kind).is_none()
                && matches!(self.ineligible(*slot, ask, now), Some((Ineligible::Busy, _)))
        };
        let is_large = slots.len() > MOST_WANTED;
        let asked = |slot: usize| {
            let seats = self.accounts[slot].seats.as_ref().filter(|_| is_large);
            seats.map_or_else(Mono::default, |seats| seats.full_at())
        };
        let full = slots.iter().copied().filter(is_full_elsewhere);
        full.min_by_key(|slot| (asked(*slot), self.accounts.key(*slot).rank))
    }

    /// Gives back the seats that another host waits for, before a request of this host takes them.
    pub(crate) fn give_back_unneeded(&mut self, now: Now, effects: &mut Effects) {
        for at in 0..self.accounts.seats_changed().len() {
            let account = self.accounts.seats_changed()[at];
            let Some(slot) = self.accounts.slot(account) else { continue };
            let back = self.accounts[slot].seats.as_ref().is_some_and(|seats| seats.has_unneeded());
            if back {
                let back = self
                    .accounts
                    .change_seats(slot, now, &mut self.timers, |seats, counts| seats.take_unneeded(counts, now.mono));
                self.give_back(slot, back.unwrap_or_default(), effects);
            }
        }
    }

    fn give_back(&mut self, slot: usize, seats: u32, effects: &mut Effects) {
        if seats > 0 {
            // another host may use the seat with a higher fence
            self.accounts.forbid_resuming(slot);
            self.accounts.dirty().mark_all();
            effects.push(Effect::GiveBackSeats { account: self.accounts[slot].record.id, seats });
        }
    }

    /// Passes the time of the seats: those that no lease needs go back.
    pub(super) fn pass_seats(&mut self, now: Now, effects: &mut Effects) {
        let linger = self.accounts.linger();
        while let Some(slot) = self.timers.due_seats(now).and_then(|account| self.accounts.slot(account)) {
            let back = self
                .accounts
                .change_seats(slot, now, &mut self.timers, |seats, counts| seats.pass(counts, now.mono, linger));
            self.accounts.dirty().mark_all();
            self.give_back(slot, back.unwrap_or_default(), effects);
            self.check_want(now, slot, effects);
        }
    }

    /// Withdraws a want whose requests are gone: they were cancelled, or served elsewhere.
    fn check_want(&mut self, now: Now, slot: usize, effects: &mut Effects) {
        if !self.accounts[slot].seats.as_ref().is_some_and(|seats| seats.has_due_want(now.mono)) {
            return;
        }
        let account = self.accounts[slot].record.id;
        let is_waited_for = self.is_waited_for(now, account);
        let is_over = self
            .accounts
            .change_seats(slot, now, &mut self.timers, |seats, _| seats.check_want(is_waited_for, now.mono));
        if is_over == Some(true) {
            effects.push(Effect::WithdrawWant { account });
        }
    }

    /// Claims what is waited for, and fences before they run out.
    pub(crate) fn claim_seats(&mut self, now: Now, effects: &mut Effects) {
        if !self.term.is_used() {
            return;
        }
        let mut changed = self.accounts.take_seats_changed();
        changed.sort_unstable();
        changed.dedup();
        for account in changed {
            let Some(slot) = self.accounts.slot(account) else { continue };
            let of_account = &self.accounts[slot];
            let ceiling = of_account.ceiling(&self.settings.leases);
            let counts = of_account.lease_counts();
            let claim = of_account.seats.as_ref().and_then(|seats| seats.new_claim(counts, ceiling));
            if let Some(claim) = claim {
                self.accounts
                    .change_seats(slot, now, &mut self.timers, |seats, _| seats.begin_claim(claim.whole, now.mono));
                let NewClaim { seats, most, whole } = claim;
                effects.push(Effect::ClaimSeats { account, seats, most, whole });
            }
            let of_account = &self.accounts[slot];
            if !of_account.limits.is_empty() || of_account.seats.as_ref().is_some_and(|seats| seats.has_probe()) {
                self.claim_probe(now, slot, effects);
            }
        }
        drop(self.accounts.take_seats_changed());
        if self.term.is_connected() && self.term.until().is_some() {
            effects.extend(self.leases.ask_for_block().map(|above| Effect::ClaimFences { above }));
        }
    }

    /// What keeps this host from its seats, if something does.
    pub(crate) fn seat_trouble(&self, now: Now) -> Option<String> {
        let ago = |since: crate::pool::model::Wall| spoken(now.wall.since(since));
        let lost = self.term.lost_since().map(|since| format!("its database has not answered for {}", ago(since)));
        if let Some(ended) = self.term.ended_since() {
            let why = lost.map(|lost| format!("; {lost}")).unwrap_or_default();
            return Some(format!("this host has held no seats of the shared pool for {}{why}", ago(ended)));
        }
        lost.map(|lost| format!("this host can claim no seat of the shared pool: {lost}"))
    }
}
