//! The pool that this host shares with others: a worker connects the pure pool with PostgreSQL.
//!
//! The handle ([`handle::ManyHosts`]) is in the daemon's shared part, and needs no lock of the state. The worker runs only
//! once `[pool] url` is set and this host has joined; without both there is no thread and nothing is allocated.
//!
//! | file | contents |
//! |---|---|
//! | `worker/`, `loss` | connects, and answers the pool while the database is away; why it is |
//! | `target`, `term` | which database, as which host; the term there |
//! | `session/` | a connection: heartbeats, silent hosts, claims of seats and fences, probes, and what was learnt here |
//! | `news/` | what other hosts have changed, and the accounts that they have added |
//! | `times`, `clock_offset` | the database's clock and this host's |
//! | `duties` | what one host does for all: reading usage |
//! | `handing_out` | what the database must know before a token leaves the daemon |
//! | `handle`, `message`, `status`, `seats` | what the rest of the daemon sees |

mod clock_offset;
pub(in crate::daemon) mod duties;
pub(in crate::daemon) mod handing_out;
pub(in crate::daemon) mod handle;
pub(in crate::daemon) mod loss;
pub(in crate::daemon) mod message;
mod news;
pub(in crate::daemon) mod seats;
mod session;
pub(in crate::daemon) mod status;
mod target;
mod term;
mod times;
mod worker;

use std::sync::Arc;

use self::message::PoolMessage;
use self::status::PoolLink;
use self::target::PoolTarget;
use self::worker::PoolWorker;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::daemon::worker::{WaitsFor, Worker, WorkerThread};
use crate::pool::{AccountId, Command};
use crate::shared_pool::{Membership, PoolClient, SharedPoolError};

/// Starts the worker if there is a pool to connect with, or has it look again if it runs. To be called at the start and
/// after each change of the configuration.
pub(in crate::daemon) fn update(daemon: &Arc<Daemon>) {
    // of two changes at once, one starts it
    let _one_at_a_time = daemon.many_hosts.starting();
    if daemon.many_hosts.is_on() {
        return daemon.mailboxes.many_hosts.send(PoolMessage::Rejoin);
    }
    match PoolTarget::of(daemon) {
        Ok(_) => start(daemon),
        Err(link) => {
            let is_member = link == PoolLink::NoUrl;
            daemon.many_hosts.change_status(|status| status.link = link);
            if is_member {
                set_closed(daemon, true);
            }
        }
    }
}

/// Whether the pool lets this host in is a person's matter: requests do not wait for that. Follows the change of the status,
/// which says why.
fn set_closed(daemon: &Daemon, is_closed: bool) {
    daemon.state().apply_from_pool(clock::now(), Command::SetPoolClosed(is_closed));
}

/// This host has joined a pool, or left it (`None`), which is in the store already. Takes effect without a restart.
pub(in crate::daemon) fn rejoin(daemon: &Arc<Daemon>, membership: Option<Arc<Membership>>) {
    daemon.many_hosts.set_membership(membership);
    update(daemon);
}

/// Ends the worker, if it runs: the term of this host ends, unless the next run goes on with it.
pub(in crate::daemon) fn end(daemon: &Daemon) {
    if let Some(end) = daemon.many_hosts.take_worker() {
        end();
    }
}

fn start(daemon: &Arc<Daemon>) {
    match WorkerThread::start("many-hosts", WaitsFor::Network) {
        Ok(thread) => {
            let worker = Worker::start(&thread, daemon, &daemon.mailboxes.many_hosts, |daemon, mailbox| {
                PoolWorker::new(daemon, mailbox).run()
            });
            drop(thread);
            daemon.many_hosts.set_worker(Some(Box::new(|| worker.end())));
        }
        Err(error) => tracing::error!("the shared pool is not used: its thread does not start: {error}"),
    }
}

/// Sends what an admin has changed of a shared account, and waits until the database has it.
pub(in crate::daemon) async fn send_account(
    daemon: Arc<Daemon>,
    client: Arc<PoolClient>,
    id: AccountId,
) -> Result<(), SharedPoolError> {
    session::sending::account(daemon, client, id, true).await
}
