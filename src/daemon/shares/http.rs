//! HTTP on the socket of a share: it is passed on to the gateway, where a key of a lease is needed.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Mutex, PoisonError};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::daemon::state::Daemon;

/// Passes connections on, on a thread of its own: a large transfer must not delay a lease.
#[derive(Debug, Default)]
pub(super) struct HttpRelay(Mutex<Option<mpsc::UnboundedSender<RelayedConnection>>>);

/// A connection, and the gateway. It is over when the other end of the channel is gone.
type RelayedConnection = (StdUnixStream, SocketAddr, oneshot::Sender<()>);

impl HttpRelay {
    /// Passes a connection on until either side ends it, or the future is dropped.
    pub(super) async fn relay(&self, daemon: &Daemon, client: UnixStream) {
        let url = daemon.state().gateway.url.clone();
        let address = url.as_deref().and_then(|url| url.strip_prefix("http://")).and_then(|url| url.parse().ok());
        let (Some(address), Ok(client)) = (address, client.into_std()) else { return };
        let (is_over, over) = oneshot::channel();
        if self.thread().is_some_and(|thread| thread.send((client, address, is_over)).is_ok()) {
            let _over = over.await;
        }
    }

    /// The thread, which the first connection starts.
    fn thread(&self) -> Option<mpsc::UnboundedSender<RelayedConnection>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            let started = start().inspect_err(|error| tracing::warn!("no thread can be started: {error}"));
            *known = started.ok();
        }
        known.clone()
    }
}

/// The thread ends when the relay is gone.
fn start() -> io::Result<mpsc::UnboundedSender<RelayedConnection>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (connections, mut received) = mpsc::unbounded_channel::<RelayedConnection>();
    std::thread::Builder::new().name("lessor-shares".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Some((client, address, mut is_over)) = received.recv().await {
                tokio::spawn(async move {
                    tokio::select! {
                        _ended = copy(client, address) => {}
                        () = is_over.closed() => {}
                    }
                });
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(connections)
}

async fn copy(client: StdUnixStream, address: SocketAddr) -> io::Result<()> {
    let mut client = UnixStream::from_std(client)?;
    let mut gateway = TcpStream::connect(address).await?;
    gateway.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut gateway).await.map(drop)
}
