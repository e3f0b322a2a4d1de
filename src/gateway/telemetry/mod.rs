//! Sends metrics, and one span for each request, to an OpenTelemetry collector (OTLP over HTTP). A collector that does not
//! answer costs a warning and a bounded buffer; nothing waits for it.

mod documents;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::metrics::{self, MetricsRecorder};
use super::waiting::now;
use crate::config::TelemetrySection;
use crate::daemon::{GatewayHandle, clock};
use crate::http::{self, ConnectOptions};
use crate::protocol::RequestRow;
use documents::OtlpMetrics;

/// The most requests that wait to be sent; further ones are not sent.
const MOST_SPANS: usize = 2048;
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same when the daemon ends.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(600);

/// Requests on their way to the collector.
#[derive(Debug, Default)]
pub(super) struct SpanBuffer {
    is_on: AtomicBool,
    rows: Mutex<Vec<RequestRow>>,
}

impl SpanBuffer {
    /// A request has ended.
    pub(super) fn push(&self, row: &RequestRow) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() < MOST_SPANS {
            rows.push(row.clone());
        }
    }

    fn take(&self) -> Vec<RequestRow> {
        std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn turn(&self, on: bool) {
        self.is_on.store(on, Ordering::Relaxed);
        if !on {
            drop(self.take());
        }
    }
}

/// Sends to the collector that the configuration names.
pub(super) struct TelemetryExporter {
    handle: GatewayHandle,
    metrics: Arc<MetricsRecorder>,
    spans: Arc<SpanBuffer>,
    client: Option<reqwest::Client>,
    /// When counting began, epoch ms.
    began: u64,
    warned: Option<Instant>,
    /// Whether the collector has taken the last documents.
    is_reached: bool,
}

impl TelemetryExporter {
    pub(super) fn new(handle: GatewayHandle, metrics: Arc<MetricsRecorder>, spans: Arc<SpanBuffer>) -> Self {
        let began = clock::now().wall.0;
        Self { handle, metrics, spans, client: None, began, warned: None, is_reached: true }
    }

    /// Sends from time to time, and once more when the last request has ended.
    pub(super) async fn run(mut self, mut last_ended: oneshot::Receiver<()>) {
        let mut changes = self.handle.config_changes();
        let mut exported_at = now();
        loop {
            let TelemetrySection { otlp, interval } = self.handle.config().telemetry;
            self.spans.turn(otlp.is_some());
            // a configuration that changes all the time does not put it off
            let due = exported_at + interval;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep_until(due), if otlp.is_some() => {
                    let Some(url) = &otlp else { continue };
                    let has_ended = {
                        let mut export = pin!(self.export(url, TIMEOUT));
                        tokio::select! {
                            () = &mut export => {
                                exported_at = now();
                                continue;
                            }
                            _ = &mut last_ended => {}
                        }
                        // the end of the daemon does not wait for a collector that does not answer
                        timeout(LAST_TIMEOUT, export).await.is_ok()
                    };
                    if has_ended {
                        self.export_last(otlp).await;
                    }
                    return;
                }
                _ = &mut last_ended => return self.export_last(otlp).await,
            }
        }
    }

    async fn export_last(&mut self, otlp: Option<String>) {
        if let Some(url) = otlp.filter(|_| self.is_reached) {
            self.export(&url, LAST_TIMEOUT).await;
        }
    }

    async fn export(&mut self, url: &str, most: Duration) {
        let mut metrics = OtlpMetrics::new(self.began, clock::now().wall.0);
        metrics::write(&mut metrics, &self.handle, &self.metrics);
        let mut sent = self.send(url, "v1/metrics", &metrics.finish(), most).await;
        // while the collector takes nothing, the spans wait
        let rows = if sent.is_ok() { self.spans.take() } else { Vec::new() };
        if !rows.is_empty() {
            let mut random = vec![0; rows.len() * 24];
            // without randomness, ids would repeat
            if getrandom::fill(&mut random).is_ok() {
                sent = self.send(url, "v1/traces", &documents::spans(&rows, &random), most).await;
            }
        }
        match sent {
            Ok(()) => {
                if !std::mem::replace(&mut self.is_reached, true) {
                    tracing::info!("the collector of telemetry.otlp takes metrics and traces again");
                }
                self.warned = None;
            }
            Err(why) => self.warn(&why),
        }
    }

    fn warn(&mut self, why: &str) {
        self.is_reached = false;
        if self.warned.is_none_or(|at| now().duration_since(at) >= WARNING_INTERVAL) {
            self.warned = Some(now());
            tracing::warn!("the collector of telemetry.otlp does not take metrics and traces: {why}");
        }
    }

    async fn send(&mut self, url: &str, path: &str, document: &Value, most: Duration) -> Result<(), String> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                // it reads the system's certificates
                let client = tokio::task::spawn_blocking(|| http::client(&ConnectOptions::default())).await;
                let client = client.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                self.client.insert(client).clone()
            }
        };
        let url = format!("{}/{path}", url.trim_end_matches('/'));
        let request = client.post(url).header("content-type", "application/json").body(document.to_string());
        let response = match timeout(most, request.send()).await {
            Ok(response) => response.map_err(|error| http::failure_cause(&error.without_url()))?,
            Err(_) => return Err(format!("no answer within {} s", most.as_secs())),
        };
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("{path} got status {status}")) }
    }
}
