//! `account.check`: tries an account's credential with one request that costs nothing.

use std::sync::Arc;

use super::refresh::refresh as refresh_account;
use crate::credential::check::{CheckResult, CredentialCheck, check as check_credential};
use crate::daemon::api::reply::UnsavedAnswer;
use crate::daemon::api::session::find_account;
use crate::daemon::state::{Daemon, State, Unsaved, credential_check, login_state_of, set_login_state};
use crate::daemon::{os::clock, view};
use crate::limits::{Reason, Scope, Verdict};
use crate::pool::{AccountId, Command, DenialsEnd, LoginProblem, LoginState, Now, RefusalDetails, Verification};
use crate::protocol::{AccountRef, Answer, CheckInfo, ErrorInfo, ErrorKind};
use crate::provider::vendor_account_id;

/// Tries the credential, and answers what the provider said. A login is refreshed first if its token has ended, and
/// once if the token is refused.
pub async fn check(daemon: Arc<Daemon>, params: AccountRef) -> UnsavedAnswer {
    let id = find_account(&daemon.state(), &params.account)?;
    let by_id = || AccountRef { account: id.to_string() };
    if is_over(&daemon.state(), id, clock::now()) {
        refresh_account(daemon.clone(), by_id()).await?;
    }
    let (mut tried, mut result) = attempt(&daemon, id).await?;
    let is_refused = matches!(&result, CheckResult::Refused(_, verdict) if verdict.reason == Reason::AuthFailed);
    let can_refresh = daemon.state().logins.plan.can_refresh(id, clock::now());
    if is_refused && can_refresh && refresh_account(daemon.clone(), by_id()).await.is_ok() {
        (tried, result) = attempt(&daemon, id).await?;
    }
    let state = &mut *daemon.state();
    let now = clock::now();
    let is_current = state.credentials.get(id).is_some_and(|credential| credential.access == tried.secret);
    if is_current {
        match &result {
            CheckResult::Accepted(_) => accepted(state, id, now),
            CheckResult::Refused(_, verdict) => refused(state, id, verdict, now),
            CheckResult::Unreachable(_) | CheckResult::Unknown(..) => {}
        }
    }
    let account = state.pool.account(id).map(|account| view::account_info(state, now, account));
    let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, format!("account {id} was removed meanwhile"));
    let account = account.ok_or_else(removed)?;
    let (outcome, status, message, link) = match result {
        CheckResult::Accepted(status) => ("accepted", Some(status), None, None),
        CheckResult::Refused(status, verdict) => ("refused", Some(status), Some(verdict.evidence), verdict.link),
        CheckResult::Unreachable(why) => ("unreachable", None, Some(why), None),
        CheckResult::Unknown(status, why) => ("unknown", Some(status), Some(why), None),
    };
    let info = CheckInfo { outcome: outcome.to_owned(), status, message, link, account };
    Ok(Unsaved::nothing_to_save(Answer::Checked(Box::new(info))))
}

/// Whether the account's token has ended and can be refreshed.
fn is_over(state: &State, id: AccountId, now: Now) -> bool {
    let credential = state.credentials.get(id);
    let ends = credential.is_some_and(|known| known.expires_at.is_some_and(|end| end <= now.wall));
    ends && state.logins.plan.contains(id)
}

async fn attempt(daemon: &Daemon, id: AccountId) -> Result<(CredentialCheck, CheckResult), ErrorInfo> {
    let what = what_to_check(&daemon.state(), id, clock::now())?;
    let result = check_credential(&what, clock::now().wall).await;
    Ok((what, result))
}

fn what_to_check(state: &State, id: AccountId, now: Now) -> Result<CredentialCheck, ErrorInfo> {
    let account = state.pool.account(id).ok_or_else(|| ErrorInfo::new(ErrorKind::UnknownAccount, "it was removed"))?;
    let record = &account.record;
    let credential = state.credentials.get(id).filter(|credential| !credential.access.expose().is_empty());
    let usable = credential.filter(|credential| credential.expires_at.is_none_or(|end| end > now.wall));
    let Some(credential) = usable else {
        let why = view::state_reason(state, now, account);
        let message = format!("{} has no token that could be tried", state.account_name(id));
        let message = why.map_or_else(|| message.clone(), |why| format!("{message}: {why}"));
        return Err(ErrorInfo::new(ErrorKind::NeedsLogin, message).hint(view::renewal_hint(state, account)));
    };
    let secret = credential.access.duplicate();
    let vendor_id = vendor_account_id(&record.provider, &record.owner).map(str::to_owned);
    Ok(credential_check(&state.config.config, &record.provider, credential.api_kind(), secret, vendor_id))
}

/// The provider accepts the credential.
fn accepted(state: &mut State, id: AccountId, now: Now) {
    state.credential_accepted(id, now);
    state.apply_internal(now, Command::ForgetDenials(id, DenialsEnd::Accepted));
    let Some(account) = state.pool.account(id) else { return };
    let mends = match &account.record.login_state {
        LoginState::Ready | LoginState::NeedsVerification(_) => false,
        // the refresh token is void: the access token serves to its end
        LoginState::NeedsLogin(LoginProblem::RefreshRejected { .. }) => false,
        LoginState::NeedsLogin(_) => true,
    };
    if mends && let Some(login_state) = state.credentials.get(id).map(login_state_of) {
        state.apply_internal(now, set_login_state(id, login_state));
    }
}

/// The provider refuses the account: a limit like that of a refused request.
fn refused(state: &mut State, id: AccountId, verdict: &Verdict, now: Now) {
    if verdict.reason == Reason::VerificationRequired {
        let login_state = LoginState::NeedsVerification(Verification::at(verdict.link.as_deref()));
        return state.apply_internal(now, set_login_state(id, login_state));
    }
    // what is refused for a request of this kind is the account's
    let details = RefusalDetails { scope: Some(Scope::Account), ..RefusalDetails::read(verdict) };
    state.apply_internal(now, Command::Deny(id, Box::new(details)));
}
