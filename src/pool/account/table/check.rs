//! Whether the table's digests, indices and timers fit its accounts.

use super::Accounts;
use crate::pool::account::digest::{SelectionKey, StrategyInputs};
use crate::pool::model::Now;
use crate::pool::timers::Timers;

impl Accounts {
    /// Whether every digest and index fits its account; the first that does not, in words.
    pub fn check(&self, now: Now, timers: &Timers) -> Result<(), String> {
        if self.keys.len() != self.list.len() || self.inputs.len() != self.list.len() {
            return Err("there is not exactly one digest per account".into());
        }
        for (slot, account) in self.list.iter().enumerate() {
            let id = account.record.id;
            if self.slot(id) != Some(slot) {
                return Err(format!("{id} is not indexed by its slot"));
            }
            if self.keys[slot] != SelectionKey::of(account) || self.inputs[slot] != StrategyInputs::of(account) {
                return Err(format!("the digest of {id} is stale"));
            }
            let (limit, wall_limit) = account.limits.next_change(now.mono);
            let set = timers.account(id);
            if limit.is_some() != set.limit.is_some() || wall_limit != set.wall_limit {
                return Err(format!("the timers of {id} are stale"));
            }
            if set.seats != account.seats.as_ref().and_then(|seats| seats.next_change(self.linger)) {
                return Err(format!("the timer of the seats of {id} is stale"));
            }
        }
        Ok(())
    }
}
