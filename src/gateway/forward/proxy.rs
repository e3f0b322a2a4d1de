//! How an upstream is connected to: directly, or through a proxy.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::{future::Future, io, net::IpAddr, pin::Pin, time::Duration};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::gateway::BodyError;
use crate::http::ConnectOptions;

/// A server that does not accept the connection within this time is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is silent before TCP asks whether the other end is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Which proxy a connection goes through, if any.
#[derive(Debug)]
pub(super) struct ProxyRules {
    matcher: Matcher,
    /// Whether the proxy also applies to this machine: one that is configured for the provider does, those of the
    /// environment do not.
    for_loopback: bool,
}

impl ProxyRules {
    pub(super) fn of(reach: &ConnectOptions) -> Self {
        let matcher = match &reach.proxy {
            Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self { matcher, for_loopback: reach.proxy.is_some() }
    }

    pub(super) fn intercept(&self, to: &Uri) -> Option<Intercept> {
        let is_loopback = to.host().is_some_and(|host| {
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if is_loopback && !self.for_loopback { None } else { self.matcher.intercept(to) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ProxyConnector {
    direct: HttpConnector,
    /// To an HTTP proxy, which may be reached with TLS.
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Arc<ProxyRules>,
    /// A proxy may read what is sent without TLS.
    may_be_read: bool,
}

/// A connection, possibly through a proxy.
#[derive(Debug)]
pub(super) struct ProxiedStream {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// The other end is a proxy that expects absolute URLs.
    proxied: bool,
}

impl ProxyConnector {
    /// `tls` is for proxies that are reached with it; `may_be_read` says whether a proxy may read what is sent without TLS.
    pub(super) fn new(proxies: Arc<ProxyRules>, tls: rustls::ClientConfig, may_be_read: bool) -> Self {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(CONNECT_TIMEOUT));
        direct.set_keepalive(Some(KEEPALIVE));
        let to_proxy = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let to_proxy = to_proxy.enable_http1().wrap_connector(direct.clone());
        Self { direct, to_proxy, proxies, may_be_read }
    }
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
                if to.scheme() != Some(&Scheme::HTTPS) && self.may_be_read {
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
