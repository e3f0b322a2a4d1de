//! Leases whose token must be renewed before anybody gets it: their answers wait, and move on when it takes too long.

use std::sync::Arc;

use crate::pool::{Command, Fence, Mono, Now, Reply};
use crate::protocol::ErrorInfo;

use crate::daemon::os::clock;
use crate::daemon::refresh::{CredentialState, CredentialUse};
use crate::daemon::state::report::ReportOutcome;
use crate::daemon::state::{Daemon, Responder, State, Unsaved};
use crate::daemon::view;

/// What the answer is that waits.
#[derive(Clone, Debug)]
pub(crate) enum ReplyKind {
    /// A lease that was asked for; how long its holder waits for one.
    Granted {
        /// Until then.
        until: Mono,
    },
    /// A lease that is held already: it stays where it is.
    Held,
    /// What to do after a report; with a lease that was granted for it.
    Decided(Box<ReportOutcome>),
}

/// An answer that waits for a token.
struct WaitingForToken {
    fence: Fence,
    shape: ReplyKind,
    responders: Vec<Responder>,
}

impl Daemon {
    /// Whether the answer with this lease has to wait for a token.
    pub(crate) fn waits_for_token(&self, state: &State, now: Now, fence: Fence) -> bool {
        state.pool.lease(fence).is_some_and(|lease| state.is_low(lease.account, now))
    }

    /// Answers once the token of a lease can be handed out; each responder waits already.
    pub(crate) fn hand_out_later(
        &self,
        state: &mut State,
        (fence, shape): (Fence, ReplyKind),
        responders: Vec<Responder>,
        unsaved: Unsaved,
    ) {
        // now: what ends meanwhile must not be written after its end
        for write in unsaved {
            self.store.write(write, None);
        }
        let waiting = WaitingForToken { fence, shape, responders };
        let Some(daemon) = self.itself.get().and_then(std::sync::Weak::upgrade) else { return };
        let told = match self.credential_for(state, fence, CredentialUse::HandOut) {
            Ok(CredentialState::BeingRefreshed(id)) => state.refreshing.waits(id),
            // it cannot be had soon: on to another account, by the same way as everybody
            _ => tokio::sync::oneshot::channel().1,
        };
        let wait = state.refreshing.plan.rules().wait;
        self.runtime.spawn(async move {
            let _told_or_not = tokio::time::timeout(wait, told).await;
            daemon.hand_out(waiting);
        });
    }

    fn hand_out(self: Arc<Self>, waiting: WaitingForToken) {
        let state = &mut *self.state();
        let now = clock::now();
        let WaitingForToken { fence, shape, responders } = waiting;
        if state.pool.lease(fence).is_none() {
            let error = ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
            return refuse(&responders, &error);
        }
        if !self.waits_for_token(state, now, fence) {
            return self.answer(state, now, fence, &shape, &responders);
        }
        let wait = match &shape {
            ReplyKind::Held => {
                // it keeps its lease, and the token it has; `lease.credential` says what is the matter
                let responders: Vec<Responder> =
                    responders.into_iter().map(|one| Responder { wants_credential: false, ..one }).collect();
                return self.answer(state, now, fence, &shape, &responders);
            }
            ReplyKind::Granted { until } => until.since(now.mono),
            ReplyKind::Decided(_) => std::time::Duration::ZERO,
        };
        self.settle_tokens(state, now);
        let (reply, unsaved) = self.apply(state, now, Command::Move { fence, wait: Some(wait) });
        match reply {
            Ok(Reply::Held(fence)) => {
                let shape = match shape {
                    ReplyKind::Decided(mut learnt) => {
                        learnt.decision.lease = Some(fence);
                        ReplyKind::Decided(learnt)
                    }
                    other => other,
                };
                if self.waits_for_token(state, now, fence) {
                    return self.hand_out_later(state, (fence, shape), responders, unsaved);
                }
                for write in unsaved {
                    self.store.write(write, None);
                }
                self.answer(state, now, fence, &shape, &responders);
            }
            Ok(Reply::Queued(waiter)) => {
                for responder in responders {
                    state.wait_for(waiter, responder, now);
                }
            }
            Ok(Reply::Decision(_) | Reply::Done) => {}
            Err(refusal) => {
                let error = ErrorInfo::of_refusal(&refusal, now.wall);
                refuse(&responders, &error);
            }
        }
    }

    fn answer(&self, state: &mut State, now: Now, fence: Fence, shape: &ReplyKind, responders: &[Responder]) {
        if let Some(account) = state.pool.lease(fence).map(|lease| lease.account) {
            state.note_handed(fence, account);
        }
        for responder in responders {
            let mut bytes = Vec::new();
            match shape {
                ReplyKind::Decided(learnt) => {
                    view::decision(state, &self.key, now, learnt, responder, &mut bytes);
                }
                ReplyKind::Granted { .. } | ReplyKind::Held => {
                    view::lease(state, &self.key, now, fence, responder, &mut bytes);
                }
            }
            responder.say(|out| out.extend_from_slice(&bytes));
            responder.outbox.end_wait();
        }
    }
}

fn refuse(responders: &[Responder], error: &ErrorInfo) {
    for responder in responders {
        responder.say(|out| responder.codec.refusal(&responder.id, error, out));
        responder.outbox.end_wait();
    }
}
