//! A way that notices are sent on: one at a time, from a bounded queue, with its failures in the log and in `status`.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::pool::Mono;

/// The most notices that wait for one way.
const MOST_WAITING: usize = 32;

/// How notices are sent.
pub(super) trait NoticeSender: Send + 'static {
    /// A notice, and where it goes.
    type Job: Send + 'static;
    /// The key of the configuration.
    const KEY: &'static str;
    /// The least time between two warnings in the log; without one, there is one until it works again.
    const WARNS_EACH: Option<Duration>;

    /// Sends one; says why that failed.
    fn send(&mut self, job: Self::Job) -> impl Future<Output = Result<(), String>> + Send;
}

/// The queue of one way.
pub(super) struct NoticeOutlet<S: NoticeSender> {
    queue: Sender<S::Job>,
    daemon: Weak<Daemon>,
    /// When it was last said that the queue is full.
    warned: Option<Mono>,
    is_on: bool,
}

impl<S: NoticeSender> NoticeOutlet<S> {
    pub(super) fn start(sender: S, daemon: &Weak<Daemon>) -> Self {
        let (queue, jobs) = channel(MOST_WAITING);
        tokio::spawn(send_all(sender, jobs, daemon.clone()));
        Self { queue, daemon: daemon.clone(), warned: None, is_on: false }
    }

    /// Turns it on or off; whether it was off before and is on now.
    pub(super) fn turn(&mut self, is_on: bool) -> bool {
        let was_on = std::mem::replace(&mut self.is_on, is_on);
        if was_on && !is_on {
            note(&self.daemon, S::KEY, None);
        }
        is_on && !was_on
    }

    /// Has a notice sent, if there is room for it.
    pub(super) fn push(&mut self, job: S::Job) {
        let now = clock::now().mono;
        if let Err(TrySendError::Full(_)) = self.queue.try_send(job)
            && self.warned.is_none_or(|at| now.since(at) >= Duration::from_secs(60))
        {
            self.warned = Some(now);
            tracing::warn!("{} is too slow: notifications are dropped, because {MOST_WAITING} wait already", S::KEY);
        }
    }
}

async fn send_all<S: NoticeSender>(mut sender: S, mut jobs: Receiver<S::Job>, daemon: Weak<Daemon>) {
    let mut warned: Option<Mono> = None;
    while let Some(job) = jobs.recv().await {
        let failure = sender.send(job).await.err();
        let now = clock::now().mono;
        match &failure {
            None => {
                if warned.take().is_some() {
                    tracing::info!("{} works again", S::KEY);
                }
            }
            Some(why) => {
                let may_warn = |at: Mono| S::WARNS_EACH.is_some_and(|each| now.since(at) >= each);
                if warned.is_none_or(may_warn) {
                    warned = Some(now);
                    tracing::warn!("{} fails: {why}", S::KEY);
                }
            }
        }
        note(&daemon, S::KEY, failure);
    }
}

fn note(daemon: &Weak<Daemon>, key: &'static str, why: Option<String>) {
    if let Some(daemon) = daemon.upgrade() {
        daemon.notice_troubles.set(key, why);
    }
}
