//! The validity of this host's seats as the gateway sees it: read without a lock before each attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::daemon::os::clock;
use crate::pool::Mono;

/// The seats of one term. It is kept by each request that uses an account of the shared pool: a later term has another one.
#[derive(Clone, Debug)]
pub struct TermSeats(Arc<Validity>);

#[derive(Debug)]
struct Validity {
    /// Until when they are valid, ms since boot.
    until: AtomicU64,
    is_cut: watch::Sender<bool>,
}

impl TermSeats {
    /// The seats of a term that begins.
    pub(crate) fn new(until: Mono) -> Self {
        Self(Arc::new(Validity { until: AtomicU64::new(until.0), is_cut: watch::Sender::new(false) }))
    }

    /// Of a host that has no term.
    pub(crate) fn ended() -> Self {
        let seats = Self::new(Mono::default());
        seats.cut();
        seats
    }

    /// Whether a request may still be sent: the boot clock is compared, so that a host that was frozen finds out.
    #[must_use]
    pub fn are_valid(&self) -> bool {
        clock::now().mono < self.until()
    }

    /// Until when they are valid.
    pub(crate) fn until(&self) -> Mono {
        Mono(self.0.until.load(Ordering::Acquire))
    }

    /// A heartbeat was accepted. What was cut stays cut.
    pub(crate) fn extend(&self, until: Mono) {
        if !*self.0.is_cut.borrow() {
            self.0.until.store(until.0, Ordering::Release);
        }
    }

    /// The term is over: requests that use its seats are cut.
    pub(crate) fn cut(&self) {
        self.0.until.store(0, Ordering::Release);
        self.0.is_cut.send_replace(true);
    }

    /// Whether they were cut.
    pub(crate) fn is_cut(&self) -> bool {
        *self.0.is_cut.borrow()
    }

    /// Turns true when they are cut.
    #[must_use]
    pub fn cut_signal(&self) -> watch::Receiver<bool> {
        self.0.is_cut.subscribe()
    }
}

impl PartialEq for TermSeats {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn seats_that_were_cut_are_never_valid_again() {
        let now = clock::now().mono;
        let seats = TermSeats::new(now.after(Duration::from_secs(60)));
        let kept = seats.clone();
        assert!(kept.are_valid());
        seats.extend(now);
        assert!(!kept.are_valid(), "their time is over");
        seats.extend(now.after(Duration::from_secs(60)));
        assert!(kept.are_valid(), "a heartbeat came in time");
        seats.cut();
        seats.extend(now.after(Duration::from_secs(60)));
        assert!(!kept.are_valid() && kept.is_cut() && *kept.cut_signal().borrow());
    }
}
