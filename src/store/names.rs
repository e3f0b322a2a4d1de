//! Values as text in the database: what a newer version wrote is not understood, and said so.

use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, LimitSource, LoginState, Tier};

/// A text in a row that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown {what} {text:?}")]
pub(super) struct Unknown {
    what: &'static str,
    text: String,
}

impl Unknown {
    pub(super) fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(60).collect() }
    }
}

pub(super) fn kind_name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Oauth => "oauth",
        CredentialKind::ApiKey => "api_key",
        CredentialKind::Token => "token",
    }
}

pub(super) fn kind(text: &str) -> Result<CredentialKind, Unknown> {
    find("credential kind", &[CredentialKind::Oauth, CredentialKind::ApiKey, CredentialKind::Token], kind_name, text)
}

pub(super) fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Ultra => "ultra",
        Tier::Pro => "pro",
        Tier::Free => "free",
        Tier::Unknown => "unknown",
    }
}

pub(super) fn tier(text: &str) -> Result<Tier, Unknown> {
    find("tier", &[Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown], tier_name, text)
}

/// The name of a login state and, as JSON, what explains it.
pub(super) fn login_state_columns(state: &LoginState) -> serde_json::Result<(&'static str, Option<String>)> {
    Ok(match state {
        LoginState::Ready => ("ready", None),
        LoginState::NeedsLogin(problem) => ("needs_login", Some(serde_json::to_string(problem)?)),
        LoginState::NeedsVerification(what) => ("needs_verification", Some(serde_json::to_string(what)?)),
    })
}

pub(super) fn login_state(text: &str, detail: Option<&str>) -> Result<LoginState, Unknown> {
    let detail = detail.unwrap_or_default();
    let unknown = |_| Unknown::new("detail of a login state", detail);
    match text {
        "ready" => Ok(LoginState::Ready),
        "needs_login" => serde_json::from_str(detail).map(LoginState::NeedsLogin).map_err(unknown),
        "needs_verification" => serde_json::from_str(detail).map(LoginState::NeedsVerification).map_err(unknown),
        _ => Err(Unknown::new("login state", text)),
    }
}

pub(super) fn reason(text: &str) -> Result<Reason, Unknown> {
    find("reason", &Reason::ALL, Reason::name, text)
}

pub(super) fn scope(text: &str) -> Result<Scope, Unknown> {
    let all = [Scope::Request, Scope::Model, Scope::Pool, Scope::Account, Scope::Service];
    find("scope", &all, Scope::name, text)
}

pub(super) fn source(text: &str) -> Result<LimitSource, Unknown> {
    find("source", &[LimitSource::Table, LimitSource::Report, LimitSource::Server], LimitSource::name, text)
}

fn find<T: Copy>(what: &'static str, all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, Unknown> {
    all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| Unknown::new(what, text))
}
