//! One attempt: sends a request with one account's credential and judges the beginning of the response.

use std::time::Duration;

use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use tokio::time::timeout;

use super::auth::{self, UpstreamCredential};
use super::request::{BodyTooLarge, RequestParts};
use super::response::{FirstBytes, IDLE_TIMEOUT, first_bytes};
use super::upstream::UpstreamClients;
use crate::daemon::{LeasedAccount, UpstreamOutcome};
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
}

/// A refusal, complete, because the client may get it.
pub(super) struct UpstreamRefusal {
    pub(super) head: Parts,
    pub(super) first: Vec<Bytes>,
    pub(super) rest: Incoming,
    body: RefusalBody,
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
    let uri = request.route.uri(account.kind, request.query.as_deref()).map_err(|error| invalid(&error))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(host).map_err(|error| invalid(&error))?;
    let headers =
        auth::upstream_headers(&request.buffered.headers, &host, credential).map_err(|error| invalid(&error))?;
    let client = upstreams.client_for(&request.route.reach, &uri).await;
    let client = client.map_err(|error| format!("lessor: cannot reach {provider}: {error}"))?;
    let Some(sent) = request.buffered.next_request(uri, headers, account.project.as_deref()) else {
        return Err("lessor: the request is too large to be sent again".to_owned());
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
    let (body, first) = if head.status.is_success() {
        match first_bytes::read(&head.headers, &mut rest, provider, IDLE_TIMEOUT).await {
            FirstBytes::Success(first) => return AttemptOutcome::Response(Box::new(head), first, rest),
            FirstBytes::ErrorEvent { name, data, first } => (RefusalBody::Event(name, data), first),
            FirstBytes::ErrorDocument { text, first } => (RefusalBody::Document(text), first),
            FirstBytes::Broken(reason) => return AttemptOutcome::Failed(reason),
        }
    } else {
        let (text, first) = first_bytes::read_refusal(&head.headers, &mut rest).await;
        (RefusalBody::Document(text), first)
    };
    AttemptOutcome::Refused(Box::new(UpstreamRefusal { head, first, rest, body }))
}
