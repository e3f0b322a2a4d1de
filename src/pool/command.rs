//! What goes into the pool and what comes out.

use crate::limits::{Reason, Scope};
use crate::pool::account::Renewing;
use crate::pool::account::record::{AccountChange, AccountRecord};
use crate::pool::account::usage::Usage;
use crate::pool::lease::{Ending, Lease};
use crate::pool::limit::{Limit, LimitRecord};
use crate::pool::model::{
    AccountId, Attestation, ConnectionId, Decision, Fence, GuestId, GuestLimits, Holder, Ineligible, LeaseRequest,
    Mono, PoolSettings, Process, Refusal, RefusalDetails, RequestNeeds, RequestOutcome, Ticket, WaiterId, Wall,
};
use crate::pool::seats::{FenceBlock, SeatDenial, SeatLimits};
use crate::pool::session::SessionRecord;
use std::sync::Arc;
use std::time::Duration;

/// Everything that can be done to the pool.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Lease an account, or queue for one.
    Acquire(Box<LeaseRequest>),
    /// Leave the queue.
    Cancel(WaiterId),
    /// Restart the lifetime of a lease.
    ExtendLease(Fence),
    /// End a lease.
    Release(Fence),
    /// Resume a lease from before the daemon's restart.
    Resume {
        /// The lease, as its holder presents it.
        ticket: Box<Ticket>,
        /// The holder's connection now.
        connection: ConnectionId,
        /// The holder.
        holder: Holder,
    },
    /// The program of a lease's holder was compared with the agent that it states.
    Attest(Fence, Attestation),
    /// Report how a request ended.
    Report {
        /// The lease it was sent with.
        fence: Fence,
        /// How it ended.
        outcome: RequestOutcome,
    },
    /// Report how a request ended whose needs differ from what the lease was acquired for.
    ReportOf {
        /// The lease it was sent with.
        fence: Fence,
        /// How it ended.
        outcome: RequestOutcome,
        /// What the request needed.
        need: Arc<RequestNeeds>,
    },
    /// Check that the lease's account can serve a request; else move the lease to one that can.
    Serve {
        /// The lease it will be sent with.
        fence: Fence,
        /// What the request needs.
        need: Box<RequestNeeds>,
    },
    /// A connection has ended.
    ConnectionClosed(ConnectionId),
    /// A process has died.
    ProcessEnded(Process),
    /// Add an account.
    AddAccount(Box<AccountRecord>),
    /// Remove an account; its leases end.
    RemoveAccount(AccountId),
    /// Change an account.
    ChangeAccount(AccountId, Box<AccountChange>),
    /// Grant nothing on an account while its token is refreshed; `None` when it has a token again.
    SetRenewing(AccountId, Option<Renewing>),
    /// The account of a lease cannot serve after all: acquire again for its holder.
    Reacquire {
        /// The lease; it ends.
        fence: Fence,
        /// How long its holder still waits; `None` means the configured time.
        wait: Option<Duration>,
    },
    /// Move a lease to another account, because the user asks for it.
    MoveLease {
        /// The lease.
        fence: Fence,
        /// The account; `None` means the best other one.
        to: Option<AccountId>,
        /// Accounts that must not have it, sorted.
        exclude: Vec<AccountId>,
        /// When it moves.
        when: MoveTime,
    },
    /// What the provider refused before does not hold any more.
    ForgetDenials(AccountId, DenialsEnd),
    /// The provider refuses the account, as its user has tried.
    Deny(AccountId, Box<RefusalDetails>),
    /// An account's login was refreshed because the provider refused it: that happens once in a row of refusals.
    NoteRenewal(AccountId),
    /// Set a limit.
    SetLimit(AccountId, Limit),
    /// Set a limit in place of the one of its scope and key, which may be stronger: the other hosts know that that one is over.
    ReplaceLimit(AccountId, Limit),
    /// Clear an account's limits, because the user asks for it.
    ClearLimits(AccountId),
    /// Clear one limit of an account, because another host has. If its time was over here, requests return on a ramp.
    ClearLimit(AccountId, Scope, String),
    /// Replace everything known about an account's usage.
    SetUsage(AccountId, Usage),
    /// Update an account's usage in these windows.
    LearnUsage(AccountId, Usage),
    /// Add an account that is in the shared pool, so that no request gets it before it is known to be shared.
    AddSharedAccount(Box<AccountRecord>, SeatLimits),
    /// The account is in the shared pool, which allows so much on all hosts together; repeated, it changes the limits.
    /// Leases that this host has had on its own account end (`CutOff`): another host may have its seats already.
    ShareAccount(AccountId, SeatLimits),
    /// The account is this host's own from now on.
    UnshareAccount(AccountId),
    /// A new term begins, without seats. Leases of an older term that are left end (`CutOff`). The answers to claims of
    /// an older term must not come after it.
    JoinTerm {
        /// Until when its seats are valid.
        until: Mono,
    },
    /// The term from before goes on with exactly these seats, as the database has them: after a restart of the daemon, or
    /// after claims and returns whose outcome is not known. Leases beyond them end (`CutOff`).
    ResumeTerm {
        /// Until when its seats are valid.
        until: Mono,
        /// How many seats of each account it holds; none of those that are not listed.
        seats: Vec<(AccountId, u32)>,
    },
    /// A heartbeat was accepted: the seats are valid until then. It does not bring back seats whose time has passed.
    ExtendSeats {
        /// Until when.
        until: Mono,
    },
    /// The database is away: claims under way have failed, and none is made; seats stay valid to their time.
    LoseConnection,
    /// Whether the shared pool is closed to this host until a person changes something, because it was evicted for example:
    /// then no request waits for a seat, and one that would is refused.
    SetPoolClosed(bool),
    /// The term is over: leases on shared accounts end now (`CutOff`).
    LoseSeats,
    /// The answer to [`Effect::ClaimSeats`]: seats were claimed. It is refused, and they are not used, if the claim is not
    /// under way any more: then [`Command::ResumeTerm`] says what the host holds.
    SeatsClaimed {
        /// The account.
        account: AccountId,
        /// How many new ones.
        seats: u32,
        /// How many other hosts hold.
        elsewhere: u32,
        /// Fences that were drawn while the seats were locked.
        fences: FenceBlock,
    },
    /// The answer to [`Effect::ClaimSeats`]: none was claimed.
    SeatsDenied {
        /// The account.
        account: AccountId,
        /// How many other hosts hold.
        elsewhere: u32,
        /// Why.
        why: SeatDenial,
    },
    /// How many seats of these accounts other hosts hold now; the others are as before.
    SeatsElsewhere(Vec<(AccountId, u32)>),
    /// The accounts of which other hosts wait for a seat, all of them: give back what is free.
    SeatsWanted(Vec<AccountId>),
    /// The answer to [`Effect::ClaimFences`].
    TakeFences(FenceBlock),
    /// The answer to [`Effect::ClaimProbe`]: this host alone probes the account. It is refused if no limit waits for it
    /// any more: then the duty is given up.
    ProbeClaimed(AccountId),
    /// The answer to [`Effect::ClaimProbe`]: another host probes the account, or there is news of the limit. Its outcome
    /// comes as [`Command::SetLimit`] or [`Command::ClearLimit`].
    ProbeDenied(AccountId),
    /// Use these settings from now on.
    Configure(Box<PoolSettings>),
    /// A guest may have so much from now on; what it has beyond that ends (`Revoked`).
    LimitGuest(GuestId, Box<GuestLimits>),
    /// A guest has gone, with all its leases.
    ForgetGuest(GuestId),
    /// Shut down: grant nothing more, and refuse every queued request.
    Drain,
    /// Only time has passed.
    Tick,
}

/// When a lease moves that the user has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveTime {
    /// At once: its holder has no credential, and each of its requests is sent with the lease of that moment.
    AtOnce,
    /// When its holder reports, renews or asks for a token: it has a credential, and learns of the other one then.
    NextCall,
    /// Never: it ends with the request that it was granted for. The next request of its session gets the account.
    NextRequest,
}

/// Why earlier refusals of an account do not hold any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DenialsEnd {
    /// Its token was refreshed: the login is the same, so what refuses the account or its plan stands.
    Refreshed,
    /// It has another credential, which may have another plan.
    Replaced,
    /// The provider accepts it, or its user says so.
    Accepted,
}

impl Command {
    /// The lease that it may move to another account.
    pub fn moves(&self) -> Option<Fence> {
        match self {
            Self::Report { fence, .. }
            | Self::ReportOf { fence, .. }
            | Self::Serve { fence, .. }
            | Self::Reacquire { fence, .. }
            | Self::MoveLease { fence, .. }
            | Self::ExtendLease(fence) => Some(*fence),
            _ => None,
        }
    }
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// A lease is held: granted, extended or resumed.
    Held(Fence),
    /// The request is queued; [`Effect::Answer`] will carry its result.
    Queued(WaiterId),
    /// What to do next.
    Decision(Decision),
    /// It is done.
    Done,
}

/// What a command's handler returns.
pub(crate) type Handled = Result<Reply, Refusal>;
pub(crate) type Effects = Vec<Effect>;

/// What the shell must carry out, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// A queued request has ended.
    Answer {
        /// Which.
        waiter: WaiterId,
        /// A lease, or why there is none.
        result: Result<Fence, Refusal>,
    },
    /// Save this lease; a new one before its holder learns of it.
    SaveLease(Fence),
    /// A lease has ended; if it was saved, delete it.
    Ended(Arc<Lease>, Ending),
    /// Save which account a session is bound to.
    SaveSession(SessionRecord),
    /// Save this account's record.
    SaveAccount(AccountId),
    /// Delete an account, its limits and its sessions.
    DeleteAccount(AccountId),
    /// Save a limit in place of the one with the same scope and key.
    SaveLimit(LimitRecord),
    /// Delete limits of an account that are over: all, or the one of this scope and key.
    DropLimit(AccountId, Option<(Scope, String)>),
    /// Save what is known of an account's windows.
    SaveUsage(AccountId),
    /// Claim seats of a shared account. One of [`Command::SeatsClaimed`], [`Command::SeatsDenied`] and
    /// [`Command::LoseConnection`] must follow soon: requests wait for it.
    ClaimSeats {
        /// The account.
        account: AccountId,
        /// How many more; fewer are useful too.
        seats: u32,
        /// How many seats all hosts together may have afterwards.
        most: u32,
        /// Whether fewer are of no use: for an exclusive lease, which needs all seats of the account.
        whole: bool,
    },
    /// Give back seats of a shared account; the pool counts them as given back already.
    GiveBackSeats {
        /// The account.
        account: AccountId,
        /// How many.
        seats: u32,
    },
    /// No request waits any more for a seat of this account, of which a claim found none free: other hosts need not give one
    /// back. It has no answer, and it does no harm if it is lost.
    WithdrawWant {
        /// The account.
        account: AccountId,
    },
    /// Draw new fences from the shared pool: [`Command::TakeFences`] answers.
    ClaimFences {
        /// Every new fence must be greater than this one: this host has used it.
        above: Fence,
    },
    /// Ask the shared pool whether this host may probe an account, which no other host does then.
    /// [`Command::ProbeClaimed`], [`Command::ProbeDenied`] or [`Command::LoseConnection`] must follow soon.
    ClaimProbe {
        /// The account.
        account: AccountId,
        /// Its limits whose time is over, and that the probe tests.
        limits: Vec<(Scope, String)>,
    },
    /// This host does not probe the account any more. If its limits have changed, the pool must know that first.
    GiveUpProbe(AccountId),
    /// Fences up to this one are about to be used: save it before they run out.
    ReserveFences(Fence),
    /// Refresh this account's credential: it was refused. [`Command::SetRenewing`] reports the result.
    RefreshToken(AccountId),
    /// No lease and no queued request is bound to this process any more.
    Unwatch(Process),
    /// Send this to subscribers.
    Emit(Event),
}

/// A limit that was set, and the refusal that it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLimit {
    /// The limit.
    pub record: LimitRecord,
    /// The refusal; the default where no request was refused.
    pub refusal: RefusalOrigin,
}

/// What a refusal was about that has set a limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RefusalOrigin {
    /// The model of the request.
    pub model: Option<Arc<str>>,
    /// The quota pool of the request.
    pub pool: Option<Arc<str>>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The wait that was stated.
    pub stated_wait: Option<Duration>,
}

/// A lease that has another account now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseMove {
    /// The lease that has ended.
    pub before: Fence,
    /// Its account.
    pub from: AccountId,
    /// The lease that replaces it.
    pub to: Fence,
    /// Why.
    pub cause: MoveCause,
}

/// Why a lease moves to another account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MoveCause {
    /// The account before has this limit.
    Limited(LimitRecord),
    /// The account before cannot serve, until a time where that is known.
    Unavailable(Ineligible, Option<Wall>),
    /// The account before has refused or failed the request.
    Refused(Reason),
    /// Its requests take the accounts in turn.
    Turn,
    /// The plan of the account before is used up, and another one's is not.
    Overage,
    /// The account before is a fallback, and another one can serve.
    Fallback,
    /// The user asked for it.
    Requested,
}

impl MoveCause {
    /// A stable name: that of the reason or of the account's state, `turn`, `overage`, `fallback_only` or
    /// `requested`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Limited(limit) => limit.reason.name(),
            Self::Unavailable(Ineligible::Renewing, _) => "waiting_for_token",
            Self::Unavailable(why, _) => why.name(),
            Self::Refused(reason) => reason.name(),
            Self::Turn => "turn",
            Self::Overage => "overage",
            Self::Fallback => "fallback_only",
            Self::Requested => "requested",
        }
    }
}

/// A change that subscribers may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lease was granted.
    Granted(Fence),
    /// A lease has moved to another account. Its grant there is the next event.
    Moved(Box<LeaseMove>),
    /// An account cannot serve a key until a time.
    Limited(Box<NewLimit>),
    /// An account can serve a key again.
    Recovered(AccountId, String),
    /// An account was added, changed or removed.
    AccountChanged(AccountId),
    /// An account's known usage has changed.
    UsageUpdated(AccountId),
    /// The queue has this many requests now.
    QueueChanged(usize),
    /// The seat of a lease is valid until then only: the shared pool's database has not been reached for some time.
    SeatsEnd(Fence, Mono),
}
