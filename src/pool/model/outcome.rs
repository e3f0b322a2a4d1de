//! How a request ended upstream, as its holder reports it, and the pool's decision.

use super::id::Fence;
use super::time::{Now, Wall};
use crate::limits::{self, Reason, Scope};
use std::time::Duration;

/// How a request ended.
#[derive(Clone, PartialEq, Debug)]
pub enum RequestOutcome {
    /// It succeeded.
    Ok,
    /// It succeeded, and the account pays for it beyond its plan; until the plan's quota resets then, if that is known.
    Overage(Option<Wall>),
    /// It was refused.
    Refused(Box<RefusalDetails>),
}

/// What is known of a refusal by the upstream.
#[derive(Clone, PartialEq, Debug)]
pub struct RefusalDetails {
    /// Why.
    pub reason: Reason,
    /// How far it reaches, where the answer is more specific than the reason.
    pub scope: Option<Scope>,
    /// The wait that was stated.
    pub wait: Option<StatedWait>,
    /// Who stated it.
    pub source: LimitSource,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// A short quotation of the answer.
    pub evidence: Option<Box<str>>,
    /// A page where the user can resolve it.
    pub link: Option<Box<str>>,
    /// It names a state that lasts: of the account with [`Scope::Account`], a model that the plan lacks with
    /// [`Scope::Model`].
    pub lasting: bool,
    /// The refused credential can be refreshed without its owner.
    pub renewable: bool,
}

/// A wait, on the clock it was stated on: setting the clock moves only a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatedWait {
    /// "In 30 seconds."
    In(Duration),
    /// "At 15:00."
    At(Wall),
}

/// Where the time of a limit comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LimitSource {
    /// A guess from the back-off table.
    Table,
    /// A holder's report.
    Report,
    /// The upstream's own answer.
    Server,
}

/// What a holder should do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The action.
    pub action: Action,
    /// How long to wait before it.
    pub after: Duration,
    /// Why, unless the request succeeded.
    pub reason: Option<Reason>,
    /// How far the refusal reaches.
    pub scope: Option<Scope>,
    /// With `Switch`, the new lease.
    pub lease: Option<Fence>,
    /// With `Retry`, the same account is tried once more before others are looked at.
    pub once_more: bool,
    /// With `Wait`, an account may become free before the wait is over: one that is in use, for example.
    pub may_end_sooner: bool,
}

/// What a holder should do next, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Continue with this lease.
    Continue,
    /// Send the same request again, after the wait.
    Retry,
    /// Continue with the new lease.
    Switch,
    /// No account can serve now: wait, then send the same request again.
    Wait,
    /// Give up: another attempt cannot succeed.
    Stop,
}

impl RefusalDetails {
    /// A holder's own report: this reason, with this wait.
    #[must_use]
    pub fn reported(reason: Reason, wait: Option<Duration>) -> Self {
        let wait = wait.map(StatedWait::In);
        Self {
            reason,
            scope: None,
            wait,
            source: LimitSource::Report,
            status: None,
            evidence: None,
            link: None,
            lasting: false,
            renewable: false,
        }
    }

    /// What an upstream's own answer said.
    #[must_use]
    pub fn read(verdict: &limits::Verdict) -> Self {
        Self {
            reason: verdict.reason,
            scope: Some(verdict.scope),
            wait: verdict.at.map(|at| StatedWait::At(Wall(at))).or(verdict.wait.map(StatedWait::In)),
            source: LimitSource::Server,
            status: verdict.status,
            evidence: Some(verdict.evidence.as_str().into()),
            link: verdict.link.as_deref().map(Into::into),
            lasting: verdict.lasting,
            renewable: false,
        }
    }
}

impl StatedWait {
    pub(crate) fn span(self, now: Now) -> Duration {
        match self {
            Self::In(span) => span,
            Self::At(at) => at.since(now.wall),
        }
    }
}

stable_names!(LimitSource: Table = "table", Report = "report", Server = "server");

impl LimitSource {
    /// Whether the time was stated rather than guessed.
    pub(crate) fn is_stated(self) -> bool {
        self != Self::Table
    }
}

stable_names!(Action: Continue = "continue", Retry = "retry", Switch = "switch", Wait = "wait", Stop = "stop");

impl Decision {
    pub(crate) fn new(action: Action, after: Duration) -> Self {
        Self { action, after, reason: None, scope: None, lease: None, once_more: false, may_end_sooner: false }
    }

    pub(crate) fn switched_to(lease: Fence) -> Self {
        Self { lease: Some(lease), ..Self::new(Action::Switch, Duration::ZERO) }
    }
}
