//! Connections to upstreams. They use hyper's client and not that of `http.rs`, which normalises URLs and adds headers;
//! here every byte of path and query is sent as it was received.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{future::Future, io, net::IpAddr, pin::Pin, time::Duration};

use hyper::body::Incoming;
use hyper::header::{HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::gateway::BodyError;
use crate::gateway::request::{BodyTooLarge, UpstreamBody};
use crate::http::{ConnectOptions, HttpError, tls};

/// A server that does not accept the connection within this time is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const POOL_IDLE: Duration = Duration::from_secs(90);
/// How many of them are kept for one upstream: each takes some 40 KiB, and many streams at once leave as many behind.
const MOST_IDLE: usize = 32;
/// How often an HTTP/2 connection is pinged, and how long the reply may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes that are read ahead of a response, or waiting to be sent, and thereby the longest head.
const READ_BUFFER: usize = 128 * 1024;
/// How much of one HTTP/2 response may wait for its client, and of all responses on a connection: a client that does not
/// read must not stop the others.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 16 << 20;

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
    client: Client<HttpsConnector<ProxyConnector>, UpstreamBody>,
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
    Connection(#[from] Error),
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
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(CONNECT_TIMEOUT));
        direct.set_keepalive(Some(PING_INTERVAL));
        let to_proxy = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let to_proxy = to_proxy.enable_http1().wrap_connector(direct.clone());
        let connector = ProxyConnector { direct, to_proxy, proxies: proxies.clone(), used_for };
        let http1 = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = match used_for {
            ConnectionUse::Requests => http1.enable_http2().wrap_connector(connector),
            ConnectionUse::Upgrades => http1.wrap_connector(connector),
        };
        // a response with more headers than hyper's 100 is rejected: with a limit of our own it would allocate 16 KiB for each
        // head
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_preserve_header_case(true)
            .http1_max_buf_size(READ_BUFFER)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_send_buf_size(READ_BUFFER)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        Self { client, proxies, used_for }
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
        Ok(self.client.request(request).await?)
    }
}

/// The configuration for upstreams without TLS: it trusts no certificate.
fn no_tls() -> Result<rustls::ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| HttpError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[derive(Debug)]
struct ProxyRules {
    matcher: Matcher,
    /// Whether the proxy also applies to this machine: one that is configured for the provider does, those of the
    /// environment do not.
    for_loopback: bool,
}

impl ProxyRules {
    fn of(reach: &ConnectOptions) -> Self {
        let matcher = match &reach.proxy {
            Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { matcher, for_loopback: reach.proxy.is_some() }
    }

    fn intercept(&self, to: &Uri) -> Option<Intercept> {
        let is_loopback = to.host().is_some_and(|host| {
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if is_loopback && !self.for_loopback { None } else { self.matcher.intercept(to) }
    }
}

#[derive(Clone, Debug)]
pub(in crate::gateway) struct ProxyConnector {
    direct: HttpConnector,
    /// To an HTTP proxy, which may be reached with TLS.
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Arc<ProxyRules>,
    used_for: ConnectionUse,
}

/// A connection, possibly through a proxy.
#[derive(Debug)]
pub(in crate::gateway) struct ProxiedStream {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// The other end is a proxy that expects absolute URLs.
    proxied: bool,
}

impl Service<Uri> for ProxyConnector {
    type Response = ProxiedStream;
    type Error = BodyError;
    type Future = Pin<Box<dyn Future<Output = Result<ProxiedStream, BodyError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        let Some(proxy) = self.proxies.intercept(&to) else {
            return Box::pin(async move { Ok(ProxiedStream::tunnelled(direct.call(to).await?)) });
        };
        let address = proxy.uri().clone();
        match address.scheme_str() {
            Some("http" | "https") => {
                let mut to_proxy = self.to_proxy.clone();
                if to.scheme() != Some(&Scheme::HTTPS) && self.used_for == ConnectionUse::Requests {
                    return Box::pin(async move {
                        Ok(ProxiedStream { stream: to_proxy.call(address).await?, proxied: true })
                    });
                }
                let mut tunnel = Tunnel::new(address, to_proxy);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(HeaderValue::clone(auth));
                }
                Box::pin(async move { Ok(ProxiedStream { stream: tunnel.call(to).await?, proxied: false }) })
            }
            Some("socks4" | "socks4a" | "socks5" | "socks5h") => {
                Box::pin(async move { Ok(ProxiedStream::tunnelled(through_socks(direct, &proxy, &to).await?)) })
            }
            other => {
                let error = format!("a proxy with the scheme {:?} is not supported", other.unwrap_or_default());
                Box::pin(async move { Err(error.into()) })
            }
        }
    }
}

impl ProxiedStream {
    /// A connection on which the upstream itself answers.
    fn tunnelled(stream: TokioIo<TcpStream>) -> Self {
        Self { stream: MaybeHttpsStream::Http(stream), proxied: false }
    }
}

/// Connects through a SOCKS proxy. With `socks5h` and `socks4a` the proxy looks the name up.
async fn through_socks(direct: HttpConnector, proxy: &Intercept, to: &Uri) -> Result<TokioIo<TcpStream>, BodyError> {
    let scheme = proxy.uri().scheme_str().unwrap_or_default();
    let address =
        format!("http://{}:{}", proxy.uri().host().unwrap_or_default(), proxy.uri().port_u16().unwrap_or(1080));
    let host = to.host().unwrap_or_default();
    let port = to.port_u16().unwrap_or(if to.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let target = if matches!(scheme, "socks4" | "socks5") {
        let mut found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?;
        let wanted = if scheme == "socks4" { found.find(std::net::SocketAddr::is_ipv4) } else { found.next() };
        let found = wanted.ok_or_else(|| format!("{host} has no address that a {scheme} proxy can reach"))?;
        format!("http://{found}")
    } else {
        format!("http://{host}:{port}")
    };
    let (address, target): (Uri, Uri) = (address.parse()?, target.parse()?);
    if scheme.starts_with("socks4") {
        return Ok(SocksV4::new(address, direct).call(target).await?);
    }
    let mut socks = SocksV5::new(address, direct);
    if let Some((user, password)) = proxy.raw_auth() {
        socks = socks.with_auth(user.to_owned(), password.to_owned());
    }
    Ok(socks.call(target).await?)
}

impl Connection for ProxiedStream {
    fn connected(&self) -> Connected {
        let stream = match &self.stream {
            MaybeHttpsStream::Http(stream) => stream.inner(),
            MaybeHttpsStream::Https(stream) => stream.inner().get_ref().0.inner().inner(),
        };
        stream.connected().proxy(self.proxied)
    }
}

impl Read for ProxiedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, room)
    }
}

impl Write for ProxiedStream {
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
