//! Signs of life and a status line for the service manager.
//!
//! The sign of life comes from the serving loop, on the thread that decides, and only after the state could be locked:
//! a daemon that is stuck there sends none, and the service manager restarts it. A slow disk does not count: leases are
//! served from memory, and a new daemon would wait for the same disk. Only a store whose thread has ended, or a timer
//! that has, withholds the sign: then leases are no longer saved, or no longer end.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::daemon::os::{clock, service_manager};
use crate::daemon::state::{Daemon, State};
use crate::daemon::view;
use crate::pool::{Mono, Now};
use crate::store::StoreHealth;

/// How often the status is computed where no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// Signs of life within the time that the watchdog allows.
const SIGNS: u32 = 3;
/// The least time between two status lines, in milliseconds.
const STATUS_PAUSE: u64 = 2000;

/// Sends signs of life and the status.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// `None` where no service manager listens.
    interval: Option<Interval>,
    wants_signs: bool,
    status: String,
    status_at: Option<Mono>,
    has_complained: bool,
}

impl Watchdog {
    /// As the environment asks for it.
    pub(super) fn new() -> Self {
        let allowed = service_manager::watchdog();
        let interval = service_manager::is_present().then(|| {
            let every = allowed.map_or(STATUS_INTERVAL, |allowed| (allowed / SIGNS).max(Duration::from_millis(1)));
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        let wants_signs = allowed.is_some();
        Self { interval, wants_signs, status: String::new(), status_at: None, has_complained: false }
    }

    /// Waits until the next sign of life is due.
    pub(super) async fn next(&mut self) {
        match &mut self.interval {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Sends the status if it has changed, and a sign of life unless a part of the daemon has failed.
    pub(super) fn report(&mut self, daemon: &Daemon, timer_has_ended: bool) {
        // this waits for the state: a daemon that is stuck there gets no further
        let (now, status) = {
            let state = &*daemon.state();
            let now = clock::now();
            (now, summary(daemon, state, now))
        };
        let is_sound = !timer_has_ended && daemon.store.is_running();
        if !is_sound && !self.has_complained {
            self.has_complained = true;
            tracing::error!(timer_has_ended, "a part of the daemon has failed; a watchdog would restart it");
        }
        let is_due = self.status_at.is_none_or(|at| now.mono.0.saturating_sub(at.0) >= STATUS_PAUSE);
        let is_new = is_due && status != self.status;
        service_manager::report(self.wants_signs && is_sound, is_new.then_some(&status));
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
