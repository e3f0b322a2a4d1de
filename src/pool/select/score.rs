//! The score of `hybrid`: health, tokens and idle time as points.
//!
//! It is computed in whole billionths of a point, and what grows with time grows by a whole number of them each
//! millisecond. So of two accounts that earn points at the same pace the same one is ahead at all times, to the last bit,
//! and an index may keep them in order: by what they would have had at time 0.

use crate::pool::account::digest::StrategyInputs;
use crate::pool::account::health::{MS_PER_HOUR, MS_PER_MINUTE};
use crate::pool::account::table::Accounts;
use crate::pool::model::{Mono, SelectionSettings};
use std::cmp::Reverse;

/// Billionths of a point.
const POINT: f64 = 1e9;
/// What the current account is ahead by in `hybrid`.
/// Source: opencode-antigravity-auth's rotation; its later threshold of 100 can never refuse, so 150 is the rule.
const STICKINESS: i128 = 150_000_000_000;
const PER_HEALTH: f64 = 2.0 * POINT;
const PER_BUCKET: f64 = 500.0 * POINT;
/// A tenth of a point per second.
const PER_IDLE_MS: i64 = 100_000;
/// More idle time than an hour adds nothing.
const MOST_IDLE_MS: i64 = 3_600_000;
/// A bucket that fills faster is full within a second; the sums below stay within their types.
const FASTEST_REFILL: f64 = 1e9;

/// Points, in billionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Score(pub(crate) i128);

/// How far the rules of `hybrid` must be relaxed for an account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Level {
    #[default]
    Usable,
    /// It has no token.
    WithoutToken,
    /// It is not healthy enough.
    Unhealthy,
}

/// Which parts of a score grow with time. The scores of accounts with the same pace keep their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Pace(u8);

/// An account in `hybrid`, until a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) level: Level,
    pub(crate) pace: Pace,
    /// The score at time 0, if it had grown at this pace since then.
    pub(crate) origin: Score,
    /// When level or pace change at the earliest, if nothing happens before.
    pub(crate) until: Option<Mono>,
}

/// The rules of `hybrid`: what is the same for every account is computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hybrid {
    points_per_ms_hour: f64,
    max_points: f64,
    min_usable: f64,
    tokens_per_ms: f64,
    max_tokens: f64,
    per_token: f64,
    per_refill_ms: i64,
    full: i64,
}

/// The parts of a score at one moment.
struct Parts {
    level: Level,
    health: i64,
    tokens: i64,
    idle: i64,
    pace: Pace,
}

impl Score {
    pub(crate) fn points(self) -> f64 {
        // a short integer converts in one instruction
        i64::try_from(self.0).map_or(self.0 as f64, |short| short as f64) / POINT
    }

    /// With the bonus of the current account.
    pub(crate) fn of_current(self) -> Self {
        Self(self.0 + STICKINESS)
    }
}

impl Standing {
    /// The score when scores have grown by this, by their pace.
    #[inline]
    pub(crate) fn score(&self, growth: &[i128; 4]) -> Score {
        Score(self.origin.0 + growth[usize::from(self.pace.0)])
    }
}

impl Parts {
    #[inline]
    fn score(&self) -> Score {
        Score(i128::from(self.health) + i128::from(self.tokens) + i128::from(self.idle))
    }
}

impl Pace {
    const REFILLS: u8 = 1;
    const IDLES: u8 = 2;

    fn new(refills: bool, idles: bool) -> Self {
        Self(u8::from(refills) * Self::REFILLS + u8::from(idles) * Self::IDLES)
    }

    fn refills(self) -> bool {
        self.0 & Self::REFILLS != 0
    }

    fn idles(self) -> bool {
        self.0 & Self::IDLES != 0
    }

    /// The paces that come after this one.
    pub(crate) fn later(self) -> impl Iterator<Item = Self> {
        (self.0 + 1..4).map(Self)
    }
}

impl Hybrid {
    pub(crate) fn new(selection: &SelectionSettings) -> Self {
        let (health, tokens) = (&selection.health, &selection.tokens);
        let per_token = if tokens.max > 0.0 { PER_BUCKET / tokens.max } else { 0.0 };
        let tokens_per_ms = (tokens.per_minute / MS_PER_MINUTE).max(0.0);
        Self {
            points_per_ms_hour: health.recovery_per_hour,
            max_points: health.max,
            min_usable: health.min_usable,
            tokens_per_ms,
            max_tokens: tokens.max,
            per_token,
            per_refill_ms: (per_token * tokens_per_ms).clamp(0.0, FASTEST_REFILL) as i64,
            full: (per_token * tokens.max) as i64,
        }
    }

    /// Level and score of an account.
    #[inline]
    pub(crate) fn rank(&self, inputs: &StrategyInputs, now: Mono) -> (Level, Score) {
        let parts = self.parts(inputs, now);
        (parts.level, parts.score())
    }

    /// As `Health::score` and `Bucket::tokens`, for scans.
    #[inline]
    fn parts(&self, inputs: &StrategyInputs, now: Mono) -> Parts {
        let now = now.0 as f64;
        let elapsed = |since: f64| at_least_0(now - since);
        let health = at_most(inputs.points + self.regained(elapsed(inputs.points_at)), self.max_points);
        let filling = elapsed(inputs.tokens_at);
        let level = if health < self.min_usable {
            Level::Unhealthy
        } else if at_most(inputs.tokens + filling * self.tokens_per_ms, self.max_tokens) < 1.0 {
            Level::WithoutToken
        } else {
            Level::Usable
        };
        let refilled = self.per_refill_ms.saturating_mul(filling as i64).saturating_add(self.left_in_bucket(inputs));
        // an account that was never used has the longest idle time
        let idle = elapsed(inputs.used_at) as i64;
        Parts {
            level,
            health: (PER_HEALTH * health) as i64,
            tokens: refilled.min(self.full),
            idle: idle.min(MOST_IDLE_MS) * PER_IDLE_MS,
            pace: Pace::new(
                refilled < self.full && now >= inputs.tokens_at,
                idle < MOST_IDLE_MS && now >= inputs.used_at,
            ),
        }
    }

    /// Whole points.
    #[inline]
    fn regained(&self, elapsed: f64) -> f64 {
        let earned = elapsed * self.points_per_ms_hour;
        // usually it is less than a point: skip the division
        if earned < MS_PER_HOUR { 0.0 } else { (earned / MS_PER_HOUR).floor() }
    }

    #[inline]
    fn left_in_bucket(&self, inputs: &StrategyInputs) -> i64 {
        (inputs.tokens * self.per_token) as i64
    }

    /// What a score at this pace grows by from time 0 on.
    fn growth(&self, pace: Pace, now: Mono) -> i128 {
        let refill = if pace.refills() { self.per_refill_ms } else { 0 };
        let idle = if pace.idles() { PER_IDLE_MS } else { 0 };
        i128::from(refill + idle) * i128::from(now.0)
    }

    /// What a score of each pace grows by from time 0 on.
    pub(crate) fn growths(&self, now: Mono) -> [i128; 4] {
        [0, 1, 2, 3].map(|pace| self.growth(Pace(pace), now))
    }

    /// An account's level and pace, and how long they stay.
    pub(crate) fn standing(&self, inputs: &StrategyInputs, now: Mono) -> Standing {
        let parts = self.parts(inputs, now);
        let origin = Score(parts.score().0 - self.growth(parts.pace, now));
        let until = self.changes(inputs, parts.pace, now).into_iter().flatten().min();
        Standing { level: parts.level, pace: parts.pace, origin, until }
    }

    /// When each part changes its pace or the level at the earliest: never too late, and sometimes a moment too early.
    fn changes(&self, inputs: &StrategyInputs, pace: Pace, now: Mono) -> [Option<Mono>; 4] {
        let next = Mono(now.0.saturating_add(1));
        // times before it are in the past, and those that are no number are never
        let at = |ms: f64| (ms < u64::MAX as f64).then(|| Mono(ms as u64).max(next));
        let after = |since: f64, ms: f64| at(since + ms - 1.0);
        let elapsed = |since: f64| at_least_0(now.0 as f64 - since);
        let starts = |since: f64| if since > now.0 as f64 { at(since) } else { None };
        let regained = self.regained(elapsed(inputs.points_at));
        let regains = self.points_per_ms_hour > 0.0 && inputs.points + regained < self.max_points;
        let has_token = inputs.tokens + elapsed(inputs.tokens_at) * self.tokens_per_ms >= 1.0;
        let full_after = (self.full - self.left_in_bucket(inputs)) as f64 / self.per_refill_ms as f64;
        [
            regains
                .then(|| after(inputs.points_at, (regained + 1.0) * MS_PER_HOUR / self.points_per_ms_hour))
                .flatten(),
            if has_token { None } else { after(inputs.tokens_at, (1.0 - inputs.tokens) / self.tokens_per_ms) },
            if pace.refills() { after(inputs.tokens_at, full_after) } else { starts(inputs.tokens_at) },
            if pace.idles() { at(inputs.used_at + MOST_IDLE_MS as f64) } else { starts(inputs.used_at) },
        ]
    }
}

/// What `hybrid` compares: less is better.
pub(crate) type HybridKey = (Level, Reverse<Score>);

/// The scores of `hybrid`, kept from one selection to the next: a score changes with its account, or grows at a known pace
/// until a known time.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    /// By slot; none where an account has changed since.
    known: Vec<Option<Standing>>,
    /// The number of changes that were followed.
    read: Option<u64>,
    now: Mono,
    /// By pace, what scores have grown by.
    growth: [i128; 4],
}

/// The scores at one moment.
pub(crate) struct Scores<'a> {
    accounts: &'a Accounts,
    hybrid: Hybrid,
    now: Mono,
    /// The account that has a bonus.
    current: Option<usize>,
    /// Without them, each score is computed.
    standings: Option<&'a mut Standings>,
}

impl Standings {
    /// Brings them up to the state of the accounts at `now`.
    fn follow(&mut self, accounts: &Accounts, hybrid: &Hybrid, now: Mono) {
        let changed = self.read.and_then(|read| accounts.changes().since(read)).filter(|_| now >= self.now);
        match changed {
            Some(changed) => {
                changed.iter().for_each(|&slot| self.known[slot] = None);
                if now != self.now {
                    self.growth = hybrid.growths(now);
                }
            }
            // the settings may have changed
            None => {
                self.known.clear();
                self.known.resize(accounts.as_slice().len(), None);
                self.growth = hybrid.growths(now);
            }
        }
        (self.read, self.now) = (Some(accounts.changes().end()), now);
    }
}

impl<'a> Scores<'a> {
    pub(crate) fn new(
        accounts: &'a Accounts,
        settings: &SelectionSettings,
        now: Mono,
        current: Option<usize>,
        mut standings: Option<&'a mut Standings>,
    ) -> Self {
        let hybrid = Hybrid::new(settings);
        if let Some(standings) = &mut standings {
            standings.follow(accounts, &hybrid, now);
        }
        Self { accounts, hybrid, now, current, standings }
    }

    #[inline]
    pub(crate) fn of(&mut self, slot: usize) -> HybridKey {
        let (level, score) = self.without_bonus(slot);
        (level, Reverse(if self.current == Some(slot) { score.of_current() } else { score }))
    }

    #[inline]
    fn without_bonus(&mut self, slot: usize) -> (Level, Score) {
        let compute = || self.hybrid.rank(self.accounts.inputs(slot), self.now);
        let Some(standings) = &mut self.standings else { return compute() };
        let known = &mut standings.known[slot];
        let standing = match known {
            Some(standing) if standing.until.is_none_or(|until| self.now < until) => *standing,
            _ => *known.insert(self.hybrid.standing(self.accounts.inputs(slot), self.now)),
        };
        let found = (standing.level, standing.score(&standings.growth));
        debug_assert_eq!(found, compute(), "{standing:?} at {:?}", self.now);
        found
    }
}

/// The lesser one; the bound if `value` is not a number. One instruction.
#[inline]
fn at_most(value: f64, most: f64) -> f64 {
    if value < most { value } else { most }
}

#[inline]
fn at_least_0(value: f64) -> f64 {
    if value > 0.0 { value } else { 0.0 }
}
