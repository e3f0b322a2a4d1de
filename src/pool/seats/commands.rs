//! The commands of the shared pool: accounts, the term, the answers to claims, and news of other hosts.

use crate::pool::account::record::AccountRecord;
use crate::pool::command::{Effect, Effects, Event, Handled, Reply};
use crate::pool::lease::{Ending, LeaseKind};
use crate::pool::model::{AccountId, Fence, Mono, Now, Refusal, RefusalKind};
use crate::pool::seats::account::AccountSeats;
use crate::pool::seats::{FenceBlock, SeatDenial, SeatLimits};
use crate::pool::state::Pool;

impl Pool {
    /// Requests that wait are looked at when the command is over.
    pub(crate) fn add_shared_account(
        &mut self,
        now: Now,
        record: AccountRecord,
        limits: SeatLimits,
        effects: &mut Effects,
    ) -> Handled {
        let id = record.id;
        self.add_account(now, record, effects)?;
        self.share_account(now, id, limits, effects)
    }

    pub(crate) fn share_account(
        &mut self,
        now: Now,
        id: AccountId,
        limits: SeatLimits,
        effects: &mut Effects,
    ) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        self.term.begin_use(now);
        if self.accounts[slot].seats.is_none() {
            self.cut_off(now, |account| account == id, effects);
            self.begin_sharing(now, slot, Some(limits));
        } else {
            self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.set_limits(limits));
            self.accounts.follow_limits(slot, &self.settings);
        }
        Ok(Reply::Done)
    }

    fn begin_sharing(&mut self, now: Now, slot: usize, limits: Option<SeatLimits>) {
        let standing = self.term.standing(now.mono, self.leases.has_block());
        let seats = AccountSeats::new(limits, standing);
        self.accounts.set_seats(slot, Some(seats), &self.settings, now, &mut self.timers);
        if !self.accounts[slot].limits.is_empty() {
            let is_reachable = standing.can_ask();
            self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.begin_sharing(is_reachable));
        }
    }

    pub(crate) fn unshare_account(&mut self, now: Now, id: AccountId) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        self.accounts.set_seats(slot, None, &self.settings, now, &mut self.timers);
        if !self.accounts[slot].limits.is_empty() {
            self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.end_sharing());
        }
        Ok(Reply::Done)
    }

    /// The shared accounts of a snapshot: leases on them wait for their term.
    pub(crate) fn restore_shared(&mut self, now: Now, shared: &[AccountId]) {
        for slot in shared.iter().filter_map(|id| self.accounts.slot(*id)).collect::<Vec<_>>() {
            self.term.begin_use(now);
            self.term.await_resumption(now.mono);
            self.begin_sharing(now, slot, None);
        }
    }

    pub(crate) fn shared_accounts(&self) -> Vec<AccountId> {
        self.accounts.iter().filter(|account| account.seats.is_some()).map(|account| account.record.id).collect()
    }

    pub(crate) fn join_term(&mut self, now: Now, until: Mono, effects: &mut Effects) -> Handled {
        self.end_term(now, effects);
        // its time may be over already: this host was suspended while the answer was on its way
        if until > now.mono {
            self.begin_term(now, until, &[]);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn resume_term(
        &mut self,
        now: Now,
        until: Mono,
        seats: &[(AccountId, u32)],
        effects: &mut Effects,
    ) -> Handled {
        if until <= now.mono {
            return self.lose_seats(now, effects);
        }
        self.begin_term(now, until, seats);
        for slot in 0..self.accounts.as_slice().len() {
            self.cut_surplus(now, slot, effects);
        }
        Ok(Reply::Done)
    }

    fn begin_term(&mut self, now: Now, until: Mono, seats: &[(AccountId, u32)]) {
        self.term.begin(now.mono, until, self.settings.leases.grace);
        self.leases.forget_asking();
        for slot in 0..self.accounts.as_slice().len() {
            let id = self.accounts[slot].record.id;
            let held = seats.iter().find(|(account, _)| *account == id).map_or(0, |(_, held)| *held);
            self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.hold(held));
        }
        self.update_standing(now);
        self.accounts.dirty().mark_all();
    }

    /// Ends the leases of an account for which there is no seat, newest first.
    fn cut_surplus(&mut self, now: Now, slot: usize, effects: &mut Effects) {
        let account = &self.accounts[slot];
        let Some(seats) = &account.seats else { return };
        let held = seats.counts().held;
        let is_alone = !account.exclusive || seats.limits().is_none() || account.has_seat(LeaseKind::Exclusive);
        let (id, surplus) = (account.record.id, account.leases.saturating_sub(if is_alone { held } else { 0 }));
        let mut leases: Vec<Fence> = self
            .leases
            .iter()
            .filter(|lease| lease.account == id && (lease.kind() == LeaseKind::OfSubagent) == (surplus == 0))
            .map(|lease| lease.fence)
            .collect();
        leases.sort_unstable_by_key(|fence| std::cmp::Reverse(*fence));
        if surplus > 0 {
            leases.truncate(surplus as usize);
        } else if held > 0 {
            return;
        }
        for fence in leases {
            self.end_lease(now, fence, Ending::CutOff, effects);
        }
        if held == 0 && surplus > 0 {
            // its sub-agents have no seat either
            self.cut_surplus(now, slot, effects);
        }
    }

    pub(crate) fn extend_seats(&mut self, now: Now, until: Mono) -> Handled {
        if self.term.extend(now.mono, until, self.settings.leases.grace) {
            self.leases.forget_asking();
            self.update_standing(now);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn lose_connection(&mut self, now: Now) -> Handled {
        self.term.lose_connection(now.wall);
        self.leases.forget_asking();
        self.update_standing(now);
        Ok(Reply::Done)
    }

    pub(crate) fn set_pool_closed(&mut self, is_closed: bool) -> Handled {
        if self.term.set_closed(is_closed) {
            // requests that wait in vain are refused
            self.accounts.dirty().mark_all();
        }
        Ok(Reply::Done)
    }

    pub(crate) fn lose_seats(&mut self, now: Now, effects: &mut Effects) -> Handled {
        self.end_term(now, effects);
        Ok(Reply::Done)
    }

    /// Ends every lease on a shared account: nothing is granted on it before another term.
    fn end_term(&mut self, now: Now, effects: &mut Effects) {
        self.term.end(now.wall);
        self.update_standing(now);
        let shared = self.shared_accounts();
        self.cut_off(now, |account| shared.contains(&account), effects);
        for slot in 0..self.accounts.as_slice().len() {
            if self.accounts[slot].seats.is_some() {
                // another host may use its seats with higher fences
                self.accounts.forbid_resuming(slot);
                self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| {
                    seats.hold(0);
                    seats.lose_probe();
                });
                self.follow_standing(now, slot, false);
            }
        }
    }

    /// Whether the database can be asked decides about limits whose time is over. With `has_term` the duty to probe that
    /// this host has goes on.
    fn follow_standing(&mut self, now: Now, slot: usize, has_term: bool) {
        let account = &self.accounts[slot];
        let Some(seats) = account.seats.as_ref().filter(|_| !account.limits.is_empty()) else { return };
        let (is_reachable, leases) = (seats.standing().can_ask(), &self.leases);
        self.accounts.change_limits(slot, now, &mut self.timers, |limits| {
            limits.set_reachable(is_reachable, has_term, |fence| leases.contains(fence));
        });
    }

    fn cut_off(&mut self, now: Now, of: impl Fn(AccountId) -> bool, effects: &mut Effects) {
        let mut held: Vec<Fence> =
            self.leases.iter().filter(|lease| of(lease.account)).map(|lease| lease.fence).collect();
        held.sort_unstable();
        for fence in held {
            self.end_lease(now, fence, Ending::CutOff, effects);
        }
    }

    pub(crate) fn seats_claimed(
        &mut self,
        now: Now,
        id: AccountId,
        (seats, elsewhere): (u32, u32),
        fences: FenceBlock,
        effects: &mut Effects,
    ) -> Handled {
        self.take_fences(now, fences, effects)?;
        let slot = self.accounts.slot_of(id)?;
        self.accounts.forbid_resuming(slot);
        let is_awaited = self.accounts.change_seats(slot, now, &mut self.timers, |of, _| of.claimed(seats, elsewhere));
        self.accounts.dirty().mark_all();
        if is_awaited == Some(true) {
            return Ok(Reply::Done);
        }
        // it has failed meanwhile, or belongs to another term: the seats are not used
        Err(Refusal::new(RefusalKind::BadRequest, format!("no claim of seats of {id} is under way")))
    }

    pub(crate) fn seats_denied(&mut self, now: Now, id: AccountId, elsewhere: u32, why: SeatDenial) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.denied(elsewhere, why, now.mono));
        self.accounts.dirty().mark_all();
        Ok(Reply::Done)
    }

    pub(crate) fn seats_elsewhere(&mut self, now: Now, all: &[(AccountId, u32)]) -> Handled {
        for (id, elsewhere) in all {
            let Some(slot) = self.accounts.slot(*id) else { continue };
            if self.accounts[slot].seats().is_none_or(|seats| seats.elsewhere == *elsewhere) {
                continue;
            }
            self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.set_elsewhere(*elsewhere));
            self.accounts.dirty().mark_all();
        }
        Ok(Reply::Done)
    }

    pub(crate) fn seats_wanted(&mut self, now: Now, wanted: &[AccountId]) -> Handled {
        for slot in 0..self.accounts.as_slice().len() {
            let Some(seats) = &self.accounts[slot].seats else { continue };
            let is_wanted = wanted.contains(&self.accounts[slot].record.id);
            let was_wanted = seats.is_wanted();
            if is_wanted || was_wanted {
                self.accounts
                    .change_seats(slot, now, &mut self.timers, |seats, _| seats.set_wanted(is_wanted, now.mono));
            }
            if was_wanted && !is_wanted {
                // requests here may have it again
                self.accounts.dirty().mark_all();
            }
        }
        Ok(Reply::Done)
    }

    pub(crate) fn take_fences(&mut self, now: Now, fences: FenceBlock, effects: &mut Effects) -> Handled {
        effects.extend(self.leases.take_block(fences).map(Effect::ReserveFences));
        self.update_standing(now);
        Ok(Reply::Done)
    }

    /// A lease was granted: its account may need more seats, and the fences may have run out.
    pub(crate) fn note_grant(&mut self, now: Now, slot: usize) {
        self.accounts.note_seat_use(slot, now, &mut self.timers);
        if self.leases.has_used_up_block() {
            self.update_standing(now);
        }
    }

    fn update_standing(&mut self, now: Now) {
        let standing = self.term.standing(now.mono, self.leases.has_block());
        for slot in 0..self.accounts.as_slice().len() {
            if self.accounts[slot].seats.as_ref().is_some_and(|seats| seats.standing() != standing) {
                self.accounts.change_seats(slot, now, &mut self.timers, |seats, _| seats.set_standing(standing));
                self.follow_standing(now, slot, true);
                self.accounts.dirty().mark_all();
            }
        }
    }

    /// Passes the time: warns of the end of the seats, ends them, and gives back those that no lease needs.
    pub(crate) fn pass_term(&mut self, now: Now, effects: &mut Effects) {
        if !self.term.is_used() {
            return;
        }
        if self.term.has_passed(now.mono) {
            self.end_term(now, effects);
        }
        if self.term.take_warning(now.mono)
            && let Some(until) = self.term.until()
        {
            let is_shared = |account| self.accounts.get(account).is_some_and(|account| account.seats.is_some());
            let leases = self.leases.iter().filter(|lease| is_shared(lease.account)).map(|lease| lease.fence);
            let mut leases: Vec<Fence> = leases.collect();
            leases.sort_unstable();
            effects.extend(leases.into_iter().map(|fence| Effect::Emit(Event::SeatsEnd(fence, until))));
        }
        self.pass_seats(now, effects);
    }
}
