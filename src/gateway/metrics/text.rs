//! Metrics as text: in the format of Prometheus, or as OpenMetrics. Both have the same names and values.

use std::fmt::Write as _;

use super::histogram::{BOUNDS, LatencyHistogram};
use super::sink::{MetricKind, MetricsSink, unit_of};

/// How metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::gateway) enum MetricsFormat {
    /// The text format of Prometheus.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// The text of all metrics.
#[derive(Debug, Default)]
pub(super) struct MetricsText {
    format: MetricsFormat,
    text: String,
    /// What the samples of the current counter have behind its name.
    suffix: &'static str,
}

impl MetricsFormat {
    /// What a client accepts, by its `accept` header.
    pub(in crate::gateway) fn accepted(accept: &str) -> Self {
        let of = |name: &str| {
            let range = accept.split(',').map(str::trim).find(|range| range.split(';').next() == Some(name))?;
            let quality = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
            quality.map_or(Some(1.0), |quality| quality.parse::<f32>().ok())
        };
        let wanted = of("application/openmetrics-text").unwrap_or(0.0);
        let plain = of("text/plain").unwrap_or(0.0);
        if wanted > 0.0 && wanted >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl MetricsText {
    pub(super) fn new(format: MetricsFormat) -> Self {
        Self { format, ..Self::default() }
    }

    /// One line, of which `suffix` says what it is.
    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _written = writeln!(self.text, " {value}");
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl MetricsSink for MetricsText {
    /// The samples of a counter have `_total` behind its name.
    fn describe(&mut self, name: &str, kind: MetricKind, help: &str) {
        self.suffix = if kind == MetricKind::Counter { "_total" } else { "" };
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // writing to a string cannot fail
        let _written = match self.format {
            MetricsFormat::Prometheus => {
                let suffix = self.suffix;
                write!(self.text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n")
            }
            MetricsFormat::OpenMetrics => {
                let unit = unit_of(name).map(|unit| format!("# UNIT {name} {unit}\n")).unwrap_or_default();
                write!(self.text, "# TYPE {name} {kind}\n{unit}# HELP {name} {help}\n")
            }
        };
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let suffix = self.suffix;
        self.sample(name, suffix, labels, value);
    }

    fn histogram(&mut self, name: &str, label: (&str, &str), values: &LatencyHistogram) {
        // a bound is written as a decimal number
        let bounds = BOUNDS.iter().map(|bound| format!("{bound:?}")).zip(values.counts);
        for (bound, count) in bounds.chain([("+Inf".to_owned(), values.count)]) {
            self.sample(name, "_bucket", &[label, ("le", &bound)], count as f64);
        }
        self.sample(name, "_count", &[label], values.count as f64);
        self.sample(name, "_sum", &[label], values.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_written_for_those_who_prefer_it() {
        use MetricsFormat::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("application/openmetrics-text; version=1.0.0", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/json", Prometheus),
        ] {
            assert_eq!(MetricsFormat::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_counter_has_the_name_of_its_family_in_the_way_of_each_format() {
        let text = |format| {
            let mut out = MetricsText::new(format);
            out.describe("lessor_x_seconds", MetricKind::Counter, "Help.");
            out.value("lessor_x_seconds", &[("a", "b\"\\\n")], 1.5);
            out.finish()
        };
        let sample = "lessor_x_seconds_total{a=\"b\\\"\\\\\\n\"} 1.5\n";
        let prometheus = "# HELP lessor_x_seconds_total Help.\n# TYPE lessor_x_seconds_total counter\n";
        assert_eq!(text(MetricsFormat::Prometheus), format!("{prometheus}{sample}"));
        let open = "# TYPE lessor_x_seconds counter\n# UNIT lessor_x_seconds seconds\n# HELP lessor_x_seconds Help.\n";
        assert_eq!(text(MetricsFormat::OpenMetrics), format!("{open}{sample}# EOF\n"));
    }

    #[test]
    fn the_buckets_of_a_histogram_contain_the_lower_ones() {
        let mut histogram = LatencyHistogram::default();
        for millis in [50, 51, 999_000] {
            histogram.add(std::time::Duration::from_millis(millis));
        }
        let mut out = MetricsText::new(MetricsFormat::OpenMetrics);
        out.histogram("x_seconds", ("provider", "p"), &histogram);
        let text = out.finish();
        for line in [
            "x_seconds_bucket{provider=\"p\",le=\"0.05\"} 1\n",
            "x_seconds_bucket{provider=\"p\",le=\"1.0\"} 2\n",
            "x_seconds_bucket{provider=\"p\",le=\"+Inf\"} 3\n",
            "x_seconds_count{provider=\"p\"} 3\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
