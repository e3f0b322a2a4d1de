//! An event as it is kept: with all that it says about its lease or limit. The names of accounts are looked up when it
//! is sent.

use std::sync::Arc;

use super::super::guests::guest_holder;
use super::super::{AccountState, ends_with_request};
use crate::daemon::event_queue::NamedEvent;
use crate::history::LeaseNote;
use crate::pool::{
    AccountId, Ending, Lease, LeaseMove, LimitSource, MoveCause, NewLimit, Pool, Process, Wall, Window, millis,
};
use crate::protocol::{AccountLabel, EventInfo, LeaseKey, UsageInfo};
use crate::usage;

/// An event.
#[derive(Clone, Debug)]
pub(super) enum RecordedEvent {
    Granted(Arc<Lease>),
    Ended(Arc<Lease>, Ending),
    /// A lease whose seat in the shared pool ends then.
    SeatEnds(Arc<Lease>, Wall),
    /// A lease, as it is on its new account.
    Moved(Arc<Lease>, Box<LeaseMove>),
    Limited(Box<NewLimit>),
    Recovered(AccountId, Box<str>),
    AccountChanged(AccountId, Option<AccountState>),
    /// A banked limit reset was used; so many windows were reset.
    ResetUsed(AccountId, Option<u32>),
    /// With the quota windows as they were read.
    UsageUpdated(AccountId, Box<[Window]>),
    QueueChanged(usize),
    ConfigReloaded,
    ConfigRejected(Box<str>),
    /// A lasting key of the gateway, by its id, with its label.
    KeyCreated(Box<str>, Option<Arc<str>>),
    KeyRevoked(Box<str>, Option<Arc<str>>),
}

impl RecordedEvent {
    pub(super) fn info(&self, at: Wall, pool: &Pool, key: &LeaseKey) -> NamedEvent {
        let mut event = EventInfo { at: at.0, kind: self.kind().to_owned(), ..EventInfo::default() };
        match self {
            Self::Granted(_) => {}
            Self::Ended(_, why) => event.reason = Some(why.name().to_owned()),
            Self::SeatEnds(_, until) => {
                event.reason = Some(Ending::CutOff.name().to_owned());
                event.until = Some(until.0);
            }
            Self::Moved(_, moved) => add_move(&mut event, moved, pool),
            Self::Limited(limit) => add_limit(&mut event, limit),
            Self::Recovered(_, key) => event.key = Some(key.to_string()),
            Self::AccountChanged(_, state) => event.state = state.map(|state| state.name().to_owned()),
            Self::QueueChanged(waiting) => event.queue = Some(*waiting as u64),
            Self::ConfigRejected(why) => event.reason = Some(why.to_string()),
            Self::KeyCreated(id, label) | Self::KeyRevoked(id, label) => {
                event.key = Some(id.to_string());
                event.label = label.as_deref().map(str::to_owned);
            }
            Self::UsageUpdated(_, windows) => event.usage = Some(windows.iter().map(reading).collect()),
            Self::ResetUsed(_, windows) => {
                event.reason = windows.map(|number| match number {
                    1 => "1 window was reset".to_owned(),
                    number => format!("{number} windows were reset"),
                });
            }
            Self::ConfigReloaded => {}
        }
        if let Some(account) = self.account() {
            let record = pool.account(account).map(|account| &account.record);
            event.provider = record.map(|record| record.provider.clone());
            event.account = Some(AccountLabel::of(pool, account));
        }
        let lease = match self {
            Self::Granted(lease) | Self::Ended(lease, _) | Self::SeatEnds(lease, _) | Self::Moved(lease, _) => {
                Some(&**lease)
            }
            _ => None,
        };
        if let Some(lease) = lease {
            add_lease(&mut event, lease, key);
        }
        NamedEvent { event, holder: self.holder().filter(|process| process.guest().is_none()) }
    }

    /// The holder of the lease that it is about.
    pub(super) fn holder(&self) -> Option<Process> {
        match self {
            Self::Granted(lease) | Self::Ended(lease, _) | Self::SeatEnds(lease, _) | Self::Moved(lease, _) => {
                lease.holder.process
            }
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Granted(_) => super::GRANTED,
            Self::Ended(_, why) => ended_kind(*why),
            Self::SeatEnds(..) => ended_kind(Ending::CutOff),
            Self::Moved(..) => "lease.moved",
            Self::Limited(_) => "account.limited",
            Self::Recovered(..) => "account.ready",
            Self::AccountChanged(..) => "account.changed",
            Self::ResetUsed(..) => super::RESET,
            Self::UsageUpdated(..) => "usage.updated",
            Self::QueueChanged(_) => "queue.changed",
            Self::ConfigReloaded => "config.reloaded",
            Self::ConfigRejected(_) => "config.rejected",
            Self::KeyCreated(..) => "key.created",
            Self::KeyRevoked(..) => "key.revoked",
        }
    }

    /// Whether it is the usual beginning or end of a lease for one request of the gateway: the request itself says so.
    pub(super) fn is_of_request(&self) -> bool {
        match self {
            Self::Granted(lease) | Self::SeatEnds(lease, _) => ends_with_request(lease),
            Self::Ended(lease, why) => !why.is_revoked() && ends_with_request(lease),
            _ => false,
        }
    }

    /// Whether a lease begins in the second quota pool of its request.
    pub(super) fn is_second_pool(&self) -> bool {
        match self {
            Self::Granted(lease) | Self::Moved(lease, _) => lease.target.is_other_pool(),
            _ => false,
        }
    }

    fn account(&self) -> Option<AccountId> {
        match self {
            Self::Granted(lease) | Self::Ended(lease, _) | Self::SeatEnds(lease, _) | Self::Moved(lease, _) => {
                Some(lease.account)
            }
            Self::Recovered(account, _)
            | Self::AccountChanged(account, _)
            | Self::ResetUsed(account, _)
            | Self::UsageUpdated(account, _) => Some(*account),
            Self::Limited(limit) => Some(limit.record.account),
            Self::QueueChanged(_)
            | Self::ConfigReloaded
            | Self::ConfigRejected(_)
            | Self::KeyCreated(..)
            | Self::KeyRevoked(..) => None,
        }
    }
}

/// The event of a lease that was granted, or has ended for this reason.
pub(crate) fn lease_event(note: &LeaseNote, why: Option<Ending>, key: &LeaseKey) -> EventInfo {
    let kind = match why {
        None => super::GRANTED,
        Some(why) => ended_kind(why),
    };
    let mut event = EventInfo { at: note.at.0, kind: kind.to_owned(), ..EventInfo::default() };
    event.reason = why.map(|why| why.name().to_owned());
    event.account = Some(AccountLabel::clone(&note.account));
    add_lease(&mut event, &note.lease, key);
    event
}

fn add_lease(event: &mut EventInfo, lease: &Lease, key: &LeaseKey) {
    event.provider = Some(lease.target.provider.to_string());
    event.lease = Some(key.id(lease));
    event.fence = Some(lease.fence.0);
    event.model = text(lease.target.model.as_deref());
    event.pool = text(lease.target.pool.as_deref());
    event.label = text(lease.label.as_deref());
    event.session = text(lease.session.as_deref());
    event.agent = text(lease.agent.as_deref());
    event.holder = guest_holder(&lease.holder);
    event.subagent = lease.subagent.as_ref().map(|subagent| subagent.id.to_string());
}

fn ended_kind(why: Ending) -> &'static str {
    if why.is_revoked() { "lease.revoked" } else { super::ENDED }
}

/// A window at the time when it was read.
fn reading(window: &Window) -> UsageInfo {
    UsageInfo {
        window: window.name.clone(),
        utilization: window.utilization,
        resets_at: window.resets_at.map(|at| at.0),
        as_of: window.as_of.0,
        key: window.key.clone(),
        rate: false,
        stale: false,
        pace: usage::window_length(&window.name).and_then(|length| window.pace(length)),
    }
}

fn add_move(event: &mut EventInfo, moved: &LeaseMove, pool: &Pool) {
    event.from = Some(AccountLabel::of(pool, moved.from));
    event.reason = Some(moved.cause.name().to_owned());
    match &moved.cause {
        MoveCause::Limited(limit) => {
            event.key = Some(limit.key.clone());
            event.scope = Some(limit.scope.name().to_owned());
            event.until = Some(limit.until.0);
            event.evidence = text(limit.evidence.as_deref());
        }
        MoveCause::Unavailable(_, until) => event.until = until.map(|until| until.0),
        MoveCause::Refused(_) | MoveCause::Turn | MoveCause::Overage | MoveCause::Fallback | MoveCause::Requested => {}
    }
}

fn add_limit(event: &mut EventInfo, NewLimit { record, refusal }: &NewLimit) {
    event.key = Some(record.key.clone());
    event.reason = Some(record.reason.name().to_owned());
    event.scope = Some(record.scope.name().to_owned());
    event.until = Some(record.until.0);
    event.model = text(refusal.model.as_deref());
    event.pool = text(refusal.pool.as_deref());
    event.status = refusal.status;
    event.stated_wait_ms = refusal.stated_wait.filter(|_| record.source != LimitSource::Table).map(millis);
    event.evidence = text(record.evidence.as_deref());
}

fn text(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}
