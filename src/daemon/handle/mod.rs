//! What the gateway may do with the daemon: the folder above this one comes in here and nowhere else.

pub(crate) mod lease;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config;
use crate::protocol::AccountTotals;
use crate::store::Write;

use crate::daemon::api::gateway_key::GatewayState;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::daemon::view;

/// Starts the gateway; called once, before the daemon says that it serves.
pub type StartGateway = fn(GatewayHandle) -> io::Result<Box<dyn RunningGateway>>;

/// A gateway that serves.
pub trait RunningGateway: Send {
    /// Waits until it has ended, as it does when [`GatewayHandle::stopping`] says so.
    fn end(self: Box<Self>);
}

/// The daemon, as the gateway sees it.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    pub(crate) daemon: Arc<Daemon>,
}

/// What the configuration says of the gateway.
#[derive(Clone, PartialEq, Debug)]
pub struct GatewayConfig {
    /// `[gateway]`
    pub gateway: config::GatewaySection,
    /// `limits.max_attempts`
    pub max_attempts: u32,
    /// `[providers.*]`, by name.
    pub providers: std::collections::BTreeMap<String, config::ProviderSection>,
}

/// How accounts and leases stand.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolStats {
    /// How many accounts there are, by state.
    pub accounts: AccountTotals,
    /// How many leases are held.
    pub leases: usize,
    /// How many requests wait for one.
    pub waiting: usize,
    /// Provider, account and window, and how much of it is used.
    pub windows: Vec<(String, String, String, f64)>,
}

impl GatewayHandle {
    pub(crate) fn new(daemon: &Arc<Daemon>) -> Self {
        Self { daemon: daemon.clone() }
    }

    /// What the configuration says now.
    #[must_use]
    pub fn config(&self) -> GatewayConfig {
        let state = &*self.daemon.state();
        let config = &state.configured.config;
        GatewayConfig {
            gateway: config.gateway.clone(),
            max_attempts: config.limits.max_attempts,
            providers: config.providers.clone(),
        }
    }

    /// Changes whenever the configuration has.
    #[must_use]
    pub fn config_changes(&self) -> watch::Receiver<u64> {
        self.daemon.config_version.subscribe()
    }

    /// Turns true when the daemon ends.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.daemon.stop.subscribe()
    }

    /// How many connections the process can have.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.daemon.facts.most_connections
    }

    /// The port that was chosen in an earlier run.
    #[must_use]
    pub fn kept_port(&self) -> Option<u16> {
        self.daemon.facts.gateway_port
    }

    /// Keeps the port that was chosen.
    pub fn keep_port(&self, port: u16) {
        self.daemon.store.write(Write::GatewayPort(port), None);
    }

    /// Where the gateway's socket is unless the configuration says otherwise.
    #[must_use]
    pub fn socket_beside(&self) -> PathBuf {
        PathBuf::from(&self.daemon.facts.socket).with_file_name("gateway.sock")
    }

    /// How accounts and leases stand.
    #[must_use]
    pub fn standings(&self) -> PoolStats {
        let state = &*self.daemon.state();
        let mut windows = Vec::new();
        for account in state.pool.accounts() {
            let name = account.record.label.clone().unwrap_or_else(|| account.record.id.to_string());
            let known = account.usage().windows.iter();
            windows.extend(known.map(|window| {
                (account.record.provider.clone(), name.clone(), window.name.clone(), window.utilization)
            }));
        }
        PoolStats {
            accounts: view::totals(state, clock::now()),
            leases: state.pool.lease_count(),
            waiting: state.pool.waiters().count(),
            windows,
        }
    }

    /// Says where the gateway listens now.
    pub fn listens(&self, gateway: GatewayState) {
        let state = &mut *self.daemon.state();
        if state.gateway == gateway {
            return;
        }
        if let Some(why) = &gateway.trouble {
            tracing::warn!("the gateway does not serve as it should: {why}");
        }
        if let Some(url) = gateway.url.as_ref().filter(|url| state.gateway.url.as_ref() != Some(url)) {
            tracing::info!(url, "the gateway serves at {url}");
        }
        state.gateway = gateway;
    }
}
