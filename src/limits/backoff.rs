//! How long to wait after a refusal: the wait that the server stated, if plausible, or the configured one.

use std::time::Duration;

use super::reason::Reason;

/// A stated wait longer than this is ignored.
pub const LONGEST_BELIEVED: Duration = Duration::from_secs(32 * 86_400);
/// A stated wait shorter than this is raised to this.
pub const SHORTEST_HINT: Duration = Duration::from_secs(2);

/// The waits that apply when the server states none, by reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// For `quota_exhausted`, `out_of_credit` and `forbidden`, by consecutive failures; the last one repeats.
    pub quota: Vec<Duration>,
    /// For `rate_limit_exceeded`.
    pub rate_limit: Duration,
    /// For `model_capacity_exhausted`.
    pub capacity: Duration,
    /// For `server_error`.
    pub server_error: Duration,
    /// For `unknown`.
    pub unknown: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            quota: [60, 300, 1800, 7200].map(Duration::from_secs).to_vec(),
            rate_limit: Duration::from_secs(30),
            capacity: Duration::from_secs(15),
            server_error: Duration::from_secs(20),
            unknown: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The wait after a refusal that followed `failures` consecutive others. Zero where waiting does not help: a
    /// credential, the account's owner or the request itself must change.
    #[must_use]
    pub fn wait(&self, reason: Reason, stated: Option<Duration>, failures: usize) -> Duration {
        if matches!(reason, Reason::RequestRejected | Reason::AuthFailed | Reason::VerificationRequired) {
            return Duration::ZERO;
        }
        if let Some(stated) = stated.filter(|stated| !stated.is_zero() && *stated <= LONGEST_BELIEVED) {
            return stated.max(SHORTEST_HINT);
        }
        match reason {
            Reason::QuotaExhausted | Reason::OutOfCredit | Reason::Forbidden => {
                self.quota.get(failures).or(self.quota.last()).copied().unwrap_or(self.unknown)
            }
            Reason::RateLimitExceeded => self.rate_limit,
            Reason::ModelCapacityExhausted => self.capacity,
            Reason::ServerError => self.server_error,
            _ => self.unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plausible_stated_wait_replaces_the_configured_one() {
        let ms = Duration::from_millis;
        for (reason, failures, stated, expected) in [
            (Reason::QuotaExhausted, 0, None, 60_000),
            (Reason::QuotaExhausted, 1, None, 300_000),
            (Reason::QuotaExhausted, 2, None, 1_800_000),
            (Reason::QuotaExhausted, 3, None, 7_200_000),
            (Reason::QuotaExhausted, 10, None, 7_200_000),
            (Reason::QuotaExhausted, 0, Some(120_000), 120_000),
            (Reason::QuotaExhausted, 2, Some(10_000_000), 10_000_000),
            (Reason::QuotaExhausted, 0, Some(500), 2_000),
            (Reason::RateLimitExceeded, 5, None, 30_000),
            (Reason::RateLimitExceeded, 0, Some(45_000), 45_000),
            (Reason::RateLimitExceeded, 0, Some(1_000), 2_000),
            (Reason::RateLimitExceeded, 0, Some(0), 30_000),
            (Reason::ModelCapacityExhausted, 3, None, 15_000),
            (Reason::ModelCapacityExhausted, 0, Some(90_000), 90_000),
            (Reason::ServerError, 0, None, 20_000),
            (Reason::Unknown, 0, None, 60_000),
            (Reason::Unknown, 0, Some(1), 2_000),
            (Reason::Unknown, 0, Some(32 * 86_400_000), 32 * 86_400_000),
            (Reason::Unknown, 0, Some(32 * 86_400_000 + 1), 60_000),
            (Reason::OutOfCredit, 0, None, 60_000),
            (Reason::Forbidden, 1, None, 300_000),
            (Reason::RequestRejected, 0, Some(5_000), 0),
            (Reason::AuthFailed, 0, None, 0),
        ] {
            let wait = Backoff::default().wait(reason, stated.map(ms), failures);
            assert_eq!(wait, ms(expected), "{reason:?} {failures} {stated:?}");
        }
        let empty = Backoff { quota: Vec::new(), ..Backoff::default() };
        assert_eq!(empty.wait(Reason::QuotaExhausted, None, 7), ms(60_000));
    }
}
