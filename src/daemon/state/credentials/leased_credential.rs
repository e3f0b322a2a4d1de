//! The credential of a lease: whether it can be used, and the wait for its refresh.
//!
//! Code that needs the credential of a lease calls [`Daemon::fresh_credential`].

use super::has_ended;
use crate::credential::Credential;
use crate::credential::refresh::{RefreshReason, RefreshSchedule};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, Fence, LoginState, Mono, Now};

/// What a credential is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialUse {
    /// It is handed out: it must live for a while.
    HandOut,
    /// It goes upstream at once: it must live.
    Forward,
    /// The one that was handed out before was refused with a 401: another one.
    Replace,
}

/// Whether a lease's credential can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CredentialState {
    /// The current credential of this account can be used.
    Usable(AccountId),
    /// It is being refreshed.
    BeingRefreshed(AccountId),
}

/// A lease's credential, or why it has none that can be used.
pub(crate) type CredentialResult = Result<CredentialState, CredentialProblem>;

/// Why a lease has no usable credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CredentialProblem {
    /// The lease has ended.
    LeaseEnded,
    /// The program that it would be handed to is not known to be the agent that it states.
    NotAttested(Fence),
    /// The user must log in again.
    NeedsLogin(AccountId),
    /// It could not be refreshed; the next attempt is at this time, where that is known.
    NotNow(AccountId, Option<Mono>),
    /// It was refreshed a moment ago, so that another one would be refused as well.
    JustRefreshed(AccountId),
    /// It cannot be refreshed at all.
    CannotRefresh(AccountId),
}

impl State {
    /// Whether the token of an account has too little life left to be handed out, and can be refreshed.
    pub(crate) fn is_low(&self, id: AccountId, now: Now) -> bool {
        let ends = self.credentials.get(id).is_some_and(|credential| credential.expires_at.is_some());
        ends && (self.logins.plan.expires_soon(id, now) || self.waits_for_other_host(id, now))
    }

    /// Whether a lease has to wait for its account's token.
    pub(crate) fn waits_for_token(&self, fence: Fence, now: Now) -> bool {
        self.pool.lease(fence).is_some_and(|lease| self.is_low(lease.account, now))
    }

    /// Whether there is a newer token than this lease was handed.
    pub(crate) fn has_newer_token(&self, fence: Fence, now: Now) -> bool {
        let Some(id) = self.pool.lease(fence).map(|lease| lease.account) else { return false };
        let handed = self.logins.handed.get(&fence);
        handed.is_some_and(|handed| *handed < self.logins.generation(id)) && !self.is_low(id, now)
    }

    /// Remembers which credential a lease was handed, so that a refusal is attributed to that one.
    pub(crate) fn note_handed(&mut self, fence: Fence) {
        let Some(id) = self.pool.lease(fence).map(|lease| lease.account) else { return };
        if self.logins.plan.contains(id) {
            self.logins.handed.insert(fence, self.logins.generation(id));
        }
    }

    /// Whether the credential of a lease can be used; if not, it is refreshed where possible.
    pub(crate) fn credential_for(&mut self, fence: Fence, need: CredentialUse) -> CredentialResult {
        let found = self.current_credential(fence, need)?;
        let CredentialState::BeingRefreshed(id) = found else { return Ok(found) };
        let now = clock::now();
        let want = if need == CredentialUse::Replace { RefreshReason::Refused } else { RefreshReason::ExpiresSoon };
        let soon = now.mono.after(self.logins.rules().wait);
        match self.logins.want(id, want, now) {
            RefreshSchedule::Pending => Ok(found),
            RefreshSchedule::NotBefore(at) if at <= soon => Ok(found),
            RefreshSchedule::NotBefore(at) => Err(CredentialProblem::NotNow(id, Some(at))),
            RefreshSchedule::JustRenewed => Err(CredentialProblem::JustRefreshed(id)),
            RefreshSchedule::Impossible => Err(CredentialProblem::CannotRefresh(id)),
        }
    }

    /// The same, without a wish for a refresh.
    pub(crate) fn current_credential(&mut self, fence: Fence, need: CredentialUse) -> CredentialResult {
        let now = clock::now();
        let lease = self.pool.lease(fence).ok_or(CredentialProblem::LeaseEnded)?;
        let id = lease.account;
        let account = self.pool.account(id).ok_or(CredentialProblem::LeaseEnded)?;
        // what goes upstream was checked with its request
        if need != CredentialUse::Forward && !account.may_be_handed_to(&lease.holder.attested) {
            return Err(CredentialProblem::NotAttested(fence));
        }
        let credential = self.credentials.get(id);
        let is_known = self.logins.plan.contains(id);
        if matches!(account.record.login_state, LoginState::NeedsLogin(_))
            && !is_known
            && (need == CredentialUse::Replace || credential.is_none_or(|known| has_ended(known, now.wall)))
        {
            return Err(CredentialProblem::NeedsLogin(id));
        }
        let credential = credential.ok_or(CredentialProblem::CannotRefresh(id))?;
        // after a failed attempt it is no use to wait: a token with some life left is used to its end
        let is_stuck = || self.token_blocked(id, now).is_some();
        let is_usable = match need {
            CredentialUse::Forward => !self.is_low(id, now) || !has_ended(credential, now.wall) && is_stuck(),
            CredentialUse::HandOut => !self.is_low(id, now),
            CredentialUse::Replace => self.has_newer_token(fence, now),
        };
        if is_usable {
            self.note_handed(fence);
            return Ok(CredentialState::Usable(id));
        }
        if is_known {
            Ok(CredentialState::BeingRefreshed(id))
        } else if self.is_refreshed_elsewhere(id) {
            Err(CredentialProblem::NotNow(id, None))
        } else {
            Err(CredentialProblem::CannotRefresh(id))
        }
    }
}

impl Daemon {
    /// Waits until the credential of a lease can be used, for at most `refresh.wait`, and answers what `read` makes of
    /// it under the lock.
    pub(crate) async fn fresh_credential<T>(
        &self,
        fence: Fence,
        need: CredentialUse,
        read: impl Fn(&State, AccountId, &Credential) -> T,
    ) -> Result<T, CredentialProblem> {
        let usable = |state: &State, id: AccountId| {
            let credential = state.credentials.get(id).ok_or(CredentialProblem::CannotRefresh(id))?;
            Ok(read(state, id, credential))
        };
        let (wait, attempt) = {
            let state = &mut *self.state();
            match state.credential_for(fence, need)? {
                CredentialState::Usable(id) => return usable(state, id),
                CredentialState::BeingRefreshed(id) => (state.logins.rules().wait, state.logins.attempt_ends(id)),
            }
        };
        let _ended_or_not = tokio::time::timeout(wait, attempt).await;
        let state = &mut *self.state();
        match state.current_credential(fence, need)? {
            CredentialState::Usable(id) => usable(state, id),
            CredentialState::BeingRefreshed(id) => Err(CredentialProblem::NotNow(id, None)),
        }
    }
}
