//! Forwards one request: leases an account, sends the request, and after a refusal tries the next account, until a
//! response can go to the client.

use std::{sync::Arc, time::Duration};

use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::attempt::{self, AttemptOutcome, UpstreamRefusal};
use super::response::{self, ClientBody, ResponseObserver};
use super::{metrics::MetricsRecorder, refusal, request::RequestParts, upstream::UpstreamClients};
use crate::daemon::{
    GatewayClient, GatewayHandle, LeaseStep, LeasedAccount, NoLeaseReason, ReportOutcome, RequestLease, RouteRequest,
    UpstreamOutcome, clock,
};
use crate::limits::{Headers, Reason, Scope};
use crate::pool::{Action, CredentialKind, Refusal, RefusalKind};

/// How long lessor may delay a request before an upstream responds: the most impatient agent gives up after 60 s.
const MAX_DELAY: Duration = Duration::from_secs(50);
/// The first pause after a failure of the service; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// More attempts than this are a loop.
const MAX_ATTEMPTS: u32 = 100;

const X_LESSOR_ACCOUNT: HeaderName = HeaderName::from_static("x-lessor-account");
const X_LESSOR_ATTEMPTS: HeaderName = HeaderName::from_static("x-lessor-attempts");

#[derive(Debug)]
pub(super) struct Backend {
    pub(super) handle: GatewayHandle,
    pub(super) upstreams: UpstreamClients,
    pub(super) metrics: Arc<MetricsRecorder>,
}

pub(super) struct Forward<'a> {
    backend: &'a Backend,
    client: &'a GatewayClient,
    request: RequestParts,
    /// How often a failing service is tried.
    max_service_attempts: u32,
    deadline: Instant,
    attempts: u32,
    /// Failures that no account caused.
    service_failures: u32,
    /// A credential was refreshed for this request: that happens once.
    has_refreshed: bool,
}

enum NextStep {
    /// Another attempt; with the lease that the request has.
    Retry(Option<RequestLease>),
    Respond(Response<ClientBody>),
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        backend: &'a Backend,
        client: &'a GatewayClient,
        request: RequestParts,
        max_service_attempts: u32,
    ) -> Self {
        let (deadline, attempts, service_failures, has_refreshed) = (now() + MAX_DELAY, 0, 0, false);
        Self { backend, client, request, max_service_attempts, deadline, attempts, service_failures, has_refreshed }
    }

    pub(super) async fn run(mut self) -> Response<ClientBody> {
        let mut held = None;
        loop {
            let (lease, account) = match self.lease(held).await {
                Ok(leased) => leased,
                Err(response) => return *response,
            };
            self.attempts += 1;
            let outcome = match attempt::send(&self.backend.upstreams, &mut self.request, &account).await {
                Ok(outcome) => outcome,
                Err(message) => return self.error(StatusCode::BAD_GATEWAY, &message),
            };
            let next = match outcome {
                AttemptOutcome::Response(head, first, rest) => {
                    return self.respond(lease, &account.name, *head, first, rest);
                }
                AttemptOutcome::Refused(refused) => self.refused(lease, &account, *refused).await,
                AttemptOutcome::Failed(reason) => self.failed(lease, &account.name, &reason).await,
            };
            held = match next {
                NextStep::Retry(held) => held,
                NextStep::Respond(response) => return response,
            };
        }
    }

    fn provider(&self) -> &str {
        &self.request.route.provider
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(now())
    }

    fn may_retry(&self) -> bool {
        self.request.buffered.can_be_sent() && self.attempts < MAX_ATTEMPTS && !self.time_left().is_zero()
    }

    /// Leases an account that can serve the request, waiting for one if there is time.
    async fn lease(
        &mut self,
        mut held: Option<RequestLease>,
    ) -> Result<(RequestLease, LeasedAccount), Box<Response<ClientBody>>> {
        loop {
            let parts = &self.request;
            let request = RouteRequest {
                provider: &parts.route.provider,
                model: parts.model.as_deref(),
                pool: parts.pool,
                kinds: parts.route.kinds,
                session: parts.buffered.session.as_deref(),
                connection: parts.connection,
            };
            let response = match self.backend.handle.lease(self.client, &request, held, self.time_left()).await {
                Ok(LeaseStep::Leased(lease, account)) => {
                    self.request.labels.agent = account.agent.as_deref().unwrap_or_default().to_owned();
                    return Ok((lease, account));
                }
                Ok(LeaseStep::Wait(after, before)) => {
                    held = before;
                    self.pause(after).await;
                    continue;
                }
                Err(NoLeaseReason::Gone) => refusal::unauthorized(self.provider()),
                Err(NoLeaseReason::Bad(error)) => self.error(StatusCode::BAD_REQUEST, &format!("lessor: {error}")),
                Err(NoLeaseReason::Refused(refusal)) => self.no_account(&refusal),
            };
            return Err(Box::new(response));
        }
    }

    /// Waits until the time is over or the pool has changed.
    async fn pause(&self, after: Duration) {
        let after = after.min(self.time_left()).max(Duration::from_millis(1));
        tokio::select! {
            () = sleep(after) => {}
            () = self.backend.handle.pool_changed() => {}
        }
    }

    fn respond(
        self,
        mut lease: RequestLease,
        account_name: &str,
        head: Parts,
        first: Vec<Bytes>,
        rest: Incoming,
    ) -> Response<ClientBody> {
        lease.response_began(head.status.as_u16(), limit_headers(&head.headers));
        let (metrics, labels) = (self.backend.metrics.clone(), self.request.labels.clone());
        let observer = ResponseObserver::new(&head, metrics, labels, account_name, lease);
        self.sign(response::relay(head, first, rest, observer), Some(account_name))
    }

    /// Adds the headers that name the account and the number of attempts.
    fn sign(&self, mut response: Response<ClientBody>, account: Option<&str>) -> Response<ClientBody> {
        let headers = response.headers_mut();
        if let Some(account) = account.and_then(|account| HeaderValue::from_str(account).ok()) {
            headers.insert(X_LESSOR_ACCOUNT, account);
        }
        headers.insert(X_LESSOR_ATTEMPTS, self.attempts.into());
        response
    }

    async fn refused(&mut self, lease: RequestLease, account: &LeasedAccount, refused: UpstreamRefusal) -> NextStep {
        let is_login = account.kind == CredentialKind::Oauth;
        let is_unauthorized = refused.head.status == StatusCode::UNAUTHORIZED;
        if is_login && is_unauthorized && !self.has_refreshed && self.request.buffered.can_be_sent() {
            self.has_refreshed = true;
            if lease.refresh(account, self.time_left()).await {
                return NextStep::Retry(Some(lease));
            }
        }
        let name = &account.name;
        let headers = limit_headers(&refused.head.headers);
        let (report, lease) = match lease.report(refused.report(&headers)).await {
            Ok((report, lease)) => (report, Some(lease)),
            // another request of the same holder has moved the lease: that account can serve this one too
            Err(_) if self.may_retry() => return NextStep::Retry(None),
            Err(_) => return self.relay_refusal(None, name, refused),
        };
        let reason = report.decision.reason.map_or("none", Reason::name);
        self.backend.metrics.attempt_failed(&self.request.labels, name, reason);
        let decision = &report.decision;
        match decision.action {
            Action::Stop if decision.scope != Some(Scope::Request) => self.exhausted(&report),
            Action::Switch if self.may_retry() => NextStep::Retry(lease),
            Action::Retry | Action::Wait if decision.scope == Some(Scope::Service) => {
                let stated = report.verdict.as_ref().and_then(|verdict| verdict.wait);
                if self.service_pause(stated).await {
                    NextStep::Retry(lease)
                } else {
                    self.relay_refusal(lease, name, refused)
                }
            }
            Action::Retry | Action::Wait if self.may_retry() => {
                if decision.after > self.time_left() {
                    return self.exhausted(&report);
                }
                if decision.action == Action::Wait {
                    self.pause(decision.after).await;
                } else {
                    // the same account must not be tried before this time
                    sleep(decision.after).await;
                }
                NextStep::Retry(lease)
            }
            Action::Continue | Action::Stop | Action::Switch | Action::Retry | Action::Wait => {
                self.relay_refusal(lease, name, refused)
            }
        }
    }

    /// Waits before a failing service is tried again; returns whether it may be.
    async fn service_pause(&mut self, stated: Option<Duration>) -> bool {
        self.service_failures += 1;
        if self.service_failures >= self.max_service_attempts || !self.may_retry() {
            return false;
        }
        let pause = stated.unwrap_or(FIRST_PAUSE * (1 << (self.service_failures - 1).min(6)));
        if pause > self.time_left() {
            return false;
        }
        sleep(pause).await;
        true
    }

    /// The client gets the upstream's refusal unchanged.
    fn relay_refusal(&self, lease: Option<RequestLease>, name: &str, refused: UpstreamRefusal) -> NextStep {
        let UpstreamRefusal { head, first, rest, .. } = refused;
        let (metrics, labels) = (self.backend.metrics.clone(), self.request.labels.clone());
        let observer = ResponseObserver::of_refusal(&head, metrics, labels, name, lease);
        NextStep::Respond(self.sign(response::relay(head, first, rest, observer), Some(name)))
    }

    /// No other account is left; the message names the reason of the last refusal.
    fn exhausted(&self, report: &ReportOutcome) -> NextStep {
        let decision = &report.decision;
        let evidence = report.verdict.as_ref().map(|verdict| verdict.evidence.as_str()).unwrap_or_default();
        let reason = decision.reason.map_or("unknown", Reason::name).replace('_', " ");
        let retry_at = (!decision.after.is_zero()).then(|| clock::now().wall.after(decision.after));
        let message = format!("no {} account can serve this request: {reason} ({evidence})", self.provider());
        let refusal = Refusal { kind: RefusalKind::AllLimited, message, retry_at, accounts: Vec::new(), hint: None };
        NextStep::Respond(self.no_account(&refusal))
    }

    async fn failed(&mut self, lease: RequestLease, account_name: &str, reason: &str) -> NextStep {
        self.backend.metrics.attempt_failed(&self.request.labels, account_name, "network");
        tracing::debug!(account = account_name, "no response from {}: {reason}", self.provider());
        let outcome = UpstreamOutcome::Stated { reason: Reason::ServerError, wait: None };
        let lease = lease.report(outcome).await.ok().map(|(_, lease)| lease);
        if self.service_pause(None).await {
            return NextStep::Retry(lease);
        }
        let message = format!("lessor: no response from {}: {reason}", self.provider());
        NextStep::Respond(self.error(StatusCode::BAD_GATEWAY, &message))
    }

    fn no_account(&self, refusal: &Refusal) -> Response<ClientBody> {
        self.backend.metrics.rejected(&self.request.labels, refusal.kind);
        self.sign(refusal::no_account(self.provider(), refusal, clock::now().wall), None)
    }

    fn error(&self, status: StatusCode, message: &str) -> Response<ClientBody> {
        self.sign(refusal::error(self.provider(), status, message), None)
    }
}

/// The headers that say something about limits.
fn limit_headers(headers: &HeaderMap) -> Headers {
    Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

#[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
fn now() -> Instant {
    Instant::now()
}
