//! One connection: reads messages and writes answers, with bounds on time and size.

mod early;
mod planned;
pub(crate) mod planner;
mod relayed;
mod turn;
mod writing;

use std::{future::poll_fn, sync::Arc, time::Duration};

use interprocess::local_socket::tokio::Stream;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::{Zeroize as _, Zeroizing};

use super::dispatch::{is_planned, is_pointless};
use super::session::{IssuedLeases, Session};
use super::session_guest::SessionGuest;
use crate::daemon::host_link::relay::HostRelay;
use crate::daemon::memory::{MemoryBudget, MemoryShare};
use crate::daemon::{os::socket::ClientStream, state::Daemon, state::outbox::Outbox};
use crate::pool::ConnectionId;
use crate::protocol::{Codec, ErrorInfo, ErrorKind, Fatal, GuestStart, Incoming, MessageDecoder, RequestId};
pub use early::serve_early;
use planned::{PlannedMessage, no_memory};
use planner::Planner;
use turn::{AdmittedTurn, Gate, Turn};

#[cfg(test)]
#[cfg(unix)]
mod tests;

/// The time for the first whole message.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);
/// The time for the rest of a message that has begun.
const WHOLE_MESSAGE: Duration = Duration::from_secs(30);
/// How long the connection waits for outstanding answers after the client has stopped sending.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Answers above this size are written before the next message is served: a short call can have a long answer.
const MAX_BUFFERED: usize = 64 * 1024;
/// A message above this size is parsed on the planner's thread.
const LARGE_MESSAGE: usize = 8 * 1024;
/// Up to this many bytes, a buffer of a connection is not counted against the budgets of all connections.
const UNCOUNTED: usize = 4 * 1024;
/// The memory of calls: messages that have arrived in part, and calls that are not answered yet.
const MEMORY_OF_CALLS: usize = 24 << 20;
/// The memory of answers and events that clients have not read.
const MEMORY_OF_ANSWERS: usize = 24 << 20;

/// What all connections share.
#[derive(Debug)]
pub struct SharedLimits {
    gate: Gate,
    planner: Planner,
    calls: MemoryBudget,
    answers: MemoryBudget,
}

impl SharedLimits {
    pub fn new(planner: &Planner) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(),
            planner: planner.clone(),
            calls: MemoryBudget::new(MEMORY_OF_CALLS),
            answers: MemoryBudget::new(MEMORY_OF_ANSWERS),
        })
    }

    /// The outbox of a new connection.
    pub fn outbox(&self) -> Arc<Outbox> {
        Arc::new(Outbox::new(&self.answers))
    }
}

/// Serves one client until either side ends the connection; the daemon has its outbox already.
pub async fn serve(
    daemon: Arc<Daemon>,
    limits: Arc<SharedLimits>,
    stream: Stream,
    client: (ConnectionId, Option<u32>),
    outbox: Arc<Outbox>,
) {
    match client_stream(stream) {
        Some(stream) => {
            let mut connected = Connection::new(client, outbox, limits);
            connected.serve_until_end(&daemon, ConnectionStep::Read, &stream).await;
        }
        None => daemon.connection_ended(client.0),
    }
}

/// Serves a client of a container until either side ends the connection.
#[cfg(unix)]
pub async fn serve_guest(
    daemon: Arc<Daemon>,
    limits: Arc<SharedLimits>,
    stream: Stream,
    (id, guest): (ConnectionId, Arc<SessionGuest>),
    outbox: Arc<Outbox>,
) {
    match client_stream(stream) {
        Some(stream) => {
            let mut connected = Connection::new((id, None), outbox, limits);
            connected.session.guest = Some(guest);
            connected.serve_until_end(&daemon, ConnectionStep::Read, &stream).await;
        }
        None => daemon.connection_ended(id),
    }
}

/// The connection as it is read and written; `None` if the system refuses that.
fn client_stream(stream: Stream) -> Option<ClientStream> {
    let refused = |error| tracing::warn!("a client cannot be served: {error}");
    ClientStream::new(stream).map_err(refused).ok()
}

struct Connection {
    session: Session,
    decoder: MessageDecoder,
    out: Vec<u8>,
    /// When the next message must be whole.
    deadline: Option<Instant>,
    turn: Turn,
    /// The memory of a message that has arrived in part.
    arrived: MemoryShare,
    /// The memory of answers that the client has not read.
    unread: MemoryShare,
    limits: Arc<SharedLimits>,
    /// Where calls go that a host serves, once one has come.
    relay: Option<HostRelay>,
}

enum Input {
    Arrived(usize),
    Woken,
    TooSlow,
}

enum ConnectionStep {
    Read,
    /// Serve the messages that have arrived.
    Serve,
    /// Have the planner serve a message, then go on with the next one.
    Plan(PlannedMessage),
    Stop(End),
}

enum End {
    /// The client has stopped sending; it may still read.
    InputEnded,
    /// Nothing more is sent to the client, or it does not read.
    Closed,
}

impl Drop for Connection {
    /// The buffers hold secrets.
    fn drop(&mut self) {
        self.out.zeroize();
        self.decoder.wipe();
    }
}

impl Connection {
    fn new((id, pid): (ConnectionId, Option<u32>), outbox: Arc<Outbox>, limits: Arc<SharedLimits>) -> Self {
        let (holder, greeted, issued, guest) = (None, false, IssuedLeases::default(), None);
        Self {
            session: Session { connection: id, pid, codec: Codec::Json, outbox, holder, greeted, issued, guest },
            decoder: MessageDecoder::default(),
            out: Vec::new(),
            deadline: Some(deadline(FIRST_MESSAGE)),
            turn: Turn::default(),
            arrived: limits.calls.share(),
            unread: limits.answers.share(),
            limits,
            relay: None,
        }
    }

    async fn serve_until_end(&mut self, daemon: &Arc<Daemon>, first: ConnectionStep, stream: &ClientStream) {
        let end = self.run(daemon, first, stream).await;
        // leases of the connection end before the last answers are waited for
        daemon.connection_ended(self.session.connection);
        let _in_time = match end {
            // the client may have closed its half only, as a shell's pipe does; or the daemon ends
            End::InputEnded => timeout(LAST_ANSWERS, self.write_last_answers(stream)).await.is_ok(),
            End::Closed => timeout(LAST_ANSWERS, stream.finish_reading()).await.is_ok(),
        };
    }

    async fn run(&mut self, daemon: &Arc<Daemon>, mut step: ConnectionStep, stream: &ClientStream) -> End {
        loop {
            let mut admitted = None;
            step = match step {
                ConnectionStep::Stop(end) => return end,
                ConnectionStep::Plan(message) => self.plan(daemon, message).await,
                ConnectionStep::Serve => {
                    admitted = self.next_turn().await;
                    self.serve_messages(daemon, false)
                }
                ConnectionStep::Read => match self.input(stream).await {
                    Input::Arrived(length) => {
                        self.turn.received(length);
                        admitted = self.next_turn().await;
                        // a last message without a line end is served, too
                        self.serve_messages(daemon, length == 0)
                    }
                    Input::Woken => ConnectionStep::Read,
                    Input::TooSlow => {
                        let error = ErrorInfo::new(ErrorKind::BadRequest, "a whole message was expected by now");
                        self.fail(self.decoder.codec().unwrap_or(Codec::Json), &error)
                    }
                },
            };
            // checked before the outbox is drained: answers from before the close are still sent
            let is_closed = self.session.outbox.is_closed();
            self.session.outbox.drain_into(&mut self.out);
            if !self.out.is_empty() && self.write(stream, &mut admitted).await.is_none() {
                return End::Closed;
            }
            if let Some(admitted) = admitted {
                admitted.end().await;
            }
            if is_closed && !matches!(step, ConnectionStep::Stop(_)) {
                return End::InputEnded;
            }
        }
    }

    /// Waits for input, or until there is something to send.
    async fn input(&mut self, stream: &ClientStream) -> Input {
        let (inbox, turn) = (self.decoder.inbox(), &mut self.turn);
        let read = poll_fn(|context| {
            let read = stream.poll_read(context, inbox);
            if read.is_pending() {
                turn.begin();
            }
            read
        });
        tokio::select! {
            biased;
            read = read => Input::Arrived(read.unwrap_or(0)),
            () = self.session.outbox.changed() => Input::Woken,
            () = passed(self.deadline) => Input::TooSlow,
        }
    }

    /// Waits for the next turn, if this one is over.
    async fn next_turn(&mut self) -> Option<AdmittedTurn> {
        if !self.turn.is_over() {
            return None;
        }
        let admitted = self.limits.gate.enter().await;
        self.turn.begin();
        admitted
    }

    /// Serves the messages that have arrived, until the turn is over or the buffer of answers is full.
    fn serve_messages(&mut self, daemon: &Arc<Daemon>, is_end: bool) -> ConnectionStep {
        while self.out.len() < MAX_BUFFERED && !self.turn.is_over() {
            match self.serve_message(daemon, is_end) {
                Ok(Some(ConnectionStep::Serve)) => self.turn.served(),
                Ok(Some(step)) => return step,
                Ok(None) if is_end => return ConnectionStep::Stop(End::InputEnded),
                Ok(None) => {
                    // until the first message is whole, the first deadline applies
                    if self.deadline.is_none() && self.decoder.is_partial() {
                        self.deadline = Some(deadline(WHOLE_MESSAGE));
                    }
                    self.count_arrived();
                    return ConnectionStep::Read;
                }
                Err(Fatal { codec, error }) => return self.fail(codec, &error),
            }
        }
        // the end of the input is found again
        if is_end { ConnectionStep::Read } else { ConnectionStep::Serve }
    }

    /// Serves one message, if one has arrived; answers how to go on.
    fn serve_message(&mut self, daemon: &Arc<Daemon>, is_end: bool) -> Result<Option<ConnectionStep>, Fatal> {
        if self.decoder.codec().is_none() && self.session.guest.is_none() {
            match self.decoder.take_guest_start()? {
                GuestStart::No => {}
                GuestStart::Partial => return Ok(None),
                GuestStart::Greeting(greeting) => {
                    let guest = SessionGuest::greeted(daemon, self.session.connection, *greeting);
                    let fatal = |error| Fatal { codec: Codec::Json, error: Box::new(error) };
                    self.session.guest = Some(Arc::new(guest.map_err(fatal)?));
                    // what is at the other end of the connection only passes on
                    self.session.pid = None;
                }
            }
        }
        let message = if is_end { self.decoder.take_rest() } else { self.decoder.take_raw()? };
        let Some(message) = message else { return Ok(None) };
        self.deadline = None;
        let (codec, length) = (message.codec, message.bytes.len());
        self.session.codec = codec;
        if daemon.host_link.is_joined() && self.session.guest.is_none() && !self.session.awaits_hello() {
            let incoming = message.parse()?;
            return Ok(Some(self.relay_or_serve(daemon, incoming, length)));
        }
        if length > LARGE_MESSAGE {
            let id = message.id();
            let bytes = Zeroizing::new(message.bytes.to_vec());
            self.decoder.shrink();
            self.arrived.clear();
            let mut memory = self.limits.calls.share();
            if memory.resize(length).is_err() {
                self.refuse(id, &no_memory());
                return Ok(Some(ConnectionStep::Serve));
            }
            return Ok(Some(ConnectionStep::Plan(PlannedMessage::Large(codec, bytes, memory))));
        }
        if self.session.serves_plain(daemon)
            && let Some(plain) = message.plain()
            && !plain.is_pointless()
        {
            self.session.serve_plain(daemon, plain, &mut self.out);
            return Ok(Some(ConnectionStep::Serve));
        }
        let incoming = message.parse()?;
        Ok(Some(self.plan_or_serve(daemon, incoming, length)))
    }

    fn plan_or_serve(&mut self, daemon: &Arc<Daemon>, incoming: Incoming, length: usize) -> ConnectionStep {
        match incoming.call {
            Ok(call)
                if is_planned(&call) && !is_pointless(incoming.id.as_ref(), &call) && !self.session.awaits_hello() =>
            {
                let responder = self.session.responder(incoming.id);
                ConnectionStep::Plan(PlannedMessage::Parsed(responder, call, length))
            }
            call => self.serve(daemon, Incoming { id: incoming.id, call }),
        }
    }

    /// Serves a message on this thread.
    fn serve(&mut self, daemon: &Arc<Daemon>, incoming: Incoming) -> ConnectionStep {
        match incoming.call {
            Ok(call) => self.session.serve(daemon, incoming.id, call, &mut self.out),
            Err(error) => self.session.refuse(incoming.id, &error, &mut self.out),
        }
        if self.session.awaits_hello() { ConnectionStep::Stop(End::Closed) } else { ConnectionStep::Serve }
    }

    /// Counts the memory of a message that has arrived in part. Where all connections together have too much of that,
    /// the message is refused, and its bytes are discarded.
    fn count_arrived(&mut self) {
        if self.decoder.pending() <= UNCOUNTED {
            self.decoder.shrink();
            self.arrived.clear();
        } else if self.arrived.resize(self.decoder.capacity()).is_err() {
            let id = self.decoder.discard();
            self.arrived.clear();
            self.session.codec = self.decoder.codec().unwrap_or(Codec::Json);
            self.refuse(id, &no_memory());
        }
    }

    /// Refuses a message that is not parsed.
    fn refuse(&mut self, id: Option<RequestId>, error: &ErrorInfo) {
        self.session.refuse(Some(id.unwrap_or_else(no_id)), error, &mut self.out);
    }

    /// Ends the connection with an error that belongs to no call.
    fn fail(&mut self, codec: Codec, error: &ErrorInfo) -> ConnectionStep {
        self.session.codec = codec;
        self.session.refuse(Some(no_id()), error, &mut self.out);
        ConnectionStep::Stop(End::Closed)
    }
}

/// The id of a message whose id is not known.
fn no_id() -> RequestId {
    RequestId::Json("null".into())
}

fn deadline(after: Duration) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
    let now = Instant::now();
    now + after
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
