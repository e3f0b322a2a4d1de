//! Credentials: secrets that cannot be printed, OAuth, refreshing, and the logins of other tools.

pub mod check;
pub mod claims;
mod fingerprint;
mod home;
pub mod import;
mod link;
pub mod oauth;
pub mod refresh;
mod secret;
pub mod share;

pub use fingerprint::{Fingerprint, FingerprintKey};
pub use home::{HomeRecord, LoginHome, LoginProgram};
pub use link::{FormerCredential, FormerRole, Link, LinkMode, SETTLE, may_refresh};
pub use secret::Secret;

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
}

impl Credential {
    /// A credential that consists of one secret.
    #[must_use]
    pub fn new(kind: CredentialKind, access: Secret) -> Self {
        Self { kind, access, refresh: None, expires_at: None, client_id: None, accepted_at: None }
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
        }
    }
}
