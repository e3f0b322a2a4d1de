//! How long something took, in buckets.

use std::time::Duration;

/// Upper bounds of the buckets, in seconds.
pub(in crate::gateway) const BOUNDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(in crate::gateway) struct LatencyHistogram {
    /// Those up to each bound, the lower ones included.
    pub(in crate::gateway) counts: [u64; BOUNDS.len()],
    pub(in crate::gateway) count: u64,
    pub(in crate::gateway) sum: f64,
}

impl LatencyHistogram {
    pub(in crate::gateway) fn add(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (bound, count) in BOUNDS.iter().zip(&mut self.counts) {
            *count += u64::from(seconds <= *bound);
        }
    }
}
