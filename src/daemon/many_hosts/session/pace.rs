//! When something that is done again and again is due: one at a time.

use std::time::Duration;

use crate::pool::Mono;

/// Something that is done at least this often, and sooner when it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PoolPace {
    every: Duration,
    due: Mono,
    is_under_way: bool,
}

impl PoolPace {
    /// Due at once.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, due: Mono::default(), is_under_way: false }
    }

    /// The first time is over already.
    pub(super) fn begun(every: Duration, at: Mono) -> Self {
        Self { every, due: at.after(every), is_under_way: false }
    }

    /// It is to be done by then. While it is under way it is done once more after that: it may have missed the reason.
    pub(super) fn ask(&mut self, by: Mono) {
        self.due = self.due.min(by);
    }

    /// Whether it begins now.
    pub(super) fn begin(&mut self, now: Mono) -> bool {
        if self.is_under_way || self.due > now {
            return false;
        }
        (self.is_under_way, self.due) = (true, now.after(self.every));
        true
    }

    /// It is over.
    pub(super) fn end(&mut self) {
        self.is_under_way = false;
    }

    /// When it is due next; `None` while it is under way.
    pub(super) fn next(&self) -> Option<Mono> {
        (!self.is_under_way).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_under_way_at_a_time_and_what_was_asked_for_meanwhile_follows() {
        let mut pace = PoolPace::new(Duration::from_secs(5));
        assert!(pace.begin(Mono(100)) && !pace.begin(Mono(100)));
        pace.ask(Mono(150));
        pace.ask(Mono(120));
        assert_eq!((pace.next(), pace.begin(Mono(200))), (None, false));
        pace.end();
        assert_eq!(pace.next(), Some(Mono(120)));
        assert!(pace.begin(Mono(200)));
        pace.end();
        assert_eq!(pace.next(), Some(Mono(5200)));
        assert_eq!(PoolPace::begun(Duration::from_secs(5), Mono(100)).next(), Some(Mono(5100)));
    }
}
