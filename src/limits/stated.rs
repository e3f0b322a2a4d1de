//! A wait that somebody stated, and whether to believe it.

use std::time::Duration;

use super::backoff::LONGEST_BELIEVED;
use super::verdict::WaitSource;

/// A time as it was stated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    /// "In 30 seconds."
    In(Duration),
    /// "At 15:00", epoch ms.
    At(u64),
}

/// A believed wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StatedDelay {
    pub(super) wait: Duration,
    /// The time of day it was stated as, epoch ms.
    pub(super) at: Option<u64>,
    pub(super) source: WaitSource,
}

impl When {
    /// The same, believed.
    pub(super) fn stated(self, now: u64, source: WaitSource) -> Option<StatedDelay> {
        let at = match self {
            Self::In(_) => None,
            Self::At(at) => Some(at),
        };
        Some(StatedDelay { wait: self.wait(now)?, at, source })
    }

    /// The wait from `now` on, in whole ms, rounded up; `None` when it is over, nothing, or too long to be believed.
    pub(super) fn wait(self, now: u64) -> Option<Duration> {
        let wait = match self {
            Self::In(span) => Duration::from_millis(u64::try_from(span.as_nanos().div_ceil(1_000_000)).ok()?),
            Self::At(at) => Duration::from_millis(at.checked_sub(now)?),
        };
        (!wait.is_zero() && wait <= LONGEST_BELIEVED).then_some(wait)
    }
}
