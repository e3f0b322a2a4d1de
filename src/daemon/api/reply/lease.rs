//! Answers with a lease: when it is granted, saved, and its token fresh.

use std::time::Duration;

use super::{Responder, lease_ended, send_when_saved};
use crate::daemon::state::{CredentialState, CredentialUse, Pending, ReportOutcome, State, Unsaved, Waiter};
use crate::daemon::{many_hosts::handing_out, os::clock, view};
use crate::pool::{Command, ConnectionId, Fence, Mono, Now, Refusal, Reply};
use crate::protocol::{ErrorInfo, ErrorKind};

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

impl LeaseReply {
    /// What the answer waits for: a grant for the changes of its account, a decision for all it may name.
    pub(super) fn depends_on(&self, state: &mut State, granted: Unsaved<Fence>) -> Unsaved<Fence> {
        let others = match self {
            Self::Granted { .. } | Self::Held => state.pending_of(*granted.peek()),
            Self::Decision(_) => state.shared().unsaved(),
        };
        granted.or_at_least(others)
    }
}

/// Appends the answer with a lease, or why there is none; `id` becomes the lease's id. Answers whether it has one.
pub(super) fn encode_lease(
    state: &State,
    now: Now,
    kind: &LeaseReply,
    (fence, wants_credential): (Fence, bool),
    (to, id, out): (&Responder, &mut String, &mut Vec<u8>),
) -> bool {
    let encoded = view::with_lease(state, now, (fence, wants_credential), id, |lease| match kind {
        _ if to.quiet => {}
        LeaseReply::Decision(outcome) => to.encode(Ok(&view::decision(outcome, Some(lease))), out),
        LeaseReply::Granted { .. } | LeaseReply::Held => to.codec.lease(&to.id, &lease, out),
    });
    if let Err(error) = &encoded {
        to.encode(Err(error), out);
    }
    encoded.is_ok()
}

/// A responder that waits for a lease.
#[derive(Clone, Debug)]
pub(super) struct LeaseResponder {
    pub(super) to: Responder,
    pub(super) wants_credential: bool,
}

/// A request in the queue. Several calls with one request id share it.
#[derive(Debug)]
pub(super) struct QueuedLease {
    pub(super) responders: Vec<LeaseResponder>,
    pub(super) until: Mono,
}

impl QueuedLease {
    /// Adds a call with the same request id. A request that came again on another connection is answered only there.
    pub(super) fn join(&mut self, responder: LeaseResponder, until: Mono) {
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
pub(super) struct PendingLease {
    pub(super) granted: Unsaved<Fence>,
    pub(super) kind: LeaseReply,
    pub(super) responders: Vec<LeaseResponder>,
}

impl PendingLease {
    /// Answers those that need no credential; the others, too, unless the token has to be refreshed first.
    fn hand_out(mut self, state: &mut State, now: Now) {
        let fence = *self.granted.peek();
        let waits_for_token = state.waits_for_token(fence, now);
        if waits_for_token || state.must_mark_lease(fence) {
            let now_or_later = self.responders.into_iter().partition(|responder| responder.wants_credential);
            let (later, at_once): (Vec<_>, Vec<_>) = now_or_later;
            let (fence, pending) = self.kind.depends_on(state, self.granted).into_parts();
            answer_all(state, now, (fence, pending), &self.kind, &at_once);
            if !later.is_empty() {
                let granted = Unsaved::pending(fence, pending);
                let pending = Self { granted, kind: self.kind, responders: later };
                if waits_for_token {
                    pending.wait_for_token(state);
                } else {
                    pending.wait_for_mark(state);
                }
            }
            return;
        }
        state.note_handed(fence);
        let granted = self.kind.depends_on(state, self.granted).into_parts();
        answer_all(state, now, granted, &self.kind, &std::mem::take(&mut self.responders));
    }

    /// Waits for the token, for at most `refresh.wait`; then the lease is handed out, or moves to another account.
    pub(super) fn wait_for_token(self, state: &mut State) {
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

    /// Waits until the other hosts of a shared pool know that the token is handed out; then the lease is, too.
    pub(super) fn wait_for_mark(self, state: &mut State) {
        let account = state.pool.lease(*self.granted.peek()).map(|lease| lease.account);
        let (Some(daemon), Some(account)) = (state.shared().daemon(), account) else { return };
        state.shared().runtime.spawn(async move {
            let marked = handing_out::mark(&daemon, account).await;
            self.after_mark(&mut daemon.state(), marked);
        });
    }

    fn after_mark(mut self, state: &mut State, marked: Result<(), ErrorInfo>) {
        let now = clock::now();
        let fence = *self.granted.peek();
        if state.pool.lease(fence).is_none() {
            return refuse_all(state, &self.responders, self.granted.map(|_| lease_ended()));
        }
        let Err(error) = marked else { return self.hand_out(state, now) };
        if let LeaseReply::Granted { .. } = self.kind {
            // without the credential its holder cannot use it
            state.apply_internal(now, Command::Release(fence));
            return refuse_all(state, &self.responders, self.granted.map(|_| error));
        }
        // it keeps its lease without a credential; `lease.credential` says what is the matter
        self.responders.iter_mut().for_each(|responder| responder.wants_credential = false);
        self.hand_out_without(state, now);
    }

    /// Answers all of them without the credential.
    fn hand_out_without(self, state: &mut State, now: Now) {
        let granted = self.kind.depends_on(state, self.granted).into_parts();
        answer_all(state, now, granted, &self.kind, &self.responders);
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
        let what = (fence, *wants_credential);
        send_when_saved(state.shared(), to, pending, None, |to, out| {
            encode_lease(state, now, kind, what, (to, &mut String::new(), out));
        });
        to.outbox.end_wait();
    }
}
