//! The providers: their names, endpoints, headers, models and agents, as data wherever possible.

mod account_bound;
mod agents;
mod catalog;
mod check;
mod error_body;
mod gateway_traits;
mod models;
mod oauth;
mod owner;
mod terms;
mod upstream;

pub use account_bound::{
    StoredIdKey, bare_project, created_id_starts, names_foreign_project, project_keys, stored_id, stored_id_in_path,
    stored_id_keys,
};
pub use agents::{
    AgentSetup, CertificateVariable, HandOut, HandOutRequest, KeyCommand, MachineWidePath, MergedJson,
    OverridingSettings, Patience, Program, StopSignal, address_variables, agent_setup, agents_with_profile,
    is_credential_variable, is_interpreter, known_agents, refused_key_command, script_argument,
};
pub use catalog::{Catalog, TargetError, separate_quotas};
pub use check::{CheckRequest, check_request, wrong_kind};
pub use error_body::{LimitReset, error_body, limit_body};
pub use gateway_traits::{
    CREDENTIAL_HEADERS, CompanionHeader, NamedSubagent, SESSION_HEADERS, base_for_path, companion_header,
    has_responses_socket, is_beside_the_api, is_final_event, is_identity_header, is_preamble_event, marks_subagent,
    model_in_path, names_a_quota, quota_of_agent, session_body_key, subagent_of, uses_quota, versioned_path,
};
pub use oauth::{DirectLogin, OauthServer, client_of_program, direct_login};
pub use owner::{learn_account_id, vendor_account_id};
pub use terms::terms;
pub use upstream::{BaseUrls, accepted_kinds, accepts_direct_login, at_api_host, base_urls, path_for_kind};

use crate::pool::{CredentialKind, Tier};

/// A provider that lessor knows without configuration.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Other names for it, including those of its agents.
    pub aliases: &'static [&'static str],
    /// The vendor's agents, which its logins are made for.
    pub agents: &'static [&'static str],
    /// The header for API keys and its scheme; logins and tokens are always bearer tokens.
    pub key_header: (&'static str, Option<&'static str>),
    /// The prefix of the vendor's login tokens that are used as long-lived tokens.
    pub login_token_prefix: Option<&'static str>,
    /// Its OAuth server.
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
        aliases: &["gemini", "antigravity", "agy"],
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

/// The provider with this name or alias.
#[must_use]
pub fn by_alias(word: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == word || provider.aliases.contains(&word))
}

/// Whether each refresh of a provider's logins invalidates the refresh token before it.
#[must_use]
pub fn logins_rotate(provider: &str) -> bool {
    provider != "google"
}

/// The tier of a plan of OpenAI or Google, by the provider's name or id for it.
#[must_use]
pub fn plan_tier(provider: &str, plan: &str) -> Tier {
    let plan = plan.to_ascii_lowercase();
    let has = |word: &str| plan.contains(word);
    match (provider, plan.as_str()) {
        ("openai", "pro") => Tier::Ultra,
        ("openai", "go" | "plus" | "team" | "business" | "enterprise" | "edu") => Tier::Pro,
        ("openai", "free") => Tier::Free,
        ("google", _) if has("ultra") => Tier::Ultra,
        ("google", _) if has("pro") || has("standard") => Tier::Pro,
        ("google", _) if has("free") => Tier::Free,
        _ => Tier::Unknown,
    }
}

/// The header for a credential and its scheme.
#[must_use]
pub fn credential_header(provider: &str, kind: CredentialKind) -> (&'static str, Option<&'static str>) {
    match kind {
        CredentialKind::ApiKey => built_in(provider).map_or(BEARER, |provider| provider.key_header),
        CredentialKind::Oauth | CredentialKind::Token => BEARER,
    }
}

/// The agents that may use a credential by default: the vendor's own agents for a login, any agent for an API key.
#[must_use]
pub fn default_agents(provider: &str, kind: CredentialKind, secret: &str) -> Vec<String> {
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
