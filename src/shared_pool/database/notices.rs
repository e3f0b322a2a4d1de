//! The listening connection: says that there may be news. It can miss some, so hosts also read the news every few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio_postgres::{Client, Notification};

use super::address::PoolAddress;
use super::connect;
use super::error::SharedPoolError;
use crate::pool::AccountId;
use crate::shared_pool::ids::account_id;

/// More notices than this are one: "read everything".
const MOST_WAITING: usize = 256;

/// Notices from the database, in the order of the commits. Dropping it closes the connection.
pub struct PoolNotices {
    incoming: mpsc::Receiver<PoolNotice>,
    /// Whether notices were dropped.
    lagged: Arc<AtomicBool>,
    _client: Client,
}

/// Something has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolNotice {
    /// What.
    pub kind: PoolNoticeKind,
    /// Of which account.
    pub account: Option<AccountId>,
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PoolNoticeKind {
    /// A seat is free: of interest to a host that waits for one of this account.
    Freed,
    /// A host waits for a seat of this account: of interest to hosts that hold some.
    Wanted,
    /// A limit was set or cleared.
    Limit,
    /// An account was added, changed or removed, or has a new credential or state.
    Account,
    /// A host was invited, has joined, left or was evicted.
    Host,
    /// The settings or keys of the pool have changed.
    Pool,
    /// Anything: notices were dropped, or a newer version sent one that this one does not know.
    Any,
}

impl std::fmt::Debug for PoolNotices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolNotices").finish_non_exhaustive()
    }
}

impl PoolNotices {
    pub(in crate::shared_pool) async fn listen(address: &PoolAddress) -> Result<Self, SharedPoolError> {
        let (sender, incoming) = mpsc::channel(MOST_WAITING);
        let lagged = Arc::new(AtomicBool::new(false));
        let has_lagged = lagged.clone();
        let on_notice = move |notification: Notification| {
            if sender.try_send(PoolNotice::of(notification.payload())).is_err() {
                has_lagged.store(true, Ordering::Release);
            }
        };
        let opened = connect::open(address, on_notice).await?;
        let listening = opened.client.batch_execute("listen lessor").await;
        listening.map_err(|error| SharedPoolError::of_driver(&opened.place, &error))?;
        Ok(Self { incoming, lagged, _client: opened.client })
    }

    /// The next notice; `None` when the connection has ended. Take all that wait before reading the news once: with
    /// [`try_next`](Self::try_next).
    pub async fn next(&mut self) -> Option<PoolNotice> {
        if self.lagged.swap(false, Ordering::AcqRel) {
            return Some(PoolNotice { kind: PoolNoticeKind::Any, account: None });
        }
        self.incoming.recv().await
    }

    /// A notice that waits already.
    pub fn try_next(&mut self) -> Option<PoolNotice> {
        self.incoming.try_recv().ok()
    }
}

impl PoolNotice {
    /// A letter, and the number of the account after a space.
    fn of(payload: &str) -> Self {
        let (letter, account) = payload.split_once(' ').unwrap_or((payload, ""));
        let kind = match letter {
            "s" => PoolNoticeKind::Freed,
            "w" => PoolNoticeKind::Wanted,
            "l" => PoolNoticeKind::Limit,
            "a" => PoolNoticeKind::Account,
            "h" => PoolNoticeKind::Host,
            "p" => PoolNoticeKind::Pool,
            _ => PoolNoticeKind::Any,
        };
        Self { kind, account: account.parse().ok().map(account_id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_and_unknown_ones_mean_anything() {
        for (payload, kind, account) in [
            ("l 77", PoolNoticeKind::Limit, Some(77)),
            ("w 1", PoolNoticeKind::Wanted, Some(1)),
            ("p", PoolNoticeKind::Pool, None),
            ("s x", PoolNoticeKind::Freed, None),
            ("z 3", PoolNoticeKind::Any, Some(3)),
            ("", PoolNoticeKind::Any, None),
        ] {
            assert_eq!(PoolNotice::of(payload), PoolNotice { kind, account: account.map(account_id) }, "{payload:?}");
        }
    }
}
