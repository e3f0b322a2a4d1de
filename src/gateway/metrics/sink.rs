//! Where metrics are written to: a text, or a document for a collector. Both get the same names and values.

use super::histogram::LatencyHistogram;

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// Takes metrics, one after the other: first what a metric is, then its values.
pub(in crate::gateway) trait MetricsSink {
    /// The name, type and description of the values that follow. The unit is the last word of the name.
    fn describe(&mut self, name: &str, kind: MetricKind, help: &str);

    /// A value of a counter or a gauge.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64);

    /// The values of a histogram.
    fn histogram(&mut self, name: &str, labels: (&str, &str), values: &LatencyHistogram);
}

/// The unit in a metric's name.
pub(in crate::gateway) fn unit_of(name: &str) -> Option<&'static str> {
    ["seconds", "dollars"].into_iter().find(|unit| name.rsplit('_').next() == Some(unit))
}
