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

/// The name of a login_state, and what explains it.
pub(super) fn standing_name(login_state: &LoginState) -> (&'static str, Option<&str>) {
    match login_state {
        LoginState::Ready => ("ready", None),
        LoginState::NeedsLogin(why) => ("needs_login", Some(why)),
        LoginState::NeedsVerification(why) => ("needs_verification", Some(why)),
    }
}

pub(super) fn login_state(text: &str, why: Option<String>) -> Result<LoginState, Unknown> {
    match text {
        "ready" => Ok(LoginState::Ready),
        "needs_login" => Ok(LoginState::NeedsLogin(why.unwrap_or_default())),
        "needs_verification" => Ok(LoginState::NeedsVerification(why.unwrap_or_default())),
        _ => Err(Unknown::new("login_state", text)),
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
