//! The health score of an account, and its token bucket of attempts.

use crate::pool::model::{HealthSettings, Mono, TokenSettings};

pub(crate) const MS_PER_HOUR: f64 = 3_600_000.0;
pub(crate) const MS_PER_MINUTE: f64 = 60_000.0;

/// A score that falls with failures and recovers with time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Health {
    points: f64,
    since: Mono,
}

/// A bucket that refills with time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bucket {
    tokens: f64,
    since: Mono,
}

impl Health {
    pub(crate) fn new(settings: &HealthSettings, now: Mono) -> Self {
        Self { points: settings.initial, since: now }
    }

    /// The score now, including whole points regained since the last event.
    #[inline]
    pub fn score(&self, settings: &HealthSettings, now: Mono) -> f64 {
        let earned = elapsed(self.since, now) * settings.recovery_per_hour;
        // usually it is less than a point: skip the division
        let regained = if earned < MS_PER_HOUR { 0.0 } else { (earned / MS_PER_HOUR).floor() };
        (self.points + regained).min(settings.max)
    }

    /// The points, and their time in milliseconds: for digests.
    pub(crate) fn parts(&self) -> (f64, f64) {
        (self.points, self.since.0 as f64)
    }

    pub(crate) fn add(&mut self, points: f64, settings: &HealthSettings, now: Mono) {
        // not `clamp`: it panics when a configured maximum makes no sense
        self.points = (self.score(settings, now) + points).min(settings.max).max(0.0);
        self.since = now;
    }
}

impl Bucket {
    pub(crate) fn new(settings: &TokenSettings, now: Mono) -> Self {
        // `initial` may be configured above `max`
        Self { tokens: settings.initial.min(settings.max), since: now }
    }

    /// The tokens now.
    #[inline]
    pub fn tokens(&self, settings: &TokenSettings, now: Mono) -> f64 {
        if self.tokens >= settings.max {
            return settings.max;
        }
        // in this order, so that a scan of many accounts divides once
        let refilled = elapsed(self.since, now) * (settings.per_minute / MS_PER_MINUTE);
        (self.tokens + refilled).min(settings.max)
    }

    /// The tokens, and their time in milliseconds: for digests.
    pub(crate) fn parts(&self) -> (f64, f64) {
        (self.tokens, self.since.0 as f64)
    }

    /// Takes one token, if there is a whole one. An empty bucket blocks no grant and keeps filling.
    pub(crate) fn take(&mut self, settings: &TokenSettings, now: Mono) {
        if self.tokens(settings, now) >= 1.0 {
            self.move_by(-1.0, settings, now);
        }
    }

    pub(crate) fn give_back(&mut self, settings: &TokenSettings, now: Mono) {
        self.move_by(1.0, settings, now);
    }

    fn move_by(&mut self, tokens: f64, settings: &TokenSettings, now: Mono) {
        self.tokens = (self.tokens(settings, now) + tokens).min(settings.max).max(0.0);
        self.since = now;
    }
}

/// Milliseconds; zero when `now` is earlier.
#[inline]
fn elapsed(since: Mono, now: Mono) -> f64 {
    // a signed integer converts to a float in one instruction
    i64::try_from(now.0.saturating_sub(since.0)).unwrap_or(i64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// The time of a reading, and its expected value.
    type Reads<'a> = &'a [(u64, f64)];
    /// Events with their time in minutes, and the scores to read.
    type Row<'a> = (HealthSettings, &'a [(char, u64)], Reads<'a>);

    fn settings(change: impl FnOnce(&mut HealthSettings)) -> HealthSettings {
        let mut settings = HealthSettings::default();
        change(&mut settings);
        settings
    }

    /// opencode-antigravity-auth's cases for its health tracker.
    #[test]
    fn health_follows_the_rules_of_opencode_antigravity_auth() {
        let plain = HealthSettings::default;
        let rows: [Row; 13] = [
            (plain(), &[], &[(0, 70.0)]),
            (settings(|s| s.success = 5.0), &[('s', 0)], &[(0, 75.0)]),
            (settings(|s| (s.initial, s.success) = (98.0, 5.0)), &[('s', 0)], &[(0, 100.0)]),
            (plain(), &[('r', 0), ('r', 0), ('s', 0)], &[(0, 51.0)]),
            (plain(), &[('r', 0)], &[(0, 60.0)]),
            (settings(|s| s.initial = 5.0), &[('r', 0)], &[(0, 0.0)]),
            (plain(), &[('f', 0)], &[(0, 50.0)]),
            (plain(), &[('f', 0), ('f', 0)], &[(0, 30.0)]),
            (settings(|s| s.recovery_per_hour = 10.0), &[('f', 0)], &[(120, 70.0)]),
            (
                settings(|s| (s.initial, s.success, s.recovery_per_hour) = (90.0, 5.0, 20.0)),
                &[('s', 0)],
                &[(60, 100.0)],
            ),
            (settings(|s| s.failure = -10.0), &[('f', 0)], &[(0, 60.0), (20, 60.0), (30, 61.0)]),
            // idle time may raise it above the initial score
            (
                plain(),
                &[('r', 0), ('r', 0), ('r', 0)],
                &[(0, 40.0), (29, 40.0), (30, 41.0), (300, 50.0), (6000, 100.0)],
            ),
            // every event restarts the clock; the half hour before it is lost
            (plain(), &[('f', 0), ('s', 29)], &[(58, 51.0)]),
        ];
        for (settings, events, reads) in rows {
            let mut health = Health::new(&settings, Mono(0));
            for (event, at) in events {
                let points = match event {
                    's' => settings.success,
                    'r' => settings.rate_limit,
                    _ => settings.failure,
                };
                health.add(points, &settings, Mono(at * MINUTE));
            }
            for (at, score) in reads {
                assert_eq!(health.score(&settings, Mono(at * MINUTE)), *score, "{events:?} at {at} min");
            }
        }
    }

    /// The same project's cases for its token bucket. It takes any number at once; the pool takes one per grant.
    #[test]
    fn the_bucket_follows_the_rules_of_opencode_antigravity_auth() {
        let of = |initial, taken| {
            let settings = TokenSettings { initial, ..TokenSettings::default() };
            let mut bucket = Bucket::new(&settings, Mono(0));
            (0..taken).for_each(|_| bucket.take(&settings, Mono(0)));
            (settings, bucket)
        };
        // start, taken, then read: (milliseconds, tokens)
        let rows: [(f64, u32, Reads); 7] = [
            (50.0, 0, &[(0, 50.0)]),
            (50.0, 30, &[(0, 20.0), (300_000, 50.0)]),
            (10.0, 10, &[(0, 0.0)]),
            (5.0, 10, &[(0, 0.0)]),
            (40.0, 1, &[(600_000, 50.0)]),
            (50.0, 50, &[(0, 0.0), (9_999, 0.9999), (10_000, 1.0), (60_000, 6.0), (3_600_000, 50.0)]),
            // differs: that project shows 100 of 50 until the first write; here `max` always holds
            (100.0, 0, &[(0, 50.0)]),
        ];
        for (initial, taken, reads) in rows {
            let (settings, bucket) = of(initial, taken);
            for (at, tokens) in reads {
                let now = bucket.tokens(&settings, Mono(*at));
                assert!((now - tokens).abs() < 1e-9, "{initial} - {taken} at {at}: {now}");
            }
        }
        let (settings, mut bucket) = of(50.0, 10);
        (0..5).for_each(|_| bucket.give_back(&settings, Mono(0)));
        assert_eq!(bucket.tokens(&settings, Mono(0)), 45.0);
        (0..50).for_each(|_| bucket.give_back(&settings, Mono(0)));
        assert_eq!(bucket.tokens(&settings, Mono(0)), 50.0);
        // nothing is taken from less than one token: it keeps filling
        let (settings, mut bucket) = of(0.5, 1);
        bucket.take(&settings, Mono(4_000));
        bucket.take(&settings, Mono(4_999));
        assert!((bucket.tokens(&settings, Mono(5_000)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn invalid_settings_do_not_panic() {
        for max in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            let settings = HealthSettings { max, initial: f64::NAN, ..HealthSettings::default() };
            Health::new(&settings, Mono(9)).add(f64::NEG_INFINITY, &settings, Mono(0));
            let settings = TokenSettings { max, per_minute: f64::INFINITY, ..TokenSettings::default() };
            let mut bucket = Bucket::new(&settings, Mono(9));
            bucket.take(&settings, Mono(0));
            bucket.give_back(&settings, Mono(u64::MAX));
        }
    }
}
