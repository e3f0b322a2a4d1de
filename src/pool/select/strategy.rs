//! The five strategies: which of several equally loaded accounts is chosen.

use crate::pool::account::digest::StrategyInputs;
use crate::pool::account::health::{MS_PER_HOUR, MS_PER_MINUTE};
use crate::pool::account::table::ProviderAccounts;
use crate::pool::model::{LeaseRequest, Mode, Now, Quota, SelectionSettings, Strategy};
use crate::pool::state::Pool;
use std::cmp::Ordering;

/// What the current account is ahead by in `hybrid`.
/// Source: opencode-antigravity-auth's rotation; its later threshold of 100 can never refuse, so 150 is the rule.
pub(crate) const STICKINESS: f64 = 150.0;
const PER_HEALTH: f64 = 2.0;
const PER_BUCKET: f64 = 500.0;
const PER_IDLE_SECOND: f64 = 0.1;
/// More idle time than this adds nothing.
const MOST_IDLE_SECONDS: f64 = 3600.0;
/// The utilization of an account without a known window: neither fresh nor used up.
const UNKNOWN_UTILIZATION: f64 = 0.5;
/// The window `least-used` and `drain-soonest` look at first, and the one that breaks ties.
pub(crate) const WEEKLY: &str = "7d";
pub(crate) const SHORT: &str = "5h";

/// Where the order starts for a holder without a session, when `pid_offset` is on.
pub(crate) fn offset(pool: &Pool, ask: &LeaseRequest, provider: &ProviderAccounts) -> Option<usize> {
    let selection = &pool.settings.selection;
    if !selection.pid_offset || ask.session.is_some() || selection.mode == Mode::PerformanceFirst {
        return None;
    }
    let process = ask.process()?;
    let start = current(pool, ask, provider).map_or(0, |slot| pool.accounts.position(slot));
    (start + process.pid as usize).checked_rem(provider.slots().len())
}

pub(crate) fn current(pool: &Pool, ask: &LeaseRequest, provider: &ProviderAccounts) -> Option<usize> {
    provider.current(&ask.target.family).and_then(|id| pool.accounts.slot(id))
}

/// Picks from `ties`, which are not empty and lead the order equally.
pub(crate) fn pick(
    pool: &Pool,
    now: Now,
    ask: &LeaseRequest,
    quota: Quota<'_>,
    provider: &ProviderAccounts,
    ties: &[usize],
) -> usize {
    if let [only] = ties {
        return *only;
    }
    let selection = &pool.settings.selection;
    let current = current(pool, ask, provider);
    let position = |slot: usize| pool.accounts.position(slot);
    // the mode takes accounts in turn, whatever the strategy
    let in_turn = selection.mode == Mode::PerformanceFirst;
    match if in_turn { Strategy::RoundRobin } else { selection.strategy } {
        Strategy::Sticky => first_from(pool, ties, current.map_or(0, position)),
        Strategy::RoundRobin => {
            let last = provider.last(&ask.target.family).and_then(|id| pool.accounts.slot(id));
            first_from(pool, ties, last.map_or(0, |last| position(last) + 1))
        }
        Strategy::Hybrid => {
            let (hybrid, current) = (Hybrid::new(selection, now), current.unwrap_or(usize::MAX));
            // the current one first: most others then cannot win, which a short computation shows
            let start = ties.binary_search(&current).map_or(ties[0], |_| current);
            let hopeless = |slot: usize, lowest: (f64, f64)| {
                lowest.0 <= 0.0 && -hybrid.most(pool.accounts.inputs(slot)) > lowest.1
            };
            let key = |slot: usize| {
                let (level, score) = hybrid.rank(pool.accounts.inputs(slot));
                let bonus = if slot == current { STICKINESS } else { 0.0 };
                (level, -(score + bonus))
            };
            least_from(pool, ties, now, quota, start, hopeless, key)
        }
        Strategy::LeastUsed => least(pool, ties, now, quota, |slot| {
            let used = |window| {
                if pool.accounts.key(slot).is_unmeasured() {
                    return UNKNOWN_UTILIZATION;
                }
                let account = &pool.accounts[slot];
                account.usage.window(window, quota, now.wall).map_or(UNKNOWN_UTILIZATION, |w| w.utilization)
            };
            (used(WEEKLY), used(SHORT))
        }),
        Strategy::DrainSoonest => least(pool, ties, now, quota, |slot| {
            if pool.accounts.key(slot).is_unmeasured() {
                return (f64::INFINITY, 0.0);
            }
            let account = &pool.accounts[slot];
            // a window without room is drained already, and an unknown reset comes last
            let weekly = account.usage.window(WEEKLY, quota, now.wall).filter(|window| window.utilization < 1.0);
            let resets_at = weekly.and_then(|window| window.resets_at);
            (resets_at.map_or(f64::INFINITY, |at| at.0 as f64), 0.0)
        }),
    }
}

/// The score of `hybrid` without the bonus of the current account.
#[must_use]
#[inline]
pub fn hybrid_score(health: f64, tokens: f64, max_tokens: f64, idle_seconds: f64) -> f64 {
    // in this order, so that a scan of many accounts divides once
    let per_token = if max_tokens > 0.0 { PER_BUCKET / max_tokens } else { 0.0 };
    let base = PER_HEALTH * health + per_token * tokens + PER_IDLE_SECOND * at_most(idle_seconds, MOST_IDLE_SECONDS);
    at_least_0(base)
}

/// The rule of `hybrid` at one moment: what is the same for every account is computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hybrid {
    now: f64,
    points_per_ms_hour: f64,
    max_points: f64,
    min_usable: f64,
    tokens_per_ms: f64,
    max_tokens: f64,
}

impl Hybrid {
    pub(crate) fn new(selection: &SelectionSettings, now: Now) -> Self {
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

    /// How far the rules must be relaxed for the account (0: not at all, 1: no token, 2: not healthy), and its score.
    /// As `Health::score` and `Bucket::tokens`, for scans.
    #[inline]
    pub(crate) fn rank(&self, inputs: &StrategyInputs) -> (f64, f64) {
        let elapsed = |since: f64| at_least_0(self.now - since);
        let earned = elapsed(inputs.points_at) * self.points_per_ms_hour;
        let regained = if earned < MS_PER_HOUR { 0.0 } else { (earned / MS_PER_HOUR).floor() };
        let health = at_most(inputs.points + regained, self.max_points);
        let tokens = at_most(inputs.tokens + elapsed(inputs.tokens_at) * self.tokens_per_ms, self.max_tokens);
        let level = if health < self.min_usable {
            2.0
        } else if tokens < 1.0 {
            1.0
        } else {
            0.0
        };
        // an account that was never used has the longest idle time
        (level, hybrid_score(health, tokens, self.max_tokens, elapsed(inputs.used_at) * 0.001))
    }

    /// An upper bound of the account's score: with full health and a full bucket. Rounded sums and products keep their
    /// order, so this holds to the last bit.
    #[inline]
    fn most(&self, inputs: &StrategyInputs) -> f64 {
        let idle = at_least_0(self.now - inputs.used_at) * 0.001;
        hybrid_score(self.max_points, self.max_tokens, self.max_tokens, idle)
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

/// The first of `ties` at or after `start` in the provider's order, around the end.
pub(crate) fn first_from(pool: &Pool, ties: &[usize], start: usize) -> usize {
    // `ties` is in the provider's order
    ties.iter().copied().find(|&slot| pool.accounts.position(slot) >= start).unwrap_or(ties[0])
}

/// The least of `ties` by `key`, then by what is used, then by the time of the last use, then by position.
fn least(pool: &Pool, ties: &[usize], now: Now, quota: Quota<'_>, key: impl Fn(usize) -> (f64, f64)) -> usize {
    least_from(pool, ties, now, quota, ties[0], |_, _| false, key)
}

/// The same, beginning with `start`; `hopeless` says that a slot's key is certainly greater than the least so far.
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
        let is_measured = !pool.accounts.key(slot).is_unmeasured();
        is_measured.then(highest).flatten().unwrap_or(UNKNOWN_UTILIZATION)
    };
    let mut chosen = start;
    let mut lowest = key(chosen);
    for &slot in ties {
        if slot == start || hopeless(slot, lowest) {
            continue;
        }
        let rival = key(slot);
        // most lose clearly; the rest, and what is not a number, is compared in full
        if rival.0 > lowest.0 || (rival.0 == lowest.0 && rival.1 > lowest.1) {
            continue;
        }
        let ordering = rival.0.total_cmp(&lowest.0).then_with(|| rival.1.total_cmp(&lowest.1)).then_with(|| {
            let (newcomer, incumbent) = (&pool.accounts[slot], &pool.accounts[chosen]);
            let known = !(pool.accounts.key(slot).is_unmeasured() && pool.accounts.key(chosen).is_unmeasured());
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
