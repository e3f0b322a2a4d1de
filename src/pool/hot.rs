//! What choosing among many accounts reads of each, side by side in memory: most are passed over at a glance.

use std::sync::Arc;

use super::Pool;
use super::account::{Account, Standing};
use super::health::{Bucket, Health};
use super::settings::{Leases, Overflow};
use super::time::Past;

/// A digest of one account; `Pool::refresh` makes it anew after every change of what it is made of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Hot {
    pub(super) like: Like,
    pub(super) health: Health,
    pub(super) bucket: Bucket,
    pub(super) last_used: Option<Past>,
}

/// What decides whether an account is open, and where it stands in the order: of two that are alike in it, and without
/// limits and windows, what holds for one holds for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Like {
    /// Load, then priority, then tier, as one number: less is better.
    pub(super) order: Order,
    pub(super) leases: u32,
    pub(super) capacity: u32,
    /// Which list of agents it goes by: the address of the shared list, only ever compared; 0 for anybody.
    pub(super) uses: usize,
    /// Enabled, logged in, with a token, and not taken by an exclusive lease.
    pub(super) ready: bool,
    /// Without any limit.
    pub(super) unlimited: bool,
    /// Without any known window.
    pub(super) unmeasured: bool,
}

/// The part of the order that comes before the strategy; the soft threshold goes before all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Order(u128);

impl Order {
    const OVER_THRESHOLD: u128 = 1 << 127;
    const TIER: u128 = 0xff;
    const LOAD: u32 = 40;

    fn of(account: &Account) -> Self {
        let (leases, capacity) = (u64::from(account.leases), u64::from(account.policy.capacity.max(1)));
        // 32 bits behind the point: two different fractions of capacities below 65 536 differ by more
        let load = (leases << 32) / capacity;
        let priority = account.policy.priority.wrapping_sub(i32::MIN).cast_unsigned();
        Self(u128::from(load) << Self::LOAD | u128::from(!priority) << 8 | account.record.tier as u128)
    }

    /// The same without regard to the tier.
    #[inline]
    pub(super) fn any_tier(self) -> Self {
        Self(self.0 & !Self::TIER)
    }

    /// Behind everybody who is below the threshold.
    #[inline]
    pub(super) fn over_threshold(self) -> Self {
        Self(self.0 | Self::OVER_THRESHOLD)
    }

    /// Leases per capacity.
    #[inline]
    pub(super) fn load(self) -> u64 {
        // 64 bits of load, and the threshold's bit far above them
        (self.0 >> Self::LOAD) as u64
    }
}

impl Hot {
    pub(super) fn of(account: &Account) -> Self {
        let like = Like {
            order: Order::of(account),
            leases: account.leases,
            capacity: account.policy.capacity,
            uses: account.policy.uses.as_ref().map_or(0, |uses| Arc::as_ptr(uses).addr()),
            ready: account.policy.enabled
                && account.record.standing == Standing::Ready
                && account.renewing.is_none()
                && !account.exclusive,
            unlimited: account.limits.is_empty(),
            unmeasured: account.usage.windows.is_empty(),
        };
        Self { like, health: account.health, bucket: account.bucket, last_used: account.last_used }
    }
}

impl Like {
    #[inline]
    pub(super) fn has_room(&self, leases: &Leases, exclusive: bool) -> bool {
        self.leases < most_of(leases, self.capacity) && (!exclusive || self.leases == 0)
    }
}

/// How many leases an account of this capacity may carry.
#[inline]
pub(super) fn most_of(leases: &Leases, capacity: u32) -> u32 {
    match leases.overflow {
        Overflow::Share => leases.max_per_account.max(1),
        Overflow::Wait | Overflow::Fail => capacity,
    }
}

impl Pool {
    /// Makes the digest of an account anew.
    #[inline]
    pub(super) fn refresh(&mut self, slot: usize) {
        self.hot[slot] = Hot::of(&self.accounts[slot]);
    }

    pub(super) fn refresh_all(&mut self) {
        self.hot.clear();
        self.hot.extend(self.accounts.iter().map(Hot::of));
    }
}
