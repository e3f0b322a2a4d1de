//! Counts in memory what was used, by which client, on which account.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use tokio::time::Instant;

use crate::daemon::{AccountInFlight, InFlightCounter};
use crate::{gateway::response::TokenCounts, pool::RefusalKind, protocol::ErrorKind};

/// Further combinations of labels are counted together.
const MAX_ROWS: usize = 4096;
const OTHERS: &str = "others";
/// Upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

const REQUESTS: &str = "lessor_requests_total";
const TOKENS: &str = "lessor_tokens_total";
const FAILURES: &str = "lessor_upstream_failures_total";
const REFUSALS: &str = "lessor_refusals_total";
const IN_FLIGHT: &str = "lessor_requests_in_flight";

/// What a request is counted under, and when it came.
#[derive(Clone, Debug)]
pub(crate) struct RequestLabels {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) agent: String,
    pub(crate) directory: String,
    pub(crate) received_at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct MetricsRecorder {
    counts: Mutex<MetricCounts>,
    in_flight: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct MetricCounts {
    responses: BTreeMap<ResponseLabels, ResponseCounts>,
    /// By provider, account and reason.
    failures: BTreeMap<(String, String, &'static str), u64>,
    /// By provider and kind.
    refusals: BTreeMap<(String, ErrorKind), u64>,
    /// By provider.
    first_bytes: BTreeMap<String, LatencyHistogram>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct ResponseLabels {
    provider: String,
    account: String,
    model: String,
    agent: String,
    directory: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct ResponseCounts {
    ok: u64,
    refused: u64,
    broken: u64,
    tokens: TokenCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct LatencyHistogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<AtomicU64>, Option<AccountInFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InFlightGuard {
    /// The request was sent with this account.
    pub(crate) fn sent_with(&mut self, account: &InFlightCounter) {
        self.1 = Some(account.begin());
    }

    /// The account has refused the request, or has not answered.
    pub(crate) fn not_served(&mut self) {
        self.1 = None;
    }
}

impl MetricsRecorder {
    fn counts(&self) -> MutexGuard<'_, MetricCounts> {
        // a panic cannot leave a counter in an invalid state
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts requests in flight in this number.
    pub(crate) fn counting(in_flight: Arc<AtomicU64>) -> Self {
        Self { in_flight, ..Self::default() }
    }

    pub(crate) fn in_flight(&self) -> InFlightGuard {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(self.in_flight.clone(), None)
    }

    pub(crate) fn response_began(&self, labels: &RequestLabels) {
        let elapsed = labels.received_at.elapsed();
        self.counts().first_bytes.entry(labels.provider.clone()).or_default().add(elapsed);
    }

    pub(crate) fn response_ended(
        &self,
        labels: &RequestLabels,
        account: &str,
        status: u16,
        tokens: TokenCounts,
        complete: bool,
    ) {
        let counts = &mut *self.counts();
        let mut labels = ResponseLabels {
            provider: labels.provider.clone(),
            account: account.to_owned(),
            model: labels.model.clone(),
            agent: labels.agent.clone(),
            directory: labels.directory.clone(),
        };
        if counts.responses.len() >= MAX_ROWS && !counts.responses.contains_key(&labels) {
            (labels.model, labels.agent, labels.directory) = (OTHERS.to_owned(), OTHERS.to_owned(), OTHERS.to_owned());
        }
        let counts = counts.responses.entry(labels).or_default();
        match (complete, status) {
            (false, _) => counts.broken += 1,
            (true, 200..=399) => counts.ok += 1,
            (true, _) => counts.refused += 1,
        }
        counts.tokens.input += tokens.input;
        counts.tokens.output += tokens.output;
        counts.tokens.cached += tokens.cached;
    }

    pub(crate) fn attempt_failed(&self, labels: &RequestLabels, account: &str, reason: &'static str) {
        let counts = &mut *self.counts();
        let mut key = (labels.provider.clone(), account.to_owned(), reason);
        if counts.failures.len() >= MAX_ROWS && !counts.failures.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        *counts.failures.entry(key).or_default() += 1;
    }

    pub(crate) fn rejected(&self, labels: &RequestLabels, kind: RefusalKind) {
        *self.counts().refusals.entry((labels.provider.clone(), kind.into())).or_default() += 1;
    }

    pub(super) fn write(&self, out: &mut MetricsText) {
        let counts = &*self.counts();
        out.describe(REQUESTS, "counter", "Responses sent to clients, by outcome.");
        for (labels, ResponseCounts { ok, refused, broken, .. }) in &counts.responses {
            labels.write(out, REQUESTS, "outcome", [("ok", *ok), ("refused", *refused), ("broken", *broken)]);
        }
        out.describe(TOKENS, "counter", "Tokens as counted by the provider; cached ones are also in the input.");
        for (labels, ResponseCounts { tokens: TokenCounts { input, output, cached }, .. }) in &counts.responses {
            labels.write(out, TOKENS, "kind", [("input", *input), ("output", *output), ("cached", *cached)]);
        }
        out.describe(FAILURES, "counter", "Failed attempts, including those of requests that succeeded later.");
        for ((provider, account, reason), count) in &counts.failures {
            let labels = [("provider", provider.as_str()), ("account", account), ("reason", reason)];
            out.value(FAILURES, &labels, *count as f64);
        }
        out.describe(REFUSALS, "counter", "Requests that no account could serve in time.");
        for ((provider, kind), count) in &counts.refusals {
            out.value(REFUSALS, &[("provider", provider.as_str()), ("kind", kind.name())], *count as f64);
        }
        out.describe("lessor_first_byte_seconds", "histogram", "Time from a request to the start of its response.");
        counts.first_bytes.iter().for_each(|(provider, histogram)| histogram.write(out, provider));
        out.describe(IN_FLIGHT, "gauge", "Responses that are being sent.");
        out.value(IN_FLIGHT, &[], self.in_flight.load(Ordering::Relaxed) as f64);
    }
}

impl ResponseLabels {
    /// Writes the counts that are not zero, each with its own value of `label`.
    fn write(&self, out: &mut MetricsText, name: &str, label: &str, counts: [(&str, u64); 3]) {
        for (value, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [
                ("provider", self.provider.as_str()),
                ("account", &self.account),
                ("model", &self.model),
                ("agent", &self.agent),
                ("directory", &self.directory),
                (label, value),
            ];
            out.value(name, &labels, count as f64);
        }
    }
}

impl LatencyHistogram {
    fn add(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bound, count) in BOUNDS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }

    fn write(&self, out: &mut MetricsText, provider: &str) {
        let bounds = BOUNDS.iter().map(f64::to_string).zip(self.counts);
        for (bound, count) in bounds.chain([("+Inf".to_owned(), self.count)]) {
            let labels = [("provider", provider), ("le", &bound)];
            out.value("lessor_first_byte_seconds_bucket", &labels, count as f64);
        }
        out.value("lessor_first_byte_seconds_sum", &[("provider", provider)], self.sum);
        out.value("lessor_first_byte_seconds_count", &[("provider", provider)], self.count as f64);
    }
}

/// Metrics in the text format of Prometheus.
#[derive(Debug, Default)]
pub(super) struct MetricsText(pub(super) String);

impl MetricsText {
    /// The name, type and description of the values that follow.
    pub(super) fn describe(&mut self, name: &str, kind: &str, help: &str) {
        // writing to a string cannot fail
        let _written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    letter => self.0.push(letter),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _written = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a request has a time")]
    fn all_counts_are_written() {
        let recorder = MetricsRecorder::default();
        let labels = RequestLabels {
            provider: "p".into(),
            model: "m\"\\\n".into(),
            agent: String::new(),
            directory: "/d".into(),
            received_at: Instant::now(),
        };
        let in_flight = recorder.in_flight();
        recorder.response_began(&labels);
        recorder.response_ended(&labels, "a", 200, TokenCounts { input: 3, output: 2, cached: 0 }, true);
        recorder.response_ended(&labels, "a", 429, TokenCounts::default(), true);
        recorder.attempt_failed(&labels, "a", "quota_exhausted");
        let mut text = MetricsText::default();
        recorder.write(&mut text);
        let row = "provider=\"p\",account=\"a\",model=\"m\\\"\\\\\\n\",agent=\"\",directory=\"/d\"";
        for wanted in [
            format!("lessor_requests_total{{{row},outcome=\"ok\"}} 1\n"),
            format!("lessor_requests_total{{{row},outcome=\"refused\"}} 1\n"),
            format!("lessor_tokens_total{{{row},kind=\"input\"}} 3\n"),
            "lessor_upstream_failures_total{provider=\"p\",account=\"a\",reason=\"quota_exhausted\"} 1\n".to_owned(),
            "lessor_first_byte_seconds_bucket{provider=\"p\",le=\"+Inf\"} 1\n".to_owned(),
            "lessor_requests_in_flight 1\n".to_owned(),
        ] {
            assert!(text.0.contains(&wanted), "no {wanted} in {}", text.0);
        }
        drop(in_flight);
        let many = RequestLabels { model: String::new(), ..labels };
        for number in 0..=MAX_ROWS + 5 {
            let labels = RequestLabels { directory: number.to_string(), ..many.clone() };
            recorder.response_ended(&labels, "a", 200, TokenCounts::default(), true);
        }
        assert!(recorder.counts().responses.len() <= MAX_ROWS + 2);
    }
}
