//! The mailboxes of the background workers, all of one shape: messages go in, the worker applies commands to the state.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::daemon::many_hosts::message::PoolMessage;
use crate::daemon::notification::policy::NoticeEvent;
use crate::pool::{AccountId, Wall};
use crate::{protocol::ReloadInfo, usage};

/// The mailboxes of all workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mailboxes {
    /// Refreshes logins; it needs no message, only to look at the plan again.
    pub(crate) refresh: Mailbox<std::convert::Infallible>,
    /// Asks providers for usage.
    pub(crate) usage: Mailbox<UsageRequest>,
    /// Watches the files of linked logins.
    pub(crate) linked_logins: Mailbox<LinkedLoginsMessage>,
    /// Watches the configuration file.
    pub(crate) config: Mailbox<ConfigMessage>,
    /// Sends notifications.
    pub(crate) notices: Mailbox<NoticeEvent>,
    /// Connects the pool with those of other hosts.
    pub(crate) many_hosts: Mailbox<PoolMessage>,
}

/// A request to ask a provider about an account now.
#[derive(Debug)]
pub(crate) struct UsageRequest {
    pub(crate) account: AccountId,
    /// The usage has just changed, as far as one knows: the last query need not be a while ago.
    pub(crate) has_changed: bool,
    pub(crate) answer: oneshot::Sender<PollOutcome>,
}

/// What became of a [`UsageRequest`].
#[derive(Debug)]
pub(crate) enum PollOutcome {
    /// The provider was asked.
    Asked(Result<(), usage::UsageError>),
    /// The provider may not be asked before this time.
    NotBefore(Wall),
    /// There is no living token to ask with.
    NoToken,
}

/// A message to the watcher of linked logins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkedLoginsMessage {
    /// A file may have changed.
    FileChanged,
    /// Accounts were linked or unlinked.
    LinksChanged,
}

/// A message to the watcher of the configuration file.
#[derive(Debug)]
pub(crate) enum ConfigMessage {
    /// The file may have changed.
    FileChanged,
    /// Read the file now, because of a signal.
    ReadOnSignal,
    /// Read the file now, and say how it went.
    Read(oneshot::Sender<ReloadInfo>),
}

/// The way to a worker.
pub(crate) struct Mailbox<M>(Arc<Inner<M>>);

struct Inner<M> {
    mail: Mutex<Mail<M>>,
    arrived: Notify,
}

/// What has arrived since the worker last looked.
#[derive(Debug)]
pub(crate) struct Mail<M> {
    /// In order of arrival.
    pub(crate) messages: Vec<M>,
    /// The worker is to end.
    pub(crate) stop: bool,
}

impl<M> Default for Mailbox<M> {
    fn default() -> Self {
        let mail = Mutex::new(Mail { messages: Vec::new(), stop: false });
        Self(Arc::new(Inner { mail, arrived: Notify::new() }))
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<M> Mailbox<M> {
    /// Sends a message. A worker that has ended drops it, and with it the way to answer.
    pub(crate) fn send(&self, message: M) {
        let mut mail = self.mail();
        if !mail.stop {
            mail.messages.push(message);
            drop(mail);
            self.wake();
        }
    }

    /// Sends a message, unless so many wait already.
    pub(crate) fn send_within(&self, most: usize, message: M) {
        let has_room = self.mail().messages.len() < most;
        if has_room {
            self.send(message);
        }
    }

    /// Has the worker look around.
    pub(crate) fn wake(&self) {
        self.0.arrived.notify_one();
    }

    /// Has the worker end; messages that it has not read are dropped.
    pub(crate) fn stop(&self) {
        let mut mail = self.mail();
        mail.stop = true;
        mail.messages.clear();
        drop(mail);
        self.wake();
    }

    /// Waits until something has arrived, or the worker was woken, or for at most `most`.
    pub(crate) async fn next(&self, most: Duration) -> Mail<M> {
        // at the timeout the worker has a look of its own to take
        let _woken_or_not = tokio::time::timeout(most, self.0.arrived.notified()).await;
        let mut mail = self.mail();
        Mail { messages: std::mem::take(&mut mail.messages), stop: mail.stop }
    }

    fn mail(&self) -> std::sync::MutexGuard<'_, Mail<M>> {
        // a message is pushed or all are taken: there is no state in between
        self.0.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
