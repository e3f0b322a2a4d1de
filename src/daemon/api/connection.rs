//! One connection: reads messages and writes answers, with bounds on time and size.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroize as _;

use crate::daemon::{api::session::Session, os::socket::finish_reading, state::Daemon, state::outbox::Outbox};
use crate::pool::ConnectionId;
use crate::protocol::{Codec, ErrorInfo, ErrorKind, Fatal, Incoming, MessageDecoder, RequestId};

/// The time for the first whole message.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);
/// The time for the rest of a message that has begun.
const WHOLE_MESSAGE: Duration = Duration::from_secs(30);
/// A client that reads nothing for this long is disconnected.
const UNREAD: Duration = Duration::from_secs(30);
/// How long the connection waits for outstanding answers after the client has stopped sending.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Answers above this size are written before the next message is served: a short call can have a long answer.
const MAX_BUFFERED: usize = 64 * 1024;
/// The capacity that a buffer keeps between messages, in bytes.
const KEPT_CAPACITY: usize = 16 * 1024;

/// Serves one client until either side ends the connection; the daemon has its outbox already.
pub async fn serve(daemon: Arc<Daemon>, stream: Stream, id: ConnectionId, pid: Option<u32>, outbox: Arc<Outbox>) {
    let mut connected = Connection {
        session: Session { connection: id, pid, codec: Codec::Json, outbox, holder: None, greeted: false },
        decoder: MessageDecoder::default(),
        out: Vec::new(),
        deadline: Some(deadline(FIRST_MESSAGE)),
    };
    let end = connected.run(&daemon, &stream).await;
    // leases of the connection end before the last answers are waited for
    daemon.connection_ended(id);
    let _in_time = match end {
        // the client may have closed its half only, as a shell's pipe does; or the daemon ends
        End::InputEnded => timeout(LAST_ANSWERS, connected.write_last_answers(&stream)).await.is_ok(),
        End::Closed => timeout(LAST_ANSWERS, finish_reading(&stream)).await.is_ok(),
    };
}

struct Connection {
    session: Session,
    decoder: MessageDecoder,
    out: Vec<u8>,
    /// When the next message must be whole.
    deadline: Option<Instant>,
}

enum Input {
    Arrived(usize),
    /// Messages that have arrived are not served yet.
    Unserved,
    Woken,
    TooSlow,
}

enum ConnectionStep {
    Read,
    /// Serve the messages that have arrived.
    Serve,
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
    async fn run(&mut self, daemon: &Arc<Daemon>, mut stream: &Stream) -> End {
        let mut step = ConnectionStep::Read;
        loop {
            let input = if matches!(step, ConnectionStep::Serve) {
                Input::Unserved
            } else {
                let inbox = self.decoder.inbox();
                tokio::select! {
                    biased;
                    read = stream.read_buf(inbox) => Input::Arrived(read.unwrap_or(0)),
                    () = self.session.outbox.changed() => Input::Woken,
                    () = passed(self.deadline) => Input::TooSlow,
                }
            };
            step = match input {
                Input::Arrived(0) => {
                    // a last message without a line end is served, too
                    if let Some(incoming) = self.decoder.take_rest() {
                        self.serve(daemon, incoming);
                    }
                    ConnectionStep::Stop(End::InputEnded)
                }
                Input::Arrived(_) | Input::Unserved => self.serve_messages(daemon),
                Input::Woken => ConnectionStep::Read,
                Input::TooSlow => {
                    let error = ErrorInfo::new(ErrorKind::BadRequest, "a whole message was expected by now");
                    self.fail(self.decoder.codec().unwrap_or(Codec::Json), &error)
                }
            };
            // checked before the outbox is drained: answers from before the close are still sent
            let is_closed = self.session.outbox.is_closed();
            self.session.outbox.drain_into(&mut self.out);
            if !self.out.is_empty() && self.write(stream).await.is_none() {
                return End::Closed;
            }
            if let ConnectionStep::Stop(end) = step {
                return end;
            }
            if is_closed {
                return End::InputEnded;
            }
        }
    }

    /// Serves the messages that have arrived, until the buffer of answers is full.
    fn serve_messages(&mut self, daemon: &Arc<Daemon>) -> ConnectionStep {
        while self.out.len() < MAX_BUFFERED {
            match self.decoder.take() {
                Ok(Some(incoming)) => {
                    self.session.codec = self.decoder.codec().unwrap_or(Codec::Json);
                    self.deadline = None;
                    self.serve(daemon, incoming);
                    if self.session.codec == Codec::Binary && !self.session.greeted {
                        return ConnectionStep::Stop(End::Closed);
                    }
                }
                Ok(None) => {
                    // until the first message is whole, the first deadline applies
                    if self.deadline.is_none() && self.decoder.is_partial() {
                        self.deadline = Some(deadline(WHOLE_MESSAGE));
                    }
                    return ConnectionStep::Read;
                }
                Err(Fatal { codec, error }) => return self.fail(codec, &error),
            }
        }
        ConnectionStep::Serve
    }

    fn serve(&mut self, daemon: &Arc<Daemon>, incoming: Incoming) {
        match incoming.call {
            Ok(call) => self.session.serve(daemon, incoming.id, call, &mut self.out),
            Err(error) => self.session.refuse(incoming.id, &error, &mut self.out),
        }
    }

    /// Ends the connection with an error that belongs to no call.
    fn fail(&mut self, codec: Codec, error: &ErrorInfo) -> ConnectionStep {
        self.session.codec = codec;
        self.session.refuse(Some(RequestId::Json("null".into())), error, &mut self.out);
        ConnectionStep::Stop(End::Closed)
    }

    /// Writes the answers of the calls that still wait.
    async fn write_last_answers(&mut self, stream: &Stream) -> Option<()> {
        loop {
            let more = self.session.outbox.answered().await;
            self.session.outbox.drain_into(&mut self.out);
            self.write(stream).await?;
            if !more {
                return Some(());
            }
        }
    }

    /// Writes the answers; `None` when the client does not read them.
    async fn write(&mut self, mut stream: &Stream) -> Option<()> {
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            let mut write = pin!(stream.write(rest));
            // most writes finish immediately: a timer is created only for the others
            let written = match poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await {
                Poll::Ready(written) => written.ok()?,
                Poll::Pending => tokio::select! {
                    written = timeout(UNREAD, write) => written.ok()?.ok()?,
                    () = self.session.outbox.overflowed() => return None,
                },
            };
            rest = rest.get(written..).filter(|_| written > 0)?;
        }
        self.out.clear();
        if self.out.capacity() > KEPT_CAPACITY {
            self.out.zeroize();
            self.out = Vec::new();
        }
        self.decoder.shrink();
        Some(())
    }
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
