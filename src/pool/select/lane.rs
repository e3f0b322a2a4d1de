//! The accounts of a provider in the order in which requests on one quota get them.
//!
//! Most of the order changes only with an account: those that have changed are put in their places again when the lane is
//! used next. What changes with time alone has a time: windows reset, overage ends, and the score of `hybrid` changes its
//! pace. Accounts with a limit that holds have no place, since limits begin and end by changes only. Whether an account
//! may serve a request beyond that (its set, agent, room, reserve) is asked of each account on the way.

use crate::pool::account::Account;
use crate::pool::account::digest::Rank;
use crate::pool::account::table::Accounts;
use crate::pool::model::{Mono, Now, PoolSettings, Quota, Strategy, Wall};
use crate::pool::select::place::{StrategyKey, TieBreak, rank_on, strategy_of};
use crate::pool::select::score::{Hybrid, Level, Pace};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An account's place in the order. In `hybrid`, accounts of one rank and level have an order for each pace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Place {
    pub(crate) rank: Rank,
    pub(crate) level: Level,
    pub(crate) pace: Pace,
    /// What the strategy compares, for `hybrid` the score at time 0.
    pub(crate) key: [u64; 2],
    pub(crate) tie_break: TieBreak,
    pub(crate) slot: usize,
}

/// A place, and until when it is the right one if the account does not change.
#[derive(Debug, Default)]
struct TimedPlace {
    place: Option<Place>,
    until: Option<Mono>,
    wall_until: Option<Wall>,
}

#[derive(Debug)]
pub(crate) struct Lane {
    provider: Arc<str>,
    quota: LaneQuota,
    /// The places by the positions of the accounts, and in order.
    places: Vec<Option<Place>>,
    order: BTreeSet<Place>,
    until: Revisits<Mono>,
    wall_until: Revisits<Wall>,
    /// The moment that the lane shows.
    now: Now,
    /// The number of changes that the lane has followed.
    read: Option<u64>,
    /// When it was used last, as the index counts.
    pub(crate) last_use: u64,
}

/// A quota with its own names.
#[derive(Debug)]
struct LaneQuota {
    key: Box<str>,
    model: Option<Box<str>>,
    billed: Option<Box<str>>,
}

/// When the accounts are looked at again, by position. A time may be too early: it is corrected when it has come.
#[derive(Debug, Default)]
struct Revisits<T> {
    times: Vec<Option<T>>,
    queue: BTreeSet<(T, usize)>,
}

impl Place {
    /// Before all places of this rank.
    pub(crate) fn at(rank: Rank) -> Self {
        Self { rank, ..Self::default() }
    }
}

impl LaneQuota {
    fn as_quota(&self) -> Quota<'_> {
        Quota { key: &self.key, model: self.model.as_deref(), billed: self.billed.as_deref() }
    }
}

impl<T: Copy + Ord> Revisits<T> {
    fn clear(&mut self, accounts: usize) {
        self.queue.clear();
        self.times.clear();
        self.times.resize(accounts, None);
    }

    /// An earlier time than `at` may stay: most times only move on, and no order must follow each of them.
    fn set(&mut self, position: usize, at: Option<T>) {
        let Some(at) = at else { return };
        match self.times[position] {
            Some(before) if before <= at => return,
            Some(before) => self.queue.remove(&(before, position)),
            None => false,
        };
        self.queue.insert((at, position));
        self.times[position] = Some(at);
    }

    /// A position whose time has come.
    fn take_due(&mut self, now: T) -> Option<usize> {
        let first = self.queue.first().copied().filter(|(at, _)| *at <= now)?;
        self.queue.remove(&first);
        self.times[first.1] = None;
        Some(first.1)
    }
}

impl Lane {
    pub(crate) fn new(provider: &Arc<str>, quota: Quota<'_>) -> Self {
        let owned = |name: Option<&str>| name.map(Into::into);
        Self {
            provider: provider.clone(),
            quota: LaneQuota { key: quota.key.into(), model: owned(quota.model), billed: owned(quota.billed) },
            places: Vec::new(),
            order: BTreeSet::new(),
            until: Revisits::default(),
            wall_until: Revisits::default(),
            now: Now::default(),
            read: None,
            last_use: 0,
        }
    }

    pub(crate) fn is_of(&self, provider: &str, quota: Quota<'_>) -> bool {
        self.quota.as_quota() == quota && *self.provider == *provider
    }

    /// All places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.order.iter()
    }

    /// The places from `from` on.
    pub(crate) fn starting_at(&self, from: Place) -> impl Iterator<Item = &Place> {
        self.order.range(from..)
    }

    pub(crate) fn last(&self) -> Option<&Place> {
        self.order.last()
    }

    /// The place of the account at this position of the provider.
    pub(crate) fn place(&self, position: usize) -> Option<&Place> {
        self.places.get(position)?.as_ref()
    }

    /// Brings the lane up to the state of the accounts at `now`.
    pub(crate) fn follow(&mut self, accounts: &Accounts, settings: &PoolSettings, now: Now) {
        let went_back = now.mono < self.now.mono || now.wall < self.now.wall;
        self.now = now;
        let changed = self.read.and_then(|read| accounts.changes().since(read)).filter(|_| !went_back);
        self.read = Some(accounts.changes().end());
        let Some(changed) = changed else { return self.rebuild(accounts, settings) };
        let mut before = None;
        for &slot in changed {
            // most changes come in pairs
            if before.replace(slot) != Some(slot) && *accounts[slot].record.provider == *self.provider {
                self.put(accounts.position(slot), slot, accounts, settings);
            }
        }
        while let Some(position) = self.until.take_due(now.mono).or_else(|| self.wall_until.take_due(now.wall)) {
            if let Some(slot) = self.slot_at(position, accounts) {
                self.put(position, slot, accounts, settings);
            }
        }
    }

    fn slot_at(&self, position: usize, accounts: &Accounts) -> Option<usize> {
        accounts.of_provider(&self.provider)?.slots().get(position).copied()
    }

    fn rebuild(&mut self, accounts: &Accounts, settings: &PoolSettings) {
        let slots = accounts.of_provider(&self.provider).map_or(&[][..], |provider| provider.slots());
        self.until.clear(slots.len());
        self.wall_until.clear(slots.len());
        self.places.clear();
        for (position, &slot) in slots.iter().enumerate() {
            let timed = self.place_of(slot, accounts, settings);
            self.until.set(position, timed.until);
            self.wall_until.set(position, timed.wall_until);
            self.places.push(timed.place);
        }
        self.order = self.places.iter().flatten().copied().collect();
    }

    /// Puts an account in its place.
    fn put(&mut self, position: usize, slot: usize, accounts: &Accounts, settings: &PoolSettings) {
        let timed = self.place_of(slot, accounts, settings);
        self.until.set(position, timed.until);
        self.wall_until.set(position, timed.wall_until);
        let before = std::mem::replace(&mut self.places[position], timed.place);
        if before != timed.place {
            before.map(|place| self.order.remove(&place));
            self.order.extend(timed.place);
        }
    }

    fn place_of(&self, slot: usize, accounts: &Accounts, settings: &PoolSettings) -> TimedPlace {
        let (account, quota, now) = (&accounts[slot], self.quota.as_quota(), self.now);
        let key = accounts.key(slot);
        if !key.is_ready() || account.limits.iter().any(|limit| limit.blocks(quota) && limit.holds(now)) {
            return TimedPlace::default();
        }
        let rank = rank_on(key.rank, account, settings, quota, now);
        let tie_break = TieBreak::of(accounts, slot, quota, now);
        let place = Place { rank, tie_break, slot, ..Place::default() };
        let (place, until) = match strategy_of(&settings.selection) {
            // in the order of the accounts
            Strategy::Sticky | Strategy::RoundRobin => (Place { tie_break: TieBreak::default(), ..place }, None),
            Strategy::LeastUsed => {
                (Place { key: StrategyKey::least_used(account, quota, now).values(), ..place }, None)
            }
            Strategy::DrainSoonest => {
                (Place { key: StrategyKey::drain_soonest(account, quota, now).values(), ..place }, None)
            }
            Strategy::Hybrid => {
                let standing = Hybrid::new(&settings.selection).standing(accounts.inputs(slot), now.mono);
                let key = StrategyKey::of_score(standing.level, standing.origin).values();
                (Place { level: standing.level, pace: standing.pace, key, ..place }, standing.until)
            }
        };
        TimedPlace { place: Some(place), until, wall_until: changes_at(account, quota, now.wall) }
    }

    /// Whether each account is in its place; the first that is not, in words.
    pub(crate) fn check(&self, accounts: &Accounts, settings: &PoolSettings) -> Result<(), String> {
        let slots = accounts.of_provider(&self.provider).map_or(&[][..], |provider| provider.slots());
        for (position, &slot) in slots.iter().enumerate() {
            let (known, place) = (self.places[position], self.place_of(slot, accounts, settings).place);
            if known != place || place.is_some_and(|place| !self.order.contains(&place)) {
                return Err(format!("{} is at {known:?}, not at {place:?}", accounts[slot].record.id));
            }
        }
        if self.order.len() == self.places.iter().flatten().count() {
            return Ok(());
        }
        Err("an account has several places".into())
    }
}

/// When a window of the quota resets, or an overage ends.
fn changes_at(account: &Account, quota: Quota<'_>, now: Wall) -> Option<Wall> {
    let resets = account.usage.live(quota, now).filter_map(|window| window.resets_at);
    resets.chain(account.overage.iter().map(|paid| paid.until).filter(|until| *until > now)).min()
}
