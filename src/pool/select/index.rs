//! The index: for each quota that requests ask for, the accounts in order, so that a selection visits only the first ones.
//! Small pools are scanned: there the scan costs less. Both find the same account; in debug builds every selection is made
//! both ways, and compared.

use crate::pool::account::table::Accounts;
use crate::pool::model::{Now, PoolSettings, Quota};
use crate::pool::select::lane::Lane;
use std::sync::Arc;

/// The index is used from this number of accounts on: where a grant is compared with no other account any more.
pub(crate) const FEWEST_INDEXED: usize = if cfg!(debug_assertions) { 2 } else { 65 };
/// Most quotas that are indexed; for others the accounts are scanned.
const MOST_LANES: usize = 16;
/// A lane that was not used for so many selections may be replaced. To build one costs much more than a scan.
const UNUSED: u64 = 256;

#[derive(Debug, Default)]
pub(crate) struct Index {
    lanes: Vec<Lane>,
    /// How often it was used.
    uses: u64,
}

impl Index {
    /// The accounts of a provider in the order of a quota, as they are now; `None` if they are to be scanned.
    pub(crate) fn lane(
        &mut self,
        accounts: &Accounts,
        settings: &PoolSettings,
        now: Now,
        provider: &Arc<str>,
        quota: Quota<'_>,
    ) -> Option<&Lane> {
        self.uses += 1;
        let at = match self.lanes.iter().position(|lane| lane.is_of(provider, quota)) {
            Some(at) => at,
            None => self.add(Lane::new(provider, quota))?,
        };
        let lane = &mut self.lanes[at];
        lane.last_use = self.uses;
        lane.follow(accounts, settings, now);
        Some(lane)
    }

    fn add(&mut self, lane: Lane) -> Option<usize> {
        if self.lanes.len() < MOST_LANES {
            self.lanes.push(lane);
            return Some(self.lanes.len() - 1);
        }
        let (oldest, unused) = self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.last_use)?;
        if self.uses - unused.last_use < UNUSED {
            return None;
        }
        self.lanes[oldest] = lane;
        Some(oldest)
    }

    /// Whether every lane shows the accounts as they are; the first difference, in words.
    pub(crate) fn check(&mut self, accounts: &Accounts, settings: &PoolSettings, now: Now) -> Result<(), String> {
        for lane in &mut self.lanes {
            lane.follow(accounts, settings, now);
            lane.check(accounts, settings)?;
        }
        Ok(())
    }
}
