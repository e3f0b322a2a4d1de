//! A client's socket between turns, and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt as _;
use hyper::body::Bytes;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::IDLE_TIMEOUT;
use super::handshake::{AcceptedSocket, SocketOrigin};
use super::message::ClientMessage;
use super::upstream_socket::{SocketMessage, SocketStream, UpstreamSocket, next_message, socket};
use crate::daemon::GatewayConfig;
use crate::gateway::admission::ConnectionWatch;
use crate::gateway::forward::{Backend, UpgradeRequest};
use crate::gateway::running_key::KeyedRequest;
use crate::pool::AccountId;

/// How long the client may take to confirm that its socket is closed.
const CLOSING: Duration = Duration::from_secs(1);
/// How long after a change of the pool an idle socket is looked at: one change often brings others.
const SETTLING: Duration = Duration::from_millis(50);
/// The end of a socket that its client opens again at once, with the whole conversation.
pub(super) const RECONNECT: CloseCode = CloseCode::Restart;

/// A client's socket, and what it is joined to.
pub(in crate::gateway) struct SocketRelay<'a> {
    pub(super) backend: &'a Backend,
    pub(super) config: Box<dyn Fn() -> Arc<GatewayConfig> + Send + Sync + 'a>,
    pub(super) origin: SocketOrigin,
    pub(super) upgrade: UpgradeRequest,
    pub(super) client: SocketStream,
    pub(super) upstream: Option<UpstreamSocket>,
    pub(super) keyed: KeyedRequest,
    watch: Arc<ConnectionWatch>,
    /// Turns true when the gateway ends.
    stop: watch::Receiver<bool>,
    /// The upstream's account is that of the lease of the client's key, not of a sub-agent's or of one request.
    pub(super) follows_lease: bool,
    /// Messages of the client that came during a turn.
    pub(super) waiting: VecDeque<Message>,
}

/// Why a socket ends.
pub(super) enum SocketEnd {
    /// The client has closed it, or has gone.
    ClientGone,
    /// It is closed, with this code and reason.
    Close(CloseCode, &'static str),
    /// It is closed as the upstream has closed its own.
    AsUpstream(Option<CloseFrame>),
}

impl<'a> SocketRelay<'a> {
    /// Relays a socket until it ends; `config` is the current configuration.
    pub(in crate::gateway) async fn run(
        accepted: Box<AcceptedSocket>,
        backend: &'a Backend,
        config: Box<dyn Fn() -> Arc<GatewayConfig> + Send + Sync + 'a>,
        watch: Arc<ConnectionWatch>,
        stop: watch::Receiver<bool>,
    ) {
        let AcceptedSocket { on_upgrade, upstream, upgrade, origin, keyed, follows_lease } = *accepted;
        let Ok(stream) = on_upgrade.await else { return };
        let max_message = usize::try_from(config().gateway.max_body).unwrap_or(usize::MAX);
        let client = socket(stream, Role::Server, max_message).await;
        let waiting = VecDeque::new();
        let mut relay =
            Self { backend, config, origin, upgrade, client, upstream, keyed, watch, stop, follows_lease, waiting };
        relay.watch.turn_ended();
        let end = relay.serve().await;
        relay.close(end).await;
    }

    async fn serve(&mut self) -> SocketEnd {
        loop {
            let text = match self.next_turn().await {
                Ok(text) => text,
                Err(end) => return end,
            };
            self.watch.turn_begins();
            let end = self.turn(text).await;
            self.keyed.key_use = None;
            self.watch.turn_ended();
            if let Err(end) = end {
                return end;
            }
        }
    }

    /// Relays what is no turn, until a turn begins.
    async fn next_turn(&mut self) -> Result<Utf8Bytes, SocketEnd> {
        while let Some(message) = self.waiting.pop_front() {
            if let Some(text) = self.client_sent(message).await? {
                return Ok(text);
            }
        }
        let used = self.upstream.as_ref().map(|upstream| (upstream.account, self.follows_lease));
        loop {
            if *self.stop.borrow() {
                return Err(SocketEnd::Close(RECONNECT, "lessor restarts"));
            }
            let from_upstream = async {
                match &mut self.upstream {
                    Some(upstream) => upstream.next().await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                biased;
                message = next_message(&mut self.client) => Some(message),
                message = from_upstream => {
                    self.idle_upstream_sent(message).await?;
                    None
                }
                _ = self.stop.changed() => None,
                () = sleep(IDLE_TIMEOUT) => return Err(SocketEnd::Close(CloseCode::Normal, "no turn for an hour")),
                () = lease_moves(self.backend, &self.origin, &self.upgrade, used) => {
                    return Err(SocketEnd::Close(RECONNECT, "the account has changed"));
                }
            };
            match message {
                Some(SocketMessage::Message(message)) => {
                    if let Some(text) = self.client_sent(message).await? {
                        return Ok(text);
                    }
                }
                Some(closed) => return Err(self.client_closed(closed).await),
                None => {}
            }
        }
    }

    /// A message of the client between two turns: the text of one that begins a turn.
    async fn client_sent(&mut self, message: Message) -> Result<Option<Utf8Bytes>, SocketEnd> {
        match message {
            Message::Text(text) if ClientMessage::read(&text).begins_turn() => return Ok(Some(text)),
            message => self.pass_to_upstream(message).await?,
        }
        Ok(None)
    }

    /// Passes a message of the client on; without an upstream there is nothing that it could mean.
    pub(super) async fn pass_to_upstream(&mut self, message: Message) -> Result<(), SocketEnd> {
        let Some(upstream) = &mut self.upstream else { return Ok(()) };
        upstream
            .send(message)
            .await
            .map_err(|_| SocketEnd::Close(RECONNECT, "the connection to the provider has ended"))
    }

    async fn idle_upstream_sent(&mut self, message: SocketMessage) -> Result<(), SocketEnd> {
        match message {
            SocketMessage::Message(message) => self.pass_to_client(message).await,
            SocketMessage::Closed(frame) => Err(SocketEnd::AsUpstream(frame)),
            SocketMessage::Lost(reason) => {
                tracing::debug!("an idle socket to {} has ended: {reason}", self.upgrade.route.provider);
                Err(SocketEnd::AsUpstream(None))
            }
        }
    }

    pub(super) async fn pass_to_client(&mut self, message: Message) -> Result<(), SocketEnd> {
        self.client.send(message).await.map_err(|_| SocketEnd::ClientGone)
    }

    pub(super) async fn event_to_client(&mut self, event: Bytes) -> Result<(), SocketEnd> {
        // events were texts when they were received
        let Ok(text) = Utf8Bytes::try_from(event) else { return Ok(()) };
        self.pass_to_client(Message::Text(text)).await
    }

    /// The client has closed its socket: the upstream's is closed in the same way.
    pub(super) async fn client_closed(&mut self, closed: SocketMessage) -> SocketEnd {
        if let SocketMessage::Lost(reason) = &closed {
            tracing::debug!("a client's socket has ended: {reason}");
            if reason.contains("too long") || reason.contains("too big") {
                return SocketEnd::Close(CloseCode::Size, "a message is larger than gateway.max_body");
            }
        }
        if let (SocketMessage::Closed(frame), Some(mut upstream)) = (closed, self.upstream.take()) {
            let _in_time = timeout(CLOSING, upstream.send(Message::Close(frame))).await;
        }
        SocketEnd::ClientGone
    }

    /// Closes the client's socket.
    async fn close(mut self, end: SocketEnd) {
        self.upstream = None;
        let (code, reason) = match end {
            SocketEnd::ClientGone => (CloseCode::Normal, Utf8Bytes::default()),
            SocketEnd::Close(code, reason) => (code, Utf8Bytes::from_static(reason)),
            SocketEnd::AsUpstream(Some(frame)) if frame.code.is_allowed() => (frame.code, frame.reason),
            SocketEnd::AsUpstream(_) => (RECONNECT, Utf8Bytes::from_static("the connection to the provider has ended")),
        };
        let close = async {
            if self.client.send(Message::Close(Some(CloseFrame { code, reason }))).await.is_ok() {
                while let SocketMessage::Message(_) = next_message(&mut self.client).await {}
            }
        };
        let _in_time = timeout(CLOSING, close).await;
    }
}

/// Waits until an idle socket's client does not use this account any more; `used` says whether it follows its lease.
async fn lease_moves(
    backend: &Backend,
    origin: &SocketOrigin,
    upgrade: &UpgradeRequest,
    used: Option<(AccountId, bool)>,
) {
    let Some(used) = used else { return std::future::pending().await };
    loop {
        // a change during the last turn is found, and one after that look is not missed
        let changed = backend.handle.pool_changed();
        sleep(SETTLING).await;
        if !backend.handle.uses_account(&origin.client, &upgrade.route.provider, used) {
            return;
        }
        changed.await;
    }
}
