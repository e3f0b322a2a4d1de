//! What a response was found to mean.

use std::borrow::Cow;
use std::time::Duration;

use super::reason::{Reason, Scope};
use super::windows::Window;

/// All that a response told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Classification {
    /// Why and how it refused; `None` when it did not.
    pub verdict: Option<Verdict>,
    /// What it said of the account's quota, in successes and refusals alike.
    pub windows: Vec<Window>,
}

/// A refusal, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// How far it reaches.
    pub scope: Scope,
    /// The wait that the server stated, in whole ms, rounded up; at most [`super::LONGEST_BELIEVED`], never zero.
    pub wait: Option<Duration>,
    /// The time of day it was stated as, epoch ms, if it was: it stays right when a wrong clock is set.
    pub at: Option<u64>,
    /// Where the wait was stated; [`WaitSource::NONE`] without one.
    pub source: WaitSource,
    /// How sure the reason is.
    pub confidence: Confidence,
    /// What was seen, to be shown: short, in one line, without secrets.
    pub evidence: String,
    /// Where the account's owner must confirm something.
    pub link: Option<String>,
}

/// Where a wait was stated, in the upstream's own word: `RetryInfo`, a header's name, `prose`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WaitSource(Cow<'static, str>);

/// How sure a reason is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Confidence {
    /// Nothing but a status that says little.
    Guess,
    /// By status or prose.
    Likely,
    /// By a code or a window, which leave no doubt.
    Certain,
}

impl WaitSource {
    /// No wait was stated.
    pub const NONE: Self = Self(Cow::Borrowed("none"));
    /// Somebody wrote it for people.
    pub const PROSE: Self = Self(Cow::Borrowed("prose"));

    /// A field of the body.
    #[must_use]
    pub(super) const fn body(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A header.
    #[must_use]
    pub(super) fn header(name: &str) -> Self {
        Self(Cow::Owned(name.to_owned()))
    }

    /// The word for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Confidence {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guess => "guess",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}
