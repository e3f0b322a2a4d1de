//! The place of an account in the order of a quota, as values that are compared: first the rank, then the strategy, then
//! what breaks ties. The scan and the index compare the same values.

use crate::pool::account::Account;
use crate::pool::account::digest::{Rank, StrategyInputs};
use crate::pool::account::table::Accounts;
use crate::pool::model::{Mode, Now, OveragePolicy, PoolSettings, Quota, QuotaSettings, SelectionSettings, Strategy};
use crate::pool::select::score::{Hybrid, Level, Score};

/// The utilization of an account without a known window: neither fresh nor used up.
const UNKNOWN_UTILIZATION: f64 = 0.5;
/// The window `least-used` and `drain-soonest` look at first, and the one that breaks ties.
pub(crate) const WEEKLY: &str = "7d";
pub(crate) const SHORT: &str = "5h";

/// What a strategy compares: less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct StrategyKey(u8, u64, u64);

/// What decides between accounts that the strategy finds equal: what is used, then the last use, then the slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct TieBreak {
    used: u64,
    last_used: u64,
    newest_fence: u64,
}

impl StrategyKey {
    /// Without the level.
    pub(crate) fn values(self) -> [u64; 2] {
        [self.1, self.2]
    }

    #[inline]
    pub(crate) fn of_score(level: Level, score: Score) -> Self {
        // more points are better
        let bits = !(score.0.cast_unsigned() ^ 1 << 127);
        Self(level as u8, (bits >> 64) as u64, bits as u64)
    }

    #[inline]
    pub(crate) fn hybrid(hybrid: &Hybrid, inputs: &StrategyInputs, is_current: bool, now: Now) -> Self {
        let (level, score) = hybrid.rank(inputs, now.mono);
        Self::of_score(level, if is_current { score.of_current() } else { score })
    }

    /// The lowest use of the weekly window, then of the short one; unknown counts as half used.
    pub(crate) fn least_used(account: &Account, quota: Quota<'_>, now: Now) -> Self {
        let used = |name| account.usage.window(name, quota, now.wall).map_or(UNKNOWN_UTILIZATION, |w| w.utilization);
        Self(0, in_order(used(WEEKLY)), in_order(used(SHORT)))
    }

    /// The weekly window that resets first and has room: a window without room is drained already, and an unknown reset
    /// comes last.
    pub(crate) fn drain_soonest(account: &Account, quota: Quota<'_>, now: Now) -> Self {
        let weekly = account.usage.window(WEEKLY, quota, now.wall).filter(|window| window.utilization < 1.0);
        let resets_at = weekly.and_then(|window| window.resets_at);
        Self(0, resets_at.map_or(u64::MAX, |at| at.0), 0)
    }
}

impl TieBreak {
    #[inline]
    pub(crate) fn of(accounts: &Accounts, slot: usize, quota: Quota<'_>, now: Now) -> Self {
        let StrategyInputs { used_at, newest_fence, .. } = *accounts.inputs(slot);
        let highest = || accounts[slot].usage.highest(quota, now.wall);
        let known = if accounts.key(slot).is_unmeasured() { None } else { highest() };
        let used = known.unwrap_or(UNKNOWN_UTILIZATION);
        Self { used: in_order(used), last_used: in_order(used_at), newest_fence }
    }
}

/// The strategy in force: the mode takes accounts in turn, whatever the strategy.
pub(crate) fn strategy_of(selection: &SelectionSettings) -> Strategy {
    if selection.mode == Mode::PerformanceFirst { Strategy::RoundRobin } else { selection.strategy }
}

/// The rank of an account on this quota: behind those whose quota is nearly or entirely used up.
#[inline]
pub(crate) fn rank_on(rank: Rank, account: &Account, settings: &PoolSettings, quota: Quota<'_>, now: Now) -> Rank {
    let rank = if settings.selection.tier_first { rank } else { rank.any_tier() };
    if avoids(account, &settings.quota, quota, now) {
        rank.paid_overage()
    } else if is_over_threshold(account, &settings.quota, quota, now) {
        rank.over_threshold()
    } else {
        rank
    }
}

/// Whether this quota is paid for beyond the plan, which the settings avoid.
#[inline]
pub(crate) fn avoids(account: &Account, settings: &QuotaSettings, quota: Quota<'_>, now: Now) -> bool {
    !account.overage.is_empty() && settings.overage == OveragePolicy::Avoid && account.pays_overage(quota, now.wall)
}

/// Whether this quota is over the soft threshold.
#[inline]
pub(crate) fn is_over_threshold(account: &Account, settings: &QuotaSettings, quota: Quota<'_>, now: Now) -> bool {
    let threshold = settings.soft_threshold;
    threshold < 1.0 && account.usage.highest(quota, now.wall).is_some_and(|used| used >= threshold)
}

/// Bits that compare as the numbers do.
#[inline]
fn in_order(number: f64) -> u64 {
    // both zeros are equal
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}
