//! Which server, and as which client.

use crate::http::Reach;
use crate::provider::{OauthServer, built_in};

/// What the configuration says of a provider's logins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// Discovery fills what is not given.
    pub issuer: Option<String>,
    /// Where users log in.
    pub authorize_url: Option<String>,
    /// Where tokens come from.
    pub token_url: Option<String>,
    /// Where device codes come from.
    pub device_url: Option<String>,
    /// The client's id.
    pub client_id: Option<String>,
    /// The environment variable with its secret.
    pub client_secret_env: Option<String>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Port of the redirect; 0 is any.
    pub redirect_port: u16,
    /// How the server is reached.
    pub reach: Reach,
}

/// A client that can log in, or at least renew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub(super) provider: String,
    pub(super) given: Given,
    pub(super) client_id: String,
    pub(super) built_in: Option<&'static OauthServer>,
}

/// What is missing to log in or renew.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct Missing {
    provider: String,
    keys: Vec<&'static str>,
    example: bool,
}

impl Settings {
    /// Checks that there is enough to go by.
    ///
    /// # Errors
    /// With what is missing, and how to set it.
    pub fn of(provider: &str, given: Given) -> Result<Self, Missing> {
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
            None => Err(Missing { provider: provider.to_owned(), keys, example: built_in.is_none() }),
        }
    }

    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Names the client: one request at a time is made for each.
    #[must_use]
    pub fn client_key(&self) -> String {
        let given = &self.given;
        let built_in = self.built_in.map(|server| server.token_url);
        let server = given.token_url.as_deref().or(given.issuer.as_deref()).or(built_in).unwrap_or_default();
        format!("{} at {server}", self.client_id)
    }

    /// What is asked for.
    pub(super) fn scopes(&self) -> Vec<String> {
        match self.built_in {
            _ if !self.given.scopes.is_empty() => self.given.scopes.clone(),
            Some(server) => server.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            // who has logged in, and a refresh token
            None => ["openid", "email", "profile", "offline_access"].map(str::to_owned).to_vec(),
        }
    }

    /// The client's secret, if it has one.
    ///
    /// # Errors
    /// With a sentence, when the variable is not there.
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

impl Missing {
    /// The keys that have to be set.
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

    /// How to set it.
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
            "any OpenID provider will do: its issuer, and a client of yours registered there for http://127.0.0.1/callback"
        } else {
            "lessor brings no client of anybody's: use one of your own, or the one of the vendor's own tool if its terms let \
             you"
        };
        format!("{} ({what})", lines.join(" && "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_how_to_set_it() {
        let missing = |provider: &str, given: Given| Settings::of(provider, given).unwrap_err();
        assert_eq!(missing("anthropic", Given::default()).keys(), ["client_id"]);
        assert_eq!(missing("google", Given::default()).keys(), ["client_id", "client_secret_env"]);
        let custom = missing("mine", Given::default());
        assert_eq!(custom.to_string(), "the keys `issuer` and `client_id` of [providers.mine.oauth] are not set");
        assert!(custom.remedy().starts_with(
            "lessor config set providers.mine.oauth.issuer https://… && lessor config set providers.mine.oauth.client_id"
        ));
        let given = Given { issuer: Some("https://id".into()), client_id: Some("c".into()), ..Given::default() };
        assert_eq!(Settings::of("mine", given).unwrap().client_key(), "c at https://id");
    }
}
