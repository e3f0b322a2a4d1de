//! Reports: what a request's outcome means for its account, and what its holder should do next.

pub(crate) mod backoff;
pub(crate) mod request_fault;

use crate::limits::{LONGEST_BELIEVED, Reason, SHORTEST_HINT, Scope};
use crate::pool::account::record::AccountChange;
use crate::pool::command::{Effects, Handled, Reply};
use crate::pool::lease::{ChosenBy, Ending, Lease, reacquire};
use crate::pool::limit::apply::emit_ends;
use crate::pool::limit::{Limit, model_key};
use crate::pool::model::{
    AccountId, Action, Deadline, Decision, Fallback, Fence, Ineligible, LeaseRequest, LimitSource, LoginProblem,
    LoginState, Now, Refusal, RefusalDetails, RefusalKind, RequestNeeds, RequestOutcome, Verification,
};
use crate::pool::report::backoff::is_quota_failure;
use crate::pool::report::request_fault::{RequestRefusal, RequestRefusals, may_be_the_request};
use crate::pool::select::choose::Choice;
use crate::pool::select::eligibility::is_closed;
use crate::pool::state::Pool;
use std::time::Duration;

/// When a holder without another account retries while its token is refreshed.
pub(crate) const REFRESH_RETRY: Duration = Duration::from_secs(2);
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
        let lease = self.leases.get(fence).ok_or_else(Refusal::stale)?;
        let lease = need.map_or_else(|| lease.clone(), |need| lease.used_for(need));
        let exclude = need.map_or(&[][..], |need| &need.exclude);
        let RequestOutcome::Refused(details) = outcome else {
            self.note_success(now, &lease, effects);
            return Ok(Reply::Decision(Decision::new(Action::Continue, Duration::ZERO)));
        };
        // a wait that is too long to believe counts as none
        let wait = details.wait.filter(|wait| wait.span(now) <= LONGEST_BELIEVED);
        let details = &RefusalDetails { wait, ..(**details).clone() };
        let scope = details.scope.unwrap_or_else(|| details.reason.scope());
        let decision = match scope {
            Scope::Request if details.reason == Reason::RequestRejected => {
                self.request_faults.note(fence, None);
                Decision::new(Action::Stop, Duration::ZERO)
            }
            Scope::Request => self.pass_on(now, &lease, details, exclude, effects),
            Scope::Service => {
                self.give_token_back(now, &lease);
                let until = self.until_of(now, details, 0);
                Decision::new(Action::Retry, until.mono(now).since(now.mono))
            }
            Scope::Model | Scope::Pool | Scope::Account => {
                let refused = self.refusal_of(&lease, details, scope)?;
                match self.note_refusal(now, &refused, effects)? {
                    Noted::Out => self.move_on(now, &lease, details.reason, exclude, effects),
                    Noted::OnceMore(after) => Decision::new(Action::Retry, after),
                }
            }
        };
        // the decision's own reason wins: the request may be at fault
        let reason = decision.reason.unwrap_or(details.reason);
        let scope = decision.scope.unwrap_or(scope);
        Ok(Reply::Decision(Decision { reason: Some(reason), scope: Some(scope), ..decision }))
    }

    fn note_success(&mut self, now: Now, lease: &Lease, effects: &mut Effects) {
        let Some(slot) = self.accounts.slot(lease.account) else { return };
        self.request_faults.note(lease.fence, None);
        self.probe_succeeded(now, slot, lease.fence, effects);
        let settings = &self.settings.selection.health;
        self.accounts.add_health(slot, settings.success, settings, now.mono);
        let account = &self.accounts[slot];
        // a request that succeeds under a live limit began before it: it clears nothing (I7)
        let closed = |limit: &Limit| !limit.is_recovering() && limit.blocks(lease.target.quota());
        if !account.limits.iter().any(closed) {
            self.forget_failures(now, slot);
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
        Ok(AccountRefusal { slot, lease, details, scope, key })
    }

    /// Records a refusal: as a limit until a time, or as a login that does not work.
    fn note_refusal(&mut self, now: Now, refused: &AccountRefusal, effects: &mut Effects) -> Result<Noted, Refusal> {
        let AccountRefusal { slot, lease, details, .. } = *refused;
        let reason = details.reason;
        if self.is_refreshable(slot, details) {
            self.request_faults.note(lease.fence, None);
            self.request_refresh(lease.account, effects)?;
            return Ok(Noted::Out);
        }
        let login_state = login_state(details);
        let only = login_state.is_none() && self.is_only(now, refused);
        let once = login_state.is_none() && self.may_try_again(details, now);
        let counted = self.count(now, refused, only, once);
        let points = if counted.counts { self.charge(now, slot, reason) } else { 0.0 };
        let (account, scope, key) = (lease.account, refused.scope, refused.key.clone());
        let may_be_its_fault = may_be_the_request(reason) && details.wait.is_none();
        let step = may_be_its_fault.then_some(RequestRefusal { account, reason, scope, key, points });
        self.request_faults.note(lease.fence, step);
        if login_state.is_some() {
            // the first report has the best explanation
            let known = std::mem::discriminant(&self.accounts[slot].record.login_state);
            if login_state.as_ref().map(std::mem::discriminant) != Some(known) {
                let change = AccountChange { login_state, ..AccountChange::default() };
                self.change_account(lease.account, change, effects)?;
            }
            return Ok(Noted::Out);
        }
        if counted.once_more {
            return Ok(Noted::OnceMore(self.settings.limits.retry_delay));
        }
        if only {
            let until = Deadline::Mono(now.mono.after(self.settings.limits.retry_after(counted.failures)));
            self.limit_refused(now, refused, until, effects)?;
            let filed = self.accounts[slot].limits.iter().find(|limit| limit.is_of(refused.scope, &refused.key));
            let until = filed.map_or(until, |limit| limit.until);
            return Ok(Noted::OnceMore(until.mono(now).since(now.mono)));
        }
        let failures = self.count_quota_failure(now, slot, reason, counted.counts);
        let until = self.until_of(now, details, failures);
        if is_quota_failure(reason) {
            let failures = self.accounts.failures_mut(slot);
            failures.quota_until = failures.quota_until.max(until.mono(now));
        }
        self.limit_refused(now, refused, until, effects)?;
        Ok(Noted::Out)
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
        let details = refused.details;
        let source = if details.wait.is_some() { details.source } else { LimitSource::Table };
        let evidence = details.evidence.as_deref().map(|text| text.chars().take(LONGEST_EVIDENCE).collect());
        let limit = Limit {
            evidence,
            link: details.link.clone(),
            ..Limit::new(refused.scope, refused.key.clone(), details.reason, until, source)
        };
        self.limit_account(now, refused.lease.account, limit, effects)
    }

    /// The refusal reaches this request only: move it to an account that has not refused it, without a limit or a penalty.
    fn pass_on(
        &mut self,
        now: Now,
        lease: &Lease,
        details: &RefusalDetails,
        exclude: &[AccountId],
        effects: &mut Effects,
    ) -> Decision {
        let RefusalDetails { reason, wait, .. } = *details;
        let (account, key) = (lease.account, String::new());
        let step = RequestRefusal { account, reason, scope: Scope::Request, key, points: 0.0 };
        self.request_faults.note(lease.fence, Some(step));
        let decision = self.move_on(now, lease, reason, exclude, effects);
        // a retry on the same account may succeed later, or with a smaller request
        let is_rate = matches!(reason, Reason::RateLimitExceeded | Reason::QuotaExhausted | Reason::Unknown);
        let may_come_through = is_rate && decision.reason.is_none();
        if matches!(decision.action, Action::Stop | Action::Wait) && may_come_through && !self.draining {
            let after = self.until_of(now, &RefusalDetails { wait, ..details.clone() }, 0).mono(now).since(now.mono);
            return Decision { action: Action::Retry, after, ..decision };
        }
        decision
    }

    /// Moves the lease to another account, if there is one; else decides what its holder does.
    fn move_on(
        &mut self,
        now: Now,
        lease: &Lease,
        reason: Reason,
        exclude: &[AccountId],
        effects: &mut Effects,
    ) -> Decision {
        if self.request_faults.is_at_fault(lease.fence, false) {
            return self.stop_faulty_request(now, lease, effects);
        }
        let mut seen_by = self.request_faults.blamed_by(lease.fence);
        seen_by.extend_from_slice(exclude);
        seen_by.sort_unstable();
        let ask = LeaseRequest { exclude: seen_by, ..reacquire(lease, lease.pinned_account()) };
        // the end of its own account's limit, for when no other time is known
        let own = self.accounts.slot(lease.account).and_then(|slot| match self.ineligible(slot, &ask, now) {
            Some((Ineligible::Limited, Some(until))) => Some((slot, until.mono(now).since(now.mono))),
            _ => None,
        });
        // after a restart nothing is granted before earlier holders had time to resume their leases
        let choice = match self.timers.grace() {
            Some(until) => Choice::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) },
            None => self.choose_without(now, lease, &ask),
        };
        if let Choice::Grant { slot, by, other } = choice
            && !self.draining
        {
            let refusals = self.request_faults.take(lease.fence);
            self.end_lease(now, lease.fence, Ending::Switched, effects);
            let fence = self.grant(now, ask, slot, (by, other), effects);
            if let Some(refusals) = refusals {
                self.request_faults.put(fence, refusals);
            }
            self.leases.set_moved_from(fence, lease.account, reason);
            return Decision { lease: Some(fence), ..Decision::new(Action::Switch, Duration::ZERO) };
        }
        if self.request_faults.is_at_fault(lease.fence, true) {
            return self.stop_faulty_request(now, lease, effects);
        }
        let is_renewed = self.account(lease.account).is_some_and(|account| account.renewing.is_some());
        if is_renewed && !self.draining {
            // its own account will be free first, or none will
            return Decision::new(Action::Retry, REFRESH_RETRY);
        }
        let after = match (choice, own) {
            (Choice::Wait { earliest: Some(at), .. }, _) => at.since(now.mono),
            // the others are busy: no request is sent before its own account's limit has ended
            (_, Some((_, own))) if !self.draining => own,
            (Choice::Wait { .. }, _) => SHORTEST_HINT,
            (Choice::Grant { .. } | Choice::Refuse(_), _) => return Decision::new(Action::Stop, Duration::ZERO),
        };
        let later = match own {
            Some((slot, own)) if own <= after => self.wait_out(now, slot, lease.fence),
            _ => Duration::ZERO,
        };
        Decision::new(Action::Wait, after + later)
    }

    /// Several accounts refused the same request: it is at fault, not the accounts.
    fn stop_faulty_request(&mut self, now: Now, lease: &Lease, effects: &mut Effects) -> Decision {
        if let Some(refusals) = self.request_faults.take(lease.fence) {
            self.undo_penalties(now, refusals, effects);
        }
        let (reason, scope) = (Some(Reason::RequestRejected), Some(Scope::Request));
        Decision { reason, scope, ..Decision::new(Action::Stop, Duration::ZERO) }
    }

    /// Reverses what the accounts were charged for a request that is itself at fault.
    fn undo_penalties(&mut self, now: Now, refusals: RequestRefusals, effects: &mut Effects) {
        // answers that blamed the request cost their accounts nothing
        for refusal in refusals.refusals.into_iter().filter(|refusal| refusal.scope != Scope::Request) {
            let RequestRefusal { account, reason, scope, key, points } = refusal;
            let Some(slot) = self.accounts.slot(account) else { continue };
            self.accounts.add_health(slot, -points, &self.settings.selection.health, now.mono);
            let failures = self.accounts.failures_mut(slot);
            failures.quota = failures.quota.saturating_sub(1);
            failures.recent.retain(|counted| counted.scope != scope || counted.key != key);
            if self.accounts[slot].limits.is_empty() {
                continue;
            }
            let timers = &mut self.timers;
            let end = self.accounts.change_limits(slot, now, timers, |limits| limits.remove_guess(scope, &key, reason));
            emit_ends(account, end.into_iter().collect(), effects);
        }
    }

    /// Selects as if the lease had ended: a moving lease makes room itself, also for its account's other quota pool.
    fn choose_without(&mut self, now: Now, lease: &Lease, ask: &LeaseRequest) -> Choice {
        let Some(slot) = self.accounts.slot(lease.account) else { return self.choose(now, ask, now.mono) };
        let leases = self.accounts[slot].leases;
        let before = self.accounts.replace_leases(slot, (leases - 1, false));
        let choice = match self.other_quota(now, slot, ask) {
            Some(choice) => choice,
            None => self.choose(now, ask, now.mono),
        };
        self.accounts.replace_leases(slot, before);
        choice
    }

    /// A holder waits for the end of its account's limits; returns how much later than that end it should return.
    fn wait_out(&mut self, now: Now, slot: usize, fence: Fence) -> Duration {
        let Some(lease) = self.leases.get(fence) else { return Duration::ZERO };
        let quota = lease.target.quota();
        self.accounts.count_admission(slot, now, &mut self.timers, |limits| limits.wait_out(quota, fence, now))
    }

    /// The other quota pool of the lease's own account, where the settings prefer it to another account.
    fn other_quota(&self, now: Now, slot: usize, ask: &LeaseRequest) -> Option<Choice> {
        let quotas = ask.target.quotas(&self.settings.quota);
        if self.settings.quota.fallback != Fallback::SameAccountFirst || quotas.second.is_none() {
            return None;
        }
        let other = is_closed(&self.accounts[slot], quotas.first, now);
        let grant = Choice::Grant { slot, by: ChosenBy::SameAccount, other };
        self.ineligible(slot, ask, now).is_none().then_some(grant)
    }
}

/// What a refusal says about the login itself.
fn login_state(details: &RefusalDetails) -> Option<LoginState> {
    let link = details.link.as_deref();
    match details.reason {
        Reason::AuthFailed => {
            Some(LoginState::NeedsLogin(LoginProblem::RejectedByProvider { link: link.map(str::to_owned) }))
        }
        Reason::VerificationRequired => Some(LoginState::NeedsVerification(Verification::at(link))),
        _ => None,
    }
}

impl Pool {
    /// Checks that the lease's account can serve a request; else moves the lease to one that can.
    pub(crate) fn serve(&mut self, now: Now, fence: Fence, need: &RequestNeeds, effects: &mut Effects) -> Handled {
        let lease = self.leases.get(fence).ok_or_else(Refusal::stale)?.used_for(need);
        let slot = self.accounts.slot_of(lease.account)?;
        let ask = LeaseRequest { exclude: need.exclude.clone(), ..reacquire(&lease, None) };
        let goes_on = match self.ineligible(slot, &ask, now) {
            None | Some((Ineligible::Busy, _)) => true,
            // it may be the probe itself
            Some((Ineligible::Limited, _)) => self.probes(slot, fence),
            Some(_) => false,
        };
        if goes_on {
            self.admit(now, slot, fence, lease.target.quota());
            return Ok(Reply::Decision(Decision::new(Action::Continue, Duration::ZERO)));
        }
        let limits = self.accounts[slot].limits.iter();
        let reason = limits.filter(|limit| limit.blocks(lease.target.quota())).map(|limit| limit.reason).next();
        Ok(Reply::Decision(self.move_on(now, &lease, reason.unwrap_or(Reason::Unknown), &need.exclude, effects)))
    }

    /// Why a request gets nothing now.
    pub fn refusal_for(&self, now: Now, ask: &LeaseRequest) -> Refusal {
        match self.choose_with(now, ask, now.mono, &mut Vec::new()) {
            Choice::Refuse(refusal) => *refusal,
            Choice::Wait { kind, .. } => self.refusal(now, ask, kind),
            Choice::Grant { .. } => self.refusal(now, ask, RefusalKind::WaitTimeout),
        }
    }

    /// Whether the lease is the probe of every limit that holds.
    fn probes(&self, slot: usize, fence: Fence) -> bool {
        self.accounts[slot].limits.iter().all(|limit| !limit.is_closed() && limit.probe().is_none_or(|by| by == fence))
    }
}
