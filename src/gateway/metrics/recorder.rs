//! Counts in memory what was used, by which client, on which account. All counts of a request are made at its end, from
//! the row that the history gets too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::histogram::LatencyHistogram;
use super::sink::{MetricKind, MetricsSink};
use crate::daemon::{AccountInFlight, InFlightCounter};
use crate::gateway::record::EndedRequest;
use crate::pool::RefusalKind;
use crate::protocol::{AccountLabel, AttemptRow, ErrorKind, RequestRow, TokenSums};

/// Further combinations of labels are counted together.
const MAX_ROWS: usize = 4096;
const OTHERS: &str = "others";
/// How a request can end, in the order of the counts.
const OUTCOMES: [&str; 4] = ["ok", "refused", "broken", "cancelled"];
/// How an attempt can end, in the order of the counts.
const RESULTS: [&str; 4] = ["answered", "refused", "failed", "cancelled"];

#[derive(Debug, Default)]
pub(crate) struct MetricsRecorder {
    counts: Mutex<MetricCounts>,
    in_flight: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct MetricCounts {
    requests: BTreeMap<RequestKey, RequestCounts>,
    /// By provider and account.
    attempts: BTreeMap<(String, String), AttemptCounts>,
    /// By provider, account and reason.
    failures: BTreeMap<(String, String, String), FailureCounts>,
    /// By provider and kind.
    refusals: BTreeMap<(String, ErrorKind), u64>,
    /// By provider.
    times: BTreeMap<String, RequestTimes>,
}

/// What a request is counted under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct RequestKey {
    provider: String,
    /// Whose response the client got; empty if lessor answered.
    account: String,
    model: String,
    agent: String,
    directory: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct RequestCounts {
    outcomes: [u64; OUTCOMES.len()],
    tokens: TokenSums,
    cost: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AttemptCounts {
    results: [u64; RESULTS.len()],
    /// Requests that went on with another account.
    switches: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct FailureCounts {
    all: u64,
    /// Those that have met a limit of the account.
    limits: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct RequestTimes {
    first_byte: LatencyHistogram,
    duration: LatencyHistogram,
    wait: LatencyHistogram,
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

    /// A request has ended.
    pub(crate) fn request_ended(&self, ended: &EndedRequest<'_>) {
        let counts = &mut *self.counts();
        let EndedRequest { row, first_byte, duration, waited } = *ended;
        counts.request(row);
        for (at, attempt) in row.attempts.iter().enumerate() {
            counts.attempt(row, attempt, row.attempts.get(at + 1));
        }
        counts.times(&row.provider, first_byte, duration, waited);
    }

    /// No account could serve a request in time.
    pub(crate) fn rejected(&self, provider: &str, kind: RefusalKind) {
        *self.counts().refusals.entry((provider.to_owned(), kind.into())).or_default() += 1;
    }

    pub(super) fn write(&self, out: &mut impl MetricsSink) {
        self.counts().write(out);
        let name = "lessor_requests_in_flight";
        out.describe(name, MetricKind::Gauge, "Requests under way, without those that wait for an account.");
        out.value(name, &[], self.in_flight.load(Ordering::Relaxed) as f64);
    }
}

impl MetricCounts {
    fn request(&mut self, row: &RequestRow) {
        let mut key = RequestKey::of(row);
        if self.requests.len() >= MAX_ROWS && !self.requests.contains_key(&key) {
            (key.model, key.agent, key.directory) = (OTHERS.to_owned(), OTHERS.to_owned(), OTHERS.to_owned());
        }
        let counts = self.requests.entry(key).or_default();
        if let Some(at) = OUTCOMES.iter().position(|outcome| *outcome == row.outcome) {
            counts.outcomes[at] += 1;
        }
        let tokens = row.tokens.unwrap_or_default();
        counts.tokens.input += tokens.input;
        counts.tokens.output += tokens.output;
        counts.tokens.cached += tokens.cached;
        counts.tokens.cache_written += tokens.cache_written;
        counts.cost += row.cost_usd.unwrap_or(0.0);
    }

    fn attempt(&mut self, row: &RequestRow, attempt: &AttemptRow, next: Option<&AttemptRow>) {
        let mut key = (row.provider.clone(), name(&attempt.account).to_owned());
        if self.attempts.len() >= MAX_ROWS && !self.attempts.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        let counts = self.attempts.entry(key).or_default();
        let result = match (&attempt.reason, attempt.status) {
            (None, _) => 0,
            (Some(reason), None) if reason == "cancelled" => 3,
            (Some(_), None) => 2,
            (Some(_), Some(_)) => 1,
        };
        counts.results[result] += 1;
        counts.switches += u64::from(next.is_some_and(|next| next.account.id != attempt.account.id));
        let Some(reason) = attempt.reason.clone().filter(|_| result != 3) else { return };
        let mut key = (row.provider.clone(), name(&attempt.account).to_owned(), reason);
        if self.failures.len() >= MAX_ROWS && !self.failures.contains_key(&key) {
            OTHERS.clone_into(&mut key.1);
        }
        let counts = self.failures.entry(key).or_default();
        counts.all += 1;
        counts.limits += u64::from(attempt.met_limit());
    }

    fn times(&mut self, provider: &str, first_byte: Option<Duration>, duration: Duration, waited: Duration) {
        // no copy of the name for each request
        if !self.times.contains_key(provider) {
            self.times.insert(provider.to_owned(), RequestTimes::default());
        }
        let Some(times) = self.times.get_mut(provider) else { return };
        if let Some(first_byte) = first_byte {
            times.first_byte.add(first_byte);
        }
        times.duration.add(duration);
        times.wait.add(waited);
    }

    fn write(&self, out: &mut impl MetricsSink) {
        use MetricKind::{Counter, Histogram};
        let requests = || self.requests.iter();
        out.describe("lessor_requests", Counter, "Requests that have ended, by outcome.");
        for (key, counts) in requests() {
            let outcomes = OUTCOMES.into_iter().zip(counts.outcomes);
            key.write(out, "lessor_requests", Some("outcome"), outcomes.map(|(name, count)| (name, count as f64)));
        }
        let help = "Tokens as counted by the provider; cached and cache_written ones are also in the input.";
        out.describe("lessor_tokens", Counter, help);
        for (key, RequestCounts { tokens, .. }) in requests() {
            let TokenSums { input, output, cached, cache_written } = *tokens;
            let kinds = [("input", input), ("output", output), ("cached", cached), ("cache_written", cache_written)];
            let kinds = kinds.into_iter().map(|(name, count)| (name, count as f64));
            key.write(out, "lessor_tokens", Some("kind"), kinds);
        }
        out.describe("lessor_cost_dollars", Counter, "What tokens have cost by the table of prices, in US dollars.");
        for (key, counts) in requests() {
            key.write(out, "lessor_cost_dollars", None, [("", counts.cost)].into_iter());
        }
        out.describe("lessor_attempts", Counter, "Requests sent to the provider, by result.");
        for ((provider, account), counts) in &self.attempts {
            for (result, count) in RESULTS.into_iter().zip(counts.results).filter(|(_, count)| *count > 0) {
                let labels = [("provider", provider.as_str()), ("account", account), ("result", result)];
                out.value("lessor_attempts", &labels, count as f64);
            }
        }
        out.describe("lessor_switches", Counter, "Requests that an account did not serve and another one got.");
        for ((provider, account), counts) in self.attempts.iter().filter(|(_, counts)| counts.switches > 0) {
            let labels = [("provider", provider.as_str()), ("account", account)];
            out.value("lessor_switches", &labels, counts.switches as f64);
        }
        let help = "Failed attempts, including those of requests that succeeded later.";
        self.write_failures(out, ("lessor_upstream_failures", help), |counts| counts.all);
        let help = "Attempts that have met a limit of their account.";
        self.write_failures(out, ("lessor_limits", help), |counts| counts.limits);
        out.describe("lessor_refusals", Counter, "Requests that no account could serve in time.");
        for ((provider, kind), count) in &self.refusals {
            out.value("lessor_refusals", &[("provider", provider.as_str()), ("kind", kind.name())], *count as f64);
        }
        for (name, help, times) in TIMES {
            out.describe(name, Histogram, help);
            self.times.iter().for_each(|(provider, all)| out.histogram(name, ("provider", provider), times(all)));
        }
    }

    fn write_failures(&self, out: &mut impl MetricsSink, (name, help): (&str, &str), count: fn(&FailureCounts) -> u64) {
        out.describe(name, MetricKind::Counter, help);
        for ((provider, account, reason), counts) in self.failures.iter().filter(|(_, counts)| count(counts) > 0) {
            let labels = [("provider", provider.as_str()), ("account", account), ("reason", reason)];
            out.value(name, &labels, count(counts) as f64);
        }
    }
}

/// A histogram of the times of requests: its name, its description, and where it is.
type TimesOf = (&'static str, &'static str, fn(&RequestTimes) -> &LatencyHistogram);

const TIMES: [TimesOf; 3] = [
    ("lessor_first_byte_seconds", "Time from a request to the start of the provider's response.", |of| &of.first_byte),
    ("lessor_request_duration_seconds", "Time from a request to the end of its response.", |of| &of.duration),
    ("lessor_account_wait_seconds", "Time that a request waited for an account.", |of| &of.wait),
];

impl RequestKey {
    fn of(row: &RequestRow) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            provider: row.provider.clone(),
            account: row.account.as_ref().map(name).unwrap_or_default().to_owned(),
            model: text(&row.model),
            agent: text(&row.agent),
            directory: text(&row.directory),
        }
    }

    /// Writes the values that are not zero, each with its own value of `label`.
    fn write<'a>(
        &self,
        out: &mut impl MetricsSink,
        name: &str,
        label: Option<&str>,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        for (value, count) in values.filter(|(_, count)| *count > 0.0) {
            let labels = [
                ("provider", self.provider.as_str()),
                ("account", &self.account),
                ("model", &self.model),
                ("agent", &self.agent),
                ("directory", &self.directory),
                (label.unwrap_or_default(), value),
            ];
            out.value(name, &labels[..labels.len() - usize::from(label.is_none())], count);
        }
    }
}

/// An account's label, or else its id: no e-mail address is in the metrics.
fn name(account: &AccountLabel) -> &str {
    account.label.as_deref().unwrap_or(&account.id)
}

#[cfg(test)]
mod tests {
    use super::super::text::{MetricsFormat, MetricsText};
    use super::*;

    fn row(outcome: &str, directory: &str) -> RequestRow {
        RequestRow {
            provider: "p".into(),
            model: Some("m\"\\\n".into()),
            directory: Some(directory.into()),
            account: Some(AccountLabel { id: "ac_1".into(), label: Some("a".into()), email: Some("a@b.c".into()) }),
            outcome: outcome.into(),
            ..RequestRow::default()
        }
    }

    fn end(recorder: &MetricsRecorder, row: &RequestRow) {
        let (first_byte, duration) = (Some(Duration::from_millis(7)), Duration::from_millis(300));
        recorder.request_ended(&EndedRequest { row, first_byte, duration, waited: Duration::ZERO });
    }

    #[test]
    fn all_counts_are_written() {
        let recorder = MetricsRecorder::default();
        let in_flight = recorder.in_flight();
        let attempt = |id: &str, reason: Option<&str>, status, scope: Option<&str>| AttemptRow {
            account: AccountLabel { id: id.into(), ..AccountLabel::default() },
            reason: reason.map(Into::into),
            status,
            scope: scope.map(Into::into),
            ..AttemptRow::default()
        };
        let tokens = Some(TokenSums { input: 3, output: 2, cached: 1, cache_written: 4 });
        let attempts = vec![
            attempt("x", Some("quota_exhausted"), Some(429), Some("pool")),
            attempt("y", Some("network"), None, Some("service")),
            attempt("y", None, Some(200), None),
        ];
        end(&recorder, &RequestRow { tokens, attempts, cost_usd: Some(0.25), ..row("ok", "/d") });
        end(&recorder, &row("refused", "/d"));
        end(
            &recorder,
            &RequestRow { attempts: vec![attempt("x", Some("cancelled"), None, None)], ..row("cancelled", "/d") },
        );
        recorder.rejected("p", RefusalKind::AllLimited);
        let mut text = MetricsText::new(MetricsFormat::Prometheus);
        recorder.write(&mut text);
        let text = text.finish();
        let row = "provider=\"p\",account=\"a\",model=\"m\\\"\\\\\\n\",agent=\"\",directory=\"/d\"";
        for wanted in [
            format!("lessor_requests_total{{{row},outcome=\"ok\"}} 1\n"),
            format!("lessor_requests_total{{{row},outcome=\"refused\"}} 1\n"),
            format!("lessor_requests_total{{{row},outcome=\"cancelled\"}} 1\n"),
            format!("lessor_tokens_total{{{row},kind=\"input\"}} 3\n"),
            format!("lessor_tokens_total{{{row},kind=\"cache_written\"}} 4\n"),
            format!("lessor_cost_dollars_total{{{row}}} 0.25\n"),
            "lessor_attempts_total{provider=\"p\",account=\"x\",result=\"refused\"} 1\n".to_owned(),
            "lessor_attempts_total{provider=\"p\",account=\"x\",result=\"cancelled\"} 1\n".to_owned(),
            "lessor_attempts_total{provider=\"p\",account=\"y\",result=\"failed\"} 1\n".to_owned(),
            "lessor_attempts_total{provider=\"p\",account=\"y\",result=\"answered\"} 1\n".to_owned(),
            "lessor_switches_total{provider=\"p\",account=\"x\"} 1\n".to_owned(),
            "lessor_upstream_failures_total{provider=\"p\",account=\"y\",reason=\"network\"} 1\n".to_owned(),
            "lessor_limits_total{provider=\"p\",account=\"x\",reason=\"quota_exhausted\"} 1\n".to_owned(),
            "lessor_refusals_total{provider=\"p\",kind=\"all_limited\"} 1\n".to_owned(),
            "lessor_first_byte_seconds_bucket{provider=\"p\",le=\"+Inf\"} 3\n".to_owned(),
            "lessor_request_duration_seconds_bucket{provider=\"p\",le=\"0.25\"} 0\n".to_owned(),
            "lessor_requests_in_flight 1\n".to_owned(),
        ] {
            assert!(text.contains(&wanted), "no {wanted} in {text}");
        }
        assert!(!text.contains("@") && !text.contains("lessor_limits_total{provider=\"p\",account=\"y\""), "{text}");
        drop(in_flight);
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let recorder = MetricsRecorder::default();
        for number in 0..=MAX_ROWS + 5 {
            end(&recorder, &row("ok", &number.to_string()));
        }
        let counts = recorder.counts();
        assert!(counts.requests.len() <= MAX_ROWS + 2);
        assert_eq!(counts.requests.values().map(|of| of.outcomes[0]).sum::<u64>() as usize, MAX_ROWS + 6);
    }
}
