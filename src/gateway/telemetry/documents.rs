//! The documents of the OpenTelemetry protocol, in its JSON encoding. They contain no e-mail address, no words of a
//! provider, and nothing of a body.

use serde_json::{Value, json};

use crate::gateway::metrics::{BOUNDS, LatencyHistogram, MetricKind, MetricsSink, unit_of};
use crate::protocol::{AccountLabel, AttemptRow, RequestRow};

/// Counts since the start of the daemon.
const CUMULATIVE: u8 = 2;
const SERVER: u8 = 2;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// Metrics as a document; all counts began at the same time.
#[derive(Debug)]
pub(super) struct OtlpMetrics {
    /// Times in ns since the epoch.
    began: String,
    now: String,
    kind: MetricKind,
    metrics: Vec<Value>,
}

impl OtlpMetrics {
    /// Of this time, epoch ms.
    pub(super) fn new(began: u64, now: u64) -> Self {
        Self { began: nanos(began), now: nanos(now), kind: MetricKind::Gauge, metrics: Vec::new() }
    }

    pub(super) fn finish(mut self) -> Value {
        // a metric without values is not sent
        self.metrics.retain(|metric| {
            let data = ["sum", "gauge", "histogram"].into_iter().find_map(|kind| metric.get(kind));
            data.is_some_and(|data| data["dataPoints"].as_array().is_some_and(|points| !points.is_empty()))
        });
        json!({ "resourceMetrics": [{ "resource": resource(),
            "scopeMetrics": [{ "scope": scope(), "metrics": self.metrics }] }] })
    }

    fn point(&mut self, mut point: Value, labels: &[(&str, &str)]) {
        let kind = match self.kind {
            MetricKind::Counter => "sum",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let attributes = labels.iter().map(|(key, value)| text(key, value)).collect::<Vec<_>>();
        point["attributes"] = attributes.into();
        point["timeUnixNano"] = self.now.clone().into();
        if self.kind != MetricKind::Gauge {
            point["startTimeUnixNano"] = self.began.clone().into();
        }
        let points = self.metrics.last_mut().and_then(|metric| metric[kind]["dataPoints"].as_array_mut());
        if let Some(points) = points {
            points.push(point);
        }
    }
}

impl MetricsSink for OtlpMetrics {
    fn describe(&mut self, name: &str, kind: MetricKind, help: &str) {
        self.kind = kind;
        let mut metric = json!({ "name": name, "description": help, "unit": match unit_of(name) {
            Some("seconds") => "s",
            Some("dollars") => "USD",
            _ => "1",
        } });
        let points: [Value; 0] = [];
        match kind {
            MetricKind::Counter => {
                metric["sum"] =
                    json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true });
            }
            MetricKind::Gauge => metric["gauge"] = json!({ "dataPoints": points }),
            MetricKind::Histogram => {
                metric["histogram"] = json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE });
            }
        }
        self.metrics.push(metric);
    }

    fn value(&mut self, _name: &str, labels: &[(&str, &str)], value: f64) {
        self.point(json!({ "asDouble": value }), labels);
    }

    fn histogram(&mut self, _name: &str, label: (&str, &str), values: &LatencyHistogram) {
        // here, each bucket counts only its own
        let mut before = 0;
        let own = values.counts.iter().chain([&values.count]).map(|upto| {
            let count = upto - before;
            before = *upto;
            count.to_string()
        });
        let counts: Vec<String> = own.collect();
        let point = json!({ "count": values.count.to_string(), "sum": values.sum, "bucketCounts": counts,
            "explicitBounds": BOUNDS });
        self.point(point, &[label]);
    }
}

/// Requests as spans; `random` has 24 bytes for each.
pub(super) fn spans(rows: &[RequestRow], random: &[u8]) -> Value {
    let spans: Vec<Value> = rows.iter().zip(random.chunks_exact(24)).map(|(row, random)| span(row, random)).collect();
    json!({ "resourceSpans": [{ "resource": resource(), "scopeSpans": [{ "scope": scope(), "spans": spans }] }] })
}

fn span(row: &RequestRow, random: &[u8]) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let texts = [
        ("lessor.provider", Some(&*row.provider)),
        ("lessor.outcome", Some(&*row.outcome)),
        ("lessor.account", row.account.as_deref().map(name)),
        ("lessor.agent", row.agent.as_deref()),
        ("lessor.pool", row.pool.as_deref()),
        ("gen_ai.request.model", row.model.as_deref()),
        ("url.path", Some(&*row.path)),
    ];
    let mut attributes: Vec<Value> = texts.into_iter().filter_map(|(key, value)| Some(text(key, value?))).collect();
    let tokens = row.tokens.map(|tokens| (tokens.input, tokens.output)).unzip();
    let numbers = [
        ("http.response.status_code", row.status.map(u64::from)),
        ("lessor.waited_ms", Some(row.waited_ms)),
        ("lessor.first_byte_ms", row.first_byte_ms),
        ("gen_ai.usage.input_tokens", tokens.0),
        ("gen_ai.usage.output_tokens", tokens.1),
    ];
    attributes.extend(numbers.into_iter().filter_map(|(key, value)| Some(number(key, value?))));
    let is_good = row.outcome == "ok";
    json!({
        "traceId": hex(&random[..16]),
        "spanId": hex(&random[16..]),
        "name": format!("lessor {}", row.provider),
        "kind": SERVER,
        "startTimeUnixNano": nanos(row.at),
        "endTimeUnixNano": nanos(row.at + row.duration_ms),
        "attributes": attributes,
        "events": row.attempts.iter().map(|attempt| attempt_event(row.at, attempt)).collect::<Vec<_>>(),
        "status": { "code": if is_good { STATUS_OK } else { STATUS_ERROR } },
    })
}

/// An attempt: an event at its end.
fn attempt_event(began: u64, attempt: &AttemptRow) -> Value {
    let texts = [
        ("lessor.account", Some(name(&attempt.account))),
        ("lessor.reason", attempt.reason.as_deref()),
        ("lessor.scope", attempt.scope.as_deref()),
    ];
    let mut attributes: Vec<Value> = texts.into_iter().filter_map(|(key, value)| Some(text(key, value?))).collect();
    let numbers = [
        ("http.response.status_code", attempt.status.map(u64::from)),
        ("lessor.duration_ms", Some(attempt.duration_ms)),
        ("lessor.limited_until", attempt.until),
    ];
    attributes.extend(numbers.into_iter().filter_map(|(key, value)| Some(number(key, value?))));
    let at = began + attempt.after_ms + attempt.duration_ms;
    json!({ "name": "attempt", "timeUnixNano": nanos(at), "attributes": attributes })
}

fn resource() -> Value {
    json!({ "attributes": [
        text("service.name", "lessor"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        number("process.pid", u64::from(std::process::id())),
    ] })
}

fn scope() -> Value {
    json!({ "name": "lessor", "version": env!("CARGO_PKG_VERSION") })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// An account's label, or else its id.
fn name(account: &AccountLabel) -> &str {
    account.label.as_deref().unwrap_or(&account.id)
}

/// The time in ns, as text: the encoding has no 64-bit numbers.
fn nanos(ms: u64) -> String {
    (u128::from(ms) * 1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_histogram_has_the_count_of_each_bucket() {
        let mut histogram = LatencyHistogram::default();
        for millis in [50, 51, 999_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let mut metrics = OtlpMetrics::new(1, 2);
        metrics.describe("x_seconds", MetricKind::Histogram, "Help.");
        metrics.histogram("x_seconds", ("provider", "p"), &histogram);
        metrics.describe("empty", MetricKind::Counter, "Not sent.");
        let document = metrics.finish();
        let all = document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        assert_eq!((all.len(), &all[0]["unit"]), (1, &json!("s")));
        let point = &all[0]["histogram"]["dataPoints"][0];
        let mut expected = vec!["0"; BOUNDS.len() + 1];
        (expected[0], expected[1], expected[BOUNDS.len()]) = ("1", "1", "1");
        assert_eq!(point["bucketCounts"], json!(expected), "{point}");
        assert_eq!((&point["count"], &point["startTimeUnixNano"]), (&json!("3"), &json!("1000000")));
    }

    #[test]
    fn a_span_has_the_attempts_and_no_words_of_others() {
        let account = AccountLabel { id: "ac_1".into(), label: None, email: Some("a@b.c".into()) };
        let attempt = AttemptRow {
            account: account.clone().into(),
            after_ms: 5,
            duration_ms: 7,
            status: Some(429),
            reason: Some("quota_exhausted".into()),
            evidence: Some("the words".into()),
            ..AttemptRow::default()
        };
        let row = RequestRow {
            at: 1000,
            duration_ms: 40,
            outcome: "refused".into(),
            account: Some(account.into()),
            reason: Some("a@b.c is limited".into()),
            attempts: vec![attempt],
            ..RequestRow::default()
        };
        let document = spans(&[row], &[7; 24]);
        let span = &document["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
        assert_eq!((&span["endTimeUnixNano"], &span["status"]["code"]), (&json!("1040000000"), &json!(2)));
        assert_eq!(span["events"][0]["timeUnixNano"], "1012000000");
        let text = document.to_string();
        assert!(text.contains("quota_exhausted") && !text.contains('@') && !text.contains("words"), "{text}");
    }
}
