//! `account.refresh`: refreshes the token now.

use std::{sync::Arc, time::Duration};

use crate::credential::refresh::{RefreshReason, RefreshSchedule};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::state::{CredentialProblem, Daemon};
use crate::daemon::{api::session::find_account, os::clock, view};
use crate::protocol::{AccountRef, ErrorInfo, ErrorKind};

/// How long the call waits; longer than an attempt takes.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// Refreshes the token, and answers with the account.
pub async fn refresh(daemon: Arc<Daemon>, params: AccountRef) -> AnswerResult {
    let (id, before, attempt) = {
        let state = &mut *daemon.state();
        let id = find_account(state, &params.account)?;
        match state.logins.want(id, RefreshReason::UserRequest, clock::now()) {
            RefreshSchedule::Pending => {}
            RefreshSchedule::NotBefore(at) => {
                return Err(view::credential_problem(state, CredentialProblem::NotNow(id, Some(at))));
            }
            RefreshSchedule::JustRenewed | RefreshSchedule::Impossible => {
                return Err(view::credential_problem(state, CredentialProblem::CannotRefresh(id)));
            }
        }
        (id, state.logins.generation(id), state.logins.attempt_ends(id))
    };
    let _ended_or_not = tokio::time::timeout(LONGEST_WAIT, attempt).await;
    let state = &*daemon.state();
    let Some(account) = state.pool.account(id).filter(|_| state.logins.generation(id) == before) else {
        return view::account_answer(state, clock::now(), id);
    };
    if let crate::pool::LoginState::NeedsLogin(_) = &account.record.login_state {
        let why = view::state_reason(state, clock::now(), account).unwrap_or_default();
        let message = format!("{} needs a new login: {why}", account.display_name());
        return Err(
            ErrorInfo::new(ErrorKind::NeedsLogin, message).hint(format!("lessor login {}", account.record.provider))
        );
    }
    Err(view::credential_problem(state, CredentialProblem::NotNow(id, None)))
}
