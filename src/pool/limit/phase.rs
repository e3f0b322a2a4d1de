//! The phases of a limit. After a long limit a single probe tests the account; then, as after a short limit, requests
//! are admitted on a ramp.

use crate::pool::model::{Fence, Mono, millis};
use std::time::Duration;

/// A limit of at least this span is probed: shorter ones cost less than waiting for a probe's answer.
pub const LONG: Duration = Duration::from_secs(300);
/// A probe without a report for so long has succeeded: its holder may be one that never reports.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(60);
/// A host that may probe an account for all hosts, and has not sent the probe after so long, leaves it to another one.
pub const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Another host probes the account: this one asks so often whether it still does. Its outcome comes sooner, as news.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How many requests a recovered account may get at once; twice as many with every step, evenly within it. Little of
/// its quota may be left, and a request that is sent before the first refusal is known will be refused as well. One
/// after the other they use up the quota of a window of seconds with a single refusal.
pub const RAMP: u32 = 1;
/// A step of the ramp, in milliseconds.
const RAMP_STEP: u64 = 2_000;
/// Steps of the ramp; after them every request is admitted.
const RAMP_STEPS: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It admits nothing before its time.
    Closed {
        /// The first holder whose report was answered `wait`: it will be the probe.
        first_back: Option<Fence>,
        /// How many holders were told to wait after it.
        told: u32,
    },
    /// Its time is over, on an account that other hosts use, too: one of them all sends the probe.
    Awaiting {
        duty: ProbeDuty,
        /// The first holder whose report was answered `wait`: it will be the probe, if this host may send it.
        first_back: Option<Fence>,
    },
    /// Its time is over; it admits one probe.
    HalfOpen {
        probe: Option<Probe>,
        /// Since when this host may probe for all hosts; none if no other host uses the account.
        duty_since: Option<Mono>,
    },
    /// Its time is over, and the probe succeeded where there was one.
    Ramp { since: Mono, admitted: u32 },
}

/// Which host of the pool sends the probe, as far as this one knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeDuty {
    /// The database is away: this host cannot ask for it.
    Unreachable,
    /// None, as far as is known: the next request here asks for it.
    Free,
    /// A request here needs it: it is asked for at the end of the command.
    Wanted,
    /// It was asked for; without an answer by then, it is another host's.
    Claiming { until: Mono },
    /// Another host, which may have failed by then.
    Elsewhere { until: Mono },
}

/// The lease that tests whether the limit is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    pub fence: Fence,
    pub since: Mono,
}

impl Phase {
    pub const CLOSED: Self = Self::Closed { first_back: None, told: 0 };

    /// It admits a probe, and no other host uses the account.
    pub const HALF_OPEN: Self = Self::HalfOpen { probe: None, duty_since: None };

    pub fn ramp(now: Mono) -> Self {
        Self::Ramp { since: now, admitted: 0 }
    }

    /// The phase of a limit that replaces this one: the first waiting holder stays the probe.
    pub fn of_replacement(self) -> Self {
        match self {
            closed @ Self::Closed { .. } => closed,
            Self::Awaiting { .. } | Self::HalfOpen { .. } | Self::Ramp { .. } => Self::CLOSED,
        }
    }

    pub fn allowed(since: Mono, now: Mono) -> u32 {
        let (steps, ms) = (millis(now.since(since)) / RAMP_STEP, millis(now.since(since)) % RAMP_STEP);
        if steps >= u64::from(RAMP_STEPS) {
            return RAMP << RAMP_STEPS;
        }
        let begun = u64::from(RAMP) << steps;
        // at most twice the last step's number: far below `u32::MAX`
        (begun + begun * ms / RAMP_STEP) as u32
    }

    /// When the next request is admitted after `admitted` were.
    pub fn next_admission(since: Mono, admitted: u32) -> Mono {
        let wanted = u64::from(admitted) + 1;
        let step = (0..RAMP_STEPS).find(|step| wanted <= u64::from(RAMP) << (step + 1));
        let ms = match step {
            _ if wanted <= u64::from(RAMP) => 0,
            Some(step) => {
                let begun = u64::from(RAMP) << step;
                u64::from(step) * RAMP_STEP + ((wanted - begun) * RAMP_STEP).div_ceil(begun)
            }
            None => u64::from(RAMP_STEPS) * RAMP_STEP,
        };
        since.after(Duration::from_millis(ms))
    }

    pub fn ramp_end(since: Mono) -> Mono {
        since.after(Duration::from_millis(RAMP_STEP * u64::from(RAMP_STEPS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_admits_one_and_doubles_with_every_step() {
        let allowed_at = [(0, 1), (1_999, 1), (2_000, 2), (2_999, 2), (3_000, 3), (4_000, 4), (6_000, 8), (8_000, 16)];
        for (ms, allowed) in allowed_at.into_iter().chain([(11_000, 16)]) {
            assert_eq!(Phase::allowed(Mono(7), Mono(7 + ms)), allowed, "{ms}");
        }
        for admitted in 0..16 {
            let at = Phase::next_admission(Mono(7), admitted);
            assert!(Phase::allowed(Mono(7), at) > admitted, "{admitted}");
            assert!(at == Mono(7) || Phase::allowed(Mono(7), Mono(at.0 - 1)) <= admitted, "{admitted}");
        }
    }
}
