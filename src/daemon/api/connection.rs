//! One connection: read, answer, write; bounded in time and size whatever the other end does.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroize as _;

use crate::pool::ConnectionId;
use crate::protocol::{Codec, ErrorInfo, Fatal, MessageDecoder, RequestId};

use crate::daemon::api::session::ClientSession;
use crate::daemon::os::socket::finish_reading;
use crate::daemon::state::Daemon;
use crate::daemon::state::outbox::Outbox;

/// The first whole message must be there by then.
const FIRST_MESSAGE: Duration = Duration::from_secs(5);
/// A message that has begun must be whole by then.
const WHOLE_MESSAGE: Duration = Duration::from_secs(30);
/// A client that reads nothing for so long is closed.
const UNREAD: Duration = Duration::from_secs(30);
/// How long the answers of calls that wait for the disk are waited for after the client has said its last word.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// So much is said before the next message is looked at: a few bytes can ask for a long list.
const SAID_AT_ONCE: usize = 64 * 1024;
/// What a buffer keeps between messages.
const KEPT: usize = 16 * 1024;

/// Serves one client until it leaves, or has to; the daemon knows its outbox already.
pub(crate) async fn serve(
    daemon: Arc<Daemon>,
    stream: Stream,
    connection: ConnectionId,
    pid: Option<u32>,
    outbox: Arc<Outbox>,
) {
    let mut conversation = Conversation {
        session: ClientSession { connection, pid, codec: Codec::Json, outbox, holder: None, greeted: false },
        decoder: MessageDecoder::default(),
        out: Vec::new(),
        deadline: Some(deadline(FIRST_MESSAGE)),
    };
    let end = conversation.run(&daemon, &stream).await;
    // what hangs on the connection ends before anything else is waited for
    daemon.connection_ended(connection);
    let _in_time = match end {
        // it may only have closed its half, as a shell's pipe does; or the daemon ends
        End::UpstreamOutcome => timeout(LAST_ANSWERS, conversation.say_the_last(&stream)).await.is_ok(),
        End::Over => timeout(LAST_ANSWERS, finish_reading(&stream)).await.is_ok(),
    };
}

struct Conversation {
    session: ClientSession,
    decoder: MessageDecoder,
    out: Vec<u8>,
    /// When the message that is expected must be whole.
    deadline: Option<Instant>,
}

enum Next {
    Arrived(usize),
    /// More has arrived than was answered.
    Waiting,
    Woken,
    TooSlow,
}

enum Then {
    Listen,
    /// There may be whole messages left.
    GoOn,
    Stop(End),
}

enum End {
    /// Nothing more is listened to.
    UpstreamOutcome,
    /// Nothing more is to be said to it, or it does not listen.
    Over,
}

impl Drop for Conversation {
    /// Secrets have gone both ways.
    fn drop(&mut self) {
        self.out.zeroize();
        self.decoder.wipe();
    }
}

impl Conversation {
    async fn run(&mut self, daemon: &Arc<Daemon>, mut stream: &Stream) -> End {
        let mut then = Then::Listen;
        loop {
            let next = if matches!(then, Then::GoOn) {
                Next::Waiting
            } else {
                let inbox = self.decoder.inbox();
                tokio::select! {
                    biased;
                    read = stream.read_buf(inbox) => Next::Arrived(read.unwrap_or(0)),
                    () = self.session.outbox.changed() => Next::Woken,
                    () = passed(self.deadline) => Next::TooSlow,
                }
            };
            then = match next {
                Next::Arrived(0) => {
                    self.answer_the_rest(daemon);
                    Then::Stop(End::UpstreamOutcome)
                }
                Next::Arrived(_) | Next::Waiting => self.answer_messages(daemon),
                Next::Woken => Then::Listen,
                Next::TooSlow => {
                    let error = ErrorInfo::new("bad_request", "a whole message was expected by now");
                    self.session.codec = self.decoder.codec().unwrap_or(Codec::Json);
                    self.session.refuse(Some(RequestId::Json("null".into())), &error, &mut self.out);
                    Then::Stop(End::Over)
                }
            };
            // looked at first: what was said before the close still goes out
            let is_closed = self.session.outbox.is_closed();
            self.session.outbox.drain_into(&mut self.out);
            if !self.out.is_empty() && self.write(stream).await.is_none() {
                return End::Over;
            }
            if let Then::Stop(end) = then {
                return end;
            }
            if is_closed {
                return End::UpstreamOutcome;
            }
        }
    }

    /// Answers the messages that have arrived, as many as can be said at once.
    fn answer_messages(&mut self, daemon: &Arc<Daemon>) -> Then {
        while self.out.len() < SAID_AT_ONCE {
            match self.decoder.take() {
                Ok(Some(incoming)) => {
                    self.session.codec = self.decoder.codec().unwrap_or(Codec::Json);
                    self.deadline = None;
                    match incoming.call {
                        Ok(call) => self.session.serve(daemon, incoming.id, call, &mut self.out),
                        Err(error) => self.session.refuse(incoming.id, &error, &mut self.out),
                    }
                    if self.session.codec == Codec::Binary && !self.session.greeted {
                        return Then::Stop(End::Over);
                    }
                }
                Ok(None) => {
                    // until the first message is whole, the first deadline stands
                    if self.deadline.is_none() && self.decoder.is_partial() {
                        self.deadline = Some(deadline(WHOLE_MESSAGE));
                    }
                    return Then::Listen;
                }
                Err(Fatal { codec, error }) => {
                    self.session.codec = codec;
                    self.session.refuse(Some(RequestId::Json("null".into())), &error, &mut self.out);
                    return Then::Stop(End::Over);
                }
            }
        }
        Then::GoOn
    }

    /// A last message without a line's end is answered too.
    fn answer_the_rest(&mut self, daemon: &Arc<Daemon>) {
        if let Some(incoming) = self.decoder.take_rest() {
            match incoming.call {
                Ok(call) => self.session.serve(daemon, incoming.id, call, &mut self.out),
                Err(error) => self.session.refuse(incoming.id, &error, &mut self.out),
            }
        }
    }

    /// Sends the answers that still come, of calls that wait for the disk.
    async fn say_the_last(&mut self, stream: &Stream) -> Option<()> {
        loop {
            let more = self.session.outbox.answered().await;
            self.session.outbox.drain_into(&mut self.out);
            self.write(stream).await?;
            if !more {
                return Some(());
            }
        }
    }

    /// Writes what there is to say; `None` when the other end does not take it.
    async fn write(&mut self, mut stream: &Stream) -> Option<()> {
        let mut rest = self.out.as_slice();
        while !rest.is_empty() {
            let mut write = pin!(stream.write(rest));
            // clients that read are the rule: the timer is made for the others
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
        if self.out.capacity() > KEPT {
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
