//! The configuration that holds, and how the file stands to it.

use std::path::PathBuf;

use crate::config::{self, Config, ConfigErrors, ConfigProblem, LoadState, LoadedConfig};
use crate::pool::{Command, Pool};
use crate::protocol::{ConfigState, ReloadInfo};
use crate::provider::Catalog;
use crate::store::KeyPlace;

use crate::daemon::os::clock;
use crate::daemon::refresh::rules;
use crate::daemon::state::{Daemon, State};

/// What holds, from where, and what is wrong with the file.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    pub(crate) config: Config,
    pub(crate) path: PathBuf,
    from: LoadState,
    /// Why the file as it is now does not hold.
    rejected: Option<ConfigErrors>,
}

impl ActiveConfig {
    pub(crate) fn new(loaded: LoadedConfig, path: PathBuf) -> Self {
        Self { config: loaded.config, path, from: loaded.state, rejected: None }
    }

    /// How it stands.
    pub(crate) fn state(&self) -> ConfigState {
        ConfigState {
            path: self.path.display().to_string(),
            state: self.state_name().to_owned(),
            error: self.rejected.as_ref().map(ConfigErrors::to_string),
        }
    }

    /// How it stands, for who had it read.
    pub(crate) fn told(&self, changed: bool) -> ReloadInfo {
        let ConfigState { path, state, error } = self.state();
        let notes = if error.is_some() { Vec::new() } else { self.notes().collect() };
        ReloadInfo { path, state, error, changed, notes }
    }

    /// What is accepted, but will not do what one may expect.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.config.check().iter().map(ConfigProblem::headline)
    }

    const fn state_name(&self) -> &'static str {
        match (&self.rejected, self.from) {
            (Some(_), _) => "rejected",
            (None, LoadState::Ok) => "ok",
            (None, LoadState::Default) => "default",
        }
    }
}

impl Daemon {
    /// Lets what the file says hold from now on, or says why it does not; no lease, limit, session or login is touched.
    pub(crate) fn configure(&self, read: Result<LoadedConfig, ConfigErrors>) {
        let state = &mut *self.state();
        match read {
            Ok(loaded) => self.adopt(state, loaded),
            Err(errors) => {
                tracing::error!("the configuration is not taken, the last good one is kept: {}", errors.headlines());
                state.events.config_rejected(clock::now().wall, errors.headline(), &state.pool);
                state.configured.rejected = Some(errors);
            }
        }
    }

    fn adopt(&self, state: &mut State, loaded: LoadedConfig) {
        let now = clock::now();
        self.facts.log_level.set(loaded.config.daemon.log);
        state.catalog = catalog(&loaded.config, &state.pool);
        let pool = Command::Configure(Box::new(loaded.config.pool.clone()));
        state.configured = ActiveConfig::new(loaded, std::mem::take(&mut state.configured.path));
        state.refreshing.plan.set_rules(rules(&state.configured.config));
        let State { credentials, refreshing, .. } = &mut *state;
        credentials.keys().for_each(|id| refreshing.account_changed(*id));
        self.apply_unasked(state, now, pool);
        tracing::info!(state = state.configured.state_name(), "the configuration was read anew");
        for note in state.configured.notes() {
            tracing::warn!("{note}");
        }
        state.events.config_reloaded(now.wall, &state.pool);
        self.reconfigured.notify_one();
        self.config_version.send_modify(|version| *version += 1);
        state.gathered.wake.notify_one();
        if self.facts.waiting.is_none() {
            self.store.settle_key(key_place(&state.configured.config));
        }
    }
}

impl Daemon {
    /// Brings the key where the configuration wants it; again and again, as a keyring may be locked.
    pub(crate) fn settle_key(&self) {
        if self.facts.waiting.is_none() {
            self.store.settle_key(key_place(&self.state().configured.config));
        }
    }
}

/// Every provider there is: built in, configured, or of an account.
pub(crate) fn catalog(config: &Config, pool: &Pool) -> Catalog {
    let mut catalog = Catalog::default();
    let of_accounts = pool.accounts().iter().map(|account| &account.record.provider);
    config.providers.keys().chain(of_accounts).for_each(|provider| catalog.learn(provider));
    catalog
}

/// Where the key is to be.
pub(crate) fn key_place(config: &Config) -> KeyPlace {
    match config.secrets.key {
        config::KeyLocation::File => KeyPlace::File,
        config::KeyLocation::Keyring => KeyPlace::Keyring,
    }
}
