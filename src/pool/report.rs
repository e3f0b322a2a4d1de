//! What a holder has met, and what it should do next.

use std::time::Duration;

use crate::limits::{LONGEST_BELIEVED, Reason, SHORTEST_HINT, Scope};

use super::Pool;
use super::account::{LoginProblem, LoginState, Verification};
use super::blame::{Chain, Step, may_be_the_request};
use super::command::{
    AccountChange, Action, Decision, Effect, LeaseRequest, RefusalDetails, Reply, RequestOutcome, StatedWait,
};
use super::counting::climbs;
use super::error::{Ineligible, Refusal, RefusalKind};
use super::id::{AccountId, ConnectionId, Fence};
use super::lease::{Bind, Ending, Lease};
use super::limit::{Limit, LimitSource, model_key};
use super::need::RequestNeeds;
use super::obstacle::is_closed;
use super::renewing::LOOK_AGAIN;
use super::select::{Choice, ChosenBy};
use super::settings::Fallback;
use super::time::{Deadline, Now};

/// The longest piece of evidence that is kept, in letters.
const LONGEST_EVIDENCE: usize = 300;

/// What a refusal comes to, once it is counted and filed.
enum Noted {
    /// The account is out for this holder.
    Out,
    /// One more attempt on the same account.
    OnceMore(Duration),
}

/// A refusal by the account, with what it is filed under.
pub(super) struct Refused<'a> {
    pub(super) slot: usize,
    pub(super) lease: &'a Lease,
    pub(super) finding: &'a RefusalDetails,
    pub(super) scope: Scope,
    pub(super) key: String,
}

impl Pool {
    pub(super) fn report(
        &mut self,
        now: Now,
        fence: Fence,
        outcome: &RequestOutcome,
        need: Option<&RequestNeeds>,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let lease = self.leases.get(&fence).ok_or_else(Refusal::stale)?;
        let lease = need.map_or_else(|| lease.clone(), |need| lease.used_for(need));
        let exclude = need.map_or(&[][..], |need| &need.exclude);
        let RequestOutcome::Refused(finding) = outcome else {
            self.note_success(now, &lease, effects);
            return Ok(Reply::Decision(decision(Action::Continue, Duration::ZERO, None)));
        };
        // a wait that is not believed is as good as none
        let wait = finding.wait.filter(|wait| wait.span(now) <= LONGEST_BELIEVED);
        let finding = &RefusalDetails { wait, ..(**finding).clone() };
        let scope = finding.scope.unwrap_or_else(|| finding.reason.scope());
        let decision = match scope {
            Scope::Request if finding.reason == Reason::RequestRejected => {
                self.note_step(fence, None);
                decision(Action::Stop, Duration::ZERO, None)
            }
            Scope::Request => self.pass_on(now, &lease, finding, exclude, effects),
            Scope::Service => {
                self.give_token_back(now, &lease);
                let until = self.until_of(now, finding, 0);
                decision(Action::Retry, until.mono(now).since(now.mono), None)
            }
            Scope::Model | Scope::Pool | Scope::Account => {
                let refused = self.refused(&lease, finding, scope)?;
                match self.note_refusal(now, &refused, effects)? {
                    Noted::Out => self.move_on(now, &lease, finding.reason, exclude, effects),
                    Noted::OnceMore(after) => decision(Action::Retry, after, None),
                }
            }
        };
        // whoever is told that it is the request is told so
        let reason = decision.reason.unwrap_or(finding.reason);
        let scope = decision.scope.unwrap_or(scope);
        Ok(Reply::Decision(Decision { reason: Some(reason), scope: Some(scope), ..decision }))
    }

    fn note_success(&mut self, now: Now, lease: &Lease, effects: &mut Vec<Effect>) {
        let Some(&slot) = self.slots.get(&lease.account) else { return };
        self.note_step(lease.fence, None);
        if !self.accounts[slot].limits.is_empty() {
            self.probe_came_through(now, slot, lease.fence, effects);
        }
        let settings = &self.settings.selection.health;
        self.accounts[slot].health.add(settings.success, settings, now.mono);
        self.refresh(slot);
        let account = &self.accounts[slot];
        // a success under a live limit began before it, and clears nothing (I7)
        let closed = |limit: &Limit| !limit.is_recovering() && limit.blocks(lease.target.quota());
        if !account.limits.iter().any(closed) {
            self.forget_failures(now, slot);
        }
    }

    fn give_token_back(&mut self, now: Now, lease: &Lease) {
        let Some(&slot) = self.slots.get(&lease.account) else { return };
        self.accounts[slot].bucket.give_back(&self.settings.selection.tokens, now.mono);
        self.refresh(slot);
    }

    /// What the refusal is filed under.
    fn refused<'a>(&self, lease: &'a Lease, finding: &'a RefusalDetails, scope: Scope) -> Result<Refused<'a>, Refusal> {
        let slot = self.slot(lease.account)?;
        // without a model in the request, "this model" is all that is known of the pool
        let scope = if scope == Scope::Model && lease.target.model.is_none() { Scope::Pool } else { scope };
        let key = match (scope, lease.target.quota().limited_as()) {
            (Scope::Account, _) => String::new(),
            (Scope::Model, Some(model)) => model_key(&lease.target.key, model),
            _ => lease.target.key.to_string(),
        };
        Ok(Refused { slot, lease, finding, scope, key })
    }

    /// Files what was met: a limit until a time, or a login that does not work.
    fn note_refusal(&mut self, now: Now, refused: &Refused<'_>, effects: &mut Vec<Effect>) -> Result<Noted, Refusal> {
        let Refused { slot, lease, finding, .. } = *refused;
        let reason = finding.reason;
        if self.is_renewed(slot, finding) {
            self.note_step(lease.fence, None);
            self.ask_for_renewal(lease.account, effects)?;
            return Ok(Noted::Out);
        }
        let login_state = login_state(finding);
        let only = login_state.is_none() && self.is_only(now, refused);
        let once = login_state.is_none() && self.may_try_again(finding, now);
        let counted = self.count_refusal(now, refused, only, once);
        let points = if counted.counts { self.charge(now, slot, reason) } else { 0.0 };
        self.note_step(
            lease.fence,
            (may_be_the_request(reason) && finding.wait.is_none()).then(|| Step {
                account: lease.account,
                reason,
                scope: refused.scope,
                key: refused.key.clone(),
                points,
            }),
        );
        if login_state.is_some() {
            // whoever found out first said it best
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
            self.file_limit(now, refused, until, effects)?;
            let filed = self.accounts[slot].limits.iter().find(|limit| limit.is_of(refused.scope, &refused.key));
            let until = filed.map_or(until, |limit| limit.until);
            return Ok(Noted::OnceMore(until.mono(now).since(now.mono)));
        }
        let failures = self.climb(now, slot, reason, counted.counts);
        let until = self.until_of(now, finding, failures);
        if climbs(reason) {
            let account = &mut self.accounts[slot];
            account.quota_until = account.quota_until.max(until.mono(now));
        }
        self.file_limit(now, refused, until, effects)?;
        Ok(Noted::Out)
    }

    /// Charges the account's health; answers with how much.
    fn charge(&mut self, now: Now, slot: usize, reason: Reason) -> f64 {
        let settings = &self.settings.selection.health;
        let rate = matches!(reason, Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::Unknown);
        let points = if rate { settings.rate_limit } else { settings.failure };
        self.accounts[slot].health.add(points, settings, now.mono);
        self.refresh(slot);
        points
    }

    fn file_limit(
        &mut self,
        now: Now,
        refused: &Refused<'_>,
        until: Deadline,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let finding = refused.finding;
        let source = if finding.wait.is_some() { finding.source } else { LimitSource::Table };
        let evidence = finding.evidence.as_deref().map(|text| text.chars().take(LONGEST_EVIDENCE).collect());
        let limit = Limit {
            evidence,
            link: finding.link.clone(),
            ..Limit::new(refused.scope, refused.key.clone(), finding.reason, until, source)
        };
        self.limit_account(now, refused.lease.account, limit, effects).map(drop)
    }

    /// A request is refused that others of the account are not: it goes on to one that has not seen it, and nothing is
    /// held against anybody.
    fn pass_on(
        &mut self,
        now: Now,
        lease: &Lease,
        finding: &RefusalDetails,
        exclude: &[AccountId],
        effects: &mut Vec<Effect>,
    ) -> Decision {
        let RefusalDetails { reason, wait, .. } = *finding;
        let step = Step { account: lease.account, reason, scope: Scope::Request, key: String::new(), points: 0.0 };
        self.note_step(lease.fence, Some(step));
        let decision = self.move_on(now, lease, reason, exclude, effects);
        // more time, or less asked of it, may help: the same account is as good as another
        let is_rate = matches!(reason, Reason::RateLimitExceeded | Reason::QuotaExhausted | Reason::Unknown);
        let may_come_through = is_rate && decision.reason.is_none();
        if matches!(decision.action, Action::Stop | Action::Wait) && may_come_through && !self.draining {
            let after = self.until_of(now, &RefusalDetails { wait, ..finding.clone() }, 0).mono(now).since(now.mono);
            return Decision { action: Action::Retry, after, ..decision };
        }
        decision
    }

    /// Finds the holder another account; its lease moves there at once.
    pub(super) fn move_on(
        &mut self,
        now: Now,
        lease: &Lease,
        reason: Reason,
        exclude: &[AccountId],
        effects: &mut Vec<Effect>,
    ) -> Decision {
        let chain = self.chains.get(&lease.fence);
        if chain.is_some_and(|chain| chain.blames_the_request(false)) {
            return self.blame_the_request(now, lease, effects);
        }
        let mut seen_by = chain.map(Chain::seen_by).unwrap_or_default();
        seen_by.extend_from_slice(exclude);
        seen_by.sort_unstable();
        let ask = LeaseRequest { exclude: seen_by, ..reacquire(lease, self.display_of(lease)) };
        // its own account's time, for when nobody else's is known
        let own = self.slots.get(&lease.account).and_then(|slot| match self.obstacle(*slot, &ask, now) {
            Some((Ineligible::Limited, Some(until))) => Some((*slot, until.mono(now).since(now.mono))),
            _ => None,
        });
        // after a restart nothing new is granted before the holders had time to come back
        let choice = match self.grace_until {
            Some(until) => Choice::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) },
            None => self.choose_without(now, lease, &ask),
        };
        if let Choice::Grant { slot, by, other } = choice
            && !self.draining
        {
            let chain = self.chains.remove(&lease.fence);
            self.end_lease(now, lease.fence, Ending::Switched, effects);
            let fence = self.grant(now, ask, slot, (by, other), effects);
            self.chains.extend(chain.map(|chain| (fence, chain)));
            self.moves.insert(fence, (lease.account, reason));
            return decision(Action::Switch, Duration::ZERO, Some(fence));
        }
        if self.chains.get(&lease.fence).is_some_and(|chain| chain.blames_the_request(true)) {
            return self.blame_the_request(now, lease, effects);
        }
        let is_renewed = self.account(lease.account).is_some_and(|account| account.renewing.is_some());
        if is_renewed && !self.draining {
            // its own account is back first, or never
            return decision(Action::Retry, LOOK_AGAIN, None);
        }
        let after = match (choice, own) {
            (Choice::Wait { earliest: Some(at), .. }, _) => at.since(now.mono),
            // the others are busy: no request goes upstream before its own limit has run out
            (_, Some((_, own))) if !self.draining => own,
            (Choice::Wait { .. }, _) => SHORTEST_HINT,
            (Choice::Grant { .. } | Choice::Refuse(_), _) => return decision(Action::Stop, Duration::ZERO, None),
        };
        let later = match own {
            Some((slot, own)) if own <= after => self.will_be_back(now, slot, lease.fence),
            _ => Duration::ZERO,
        };
        decision(Action::Wait, after + later, None)
    }

    /// Several accounts refused the same request: it is the request, and no account's fault.
    fn blame_the_request(&mut self, now: Now, lease: &Lease, effects: &mut Vec<Effect>) -> Decision {
        if let Some(chain) = self.chains.remove(&lease.fence) {
            self.acquit(now, chain, effects);
        }
        let (reason, scope) = (Some(Reason::RequestRejected), Some(Scope::Request));
        Decision { reason, scope, ..decision(Action::Stop, Duration::ZERO, None) }
    }

    /// Chooses as if the lease had ended: one that moves makes room itself, for its account's other quota too.
    fn choose_without(&mut self, now: Now, lease: &Lease, ask: &LeaseRequest) -> Choice {
        let Some(&slot) = self.slots.get(&lease.account) else { return self.choose(now, ask, now.mono) };
        let account = &mut self.accounts[slot];
        let before = (account.leases, account.exclusive);
        (account.leases, account.exclusive) = (account.leases - 1, false);
        self.refresh(slot);
        let choice = match self.other_quota(now, slot, ask) {
            Some(choice) => choice,
            None => self.choose(now, ask, now.mono),
        };
        let account = &mut self.accounts[slot];
        (account.leases, account.exclusive) = before;
        self.refresh(slot);
        choice
    }

    /// The other quota of the lease's own account, where that goes before another account.
    fn other_quota(&self, now: Now, slot: usize, ask: &LeaseRequest) -> Option<Choice> {
        let lanes = self.lanes(&ask.target);
        if self.settings.quota.fallback != Fallback::SameAccountFirst || lanes.second.is_none() {
            return None;
        }
        let other = is_closed(&self.accounts[slot], lanes.first, now);
        let grant = Choice::Grant { slot, by: ChosenBy::SameAccount, other };
        self.obstacle(slot, ask, now).is_none().then_some(grant)
    }

    fn display_of(&self, lease: &Lease) -> Option<Box<str>> {
        lease.pinned.then(|| lease.account.to_string().into())
    }
}

impl StatedWait {
    /// From now on.
    fn span(self, now: Now) -> Duration {
        match self {
            Self::In(span) => span,
            Self::At(at) => at.since(now.wall),
        }
    }
}

/// The login state that a refusal leads to, if it concerns the login itself.
fn login_state(finding: &RefusalDetails) -> Option<LoginState> {
    let link = finding.link.as_deref();
    match finding.reason {
        Reason::AuthFailed => {
            Some(LoginState::NeedsLogin(LoginProblem::RejectedByProvider { link: link.map(str::to_owned) }))
        }
        Reason::VerificationRequired => Some(LoginState::NeedsVerification(Verification::at(link))),
        _ => None,
    }
}

/// The request that would lead to this lease.
#[must_use]
pub fn reacquire(lease: &Lease, account: Option<Box<str>>) -> LeaseRequest {
    LeaseRequest {
        target: lease.target.as_asked(),
        connection: match lease.bind {
            Bind::Connection(connection) => connection,
            Bind::Process(_) | Bind::Ttl => ConnectionId(u64::MAX),
        },
        bind: lease.bind,
        holder: lease.holder.clone(),
        ttl: lease.ttl,
        session: lease.session.clone(),
        label: lease.label.clone(),
        agent: lease.agent.clone(),
        account,
        exclude: vec![],
        priority: 0,
        // only `cache-first` waits for an account it wants, and at most its own time
        wait: None,
        exclusive: lease.exclusive,
        request_id: None,
    }
}

fn decision(action: Action, after: Duration, lease: Option<Fence>) -> Decision {
    Decision { action, after, reason: None, scope: None, lease }
}
