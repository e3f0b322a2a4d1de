//! The gateway's access to the daemon; `gateway/` uses no other part of it.

mod attempt;
pub(crate) mod attest;
pub(crate) mod client;
pub(crate) mod lease;
mod lease_use;
pub(crate) mod login_owner;
pub(crate) mod needs;
pub(crate) mod no_account;
pub(crate) mod page;
pub(crate) mod peer;
mod queue_place;
pub(crate) mod request_lease;
pub(crate) mod sender;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, path::PathBuf, time::Duration};

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use self::client::GatewayClient;
use crate::daemon::state::{Daemon, GatewayShortage, GatewayState, RequestTurn, StateGuard};
use crate::daemon::{os::allocator, os::clock, os::handover::GatewayListeners, view};
use crate::pool::InFlight;
use crate::{config, history::History, protocol::AccountTotals, store::Write};

/// Starts the gateway; called once, before any call that may be for it.
pub type StartGateway = fn(GatewayHandle) -> io::Result<Box<dyn RunningGateway>>;

/// A running gateway.
pub trait RunningGateway: Send {
    /// Waits until it has ended, as it does when [`GatewayHandle::stopping`] turns true.
    fn end(self: Box<Self>);
}

/// A port of the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GatewayPort {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// The daemon, as the gateway sees it.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    daemon: Arc<Daemon>,
    /// From the last run of this process, or for the next.
    listeners: Arc<Mutex<GatewayListeners>>,
}

/// The configuration of the gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct GatewayConfig {
    /// `[gateway]`
    pub gateway: config::GatewaySection,
    /// `limits.max_attempts`
    pub max_attempts: u32,
    /// `limits.max_rate_limit_wait`
    pub max_rate_limit_wait: Duration,
    /// `[telemetry]`
    pub telemetry: config::TelemetrySection,
    /// `[providers.*]`, by name.
    pub providers: std::collections::BTreeMap<String, config::ProviderSection>,
}

/// The names of all accounts, by id: a label, or else the id.
pub type AccountNames = FxHashMap<String, String>;

/// The state of accounts and leases, in numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolStats {
    /// The number of accounts, by state.
    pub accounts: AccountTotals,
    /// How many leases are held.
    pub leases: usize,
    /// How many requests wait for a lease.
    pub waiting: usize,
    /// Provider, account and window, and the used part of it, from 0 to 1.
    pub windows: Vec<(String, String, String, f64)>,
    /// How many requests wait until fewer are under way.
    pub waiting_for_room: usize,
    /// Provider, account, the requests under way on it, and how many there may be.
    pub in_flight: Vec<(String, String, u32, Option<u32>)>,
}

impl GatewayHandle {
    /// With the listeners of the last run.
    pub(crate) fn new(daemon: &Arc<Daemon>, listeners: GatewayListeners) -> Self {
        Self { daemon: daemon.clone(), listeners: Arc::new(Mutex::new(listeners)) }
    }

    pub(in crate::daemon) fn daemon(&self) -> &Arc<Daemon> {
        &self.daemon
    }

    fn state(&self) -> StateGuard<'_> {
        self.daemon.state()
    }

    pub(in crate::daemon) fn history(&self) -> &History {
        &self.daemon.history
    }

    /// How often the calling thread has taken the daemon's lock, for tests.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn lock_count(&self) -> u64 {
        crate::daemon::state::LOCK_COUNT.get()
    }

    /// The current configuration.
    #[must_use]
    pub fn config(&self) -> GatewayConfig {
        let state = &*self.state();
        let config = &state.config.config;
        GatewayConfig {
            gateway: config.gateway.clone(),
            max_attempts: config.limits.max_attempts,
            max_rate_limit_wait: state.pool.settings().limits.max_rate_limit_wait,
            telemetry: config.telemetry.clone(),
            providers: config.providers.clone(),
        }
    }

    /// Changes with the configuration.
    #[must_use]
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.daemon.config_version.subscribe()
    }

    /// Changes to true when the daemon stops; a stop from before counts, too.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        let mut stop = self.daemon.stop.subscribe();
        if *stop.borrow() {
            stop.mark_changed();
        }
        stop
    }

    /// Names the longest time that requests in flight may take, when the daemon is to be restarted.
    #[must_use]
    pub fn restarting(&self) -> watch::Receiver<Option<Duration>> {
        self.daemon.restart.subscribe()
    }

    /// Counts the requests that wait for their upstream or get its response.
    #[must_use]
    pub fn in_flight(&self) -> Arc<AtomicU64> {
        self.daemon.in_flight.clone()
    }

    /// The listeners that the last run of this process has handed over, or that are for the next run.
    #[must_use]
    pub(crate) fn take_listeners(&self) -> GatewayListeners {
        std::mem::take(&mut *self.listeners())
    }

    /// Hands over the listeners to the next run: no request is in flight any more, and none is accepted.
    pub(crate) fn hand_over(&self, listeners: GatewayListeners) {
        *self.listeners() = listeners;
        self.daemon.gateway_drained.notify_one();
    }

    fn listeners(&self) -> MutexGuard<'_, GatewayListeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections the process can have.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.daemon.run.most_connections
    }

    /// The port that was chosen in an earlier run.
    #[must_use]
    pub fn kept_port(&self, name: GatewayPort) -> Option<u16> {
        match name {
            GatewayPort::Http => self.daemon.run.gateway_port,
            GatewayPort::Https => self.daemon.run.gateway_tls_port,
        }
    }

    /// Keeps a chosen port for the next run.
    pub fn keep_port(&self, name: GatewayPort, port: u16) {
        self.daemon.write(match name {
            GatewayPort::Http => Write::GatewayPort(port),
            GatewayPort::Https => Write::GatewayTlsPort(port),
        });
    }

    /// Where the certificates of the gateway are kept.
    #[must_use]
    pub fn tls_directory(&self) -> PathBuf {
        self.daemon.run.state_directory.join("tls")
    }

    /// The default path of the gateway's socket.
    #[must_use]
    pub fn socket_beside(&self) -> PathBuf {
        PathBuf::from(&self.daemon.run.socket).with_file_name("gateway.sock")
    }

    /// Waits until everything that was learnt until now survives the end of the daemon.
    pub async fn all_saved(&self) {
        self.daemon.all_saved().await;
    }

    /// Gives memory that was freed back to the system, on a thread of its own.
    pub async fn give_memory_back() {
        // if the runtime ends before this has begun, it is left out
        let _done = tokio::task::spawn_blocking(allocator::give_back).await;
    }

    /// The place of a request of this client among those that wait for room.
    #[must_use]
    pub fn turn(&self, client: &GatewayClient) -> RequestTurn {
        self.daemon.requests.turn(client.has_key().then_some(client.id))
    }

    /// Waits until, after this call, an account or a lease has changed in a way that may serve a request.
    pub fn pool_changed(&self) -> impl Future<Output = ()> + '_ {
        self.daemon.capacity_changed.notified()
    }

    /// The names of the accounts that there are. No e-mail address is among them.
    #[must_use]
    pub fn account_names(&self) -> AccountNames {
        let state = &*self.state();
        let named = state.pool.accounts().iter().map(|account| {
            let id = account.record.id.to_string();
            (id.clone(), account.record.label.clone().unwrap_or(id))
        });
        named.collect()
    }

    /// The state of accounts and leases, in numbers.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let state = &*self.state();
        let (mut windows, mut in_flight) = (Vec::new(), Vec::new());
        for account in state.pool.accounts() {
            let name = account.record.label.clone().unwrap_or_else(|| account.record.id.to_string());
            let (under_way, cap) = self
                .daemon
                .requests
                .read(|table| (table.under_way(account.record.id), table.cap(account.record.id, clock::now().mono)));
            in_flight.push((account.record.provider.clone(), name.clone(), under_way, cap));
            let known = account.usage().windows.iter();
            windows.extend(known.map(|window| {
                (account.record.provider.clone(), name.clone(), window.name.clone(), window.utilization)
            }));
        }
        PoolStats {
            accounts: view::totals(state, clock::now()),
            leases: state.pool.lease_count(),
            waiting: state.pool.waiters().count(),
            waiting_for_room: self.daemon.requests.read(InFlight::waiting),
            windows,
            in_flight,
        }
    }

    /// A connection of the gateway was closed because too many were open; `status` says so for a while.
    pub fn note_shortage(&self, shortage: GatewayShortage) {
        *self.daemon.gateway_shortage.lock().unwrap_or_else(PoisonError::into_inner) = Some(shortage);
    }

    /// Publishes where the gateway listens.
    pub fn publish(&self, gateway: GatewayState) {
        let before = std::mem::replace(&mut self.state().gateway, gateway.clone());
        if before == gateway {
            return;
        }
        if let Some(why) = &gateway.trouble {
            tracing::warn!("the gateway does not listen everywhere: {why}");
        }
        if let Some(url) = gateway
            .secure
            .map(|secure| secure.url)
            .filter(|url| Some(url) != before.secure.as_ref().map(|secure| &secure.url))
        {
            tracing::info!(url, "the gateway listens on {url}");
        }
        if let Some(url) = gateway.url.filter(|url| before.url.as_ref() != Some(url)) {
            tracing::info!(url, "the gateway listens on {url}");
        }
    }
}
