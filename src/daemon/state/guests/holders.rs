//! The holders that guests vouch for, and the end of what they have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::{Guest, GuestRefusal, LostGuest, MOST_HOLDERS, RESTORED_GRACE};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::pool::{Command, GuestId, Holder, Now, Process};
use crate::protocol::{GuestHolder, HolderInfo};

/// How a holder of a guest is shown; `None` for one of this system.
pub(crate) fn guest_holder(holder: &Holder) -> Option<HolderInfo> {
    let process = holder.process.filter(|process| process.guest().is_some())?;
    Some(HolderInfo { pid: process.pid, program: holder.program.as_deref().map(str::to_owned) })
}

/// The names of guests' holders, for those that do not lock the state.
#[derive(Debug, Default)]
pub(crate) struct GuestHolderNames(Mutex<FxHashMap<Process, Arc<str>>>);

impl GuestHolderNames {
    fn names(&self) -> MutexGuard<'_, FxHashMap<Process, Arc<str>>> {
        // entries are only added and removed
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, holder: &Holder) {
        if let Some((process, program)) = holder.process.zip(holder.program.clone()) {
            self.names().insert(process, program);
        }
    }

    pub(crate) fn get(&self, process: Process) -> Option<Arc<str>> {
        self.names().get(&process).cloned()
    }

    fn forget(&self, process: Process) {
        self.names().remove(&process);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names().len()
    }
}

impl State {
    /// Ends what these holders of a guest have; the numbers are sorted.
    fn end_guest_holders(&mut self, id: GuestId, numbers: &[u32], now: Now) {
        // also of a lease that was restored, whose holder was never named again
        let of_leases = self.pool.leases().filter_map(|lease| lease.bind.process().or(lease.holder.process));
        let is_it =
            |process: &Process| process.guest() == Some(id) && numbers.binary_search(&process.guest_number()).is_ok();
        let mut ended: Vec<Process> = of_leases.filter(is_it).collect();
        ended.extend(numbers.iter().filter_map(|number| self.guests.holder_ends(id, *number)));
        ended.sort_unstable();
        ended.dedup();
        for process in ended {
            self.shared().guest_names.forget(process);
            self.apply_internal(now, Command::ProcessEnded(process));
        }
    }

    /// Ends the leases of all holders of a guest but these; the numbers are sorted.
    fn keep_guest_holders(&mut self, id: GuestId, living: &[u32], now: Now) {
        let numbers = self.pool.leases().filter_map(|lease| lease.bind.process().or(lease.holder.process));
        let known = self.guests.all.get(&id).into_iter().flat_map(|guest| guest.holders.keys().copied());
        let mut gone: Vec<u32> = numbers
            .filter(|process| process.guest() == Some(id))
            .map(Process::guest_number)
            .chain(known)
            .filter(|number| living.binary_search(number).is_err())
            .collect();
        gone.sort_unstable();
        gone.dedup();
        self.end_guest_holders(id, &gone, now);
    }
}

impl Daemon {
    /// The guest states its holders.
    pub(crate) fn guest_holders(
        &self,
        id: GuestId,
        begun: &[GuestHolder],
        (ended, all): (&[u32], bool),
    ) -> Result<(), GuestRefusal> {
        // the state is locked for all of them
        if begun.len().max(ended.len()) > MOST_HOLDERS {
            return Err(GuestRefusal::TooMany);
        }
        let mut ended = ended.to_vec();
        ended.sort_unstable();
        ended.dedup();
        let state = &mut *self.state();
        let now = clock::now();
        state.end_guest_holders(id, &ended, now);
        for holder in begun {
            state.guests.holder_begins(id, holder)?;
            if let Ok(known) = state.guests.holder(id, Some(holder.number)) {
                self.guest_names.note(&known);
            }
        }
        if all {
            let mut living: Vec<u32> = begun.iter().map(|holder| holder.number).collect();
            living.sort_unstable();
            state.keep_guest_holders(id, &living, now);
        }
        Ok(())
    }

    /// Ends what a guest has, unless it comes back in time.
    pub(crate) fn await_guest(&self, (id, since, grace): LostGuest) {
        let Some(daemon) = self.daemon() else { return };
        self.runtime.spawn(async move {
            tokio::time::sleep(grace).await;
            daemon.end_guest(id, since);
        });
    }

    fn end_guest(&self, id: GuestId, since: Now) {
        let state = &mut *self.state();
        let is_gone = |guest: &Guest| guest.up.is_none() && guest.since == since;
        if state.guests.all.get(&id).is_some_and(is_gone) {
            let now = clock::now();
            state.keep_guest_holders(id, &[], now);
            state.apply_internal(now, Command::ForgetGuest(id));
            if let Some(guest) = state.guests.all.remove(&id) {
                state.log.push(move || tracing::info!("the guest {} is gone, and its leases have ended", guest.name));
            }
        }
    }

    /// Waits for the guests that have leases from before a restart of the daemon. What they have not named by then ends,
    /// also that of a share, whose socket is there again at once.
    pub(crate) fn await_restored_guests(&self) {
        let state = &mut *self.state();
        let now = clock::now();
        let restored: Vec<_> = state.pool.leases().filter_map(|lease| Some((lease.guest()?, lease.clone()))).collect();
        for (id, lease) in &restored {
            state.guests.expect(*id, lease, now);
            self.guest_names.note(&lease.holder);
        }
        let Some(daemon) = self.daemon().filter(|_| !restored.is_empty()) else { return };
        let waiting: Vec<LostGuest> =
            state.guests.all.iter().map(|(id, guest)| (*id, guest.since, RESTORED_GRACE)).collect();
        self.runtime.spawn(async move {
            tokio::time::sleep(RESTORED_GRACE).await;
            for (id, since, _) in waiting {
                daemon.end_unnamed(id);
                daemon.end_guest(id, since);
            }
        });
    }

    /// Ends the leases of holders that a guest does not name.
    fn end_unnamed(&self, id: GuestId) {
        let state = &mut *self.state();
        let Some(guest) = state.guests.all.get(&id) else { return };
        let mut living: Vec<u32> = guest.holders.keys().copied().collect();
        living.sort_unstable();
        state.keep_guest_holders(id, &living, clock::now());
    }
}
