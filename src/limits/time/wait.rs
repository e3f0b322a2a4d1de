//! Waits that upstreams state, and whether they are plausible.

use std::borrow::Cow;
use std::time::Duration;

use super::super::backoff::LONGEST_BELIEVED;
use super::{duration, instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::limits) enum When {
    /// "In 30 seconds."
    In(Duration),
    /// "At 15:00", epoch ms.
    At(u64),
}

/// A plausible stated wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::limits) struct StatedDelay {
    pub(in crate::limits) wait: Duration,
    /// The instant it was stated as, epoch ms.
    pub(in crate::limits) at: Option<u64>,
    pub(in crate::limits) source: WaitSource,
}

impl When {
    /// A reset as headers state it: an instant or a span.
    pub(in crate::limits) fn parse(text: &str) -> Option<Self> {
        match instant::epoch_ms(text) {
            Some(at) => Some(Self::At(at)),
            None => duration::parse(text).map(Self::In),
        }
    }

    /// The wait from `now` on, if it is plausible.
    pub(in crate::limits) fn stated(self, now: u64, source: WaitSource) -> Option<StatedDelay> {
        let at = match self {
            Self::In(_) => None,
            Self::At(at) => Some(at),
        };
        Some(StatedDelay { wait: self.wait(now)?, at, source })
    }

    /// The wait from `now` on, in whole ms, rounded up; `None` when it is over, zero, or implausibly long.
    pub(in crate::limits) fn wait(self, now: u64) -> Option<Duration> {
        let wait = match self {
            Self::In(span) => Duration::from_millis(u64::try_from(span.as_nanos().div_ceil(1_000_000)).ok()?),
            Self::At(at) => Duration::from_millis(at.checked_sub(now)?),
        };
        (!wait.is_zero() && wait <= LONGEST_BELIEVED).then_some(wait)
    }
}

/// Where a wait was stated, by the upstream's name for it: `RetryInfo`, a header's name, `prose`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WaitSource(Cow<'static, str>);

impl WaitSource {
    /// No wait was stated.
    pub const NONE: Self = Self(Cow::Borrowed("none"));
    /// In text written for people.
    pub const PROSE: Self = Self(Cow::Borrowed("prose"));
    #[must_use]
    pub(in crate::limits) const fn body(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
    #[must_use]
    pub(in crate::limits) fn header(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }

    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}
