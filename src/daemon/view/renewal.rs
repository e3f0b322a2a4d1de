//! What the user can do about a credential that does not work.

use crate::daemon::state::{State, is_ours_to_refresh};
use crate::pool::{Account, CredentialKind, LoginState};

/// The command that gives an account a credential that works.
pub(crate) fn renewal_hint(state: &State, account: &Account) -> String {
    let record = &account.record;
    let (id, provider) = (record.id, &record.provider);
    if let LoginState::NeedsVerification(_) = &record.login_state {
        return format!("confirm the account with its provider, then: lessor account verify {id}");
    }
    match record.kind {
        CredentialKind::ApiKey => format!("replace the key: lessor account set {id} --api-key-stdin"),
        CredentialKind::Token => format!("replace the token: lessor account set {id} --token-stdin"),
        CredentialKind::Oauth => match state.links.get(id).filter(|link| !is_ours_to_refresh(link)) {
            Some(link) => {
                format!("{} refreshes this login: use it once, or log in again there; lessor then follows", link.tool)
            }
            None => match state.missing_for_refresh(id).filter(|_| !has_ended(&record.login_state)) {
                Some(missing) => missing.remedy(),
                None => format!("log in again: lessor login {provider}"),
            },
        },
    }
}

fn has_ended(login_state: &LoginState) -> bool {
    matches!(login_state, LoginState::NeedsLogin(problem) if *problem != crate::pool::LoginProblem::AccessTokenEnded)
}
