//! Whose fault it is when several accounts in a row refuse the same request: the request's.

use crate::limits::{Reason, Scope};

use super::Pool;
use super::command::{Effect, Event};
use super::id::{AccountId, Fence};
use super::limit::LimitSource;
use super::time::Now;

/// So many accounts in a row that refuse the same request prove that it is the request.
const SEVERAL: usize = 3;
/// Most steps that are remembered: a request that was refused so often is blamed long since.
const MOST_STEPS: usize = 16;

/// What one request met on its way from account to account.
#[derive(Debug, Default)]
pub(super) struct Chain {
    steps: Vec<Step>,
    /// Who said that it is the request, each time.
    refused_by: Vec<AccountId>,
}

/// A refusal that may have been the request's fault, and what was filed for it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) account: AccountId,
    pub(super) reason: Reason,
    pub(super) scope: Scope,
    pub(super) key: String,
    /// What it cost the account's health.
    pub(super) points: f64,
}

/// Reasons an upstream gives for a request as well as for an account. An exhausted quota or a dead login is not among
/// them: several stale accounts are no proof.
pub(super) fn may_be_the_request(reason: Reason) -> bool {
    matches!(reason, Reason::Forbidden | Reason::Unknown)
}

impl Chain {
    pub(super) fn push(&mut self, step: Step) {
        if step.scope == Scope::Request && self.refused_by.len() < MOST_STEPS {
            self.refused_by.push(step.account);
        }
        if self.steps.len() < MOST_STEPS && self.steps.iter().all(|known| known.account != step.account) {
            self.steps.push(step);
        }
    }

    /// Whether the request is at fault; `last` says that nobody else is left to ask.
    pub(super) fn blames_the_request(&self, last: bool) -> bool {
        let sure = |step: &Step| step.reason == Reason::Forbidden;
        self.steps.len() >= SEVERAL
            || self.refused_by.len() >= SEVERAL
            || last && self.steps.len() >= 2 && self.steps.iter().all(sure)
    }
}

impl Chain {
    /// The accounts that refused the request as such: they would again.
    pub(super) fn seen_by(&self) -> Vec<AccountId> {
        let mut accounts = self.refused_by.clone();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }
}

impl Pool {
    /// Notes that this lease's account refused the request; whatever else it met before in between ends the row.
    pub(super) fn note_step(&mut self, fence: Fence, step: Option<Step>) {
        match step {
            Some(step) => self.chains.entry(fence).or_default().push(step),
            None => drop(self.chains.remove(&fence)),
        }
    }

    /// Takes back what the accounts were charged with.
    pub(super) fn acquit(&mut self, now: Now, chain: Chain, effects: &mut Vec<Effect>) {
        // those that said themselves that it is the request were charged with nothing
        for step in chain.steps.into_iter().filter(|step| step.scope != Scope::Request) {
            let Some(&slot) = self.slots.get(&step.account) else { continue };
            let account = &mut self.accounts[slot];
            account.health.add(-step.points, &self.settings.selection.health, now.mono);
            account.quota_failures = account.quota_failures.saturating_sub(1);
            account.refused.retain(|refused| refused.scope != step.scope || refused.key != step.key);
            let guess = |limit: &super::Limit| {
                limit.scope == step.scope
                    && limit.key == step.key
                    && limit.reason == step.reason
                    && limit.source == LimitSource::Table
            };
            if let Some(at) = account.limits.iter().position(guess) {
                let limit = account.limits.remove(at);
                effects.push(Effect::DropLimit(step.account, Some((limit.scope, limit.key.clone()))));
                effects.push(Effect::Emit(Event::Recovered(step.account, limit.key)));
                self.stirred.all = true;
            }
            self.refresh(slot);
        }
        self.find_next_limit_end(now);
    }
}
