//! The state of an account, in one word.

use super::State;
use crate::credential::refresh::RefreshFault;
use crate::limits::Scope;
use crate::pool::{Account, AccountId, Ineligible, Limit, LoginProblem, LoginState, Now};
use crate::provider;

/// Whether an account can serve, and what is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AccountState {
    /// It can serve. A model that its plan lacks is no limit.
    Ready,
    /// A limit holds on a model, or on one of its quotas: it can serve other requests.
    PartlyLimited,
    /// A limit holds on all of it.
    Limited,
    /// Its token has ended or was refused, and is being refreshed.
    WaitingForToken,
    /// Its token has ended, and what its refresh needs is missing: settings, or the tool that lessor starts.
    CannotRenew,
    /// The user must log in again.
    NeedsLogin,
    /// The user must confirm something with the provider.
    NeedsVerification,
    /// The user or the configuration turned it off.
    Disabled,
}

impl AccountState {
    /// The stable name, as in the protocol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::PartlyLimited => "partly_limited",
            Self::Limited => "limited",
            Self::WaitingForToken => "waiting_for_token",
            Self::CannotRenew => "cannot_renew",
            Self::NeedsLogin => "needs_login",
            Self::NeedsVerification => "needs_verification",
            Self::Disabled => "disabled",
        }
    }
}

impl State {
    /// The state of an account, in one word.
    pub(crate) fn account_state(&self, account: &Account, now: Now) -> AccountState {
        match account.record.login_state {
            _ if !account.enabled() => AccountState::Disabled,
            LoginState::NeedsLogin(LoginProblem::AccessTokenEnded)
                if self.missing_for_refresh(account.record.id).is_some() =>
            {
                AccountState::CannotRenew
            }
            LoginState::NeedsLogin(_) => AccountState::NeedsLogin,
            LoginState::NeedsVerification(_) => AccountState::NeedsVerification,
            LoginState::Ready if account.renewing().is_some() => match self.tool_trouble(account.record.id) {
                Some(RefreshFault::ToolWantsLogin) => AccountState::NeedsLogin,
                Some(_) => AccountState::CannotRenew,
                None => AccountState::WaitingForToken,
            },
            LoginState::Ready => by_limits(account, now),
        }
    }
}

impl State {
    /// The name of what keeps an account from serving a request: its state, or what is in the way of this request.
    pub(crate) fn obstacle_name(&self, now: Now, account: AccountId, why: Ineligible) -> &'static str {
        let state = self.pool.account(account).map(|account| self.account_state(account, now));
        match (why, state) {
            (Ineligible::NeedsLogin, Some(state @ AccountState::CannotRenew))
            // its tool does not refresh it, and waiting does not help
            | (Ineligible::Renewing, Some(state @ (AccountState::CannotRenew | AccountState::NeedsLogin))) => state.name(),
            _ => why.name(),
        }
    }
}

fn by_limits(account: &Account, now: Now) -> AccountState {
    let live = || account.limits().iter().filter(|limit| !limit.until.passed(now) && !limit.is_missing_model());
    let is_limited = |key: &str| live().any(|limit| limit.scope == Scope::Pool && limit.key == key);
    let quotas = provider::separate_quotas(&account.record.provider, account.record.kind);
    let all_quotas = match quotas {
        // whatever its name, it is the only one
        [] => live().any(|limit| limit.scope == Scope::Pool),
        quotas => quotas.iter().all(|key| is_limited(key)),
    };
    let is_whole = |limit: &Limit| limit.scope == Scope::Account;
    if all_quotas || live().any(is_whole) {
        AccountState::Limited
    } else if live().next().is_some() {
        AccountState::PartlyLimited
    } else {
        AccountState::Ready
    }
}
