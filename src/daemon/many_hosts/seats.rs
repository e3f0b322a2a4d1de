//! The validity of this host's seats as the gateway sees it: read without a lock before each attempt. They end with the
//! term, or for one account when it moves into the pool or leaves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::daemon::os::clock;
use crate::pool::Mono;

/// The seats of one term: a later term has another one.
#[derive(Clone, Debug)]
pub(crate) struct TermSeats(Arc<Validity>);

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
    pub(crate) fn are_valid(&self) -> bool {
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
    fn cut_signal(&self) -> watch::Receiver<bool> {
        self.0.is_cut.subscribe()
    }
}

impl PartialEq for TermSeats {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The requests on one account, which are cut together: another host may use the account next.
#[derive(Clone, Debug)]
pub(crate) struct AccountRequests(watch::Sender<bool>);

impl AccountRequests {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Cuts those that are under way.
    pub(crate) fn cut(&self) {
        self.0.send_replace(true);
    }
}

/// What a request uses, and keeps while it is under way.
#[derive(Clone, Debug)]
pub struct RequestSeats {
    /// None on this host's own account, which may move into the pool.
    term: Option<TermSeats>,
    account: AccountRequests,
}

impl RequestSeats {
    pub(crate) fn new(term: Option<TermSeats>, account: AccountRequests) -> Self {
        Self { term, account }
    }

    /// Whether a request may still be sent.
    #[must_use]
    pub fn are_valid(&self) -> bool {
        !*self.account.0.borrow() && self.term.as_ref().is_none_or(TermSeats::are_valid)
    }

    /// Waits until they are cut.
    pub async fn ended(&self) {
        let mut account = self.account.0.subscribe();
        let mut term = self.term.as_ref().map(TermSeats::cut_signal);
        let term = async {
            match &mut term {
                Some(term) => drop(term.wait_for(|is_cut| *is_cut).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = term => {}
            _ = account.wait_for(|is_cut| *is_cut) => {}
        }
    }
}

impl PartialEq for RequestSeats {
    fn eq(&self, other: &Self) -> bool {
        self.term == other.term && self.account.0.same_channel(&other.account.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_seats_of_a_request_end_with_the_term_or_with_its_account() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let term = TermSeats::new(clock::now().mono.after(Duration::from_secs(60)));
        let (one, other) = (AccountRequests::new(), AccountRequests::new());
        let (shared, same) = (RequestSeats::new(Some(term.clone()), one.clone()), RequestSeats::new(None, one.clone()));
        let stays = RequestSeats::new(Some(term.clone()), other.clone());
        let own = RequestSeats::new(None, other);
        assert!(shared.are_valid() && same.are_valid() && shared != same && shared != stays);
        one.cut();
        assert!(!shared.are_valid() && !same.are_valid(), "whatever they were of");
        runtime.block_on(async { tokio::join!(shared.ended(), same.ended()) });
        assert!(stays.are_valid() && own.are_valid());
        term.cut();
        runtime.block_on(stays.ended());
        assert!(!stays.are_valid() && own.are_valid());
    }

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
