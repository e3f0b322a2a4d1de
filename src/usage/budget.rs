//! When an account may be asked about again. Pure: it is handed the time.
//!
//! Providers answer this question from a small budget. Anthropic's is about 28 to 30 requests an hour for each account;
//! a burst blocks for up to the full hour, and `Retry-After: 0` means that the budget is spent. So at most 20 calls an
//! hour are made, whoever asks for them, and the count outlives the daemon.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pool::Wall;

const HOUR: Duration = Duration::from_secs(3600);
/// After a refusal that says no time, or "now".
const SPENT: Duration = Duration::from_secs(300);
/// Deadlines are stated a little early: more than half of those who come at once are sent away again.
const MARGIN: Duration = Duration::from_secs(60);
/// For who was sent away again so soon after a deadline.
const AGAIN: Duration = Duration::from_secs(900);
/// The first wait when nobody can be reached.
const UNREACHABLE: Duration = Duration::from_secs(60);
/// What waits for something else than time: a new login, a newer lessor.
const LATER: Duration = HOUR;
/// No stated wait is believed beyond this.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How often a provider may be asked about one account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rhythm {
    /// Within any hour.
    pub most_an_hour: usize,
    /// From one call to the next, when people ask.
    pub gap: Duration,
}

impl Rhythm {
    /// Measured: about 28 an hour are let through.
    pub const ANTHROPIC: Self = Self { most_an_hour: 20, gap: Duration::from_secs(60) };
    /// No bound is known of them.
    pub const OTHERS: Self = Self { most_an_hour: 60, gap: Duration::from_secs(20) };

    /// The shortest interval that keeps within the hour's budget for ever.
    #[must_use]
    pub fn shortest(self) -> Duration {
        HOUR / u32::try_from(self.most_an_hour).unwrap_or(u32::MAX).max(1)
    }
}

/// Why a call brought nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setback {
    /// Too many calls, and the wait that was stated.
    Limited(Option<Duration>),
    /// Nobody there, or in trouble.
    Unreachable,
    /// The credential is not let in, or the answer not understood: time alone does not help.
    Useless,
}

/// The calls made about one account.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The last hour's calls, oldest first, epoch ms.
    asked: VecDeque<u64>,
    /// None before, whoever asks, epoch ms.
    blocked_until: Option<u64>,
    /// None before unless a person asks, who may know that something has changed; epoch ms.
    resting_until: Option<u64>,
    /// Setbacks in a row.
    setbacks: u32,
}

impl Ledger {
    /// When the next call may be made, whoever asks: now, or the time.
    #[must_use]
    pub fn opens(&self, rhythm: Rhythm, now: Wall) -> Wall {
        // a clock that was set back makes no call lie in the future
        let asked = |at: &u64| Wall((*at).min(now.0));
        let recent: Vec<Wall> = self.asked.iter().map(asked).filter(|at| now.since(*at) < HOUR).collect();
        let gap = recent.last().map(|at| at.after(rhythm.gap));
        let over = recent.len().checked_sub(rhythm.most_an_hour);
        let room = over.and_then(|over| recent.get(over)).map(|at| at.after(HOUR));
        let blocked = self.blocked_until.map(|at| believed(at, now));
        [gap, room, blocked].into_iter().flatten().max().unwrap_or(now).max(now)
    }

    /// When the next call is due by itself: `every` so often since the last one or since `fresh`, when something was
    /// learnt without asking; not before it may be made. `seed` tells accounts apart, so that not all come at once.
    #[must_use]
    pub fn due(&self, rhythm: Rhythm, every: Duration, fresh: Option<Wall>, seed: u64, now: Wall) -> Wall {
        let every = jittered(every.max(rhythm.shortest()), seed ^ self.asked.len() as u64);
        let last = self.asked.back().map(|at| Wall((*at).min(now.0)));
        let due = last.max(fresh).map_or(now, |last| last.after(every));
        let resting = self.resting_until.map_or(now, |at| believed(at, now));
        due.max(resting).max(self.opens(rhythm, now))
    }

    /// A call is about to be made.
    pub fn note(&mut self, now: Wall) {
        self.asked.retain(|at| now.since(Wall((*at).min(now.0))) < HOUR);
        self.asked.push_back(now.0);
    }

    /// It brought something.
    pub fn succeeded(&mut self) {
        (self.blocked_until, self.resting_until, self.setbacks) = (None, None, 0);
    }

    /// It brought nothing.
    pub fn failed(&mut self, how: Setback, now: Wall) {
        let row = self.setbacks.min(6);
        let wait = match how {
            Setback::Limited(Some(wait)) if !wait.is_zero() => wait.min(LONGEST) + if row > 0 { AGAIN } else { MARGIN },
            Setback::Limited(_) => (SPENT * 2_u32.pow(row)).min(HOUR),
            Setback::Unreachable => (UNREACHABLE * 2_u32.pow(row)).min(HOUR),
            Setback::Useless => LATER,
        };
        self.setbacks = self.setbacks.saturating_add(1);
        let until = Some(now.after(wait).0);
        match how {
            Setback::Limited(_) => self.blocked_until = until,
            Setback::Unreachable | Setback::Useless => self.resting_until = until,
        }
    }

    /// The credential is another one now: what was held against the old one is over, but not what was spent.
    pub fn renewed(&mut self) {
        self.succeeded();
    }

    /// Whether it is worth keeping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.blocked_until.is_none() && self.resting_until.is_none()
    }
}

/// A time that was written down, as far as a clock that was set since lets it be believed.
fn believed(at: u64, now: Wall) -> Wall {
    Wall(at.min(now.after(LONGEST).0))
}

/// Up to a tenth less.
fn jittered(span: Duration, seed: u64) -> Duration {
    // any mixing will do
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    span - span / 10 * u32::try_from(mixed % 1000).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Wall = Wall(1_789_997_600_000);
    const ANTHROPIC: Rhythm = Rhythm::ANTHROPIC;

    fn at(seconds: u64) -> Wall {
        START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn no_hour_has_more_than_its_budget_however_often_somebody_asks() {
        let mut ledger = Ledger::default();
        let mut calls: Vec<u64> = Vec::new();
        for second in 0..6 * 3600 {
            if ledger.opens(ANTHROPIC, at(second)) <= at(second) {
                ledger.note(at(second));
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
    fn by_itself_it_asks_every_so_often_and_never_beyond_the_budget() {
        for (every, least, most) in [(900, 24, 28), (1, 118, 120), (86_400, 1, 1)] {
            let (mut ledger, mut now, mut calls) = (Ledger::default(), START, 0);
            loop {
                let due = ledger.due(ANTHROPIC, Duration::from_secs(every), None, 7, now);
                if due >= at(6 * 3600) {
                    break;
                }
                now = due;
                ledger.note(now);
                ledger.succeeded();
                calls += 1;
            }
            assert!((least..=most).contains(&calls), "{every}: {calls}");
        }
    }

    #[test]
    fn what_was_learnt_without_asking_puts_it_off() {
        let ledger = Ledger::default();
        let every = Duration::from_secs(900);
        assert_eq!(ledger.due(ANTHROPIC, every, None, 1, START), START);
        let due = ledger.due(ANTHROPIC, every, Some(START), 1, at(10));
        assert!(due >= at(800) && due <= at(900));
    }

    #[test]
    fn refusals_are_obeyed() {
        let limited = |seconds| Setback::Limited(Some(Duration::from_secs(seconds)));
        for (setbacks, opens) in [
            // "now" means that the budget is spent
            (&[limited(0)][..], 300),
            (&[Setback::Limited(None)], 300),
            (&[Setback::Limited(None), Setback::Limited(None)], 600),
            (&[limited(120)], 180),
            // sent away again right after the deadline
            (&[limited(120), limited(60)], 960),
            (&[limited(10_000_000)], 86_400),
            (&[Setback::Unreachable], 60),
            (&[Setback::Unreachable; 3], 240),
            (&[Setback::Unreachable; 20], 3600),
            (&[Setback::Useless], 3600),
        ] {
            let mut ledger = Ledger::default();
            ledger.note(START);
            setbacks.iter().for_each(|how| ledger.failed(*how, START));
            assert_eq!(
                ledger.due(ANTHROPIC, HOUR / 1000, Some(Wall(0)), 0, START).max(at(180)),
                at(opens.max(180)),
                "{setbacks:?}"
            );
            // who asks in person only has to obey the provider
            let in_person = if matches!(setbacks[0], Setback::Limited(_)) { opens } else { 60 };
            assert_eq!(ledger.opens(ANTHROPIC, START), at(in_person), "{setbacks:?}");
            ledger.renewed();
            assert_eq!(ledger.opens(ANTHROPIC, START), at(60));
        }
    }

    #[test]
    fn a_clock_that_is_set_neither_spends_nor_blocks_for_ever() {
        let mut ledger = Ledger::default();
        for call in 0..20 {
            ledger.note(at(call * 100_000));
        }
        ledger.failed(Setback::Limited(Some(Duration::from_secs(100))), at(2_000_000));
        assert!(ledger.opens(ANTHROPIC, START) <= START.after(LONGEST));
        assert_eq!(ledger.opens(ANTHROPIC, at(9_000_000)), at(9_000_000));
    }

    #[test]
    fn it_outlives_the_daemon() {
        let mut ledger = Ledger::default();
        (0..20).for_each(|call| ledger.note(at(call * 60)));
        let kept = serde_json::to_string(&ledger).unwrap();
        let back: Ledger = serde_json::from_str(&kept).unwrap();
        assert_eq!(back, ledger);
        assert_eq!(back.opens(ANTHROPIC, at(1300)), at(3600));
    }
}
