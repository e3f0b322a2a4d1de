//! One turn in a client's socket: its request, its answer, and its events on their way to the client.

use std::collections::VecDeque;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::handshake::SocketOrigin;
use super::message::{ClientMessage, error_event};
use super::relay::{RECONNECT, SocketEnd, SocketRelay};
use super::turn::TurnTransport;
use super::turn_observer::{TurnEvent, TurnObserver};
use super::upstream_socket::{SocketMessage, SocketStream, close_reason, next_message};
use crate::daemon::GatewayConfig;
use crate::gateway::forward::{Forward, ForwardEnd, UpgradeRequest, UpstreamRefusal};
use crate::gateway::record::{RecordedSource, RequestEnd, RequestRecord, recorded_path};
use crate::gateway::request::{BufferLimits, BufferedRequest, RequestParts, WantedText};
use crate::gateway::response::{self, ObservedRequest};
use crate::gateway::waiting::now;

/// The most messages of a client that wait while a turn is under way; further ones are not read.
const MOST_WAITING: usize = 16;
/// No more are read, either, when those that wait have so many bytes.
const MOST_WAITING_BYTES: usize = 1 << 20;

impl SocketRelay<'_> {
    /// Serves one turn.
    pub(super) async fn turn(&mut self, text: Utf8Bytes) -> Result<(), SocketEnd> {
        let config = (self.config)();
        let (request, is_continued) = self.request(&text, &config);
        let is_subagents = request.buffered.text.subagent.is_some();
        let client = self.origin.client.clone();
        let mut forward = Forward::new(self.backend, &client, request, &config);
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
                self.follows_lease = !is_subagents && !lease.ends_with_request();
                forward.note_served();
                let observed = forward.observed(&account, StatusCode::OK);
                let observer = TurnObserver::new(&self.upgrade.route.provider, observed, lease, &first);
                self.relay_turn(observer, first).await
            }
            ForwardEnd::Refused(_lease, account, refused) => {
                let observed = forward.observed(&account, refused.head.status);
                self.refuse(*refused, observed).await
            }
            ForwardEnd::Answer(response) => {
                // it waits for no room any more, however slowly its client reads
                drop(forward);
                let (head, body) = response.into_parts();
                self.backend.handle.all_saved().await;
                let body = body.into_complete().unwrap_or_default();
                let event = error_event(head.status.as_u16(), &head.headers, &body);
                self.pass_to_client(Message::text(event)).await?;
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
    fn request(&self, text: &Utf8Bytes, config: &GatewayConfig) -> (Box<RequestParts>, bool) {
        let SocketOrigin { client, connection, peer, cut, budget } = &self.origin;
        let UpgradeRequest { route, headers, .. } = &self.upgrade;
        let limits = BufferLimits {
            budget: budget.clone(),
            max_body: config.gateway.max_body,
            total: config.gateway.buffer_total,
        };
        let source =
            RecordedSource { client: client.clone(), peer: peer.clone(), cut: cut.clone(), received_at: now() };
        let mut record = RequestRecord::begin(
            &self.backend.recorder,
            &source,
            (route.provider.clone(), recorded_path(&route.path).into()),
        );
        let wanted = WantedText::of(&route.provider, &route.path);
        let message = ClientMessage::read(text);
        let said = (headers.clone(), |name| message.metadata(name));
        let mut buffered = BufferedRequest::of_message(said, text.clone().into(), &limits, &wanted);
        let previous = message.previous_response_id.as_deref();
        let has_created = |id: &str| self.upstream.as_ref().is_some_and(|upstream| upstream.has_created(id));
        let previous = previous.filter(|id| has_created(id));
        if let Some(previous) = previous {
            // its client can do without it: it sends the whole conversation on another connection
            buffered.text.stored_ids.retain(|id| id != previous);
        }
        let model = buffered.text.model.clone().filter(|model| model.len() <= 200);
        record.is_for(model.as_ref(), buffered.text.session.as_ref(), None);
        let request = RequestParts {
            connection: *connection,
            peer: peer.clone(),
            route: route.clone(),
            buffered,
            model,
            pool: None,
            record,
            in_flight: Some(self.backend.metrics.in_flight()),
        };
        (Box::new(request), previous.is_some())
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
                let headers = response::without_hop_by_hop(refused.head.headers.clone());
                let event = error_event(status, &headers, body);
                self.pass_to_client(Message::text(event)).await
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
            let may_read = may_wait(&self.waiting);
            let Some(upstream) = &mut self.upstream else { return Err(SocketEnd::AsUpstream(None)) };
            tokio::select! {
                biased;
                message = next_message(&mut self.client), if may_read => match message {
                    SocketMessage::Message(Message::Text(text)) if ClientMessage::read(&text).begins_turn() => {
                        self.waiting.push_back(Message::Text(text));
                    }
                    SocketMessage::Message(message) if self.waiting.is_empty() => self.pass_to_upstream(message).await?,
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
                    Ok(SocketMessage::Message(message)) => self.pass_to_client(message).await?,
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
}

/// Whether there is room for another message.
fn may_wait(waiting: &VecDeque<Message>) -> bool {
    waiting.len() < MOST_WAITING && waiting.iter().map(Message::len).sum::<usize>() < MOST_WAITING_BYTES
}

/// Keeps what the client sends while its turn waits for an account, until it closes its socket.
async fn keep_messages(client: &mut SocketStream, waiting: &mut VecDeque<Message>) -> SocketMessage {
    while may_wait(waiting) {
        match next_message(client).await {
            SocketMessage::Message(message @ (Message::Text(_) | Message::Binary(_))) => waiting.push_back(message),
            // the library has answered a ping
            SocketMessage::Message(_) => {}
            closed => return closed,
        }
    }
    std::future::pending().await
}
