//! The configuration as OAuth clients read it.

use crate::credential::oauth::{MissingSettings, OauthConfig, OauthSettings};
use crate::{config::Config, credential::refresh::RefreshRules};

/// What the configuration says of a provider's logins.
#[must_use]
pub fn oauth_given(config: &Config, provider: &str) -> OauthConfig {
    let oauth = config.providers.get(provider).map(|provider| provider.oauth.clone()).unwrap_or_default();
    OauthConfig {
        issuer: oauth.issuer,
        authorize_url: oauth.authorize_url,
        token_url: oauth.token_url,
        device_url: oauth.device_url,
        client_id: oauth.client_id,
        client_secret_env: oauth.client_secret_env,
        scopes: oauth.scopes,
        redirect_port: oauth.redirect_port,
        reach: crate::http::ConnectOptions::default(),
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
