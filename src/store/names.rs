//! Values as text in the database. A value that a newer version wrote is reported as unknown.

use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::pool::{LimitSource, LoginState};

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

/// The name that a kind or tier has in serde.
pub(super) fn name(value: impl Serialize) -> serde_json::Result<String> {
    serde_json::to_value(value).map(|name| name.as_str().unwrap_or_default().to_owned())
}

/// The kind or tier with this name.
pub(super) fn named<'t, T: Deserialize<'t>>(what: &'static str, text: &'t str) -> Result<T, UnknownText> {
    T::deserialize(StrDeserializer::<Error>::new(text)).map_err(|_| UnknownText::new(what, text))
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

pub(super) fn source(text: &str) -> Result<LimitSource, UnknownText> {
    let all = [LimitSource::Table, LimitSource::Report, LimitSource::Server];
    all.into_iter().find(|source| source.name() == text).ok_or_else(|| UnknownText::new("source", text))
}
