//! Credentials: secrets that cannot be printed, OAuth, refreshing, and the logins of other tools.

mod fingerprint;
pub mod import;
mod link;
pub mod oauth;
pub mod refresh;
mod secret;
pub mod share;

pub use fingerprint::{Fingerprint, FingerprintKey};
pub use link::{Link, LinkMode, may_refresh};
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
}

impl Credential {
    /// A deliberate copy of the credential.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            kind: self.kind,
            access: self.access.duplicate(),
            refresh: self.refresh.as_ref().map(Secret::duplicate),
            expires_at: self.expires_at,
        }
    }
}
