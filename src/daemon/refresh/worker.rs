//! The worker: starts the attempts that are due, and sleeps until the next one.

use std::sync::{Arc, Weak};
use std::{convert::Infallible, io, time::Duration};

use tokio::task::JoinSet;

use super::attempt::{Servers, attempt};
use super::over_hosts::hand_over_answers;
use super::shared_login;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, Mailbox};
use crate::daemon::worker::{WaitsFor, Worker, WorkerThread};
use crate::pool::{AccountId, Mono};

/// The longest sleep. What changes the plan wakes the worker, and so does the serving loop when a clock has jumped.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// How often the shared pool is offered the answers that it does not have yet.
const OFFER_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn start(daemon: &Arc<Daemon>) -> io::Result<Worker<Infallible>> {
    let thread = WorkerThread::start("refresh", WaitsFor::Network)?;
    Ok(Worker::start(&thread, daemon, &daemon.mailboxes.refresh, run))
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
    let mut offered = None;
    loop {
        let sleep = {
            let Some(daemon) = daemon.upgrade() else { return };
            let (due, sleep) = begin_due(&daemon);
            for id in due {
                attempts.spawn(attempt(daemon.clone(), servers.clone(), id));
            }
            match next_offer(&daemon, offered) {
                None => sleep,
                Some(next) if !next.is_zero() => sleep.min(next),
                Some(_) => {
                    offered = Some(clock::now().mono);
                    attempts.spawn(offer_answers(daemon));
                    sleep.min(OFFER_EVERY)
                }
            }
        };
        tokio::select! {
            biased;
            mail = mailbox.next(sleep) => if mail.stop { break },
            Some(_) = attempts.join_next() => {}
        }
    }
    // the serving loop has waited for those that were sent: what is left is given up
}

/// When the shared pool is to be offered the answers that it does not have yet; `None` if it has all. While it is away, it
/// is looked for again.
fn next_offer(daemon: &Daemon, offered: Option<Mono>) -> Option<Duration> {
    if daemon.state().pool_answers().is_empty() {
        return None;
    }
    let is_there = daemon.many_hosts.client().is_some();
    let since = offered.filter(|_| is_there).map(|at| clock::now().mono.since(at));
    Some(match since {
        Some(since) => OFFER_EVERY.saturating_sub(since),
        None if is_there => Duration::ZERO,
        None => OFFER_EVERY,
    })
}

async fn offer_answers(daemon: Arc<Daemon>) {
    if let Some(client) = daemon.many_hosts.client() {
        hand_over_answers(&daemon, &client).await;
    }
}

/// The accounts whose refresh is due, and how long until the next one is.
fn begin_due(daemon: &Daemon) -> (Vec<AccountId>, Duration) {
    let state = &mut *daemon.state();
    let now = clock::now();
    if state.logins.is_ending() {
        return (Vec::new(), LONGEST_SLEEP);
    }
    state.note_refresh_right();
    state.update_refresh_plan(now);
    let jitter = state.logins.jitter();
    let due = state.logins.plan.start_due(now, jitter);
    state.update_renewing_accounts(now);
    let next = state.logins.plan.next_wakeup(now).map(|at| at.since(now.mono));
    let wake = next.into_iter().chain(state.next_wait_for_other_host(now)).fold(LONGEST_SLEEP, Duration::min);
    // the plan has a resolution of a millisecond
    (due, wake.max(Duration::from_millis(1)))
}

/// The worker of a simulation, which says when it works.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct ManualWorker(Arc<Servers>);

#[cfg(test)]
impl ManualWorker {
    /// Starts the attempts that are due; returns how many.
    pub(crate) fn work(&self, daemon: &Arc<Daemon>) -> usize {
        let (due, _) = begin_due(daemon);
        for id in &due {
            tokio::spawn(attempt(daemon.clone(), self.0.clone(), *id));
        }
        due.len()
    }
}
