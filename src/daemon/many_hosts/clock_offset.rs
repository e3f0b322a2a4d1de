//! How far this host's time of day is from the database's, measured at each heartbeat.

use crate::pool::{Now, Wall};

/// Half of the round trip is taken for the way of the answer; a longer round trip says too little.
const LONGEST_TRIP: u64 = 2000;

/// What must be added to this host's time of day to get the database's, in ms; `None` if the round trip took too long to
/// tell, and `known` is at hand.
pub(super) fn measured(sent: Now, received: Now, database: Wall, known: Option<i64>) -> Option<i64> {
    let trip = received.mono.0.saturating_sub(sent.mono.0);
    if trip > LONGEST_TRIP && known.is_some() {
        return None;
    }
    // the wall clock may have been set meanwhile: it is read once
    let here = received.wall.0.saturating_sub(trip / 2);
    i64::try_from(i128::from(database.0) - i128::from(here)).ok()
}

/// A difference of the clocks below this is that of two readings.
const STEP: i64 = 500;

/// How far the database's time of day is ahead of this host's. It stays right when this host's clock is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockOffset {
    /// In ms, when it was measured.
    offset: i64,
    /// How far the time of day was ahead of the time since boot then.
    wall_ahead: i64,
}

impl ClockOffset {
    /// As measured now.
    pub(super) fn new(offset: i64, now: Now) -> Self {
        Self { offset, wall_ahead: wall_ahead(now) }
    }

    /// What must be added to this host's time of day to get the database's, in ms.
    pub(super) fn at(self, now: Now) -> i64 {
        let step = wall_ahead(now).saturating_sub(self.wall_ahead);
        if step.abs() < STEP { self.offset } else { self.offset.saturating_sub(step) }
    }
}

fn wall_ahead(now: Now) -> i64 {
    now.wall.0.cast_signed().saturating_sub(now.mono.0.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Mono;

    #[test]
    fn the_offset_stays_right_when_the_clock_is_set() {
        let known = ClockOffset::new(4_000, at(100, 5_000));
        assert_eq!(known.at(at(60_100, 65_001)), 4_000);
        // 300 s ahead, and 3 s back
        assert_eq!(known.at(at(60_100, 365_000)), -296_000);
        assert_eq!(known.at(at(60_100, 62_000)), 7_000);
    }

    fn at(mono: u64, wall: u64) -> Now {
        Now { mono: Mono(mono), wall: Wall(wall) }
    }

    #[test]
    fn the_offset_is_that_of_the_middle_of_the_round_trip() {
        assert_eq!(measured(at(100, 5_000), at(140, 5_040), Wall(9_020), None), Some(4_000));
        assert_eq!(measured(at(100, 5_000), at(140, 5_040), Wall(1_020), Some(7)), Some(-4_000));
    }

    #[test]
    fn a_clock_that_is_set_meanwhile_is_read_once() {
        assert_eq!(measured(at(100, 5_000), at(140, 95_040), Wall(9_020), None), Some(-86_000));
    }

    #[test]
    fn a_slow_answer_does_not_replace_what_is_known() {
        assert_eq!(measured(at(0, 0), at(2_001, 2_001), Wall(9_000), Some(3)), None);
        assert!(measured(at(0, 0), at(2_001, 2_001), Wall(9_000), None).is_some());
    }
}
