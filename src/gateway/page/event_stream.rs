//! The stream of events of one page: server-sent events, some of them in each message.

use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use crate::daemon::{DEFAULT_KINDS, GatewayHandle, PageEvents, PageSession};
use crate::gateway::response::ClientBody;
use crate::pool::ConnectionId;

/// Events that come within this time are sent together.
const BATCH: Duration = Duration::from_millis(100);
/// A stream without events sends something this often, so that its end is noticed on both sides.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a page may leave a message unread; what comes meanwhile is bounded by its outbox.
const UNREAD: Duration = Duration::from_secs(30);
/// Sent only to those that ask for it by name.
const REQUEST_ENDED: &str = "request.ended";

/// Begins the stream of a page; it ends with its connection, its session and the daemon, or when the page does not read.
pub(super) fn start(
    handle: GatewayHandle,
    connection: ConnectionId,
    session: PageSession,
    place: OwnedSemaphorePermit,
) -> Response<ClientBody> {
    // a further message waits until the connection has taken this one
    let (sender, messages) = mpsc::channel(1);
    let kinds = [DEFAULT_KINDS, REQUEST_ENDED].map(str::to_owned).to_vec();
    let events = handle.page_events(connection, kinds);
    tokio::spawn(async move {
        let _place = place;
        let (mut stop, mut restart) = (handle.stopping(), handle.restarting());
        let ending = async {
            tokio::select! {
                _ = stop.wait_for(|stops| *stops) => {}
                _ = restart.wait_for(Option::is_some) => {}
            }
        };
        let feed = feed(&handle, session, &events, &sender);
        tokio::select! {
            () = ending => {
                _ = sender.try_send(Bytes::from_static(b"event: ending\ndata: daemon\n\n"));
            }
            () = sender.closed() => {}
            () = feed => {}
        }
    });
    let mut response = Response::new(ClientBody::Messages(messages));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Sends what comes, until the page does not read or its session ends.
async fn feed(handle: &GatewayHandle, session: PageSession, events: &PageEvents, sender: &mpsc::Sender<Bytes>) {
    let mut message = Bytes::from_static(b"event: open\ndata: 1\n\n");
    loop {
        if !matches!(timeout(UNREAD, sender.send(message)).await, Ok(Ok(()))) {
            return;
        }
        message = match timeout(HEARTBEAT, events.arrived()).await {
            Ok(()) => {
                sleep(BATCH).await;
                match events.take() {
                    Some(lines) => batch(&lines),
                    // it was too slow: it reads everything again
                    None => return,
                }
            }
            Err(_) => Bytes::from_static(b": \n\n"),
        };
        if !handle.is_page_valid(session) {
            _ = sender.try_send(Bytes::from_static(b"event: ending\ndata: session\n\n"));
            return;
        }
    }
}

/// One message with several events, each on a line of its data.
fn batch(lines: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(lines.len() + 16 + lines.len() / 16);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        message.extend_from_slice(b"data: ");
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message.push(b'\n');
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_line_of_data() {
        assert_eq!(batch(b"{\"a\":1}\n{\"b\":2}\n"), "data: {\"a\":1}\ndata: {\"b\":2}\n\n");
        assert_eq!(batch(b""), "\n");
    }
}
