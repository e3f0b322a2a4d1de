//! How many requests of the gateway are under way on each account. The counters are atomic: a request takes its account's
//! from the state with the lease, and counts without the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use crate::pool::AccountId;

/// The counters by account.
#[derive(Debug, Default)]
pub(crate) struct InFlightCounts(FxHashMap<AccountId, InFlightCounter>);

/// The counter of one account.
#[derive(Clone, Debug, Default)]
pub struct InFlightCounter(Arc<AtomicU64>);

/// A request that is under way on an account, until it is dropped.
#[derive(Debug)]
pub struct AccountInFlight(InFlightCounter);

impl InFlightCounts {
    /// The counter of an account.
    pub(crate) fn counter(&mut self, account: AccountId) -> InFlightCounter {
        self.0.entry(account).or_default().clone()
    }

    /// How many requests are under way on an account.
    pub(crate) fn of(&self, account: AccountId) -> u64 {
        self.0.get(&account).map_or(0, |InFlightCounter(count)| count.load(Ordering::Relaxed))
    }

    /// An account was removed; requests that are still under way on it keep their counter.
    pub(crate) fn removed(&mut self, account: AccountId) {
        self.0.remove(&account);
    }
}

impl InFlightCounter {
    /// Counts a request, until the result is dropped.
    #[must_use]
    pub fn begin(&self) -> AccountInFlight {
        self.0.fetch_add(1, Ordering::Relaxed);
        AccountInFlight(self.clone())
    }
}

impl Drop for AccountInFlight {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_on_their_account_until_they_end() {
        let (one, other) = (AccountId::from_bits(1), AccountId::from_bits(2));
        let mut counts = InFlightCounts::default();
        let first = counts.counter(one).begin();
        let second = counts.counter(one).begin();
        assert_eq!((counts.of(one), counts.of(other)), (2, 0));
        drop(first);
        assert_eq!(counts.of(one), 1);
        counts.removed(one);
        assert_eq!(counts.of(one), 0);
        // its request ends without effect on an account of the same id
        let third = counts.counter(one).begin();
        drop(second);
        assert_eq!(counts.of(one), 1);
        drop(third);
        assert_eq!(counts.of(one), 0);
    }
}
