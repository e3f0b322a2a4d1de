//! Reads a response while it goes to the client: the tokens it took, and errors in the middle of a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use hyper::http::response::Parts;

use super::{is_event_stream, sse::SseParser, token_usage::UsageParser};
use crate::gateway::metrics::InFlightGuard;
use crate::gateway::record::{AttemptFailure, RequestEnd, RequestRecord};
use crate::{
    daemon::{RequestLease, SavedSignal},
    gateway::content_decoder::ContentDecoder,
    limits::is_error_event,
    provider::is_final_event,
};

pub(crate) struct ResponseObserver {
    decoder: ContentDecoder,
    usage: UsageParser,
    /// Of an event stream, whose errors are reported.
    stream: Option<ObservedStream>,
    request: ObservedRequest,
    status: u16,
    /// The request keeps its lease until the response has ended.
    lease: Option<RequestLease>,
    /// An error was reported that is not saved yet.
    unsaved: Option<SavedSignal>,
}

/// The request whose response is observed.
pub(crate) struct ObservedRequest {
    pub(crate) record: RequestRecord,
    /// Until the response has ended.
    pub(crate) _in_flight: InFlightGuard,
}

impl ObservedRequest {
    /// It ends well, with nothing more to observe.
    pub(crate) fn ends_well(mut self) {
        self.record.ends(RequestEnd::Ok, None);
    }
}

/// How the body of a response has ended.
pub(super) enum BodyEnd {
    Complete,
    /// The upstream has broken it off.
    Broken(String),
    /// The client has gone, or its connection was cut.
    Dropped,
}

struct ObservedStream {
    events: SseParser,
    /// Only the first error is reported.
    has_failed: bool,
    /// The event that says that the answer is complete has come: some clients close then, before the body has ended.
    is_finished: bool,
}

impl ResponseObserver {
    /// Observes a response that is no refusal.
    pub(crate) fn new(head: &Parts, request: ObservedRequest, lease: RequestLease) -> Self {
        let stream = ObservedStream { events: SseParser::default(), has_failed: false, is_finished: false };
        let stream = is_event_stream(&head.headers).then_some(stream);
        let decoder = ContentDecoder::of_response(&head.headers);
        Self { stream, decoder, ..Self::of_refusal(head, request, Some(lease)) }
    }

    /// Observes a refusal, which was reported already.
    pub(crate) fn of_refusal(head: &Parts, request: ObservedRequest, lease: Option<RequestLease>) -> Self {
        Self {
            // a refusal took no tokens
            decoder: ContentDecoder::none(),
            usage: UsageParser::default(),
            stream: None,
            request,
            status: head.status.as_u16(),
            lease,
            unsaved: None,
        }
    }

    /// Whether what was reported is saved.
    pub(super) fn poll_saved(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(unsaved) = &mut self.unsaved {
            // it is dropped with the store, when the daemon ends
            let _saved_or_ended = std::task::ready!(Pin::new(unsaved).poll(context));
            self.unsaved = None;
        }
        Poll::Ready(())
    }

    /// More bytes have come.
    pub(super) fn observe(&mut self, bytes: &Bytes) {
        let Self { decoder, usage, stream, lease, unsaved, request, .. } = self;
        if let Some(lease) = lease {
            lease.report_if_late();
        }
        decoder.push(bytes, |bytes| {
            usage.push(bytes);
            let Some(stream) = stream.as_mut().filter(|stream| !stream.has_failed) else { return };
            let ObservedStream { events, has_failed, is_finished } = stream;
            events.push(bytes, |event| {
                *is_finished |= is_final_event(event.name, event.data);
                if *has_failed || !is_error_event(event.name, event.data) {
                    return;
                }
                *has_failed = true;
                if let Some(lease) = lease {
                    let (report, saved) = lease.report_event(event.name, event.data);
                    *unsaved = saved;
                    // the credential is not at hand, and the words may quote it: the type of the error says enough
                    let failure = report.map(|report| AttemptFailure::reported(&report, false));
                    let failure = failure.unwrap_or_else(|| AttemptFailure::classified(None, false));
                    request.record.attempt_failed(failure.of_type(event.data));
                }
            });
        });
    }

    /// The body has ended.
    pub(super) fn end(&mut self, end: BodyEnd) {
        let (decoder, usage) = (&mut self.decoder, &mut self.usage);
        decoder.finish(|bytes| usage.push(bytes));
        let stream = self.stream.as_ref();
        let has_failed = stream.is_some_and(|stream| stream.has_failed);
        let is_finished = stream.is_some_and(|stream| stream.is_finished);
        let record = &mut self.request.record;
        record.took(usage.tokens);
        match end {
            BodyEnd::Complete | BodyEnd::Dropped if has_failed => {
                let reason = record.last_reason().unwrap_or("an error in the stream").to_owned();
                record.ends(RequestEnd::Broken, Some(&reason));
            }
            BodyEnd::Complete if self.status >= 400 => {
                let reason = record.last_reason().map_or_else(|| format!("status {}", self.status), str::to_owned);
                record.ends(RequestEnd::Refused, Some(&reason));
            }
            BodyEnd::Complete => record.ends(RequestEnd::Ok, None),
            // some clients close when they have the last event
            BodyEnd::Dropped | BodyEnd::Broken(_) if is_finished && !has_failed => record.ends(RequestEnd::Ok, None),
            BodyEnd::Broken(error) => {
                record.ends(RequestEnd::Broken, Some(&format!("the response broke off: {error}")));
            }
            BodyEnd::Dropped => {}
        }
        self.lease = None;
    }
}
