//! How long is rested after a failure.

use std::time::Duration;

use crate::pool::Mono;

use super::{Down, Turn};

/// Who is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// This login, as far as one can tell, and it may pass.
    Account,
    /// The endpoint, or the way there.
    Endpoint,
    /// The endpoint wants fewer requests.
    TooMany,
    /// The OAuth client, or how it is configured: somebody has to change something.
    Client,
    /// Nothing can be kept on disk: a new token could be lost.
    Disk,
}

/// A failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Who is to blame.
    pub fault: Fault,
    /// What happened, in words that hold no secret.
    pub why: String,
    /// How long the endpoint wants to be left alone.
    pub wait: Option<Duration>,
}

/// The longest wait of an endpoint that is believed.
const LONGEST_STATED: Duration = Duration::from_secs(3600);
/// The shortest: who says 0 means "not now".
const SHORTEST_STATED: Duration = Duration::from_secs(1);

impl Fault {
    /// The first rest, and the longest; each failure doubles it.
    fn rests(self) -> (Duration, Duration) {
        let (first, longest) = match self {
            Self::Account => (5, 600),
            Self::Endpoint | Self::Disk => (1, 60),
            Self::TooMany => (30, 600),
            Self::Client => (300, 3600),
        };
        (Duration::from_secs(first), Duration::from_secs(longest))
    }
}

impl Down {
    /// It has failed once more. Answers what is new about that.
    pub(super) fn down(&mut self, failure: &Failure, now: Mono, chance: f64) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = failure.fault.rests();
        let doubled = first.saturating_mul(1 << (self.failures - 1).min(16)).min(longest);
        // not all that failed together try again together
        let own = doubled.mul_f64(0.8 + chance * 0.4);
        let stated = failure.wait.map(|wait| wait.clamp(SHORTEST_STATED, LONGEST_STATED));
        self.rest = Some(now.after(stated.unwrap_or(own)));
        self.stated = stated.is_some();
        let since = self.last.as_ref().map_or(now, |(_, since)| *since);
        let known = self.last.as_ref().is_some_and(|(before, _)| before.fault == failure.fault);
        self.last = Some((failure.clone(), since));
        (!known).then(|| Turn::Down(failure.clone()))
    }

    /// It works.
    pub(super) fn up(&mut self) -> Option<Turn> {
        std::mem::take(self).last.map(|(_, since)| Turn::Up(since))
    }

    /// The user wants it tried now, whatever it was.
    pub(super) fn lift(&mut self) {
        if !self.stated {
            self.rest = None;
        }
    }
}
