//! Requests for a lease: what is asked for, by which holder, and what ends the lease.

use super::id::{AccountId, ConnectionId, Fence, Process};
use super::target::Target;
use std::sync::Arc;
use std::time::Duration;

/// A request for a lease.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaseRequest {
    /// What it is for.
    pub target: Target,
    /// The connection that receives the answer.
    pub connection: ConnectionId,
    /// What ends the lease.
    pub bind: Bind,
    /// The process that asks.
    pub holder: Holder,
    /// The lifetime of the lease, if it has one.
    pub ttl: Option<Duration>,
    /// The conversation it belongs to.
    pub session: Option<Arc<str>>,
    /// The holder's name for it.
    pub label: Option<Arc<str>>,
    /// The agent's name, checked against the account's `use` policy.
    pub agent: Option<Arc<str>>,
    /// Only this account: id, unique prefix of an id, email or label.
    pub account: Option<Box<str>>,
    /// None of these accounts.
    pub exclude: Vec<AccountId>,
    /// Only accounts of this set.
    pub set: AccountSet,
    /// Requests of higher priority are served first.
    pub priority: i8,
    /// How long it may wait; `None` means the configured time.
    pub wait: Option<Duration>,
    /// The account must have no other lease meanwhile.
    pub exclusive: bool,
    /// The caller's idempotency key: a retry with the same id gets the same answer.
    pub request_id: Option<Box<str>>,
    /// The sub-agent that it is for.
    pub subagent: Option<Box<Subagent>>,
}

/// An agent that another one has started within its own run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subagent {
    /// As its agent calls it.
    pub id: Box<str>,
    /// The account of the agent that has started it.
    pub parent: Option<AccountId>,
    /// Why it does not get that account before others.
    pub apart: Option<ApartFromParent>,
}

/// Why a sub-agent does not get the account of its parent before others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApartFromParent {
    /// `selection.subagents = "spread"`.
    Setting,
    /// As many sub-agents are on the account as may be with their parent.
    Subagents,
    /// As many requests are under way on it as leave room for a sub-agent, or as may be at all.
    InFlight,
    /// It is used beyond the soft threshold.
    SoftThreshold,
    /// It has a limit, or had one until a moment ago.
    Limit,
    /// The sub-agent was there, or elsewhere, and its lease has moved.
    Moved,
}

stable_names!(
    ApartFromParent:
    Setting = "setting", Subagents = "subagents", InFlight = "in_flight", SoftThreshold = "soft_threshold",
    Limit = "limit", Moved = "moved",
);

impl LeaseRequest {
    /// The same of an agent.
    #[must_use]
    pub fn of_agent(target: Target, agent: Option<&str>) -> Self {
        Self { agent: agent.map(Into::into), ..Self::plain(target) }
    }

    /// A request that names nothing but its target, to see how it would be decided: no connection gets an answer.
    #[must_use]
    pub fn plain(target: Target) -> Self {
        let connection = ConnectionId(u64::MAX);
        Self {
            target,
            connection,
            bind: Bind::Connection(connection),
            holder: Holder::default(),
            ttl: None,
            session: None,
            label: None,
            agent: None,
            account: None,
            exclude: Vec::new(),
            set: AccountSet::default(),
            priority: 0,
            wait: None,
            exclusive: false,
            request_id: None,
            subagent: None,
        }
    }
}

/// What restricts a request to some accounts, whatever their provider. By default nothing does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountSet {
    /// The accounts that the request lists, sorted. They may belong to several providers: a provider of which it lists
    /// none does not serve it.
    pub only: Option<Arc<[AccountId]>>,
    /// The directory that the holder works in, as [`DirectorySettings::paths`](super::settings::DirectorySettings) has
    /// directories: the settings may have a set for it.
    pub directory: Option<Arc<str>>,
}

impl AccountSet {
    /// As a lease has it: most are restricted by nothing, and need no room for it.
    #[must_use]
    pub fn of_lease(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }
}

/// What ends a lease, besides its holder and its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bind {
    /// The end of this connection.
    Connection(ConnectionId),
    /// The death of this process.
    Process(Process),
    /// Nothing else: such a lease always has a time.
    Ttl,
}

/// The process that asked: shown to people, and the key of the reuse window.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// The process, where the platform reports it.
    pub process: Option<Process>,
    /// Its name.
    pub program: Option<Arc<str>>,
    /// How its program compares with the agent that it states.
    pub attested: Attestation,
}

/// How the program of a holder compares with the agent that it states: found by the shell, decided upon by the accounts'
/// `attest` setting.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Attestation {
    /// Not compared yet: that is done before a credential is handed out.
    #[default]
    Later,
    /// It is the agent, or the agent has started it.
    Matches,
    /// It is this program.
    Differs(Arc<str>),
    /// It is not known, for this reason.
    Unknown(Arc<str>),
}

impl Attestation {
    /// What stands against the agent that is stated.
    pub(crate) fn objection(&self) -> Option<String> {
        match self {
            Self::Later | Self::Matches => None,
            Self::Differs(found) => Some(format!("the program behind the connection is {found}")),
            Self::Unknown(why) => Some(format!("the program behind the connection is not known: {why}")),
        }
    }
}

/// A lease as its holder presents it after a restart of the daemon.
#[derive(Clone, PartialEq, Debug)]
pub struct Ticket {
    /// The lease's number.
    pub fence: Fence,
    /// The account it was granted on.
    pub account: AccountId,
    /// Whether the account could have no other lease.
    pub exclusive: bool,
    /// What it was for.
    pub target: Target,
    /// Its session.
    pub session: Option<Arc<str>>,
    /// Its label.
    pub label: Option<Arc<str>>,
    /// Its set of accounts.
    pub set: AccountSet,
}

/// What one request under a lease needs, where that differs from what the lease was acquired for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestNeeds {
    /// What it is for.
    pub target: Target,
    /// None of these accounts: they cannot serve the request, or have refused it. Sorted.
    pub exclude: Vec<AccountId>,
    /// How the program that sends it compares with the agent of the lease.
    pub attested: Attestation,
}

impl Bind {
    /// The process that ends it.
    pub fn process(self) -> Option<Process> {
        match self {
            Self::Process(process) => Some(process),
            Self::Connection(_) | Self::Ttl => None,
        }
    }
}

impl LeaseRequest {
    /// The plainest request: any account of `provider`, for a family whose quota key is its name, bound to `connection`.
    #[must_use]
    pub fn new(provider: &str, family: &str, connection: ConnectionId) -> Self {
        let (family, provider): (Arc<str>, Arc<str>) = (family.into(), provider.into());
        Self {
            target: Target { provider, key: family.clone(), family, pool: None, model: None, names: None },
            connection,
            bind: Bind::Connection(connection),
            holder: Holder::default(),
            ttl: None,
            session: None,
            label: None,
            agent: None,
            account: None,
            exclude: Vec::new(),
            set: AccountSet::default(),
            priority: 0,
            wait: None,
            exclusive: false,
            request_id: None,
            subagent: None,
        }
    }

    /// The account of the parent, of a sub-agent that is to be with it.
    pub(crate) fn beside(&self) -> Option<AccountId> {
        self.subagent.as_ref().filter(|subagent| subagent.apart.is_none())?.parent
    }

    /// The process it is for: the one it is bound to, else the one that asks.
    pub(crate) fn process(&self) -> Option<Process> {
        self.bind.process().or(self.holder.process)
    }

    /// Whether the same accounts can serve both. Sessions do not count: they matter only among accounts that can serve.
    pub(crate) fn is_served_like(&self, other: &Self) -> bool {
        self.target == other.target
            && self.account == other.account
            && self.agent == other.agent
            && self.holder.attested == other.holder.attested
            && self.exclusive == other.exclusive
            && self.exclude == other.exclude
            && self.set == other.set
            && self.subagent.as_ref().map(|of| of.parent) == other.subagent.as_ref().map(|of| of.parent)
    }
}
