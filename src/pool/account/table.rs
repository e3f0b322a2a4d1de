//! The table of accounts. It owns their digests and indices, sets their timers, and notes what a change means for the
//! queue, so that no caller has to. A *slot* is an account's index in the table.

mod check;
mod find;
mod leases;
mod providers;
mod seats;

pub use providers::ProviderAccounts;

use crate::pool::account::changes::ChangeLog;
use crate::pool::account::digest::{SelectionKey, StrategyInputs};
use crate::pool::account::failures::Failures;
use crate::pool::account::record::{AccountChange, AccountRecord, EffectivePolicy};
use crate::pool::account::usage::Usage;
use crate::pool::account::{Account, Overage, Renewing};
use crate::pool::limit::limits::AccountLimits;
use crate::pool::model::{
    AccountId, HealthSettings, Mono, Now, PoolSettings, Refusal, RefusalKind, TokenSettings, Wall,
};
use crate::pool::queue::QueueDirty;
use crate::pool::timers::{AccountTimers, Timers};
use rustc_hash::FxHashMap;
use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

/// All accounts, in the order they were added.
#[derive(Debug, Default)]
pub struct Accounts {
    list: Vec<Account>,
    keys: Vec<SelectionKey>,
    inputs: Vec<StrategyInputs>,
    /// For each slot, its provider and its position among that one's accounts.
    positions: Vec<Position>,
    slots: FxHashMap<AccountId, usize>,
    providers: Vec<ProviderAccounts>,
    /// The place of each provider in `providers`.
    provider_numbers: FxHashMap<Arc<str>, usize>,
    /// Whether the settings reserve quota of every account: then requests wait for windows to reset.
    has_reserves: bool,
    /// How long a free seat is kept.
    linger: Duration,
    /// Shared accounts whose leases or seats have changed: claims and returns follow.
    seats_changed: Vec<AccountId>,
    dirty: QueueDirty,
    changes: ChangeLog,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    provider: usize,
    /// Among the provider's accounts.
    at: usize,
}

impl Index<usize> for Accounts {
    type Output = Account;

    fn index(&self, slot: usize) -> &Account {
        &self.list[slot]
    }
}

/// Reading.
impl Accounts {
    pub fn as_slice(&self) -> &[Account] {
        &self.list
    }

    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.list.iter()
    }

    pub fn slot(&self, id: AccountId) -> Option<usize> {
        self.slots.get(&id).copied()
    }

    pub fn slot_of(&self, id: AccountId) -> Result<usize, Refusal> {
        self.slot(id).ok_or_else(|| Refusal::new(RefusalKind::UnknownAccount, format!("there is no account {id}")))
    }

    pub fn get(&self, id: AccountId) -> Option<&Account> {
        self.slot(id).map(|slot| &self.list[slot])
    }

    pub fn of_provider(&self, provider: &str) -> Option<&ProviderAccounts> {
        let number = *self.provider_numbers.get(provider)?;
        // one whose accounts were all removed stays in the list
        Some(&self.providers[number]).filter(|provider| !provider.slots.is_empty())
    }

    /// The provider of an account.
    pub fn provider_of(&self, slot: usize) -> &ProviderAccounts {
        &self.providers[self.positions[slot].provider]
    }

    #[inline]
    pub fn key(&self, slot: usize) -> SelectionKey {
        self.keys[slot]
    }

    #[inline]
    pub fn inputs(&self, slot: usize) -> &StrategyInputs {
        &self.inputs[slot]
    }

    /// Which accounts have changed.
    pub fn changes(&self) -> &ChangeLog {
        &self.changes
    }

    /// The account's position among its provider's accounts.
    #[inline]
    pub fn position(&self, slot: usize) -> usize {
        self.positions[slot].at
    }
}

/// Changing. Every method brings digest, timers and queue notes up to date.
impl Accounts {
    pub fn dirty(&mut self) -> &mut QueueDirty {
        &mut self.dirty
    }

    pub fn add(&mut self, record: AccountRecord, settings: &PoolSettings, now: Now) -> usize {
        let slot = self.list.len();
        let policy = self.policy_of(&record, slot, settings);
        let account = Account::new(record, policy, settings, now);
        self.keys.push(SelectionKey::of(&account));
        self.inputs.push(StrategyInputs::of(&account));
        self.list.push(account);
        self.index(slot);
        self.has_reserves = !settings.quota.protect.is_empty();
        self.linger = settings.leases.linger;
        self.changes.note_all();
        self.dirty.mark_all();
        slot
    }

    pub fn remove(&mut self, slot: usize, timers: &mut Timers) {
        let removed = self.list.remove(slot);
        timers.set_account(removed.record.id, AccountTimers::default());
        self.keys.remove(slot);
        self.inputs.remove(slot);
        self.slots.clear();
        self.positions.clear();
        self.providers.iter_mut().for_each(|provider| provider.slots.clear());
        (0..self.list.len()).for_each(|slot| self.index(slot));
        for provider in self.providers.iter_mut().filter(|provider| provider.slots.is_empty()) {
            provider.families.clear();
        }
        self.changes.note_all();
        self.dirty.mark_all();
    }

    pub fn configure(&mut self, settings: &PoolSettings, now: Now, timers: &mut Timers) {
        for slot in 0..self.list.len() {
            self.apply_policy(slot, settings);
        }
        self.has_reserves = !settings.quota.protect.is_empty();
        self.linger = settings.leases.linger;
        self.reset_timers(now, timers);
        self.dirty.mark_all();
    }

    /// The clock was set by so many ms: what is known of the past is as long ago as before.
    pub fn follow_clock(&mut self, step: i64) {
        self.list.iter_mut().for_each(|account| account.limits.follow_clock(step));
    }

    /// Sets the timers of every account again, after the settings or the clock have changed.
    pub fn reset_timers(&mut self, now: Now, timers: &mut Timers) {
        (0..self.list.len()).for_each(|slot| self.set_timers(slot, now, timers));
        self.changes.note_all();
        self.dirty.mark_all();
    }

    /// The windows of an account have reset.
    pub fn pass_reset(&mut self, id: AccountId, now: Now, timers: &mut Timers) {
        if let Some(slot) = self.slot(id) {
            self.set_timers(slot, now, timers);
        }
        self.dirty.mark_all();
    }

    pub fn change_record(
        &mut self,
        slot: usize,
        change: AccountChange,
        settings: &PoolSettings,
        now: Now,
        timers: &mut Timers,
    ) {
        self.list[slot].record.apply(change);
        self.apply_policy(slot, settings);
        self.set_timers(slot, now, timers);
        self.dirty.mark_all();
    }

    /// Marks an account's token as being refreshed, or not; returns what was set before.
    pub fn set_renewing(&mut self, slot: usize, renewing: Option<Renewing>) -> Option<Renewing> {
        let before = std::mem::replace(&mut self.list[slot].renewing, renewing);
        if before != renewing {
            self.digest(slot);
            self.dirty.mark_all();
        }
        before
    }

    pub fn change_limits<R>(
        &mut self,
        slot: usize,
        now: Now,
        timers: &mut Timers,
        change: impl FnOnce(&mut AccountLimits) -> R,
    ) -> R {
        let account = &mut self.list[slot];
        let asked = account.seats.is_some() && account.limits.is_claiming_duty();
        let result = change(&mut account.limits);
        if let Some(seats) = account.seats.as_mut().filter(|_| asked && !account.limits.is_claiming_duty()) {
            // news came before the answer: requests that wait for it are considered again
            seats.probe_answered(false);
        }
        self.note_limits_of_shared(slot);
        self.digest(slot);
        self.set_timers(slot, now, timers);
        self.dirty.mark_all();
        result
    }

    /// The limits of a shared account may need the duty to probe it, or not any more.
    #[inline]
    fn note_limits_of_shared(&mut self, slot: usize) {
        if self.list[slot].seats.is_some() {
            self.seats_changed.push(self.list[slot].record.id);
        }
    }

    /// Changes only how many requests an account's limits have admitted: that serves no queued request.
    pub fn count_admission<R: Default>(
        &mut self,
        slot: usize,
        now: Now,
        timers: &mut Timers,
        change: impl FnOnce(&mut AccountLimits) -> R,
    ) -> R {
        if self.keys[slot].is_unlimited() {
            return R::default();
        }
        let result = change(&mut self.list[slot].limits);
        self.note_limits_of_shared(slot);
        self.changes.note(slot, self.list.len());
        self.set_timers(slot, now, timers);
        result
    }

    pub fn change_usage<R>(
        &mut self,
        slot: usize,
        now: Now,
        timers: &mut Timers,
        change: impl FnOnce(&mut Usage) -> R,
    ) -> R {
        let result = change(&mut self.list[slot].usage);
        self.digest(slot);
        self.set_timers(slot, now, timers);
        if self.has_reserve(slot) {
            self.dirty.mark_all();
        }
        result
    }

    pub fn add_health(&mut self, slot: usize, points: f64, settings: &HealthSettings, now: Mono) {
        self.list[slot].health.add(points, settings, now);
        self.digest(slot);
    }

    /// Gives the token of an attempt back that the account did not fail.
    pub fn give_token_back(&mut self, slot: usize, settings: &TokenSettings, now: Mono) {
        self.list[slot].bucket.give_back(settings, now);
        self.digest(slot);
    }

    /// Notes that requests on this quota are paid for beyond the plan until then, or not any more.
    pub fn set_overage(&mut self, slot: usize, key: &str, until: Option<Wall>, now: Wall) {
        let overage = &mut self.list[slot].overage;
        if overage.is_empty() && until.is_none() {
            return;
        }
        overage.retain(|paid| *paid.key != *key && paid.until > now);
        overage.extend(until.map(|until| Overage { key: key.into(), until }));
        self.digest(slot);
    }

    /// The account's failures; no digest depends on them.
    pub fn failures_mut(&mut self, slot: usize) -> &mut Failures {
        &mut self.list[slot].failures
    }

    /// Leases from before this run cannot be on an account that was added in this run.
    pub fn forbid_resuming(&mut self, slot: usize) {
        self.list[slot].resumable = false;
    }

    /// Puts an account into any state, for the tests of other parts.
    #[cfg(test)]
    pub fn edit(&mut self, slot: usize, change: impl FnOnce(&mut Account)) {
        change(&mut self.list[slot]);
        self.digest(slot);
    }

    fn digest(&mut self, slot: usize) {
        self.inputs[slot] = StrategyInputs::of(&self.list[slot]);
        self.digest_key(slot);
    }

    fn digest_key(&mut self, slot: usize) {
        self.keys[slot] = SelectionKey::of(&self.list[slot]);
        self.changes.note(slot, self.list.len());
    }

    fn index(&mut self, slot: usize) {
        let record = &self.list[slot].record;
        self.slots.insert(record.id, slot);
        let number = match self.provider_numbers.get(record.provider.as_str()) {
            Some(number) => *number,
            None => {
                self.providers.push(ProviderAccounts::default());
                let number = self.providers.len() - 1;
                self.provider_numbers.insert(Arc::from(record.provider.as_str()), number);
                number
            }
        };
        let slots = &mut self.providers[number].slots;
        self.positions.push(Position { provider: number, at: slots.len() });
        slots.push(slot);
    }

    /// Whether requests may wait for the account's windows to reset.
    fn has_reserve(&self, slot: usize) -> bool {
        self.has_reserves || self.list[slot].policy.reserve > 0.0
    }

    fn set_timers(&mut self, slot: usize, now: Now, timers: &mut Timers) {
        let account = &self.list[slot];
        let (limit, wall_limit) = account.limits.next_change(now.mono);
        let resets = account.usage.windows.iter().filter_map(|window| window.resets_at).filter(|at| *at > now.wall);
        let reset = if self.has_reserve(slot) { resets.min() } else { None };
        let seats = account.seats.as_ref().and_then(|seats| seats.next_change(self.linger));
        timers.set_account(account.record.id, AccountTimers { limit, wall_limit, reset, seats });
    }

    fn apply_policy(&mut self, slot: usize, settings: &PoolSettings) {
        let policy = self.policy_of(&self.list[slot].record, slot, settings);
        let account = &mut self.list[slot];
        account.policy = policy;
        if let Some(limits) = account.seats.as_ref().and_then(|seats| seats.limits()) {
            account.policy.capacity = account.policy.capacity.min(limits.capacity.max(1));
        }
        // leases beyond a lowered ceiling stay
        account.tolerated = account.leases;
        self.digest(slot);
    }

    /// The policy of an account; it shares its list of agents with the account before, where both allow the same holders.
    fn policy_of(&self, record: &AccountRecord, slot: usize, settings: &PoolSettings) -> EffectivePolicy {
        let mut policy = record.policy(settings);
        let before = slot.checked_sub(1).and_then(|slot| self.list.get(slot));
        let is_same = |before: &&Account| {
            before.policy.allowed_agents == policy.allowed_agents && before.policy.attest == policy.attest
        };
        if let Some(before) = before.filter(is_same) {
            policy.allowed_agents.clone_from(&before.policy.allowed_agents);
        }
        policy
    }
}

#[cfg(test)]
mod tests;
