//! Reports: what a request's outcome means for its account, and what its holder should do next.

pub(crate) mod backoff;
mod moving;
pub(crate) mod request_fault;
mod serve;
mod service;

use crate::limits::{LONGEST_BELIEVED, Reason, Scope};
use crate::pool::account::failures::{Denials, RequestSource, ServiceFailures};
use crate::pool::account::record::AccountChange;
use crate::pool::command::{Effects, Handled, RefusalOrigin, Reply};
use crate::pool::lease::Lease;
use crate::pool::limit::apply::emit_ends;
use crate::pool::limit::{Limit, model_key};
use crate::pool::model::{
    AccountId, Action, Deadline, Decision, Fence, LimitSource, LoginState, Mono, Now, Refusal, RefusalDetails,
    RequestNeeds, RequestOutcome, Verification, Wall,
};
use crate::pool::report::backoff::{CountedEvent, is_quota_failure};
use crate::pool::report::request_fault::{RequestRefusal, may_be_the_request};
use crate::pool::state::Pool;
use std::time::Duration;

/// When a holder without another account retries while its token is refreshed.
pub(crate) const REFRESH_RETRY: Duration = Duration::from_secs(2);
/// When a holder tries again for which a seat is being claimed.
pub(crate) const SEAT_RETRY: Duration = Duration::from_millis(100);
/// An account that names a lasting state of itself, or a model that its plan lacks, is not asked again for so long.
pub(crate) const LASTING: Duration = Duration::from_secs(6 * 3600);
/// The first wait after a refusal without any explanation: the request may be at fault.
const FIRST_GUESS: Duration = Duration::from_secs(5);
/// How long an account is avoided that is paid for beyond its plan, where no reset of the plan's quota is stated.
const OVERAGE_UNKNOWN: Duration = Duration::from_secs(600);
/// The longest evidence that is kept, in characters.
const LONGEST_EVIDENCE: usize = 300;

/// What a counted refusal means for its holder.
enum Noted {
    /// The account cannot serve it now.
    Out,
    /// It retries on the same account.
    OnceMore(Duration),
}

/// A refusal by the account, with the scope and key of its limit.
pub(crate) struct AccountRefusal<'a> {
    pub(crate) slot: usize,
    pub(crate) lease: &'a Lease,
    pub(crate) details: &'a RefusalDetails,
    pub(crate) scope: Scope,
    pub(crate) key: String,
    /// When the request was sent, at the earliest.
    pub(crate) sent_at: Mono,
}

impl Pool {
    pub(crate) fn report(
        &mut self,
        now: Now,
        fence: Fence,
        outcome: &RequestOutcome,
        need: Option<&RequestNeeds>,
        effects: &mut Effects,
    ) -> Handled {
        let lease = self.leases.get_shared(fence).ok_or_else(Refusal::stale)?;
        let lease = need.map_or_else(|| lease.clone(), |need| lease.used_for(need));
        let exclude = need.map_or(&[][..], |need| &need.exclude);
        let details = match outcome {
            RequestOutcome::Refused(details) => details,
            RequestOutcome::Ok => {
                let decision = self.note_success(now, &lease, None, effects);
                return Ok(Reply::Decision(self.moved_by_user(now, fence, decision, need, effects)));
            }
            RequestOutcome::Overage(until) => {
                let until = until.unwrap_or(now.wall.after(OVERAGE_UNKNOWN));
                let decision = self.note_success(now, &lease, Some(until), effects);
                return Ok(Reply::Decision(self.moved_by_user(now, fence, decision, need, effects)));
            }
        };
        // a wait that is too long to believe counts as none
        let wait = details.wait.filter(|wait| wait.span(now) <= LONGEST_BELIEVED);
        let details = &RefusalDetails { wait, ..(**details).clone() };
        let scope = match details.scope.unwrap_or_else(|| details.reason.scope()) {
            // a plan that lacks an unnamed model cannot be remembered
            Scope::Model if details.lasting && lease.target.model.is_none() => Scope::Request,
            scope => scope,
        };
        let decision = match scope {
            Scope::Request if details.reason == Reason::RequestRejected && !details.lasting => {
                self.request_faults.note(fence, None);
                Decision::new(Action::Stop, Duration::ZERO)
            }
            Scope::Request => self.pass_on(now, &lease, details, exclude, effects),
            Scope::Service => self.service_failed(now, &lease, details, need.is_some(), effects),
            Scope::Model | Scope::Pool | Scope::Account => {
                let refused = self.refusal_of(&lease, details, scope)?;
                let is_missing_model = refused.is_missing_model();
                match self.note_refusal(now, &refused, effects)? {
                    Noted::Out => {
                        let decision = self.move_on(now, &lease, details.reason, exclude, effects);
                        // no account has the model: the answer is the provider's own
                        let is_last = is_missing_model && decision.action == Action::Stop;
                        Decision { scope: decision.scope.or(is_last.then_some(Scope::Request)), ..decision }
                    }
                    Noted::OnceMore(after) => Decision::new(Action::Retry, after),
                }
            }
        };
        let decision = self.moved_by_user(now, fence, decision, need, effects);
        self.leases.set_sent_at(fence, now.mono.after(decision.after));
        // the decision's own reason wins: the request may be at fault
        let reason = decision.reason.unwrap_or(details.reason);
        let scope = decision.scope.unwrap_or(scope);
        Ok(Reply::Decision(Decision { reason: Some(reason), scope: Some(scope), ..decision }))
    }

    /// The holder of a lease that the user has moved learns of it: it switches. A request of the gateway that has been sent
    /// ends where it is.
    fn moved_by_user(
        &mut self,
        now: Now,
        fence: Fence,
        decision: Decision,
        need: Option<&RequestNeeds>,
        effects: &mut Effects,
    ) -> Decision {
        if need.is_some() || matches!(decision.action, Action::Switch | Action::Stop) {
            return decision;
        }
        match self.follow_move(now, fence, effects) {
            Some(moved_to) => Decision { once_more: false, ..Decision::switched_to(moved_to) },
            None => decision,
        }
    }

    fn note_success(&mut self, now: Now, lease: &Lease, overage: Option<Wall>, effects: &mut Effects) -> Decision {
        let decision = Decision::new(Action::Continue, Duration::ZERO);
        let Some(slot) = self.accounts.slot(lease.account) else { return decision };
        let sent_at = self.leases.sent_at(lease.fence).unwrap_or(now.mono);
        self.leases.set_sent_at(lease.fence, now.mono);
        self.request_faults.note(lease.fence, None);
        self.probe_succeeded(now, slot, lease, effects);
        // what takes from no quota says nothing of the quotas
        let uses_quota = lease.target.uses_quota();
        if uses_quota {
            self.accounts.set_overage(slot, &lease.target.key, overage, now.wall);
        }
        let settings = &self.settings.selection.health;
        self.accounts.add_health(slot, settings.success, settings, now.mono);
        let failures = self.accounts.failures_mut(slot);
        failures.service = ServiceFailures { since: None, succeeded: Some(now.mono), ..failures.service };
        if uses_quota {
            failures.unexplained.retain(|refusal| refusal.last > sent_at);
        }
        let was_denied = failures.denied.take_if(|denied| denied.at <= sent_at).is_some();
        self.end_disproved_refusals(now, slot, lease, was_denied, sent_at, effects);
        let account = &self.accounts[slot];
        // a request that succeeds under a live limit began before it: it clears nothing (I7)
        let closed = |limit: &Limit| !limit.is_recovering() && limit.blocks(lease.target.quota());
        if uses_quota && !account.limits.iter().any(closed) {
            self.forget_failures(now, slot);
        }
        decision
    }

    /// A request that was sent after a refusal has succeeded: the account is not refused any more, and has the model.
    fn end_disproved_refusals(
        &mut self,
        now: Now,
        slot: usize,
        lease: &Lease,
        was_denied: bool,
        sent_at: Mono,
        effects: &mut Effects,
    ) {
        let quota = lease.target.quota();
        let sent_at = now.wall_of(sent_at);
        let is_over = |limit: &Limit| {
            limit.is_denial() && was_denied && limit.is_kept()
                || limit.is_missing_model() && limit.blocks(quota) && limit.since <= sent_at
        };
        if self.accounts[slot].limits.iter().any(is_over) {
            let ends = self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.end_where(is_over));
            emit_ends(lease.account, ends, effects);
        }
    }

    fn give_token_back(&mut self, now: Now, lease: &Lease) {
        let Some(slot) = self.accounts.slot(lease.account) else { return };
        self.accounts.give_token_back(slot, &self.settings.selection.tokens, now.mono);
    }

    fn refusal_of<'a>(
        &self,
        lease: &'a Lease,
        details: &'a RefusalDetails,
        scope: Scope,
    ) -> Result<AccountRefusal<'a>, Refusal> {
        let slot = self.accounts.slot_of(lease.account)?;
        // a refusal of "this model" to a request without a model means its pool
        let scope = if scope == Scope::Model && lease.target.model.is_none() { Scope::Pool } else { scope };
        let key = match (scope, lease.target.quota().limited_as()) {
            (Scope::Account, _) => String::new(),
            (Scope::Model, Some(model)) => model_key(&lease.target.key, model),
            _ => lease.target.key.to_string(),
        };
        let sent_at = self.leases.sent_at(lease.fence).unwrap_or_default();
        Ok(AccountRefusal { slot, lease, details, scope, key, sent_at })
    }

    /// Records a refusal: as a limit until a time, or as a state that only the user can end.
    fn note_refusal(&mut self, now: Now, refused: &AccountRefusal, effects: &mut Effects) -> Result<Noted, Refusal> {
        let AccountRefusal { slot, lease, details, .. } = *refused;
        if self.begin_refresh(now, refused, effects)? {
            return Ok(Noted::Out);
        }
        self.end_denial_by_quota(now, refused, effects);
        let is_unexplained = refused.may_be_the_request() && !self.is_confirmed(now, refused);
        let needs_user = details.reason == Reason::VerificationRequired;
        let only = !needs_user && self.is_only(now, refused);
        let once = !needs_user && self.may_try_again(details, now);
        let counted = self.count(now, refused, only, once);
        let is_charged = counted.counts && !refused.is_missing_model();
        let points = if is_charged { self.charge(now, slot, details.reason) } else { 0.0 };
        if is_unexplained {
            let RefusalDetails { reason, .. } = *details;
            let (account, scope, key) = (lease.account, refused.scope, refused.key.clone());
            self.request_faults.note(lease.fence, Some(RequestRefusal { account, reason, scope, key, points }));
        } else if !refused.may_be_the_request() {
            self.request_faults.note(lease.fence, None);
        }
        if needs_user {
            self.ask_for_verification(now, refused, effects)?;
            return Ok(Noted::Out);
        }
        if is_unexplained && self.request_faults.is_at_fault(lease.fence, false) {
            // the request is at fault: nothing is held against this account
            return Ok(Noted::Out);
        }
        if counted.once_more {
            return Ok(Noted::OnceMore(self.settings.limits.retry_delay));
        }
        if only {
            return self.retry_on_only_account(now, refused, (&counted, is_unexplained), effects);
        }
        // a guess that was made for the same event stands; if it was ended meanwhile, its account refuses again
        let stands = |limit: &Limit| limit.is_of(refused.scope, &refused.key);
        let is_open = !counted.was_under_way && !self.accounts[slot].limits.iter().any(stands);
        if counted.counts || is_open || details.wait.is_some() || refused.is_lasting() {
            let until = self.end_of(now, refused, counted.counts, is_unexplained);
            self.limit_refused(now, refused, until, effects)?;
        }
        Ok(Noted::Out)
    }

    /// A provider that refuses for the quota accepts the account and its credential.
    fn end_denial_by_quota(&mut self, now: Now, refused: &AccountRefusal, effects: &mut Effects) {
        let is_quota = matches!(refused.details.reason, Reason::QuotaExhausted | Reason::RateLimitExceeded);
        let failures = self.accounts.failures_mut(refused.slot);
        if is_quota && failures.denied.take_if(|denied| denied.at <= refused.sent_at).is_some() {
            let (slot, lease) = (refused.slot, refused.lease);
            self.end_disproved_refusals(now, slot, lease, true, refused.sent_at, effects);
        }
    }

    /// Whether the refusal of a login is answered by a refresh: once, until a request has succeeded again.
    fn begin_refresh(&mut self, now: Now, refused: &AccountRefusal, effects: &mut Effects) -> Result<bool, Refusal> {
        let (slot, lease) = (refused.slot, refused.lease);
        if !self.is_refreshable(slot, refused.details) {
            return Ok(false);
        }
        let is_refreshing = self.accounts[slot].renewing.is_some();
        let row = Denials::of(&mut self.accounts.failures_mut(slot).denied, now);
        if row.is_renewed && !is_refreshing {
            return Ok(false);
        }
        row.is_renewed = true;
        self.request_faults.note(lease.fence, None);
        self.request_refresh(lease.account, effects)?;
        Ok(true)
    }

    /// Whether a refusal that may be the request's fault is the account's, because different requests have met it.
    fn is_confirmed(&mut self, now: Now, refused: &AccountRefusal) -> bool {
        let lease = refused.lease;
        let source = RequestSource::of(lease.session.as_deref(), lease.holder.process, lease.bind, lease.fence);
        let memory = self.settings.limits.reset_after;
        let failures = self.accounts.failures_mut(refused.slot);
        failures.confirm(now.mono, (refused.scope, &refused.key), source, memory)
    }

    /// The first report has the best explanation.
    fn ask_for_verification(&mut self, now: Now, refused: &AccountRefusal, effects: &mut Effects) -> Handled {
        let known = &self.accounts[refused.slot].record.login_state;
        if matches!(known, LoginState::NeedsVerification(_)) {
            return Ok(Reply::Done);
        }
        let verification = Verification::at(refused.details.link.as_deref());
        let login_state = Some(LoginState::NeedsVerification(verification));
        let change = AccountChange { login_state, ..AccountChange::default() };
        self.change_account(now, refused.lease.account, change, effects)
    }

    /// No other account could serve: the holder retries. Only the account's own failures extend its limit; a request that
    /// is refused without an explanation again and again extends its own wait.
    fn retry_on_only_account(
        &mut self,
        now: Now,
        refused: &AccountRefusal,
        (counted, is_unexplained): (&CountedEvent, bool),
        effects: &mut Effects,
    ) -> Result<Noted, Refusal> {
        let settings = &self.settings.limits;
        let (limited_for, wait) = if is_unexplained {
            let retries = self.request_faults.count_retry(refused.lease.fence);
            (settings.retry_after(1), settings.retry_after(retries))
        } else {
            (settings.retry_after(counted.failures), Duration::ZERO)
        };
        if counted.counts {
            self.limit_refused(now, refused, Deadline::Mono(now.mono.after(limited_for)), effects)?;
        }
        let filed = self.accounts[refused.slot].limits.iter().find(|limit| limit.is_of(refused.scope, &refused.key));
        let left = filed.map_or(limited_for, |limit| limit.until.mono(now).since(now.mono));
        Ok(Noted::OnceMore(left.max(wait)))
    }

    /// Until when the account cannot serve.
    fn end_of(&mut self, now: Now, refused: &AccountRefusal, counts: bool, is_unexplained: bool) -> Deadline {
        let AccountRefusal { slot, details, .. } = *refused;
        let after = |wait: Duration| Deadline::Mono(now.mono.after(wait));
        if refused.is_lasting() {
            let stated = self.until_of(now, details, 0);
            return if stated.mono(now) > after(LASTING).mono(now) { stated } else { after(LASTING) };
        }
        if refused.is_denial() && details.wait.is_none() {
            return Deadline::Mono(self.count_denial(now, slot));
        }
        if is_unexplained {
            let until = self.until_of(now, details, 0);
            return if until.mono(now) < after(FIRST_GUESS).mono(now) { until } else { after(FIRST_GUESS) };
        }
        let failures = self.count_quota_failure(now, slot, details.reason, counts);
        let until = self.until_of(now, details, failures);
        if is_quota_failure(details.reason) {
            let failures = self.accounts.failures_mut(slot);
            failures.quota_until = failures.quota_until.max(until.mono(now));
        }
        until
    }

    /// Charges the account's health; returns the points.
    fn charge(&mut self, now: Now, slot: usize, reason: Reason) -> f64 {
        let settings = &self.settings.selection.health;
        let rate = matches!(reason, Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::Unknown);
        let points = if rate { settings.rate_limit } else { settings.failure };
        self.accounts.add_health(slot, points, settings, now.mono);
        points
    }

    fn limit_refused(&mut self, now: Now, refused: &AccountRefusal, until: Deadline, effects: &mut Effects) -> Handled {
        let target = &refused.lease.target;
        let origin =
            RefusalOrigin { model: target.model.clone(), pool: target.pool.clone(), ..RefusalOrigin::default() };
        self.limit_by(now, (refused.slot, refused.scope, &refused.key), (refused.details, origin), until, effects)
    }

    /// Sets the limit that a refusal means.
    fn limit_by(
        &mut self,
        now: Now,
        (slot, scope, key): (usize, Scope, &str),
        (details, origin): (&RefusalDetails, RefusalOrigin),
        until: Deadline,
        effects: &mut Effects,
    ) -> Handled {
        // what lasts was stated by the server, even without a time
        let is_stated = details.wait.is_some() || details.lasting && scope != Scope::Pool;
        let source = if is_stated { details.source } else { LimitSource::Table };
        let evidence = details.evidence.as_deref().map(|text| text.chars().take(LONGEST_EVIDENCE).collect());
        let mut limit = Limit::new(scope, key, details.reason, until, source);
        let account = &self.accounts[slot];
        let denied = account.failures.denied.filter(|_| limit.is_denial());
        (limit.evidence, limit.link) = (evidence, details.link.clone());
        limit.since = denied.map_or(now.wall, |row| row.since);
        let stated_wait = details.wait.map(|wait| wait.span(now));
        let origin = RefusalOrigin { status: details.status, stated_wait, ..origin };
        self.limit_account(now, account.record.id, limit, origin, effects)
    }

    /// Counts a refusal of the account or its credential; returns until when the account is left.
    fn count_denial(&mut self, now: Now, slot: usize) -> Mono {
        Denials::of(&mut self.accounts.failures_mut(slot).denied, now).count(now)
    }

    /// The provider refuses the account, as its user has tried: a limit like that of a refused request.
    pub(crate) fn deny(&mut self, now: Now, id: AccountId, details: &RefusalDetails, effects: &mut Effects) -> Handled {
        let slot = self.accounts.slot_of(id)?;
        let is_denied = matches!(details.reason, Reason::AuthFailed | Reason::Forbidden);
        let stated = || self.until_of(now, details, 0);
        let until = if details.lasting {
            let lasts = Deadline::Mono(now.mono.after(LASTING));
            if stated().mono(now) > lasts.mono(now) { stated() } else { lasts }
        } else if details.wait.is_some() || !is_denied {
            stated()
        } else {
            // while its limit is closed, another attempt by the user says the same
            let stands = |limit: &Limit| limit.is_denial() && limit.is_closed() && !limit.until.passed(now);
            if self.accounts[slot].limits.iter().any(stands) {
                return Ok(Reply::Done);
            }
            Deadline::Mono(self.count_denial(now, slot))
        };
        self.limit_by(now, (slot, Scope::Account, ""), (details, RefusalOrigin::default()), until, effects)
    }
}

impl AccountRefusal<'_> {
    /// Whether the provider refuses the account or its credential, not only its quota.
    fn is_denial(&self) -> bool {
        self.scope == Scope::Account && matches!(self.details.reason, Reason::AuthFailed | Reason::Forbidden)
    }

    /// Whether the account's plan lacks the model.
    fn is_missing_model(&self) -> bool {
        self.scope == Scope::Model && matches!(self.details.reason, Reason::Forbidden | Reason::RequestRejected)
    }

    /// Whether it names a state of the account, or of its plan, that lasts.
    fn is_lasting(&self) -> bool {
        self.details.lasting && self.scope != Scope::Pool
    }

    /// Whether the request may be at fault instead of the account.
    fn may_be_the_request(&self) -> bool {
        may_be_the_request(self.details.reason)
            && self.details.wait.is_none()
            && !self.is_lasting()
            && !self.is_missing_model()
    }
}
