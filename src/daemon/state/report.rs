//! Upstream responses, reported by holders or seen by the gateway: what they mean for the pool.

use std::time::Duration;

use super::{State, Unsaved};
use crate::limits::{self, Classification, Headers, Reason, UpstreamResponse, Verdict};
use crate::pool::{
    AccountId, Action, Command, Decision, Fence, Now, Refusal, RefusalDetails, Reply, RequestNeeds, RequestOutcome,
    Usage, Wall,
};

/// What came back from an upstream.
#[derive(Clone, Copy, Debug)]
pub enum UpstreamOutcome<'a> {
    /// A response; of one that succeeded the body may be left out.
    Response {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: &'a Headers,
        /// The body or its beginning.
        body: &'a [u8],
    },
    /// An event of a stream that had begun well.
    Event {
        /// The response's headers.
        headers: &'a Headers,
        /// The event's name, if it has one.
        name: Option<&'a str>,
        /// The event's data.
        data: &'a [u8],
    },
    /// A reason and a wait in the holder's own words; no answer at all is `server_error`.
    Stated {
        /// Why.
        reason: Reason,
        /// The wait that was stated.
        wait: Option<Duration>,
    },
}

/// The result of a report.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportOutcome {
    /// What the holder does next; with `Switch` its lease has ended, and the new one is granted.
    pub decision: Decision,
    /// How the response was classified, if it was a refusal.
    pub verdict: Option<Verdict>,
}

impl UpstreamOutcome<'_> {
    /// Classifies it for this provider. Not to be called under the lock: a body can be long.
    pub(crate) fn classify(self, provider: &str, now: Wall) -> Classification {
        match self {
            Self::Response { status, headers, body } => {
                limits::classify(&UpstreamResponse { provider, status, headers, body, now: now.0 })
            }
            Self::Event { headers, name, data } => {
                let response = UpstreamResponse { provider, status: 200, headers, body: data, now: now.0 };
                // the windows were read when the stream began
                Classification { verdict: limits::classify_event(&response, name), ..Classification::default() }
            }
            Self::Stated { .. } => Classification::default(),
        }
    }
}

impl State {
    /// Learns from the response to a request on a lease, and decides what its holder does next. `classified` is what
    /// [`UpstreamOutcome::classify`] made of it; `needs` says how the request used the lease, if in a way of its own.
    pub(crate) fn report(
        &mut self,
        now: Now,
        (lease, needs): (Fence, Option<&RequestNeeds>),
        outcome: UpstreamOutcome<'_>,
        classified: Classification,
    ) -> Unsaved<Result<ReportOutcome, Refusal>> {
        let Some(held) = self.pool.lease(lease) else {
            return self.apply_report(now, (lease, needs), RequestOutcome::Ok, None);
        };
        let quota = needs.map_or(&held.target, |needs| &needs.target).quota();
        let (account, usage) = (held.account, Usage::read(&classified.windows, quota, now.wall));
        self.learn_usage(now, account, usage);
        let details = match (outcome, &classified.verdict) {
            (UpstreamOutcome::Stated { reason, wait }, _) => RefusalDetails::reported(reason, wait),
            (_, Some(verdict)) => RefusalDetails::read(verdict),
            (UpstreamOutcome::Response { status: 200..=299, .. }, None) => {
                self.credential_accepted(account, now);
                return self.apply_report(now, (lease, needs), RequestOutcome::Ok, None);
            }
            // neither a success nor a failure
            (_, None) => {
                return Unsaved::nothing_to_save(Ok(ReportOutcome { decision: CONTINUE, verdict: None }));
            }
        };
        if details.reason == Reason::AuthFailed && self.has_newer_token(lease, now) {
            // an older token was refused than there is: retry at once with the newer one
            let (reason, scope) = (Some(details.reason), Some(details.reason.scope()));
            let decision = Decision { action: Action::Retry, after: Duration::ZERO, reason, scope, lease: None };
            return Unsaved::nothing_to_save(Ok(ReportOutcome { decision, verdict: classified.verdict }));
        }
        let details = RefusalDetails { renewable: self.logins.plan.can_refresh(account, now), ..details };
        self.apply_report(now, (lease, needs), RequestOutcome::Refused(Box::new(details)), classified.verdict)
    }

    /// Records what is known of an account's quota.
    pub(crate) fn learn_usage(&mut self, now: Now, account: AccountId, usage: Usage) {
        if !usage.is_empty() {
            self.apply_internal(now, Command::LearnUsage(account, usage));
        }
    }

    fn apply_report(
        &mut self,
        now: Now,
        (fence, needs): (Fence, Option<&RequestNeeds>),
        outcome: RequestOutcome,
        verdict: Option<Verdict>,
    ) -> Unsaved<Result<ReportOutcome, Refusal>> {
        let command = match needs {
            Some(needs) => Command::ReportOf { fence, outcome, need: Box::new(needs.clone()) },
            None => Command::Report { fence, outcome },
        };
        let decision = |reply| match reply {
            Reply::Decision(decision) => decision,
            Reply::Held(_) | Reply::Queued(_) | Reply::Done => CONTINUE,
        };
        self.apply(now, command).map(|reply| reply.map(|reply| ReportOutcome { decision: decision(reply), verdict }))
    }
}

const CONTINUE: Decision =
    Decision { action: Action::Continue, after: Duration::ZERO, reason: None, scope: None, lease: None };
