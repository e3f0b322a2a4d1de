//! One refresh of a login.

use std::time::Duration;

use super::server::{AuthorizationServer, ServerError};
use super::token::{TokenError, TokenGrant};
use crate::credential::refresh::{RefreshFailure, RefreshFault};
use crate::credential::{Credential, Secret};
use crate::pool::{CredentialKind, Wall};

/// How a refresh ended.
#[derive(Debug)]
pub enum RefreshResult {
    /// A new credential, and the lifetime of its access token.
    New(Credential, Option<Duration>),
    /// The server rejected the refresh token; its error code.
    Rejected(String),
    /// The refresh failed; whether the server may have rotated the token nevertheless.
    Failed(RefreshFailure, TokenRotation),
}

/// Whether the server may have replaced the refresh token in a request that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenRotation {
    /// It has not: the request did not arrive, or was rejected.
    Excluded,
    /// It may have.
    Possible,
}

/// Refreshes a login. If the server returns no new refresh token, the old one stays.
pub async fn refresh(server: &AuthorizationServer, refresh: &Secret, now: Wall) -> RefreshResult {
    #[cfg(test)]
    if let Some(answer) = simulated::send(refresh, now) {
        return answer.await.unwrap_or_else(|_| failed(&TokenError::Lost("the connection was closed".to_owned())));
    }
    match server.tokens(&TokenGrant::Refresh(refresh)).await {
        Ok(tokens) => {
            // counted from the request: the server counts from a later time
            let expires_at = tokens.expires_at(now);
            let resource = server.settings().resource().map(str::to_owned);
            let refresh_from = resource.as_ref().and_then(|_| tokens.refresh_from(now));
            let refresh = tokens.refresh.unwrap_or_else(|| refresh.duplicate());
            let credential = Credential {
                refresh: Some(refresh),
                expires_at,
                client_id: Some(server.settings().client_id().to_owned()),
                accepted_at: Some(now),
                resource,
                refresh_from,
                ..Credential::new(CredentialKind::Oauth, tokens.access)
            };
            RefreshResult::New(credential, tokens.life)
        }
        Err(TokenError::Ended { code }) => RefreshResult::Rejected(code),
        Err(error) => failed(&error),
    }
}

impl RefreshResult {
    /// The failure when the server's description could not be read.
    #[must_use]
    pub fn of_server(error: &ServerError) -> Self {
        let fault = match error {
            ServerError::Unreachable { .. } => RefreshFault::Endpoint,
            ServerError::Wrong(_) => RefreshFault::Client,
        };
        Self::Failed(RefreshFailure { fault, why: error.to_string(), wait: None }, TokenRotation::Excluded)
    }
}

fn failed(error: &TokenError) -> RefreshResult {
    let (fault, wait) = match error {
        TokenError::Client(_) => (RefreshFault::Client, None),
        TokenError::ClientRefused { .. } => (RefreshFault::ClientRefused, None),
        TokenError::ClientUnknown { .. } => (RefreshFault::ClientUnknown, None),
        TokenError::TooMany(wait) => (RefreshFault::RateLimited, *wait),
        TokenError::Unwell { wait, .. } => (RefreshFault::Endpoint, *wait),
        TokenError::Unreachable(_) | TokenError::Lost(_) | TokenError::Unusable(_) => (RefreshFault::Endpoint, None),
        TokenError::Ended { .. } | TokenError::Refused { .. } => (RefreshFault::Account, None),
    };
    // a server that fails during the request may have rotated the token before
    let unknown = matches!(error, TokenError::Lost(_) | TokenError::Unusable(_) | TokenError::Unwell { .. });
    let sent = if unknown { TokenRotation::Possible } else { TokenRotation::Excluded };
    RefreshResult::Failed(RefreshFailure { fault, why: error.to_string(), wait }, sent)
}

/// A token endpoint that a simulation plays on its own thread.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::sync::oneshot::Receiver;

    use super::{RefreshResult, Secret, Wall};

    /// Takes a refresh token and the time; a closed receiver is a lost answer.
    pub(crate) type SimulatedEndpoint = Rc<dyn Fn(&Secret, Wall) -> Receiver<RefreshResult>>;

    thread_local! {
        static ENDPOINT: RefCell<Option<SimulatedEndpoint>> = const { RefCell::new(None) };
    }

    /// Sends the requests of this thread to `endpoint`.
    pub(crate) fn play(endpoint: SimulatedEndpoint) {
        ENDPOINT.with(|played| *played.borrow_mut() = Some(endpoint));
    }

    pub(super) fn send(refresh: &Secret, now: Wall) -> Option<Receiver<RefreshResult>> {
        let endpoint = ENDPOINT.with(|played| played.borrow().clone())?;
        Some(endpoint(refresh, now))
    }
}
