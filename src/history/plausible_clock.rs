//! The time by which old rows are deleted. A clock that is set far ahead must not delete the history, so it is believed
//! only when it agrees with what is known: with the newest row, or with the time before and what has passed since then.

use std::time::Duration;

use crate::pool::millis;

/// How far ahead of the expected time the clock is believed at once.
const DOUBTFUL: Duration = Duration::from_secs(86_400);
/// For how long a clock that is further ahead must go on so before it is believed: the daemon was stopped for days, or
/// the clock was wrong before.
const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

/// A clock that is not believed at once.
#[derive(Debug)]
pub(super) struct PlausibleClock {
    /// The time that was believed last, epoch ms, and how long the daemon ran then.
    believed: (u64, Duration),
    /// Since when the clock is further ahead than that explains.
    doubted_since: Option<Duration>,
}

impl PlausibleClock {
    /// Begins with the time of the newest row, epoch ms; `running` never jumps.
    pub(super) fn new(newest: u64, running: Duration) -> Self {
        Self { believed: (newest, running), doubted_since: None }
    }

    /// The time by which rows are old, epoch ms.
    pub(super) fn now(&mut self, clock: u64, running: Duration) -> u64 {
        let (before, at) = self.believed;
        let expected = before.saturating_add(millis(running.saturating_sub(at)));
        if clock > expected.saturating_add(millis(DOUBTFUL)) {
            let since = *self.doubted_since.get_or_insert(running);
            if running.saturating_sub(since) < BELIEVED_AFTER {
                return expected;
            }
        }
        self.doubted_since = None;
        self.believed = (clock, running);
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: u64 = 86_400_000;

    #[test]
    fn a_clock_far_ahead_is_believed_after_an_hour_only() {
        let begin = 100 * DAY;
        let mut clock = PlausibleClock::new(begin, HOUR);
        assert_eq!(clock.now(begin + DAY / 2, HOUR), begin + DAY / 2, "the daemon was stopped for half a day");
        let begin = begin + DAY / 2;
        assert_eq!(clock.now(begin + 400 * DAY, HOUR), begin, "set far ahead");
        assert_eq!(clock.now(begin + 400 * DAY, HOUR + HOUR / 2), begin + DAY / 48, "time goes on");
        assert_eq!(clock.now(begin + DAY / 48, HOUR + HOUR / 2), begin + DAY / 48, "set right again");
        assert_eq!(clock.now(begin + 400 * DAY, 3 * HOUR), begin + DAY / 48 + DAY / 16, "the hour begins again");
        assert_eq!(clock.now(begin + 400 * DAY, 4 * HOUR), begin + 400 * DAY, "it goes on so");
        assert_eq!(clock.now(begin, 4 * HOUR), begin, "set back: nothing is old");
    }

    #[test]
    fn a_clock_that_goes_on_is_always_believed() {
        let mut clock = PlausibleClock::new(DAY, Duration::ZERO);
        for day in 1..100 {
            let running = HOUR * 24 * day;
            assert_eq!(clock.now(DAY + u64::from(day) * DAY, running), DAY + u64::from(day) * DAY);
        }
    }
}
