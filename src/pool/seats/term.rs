//! The term: for how long this host's seats are valid.

use crate::pool::model::{Mono, Now, Wall};
use crate::pool::seats::account::TermStanding;
use std::time::Duration;

/// Leases on shared accounts from before the start end after this time, if their term is not resumed.
const RESUME_WITHIN: Duration = Duration::from_secs(10);

/// This host's term in the shared pool.
#[derive(Debug, Default)]
pub(crate) struct Term {
    /// Whether an account is shared, or was.
    is_used: bool,
    until: Option<Mono>,
    /// When the holders learn that the seats end; none if they have.
    warns_at: Option<Mono>,
    is_connected: bool,
    /// The database refuses this host until a person changes something.
    is_closed: bool,
    /// Since when the database has not answered.
    lost_since: Option<Wall>,
    /// Since when this host has no term.
    ended_since: Option<Wall>,
    /// Until when leases from before the start wait for their term.
    resumes_by: Option<Mono>,
}

impl Term {
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    pub fn until(&self) -> Option<Mono> {
        self.until
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub fn lost_since(&self) -> Option<Wall> {
        self.lost_since
    }

    pub fn ended_since(&self) -> Option<Wall> {
        self.ended_since
    }

    /// Whether no seat can be claimed until a person changes something.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether that is news.
    pub fn set_closed(&mut self, is_closed: bool) -> bool {
        std::mem::replace(&mut self.is_closed, is_closed) != is_closed
    }

    /// Whether leases from before the start wait for their term.
    pub fn may_resume(&self) -> bool {
        self.resumes_by.is_some()
    }

    /// Whether holders know already that the seats end.
    pub fn has_warned(&self) -> bool {
        self.until.is_some() && self.warns_at.is_none()
    }

    pub fn standing(&self, now: Mono, fenced: bool) -> TermStanding {
        TermStanding { valid: self.until.is_some_and(|until| now < until), fenced, connected: self.is_connected }
    }

    pub fn next_change(&self) -> Option<Mono> {
        [self.until, self.warns_at, self.resumes_by].into_iter().flatten().min()
    }

    /// An account is shared.
    pub fn begin_use(&mut self, now: Now) {
        if !self.is_used {
            (self.is_used, self.ended_since) = (true, Some(now.wall));
        }
    }

    /// The daemon has started, and there may be leases on shared accounts.
    pub fn await_resumption(&mut self, now: Mono) {
        self.resumes_by = Some(now.after(RESUME_WITHIN));
    }

    /// A term begins or goes on.
    pub fn begin(&mut self, now: Mono, until: Mono, grace: Duration) {
        (self.is_connected, self.is_closed) = (true, false);
        (self.lost_since, self.ended_since) = (None, None);
        (self.until, self.resumes_by) = (Some(until), None);
        self.set_warning(now, grace);
    }

    /// A heartbeat was accepted; `false` if the term has ended before.
    pub fn extend(&mut self, now: Mono, until: Mono, grace: Duration) -> bool {
        let Some(before) = self.until.filter(|before| now < *before) else { return false };
        (self.is_connected, self.lost_since) = (true, None);
        if until > before {
            self.until = Some(until);
            self.set_warning(now, grace);
        }
        true
    }

    fn set_warning(&mut self, now: Mono, grace: Duration) {
        self.warns_at = self.until.map(|until| {
            let before = grace.min(until.since(now) / 3);
            Mono(until.0.saturating_sub(crate::pool::model::millis(before)))
        });
    }

    pub fn lose_connection(&mut self, now: Wall) {
        self.is_connected = false;
        self.lost_since = self.lost_since.or(Some(now));
    }

    pub fn end(&mut self, now: Wall) {
        (self.until, self.warns_at, self.resumes_by) = (None, None, None);
        self.ended_since = self.ended_since.or(Some(now));
    }

    /// Whether the holders must learn now that the seats end.
    pub fn take_warning(&mut self, now: Mono) -> bool {
        self.warns_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether the term has ended by time, or leases from before the start have waited for it in vain.
    pub fn has_passed(&self, now: Mono) -> bool {
        [self.until, self.resumes_by].into_iter().flatten().any(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    #[test]
    fn a_heartbeat_extends_a_valid_term_only_and_never_shortens_it() {
        let mut term = Term::default();
        assert!(!term.extend(Mono(0), Mono(1_000), GRACE) && term.until().is_none());
        term.begin(Mono(0), Mono(30_000), GRACE);
        assert!(term.extend(Mono(10_000), Mono(40_000), GRACE));
        assert!(term.extend(Mono(10_000), Mono(35_000), GRACE));
        assert_eq!(term.until(), Some(Mono(40_000)));
        assert!(!term.extend(Mono(40_000), Mono(70_000), GRACE), "its time has passed");
        assert!(term.has_passed(Mono(40_000)) && !term.has_passed(Mono(39_999)));
        assert!(!term.standing(Mono(40_000), true).valid && term.standing(Mono(39_999), true).valid);
    }

    #[test]
    fn holders_learn_of_the_end_once_and_sooner_for_a_short_term() {
        let mut term = Term::default();
        term.begin(Mono(0), Mono(30_000), GRACE);
        assert!(!term.take_warning(Mono(27_999)) && term.take_warning(Mono(28_000)));
        assert!(!term.take_warning(Mono(29_000)) && term.has_warned());
        assert!(term.extend(Mono(29_000), Mono(32_000), GRACE) && !term.has_warned());
        assert_eq!(term.next_change(), Some(Mono(31_000)), "a third of what is left");
    }

    #[test]
    fn the_first_loss_is_remembered_until_the_database_answers() {
        let mut term = Term::default();
        term.begin_use(Now { mono: Mono(0), wall: Wall(50) });
        assert_eq!(term.ended_since(), Some(Wall(50)));
        term.begin(Mono(0), Mono(30_000), GRACE);
        term.lose_connection(Wall(100));
        term.lose_connection(Wall(200));
        assert_eq!((term.lost_since(), term.ended_since()), (Some(Wall(100)), None));
        term.end(Wall(300));
        assert_eq!((term.ended_since(), term.next_change()), (Some(Wall(300)), None));
        term.begin(Mono(9), Mono(30_000), GRACE);
        assert_eq!((term.lost_since(), term.ended_since(), term.is_connected()), (None, None, true));
    }
}
