//! How many requests an account takes at once, learnt from its limits.
//!
//! A limit halves what was under way. Each success then allows one more, up to just below the number at which it came.
//! There the cap stays for a while, twice as long after each further limit; then it grows by one for each round of
//! successes while the account is full, and ends at twice that number, or after ten minutes without a limit.

use crate::pool::model::Mono;
use std::time::Duration;

/// How long the cap stays just below the number at which the limit came, after the first limit.
const FIRST_HOLD: Duration = Duration::from_secs(10);
/// How often that time doubles at most: to about five minutes.
const MOST_DOUBLINGS: u32 = 5;
/// After this time without a limit nothing is known any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LearntCap {
    cap: u32,
    /// How many are one too many.
    refused_at: u32,
    /// When the last limit came.
    since: Mono,
    /// Limits in a row.
    limits: u32,
    /// Successes since the cap last grew.
    successes: u32,
}

impl LearntCap {
    /// What a limit says of a request that began then, with so many under way, itself among them. A single request that
    /// is refused says nothing of how many there may be.
    pub(super) fn after_limit(known: Option<Self>, under_way: u32, began: Mono, now: Mono) -> Option<Self> {
        let known = known.filter(|known| known.cap(now).is_some());
        match known {
            // it was sent before the limit was known: of those that were under way then, as many less are not too many
            Some(known) if began <= known.since => {
                let refused_at = known.refused_at.saturating_sub(1).max(2);
                Some(Self { refused_at, cap: known.cap.min(refused_at / 2), ..known })
            }
            None if under_way < 2 => None,
            _ => {
                let limits = known.map_or(0, |known| known.limits).saturating_add(1);
                let refused_at = under_way.max(2);
                Some(Self { cap: refused_at / 2, refused_at, since: now, limits, successes: 0 })
            }
        }
    }

    /// How many requests may be under way.
    pub(super) fn cap(&self, now: Mono) -> Option<u32> {
        (now.since(self.since) < FORGOTTEN_AFTER).then_some(self.cap)
    }

    /// A request that began then has succeeded, with so many under way; returns whether there still is a cap.
    pub(super) fn served(&mut self, under_way: u32, began: Mono, now: Mono) -> bool {
        // what was sent before the limit says nothing of the time after it
        if began <= self.since {
            return true;
        }
        if self.cap + 1 < self.refused_at {
            self.cap += 1;
        } else if now.since(self.since) >= self.hold() && under_way >= self.cap {
            self.successes += 1;
            if self.successes >= self.cap {
                (self.cap, self.successes) = (self.cap + 1, 0);
            }
        }
        self.cap < self.refused_at.saturating_mul(2)
    }

    fn hold(&self) -> Duration {
        FIRST_HOLD * (1 << (self.limits - 1).min(MOST_DOUBLINGS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(1_000 * seconds)
    }

    fn learnt(under_way: u32) -> LearntCap {
        LearntCap::after_limit(None, under_way, at(0), at(1)).unwrap()
    }

    #[test]
    fn a_limit_halves_what_is_under_way_and_successes_raise_it_to_just_below() {
        for (under_way, caps) in
            [(2, &[1, 1][..]), (3, &[1, 2, 2]), (10, &[5, 6, 7, 8, 9, 9, 9]), (9, &[4, 5, 6, 7, 8, 8])]
        {
            let mut cap = learnt(under_way);
            let mut seen = vec![cap.cap(at(1)).unwrap()];
            for _ in 1..caps.len() {
                assert!(cap.served(1, at(2), at(3)));
                seen.push(cap.cap(at(3)).unwrap());
            }
            assert_eq!(seen, caps, "{under_way}");
        }
        assert_eq!(LearntCap::after_limit(None, 1, at(0), at(1)), None, "it was alone");
    }

    #[test]
    fn refusals_of_requests_that_were_sent_before_the_limit_are_the_same_event_and_tell_where_it_is() {
        // of twelve, four are refused; how many have ended meanwhile does not matter
        let mut known = Some(learnt(12));
        for under_way in [11, 3, 1] {
            known = LearntCap::after_limit(known, under_way, at(1), at(2));
        }
        let fourth = known.unwrap();
        assert_eq!((fourth.cap, fourth.refused_at, fourth.limits), (4, 9, 1));
        let next = LearntCap::after_limit(known, 8, at(2), at(3)).unwrap();
        assert_eq!((next.cap, next.refused_at, next.limits), (4, 8, 2));
        for _ in 0..20 {
            known = LearntCap::after_limit(known, 1, at(1), at(2));
        }
        assert_eq!(known.map(|known| (known.cap, known.refused_at)), Some((1, 2)));
    }

    #[test]
    fn a_success_of_a_request_from_before_the_limit_raises_nothing() {
        let mut cap = learnt(10);
        assert!(cap.served(10, at(1), at(5)));
        assert_eq!(cap.cap, 5);
    }

    #[test]
    fn beyond_the_number_that_was_refused_it_grows_slowly_and_only_while_the_account_is_full() {
        let mut cap = LearntCap { cap: 3, refused_at: 4, since: at(0), limits: 1, successes: 0 };
        let mut served = |under_way, seconds, times| {
            (0..times).all(|_| cap.served(under_way, at(1), at(seconds))).then_some(cap.cap)
        };
        assert_eq!(served(3, 9, 50), Some(3), "it is held for 10 s");
        assert_eq!(served(2, 10, 50), Some(3), "it is not full");
        assert_eq!(served(3, 10, 3), Some(4));
        assert_eq!(served(4, 11, 4), Some(5));
        assert_eq!(served(5, 12, 5 + 6), Some(6), "one more takes as many successes as are under way");
        assert_eq!(served(7, 13, 6 + 7), None, "nothing is left of it at twice the number");
        let twice = LearntCap { limits: 2, ..LearntCap::after_limit(None, 8, at(0), at(0)).unwrap() };
        assert_eq!((twice.hold(), twice.cap(at(599)), twice.cap(at(600))), (2 * FIRST_HOLD, Some(4), None));
        assert_eq!(LearntCap { limits: u32::MAX, ..twice }.hold(), FIRST_HOLD * 32);
    }
}
