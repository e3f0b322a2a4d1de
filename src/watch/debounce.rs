//! Decides when to read a file that may be partially written, and when to accept its content.

use std::time::Duration;

/// How often a file is read whose changes may raise no events.
pub(super) const WITHOUT_EVENTS: Duration = Duration::from_secs(20);

/// The delays of a [`Debounce`].
#[derive(Clone, Copy, Debug)]
pub struct DebounceTiming {
    /// Read after this time without further events.
    pub quiet: Duration,
    /// Read at most this long after the first event, even if events continue.
    pub most: Duration,
    /// Content that may be partial must stay the same for this long to be accepted.
    pub doubt: Duration,
    /// A file must be missing for this long: editors rename the old file away before they write the new one.
    pub absence: Duration,
    /// Read at this interval even without events.
    pub poll: Duration,
}

impl DebounceTiming {
    /// A change is accepted within 300 ms; without events after the next look.
    pub const USUAL: Self = Self {
        quiet: Duration::from_millis(50),
        most: Duration::from_millis(150),
        doubt: Duration::from_millis(120),
        absence: Duration::from_secs(1),
        poll: WITHOUT_EVENTS,
    };
}

/// Whether the content that was read can be partial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completeness {
    /// Complete: a partial file would not look like this.
    Complete,
    /// Possibly partial.
    Uncertain,
    /// There is no file.
    Missing,
}

/// The last accepted content, and a change under observation. Times are relative to any fixed moment.
#[derive(Debug)]
pub struct Debounce<T> {
    timing: DebounceTiming,
    believed: T,
    pending: Option<PendingChange<T>>,
    /// The first and the last event since the last read.
    events: Option<(Duration, Duration)>,
    last_read: Duration,
}

#[derive(Debug)]
struct PendingChange<T> {
    seen: T,
    since: Duration,
    delay: Duration,
}

impl<T: PartialEq> Debounce<T> {
    /// Starts with the content that is known at `now`.
    pub const fn new(timing: DebounceTiming, believed: T, now: Duration) -> Self {
        Self { timing, believed, pending: None, events: None, last_read: now }
    }

    /// The accepted content.
    pub const fn accepted(&self) -> &T {
        &self.believed
    }

    /// Reads at this interval from now on, also without events.
    pub const fn set_poll(&mut self, poll: Duration) {
        self.timing.poll = poll;
    }

    /// Records an event.
    pub fn on_event(&mut self, now: Duration) {
        let first = self.events.map_or(now, |(first, _)| first);
        self.events = Some((first, now));
    }

    /// When to read the file next.
    pub fn next_read(&self) -> Duration {
        let timing = &self.timing;
        let polled = self.last_read + timing.poll;
        let settled = self.events.map(|(first, last)| (last + timing.quiet).min(first + timing.most));
        let judged = self.pending.as_ref().map(|pending| pending.since + pending.delay);
        [settled, judged].into_iter().flatten().fold(polled, Duration::min)
    }

    /// Records what was read; `true` when it is new and accepted.
    pub fn on_read(&mut self, now: Duration, seen: T, trust: Completeness) -> bool {
        self.events = None;
        self.last_read = now;
        if seen == self.believed {
            self.pending = None;
            return false;
        }
        let delay = match trust {
            Completeness::Complete => return self.accept(seen),
            Completeness::Uncertain => self.timing.doubt,
            Completeness::Missing => self.timing.absence,
        };
        match &self.pending {
            Some(pending) if pending.seen == seen => {
                if now >= pending.since + pending.delay {
                    return self.accept(seen);
                }
            }
            _ => self.pending = Some(PendingChange { seen, since: now, delay }),
        }
        false
    }

    /// Accepts what was read without a delay, for an explicit reload; `true` when it is new.
    pub fn on_forced_read(&mut self, now: Duration, seen: T) -> bool {
        self.events = None;
        self.last_read = now;
        seen != self.believed && self.accept(seen)
    }

    fn accept(&mut self, seen: T) -> bool {
        self.pending = None;
        self.believed = seen;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Reads whenever it is due, until `end`; `file` is the content at a time. Returns what was accepted, and when.
    fn watched(
        events: &[u64],
        end: u64,
        file: impl Fn(u64) -> (&'static str, Completeness),
    ) -> Vec<(u64, &'static str)> {
        let mut settle = Debounce::new(DebounceTiming::USUAL, "old", MS(0));
        let mut events = events.iter().copied().peekable();
        let mut believed = Vec::new();
        loop {
            let look = settle.next_read().as_millis() as u64;
            if let Some(event) = events.next_if(|event| *event <= look) {
                settle.on_event(MS(event));
                continue;
            }
            if look > end {
                return believed;
            }
            let (seen, trust) = file(look);
            if settle.on_read(MS(look), seen, trust) {
                believed.push((look, seen));
            }
        }
    }

    #[test]
    fn a_change_is_accepted_after_the_last_event() {
        assert_eq!(watched(&[1000, 1010], 2000, |_| ("new", Completeness::Complete)), [(1060, "new")]);
    }

    #[test]
    fn an_event_without_a_change_is_ignored() {
        assert_eq!(watched(&[1000], 50_000, |_| ("old", Completeness::Complete)), []);
    }

    #[test]
    fn partial_files_are_not_accepted() {
        let file = |at| if at < 1100 { ("ha", Completeness::Uncertain) } else { ("whole", Completeness::Complete) };
        assert_eq!(watched(&[1000, 1100], 2000, file), [(1150, "whole")]);
        // also without an event for the rest
        assert_eq!(watched(&[1000], 2000, file), [(1170, "whole")]);
    }

    #[test]
    fn a_file_that_stays_broken_is_accepted_within_300_ms() {
        let believed = watched(&[1000], 2000, |_| ("broken", Completeness::Uncertain));
        assert_eq!(believed, [(1170, "broken")]);
    }

    #[test]
    fn a_rename_away_and_back_is_not_a_removal() {
        let file = |at| if at < 1900 { ("gone", Completeness::Missing) } else { ("new", Completeness::Complete) };
        assert_eq!(watched(&[1000, 1900], 5000, file), [(1950, "new")]);
        assert_eq!(watched(&[1000], 5000, |_| ("gone", Completeness::Missing)), [(2050, "gone")]);
    }

    #[test]
    fn a_hundred_edits_per_second_are_read_every_150_ms() {
        let events: Vec<u64> = (1000..3000).step_by(10).collect();
        let mut looks = std::cell::Cell::new(0);
        watched(&events, 3200, |_| {
            looks.set(looks.get() + 1);
            ("old", Completeness::Complete)
        });
        assert!((13..=15).contains(looks.get_mut()), "{looks:?}");
    }

    #[test]
    fn polling_finds_a_change_without_events() {
        let believed = watched(&[], 30_000, |_| ("new", Completeness::Complete));
        assert_eq!(believed, [(20_000, "new")]);
    }

    #[test]
    fn the_interval_of_the_poll_applies_from_the_last_read() {
        let mut settle = Debounce::new(DebounceTiming::USUAL, "old", MS(0));
        settle.set_poll(MS(300_000));
        assert_eq!(settle.next_read(), MS(300_000));
        settle.on_event(MS(1000));
        assert_eq!(settle.next_read(), MS(1050));
        settle.on_read(MS(1050), "old", Completeness::Complete);
        settle.set_poll(MS(20_000));
        assert_eq!(settle.next_read(), MS(21_050));
    }

    #[test]
    fn a_forced_read_is_accepted_immediately() {
        let mut settle = Debounce::new(DebounceTiming::USUAL, "old", MS(0));
        assert!(!settle.on_read(MS(5), "broken", Completeness::Uncertain));
        assert!(settle.on_forced_read(MS(6), "broken"));
        assert!(!settle.on_forced_read(MS(7), "broken"));
        assert!(settle.on_read(MS(8), "new", Completeness::Complete));
    }
}
