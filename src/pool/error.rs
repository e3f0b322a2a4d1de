//! Why the pool refuses.

use super::id::AccountId;
use super::time::Wall;

/// The stable kinds of refusal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefusalKind {
    /// There is no account at all that could ever serve this.
    NoAccount,
    /// Every account is limited.
    AllLimited,
    /// Every account is at its capacity.
    NoCapacity,
    /// The time to wait is over.
    WaitTimeout,
    /// No account has this name, or several do.
    UnknownAccount,
    /// The `use` policy of every account forbids it.
    NotAllowed,
    /// The lease has ended.
    StaleLease,
    /// Every account needs the user to log in.
    NeedsLogin,
    /// Every account needs the user to confirm something.
    NeedsVerification,
    /// The request contradicts itself or the pool.
    BadRequest,
    /// Too many wait already.
    Overloaded,
    /// The daemon is ending.
    ShuttingDown,
}

/// Why a request gets no lease, account by account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The stable kind.
    pub kind: RefusalKind,
    /// One sentence.
    pub message: String,
    /// The earliest time it could be different, where that is known.
    pub retry_at: Option<Wall>,
    /// What stands in each account's way.
    pub accounts: Vec<IneligibleAccount>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What stands in one account's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IneligibleAccount {
    /// Which account.
    pub account: AccountId,
    /// What.
    pub why: Ineligible,
    /// Until when, where that is known.
    pub until: Option<Wall>,
}

/// Why an account cannot serve a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ineligible {
    /// The user or the configuration turned it off.
    Disabled,
    /// Its login does not work.
    NeedsLogin,
    /// Its provider wants a confirmation.
    NeedsVerification,
    /// Its `use` policy does not allow the agent.
    NotAllowed,
    /// The caller does not want it.
    Excluded,
    /// A limit lies on it.
    Limited,
    /// What is left of it is kept back from this model.
    Reserved,
    /// Its token is being renewed.
    Renewing,
    /// It carries all the leases it takes.
    Busy,
}

impl Ineligible {
    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NeedsLogin => "needs_login",
            Self::NeedsVerification => "needs_verification",
            Self::NotAllowed => "not_allowed",
            Self::Excluded => "excluded",
            Self::Limited => "limited",
            Self::Reserved => "reserved",
            Self::Renewing => "renewing",
            Self::Busy => "busy",
        }
    }
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_at: None, accounts: Vec::new(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn stale() -> Self {
        Self::new(RefusalKind::StaleLease, "this lease has ended").hint("acquire a new one")
    }
}
