//! When to try again to reach the database.

use std::time::Duration;

use crate::pool::Mono;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause while requests wait for it.
const LONGEST_WANTED: Duration = Duration::from_secs(5);
/// The longest one while nothing waits.
const LONGEST: Duration = Duration::from_secs(30);

/// The tries in a row that have failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectBackoff {
    failures: u32,
    last: Mono,
    /// From 0 to 1: of many hosts that lose the same database, not all come back in one moment.
    jitter: f64,
}

impl ConnectBackoff {
    /// A try has failed, or a connection was lost; `jitter` is from 0 to 1.
    pub(super) fn failed(&mut self, now: Mono, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        (self.last, self.jitter) = (now, jitter);
    }

    /// A connection has worked.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When the next try begins: sooner while leases are on shared accounts or requests wait for one.
    pub(super) fn next(&self, is_wanted: bool) -> Mono {
        if self.failures == 0 {
            return Mono::default();
        }
        let pause = FIRST.saturating_mul(1 << (self.failures - 1).min(10));
        let most = if is_wanted { LONGEST_WANTED } else { LONGEST };
        self.last.after(pause.min(most).mul_f64(0.5 + 0.5 * self.jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_short_while_requests_wait() {
        let mut backoff = ConnectBackoff::default();
        assert_eq!(backoff.next(true), Mono(0), "the first try is at once");
        let pauses: Vec<u64> = (1..=12)
            .map(|_| {
                backoff.failed(Mono(1000), 1.0);
                backoff.next(true).0 - 1000
            })
            .collect();
        assert_eq!(pauses[..6], [250, 500, 1000, 2000, 4000, 5000]);
        assert!(pauses.iter().all(|pause| *pause <= 5000));
        assert_eq!(backoff.next(false), Mono(31_000));
        backoff.failed(Mono(1000), 0.0);
        assert_eq!(backoff.next(true), Mono(3500), "hosts are spread over half of the pause");
        backoff.succeeded();
        assert_eq!(backoff.next(true), Mono(0));
    }
}
