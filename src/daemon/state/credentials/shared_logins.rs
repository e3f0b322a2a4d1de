//! Logins of accounts that other hosts use, too: which host refreshes them, and answers that the pool does not have yet.

use std::time::Duration;

use super::{LoginRefresh, has_ended};
use crate::credential::{Credential, LinkMode};
use crate::daemon::state::State;
use crate::daemon::state::shared_accounts::KnownTokenEnd;
use crate::pool::{AccountId, CredentialKind, LoginState, Now, Renewing, Wall};
use crate::shared_pool::TokenGeneration;

impl LoginRefresh {
    /// The current credential of an account is the answer to a refresh of this generation, which the pool does not have.
    pub(crate) fn note_pool_answer(&mut self, id: AccountId, from: TokenGeneration) {
        self.pool_answers.insert(id, from);
    }

    /// The pool has it, or something newer.
    pub(crate) fn pool_answer_stored(&mut self, id: AccountId) {
        self.pool_answers.remove(&id);
    }
}

impl State {
    /// Whether this host may refresh the logins of the shared pool.
    pub(crate) fn may_refresh_shared_logins(&self) -> bool {
        self.config.config.shared_pool.refresher
            && self
                .shared
                .many_hosts
                .membership()
                .is_some_and(|membership| membership.refresher && membership.keys.can_refresh())
    }

    /// Has the shared logins looked at again when this host has got or lost the right to refresh them.
    pub(crate) fn note_refresh_right(&mut self) {
        if self.shared_accounts.is_empty() {
            return;
        }
        let may_refresh = self.may_refresh_shared_logins();
        if std::mem::replace(&mut self.logins.may_refresh_shared, may_refresh) != may_refresh {
            self.shared_accounts.ids().into_iter().for_each(|id| self.logins.account_changed(id));
        }
    }

    /// Whether the pool has a refresh token of a shared account.
    pub(super) fn pool_has_refresh(&self, id: AccountId) -> bool {
        self.shared_accounts.get(id).is_some_and(|note| note.has_refresh != Some(false)) && !self.keeps_refresh_here(id)
    }

    /// Whether a shared login is another tool's on this host, and the pool has no refresh token of it: only this host, or
    /// the tool, gets it its next tokens. The other hosts have its access tokens from here.
    pub(crate) fn keeps_refresh_here(&self, id: AccountId) -> bool {
        self.links.get(id).is_some_and(|link| link.mode != LinkMode::TakeOver)
            && self.shared_accounts.get(id).is_some_and(|note| note.has_refresh != Some(true))
    }

    /// Whether only other hosts get this account its next token.
    pub(crate) fn is_refreshed_elsewhere(&self, id: AccountId) -> bool {
        let is_login = || self.credentials.get(id).is_some_and(|known| known.kind == CredentialKind::Oauth);
        self.pool_has_refresh(id) && is_login() && !self.logins.plan.contains(id) && !self.can_be_refreshed(id)
    }

    /// The account waits for another host: its token cannot be handed out any more, and this host cannot refresh it.
    pub(crate) fn waits_for_other_host(&self, id: AccountId, now: Now) -> bool {
        self.is_refreshed_elsewhere(id)
            && self.low_elsewhere(id).is_some_and(|low| low <= now.wall)
            && self.pool.account(id).is_some_and(|account| account.record.login_state == LoginState::Ready)
    }

    /// Why no lease may be granted on the account until it has another token.
    pub(crate) fn token_blocked(&self, id: AccountId, now: Now) -> Option<Renewing> {
        let here = self.logins.plan.blocked(id, now);
        here.or_else(|| self.waits_for_other_host(id, now).then_some(Renewing { until: None }))
    }

    /// How long until the next account waits for another host.
    pub(crate) fn next_wait_for_other_host(&self, now: Now) -> Option<Duration> {
        if self.shared_accounts.is_empty() {
            return None;
        }
        let elsewhere = self.shared_accounts.ids().into_iter().filter(|id| self.is_refreshed_elsewhere(*id));
        let lows = elsewhere.filter_map(|id| self.low_elsewhere(id)).filter(|low| *low > now.wall);
        lows.min().map(|low| low.since(now.wall))
    }

    /// From when on the token has too little life left to be handed out.
    fn low_elsewhere(&self, id: AccountId) -> Option<Wall> {
        let end = self.credentials.get(id)?.expires_at?;
        Some(Wall(end.0.saturating_sub(crate::pool::millis(self.logins.rules().min_life))))
    }

    /// Whether the token has ended and no host of the pool is known to get another one.
    pub(super) fn has_ended_for_good(&self, id: AccountId, credential: &Credential, now: Wall) -> bool {
        has_ended(credential, now) && !self.logins.plan.contains(id) && !self.is_refreshed_elsewhere(id)
    }

    /// Which generation of a shared login this host follows up with one that it has found, if it may give it to the pool.
    pub(crate) fn generation_to_give(&self, id: AccountId) -> Option<TokenGeneration> {
        let is_admin = || self.shared.many_hosts.membership().is_some_and(|membership| membership.admin);
        let may_give = self.may_refresh_shared_logins() || self.keeps_refresh_here(id) && is_admin();
        let note = self.shared_accounts.get(id).filter(|_| may_give)?;
        Some(note.generation)
    }

    /// The answers that the pool does not have yet, and of which generation each is. What was adopted since is newer.
    pub(crate) fn pool_answers(&self) -> Vec<(AccountId, TokenGeneration)> {
        let mut answers: Vec<_> = self.logins.pool_answers.iter().map(|(id, from)| (*id, *from)).collect();
        answers.retain(|(id, from)| self.shared_accounts.get(*id).is_some_and(|note| note.generation <= *from));
        answers.sort_unstable_by_key(|(id, _)| *id);
        answers
    }

    /// The answer of an account that the pool does not have yet.
    pub(crate) fn pool_answer(&self, id: AccountId) -> Option<(TokenGeneration, Credential)> {
        let from = *self.logins.pool_answers.get(&id)?;
        let is_newest = self.shared_accounts.get(id).is_some_and(|note| note.generation <= from);
        let credential = self.credentials.get(id)?;
        // a refresh token that only this host uses stays here
        let given = if self.keeps_refresh_here(id) { credential.without_refresh() } else { credential.duplicate() };
        is_newest.then_some((from, given))
    }

    /// The database says when the token of this generation ends. If it is the one that is used here, its end is known whatever
    /// happens to this host's clock; it is not while the pool does not have an answer that is in use already.
    pub(crate) fn note_token_end(&mut self, id: AccountId, generation: TokenGeneration, at: Option<Wall>) {
        let is_in_use = self.shared_accounts.get(id).is_some_and(|note| note.generation == generation);
        if is_in_use && !self.logins.pool_answers.contains_key(&id) {
            self.shared_accounts.set_token_end(id, KnownTokenEnd { credential: self.logins.generation(id), at });
        }
    }

    /// When the token of an account ends on the database's clock (`None`: never): as the database says, or by this host's
    /// clock if it got the token a moment ago.
    pub(crate) fn token_end(&self, id: AccountId) -> Option<Wall> {
        let here = || {
            let end = self.credentials.get(id).and_then(|credential| credential.expires_at);
            end.map(|at| self.shared.many_hosts.to_database(at))
        };
        self.shared_accounts.token_end(id, self.logins.generation(id)).map_or_else(here, |known| known.at)
    }
}
