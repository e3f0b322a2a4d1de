//! Digests: what selection reads of every account, packed side by side in memory. A scan reads the small
//! [`SelectionKey`] of each account, and the [`StrategyInputs`] only of the leading ones.

use crate::pool::account::Account;
use crate::pool::lease::LeaseCounts;
use crate::pool::lease::LeaseKind;
use crate::pool::model::{LeaseRequest, LeaseSettings, Overflow, Past};
use crate::pool::seats::account::AccountSeats;
use std::sync::Arc;

/// What the strategies read of an account. Times are milliseconds since boot as floats, which need no conversion.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StrategyInputs {
    pub points: f64,
    pub points_at: f64,
    pub tokens: f64,
    pub tokens_at: f64,
    /// The last use; minus infinity if there was none.
    pub used_at: f64,
    /// The newest fence of this run; 0 if there was none.
    pub newest_fence: u64,
}

/// What decides whether an account is open, and where it ranks. Two accounts without limits and windows whose keys are
/// equal are open alike and rank alike. It is as small as possible, because most accounts are only compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelectionKey {
    /// Load, then priority, then tier, as one number: less is better.
    pub rank: Rank,
    leases: u32,
    subagents: u32,
    capacity: u32,
    /// What the shared pool allows.
    most: u32,
    tag: Tag,
    /// The kinds of leases for which this host can have no seat.
    no_seat: NoSeat,
}

/// The kinds of leases for which a host can have no seat of an account; none for an account of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct NoSeat(u8);

impl NoSeat {
    fn bit(kind: LeaseKind) -> u8 {
        match kind {
            LeaseKind::Shared => 1,
            LeaseKind::Exclusive => 2,
            LeaseKind::OfSubagent => 4,
        }
    }

    fn of(seats: &AccountSeats, counts: LeaseCounts) -> Self {
        let kinds = [LeaseKind::Shared, LeaseKind::Exclusive, LeaseKind::OfSubagent];
        let lacking = kinds.into_iter().filter(|kind| seats.obstacle(*kind, counts).is_some());
        Self(lacking.map(Self::bit).sum())
    }
}

// a scan reads the key of every account
const _: () = assert!(size_of::<SelectionKey>() <= 48);

/// The address of the shared list of allowed agents, only ever compared, 0 for all agents; and in the bits that no
/// address uses, flags of the account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tag(usize);

impl Tag {
    const READY: usize = 1;
    const UNLIMITED: usize = 2;
    const UNMEASURED: usize = 4;
    const FLAGS: usize = 7;
}

// a list of strings is aligned like a string
const _: () = assert!(align_of::<String>() > Tag::FLAGS || cfg!(not(target_pointer_width = "64")));

/// The part of the order that comes before the strategy. A fallback, overage and the soft threshold outrank the rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Rank(u128);

impl Rank {
    const FALLBACK_ONLY: u128 = 1 << 127;
    const PAYS_OVERAGE: u128 = 1 << 126;
    const OVER_THRESHOLD: u128 = 1 << 125;
    const LAST_RESORTS: u128 = Self::FALLBACK_ONLY | Self::PAYS_OVERAGE | Self::OVER_THRESHOLD;
    const TIER: u128 = 0xff;
    const LOAD: u32 = 40;
    /// More of them weigh no more: all together less than one lease.
    const MOST_SUBAGENTS: u64 = 0xffff;

    /// 32 fractional bits: two different fractions of capacities below 65 536 differ by more.
    fn load_of(weight: u64, capacity: u64) -> u64 {
        weight / capacity
    }

    fn of(account: &Account) -> Self {
        let (leases, capacity) = (u64::from(account.used()), u64::from(account.policy.capacity.max(1)));
        let load = Self::load_of(leases << 32 | u64::from(account.subagents).min(Self::MOST_SUBAGENTS) << 8, capacity);
        let priority = account.policy.priority.wrapping_sub(i32::MIN).cast_unsigned();
        let fallback_only = if account.policy.fallback_only { Self::FALLBACK_ONLY } else { 0 };
        Self(fallback_only | u128::from(load) << Self::LOAD | u128::from(!priority) << 8 | account.record.tier as u128)
    }

    #[inline]
    pub fn any_tier(self) -> Self {
        Self(self.0 & !Self::TIER)
    }

    /// The last resorts alone: every rank with the same ones is at least this.
    #[inline]
    pub fn last_resorts(self) -> Self {
        Self(self.0 & Self::LAST_RESORTS)
    }

    /// Every combination of last resorts of accounts that are fallbacks, or that are none.
    pub fn all_last_resorts(fallback_only: bool) -> impl Iterator<Item = Self> {
        let fallback_only = if fallback_only { Self::FALLBACK_ONLY } else { 0 };
        (0..4).map(move |bits: u128| Self(fallback_only | bits << Self::OVER_THRESHOLD.trailing_zeros()))
    }

    /// Behind every account below the threshold.
    #[inline]
    pub fn over_threshold(self) -> Self {
        Self(self.0 | Self::OVER_THRESHOLD)
    }

    /// Behind every account that does not pay for requests beyond its plan.
    #[inline]
    pub fn paid_overage(self) -> Self {
        Self(self.0 | Self::PAYS_OVERAGE)
    }

    /// Whether it ranks behind every account that may be used before it.
    #[inline]
    pub fn is_fallback_only(self) -> bool {
        self.0 & Self::FALLBACK_ONLY != 0
    }

    /// With this load.
    fn with_load(self, load: u64) -> Self {
        Self(self.0 & !(u128::from(u64::MAX) << Self::LOAD) | u128::from(load) << Self::LOAD)
    }

    /// Leases per capacity.
    #[inline]
    pub fn load(self) -> u64 {
        // 64 bits of load, with the bits of the threshold, of overage and of a fallback far above them
        (self.0 >> Self::LOAD) as u64
    }
}

impl StrategyInputs {
    pub fn of(account: &Account) -> Self {
        let (points, points_at) = account.health.parts();
        let (tokens, tokens_at) = account.bucket.parts();
        let used_at = account.last_used.map_or(f64::NEG_INFINITY, Past::as_f64);
        let newest_fence = account.newest_fence.map_or(0, |fence| fence.0);
        Self { points, points_at, tokens, tokens_at, used_at, newest_fence }
    }
}

impl SelectionKey {
    pub fn of(account: &Account) -> Self {
        let flag = |holds: bool, bit: usize| if holds { bit } else { 0 };
        let is_unmeasured =
            account.usage.windows.is_empty() && account.overage.is_empty() && account.policy.reserve < 1.0;
        let has_term = account.seats.as_ref().is_none_or(|seats| seats.is_valid());
        let agents = account.policy.allowed_agents.as_ref().map_or(0, |agents| Arc::as_ptr(agents).addr());
        Self {
            rank: Rank::of(account),
            leases: account.used(),
            subagents: account.subagents,
            capacity: account.policy.capacity,
            most: account.seats.as_ref().and_then(|seats| seats.limits()).map_or(u32::MAX, |limits| limits.ceiling),
            no_seat: match &account.seats {
                None => NoSeat::default(),
                Some(seats) => NoSeat::of(seats, account.lease_counts()),
            },
            tag: Tag(agents & !Tag::FLAGS
                | flag(account.can_serve() && !account.exclusive && has_term, Tag::READY)
                | flag(account.limits.is_empty(), Tag::UNLIMITED)
                | flag(is_unmeasured, Tag::UNMEASURED)),
        }
    }

    /// Enabled, logged in, with a valid token, and without an exclusive lease.
    #[inline]
    pub fn is_ready(self) -> bool {
        self.tag.0 & Tag::READY != 0
    }

    #[inline]
    pub fn is_unlimited(self) -> bool {
        self.tag.0 & Tag::UNLIMITED != 0
    }

    /// No window and no overage is known, and it is not kept for requests that name it: its place and whether it is open
    /// depend on nothing else.
    #[inline]
    pub fn is_unmeasured(self) -> bool {
        self.tag.0 & Tag::UNMEASURED != 0
    }

    /// Which list of allowed agents it has; 0 for all agents.
    #[inline]
    pub fn allowed_agents(self) -> usize {
        self.tag.0 & !Tag::FLAGS
    }

    /// Where it ranks for a request: a sub-agent goes where the leases of all agents are fewest, and another agent
    /// where those of its own kind are.
    #[inline]
    pub fn rank_for(self, ask: &LeaseRequest) -> Rank {
        if ask.subagent.is_none() {
            return self.rank;
        }
        let all = u64::from(self.leases) + u64::from(self.subagents);
        self.rank.with_load(Rank::load_of(all << 32, u64::from(self.capacity.max(1))))
    }

    /// Whether this host can have no seat for a request, of an account in the shared pool.
    #[inline]
    pub fn lacks_seat(self, ask: &LeaseRequest) -> bool {
        self.no_seat != NoSeat::default() && self.no_seat.0 & NoSeat::bit(ask.kind()) != 0
    }

    /// Whether it has room for a request, but for an account that is its parent's.
    #[inline]
    pub fn has_room(self, leases: &LeaseSettings, ask: &LeaseRequest) -> bool {
        if ask.subagent.is_some() {
            return leases.overflow == Overflow::Share || self.leases < self.capacity;
        }
        self.leases < leases.ceiling(self.capacity).min(self.most)
            && (!ask.exclusive || self.leases + self.subagents == 0)
    }
}
