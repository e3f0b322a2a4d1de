//! The result of a classification.

use std::time::Duration;

use super::reason::{Reason, Scope};
use super::time::WaitSource;
use super::windows::Window;

/// What a response means.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Classification {
    /// The refusal; `None` when the response is a success.
    pub verdict: Option<Verdict>,
    /// The account's quota windows, reported by successes and refusals alike.
    pub windows: Vec<Window>,
    /// A success that the account pays for beyond its plan, because the plan's quota is used up. The used-up window is
    /// among the windows, unless the upstream left it out.
    pub paid_overage: bool,
}

/// A classified refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// What the refusal applies to.
    pub scope: Scope,
    /// The wait that the server stated, in whole ms, rounded up; at most [`super::LONGEST_BELIEVED`], never zero.
    pub wait: Option<Duration>,
    /// The instant it was stated as, epoch ms, if it was: it stays correct when a wrong clock is set.
    pub at: Option<u64>,
    /// Where the wait was stated; [`WaitSource::NONE`] without one.
    pub source: WaitSource,
    /// How certain the reason is.
    pub confidence: Confidence,
    /// The HTTP status of the refusal, or the one that an error within a stream states.
    pub status: Option<u16>,
    /// The evidence for people: one short line without secrets.
    pub evidence: String,
    /// The vendor's page where the account's owner can mend the account: verify it, appeal, enable an API.
    pub link: Option<String>,
    /// The words name a state that lasts: a disabled account or organisation, a model that the plan lacks.
    pub lasting: bool,
}

named_enum! {
    /// How certain a reason is.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub enum Confidence {
        /// From an inconclusive status only.
        Guess = "guess",
        /// From the status or prose.
        Likely = "likely",
        /// From a code or a window, which are conclusive.
        Certain = "certain",
    }
}
