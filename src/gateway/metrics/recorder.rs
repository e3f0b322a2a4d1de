//! Counts in memory what was used, by which client, on which account. All counts of a request are made at its end, from
//! the row that the history gets too.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counts::MetricCounts;
use super::in_flight::{InFlightCount, InFlightGuard};
use super::sink::{MetricKind, MetricsSink};
use crate::daemon::AccountNames;
use crate::gateway::record::EndedRequest;
use crate::pool::RefusalKind;

#[derive(Debug, Default)]
pub(crate) struct MetricsRecorder {
    counts: Mutex<MetricCounts>,
    in_flight: Arc<InFlightCount>,
}

impl MetricsRecorder {
    fn counts(&self) -> MutexGuard<'_, MetricCounts> {
        // a panic cannot leave a counter in an invalid state
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts requests in flight in this number.
    pub(crate) fn counting(in_flight: Arc<AtomicU64>) -> Self {
        Self { in_flight: Arc::new(InFlightCount::counting(in_flight)), ..Self::default() }
    }

    pub(crate) fn in_flight(&self) -> InFlightGuard {
        self.in_flight.begin()
    }

    /// How many requests are in flight.
    pub(crate) fn in_flight_count(&self) -> Arc<InFlightCount> {
        self.in_flight.clone()
    }

    /// A request has ended. Whether [`Self::forget_removed`] is due.
    pub(crate) fn request_ended(&self, ended: &EndedRequest<'_>) -> bool {
        let counts = &mut *self.counts();
        counts.add(ended);
        counts.has_many_new()
    }

    /// Counts together what belongs to accounts that were removed.
    pub(crate) fn forget_removed(&self, accounts: &AccountNames) {
        self.counts().forget_removed(accounts);
    }

    /// No account could serve a request in time.
    pub(crate) fn rejected(&self, provider: &str, kind: RefusalKind) {
        self.counts().rejected(provider, kind.into());
    }

    /// Writes all counts; accounts have these names.
    pub(super) fn write(&self, out: &mut impl MetricsSink, accounts: &AccountNames) {
        {
            let counts = &mut *self.counts();
            counts.forget_removed(accounts);
            counts.write(out, accounts);
        }
        let name = "lessor_requests_in_flight";
        out.describe(name, MetricKind::Gauge, "Requests under way, without those that wait for an account.");
        out.value(name, &[], self.in_flight.get() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::counts::{MAX_ROWS, NEW_ROWS};
    use super::super::text::{MetricsFormat, MetricsText};
    use super::*;
    use crate::gateway::record::RequestTimes;
    use crate::protocol::{AccountLabel, AttemptRow, RequestRow, TokenSums};

    fn row(outcome: &str, directory: &str) -> RequestRow {
        RequestRow {
            provider: "p".into(),
            model: Some("m\"\\\n".into()),
            directory: Some(directory.into()),
            account: Some(
                AccountLabel { id: "ac_1".into(), label: Some("a".into()), email: Some("a@b.c".into()) }.into(),
            ),
            outcome: outcome.to_owned().into(),
            ..RequestRow::default()
        }
    }

    fn end(recorder: &MetricsRecorder, row: &RequestRow) -> bool {
        let (first_byte, duration) = (Some(Duration::from_millis(7)), Duration::from_millis(300));
        recorder
            .request_ended(&EndedRequest { row, times: RequestTimes { first_byte, duration, waited: Duration::ZERO } })
    }

    fn names(names: &[(&str, &str)]) -> AccountNames {
        names.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect()
    }

    fn text(recorder: &MetricsRecorder, accounts: &[(&str, &str)]) -> String {
        let mut text = MetricsText::new(MetricsFormat::Prometheus);
        recorder.write(&mut text, &names(accounts));
        text.finish()
    }

    /// The sum of the values of a metric.
    fn sum(text: &str, metric: &str) -> f64 {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    #[test]
    fn all_counts_are_written() {
        let recorder = MetricsRecorder::default();
        let in_flight = recorder.in_flight();
        let attempt = |id: &str, reason: Option<&str>, status, scope: Option<&str>| AttemptRow {
            account: AccountLabel { id: id.into(), ..AccountLabel::default() }.into(),
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
        let text = text(&recorder, &[("ac_1", "a"), ("x", "x"), ("y", "y")]);
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
        let text = text(&recorder, &[("ac_1", "a")]);
        assert!(text.matches("lessor_requests_total{").count() <= MAX_ROWS + 1);
        assert_eq!(sum(&text, "lessor_requests_total") as usize, MAX_ROWS + 6);
    }

    #[test]
    fn rows_of_removed_accounts_are_put_together_and_sums_stay() {
        let recorder = MetricsRecorder::default();
        let of = |number: usize| AccountLabel { id: format!("ac_{number}"), label: None, email: None };
        let mut most = 0;
        for number in 0..2000 {
            let failed =
                AttemptRow { account: of(number).into(), reason: Some("network".into()), ..AttemptRow::default() };
            let request = RequestRow {
                account: Some(of(number).into()),
                attempts: vec![failed],
                cost_usd: Some(0.5),
                ..row("ok", "/d")
            };
            if end(&recorder, &request) {
                // only the latest account is there
                recorder.forget_removed(&names(&[(&of(number).id, "latest")]));
            }
            most = most.max(recorder.counts().row_count());
        }
        assert!(most <= NEW_ROWS + 12, "{most} rows");
        let text = text(&recorder, &[("ac_1999", "latest")]);
        for metric in ["lessor_requests_total", "lessor_attempts_total", "lessor_upstream_failures_total"] {
            assert_eq!((sum(&text, metric), text.matches(&format!("{metric}{{")).count()), (2000.0, 2), "{text}");
        }
        assert_eq!(sum(&text, "lessor_cost_dollars_total"), 1000.0);
        assert!(text.contains("account=\"removed\"") && text.contains("account=\"latest\""), "{text}");
    }

    #[test]
    fn a_count_continues_under_another_label_and_one_name_is_one_row() {
        let recorder = MetricsRecorder::default();
        end(&recorder, &row("ok", "/d"));
        assert!(text(&recorder, &[("ac_1", "a")]).contains("account=\"a\""));
        end(&recorder, &row("ok", "/d"));
        let renamed = text(&recorder, &[("ac_1", "b")]);
        assert!(renamed.contains("account=\"b\"") && !renamed.contains("account=\"a\""), "{renamed}");
        assert_eq!(sum(&renamed, "lessor_requests_total"), 2.0);
        // another account is removed, and this one has the name of those that were
        let other = Some(AccountLabel { id: "ac_2".into(), ..AccountLabel::default() });
        end(&recorder, &RequestRow { account: other.map(Into::into), ..row("ok", "/d") });
        let same = text(&recorder, &[("ac_1", "removed")]);
        assert_eq!((same.matches("lessor_requests_total{").count(), sum(&same, "lessor_requests_total")), (1, 3.0));
    }
}
