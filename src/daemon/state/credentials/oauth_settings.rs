//! The configuration as OAuth clients read it.

use std::path::Path;

use super::Renewal;
use crate::config::{Config, OauthClientSection, ProviderSection};
use crate::credential::oauth::{MissingSettings, OauthClient, OauthConfig, OauthSettings, StoredClient};
use crate::credential::{
    Credential, LoginHome, Secret, claims::LoginClaims, import::DiscoveredAccount, refresh::RefreshRules,
};
use crate::daemon::state::State;
use crate::pool::{AccountId, Command, CredentialKind, Now};
use crate::provider::{base_urls, client_of_program};
use crate::{credential::check::CredentialCheck, http::ConnectOptions};

/// How everything of a provider is reached: its API, its usage and its OAuth server.
#[must_use]
pub fn connect_options(provider: Option<&ProviderSection>) -> ConnectOptions {
    let reach = |of: &ProviderSection| ConnectOptions { proxy: of.proxy.clone(), ca_file: of.ca_file.clone() };
    provider.map(reach).unwrap_or_default()
}

/// What the configuration says of a provider's logins, with the stored clients.
#[must_use]
pub fn oauth_given(config: &Config, stored: &[StoredClient], provider: &str) -> OauthConfig {
    let section = config.providers.get(provider);
    let oauth = section.map(|provider| provider.oauth.clone()).unwrap_or_default();
    OauthConfig {
        issuer: oauth.issuer,
        authorize_url: oauth.authorize_url,
        token_url: oauth.token_url,
        device_url: oauth.device_url,
        client_id: oauth.client_id,
        client_secret_env: oauth.client_secret_env,
        scopes: oauth.scopes,
        redirect_port: oauth.redirect_port,
        clients: oauth.clients.into_iter().filter_map(|(name, client)| named_client(name, client)).collect(),
        stored: stored.iter().filter(|client| client.is_of(provider)).cloned().collect(),
        reach: connect_options(section),
    }
}

/// What to try a credential with: where its kind is sent, and how that is reached.
#[must_use]
pub fn credential_check(
    config: &Config,
    provider: &str,
    kind: CredentialKind,
    secret: Secret,
    vendor_id: Option<String>,
) -> CredentialCheck {
    let section = config.providers.get(provider);
    let vendors = base_urls(provider);
    let is_key = kind == CredentialKind::ApiKey;
    let set = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
    let keys = section.and_then(|section| set(&section.base_url));
    let logins = section.and_then(|section| set(&section.oauth.base_url));
    CredentialCheck {
        provider: provider.to_owned(),
        kind,
        secret,
        base: if is_key && (keys.is_some() || vendors.is_some()) { keys } else { logins.or(keys) },
        vendor_base: vendors.map(|urls| if is_key { urls.keys } else { urls.logins }),
        vendor_id,
        reach: connect_options(section),
    }
}

fn named_client(name: String, client: OauthClientSection) -> Option<OauthClient> {
    let client_id = client.client_id.filter(|id| !id.is_empty())?;
    Some(OauthClient { name, client_id, client_secret_env: client.client_secret_env })
}

/// What a login for the public API of a provider is made and refreshed with: the client that was registered for it, or,
/// without one, the registration. `None` if the provider has no such login.
#[must_use]
pub fn direct_settings(config: &Config, provider: &str, client_id: Option<&str>) -> Option<OauthSettings> {
    let section = config.providers.get(provider);
    let direct = section.map(|provider| provider.direct.clone()).unwrap_or_default();
    let given = OauthConfig {
        issuer: direct.issuer,
        authorize_url: direct.authorize_url,
        token_url: direct.token_url,
        redirect_port: direct.redirect_port,
        reach: connect_options(section),
        ..OauthConfig::default()
    };
    OauthSettings::direct(provider, given, client_id)
}

impl State {
    /// What is known of a provider's OAuth server and clients.
    pub(crate) fn oauth_given(&self, provider: &str) -> OauthConfig {
        oauth_given(&self.config.config, &self.stored_clients, provider)
    }

    /// What a login is refreshed with, or what is missing for it.
    pub(crate) fn oauth_settings(
        &self,
        provider: &str,
        credential: &Credential,
    ) -> Result<OauthSettings, MissingSettings> {
        let registered = credential.registration();
        let direct = registered.and_then(|client_id| direct_settings(&self.config.config, provider, Some(client_id)));
        let of_client =
            || OauthSettings::for_client(provider, self.oauth_given(provider), client_of(credential).as_deref());
        direct.map_or_else(of_client, Ok)
    }

    /// The name of the stored client that an account's login is refreshed with.
    pub(crate) fn stored_client_of(&self, id: AccountId) -> Option<String> {
        if self.stored_clients.is_empty() {
            return None;
        }
        match self.renewal(id)?.ok()? {
            Renewal::Oauth(settings) => settings.stored_as().map(str::to_owned),
            Renewal::StartTool(_) => None,
        }
    }

    /// Puts a saved client in use.
    pub(crate) fn keep_client(&mut self, client: StoredClient, now: Now) {
        self.stored_clients.retain(|known| known.name != client.name);
        let place = self.stored_clients.partition_point(|known| known.name < client.name);
        self.stored_clients.insert(place, client);
        self.clients_changed(now);
    }

    /// Forgets a client that is not stored any more.
    pub(crate) fn forget_client(&mut self, name: &str, now: Now) {
        self.stored_clients.retain(|known| known.name != name);
        self.clients_changed(now);
    }

    /// Logins that can be refreshed from now on are, and pauses of clients end.
    fn clients_changed(&mut self, now: Now) {
        let accounts: Vec<AccountId> = self.pool.accounts().iter().map(|account| account.record.id).collect();
        self.logins.configure(&self.config.config, accounts.into_iter());
        self.update_refresh_plan(now);
        self.apply_internal(now, Command::Tick);
    }

    /// The client that made an imported login: what its token names, or the client named after its tool, else the tool's
    /// own. For a login that its tool did not make for lessor, the provider's default client has priority over the latter:
    /// the user may have configured that of the tool.
    pub(crate) fn client_of_imported(&self, entry: &DiscoveredAccount) -> Option<String> {
        if entry.credential.kind != CredentialKind::Oauth {
            return None;
        }
        let given = self.oauth_given(&entry.provider);
        let tool = entry.tool.name();
        let is_in_home = entry.file.as_ref().is_some_and(|file| LoginHome::program_of(Path::new(file)).is_some());
        let program = || client_of_program(tool).filter(|_| is_in_home || !given.has_default());
        let of_tool = || given.client_of_tool(tool).or_else(program).map(str::to_owned);
        client_of(&entry.credential).or_else(of_tool)
    }
}

/// The client that made a login, where that is known.
pub(crate) fn client_of(credential: &Credential) -> Option<String> {
    let claimed = || LoginClaims::of(credential.access.expose(), None).client_id;
    credential.client_id.clone().or_else(claimed)
}

pub(in crate::daemon::state) fn refresh_rules(config: &Config) -> RefreshRules {
    let refresh = &config.refresh;
    RefreshRules { ahead: refresh.ahead, min_life: refresh.min_life, wait: refresh.wait }
}
