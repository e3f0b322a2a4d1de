//! Events: sent to every subscriber, and the latest kept for those that subscribe later.

mod recorded;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{AccountState, LastingKey, LogLater, Mailbox, Outbox, ends_with_request};
use crate::daemon::event_queue::{EventQueue, NamedEvent};
use crate::daemon::log;
use crate::daemon::notification::policy::{self, NoticeEvent};
use crate::history::{HistoryQueue, HistoryRecord, LeaseNote};
use crate::pool::{AccountId, ConnectionId, Ending, Event, GuestId, Lease, Now, Pool, Process, Wall};
use crate::protocol::{AccountLabel, Codec, EventInfo, LeaseKey, RequestRow};
use recorded::RecordedEvent;

pub(crate) use recorded::lease_event;

/// How many are kept.
const KEPT: usize = 1000;
/// How many of them are written under one lock.
const REPLAYED_AT_ONCE: usize = 32;
/// Ends the replay of what was kept.
pub const REPLAY_END: &str = "replay.end";
/// A request of the gateway has ended. Sent only to those that name this kind, and not kept in memory.
pub const REQUEST_ENDED: &str = "request.ended";
/// A request of the gateway waits for an account. Sent like [`REQUEST_ENDED`].
pub const REQUEST_WAITING: &str = "request.waiting";
/// Stands for what a subscription gets that names no kinds.
pub const DEFAULT_KINDS: &str = "default";
/// Every kind there is.
pub const KINDS: [&str; 16] = [
    GRANTED,
    "lease.moved",
    ENDED,
    "lease.revoked",
    "account.limited",
    "account.ready",
    "account.changed",
    RESET,
    "config.reloaded",
    "config.rejected",
    "usage.updated",
    "queue.changed",
    "key.created",
    "key.revoked",
    REQUEST_ENDED,
    REQUEST_WAITING,
];

const GRANTED: &str = "lease.granted";
const ENDED: &str = "lease.ended";
const RESET: &str = "account.reset";

/// Subscribers, and the latest events.
#[derive(Debug)]
pub(crate) struct Events {
    /// For the ids of leases.
    key: LeaseKey,
    /// Where all of them are kept.
    history: Arc<HistoryQueue>,
    /// Where notifications are made of some of them, if they are on.
    notices: Mailbox<NoticeEvent>,
    notifies: bool,
    recent: VecDeque<(Wall, RecordedEvent)>,
    subscribers: Vec<Subscriber>,
    queue: Arc<EventQueue>,
    /// What accounts are called, for the notes of their leases.
    labels: FxHashMap<AccountId, Arc<AccountLabel>>,
}

/// Events that were kept, to be sent to a new subscriber.
#[derive(Debug)]
pub(crate) struct EventReplay(VecDeque<(Wall, RecordedEvent)>);

#[derive(Debug)]
struct Subscriber {
    connection: ConnectionId,
    codec: Codec,
    outbox: Arc<Outbox>,
    /// Only these; the default ones when empty.
    kinds: Vec<String>,
    /// Only what happens to this guest's leases.
    guest: Option<GuestId>,
}

impl Events {
    /// No events yet; `key` makes the ids of leases, and all events go to `history`, too.
    pub(crate) fn new(key: LeaseKey, history: Arc<HistoryQueue>, notices: Mailbox<NoticeEvent>) -> Self {
        Self {
            key,
            history,
            notices,
            notifies: false,
            recent: VecDeque::new(),
            subscribers: Vec::new(),
            queue: Arc::default(),
            labels: FxHashMap::default(),
        }
    }

    /// An account was removed.
    pub(crate) fn account_removed(&mut self, id: AccountId) {
        self.labels.remove(&id);
    }

    /// Turns notifications on or off.
    pub(crate) fn notify(&mut self, on: bool) {
        self.notifies = on;
        self.notices.wake();
    }

    /// Whether someone asked for the ends of requests.
    pub(crate) fn has_followers(&self) -> bool {
        self.subscribers.iter().any(|subscriber| subscriber.names(REQUEST_ENDED))
    }

    /// Sends the ends of requests to those that asked for them.
    pub(crate) fn requests_ended(&self, requests: Vec<RequestRow>) {
        let to = self.subscribers_of(REQUEST_ENDED, (false, None));
        if to.is_empty() {
            return;
        }
        for request in requests {
            let event = EventInfo {
                kind: REQUEST_ENDED.to_owned(),
                at: request.at.saturating_add(request.duration_ms),
                request: Some(Box::new(request)),
                ..EventInfo::default()
            };
            self.queue.push(NamedEvent { event, holder: None }, to.clone());
        }
    }

    /// Whether someone asked for the requests that wait.
    pub(crate) fn tells_of_waiting(&self) -> bool {
        self.subscribers.iter().any(|subscriber| subscriber.names(REQUEST_WAITING))
    }

    /// Sends that a request of `holder` waits to those that asked for it.
    pub(crate) fn request_waits(&self, event: EventInfo, holder: Option<Process>) {
        let event = EventInfo { kind: REQUEST_WAITING.to_owned(), ..event };
        self.queue.push(NamedEvent { event, holder }, self.subscribers_of(REQUEST_WAITING, (false, holder)));
    }

    /// Sends `connection` every event from now on; returns those that were kept.
    pub(crate) fn subscribe(
        &mut self,
        (connection, codec, outbox): (ConnectionId, Codec, &Arc<Outbox>),
        (kinds, guest): (Vec<String>, Option<GuestId>),
    ) -> EventReplay {
        let subscriber = Subscriber { connection, codec, outbox: outbox.clone(), kinds, guest };
        let kept = self
            .recent
            .iter()
            .filter(|(_, event)| subscriber.takes_default() || subscriber.names(event.kind()))
            .filter(|(_, event)| subscriber.may_see(event.holder()))
            .cloned()
            .collect();
        self.unsubscribe(connection);
        self.subscribers.push(subscriber);
        EventReplay(kept)
    }

    pub(crate) fn unsubscribe(&mut self, connection: ConnectionId) {
        self.subscribers.retain(|old| old.connection != connection);
    }

    /// The queue of events, if some wait to be sent.
    pub(crate) fn unsent(&self) -> Option<Arc<EventQueue>> {
        (!self.subscribers.is_empty() && !self.queue.is_empty()).then(|| self.queue.clone())
    }

    /// Records an event; `state` is the one of an account that has changed.
    pub(crate) fn emit(
        &mut self,
        now: Now,
        (event, state): (Event, Option<AccountState>),
        pool: &Pool,
        later: &mut LogLater,
    ) {
        if let Some(line) = log::event_line(&event, now.wall, pool) {
            later.push(line);
        }
        let lease = |fence| pool.shared_lease(fence);
        let recorded = match event {
            Event::Granted(fence) => {
                let noted = lease(fence).filter(|lease| !self.is_left_out(lease, GRANTED));
                noted.cloned().map(RecordedEvent::Granted)
            }
            Event::Moved(moved) => lease(moved.to).cloned().map(|lease| RecordedEvent::Moved(lease, moved)),
            Event::Limited(limit) => Some(RecordedEvent::Limited(limit)),
            Event::Recovered(account, key) => Some(RecordedEvent::Recovered(account, key.into())),
            Event::AccountChanged(account) => Some(RecordedEvent::AccountChanged(account, state)),
            Event::UsageUpdated(account) => {
                let windows = pool.account(account).map(|account| account.usage().windows.clone());
                Some(RecordedEvent::UsageUpdated(account, windows.unwrap_or_default().into()))
            }
            Event::SeatsEnd(fence, until) => {
                lease(fence).cloned().map(|lease| RecordedEvent::SeatEnds(lease, now.wall_of(until)))
            }
            Event::QueueChanged(waiting) => Some(RecordedEvent::QueueChanged(waiting)),
        };
        if let Some(recorded) = recorded {
            self.record(now.wall, recorded, pool);
        }
    }

    /// Records the end of a lease.
    pub(crate) fn ended(&mut self, at: Wall, lease: &Arc<Lease>, why: Ending, pool: &Pool, later: &mut LogLater) {
        if let Some(line) = log::lease_end_line(lease, why, pool) {
            later.push(line);
        }
        if why.is_revoked() || !self.is_left_out(lease, ENDED) {
            self.record(at, RecordedEvent::Ended(lease.clone(), why), pool);
        }
    }

    /// Records that a changed configuration is in force.
    pub(crate) fn config_reloaded(&mut self, at: Wall, pool: &Pool) {
        self.record(at, RecordedEvent::ConfigReloaded, pool);
    }

    /// Records why a changed configuration was rejected.
    pub(crate) fn config_rejected(&mut self, at: Wall, why: String, pool: &Pool) {
        self.record(at, RecordedEvent::ConfigRejected(why.into()), pool);
    }

    /// Records that a banked limit reset of an account was used, and how many windows that has reset, if known.
    pub(crate) fn reset_used(&mut self, at: Wall, account: AccountId, windows: Option<u32>, pool: &Pool) {
        self.record(at, RecordedEvent::ResetUsed(account, windows), pool);
    }

    /// Records that a lasting key of the gateway was created.
    pub(crate) fn key_created(&mut self, at: Wall, key: &LastingKey, pool: &Pool) {
        self.record(at, RecordedEvent::KeyCreated(key.id().into(), key.record().label.clone()), pool);
    }

    /// Records that a lasting key of the gateway was revoked.
    pub(crate) fn key_revoked(&mut self, at: Wall, key: &LastingKey, pool: &Pool) {
        self.record(at, RecordedEvent::KeyRevoked(key.id().into(), key.record().label.clone()), pool);
    }

    fn record(&mut self, at: Wall, recorded: RecordedEvent, pool: &Pool) {
        let is_of_request = recorded.is_of_request();
        let to = self.subscribers_of(recorded.kind(), (!is_of_request, recorded.holder()));
        let is_kept = !is_of_request && !self.note(at, &recorded, pool) && self.history.has_room_for(1);
        let is_second_pool = recorded.is_second_pool();
        let is_news = self.notifies && policy::is_news(recorded.kind(), is_second_pool);
        if is_kept || is_news || !to.is_empty() {
            let named = recorded.info(at, pool, &self.key);
            if is_news {
                let notice = NoticeEvent { event: named.event.clone(), is_second_pool };
                self.notices.send_within(policy::MOST_EVENTS, notice);
            }
            if is_kept {
                self.history.push(HistoryRecord::Event(Box::new(named.event.clone()), named.holder));
            }
            if !to.is_empty() {
                self.queue.push(named, to);
            }
        }
        if is_of_request {
            return;
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, recorded));
    }
}

impl Events {
    /// Whether neither a subscriber nor a notification can need what happens to a lease of one request: two events for
    /// each request cost too much to make them for nothing.
    fn is_left_out(&self, lease: &Lease, kind: &str) -> bool {
        let is_news = self.notifies && lease.target.is_other_pool();
        ends_with_request(lease) && !is_news && !self.subscribers.iter().any(|subscriber| subscriber.names(kind))
    }

    /// Notes the beginning or end of a lease for the history, whose thread finds the words; whether it is one.
    fn note(&mut self, at: Wall, recorded: &RecordedEvent, pool: &Pool) -> bool {
        let (lease, why) = match recorded {
            RecordedEvent::Granted(lease) => (lease, None),
            // of a lease for one request, only the event is kept
            RecordedEvent::Ended(lease, why) if !ends_with_request(lease) => (lease, Some(*why)),
            _ => return false,
        };
        let records = 1 + u64::from(why.is_some() || lease.holder.process.is_some());
        if self.history.has_room_for(records) {
            let note = LeaseNote { at, lease: lease.clone(), account: self.label(lease.account, pool) };
            self.history.push(match why {
                None => HistoryRecord::Granted(note),
                Some(why) => HistoryRecord::Ended(note, why),
            });
        }
        true
    }

    /// What an account is called; the same text as long as that is the same.
    pub(crate) fn label(&mut self, id: AccountId, pool: &Pool) -> Arc<AccountLabel> {
        let Some(record) = pool.account(id).map(|account| &account.record) else {
            return Arc::new(AccountLabel::of(pool, id));
        };
        let label = self.labels.entry(id).or_default();
        if label.id.is_empty() || label.label != record.label || label.email != record.email {
            *label = Arc::new(AccountLabel::of(pool, id));
        }
        label.clone()
    }

    /// Those that get an event of this kind, about a lease of this holder; `is_default`: without naming the kind, too.
    fn subscribers_of(&self, kind: &str, (is_default, holder): (bool, Option<Process>)) -> Vec<(Codec, Arc<Outbox>)> {
        if self.subscribers.is_empty() {
            return Vec::new();
        }
        let wants = |subscriber: &&Subscriber| {
            subscriber.may_see(holder) && (is_default && subscriber.takes_default() || subscriber.names(kind))
        };
        let interested = self.subscribers.iter().filter(wants);
        interested.map(|subscriber| (subscriber.codec, subscriber.outbox.clone())).collect()
    }
}

impl EventReplay {
    /// The next few events, so that the state is not locked for all of them; none after the last one.
    pub(crate) fn next_events(&mut self, pool: &Pool, key: &LeaseKey) -> Vec<NamedEvent> {
        let some = self.0.len().min(REPLAYED_AT_ONCE);
        self.0.drain(..some).map(|(at, recorded)| recorded.info(at, pool, key)).collect()
    }

    /// The event that says that all of them were sent.
    pub(crate) fn end() -> EventInfo {
        EventInfo { kind: REPLAY_END.to_owned(), ..EventInfo::default() }
    }
}

impl Subscriber {
    fn names(&self, kind: &str) -> bool {
        self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Whether an event about a lease of this holder, or about no lease, is for it.
    fn may_see(&self, holder: Option<Process>) -> bool {
        self.guest.is_none() || holder.and_then(Process::guest) == self.guest
    }

    fn takes_default(&self) -> bool {
        self.kinds.is_empty() || self.names(DEFAULT_KINDS)
    }
}
