//! Restores the state that the last run saved.

use std::convert::Infallible;
use std::sync::Arc;
use std::{io, thread};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use crate::credential::SecretBytes;
use crate::daemon::os::{opened_process::OpenedProcess, process};
use crate::daemon::state::{
    ActiveConfig, Daemon, Fingerprints, GatewayKeys, MovedLeases, Restored, RunInfo, SharedAccounts, WatchedProcesses,
};
use crate::pool::{Bind, Fence, Lease, Now, Pool, PoolStart, Process};
use crate::protocol::{GatewayKeySealer, LeaseKey};
use crate::shared_pool::Membership;
use crate::store::{OpenedStore, Write};

/// The upper bits of a fence hold the time: fences stay monotonic even if the number on disk is outdated, because the disk
/// was full, read-only or restored from a backup. No machine grants 2⁹ leases in a millisecond, and the number stays below
/// 2⁵³, where JSON is exact, until the year 2500.
const FENCES_PER_MS: u64 = 1 << 9;

/// The thread that restores the state. With it end its stack and what the allocator keeps for it: together some 100 KiB,
/// which a thread that lives on would keep.
#[derive(Debug)]
pub(super) struct RestoringThread<T> {
    thread: thread::JoinHandle<T>,
    /// Its sender is dropped when the thread has done its work.
    done: oneshot::Receiver<Infallible>,
}

impl<T: Send + 'static> RestoringThread<T> {
    pub(super) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (at_work, done) = oneshot::channel();
        let thread = thread::Builder::new().name("restore".to_owned()).spawn(move || {
            let _at_work = at_work;
            work()
        })?;
        Ok(Self { thread, done })
    }

    /// Waits for its end. A panic of the work goes on here.
    pub(super) async fn end(self) -> T {
        let Err(_dropped) = self.done.await;
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A daemon with the restored state, and a channel with the watched processes that have ended.
pub(in crate::daemon) fn restore(
    config: ActiveConfig,
    opened: OpenedStore,
    mut info: RunInfo,
) -> (Arc<Daemon>, UnboundedReceiver<Process>) {
    let OpenedStore { store, loaded: mut saved } = opened;
    (info.gateway_port, info.gateway_tls_port) = (saved.gateway_port, saved.gateway_tls_port);
    let now = info.started;
    let (living, dead): (Vec<Lease>, Vec<Lease>) = saved.snapshot.leases.into_iter().partition(is_alive);
    for lease in dead {
        store.write(Write::DropLease(lease.fence), None);
    }
    saved.snapshot.leases = living;
    saved.snapshot.shared = saved.shared_accounts.iter().map(|(id, _)| *id).collect();
    let (membership, trouble) = membership_of(saved.membership);
    saved.warnings.extend(trouble);
    let start =
        PoolStart { fence: first_fence(saved.fence, now), grace: info.may_resume || (!saved.clean && saved.same_boot) };
    let mut effects = Vec::new();
    let lease_key = LeaseKey::new(saved.lease_key);
    let moved_leases = MovedLeases::restored(saved.moved_leases, &lease_key, &store);
    let mut pool = Pool::restore(now, config.config.pool.clone(), saved.snapshot, start, &mut effects);
    pool.note_ended(moved_leases.ended());
    info.warnings = saved.warnings;
    for warning in info.warnings.iter().cloned().chain(config.notes()) {
        tracing::warn!("{warning}");
    }
    log_restored(&pool, saved.clean, start.grace);
    let bound = pool.leases().filter_map(|lease| bound_process(lease.bind));
    let (processes, gone, ended) = watch(bound, info.most_connections);
    let limits = pool.snapshot(now).limits;
    let restored = Restored {
        membership,
        pool_term: saved.pool_term,
        pool_answers: saved.pool_answers,
        shared_accounts: SharedAccounts::restored(saved.shared_accounts, limits.into_iter()),
        pool,
        effects,
        config,
        credentials: saved.credentials,
        gateway_keys: GatewayKeys::new(
            GatewayKeySealer::new(saved.fingerprint_key.derived("keys of the gateway")),
            saved.gateway_keys,
            saved.sealed_gateway_keys,
        ),
        fingerprints: Fingerprints::new(saved.fingerprint_key, saved.fingerprints),
        links: saved.links,
        formers: saved.formers,
        stored_clients: saved.clients,
        unanswered_refreshes: saved.refreshing,
        store,
        lease_key,
        moved_leases,
        // without random bits from the system refreshes are spread all the same, only predictably
        seed: getrandom::u64().unwrap_or_default(),
    };
    let daemon = Daemon::new(restored, info, processes);
    gone.into_iter().for_each(|process| daemon.process_ended(process));
    daemon.await_restored_guests();
    (daemon, ended)
}

/// This host's membership in a shared pool, or why it cannot be read.
fn membership_of(saved: Option<SecretBytes>) -> (Option<Arc<Membership>>, Option<String>) {
    match saved.map(|bytes| Membership::from_bytes(&bytes)) {
        None => (None, None),
        Some(Ok(membership)) => (Some(Arc::new(membership)), None),
        Some(Err(why)) => (None, Some(why)),
    }
}

fn log_restored(pool: &Pool, clean: bool, grace: bool) {
    let (accounts, leases) = (pool.accounts().len(), pool.lease_count());
    let after = if clean { "" } else { ", after the daemon was killed or crashed" };
    tracing::info!(accounts, leases, clean, grace, "restored: accounts {accounts}, leases {leases}{after}");
}

/// Watches the processes that leases are bound to; also returns those that have ended.
fn watch(
    bound: impl Iterator<Item = Process>,
    most_connections: usize,
) -> (WatchedProcesses, Vec<Process>, UnboundedReceiver<Process>) {
    let (sender, ended) = unbounded_channel();
    let mut processes = WatchedProcesses::new(most_connections, sender);
    let mut gone = Vec::new();
    for process in bound {
        match OpenedProcess::open(process.pid) {
            Ok(Some(opened)) if opened.process() == process => {
                processes.watch(&mut Some(opened));
                processes.bind(process);
            }
            Ok(_) => gone.push(process),
            Err(error) => tracing::error!(pid = process.pid, "a holder cannot be watched: {error}"),
        }
    }
    (processes, gone, ended)
}

/// Whether the process that a lease is bound to is alive; of a guest's holder, the guest will say.
fn is_alive(lease: &Lease) -> bool {
    bound_process(lease.bind)
        .is_none_or(|bound| process::find(bound.pid).ok().flatten().is_some_and(|found| found.process == bound))
}

/// The process of this system that a lease is bound to.
fn bound_process(bind: Bind) -> Option<Process> {
    bind.process().filter(|process| process.guest().is_none())
}

fn first_fence(saved: Fence, now: Now) -> Fence {
    Fence(saved.0.max(now.wall.0.saturating_mul(FENCES_PER_MS)))
}
