//! Values as text in the database. A value that a newer version wrote is reported as unknown.

use crate::limits::{Reason, Scope};
use crate::pool::{CredentialKind, LimitSource, LoginState, Tier};

/// A text in a row that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown {what} {text:?}")]
pub(super) struct UnknownText {
    what: &'static str,
    text: String,
}

impl UnknownText {
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

pub(super) fn kind(text: &str) -> Result<CredentialKind, UnknownText> {
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

pub(super) fn tier(text: &str) -> Result<Tier, UnknownText> {
    find("tier", &[Tier::Ultra, Tier::Pro, Tier::Free, Tier::Unknown], tier_name, text)
}

/// The two columns of a login state: its name and, as JSON, its details.
pub(super) fn login_state_columns(state: &LoginState) -> serde_json::Result<(&'static str, Option<String>)> {
    Ok(match state {
        LoginState::Ready => ("ready", None),
        LoginState::NeedsLogin(problem) => ("needs_login", Some(serde_json::to_string(problem)?)),
        LoginState::NeedsVerification(what) => ("needs_verification", Some(serde_json::to_string(what)?)),
    })
}

pub(super) fn login_state(text: &str, detail: Option<&str>) -> Result<LoginState, UnknownText> {
    let detail = detail.unwrap_or_default();
    let unknown = |_| UnknownText::new("details of a login state", detail);
    match text {
        "ready" => Ok(LoginState::Ready),
        "needs_login" => serde_json::from_str(detail).map(LoginState::NeedsLogin).map_err(unknown),
        "needs_verification" => serde_json::from_str(detail).map(LoginState::NeedsVerification).map_err(unknown),
        _ => Err(UnknownText::new("login state", text)),
    }
}

pub(super) fn reason(text: &str) -> Result<Reason, UnknownText> {
    find("reason", &Reason::ALL, Reason::name, text)
}

pub(super) fn scope(text: &str) -> Result<Scope, UnknownText> {
    let all = [Scope::Request, Scope::Model, Scope::Pool, Scope::Account, Scope::Service];
    find("scope", &all, Scope::name, text)
}

pub(super) fn source(text: &str) -> Result<LimitSource, UnknownText> {
    find("source", &[LimitSource::Table, LimitSource::Report, LimitSource::Server], LimitSource::name, text)
}

fn find<T: Copy>(what: &'static str, all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, UnknownText> {
    all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| UnknownText::new(what, text))
}
