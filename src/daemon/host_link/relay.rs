//! Passes the calls of one client on to the host, and the answers back. A call that the link's end has left without an
//! answer is sent again over the next link.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use zeroize::{Zeroize as _, Zeroizing};

use crate::daemon::state::host_link::{HostState, unreachable_host};
use crate::daemon::state::{Daemon, Outbox};
use crate::daemon::{os::clock, view};
use crate::guest::LinkChannel;
use crate::protocol::{
    Answer, AnswerSplitter, Call, Codec, ErrorInfo, ErrorKind, GuestHolder, GuestHoldersParams, GuestRole, HelloParams,
    MAGIC, PROTOCOL, RequestId, encode_call_as,
};

/// A pause before a channel is opened again that has ended while the link was up.
const PAUSE: Duration = Duration::from_millis(100);
/// So many channels in a row may end without an answer.
const MOST_FAILURES: u32 = 100;

/// The calls of one client, on their way to the host. The client's connection has ended when it is dropped.
#[derive(Debug)]
pub(crate) struct HostRelay(mpsc::UnboundedSender<RelayedCall>);

/// One call.
#[derive(Debug)]
pub(crate) struct RelayedCall {
    /// None of a notification.
    pub(crate) id: Option<RequestId>,
    pub(crate) call: Call,
    /// Whom the lease that it asks for will belong to.
    pub(crate) holder: Option<GuestHolder>,
}

impl HostRelay {
    /// Begins to pass on what a client sends; answers go to its outbox.
    pub(crate) fn begin(daemon: &Arc<Daemon>, codec: Codec, outbox: &Arc<Outbox>) -> Self {
        let (calls, received) = mpsc::unbounded_channel();
        let relay = Relay {
            daemon: daemon.clone(),
            codec,
            outbox: outbox.clone(),
            pending: Vec::new(),
            subscription: None,
            failures: 0,
        };
        tokio::spawn(relay.run(received));
        Self(calls)
    }

    /// Passes a call on. The caller has checked that the client may have one more under way.
    pub(crate) fn send(&self, call: RelayedCall, outbox: &Outbox) {
        let is_answered = call.id.is_some();
        if is_answered {
            outbox.begin_wait();
        }
        if self.0.send(call).is_err() && is_answered {
            outbox.end_wait();
        }
    }
}

struct Relay {
    daemon: Arc<Daemon>,
    codec: Codec,
    outbox: Arc<Outbox>,
    /// Calls without an answer, in their order.
    pending: Vec<PendingCall>,
    /// The call that has subscribed to events: it is made again on each channel.
    subscription: Option<PendingCall>,
    /// Channels that have ended without an answer since the last one.
    failures: u32,
}

struct PendingCall {
    id: RequestId,
    /// Whose lease it asks for.
    holder: Option<u32>,
    /// It asks how this daemon is. Without a link that is answered here, as it says why there is none.
    is_status: bool,
    bytes: Zeroizing<Vec<u8>>,
}

/// The channel of the moment.
struct RelayChannel {
    stream: DuplexStream,
    answers: AnswerSplitter,
}

impl Relay {
    async fn run(mut self, mut calls: mpsc::UnboundedReceiver<RelayedCall>) {
        let mut channel: Option<RelayChannel> = None;
        let mut chunk = Zeroizing::new(vec![0; 16 * 1024]);
        loop {
            let wants = channel.is_none() && (!self.pending.is_empty() || self.subscription.is_some());
            let waits_for_status = channel.is_none() && self.pending.iter().any(|pending| pending.is_status);
            tokio::select! {
                biased;
                () = link_is_down(&self.daemon), if waits_for_status => self.answer_status_here(),
                call = calls.recv() => {
                    let Some(call) = call else { break };
                    let bytes = self.take(call);
                    if let (Some(open), Some(bytes)) = (&mut channel, bytes)
                        && open.stream.write_all(&bytes).await.is_err()
                    {
                        channel = None;
                    }
                }
                read = read(&mut channel, &mut chunk), if channel.is_some() => {
                    let is_open = match (read, &mut channel) {
                        (Some(length), Some(open)) => {
                            open.answers.push(&chunk[..length]);
                            self.pass_on(&mut open.answers)
                        }
                        _ => false,
                    };
                    chunk.as_mut_slice().zeroize();
                    if !is_open {
                        channel = None;
                        self.failures += 1;
                    }
                }
                opened = open(&self.daemon, self.failures), if wants => match opened {
                    Ok(mut stream) => {
                        self.refuse_for_ended_holders();
                        if stream.write_all(&self.beginning()).await.is_ok() {
                            channel = Some(RelayChannel { stream, answers: AnswerSplitter::new(self.codec) });
                        } else {
                            self.failures += 1;
                        }
                    }
                    Err(error) => self.refuse_all(&error),
                },
            }
        }
        // their client is gone
        self.pending.drain(..).for_each(|_| self.outbox.end_wait());
    }

    /// Notes a call; answers what is to be sent.
    fn take(&mut self, RelayedCall { id, mut call, holder }: RelayedCall) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        let number = holder.as_ref().map(|holder| holder.number);
        if let Some(holder) = holder {
            let holds = Some(holder.number);
            let params = GuestHoldersParams { begun: vec![holder], holds, ..GuestHoldersParams::default() };
            let stated = encode_call_as(self.codec, None, Call::GuestHolders(Box::new(params)), &mut bytes);
            debug_assert!(stated.is_ok());
        }
        // so that the same call, sent again, gets the same lease
        if let Call::Acquire(params) = &mut call
            && params.request_id.is_none()
        {
            params.request_id = getrandom::u64().ok().map(|number| format!("relay-{number:016x}"));
        }
        let (is_subscription, is_status) = (matches!(call, Call::Subscribe(_)), matches!(call, Call::Status(_)));
        let encoded = encode_call_as(self.codec, id.as_ref(), call, &mut bytes);
        let Some(id) = id else { return encoded.is_ok().then_some(bytes) };
        if let Err(error) = encoded {
            self.refuse(&id, &error);
            return None;
        }
        if is_subscription {
            self.subscription =
                Some(PendingCall { id: id.clone(), holder: None, is_status: false, bytes: bytes.clone() });
        }
        self.pending.push(PendingCall { id, holder: number, is_status, bytes: bytes.clone() });
        Some(bytes)
    }

    /// What a new channel begins with: what is without an answer.
    fn beginning(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::new());
        if self.codec == Codec::Binary {
            bytes.extend_from_slice(&MAGIC);
            let client = format!("lessor {} for a guest's client", env!("CARGO_PKG_VERSION"));
            let hello = Call::Hello(HelloParams { client, protocol: (PROTOCOL, PROTOCOL) });
            let encoded = encode_call_as(self.codec, None, hello, &mut bytes);
            debug_assert!(encoded.is_ok());
        }
        if let Some(subscription) = &self.subscription
            && self.pending.iter().all(|pending| pending.id != subscription.id)
        {
            bytes.extend_from_slice(&subscription.bytes);
        }
        self.pending.iter().for_each(|pending| bytes.extend_from_slice(&pending.bytes));
        bytes
    }

    /// Passes on the answers that have arrived; `false` if what has arrived is no answer.
    fn pass_on(&mut self, answers: &mut AnswerSplitter) -> bool {
        loop {
            let answer = match answers.take() {
                Ok(Some(answer)) => answer,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let bytes = Zeroizing::new(answer.bytes);
            match &answer.id {
                // an event
                None => self.outbox.push(|out| out.extend_from_slice(&bytes)),
                Some(id) => {
                    // other answers are to what this relay has added
                    if let Some(at) = self.pending.iter().position(|pending| pending.id == *id) {
                        self.failures = 0;
                        self.pending.remove(at);
                        self.outbox.push(|out| out.extend_from_slice(&bytes));
                        self.outbox.end_wait();
                    }
                }
            }
        }
    }

    /// Answers the calls about the status that were on their way when the link ended.
    fn answer_status_here(&mut self) {
        let asked: Vec<PendingCall> = self.pending.extract_if(.., |pending| pending.is_status).collect();
        let answer = Answer::Status(Box::new(view::status(&self.daemon, clock::now())));
        for pending in asked {
            self.outbox.push(|out| self.codec.answer(&pending.id, &answer, out));
            self.outbox.end_wait();
        }
    }

    /// Refuses calls whose holder has ended while there was no link: the host did not learn of that end, and would keep the
    /// lease for as long as the link.
    fn refuse_for_ended_holders(&mut self) {
        let ended = {
            let holders = self.daemon.host_link.holders();
            let has_ended = |pending: &mut PendingCall| pending.holder.is_some_and(|number| !holders.is_living(number));
            self.pending.extract_if(.., has_ended).collect::<Vec<_>>()
        };
        let error = ErrorInfo::new(ErrorKind::BadRequest, "the process that the lease is for has ended");
        ended.iter().for_each(|pending| self.refuse(&pending.id, &error));
    }

    fn refuse(&self, id: &RequestId, error: &ErrorInfo) {
        self.outbox.push(|out| self.codec.refusal(id, error, out));
        self.outbox.end_wait();
    }

    fn refuse_all(&mut self, error: &ErrorInfo) {
        self.failures = 0;
        for pending in std::mem::take(&mut self.pending) {
            self.refuse(&pending.id, error);
        }
        if self.subscription.take().is_some() {
            // a subscriber notices the end of its connection, and subscribes again
            self.outbox.close();
        }
    }
}

async fn link_is_down(daemon: &Daemon) {
    let mut state = daemon.host_link.state.subscribe();
    let _gone = state.wait_for(|state| !matches!(state, HostState::Up(..))).await;
}

async fn read(channel: &mut Option<RelayChannel>, chunk: &mut [u8]) -> Option<usize> {
    let channel = channel.as_mut()?;
    channel.stream.read(chunk).await.ok().filter(|length| *length > 0)
}

/// A new channel, once the link is up.
async fn open(daemon: &Daemon, failures: u32) -> Result<DuplexStream, ErrorInfo> {
    if failures >= MOST_FAILURES {
        return Err(unreachable_host(Some("the host's daemon does not serve this guest")));
    }
    if failures > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        let link = daemon.host_link.when_up().await?;
        let purpose = LinkChannel::Socket(Box::new(daemon.guest_greeting(GuestRole::Client)));
        if let Some(stream) = link.open(&purpose).await {
            return Ok(stream);
        }
        // it has just ended, or has too many channels
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
