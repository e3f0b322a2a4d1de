//! How the shared pool looks from this host, for `status` and for errors.

use std::time::Duration;

use crate::pool::{AccountId, Mono, Wall};
use crate::shared_pool::{PoolHost, SharedPoolSettings, TermId};

/// Whether the database can be reached, and what is known of the pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct ManyHostsStatus {
    /// Whether there is a connection, or why not.
    pub(crate) link: PoolLink,
    /// The term in which this host holds seats.
    pub(crate) term: Option<TermId>,
    /// Until when its seats are valid.
    pub(crate) seats_until: Option<Mono>,
    /// The settings of the pool, once they are known.
    pub(crate) settings: Option<SharedPoolSettings>,
    /// The hosts of the pool, as the last news had them.
    pub(crate) hosts: Vec<SeenHost>,
    /// Accounts of the pool that this host does not use, and why not.
    pub(crate) left_out: Vec<(AccountId, String)>,
    /// How many statements were sent to the database.
    pub(crate) statements: u64,
}

/// Whether the database can be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum PoolLink {
    /// No shared pool is set up: neither a url nor a membership.
    #[default]
    Unset,
    /// `[pool] url` is set, and this host has not joined.
    NotJoined,
    /// This host is a member, and `[pool] url` is not set.
    NoUrl,
    /// The first connection is being made.
    Connecting,
    /// Connected since then.
    Connected(Wall),
    /// The database cannot be reached.
    Away(PoolAway),
}

/// Why the database cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PoolAway {
    /// Whether that passes without a person.
    pub(crate) kind: PoolAwayKind,
    /// Since when.
    pub(crate) since: Wall,
    /// Why.
    pub(crate) why: String,
    /// When the next try begins.
    pub(crate) next: Mono,
}

/// Whether a database that cannot be used may come back without a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PoolAwayKind {
    /// It cannot be reached.
    Unreachable,
    /// It answers, and refuses this host or does not fit: a person has to change something.
    Refused,
    /// This host was evicted.
    Evicted,
}

/// A host of the pool, and when this one last saw a sign of life.
#[derive(Clone, Debug)]
pub(crate) struct SeenHost {
    /// What the database says of it.
    pub(crate) host: PoolHost,
    /// When its heartbeat was last seen to change, on this host's clock.
    pub(crate) seen: Option<Mono>,
    /// The heartbeats of its terms then.
    beats: Vec<(TermId, u64)>,
    /// Whether it is this host.
    pub(crate) is_own: bool,
}

impl SeenHost {
    /// A host, of which no heartbeat was seen yet.
    pub(super) fn new(host: PoolHost, is_own: bool) -> Self {
        Self { host, seen: None, beats: Vec::new(), is_own }
    }

    /// Notes the heartbeats of all terms, as a reading had them at this time.
    pub(super) fn note_beats(&mut self, beats: &[(TermId, u64)], at: Mono) {
        let own: Vec<_> = beats.iter().copied().filter(|(term, _)| self.host.terms.contains(term)).collect();
        if own.iter().any(|beat| !self.beats.contains(beat)) {
            self.seen = Some(at);
        }
        self.beats = own;
    }
}

impl ManyHostsStatus {
    /// Whether a host that refreshes logins was seen within `patience`.
    pub(crate) fn has_refresher(&self, now: Mono, patience: Duration) -> bool {
        let is_online = |seen: &SeenHost| seen.is_own || seen.seen.is_some_and(|at| now.since(at) < patience);
        self.hosts.iter().any(|seen| seen.host.refresher && seen.host.ended_at.is_none() && is_online(seen))
    }

    /// Whether this host was evicted, as far as it knows.
    pub(crate) fn is_evicted(&self) -> bool {
        matches!(&self.link, PoolLink::Away(PoolAway { kind: PoolAwayKind::Evicted, .. }))
    }

    /// Whether the database can be reached now.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link, PoolLink::Connected(_))
    }
}
