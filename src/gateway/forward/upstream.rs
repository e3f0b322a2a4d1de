//! Clients for upstreams. They use hyper's connections and not that of `http.rs`, which normalises URLs and adds headers;
//! here every byte of path and query is sent as it was received.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnectorBuilder;

use super::connections::{ConnectionError, KeptConnections};
use super::proxy::{ProxyConnector, ProxyRules};
use crate::gateway::request::{BodyTooLarge, UpstreamBody};
use crate::http::{ConnectOptions, HttpError, tls};

/// What connections are used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum ConnectionUse {
    Requests,
    /// Each becomes a WebSocket: it speaks HTTP/1.1 first, and no proxy reads it.
    Upgrades,
}

/// All clients: few, so that they are looked up one after the other.
#[derive(Debug, Default)]
pub(in crate::gateway) struct UpstreamClients(Mutex<Vec<ReachedUpstreams>>);

/// The upstreams that are reached the same way.
#[derive(Debug)]
struct ReachedUpstreams {
    reach: ConnectOptions,
    proxies: Arc<ProxyRules>,
    /// Whether with TLS, and what for.
    clients: Vec<((bool, ConnectionUse), Arc<UpstreamClient>)>,
}

/// A client for all upstreams that are reached the same way. It keeps connections open.
#[derive(Debug)]
pub(in crate::gateway) struct UpstreamClient {
    connections: KeptConnections,
    proxies: Arc<ProxyRules>,
    used_for: ConnectionUse,
}

#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum UpstreamError {
    /// TLS or the proxy is not set up correctly.
    #[error(transparent)]
    Setup(#[from] HttpError),
    /// The connection failed or was lost.
    #[error("{}", with_causes(.0))]
    Connection(#[from] ConnectionError),
}

impl UpstreamError {
    /// Whether the request was not sent in full because it is too large.
    pub(in crate::gateway) fn is_too_large(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.is::<BodyTooLarge>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl UpstreamClients {
    pub(in crate::gateway) async fn client_for(
        &self,
        reach: &ConnectOptions,
        uri: &Uri,
        used_for: ConnectionUse,
    ) -> Result<Arc<UpstreamClient>, UpstreamError> {
        let is_secure = |uri: &Uri| uri.scheme() == Some(&Scheme::HTTPS);
        let (proxies, key) = {
            let known = &mut *self.known();
            let reached = ReachedUpstreams::of(known, reach);
            let is_secure =
                is_secure(uri) || reached.proxies.intercept(uri).is_some_and(|proxy| is_secure(proxy.uri()));
            let key = (is_secure, used_for);
            if let Some((_, client)) = reached.clients.iter().find(|(of, _)| *of == key) {
                return Ok(client.clone());
            }
            (reached.proxies.clone(), key)
        };
        let tls = if key.0 {
            // reads the system's certificates from the disk
            let of = reach.clone();
            let loaded = tokio::task::spawn_blocking(move || tls(&of)).await;
            loaded.map_err(|error| HttpError::Tls(error.to_string()))??
        } else {
            no_tls()?
        };
        let new = Arc::new(UpstreamClient::new(proxies, tls, used_for));
        let known = &mut *self.known();
        let reached = ReachedUpstreams::of(known, reach);
        // of two at once, the first one is used
        if let Some((_, client)) = reached.clients.iter().find(|(of, _)| *of == key) {
            return Ok(client.clone());
        }
        reached.clients.push((key, new.clone()));
        Ok(new)
    }

    /// Drops all clients, because certificates and proxies may have changed. Requests in flight go on.
    pub(in crate::gateway) fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<ReachedUpstreams>> {
        // a panic cannot leave the list in an invalid state
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReachedUpstreams {
    /// Those that are reached so, among the known ones.
    fn of<'k>(known: &'k mut Vec<Self>, reach: &ConnectOptions) -> &'k mut Self {
        let at = known.iter().position(|of| of.reach == *reach).unwrap_or_else(|| {
            // the environment is read once for each way to reach upstreams, and again after a reload
            let proxies = Arc::new(ProxyRules::of(reach));
            known.push(Self { reach: reach.clone(), proxies, clients: Vec::new() });
            known.len() - 1
        });
        &mut known[at]
    }
}

impl UpstreamClient {
    fn new(proxies: Arc<ProxyRules>, tls: rustls::ClientConfig, used_for: ConnectionUse) -> Self {
        let may_be_read = used_for == ConnectionUse::Requests;
        let connector = ProxyConnector::new(proxies.clone(), tls.clone(), may_be_read);
        let http1 = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = match used_for {
            ConnectionUse::Requests => http1.enable_http2().wrap_connector(connector),
            ConnectionUse::Upgrades => http1.wrap_connector(connector),
        };
        Self { connections: KeptConnections::new(connector), proxies, used_for }
    }

    /// Sends a request; its URL is absolute.
    pub(in crate::gateway) async fn send(
        &self,
        mut request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        if self.used_for == ConnectionUse::Requests
            && request.uri().scheme() == Some(&Scheme::HTTP)
            && let Some(auth) = self.proxies.intercept(request.uri()).and_then(|proxy| proxy.basic_auth().cloned())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, auth);
        }
        Ok(self.connections.send(request).await?)
    }
}

/// The configuration for upstreams without TLS: it trusts no certificate.
fn no_tls() -> Result<rustls::ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| HttpError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn with_causes(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
