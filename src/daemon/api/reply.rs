//! The only code that answers a call: for one responder or several, on the spot or later, and only after everything
//! that the answer depends on survives a `kill -9` of the daemon.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroize as _;

use super::connection::planner::let_others_lock;
use super::session::IssuedLeases;
use crate::daemon::event_queue::Programs;
use crate::daemon::state::events::EventReplay;
use crate::daemon::state::{Daemon, Outbox, Pending, Shared, State, Unsaved};
use crate::pool::{Command, ConnectionId, Fence, GuestId, Mono, Now, WaiterId};
use crate::protocol::{Answer, Codec, Empty, ErrorInfo, ErrorKind, HelloInfo, RequestId};
use crate::store::WriteError;

pub use lease::LeaseReply;
use lease::{LeaseResponder, PendingLease, QueuedLease, encode_lease};

mod lease;
#[cfg(test)]
pub(in crate::daemon) mod tests;

/// Proof that a call was answered, or will be. Only this module makes it.
#[derive(Debug)]
pub struct Replied(());

/// The result of a call: an answer, on the spot or later, or an error that nothing unsaved depends on.
pub type CallResult = Result<Replied, ErrorInfo>;

/// The answer of a call that changes nothing, or its error.
pub type AnswerResult = Result<Answer<'static>, ErrorInfo>;
/// The answer of a call whose changes are not saved yet, or its error.
pub type UnsavedAnswer = Result<Unsaved<Answer<'static>>, ErrorInfo>;

/// The call at hand, and where its answer goes.
#[derive(Debug)]
pub struct CallReply<'a> {
    shared: &'a Shared,
    responder: Responder,
    /// What is written when the call returns.
    out: &'a mut Vec<u8>,
    is_view: bool,
    /// The leases that its connection got last.
    pub issued: IssuedLeases,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
pub struct Responder {
    pub connection: ConnectionId,
    pub codec: Codec,
    pub id: RequestId,
    pub outbox: Arc<Outbox>,
    /// The call is a notification: it gets no answer.
    pub quiet: bool,
}

/// How long a view of accounts or leases waits for a disk that hangs: it must not hide why.
const VIEW_WAIT: Duration = Duration::from_secs(1);

/// What a planned call has written. Its bytes are had only by [`Self::when_saved`].
#[derive(Debug)]
pub struct PlannedAnswer {
    bytes: Vec<u8>,
    /// It shows what calls have changed.
    is_view: bool,
}

impl PlannedAnswer {
    /// Serves a call on the planner's thread.
    pub fn of(shared: &Shared, responder: &Responder, serve: impl FnOnce(&mut CallReply<'_>) -> CallResult) -> Self {
        let mut bytes = Vec::new();
        let mut reply = CallReply::new(shared, responder.clone(), &mut bytes);
        if let Err(error) = serve(&mut reply) {
            reply.refuse(&error);
        }
        let is_view = reply.is_view;
        bytes.shrink_to_fit();
        Self { bytes, is_view }
    }

    /// The refusal of a call that was not served.
    pub fn refusal(responder: &Responder, error: &ErrorInfo) -> Self {
        let mut bytes = Vec::new();
        responder.refuse(error, &mut bytes);
        Self { bytes, is_view: false }
    }

    /// The memory that it occupies.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes for the client, when everything that they show is saved. They do not wait long for a disk that hangs.
    pub async fn when_saved(mut self, shared: &Shared) -> Vec<u8> {
        if self.is_view {
            let _saved_or_hangs = tokio::time::timeout(VIEW_WAIT, shared.all_saved()).await;
        }
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for PlannedAnswer {
    /// It may hold secrets.
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<'a> CallReply<'a> {
    pub fn new(shared: &'a Shared, responder: Responder, out: &'a mut Vec<u8>) -> Self {
        Self { shared, responder, out, is_view: false, issued: IssuedLeases::default() }
    }

    /// Answers a call that was refused before it changed anything. The reason may be what another call has changed.
    pub(crate) fn refuse(&mut self, error: &ErrorInfo) {
        send_when_saved(self.shared, &self.responder, self.shared.unsaved(), Some(self.out), |responder, out| {
            responder.refuse(error, out);
        });
    }

    /// Answers what says nothing of leases, limits and accounts, or, as `status`, which writes wait for the disk.
    pub fn at_once(&mut self, answer: &Answer<'_>) -> CallResult {
        self.responder.encode(Ok(answer), self.out);
        Ok(Replied(()))
    }

    /// Answers a view. It is sent once what it shows is saved, see [`PlannedAnswer`].
    pub fn answer(&mut self, answer: &Answer<'_>) -> CallResult {
        self.is_view = true;
        self.at_once(answer)
    }

    /// Answers once everything is saved.
    pub fn saved(&mut self, result: Unsaved<Result<Answer<'_>, ErrorInfo>>) -> CallResult {
        let unsaved = self.shared.unsaved();
        self.own_saved(result.or_at_least(unsaved))
    }

    /// Answers once what this call has changed is saved: the answer says nothing of what others have changed.
    pub fn own_saved(&mut self, result: Unsaved<Result<Answer<'_>, ErrorInfo>>) -> CallResult {
        let (result, pending) = result.into_parts();
        send_when_saved(self.shared, &self.responder, pending, Some(self.out), |responder, out| {
            responder.encode(result.as_ref(), out);
        });
        Ok(Replied(()))
    }

    /// The same with the answer that `answer` makes of a result, where it is written: an answer is large.
    pub fn own_saved_as<T>(&mut self, result: Unsaved<T>, answer: impl FnOnce(&T) -> Answer<'_>) -> CallResult {
        let (result, pending) = result.into_parts();
        send_when_saved(self.shared, &self.responder, pending, Some(self.out), |responder, out| {
            responder.encode(Ok(&answer(&result)), out);
        });
        Ok(Replied(()))
    }

    /// Answers when `work` is over; other calls of the connection are served meanwhile.
    pub fn later(
        &mut self,
        daemon: &Arc<Daemon>,
        work: impl Future<Output = AnswerResult> + Send + 'static,
    ) -> CallResult {
        self.later_saved(daemon, async { work.await.map(Unsaved::nothing_to_save) })
    }

    /// The same, once what the work changed is saved.
    pub fn later_saved(
        &mut self,
        daemon: &Arc<Daemon>,
        work: impl Future<Output = UnsavedAnswer> + Send + 'static,
    ) -> CallResult {
        self.check_room()?;
        let (responder, daemon) = (self.responder.clone(), daemon.clone());
        responder.outbox.begin_wait();
        tokio::spawn(async move {
            let (result, pending) = match work.await.map(Unsaved::into_parts) {
                Ok((answer, pending)) => (Ok(answer), pending),
                Err(error) => (Err(error), Pending::Nothing),
            };
            send_when_saved(&daemon, &responder, pending.max(daemon.unsaved()), None, |responder, out| {
                responder.encode(result.as_ref(), out);
            });
            responder.outbox.end_wait();
        });
        Ok(Replied(()))
    }

    /// Answers with a lease: at once, or when it is saved and its token is fresh.
    pub fn lease(
        &mut self,
        state: &mut State,
        now: Now,
        granted: Unsaved<Fence>,
        (kind, wants_credential): (LeaseReply, bool),
    ) -> CallResult {
        let fence = *granted.peek();
        if wants_credential && (state.waits_for_token(fence, now) || state.must_mark_lease(fence)) {
            self.responder.outbox.begin_wait();
            let responders = vec![LeaseResponder { to: self.responder.clone(), wants_credential }];
            let pending = PendingLease { granted, kind, responders };
            if state.waits_for_token(fence, now) {
                pending.wait_for_token(state);
            } else {
                pending.wait_for_mark(state);
            }
            return Ok(Replied(()));
        }
        let (fence, pending) = kind.depends_on(state, granted).into_parts();
        if wants_credential {
            state.note_handed(fence);
        }
        let what = (fence, wants_credential);
        let issued = &mut self.issued;
        send_when_saved(state.shared(), &self.responder, pending, Some(self.out), |responder, out| {
            issued.note(fence, |id| encode_lease(state, now, &kind, what, (responder, id, out)));
        });
        Ok(Replied(()))
    }

    /// Answers when the pool ends the wait of `waiter`.
    pub fn when_granted(
        &mut self,
        state: &mut State,
        now: Now,
        waiter: WaiterId,
        (until, wants_credential): (Mono, bool),
    ) -> CallResult {
        if let Err(full) = self.check_room() {
            state.apply_internal(now, Command::Cancel(waiter));
            return Err(full);
        }
        self.responder.outbox.begin_wait();
        state.last_busy = now;
        let responder = LeaseResponder { to: self.responder.clone(), wants_credential };
        match state.waiters.get_mut::<QueuedLease>(waiter) {
            Some(queued) => queued.join(responder, until),
            None => state.waiters.insert(waiter, QueuedLease { responders: vec![responder], until }),
        }
        Ok(Replied(()))
    }

    /// Refuses a call when too many of its connection wait already.
    pub fn check_room(&self) -> Result<(), ErrorInfo> {
        if self.responder.outbox.has_room() {
            Ok(())
        } else {
            Err(ErrorInfo::new(ErrorKind::Overloaded, "too many calls of this connection are waiting already"))
        }
    }

    /// Subscribes the connection to events: the answer comes before the first one.
    pub fn subscribe(
        &mut self,
        daemon: &Daemon,
        (kinds, guest): (Vec<String>, Option<GuestId>),
        recent: bool,
    ) -> CallResult {
        let Responder { connection, codec, outbox, .. } = &self.responder;
        let (connection, codec) = (*connection, *codec);
        self.responder.encode(Ok(&Answer::Done(Empty {})), self.out);
        // later events wait in the outbox
        let mut replay = daemon.state().events.subscribe((connection, codec, outbox), (kinds, guest));
        if !recent {
            return Ok(Replied(()));
        }
        let mut programs = Programs::default();
        loop {
            let events = replay.next_events(&daemon.state().pool, &daemon.lease_key);
            if events.is_empty() {
                codec.event(&EventReplay::end(), self.out);
                return Ok(Replied(()));
            }
            // programs are looked up after the lock is released
            events.into_iter().for_each(|event| codec.event(&programs.named(event), self.out));
            let_others_lock(daemon);
        }
    }
}

impl Responder {
    fn encode(&self, result: Result<&Answer<'_>, &ErrorInfo>, out: &mut Vec<u8>) {
        match result {
            _ if self.quiet => {}
            Ok(answer) => self.codec.answer(&self.id, answer, out),
            Err(error) => self.codec.refusal(&self.id, error, out),
        }
    }

    /// Answers a greeting, which says nothing of the state.
    pub fn greeting(&self, hello: HelloInfo, out: &mut Vec<u8>) {
        self.encode(Ok(&Answer::Hello(hello)), out);
    }

    /// Answers a call that was refused before it changed anything.
    pub fn refuse(&self, error: &ErrorInfo, out: &mut Vec<u8>) {
        self.encode(Err(error), out);
    }
}

/// Sends what `encode` writes: into `out` when nothing is pending, else through the outbox when it is saved.
fn send_when_saved(
    shared: &Shared,
    responder: &Responder,
    pending: Pending,
    out: Option<&mut Vec<u8>>,
    encode: impl FnOnce(&Responder, &mut Vec<u8>),
) {
    if pending == Pending::Nothing || responder.quiet {
        return match out {
            Some(out) => encode(responder, out),
            None => responder.outbox.push(|out| encode(responder, out)),
        };
    }
    let mut bytes = Vec::new();
    encode(responder, &mut bytes);
    responder.outbox.begin_wait();
    let responder = responder.clone();
    shared.store.when_saved(Box::new(move |result| {
        responder.outbox.push(|out| match result {
            Err(error) if pending == Pending::Account || error == WriteError::Closed => {
                let message = format!("the change is in effect, but could not be saved yet: {error}");
                let hint = "lessor goes on trying to save it; `lessor status` shows when that works again";
                responder.encode(Err(&ErrorInfo::new(ErrorKind::Internal, message).hint(hint)), out);
            }
            _ => out.extend_from_slice(&bytes),
        });
        responder.outbox.end_wait();
    }));
}

/// The error for a lease that has ended.
pub fn lease_ended() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::StaleLease, "this lease has ended").hint("acquire a new one")
}
