//! What follows when an attempt was refused or failed: another account, a pause, or a response for the client.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use tokio::time::sleep;

use super::attempt::UpstreamRefusal;
use super::{DENIED_WAIT, Forward, NextStep, limit_headers, signed};
use crate::daemon::{LeasedAccount, ReportOutcome, RequestLease, UnreportedRefusal, UpstreamOutcome};
use crate::gateway::record::AttemptFailure;
use crate::gateway::refusal::NextRequest;
use crate::gateway::response::{self, ClientBody, ResponseObserver};
use crate::gateway::waiting::now;
use crate::limits::{Reason, Scope};
use crate::pool::{AccountId, Action, Decision};
use crate::provider;

/// The first pause after a failure of the service; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A request that waits for an account in use tries again after this: it does not notice a change just before its pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Before a longer pause that the service states, the other accounts are tried.
const LONG_PAUSE: Duration = Duration::from_secs(5);

impl Forward<'_> {
    pub(super) async fn refused<R>(
        &mut self,
        lease: RequestLease,
        account: &LeasedAccount,
        refused: Box<UpstreamRefusal<R>>,
    ) -> NextStep<R> {
        let is_unauthorized = refused.head.status == StatusCode::UNAUTHORIZED;
        if account.is_login && is_unauthorized && !self.has_refreshed && self.request.buffered.can_be_sent() {
            self.has_refreshed = true;
            self.request.record.waits();
            if lease.refresh(account, self.time_left()).await {
                self.request.record.attempt_failed(AttemptFailure::rejected_token());
                return NextStep::Retry(Some(lease));
            }
        }
        if provider::is_beside_the_api(self.provider(), &self.request.route.path) {
            self.request.record.attempt_failed(AttemptFailure::classified(None, false));
            return NextStep::Relay(Some(lease), refused);
        }
        self.request.record.waits();
        let headers = limit_headers(&refused.head.headers);
        let may_quote = !refused.quotes(&account.secret);
        let (report, lease) = match lease.report(refused.report(&headers)).await {
            Ok((report, lease)) => (report, Some(lease)),
            Err(UnreportedRefusal { verdict }) => {
                self.request.record.attempt_failed(AttemptFailure::classified(verdict.as_ref(), may_quote));
                // another request of the same holder has moved the lease: that account can serve this one too
                return if self.can_send_again() { NextStep::Retry(None) } else { NextStep::Relay(None, refused) };
            }
        };
        self.request.record.attempt_failed(AttemptFailure::reported(&report, may_quote));
        let decision = &report.decision;
        let stated = report.verdict.as_ref().and_then(|verdict| verdict.wait);
        match (decision.action, decision.scope) {
            (Action::Switch, _) if self.can_send_again() => NextStep::Retry(lease),
            (Action::Retry, _) if decision.once_more && decision.after <= self.time_left() && self.can_send_again() => {
                self.announce_wait(decision.after);
                sleep(decision.after).await;
                NextStep::Retry(lease)
            }
            (Action::Retry | Action::Wait, Some(Scope::Service)) => {
                match self.service_failed(account.id, lease, stated).await {
                    Ok(next) => next,
                    Err(lease) => NextStep::Relay(lease, refused),
                }
            }
            // the request is at fault, or the refusal says neither why nor for how long: its client decides
            (_, Some(Scope::Request)) if decision.action == Action::Stop || stated.is_none() => {
                NextStep::Relay(lease, refused)
            }
            // only this account can serve the request, so the provider's own answer says most
            (Action::Stop, _) if account.is_only => NextStep::Relay(lease, refused),
            (Action::Stop, _) => self.wait_out(lease, account, refused, &report).await,
            (Action::Retry | Action::Wait, _) if self.can_send_again() => {
                self.wait_out(lease, account, refused, &report).await
            }
            _ => NextStep::Relay(lease, refused),
        }
    }

    /// A refusal of a request that only its own connection can serve. What it says is learnt; unless the request is at
    /// fault, its client sends it again in full, on another connection.
    pub(super) async fn refused_on_connection<R>(
        &mut self,
        lease: RequestLease,
        account: &LeasedAccount,
        refused: Box<UpstreamRefusal<R>>,
    ) -> NextStep<R> {
        let is_unauthorized = refused.head.status == StatusCode::UNAUTHORIZED;
        self.request.record.waits();
        if account.is_login && is_unauthorized && lease.refresh(account, self.time_left()).await {
            self.request.record.attempt_failed(AttemptFailure::rejected_token());
            return NextStep::Reconnect;
        }
        let headers = limit_headers(&refused.head.headers);
        let may_quote = !refused.quotes(&account.secret);
        let report = match lease.report(refused.report(&headers)).await {
            Ok((report, lease)) => {
                self.request.record.attempt_failed(AttemptFailure::reported(&report, may_quote));
                (report, lease)
            }
            Err(UnreportedRefusal { verdict }) => {
                self.request.record.attempt_failed(AttemptFailure::classified(verdict.as_ref(), may_quote));
                return NextStep::Reconnect;
            }
        };
        let (ReportOutcome { decision, verdict, .. }, lease) = report;
        let is_timed = verdict.is_some_and(|verdict| verdict.wait.is_some());
        let is_of_request = decision.scope == Some(Scope::Request);
        if is_of_request && (decision.action == Action::Stop || !is_timed) {
            return NextStep::Relay(Some(lease), refused);
        }
        NextStep::Reconnect
    }

    /// No other account is left now: waits for one, or answers that there is none.
    async fn wait_out<R>(
        &mut self,
        lease: Option<RequestLease>,
        account: &LeasedAccount,
        refused: Box<UpstreamRefusal<R>>,
        report: &ReportOutcome,
    ) -> NextStep<R> {
        self.request.in_flight = None;
        let Decision { action, after, may_end_sooner, .. } = report.decision;
        let Ok(found) = self.find_no_account() else { return NextStep::Relay(lease, refused) };
        if found.is_denied() {
            if refused.is_for_all(&account.secret) {
                let UpstreamRefusal { head, first, .. } = &*refused;
                self.backend.answers.keep(self.provider(), self.model(), head.status, &head.headers, first);
            }
            let left = DENIED_WAIT.saturating_sub(now().duration_since(self.patience.began)).min(self.time_left());
            if action == Action::Stop || after > left {
                return NextStep::Relay(lease, refused);
            }
        }
        let limit_left = self.patience.limit_left();
        let is_too_long = after > limit_left && (!may_end_sooner || limit_left.is_zero());
        if action == Action::Stop || is_too_long {
            return NextStep::Respond(self.no_account(&found, NextRequest::Stops));
        }
        self.announce_wait(after);
        if action == Action::Wait {
            // the lease is looked at again, and at the end of the client's patience there is an answer
            let after = if may_end_sooner { after.min(LONGEST_PAUSE) } else { after };
            self.pause(after.min(self.time_left())).await;
            return NextStep::Retry(lease);
        }
        // the same account must not be tried before this time
        let time_left = self.time_left();
        sleep(after.min(time_left)).await;
        if after > time_left { NextStep::Respond(self.ask_again()) } else { NextStep::Retry(lease) }
    }

    /// Waits before a failing service is tried again, and tries its last attempt on another account, if one is free. A
    /// pause that the service states is kept only when no other account is free. `Err` returns the lease: the request
    /// must not be sent again.
    async fn service_failed<R>(
        &mut self,
        account: AccountId,
        lease: Option<RequestLease>,
        stated: Option<Duration>,
    ) -> Result<NextStep<R>, Option<RequestLease>> {
        self.service_failures += 1;
        self.failed.push(account);
        if self.service_failures >= self.max_service_attempts || !self.can_send_again() {
            return Err(lease);
        }
        let pause = stated.unwrap_or(FIRST_PAUSE * (1 << (self.service_failures - 1).min(6)));
        let is_last = self.service_failures + 1 == self.max_service_attempts;
        if pause > LONG_PAUSE {
            let next = self.elsewhere(lease).await;
            let NextStep::Retry(lease) = next else { return Ok(next) };
            if pause > self.time_left() {
                return Err(lease);
            }
            self.announce_wait(pause);
            sleep(pause).await;
            return Ok(NextStep::Retry(lease));
        }
        if pause > self.time_left() {
            return Err(lease);
        }
        sleep(pause).await;
        Ok(if is_last { self.elsewhere(lease).await } else { NextStep::Retry(lease) })
    }

    /// The client gets the upstream's refusal unchanged.
    pub(in crate::gateway) fn relay_refusal(
        self,
        lease: Option<RequestLease>,
        account: &LeasedAccount,
        refused: UpstreamRefusal<Incoming>,
    ) -> Response<ClientBody> {
        let UpstreamRefusal { head, first, rest, .. } = refused;
        let attempts = self.attempts;
        let observer = ResponseObserver::of_refusal(&head, self.observed(account, head.status), lease);
        signed(response::relay(head, first, rest, observer), Some(account.name()), attempts)
    }

    pub(super) async fn failed<R>(
        &mut self,
        lease: RequestLease,
        account: &LeasedAccount,
        reason: &str,
    ) -> NextStep<R> {
        self.request.record.attempt_failed(AttemptFailure::no_response(reason));
        self.request.record.waits();
        tracing::debug!(account = account.name(), "no response from {}: {reason}", self.provider());
        let outcome = UpstreamOutcome::Stated { reason: Reason::ServerError, wait: None };
        let lease = lease.report(outcome).await.ok().map(|(_, lease)| lease);
        if let Ok(next) = self.service_failed(account.id, lease, None).await {
            return next;
        }
        let message = format!("lessor: no response from {}: {reason}", self.provider());
        NextStep::Respond(self.error(StatusCode::BAD_GATEWAY, &message))
    }
}
