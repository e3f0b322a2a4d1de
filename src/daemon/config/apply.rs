//! Applies a new configuration; leases, limits, sessions and logins stay as they are.

use std::sync::{Arc, atomic::Ordering};

use crate::config::{ConfigErrors, LoadedConfig};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, catalog, key_location};
use crate::daemon::{history, many_hosts};
use crate::pool::{AccountId, Command};

/// Applies the configuration that was read, or keeps the current one and reports why the file is rejected.
pub(super) fn apply(daemon: &Arc<Daemon>, read: Result<LoadedConfig, ConfigErrors>) {
    match read {
        Ok(loaded) => replace(daemon, loaded),
        Err(errors) => {
            tracing::error!("the configuration is rejected, the last good one stays in force: {}", errors.headlines());
            let state = &mut *daemon.state();
            state.events.config_rejected(clock::now().wall, errors.headline(), &state.pool);
            state.config.reject(errors);
        }
    }
}

fn replace(daemon: &Arc<Daemon>, loaded: LoadedConfig) {
    daemon.run.log_level.set(loaded.config.daemon.log);
    let (state_name, notes) = {
        let state = &mut *daemon.state();
        let now = clock::now();
        state.catalog = catalog(&loaded.config, &state.pool);
        state.config.replace(loaded);
        let accounts: Vec<AccountId> = state.pool.accounts().iter().map(|account| account.record.id).collect();
        let config = &state.config.config;
        state.logins.configure(config, accounts.into_iter());
        state.apply_internal(now, Command::Configure(Box::new(state.config.config.pool.clone())));
        daemon.attest.configure(&state.config.config.pool);
        daemon.directory_sets.store(!state.config.config.pool.directories.is_empty(), Ordering::Release);
        daemon.requests.configure(&state.config.config.pool.leases);
        daemon.history.configure(history::settings(&state.config.config));
        state.events.notify(state.config.config.notify.is_on());
        state.events.config_reloaded(now.wall, &state.pool);
        (state.config.state_name(), state.config.notes().collect::<Vec<_>>())
    };
    tracing::info!(state = state_name, "the configuration was reloaded");
    for note in notes {
        tracing::warn!("{note}");
    }
    daemon.reconfigured.notify_one();
    daemon.config_version.send_modify(|version| *version += 1);
    daemon.mailboxes.usage.wake();
    many_hosts::update(daemon);
    if let Some(daemon) = daemon.daemon() {
        daemon.configure_host_link();
    }
    move_key(daemon);
}

/// Moves the key of all secrets to the configured location. Repeated regularly, because a keyring may be locked.
pub(crate) fn move_key(daemon: &Daemon) {
    if daemon.run.keyring.is_none() {
        let location = key_location(&daemon.state().config.config);
        daemon.store.move_key(location);
    }
}
