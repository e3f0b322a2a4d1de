//! Which accounts this host has itself moved into the pool or out of it, added or removed, compared with what it reads of the
//! pool's accounts: a reading that was begun before such a change does not know of it.

use rustc_hash::FxHashMap;

use super::SharedAccounts;
use crate::pool::AccountId;

/// How many such changes this host has made: taken when a reading begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct OwnChangeCount(u64);

/// The changes of this run of the daemon.
#[derive(Debug, Default)]
pub(super) struct OwnChanges {
    count: OwnChangeCount,
    /// The newest of each account.
    newest: FxHashMap<AccountId, OwnChangeCount>,
}

impl OwnChanges {
    fn note(&mut self, id: AccountId) {
        self.count.0 += 1;
        self.newest.insert(id, self.count);
    }
}

impl SharedAccounts {
    /// How many changes there were.
    pub(crate) fn own_changes(&self) -> OwnChangeCount {
        self.own_changes.count
    }

    /// This host begins or ends to move, add or remove an account. The lock `account_writes` is held from the first to the last
    /// note of one change, and by the one who compares.
    pub(crate) fn note_own_change(&mut self, id: AccountId) {
        self.own_changes.note(id);
    }

    /// Whether this host has changed the account since then: what was read of it is outdated.
    pub(crate) fn is_changed_since(&self, id: AccountId, then: OwnChangeCount) -> bool {
        self.own_changes.newest.get(&id).is_some_and(|newest| *newest > then)
    }
}
