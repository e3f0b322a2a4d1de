//! One attempt: sends a request with one account's credential and judges the beginning of the response.

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::http::{Extensions, response::Parts};
use hyper::{Request, Response, Uri};
use tokio::time::timeout;

use super::upstream::{ConnectionUse, UpstreamClients};
use crate::credential::Secret;
use crate::daemon::{LeasedAccount, UpstreamOutcome};
use crate::gateway::auth::{self, UpstreamCredential};
use crate::gateway::memory::PoolShare;
use crate::gateway::request::{BodyTooLarge, CannotSend, RequestParts, UpstreamBody};
use crate::gateway::response::{FirstBytes, IDLE_TIMEOUT, first_bytes};
use crate::gateway::route::UpstreamRoute;
use crate::limits::Headers;

/// How long the head of a response may take; agents that wait longer use streams.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long the response to the opening of a WebSocket may take: no model is asked.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a request reaches the upstream of an account.
pub(in crate::gateway) trait UpstreamTransport {
    /// What is left of a response after its first bytes.
    type Rest: Send;

    /// Whether the request can go to this account as it is; if not, its client must send it in another form.
    fn can_send_to(&self, _account: &LeasedAccount) -> bool {
        true
    }

    /// Whether a refusal can lead to another attempt.
    fn can_send_again(&self) -> bool {
        true
    }

    /// Sends the request with the account's credential.
    ///
    /// # Errors
    /// The reason why it cannot be sent at all, with any account.
    fn send(
        &mut self,
        upstreams: &UpstreamClients,
        request: &mut RequestParts,
        account: &LeasedAccount,
    ) -> impl Future<Output = Result<AttemptOutcome<Self::Rest>, String>> + Send;
}

/// Requests and responses over HTTP.
pub(super) struct HttpTransport;

impl UpstreamTransport for HttpTransport {
    type Rest = Incoming;

    async fn send(
        &mut self,
        upstreams: &UpstreamClients,
        request: &mut RequestParts,
        account: &LeasedAccount,
    ) -> Result<AttemptOutcome<Incoming>, String> {
        send(upstreams, request, account).await
    }
}

pub(in crate::gateway) enum AttemptOutcome<R> {
    /// A response for the client: its head, its first bytes, the rest.
    Response(Box<Parts>, Vec<Bytes>, R),
    Refused(Box<UpstreamRefusal<R>>),
    Failed(String),
    /// The connection that alone can serve the request has ended.
    Disconnected,
    /// The request turned out to be too large while it was sent.
    TooLarge(String),
    /// There is no memory to change the request for this account.
    Overloaded(String),
}

impl<R> AttemptOutcome<R> {
    /// The status of the response, if there is one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Response(head, ..) => Some(head.status.as_u16()),
            Self::Refused(refused) => Some(refused.head.status.as_u16()),
            Self::Failed(_) | Self::Disconnected | Self::TooLarge(_) | Self::Overloaded(_) => None,
        }
    }
}

/// A refusal, read as far as it matters, because the client may get it.
pub(in crate::gateway) struct UpstreamRefusal<R> {
    pub(in crate::gateway) head: Parts,
    pub(in crate::gateway) first: Vec<Bytes>,
    pub(super) rest: R,
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

impl<R> UpstreamRefusal<R> {
    /// In an event, which is the last of `first`.
    pub(in crate::gateway) fn of_event(head: Parts, first: Vec<Bytes>, data: Vec<u8>, rest: R) -> Self {
        let body = RefusalBody::Event(None, data);
        Self { head, first, rest, body, is_complete: false, _share: None }
    }

    /// The same refusal of a response whose rest is of no use.
    pub(in crate::gateway) fn without_rest(self) -> UpstreamRefusal<()> {
        let Self { head, first, body, is_complete, _share, .. } = self;
        UpstreamRefusal { head, first, rest: (), body, is_complete, _share }
    }

    /// The decoded text, if it is in the status or the document.
    pub(in crate::gateway) fn document(&self) -> Option<&[u8]> {
        if let RefusalBody::Document(text) = &self.body { Some(text) } else { None }
    }

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

/// The URL of a request at an account, and its headers with the account's credential.
fn addressed(route: &UpstreamRoute, headers: &HeaderMap, account: &LeasedAccount) -> Result<(Uri, HeaderMap), String> {
    let provider = &route.provider;
    let credential = UpstreamCredential {
        provider,
        kind: account.kind,
        secret: &account.secret,
        vendor_id: account.vendor_id.as_deref(),
    };
    let invalid = |error: &dyn std::fmt::Display| format!("lessor: the request for {provider} is invalid: {error}");
    let address = route.address(account.kind, account.is_direct).map_err(|error| invalid(&error))?;
    let headers = auth::upstream_headers(headers, &address.host, credential).map_err(|error| invalid(&error))?;
    Ok((address.uri.clone(), headers))
}

/// What opens a WebSocket: the same for every account, but for its credential.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct UpgradeRequest {
    pub(in crate::gateway) route: Arc<UpstreamRoute>,
    /// Those of the client; its extensions and subprotocols are not among them.
    pub(in crate::gateway) headers: HeaderMap,
    /// The case of the headers' names, among others.
    pub(in crate::gateway) extensions: Extensions,
}

impl UpgradeRequest {
    /// Opens a WebSocket with an account's credential; a response with status 101 has the connection among its
    /// extensions.
    ///
    /// # Errors
    /// The reason why it cannot be sent at all, with any account.
    pub(in crate::gateway) async fn send(
        &self,
        upstreams: &UpstreamClients,
        account: &LeasedAccount,
    ) -> Result<AttemptOutcome<Incoming>, String> {
        let Self { route, headers, extensions } = self;
        let (uri, mut headers) = addressed(route, headers, account)?;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let client = upstreams.client_for(&route.reach, &uri, ConnectionUse::Upgrades).await;
        let client = client.map_err(|error| format!("lessor: cannot reach {}: {error}", route.provider))?;
        let mut sent = Request::new(UpstreamBody::none());
        *sent.uri_mut() = uri;
        *sent.headers_mut() = headers;
        *sent.extensions_mut() = extensions.clone();
        Ok(match timeout(UPGRADE_TIMEOUT, client.send(sent)).await {
            Ok(Ok(response)) => judge(response, &route.provider).await,
            Ok(Err(error)) => AttemptOutcome::Failed(error.to_string()),
            Err(_) => AttemptOutcome::Failed(format!("no response within {} s", UPGRADE_TIMEOUT.as_secs())),
        })
    }
}

/// Sends a request with an account's credential.
///
/// # Errors
/// The reason why it cannot be sent at all, with any account.
async fn send(
    upstreams: &UpstreamClients,
    request: &mut RequestParts,
    account: &LeasedAccount,
) -> Result<AttemptOutcome<Incoming>, String> {
    let route = &request.route;
    let provider = &route.provider;
    let (uri, headers) = addressed(route, &request.buffered.headers, account)?;
    let client = upstreams.client_for(&route.reach, &uri, ConnectionUse::Requests).await;
    let client = client.map_err(|error| format!("lessor: cannot reach {provider}: {error}"))?;
    let sent = match request.buffered.next_request(uri, headers, account.project.as_deref()) {
        Ok(sent) => sent,
        Err(error @ CannotSend::Again) => return Err(format!("lessor: {error}")),
        Err(error @ CannotSend::NoMemory) => return Ok(AttemptOutcome::Overloaded(format!("lessor: {error}"))),
    };
    // pinned here, so that it is not moved again
    Ok(match timeout(RESPONSE_TIMEOUT, pin!(client.send(sent))).await {
        Ok(Ok(response)) => judge(response, provider).await,
        Ok(Err(error)) if error.is_too_large() => AttemptOutcome::TooLarge(format!("lessor: {}", BodyTooLarge)),
        Ok(Err(error)) => AttemptOutcome::Failed(error.to_string()),
        Err(_) => AttemptOutcome::Failed(format!("no response within {} s", RESPONSE_TIMEOUT.as_secs())),
    })
}

async fn judge(response: Response<Incoming>, provider: &str) -> AttemptOutcome<Incoming> {
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
