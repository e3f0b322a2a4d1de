//! Leases: which holder uses which account, and what ends it.

pub(crate) mod comparison;
pub(crate) mod grant;
pub(crate) mod guests;
pub(crate) mod moving;
pub(crate) mod recent;
pub(crate) mod table;

use crate::pool::model::{
    AccountId, AccountSet, ApartFromParent, Bind, ConnectionId, Fence, Holder, LeaseRequest, Mono, RequestNeeds,
    Subagent, Target, Wall, stable_names,
};
use std::sync::Arc;
use std::time::Duration;

/// The right of one holder to use one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its number.
    pub fence: Fence,
    /// The account.
    pub account: AccountId,
    /// What it is for. Leases of one kind share it: most differ in nothing else.
    pub target: Arc<Target>,
    /// The conversation it belongs to.
    pub session: Option<Arc<str>>,
    /// The holder's name for it.
    pub label: Option<Arc<str>>,
    /// The agent's name, as the holder states it.
    pub agent: Option<Arc<str>>,
    /// What ends it.
    pub bind: Bind,
    /// The process that holds it.
    pub holder: Holder,
    /// Whether the account may have no other lease meanwhile.
    pub exclusive: bool,
    /// Whether its holder requested this account.
    pub pinned: bool,
    /// The accounts that it may move to, if something restricts them: see [`Self::set`].
    pub set: Option<Arc<AccountSet>>,
    /// Why this account was chosen.
    pub by: ChosenBy,
    /// Its lifetime.
    pub ttl: Option<Duration>,
    /// When it expires.
    pub expires: Option<Mono>,
    /// When it was granted.
    pub granted_at: Wall,
    /// The caller's idempotency key.
    pub request_id: Option<Box<str>>,
    /// The sub-agent that it is for.
    pub subagent: Option<Box<Subagent>>,
}

/// How many leases an account has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeaseCounts {
    pub(crate) leases: u32,
    pub(crate) subagents: u32,
    pub(crate) exclusive: bool,
}

/// How a lease counts on its account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseKind {
    Shared,
    /// The account has no other lease.
    Exclusive,
    /// It takes no room from other agents.
    OfSubagent,
}

/// Why a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// Its holder released it.
    Released,
    /// Its connection closed.
    ConnectionClosed,
    /// Its process died.
    ProcessEnded,
    /// Its time ran out.
    Expired,
    /// It moved to another account.
    Switched,
    /// Its account was removed.
    Revoked,
    /// The seat of its account in the shared pool is not this host's any more.
    CutOff,
}

stable_names!(
    Ending:
    Released = "released", ConnectionClosed = "connection_closed", ProcessEnded = "process_ended", Expired = "expired",
    Switched = "switched", Revoked = "revoked", CutOff = "cut_off",
);

impl Ending {
    /// Whether the lease was taken from its holder, who can get another account.
    #[must_use]
    pub fn is_revoked(self) -> bool {
        matches!(self, Self::Revoked | Self::CutOff)
    }
}

/// The set of a lease that nothing restricts.
static EVERY_ACCOUNT: AccountSet = AccountSet { only: None, directory: None };

impl Lease {
    /// The accounts that it may move to.
    pub fn set(&self) -> &AccountSet {
        self.set.as_deref().unwrap_or(&EVERY_ACCOUNT)
    }

    /// Whether it must survive the daemon, because it is not bound to a connection. That of a sub-agent does not: its
    /// session leads it back to its account.
    pub fn is_durable(&self) -> bool {
        !matches!(self.bind, Bind::Connection(_)) && self.subagent.is_none()
    }

    pub(crate) fn kind(&self) -> LeaseKind {
        match self {
            Self { subagent: Some(_), .. } => LeaseKind::OfSubagent,
            Self { exclusive: true, .. } => LeaseKind::Exclusive,
            Self { exclusive: false, .. } => LeaseKind::Shared,
        }
    }
}

impl LeaseRequest {
    pub(crate) fn kind(&self) -> LeaseKind {
        match self {
            Self { subagent: Some(_), .. } => LeaseKind::OfSubagent,
            Self { exclusive: true, .. } => LeaseKind::Exclusive,
            Self { exclusive: false, .. } => LeaseKind::Shared,
        }
    }
}

/// Why an account was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ChosenBy {
    /// The request named it.
    Account,
    /// Its session is bound to it.
    Session,
    /// It is the account of the sub-agent's parent.
    Parent,
    /// The configuration prefers it.
    Preferred,
    /// The same process released it recently.
    Reuse,
    /// The holder's pid.
    PidOffset,
    /// The order of accounts, and among equal ones the strategy.
    Strategy,
    /// It was the family's current account when every first quota was closed.
    Current,
    /// It had the lease before, and has another quota pool.
    SameAccount,
    /// The user has moved the lease here.
    Moved,
    /// The lease is from before this run: the reason is no longer known.
    #[default]
    Resumed,
}

stable_names!(
    ChosenBy:
    Account = "account", Session = "session", Parent = "parent", Preferred = "preferred", Reuse = "reuse", PidOffset = "pid_offset",
    Strategy = "strategy", Current = "current", SameAccount = "same_account", Moved = "moved", Resumed = "resumed",
);

impl ChosenBy {
    /// Whether the order decided, so that the family's current account may change.
    pub(crate) fn is_order(self) -> bool {
        matches!(self, Self::Strategy | Self::Current)
    }
}

impl Lease {
    /// The account's name for a new request, if the holder requested this account.
    pub(crate) fn pinned_account(&self) -> Option<Box<str>> {
        self.pinned.then(|| self.account.to_string().into())
    }

    /// The lease as a request with these needs uses it: mostly as it is.
    pub(crate) fn used_for(self: &Arc<Self>, needs: &RequestNeeds) -> Arc<Self> {
        // a request whose other quota pool the lease is on stays there
        let is_same = self.target.is_same_request(&needs.target);
        if is_same && self.holder.attested == needs.attested {
            return self.clone();
        }
        let mut lease = Self::clone(self);
        if !is_same {
            lease.target = Arc::new(needs.target.clone());
        }
        lease.holder.attested = needs.attested.clone();
        Arc::new(lease)
    }
}

/// The request that would lead to this lease.
#[must_use]
pub fn reacquire(lease: &Lease, account: Option<Box<str>>) -> LeaseRequest {
    LeaseRequest {
        target: lease.target.as_asked(),
        connection: match lease.bind {
            Bind::Connection(connection) => connection,
            Bind::Process(_) | Bind::Ttl => ConnectionId(u64::MAX),
        },
        bind: lease.bind,
        holder: lease.holder.clone(),
        ttl: lease.ttl,
        session: lease.session.clone(),
        label: lease.label.clone(),
        agent: lease.agent.clone(),
        account,
        exclude: vec![],
        set: lease.set().clone(),
        priority: 0,
        // only `cache-first` waits for a wanted account, and at most its own time
        wait: None,
        exclusive: lease.exclusive,
        request_id: None,
        subagent: lease.subagent.clone().map(|mut subagent| {
            subagent.apart = Some(ApartFromParent::Moved);
            subagent
        }),
    }
}
