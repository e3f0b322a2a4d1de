//! The moved leases of holders whose leases end with a connection. Such a holder presents the lease that it was granted to
//! the next daemon, and gets the one that it has now: the moves are on disk.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::daemon::state::{Pending, State};
use crate::pool::{Bind, Ending, Fence, Lease};
use crate::protocol::{LeaseKey, LeaseToken};
use crate::store::{Store, Write};

/// Most moves of earlier runs that are kept; their holders may be gone.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct MovedLeases {
    /// Leases of the last run, by the fences that their holders were granted; they are not resumed yet.
    restored: FxHashMap<Fence, LeaseToken>,
    /// The holders whose moves are on disk.
    saved: FxHashSet<Fence>,
    /// Those of them that have ended, whose moves are to be removed from there.
    outdated: Vec<Fence>,
}

impl MovedLeases {
    /// What the last run has saved, in the order of the fences. What cannot be used any more is removed.
    pub(crate) fn restored(rows: Vec<(Fence, String)>, key: &LeaseKey, store: &Store) -> Self {
        let mut moved = Self::default();
        for (first, id) in rows.into_iter().rev() {
            match key.open(&id).filter(|_| moved.restored.len() < MOST) {
                Some(token) => drop(moved.restored.insert(first, token)),
                None => store.write(Write::SaveMovedLease(first, None), None),
            }
        }
        moved
    }

    /// The leases that have ended by a move: they cannot be resumed.
    pub(crate) fn ended(&self) -> impl Iterator<Item = Fence> {
        self.restored.keys().copied()
    }

    /// A holder has ended.
    pub(super) fn holder_ended(&mut self, first: Fence) {
        if self.saved.remove(&first) {
            self.outdated.push(first);
        }
    }
}

impl State {
    /// The lease that the holder of this one has now, if the gateway has moved it.
    pub(crate) fn moved_lease(&self, granted: Fence) -> Option<LeaseToken> {
        if let Some(token) = self.key_holders.moved_leases.restored.get(&granted) {
            return Some(token.clone());
        }
        let now = self.key_holders.own_lease(granted).filter(|now| *now != granted)?;
        let lease = self.pool.lease(now).filter(|lease| ends_with_connection(lease))?;
        let key = &self.shared().lease_key;
        key.open(&key.id(lease))
    }

    /// Saves the move of a holder's own lease.
    pub(in crate::daemon::state) fn save_move(&mut self, first: Fence, to: Fence, pending: &mut Pending) {
        let Some(lease) = self.pool.lease(to).filter(|lease| ends_with_connection(lease)) else { return };
        let (id, account) = (self.shared().lease_key.id(lease), lease.account);
        self.key_holders.moved_leases.saved.insert(first);
        self.write(account, Write::SaveMovedLease(first, Some(id)), pending);
    }

    /// A holder has come back after a restart: its key stands for the lease that it has resumed.
    pub(crate) fn note_resumed(&mut self, resumed: Fence) {
        let moved_leases = &mut self.key_holders.moved_leases;
        let first = moved_leases.restored.iter().find(|(_, token)| token.fence == resumed).map(|(first, _)| *first);
        let Some((first, lease)) = first.zip(self.pool.lease(resumed)) else { return };
        moved_leases.restored.remove(&first);
        moved_leases.saved.insert(first);
        self.key_holders.begin(first, lease);
    }

    /// Removes the moves of holders that have ended with this lease. Where the daemon itself has closed the connection, to
    /// be restarted, the holder comes back to the next one.
    pub(in crate::daemon::state) fn drop_moves(&mut self, lease: &Lease, why: Ending, pending: &mut Pending) {
        if why == Ending::ConnectionClosed && self.pool.is_draining() {
            self.key_holders.moved_leases.outdated.clear();
        }
        while let Some(first) = self.key_holders.moved_leases.outdated.pop() {
            self.write(lease.account, Write::SaveMovedLease(first, None), pending);
        }
    }
}

fn ends_with_connection(lease: &Lease) -> bool {
    matches!(lease.bind, Bind::Connection(_))
}
