//! What each upstream is: data wherever possible.

mod agents;
mod catalog;
mod error_body;
mod gateway_traits;
mod models;
mod oauth;
mod upstream;

pub use agents::{Addition, HandOut, Handed, Outfit, Overruled, Shared, outfit, with_profile};
pub use catalog::{BadTarget, Catalog};
pub use error_body::{LimitEnd, error_body, limit_body};
pub use gateway_traits::{
    CREDENTIAL_HEADERS, CompanionHeader, SESSION_HEADERS, companion_header, is_preamble_event, model_in_path,
    names_a_quota, quota_of_agent, session_body_key, versioned_path,
};
pub use oauth::OauthServer;
pub use upstream::{Bases, bases, served};

use crate::pool::CredentialKind;

/// A provider lessor knows without configuration.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Other names people use for it, the names of its agents among them.
    pub aliases: &'static [&'static str],
    /// The vendor's own agents: what its logins are made for.
    pub agents: &'static [&'static str],
    /// Where a key goes; logins and tokens are always bearers.
    pub key_header: (&'static str, Option<&'static str>),
    /// What the vendor's login tokens begin with, when they are handed out as long-lived tokens.
    pub login_token_prefix: Option<&'static str>,
    /// Where its logins are made.
    pub oauth: &'static OauthServer,
}

/// The providers lessor knows.
pub static PROVIDERS: [Provider; 3] = [
    Provider {
        name: "anthropic",
        aliases: &["claude"],
        agents: &["claude"],
        key_header: ("x-api-key", None),
        login_token_prefix: Some("sk-ant-oat"),
        oauth: &oauth::ANTHROPIC,
    },
    Provider {
        name: "openai",
        aliases: &["codex"],
        agents: &["codex"],
        key_header: BEARER,
        login_token_prefix: None,
        oauth: &oauth::OPENAI,
    },
    Provider {
        name: "google",
        aliases: &["gemini", "antigravity"],
        agents: &["gemini", "antigravity"],
        key_header: ("x-goog-api-key", None),
        login_token_prefix: None,
        oauth: &oauth::GOOGLE,
    },
];

const BEARER: (&str, Option<&str>) = ("authorization", Some("Bearer"));

/// The built-in provider of this name.
#[must_use]
pub fn built_in(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// The provider a word stands for: its name, or one of its agents.
#[must_use]
pub fn by_alias(word: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == word || provider.aliases.contains(&word))
}

/// The header a credential goes in, and the word before it.
#[must_use]
pub fn header(provider: &str, kind: CredentialKind) -> (&'static str, Option<&'static str>) {
    match kind {
        CredentialKind::ApiKey => built_in(provider).map_or(BEARER, |provider| provider.key_header),
        CredentialKind::Oauth | CredentialKind::Token => BEARER,
    }
}

/// Which agents may hold such a credential, when its owner does not say: a login serves its vendor's own agents, a
/// key serves anybody.
#[must_use]
pub fn default_use(provider: &str, kind: CredentialKind, secret: &str) -> Vec<String> {
    let restricted = built_in(provider).filter(|provider| match kind {
        CredentialKind::Oauth => true,
        CredentialKind::ApiKey => false,
        CredentialKind::Token => provider.login_token_prefix.is_some_and(|prefix| secret.starts_with(prefix)),
    });
    match restricted {
        Some(provider) => provider.agents.iter().map(|agent| (*agent).to_owned()).collect(),
        None => vec!["any".to_owned()],
    }
}
