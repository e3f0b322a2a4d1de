//! Time as an argument: the shell reads the two clocks, the pool never does.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Milliseconds since boot, including suspend; never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

/// Milliseconds since the Unix epoch; jumps when the clock is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

/// A monotonic instant that may lie before the boot: milliseconds since boot, negative before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Past(i64);

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For leases, waits and everything relative.
    pub mono: Mono,
    /// For what others state as a time of day.
    pub wall: Wall,
}

/// An instant on the clock it was stated on, so that setting the clock moves only times of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// "In 30 seconds": setting the clock does not change it.
    Mono(Mono),
    /// "At 15:00": follows the clock.
    Wall(Wall),
}

macro_rules! clock_arithmetic {
    ($($clock:ident),+) => {$(
        impl $clock {
            /// The instant `by` later, saturating.
            #[must_use]
            pub fn after(self, by: Duration) -> Self {
                Self(self.0.saturating_add(millis(by)))
            }

            /// The time since `earlier`; zero when `earlier` is later.
            #[must_use]
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_millis(self.0.saturating_sub(earlier.0))
            }
        }
    )+};
}
clock_arithmetic!(Mono, Wall);

impl From<Mono> for Past {
    fn from(at: Mono) -> Self {
        Self(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

impl Past {
    /// The time since `earlier`; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(crate) fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// The instant; the boot, for an instant before it.
    pub(crate) fn mono(self) -> Mono {
        Mono(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Now {
    /// Translates a wall instant of the past; a future one counts as now.
    pub(crate) fn past_of(self, at: Wall) -> Past {
        let ago = i64::try_from(self.wall.0.saturating_sub(at.0)).unwrap_or(i64::MAX);
        Past(Past::from(self.mono).0.saturating_sub(ago))
    }

    /// Translates an instant of the past to the wall clock as it stands now.
    pub(crate) fn wall_of_past(self, at: Past) -> Wall {
        Wall(self.wall.0.saturating_sub(millis(Past::from(self.mono).since(at))))
    }

    /// What must be added to the monotonic clock to get the wall clock.
    pub(crate) fn skew(self) -> i64 {
        i64::try_from(i128::from(self.wall.0) - i128::from(self.mono.0)).unwrap_or(i64::MAX)
    }

    /// Translates a monotonic instant to the wall clock as it stands now.
    pub fn wall_of(self, at: Mono) -> Wall {
        if at >= self.mono {
            self.wall.after(at.since(self.mono))
        } else {
            Wall(self.wall.0.saturating_sub(self.mono.0 - at.0))
        }
    }

    /// Translates a wall instant to the monotonic clock as it stands now.
    pub fn mono_of(self, at: Wall) -> Mono {
        if at >= self.wall {
            self.mono.after(at.since(self.wall))
        } else {
            Mono(self.mono.0.saturating_sub(self.wall.0 - at.0))
        }
    }
}

impl Deadline {
    /// Whether the instant has come.
    pub fn passed(self, now: Now) -> bool {
        match self {
            Self::Mono(at) => at <= now.mono,
            Self::Wall(at) => at <= now.wall,
        }
    }

    /// The instant on the monotonic clock as it stands now.
    pub fn mono(self, now: Now) -> Mono {
        match self {
            Self::Mono(at) => at,
            Self::Wall(at) => now.mono_of(at),
        }
    }

    /// The instant on the wall clock as it stands now.
    pub fn wall(self, now: Now) -> Wall {
        match self {
            Self::Mono(at) => now.wall_of(at),
            Self::Wall(at) => at,
        }
    }
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration for people, in its largest unit: `40 s`, `4 min`, `3 h`, `2 d`. Rounded up, so that a retry after it is not
/// too early.
#[must_use]
pub fn spoken(duration: Duration) -> String {
    let seconds = millis(duration).div_ceil(1000);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min", seconds.div_ceil(60)),
        6_000..=172_799 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} d", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_clock_moves_only_wall_deadlines() {
        let before = Now { mono: Mono(1_000), wall: Wall(500_000) };
        let relative = Deadline::Mono(before.mono.after(Duration::from_secs(30)));
        let stated = Deadline::Wall(before.wall.after(Duration::from_secs(30)));
        let set_forward = Now { mono: Mono(1_001), wall: Wall(9_000_000) };
        assert!(!relative.passed(set_forward));
        assert!(stated.passed(set_forward));
        let set_back = Now { mono: Mono(40_000), wall: Wall(0) };
        assert!(relative.passed(set_back));
        assert!(!stated.passed(set_back));
    }

    #[test]
    fn translations_between_the_clocks_saturate() {
        let now = Now { mono: Mono(10), wall: Wall(5) };
        assert_eq!(now.wall_of(Mono(0)), Wall(0));
        assert_eq!(now.mono_of(Wall(u64::MAX)), Mono(u64::MAX));
        assert_eq!(now.wall_of(Mono(11)), Wall(6));
    }
}
