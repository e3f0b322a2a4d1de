//! The worker: starts the attempts that are due, and sleeps until the next one.

use std::sync::{Arc, Weak};
use std::{convert::Infallible, io, time::Duration};

use tokio::task::JoinSet;

use super::attempt::{Servers, attempt};
use super::shared_login;
use crate::daemon::state::{Daemon, Mailbox};
use crate::daemon::worker::{WaitsFor, Worker};
use crate::{daemon::os::clock, pool::AccountId};

/// The longest sleep, because its clock stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long the end of the daemon waits for requests that were sent, so that no rotated token is lost.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

pub(crate) fn start(daemon: &Arc<Daemon>) -> io::Result<Worker<Infallible>> {
    Worker::start(("refresh", WaitsFor::Network), daemon, &daemon.mailboxes.refresh, run)
}

async fn run(daemon: Weak<Daemon>, mailbox: Mailbox<Infallible>) {
    let servers = Arc::new(Servers::default());
    let mut attempts = JoinSet::new();
    if let Some(daemon) = daemon.upgrade() {
        let linked: Vec<AccountId> = daemon.state().links.iter().map(|(id, _)| id).collect();
        for id in linked {
            attempts.spawn(shared_login::catch_up(daemon.clone(), id));
        }
    }
    loop {
        let sleep = {
            let Some(daemon) = daemon.upgrade() else { return };
            let (due, sleep) = begin_due(&daemon);
            for id in due {
                attempts.spawn(attempt(daemon.clone(), servers.clone(), id));
            }
            sleep
        };
        tokio::select! {
            biased;
            mail = mailbox.next(sleep) => if mail.stop { break },
            Some(_) = attempts.join_next() => {}
        }
    }
    let all_over = async { while attempts.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, all_over).await.is_err() {
        tracing::warn!("the daemon ends while logins are being refreshed; they are refreshed again at the next start");
    }
}

/// The accounts whose refresh is due, and how long until the next one is.
fn begin_due(daemon: &Daemon) -> (Vec<AccountId>, Duration) {
    let state = &mut *daemon.state();
    let now = clock::now();
    state.update_refresh_plan(now);
    let jitter = state.logins.jitter();
    let due = state.logins.plan.start_due(now, jitter);
    state.update_renewing_accounts(now);
    let wake = state.logins.plan.next_wakeup(now).map_or(LONGEST_SLEEP, |at| at.since(now.mono).min(LONGEST_SLEEP));
    // the plan has a resolution of a millisecond
    (due, wake.max(Duration::from_millis(1)))
}
