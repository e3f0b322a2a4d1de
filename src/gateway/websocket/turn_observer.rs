//! Reads a turn's events while they go to the client: the tokens it took, what they say of limits, and errors.

use hyper::body::Bytes;
use hyper::header::HeaderMap;

use super::message;
use crate::daemon::{RequestLease, SavedSignal};
use crate::gateway::record::{AttemptFailure, RequestEnd};
use crate::gateway::response::{self, ObservedRequest, UsageParser};
use crate::limits::{Headers, Scope, is_error_event, limit_headers_of_event};

pub(super) struct TurnObserver {
    provider: String,
    request: ObservedRequest,
    lease: RequestLease,
    usage: UsageParser,
    has_id: bool,
}

/// What an event means for the turn.
pub(super) enum TurnEvent {
    /// More follow.
    Goes,
    /// It is the last one. If it is an error, it goes to the client when what it says is saved.
    Last(Option<SavedSignal>),
    /// The account cannot serve the turn any further: the client is to send it again on another connection.
    Moves(Option<SavedSignal>),
}

impl TurnObserver {
    /// Observes a turn whose first events are these.
    pub(super) fn new(provider: &str, request: ObservedRequest, mut lease: RequestLease, first: &[Bytes]) -> Self {
        lease.created(response::created_ids(provider, &HeaderMap::new(), first));
        lease.response_began(200, Headers::default());
        Self { provider: provider.to_owned(), request, lease, usage: UsageParser::default(), has_id: false }
    }

    /// The ids that an event names, until the first are found.
    pub(super) fn created_ids(&mut self, event: &Bytes) -> Vec<String> {
        if self.has_id {
            return Vec::new();
        }
        let ids = response::created_ids(&self.provider, &HeaderMap::new(), std::slice::from_ref(event));
        self.has_id = !ids.is_empty();
        ids
    }

    /// One more event has come.
    pub(super) fn observe(&mut self, event: &[u8]) -> TurnEvent {
        self.lease.report_if_late();
        self.usage.push(event);
        if let Some(headers) = limit_headers_of_event(event) {
            self.lease.report_limits(&headers);
        }
        if !message::ends_turn(event) {
            return TurnEvent::Goes;
        }
        let record = &mut self.request.record;
        record.took(self.usage.tokens);
        if !is_error_event(None, event) {
            record.ends(RequestEnd::Ok, None);
            return TurnEvent::Last(None);
        }
        let (report, saved) = self.lease.report_event(None, event);
        let moves = report.as_ref().and_then(|report| report.decision.scope).is_some_and(|scope| {
            // the failure of the service or of the request would be the same elsewhere
            !matches!(scope, Scope::Request | Scope::Service)
        });
        let failure = report.map(|report| AttemptFailure::reported(&report, false));
        let failure = failure.unwrap_or_else(|| AttemptFailure::classified(None, false)).of_type(event);
        let reason =
            if moves { format!("{}: its client sends it again", failure.reason) } else { failure.reason.into() };
        record.attempt_failed(failure);
        record.ends(RequestEnd::Broken, Some(&reason));
        if moves { TurnEvent::Moves(saved) } else { TurnEvent::Last(saved) }
    }

    /// The connection has ended before the turn.
    pub(super) fn broke_off(mut self, reason: &str) {
        self.request.record.took(self.usage.tokens);
        self.request.record.ends(RequestEnd::Broken, Some(&format!("the response broke off: {reason}")));
    }
}
