//! The response to a client: the gateway's own, or an upstream's on its way through.

mod body;
mod created_ids;
pub(super) mod first_bytes;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod observer;
mod sse;
mod token_usage;

pub(super) use body::ClientBody;
pub(super) use created_ids::created_ids;
pub(super) use first_bytes::FirstBytes;
pub(super) use observer::{ObservedRequest, ResponseObserver};
pub(super) use token_usage::UsageParser;

use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};

use super::auth;
use body::RelayedBody;

/// A response that sends nothing for this long is ended.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

pub(super) fn json(status: StatusCode, document: &serde_json::Value) -> Response<ClientBody> {
    text(status, "application/json", document.to_string())
}

pub(super) fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::Complete(Some(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The upstream's response, unchanged except for the headers of its connection.
pub(super) fn relay(
    head: Parts,
    first: Vec<Bytes>,
    rest: Incoming,
    observer: ResponseObserver,
) -> Response<ClientBody> {
    let Parts { status, headers, extensions, .. } = head;
    let body = RelayedBody::new(first, rest, IDLE_TIMEOUT, observer);
    let mut response = Response::new(ClientBody::Relayed(Box::new(body)));
    *response.status_mut() = status;
    // the reason phrase and the case of names, among others
    *response.extensions_mut() = extensions;
    *response.headers_mut() = without_hop_by_hop(headers);
    response
}

/// Headers without those of one connection.
pub(super) fn without_hop_by_hop(headers: HeaderMap) -> HeaderMap {
    // `Connection`, which can name more of them, is one itself
    if !headers.keys().any(|name| auth::is_hop_by_hop(name, &[])) {
        return headers;
    }
    let named = auth::named_by_connection(&headers);
    // removing some of them would change the order of the others
    let mut kept = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in &headers {
        if !auth::is_hop_by_hop(name, &named) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with("text/event-stream")
}
