//! One refresh.

use std::time::Duration;

use crate::credential::refresh::{Failure, Fault};
use crate::credential::{Credential, Secret};
use crate::pool::{CredentialKind, Wall};

use super::server::{Server, ServerError};
use super::token::{Grant, TokenError};

/// How a refresh ended.
#[derive(Debug)]
pub enum Refreshed {
    /// A new credential, and how long its token lives.
    New(Credential, Option<Duration>),
    /// The server does not honour the refresh token any more; its word.
    Over(String),
    /// None; whether the server may have rotated the token all the same.
    Failed(Failure, Sent),
}

/// What the server has seen of a request that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Nothing, or it has refused.
    Known,
    /// Nobody knows.
    Unknown,
}

/// Renews a login. What the server keeps is kept: not every one gives a new refresh token.
pub async fn refresh(server: &Server, refresh: &Secret, now: Wall) -> Refreshed {
    match server.tokens(&Grant::Refresh(refresh)).await {
        Ok(tokens) => {
            // counted from the question: the server has counted from some time after it
            let expires_at = tokens.life.map(|life| now.after(life));
            let refresh = tokens.refresh.unwrap_or_else(|| refresh.duplicate());
            let credential =
                Credential { kind: CredentialKind::Oauth, access: tokens.access, refresh: Some(refresh), expires_at };
            Refreshed::New(credential, tokens.life)
        }
        Err(TokenError::Ended { code }) => Refreshed::Over(code),
        Err(error) => failed(&error),
    }
}

impl Refreshed {
    /// The server could not even be found.
    #[must_use]
    pub fn of_server(error: &ServerError) -> Self {
        let fault = match error {
            ServerError::Unreachable { .. } => Fault::Endpoint,
            ServerError::Wrong(_) => Fault::Client,
        };
        Self::Failed(Failure { fault, why: error.to_string(), wait: None }, Sent::Known)
    }
}

fn failed(error: &TokenError) -> Refreshed {
    let (fault, wait) = match error {
        TokenError::Client(_) => (Fault::Client, None),
        TokenError::TooMany(wait) => (Fault::TooMany, *wait),
        TokenError::Unwell { wait, .. } => (Fault::Endpoint, *wait),
        TokenError::Unreachable(_) | TokenError::Lost(_) => (Fault::Endpoint, None),
        TokenError::Ended { .. } | TokenError::Refused { .. } => (Fault::Account, None),
    };
    // a server that fails in the middle may have rotated before it did
    let unknown = matches!(error, TokenError::Lost(_) | TokenError::Unwell { .. });
    let sent = if unknown { Sent::Unknown } else { Sent::Known };
    Refreshed::Failed(Failure { fault, why: error.to_string(), wait }, sent)
}
