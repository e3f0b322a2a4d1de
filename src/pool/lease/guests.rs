//! Guests: which accounts the programs of another machine or of a container may use, and how many leases they may have.
//! The bounds hold for every lease of a guest, however it came by it and whenever they change: a lease that they do not
//! allow any more ends (`Revoked`).

use crate::pool::command::{Effect, Effects, Handled, Reply};
use crate::pool::lease::{Ending, Lease};
use crate::pool::model::{
    AccountId, AccountSet, Bind, Fence, GuestId, GuestLimits, Holder, LeaseRequest, Now, Process, Refusal, RefusalKind,
    WaiterId,
};
use crate::pool::state::Pool;
use std::borrow::Cow;

/// The guest that something with this binding and holder belongs to.
fn guest_of(bind: Bind, holder: &Holder) -> Option<GuestId> {
    bind.process().or(holder.process).and_then(Process::guest)
}

impl Lease {
    /// The guest that it belongs to.
    #[must_use]
    pub fn guest(&self) -> Option<GuestId> {
        guest_of(self.bind, &self.holder)
    }

    /// Whether it counts among those that its guest may have: the conversations of sub-agents belong to the lease of
    /// their agent.
    fn counts(&self) -> bool {
        self.subagent.is_none()
    }

    /// Under which its request id is known.
    pub(crate) fn request_key(&self) -> Option<Cow<'_, str>> {
        self.request_id.as_deref().map(|id| request_key(self.guest(), id))
    }
}

impl LeaseRequest {
    /// The guest that it comes from.
    #[must_use]
    pub fn guest(&self) -> Option<GuestId> {
        guest_of(self.bind, &self.holder)
    }

    /// Under which its request id is known.
    pub(crate) fn request_key(&self) -> Option<Cow<'_, str>> {
        self.request_id.as_deref().map(|id| request_key(self.guest(), id))
    }
}

/// A request id as it is known: stating a request id of another guest, or of this machine, gets no lease of theirs.
fn request_key(guest: Option<GuestId>, id: &str) -> Cow<'_, str> {
    match guest {
        None => id.into(),
        Some(guest) => format!("{}\0{id}", guest.bits()).into(),
    }
}

impl Pool {
    /// The part of a set that a guest may use.
    #[must_use]
    pub fn set_of_guest(&self, guest: GuestId, set: AccountSet) -> AccountSet {
        match self.guests.get(guest) {
            Some(limits) => limits.within(set),
            None => set,
        }
    }

    /// The limits of a guest, if it has some.
    #[must_use]
    pub fn guest_limits(&self, guest: GuestId) -> Option<&GuestLimits> {
        self.guests.get(guest)
    }

    /// How many leases a guest has, with those that count together with its own.
    #[must_use]
    pub fn leases_of_guest(&self, guest: GuestId) -> usize {
        let is_its = |lease: &&Lease| lease.guest().is_some_and(|of| self.guests.count_together(of, guest));
        self.leases.iter().filter(is_its).filter(|lease| lease.counts()).count()
    }

    /// How many requests of it wait for a lease.
    #[must_use]
    pub fn queued_of_guest(&self, guest: GuestId) -> usize {
        let is_its = |ask: &LeaseRequest| ask.guest().is_some_and(|of| self.guests.count_together(of, guest));
        self.queue.in_order().filter(|(_, waiter)| waiter.ask.subagent.is_none() && is_its(&waiter.ask)).count()
    }

    /// Why a guest may have no further lease now.
    pub(crate) fn check_guest_room(&self, guest: Option<GuestId>) -> Result<(), Refusal> {
        let Some((guest, limits)) = guest.and_then(|guest| Some((guest, self.guests.get(guest)?))) else {
            return Ok(());
        };
        let Some(most) = limits.most_leases else { return Ok(()) };
        if self.leases_of_guest(guest) + self.queued_of_guest(guest) < most as usize {
            return Ok(());
        }
        Err(no_room(limits, most))
    }

    /// Whether a guest's bound leaves room for what is requested.
    pub(crate) fn has_guest_room(&self, ask: &LeaseRequest) -> bool {
        ask.subagent.is_some() || self.check_guest_room(ask.guest()).is_ok()
    }

    /// Restricts a request of a guest to what the guest may have.
    pub(crate) fn restrict_to_guest(&self, ask: &mut LeaseRequest) {
        if let Some(limits) = ask.guest().and_then(|guest| self.guests.get(guest)) {
            ask.set = limits.within(std::mem::take(&mut ask.set));
        }
    }

    /// Checks whether a guest may resume this lease, and answers the accounts that it may move to from then on.
    pub(crate) fn check_resumed_by_guest(
        &self,
        holder: &Holder,
        (account, set): (AccountId, AccountSet),
        held: Option<&Lease>,
    ) -> Result<AccountSet, Refusal> {
        let Some(guest) = holder.process.and_then(Process::guest) else { return Ok(set) };
        // a lease of this machine's programs is never a guest's
        let owner = held.map(Lease::guest);
        if owner == Some(None) {
            return Err(Refusal::stale());
        }
        let is_counted = owner.flatten().is_some_and(|owner| self.guests.count_together(owner, guest));
        if !is_counted {
            self.check_guest_room(Some(guest))?;
        }
        let Some(limits) = self.guests.get(guest) else { return Ok(set) };
        if limits.allows(account) { Ok(limits.within(set)) } else { Err(Refusal::stale()) }
    }

    /// A guest may have this from now on. What it may not have any more ends.
    pub(crate) fn limit_guest(
        &mut self,
        now: Now,
        guest: GuestId,
        limits: GuestLimits,
        effects: &mut Effects,
    ) -> Handled {
        let before = self.guests.0.insert(guest, limits.clone());
        if before.as_ref() == Some(&limits) {
            return Ok(Reply::Done);
        }
        let mut held: Vec<Fence> =
            self.leases.iter().filter(|lease| lease.guest() == Some(guest)).map(|lease| lease.fence).collect();
        held.sort_unstable();
        for fence in held {
            let Some(lease) = self.leases.get(fence) else { continue };
            if !limits.allows(lease.account) {
                self.end_lease(now, fence, Ending::Revoked, effects);
                continue;
            }
            let (set, is_durable) = (lease.set().clone(), lease.is_durable());
            let replaced = limits.replace(set.clone(), before.as_ref());
            if replaced != set {
                self.leases.set_accounts(fence, replaced);
                effects.extend(is_durable.then_some(Effect::SaveLease(fence)));
            }
        }
        let waiting: Vec<WaiterId> =
            self.queue.in_order().filter(|(_, waiter)| waiter.ask.guest() == Some(guest)).map(|(id, _)| id).collect();
        for waiter in waiting {
            self.queue.change_set(waiter, |set| limits.replace(set, before.as_ref()));
        }
        self.end_beyond(now, guest, &limits, effects);
        self.queue_dirty.mark_all();
        Ok(Reply::Done)
    }

    /// Ends what a guest has beyond its number of leases, the newest first: requests that wait, then leases.
    fn end_beyond(&mut self, now: Now, guest: GuestId, limits: &GuestLimits, effects: &mut Effects) {
        let Some(most) = limits.most_leases else { return };
        let mut beyond = (self.leases_of_guest(guest) + self.queued_of_guest(guest)).saturating_sub(most as usize);
        let is_its = |of: Option<GuestId>| of.is_some_and(|of| self.guests.count_together(of, guest));
        let asks = self.queue.in_order().filter(|(_, waiter)| waiter.ask.subagent.is_none());
        let mut waiting: Vec<WaiterId> =
            asks.filter(|(_, waiter)| is_its(waiter.ask.guest())).map(|(id, _)| id).collect();
        waiting.sort_unstable_by_key(|waiter| std::cmp::Reverse(waiter.0));
        let leases = self.leases.iter().filter(|lease| is_its(lease.guest()) && lease.counts());
        let mut held: Vec<Fence> = leases.map(|lease| lease.fence).collect();
        held.sort_unstable_by_key(|fence| std::cmp::Reverse(*fence));
        for waiter in waiting.into_iter().take(beyond) {
            self.answer(now, waiter, Err(no_room(limits, most)), effects);
            beyond -= 1;
        }
        for fence in held.into_iter().take(beyond) {
            self.end_lease(now, fence, Ending::Revoked, effects);
        }
    }

    /// A guest has gone, with all its leases.
    pub(crate) fn forget_guest(&mut self, guest: GuestId) -> Handled {
        self.guests.0.remove(&guest);
        Ok(Reply::Done)
    }

    /// Checks that no guest has what it may not have.
    pub(crate) fn check_guests(&self) -> Result<(), String> {
        for (guest, limits) in &self.guests.0 {
            let most = limits.most_leases.map_or(usize::MAX, |most| most as usize);
            let held = self.leases_of_guest(*guest);
            if held > most {
                return Err(format!("the guest {} has {held} leases and may have {most}", limits.name));
            }
            let outside = |lease: &&Lease| lease.guest() == Some(*guest) && !limits.allows(lease.account);
            if let Some(lease) = self.leases.iter().find(outside) {
                return Err(format!(
                    "the guest {} has a lease on {}, which it may not use",
                    limits.name, lease.account
                ));
            }
        }
        Ok(())
    }
}

fn no_room(limits: &GuestLimits, most: u32) -> Refusal {
    let message = format!("the guest {} may have {most} leases, and has or waits for as many", limits.name);
    Refusal::new(RefusalKind::NoCapacity, message).hint("at the host: lessor status")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn ids(bits: &[u64]) -> Option<Arc<[AccountId]>> {
        Some(bits.iter().copied().map(AccountId::from_bits).collect())
    }

    fn limits(only: Option<Arc<[AccountId]>>) -> GuestLimits {
        GuestLimits { only, ..GuestLimits::default() }
    }

    fn set(only: Option<Arc<[AccountId]>>) -> AccountSet {
        AccountSet { only, directory: None }
    }

    #[test]
    fn a_set_follows_the_limits_unless_the_request_listed_accounts_itself() {
        let (narrow, wide) = (limits(ids(&[1, 2])), limits(ids(&[1, 2, 3])));
        let asked_all = narrow.within(set(None));
        assert_eq!(asked_all, set(ids(&[1, 2])));
        assert_eq!(wide.replace(asked_all.clone(), Some(&narrow)), set(ids(&[1, 2, 3])));
        assert_eq!(limits(None).replace(asked_all, Some(&narrow)), set(None));
        let asked_some = wide.within(set(ids(&[2, 3, 4])));
        assert_eq!(asked_some, set(ids(&[2, 3])));
        assert_eq!(narrow.replace(asked_some, Some(&wide)), set(ids(&[2])));
        assert_eq!(narrow.replace(set(None), None), set(ids(&[1, 2])), "of a lease that was restored");
    }
}
