//! Connections to upstreams that are kept open between requests: one request at a time on each with HTTP/1, all on one with
//! HTTP/2. hyper-util's pool prepares a new connection for each request while it waits for a kept one, and takes three
//! times as long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower_service::Service as _;

use super::proxy::{ProxiedStream, ProxyConnector};
use crate::gateway::BodyError;
use crate::gateway::request::UpstreamBody;
use crate::gateway::waiting::now;

/// After so long without a request, a connection is not used again. It is closed within twice that time.
const LONGEST_IDLE: Duration = Duration::from_secs(90);
/// How many of them are kept for one upstream: each takes some 40 KiB, and many streams at once leave as many behind.
const MOST_IDLE: usize = 32;
/// How often an HTTP/2 connection is pinged, and how long the reply may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes that are read ahead of a response, or waiting to be sent, and thereby the longest head. A response with
/// more headers than hyper's 100 is rejected: with a limit of our own it would allocate 16 KiB for each head.
const READ_BUFFER: usize = 128 * 1024;
/// How much of one HTTP/2 response may wait for its client, and of all responses on a connection: a client that does not
/// read must not stop the others.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum ConnectionError {
    #[error("cannot connect")]
    Connect(#[source] BodyError),
    #[error("the connection was lost")]
    Lost(#[source] hyper::Error),
}

/// Opens connections, and keeps them for later requests.
#[derive(Debug)]
pub(super) struct KeptConnections {
    connector: HttpsConnector<ProxyConnector>,
    kept: Arc<Mutex<Vec<UpstreamOrigin>>>,
}

/// The connections to one upstream: few, so that they are looked up one after the other.
#[derive(Debug)]
struct UpstreamOrigin {
    scheme: Scheme,
    authority: Box<str>,
    /// Those that serve no request, the one that was used last at the end.
    idle: Vec<IdleConnection>,
    /// The one for all requests, if the upstream speaks HTTP/2.
    shared: Option<SharedConnection>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Http1Connection,
    since: Instant,
}

#[derive(Debug)]
struct SharedConnection {
    sender: http2::SendRequest<UpstreamBody>,
    used: Instant,
}

#[derive(Debug)]
struct Http1Connection {
    sender: http1::SendRequest<UpstreamBody>,
    /// The other end is a proxy that expects absolute URLs.
    is_proxied: bool,
}

#[derive(Debug)]
enum UpstreamConnection {
    Http1(Http1Connection),
    Http2(http2::SendRequest<UpstreamBody>),
}

impl KeptConnections {
    pub(super) fn new(connector: HttpsConnector<ProxyConnector>) -> Self {
        Self { connector, kept: Arc::default() }
    }

    /// Sends a request; its URL is absolute.
    pub(super) async fn send(&self, mut request: Request<UpstreamBody>) -> Result<Response<Incoming>, ConnectionError> {
        let uri = request.uri().clone();
        if let Some(mut connection) = self.take(&uri) {
            match connection.send(request, &uri).await {
                Ok(response) => {
                    self.keep(connection, &uri);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // the upstream has closed a connection that was kept: nothing was sent on it
                    Some(unsent) => request = unsent,
                    None => return Err(ConnectionError::Lost(error.into_error())),
                },
            }
        }
        // boxed: most requests find a connection
        Box::pin(self.send_on_new(request, &uri)).await
    }

    async fn send_on_new(
        &self,
        request: Request<UpstreamBody>,
        uri: &Uri,
    ) -> Result<Response<Incoming>, ConnectionError> {
        let mut connection = self.connect(uri).await?;
        if let UpstreamConnection::Http2(sender) = &connection {
            // others share it before its first response, and this request one that was opened at the same time
            add(&self.kept, uri, UpstreamConnection::Http2(sender.clone()));
            connection = self.take(uri).unwrap_or(connection);
        }
        let sent = connection.send(request, uri).await;
        let response = sent.map_err(|error| ConnectionError::Lost(error.into_error()))?;
        self.keep(connection, uri);
        Ok(response)
    }

    /// A connection that can serve a request now.
    fn take(&self, uri: &Uri) -> Option<UpstreamConnection> {
        origin_of(&mut lock(&self.kept), uri).and_then(UpstreamOrigin::take)
    }

    async fn connect(&self, uri: &Uri) -> Result<UpstreamConnection, ConnectionError> {
        let mut connector = self.connector.clone();
        std::future::poll_fn(|context| connector.poll_ready(context)).await.map_err(ConnectionError::Connect)?;
        let stream = connector.call(uri.clone()).await.map_err(ConnectionError::Connect)?;
        let connected = stream.connected();
        if connected.is_negotiated_h2() {
            return http2_connection(stream).await.map(UpstreamConnection::Http2).map_err(ConnectionError::Lost);
        }
        let is_proxied = connected.is_proxied();
        let sender = http1_connection(stream).await.map_err(ConnectionError::Lost)?;
        Ok(UpstreamConnection::Http1(Http1Connection { sender, is_proxied }))
    }

    /// Keeps a connection from the end of its response on.
    fn keep(&self, connection: UpstreamConnection, uri: &Uri) {
        match connection {
            UpstreamConnection::Http1(connection) if connection.sender.is_ready() => {
                add(&self.kept, uri, UpstreamConnection::Http1(connection));
            }
            UpstreamConnection::Http1(mut connection) => {
                let (kept, uri) = (Arc::downgrade(&self.kept), uri.clone());
                tokio::spawn(async move {
                    if connection.sender.ready().await.is_ok()
                        && let Some(kept) = kept.upgrade()
                    {
                        add(&kept, &uri, UpstreamConnection::Http1(connection));
                    }
                });
            }
            UpstreamConnection::Http2(sender) if sender.is_closed() => {}
            shared @ UpstreamConnection::Http2(_) => add(&self.kept, uri, shared),
        }
    }
}

/// Keeps a connection, and closes those that were kept for long, now and later.
fn add(kept: &Arc<Mutex<Vec<UpstreamOrigin>>>, uri: &Uri, connection: UpstreamConnection) {
    let origins = &mut *lock(kept);
    let is_first = origins.is_empty();
    match origin_of(origins, uri) {
        Some(origin) => origin.put(connection),
        None => {
            let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority()) else { return };
            let authority = authority.as_str().into();
            let mut origin = UpstreamOrigin { scheme, authority, idle: Vec::new(), shared: None };
            origin.put(connection);
            origins.push(origin);
        }
    }
    if is_first {
        tokio::spawn(close_idle(Arc::downgrade(kept)));
    }
}

/// Closes connections that are kept for long, until none is left.
async fn close_idle(kept: Weak<Mutex<Vec<UpstreamOrigin>>>) {
    loop {
        tokio::time::sleep(LONGEST_IDLE).await;
        let Some(kept) = kept.upgrade() else { return };
        let origins = &mut *lock(&kept);
        origins.retain_mut(|origin| origin.close_idle(now()));
        if origins.is_empty() {
            return;
        }
    }
}

fn lock(kept: &Mutex<Vec<UpstreamOrigin>>) -> MutexGuard<'_, Vec<UpstreamOrigin>> {
    // each change is complete
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn origin_of<'k>(origins: &'k mut [UpstreamOrigin], uri: &Uri) -> Option<&'k mut UpstreamOrigin> {
    let authority = uri.authority()?.as_str();
    origins.iter_mut().find(|origin| *origin.authority == *authority && Some(&origin.scheme) == uri.scheme())
}

impl UpstreamOrigin {
    /// A connection that can serve a request now.
    fn take(&mut self) -> Option<UpstreamConnection> {
        let now = now();
        if let Some(shared) = self.shared.as_mut().filter(|shared| !shared.sender.is_closed()) {
            shared.used = now;
            return Some(UpstreamConnection::Http2(shared.sender.clone()));
        }
        // the upstream has closed those that are not ready
        let is_usable = |kept: &IdleConnection| kept.connection.sender.is_ready() && !is_old(kept.since, now);
        std::iter::from_fn(|| self.idle.pop()).find(is_usable).map(|kept| UpstreamConnection::Http1(kept.connection))
    }

    fn put(&mut self, connection: UpstreamConnection) {
        match connection {
            UpstreamConnection::Http1(connection) if self.idle.len() < MOST_IDLE => {
                self.idle.push(IdleConnection { connection, since: now() });
            }
            UpstreamConnection::Http1(_) => {}
            UpstreamConnection::Http2(sender) => match &mut self.shared {
                // of two that were opened at once, the first one is kept
                Some(shared) if !shared.sender.is_closed() => shared.used = now(),
                shared => *shared = Some(SharedConnection { sender, used: now() }),
            },
        }
    }

    /// Closes what is kept for long; returns whether any connection is left.
    fn close_idle(&mut self, now: Instant) -> bool {
        self.idle.retain(|kept| kept.connection.sender.is_ready() && !is_old(kept.since, now));
        // its streams go on
        self.shared.take_if(|shared| shared.sender.is_closed() || is_old(shared.used, now));
        !self.idle.is_empty() || self.shared.is_some()
    }
}

fn is_old(since: Instant, now: Instant) -> bool {
    now.duration_since(since) >= LONGEST_IDLE
}

impl UpstreamConnection {
    async fn send(
        &mut self,
        mut request: Request<UpstreamBody>,
        uri: &Uri,
    ) -> Result<Response<Incoming>, TrySendError<Request<UpstreamBody>>> {
        match self {
            Self::Http1(Http1Connection { sender, is_proxied }) => {
                if !request.headers().contains_key(HOST)
                    && let Some(host) = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
                {
                    request.headers_mut().insert(HOST, host);
                }
                *request.uri_mut() = if *is_proxied { uri.clone() } else { path_of(uri) };
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                *request.uri_mut() = uri.clone();
                sender.try_send_request(request).await
            }
        }
    }
}

/// The URL as an upstream itself expects it: its path and query.
fn path_of(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")).into()
}

async fn http1_connection(
    stream: MaybeHttpsStream<ProxiedStream>,
) -> Result<http1::SendRequest<UpstreamBody>, hyper::Error> {
    let mut http = http1::Builder::new();
    http.preserve_header_case(true).max_buf_size(READ_BUFFER);
    let (sender, connection) = http.handshake(stream).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("a connection to an upstream ended: {error}");
        }
    });
    Ok(sender)
}

async fn http2_connection(
    stream: MaybeHttpsStream<ProxiedStream>,
) -> Result<http2::SendRequest<UpstreamBody>, hyper::Error> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(READ_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let (sender, connection) = http.handshake(stream).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to an upstream ended: {error}");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests;
