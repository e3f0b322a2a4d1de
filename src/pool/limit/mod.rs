//! Limits: an account cannot serve a quota key until a time.

pub(crate) mod apply;
pub(crate) mod limits;
pub(crate) mod phase;
mod probe;

use crate::limits::{Reason, Scope};
use crate::pool::model::{AccountId, Deadline, Fence, LimitSource, Mono, Now, Quota, Wall};
use phase::{LONG, PROBE_PATIENCE, PROBE_WITHIN, Phase, ProbeDuty, RAMP};
use std::time::Duration;

/// How far the converted times of another host's clock may be off.
const CLOCK_ERROR: Duration = Duration::from_secs(1);

/// An account cannot serve this key until a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The quota key, or the model within it; empty when the scope is the account.
    pub key: String,
    /// How far it reaches: model, pool or account.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Deadline,
    /// Who stated the time.
    pub source: LimitSource,
    /// When it was set; for an account that is refused again and again, when it was refused first.
    pub since: Wall,
    /// A short quotation of the upstream's answer.
    pub evidence: Option<Box<str>>,
    /// A page where the user can resolve it.
    pub link: Option<Box<str>>,
    /// Whether a single probe tests the account when its time is over.
    pub(crate) probed: bool,
    pub(crate) phase: Phase,
}

/// A limit as the store keeps it: on the wall clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRecord {
    /// The account.
    pub account: AccountId,
    /// The quota key, or the model within it.
    pub key: String,
    /// How far it reaches.
    pub scope: Scope,
    /// Why.
    pub reason: Reason,
    /// Until when.
    pub until: Wall,
    /// Who stated the time.
    pub source: LimitSource,
    /// When it was set; earlier versions did not save it.
    pub since: Option<Wall>,
    /// A short quotation of the upstream's answer.
    pub evidence: Option<Box<str>>,
    /// A page where the user can resolve it.
    pub link: Option<Box<str>>,
}

impl LimitRecord {
    /// Whether a single probe tests the account when its time is over. Each host that knows the limit says the same.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        is_probed(self.scope, self.reason, self.since.unwrap_or(self.until), self.until)
    }
}

fn is_probed(scope: Scope, reason: Reason, since: Wall, until: Wall) -> bool {
    until.since(since) >= LONG || is_denial(scope, reason)
}

fn is_denial(scope: Scope, reason: Reason) -> bool {
    scope == Scope::Account && matches!(reason, Reason::AuthFailed | Reason::Forbidden)
}

/// The key of a limit on one model.
#[must_use]
pub fn model_key(quota_key: &str, model: &str) -> String {
    format!("{quota_key}:{model}")
}

impl Limit {
    /// A new limit.
    #[must_use]
    pub fn new(scope: Scope, key: impl Into<String>, reason: Reason, until: Deadline, source: LimitSource) -> Self {
        Self {
            key: key.into(),
            scope,
            reason,
            until,
            source,
            since: Wall::default(),
            evidence: None,
            link: None,
            probed: false,
            phase: Phase::CLOSED,
        }
    }

    /// Whether the provider refuses the account or its credential, not only its quota.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        is_denial(self.scope, self.reason)
    }

    /// Whether the account may not use this model at all, whatever is left of its quota.
    #[must_use]
    pub fn is_missing_model(&self) -> bool {
        self.scope == Scope::Model && matches!(self.reason, Reason::Forbidden | Reason::RequestRejected)
    }

    /// Whether this limit applies to `quota`.
    pub fn blocks(&self, quota: Quota<'_>) -> bool {
        match self.scope {
            Scope::Account => true,
            Scope::Pool => self.key == quota.key,
            Scope::Model => self.key.len() > quota.key.len() && quota.is_under(&self.key),
            Scope::Request | Scope::Service => false,
        }
    }

    /// Whether `newer`, of the same scope and key, replaces this limit (I8): a guessed wait never replaces a server's
    /// word that still holds, whichever is longer, and the longest stated one wins. A stated wait, by a server or in a
    /// holder's report, replaces every guess; of two guesses the longer one wins.
    pub fn yields_to(&self, newer: &Self, now: Now) -> bool {
        let strength = |limit: &Self| (limit.source.is_stated(), limit.until.mono(now));
        // one that recovers was over before, also if the clock was set back since
        self.is_recovering() || self.until.passed(now) || strength(newer) > strength(self)
    }

    /// Whether it was set before this time. One whose own time is yet to come was set before the clock was set back.
    #[must_use]
    pub fn was_set_before(&self, time: Wall, now: Wall) -> bool {
        self.since < time || self.since > now.after(CLOCK_ERROR)
    }

    /// Whether it blocks requests now.
    pub fn holds(&self, now: Now) -> bool {
        match self.phase {
            Phase::Closed { .. } => !self.until.passed(now),
            Phase::Awaiting { duty, .. } => {
                matches!(duty, ProbeDuty::Unreachable | ProbeDuty::Elsewhere { .. })
            }
            Phase::HalfOpen { probe, .. } => probe.is_some(),
            Phase::Ramp { since, admitted } => admitted >= Phase::allowed(since, now.mono),
        }
    }

    pub(crate) fn admits(&self, now: Now) -> u32 {
        match self.phase {
            Phase::Closed { .. } if self.until.passed(now) && self.probed => 1,
            Phase::Closed { .. } if self.until.passed(now) => RAMP,
            Phase::Closed { .. } => 0,
            Phase::Awaiting { .. } => u32::from(!self.holds(now)),
            Phase::HalfOpen { probe, .. } => u32::from(probe.is_none()),
            Phase::Ramp { since, admitted } => Phase::allowed(since, now.mono).saturating_sub(admitted),
        }
    }

    /// When it admits the next request, where that is known: not while a probe is under way.
    pub fn opens_at(&self) -> Option<Deadline> {
        match self.phase {
            Phase::Closed { .. } => Some(self.until),
            Phase::Awaiting { .. } | Phase::HalfOpen { .. } => None,
            Phase::Ramp { since, admitted } => Some(Deadline::Mono(Phase::next_admission(since, admitted))),
        }
    }

    /// The lease that probes whether it is over.
    pub fn probe(&self) -> Option<Fence> {
        match self.phase {
            Phase::HalfOpen { probe, .. } => probe.map(|probe| probe.fence),
            Phase::Closed { .. } | Phase::Awaiting { .. } | Phase::Ramp { .. } => None,
        }
    }

    /// Whether this host must ask the other hosts before a request probes whether it is over.
    pub(crate) fn awaits_duty(&self) -> bool {
        matches!(self.phase, Phase::Awaiting { .. })
    }

    /// Whether a probe is under way, here or on another host.
    pub(crate) fn is_probed_now(&self) -> bool {
        self.probe().is_some() || self.awaits_duty()
    }

    /// Whether it admits nothing yet.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// Whether its time is over, and it only slows down the return of requests.
    pub fn is_recovering(&self) -> bool {
        !self.is_closed()
    }

    /// Whether the store keeps it: a ramping limit has ended.
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.phase, Phase::Ramp { .. })
    }

    pub(crate) fn next_change(&self, now: Mono) -> Option<Deadline> {
        match self.phase {
            Phase::Closed { .. } => Some(self.until),
            Phase::Awaiting { duty, .. } => match duty {
                ProbeDuty::Claiming { until } | ProbeDuty::Elsewhere { until } => Some(Deadline::Mono(until)),
                ProbeDuty::Unreachable | ProbeDuty::Free | ProbeDuty::Wanted => None,
            },
            Phase::HalfOpen { probe: Some(probe), .. } => Some(Deadline::Mono(probe.since.after(PROBE_PATIENCE))),
            Phase::HalfOpen { probe: None, duty_since } => {
                duty_since.map(|since| Deadline::Mono(since.after(PROBE_WITHIN)))
            }
            Phase::Ramp { since, admitted } => {
                let next = Some(Phase::next_admission(since, admitted)).filter(|at| *at > now);
                Some(Deadline::Mono(next.unwrap_or(Phase::ramp_end(since))))
            }
        }
    }

    pub(crate) fn is_of(&self, scope: Scope, key: &str) -> bool {
        self.scope == scope && self.key == key
    }

    pub(crate) fn record(&self, account: AccountId, now: Now) -> LimitRecord {
        LimitRecord {
            account,
            key: self.key.clone(),
            scope: self.scope,
            reason: self.reason,
            until: self.until.wall(now),
            source: self.source,
            since: Some(self.since),
            evidence: self.evidence.clone(),
            link: self.link.clone(),
        }
    }
}
