//! The pool that this host shares with others: a worker connects the pure pool with PostgreSQL.
//!
//! The handle ([`handle::ManyHosts`]) is in the daemon's shared part; it needs no lock of the state. The worker runs only
//! while `[pool] url` is set and this host has joined.

pub(in crate::daemon) mod handle;
pub(in crate::daemon) mod message;
pub(in crate::daemon) mod seats;
pub(in crate::daemon) mod status;

use std::sync::Arc;

use self::message::PoolMessage;
use crate::daemon::state::Daemon;
use crate::shared_pool::Membership;

/// This host has joined a pool, or left it (`None`), which is in the store already. Takes effect without a restart.
pub(in crate::daemon) fn rejoin(daemon: &Arc<Daemon>, membership: Option<Arc<Membership>>) {
    daemon.many_hosts.set_membership(membership);
    daemon.mailboxes.many_hosts.send(PoolMessage::Rejoin);
}
