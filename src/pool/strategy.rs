//! The five strategies: which of several equally loaded accounts.

use std::cmp::Ordering;

use super::command::LeaseRequest;
use super::health::{MS_PER_HOUR, MS_PER_MINUTE};
use super::hot::Hot;
use super::id::AccountId;
use super::select::process_of;
use super::settings::{SelectionSettings, Strategy};
use super::target::Quota;
use super::time::Now;
use super::{Pool, Ring};

/// What the current account is ahead by in `hybrid`.
/// Source: opencode-antigravity-auth's rotation; its later threshold of 100 can never refuse, so 150 is the rule.
pub(super) const STICKINESS: f64 = 150.0;
/// Weight of a health point.
const PER_HEALTH: f64 = 2.0;
/// Weight of a full bucket.
const PER_BUCKET: f64 = 500.0;
/// Weight of a second of rest.
const PER_IDLE_SECOND: f64 = 0.1;
/// Rest beyond this counts no more.
const MOST_IDLE_SECONDS: f64 = 3600.0;
/// What an account counts as used while nothing is known of it: neither fresh nor spent.
const UNKNOWN_UTILIZATION: f64 = 0.5;
/// The window `least-used` and `drain-soonest` look at first, and the one that breaks ties.
pub(super) const WEEKLY: &str = "7d";
pub(super) const SHORT: &str = "5h";

/// Where the order starts for a holder without a session, when `pid_offset` is on.
pub(super) fn offset(pool: &Pool, ask: &LeaseRequest, ring: &Ring) -> Option<usize> {
    if !pool.settings.selection.pid_offset || ask.session.is_some() {
        return None;
    }
    let process = process_of(ask)?;
    let current = ring.families.get(&ask.target.family).and_then(|pointer| pointer.current);
    let start = current.and_then(|id| pool.slots.get(&id)).map_or(0, |slot| pool.places[*slot]);
    (start + process.pid as usize).checked_rem(ring.slots.len())
}

/// The family's current account.
pub(super) fn current(pool: &Pool, ask: &LeaseRequest, ring: &Ring) -> Option<usize> {
    let pointer = ring.families.get(&ask.target.family)?;
    pool.slots.get(&pointer.current?).copied()
}

/// Picks from `ties`, which are not empty and lead the order equally.
pub(super) fn pick(pool: &Pool, now: Now, ask: &LeaseRequest, quota: Quota<'_>, ring: &Ring, ties: &[usize]) -> usize {
    if let [only] = ties {
        return *only;
    }
    let selection = &pool.settings.selection;
    let pointer = ring.families.get(&ask.target.family);
    let place = |id: Option<AccountId>| id.and_then(|id| pool.slots.get(&id)).map(|slot| pool.places[*slot]);
    let current = place(pointer.and_then(|pointer| pointer.current));
    match selection.strategy {
        Strategy::Sticky => first_from(pool, ties, current.unwrap_or(0)),
        Strategy::RoundRobin => {
            let last = place(pointer.and_then(|pointer| pointer.last));
            first_from(pool, ties, last.map_or(0, |last| last + 1))
        }
        Strategy::Hybrid => {
            let current = pointer.and_then(|pointer| pointer.current).and_then(|id| pool.slots.get(&id)).copied();
            let (hybrid, current) = (Hybrid::new(selection, now), current.unwrap_or(usize::MAX));
            // the current one first: most others then cannot win, and a glance shows it
            let start = ties.binary_search(&current).map_or(ties[0], |_| current);
            let hopeless =
                |slot: usize, lowest: (f64, f64)| lowest.0 <= 0.0 && -hybrid.most(&pool.hot[slot]) > lowest.1;
            let key = |slot: usize| {
                let (level, score) = hybrid.rank(&pool.hot[slot]);
                let bonus = if slot == current { STICKINESS } else { 0.0 };
                (level, -(score + bonus))
            };
            least_from(pool, ties, now, quota, start, hopeless, key)
        }
        Strategy::LeastUsed => least(pool, ties, now, quota, |slot| {
            let used = |window| {
                if pool.likes[slot].unmeasured() {
                    return UNKNOWN_UTILIZATION;
                }
                let account = &pool.accounts[slot];
                account.usage.window(window, quota, now.wall).map_or(UNKNOWN_UTILIZATION, |w| w.utilization)
            };
            (used(WEEKLY), used(SHORT))
        }),
        Strategy::DrainSoonest => least(pool, ties, now, quota, |slot| {
            if pool.likes[slot].unmeasured() {
                return (f64::INFINITY, 0.0);
            }
            let account = &pool.accounts[slot];
            // a window without room left drains no further, and an unknown reset is no reason to hurry
            let resets_at = account
                .usage
                .window(WEEKLY, quota, now.wall)
                .filter(|window| window.utilization < 1.0)
                .and_then(|window| window.resets_at);
            (resets_at.map_or(f64::INFINITY, |at| at.0 as f64), 0.0)
        }),
    }
}

/// The score of `hybrid` without the bonus of the current account.
#[must_use]
#[inline]
pub fn hybrid_score(health: f64, tokens: f64, max_tokens: f64, idle_seconds: f64) -> f64 {
    // in this order, so that over many accounts it is divided once
    let per_token = if max_tokens > 0.0 { PER_BUCKET / max_tokens } else { 0.0 };
    let base = PER_HEALTH * health + per_token * tokens + PER_IDLE_SECOND * at_most(idle_seconds, MOST_IDLE_SECONDS);
    at_least_0(base)
}

/// The rule of `hybrid` at one moment: what is the same for every account is worked out once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hybrid {
    now: f64,
    points_per_ms_hour: f64,
    max_points: f64,
    min_usable: f64,
    tokens_per_ms: f64,
    max_tokens: f64,
}

impl Hybrid {
    pub(super) fn new(selection: &SelectionSettings, now: Now) -> Self {
        let (health, tokens) = (&selection.health, &selection.tokens);
        Self {
            now: now.mono.0 as f64,
            points_per_ms_hour: health.recovery_per_hour,
            max_points: health.max,
            min_usable: health.min_usable,
            tokens_per_ms: tokens.per_minute / MS_PER_MINUTE,
            max_tokens: tokens.max,
        }
    }

    /// How far the rules must be relaxed for the account (0: not at all, 1: no token, 2: not healthy), and its score:
    /// as `Health::score` and `Bucket::tokens` have it, for the many.
    #[inline]
    pub(super) fn rank(&self, hot: &Hot) -> (f64, f64) {
        let elapsed = |since: f64| at_least_0(self.now - since);
        let earned = elapsed(hot.points_at) * self.points_per_ms_hour;
        let regained = if earned < MS_PER_HOUR { 0.0 } else { (earned / MS_PER_HOUR).floor() };
        let health = at_most(hot.points + regained, self.max_points);
        let tokens = at_most(hot.tokens + elapsed(hot.tokens_at) * self.tokens_per_ms, self.max_tokens);
        let level = if health < self.min_usable {
            2.0
        } else if tokens < 1.0 {
            1.0
        } else {
            0.0
        };
        // an account never used has rested as long as counts
        (level, hybrid_score(health, tokens, self.max_tokens, elapsed(hot.used_at) * 0.001))
    }
}

impl Hybrid {
    /// No score of the account can be higher: what it would be with full health and a full bucket. Sums and products
    /// that are rounded keep their order, so this holds to the last bit.
    #[inline]
    fn most(&self, hot: &Hot) -> f64 {
        let idle = at_least_0(self.now - hot.used_at) * 0.001;
        hybrid_score(self.max_points, self.max_tokens, self.max_tokens, idle)
    }
}

/// The lesser one; of no number and a bound the bound, in one instruction.
#[inline]
fn at_most(value: f64, most: f64) -> f64 {
    if value < most { value } else { most }
}

#[inline]
fn at_least_0(value: f64) -> f64 {
    if value > 0.0 { value } else { 0.0 }
}

/// The first of `ties` at or after `start` in the provider's order, around the end.
pub(super) fn first_from(pool: &Pool, ties: &[usize], start: usize) -> usize {
    // `ties` is in the provider's order
    ties.iter().copied().find(|&slot| pool.places[slot] >= start).unwrap_or(ties[0])
}

/// The least of `ties` by `key`, then by what is used, then by the time of the last use, then by place.
fn least(pool: &Pool, ties: &[usize], now: Now, quota: Quota<'_>, key: impl Fn(usize) -> (f64, f64)) -> usize {
    least_from(pool, ties, now, quota, ties[0], |_, _| false, key)
}

/// The same, beginning with `start`; `hopeless` says of a slot that its key is surely more than the least so far.
fn least_from(
    pool: &Pool,
    ties: &[usize],
    now: Now,
    quota: Quota<'_>,
    start: usize,
    hopeless: impl Fn(usize, (f64, f64)) -> bool,
    key: impl Fn(usize) -> (f64, f64),
) -> usize {
    let used = |slot: usize| {
        let highest = || pool.accounts[slot].usage.highest(quota, now.wall);
        if pool.likes[slot].unmeasured() { UNKNOWN_UTILIZATION } else { highest().unwrap_or(UNKNOWN_UTILIZATION) }
    };
    let mut chosen = start;
    let mut lowest = key(chosen);
    for &slot in ties {
        if slot == start || hopeless(slot, lowest) {
            continue;
        }
        let rival = key(slot);
        // most lose clearly; what is left, and what is no number, is compared in full
        if rival.0 > lowest.0 || (rival.0 == lowest.0 && rival.1 > lowest.1) {
            continue;
        }
        let ordering = rival.0.total_cmp(&lowest.0).then_with(|| rival.1.total_cmp(&lowest.1)).then_with(|| {
            let (newcomer, incumbent) = (&pool.accounts[slot], &pool.accounts[chosen]);
            let known = !(pool.likes[slot].unmeasured() && pool.likes[chosen].unmeasured());
            let by_use = if known { used(slot).total_cmp(&used(chosen)) } else { Ordering::Equal };
            by_use
                .then_with(|| newcomer.last_used.cmp(&incumbent.last_used))
                .then_with(|| newcomer.newest_fence.cmp(&incumbent.newest_fence))
                // a provider's slots are in the order of its accounts
                .then_with(|| slot.cmp(&chosen))
        });
        if ordering.is_lt() {
            (chosen, lowest) = (slot, rival);
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
