//! Until when a host's own seats are valid, and which other terms are silent. Pure: times are arguments, all of them of
//! this host's own clock that counts suspend.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ids::TermId;
use crate::pool::Mono;

/// Until when the seats of this host's term are valid.
#[derive(Clone, Debug)]
pub struct SeatValidity {
    lasts: Duration,
    until: Option<Mono>,
}

impl SeatValidity {
    /// For a new term. Nothing is valid before its first heartbeat, or before the call that began it was answered.
    #[must_use]
    pub fn new(ttl: Duration, margin: Duration) -> Self {
        Self { lasts: ttl.saturating_sub(margin), until: None }
    }

    /// A heartbeat, or the call that began or resumed the term, was accepted. It counts from when it was *sent*: others may
    /// have seen it as early as that. Answers may come in any order. Returns until when the seats are valid.
    pub fn accepted(&mut self, sent: Mono) -> Mono {
        let until = sent.after(self.lasts);
        let until = self.until.map_or(until, |known| known.max(until));
        self.until = Some(until);
        until
    }

    /// Until when the seats are valid.
    #[must_use]
    pub fn until(&self) -> Option<Mono> {
        self.until
    }

    /// Whether they are valid now.
    #[must_use]
    pub fn holds(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// What this host has seen of the heartbeats of other terms.
#[derive(Clone, Debug)]
pub struct SilentTerms {
    patience: Duration,
    seen: BTreeMap<TermId, SeenBeat>,
}

#[derive(Clone, Copy, Debug)]
struct SeenBeat {
    beat: u64,
    /// When the answer came that had this number first.
    since: Mono,
}

impl SilentTerms {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(ttl: Duration, margin: Duration) -> Self {
        Self { patience: ttl.saturating_add(margin), seen: BTreeMap::new() }
    }

    /// The heartbeats of all terms that are not over, from one reading. Returns those terms whose heartbeat had the same
    /// number for ttl + margin: from the moment when its answer came first, to the moment when this reading was sent. They
    /// can be ended with that number.
    pub fn look(
        &mut self,
        beats: &[(TermId, u64)],
        own: Option<TermId>,
        sent: Mono,
        received: Mono,
    ) -> Vec<(TermId, u64)> {
        let mut silent = Vec::new();
        let mut seen = BTreeMap::new();
        for (term, beat) in beats.iter().copied().filter(|(term, _)| Some(*term) != own) {
            let known = self.seen.get(&term).copied().filter(|known| known.beat == beat);
            let known = known.unwrap_or(SeenBeat { beat, since: received });
            if sent.since(known.since) >= self.patience {
                silent.push((term, beat));
            }
            seen.insert(term, known);
        }
        self.seen = seen;
        silent
    }

    /// Forgets everything: the database is another one than before.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(30_000);
    const MARGIN: Duration = Duration::from_millis(5_000);

    #[test]
    fn seats_are_valid_from_when_their_heartbeat_was_sent() {
        let mut validity = SeatValidity::new(TTL, MARGIN);
        assert!(!validity.holds(Mono(0)));
        assert_eq!(validity.accepted(Mono(1_000)), Mono(26_000));
        assert!(validity.holds(Mono(25_999)) && !validity.holds(Mono(26_000)));
        // an answer to an earlier heartbeat that comes late shortens nothing
        assert_eq!(validity.accepted(Mono(500)), Mono(26_000));
        assert_eq!(validity.accepted(Mono(11_000)), Mono(36_000));
        assert_eq!(validity.until(), Some(Mono(36_000)));
    }

    #[test]
    fn a_margin_of_the_whole_ttl_leaves_nothing() {
        let mut validity = SeatValidity::new(MARGIN, TTL);
        validity.accepted(Mono(1_000));
        assert!(!validity.holds(Mono(1_000)));
    }

    #[test]
    fn a_term_is_silent_after_ttl_and_margin_of_the_same_number() {
        let term = TermId(7);
        // (sent, received, beat, silent)
        let rows = [
            (0, 100, 3, false),
            (35_000, 35_010, 3, false),
            // counted from when the answer came, to when the question was sent
            (35_099, 40_000, 3, false),
            (35_100, 40_000, 3, true),
            // still silent, until it is over
            (36_000, 36_010, 3, true),
            // a new number begins again
            (37_000, 37_010, 4, false),
            (72_009, 72_010, 4, false),
            (72_010, 72_011, 4, true),
        ];
        let mut terms = SilentTerms::new(TTL, MARGIN);
        for (sent, received, beat, silent) in rows {
            let found = terms.look(&[(term, beat)], None, Mono(sent), Mono(received));
            assert_eq!(found, if silent { vec![(term, beat)] } else { vec![] }, "{sent}");
        }
    }

    #[test]
    fn own_and_ended_terms_are_not_silent() {
        let (own, other) = (TermId(1), TermId(2));
        let mut terms = SilentTerms::new(TTL, MARGIN);
        assert_eq!(terms.look(&[(own, 1), (other, 1)], Some(own), Mono(0), Mono(0)), []);
        // the other is not in this reading: what was seen before does not count
        assert_eq!(terms.look(&[(own, 1)], Some(own), Mono(20_000), Mono(20_000)), []);
        assert_eq!(terms.look(&[(own, 1), (other, 1)], Some(own), Mono(50_000), Mono(50_000)), []);
        assert_eq!(terms.look(&[(other, 1)], None, Mono(85_000), Mono(85_000)), [(other, 1)]);
        terms.forget();
        assert_eq!(terms.look(&[(other, 1)], None, Mono(190_000), Mono(190_000)), []);
    }

    /// However slow the readings of the observer and the answers to the owner are.
    #[test]
    fn the_owner_has_stopped_when_others_find_it_silent() {
        for delay in [0, 10, 4_000, 20_000] {
            let mut validity = SeatValidity::new(TTL, MARGIN);
            let mut terms = SilentTerms::new(TTL, MARGIN);
            // sent at 1 000, in the database at once
            let until = validity.accepted(Mono(1_000));
            let found = (1..200).map(|at| at * 500).find(|sent| {
                let beat = u64::from(*sent >= 1_000);
                !terms.look(&[(TermId(1), beat)], None, Mono(*sent), Mono(*sent + delay)).is_empty()
            });
            assert!(Mono(found.unwrap()) >= until.after(2 * MARGIN), "{delay}: {found:?}");
        }
    }
}
