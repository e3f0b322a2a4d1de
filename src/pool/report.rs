//! What a holder has met, and what it should do next.

use std::time::Duration;

use crate::limits::{Reason, Scope};

use super::Pool;
use super::account::{Refused, Standing};
use super::command::{AccountChange, Action, Ask, Decision, Effect, Outcome, Reply};
use super::error::{Kind, Refusal, Why};
use super::hot::most_of;
use super::id::{ConnectionId, Fence};
use super::lease::{Bind, Ending, Lease};
use super::limit::{Limit, Source, model_key};
use super::limits::{LONGEST_BELIEVED, SHORTEST_WAIT};
use super::obstacle::is_closed;
use super::select::{By, Choice};
use super::settings::Fallback;
use super::time::{Deadline, Now};

/// Most refusals of one account that are remembered for counting; the oldest goes first.
const MOST_REFUSED: usize = 32;
/// A back-off is at least the clock's own step.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);

/// What a refusal comes to, once it is counted and filed.
enum Noted {
    /// The account is out for this holder.
    Out,
    /// One more attempt on the same account, by `switch_on_first_rate_limit = false`.
    OnceMore(Duration),
}

impl Pool {
    pub(super) fn report(
        &mut self,
        now: Now,
        fence: Fence,
        outcome: &Outcome,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let lease = self.leases.get(&fence).ok_or_else(Refusal::stale)?.clone();
        let Outcome::Refused { reason, scope, wait } = *outcome else {
            self.note_success(now, &lease);
            return Ok(Reply::Decision(decision(Action::Continue, Duration::ZERO, None, None)));
        };
        // a wait that is not believed is as good as none
        let wait = wait.filter(|wait| *wait <= LONGEST_BELIEVED);
        let scope = scope.unwrap_or_else(|| reason.scope());
        let (action, after, new) = match scope {
            Scope::Request => (Action::Stop, Duration::ZERO, None),
            Scope::Service => {
                self.give_token_back(now, &lease);
                (Action::Retry, self.wait_of(reason, wait, 0), None)
            }
            Scope::Model | Scope::Pool | Scope::Account => {
                match self.note_refusal(now, &lease, reason, scope, wait, effects)? {
                    Noted::Out => self.move_on(now, &lease, effects),
                    Noted::OnceMore(after) => (Action::Retry, after, None),
                }
            }
        };
        Ok(Reply::Decision(Decision { lease: new, ..decision(action, after, Some(reason), Some(scope)) }))
    }

    fn note_success(&mut self, now: Now, lease: &Lease) {
        let Some(&slot) = self.slots.get(&lease.account) else { return };
        let (settings, window) = (&self.settings.selection.health, self.settings.limits.dedup_window);
        let account = &mut self.accounts[slot];
        account.health.add(settings.success, settings, now.mono);
        self.hot[slot].health = account.health;
        // a success under a live limit began before it, and clears nothing (I7)
        if !account.limits.iter().any(|limit| limit.blocks(lease.target.quota())) {
            account.quota_failures = 0;
            account.refused.retain(|refused| now.mono.since(refused.at) < window);
        }
    }

    fn give_token_back(&mut self, now: Now, lease: &Lease) {
        let Some(&slot) = self.slots.get(&lease.account) else { return };
        self.accounts[slot].bucket.give_back(&self.settings.selection.tokens, now.mono);
        self.refresh(slot);
    }

    /// Files what was met: a limit until a time, or a login that does not work.
    fn note_refusal(
        &mut self,
        now: Now,
        lease: &Lease,
        reason: Reason,
        scope: Scope,
        wait: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) -> Result<Noted, Refusal> {
        let slot = self.slot(lease.account)?;
        let standing = match reason {
            Reason::AuthFailed => Some(Standing::NeedsLogin("the provider refused the credential".into())),
            Reason::VerificationRequired => {
                Some(Standing::NeedsVerification("the provider wants the account confirmed".into()))
            }
            _ => None,
        };
        // without a model in the request, "this model" is all that is known of the pool
        let scope = if scope == Scope::Model && lease.target.model.is_none() { Scope::Pool } else { scope };
        let key = match (scope, lease.target.quota().limited_as()) {
            (Scope::Account, _) => String::new(),
            (Scope::Model, Some(model)) => model_key(&lease.target.key, model),
            _ => lease.target.key.to_string(),
        };
        let first = standing.is_none() && self.may_try_again(reason, wait);
        let (counts, once_more) = self.count_refusal(now, slot, lease.fence, scope, &key, first);
        if counts {
            let settings = &self.settings.selection.health;
            let rate = matches!(reason, Reason::QuotaExhausted | Reason::RateLimitExceeded | Reason::Unknown);
            let penalty = if rate { settings.rate_limit } else { settings.failure };
            self.accounts[slot].health.add(penalty, settings, now.mono);
            self.refresh(slot);
        }
        if standing.is_some() {
            // whoever found out first said it best
            let known = std::mem::discriminant(&self.accounts[slot].record.standing);
            if standing.as_ref().map(std::mem::discriminant) != Some(known) {
                let change = AccountChange { standing, ..AccountChange::default() };
                self.change_account(lease.account, change, effects)?;
            }
            return Ok(Noted::Out);
        }
        if once_more {
            return Ok(Noted::OnceMore(self.settings.limits.retry_delay));
        }
        let failures = self.count_failure(now, slot, reason, counts);
        let span = self.wait_of(reason, wait, failures);
        let until = now.mono.after(span);
        if climbs(reason) {
            let account = &mut self.accounts[slot];
            account.quota_until = account.quota_until.max(until);
        }
        let source = if wait.is_some() { Source::Report } else { Source::Table };
        let limit = Limit { key, scope, reason, until: Deadline::Mono(until), source };
        self.limit_account(now, lease.account, limit, effects)?;
        Ok(Noted::Out)
    }

    /// Whether the first of these is answered by one more attempt instead of a move.
    fn may_try_again(&self, reason: Reason, wait: Option<Duration>) -> bool {
        !self.settings.limits.switch_on_first_rate_limit
            && matches!(reason, Reason::RateLimitExceeded | Reason::Unknown)
            && wait.is_none_or(|wait| wait <= SHORTEST_WAIT)
    }

    /// Counts a refusal, unless it is the same event as one counted just before; answers whether it counts, and
    /// whether its holder tries once more.
    fn count_refusal(
        &mut self,
        now: Now,
        slot: usize,
        fence: Fence,
        scope: Scope,
        key: &str,
        first: bool,
    ) -> (bool, bool) {
        let (window, memory) = (self.settings.limits.dedup_window, self.settings.limits.reset_after);
        let refused = &mut self.accounts[slot].refused;
        refused.retain(|refused| now.mono.since(refused.at) < memory.max(window));
        let Some(known) = refused.iter_mut().find(|refused| refused.scope == scope && refused.key == key) else {
            if refused.len() >= MOST_REFUSED {
                refused.remove(0);
            }
            refused.push(Refused { scope, key: key.to_owned(), at: now.mono, fence, retried: first });
            return (true, first);
        };
        let same_event = now.mono.since(known.at) < window;
        // who was told to try once more and is back has met a second event, however soon
        let back = known.retried && known.fence == fence;
        if same_event && !back {
            return (false, first && known.retried);
        }
        *known = Refused { at: now.mono, fence, retried: false, ..known.clone() };
        (true, false)
    }

    /// The failures before this one, for the ladder.
    fn count_failure(&mut self, now: Now, slot: usize, reason: Reason, counts: bool) -> u32 {
        let ttl = self.settings.limits.quota_failure_ttl;
        let account = &mut self.accounts[slot];
        if !climbs(reason) {
            return 0;
        }
        if now.mono > account.quota_until.after(ttl) {
            account.quota_failures = 0;
        }
        if !counts {
            return account.quota_failures.saturating_sub(1);
        }
        account.quota_failures = account.quota_failures.saturating_add(1);
        account.quota_failures - 1
    }

    /// Finds the holder another account; its lease moves there at once.
    fn move_on(&mut self, now: Now, lease: &Lease, effects: &mut Vec<Effect>) -> (Action, Duration, Option<Fence>) {
        let ask = ask_again(lease, self.display_of(lease));
        // its own account's time, for when nobody else's is known
        let own = self.slots.get(&lease.account).and_then(|slot| match self.obstacle(*slot, &ask, now) {
            Some((Why::Limited, Some(until))) => Some(until.mono(now).since(now.mono)),
            _ => None,
        });
        // after a restart nothing new is granted before the holders had time to come back
        let choice = match self.grace_until {
            Some(until) => Choice::Wait { kind: Kind::NoCapacity, earliest: Some(until) },
            None => self.other_quota(now, lease, &ask).unwrap_or_else(|| self.choose(now, &ask, now.mono)),
        };
        match (choice, own) {
            (Choice::Grant { slot, by, other }, _) if !self.draining => {
                self.end_lease(now, lease.fence, Ending::Switched, effects);
                let fence = self.grant(now, ask, slot, (by, other), effects);
                (Action::Switch, Duration::ZERO, Some(fence))
            }
            (Choice::Wait { earliest: Some(at), .. }, _) => (Action::Wait, at.since(now.mono), None),
            // the others are busy: no request goes upstream before its own limit has run out
            (_, Some(own)) if !self.draining => (Action::Wait, own, None),
            (Choice::Wait { .. }, _) => (Action::Wait, SHORTEST_WAIT, None),
            (Choice::Grant { .. } | Choice::Refuse(_), _) => (Action::Stop, Duration::ZERO, None),
        }
    }

    /// The other quota of the lease's own account, where that goes before another account.
    fn other_quota(&self, now: Now, lease: &Lease, ask: &Ask) -> Option<Choice> {
        let lanes = self.lanes(&ask.target);
        let slot = *self.slots.get(&lease.account)?;
        if self.settings.quota.fallback != Fallback::SameAccountFirst || lanes.second.is_none() {
            return None;
        }
        // the lease that moves makes the room itself
        let account = &self.accounts[slot];
        let room = account.leases <= most_of(&self.settings.leases, account.policy.capacity);
        let open = self.obstacle(slot, ask, now).is_none_or(|(why, _)| why == Why::Busy && room);
        open.then(|| Choice::Grant { slot, by: By::SameAccount, other: is_closed(account, lanes.first, now) })
    }

    fn display_of(&self, lease: &Lease) -> Option<Box<str>> {
        lease.pinned.then(|| lease.account.to_string().into())
    }

    /// The wait that applies: the stated one, not below two seconds, else the table's.
    fn wait_of(&self, reason: Reason, stated: Option<Duration>, failures: u32) -> Duration {
        let limits = &self.settings.limits;
        let ladder = || {
            let step = (failures as usize).min(limits.quota_backoff.len().saturating_sub(1));
            limits.quota_backoff.get(step).copied().unwrap_or(limits.unknown_backoff)
        };
        if let Some(wait) = stated {
            return wait.max(SHORTEST_WAIT);
        }
        let table = match reason {
            Reason::QuotaExhausted | Reason::OutOfCredit | Reason::Forbidden => ladder(),
            Reason::RateLimitExceeded => limits.rate_limit_backoff,
            Reason::ModelCapacityExhausted => limits.capacity_backoff,
            Reason::ServerError => limits.server_error_backoff,
            Reason::Unknown | Reason::AuthFailed | Reason::VerificationRequired | Reason::RequestRejected => {
                limits.unknown_backoff
            }
        };
        // a configured zero would send the holder back to the account that just refused it
        table.max(SHORTEST_BACKOFF)
    }
}

/// Whether this reason climbs the ladder.
fn climbs(reason: Reason) -> bool {
    matches!(reason, Reason::QuotaExhausted | Reason::OutOfCredit | Reason::Forbidden)
}

/// The request that would lead to this lease.
fn ask_again(lease: &Lease, account: Option<Box<str>>) -> Ask {
    Ask {
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

fn decision(action: Action, after: Duration, reason: Option<Reason>, scope: Option<Scope>) -> Decision {
    Decision { action, after, reason, scope, lease: None }
}
