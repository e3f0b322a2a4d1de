//! Leases whose token must be renewed before anybody gets it: their answers wait, and move on when it takes too long.

use std::sync::Arc;

use crate::pool::{Command, Fence, Mono, Now, Reply};
use crate::protocol::ErrorInfo;

use crate::daemon::os::clock;
use crate::daemon::refresh::{Looked, Need};
use crate::daemon::state::report::Learnt;
use crate::daemon::state::{Core, Daemon, Responder, Unsaved};
use crate::daemon::view;

/// What the answer is that waits.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A lease that was asked for; how long its holder waits for one.
    Granted {
        /// Until then.
        until: Mono,
    },
    /// A lease that is held already: it stays where it is.
    Held,
    /// What to do after a report; with a lease that was granted for it.
    Decided(Box<Learnt>),
}

/// An answer that waits for a token.
struct Waiting {
    fence: Fence,
    shape: Shape,
    responders: Vec<Responder>,
}

impl Daemon {
    /// Whether the answer with this lease has to wait for a token.
    pub(crate) fn waits_for_token(&self, core: &Core, now: Now, fence: Fence) -> bool {
        core.pool.lease(fence).is_some_and(|lease| core.is_low(lease.account, now))
    }

    /// Answers once the token of a lease can be handed out; each responder waits already.
    pub(crate) fn hand_out_later(
        &self,
        core: &mut Core,
        (fence, shape): (Fence, Shape),
        responders: Vec<Responder>,
        unsaved: Unsaved,
    ) {
        // now: what ends meanwhile must not be written after its end
        for write in unsaved {
            self.store.write(write, None);
        }
        let waiting = Waiting { fence, shape, responders };
        let Some(daemon) = self.itself.get().and_then(std::sync::Weak::upgrade) else { return };
        let told = match self.look_at(core, fence, Need::HandOut) {
            Ok(Looked::Coming(id)) => core.refreshing.waits(id),
            // it cannot be had soon: on to another account, by the same way as everybody
            _ => tokio::sync::oneshot::channel().1,
        };
        let wait = core.refreshing.plan.rules().wait;
        self.runtime.spawn(async move {
            let _told_or_not = tokio::time::timeout(wait, told).await;
            daemon.hand_out(waiting);
        });
    }

    fn hand_out(self: Arc<Self>, waiting: Waiting) {
        let core = &mut *self.core();
        let now = clock::now();
        let Waiting { fence, shape, responders } = waiting;
        if core.pool.lease(fence).is_none() {
            let error = ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
            return refuse(&responders, &error);
        }
        if !self.waits_for_token(core, now, fence) {
            return self.answer(core, now, fence, &shape, &responders);
        }
        let wait = match &shape {
            Shape::Held => {
                // it keeps its lease, and the token it has; `lease.credential` says what is the matter
                let responders: Vec<Responder> =
                    responders.into_iter().map(|one| Responder { wants_credential: false, ..one }).collect();
                return self.answer(core, now, fence, &shape, &responders);
            }
            Shape::Granted { until } => until.since(now.mono),
            Shape::Decided(_) => std::time::Duration::ZERO,
        };
        self.settle_tokens(core, now);
        let (reply, unsaved) = self.apply(core, now, Command::Move { fence, wait: Some(wait) });
        match reply {
            Ok(Reply::Held(fence)) => {
                let shape = match shape {
                    Shape::Decided(mut learnt) => {
                        learnt.decision.lease = Some(fence);
                        Shape::Decided(learnt)
                    }
                    other => other,
                };
                if self.waits_for_token(core, now, fence) {
                    return self.hand_out_later(core, (fence, shape), responders, unsaved);
                }
                for write in unsaved {
                    self.store.write(write, None);
                }
                self.answer(core, now, fence, &shape, &responders);
            }
            Ok(Reply::Queued(waiter)) => {
                for responder in responders {
                    core.wait_for(waiter, responder, now);
                }
            }
            Ok(Reply::Decision(_) | Reply::Done) => {}
            Err(refusal) => {
                let error = ErrorInfo::of_refusal(&refusal, now.wall);
                refuse(&responders, &error);
            }
        }
    }

    fn answer(&self, core: &mut Core, now: Now, fence: Fence, shape: &Shape, responders: &[Responder]) {
        if let Some(account) = core.pool.lease(fence).map(|lease| lease.account) {
            core.note_handed(fence, account);
        }
        for responder in responders {
            let mut bytes = Vec::new();
            match shape {
                Shape::Decided(learnt) => {
                    view::decision(core, &self.key, now, learnt, responder, &mut bytes);
                }
                Shape::Granted { .. } | Shape::Held => {
                    view::lease(core, &self.key, now, fence, responder, &mut bytes);
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
