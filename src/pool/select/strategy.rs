//! The five strategies: which of several equally loaded accounts is chosen.

use crate::pool::account::table::ProviderAccounts;
use crate::pool::model::{LeaseRequest, Mode, Now, Quota, Strategy};
use crate::pool::select::place::{StrategyKey, TieBreak, strategy_of};
use crate::pool::select::score::{HybridKey, Level, Score, Scores, Standings};
use crate::pool::state::Pool;
use std::cmp::Ordering;

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

/// The slot at which a strategy that goes by position starts; `None` if it goes by other criteria.
pub(crate) fn start(pool: &Pool, ask: &LeaseRequest, provider: &ProviderAccounts) -> Option<usize> {
    match strategy_of(&pool.settings.selection) {
        Strategy::Sticky => Some(current(pool, ask, provider).unwrap_or(0)),
        Strategy::RoundRobin => {
            let last = provider.last(&ask.target.family).and_then(|id| pool.accounts.slot(id));
            Some(last.map_or(0, |last| last + 1))
        }
        Strategy::Hybrid | Strategy::LeastUsed | Strategy::DrainSoonest => None,
    }
}

/// What a strategy picks from accounts that lead the order equally.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pick {
    pub(crate) slot: Option<usize>,
    /// The one that it would pick without the first.
    pub(crate) next: Option<usize>,
    /// The scores of both, if they decided between them: both are healthy, with or without a token, and the scores differ.
    pub(crate) scores: Option<[Score; 2]>,
}

/// Picks from `ties`, which lead the order equally.
pub(crate) fn pick(
    pool: &Pool,
    now: Now,
    ask: &LeaseRequest,
    quota: Quota<'_>,
    provider: &ProviderAccounts,
    ties: &[usize],
    standings: Option<&mut Standings>,
) -> Pick {
    if let [] | [_] = ties {
        return Pick { slot: ties.first().copied(), ..Pick::default() };
    }
    if let Some(start) = start(pool, ask, provider) {
        // a provider's slots are in the order of its accounts
        let at = ties.partition_point(|&slot| slot < start) % ties.len();
        return Pick { slot: Some(ties[at]), next: Some(ties[(at + 1) % ties.len()]), scores: None };
    }
    let selection = &pool.settings.selection;
    match selection.strategy {
        Strategy::LeastUsed => {
            let key = |slot: usize| StrategyKey::least_used(&pool.accounts[slot], quota, now);
            Pick::of(least(pool, ties, now, quota, key))
        }
        Strategy::DrainSoonest => {
            let key = |slot: usize| StrategyKey::drain_soonest(&pool.accounts[slot], quota, now);
            Pick::of(least(pool, ties, now, quota, key))
        }
        Strategy::Hybrid | Strategy::Sticky | Strategy::RoundRobin => {
            let current = current(pool, ask, provider);
            let mut scores = Scores::new(&pool.accounts, selection, now.mono, current, standings);
            let least = least(pool, ties, now, quota, |slot| scores.of(slot));
            Pick { scores: decisive_scores(least), ..Pick::of(least) }
        }
    }
}

impl Pick {
    fn of<K>([first, second]: [Option<(K, usize)>; 2]) -> Self {
        Self { slot: first.map(|(_, slot)| slot), next: second.map(|(_, slot)| slot), scores: None }
    }
}

/// The scores of two accounts, if they decide between them. Between unhealthy ones, their tokens may.
fn decisive_scores([first, second]: [Option<(HybridKey, usize)>; 2]) -> Option<[Score; 2]> {
    let (first, second) = (first?.0, second?.0);
    let are_decisive = first.0 == second.0 && first.0 != Level::Unhealthy && first.1 != second.1;
    are_decisive.then_some([first.1.0, second.1.0])
}

/// The first of `ties` at or after `start` in the provider's order, around the end.
pub(crate) fn first_from(pool: &Pool, ties: &[usize], start: usize) -> usize {
    // `ties` is in the provider's order
    ties.iter().copied().find(|&slot| pool.accounts.position(slot) >= start).unwrap_or(ties[0])
}

/// The two least of `ties` by `key`, then by what breaks ties, then by position; each with its key.
fn least<K: Ord + Copy>(
    pool: &Pool,
    ties: &[usize],
    now: Now,
    quota: Quota<'_>,
    mut key: impl FnMut(usize) -> K,
) -> [Option<(K, usize)>; 2] {
    let tie_break = |slot| (TieBreak::of(&pool.accounts, slot, quota, now), slot);
    // mostly the keys differ: what breaks ties is looked at only where they do not
    let is_less = |one: (K, usize), other: (K, usize)| match one.0.cmp(&other.0) {
        Ordering::Equal => tie_break(one.1).cmp(&tie_break(other.1)).is_lt(),
        order => order.is_lt(),
    };
    let mut first: Option<(K, usize)> = None;
    let mut second = None;
    for &slot in ties {
        let one = (key(slot), slot);
        if first.is_none_or(|first| is_less(one, first)) {
            (first, second) = (Some(one), first);
        } else if second.is_none_or(|second| is_less(one, second)) {
            second = Some(one);
        }
    }
    [first, second]
}

#[cfg(test)]
mod tests;
