//! What an upstream answered, learnt: by holders that report it, and by the gateway that heard it itself.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::limits::{self, Classification, Headers, Reason, UpstreamResponse, Verdict};
use crate::pool::{
    AccountId, Action, Command, Decision, Fence, Now, Refusal, RefusalDetails, Reply, RequestNeeds, RequestOutcome,
    Usage, Wall,
};

use crate::daemon::state::{Daemon, State, Unsaved};

/// What a holder heard.
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
    /// Somebody's own word for it: for this reason, with this wait. No answer at all is `server_error`.
    Told {
        /// Why.
        reason: Reason,
        /// The wait that was stated.
        wait: Option<Duration>,
    },
}

/// What it came to.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportOutcome {
    /// What the holder does next; with `Switch` its lease has ended, and the new one is held and kept.
    pub decision: Decision,
    /// What the answer was understood as, unless it was no refusal.
    pub verdict: Option<Verdict>,
}

impl UpstreamOutcome<'_> {
    /// What it means, by the words of this provider. Not to be done under the lock: a body can be long.
    pub(crate) fn read(self, provider: &str, now: Wall) -> Classification {
        match self {
            Self::Response { status, headers, body } => {
                limits::classify(&UpstreamResponse { provider, status, headers, body, now: now.0 })
            }
            Self::Event { headers, name, data } => {
                let response = UpstreamResponse { provider, status: 200, headers, body: data, now: now.0 };
                // the windows were learnt when the stream began
                Classification { verdict: limits::classify_event(&response, name), windows: Vec::new() }
            }
            Self::Told { .. } => Classification::default(),
        }
    }
}

impl Daemon {
    /// Learns what an upstream answered to a request on a lease, and decides what its holder does next; `reading` is
    /// what [`UpstreamOutcome::read`] made of it, `need` says how the request used the lease, if that was its own way. What must
    /// be kept before the holder hears of it is for the caller.
    pub(crate) fn learn(
        &self,
        state: &mut State,
        now: Now,
        (lease, need): (Fence, Option<&RequestNeeds>),
        heard: UpstreamOutcome<'_>,
        reading: Classification,
    ) -> (Result<ReportOutcome, Refusal>, Unsaved) {
        let Some(held) = state.pool.lease(lease) else {
            return self.report(state, now, (lease, need), RequestOutcome::Ok, None);
        };
        let quota = need.map_or(&held.target, |need| &need.target).quota();
        let (account, usage) = (held.account, Usage::read(&reading.windows, quota, now.wall));
        self.learn_usage(state, now, account, usage);
        let finding = match (heard, &reading.verdict) {
            (UpstreamOutcome::Told { reason, wait }, _) => RefusalDetails::reported(reason, wait),
            (_, Some(verdict)) => RefusalDetails::read(verdict),
            (UpstreamOutcome::Response { status: 200..=299, .. }, None) => {
                return self.report(state, now, (lease, need), RequestOutcome::Ok, None);
            }
            // neither a success nor a failure
            (_, None) => return (Ok(ReportOutcome { decision: GO_ON, verdict: None }), Unsaved::new()),
        };
        let finding = RefusalDetails { renewable: state.can_renew(account, now), ..finding };
        if finding.reason == Reason::AuthFailed && state.has_newer_token(lease, now) {
            // it was refused with an older token than there is: with the newer one, at once
            let (reason, scope) = (Some(finding.reason), Some(finding.reason.scope()));
            let decision = Decision { action: Action::Retry, after: Duration::ZERO, reason, scope, lease: None };
            return (Ok(ReportOutcome { decision, verdict: reading.verdict }), Unsaved::new());
        }
        self.report(state, now, (lease, need), RequestOutcome::Refused(Box::new(finding)), reading.verdict)
    }

    /// Takes in what is known of an account's quota.
    pub(crate) fn learn_usage(&self, state: &mut State, now: Now, account: AccountId, usage: Usage) {
        if !usage.is_empty() {
            self.apply_unasked(state, now, Command::LearnUsage(account, usage));
        }
    }

    fn report(
        &self,
        state: &mut State,
        now: Now,
        (fence, need): (Fence, Option<&RequestNeeds>),
        outcome: RequestOutcome,
        verdict: Option<Verdict>,
    ) -> (Result<ReportOutcome, Refusal>, Unsaved) {
        let command = match need {
            Some(need) => Command::ReportOf { fence, outcome, need: Box::new(need.clone()) },
            None => Command::Report { fence, outcome },
        };
        let (reply, unsaved) = self.apply(state, now, command);
        let decision = |reply| match reply {
            Reply::Decision(decision) => decision,
            Reply::Held(_) | Reply::Queued(_) | Reply::Done => GO_ON,
        };
        (reply.map(|reply| ReportOutcome { decision: decision(reply), verdict }), unsaved)
    }

    /// Waits until it is on disk, or cannot be: a lease is safe in memory as long as we live.
    pub(crate) async fn saved(&self, mut unsaved: Unsaved) {
        let Some(last) = unsaved.pop() else { return };
        for write in unsaved {
            self.store.write(write, None);
        }
        let (done, is_done) = oneshot::channel();
        // whoever waits for it may have gone
        self.store.write(last, Some(Box::new(move |result| drop(done.send(result)))));
        if let Ok(Err(error)) = is_done.await {
            tracing::warn!("what a report changed is not kept: {error}");
        }
    }
}

const GO_ON: Decision =
    Decision { action: Action::Continue, after: Duration::ZERO, reason: None, scope: None, lease: None };
