//! The way to the upstreams. hyper's own client and not the one of `http.rs`, because that one writes URLs anew and adds
//! headers; here every byte of path and query goes out as it came in.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::http::{HttpError, Reach, tls};

use super::body::{BodyError, Sent};

/// A server that does not even accept the connection in this time counts as unreachable.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How often a connection that carries streams is tried, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// More headers are nobody's.
const MOST_HEADERS: usize = 256;

/// All clients there are, by how an upstream is reached.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<HashMap<(Reach, bool), Upstream>>);

/// The way to the upstreams that are reached alike. It keeps connections open.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    client: Client<HttpsConnector<Road>, Sent>,
    proxies: Arc<Proxies>,
}

/// A request came to no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// No connection can be made.
    #[error(transparent)]
    Setup(#[from] HttpError),
    /// It was lost, or never there.
    #[error("{}", in_full(.0))]
    Lost(#[from] Error),
}

impl Upstreams {
    /// The way to this URL.
    pub(super) async fn to(&self, reach: &Reach, uri: &Uri) -> Result<Upstream, Failed> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let key = (reach.clone(), secure);
        if let Some(known) = self.known().get(&key) {
            return Ok(known.clone());
        }
        let new = if secure {
            // the system's certificates are read from the disk
            let theirs = reach.clone();
            let made = tokio::task::spawn_blocking(move || tls(&theirs)).await;
            let tls = made.map_err(|error| HttpError::Failed(error.to_string()))??;
            Upstream::new(reach, tls)
        } else {
            Upstream::new(reach, no_tls()?)
        };
        Ok(self.known().entry(key).or_insert(new).clone())
    }

    /// Forgets all ways: certificates and proxies may be others now. What is on its way is not touched.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Reach, bool), Upstream>> {
        // it is only read and filled
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    fn new(reach: &Reach, tls: rustls::ClientConfig) -> Self {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(CONNECT));
        direct.set_keepalive(Some(PING));
        let proxies = Arc::new(Proxies {
            matcher: match &reach.proxy {
                Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
                None => Matcher::from_env(),
            },
            for_loopback: reach.proxy.is_some(),
        });
        let road = Road { direct, proxies: proxies.clone() };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(road);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_preserve_header_case(true)
            .http1_max_headers(MOST_HEADERS)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PONG)
            .build(connector);
        Self { client, proxies }
    }

    /// Sends a request; its URL is absolute.
    pub(super) async fn send(&self, mut request: Request<Sent>) -> Result<Response<Incoming>, Failed> {
        if request.uri().scheme() == Some(&Scheme::HTTP)
            && let Some(auth) = self.proxies.intercept(request.uri()).and_then(|proxy| proxy.basic_auth().cloned())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, auth);
        }
        Ok(self.client.request(request).await?)
    }
}

/// For upstreams without TLS: it trusts nobody.
fn no_tls() -> Result<rustls::ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| HttpError::Failed(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// An error and all that caused it, in one line.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Which proxy is meant for whom.
#[derive(Debug)]
struct Proxies {
    matcher: Matcher,
    /// Whether it was named for this provider: those of the environment are for the way out, not for this machine.
    for_loopback: bool,
}

impl Proxies {
    fn intercept(&self, to: &Uri) -> Option<Intercept> {
        let is_here = to.host().is_some_and(|host| {
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if is_here && !self.for_loopback { None } else { self.matcher.intercept(to) }
    }
}

/// Straight to a server, or through the proxy that is meant for it.
#[derive(Clone, Debug)]
pub(super) struct Road {
    direct: HttpConnector,
    proxies: Arc<Proxies>,
}

/// A connection by a road.
#[derive(Debug)]
pub(super) struct Traffic {
    stream: TokioIo<TcpStream>,
    /// The other end is a proxy that is told whole URLs.
    proxied: bool,
}

impl Service<Uri> for Road {
    type Response = Traffic;
    type Error = BodyError;
    type Future = Pin<Box<dyn Future<Output = Result<Traffic, BodyError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        let Some(proxy) = self.proxies.intercept(&to) else {
            return Box::pin(async move { Ok(Traffic { stream: direct.call(to).await?, proxied: false }) });
        };
        if to.scheme() == Some(&Scheme::HTTPS) {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(HeaderValue::clone(auth));
            }
            return Box::pin(async move { Ok(Traffic { stream: tunnel.call(to).await?, proxied: false }) });
        }
        let proxy = proxy.uri().clone();
        Box::pin(async move { Ok(Traffic { stream: direct.call(proxy).await?, proxied: true }) })
    }
}

impl Connection for Traffic {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().proxy(self.proxied)
    }
}

impl Read for Traffic {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl Write for Traffic {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
