//! The thread that refreshes: it begins what the plan says, and sleeps until the plan has something to say.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::pool::AccountId;

use crate::daemon::os::clock;
use crate::daemon::refresh::attempt::{Servers, attempt};
use crate::daemon::refresh::{chance, shared_login};
use crate::daemon::state::Daemon;

/// The longest sleep: a clock that stops in suspend is made up for.
const TICK: Duration = Duration::from_secs(30);
/// How long the end of the daemon waits for what the servers have been asked already.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The running thread.
#[derive(Debug)]
pub(crate) struct Engine {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Begins to keep the daemon's logins fresh.
    pub(crate) fn begin(daemon: &Arc<Daemon>) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let pulse = daemon.state().refreshing.pulse.clone();
        let daemon = Arc::downgrade(daemon);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("refresh".to_owned());
        let thread = thread.spawn(move || runtime.block_on(run(daemon, pulse, stopped)))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread; answers that are on their way are waited for, so that no rotated token is lost.
    pub(crate) fn end(self) {
        self.stop.send_replace(true);
        // one that has panicked has ended, too
        let _panicked = self.thread.join();
    }
}

async fn run(daemon: Weak<Daemon>, pulse: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    let servers = Arc::new(Servers::default());
    let mut attempts = JoinSet::new();
    if let Some(daemon) = daemon.upgrade() {
        let shared: Vec<AccountId> = daemon.state().links.keys().copied().collect();
        for id in shared {
            attempts.spawn(shared_login::catch_up(daemon.clone(), id));
        }
    }
    loop {
        let sleep = {
            let Some(daemon) = daemon.upgrade() else { return };
            let (begun, sleep) = daemon.look_after_logins();
            for id in begun {
                attempts.spawn(attempt(daemon.clone(), servers.clone(), id));
            }
            sleep
        };
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            Some(_) = attempts.join_next() => {}
            () = pulse.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
    let all_over = async { while attempts.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, all_over).await.is_err() {
        tracing::warn!("the daemon ends while logins are being refreshed; they are tried again at the next start");
    }
}

impl Daemon {
    /// What is to be refreshed now, and how long nothing else is.
    fn look_after_logins(&self) -> (Vec<AccountId>, Duration) {
        let state = &mut *self.state();
        let now = clock::now();
        if state.refreshing.has_changes() {
            self.settle_logins(state, now);
        }
        let begun = state.refreshing.plan.begin(now, chance());
        self.settle_tokens(state, now);
        let wake = state.refreshing.plan.wake(now).map_or(TICK, |at| at.since(now.mono).min(TICK));
        // the plan counts in milliseconds: what is due within this one is due in the next
        (begun, wake.max(Duration::from_millis(1)))
    }
}
