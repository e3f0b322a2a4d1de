//! What the daemon knows of the pool that it shares with other hosts, without the state's lock. The worker sets it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock_offset::ClockOffset;
use super::status::ManyHostsStatus;
use crate::daemon::os::clock;
use crate::pool::Wall;
use crate::shared_pool::{Membership, PoolClient, TermId};

/// The shared pool, as far as no lock is needed. Without a shared pool it is empty.
#[derive(Default)]
pub(crate) struct ManyHosts {
    /// The worker runs: what the pool asks for goes to its mailbox.
    is_on: AtomicBool,
    /// Measured at each heartbeat; none before the first.
    clock_offset: Mutex<Option<ClockOffset>>,
    parts: Mutex<HandleParts>,
    starting: Mutex<()>,
}

#[derive(Default)]
struct HandleParts {
    membership: Option<Arc<Membership>>,
    client: Option<Arc<PoolClient>>,
    term: Option<PoolTerm>,
    /// The one of the last run of the daemon.
    stored_term: Option<PoolTerm>,
    status: ManyHostsStatus,
    /// Ends the worker.
    end_worker: Option<EndWorker>,
}

/// Ends a worker that was started.
pub(crate) type EndWorker = Box<dyn FnOnce() + Send>;

/// The term of this host, and its life: that of the connection over which it was begun or last resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PoolTerm {
    /// The term.
    pub(crate) id: TermId,
    /// A random number of the connection.
    pub(crate) life: u64,
}

impl fmt::Debug for ManyHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManyHosts({:?})", self.status().link)
    }
}

impl ManyHosts {
    /// With the membership and the term that are stored.
    pub(crate) fn new(membership: Option<Arc<Membership>>, term: Option<(i64, u64)>) -> Self {
        let stored_term = term.map(|(id, life)| PoolTerm { id: TermId(id), life });
        let parts = HandleParts { membership, stored_term, ..HandleParts::default() };
        Self { parts: Mutex::new(parts), ..Self::default() }
    }

    /// The connection to the database, while there is one.
    pub(crate) fn client(&self) -> Option<Arc<PoolClient>> {
        self.parts().client.clone().filter(|client| !client.is_closed())
    }

    /// This host's membership, if it has joined a pool.
    pub(crate) fn membership(&self) -> Option<Arc<Membership>> {
        self.parts().membership.clone()
    }

    /// The term in which this host holds seats.
    pub(crate) fn term(&self) -> Option<PoolTerm> {
        self.parts().term
    }

    /// How the pool looks from this host.
    pub(crate) fn status(&self) -> ManyHostsStatus {
        self.parts().status.clone()
    }

    /// Whether what the pool asks for goes to the worker.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// A time of this host's clock, on the database's.
    pub(crate) fn to_database(&self, at: Wall) -> Wall {
        Wall(at.0.saturating_add_signed(self.clock_offset()))
    }

    /// A time of the database's clock, on this host's.
    pub(crate) fn to_local(&self, at: Wall) -> Wall {
        Wall(at.0.saturating_add_signed(self.clock_offset().saturating_neg()))
    }

    /// This host has joined a pool, or left it. It is in the store already; `many_hosts::rejoin` follows.
    pub(crate) fn set_membership(&self, membership: Option<Arc<Membership>>) {
        self.parts().membership = membership;
    }

    pub(super) fn set_clock_offset(&self, offset: i64) {
        let known = ClockOffset::new(offset, clock::now());
        *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// What must be added to this host's time of day to get that of the database, in ms.
    fn clock_offset(&self) -> i64 {
        let known = *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner);
        known.map_or(0, |known| known.at(clock::now()))
    }

    pub(super) fn set_client(&self, client: Option<Arc<PoolClient>>) {
        self.parts().client = client;
    }

    pub(super) fn set_term(&self, term: Option<PoolTerm>) {
        let parts = &mut *self.parts();
        (parts.term, parts.status.term) = (term, term.map(|term| term.id));
    }

    /// The term of the last run, to go on with; once.
    pub(super) fn take_stored_term(&self) -> Option<PoolTerm> {
        self.parts().stored_term.take()
    }

    pub(super) fn change_status(&self, change: impl FnOnce(&mut ManyHostsStatus)) {
        change(&mut self.parts().status);
    }

    /// The worker runs now; `None`: it has ended.
    pub(super) fn set_worker(&self, end: Option<EndWorker>) {
        self.is_on.store(end.is_some(), Ordering::Relaxed);
        self.parts().end_worker = end;
    }

    /// Held while the worker may be started.
    pub(super) fn starting(&self) -> MutexGuard<'_, ()> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What ends the worker, if it runs.
    pub(super) fn take_worker(&self) -> Option<EndWorker> {
        self.parts().end_worker.take()
    }

    fn parts(&self) -> MutexGuard<'_, HandleParts> {
        // each change is an assignment
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
