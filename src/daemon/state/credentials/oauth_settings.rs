//! The configuration as OAuth clients read it.

use crate::config::{Config, ProviderSection};
use crate::credential::oauth::{MissingSettings, OauthConfig, OauthSettings};
use crate::credential::refresh::RefreshRules;
use crate::http::ConnectOptions;

/// How everything of a provider is reached: its API, its usage and its OAuth server.
#[must_use]
pub fn connect_options(provider: Option<&ProviderSection>) -> ConnectOptions {
    let reach = |of: &ProviderSection| ConnectOptions { proxy: of.proxy.clone(), ca_file: of.ca_file.clone() };
    provider.map(reach).unwrap_or_default()
}

/// What the configuration says of a provider's logins.
#[must_use]
pub fn oauth_given(config: &Config, provider: &str) -> OauthConfig {
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
        reach: connect_options(section),
    }
}

/// What logins of a provider are refreshed with, or what is missing for it.
pub(crate) fn oauth_settings(config: &Config, provider: &str) -> Result<OauthSettings, MissingSettings> {
    OauthSettings::of(provider, oauth_given(config, provider))
}

pub(in crate::daemon::state) fn refresh_rules(config: &Config) -> RefreshRules {
    let refresh = &config.refresh;
    RefreshRules { ahead: refresh.ahead, min_life: refresh.min_life, wait: refresh.wait }
}
