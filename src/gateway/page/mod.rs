//! The page of the gateway, `/ui`: what a browser shows of accounts, leases, queue, requests and events. It is opened by
//! `lessor ui` with a code, which it exchanges for the key of a session; every call sends that key in a header. The page
//! makes the calls of the socket and gets the same answers; it computes no number that another command has.
//!
//! Its requests are no agents' requests: they are not recorded, count as no request, and get no account.

mod api;
mod assets;
mod event_stream;
mod origin;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::json;
use tokio::sync::Semaphore;

use super::admission::ConnectionWatch;
use super::request::access;
use super::response::{self, ClientBody};
use crate::daemon::{GatewayHandle, GatewayPeer};
use crate::pool::ConnectionId;

/// Nothing from elsewhere is loaded or run, and no other page may show this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// The most streams of events at a time, over all pages.
const MOST_STREAMS: usize = 16;
/// The most other requests of pages at a time.
const MOST_REQUESTS: usize = 64;

/// Serves the page.
#[derive(Debug)]
pub(super) struct PageService {
    handle: GatewayHandle,
    requests: AtomicUsize,
    streams: Arc<Semaphore>,
}

/// The connection that a request for the page comes on.
pub(super) struct PageConnection<'a> {
    pub(super) id: ConnectionId,
    /// The program at its other end.
    pub(super) peer: &'a GatewayPeer,
    /// Its place and its times.
    pub(super) watch: &'a ConnectionWatch,
}

/// Why a request for the page is refused.
struct PageRefusal {
    status: StatusCode,
    message: String,
    /// The header `allow` or `retry-after`.
    header: Option<(HeaderName, HeaderValue)>,
}

type PageResult = Result<Response<ClientBody>, PageRefusal>;

impl PageRefusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    /// Too much of something; `seconds` later it may be tried again.
    fn too_many(message: &str, seconds: u64) -> Self {
        Self { header: Some((RETRY_AFTER, seconds.into())), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    fn method(allowed: &'static str) -> Self {
        let message = format!("only {allowed} is served here");
        let header = Some((ALLOW, HeaderValue::from_static(allowed)));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }
}

/// Whether a path belongs to the page.
pub(super) fn is_page(path: &str) -> bool {
    path.strip_prefix("/ui").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl PageService {
    pub(super) fn new(handle: GatewayHandle) -> Self {
        Self { handle, requests: AtomicUsize::new(0), streams: Arc::new(Semaphore::new(MOST_STREAMS)) }
    }

    /// Answers a request whose path belongs to the page.
    pub(super) async fn respond(
        &self,
        connection: &PageConnection<'_>,
        (head, body): (Parts, Incoming),
        allow_remote: bool,
    ) -> Response<ClientBody> {
        let answer = match CountedRequest::begin(&self.requests) {
            Some(_counted) => self.answer(connection, &head, body, allow_remote).await,
            None => Err(PageRefusal::too_many("too many requests of pages are under way", 1)),
        };
        let mut response = answer.unwrap_or_else(|refusal| {
            let mut response = response::json(refusal.status, &json!({ "error": { "message": refusal.message } }));
            if let Some((name, value)) = refusal.header {
                response.headers_mut().insert(name, value);
            }
            response
        });
        protect(response.headers_mut());
        response
    }

    async fn answer(
        &self,
        connection: &PageConnection<'_>,
        head: &Parts,
        body: Incoming,
        allow_remote: bool,
    ) -> PageResult {
        // also over the Unix socket, which a tunnel may lead to
        let checked = access::check_address(&head.uri, &head.headers, allow_remote);
        checked.map_err(|(status, message)| PageRefusal::new(status, message))?;
        let path = head.uri.path();
        let is_document = matches!(path, "/ui" | "/ui/");
        origin::check(&head.headers, is_document).map_err(|why| PageRefusal::new(StatusCode::FORBIDDEN, why))?;
        if let Some(name) = path.strip_prefix("/ui/api/") {
            return self.call(connection, head, body, name).await;
        }
        let name = if is_document { "index.html" } else { path.strip_prefix("/ui/").unwrap_or_default() };
        let (content_type, text) =
            assets::find(name).ok_or_else(|| PageRefusal::new(StatusCode::NOT_FOUND, "there is no such file"))?;
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(PageRefusal::method("GET, HEAD"));
        }
        Ok(response::text(StatusCode::OK, content_type, text.to_owned()))
    }
}

/// Counts a request while it is answered.
struct CountedRequest<'a>(&'a AtomicUsize);

impl<'a> CountedRequest<'a> {
    fn begin(requests: &'a AtomicUsize) -> Option<Self> {
        let counted = Self(requests);
        (requests.fetch_add(1, Ordering::Relaxed) < MOST_REQUESTS).then_some(counted)
    }
}

impl Drop for CountedRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds what keeps other pages, caches and the browser's guesses out.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-store"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
        (PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// How long the body of a call may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_segment_ui_is_the_page() {
        for (path, expected) in [
            ("/ui", true),
            ("/ui/", true),
            ("/ui/api/call", true),
            ("/uix", false),
            ("/UI", false),
            ("/", false),
            ("/x/ui", false),
            ("ui", false),
        ] {
            assert_eq!(is_page(path), expected, "{path}");
        }
    }
}
