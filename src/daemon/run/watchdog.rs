//! Keep-alive messages and a status line for the service manager.
//!
//! The serving loop sends them, after it has locked the state: a daemon that is stuck sends none, and the service manager
//! restarts it. A slow disk does not stop them: leases are served from memory, and a new daemon would wait for the same
//! disk. The messages stop when the store's thread or the timer has ended: leases would no longer be saved, or no longer
//! end.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use crate::daemon::os::{clock, service_manager};
use crate::daemon::state::{Daemon, State};
use crate::pool::{Mono, Now};
use crate::{daemon::view, store::StoreHealth};

/// How often the status is computed without a watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// Keep-alive messages within the time that the watchdog allows.
const MESSAGES: u32 = 3;
/// The least time between two status lines, in milliseconds.
const STATUS_PAUSE: u64 = 2000;

/// Sends keep-alive messages and the status.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// `None` without a service manager.
    interval: Option<Interval>,
    /// The service manager hears first that the daemon is ready.
    ready: Option<oneshot::Receiver<()>>,
    has_watchdog: bool,
    status: String,
    status_at: Option<Mono>,
    has_reported_failure: bool,
}

impl Watchdog {
    /// As the environment configures it; begins after `ready`.
    pub(super) fn new(ready: Option<oneshot::Receiver<()>>) -> Self {
        let allowed = service_manager::watchdog();
        let interval = service_manager::is_present().then(|| {
            let every = allowed.map_or(STATUS_INTERVAL, |allowed| (allowed / MESSAGES).max(Duration::from_millis(1)));
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let has_watchdog = allowed.is_some();
        Self { interval, ready, has_watchdog, status: String::new(), status_at: None, has_reported_failure: false }
    }

    /// Waits until the next message is due.
    pub(super) async fn next(&mut self) {
        match &mut self.interval {
            Some(interval) => {
                if let Some(ready) = &mut self.ready {
                    // where it is not reported, the daemon is about to end
                    let _reported = ready.await;
                    self.ready = None;
                }
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Sends the status if it has changed, and a keep-alive message unless a part of the daemon has failed.
    pub(super) fn report(&mut self, daemon: &Daemon, timer_has_ended: bool) {
        let (now, status) = {
            let state = &*daemon.state();
            let now = clock::now();
            (now, summary(daemon, state, now))
        };
        let is_alive = !timer_has_ended && daemon.store.is_running();
        if !is_alive && !self.has_reported_failure {
            self.has_reported_failure = true;
            tracing::error!(timer_has_ended, "a part of the daemon has failed; a watchdog would restart it");
        }
        let is_due = self.status_at.is_none_or(|at| now.mono.0.saturating_sub(at.0) >= STATUS_PAUSE);
        let is_new = is_due && status != self.status;
        service_manager::report(self.has_watchdog && is_alive, is_new.then_some(&status));
        if is_new {
            (self.status, self.status_at) = (status, Some(now.mono));
        }
    }
}

/// The status in one line.
fn summary(daemon: &Daemon, state: &State, now: Now) -> String {
    let accounts = view::totals(state, now);
    let some = |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let disk =
        if daemon.store.health() == StoreHealth::Ok { "" } else { "; changes are not saved, see: lessor status" };
    format!(
        "{}, {} ({} ready), queue {}{disk}",
        some(state.pool.lease_count() as u64, "lease"),
        some(accounts.total, "account"),
        accounts.ready,
        state.pool.waiters().count(),
    )
}
