//! The settings of an OAuth client.

use crate::http::ConnectOptions;
use crate::provider::{OauthServer, built_in};

/// The `oauth` section of a provider's configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OauthConfig {
    /// Discovers the URLs that are not configured.
    pub issuer: Option<String>,
    /// Where users log in.
    pub authorize_url: Option<String>,
    /// The token endpoint.
    pub token_url: Option<String>,
    /// The device authorization endpoint.
    pub device_url: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// The environment variable that contains the client secret.
    pub client_secret_env: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The port of the redirect; 0 selects any.
    pub redirect_port: u16,
    /// How to connect to the server.
    pub reach: ConnectOptions,
}

/// A client that can log in, or at least refresh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OauthSettings {
    pub(super) provider: String,
    pub(super) given: OauthConfig,
    pub(super) client_id: String,
    pub(super) built_in: Option<&'static OauthServer>,
}

/// The configuration keys that are missing to log in or refresh.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct MissingSettings {
    provider: String,
    keys: Vec<&'static str>,
    example: bool,
}

impl OauthSettings {
    /// Checks that the configuration is sufficient.
    ///
    /// # Errors
    /// With the missing keys and how to set them.
    pub fn of(provider: &str, given: OauthConfig) -> Result<Self, MissingSettings> {
        let built_in = built_in(provider).map(|provider| provider.oauth);
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let mut keys = Vec::new();
        if built_in.is_none() && !is_set(&given.issuer) && !is_set(&given.token_url) {
            keys.push("issuer");
        }
        if !is_set(&given.client_id) {
            keys.push("client_id");
        }
        if built_in.is_some_and(|server| server.wants_secret)
            && given.token_url.is_none()
            && given.issuer.is_none()
            && !is_set(&given.client_secret_env)
        {
            keys.push("client_secret_env");
        }
        match given.client_id.clone().filter(|_| keys.is_empty()) {
            Some(client_id) => Ok(Self { provider: provider.to_owned(), given, client_id, built_in }),
            None => Err(MissingSettings { provider: provider.to_owned(), keys, example: built_in.is_none() }),
        }
    }

    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Identifies the client: one request at a time is made per client.
    #[must_use]
    pub fn client_key(&self) -> String {
        let given = &self.given;
        let built_in = self.built_in.map(|server| server.token_url);
        let server = given.token_url.as_deref().or(given.issuer.as_deref()).or(built_in).unwrap_or_default();
        format!("{} at {server}", self.client_id)
    }
    pub(super) fn scopes(&self) -> Vec<String> {
        match self.built_in {
            _ if !self.given.scopes.is_empty() => self.given.scopes.clone(),
            Some(server) => server.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            // the identity and a refresh token
            None => ["openid", "email", "profile", "offline_access"].map(str::to_owned).to_vec(),
        }
    }

    /// The client secret, if there is one.
    ///
    /// # Errors
    /// A sentence, when the environment variable is not set.
    pub(super) fn secret(&self) -> Result<Option<zeroize::Zeroizing<String>>, String> {
        let Some(name) = self.given.client_secret_env.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        match std::env::var(name) {
            Ok(secret) if !secret.is_empty() => Ok(Some(zeroize::Zeroizing::new(secret))),
            _ => Err(format!(
                "the environment variable {name} (`client_secret_env` of [providers.{}.oauth]) is not set here",
                self.provider
            )),
        }
    }
}

impl MissingSettings {
    /// The keys that must be set.
    #[must_use]
    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }

    fn text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| format!("`{key}`")).collect();
        let (verb, noun) = if keys.len() == 1 { ("is", "key") } else { ("are", "keys") };
        let provider = &self.provider;
        format!("the {noun} {} of [providers.{provider}.oauth] {verb} not set", keys.join(" and "))
    }

    /// The commands that set them.
    #[must_use]
    pub fn remedy(&self) -> String {
        let set = |key: &&str| {
            let value = match *key {
                "issuer" => "https://…",
                "client_id" => "YOUR-CLIENT-ID",
                _ => "NAME_OF_AN_ENVIRONMENT_VARIABLE",
            };
            format!("lessor config set providers.{}.oauth.{key} {value}", self.provider)
        };
        let lines: Vec<String> = self.keys.iter().map(set).collect();
        let what = if self.example {
            "any OpenID provider works: set its issuer, and the id of a client that you registered there for http://127.0.0.1/callback"
        } else {
            "lessor ships no client: use your own, or the one of the vendor's tool if its terms allow \
             you"
        };
        format!("{} ({what})", lines.join(" && "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_keys_are_reported_with_the_commands_that_set_them() {
        let missing = |provider: &str, given: OauthConfig| OauthSettings::of(provider, given).unwrap_err();
        assert_eq!(missing("anthropic", OauthConfig::default()).keys(), ["client_id"]);
        assert_eq!(missing("google", OauthConfig::default()).keys(), ["client_id", "client_secret_env"]);
        let custom = missing("mine", OauthConfig::default());
        assert_eq!(custom.to_string(), "the keys `issuer` and `client_id` of [providers.mine.oauth] are not set");
        assert!(custom.remedy().starts_with(
            "lessor config set providers.mine.oauth.issuer https://… && lessor config set providers.mine.oauth.client_id"
        ));
        let given =
            OauthConfig { issuer: Some("https://id".into()), client_id: Some("c".into()), ..OauthConfig::default() };
        assert_eq!(OauthSettings::of("mine", given).unwrap().client_key(), "c at https://id");
    }
}
