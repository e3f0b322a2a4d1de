//! The gateway's thread: it accepts connections and serves HTTP/1.1 on each until the daemon stops.

mod lingering;
mod listeners;
mod port;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::{convert::Infallible, io, thread::JoinHandle, time::Duration};

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::admission::{
    self, AdmittedConnection, ConnectionAdmission, ConnectionEnd, ConnectionWatch, MAX_HEAD, WatchedBody,
};
use super::record::{CutReason, CutWatch};
use super::request::ConnectionOrigin;
use super::running_key::{KeyCut, RunningKey};
use super::service::{GatewayService, RequestConnection};
use super::tls;
use crate::daemon::{GatewayHandle, GatewayPeer, RunningGateway};
use lingering::LingeringStream;
use listeners::{AcceptedStream, Listeners};

/// How long requests in flight may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(8);
/// The interval between two looks at the requests in flight before a restart.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long the head of a request may take from its connection on.
const ARRIVAL: Duration = Duration::from_millis(250);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that had to go end within moments; this many more may be open until then.
const CLOSING: usize = 64;
/// So many connections are accepted before those that are open are served.
const ACCEPTS: usize = 16;
/// How long the last bytes of responses may take to their clients.
const LAST_BYTES: Duration = Duration::from_millis(300);
/// How often an address that could not be bound is tried again.
const BIND_RETRY: Duration = Duration::from_secs(20);
/// The most bytes that are read ahead of a connection; more than the longest head.
const READ_BUFFER: usize = MAX_HEAD + 8 * 1024;

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
    let (started, is_started) = mpsc::channel();
    let thread = std::thread::Builder::new().name("lessor-gateway".to_owned());
    // the runtime is made on the thread: one that is dropped here, because the thread does not start, would panic
    let thread = thread.spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            drop(started.send(Ok(())));
            runtime.block_on(serve(handle, ready));
        }
        Err(error) => drop(started.send(Err(error))),
    })?;
    is_started.recv().map_err(io::Error::other)??;
    // a failure is in the log, and leases are served without the gateway
    let _failed = is_ready.recv();
    Ok(Box::new(GatewayThread(thread)))
}

async fn serve(handle: GatewayHandle, ready: mpsc::Sender<()>) {
    let (mut changes, mut stop, mut restart) = (handle.config_changes(), handle.stopping(), handle.restarting());
    let mut listeners = Listeners::of_last_run(&handle);
    listeners.open(&handle);
    // the receiver is gone when the daemon is stopping already
    let _received = ready.send(());
    let (service, exporter) = GatewayService::new(handle.clone());
    let (ended, last_ended) = oneshot::channel();
    let exporting = tokio::spawn(exporter.run(last_ended));
    let in_flight = service.in_flight();
    // it ends with the runtime
    tokio::spawn(async move { in_flight.after_load(GatewayHandle::give_memory_back).await });
    let mut connections = JoinSet::new();
    let (close, closing) = watch::channel(false);
    // each may need two more descriptors, for its upstream
    let admission = ConnectionAdmission::new(handle.clone(), handle.most_connections() / 3);
    let most_tasks = admission.most() + CLOSING;
    let mut accepted = 0_usize;
    // not a pause within the loop, which each client would begin again
    let mut bind_retry = tokio::time::interval(BIND_RETRY);
    bind_retry.reset();
    let mut look_at_certificate = tokio::time::interval(tls::LOOK_AGAIN);
    let drain = loop {
        if accepted == ACCEPTS {
            accepted = 0;
            tokio::task::yield_now().await;
        }
        tokio::select! {
            stream = listeners.accept(), if connections.len() < most_tasks => {
                accepted += 1;
                match admission.admit(stream.peer_class()) {
                    Some(admitted) => {
                        connections.spawn(serve_stream(service.clone(), stream, admitted, closing.clone()));
                    }
                    None => stream.refuse(&admission::no_place()),
                }
            }
            Some(_) = connections.join_next() => {}
            Ok(()) = changes.changed() => {
                service.reconfigure();
                listeners.open(&handle);
                bind_retry.reset();
            }
            _ = look_at_certificate.tick() => {
                if listeners.is_certificate_due() {
                    listeners.open(&handle);
                }
            }
            _ = bind_retry.tick(), if listeners.have_failed() => listeners.open(&handle),
            Ok(asked) = restart.wait_for(Option::is_some) => break *asked,
            _ = stop.changed() => break None,
        }
    };
    close.send_replace(true);
    let Some(drain) = drain else {
        end(listeners, connections).await;
        drop(ended);
        _ = exporting.await;
        return;
    };
    // no connection is accepted: new ones wait for the next run
    tokio::select! {
        () = drained(&handle, &mut connections, drain) => {}
        _ = stop.changed() => {
            end(listeners, connections).await;
            drop(ended);
            _ = exporting.await;
            return;
        }
    }
    // requests that are cut are recorded before the next run begins
    connections.shutdown().await;
    drop(ended);
    _ = exporting.await;
    handle.hand_over(listeners.hand_over());
}

/// Stops accepting, and waits for requests in flight.
async fn end(mut listeners: Listeners, mut connections: JoinSet<()>) {
    listeners.close();
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all_closed).await.is_err() {
        tracing::warn!("the gateway stops with {} requests in flight", connections.len());
    }
    // they are recorded
    connections.shutdown().await;
}

/// Waits until no response is on its way, for at most `most`. A request that still waits for an account is not waited
/// for: its connection is closed, and its agent sends it again, to the next run.
async fn drained(handle: &GatewayHandle, connections: &mut JoinSet<()>, most: Duration) {
    let in_flight = handle.in_flight();
    let no_response_is_left = async {
        // a request that has just been sent may not be read yet
        let mut arriving = std::pin::pin!(tokio::time::sleep(ARRIVAL));
        while !connections.is_empty() && (!arriving.is_elapsed() || in_flight.load(Ordering::Relaxed) > 0) {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                () = &mut arriving, if !arriving.is_elapsed() => {}
                () = tokio::time::sleep(DRAIN_STEP) => {}
            }
        }
    };
    if tokio::time::timeout(most, no_response_is_left).await.is_err() {
        tracing::warn!("the gateway restarts with {} requests in flight", in_flight.load(Ordering::Relaxed));
    }
    // what was written is still on its way to the client
    let all_closed = async { while connections.join_next().await.is_some() {} };
    let _waiting_for_an_account = tokio::time::timeout(LAST_BYTES, all_closed).await;
}

async fn serve_stream(
    service: Arc<GatewayService>,
    stream: AcceptedStream,
    admitted: AdmittedConnection,
    stop: watch::Receiver<bool>,
) {
    if service.handle().is_joined() {
        return relay_to_host(&service, stream, (&admitted, stop)).await;
    }
    match stream {
        AcceptedStream::Tcp(stream) => {
            let addresses = stream.local_addr().ok().zip(stream.peer_addr().ok());
            let peer = GatewayPeer::tcp(addresses);
            let watch = ConnectionWatch::new(admitted, false);
            serve_connection(service, stream, (ConnectionOrigin::Tcp, peer, watch), stop).await;
        }
        AcceptedStream::Tls(stream, config) => {
            let addresses = stream.local_addr().ok().zip(stream.peer_addr().ok());
            let peer = GatewayPeer::tcp(addresses);
            let Some(stream) = secured(stream, config, &admitted, stop.clone()).await else { return };
            let watch = ConnectionWatch::new(admitted, false);
            serve_connection(service, stream, (ConnectionOrigin::Tcp, peer, watch), stop).await;
        }
        #[cfg(unix)]
        AcceptedStream::Local(stream, pid) => {
            let watch = ConnectionWatch::new(admitted, true);
            serve_connection(service, stream, (ConnectionOrigin::Local, GatewayPeer::local(pid), watch), stop).await;
        }
    }
}

/// Has a host's gateway serve a connection, until it ends, its place is needed, or the daemon stops.
async fn relay_to_host(
    service: &GatewayService,
    stream: AcceptedStream,
    (admitted, mut stop): (&AdmittedConnection, watch::Receiver<bool>),
) {
    let handle = service.handle();
    let closing = stop.clone();
    let relaying = async {
        match stream {
            AcceptedStream::Tcp(stream) => {
                let _without = stream.set_nodelay(true);
                handle.relay_to_host(stream).await;
            }
            AcceptedStream::Tls(stream, config) => {
                if let Some(stream) = secured(stream, config, admitted, closing).await {
                    handle.relay_to_host(stream).await;
                }
            }
            #[cfg(unix)]
            AcceptedStream::Local(stream, _) => handle.relay_to_host(stream).await,
        }
    };
    tokio::select! {
        () = relaying => {}
        () = admitted.closed() => {}
        _ = stop.wait_for(|stops| *stops) => {}
    }
}

/// The connection once its client has agreed on TLS; `None` if it does not in time, or the place is needed.
async fn secured(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    admitted: &AdmittedConnection,
    mut stop: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    // a connection that has just come is still served
    let ending = async {
        _ = stop.wait_for(|stops| *stops).await;
        tokio::time::sleep(ARRIVAL).await;
    };
    tokio::select! {
        agreed = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)) => match agreed {
            Ok(agreed) => agreed.inspect_err(|error| tracing::debug!("a client does not agree on TLS: {error}")).ok(),
            Err(_) => None,
        },
        () = admitted.closed() => None,
        () = ending => None,
    }
}

/// The requests that come on a connection.
#[derive(Debug, Default)]
struct Arrivals {
    has_come: AtomicBool,
    comes: Notify,
}

impl Arrivals {
    /// A request has come.
    fn note(&self) {
        self.has_come.store(true, Ordering::Relaxed);
        self.comes.notify_waiters();
    }

    /// Waits for the next request, for at most `most`.
    async fn next(&self, most: Duration) {
        let _in_time = tokio::time::timeout(most, self.comes.notified()).await;
    }
}

fn http1_builder() -> http1::Builder {
    let mut http = http1::Builder::new();
    // the watch has the times; a request with more headers than hyper's 100 is rejected: with a limit of our own it would
    // allocate 16 KiB for each head
    http.header_read_timeout(None).max_buf_size(READ_BUFFER).preserve_header_case(true).auto_date_header(false);
    http
}

/// Serves one connection until the client closes it, it takes too long, it must go for another one, or the daemon stops.
async fn serve_connection<S>(
    service: Arc<GatewayService>,
    stream: S,
    (origin, peer, watch): (ConnectionOrigin, Arc<GatewayPeer>, Arc<ConnectionWatch>),
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = LingeringStream::new(stream, watch.clone());
    let closing = stream.share();
    let (running_key, mut key_cut) = RunningKey::new();
    let id = service.connection();
    let cut = Arc::new(CutReason::default());
    let (socket, known_client) = Default::default();
    let (of_watch, of_cut) = (watch.clone(), cut.clone());
    let connection =
        RequestConnection { id, origin, peer, watch: of_watch, running_key, cut: of_cut, socket, known_client };
    let connection = Arc::new(connection);
    let upgraded = (service.clone(), connection.clone());
    let arrivals = Arc::<Arrivals>::default();
    let noted = arrivals.clone();
    let respond = service_fn(move |request: Request<Incoming>| {
        noted.note();
        let (service, connection) = (service.clone(), connection.clone());
        let guard = connection.watch.begin(request.body().size_hint().exact());
        // apart, so that a connection without a request is small
        Box::pin(async move {
            let response = service.respond(&connection, request).await;
            Ok::<_, Infallible>(response.map(|body| WatchedBody::new(body, guard)))
        })
    });
    // boxed, so that a revoked key ends it at once, with its response
    let mut serving = Box::pin(http1_builder().serve_connection(TokioIo::new(stream), respond).with_upgrades());
    // dropped before what is served, when the gateway ends
    let cut_watch = CutWatch::new(&cut);
    let ended = tokio::select! {
        // the others look at what serving has changed, and nothing wakes them for that
        biased;
        ended = &mut serving => ended,
        why = key_cut.happens() => return cut.end(serving, why),
        () = watch.admitted().closed() => {
            cut.end(serving, "there were too many connections");
            return close_with(&watch, closing, &admission::no_place()).await;
        }
        end = watch.overdue() => {
            cut.end(serving, "the client did not read the response");
            return match end {
                ConnectionEnd::HeadTooLate(seconds) => close_with(&watch, closing, &admission::too_late(seconds)).await,
                ConnectionEnd::HeadTooLarge => close_with(&watch, closing, &admission::too_large(MAX_HEAD)).await,
                ConnectionEnd::Silent => {}
            };
        }
        _ = stop.changed() => {
            // hyper closes a connection whose request it has not read: one that has been sent is read first
            let is_new = !arrivals.has_come.load(Ordering::Relaxed);
            let unread = if is_new { ARRIVAL } else { DRAIN_STEP };
            tokio::select! {
                biased;
                ended = &mut serving => ended,
                () = arrivals.next(unread) => {
                    serving.as_mut().graceful_shutdown();
                    tokio::select! {
                        biased;
                        ended = &mut serving => ended,
                        why = key_cut.happens() => return cut.end(serving, why),
                    }
                }
            }
        }
    };
    if ended.is_ok() && serve_socket(upgraded, &mut key_cut, stop.clone()).await {
        cut_watch.ended();
        return;
    }
    cut_watch.ended();
    // a request that its client has given up ends here
    drop(serving);
    if let Err(error) = ended {
        tracing::debug!("a gateway connection ended: {error}");
    }
    tokio::select! {
        () = closing.close() => {}
        () = watch.admitted().closed() => {}
        _ = stop.wait_for(|stops| *stops) => {}
    }
}

/// Serves the WebSocket that a connection has become, until it ends or is cut; returns whether it has become one.
async fn serve_socket(
    (service, connection): (Arc<GatewayService>, Arc<RequestConnection>),
    key_cut: &mut KeyCut,
    stop: watch::Receiver<bool>,
) -> bool {
    if !connection.watch.is_socket() {
        return false;
    }
    let mut serving = Box::pin(service.serve_socket(&connection, stop));
    let cut = &connection.cut;
    tokio::select! {
        // first what cuts it: a client that sends without a pause leaves no turn to what comes after it
        biased;
        why = key_cut.happens() => cut.end(serving, why),
        () = connection.watch.admitted().closed() => cut.end(serving, "there were too many connections"),
        () = &mut serving => {}
        // it looks at what serving has changed, and nothing wakes it for that
        _ = connection.watch.overdue() => cut.end(serving, "the client did not read the response"),
    }
    true
}

/// Ends a connection that is not served any more, with an answer where that cannot be taken for another one.
async fn close_with<S>(watch: &ConnectionWatch, closing: LingeringStream<S>, answer: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if watch.can_answer() {
        closing.reject(answer).await;
    }
}
