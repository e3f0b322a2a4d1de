//! Notifications (`[notify]`): on the desktop, to a command, to a webhook. [`policy`] decides; a worker feeds it events
//! and the state, and one task for each way sends, one notice at a time. Nothing here delays the state: what finds no
//! room in a queue is dropped.

mod command;
mod desktop;
mod outlet;
pub(in crate::daemon) mod policy;
pub(in crate::daemon) mod troubles;
mod webhook;

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::os::clock;
use super::state::{Daemon, Mailbox};
use super::worker::{Worker, WorkerThread};
use crate::config::NotifySection;
use crate::daemon::view;
use command::CommandRunner;
use desktop::DesktopSender;
use outlet::NoticeOutlet;
use policy::{NoticeEvent, NoticePolicy, Situation};
use webhook::WebhookSender;

/// The worker's pause after each look at the state, which may be large.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest sleep, because its clock stops in suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The sleep while notifications are off; a change of the configuration ends it.
const OFF: Duration = Duration::from_secs(86_400);

/// Starts the worker.
pub(crate) fn start(thread: &Arc<WorkerThread>, daemon: &Arc<Daemon>) -> Worker<NoticeEvent> {
    Worker::start(thread, daemon, &daemon.mailboxes.notices, run)
}

async fn run(daemon: Weak<Daemon>, mailbox: Mailbox<NoticeEvent>) {
    let mut to_desktop = NoticeOutlet::start(DesktopSender, &daemon);
    let mut to_command = NoticeOutlet::start(CommandRunner, &daemon);
    let mut to_webhook = NoticeOutlet::start(WebhookSender::default(), &daemon);
    let mut sleep = Duration::ZERO;
    let (mut policy, mut was_off): (Option<NoticePolicy>, _) = (None, false);
    loop {
        let mail = mailbox.next(sleep).await;
        let Some(daemon) = daemon.upgrade().filter(|_| !mail.stop) else { return };
        let now = clock::now();
        let (NotifySection { desktop, command, webhook }, situation) = {
            let state = &*daemon.state();
            let settings = state.config.config.notify.clone();
            let situation = settings.is_on().then(|| view::situation(state, now));
            (settings, situation)
        };
        if to_desktop.turn(desktop) {
            // a user who turns it on learns at once whether it works
            to_desktop.push(None);
        }
        to_command.turn(!command.is_empty());
        to_webhook.turn(webhook.is_some());
        let Some(situation) = situation else {
            (policy, sleep, was_off) = (None, OFF, true);
            continue;
        };
        let current = policy.get_or_insert_with(|| {
            // what happened since they were turned on is news, also before this look
            let is_news = was_off && !mail.messages.is_empty();
            let known = if is_news { Situation::default() } else { situation.clone() };
            NoticePolicy::new(known, clock::day_and_clock)
        });
        mail.messages.into_iter().for_each(|event| current.event(event));
        current.look(situation);
        for notice in current.due(now) {
            let notice = Arc::new(notice);
            if desktop {
                to_desktop.push(Some(notice.clone()));
            }
            if !command.is_empty() {
                to_command.push((command.clone(), notice.clone()));
            }
            if let Some(url) = &webhook {
                to_webhook.push((url.clone(), notice));
            }
        }
        sleep = current.next().map_or(LONGEST_SLEEP, |next| clock::until(next).min(LONGEST_SLEEP));
        drop(daemon);
        tokio::time::sleep(PAUSE).await;
    }
}
