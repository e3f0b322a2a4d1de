//! What choosing among many accounts reads of each, side by side in memory: first whether it is open and leads the order,
//! where most are passed over at a glance; then, of those that lead, what the strategy goes by.

use std::sync::Arc;

use super::Pool;
use super::account::{Account, LoginState};
use super::settings::{LeaseSettings, Overflow};
use super::time::Past;

/// What the strategies read of an account; `Pool::refresh` makes it anew after every change of what it is made of.
/// Times are milliseconds since boot, as numbers that need no conversion.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Hot {
    pub(super) points: f64,
    pub(super) points_at: f64,
    pub(super) tokens: f64,
    pub(super) tokens_at: f64,
    /// The last use; endlessly long ago if there was none.
    pub(super) used_at: f64,
}

/// What decides whether an account is open, and where it stands in the order: of two that are alike in it, and without
/// limits and windows, what holds for one holds for the other. As small as it can be: most accounts are only compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Like {
    /// Load, then priority, then tier, as one number: less is better.
    pub(super) order: Order,
    pub(super) leases: u32,
    pub(super) capacity: u32,
    tag: Tag,
}

/// Which list of agents it goes by: the address of the shared list, only ever compared, 0 for anybody; and in the bits
/// that no address has, what is true of the account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tag(usize);

impl Tag {
    const READY: usize = 1;
    const UNLIMITED: usize = 2;
    const UNMEASURED: usize = 4;
    const TRUTHS: usize = 7;
}

// a list of strings lies where a string may lie
const _: () = assert!(align_of::<String>() > Tag::TRUTHS || cfg!(not(target_pointer_width = "64")));

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
        let (points, points_at) = account.health.parts();
        let (tokens, tokens_at) = account.bucket.parts();
        let used_at = account.last_used.map_or(f64::NEG_INFINITY, Past::as_f64);
        Self { points, points_at, tokens, tokens_at, used_at }
    }
}

impl Like {
    pub(super) fn of(account: &Account) -> Self {
        let truth = |holds: bool, bit: usize| if holds { bit } else { 0 };
        let ready = account.policy.enabled
            && account.record.login_state == LoginState::Ready
            && account.renewing.is_none()
            && !account.exclusive;
        let allowed_agents =
            account.policy.allowed_agents.as_ref().map_or(0, |allowed_agents| Arc::as_ptr(allowed_agents).addr());
        Self {
            order: Order::of(account),
            leases: account.leases,
            capacity: account.policy.capacity,
            tag: Tag(allowed_agents & !Tag::TRUTHS
                | truth(ready, Tag::READY)
                | truth(account.limits.is_empty(), Tag::UNLIMITED)
                | truth(account.usage.windows.is_empty(), Tag::UNMEASURED)),
        }
    }

    /// Enabled, logged in, with a token, and not taken by an exclusive lease.
    #[inline]
    pub(super) fn ready(self) -> bool {
        self.tag.0 & Tag::READY != 0
    }

    /// Without any limit.
    #[inline]
    pub(super) fn unlimited(self) -> bool {
        self.tag.0 & Tag::UNLIMITED != 0
    }

    /// Without any known window.
    #[inline]
    pub(super) fn unmeasured(self) -> bool {
        self.tag.0 & Tag::UNMEASURED != 0
    }

    /// Which list of agents it goes by; 0 for anybody.
    #[inline]
    pub(super) fn allowed_agents(self) -> usize {
        self.tag.0 & !Tag::TRUTHS
    }

    #[inline]
    pub(super) fn has_room(self, leases: &LeaseSettings, exclusive: bool) -> bool {
        self.leases < most_of(leases, self.capacity) && (!exclusive || self.leases == 0)
    }
}

/// How many leases an account of this capacity may carry.
#[inline]
pub(super) fn most_of(leases: &LeaseSettings, capacity: u32) -> u32 {
    match leases.overflow {
        Overflow::Share => leases.max_per_account.max(1),
        Overflow::Wait | Overflow::Fail => capacity,
    }
}

impl Pool {
    /// Makes the digest of an account anew.
    #[inline]
    pub(super) fn refresh(&mut self, slot: usize) {
        let account = &self.accounts[slot];
        (self.likes[slot], self.hot[slot]) = (Like::of(account), Hot::of(account));
    }

    pub(super) fn refresh_all(&mut self) {
        self.likes.clear();
        self.likes.extend(self.accounts.iter().map(Like::of));
        self.hot.clear();
        self.hot.extend(self.accounts.iter().map(Hot::of));
    }
}
