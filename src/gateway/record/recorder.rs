//! Where records of requests go: the metrics, and the history by the daemon. Both get the same row, so that their
//! numbers agree.

use std::sync::Arc;

use super::EndedRequest;
use crate::daemon::{GatewayHandle, RequestSender, SenderLookup};
use crate::gateway::metrics::MetricsRecorder;
use crate::protocol::RequestRow;

/// Takes the records of all requests.
#[derive(Debug)]
pub(in crate::gateway) struct RequestRecorder {
    handle: GatewayHandle,
    metrics: Arc<MetricsRecorder>,
}

impl RequestRecorder {
    pub(in crate::gateway) fn new(handle: GatewayHandle, metrics: Arc<MetricsRecorder>) -> Arc<Self> {
        Arc::new(Self { handle, metrics })
    }

    pub(super) fn handle(&self) -> &GatewayHandle {
        &self.handle
    }

    pub(super) fn count(&self, ended: &EndedRequest<'_>) {
        self.metrics.request_ended(ended);
    }

    /// Records a row, when its sender is known; at the end of the daemon at once.
    pub(super) fn record(&self, row: RequestRow, sender: SenderLookup, is_last: bool) {
        match sender {
            SenderLookup::Known(sender) => self.handle.record(with_sender(row, &sender)),
            SenderLookup::UnderWay(_) if is_last => self.handle.record(row),
            under_way => {
                let handle = self.handle.clone();
                tokio::spawn(async move {
                    let sender = under_way.known().await;
                    handle.record(with_sender(row, &sender));
                });
            }
        }
    }
}

fn with_sender(row: RequestRow, sender: &RequestSender) -> RequestRow {
    let directory = row.directory.or_else(|| sender.directory.clone());
    RequestRow { holder: sender.holder.clone(), directory, ..row }
}
