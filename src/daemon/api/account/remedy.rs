//! What lets an account serve again.

use crate::credential::LinkMode;
use crate::daemon::{state::State, view};
use crate::pool::{Account, LoginProblem, LoginState, Now};

/// What makes a login work again that has ended or is refused.
pub(super) fn login_remedy(state: &State, account: &Account) -> Option<String> {
    let record = &account.record;
    let LoginState::NeedsLogin(problem) = &record.login_state else {
        return view::denial_remedy(state, account);
    };
    let remedy = match state.links.get(record.id).filter(|link| link.mode == LinkMode::Link) {
        Some(link) if *problem == LoginProblem::AccessTokenEnded => {
            return Some(format!("it serves once {} has refreshed its login", link.tool));
        }
        Some(link) => format!("with {}, or: {}", link.tool, view::login_command(state, account)),
        None => view::login_command(state, account),
    };
    Some(format!("its login has ended; log in again: {remedy}"))
}

/// What lets an account serve again that is disabled, or that its owner must confirm.
pub(super) fn other_remedy(state: &State, account: &Account, now: Now) -> Option<String> {
    let remedy = view::remedy(state, now, account);
    if !account.enabled() {
        return Some(format!("it is disabled; to use it: {}", remedy?));
    }
    if matches!(account.record.login_state, LoginState::NeedsVerification(_)) {
        let why = view::state_reason(state, now, account).map(|why| format!(": {why}")).unwrap_or_default();
        return Some(format!("its provider wants it confirmed{why}; then: {}", remedy?));
    }
    None
}
