//! How long to wait after a failed refresh.

use std::time::Duration;

use super::{Outage, RefreshTransition};
use crate::pool::Mono;

/// What failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefreshFault {
    /// This login only, as far as is known; it may be temporary.
    Account,
    /// The endpoint, or the network.
    Endpoint,
    /// The endpoint's rate limit.
    RateLimited,
    /// The configuration of the OAuth client; the user must change something.
    Client,
    /// The token endpoint does not accept the OAuth client for this login.
    ClientRefused,
    /// The token endpoint does not accept the OAuth client.
    ClientUnknown,
    /// The disk: a new token could not be saved.
    Disk,
    /// Another host of the shared pool is refreshing this login, or the pool cannot be asked.
    SharedPool,
    /// The tool that lessor starts to refresh this login is missing, or has not refreshed it several times.
    Tool,
    /// The tool that lessor starts to refresh this login wants its user to log in; it also does so when it is offline.
    ToolWantsLogin,
}

/// A failed refresh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshFailure {
    /// What failed.
    pub fault: RefreshFault,
    /// What happened, without secrets.
    pub why: String,
    /// How long the endpoint asked to wait.
    pub wait: Option<Duration>,
}

/// The longest stated wait that is believed.
const LONGEST_STATED: Duration = Duration::from_secs(3600);
/// The shortest wait: an endpoint that states 0 means "not now".
const SHORTEST_STATED: Duration = Duration::from_secs(1);

impl RefreshFault {
    /// Whether the endpoint refused the OAuth client.
    pub(super) fn is_refusal_of_client(self) -> bool {
        matches!(self, Self::ClientRefused | Self::ClientUnknown)
    }

    /// The first and the longest delay; each failure doubles it.
    fn rests(self) -> (Duration, Duration) {
        let (first, longest) = match self {
            Self::Account => (5, 600),
            Self::Endpoint | Self::Disk | Self::SharedPool => (1, 60),
            Self::RateLimited => (30, 600),
            Self::Client | Self::ClientRefused | Self::ClientUnknown => (300, 3600),
            Self::ToolWantsLogin => (30, 1800),
            Self::Tool => (60, 1800),
        };
        (Duration::from_secs(first), Duration::from_secs(longest))
    }
}

impl Outage {
    /// Records another failure. Returns a transition if it is new.
    pub(super) fn fail(&mut self, failure: &RefreshFailure, now: Mono, chance: f64) -> Option<RefreshTransition> {
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = failure.fault.rests();
        let doubled = first.saturating_mul(1 << (self.failures - 1).min(16)).min(longest);
        // random, so that accounts that failed together do not retry together
        let own = doubled.mul_f64(0.8 + chance * 0.4);
        let stated = failure.wait.map(|wait| wait.clamp(SHORTEST_STATED, LONGEST_STATED));
        self.rest = Some(now.after(stated.unwrap_or(own)));
        self.stated = stated.is_some();
        let since = self.last.as_ref().map_or(now, |(_, since)| *since);
        let known = self.last.as_ref().is_some_and(|(before, _)| before.fault == failure.fault);
        self.last = Some((failure.clone(), since));
        (!known).then(|| RefreshTransition::Failing(failure.clone()))
    }

    pub(super) fn recover(&mut self) -> Option<RefreshTransition> {
        std::mem::take(self).last.map(|(_, since)| RefreshTransition::Recovered(since))
    }

    /// Whether the last failure was one of the OAuth client.
    pub(super) fn is_of_client(&self) -> bool {
        let fault = self.last.as_ref().map(|(failure, _)| failure.fault);
        fault.is_some_and(|fault| fault == RefreshFault::Client || fault.is_refusal_of_client())
    }

    /// Ends the pause, unless the server stated it.
    pub(super) fn lift(&mut self) {
        if !self.stated {
            self.rest = None;
        }
    }
}
