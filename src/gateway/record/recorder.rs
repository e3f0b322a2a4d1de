//! Where records of requests go: the metrics, and the history by the daemon. Both get the same row, so that their
//! numbers agree.

use std::sync::{Arc, PoisonError, RwLock};

use super::EndedRequest;
use crate::daemon::{GatewayHandle, PriceTable, RequestSender, SenderLookup};
use crate::gateway::metrics::MetricsRecorder;
use crate::gateway::telemetry::SpanBuffer;
use crate::protocol::RequestRow;

/// Takes the records of all requests.
#[derive(Debug)]
pub(in crate::gateway) struct RequestRecorder {
    handle: GatewayHandle,
    metrics: Arc<MetricsRecorder>,
    spans: Arc<SpanBuffer>,
    prices: RwLock<Arc<PriceTable>>,
}

impl RequestRecorder {
    pub(in crate::gateway) fn new(
        handle: GatewayHandle,
        metrics: Arc<MetricsRecorder>,
        spans: Arc<SpanBuffer>,
    ) -> Arc<Self> {
        let prices = RwLock::new(Arc::new(handle.config().prices));
        Arc::new(Self { handle, metrics, spans, prices })
    }

    /// Takes over changed prices.
    pub(in crate::gateway) fn set_prices(&self, prices: &PriceTable) {
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(prices.clone());
    }

    /// What a request has cost, if the price of its model is known.
    pub(super) fn cost(&self, row: &RequestRow) -> Option<f64> {
        let prices = self.prices.read().unwrap_or_else(PoisonError::into_inner).clone();
        prices.cost(row.model.as_deref()?, row.tokens.as_ref()?)
    }

    pub(super) fn handle(&self) -> &GatewayHandle {
        &self.handle
    }

    pub(super) fn count(&self, ended: &EndedRequest<'_>) {
        self.metrics.request_ended(ended);
        self.spans.push(ended.row);
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
