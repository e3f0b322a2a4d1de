//! The requests in flight. When many were at the same time, or one was large, and all have ended, memory is given back to
//! the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::daemon::AccountInFlight;

/// So many requests at the same time leave behind more memory than the next ones need.
const MANY: u64 = 32;
/// How long no request has to be in flight before memory is given back: soon, but not between two requests of an agent.
const QUIET: Duration = Duration::from_secs(2);

/// How many requests are in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlightCount {
    /// The daemon's count, which a restart waits for.
    now: Arc<AtomicU64>,
    /// The most at the same time since memory was given back.
    most: AtomicU64,
    /// None is in flight any more, and there were many.
    load_ended: Notify,
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<InFlightCount>, Option<Arc<AccountInFlight>>);

impl InFlightCount {
    pub(super) fn counting(now: Arc<AtomicU64>) -> Self {
        Self { now, ..Self::default() }
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlightGuard {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        InFlightGuard(self.clone(), None)
    }

    pub(super) fn get(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Calls this each time that many requests or a large one were in flight, and none has been for a moment.
    pub(crate) async fn after_load<F: Future<Output = ()>>(&self, give_back: impl Fn() -> F) {
        loop {
            self.load_ended.notified().await;
            // each request that ends in the meantime restarts the time
            while tokio::time::timeout(QUIET, self.load_ended.notified()).await.is_ok() {}
            // otherwise the end of those in flight is noted again
            if self.get() == 0 {
                self.most.store(0, Ordering::Relaxed);
                give_back().await;
            }
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let Self(count, _) = self;
        if count.now.fetch_sub(1, Ordering::Relaxed) == 1 && count.most.load(Ordering::Relaxed) >= MANY {
            count.load_ended.notify_one();
        }
    }
}

impl InFlightGuard {
    /// The request was sent with this account.
    pub(crate) fn sent_with(&mut self, account: Option<&Arc<AccountInFlight>>) {
        self.1 = account.cloned();
    }

    /// The request is large: it leaves behind as much memory as many do.
    pub(crate) fn is_large(&self) {
        self.0.most.fetch_max(MANY, Ordering::Relaxed);
    }

    /// The account has refused the request, or has not answered.
    pub(crate) fn not_served(&mut self) {
        if let Some(account) = self.1.take() {
            account.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(count: &Arc<InFlightCount>, requests: u64) -> Vec<InFlightGuard> {
        (0..requests).map(|_| count.begin()).collect()
    }

    #[test]
    fn memory_is_given_back_when_many_requests_have_ended_and_none_follows() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (count, calls) = (Arc::<InFlightCount>::default(), Arc::<AtomicU64>::default());
            let (of_task, called) = (count.clone(), calls.clone());
            let task = tokio::spawn(async move {
                let give_back = || async { _ = called.fetch_add(1, Ordering::Relaxed) };
                of_task.after_load(give_back).await;
            });
            let quiet = || tokio::time::sleep(2 * QUIET);
            let times = || calls.load(Ordering::Relaxed);
            drop(begin(&count, MANY - 1));
            quiet().await;
            assert_eq!(times(), 0, "there were few");
            let many = begin(&count, MANY);
            quiet().await;
            assert_eq!(times(), 0, "they are in flight");
            drop(many);
            let next = begin(&count, 1);
            quiet().await;
            assert_eq!(times(), 0, "another one has followed");
            drop(next);
            quiet().await;
            assert_eq!(times(), 1);
            drop(begin(&count, 1));
            quiet().await;
            assert_eq!(times(), 1, "few have followed");
            drop(begin(&count, MANY));
            for _ in 0..3 {
                tokio::time::sleep(QUIET * 3 / 4).await;
                assert_eq!(times(), 1, "another one has ended since");
                drop(begin(&count, 1));
            }
            quiet().await;
            assert_eq!(times(), 2);
            quiet().await;
            assert_eq!(times(), 2);
            count.begin().is_large();
            quiet().await;
            assert_eq!(times(), 3);
            task.abort();
        });
    }
}
