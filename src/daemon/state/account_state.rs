//! The state of an account, in one word.

use crate::pool::{Account, LoginState, Now};

/// Whether an account can serve, and what is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AccountState {
    /// It can serve.
    Ready,
    /// A limit holds, or its token is being renewed.
    Limited,
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
            Self::Limited => "limited",
            Self::NeedsLogin => "needs_login",
            Self::NeedsVerification => "needs_verification",
            Self::Disabled => "disabled",
        }
    }
}

pub(crate) fn account_state(account: &Account, now: Now) -> AccountState {
    let limited = || account.renewing().is_some() || account.limits().iter().any(|limit| !limit.until.passed(now));
    match account.record.login_state {
        _ if !account.enabled() => AccountState::Disabled,
        LoginState::NeedsLogin(_) => AccountState::NeedsLogin,
        LoginState::NeedsVerification(_) => AccountState::NeedsVerification,
        LoginState::Ready if limited() => AccountState::Limited,
        LoginState::Ready => AccountState::Ready,
    }
}
