//! A client's socket: between turns, and during one.

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
use super::message::{ClientMessage, error_event};
use super::turn::TurnTransport;
use super::turn_observer::{TurnEvent, TurnObserver};
use super::upstream_socket::{SocketMessage, SocketStream, UpstreamSocket, close_reason, next_message, socket};
use crate::daemon::GatewayConfig;
use crate::gateway::admission::ConnectionWatch;
use crate::gateway::forward::{Backend, Forward, ForwardEnd, UpgradeRequest, UpstreamRefusal};
use crate::gateway::record::{RecordedSource, RequestEnd, RequestRecord};
use crate::gateway::request::{BufferLimits, BufferedRequest, RequestParts, WantedText};
use crate::gateway::response::{self, ObservedRequest};
use crate::gateway::running_key::KeyedRequest;
use crate::gateway::waiting::now;
use crate::pool::AccountId;

/// The most messages of a client that wait while a turn is under way; further ones are not read.
const MOST_WAITING: usize = 16;
/// How long the client may take to confirm that its socket is closed.
const CLOSING: Duration = Duration::from_secs(1);
/// How long after a change of the pool an idle socket is looked at: one change often brings others.
const SETTLING: Duration = Duration::from_millis(50);
/// The end of a socket that its client opens again at once, with the whole conversation.
const RECONNECT: CloseCode = CloseCode::Restart;

/// A client's socket, and what it is joined to.
pub(in crate::gateway) struct SocketRelay<'a> {
    backend: &'a Backend,
    config: Box<dyn Fn() -> Arc<GatewayConfig> + Send + Sync + 'a>,
    origin: SocketOrigin,
    upgrade: UpgradeRequest,
    client: SocketStream,
    upstream: Option<UpstreamSocket>,
    keyed: KeyedRequest,
    watch: Arc<ConnectionWatch>,
    /// Turns true when the gateway ends.
    stop: watch::Receiver<bool>,
    /// Messages of the client that came during a turn.
    waiting: VecDeque<Message>,
}

/// Why a socket ends.
enum SocketEnd {
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
        let AcceptedSocket { on_upgrade, upstream, upgrade, origin, keyed } = *accepted;
        let Ok(stream) = on_upgrade.await else { return };
        let max_message = usize::try_from(config().gateway.max_body).unwrap_or(usize::MAX);
        let client = socket(stream, Role::Server, max_message).await;
        let waiting = VecDeque::new();
        let mut relay = Self { backend, config, origin, upgrade, client, upstream, keyed, watch, stop, waiting };
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
            if let Some(text) = self.from_client(message).await? {
                return Ok(text);
            }
        }
        let account = self.upstream.as_ref().map(|upstream| upstream.account).filter(|account| self.uses(*account));
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
                    self.from_idle_upstream(message).await?;
                    None
                }
                _ = self.stop.changed() => None,
                () = sleep(IDLE_TIMEOUT) => return Err(SocketEnd::Close(CloseCode::Normal, "no turn for an hour")),
                () = lease_moves(self.backend, &self.origin, &self.upgrade, account) => {
                    return Err(SocketEnd::Close(RECONNECT, "the account has changed"));
                }
            };
            match message {
                Some(SocketMessage::Message(message)) => {
                    if let Some(text) = self.from_client(message).await? {
                        return Ok(text);
                    }
                }
                Some(closed) => return Err(self.client_closed(closed).await),
                None => {}
            }
        }
    }

    fn uses(&self, account: AccountId) -> bool {
        self.backend.handle.uses_account(&self.origin.client, &self.upgrade.route.provider, account)
    }

    /// A message of the client between two turns: the text of one that begins a turn.
    async fn from_client(&mut self, message: Message) -> Result<Option<Utf8Bytes>, SocketEnd> {
        match message {
            Message::Text(text) if ClientMessage::read(&text).begins_turn() => return Ok(Some(text)),
            message => self.to_upstream(message).await?,
        }
        Ok(None)
    }

    /// Passes a message of the client on; without an upstream there is nothing that it could mean.
    async fn to_upstream(&mut self, message: Message) -> Result<(), SocketEnd> {
        let Some(upstream) = &mut self.upstream else { return Ok(()) };
        upstream
            .send(message)
            .await
            .map_err(|_| SocketEnd::Close(RECONNECT, "the connection to the provider has ended"))
    }

    async fn from_idle_upstream(&mut self, message: SocketMessage) -> Result<(), SocketEnd> {
        match message {
            SocketMessage::Message(message) => self.to_client(message).await,
            SocketMessage::Closed(frame) => Err(SocketEnd::AsUpstream(frame)),
            SocketMessage::Lost(reason) => {
                tracing::debug!("an idle socket to {} has ended: {reason}", self.upgrade.route.provider);
                Err(SocketEnd::AsUpstream(None))
            }
        }
    }

    async fn to_client(&mut self, message: Message) -> Result<(), SocketEnd> {
        self.client.send(message).await.map_err(|_| SocketEnd::ClientGone)
    }

    async fn event_to_client(&mut self, event: Bytes) -> Result<(), SocketEnd> {
        // events were texts when they were received
        let Ok(text) = Utf8Bytes::try_from(event) else { return Ok(()) };
        self.to_client(Message::Text(text)).await
    }

    /// The client has closed its socket: the upstream's is closed in the same way.
    async fn client_closed(&mut self, closed: SocketMessage) -> SocketEnd {
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

    /// Serves one turn.
    async fn turn(&mut self, text: Utf8Bytes) -> Result<(), SocketEnd> {
        let config = (self.config)();
        let request = self.request(&text, &config);
        let is_continued = request.1;
        let client = self.origin.client.clone();
        let mut forward = Forward::new(self.backend, &client, request.0, &config);
        let mut transport = TurnTransport { upgrade: &self.upgrade, upstream: &mut self.upstream, text, is_continued };
        let end = tokio::select! {
            end = forward.try_accounts(&mut transport, &mut self.keyed) => end,
            closed = keep_messages(&mut self.client, &mut self.waiting) => {
                // what is recorded of the turn says that its client has gone
                drop(forward);
                return Err(self.client_closed(closed).await);
            }
        };
        match end {
            ForwardEnd::Served(lease, account, _, first, ()) => {
                forward.note_served();
                let observed = forward.observed(&account, hyper::StatusCode::OK);
                let observer = TurnObserver::new(&self.upgrade.route.provider, observed, lease, &first);
                self.relay_turn(observer, first).await
            }
            ForwardEnd::Refused(_lease, account, refused) => {
                let observed = forward.observed(&account, refused.head.status);
                self.refuse(*refused, observed).await
            }
            ForwardEnd::Answer(response) => {
                let (head, body) = response.into_parts();
                self.backend.handle.all_saved().await;
                let body = body.into_complete().unwrap_or_default();
                let event = error_event(head.status.as_u16(), &head.headers, &body);
                self.to_client(Message::text(event)).await?;
                if self.backend.handle.is_valid(&client) {
                    Ok(())
                } else {
                    Err(SocketEnd::Close(CloseCode::Policy, "the gateway key is not valid any more"))
                }
            }
            ForwardEnd::Reconnect => {
                let sent = forward.attempts > 0;
                let mut record = forward.request.record;
                if sent {
                    let reason = record.last_reason().unwrap_or("the connection has ended");
                    let reason = format!("{reason}: its client sends it again");
                    record.ends(RequestEnd::Broken, Some(&reason));
                } else {
                    // it was not sent, and comes again
                    record.discard();
                }
                self.backend.handle.all_saved().await;
                Err(SocketEnd::Close(RECONNECT, "the account has changed"))
            }
        }
    }

    /// The request that a turn is, and whether it continues a conversation that only this connection has.
    fn request(&self, text: &Utf8Bytes, config: &GatewayConfig) -> (RequestParts, bool) {
        let SocketOrigin { client, connection, peer, cut, budget } = &self.origin;
        let UpgradeRequest { route, query, headers, .. } = &self.upgrade;
        let limits = BufferLimits {
            budget: budget.clone(),
            max_body: config.gateway.max_body,
            total: config.gateway.buffer_total,
        };
        let source =
            RecordedSource { client: client.clone(), peer: peer.clone(), cut: cut.clone(), received_at: now() };
        let mut record = RequestRecord::begin(&self.backend.recorder, &source, (&route.provider, &route.path));
        let wanted = WantedText::of(&route.provider, &route.path);
        let mut buffered = BufferedRequest::of_message(headers.clone(), text.clone().into(), &limits, &wanted);
        let previous = ClientMessage::read(text).previous_response_id;
        let has_created = |id: &str| self.upstream.as_ref().is_some_and(|upstream| upstream.has_created(id));
        let previous = previous.filter(|id| has_created(id));
        if let Some(previous) = &previous {
            // its client can do without it: it sends the whole conversation on another connection
            buffered.text.stored_ids.retain(|id| id != previous);
        }
        let model = buffered.text.model.take().filter(|model| model.len() <= 200);
        record.is_for(model.as_deref(), buffered.text.session.as_deref(), None);
        let request = RequestParts {
            connection: *connection,
            peer: peer.clone(),
            route: route.clone(),
            query: query.clone(),
            buffered,
            model,
            pool: None,
            record,
            in_flight: Some(self.backend.metrics.in_flight()),
        };
        (request, previous.is_some())
    }

    /// The client gets the provider's own refusal.
    async fn refuse(&mut self, refused: UpstreamRefusal<()>, mut observed: ObservedRequest) -> Result<(), SocketEnd> {
        let record = &mut observed.record;
        let status = refused.head.status.as_u16();
        let reason = record.last_reason().map_or_else(|| format!("status {status}"), str::to_owned);
        record.ends(RequestEnd::Refused, Some(&reason));
        drop(observed);
        self.backend.handle.all_saved().await;
        match refused.document() {
            // of the opening of a connection
            Some(body) => {
                let headers = response::without_hop_by_hop(&refused.head.headers);
                let event = error_event(status, &headers, body);
                self.to_client(Message::text(event)).await
            }
            None => {
                for event in refused.first {
                    self.event_to_client(event).await?;
                }
                Ok(())
            }
        }
    }

    /// Relays the events of a turn until the last one.
    async fn relay_turn(&mut self, mut observer: TurnObserver, first: Vec<Bytes>) -> Result<(), SocketEnd> {
        for event in first {
            if self.relay_event(&mut observer, event).await? {
                return Ok(());
            }
        }
        loop {
            let may_read = self.waiting.len() < MOST_WAITING;
            let Some(upstream) = &mut self.upstream else { return Err(SocketEnd::AsUpstream(None)) };
            tokio::select! {
                biased;
                message = next_message(&mut self.client), if may_read => match message {
                    SocketMessage::Message(Message::Text(text)) if ClientMessage::read(&text).begins_turn() => {
                        self.waiting.push_back(Message::Text(text));
                    }
                    SocketMessage::Message(message) if self.waiting.is_empty() => self.to_upstream(message).await?,
                    // it stays behind the turn that came before it
                    SocketMessage::Message(message) => self.waiting.push_back(message),
                    closed => return Err(self.client_closed(closed).await),
                },
                message = timeout(response::IDLE_TIMEOUT, upstream.next()) => match message {
                    Ok(SocketMessage::Message(Message::Text(text))) => {
                        if self.relay_event(&mut observer, text.into()).await? {
                            return Ok(());
                        }
                    }
                    Ok(SocketMessage::Message(message)) => self.to_client(message).await?,
                    Ok(SocketMessage::Closed(frame)) => {
                        observer.broke_off(&close_reason(frame.as_ref()));
                        return Err(SocketEnd::AsUpstream(frame));
                    }
                    Ok(SocketMessage::Lost(reason)) => {
                        observer.broke_off(&reason);
                        return Err(SocketEnd::AsUpstream(None));
                    }
                    Err(_) => {
                        observer.broke_off("the upstream has sent nothing for 10 minutes");
                        return Err(SocketEnd::AsUpstream(None));
                    }
                },
            }
        }
    }

    /// Relays an event; returns whether it was the last one of the turn.
    async fn relay_event(&mut self, observer: &mut TurnObserver, event: Bytes) -> Result<bool, SocketEnd> {
        if let Some(upstream) = &mut self.upstream {
            upstream.note_created(&observer.created_ids(&event));
        }
        let (saved, is_last) = match observer.observe(&event) {
            TurnEvent::Goes => (None, false),
            TurnEvent::Last(saved) => (saved, true),
            TurnEvent::Moves(saved) => {
                if let Some(saved) = saved {
                    let _saved_or_ended = saved.await;
                }
                return Err(SocketEnd::Close(RECONNECT, "the account has changed"));
            }
        };
        if let Some(saved) = saved {
            // it is dropped with the store, when the daemon ends
            let _saved_or_ended = saved.await;
        }
        self.event_to_client(event).await?;
        Ok(is_last)
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

/// Keeps what the client sends while its turn waits for an account, until it closes its socket.
async fn keep_messages(client: &mut SocketStream, waiting: &mut VecDeque<Message>) -> SocketMessage {
    while waiting.len() < MOST_WAITING {
        match next_message(client).await {
            SocketMessage::Message(message @ (Message::Text(_) | Message::Binary(_))) => waiting.push_back(message),
            // the library has answered a ping
            SocketMessage::Message(_) => {}
            closed => return closed,
        }
    }
    std::future::pending().await
}

/// Waits until an idle socket's client does not use this account any more.
async fn lease_moves(backend: &Backend, origin: &SocketOrigin, upgrade: &UpgradeRequest, account: Option<AccountId>) {
    let Some(account) = account else { return std::future::pending().await };
    loop {
        backend.handle.pool_changed().await;
        sleep(SETTLING).await;
        if !backend.handle.uses_account(&origin.client, &upgrade.route.provider, account) {
            return;
        }
    }
}
