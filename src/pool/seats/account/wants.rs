//! Seats that hosts wait for: those that other hosts want of this one, and those that this one wants.

use std::time::Duration;

use super::AccountSeats;
use crate::pool::lease::LeaseCounts;
use crate::pool::model::Mono;

/// Another host that still waits for a seat says so more often than this.
pub(super) const WANT_LASTS: Duration = Duration::from_secs(10);
/// How often it is looked whether a request still waits for what this host wants.
const WANT_CHECK: Duration = Duration::from_secs(1);
/// For so long the database lets other hosts know of a want that is not repeated.
const WANT_RECORDED: Duration = Duration::from_secs(60);

/// Other hosts read of this want, and give back a seat for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnWant {
    check: Mono,
    until: Mono,
}

impl OwnWant {
    /// A claim has just found no free seat.
    pub fn recorded(now: Mono) -> Self {
        Self { check: now.after(WANT_CHECK), until: now.after(WANT_RECORDED) }
    }

    pub fn check(self) -> Mono {
        self.check
    }
}

impl AccountSeats {
    /// Whether another host waits for a seat, as far as is known.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether the last seat goes to another host as soon as the sub-agents that keep it have ended. New leases would overlap
    /// with them, and with each other, for ever.
    pub(super) fn is_leaving(&self, counts: LeaseCounts) -> bool {
        self.wanted.is_some() && counts.leases == 0 && counts.subagents > 0
    }

    /// Whether another host waits for a seat: then the next one that is free goes back.
    pub fn set_wanted(&mut self, is_wanted: bool, now: Mono) {
        // of none, nothing can go back: a seat that is claimed later is for those that wait here
        self.wanted = (is_wanted && self.held > 0).then(|| now.after(WANT_LASTS));
    }

    /// Whether it is to be seen now whether a request still waits for what this host wants.
    pub fn has_due_want(&self, now: Mono) -> bool {
        self.own_want.is_some_and(|want| want.check <= now)
    }

    /// Whether the want in the database is to be withdrawn, because no request waits for it any more.
    pub fn check_want(&mut self, is_waited_for: bool, now: Mono) -> bool {
        let Some(want) = self.own_want.take().filter(|want| want.until > now) else { return false };
        let is_idle = !is_waited_for && self.claim.is_none();
        if !is_idle || !self.standing.connected {
            self.own_want = Some(OwnWant { check: now.after(WANT_CHECK), ..want });
            return false;
        }
        true
    }
}
