//! Clients that come before the daemon has restored its state. A greeting depends on nothing of it, and is answered at once;
//! what follows waits.

use std::sync::Arc;

use interprocess::local_socket::tokio::Stream;
use tokio::sync::watch;

use super::{Connection, ConnectionStep, Input, SharedLimits, client_stream};
use crate::daemon::os::socket::ClientStream;
use crate::daemon::state::{Daemon, outbox::Outbox};
use crate::pool::ConnectionId;
use crate::protocol::{Call, Codec, Incoming, MessageDecoder};

/// Greets a client, and serves it when the state is restored.
pub async fn serve_early(
    mut restored: watch::Receiver<Option<Arc<Daemon>>>,
    limits: Arc<SharedLimits>,
    stream: Stream,
    client: (ConnectionId, Option<u32>),
    outbox: Arc<Outbox>,
) {
    let Some(stream) = client_stream(stream) else {
        if let Some(daemon) = when_restored(&mut restored).await {
            daemon.connection_ended(client.0);
        }
        return;
    };
    let mut connected = Connection::new(client, outbox, limits);
    if let Some(daemon) = connected.greet(&mut restored, &stream).await {
        connected.serve_until_end(&daemon, ConnectionStep::Serve, &stream).await;
    }
}

/// The daemon, as soon as its state is restored; `None` if there will be no state.
async fn when_restored(restored: &mut watch::Receiver<Option<Arc<Daemon>>>) -> Option<Arc<Daemon>> {
    restored.wait_for(Option::is_some).await.ok()?.clone()
}

impl Connection {
    /// Waits until the state is restored, and answers a greeting that arrives before; `None` if there will be no state.
    async fn greet(
        &mut self,
        restored: &mut watch::Receiver<Option<Arc<Daemon>>>,
        stream: &ClientStream,
    ) -> Option<Arc<Daemon>> {
        let input = tokio::select! {
            input = self.input(stream) => Some(input),
            _ = restored.wait_for(Option::is_some) => None,
        };
        if let Some(Input::Arrived(length)) = input {
            self.turn.received(length);
            self.answer_greeting();
            // a client that is gone is noticed again when it is served
            let _written = self.write(stream, &mut None).await;
        }
        when_restored(restored).await
    }

    /// Answers the first message, if it is a greeting. Whatever else has arrived stays where it is.
    fn answer_greeting(&mut self) {
        let mut copy = MessageDecoder::default();
        copy.inbox().extend_from_slice(self.decoder.inbox());
        if let Ok(Some(Incoming { id, call: Ok(Call::Hello(params)) })) = copy.take() {
            self.session.codec = copy.codec().unwrap_or(Codec::Json);
            if self.session.greet(id, &params, &mut self.out) {
                self.deadline = None;
                let _the_same_message = self.decoder.take();
            }
        }
        copy.wipe();
    }
}
