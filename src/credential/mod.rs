//! Credentials: secrets that cannot be printed, OAuth, refreshing, and the logins of other tools.

pub mod check;
pub mod claims;
mod encoding;
mod fingerprint;
mod home;
pub mod import;
mod label;
mod link;
mod login_program;
pub mod oauth;
pub mod refresh;
pub(crate) mod seal;
mod secret;
pub mod share;

#[cfg(test)]
pub(crate) use encoding::tests::any_credential;
pub(crate) use encoding::{decode, encode};
pub use fingerprint::{Fingerprint, FingerprintKey};
pub use home::{HomeRecord, LoginHome};
pub use label::{LabelSource, numbered};
pub use link::{FormerCredential, FormerRole, Link, LinkMode, SETTLE, may_refresh};
pub use login_program::LoginProgram;
pub use secret::{Secret, SecretBytes};

use crate::pool::{CredentialKind, Wall};

/// What an account authenticates with.
#[derive(Debug, PartialEq, Eq)]
pub struct Credential {
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key, the token, or the login's access token: the secret that is sent upstream.
    pub access: Secret,
    /// The login's refresh token; it never leaves the daemon.
    pub refresh: Option<Secret>,
    /// When `access` expires, if it does.
    pub expires_at: Option<Wall>,
    /// The id of the OAuth client that made the login, if it is known; only that client can refresh it.
    pub client_id: Option<String>,
    /// When the provider first accepted it, if that is known.
    pub accepted_at: Option<Wall>,
    /// The API that the login is for (`resource` in OAuth), if it is for the provider's public API. Such a login is used
    /// like a key of that API; the others belong to the server of the vendor's own programs.
    pub resource: Option<String>,
    /// The server rejects an earlier refresh, and the refresh token with it.
    pub refresh_from: Option<Wall>,
}

impl Credential {
    /// The clock by which its times were taken was set by so many ms, or they go to another clock.
    #[must_use]
    pub fn follow_clock(self, step: i64) -> Self {
        let moved = |at: Option<Wall>| at.map(|at| Wall(at.0.saturating_add_signed(step)));
        Self {
            expires_at: moved(self.expires_at),
            accepted_at: moved(self.accepted_at),
            refresh_from: moved(self.refresh_from),
            ..self
        }
    }

    /// A credential that consists of one secret.
    #[must_use]
    pub fn new(kind: CredentialKind, access: Secret) -> Self {
        Self {
            kind,
            access,
            refresh: None,
            expires_at: None,
            client_id: None,
            accepted_at: None,
            resource: None,
            refresh_from: None,
        }
    }

    /// The credential with the refresh token of `known`, if it has none itself: a tool can lose it.
    #[must_use]
    pub fn with_refresh_of(mut self, known: Option<&Self>) -> Self {
        if self.kind == CredentialKind::Oauth && self.refresh.is_none() {
            self.refresh = known.and_then(|known| known.refresh.as_ref()).map(Secret::duplicate);
            self.client_id = self.client_id.or_else(|| known?.client_id.clone());
        }
        self
    }

    /// A copy without the refresh token.
    #[must_use]
    pub fn without_refresh(&self) -> Self {
        Self { refresh: None, ..self.duplicate() }
    }

    /// Whether it is a key or token that the provider has not yet accepted. A login comes from the provider itself.
    #[must_use]
    pub fn is_unchecked(&self) -> bool {
        self.kind != CredentialKind::Oauth && self.accepted_at.is_none()
    }

    /// A deliberate copy of the credential.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            kind: self.kind,
            access: self.access.duplicate(),
            refresh: self.refresh.as_ref().map(Secret::duplicate),
            expires_at: self.expires_at,
            client_id: self.client_id.clone(),
            accepted_at: self.accepted_at,
            resource: self.resource.clone(),
            refresh_from: self.refresh_from,
        }
    }

    /// Which kind of credential the provider's servers take it as: a login for the public API is taken like a key.
    #[must_use]
    pub fn api_kind(&self) -> CredentialKind {
        if self.resource.is_some() { CredentialKind::ApiKey } else { self.kind }
    }

    /// The OAuth client that was registered for this login alone, if it is for the public API: two such logins are of
    /// the same account only if their clients are the same.
    #[must_use]
    pub fn registration(&self) -> Option<&str> {
        self.client_id.as_deref().filter(|_| self.resource.is_some())
    }
}
