//! Calls that the planner's thread serves: what their connection hands over, and what it gets back.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Connection, ConnectionStep, SharedLimits, UNCOUNTED};
use crate::daemon::api::dispatch::{dispatch_planned, is_planned, is_pointless, memory_of};
use crate::daemon::api::guest::dispatch_of_guest;
use crate::daemon::api::reply::{PlannedAnswer, Responder};
use crate::daemon::api::session::{IssuedLeases, Session, overloaded, shutting_down};
use crate::daemon::memory::MemoryShare;
use crate::daemon::state::Daemon;
use crate::protocol::{Call, Codec, ErrorInfo, Fatal, Incoming, RawMessage};

/// A message for the planner.
pub(super) enum PlannedMessage {
    Parsed(Responder, Call, usize),
    Large(Codec, Zeroizing<Vec<u8>>, MemoryShare),
}

/// What became of it.
pub(super) enum PlannedResult {
    /// Its answer, or nothing if that comes later.
    Answered(PlannedAnswer, MemoryShare),
    /// It is served where its connection is.
    Parsed(Incoming),
    Failed(Fatal),
}

/// A connection, as the planner needs it.
pub(super) struct Planning {
    pub(super) session: Session,
    pub(super) limits: Arc<SharedLimits>,
}

impl Planning {
    /// Parses a message if that is not done yet, and serves its call; on the planner's thread.
    pub(super) fn serve(self, daemon: &Arc<Daemon>, message: PlannedMessage) -> PlannedResult {
        let (responder, call, bytes, mut memory) = match message {
            PlannedMessage::Parsed(responder, call, bytes) => (responder, call, bytes, self.limits.calls.share()),
            PlannedMessage::Large(codec, bytes, memory) => match (RawMessage { codec, bytes: &bytes }).parse() {
                Err(fatal) => return PlannedResult::Failed(fatal),
                Ok(Incoming { id, call: Ok(call) })
                    if !self.session.awaits_hello()
                        && !is_pointless(id.as_ref(), &call)
                        && (is_planned(&call) || matches!(call, Call::Report(_))) =>
                {
                    if let Call::Report(params) = &call {
                        // it may get a credential
                        self.session.attest_call(daemon, &params.lease, false);
                    }
                    (self.session.responder(id), call, bytes.len(), memory)
                }
                Ok(other) => return PlannedResult::Parsed(other),
            },
        };
        let mut unread = self.limits.answers.share();
        if memory.resize(memory_of(&call, bytes)).is_err() {
            return PlannedResult::Answered(PlannedAnswer::refusal(&responder, &no_memory()), unread);
        }
        let is_subscription = matches!(call, Call::Subscribe(_));
        let mut answer = PlannedAnswer::of(daemon, &responder, |reply| match &self.session.guest {
            Some(guest) => dispatch_of_guest(daemon, guest, reply, (call, Some(memory))),
            None => dispatch_planned(daemon, reply, call, Some(memory)),
        });
        if answer.capacity() > UNCOUNTED && unread.resize(answer.capacity()).is_err() {
            if is_subscription {
                daemon.state().events.unsubscribe(self.session.connection);
            }
            let error = overloaded("clients have too many answers that they have not read");
            answer = PlannedAnswer::refusal(&responder, &error);
        }
        PlannedResult::Answered(answer, unread)
    }
}

impl Connection {
    /// Has the planner serve a message. Its place among the connection's messages stays: the next one waits.
    pub(super) async fn plan(&mut self, daemon: &Arc<Daemon>, message: PlannedMessage) -> ConnectionStep {
        let id = match &message {
            PlannedMessage::Parsed(responder, ..) => (!responder.quiet).then(|| responder.id.clone()),
            PlannedMessage::Large(codec, bytes, _) => RawMessage { codec: *codec, bytes }.id(),
        };
        let is_answered = id.is_some() || matches!(message, PlannedMessage::Large(..));
        let error = match self.limits.planner.place() {
            Some(place) => {
                let (planning, for_daemon) = (self.planning(), daemon.clone());
                match place.run(daemon, move || planning.serve(&for_daemon, message)).await {
                    Some(PlannedResult::Answered(answer, unread)) => {
                        let answer = answer.when_saved(daemon).await;
                        self.unread = unread;
                        if self.out.is_empty() {
                            self.out = answer;
                        } else {
                            self.out.extend_from_slice(&answer);
                        }
                        return ConnectionStep::Serve;
                    }
                    Some(PlannedResult::Parsed(incoming)) => return self.serve(daemon, incoming),
                    Some(PlannedResult::Failed(Fatal { codec, error })) => return self.fail(codec, &error),
                    None => shutting_down(()),
                }
            }
            None => overloaded("too many calls of all connections are waiting already"),
        };
        if is_answered {
            self.refuse(id, &error);
        }
        ConnectionStep::Serve
    }

    fn planning(&self) -> Planning {
        Planning {
            session: Session {
                holder: None,
                issued: IssuedLeases::default(),
                outbox: self.session.outbox.clone(),
                guest: self.session.guest.clone(),
                ..self.session
            },
            limits: self.limits.clone(),
        }
    }
}

pub(super) fn no_memory() -> ErrorInfo {
    overloaded("too many large calls are arriving or waiting at the moment")
}
