//! The five strategies: which of several equally loaded accounts is chosen.

use crate::pool::account::table::ProviderAccounts;
use crate::pool::model::{LeaseRequest, Mode, Now, Quota, Strategy};
use crate::pool::select::place::{StrategyKey, TieBreak, strategy_of};
use crate::pool::select::score::Hybrid;
use crate::pool::state::Pool;

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

/// Picks from `ties`, which lead the order equally; and the one that it would pick next.
pub(crate) fn pick(
    pool: &Pool,
    now: Now,
    ask: &LeaseRequest,
    quota: Quota<'_>,
    provider: &ProviderAccounts,
    ties: &[usize],
) -> [Option<usize>; 2] {
    if let [] | [_] = ties {
        return [ties.first().copied(), None];
    }
    if let Some(start) = start(pool, ask, provider) {
        // a provider's slots are in the order of its accounts
        let at = ties.partition_point(|&slot| slot < start) % ties.len();
        return [Some(ties[at]), Some(ties[(at + 1) % ties.len()])];
    }
    let selection = &pool.settings.selection;
    match selection.strategy {
        Strategy::LeastUsed => {
            least(pool, ties, now, quota, |slot| StrategyKey::least_used(&pool.accounts[slot], quota, now))
        }
        Strategy::DrainSoonest => {
            least(pool, ties, now, quota, |slot| StrategyKey::drain_soonest(&pool.accounts[slot], quota, now))
        }
        Strategy::Hybrid | Strategy::Sticky | Strategy::RoundRobin => {
            let (hybrid, current) = (Hybrid::new(selection), current(pool, ask, provider));
            least(pool, ties, now, quota, |slot| {
                StrategyKey::hybrid(&hybrid, pool.accounts.inputs(slot), current == Some(slot), now)
            })
        }
    }
}

/// The first of `ties` at or after `start` in the provider's order, around the end.
pub(crate) fn first_from(pool: &Pool, ties: &[usize], start: usize) -> usize {
    // `ties` is in the provider's order
    ties.iter().copied().find(|&slot| pool.accounts.position(slot) >= start).unwrap_or(ties[0])
}

/// The two least of `ties` by `key`, then by what breaks ties, then by position.
fn least(
    pool: &Pool,
    ties: &[usize],
    now: Now,
    quota: Quota<'_>,
    key: impl Fn(usize) -> StrategyKey,
) -> [Option<usize>; 2] {
    let (mut first, mut second) = (None, None);
    for &slot in ties {
        let one = (key(slot), TieBreak::of(&pool.accounts, slot, quota, now), slot);
        if first.is_none_or(|first| one < first) {
            (first, second) = (Some(one), first);
        } else if second.is_none_or(|second| one < second) {
            second = Some(one);
        }
    }
    [first.map(|one| one.2), second.map(|one| one.2)]
}

#[cfg(test)]
mod tests;
