//! What a service manager is told: that the daemon serves, reloads or ends, how it is doing, and that it is not stuck.
//!
//! # The watchdog
//!
//! The sign of life comes from the loop that serves, on the thread that decides, and only after the pool was at hand:
//! a daemon that is stuck there gives none, and the service manager starts it anew. The disk has no say, however slow
//! it is: leases are served from memory, and a new daemon would wait for the same disk. Only a store whose thread
//! is gone, or a timer that is, keeps the sign back: then leases are no longer kept, or no longer end.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

use crate::pool::Now;
use crate::store::Health;

use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::daemon::view;

/// How often the status is looked at where no watchdog asks for more.
const LOOK: Duration = Duration::from_secs(30);
/// Signs of life within the time that the watchdog allows.
const SIGNS: u32 = 3;
/// Between two words on how it is doing, in milliseconds.
const STATUS_PAUSE: u64 = 2000;

/// It serves: after the start, and after [`reloading`].
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration anew; [`ready`] must follow, whatever comes of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no service manager was told of the reload"),
    }
}

/// It ends.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Says something; without a service manager nothing happens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager was told");
    }
}

/// The signs of life, and how it is doing.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// `None` where nobody listens.
    beat: Option<Interval>,
    watched: bool,
    said: String,
    said_at: Option<crate::pool::Mono>,
    complained: bool,
}

impl Pulse {
    /// As the environment asks for it.
    pub(crate) fn of_process() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        let watchdog = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero());
        let beat = listens.then(|| {
            let every = watchdog.map_or(LOOK, |allowed| (allowed / SIGNS).max(Duration::from_millis(1)));
            let mut beat = tokio::time::interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        Self { beat, watched: watchdog.is_some(), said: String::new(), said_at: None, complained: false }
    }

    /// Waits until it is time to say something.
    pub(crate) async fn next(&mut self) {
        match &mut self.beat {
            Some(beat) => drop(beat.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Says how it is doing, if that has changed, and that it is not stuck, unless a part of it is gone.
    pub(crate) fn say(&mut self, daemon: &Daemon, timer_is_gone: bool) {
        // this waits for the pool: a daemon that is stuck there gets no further
        let (now, status) = {
            let state = &*daemon.state();
            (clock::now(), summary(daemon, state, clock::now()))
        };
        let sound = !timer_is_gone && daemon.store.is_running();
        if !sound && !self.complained {
            self.complained = true;
            tracing::error!(timer_is_gone, "a part of the daemon has failed; a watchdog would start it anew");
        }
        let rested = self.said_at.is_none_or(|at| now.mono.0.saturating_sub(at.0) >= STATUS_PAUSE);
        let news = rested && status != self.said;
        let mut states = Vec::with_capacity(2);
        if self.watched && sound {
            states.push(NotifyState::Watchdog);
        }
        if news {
            states.push(NotifyState::Status(&status));
        }
        if !states.is_empty() {
            tell(&states);
        }
        if news {
            (self.said, self.said_at) = (status, Some(now.mono));
        }
    }
}

/// How it is doing, in a line.
fn summary(daemon: &Daemon, state: &State, now: Now) -> String {
    let accounts = view::totals(state, now);
    let some = |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let disk = if daemon.store.health() == Health::Ok { "" } else { "; changes are not kept, see: lessor status" };
    format!(
        "{}, {} ({} ready), queue {}{disk}",
        some(state.pool.lease_count() as u64, "lease"),
        some(accounts.total, "account"),
        accounts.ready,
        state.pool.waiters().count(),
    )
}
