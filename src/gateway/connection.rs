//! One connection of a client: HTTP/1.1, kept alive.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::front::Front;

/// How long a client may be silent between two requests, and within the head of one.
const SILENCE: Duration = Duration::from_secs(900);
/// More headers are nobody's.
const MOST_HEADERS: usize = 256;

/// How a client came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Over TCP: it needs a key.
    Tcp,
    /// Over the Unix socket: it is the user's own.
    Local,
}

/// Serves one client until it leaves, or the daemon ends.
pub(super) async fn serve<S>(front: Arc<Front>, stream: S, way: Way, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let guest = front.welcome(way);
    let service = service_fn(|request| {
        let (front, guest) = (front.clone(), guest.clone());
        async move { Ok::<_, Infallible>(front.answer(&guest, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MOST_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a client of the gateway is gone: {error}");
    }
}
