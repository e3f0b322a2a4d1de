//! Forwards one request: leases an account, sends the request, and after a refusal tries the next account, until a
//! response can go to the client.

use std::{pin::pin, sync::Arc, time::Duration};

use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{self, AttemptOutcome, UpstreamRefusal};
use super::metrics::{InFlightGuard, MetricsRecorder};
use super::record::{AttemptFailure, RequestRecorder};
use super::refusal::{self, NextRequest};
use super::response::{self, ClientBody, ObservedRequest, ResponseObserver};
use super::running_key::KeyedRequest;
use super::waiting::{KeptAnswers, RequestPatience, WaitKey, WaitingSessions, now};
use super::{request::RequestParts, upstream::UpstreamClients};
use crate::daemon::{
    GatewayClient, GatewayConfig, GatewayHandle, KeyRevoked, KeyUse, LeaseStep, LeasedAccount, NoAccount,
    NoLeaseReason, RequestLease, RouteRequest, clock,
};
use crate::limits::Headers;
use crate::pool::{AccountId, Wall};
use crate::provider;

/// How long a request waits when its provider has refused every account.
pub(super) const DENIED_WAIT: Duration = Duration::from_secs(28);
/// How often that is looked at after this time.
const DENIED_CHECK: Duration = Duration::from_secs(5);
/// A request whose lease takes longer waits for an account: a restart does not wait for it.
const ARRIVAL: Duration = Duration::from_millis(500);
/// More attempts than this are a loop.
const MAX_ATTEMPTS: u32 = 100;

const X_LESSOR_ACCOUNT: HeaderName = HeaderName::from_static("x-lessor-account");
const X_LESSOR_ATTEMPTS: HeaderName = HeaderName::from_static("x-lessor-attempts");

#[derive(Debug)]
pub(super) struct Backend {
    pub(super) handle: GatewayHandle,
    pub(super) upstreams: UpstreamClients,
    pub(super) metrics: Arc<MetricsRecorder>,
    pub(super) recorder: Arc<RequestRecorder>,
    pub(super) sessions: WaitingSessions,
    pub(super) answers: KeptAnswers,
}

pub(super) struct Forward<'a> {
    pub(super) backend: &'a Backend,
    pub(super) client: &'a GatewayClient,
    pub(super) request: RequestParts,
    /// How often a failing service is tried.
    pub(super) max_service_attempts: u32,
    pub(super) patience: RequestPatience,
    pub(super) attempts: u32,
    /// The accounts of failures that no account caused, and of a request that one kept in silence.
    pub(super) failed: Vec<AccountId>,
    pub(super) service_failures: u32,
    /// A credential was refreshed for this request: that happens once.
    pub(super) has_refreshed: bool,
    /// Only the account that it is leased can serve it.
    is_bound: bool,
}

pub(super) enum NextStep {
    /// Another attempt; with the lease that the request has.
    Retry(Option<RequestLease>),
    /// Another attempt, with this account.
    Send(RequestLease, LeasedAccount),
    /// The client gets this refusal unchanged.
    Relay(Option<RequestLease>, Box<UpstreamRefusal>),
    Respond(Response<ClientBody>),
}

/// Why a request that waits must have an answer.
enum WaitEnd {
    /// The provider has refused every account.
    Denied(Box<NoAccount>),
    /// Its client bears no longer wait.
    Due,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        backend: &'a Backend,
        client: &'a GatewayClient,
        request: RequestParts,
        config: &GatewayConfig,
    ) -> Self {
        let named = request.buffered.text.session.as_deref().map(Into::into).or_else(|| client.default_session());
        let key = WaitKey {
            provider: request.route.provider.clone(),
            model: request.model.clone(),
            session: named.unwrap_or_else(|| format!("connection:{}", request.connection.0).into()).into(),
        };
        let program = (&request.buffered.headers, request.buffered.user_agent());
        let patience = RequestPatience::new(&backend.sessions, key, config.max_rate_limit_wait, program);
        let failed = backend.sessions.silent_account(&patience.key, patience.began).into_iter().collect();
        Self {
            backend,
            client,
            request,
            max_service_attempts: config.max_attempts,
            patience,
            attempts: 0,
            failed,
            service_failures: 0,
            has_refreshed: false,
            is_bound: false,
        }
    }

    pub(super) async fn run(mut self, keyed: &mut KeyedRequest) -> Response<ClientBody> {
        keyed.key_use = match self.room_of_key().await {
            Ok(key_use) => key_use,
            Err(response) => return *response,
        };
        let mut next = if self.failed.is_empty() { NextStep::Retry(None) } else { self.elsewhere(None).await };
        loop {
            let (lease, account) = match next {
                NextStep::Send(lease, account) => (lease, account),
                NextStep::Respond(response) => return response,
                // only after an attempt, where it is relayed
                NextStep::Relay(..) => return self.error(StatusCode::BAD_GATEWAY, "lessor: the refusal was lost"),
                NextStep::Retry(held) => match self.lease(held).await {
                    Ok(leased) => leased,
                    Err(response) => return *response,
                },
            };
            self.attempts += 1;
            // until it is answered or has to wait; the response is counted by its observer
            let mut in_flight = self.backend.metrics.in_flight();
            in_flight.sent_with(&account.in_flight);
            self.request.in_flight = Some(in_flight);
            self.request.record.attempt_begins(&account);
            let outcome = match self.send(&account).await {
                Ok(outcome) => outcome,
                Err(message) => {
                    self.request.record.attempt_answered(None);
                    self.request.record.attempt_failed(AttemptFailure::not_sent(&message));
                    return self.error(StatusCode::BAD_GATEWAY, &message);
                }
            };
            self.request.record.attempt_answered(outcome.status());
            if let Some(in_flight) = &mut self.request.in_flight
                && !matches!(outcome, AttemptOutcome::Response(..))
            {
                in_flight.not_served();
            }
            next = match outcome {
                AttemptOutcome::Response(head, first, rest) => {
                    return self.respond(lease, &account, *head, first, rest);
                }
                AttemptOutcome::Refused(refused) => match self.refused(lease, &account, refused).await {
                    NextStep::Relay(lease, refused) => return self.relay_refusal(lease, &account, *refused),
                    next => next,
                },
                AttemptOutcome::TooLarge(message) => {
                    self.request.record.attempt_failed(AttemptFailure::not_sent(&message));
                    return self.error(StatusCode::PAYLOAD_TOO_LARGE, &message);
                }
                AttemptOutcome::Overloaded(message) => {
                    self.request.record.attempt_failed(AttemptFailure::not_sent(&message));
                    return self.error(StatusCode::SERVICE_UNAVAILABLE, &message);
                }
                AttemptOutcome::Failed(reason) => self.failed(lease, &account, &reason).await,
            };
        }
    }

    /// Waits until the client's key has room for the request, as long as the client bears.
    async fn room_of_key(&mut self) -> Result<Option<KeyUse>, Box<Response<ClientBody>>> {
        let mut beginning = pin!(self.client.begin());
        let at_once = tokio::select! {
            biased;
            begun = &mut beginning => Some(begun),
            () = std::future::ready(()) => None,
        };
        let begun = match at_once {
            Some(begun) => begun,
            None => {
                // a restart does not wait for it
                self.request.in_flight = None;
                self.request.record.waits();
                tokio::select! {
                    begun = &mut beginning => {
                        self.request.record.waits_no_more();
                        begun
                    }
                    () = sleep_until(self.answer_due()) => {
                        let is_over = self.patience.limit_left().is_zero();
                        let next = if is_over { NextRequest::Stops } else { NextRequest::ComesBack };
                        return Err(Box::new(self.no_account(&self.client.no_room(), next)));
                    }
                }
            }
        };
        begun.map_err(|KeyRevoked| Box::new(self.unauthorized("the key was revoked")))
    }

    /// Sends the request; if the client gives up meanwhile, the account is noted as silent.
    async fn send(&mut self, account: &LeasedAccount) -> Result<AttemptOutcome, String> {
        let (backend, client) = (self.backend, self.client);
        let silence = SilenceWatch { backend, client, patience: &self.patience, account: account.id, since: now() };
        let outcome = attempt::send(&backend.upstreams, &mut self.request, account).await;
        std::mem::forget(silence);
        outcome
    }

    pub(super) fn provider(&self) -> &str {
        &self.request.route.provider
    }

    fn answer_due(&self) -> Instant {
        self.patience.answer_due(self.patience.program(&self.backend.handle, self.client))
    }

    /// How long the client bears to wait for an answer.
    pub(super) fn time_left(&self) -> Duration {
        self.answer_due().saturating_duration_since(now())
    }

    pub(super) fn can_send_again(&self) -> bool {
        self.request.buffered.can_be_sent() && self.attempts < MAX_ATTEMPTS
    }

    fn route_request<'r>(&'r self, avoid: &'r [AccountId]) -> RouteRequest<'r> {
        let parts = &self.request;
        RouteRequest {
            provider: &parts.route.provider,
            model: parts.model.as_deref(),
            pool: parts.pool,
            kinds: parts.route.kinds,
            session: parts.buffered.text.session.as_deref(),
            project: parts.buffered.replaceable_project(),
            stored_ids: &parts.buffered.text.stored_ids,
            is_bound: parts.buffered.is_bound(),
            connection: parts.connection,
            peer: &parts.peer,
            avoid,
            uses_quota: provider::uses_quota(&parts.route.provider, &parts.route.path),
        }
    }

    /// Leases an account that can serve the request, waiting for one as long as the client bears.
    async fn lease(
        &mut self,
        mut held: Option<RequestLease>,
    ) -> Result<(RequestLease, LeasedAccount), Box<Response<ClientBody>>> {
        let mut in_flight = self.request.in_flight.take();
        self.request.record.waits();
        loop {
            let response = match self.lease_step(held.take(), &mut in_flight).await.map_err(Box::new)? {
                Ok(LeaseStep::Leased(lease, account)) => {
                    self.request.record.leased(&account);
                    self.is_bound = account.is_only;
                    return Ok((lease, account));
                }
                Ok(LeaseStep::Wait(after, before)) => {
                    (held, in_flight) = (before, None);
                    let over = tokio::select! {
                        () = self.pause(after) => continue,
                        over = self.wait_is_over() => over,
                    };
                    self.answer_to_wait(over)
                }
                Err(NoLeaseReason::Gone) => {
                    self.backend.handle.came_after_lease();
                    self.unauthorized("the lease of its key has ended")
                }
                Err(NoLeaseReason::Bad(error)) => self.error(StatusCode::BAD_REQUEST, &format!("lessor: {error}")),
                Err(NoLeaseReason::Refused(found)) => self.no_account(&found, NextRequest::Stops),
            };
            return Err(Box::new(response));
        }
    }

    /// One step of that; `Err` is the answer when the client must have one. `in_flight` ends when the request has to wait.
    async fn lease_step(
        &mut self,
        held: Option<RequestLease>,
        in_flight: &mut Option<InFlightGuard>,
    ) -> Result<Result<LeaseStep, NoLeaseReason>, Response<ClientBody>> {
        let over = {
            let request = self.route_request(&[]);
            let leasing = self.backend.handle.lease(self.client, &request, held, self.patience.limit_left());
            let (mut leasing, mut over) = (pin!(leasing), pin!(self.wait_is_over()));
            loop {
                tokio::select! {
                    biased;
                    step = &mut leasing => return Ok(step),
                    over = &mut over => break over,
                    () = sleep(ARRIVAL), if in_flight.is_some() => *in_flight = None,
                }
            }
        };
        Err(self.answer_to_wait(over))
    }

    /// Leases an account that has not failed, if one is free; otherwise the request starts over. A request that only one
    /// account can serve stays on it.
    pub(super) async fn elsewhere(&mut self, held: Option<RequestLease>) -> NextStep {
        if held.is_some() && self.is_bound {
            return NextStep::Retry(held);
        }
        let request = self.route_request(&self.failed);
        match self.backend.handle.lease(self.client, &request, held, Duration::ZERO).await {
            Ok(LeaseStep::Leased(lease, account)) => {
                self.request.record.leased(&account);
                NextStep::Send(lease, account)
            }
            Ok(LeaseStep::Wait(_, held)) => NextStep::Retry(held),
            Err(_) => NextStep::Retry(None),
        }
    }

    /// Waits until the client must have an answer. It comes earlier if the provider has refused every account.
    async fn wait_is_over(&self) -> WaitEnd {
        let due = self.answer_due();
        let mut denied_due = (self.patience.began + DENIED_WAIT).max(now());
        while denied_due < due {
            sleep_until(denied_due).await;
            if let Ok(found) = self.find_no_account()
                && found.is_denied()
            {
                return WaitEnd::Denied(Box::new(found));
            }
            denied_due += DENIED_CHECK;
        }
        sleep_until(due).await;
        WaitEnd::Due
    }

    fn answer_to_wait(&mut self, over: WaitEnd) -> Response<ClientBody> {
        match over {
            WaitEnd::Denied(found) => self.no_account(&found, NextRequest::Stops),
            WaitEnd::Due => self.ask_again(),
        }
    }

    pub(super) fn find_no_account(&self) -> Result<NoAccount, NoLeaseReason> {
        self.backend.handle.no_account(self.client, &self.route_request(&[]))
    }

    /// The answer when the client has waited for as long as it bears: it sends its request again, unless the session's
    /// limit is reached.
    pub(super) fn ask_again(&mut self) -> Response<ClientBody> {
        let is_over = self.patience.limit_left().is_zero();
        let next = if is_over { NextRequest::Stops } else { NextRequest::ComesBack };
        match self.find_no_account() {
            Ok(found) => self.no_account(&found, next),
            Err(_) => self.unauthorized("the lease of its key has ended"),
        }
    }

    /// Waits until the time is over or the pool has changed.
    pub(super) async fn pause(&self, after: Duration) {
        tokio::select! {
            () = sleep(after.max(Duration::from_millis(1))) => {}
            () = self.backend.handle.pool_changed() => {}
        }
    }

    fn respond(
        self,
        mut lease: RequestLease,
        account: &LeasedAccount,
        head: Parts,
        first: Vec<Bytes>,
        rest: Incoming,
    ) -> Response<ClientBody> {
        if head.status.is_success() {
            // other requests are served while the session's quota is used up
            if provider::uses_quota(self.provider(), &self.request.route.path) {
                self.backend.sessions.served(&self.patience.key);
                self.backend.answers.forget(self.provider(), self.model());
            }
            lease.created(response::created_ids(self.provider(), &head.headers, &first));
        }
        lease.response_began(head.status.as_u16(), limit_headers(&head.headers));
        let attempts = self.attempts;
        let observed = self.observed(account, head.status);
        let observer = ResponseObserver::new(&head, observed, lease);
        signed(response::relay(head, first, rest, observer), Some(&account.name), attempts)
    }

    /// The request, when the client gets the response of this account.
    pub(super) fn observed(mut self, account: &LeasedAccount, status: StatusCode) -> ObservedRequest {
        let mut in_flight = self.request.in_flight.take().unwrap_or_else(|| self.backend.metrics.in_flight());
        in_flight.sent_with(&account.in_flight);
        let mut record = self.request.record;
        record.response_began(account, status.as_u16());
        ObservedRequest { record, _in_flight: in_flight }
    }

    fn sign(&self, response: Response<ClientBody>) -> Response<ClientBody> {
        signed(response, None, self.attempts)
    }

    /// The key of the request, or its lease, has ended meanwhile.
    fn unauthorized(&mut self, reason: &str) -> Response<ClientBody> {
        self.request.record.refused(StatusCode::UNAUTHORIZED.as_u16(), reason);
        refusal::unauthorized(self.provider())
    }

    pub(super) fn model(&self) -> &str {
        self.request.model.as_deref().unwrap_or_default()
    }

    /// No account can serve the request; where the provider has refused them all, the client gets its answer.
    pub(super) fn no_account(&mut self, found: &NoAccount, next: NextRequest) -> Response<ClientBody> {
        self.backend.metrics.rejected(self.provider(), found.refusal.kind);
        let now = clock::now().wall;
        let response = self.no_account_response(found, next, now);
        let reason = refusal::reason(self.provider(), found, now);
        self.request.record.refused(response.status().as_u16(), &reason);
        self.sign(response)
    }

    fn no_account_response(&self, found: &NoAccount, next: NextRequest, now: Wall) -> Response<ClientBody> {
        let Backend { handle, sessions, answers, .. } = self.backend;
        if found.is_denied() {
            let kept = answers.response(self.provider(), self.model());
            let own = || (!found.needs_user()).then(|| refusal::denied(self.provider(), found, now));
            if let Some(response) = kept.or_else(own) {
                return response;
            }
        }
        let program = self.patience.program(handle, self.client);
        if next == NextRequest::ComesBack || self.patience.limit_left().is_zero() {
            self.patience.note_refusal(sessions);
        }
        let next = if program.comes_back { next } else { NextRequest::Stops };
        refusal::no_account(self.provider(), program, found, next, now)
    }

    pub(super) fn error(&mut self, status: StatusCode, message: &str) -> Response<ClientBody> {
        self.request.record.refused(status.as_u16(), refusal::without_prefix(message));
        self.sign(refusal::error(self.provider(), status, message))
    }
}

/// Adds the headers that name the account and the number of attempts.
pub(super) fn signed(mut response: Response<ClientBody>, account: Option<&str>, attempts: u32) -> Response<ClientBody> {
    let headers = response.headers_mut();
    if let Some(account) = account.and_then(|account| HeaderValue::from_str(account).ok()) {
        headers.insert(X_LESSOR_ACCOUNT, account);
    }
    headers.insert(X_LESSOR_ATTEMPTS, attempts.into());
    response
}

/// Notes an account as silent when it is dropped after the client's patience has ended.
struct SilenceWatch<'a> {
    backend: &'a Backend,
    client: &'a GatewayClient,
    patience: &'a RequestPatience,
    account: AccountId,
    since: Instant,
}

impl Drop for SilenceWatch<'_> {
    fn drop(&mut self) {
        let bears = self.patience.program(&self.backend.handle, self.client).bears;
        if now().duration_since(self.since) >= bears {
            self.backend.sessions.was_silent(&self.patience.key, self.account, now());
        }
    }
}

/// The headers that say something about limits.
pub(super) fn limit_headers(headers: &HeaderMap) -> Headers {
    Headers::telling(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}
