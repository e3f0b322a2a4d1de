//! Calls that the planner's thread serves: what their connection hands over, and what it gets back.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{SharedLimits, UNCOUNTED};
use crate::daemon::api::dispatch::{dispatch_planned, is_planned, is_pointless, memory_of};
use crate::daemon::api::guest::dispatch_of_guest;
use crate::daemon::api::reply::{PlannedAnswer, Responder};
use crate::daemon::api::session::{Session, overloaded};
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

pub(super) fn no_memory() -> ErrorInfo {
    overloaded("too many large calls are arriving or waiting at the moment")
}
