//! The gateway's thread: it accepts connections and serves HTTP/1.1 on each until the daemon stops.

use std::{convert::Infallible, io, sync::Arc, sync::mpsc, thread::JoinHandle, time::Duration};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::lingering::LingeringStream;
use super::listeners::{AcceptedStream, Listeners};
use super::{request::ConnectionOrigin, service::GatewayService};
use crate::daemon::{GatewayHandle, RunningGateway};

/// How long requests in flight may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(8);
/// How often an address that could not be bound is tried again.
const BIND_RETRY: Duration = Duration::from_secs(20);
/// How long a client may be silent between two requests, and within the head of one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(900);
/// A request with more headers is rejected.
const MAX_HEADERS: usize = 256;

#[derive(Debug)]
struct GatewayThread(JoinHandle<()>);

impl RunningGateway for GatewayThread {
    fn end(self: Box<Self>) {
        if self.0.join().is_err() {
            tracing::error!("the gateway has failed");
        }
    }
}

/// Starts the gateway on its own thread; when this returns it listens, or the handle holds the reason why not.
///
/// # Errors
/// When the system cannot create a thread.
pub fn start(handle: GatewayHandle) -> io::Result<Box<dyn RunningGateway>> {
    let (ready, is_ready) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("lessor-gateway".to_owned());
    let thread = thread.spawn(move || runtime.block_on(serve(handle, ready)))?;
    // a failure is in the log, and leases are served without the gateway
    let _failed = is_ready.recv();
    Ok(Box::new(GatewayThread(thread)))
}

async fn serve(handle: GatewayHandle, ready: mpsc::Sender<()>) {
    let (mut changes, mut stop) = (handle.config_changes(), handle.stopping());
    let mut listeners = Listeners::default();
    listeners.open(&handle);
    // the receiver is gone when the daemon is stopping already
    let _received = ready.send(());
    let service = GatewayService::new(handle.clone());
    let mut connections = JoinSet::new();
    // each may need two more descriptors, for its upstream
    let max_connections = (handle.most_connections() / 3).max(16);
    loop {
        tokio::select! {
            stream = listeners.accept(), if connections.len() < max_connections => {
                connections.spawn(serve_stream(service.clone(), stream, stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            Ok(()) = changes.changed() => {
                service.reconfigure();
                listeners.open(&handle);
            }
            () = tokio::time::sleep(BIND_RETRY), if listeners.have_failed() => listeners.open(&handle),
            _ = stop.changed() => break,
        }
    }
    listeners.close();
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::warn!("the gateway stops with {} requests in flight", connections.len());
    }
}

async fn serve_stream(service: Arc<GatewayService>, stream: AcceptedStream, stop: watch::Receiver<bool>) {
    match stream {
        AcceptedStream::Tcp(stream) => serve_connection(service, stream, ConnectionOrigin::Tcp, stop).await,
        #[cfg(unix)]
        AcceptedStream::Local(stream) => serve_connection(service, stream, ConnectionOrigin::Local, stop).await,
    }
}

/// Serves one connection until the client closes it or the daemon stops.
async fn serve_connection<S>(
    service: Arc<GatewayService>,
    stream: S,
    origin: ConnectionOrigin,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = service.connection();
    let respond = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(origin, connection, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MAX_HEADERS);
    let stream = LingeringStream::new(stream);
    let closing = stream.share();
    let serving = http.serve_connection(TokioIo::new(stream), respond);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a gateway connection ended: {error}");
    }
    tokio::select! {
        () = closing.close() => {}
        _ = stop.wait_for(|stops| *stops) => {}
    }
}
