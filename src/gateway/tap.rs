//! Learns from an answer while it goes to the client: the tokens it took, and errors that come in the middle.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::response::Parts;

use crate::daemon::{GatewayHandle, LeasedAccount, UpstreamOutcome};
use crate::limits::{Headers, is_error_event};

use super::body::Watch;
use super::decode::Decoder;
use super::events::Events;
use super::ledger::{Entry, Ledger, Running};
use super::usage::Meter;

/// What looks on.
pub(super) struct Tap {
    decoder: Decoder,
    meter: Meter,
    /// Of a stream, and who hears of its errors.
    stream: Option<Stream>,
    ledger: Arc<Ledger>,
    entry: Entry,
    name: String,
    status: u16,
    /// The account stays this request's until its answer is over.
    held: Option<Box<LeasedAccount>>,
    _running: Running,
}

struct Stream {
    events: Events,
    headers: Headers,
    desk: GatewayHandle,
    /// One error is enough.
    failed: bool,
}

impl Tap {
    /// For an answer that began well.
    pub(super) fn new(
        head: &Parts,
        headers: Headers,
        desk: GatewayHandle,
        ledger: Arc<Ledger>,
        entry: Entry,
        held: Box<LeasedAccount>,
    ) -> Self {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let stream = is_stream.then(|| Stream { events: Events::default(), headers, desk, failed: false });
        let name = held.name.clone();
        Self { stream, ..Self::passive(head, ledger, entry, &name, Some(held)) }
    }

    /// For a refusal, which is learnt already.
    pub(super) fn passive(
        head: &Parts,
        ledger: Arc<Ledger>,
        entry: Entry,
        name: &str,
        held: Option<Box<LeasedAccount>>,
    ) -> Self {
        let status = head.status.as_u16();
        ledger.begun(&entry, name, status);
        Self {
            decoder: Decoder::of(&head.headers),
            meter: Meter::default(),
            stream: None,
            _running: ledger.running(),
            ledger,
            entry,
            name: name.to_owned(),
            status,
            held,
        }
    }

    /// Whose answer it is.
    pub(super) fn account(&self) -> &str {
        &self.name
    }
}

impl Watch for Tap {
    fn see(&mut self, bytes: &Bytes) {
        let Self { decoder, meter, stream, held, .. } = self;
        decoder.push(bytes, |bytes| {
            meter.push(bytes);
            let Some(stream) = stream.as_mut().filter(|stream| !stream.failed) else { return };
            let Stream { events, headers, desk, failed } = stream;
            events.push(bytes, |event| {
                if *failed || !is_error_event(event.name, event.data) {
                    return;
                }
                *failed = true;
                if let Some(held) = held {
                    desk.learn_late(held, UpstreamOutcome::Event { headers, name: event.name, data: event.data });
                }
            });
        });
    }

    fn over(&mut self, in_order: bool) {
        let failed = self.stream.as_ref().is_some_and(|stream| stream.failed);
        self.ledger.ended(&self.entry, &self.name, self.status, self.meter.tokens, in_order && !failed);
        self.held = None;
    }
}
