//! What guests may have: the pool keeps to it, with the accounts as they are called at the time.

use super::{Guest, GuestKind};
use crate::daemon::state::State;
use crate::pool::{Command, GuestId, GuestLimits, Now};
use crate::protocol::GuestInfo;

impl State {
    /// Has the pool keep to what a guest may have now.
    pub(crate) fn limit_guest(&mut self, id: GuestId, now: Now) {
        if let Some(limits) = self.guests.all.get(&id).and_then(|guest| self.limits_of(guest)) {
            self.apply_internal(now, Command::LimitGuest(id, Box::new(limits)));
        }
    }

    /// The commands that follow when accounts were added, removed or given other names.
    pub(crate) fn limits_after_change(&self) -> Vec<Command> {
        let restricted = self.guests.all.iter().filter(|(_, guest)| guest.policy.only.is_some());
        let commands = restricted.filter_map(|(id, guest)| {
            let limits = self.limits_of(guest).filter(|limits| self.pool.guest_limits(*id) != Some(limits))?;
            Some(Command::LimitGuest(*id, Box::new(limits)))
        });
        commands.collect()
    }

    /// `None` for a guest that is only known from leases of before a restart.
    fn limits_of(&self, guest: &Guest) -> Option<GuestLimits> {
        if guest.link.is_empty() {
            return None;
        }
        let only = guest.policy.only.as_ref().map(|names| {
            let mut ids: Vec<_> = names.iter().flat_map(|name| self.accounts_named(name).unwrap_or_default()).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.into()
        });
        let group = guest.policy.name.as_deref().map(Into::into);
        Some(GuestLimits { only, most_leases: guest.policy.max_leases, group, name: guest.name.clone() })
    }

    /// The guests, for `status`.
    pub(crate) fn guest_infos(&self) -> Vec<GuestInfo> {
        let mut infos: Vec<GuestInfo> = self.guests.all.keys().filter_map(|id| self.guest_info(*id)).collect();
        infos.sort_by(|one, other| one.name.cmp(&other.name));
        infos
    }

    /// One guest, for `status`.
    pub(crate) fn guest_info(&self, id: GuestId) -> Option<GuestInfo> {
        let guest = self.guests.all.get(&id)?;
        let kind = match guest.kind {
            GuestKind::Ssh => "ssh",
            GuestKind::Socket => "socket",
        };
        let its = self.pool.leases().filter(|lease| lease.guest() == Some(id) && lease.subagent.is_none());
        Some(GuestInfo {
            name: guest.name.to_string(),
            kind: kind.to_owned(),
            state: if guest.up.is_some() { "up" } else { "down" }.to_owned(),
            since: guest.since.wall.0,
            leases: its.count() as u64,
            max_leases: guest.policy.max_leases,
            only: guest.policy.only.clone(),
            version: guest.version.clone(),
        })
    }
}
