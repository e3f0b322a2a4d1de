//! The configuration in force, and how the file stands to it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::config::{self, Config, ConfigErrors, ConfigProblem, LoadState, LoadedConfig};
use crate::pool::{Pool, Wall};
use crate::protocol::{ConfigState, GatewayInfo, ReloadInfo};
use crate::{provider::Catalog, store::KeyBackend};

/// The configuration in force, where it came from, and what is wrong with the file now.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    pub(crate) config: Config,
    pub(crate) path: PathBuf,
    from: LoadState,
    /// Why the file as it is now is rejected.
    rejected: Option<ConfigErrors>,
    /// The configuration as a JSON document, once a client has asked for it.
    document: OnceLock<Arc<str>>,
}

impl ActiveConfig {
    pub(crate) fn new(loaded: LoadedConfig, path: PathBuf) -> Self {
        Self { config: loaded.config, path, from: loaded.state, rejected: None, document: OnceLock::new() }
    }

    /// Puts another configuration in force.
    pub(crate) fn replace(&mut self, loaded: LoadedConfig) {
        *self = Self::new(loaded, std::mem::take(&mut self.path));
    }

    /// The configuration as the JSON document that `make` writes; made once.
    pub(crate) fn document(&self, make: impl FnOnce(&Config) -> String) -> Arc<str> {
        self.document.get_or_init(|| make(&self.config).into()).clone()
    }

    /// Keeps the configuration, and why the file is rejected.
    pub(crate) fn reject(&mut self, errors: ConfigErrors) {
        self.rejected = Some(errors);
    }

    /// For `status`.
    pub(crate) fn state(&self) -> ConfigState {
        ConfigState {
            path: self.path.display().to_string(),
            state: self.state_name().to_owned(),
            error: self.rejected.as_ref().map(ConfigErrors::to_string),
        }
    }

    /// The result of reading the file.
    pub(crate) fn reload_info(&self, changed: bool) -> ReloadInfo {
        let ConfigState { path, state, error } = self.state();
        let notes = if error.is_some() { Vec::new() } else { self.notes().collect() };
        ReloadInfo { path, state, error, changed, notes }
    }

    /// What is accepted, but does not do what one may expect.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> {
        self.config.check().iter().map(ConfigProblem::headline)
    }

    pub(crate) const fn state_name(&self) -> &'static str {
        match (&self.rejected, self.from) {
            (Some(_), _) => "rejected",
            (None, LoadState::Ok) => "ok",
            (None, LoadState::Default) => "default",
        }
    }
}

/// Where the gateway listens, and why not everywhere it should.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GatewayState {
    /// `http://HOST:PORT`
    pub url: Option<String>,
    /// Its Unix socket.
    pub socket: Option<String>,
    /// Why it does not listen everywhere it should.
    pub trouble: Option<String>,
    /// Its port for TLS.
    pub secure: Option<SecureGateway>,
}

/// The gateway's port for TLS, and what clients trust it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecureGateway {
    /// `https://HOST:PORT`
    pub url: String,
    /// lessor's CA.
    pub ca_file: String,
    /// lessor's CA and the system's.
    pub ca_bundle: String,
    /// The first moment at which the certificate is valid.
    pub valid_from: Wall,
    /// The last one.
    pub valid_until: Wall,
}

/// The gateway has closed connections because too many were open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayShortage {
    /// How many, since the start.
    pub closed: u64,
    /// The last time.
    pub last: Wall,
    /// Whose connection that was.
    pub user: String,
    /// How many connections of that user had not shown a key, and how many may.
    pub without_key: usize,
    /// The most of them.
    pub share: usize,
    /// How many connections were open in all, and how many may.
    pub open: usize,
    /// The most of all.
    pub most: usize,
}

impl GatewayState {
    /// For `status`.
    pub(crate) fn info(&self) -> Option<GatewayInfo> {
        let secure = self.secure.as_ref();
        let info = GatewayInfo {
            url: self.url.clone(),
            socket: self.socket.clone(),
            secure_url: secure.map(|secure| secure.url.clone()),
            ca_file: secure.map(|secure| secure.ca_file.clone()),
            ca_bundle: secure.map(|secure| secure.ca_bundle.clone()),
            certificate_from: secure.map(|secure| secure.valid_from.0),
            certificate_until: secure.map(|secure| secure.valid_until.0),
        };
        (info != GatewayInfo::default()).then_some(info)
    }
}

/// Every provider that is built in, configured, or has an account.
pub(crate) fn catalog(config: &Config, pool: &Pool) -> Catalog {
    let mut catalog = Catalog::default();
    let of_accounts = pool.accounts().iter().map(|account| &account.record.provider);
    config.providers.keys().chain(of_accounts).for_each(|provider| catalog.add(provider));
    catalog
}

/// Where the key of all secrets is to be kept.
pub(crate) fn key_location(config: &Config) -> KeyBackend {
    match config.secrets.key {
        config::KeyLocation::File => KeyBackend::File,
        config::KeyLocation::Keyring => KeyBackend::Keyring,
    }
}
