//! Refusals: why a request gets no lease.

use super::id::AccountId;
use super::time::Wall;

/// Why there is no lease: the stable kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefusalKind {
    /// The provider has no account that could ever serve this.
    NoAccount,
    /// Every account is limited.
    AllLimited,
    /// Every account is at its capacity.
    NoCapacity,
    /// The time to wait has passed.
    WaitTimeout,
    /// No account has this name, or several have it.
    UnknownAccount,
    /// The `use` policy of every account forbids it.
    NotAllowed,
    /// The lease has ended.
    StaleLease,
    /// Every account needs the user to log in.
    NeedsLogin,
    /// Every account needs the user to confirm something.
    NeedsVerification,
    /// The request is not valid.
    BadRequest,
    /// Too many requests are already waiting.
    Overloaded,
    /// The daemon is shutting down.
    ShuttingDown,
}

/// Why a request gets no lease, account by account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// One sentence for people.
    pub message: String,
    /// The earliest time at which another try can succeed, where that is known.
    pub retry_at: Option<Wall>,
    /// Why each account cannot serve.
    pub accounts: Vec<IneligibleAccount>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// Why one account cannot serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IneligibleAccount {
    /// The account.
    pub account: AccountId,
    /// The reason.
    pub why: Ineligible,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

/// Why an account cannot serve a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ineligible {
    /// It is not in the set of accounts that the request, or its directory, is restricted to.
    NotInSet,
    /// The user or the configuration disabled it.
    Disabled,
    /// Its login does not work.
    NeedsLogin,
    /// Its provider requires a verification.
    NeedsVerification,
    /// Its `use` policy does not allow the agent.
    NotAllowed,
    /// The request excludes it.
    Excluded,
    /// It has a limit.
    Limited,
    /// Its plan does not include the model.
    LacksModel,
    /// The rest of its quota is reserved: for other models, or for requests that name the account.
    Reserved,
    /// Its token is being refreshed.
    Renewing,
    /// It is in the shared pool, and this host has no valid seat of it and cannot claim one now.
    NoSeat,
    /// It has as many leases as it may have.
    Busy,
}

stable_names!(
    Ineligible:
    NotInSet = "not_in_set", Disabled = "disabled", NeedsLogin = "needs_login", NeedsVerification = "needs_verification",
    NotAllowed = "not_allowed", Excluded = "excluded", Limited = "limited", LacksModel = "lacks_model", Reserved = "reserved",
    Renewing = "waiting_for_token", NoSeat = "no_seat", Busy = "busy",
);

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_at: None, accounts: Vec::new(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn stale() -> Self {
        Self::new(RefusalKind::StaleLease, "this lease has ended").hint("acquire a new one")
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(RefusalKind::ShuttingDown, "the daemon is shutting down")
    }
}
