//! What comes first: who may come in, and where a path leads.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri};
use serde_json::json;
use tokio::time::Instant;

use crate::daemon::{GatewayClient, GatewayConfig, GatewayHandle};
use crate::pool::ConnectionId;

use super::ask::{Asked, Room, Unread};
use super::body::Budget;
use super::connection::Way;
use super::ledger::{Entry, Ledger};
use super::metrics;
use super::refuse;
use super::relay::{Baggage, Journey};
use super::reply::{self, Body};
use super::route::{Astray, Route};
use super::swap;
use super::upstream::Upstreams;

/// Headers in which vendors' clients name their conversations.
const SESSIONS: [HeaderName; 5] = [
    HeaderName::from_static("x-claude-code-session-id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("session_id"),
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-session-affinity"),
];
/// A longer name of a conversation is none.
const LONGEST_SESSION: usize = 200;
/// A longer name of a model is none.
const LONGEST_MODEL: usize = 200;

/// The gateway, as every connection sees it.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) desk: GatewayHandle,
    pub(super) upstreams: Upstreams,
    pub(super) ledger: Arc<Ledger>,
    config: RwLock<Arc<GatewayConfig>>,
    budget: Arc<Budget>,
    connections: AtomicU64,
}

/// A client.
#[derive(Debug)]
pub(super) struct Guest {
    way: Way,
    connection: ConnectionId,
}

impl Front {
    pub(super) fn new(desk: GatewayHandle) -> Arc<Self> {
        let config = RwLock::new(Arc::new(desk.config()));
        let (upstreams, ledger, budget) = (Upstreams::default(), Arc::default(), Arc::default());
        Arc::new(Self { desk, upstreams, ledger, config, budget, connections: AtomicU64::new(0) })
    }

    /// Lets what the configuration says now hold from now on.
    pub(super) fn configure(&self) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.desk.config());
        self.upstreams.forget();
    }

    fn config(&self) -> Arc<GatewayConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that has come in.
    pub(super) fn welcome(&self, way: Way) -> Arc<Guest> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        Arc::new(Guest { way, connection: self.desk.connection(number) })
    }

    /// Answers a request.
    pub(super) async fn answer(self: &Arc<Self>, guest: &Guest, request: Request<Incoming>) -> Response<Body> {
        #[expect(clippy::disallowed_methods, reason = "tokio's own clock, to measure by")]
        let asked_at = Instant::now();
        let (head, body) = request.into_parts();
        let config = self.config();
        if let Some(why) = foreign(guest.way, &head.uri, &head.headers, config.gateway.allow_remote) {
            return refuse::error("", StatusCode::FORBIDDEN, why);
        }
        let path = head.uri.path();
        if path == "/healthz" {
            return reply::json(StatusCode::OK, &json!({ "ok": true }));
        }
        let provider = path.split('/').nth(1).unwrap_or_default();
        if wants_websocket(&head.headers) {
            return no_websocket(provider);
        }
        let Some(visitor) = self.visitor(guest.way, &head) else { return self.stranger(provider) };
        if path == "/metrics" {
            return metrics::told(&self.desk, &self.ledger);
        }
        let route = match Route::find(&config, path) {
            Ok(route) => route,
            Err(astray) => return lost(provider, &astray),
        };
        let entry = Entry {
            provider: route.provider.clone(),
            model: String::new(),
            agent: visitor.agent.as_deref().unwrap_or_default().to_owned(),
            directory: visitor.directory.as_deref().unwrap_or_default().to_owned(),
            asked_at,
        };
        self.relay(guest, &visitor, route, entry, head, body, &config).await
    }

    #[expect(clippy::too_many_arguments, reason = "all that a request is, once")]
    async fn relay(
        self: &Arc<Self>,
        guest: &Guest,
        visitor: &GatewayClient,
        route: Route,
        mut entry: Entry,
        head: Parts,
        body: Incoming,
        config: &GatewayConfig,
    ) -> Response<Body> {
        let gateway = &config.gateway;
        let room = Room { budget: self.budget.clone(), max_body: gateway.max_body, total: gateway.buffer_total };
        let query = swap::without_key(head.uri.query());
        let mut session = session(&head.headers);
        let pool = pool_of(&route, &head.headers);
        let session_in_body = session.is_none() && route.provider == "openai";
        let mut asked = match Asked::read(head, body, &room, session_in_body).await {
            Ok(asked) => asked,
            Err(Unread::TooLarge) => {
                let message = format!("lessor: the request is larger than gateway.max_body ({} bytes)", room.max_body);
                return refuse::error(&route.provider, StatusCode::PAYLOAD_TOO_LARGE, &message);
            }
            Err(Unread::Stalled) => {
                return refuse::error(&route.provider, StatusCode::REQUEST_TIMEOUT, "lessor: the request broke off");
            }
        };
        session = session.or_else(|| asked.session.take().filter(|session| session.len() <= LONGEST_SESSION));
        let model = route.model().map(str::to_owned).or_else(|| asked.model.take());
        let model = model.filter(|model| model.len() <= LONGEST_MODEL);
        if let Some(name) = model.as_deref().filter(|model| route.provider == "google" && is_our_name(model)) {
            let message = format!(
                "lessor: {name:?} is a name for `lessor run -m`; here the model goes by the name that its provider gives it"
            );
            return refuse::error(&route.provider, StatusCode::BAD_REQUEST, &message);
        }
        entry.model = model.clone().unwrap_or_default();
        let pool = pool.filter(|_| !model.as_deref().is_some_and(|model| model.contains("claude")));
        let baggage = Baggage { route, query, asked, model, pool, session, entry };
        Journey::new(self, visitor, guest.connection, baggage, config.max_attempts).go().await
    }

    /// Who asks, by a key in any of its places; over the user's own socket none is needed.
    fn visitor(&self, way: Way, head: &Parts) -> Option<GatewayClient> {
        let mut keys = swap::presented(&head.headers, head.uri.query());
        let by_key = keys.find_map(|key| self.desk.visitor(key));
        by_key.or_else(|| (way == Way::Local).then(|| self.desk.local_visitor()))
    }

    /// For whoever has no key, or a wrong one; nothing is said of which.
    pub(super) fn stranger(&self, provider: &str) -> Response<Body> {
        let message = "lessor: a key of this gateway is needed: `lessor gateway key` makes one";
        refuse::error(provider, StatusCode::UNAUTHORIZED, message)
    }
}

/// Why a request is none of the user's own programs: a web page may have sent it.
fn foreign(way: Way, uri: &Uri, headers: &HeaderMap, remote: bool) -> Option<&'static str> {
    if headers.contains_key(ORIGIN) {
        return Some("lessor: no web page may ask this");
    }
    if way == Way::Local {
        return None;
    }
    let named = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut named: Vec<&str> = named.chain(uri.authority().map(|authority| authority.as_str())).collect();
    named.dedup();
    let is_ours = !named.is_empty() && named.iter().all(|host| is_ours(host, remote));
    (!is_ours).then_some("lessor: this is not the host that was asked for")
}

/// Whether a host's name can only mean this machine: a name could be anybody's, by a trick with DNS.
fn is_ours(host: &str, remote: bool) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|ip| remote || ip.is_loopback())
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let wants =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("websocket"));
    headers.get_all(UPGRADE).iter().any(wants)
}

/// Its turns could not be asked again of another account.
fn no_websocket(provider: &str) -> Response<Body> {
    let message = "lessor: no WebSocket here: ask over HTTP";
    let mut response = refuse::error(provider, StatusCode::UPGRADE_REQUIRED, message);
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

fn lost(provider: &str, astray: &Astray) -> Response<Body> {
    let message = match astray {
        Astray::Provider => {
            format!("lessor: there is no provider {provider:?}; paths begin with one, as in /anthropic/v1/messages")
        }
        Astray::NoBase(provider) => {
            format!("lessor: where {provider} is, is not configured: providers.{provider}.base_url")
        }
    };
    refuse::error(provider, StatusCode::NOT_FOUND, &message)
}

/// The conversation that a vendor's client names.
fn session(headers: &HeaderMap) -> Option<String> {
    let named = SESSIONS.iter().find_map(|name| headers.get(name)?.to_str().ok());
    named.filter(|name| !name.is_empty() && name.len() <= LONGEST_SESSION).map(str::to_owned)
}

/// The quota that a Code Assist request is counted against: that depends on the program that asks.
fn pool_of(route: &Route, headers: &HeaderMap) -> Option<&'static str> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    if route.provider != "google" || !route.path.starts_with("/v1internal") {
        return None;
    }
    if agent.starts_with("GeminiCLI") {
        Some("gemini-cli")
    } else {
        agent.to_ascii_lowercase().contains("antigravity").then_some("antigravity")
    }
}

/// Names that choose a quota, and mean nothing to the provider.
fn is_our_name(model: &str) -> bool {
    model.starts_with("antigravity-") || model.ends_with(":antigravity") || model.ends_with(":gemini-cli")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_anybody_else_s_are_ours() {
        for (host, remote, expected) in [
            ("127.0.0.1:80", false, true),
            ("localhost", false, true),
            ("LocalHost:1", false, true),
            ("[::1]:80", false, true),
            ("[::1]", false, true),
            ("127.0.0.2", false, true),
            ("192.168.0.1:80", false, false),
            ("192.168.0.1:80", true, true),
            ("evil.example", false, false),
            ("evil.example", true, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost.evil.example:80", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_ours(host, remote), expected, "{host} {remote}");
        }
    }

    #[test]
    fn names_of_ours_are_known() {
        for name in ["antigravity-gemini-3-flash", "gemini-3-flash:antigravity", "gemini-3-flash:gemini-cli"] {
            assert!(is_our_name(name));
        }
        assert!(!is_our_name("gemini-3-pro") && !is_our_name("gemini-3-pro:free"));
    }
}
