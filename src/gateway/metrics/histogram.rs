//! How long something took, in buckets.

use std::time::Duration;

use super::text::MetricsText;

/// Upper bounds of the buckets, in seconds.
pub(super) const BOUNDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct LatencyHistogram {
    /// Those up to each bound, the lower ones included.
    pub(super) counts: [u64; BOUNDS.len()],
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl LatencyHistogram {
    pub(super) fn add(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bound, count) in BOUNDS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }

    pub(super) fn write(&self, out: &mut MetricsText, name: &str, provider: &str) {
        // a bound is written as a decimal number
        let bounds = BOUNDS.iter().map(|bound| format!("{bound:?}")).zip(self.counts);
        for (bound, count) in bounds.chain([("+Inf".to_owned(), self.count)]) {
            out.sample(name, "_bucket", &[("provider", provider), ("le", &bound)], count as f64);
        }
        out.sample(name, "_count", &[("provider", provider)], self.count as f64);
        out.sample(name, "_sum", &[("provider", provider)], self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::MetricsFormat;
    use super::*;

    #[test]
    fn buckets_contain_the_lower_ones() {
        let mut histogram = LatencyHistogram::default();
        for millis in [50, 51, 999_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let mut out = MetricsText::new(MetricsFormat::OpenMetrics);
        histogram.write(&mut out, "x_seconds", "p");
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
