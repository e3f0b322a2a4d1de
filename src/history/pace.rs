//! How much the history's thread may do: a small share of what the daemon does, whatever the load is.

use std::time::Duration;

/// The thread takes at most one part in so many of the daemon's processor time,
const OF_DAEMON: u32 = 100;
/// or, when the daemon does little, of the time of one core: each row of an ordinary load is kept then, on a slow machine,
/// too.
const OF_CORE: u32 = 100;
/// The longest pause. What costs more than this explains is rare: a file that shrinks, a program that is looked up.
const LONGEST: Duration = Duration::from_secs(5);

/// A moment, by two clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct PaceMoment {
    /// How long the daemon runs.
    pub(super) running: Duration,
    /// How much processor time it has used; zero where the system does not say.
    pub(super) used: Duration,
}

/// When the thread may write again.
#[derive(Debug, Default)]
pub(super) struct WritePace {
    /// The work that the pause since then is for.
    work: Duration,
    since: PaceMoment,
}

impl WritePace {
    /// The thread has worked for so long.
    pub(super) fn worked(&mut self, work: Duration, now: PaceMoment) {
        self.work = (self.unpaid(now) + work).min(LONGEST / OF_CORE);
        self.since = now;
    }

    /// How long until it may write, at most: it may earlier if the daemon works.
    pub(super) fn left(&self, now: PaceMoment) -> Duration {
        self.unpaid(now) * OF_CORE
    }

    fn unpaid(&self, now: PaceMoment) -> Duration {
        let of_core = now.running.saturating_sub(self.since.running) / OF_CORE;
        let of_daemon = now.used.saturating_sub(self.since.used) / OF_DAEMON;
        self.work.saturating_sub(of_core.max(of_daemon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    /// Works whenever it may for 100 s, in steps of 10 ms, while the daemon uses a share of one core; returns the work.
    fn work(used_percent: u32) -> Duration {
        let (mut pace, mut now, mut worked) = (WritePace::default(), PaceMoment::default(), Duration::ZERO);
        for step in 0..10_000 {
            now.running += 10 * MILLI;
            now.used += 10 * MILLI * used_percent / 100;
            if pace.left(now).is_zero() {
                let work = Duration::from_micros(100 + step % 7 * 300);
                pace.worked(work, now);
                worked += work;
            }
        }
        worked
    }

    #[test]
    fn the_thread_takes_its_share_of_what_the_daemon_does() {
        for (used_percent, most) in [(0, 1000), (10, 1000), (50, 1000), (100, 1000), (150, 1500)] {
            let worked = work(used_percent);
            // one group of records more than its share at most
            assert!(worked <= MILLI * (most + 2), "{used_percent} %: {worked:?}");
            assert!(worked >= MILLI * most / 10 * 9, "{used_percent} %: {worked:?}");
        }
    }

    #[test]
    fn no_pause_is_longer_than_the_longest_and_no_rest_is_saved_up() {
        let at = |running: Duration| PaceMoment { running, used: Duration::ZERO };
        let mut pace = WritePace::default();
        pace.worked(60 * SECOND, at(100 * SECOND));
        assert_eq!(pace.left(at(100 * SECOND)), LONGEST);
        assert_eq!(pace.left(at(106 * SECOND)), Duration::ZERO);
        pace.worked(MILLI, at(1000 * SECOND));
        assert_eq!(pace.left(at(1000 * SECOND)), SECOND / 10);
        // work that could not wait is paid for, too
        pace.worked(MILLI, at(1000 * SECOND));
        assert_eq!(pace.left(at(1000 * SECOND)), SECOND / 5);
    }
}
