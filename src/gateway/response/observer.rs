//! Reads a response while it goes to the client: the tokens it took, and errors in the middle of a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use hyper::http::response::Parts;

use super::{is_event_stream, sse::SseParser, token_usage::UsageParser};
use crate::gateway::metrics::{InFlightGuard, MetricsRecorder, RequestLabels};
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
    pub(crate) metrics: Arc<MetricsRecorder>,
    pub(crate) labels: RequestLabels,
    pub(crate) account_name: String,
    /// Until the response has ended.
    pub(crate) _in_flight: InFlightGuard,
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
        request.metrics.response_began(&request.labels);
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
        let Self { decoder, usage, stream, lease, unsaved, .. } = self;
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
                    *unsaved = lease.report_event(event.name, event.data);
                }
            });
        });
    }

    /// The body has ended; `complete` is false if it broke off.
    pub(super) fn end(&mut self, complete: bool) {
        let (decoder, usage) = (&mut self.decoder, &mut self.usage);
        decoder.finish(|bytes| usage.push(bytes));
        let stream = self.stream.as_ref();
        let has_failed = stream.is_some_and(|stream| stream.has_failed);
        let is_finished = stream.is_some_and(|stream| stream.is_finished);
        let is_good = (complete || is_finished) && !has_failed;
        let ObservedRequest { metrics, labels, account_name, .. } = &self.request;
        metrics.response_ended(labels, account_name, self.status, self.usage.tokens, is_good);
        self.lease = None;
    }
}
