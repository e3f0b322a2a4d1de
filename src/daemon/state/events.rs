//! Events: sent to every subscriber, and the latest kept for those that subscribe later.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{AccountState, LastingKey, LogLater, Outbox};
use crate::daemon::log;
use crate::pool::{AccountId, ConnectionId, Ending, Event, Fence, Lease, LimitRecord, Now, Pool, Wall};
use crate::protocol::{AccountLabel, Codec, EventInfo, LeaseKey};

/// How many are kept.
const KEPT: usize = 1000;
/// How many of them are written under one lock.
const REPLAYED_AT_ONCE: usize = 32;
/// Ends the replay of what was kept.
pub const REPLAY_END: &str = "replay.end";
/// Every kind there is.
pub const KINDS: [&str; 12] = [
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
    "key.created",
    "key.revoked",
];

/// Subscribers, and the latest events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    recent: VecDeque<(Wall, RecordedEvent)>,
    subscribers: Vec<Subscriber>,
}

/// Events that were kept, to be sent to a new subscriber.
#[derive(Debug)]
pub(crate) struct EventReplay(VecDeque<(Wall, RecordedEvent)>);

#[derive(Debug)]
struct Subscriber {
    connection: ConnectionId,
    codec: Codec,
    outbox: Arc<Outbox>,
    /// Only these; all when empty.
    kinds: Vec<String>,
}

/// An event in a small form: names are looked up when it is sent.
#[derive(Clone, Debug)]
enum RecordedEvent {
    Granted(Fence, AccountId),
    Ended(Fence, AccountId, Ending),
    Limited(Box<LimitRecord>),
    Recovered(AccountId, Box<str>),
    AccountChanged(AccountId, Option<AccountState>),
    UsageUpdated(AccountId),
    QueueChanged(usize),
    ConfigReloaded,
    ConfigRejected(Box<str>),
    /// A lasting key of the gateway, by its id, with its label.
    KeyCreated(Box<str>, Option<Box<str>>),
    KeyRevoked(Box<str>, Option<Box<str>>),
}

impl Events {
    /// Sends `connection` every event from now on; returns those that were kept.
    pub(crate) fn subscribe(
        &mut self,
        (connection, codec, outbox): (ConnectionId, Codec, &Arc<Outbox>),
        kinds: Vec<String>,
    ) -> EventReplay {
        let subscriber = Subscriber { connection, codec, outbox: outbox.clone(), kinds };
        let kept = self.recent.iter().filter(|(_, event)| subscriber.wants(event.kind())).cloned().collect();
        self.unsubscribe(connection);
        self.subscribers.push(subscriber);
        EventReplay(kept)
    }

    pub(crate) fn unsubscribe(&mut self, connection: ConnectionId) {
        self.subscribers.retain(|old| old.connection != connection);
    }

    /// Records an event; `state` is the one of an account that has changed.
    pub(crate) fn emit(
        &mut self,
        now: Now,
        (event, state): (Event, Option<AccountState>),
        pool: &Pool,
        key: &LeaseKey,
        later: &mut LogLater,
    ) {
        let at = now.wall;
        if let Some(line) = log::event_line(&event, at, pool) {
            later.push(line);
        }
        let recorded = match event {
            Event::Granted(fence) => {
                let Some(lease) = pool.lease(fence) else { return };
                return self.record(at, RecordedEvent::Granted(fence, lease.account), pool, Some((key, lease)));
            }
            Event::Limited(record) => RecordedEvent::Limited(Box::new(record)),
            Event::Recovered(account, key) => RecordedEvent::Recovered(account, key.into()),
            Event::AccountChanged(account) => RecordedEvent::AccountChanged(account, state),
            Event::UsageUpdated(account) => RecordedEvent::UsageUpdated(account),
            Event::QueueChanged(waiting) => RecordedEvent::QueueChanged(waiting),
        };
        self.record(at, recorded, pool, None);
    }

    /// Records the end of a lease.
    pub(crate) fn ended(
        &mut self,
        at: Wall,
        lease: &Lease,
        why: Ending,
        pool: &Pool,
        key: &LeaseKey,
        later: &mut LogLater,
    ) {
        if let Some(line) = log::lease_end_line(lease, why, pool) {
            later.push(line);
        }
        self.record(at, RecordedEvent::Ended(lease.fence, lease.account, why), pool, Some((key, lease)));
    }

    /// Records that a changed configuration is in force.
    pub(crate) fn config_reloaded(&mut self, at: Wall, pool: &Pool) {
        self.record(at, RecordedEvent::ConfigReloaded, pool, None);
    }

    /// Records why a changed configuration was rejected.
    pub(crate) fn config_rejected(&mut self, at: Wall, why: String, pool: &Pool) {
        self.record(at, RecordedEvent::ConfigRejected(why.into()), pool, None);
    }

    /// Records that a lasting key of the gateway was created.
    pub(crate) fn key_created(&mut self, at: Wall, key: &LastingKey, pool: &Pool) {
        self.record(at, RecordedEvent::KeyCreated(key.id().into(), key.record().label.clone()), pool, None);
    }

    /// Records that a lasting key of the gateway was revoked.
    pub(crate) fn key_revoked(&mut self, at: Wall, key: &LastingKey, pool: &Pool) {
        self.record(at, RecordedEvent::KeyRevoked(key.id().into(), key.record().label.clone()), pool, None);
    }

    fn record(&mut self, at: Wall, recorded: RecordedEvent, pool: &Pool, lease: Option<(&LeaseKey, &Lease)>) {
        if !self.subscribers.is_empty() {
            let event = recorded.info(at, pool, lease);
            // encoded once for all subscribers
            let (mut json, mut binary) = (Vec::new(), Vec::new());
            for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.wants(&event.kind)) {
                let encoded = match subscriber.codec {
                    Codec::Json => &mut json,
                    Codec::Binary => &mut binary,
                };
                if encoded.is_empty() {
                    subscriber.codec.event(&event, encoded);
                }
                subscriber.outbox.push(|out| out.extend_from_slice(encoded));
            }
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, recorded));
    }
}

impl EventReplay {
    /// Writes the next few events, so that the state is not locked for all of them; `false` after the last one.
    pub(crate) fn write_some(&mut self, pool: &Pool, codec: Codec, out: &mut Vec<u8>) -> bool {
        let some = self.0.len().min(REPLAYED_AT_ONCE);
        for (at, recorded) in self.0.drain(..some) {
            codec.event(&recorded.info(at, pool, None), out);
        }
        if self.0.is_empty() {
            codec.event(&EventInfo { kind: REPLAY_END.to_owned(), ..EventInfo::default() }, out);
        }
        !self.0.is_empty()
    }
}

impl Subscriber {
    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }
}

impl RecordedEvent {
    fn info(&self, at: Wall, pool: &Pool, lease: Option<(&LeaseKey, &Lease)>) -> EventInfo {
        let mut event = EventInfo { at: at.0, kind: self.kind().to_owned(), ..EventInfo::default() };
        match self {
            Self::Granted(fence, _) => event.fence = Some(fence.0),
            Self::Ended(fence, _, why) => {
                event.fence = Some(fence.0);
                event.reason = Some(why.name().to_owned());
            }
            Self::Limited(record) => {
                event.key = Some(record.key.clone());
                event.reason = Some(record.reason.name().to_owned());
                event.scope = Some(record.scope.name().to_owned());
                event.until = Some(record.until.0);
            }
            Self::Recovered(_, key) => event.key = Some(key.to_string()),
            Self::AccountChanged(_, state) => event.state = state.map(|state| state.name().to_owned()),
            Self::QueueChanged(waiting) => event.queue = Some(*waiting as u64),
            Self::ConfigRejected(why) => event.reason = Some(why.to_string()),
            Self::KeyCreated(id, label) | Self::KeyRevoked(id, label) => {
                event.key = Some(id.to_string());
                event.label = label.as_deref().map(str::to_owned);
            }
            Self::UsageUpdated(_) | Self::ConfigReloaded => {}
        }
        if let Some(account) = self.account() {
            let record = pool.account(account).map(|account| &account.record);
            event.provider = record.map(|record| record.provider.clone());
            event.account = Some(AccountLabel::of(pool, account));
        }
        if let Some((key, lease)) = lease {
            event.lease = Some(key.id(lease));
            event.model = lease.target.model.as_deref().map(str::to_owned);
            event.label = lease.label.as_deref().map(str::to_owned);
        }
        event
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Granted(..) => "lease.granted",
            Self::Ended(_, _, Ending::Revoked) => "lease.revoked",
            Self::Ended(..) => "lease.ended",
            Self::Limited(_) => "account.limited",
            Self::Recovered(..) => "account.ready",
            Self::AccountChanged(..) => "account.changed",
            Self::UsageUpdated(_) => "usage.updated",
            Self::QueueChanged(_) => "queue.changed",
            Self::ConfigReloaded => "config.reloaded",
            Self::ConfigRejected(_) => "config.rejected",
            Self::KeyCreated(..) => "key.created",
            Self::KeyRevoked(..) => "key.revoked",
        }
    }

    fn account(&self) -> Option<AccountId> {
        match self {
            Self::Granted(_, account)
            | Self::Ended(_, account, _)
            | Self::Recovered(account, _)
            | Self::AccountChanged(account, _)
            | Self::UsageUpdated(account) => Some(*account),
            Self::Limited(record) => Some(record.account),
            Self::QueueChanged(_)
            | Self::ConfigReloaded
            | Self::ConfigRejected(_)
            | Self::KeyCreated(..)
            | Self::KeyRevoked(..) => None,
        }
    }
}
