//! The only code that answers a call: for one responder or several, on the spot or later, and only after everything
//! that the answer depends on survives a `kill -9` of the daemon.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroize as _;

use super::connection::planner::let_others_lock;
use crate::daemon::event_queue::Programs;
use crate::daemon::state::events::EventReplay;
use crate::daemon::state::{
    CredentialState, CredentialUse, Daemon, Outbox, Pending, ReportOutcome, Shared, State, Unsaved, Waiter,
};
use crate::daemon::{os::clock, view};
use crate::pool::{Command, ConnectionId, Fence, Mono, Now, Refusal, Reply, WaiterId};
use crate::protocol::{Answer, Codec, ErrorInfo, ErrorKind, RequestId};
use crate::store::WriteError;

#[cfg(test)]
pub(in crate::daemon::api) mod tests;

/// Proof that a call was answered, or will be. Only this file makes it.
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

/// What is answered with a lease.
#[derive(Clone, Debug)]
pub enum LeaseReply {
    /// The lease that was requested; its holder waits for one until this time.
    Granted { until: Mono },
    /// A lease that was held already: it keeps its account.
    Held,
    /// What to do after a report, with the lease that was granted for it.
    Decision(Box<ReportOutcome>),
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
        Self { shared, responder, out, is_view: false }
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
        if wants_credential && state.waits_for_token(*granted.peek(), now) {
            self.responder.outbox.begin_wait();
            let responders = vec![LeaseResponder { to: self.responder.clone(), wants_credential }];
            PendingLease { granted, kind, responders }.wait_for_token(state);
            return Ok(Replied(()));
        }
        let (fence, pending) = kind.depends_on(state, granted).into_parts();
        if wants_credential {
            state.note_handed(fence);
        }
        let encode = |to: &Responder, out: &mut Vec<u8>| {
            encode_lease(state, now, fence, &kind, (to, wants_credential), out);
        };
        send_when_saved(state.shared(), &self.responder, pending, Some(self.out), encode);
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
    pub fn subscribe(&mut self, daemon: &Daemon, kinds: Vec<String>, recent: bool) -> CallResult {
        let Responder { connection, codec, outbox, .. } = &self.responder;
        let (connection, codec) = (*connection, *codec);
        self.responder.encode(Ok(&Answer::Done(crate::protocol::Empty {})), self.out);
        // later events wait in the outbox
        let mut replay = daemon.state().events.subscribe((connection, codec, outbox), kinds);
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

impl LeaseReply {
    /// What the answer waits for: a grant for the changes of its account, a decision for all it may name.
    fn depends_on(&self, state: &mut State, granted: Unsaved<Fence>) -> Unsaved<Fence> {
        let others = match self {
            Self::Granted { .. } | Self::Held => state.pending_of(*granted.peek()),
            Self::Decision(_) => state.shared().unsaved(),
        };
        granted.or_at_least(others)
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

fn encode_lease(
    state: &State,
    now: Now,
    fence: Fence,
    kind: &LeaseReply,
    (to, wants_credential): (&Responder, bool),
    out: &mut Vec<u8>,
) {
    let answer = match kind {
        LeaseReply::Decision(outcome) => view::decision(state, now, Some(fence), outcome, wants_credential),
        LeaseReply::Granted { .. } | LeaseReply::Held => view::lease(state, now, fence, wants_credential),
    };
    to.encode(answer.as_ref(), out);
}

/// A responder that waits for a lease.
#[derive(Clone, Debug)]
struct LeaseResponder {
    to: Responder,
    wants_credential: bool,
}

/// A request in the queue. Several calls with one request id share it.
#[derive(Debug)]
struct QueuedLease {
    responders: Vec<LeaseResponder>,
    until: Mono,
}

impl QueuedLease {
    /// Adds a call with the same request id. A request that came again on another connection is answered only there.
    fn join(&mut self, responder: LeaseResponder, until: Mono) {
        let is_elsewhere = |old: &mut LeaseResponder| old.to.connection != responder.to.connection;
        let error = ErrorInfo::new(ErrorKind::BadRequest, "the same request id was used again on another connection");
        for old in self.responders.extract_if(.., is_elsewhere) {
            old.to.outbox.push(|out| old.to.encode(Err(&error), out));
            old.to.outbox.end_wait();
        }
        self.responders.push(responder);
        self.until = self.until.max(until);
    }
}

impl Waiter for QueuedLease {
    fn answer(self: Box<Self>, state: &mut State, now: Now, result: Unsaved<Result<Fence, Refusal>>) {
        let Self { responders, until } = *self;
        match result.into_result() {
            Ok(granted) => {
                PendingLease { granted, kind: LeaseReply::Granted { until }, responders }.hand_out(state, now);
            }
            Err(refusal) => {
                let error = refusal.map(|refusal| view::refusal(state, &refusal, now));
                refuse_all(state, &responders, error);
            }
        }
    }

    fn connection_ended(&mut self, connection: ConnectionId) -> bool {
        let gone = self.responders.extract_if(.., |responder| responder.to.connection == connection);
        gone.for_each(|responder| responder.to.outbox.end_wait());
        self.responders.is_empty()
    }
}

/// A lease that is granted, on its way to its responders.
#[derive(Debug)]
struct PendingLease {
    granted: Unsaved<Fence>,
    kind: LeaseReply,
    responders: Vec<LeaseResponder>,
}

impl PendingLease {
    /// Answers those that need no credential; the others, too, unless the token has to be refreshed first.
    fn hand_out(mut self, state: &mut State, now: Now) {
        if state.waits_for_token(*self.granted.peek(), now) {
            let now_or_later = self.responders.into_iter().partition(|responder| responder.wants_credential);
            let (later, at_once): (Vec<_>, Vec<_>) = now_or_later;
            let (fence, pending) = self.kind.depends_on(state, self.granted).into_parts();
            answer_all(state, now, (fence, pending), &self.kind, &at_once);
            if !later.is_empty() {
                let granted = Unsaved::pending(fence, pending);
                Self { granted, kind: self.kind, responders: later }.wait_for_token(state);
            }
            return;
        }
        state.note_handed(*self.granted.peek());
        let granted = self.kind.depends_on(state, self.granted).into_parts();
        answer_all(state, now, granted, &self.kind, &std::mem::take(&mut self.responders));
    }

    /// Waits for the token, for at most `refresh.wait`; then the lease is handed out, or moves to another account.
    fn wait_for_token(self, state: &mut State) {
        let Some(daemon) = state.shared().daemon() else { return };
        let attempt = match state.credential_for(*self.granted.peek(), CredentialUse::HandOut) {
            Ok(CredentialState::BeingRefreshed(id)) => Some(state.logins.attempt_ends(id)),
            // there will be none soon: the lease moves on at once
            Ok(CredentialState::Usable(_)) | Err(_) => None,
        };
        let wait = state.logins.rules().wait;
        state.shared().runtime.spawn(async move {
            if let Some(attempt) = attempt {
                let _ended_or_not = tokio::time::timeout(wait, attempt).await;
            }
            self.after_refresh(&mut daemon.state());
        });
    }

    fn after_refresh(mut self, state: &mut State) {
        let now = clock::now();
        let fence = *self.granted.peek();
        if state.pool.lease(fence).is_none() {
            return refuse_all(state, &self.responders, self.granted.map(|_| lease_ended()));
        }
        if !state.waits_for_token(fence, now) {
            return self.hand_out(state, now);
        }
        let wait = match &self.kind {
            LeaseReply::Held => {
                // it keeps its lease without a credential; `lease.credential` says what is the matter
                self.responders.iter_mut().for_each(|responder| responder.wants_credential = false);
                return self.hand_out(state, now);
            }
            LeaseReply::Granted { until } => until.since(now.mono),
            LeaseReply::Decision(_) => Duration::ZERO,
        };
        state.update_renewing_accounts(now);
        let moved = state.apply(now, Command::Reacquire { fence, wait: Some(wait) });
        self.after_move(state, now, moved);
    }

    fn after_move(self, state: &mut State, now: Now, moved: Unsaved<Result<Reply, Refusal>>) {
        let Self { granted, kind, responders } = self;
        match moved.into_result() {
            Ok(reply) => match *reply.peek() {
                Reply::Held(fence) => {
                    let granted = granted.then(reply.map(|_| fence));
                    Self { granted, kind, responders }.hand_out(state, now);
                }
                Reply::Queued(waiter) => {
                    let until = if let LeaseReply::Granted { until } = kind { until } else { now.mono };
                    // the answer of the wait covers what was written until now
                    let _waits = granted.then(reply).no_answer();
                    state.waiters.insert(waiter, QueuedLease { responders, until });
                }
                Reply::Decision(_) | Reply::Done => {
                    refuse_all(state, &responders, granted.then(reply).map(|_| lease_ended()));
                }
            },
            Err(refusal) => {
                let refused = granted.then(refusal).map(|refusal| view::refusal(state, &refusal, now));
                refuse_all(state, &responders, refused);
            }
        }
    }
}

fn refuse_all(state: &State, responders: &[LeaseResponder], error: Unsaved<ErrorInfo>) {
    let (error, pending) = error.or_at_least(state.shared().unsaved()).into_parts();
    for LeaseResponder { to, .. } in responders {
        send_when_saved(state.shared(), to, pending, None, |to, out| to.encode(Err(&error), out));
        to.outbox.end_wait();
    }
}

fn answer_all(
    state: &State,
    now: Now,
    (fence, pending): (Fence, Pending),
    kind: &LeaseReply,
    responders: &[LeaseResponder],
) {
    for LeaseResponder { to, wants_credential } in responders {
        send_when_saved(state.shared(), to, pending, None, |to, out| {
            encode_lease(state, now, fence, kind, (to, *wants_credential), out);
        });
        to.outbox.end_wait();
    }
}

/// The error for a lease that has ended.
pub fn lease_ended() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::StaleLease, "this lease has ended").hint("acquire a new one")
}
