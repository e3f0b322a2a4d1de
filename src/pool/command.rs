//! What goes into the pool and what comes out.

use std::time::Duration;

use crate::limits::{self, Reason, Scope};

use super::account::{AccountRecord, LoginState, Renewing, Tier};
use super::error::Refusal;
use super::id::{AccountId, ConnectionId, Fence, Process, WaiterId};
use super::lease::{Bind, Ending, Holder, Lease};
use super::limit::{Limit, LimitRecord, LimitSource};
use super::need::RequestNeeds;
use super::session::SessionRecord;
use super::settings::PoolSettings;
use super::target::Target;
use super::time::Wall;
use super::usage::Usage;

/// A request for a lease.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaseRequest {
    /// What for.
    pub target: Target,
    /// The connection the answer goes to.
    pub connection: ConnectionId,
    /// What ends the lease.
    pub bind: Bind,
    /// Who asks.
    pub holder: Holder,
    /// The life of the lease, if it has one.
    pub ttl: Option<Duration>,
    /// The conversation it belongs to.
    pub session: Option<Box<str>>,
    /// The holder's name for it.
    pub label: Option<Box<str>>,
    /// The agent's name, for the `use` policy.
    pub agent: Option<Box<str>>,
    /// This account and no other: id, unique prefix of an id, email or label.
    pub account: Option<Box<str>>,
    /// Not these accounts.
    pub exclude: Vec<AccountId>,
    /// Higher is served first.
    pub priority: i8,
    /// How long it may wait; `None` means the configured time.
    pub wait: Option<Duration>,
    /// Nobody else on the account meanwhile.
    pub exclusive: bool,
    /// The caller's name for the request: asked again, it gets the same answer.
    pub request_id: Option<Box<str>>,
}

/// A lease as its holder names it: the number, and what the number was granted with.
#[derive(Clone, PartialEq, Debug)]
pub struct Ticket {
    /// The number.
    pub fence: Fence,
    /// The account it was granted on.
    pub account: AccountId,
    /// Whether it was alone by right.
    pub exclusive: bool,
    /// What it was for.
    pub target: Target,
    /// Its session.
    pub session: Option<Box<str>>,
    /// Its label.
    pub label: Option<Box<str>>,
}

/// What a holder has met.
#[derive(Clone, PartialEq, Debug)]
pub enum RequestOutcome {
    /// It worked.
    Ok,
    /// It was refused.
    Refused(Box<RefusalDetails>),
}

/// What a refusal was understood as.
#[derive(Clone, PartialEq, Debug)]
pub struct RefusalDetails {
    /// Why.
    pub reason: Reason,
    /// How far it reaches, where that is known better than by the reason.
    pub scope: Option<Scope>,
    /// The wait that was stated.
    pub wait: Option<StatedWait>,
    /// Who stated it.
    pub source: LimitSource,
    /// What showed it, in a few words.
    pub evidence: Option<Box<str>>,
    /// Where the user can do something about it.
    pub link: Option<Box<str>>,
    /// The credential that was refused can be exchanged for a new one, without its owner.
    pub renewable: bool,
}

/// A wait, as it was stated: setting the clock moves only a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatedWait {
    /// "In 30 seconds."
    In(Duration),
    /// "At 15:00."
    At(Wall),
}

impl RefusalDetails {
    /// A holder's own word: for this reason, with this wait.
    #[must_use]
    pub fn reported(reason: Reason, wait: Option<Duration>) -> Self {
        let wait = wait.map(StatedWait::In);
        Self { reason, scope: None, wait, source: LimitSource::Report, evidence: None, link: None, renewable: false }
    }

    /// What an upstream's own answer said.
    #[must_use]
    pub fn read(verdict: &limits::Verdict) -> Self {
        Self {
            reason: verdict.reason,
            scope: Some(verdict.scope),
            wait: verdict.at.map(|at| StatedWait::At(Wall(at))).or(verdict.wait.map(StatedWait::In)),
            source: LimitSource::Server,
            evidence: Some(verdict.evidence.as_str().into()),
            link: verdict.link.as_deref().map(Into::into),
            renewable: false,
        }
    }
}

/// What to do to an account's record; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AccountChange {
    /// The user's name for it; empty takes it away.
    pub label: Option<String>,
    /// The login's address; empty takes it away.
    pub email: Option<String>,
    /// The plan.
    pub tier: Option<Tier>,
    /// The cloud project; empty takes it away.
    pub project_id: Option<String>,
    /// Capacity; 0 takes it away.
    pub max_leases: Option<u32>,
    /// Preference.
    pub priority: Option<i32>,
    /// Agents; empty takes the restriction back to the default.
    pub allowed_agents: Option<Vec<String>>,
    /// On or off, and why.
    pub enabled: Option<(bool, Option<String>)>,
    /// Whether the login works.
    pub login_state: Option<LoginState>,
    /// The vendor's own id of the account.
    pub vendor_id: Option<String>,
}

/// Everything that can be done to the pool.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Lease an account, or queue for one.
    Acquire(Box<LeaseRequest>),
    /// Leave the queue.
    Cancel(WaiterId),
    /// Add the lease's life to its time.
    ExtendLease(Fence),
    /// Give it back.
    Release(Fence),
    /// Take up again a lease from before the daemon's restart.
    Resume {
        /// What the holder has.
        ticket: Box<Ticket>,
        /// Where it is now.
        connection: ConnectionId,
        /// Who it is.
        holder: Holder,
    },
    /// Say what was met.
    Report {
        /// With which lease.
        fence: Fence,
        /// What.
        outcome: RequestOutcome,
    },
    /// Say what was met by a request that used the lease in its own way.
    ReportOf {
        /// With which lease.
        fence: Fence,
        /// What.
        outcome: RequestOutcome,
        /// What the request needed.
        need: Box<RequestNeeds>,
    },
    /// Make sure that the lease's account can serve a request; else move to one that can.
    Serve {
        /// With which lease.
        fence: Fence,
        /// What the request needs.
        need: Box<RequestNeeds>,
    },
    /// A connection has ended.
    ConnectionClosed(ConnectionId),
    /// A process has died.
    ProcessEnded(Process),
    /// Take in an account.
    AddAccount(Box<AccountRecord>),
    /// Take out an account; its leases end.
    RemoveAccount(AccountId),
    /// Change an account.
    ChangeAccount(AccountId, Box<AccountChange>),
    /// Grant nothing on an account while its token is renewed; or it has one again.
    SetRenewing(AccountId, Option<Renewing>),
    /// The account of a lease cannot serve after all: its holder gets another one, or waits for one.
    Move {
        /// Which lease; it ends.
        fence: Fence,
        /// How long its holder still waits; `None` means the configured time.
        wait: Option<Duration>,
    },
    /// File a limit.
    SetLimit(AccountId, Limit),
    /// Forget an account's limits: the user says so.
    ClearLimits(AccountId),
    /// Learn all that an account has used.
    SetUsage(AccountId, Usage),
    /// Learn what an account has used of these windows.
    LearnUsage(AccountId, Usage),
    /// Use these settings from now on.
    Configure(Box<PoolSettings>),
    /// Grant nothing any more; everybody in the queue is told.
    Drain,
    /// Nothing but time has passed.
    Tick,
}

impl Command {
    /// The lease that it may move to another account.
    #[must_use]
    pub fn moves(&self) -> Option<Fence> {
        match self {
            Self::Report { fence, .. }
            | Self::ReportOf { fence, .. }
            | Self::Serve { fence, .. }
            | Self::Move { fence, .. } => Some(*fence),
            _ => None,
        }
    }
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// A lease is held: granted, renewed, resumed.
    Held(Fence),
    /// The request waits; `Effect::Answer` will carry its end.
    Queued(WaiterId),
    /// What to do next.
    Decision(Decision),
    /// It is done.
    Done,
}

/// What a holder should do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The move.
    pub action: Action,
    /// How long to wait before it.
    pub after: Duration,
    /// What was understood, unless all went well.
    pub reason: Option<Reason>,
    /// How far it reaches.
    pub scope: Option<Scope>,
    /// With `Switch`, the new lease.
    pub lease: Option<Fence>,
}

/// A move.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Go on.
    Continue,
    /// The same again, after the time.
    Retry,
    /// Go on with the new lease.
    Switch,
    /// Nobody can serve: wait, then the same again.
    Wait,
    /// Trying again is no use.
    Stop,
}

impl Action {
    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Retry => "retry",
            Self::Switch => "switch",
            Self::Wait => "wait",
            Self::Stop => "stop",
        }
    }
}

/// What the shell must carry out, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// The end of a wait.
    Answer {
        /// Whose.
        waiter: WaiterId,
        /// A lease, or why there is none.
        result: Result<Fence, Refusal>,
    },
    /// Keep this lease; before its holder learns of it, when it was just granted.
    SaveLease(Fence),
    /// A lease has ended; if it was kept, forget it.
    Ended(Box<Lease>, Ending),
    /// Keep where a session lives.
    SaveSession(SessionRecord),
    /// Keep this account's record.
    SaveAccount(AccountId),
    /// Forget an account, its limits and its sessions.
    DeleteAccount(AccountId),
    /// Keep a limit in place of the one filed under the same key and scope.
    SaveLimit(LimitRecord),
    /// Forget the limits of an account that are over: all, or of one key and scope.
    DropLimit(AccountId, Option<(Scope, String)>),
    /// Keep what is known of an account's windows.
    SaveUsage(AccountId),
    /// Fences up to this one are about to be used: keep that before they run out.
    ReserveFences(Fence),
    /// Exchange this account's credential for a new one: it was refused. [`Command::SetRenewing`] tells of the end.
    RefreshToken(AccountId),
    /// No lease is bound to this process any more.
    Unwatch(Process),
    /// Tell whoever listens.
    Emit(Event),
}

/// Something others may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lease was granted.
    Granted(Fence),
    /// An account cannot serve a key until a time.
    Limited(LimitRecord),
    /// An account can serve a key again.
    Recovered(AccountId, String),
    /// An account was added, changed or removed.
    AccountChanged(AccountId),
    /// Something was learnt of what an account has used.
    UsageUpdated(AccountId),
    /// The queue has this many requests now.
    QueueChanged(usize),
}
