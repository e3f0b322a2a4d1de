//! When an account's usage may be polled again. Pure: the caller passes the time.
//!
//! Providers allow few of these requests. Anthropic allows about 28 to 30 per hour and account; a burst blocks for up
//! to an hour, and `Retry-After: 0` means that the budget is spent. So lessor sends at most 20 requests per hour,
//! including those that users trigger, and the count survives restarts.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::pool::Wall;

const HOUR: Duration = Duration::from_secs(3600);
/// The wait after a refusal that states no time, or "now".
const SPENT: Duration = Duration::from_secs(300);
/// Servers state deadlines a little early: more than half of the requests at the exact time are refused again.
const MARGIN: Duration = Duration::from_secs(60);
/// Added when a request after the stated deadline was refused again.
const AGAIN: Duration = Duration::from_secs(900);
/// The first wait when the server is unreachable.
const UNREACHABLE: Duration = Duration::from_secs(60);
/// The wait when only something other than time helps: a new login, or a newer lessor.
const LATER: Duration = HOUR;
/// The longest stated wait that is believed.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How often an account's usage may be polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollLimits {
    /// The maximum number of requests in any hour.
    pub most_an_hour: usize,
    /// The shortest interval between two requests that users trigger.
    pub gap: Duration,
}

impl PollLimits {
    /// Measured: about 28 requests per hour are accepted.
    pub const ANTHROPIC: Self = Self { most_an_hour: 20, gap: Duration::from_secs(60) };
    /// No limit of other providers is known.
    pub const OTHERS: Self = Self { most_an_hour: 60, gap: Duration::from_secs(20) };

    /// The shortest interval that keeps within the hourly budget.
    #[must_use]
    pub fn shortest(self) -> Duration {
        HOUR / u32::try_from(self.most_an_hour).unwrap_or(u32::MAX).max(1)
    }
}

/// Why a request returned no usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollFailure {
    /// Too many requests, with the stated wait.
    Limited(Option<Duration>),
    /// The server is unreachable or failed.
    Unreachable,
    /// The credential is not accepted, or the response is not understood: waiting alone does not help.
    Permanent,
}

/// The requests made for one account.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PollHistory {
    /// The requests of the last hour, oldest first, epoch ms.
    asked: VecDeque<u64>,
    /// No request before this time, epoch ms.
    blocked_until: Option<u64>,
    /// No scheduled request before this time, epoch ms. A user may ask earlier, because they may know that something
    /// has changed.
    resting_until: Option<u64>,
    /// The number of failures in a row.
    setbacks: u32,
}

impl PollHistory {
    /// When the next request may be sent: now or later.
    #[must_use]
    pub fn allowed_at(&self, rhythm: PollLimits, now: Wall) -> Wall {
        let gap = self.asked.back().map(|at| Wall((*at).min(now.0)).after(rhythm.gap));
        self.allowed_after_change(rhythm, now).max(gap.unwrap_or(now))
    }

    /// The same after a change that makes the last answer wrong: however short ago that was.
    #[must_use]
    pub fn allowed_after_change(&self, rhythm: PollLimits, now: Wall) -> Wall {
        // if the clock was set back, no request lies in the future
        let asked = |at: &u64| Wall((*at).min(now.0));
        let recent: Vec<Wall> = self.asked.iter().map(asked).filter(|at| now.since(*at) < HOUR).collect();
        let over = recent.len().checked_sub(rhythm.most_an_hour);
        let room = over.and_then(|over| recent.get(over)).map(|at| at.after(HOUR));
        let blocked = self.blocked_until.map(|at| believed(at, now));
        [room, blocked].into_iter().flatten().max().unwrap_or(now).max(now)
    }

    /// When the next scheduled request is due: `every` after the last request or after `fresh`, when usage was learned
    /// in another way; never before it is allowed. `seed` differs per account, so that not all requests run at once.
    #[must_use]
    pub fn due_at(&self, rhythm: PollLimits, every: Duration, fresh: Option<Wall>, seed: u64, now: Wall) -> Wall {
        let every = jittered(every.max(rhythm.shortest()), seed ^ self.asked.len() as u64);
        let last = self.asked.back().map(|at| Wall((*at).min(now.0)));
        let due = last.max(fresh).map_or(now, |last| last.after(every));
        let resting = self.resting_until.map_or(now, |at| believed(at, now));
        due.max(resting).max(self.allowed_at(rhythm, now))
    }

    /// Records that a request is about to be sent.
    pub fn record_poll(&mut self, now: Wall) {
        self.asked.retain(|at| now.since(Wall((*at).min(now.0))) < HOUR);
        self.asked.push_back(now.0);
    }

    /// Records a success.
    pub fn succeeded(&mut self) {
        (self.blocked_until, self.resting_until, self.setbacks) = (None, None, 0);
    }

    /// Records a failure.
    pub fn failed(&mut self, how: PollFailure, now: Wall) {
        let row = self.setbacks.min(6);
        let wait = match how {
            PollFailure::Limited(Some(wait)) if !wait.is_zero() => {
                wait.min(LONGEST) + if row > 0 { AGAIN } else { MARGIN }
            }
            PollFailure::Limited(_) => (SPENT * 2_u32.pow(row)).min(HOUR),
            PollFailure::Unreachable => (UNREACHABLE * 2_u32.pow(row)).min(HOUR),
            PollFailure::Permanent => LATER,
        };
        self.setbacks = self.setbacks.saturating_add(1);
        let until = Some(now.after(wait).0);
        match how {
            PollFailure::Limited(_) => self.blocked_until = until,
            PollFailure::Unreachable | PollFailure::Permanent => self.resting_until = until,
        }
    }

    /// The account has a new credential: failures of the old one no longer count, but the requests still do.
    pub fn credential_changed(&mut self) {
        self.succeeded();
    }

    /// Whether there is nothing worth saving.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.blocked_until.is_none() && self.resting_until.is_none()
    }
}

/// A stored time, limited in case the clock was set since.
fn believed(at: u64, now: Wall) -> Wall {
    Wall(at.min(now.after(LONGEST).0))
}

/// Reduces a duration by up to a tenth.
fn jittered(span: Duration, seed: u64) -> Duration {
    // any mixing function works
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    span - span / 10 * u32::try_from(mixed % 1000).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Wall = Wall(1_789_997_600_000);
    const ANTHROPIC: PollLimits = PollLimits::ANTHROPIC;

    fn at(seconds: u64) -> Wall {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn no_hour_exceeds_its_budget_even_with_constant_requests() {
        let mut ledger = PollHistory::default();
        let mut calls: Vec<u64> = Vec::new();
        for second in 0..6 * 3600 {
            if ledger.allowed_at(ANTHROPIC, at(second)) <= at(second) {
                ledger.record_poll(at(second));
                ledger.succeeded();
                calls.push(second);
            }
        }
        for window in calls.windows(21) {
            assert!(window[20] - window[0] >= 3600, "{window:?}");
        }
        assert!(calls.len() >= 115, "{}", calls.len());
        assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 60));
    }

    #[test]
    fn scheduled_polls_keep_their_interval_and_the_budget() {
        for (every, least, most) in [(900, 24, 28), (1, 118, 120), (86_400, 1, 1)] {
            let (mut ledger, mut now, mut calls) = (PollHistory::default(), START, 0);
            loop {
                let due = ledger.due_at(ANTHROPIC, Duration::from_secs(every), None, 7, now);
                if due >= at(6 * 3600) {
                    break;
                }
                now = due;
                ledger.record_poll(now);
                ledger.succeeded();
                calls += 1;
            }
            assert!((least..=most).contains(&calls), "{every}: {calls}");
        }
    }

    #[test]
    fn after_a_change_only_the_budget_and_the_provider_delay_a_request() {
        let mut ledger = PollHistory::default();
        ledger.record_poll(START);
        assert_eq!(ledger.allowed_at(ANTHROPIC, at(1)), at(60));
        assert_eq!(ledger.allowed_after_change(ANTHROPIC, at(1)), at(1));
        (1..20).for_each(|call| ledger.record_poll(at(call)));
        assert_eq!(ledger.allowed_after_change(ANTHROPIC, at(30)), at(3600));
        let mut refused = PollHistory::default();
        refused.failed(PollFailure::Limited(None), START);
        assert_eq!(refused.allowed_after_change(ANTHROPIC, at(1)), at(300));
    }

    #[test]
    fn usage_learned_in_another_way_delays_the_next_poll() {
        let ledger = PollHistory::default();
        let every = Duration::from_secs(900);
        assert_eq!(ledger.due_at(ANTHROPIC, every, None, 1, START), START);
        let due = ledger.due_at(ANTHROPIC, every, Some(START), 1, at(10));
        assert!(due >= at(800) && due <= at(900));
    }

    #[test]
    fn refusals_delay_the_next_request() {
        let limited = |seconds| PollFailure::Limited(Some(Duration::from_secs(seconds)));
        for (setbacks, opens) in [
            // "now" means that the budget is spent
            (&[limited(0)][..], 300),
            (&[PollFailure::Limited(None)], 300),
            (&[PollFailure::Limited(None), PollFailure::Limited(None)], 600),
            (&[limited(120)], 180),
            // refused again right after the deadline
            (&[limited(120), limited(60)], 960),
            (&[limited(10_000_000)], 86_400),
            (&[PollFailure::Unreachable], 60),
            (&[PollFailure::Unreachable; 3], 240),
            (&[PollFailure::Unreachable; 20], 3600),
            (&[PollFailure::Permanent], 3600),
        ] {
            let mut ledger = PollHistory::default();
            ledger.record_poll(START);
            setbacks.iter().for_each(|how| ledger.failed(*how, START));
            assert_eq!(
                ledger.due_at(ANTHROPIC, HOUR / 1000, Some(Wall(0)), 0, START).max(at(180)),
                at(opens.max(180)),
                "{setbacks:?}"
            );
            // a request by a user only has to respect the provider's limit
            let in_person = if matches!(setbacks[0], PollFailure::Limited(_)) { opens } else { 60 };
            assert_eq!(ledger.allowed_at(ANTHROPIC, START), at(in_person), "{setbacks:?}");
            ledger.credential_changed();
            assert_eq!(ledger.allowed_at(ANTHROPIC, START), at(60));
        }
    }

    #[test]
    fn setting_the_clock_neither_spends_the_budget_nor_blocks_for_ever() {
        let mut ledger = PollHistory::default();
        for call in 0..20 {
            ledger.record_poll(at(call * 100_000));
        }
        ledger.failed(PollFailure::Limited(Some(Duration::from_secs(100))), at(2_000_000));
        assert!(ledger.allowed_at(ANTHROPIC, START) <= START.after(LONGEST));
        assert_eq!(ledger.allowed_at(ANTHROPIC, at(9_000_000)), at(9_000_000));
    }

    #[test]
    fn the_history_survives_a_restart() {
        let mut ledger = PollHistory::default();
        (0..20).for_each(|call| ledger.record_poll(at(call * 60)));
        let kept = serde_json::to_string(&ledger).unwrap();
        let back: PollHistory = serde_json::from_str(&kept).unwrap();
        assert_eq!(back, ledger);
        assert_eq!(back.allowed_at(ANTHROPIC, at(1300)), at(3600));
    }
}
