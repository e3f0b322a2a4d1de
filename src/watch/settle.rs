//! When to look at a file that may be in the middle of being written, and when to believe what is seen.

use std::time::Duration;

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct DebounceTiming {
    /// After an event, nothing more for so long: the editor is done.
    pub quiet: Duration,
    /// A look at least so long after the first event, however busy the file is.
    pub most: Duration,
    /// What looks half-written must look the same for so long to be believed.
    pub doubt: Duration,
    /// A file that is gone must be gone for so long: editors rename the old one away before they write the new one.
    pub absence: Duration,
    /// A look even without events.
    pub poll: Duration,
}

impl DebounceTiming {
    /// A change is live within 300 ms; without events within 20 s.
    pub const USUAL: Self = Self {
        quiet: Duration::from_millis(50),
        most: Duration::from_millis(150),
        doubt: Duration::from_millis(120),
        absence: Duration::from_secs(1),
        poll: Duration::from_secs(20),
    };
}

/// How far what is seen can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completeness {
    /// Whole: nobody writes such a thing half.
    Complete,
    /// Perhaps half-written.
    Uncertain,
    /// There is no file.
    Missing,
}

/// What was last believed, and what is on its way. Times are since any fixed moment.
#[derive(Debug)]
pub struct Debounce<T> {
    rhythm: DebounceTiming,
    believed: T,
    doubted: Option<Doubted<T>>,
    /// The first and the last event since the last look.
    touched: Option<(Duration, Duration)>,
    looked: Duration,
}

#[derive(Debug)]
struct Doubted<T> {
    seen: T,
    since: Duration,
    patience: Duration,
}

impl<T: PartialEq> Debounce<T> {
    /// Begins with what is known at `now`.
    pub const fn new(rhythm: DebounceTiming, believed: T, now: Duration) -> Self {
        Self { rhythm, believed, doubted: None, touched: None, looked: now }
    }

    /// What is believed.
    pub const fn accepted(&self) -> &T {
        &self.believed
    }

    /// An event came.
    pub fn on_event(&mut self, now: Duration) {
        let first = self.touched.map_or(now, |(first, _)| first);
        self.touched = Some((first, now));
    }

    /// When to look next.
    pub fn next_read(&self) -> Duration {
        let rhythm = &self.rhythm;
        let polled = self.looked + rhythm.poll;
        let settled = self.touched.map(|(first, last)| (last + rhythm.quiet).min(first + rhythm.most));
        let judged = self.doubted.as_ref().map(|doubted| doubted.since + doubted.patience);
        [settled, judged].into_iter().flatten().fold(polled, Duration::min)
    }

    /// Takes what a look has found; `true` when it is new and to be believed.
    pub fn on_read(&mut self, now: Duration, seen: T, trust: Completeness) -> bool {
        self.touched = None;
        self.looked = now;
        if seen == self.believed {
            self.doubted = None;
            return false;
        }
        let patience = match trust {
            Completeness::Complete => return self.believe(seen),
            Completeness::Uncertain => self.rhythm.doubt,
            Completeness::Missing => self.rhythm.absence,
        };
        match &self.doubted {
            Some(doubted) if doubted.seen == seen => {
                if now >= doubted.since + doubted.patience {
                    return self.believe(seen);
                }
            }
            _ => self.doubted = Some(Doubted { seen, since: now, patience }),
        }
        false
    }

    /// Takes what a look has found as it is, because somebody asked for it; `true` when it is new.
    pub fn on_forced_read(&mut self, now: Duration, seen: T) -> bool {
        self.touched = None;
        self.looked = now;
        seen != self.believed && self.believe(seen)
    }

    fn believe(&mut self, seen: T) -> bool {
        self.doubted = None;
        self.believed = seen;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Looks whenever it is due, until `end`; `file` is the content at a time. What was believed, and when.
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
    fn a_change_is_believed_when_the_editor_is_done() {
        assert_eq!(watched(&[1000, 1010], 2000, |_| ("new", Completeness::Complete)), [(1060, "new")]);
    }

    #[test]
    fn a_touch_is_no_change() {
        assert_eq!(watched(&[1000], 50_000, |_| ("old", Completeness::Complete)), []);
    }

    #[test]
    fn half_written_files_are_waited_for() {
        let file = |at| if at < 1100 { ("ha", Completeness::Uncertain) } else { ("whole", Completeness::Complete) };
        assert_eq!(watched(&[1000, 1100], 2000, file), [(1150, "whole")]);
        // without an event for the rest too
        assert_eq!(watched(&[1000], 2000, file), [(1170, "whole")]);
    }

    #[test]
    fn what_stays_broken_is_said_within_300_ms() {
        let believed = watched(&[1000], 2000, |_| ("broken", Completeness::Uncertain));
        assert_eq!(believed, [(1170, "broken")]);
    }

    #[test]
    fn a_rename_away_and_back_is_no_removal() {
        let file = |at| if at < 1900 { ("gone", Completeness::Missing) } else { ("new", Completeness::Complete) };
        assert_eq!(watched(&[1000, 1900], 5000, file), [(1950, "new")]);
        assert_eq!(watched(&[1000], 5000, |_| ("gone", Completeness::Missing)), [(2050, "gone")]);
    }

    #[test]
    fn a_hundred_edits_a_second_are_looked_at_now_and_then() {
        let events: Vec<u64> = (1000..3000).step_by(10).collect();
        let mut looks = std::cell::Cell::new(0);
        watched(&events, 3200, |_| {
            looks.set(looks.get() + 1);
            ("old", Completeness::Complete)
        });
        assert!((13..=15).contains(looks.get_mut()), "{looks:?}");
    }

    #[test]
    fn without_events_the_poll_finds_it() {
        let believed = watched(&[], 30_000, |_| ("new", Completeness::Complete));
        assert_eq!(believed, [(20_000, "new")]);
    }

    #[test]
    fn who_asks_is_told_at_once() {
        let mut settle = Debounce::new(DebounceTiming::USUAL, "old", MS(0));
        assert!(!settle.on_read(MS(5), "broken", Completeness::Uncertain));
        assert!(settle.on_forced_read(MS(6), "broken"));
        assert!(!settle.on_forced_read(MS(7), "broken"));
        assert!(settle.on_read(MS(8), "new", Completeness::Complete));
    }
}
