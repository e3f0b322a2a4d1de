//! One attempt: sends a request with one account's credential and judges the beginning of the response.

use std::time::Duration;

use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use tokio::time::timeout;

use super::upstream::UpstreamClients;
use crate::credential::Secret;
use crate::daemon::{LeasedAccount, UpstreamOutcome};
use crate::gateway::auth::{self, UpstreamCredential};
use crate::gateway::memory::PoolShare;
use crate::gateway::request::{BodyTooLarge, CannotSend, RequestParts};
use crate::gateway::response::{FirstBytes, IDLE_TIMEOUT, first_bytes};
use crate::limits::Headers;

/// How long the head of a response may take; agents that wait longer use streams.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1800);

pub(super) enum AttemptOutcome {
    /// A response for the client: its head, its first bytes, the rest.
    Response(Box<Parts>, Vec<Bytes>, Incoming),
    Refused(Box<UpstreamRefusal>),
    Failed(String),
    /// The request turned out to be too large while it was sent.
    TooLarge(String),
    /// There is no memory to change the request for this account.
    Overloaded(String),
}

impl AttemptOutcome {
    /// The status of the response, if there is one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Response(head, ..) => Some(head.status.as_u16()),
            Self::Refused(refused) => Some(refused.head.status.as_u16()),
            Self::Failed(_) | Self::TooLarge(_) | Self::Overloaded(_) => None,
        }
    }
}

/// A refusal, read as far as it matters, because the client may get it.
pub(super) struct UpstreamRefusal {
    pub(super) head: Parts,
    pub(super) first: Vec<Bytes>,
    pub(super) rest: Incoming,
    body: RefusalBody,
    /// The body is a document of which nothing is missing.
    is_complete: bool,
    /// For the memory of the body.
    _share: Option<PoolShare>,
}

enum RefusalBody {
    /// In the status or the document: the decoded text.
    Document(Vec<u8>),
    /// In an event of a stream: its name and data.
    Event(Option<String>, Vec<u8>),
}

impl UpstreamRefusal {
    /// The refusal as the daemon takes it; `headers` are those of the response.
    pub(super) fn report<'a>(&'a self, headers: &'a Headers) -> UpstreamOutcome<'a> {
        match &self.body {
            RefusalBody::Document(body) => {
                UpstreamOutcome::Response { status: self.head.status.as_u16(), headers, body }
            }
            RefusalBody::Event(name, data) => UpstreamOutcome::Event { headers, name: name.as_deref(), data },
        }
    }

    /// Whether other clients may get this refusal too: it is complete, and quotes nothing of the credential.
    pub(super) fn is_for_all(&self, secret: &Secret) -> bool {
        let RefusalBody::Document(text) = &self.body else { return false };
        self.is_complete && !quotes(text, secret.expose())
    }

    /// Whether its words quote the credential.
    pub(super) fn quotes(&self, secret: &Secret) -> bool {
        let (RefusalBody::Document(text) | RefusalBody::Event(_, text)) = &self.body;
        quotes(text, secret.expose())
    }
}

/// Whether a text quotes a credential: in whole, or as it is often masked, with its beginning or its end.
fn quotes(text: &[u8], secret: &str) -> bool {
    const BEGINNING: usize = 12;
    const END: usize = 4;
    let secret = secret.as_bytes();
    let has = |part: &[u8]| !part.is_empty() && memchr::memmem::find(text, part).is_some();
    if secret.len() < BEGINNING + END {
        return has(secret);
    }
    has(&secret[..BEGINNING]) || has(&secret[secret.len() - END..])
}

/// Sends a request with an account's credential.
///
/// # Errors
/// The reason why it cannot be sent at all, with any account.
pub(super) async fn send(
    upstreams: &UpstreamClients,
    request: &mut RequestParts,
    account: &LeasedAccount,
) -> Result<AttemptOutcome, String> {
    let provider = &request.route.provider;
    let credential = UpstreamCredential {
        provider,
        kind: account.kind,
        secret: &account.secret,
        vendor_id: account.vendor_id.as_deref(),
    };
    let invalid = |error: &dyn std::fmt::Display| format!("lessor: the request for {provider} is invalid: {error}");
    let (route, query) = (&request.route, request.query.as_deref());
    let uri = if account.is_direct { route.direct_uri(query) } else { route.uri(account.kind, query) };
    let uri = uri.map_err(|error| invalid(&error))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(host).map_err(|error| invalid(&error))?;
    let headers =
        auth::upstream_headers(&request.buffered.headers, &host, credential).map_err(|error| invalid(&error))?;
    let client = upstreams.client_for(&request.route.reach, &uri).await;
    let client = client.map_err(|error| format!("lessor: cannot reach {provider}: {error}"))?;
    let sent = match request.buffered.next_request(uri, headers, account.project.as_deref()) {
        Ok(sent) => sent,
        Err(error @ CannotSend::Again) => return Err(format!("lessor: {error}")),
        Err(error @ CannotSend::NoMemory) => return Ok(AttemptOutcome::Overloaded(format!("lessor: {error}"))),
    };
    Ok(match timeout(RESPONSE_TIMEOUT, client.send(sent)).await {
        Ok(Ok(response)) => judge(response, provider).await,
        Ok(Err(error)) if error.is_too_large() => AttemptOutcome::TooLarge(format!("lessor: {}", BodyTooLarge)),
        Ok(Err(error)) => AttemptOutcome::Failed(error.to_string()),
        Err(_) => AttemptOutcome::Failed(format!("no response within {} s", RESPONSE_TIMEOUT.as_secs())),
    })
}

async fn judge(response: Response<Incoming>, provider: &str) -> AttemptOutcome {
    let (head, mut rest) = response.into_parts();
    if head.status.is_redirection() || head.status.is_informational() {
        return AttemptOutcome::Response(Box::new(head), Vec::new(), rest);
    }
    let (body, first, is_complete, share) = if head.status.is_success() {
        match first_bytes::read(&head.headers, &mut rest, provider, IDLE_TIMEOUT).await {
            FirstBytes::Success(first) => return AttemptOutcome::Response(Box::new(head), first, rest),
            FirstBytes::ErrorEvent { name, data, first } => (RefusalBody::Event(name, data), first, false, None),
            FirstBytes::ErrorDocument(read) => {
                (RefusalBody::Document(read.decoded), read.first, false, Some(read.share))
            }
            FirstBytes::Broken(reason) => return AttemptOutcome::Failed(reason),
        }
    } else {
        let read = first_bytes::read_refusal(&head.headers, &mut rest).await;
        (RefusalBody::Document(read.decoded), read.first, read.is_complete, Some(read.share))
    };
    AttemptOutcome::Refused(Box::new(UpstreamRefusal { head, first, rest, body, is_complete, _share: share }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_quotes_a_credential_is_found() {
        let key = "sk-proj-AbCdEfGh0123456789wxyz";
        for text in [
            "Incorrect API key provided: sk-proj-AbCdEfGh0123456789wxyz.",
            "Incorrect API key provided: sk-proj-****************wxyz.",
            "token sk-proj-AbCd... has been revoked",
        ] {
            assert!(quotes(text.as_bytes(), key), "{text}");
        }
        for text in ["invalid x-api-key", "keys begin with sk-proj-", ""] {
            assert!(!quotes(text.as_bytes(), key), "{text}");
        }
        assert!(quotes(b"the key k-ab", "k-ab") && !quotes(b"ab", "k-ab"));
    }
}
