//! Where records of requests go: the metrics, and the history by the daemon. Both get the same row, so that their
//! numbers agree.

use std::sync::Arc;

use super::{EndedRequest, RequestTimes};
use crate::daemon::{GatewayHandle, RequestSender, SenderLookup};
use crate::gateway::metrics::MetricsRecorder;
use crate::gateway::telemetry::SpanBuffer;
use crate::protocol::RequestRow;

/// Takes the records of all requests.
#[derive(Debug)]
pub(in crate::gateway) struct RequestRecorder {
    handle: GatewayHandle,
    metrics: Arc<MetricsRecorder>,
    spans: Arc<SpanBuffer>,
}

impl RequestRecorder {
    pub(in crate::gateway) fn new(
        handle: GatewayHandle,
        metrics: Arc<MetricsRecorder>,
        spans: Arc<SpanBuffer>,
    ) -> Arc<Self> {
        Arc::new(Self { handle, metrics, spans })
    }

    pub(super) fn handle(&self) -> &GatewayHandle {
        &self.handle
    }

    /// Counts and records a row, when its sender is known; at the end of the daemon at once.
    pub(super) fn ended(
        self: &Arc<Self>,
        row: Box<RequestRow>,
        times: RequestTimes,
        sender: SenderLookup,
        is_last: bool,
    ) {
        match sender {
            SenderLookup::Known(sender) => self.record(with_sender(row, &sender), times),
            SenderLookup::UnderWay(_) if is_last => self.record(row, times),
            under_way => {
                let recorder = self.clone();
                tokio::spawn(async move {
                    let sender = under_way.known().await;
                    recorder.record(with_sender(row, &sender), times);
                });
            }
        }
    }

    fn record(&self, mut row: Box<RequestRow>, times: RequestTimes) {
        row.cost_usd = self.handle.cost(&row);
        if self.metrics.request_ended(&EndedRequest { row: &row, times }) {
            self.metrics.forget_removed(&self.handle.account_names());
        }
        self.spans.push(&row);
        self.handle.record(row);
    }
}

fn with_sender(mut row: Box<RequestRow>, sender: &RequestSender) -> Box<RequestRow> {
    row.holder.clone_from(&sender.holder);
    if row.directory.is_none() {
        row.directory.clone_from(&sender.directory);
    }
    row
}
