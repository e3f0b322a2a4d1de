//! Events: the last ones kept for who comes late, all of them told to who listens.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::pool::{AccountId, ConnectionId, Ending, Event, Fence, Lease, LimitRecord, Now, Pool, Wall};
use crate::protocol::{AccountLabel, Codec, EventInfo, LeaseKey};

use crate::daemon::log;
use crate::daemon::state::outbox::Outbox;
use crate::daemon::view;

/// How many are kept.
const KEPT: usize = 1000;
/// Ends the replay of what was kept.
pub const REPLAY_END: &str = "replay.end";
/// Every kind there is.
pub const KINDS: [&str; 10] = [
    "lease.granted",
    "lease.ended",
    "lease.revoked",
    "account.limited",
    "account.ready",
    "account.changed",
    "config.reloaded",
    "config.rejected",
    "usage.updated",
    "queue.changed",
];

/// Who listens, and what happened lately.
#[derive(Debug, Default)]
pub struct Events {
    recent: VecDeque<(Wall, Happening)>,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    connection: ConnectionId,
    codec: Codec,
    outbox: Arc<Outbox>,
    /// Only these; all when empty.
    kinds: Vec<String>,
}

/// Something that happened, small: names are found when somebody wants to read it.
#[derive(Clone, Debug)]
enum Happening {
    Granted(Fence, AccountId),
    Ended(Fence, AccountId, Ending),
    Limited(Box<LimitRecord>),
    Recovered(AccountId, Box<str>),
    AccountChanged(AccountId, Option<&'static str>),
    UsageUpdated(AccountId),
    QueueChanged(usize),
    ConfigReloaded,
    ConfigRejected(Box<str>),
}

impl Events {
    /// Listens from now on, after what was kept if `recent`.
    pub fn subscribe(
        &mut self,
        pool: &Pool,
        (connection, codec, outbox): (ConnectionId, Codec, &Arc<Outbox>),
        kinds: Vec<String>,
        recent: bool,
        out: &mut Vec<u8>,
    ) {
        let subscriber = Subscriber { connection, codec, outbox: outbox.clone(), kinds };
        if recent {
            for (at, happening) in &self.recent {
                let event = happening.told(*at, pool, None);
                if subscriber.wants(&event.kind) {
                    codec.event(&event, out);
                }
            }
            codec.event(&EventInfo { kind: REPLAY_END.to_owned(), ..EventInfo::default() }, out);
        }
        self.subscribers.retain(|old| old.connection != connection);
        self.subscribers.push(subscriber);
    }

    /// Forgets a connection.
    pub fn unsubscribe(&mut self, connection: ConnectionId) {
        self.subscribers.retain(|old| old.connection != connection);
    }

    /// The pool said so.
    pub fn tell(&mut self, now: Now, event: Event, pool: &Pool, key: &LeaseKey) {
        let at = now.wall;
        log::happened(&event, at, pool);
        let happening = match event {
            Event::Granted(fence) => {
                let Some(lease) = pool.lease(fence) else { return };
                self.note(at, Happening::Granted(fence, lease.account), pool, Some((key, lease)));
                return;
            }
            Event::Limited(record) => Happening::Limited(Box::new(record)),
            Event::Recovered(account, key) => Happening::Recovered(account, key.into()),
            Event::AccountChanged(account) => {
                let state = pool.account(account).map(|account| view::account_state(account, now));
                Happening::AccountChanged(account, state)
            }
            Event::UsageUpdated(account) => Happening::UsageUpdated(account),
            Event::QueueChanged(waiting) => Happening::QueueChanged(waiting),
        };
        self.note(at, happening, pool, None);
    }

    /// A lease has ended.
    pub fn ended(&mut self, at: Wall, lease: &Lease, why: Ending, pool: &Pool, key: &LeaseKey) {
        log::ended(lease, why, pool);
        self.note(at, Happening::Ended(lease.fence, lease.account, why), pool, Some((key, lease)));
    }

    /// The configuration was read anew and holds.
    pub fn config_reloaded(&mut self, at: Wall, pool: &Pool) {
        self.note(at, Happening::ConfigReloaded, pool, None);
    }

    /// The configuration was read anew and does not hold, for this reason.
    pub fn config_rejected(&mut self, at: Wall, why: String, pool: &Pool) {
        self.note(at, Happening::ConfigRejected(why.into()), pool, None);
    }

    fn note(&mut self, at: Wall, happening: Happening, pool: &Pool, lease: Option<(&LeaseKey, &Lease)>) {
        if !self.subscribers.is_empty() {
            let event = happening.told(at, pool, lease);
            for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.wants(&event.kind)) {
                subscriber.outbox.push(|out| subscriber.codec.event(&event, out));
            }
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, happening));
    }
}

impl Subscriber {
    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }
}

impl Happening {
    fn told(&self, at: Wall, pool: &Pool, lease: Option<(&LeaseKey, &Lease)>) -> EventInfo {
        let mut event = EventInfo { at: at.0, ..EventInfo::default() };
        let kind = match self {
            Self::Granted(fence, account) => {
                event.fence = Some(fence.0);
                name(&mut event, *account, pool);
                "lease.granted"
            }
            Self::Ended(fence, account, why) => {
                event.fence = Some(fence.0);
                event.reason = Some(why.name().to_owned());
                name(&mut event, *account, pool);
                if *why == Ending::Revoked { "lease.revoked" } else { "lease.ended" }
            }
            Self::Limited(record) => {
                event.key = Some(record.key.clone());
                event.reason = Some(record.reason.name().to_owned());
                event.scope = Some(record.scope.name().to_owned());
                event.until = Some(record.until.0);
                name(&mut event, record.account, pool);
                "account.limited"
            }
            Self::Recovered(account, key) => {
                event.key = Some(key.to_string());
                name(&mut event, *account, pool);
                "account.ready"
            }
            Self::AccountChanged(account, state) => {
                event.state = state.map(str::to_owned);
                name(&mut event, *account, pool);
                "account.changed"
            }
            Self::UsageUpdated(account) => {
                name(&mut event, *account, pool);
                "usage.updated"
            }
            Self::QueueChanged(waiting) => {
                event.queue = Some(*waiting as u64);
                "queue.changed"
            }
            Self::ConfigReloaded => "config.reloaded",
            Self::ConfigRejected(why) => {
                event.reason = Some(why.to_string());
                "config.rejected"
            }
        };
        event.kind = kind.to_owned();
        if let Some((key, lease)) = lease {
            event.lease = Some(key.id(lease));
            event.model = lease.target.model.as_deref().map(str::to_owned);
            event.label = lease.label.as_deref().map(str::to_owned);
        }
        event
    }
}

fn name(event: &mut EventInfo, account: AccountId, pool: &Pool) {
    let record = pool.account(account).map(|account| &account.record);
    event.provider = record.map(|record| record.provider.clone());
    event.account =
        Some(AccountLabel { id: account.to_string(), label: record.and_then(|record| record.label.clone()) });
}
