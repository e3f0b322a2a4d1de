//! Forwards one request: leases an account, sends the request, and after a refusal tries the next account, until a
//! response can go to the client.

mod attempt;
mod connections;
mod failover;
mod leasing;
mod proxy;
pub(super) mod upstream;

use std::{sync::Arc, time::Duration};

use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::metrics::MetricsRecorder;
use super::record::{AttemptFailure, RequestRecorder};
use super::refusal::{self, NextRequest};
use super::request::RequestParts;
use super::response::{self, ClientBody, ObservedRequest, ResponseObserver};
use super::running_key::KeyedRequest;
use super::waiting::{KeptAnswers, RequestPatience, WaitKey, WaitSession, WaitingSessions, now};
use crate::daemon::{
    GatewayClient, GatewayConfig, GatewayHandle, LeasedAccount, NoAccount, RequestLease, RequestTurn, clock,
};
use crate::limits::Headers;
use crate::pool::{AccountId, Wall};
use crate::provider;
use attempt::HttpTransport;
pub(super) use attempt::{AttemptOutcome, UpgradeRequest, UpstreamRefusal, UpstreamTransport};
use upstream::UpstreamClients;

/// How long a request waits when its provider has refused every account.
pub(super) const DENIED_WAIT: Duration = Duration::from_secs(28);
/// More attempts than this are a loop.
const MAX_ATTEMPTS: u32 = 100;
const SEATS_ENDED: &str = "lessor: the seats of this host in the shared pool have ended";

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
    pub(super) request: Box<RequestParts>,
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
    pub(super) is_bound: bool,
    /// Its place among the requests that wait for room; without one it needs none.
    pub(super) turn: Option<RequestTurn>,
    /// Subscribers know that it waits. Its next wait, after another attempt, is announced again.
    pub(super) is_announced: bool,
    /// The last answer of the gateway's own asks the client to send it again.
    pub(super) comes_back: bool,
}

enum NextStep<R> {
    /// Another attempt; with the lease that the request has.
    Retry(Option<RequestLease>),
    /// Another attempt, with this account.
    Send(RequestLease, Box<LeasedAccount>),
    /// The client gets this refusal unchanged.
    Relay(Option<RequestLease>, Box<UpstreamRefusal<R>>),
    Respond(Response<ClientBody>),
    /// The client sends the request again, on another connection.
    Reconnect,
}

/// How the attempts of a request have ended.
pub(super) enum ForwardEnd<R> {
    /// With the response of an account: its head, its first bytes, the rest.
    Served(RequestLease, Box<LeasedAccount>, Box<Parts>, Vec<Bytes>, R),
    /// With a refusal of the provider that the client gets.
    Refused(Option<RequestLease>, Box<LeasedAccount>, Box<UpstreamRefusal<R>>),
    /// With an answer of the gateway's own.
    Answer(Box<Response<ClientBody>>),
    /// Only the client can send the request in the form in which another account can serve it.
    Reconnect,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        backend: &'a Backend,
        client: &'a GatewayClient,
        request: Box<RequestParts>,
        config: &GatewayConfig,
    ) -> Self {
        let named = request.buffered.text.session.as_ref().or_else(|| client.default_session());
        let key = WaitKey {
            provider: request.route.provider.clone(),
            model: request.model.clone(),
            session: named.map_or(WaitSession::Of(request.connection), |name| WaitSession::Named(name.clone())),
        };
        let headers = &request.buffered.headers;
        let patience = RequestPatience::new(&backend.sessions, key, config.max_rate_limit_wait, headers);
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
            turn: Some(backend.handle.turn(client)),
            is_announced: false,
            comes_back: false,
        }
    }

    pub(super) async fn run(mut self, keyed: &mut KeyedRequest) -> Response<ClientBody> {
        match self.try_accounts(&mut HttpTransport, keyed).await {
            ForwardEnd::Served(lease, account, head, first, rest) => self.respond(lease, &account, *head, first, rest),
            ForwardEnd::Refused(lease, account, refused) => self.relay_refusal(lease, &account, *refused),
            ForwardEnd::Answer(response) => *response,
            // a request over HTTP can go to every account
            ForwardEnd::Reconnect => self.error(StatusCode::BAD_GATEWAY, "lessor: the request cannot be sent again"),
        }
    }

    /// Tries one account after the other, until a response can go to the client.
    pub(super) async fn try_accounts<T: UpstreamTransport>(
        &mut self,
        transport: &mut T,
        keyed: &mut KeyedRequest,
    ) -> ForwardEnd<T::Rest> {
        keyed.key_use = match self.room_of_key().await {
            Ok(key_use) => key_use,
            Err(response) => return ForwardEnd::Answer(response),
        };
        let mut next = match self.failed[..] {
            [] => NextStep::Retry(None),
            // boxed, as all that follows a failure: the future of each request has room for what is not rare
            _ => Box::pin(self.elsewhere(None)).await,
        };
        loop {
            let (lease, account) = match next {
                NextStep::Send(lease, account) => (lease, account),
                NextStep::Respond(response) => return ForwardEnd::Answer(Box::new(response)),
                NextStep::Reconnect => return ForwardEnd::Reconnect,
                // only after an attempt, where it is relayed
                NextStep::Relay(..) => {
                    let response = self.error(StatusCode::BAD_GATEWAY, "lessor: the refusal was lost");
                    return ForwardEnd::Answer(Box::new(response));
                }
                NextStep::Retry(held) => match self.lease(held).await {
                    Ok(leased) => leased,
                    Err(response) => return ForwardEnd::Answer(response),
                },
            };
            if !transport.can_send_to(&account) {
                return ForwardEnd::Reconnect;
            }
            self.attempts += 1;
            if account.seats.as_ref().is_some_and(|seats| !seats.are_valid()) {
                // since the lease was granted this process was frozen, or the machine suspended: by now the account may be
                // another host's
                if self.attempts >= MAX_ATTEMPTS {
                    return self.not_sent(StatusCode::SERVICE_UNAVAILABLE, SEATS_ENDED);
                }
                next = NextStep::Retry(Some(lease));
                continue;
            }
            keyed.uses(account.seats.as_ref());
            // until it is answered or has to wait; the response is counted by its observer
            let mut in_flight = self.backend.metrics.in_flight();
            in_flight.sent_with(account.in_flight.as_ref());
            self.request.in_flight = Some(in_flight);
            self.request.record.attempt_begins(&account);
            let outcome = match self.send(transport, &account).await {
                Ok(outcome) => outcome,
                Err(message) => {
                    self.request.record.attempt_answered(None);
                    return self.not_sent(StatusCode::BAD_GATEWAY, &message);
                }
            };
            self.request.record.attempt_answered(outcome.status());
            if !matches!(outcome, AttemptOutcome::Response(..)) {
                keyed.uses(None);
                if let Some(in_flight) = &mut self.request.in_flight {
                    in_flight.not_served();
                }
            }
            next = match outcome {
                AttemptOutcome::Response(head, first, rest) => {
                    return ForwardEnd::Served(lease, account, head, first, rest);
                }
                AttemptOutcome::Refused(refused) => {
                    let next = if transport.can_send_again() {
                        Box::pin(self.refused(lease, &account, refused)).await
                    } else {
                        Box::pin(self.refused_on_connection(lease, &account, refused)).await
                    };
                    match next {
                        NextStep::Relay(lease, refused) => {
                            return ForwardEnd::Refused(lease, account, refused);
                        }
                        next => next,
                    }
                }
                AttemptOutcome::Disconnected => NextStep::Reconnect,
                AttemptOutcome::TooLarge(message) => return self.not_sent(StatusCode::PAYLOAD_TOO_LARGE, &message),
                AttemptOutcome::Overloaded(message) => return self.not_sent(StatusCode::SERVICE_UNAVAILABLE, &message),
                AttemptOutcome::Failed(reason) => Box::pin(self.failed(lease, &account, &reason)).await,
            };
        }
    }

    /// The answer to a request that could not be sent.
    fn not_sent<R>(&mut self, status: StatusCode, message: &str) -> ForwardEnd<R> {
        self.request.record.attempt_failed(AttemptFailure::not_sent(message));
        ForwardEnd::Answer(Box::new(self.error(status, message)))
    }

    /// Sends the request; if the client gives up meanwhile, the account is noted as silent.
    async fn send<T: UpstreamTransport>(
        &mut self,
        transport: &mut T,
        account: &LeasedAccount,
    ) -> Result<AttemptOutcome<T::Rest>, String> {
        let (backend, client) = (self.backend, self.client);
        let silence = SilenceWatch { backend, client, patience: &self.patience, account: account.id, since: now() };
        let outcome = transport.send(&backend.upstreams, &mut self.request, account).await;
        std::mem::forget(silence);
        outcome
    }

    pub(super) fn provider(&self) -> &str {
        &self.request.route.provider
    }

    pub(super) fn answer_due(&self) -> Instant {
        self.patience.answer_due(self.patience.program(&self.backend.handle, self.client))
    }

    /// How long the client bears to wait for an answer.
    pub(super) fn time_left(&self) -> Duration {
        self.answer_due().saturating_duration_since(now())
    }

    pub(super) fn can_send_again(&self) -> bool {
        self.request.buffered.can_be_sent() && self.attempts < MAX_ATTEMPTS
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
            self.note_served();
            lease.created(response::created_ids(self.provider(), &head.headers, &first));
        }
        lease.response_began(head.status.as_u16(), limit_headers(&head.headers));
        let attempts = self.attempts;
        let observed = self.observed(account, head.status);
        let observer = ResponseObserver::new(&head, observed, lease);
        signed(response::relay(head, first, rest, observer), Some(account.name()), attempts)
    }

    /// An account has served the request.
    pub(super) fn note_served(&self) {
        // other requests are served while the session's quota is used up
        if provider::uses_quota(self.provider(), &self.request.route.path) {
            self.backend.sessions.served(&self.patience.key);
            self.backend.answers.forget(self.provider(), self.model());
        }
    }

    /// The request, when the client gets the response of this account.
    pub(super) fn observed(mut self, account: &LeasedAccount, status: StatusCode) -> ObservedRequest {
        let mut in_flight = self.request.in_flight.take().unwrap_or_else(|| self.backend.metrics.in_flight());
        in_flight.sent_with(account.in_flight.as_ref());
        let mut record = self.request.record;
        record.response_began(account, status.as_u16());
        ObservedRequest { record, _in_flight: in_flight }
    }

    fn sign(&self, response: Response<ClientBody>) -> Response<ClientBody> {
        signed(response, None, self.attempts)
    }

    /// The key of the request, or its lease, has ended meanwhile.
    pub(super) fn unauthorized(&mut self, reason: &str) -> Response<ClientBody> {
        self.request.record.refused(StatusCode::UNAUTHORIZED.as_u16(), reason);
        refusal::unauthorized(self.provider())
    }

    pub(super) fn model(&self) -> &str {
        self.request.model.as_deref().unwrap_or_default()
    }

    /// No account can serve the request; where the provider has refused them all, the client gets its answer.
    pub(super) fn no_account(&mut self, found: &NoAccount, next: NextRequest) -> Response<ClientBody> {
        self.backend.metrics.rejected(self.provider(), found.refusal.kind);
        self.comes_back = next == NextRequest::ComesBack;
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
    // most need one, whose text is there already
    let attempts = if attempts == 1 { HeaderValue::from_static("1") } else { attempts.into() };
    headers.insert(X_LESSOR_ATTEMPTS, attempts);
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
