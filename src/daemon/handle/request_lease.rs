//! The lease that a request uses: how its outcome is reported, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use super::{GatewayHandle, no_account::NoAccount};
use crate::daemon::many_hosts::seats::RequestSeats;
use crate::daemon::os::clock;
use crate::daemon::state::{AccountInFlight, CredentialUse, ReportOutcome, SavedSignal, Served, UpstreamOutcome};
use crate::limits::{Classification, Headers, Verdict};
use crate::pool::{AccountId, Command, CredentialKind, Fence, Mono, Process, RequestNeeds};
use crate::protocol::AccountLabel;
use crate::{credential::Secret, provider::TargetError};

/// A success is reported with the release of its lease, unless the response takes longer than this.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// A status that is neither a success nor a refusal.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Why a request gets no lease.
#[derive(Clone, PartialEq, Debug)]
pub enum NoLeaseReason {
    /// It names an unknown provider or pool.
    Bad(TargetError),
    /// The lease of its key has ended.
    Gone,
    /// No account can serve it.
    Refused(Box<NoAccount>),
}

/// A refusal that was not reported, because its lease had ended.
#[derive(Clone, PartialEq, Debug)]
pub struct UnreportedRefusal {
    /// How it was classified.
    pub verdict: Option<Verdict>,
}

/// An account, and a copy of its credential.
#[derive(Debug)]
pub struct LeasedAccount {
    /// Its id.
    pub id: AccountId,
    /// Which kind of credential the provider takes it as.
    pub kind: CredentialKind,
    /// Whether it is a login, whose token can be refreshed.
    pub is_login: bool,
    /// Whether it is a login for the provider's public API.
    pub is_direct: bool,
    /// The key or token.
    pub secret: Secret,
    /// The vendor's own id of the account.
    pub vendor_id: Option<String>,
    /// Its cloud project, if the request names that of another account.
    pub project: Option<String>,
    /// No other account can serve the request.
    pub is_only: bool,
    /// It believes what agents state: a program that is another one is noted.
    pub(super) is_declared: bool,
    /// The agent that uses it.
    pub agent: Option<Arc<str>>,
    /// The request, as one of those that are under way on it.
    pub in_flight: Option<Arc<AccountInFlight>>,
    /// The seats of this host, if other hosts use the account, too. They are looked at before each attempt.
    pub seats: Option<RequestSeats>,
    /// The lease that the request uses.
    pub lease: Box<ServingLease>,
}

/// What is recorded of the lease that a request uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServingLease {
    /// Its id, until the record of the request takes it.
    pub id: String,
    /// The label that the holder chose, or that of the gateway's key.
    pub label: Option<Arc<str>>,
    /// The account's id and what people call it.
    pub account: Arc<AccountLabel>,
    /// The quota pool, for providers with several.
    pub pool: Option<Arc<str>>,
    /// Its holder.
    pub process: Option<Process>,
}

/// A lease that a request uses; one that was acquired for this request alone is released on drop.
#[derive(Debug)]
pub struct RequestLease {
    pub(super) handle: GatewayHandle,
    pub(super) fence: Fence,
    pub(super) needs: Arc<RequestNeeds>,
    /// It was acquired for this request alone.
    pub(super) ends_with_request: bool,
    /// The session that the request belongs to.
    pub(super) session: Option<Arc<str>>,
    /// The ids of what the response has created.
    pub(super) created_ids: Vec<String>,
    pub(super) response: Option<BegunResponse>,
    /// The request, as one of those that are under way on the lease's account.
    pub(super) in_flight: Option<Arc<AccountInFlight>>,
}

/// A response whose body is on its way to the client.
#[derive(Debug)]
pub(super) struct BegunResponse {
    status: u16,
    headers: Headers,
    began: Mono,
    is_reported: bool,
}

impl BegunResponse {
    fn outcome(&self) -> UpstreamOutcome<'_> {
        UpstreamOutcome::Response { status: self.status, headers: &self.headers, body: &[] }
    }
}

impl LeasedAccount {
    /// Its label, or else its id.
    #[must_use]
    pub fn name(&self) -> &str {
        let AccountLabel { label, id, .. } = &*self.lease.account;
        label.as_deref().unwrap_or(id)
    }
}

impl Drop for RequestLease {
    fn drop(&mut self) {
        if self.ends_with_request {
            let _no_event = self.report_all(None, Some(Command::Release(self.fence)));
        }
    }
}

impl RequestLease {
    /// Reports a refusal or a failure, and returns what to do next; a lease that was moved is replaced.
    ///
    /// # Errors
    /// When another request or the holder has ended the lease meanwhile: nothing is reported.
    pub async fn report(mut self, outcome: UpstreamOutcome<'_>) -> Result<(ReportOutcome, Self), UnreportedRefusal> {
        let daemon = self.handle.daemon.clone();
        let classified = outcome.classify(&self.needs.target.provider, clock::now().wall);
        let verdict = classified.verdict.clone();
        if let Some(in_flight) = &self.in_flight {
            verdict.iter().for_each(|verdict| in_flight.refused(verdict.reason));
        }
        self.not_under_way();
        let report = {
            let state = &mut *self.handle.state();
            state.report(clock::now(), (self.fence, Some(&self.needs)), outcome, classified)
        };
        let moved_to = report.peek().as_ref().ok().and_then(|report| report.decision.lease);
        if let Some(moved_to) = moved_to {
            self.fence = moved_to;
        }
        // the client learns of the refusal, or of what another request has learnt
        let report = daemon.saved(report.or_at_least(daemon.unsaved())).await;
        report.map(|report| (report, self)).map_err(|_| UnreportedRefusal { verdict })
    }

    /// Whether it was acquired for this request alone.
    #[must_use]
    pub fn ends_with_request(&self) -> bool {
        self.ends_with_request
    }

    /// The request is not under way on the lease's account any more.
    pub(super) fn not_under_way(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.end();
        }
    }

    /// Notes that a response has begun. A success on a holder's lease is reported at once, one on a lease that ends
    /// with the request together with the release.
    pub fn response_began(&mut self, status: u16, headers: Headers) {
        let is_reported = !(200..300).contains(&status);
        if let Some(in_flight) = self.in_flight.as_ref().filter(|_| !is_reported) {
            in_flight.served();
        }
        self.response = Some(BegunResponse { status, headers, began: clock::now().mono, is_reported });
        if !self.ends_with_request {
            let _no_event = self.report_all(None, None);
        }
    }

    /// Reports what headers say of the account's quota, apart from a success or a refusal.
    pub fn report_limits(&self, headers: &Headers) {
        let outcome = UpstreamOutcome::Response { status: SWITCHING_PROTOCOLS, headers, body: &[] };
        let classified = outcome.classify(&self.needs.target.provider, clock::now().wall);
        if !classified.windows.is_empty() {
            let state = &mut *self.handle.state();
            let _continues =
                state.report(clock::now(), (self.fence, Some(&self.needs)), outcome, classified).no_answer();
        }
    }

    /// Notes the ids of what the response has created, before it is reported.
    pub fn created(&mut self, ids: Vec<String>) {
        self.created_ids = ids;
    }

    /// Reports a success that has waited for long enough for its response to end.
    pub fn report_if_late(&mut self) {
        let unreported = self.response.as_ref().filter(|response| !response.is_reported);
        if unreported.is_some_and(|response| clock::now().mono.since(response.began) >= REPORT_DELAY) {
            let _no_event = self.report_all(None, None);
        }
    }

    /// Reports an error event in the middle of a stream. The event says what was learnt from it, so it is for the client
    /// when that is saved: `None` if it is already.
    pub fn report_event(&mut self, name: Option<&str>, data: &[u8]) -> (Option<ReportOutcome>, Option<SavedSignal>) {
        let outcome = self.report_all(Some((name, data)), None);
        (outcome, self.handle.daemon.when_all_saved())
    }

    /// Reports the success, then an event, then applies a command, under one lock; returns what the event has led to.
    fn report_all(&mut self, event: Option<(Option<&str>, &[u8])>, last: Option<Command>) -> Option<ReportOutcome> {
        let response = self.response.as_ref();
        let success = response.filter(|response| !response.is_reported).map(BegunResponse::outcome);
        let event = event.zip(response).map(|((name, data), response)| UpstreamOutcome::Event {
            headers: &response.headers,
            name,
            data,
        });
        let has_served = success.is_some();
        if last.is_none() && event.is_none() && !has_served {
            return None;
        }
        let classify = |outcome: UpstreamOutcome<'_>| {
            if outcome.is_bare_success() {
                return Classification::default();
            }
            outcome.classify(&self.needs.target.provider, clock::now().wall)
        };
        let outcomes = [success, event].map(|outcome| outcome.map(|outcome| (outcome, classify(outcome))));
        let mut of_event = None;
        let state = &mut *self.handle.state();
        let now = clock::now();
        if has_served {
            let created = self.created_ids.iter().map(|id| Served::Stored(id));
            let served = self.session.as_deref().map(Served::Session).into_iter().chain(created);
            state.note_served(self.fence, served, now.mono);
        }
        for (outcome, classified) in outcomes.into_iter().flatten() {
            let lease = (self.fence, Some(&self.needs));
            let is_event = matches!(outcome, UpstreamOutcome::Event { .. });
            if let (Some(in_flight), Some(verdict)) = (&self.in_flight, &classified.verdict) {
                in_flight.refused(verdict.reason);
            }
            match state.report(now, lease, outcome, classified).no_answer() {
                Ok(report) => of_event = is_event.then_some(report).or(of_event),
                Err(refusal) => {
                    let write = move || tracing::debug!("a response ended after its lease: {}", refusal.message);
                    state.log.push(write);
                }
            }
        }
        if let Some(command) = last {
            state.apply_internal(now, command);
        }
        if let Some(response) = &mut self.response {
            response.is_reported = true;
        }
        of_event
    }

    /// Has a rejected credential refreshed, waiting at most `wait`; returns whether there is a new one. In a row of
    /// refusals that happens once.
    pub async fn refresh(&self, rejected: &LeasedAccount, wait: Duration) -> bool {
        let is_new = || {
            let current = self.handle.state().credentials.get(rejected.id).map(|of| of.access != rejected.secret);
            current == Some(true)
        };
        // it may have been refreshed by its own tool, or for another request
        if is_new() {
            return true;
        }
        if !self.handle.state().pool.may_renew(rejected.id, clock::now()) {
            return false;
        }
        let refreshed = self.handle.daemon.fresh_credential(self.fence, CredentialUse::Replace, |_, _, _| ());
        let is_refreshed = matches!(tokio::time::timeout(wait, refreshed).await, Ok(Ok(_))) && is_new();
        if is_refreshed {
            self.handle.state().apply_internal(clock::now(), Command::NoteRenewal(rejected.id));
        }
        is_refreshed
    }
}
