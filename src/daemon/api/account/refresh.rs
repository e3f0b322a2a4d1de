//! `account.refresh`: refreshes the token now.

use std::{sync::Arc, time::Duration};

use crate::credential::refresh::{RefreshFault, RefreshReason, RefreshSchedule};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::{find_account, shutting_down};
use crate::daemon::many_hosts::status::SeenHost;
use crate::daemon::state::{CredentialProblem, Daemon, State, set_login_state};
use crate::daemon::{os::clock, view};
use crate::pool::{AccountId, CredentialKind, LoginProblem, LoginState, Mono, Now};
use crate::protocol::{AccountRef, ErrorInfo, ErrorKind};

/// How long the call waits; longer than an attempt takes, also one that starts a tool.
const LONGEST_WAIT: Duration = Duration::from_secs(55);

/// Refreshes the token, and answers with the account. If that is not possible, the error says what helps.
pub async fn refresh(daemon: Arc<Daemon>, params: AccountRef) -> AnswerResult {
    let (id, before, attempt) = {
        let state = &mut *daemon.state();
        let id = find_account(state, &params.account)?;
        if state.logins.is_ending() {
            return Err(shutting_down(()));
        }
        let now = clock::now();
        if let Some(refusal) = refreshed_elsewhere(state, id) {
            return Err(refusal);
        }
        try_again(state, id, now);
        match state.logins.want(id, RefreshReason::UserRequest, now) {
            RefreshSchedule::Pending => {}
            RefreshSchedule::NotBefore(at) => return Err(failed(state, id, Some(at))),
            RefreshSchedule::JustRenewed | RefreshSchedule::Impossible => return Err(impossible(state, id)),
        }
        (id, state.logins.generation(id), state.logins.attempt_ends(id))
    };
    let has_ended = tokio::time::timeout(LONGEST_WAIT, attempt).await.is_ok();
    let state = &*daemon.state();
    // the token of an attempt that ran already can have been in use before this call
    let plan = &state.logins.plan;
    let succeeded = has_ended && !state.logins.is_ending() && plan.contains(id) && plan.last_failure(id).is_none();
    let is_old = state.logins.generation(id) == before && !succeeded;
    let Some(account) = state.pool.account(id).filter(|_| is_old) else {
        return view::account_answer(state, clock::now(), id);
    };
    if state.logins.is_ending() {
        return Err(shutting_down(()));
    }
    if let LoginState::NeedsLogin(_) = &account.record.login_state {
        return Err(impossible(state, id));
    }
    Err(failed(state, id, None))
}

/// The answer for a login that only other hosts of the shared pool refresh: which, and whether one is online.
fn refreshed_elsewhere(state: &State, id: AccountId) -> Option<ErrorInfo> {
    if !state.is_refreshed_elsewhere(id) || state.may_refresh_shared_logins() {
        return None;
    }
    let (name, hosts) = (state.account_name(id), &state.shared().many_hosts);
    let membership = hosts.membership();
    let is_refresher = membership.as_ref().is_some_and(|membership| membership.refresher);
    let known = hosts.status().hosts;
    let is_other = |seen: &&SeenHost| !seen.is_own && seen.host.refresher && seen.host.ended_at.is_none();
    let others: Vec<(&str, bool)> = known
        .iter()
        .filter(is_other)
        .filter(|seen| seen.host.joined_at.is_some())
        .map(|seen| (seen.host.name.as_str(), !seen.host.terms.is_empty()))
        .collect();
    let listed =
        |(host, is_online): &(&str, bool)| format!("{host} ({})", if *is_online { "online" } else { "offline" });
    let message = match others.as_slice() {
        [] => format!("no host of the shared pool refreshes the login of {name}"),
        others => {
            let hosts: Vec<String> = others.iter().map(listed).collect();
            format!("the login of {name} is refreshed by other hosts of the shared pool: {}", hosts.join(", "))
        }
    };
    let reference = state.account_reference(id);
    let hint = match others.iter().any(|(_, is_online)| *is_online) {
        true => format!("on one that is online: lessor account refresh {reference}"),
        false if is_refresher => "let this host do it: lessor config set pool.refresher true".to_owned(),
        false => {
            "start one of them; or, on an admin, let another host do it: lessor pool join-token --refresher".to_owned()
        }
    };
    Some(ErrorInfo::new(ErrorKind::NotAllowed, message).hint(hint))
}

/// Why a refresh has failed, or waits.
fn failed(state: &State, id: AccountId, at: Option<Mono>) -> ErrorInfo {
    let mut error = view::credential_problem(state, CredentialProblem::NotNow(id, at));
    let account = state.pool.account(id);
    let fault = state.logins.plan.last_failure(id).map(|(failure, _)| failure.fault);
    let remedy = match fault {
        Some(RefreshFault::Client) => format!("{}, then try again", view::client_check(state, id)),
        Some(RefreshFault::ClientRefused | RefreshFault::ClientUnknown) => match account {
            Some(account) => view::refused_client_remedy(state, account),
            None => return error,
        },
        Some(RefreshFault::Tool | RefreshFault::ToolWantsLogin) => match account {
            Some(account) => format!("log in again: {}", view::login_command(state, account)),
            None => return error,
        },
        _ => return error,
    };
    // time alone does not help
    (error.data.hint, error.data.retry_after_ms) = (Some(remedy), None);
    error
}

/// Puts a login back into the plan that was taken out of it for another reason than the token endpoint's word.
fn try_again(state: &mut State, id: AccountId, now: Now) {
    let Some(account) = state.pool.account(id) else { return };
    let is_final = match &account.record.login_state {
        LoginState::Ready | LoginState::NeedsVerification(_) => return,
        LoginState::NeedsLogin(LoginProblem::AccessTokenEnded) => return,
        LoginState::NeedsLogin(LoginProblem::RefreshRejected { .. }) => true,
        LoginState::NeedsLogin(LoginProblem::RejectedByProvider { .. } | LoginProblem::Described(_)) => false,
    };
    if !is_final && state.can_be_refreshed(id) {
        state.apply_internal(now, set_login_state(id, LoginState::NeedsLogin(LoginProblem::AccessTokenEnded)));
        state.update_refresh_plan(now);
    }
}

/// Why an account's credential cannot be refreshed, and what helps.
fn impossible(state: &State, id: AccountId) -> ErrorInfo {
    let now = clock::now();
    let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, format!("account {id} was removed meanwhile"));
    let Some(account) = state.pool.account(id) else { return removed() };
    let (record, name) = (&account.record, state.account_name(id));
    let renewal = view::renewal_hint(state, account);
    if !account.enabled() {
        return view::still_unusable(state, now, id).unwrap_or_else(removed);
    }
    let message = match (&record.login_state, record.kind) {
        (LoginState::NeedsLogin(_), CredentialKind::Oauth) => view::needs_login_words(state, now, account),
        (_, CredentialKind::ApiKey) => format!("{name} has an API key, which is not refreshed"),
        (_, CredentialKind::Token) => format!("{name} has a long-lived token, which is not refreshed"),
        (_, CredentialKind::Oauth) => match state.missing_for_refresh(id) {
            Some(missing) => format!("the token of {name} cannot be refreshed: {missing}"),
            None if state.is_shared(id) && state.links.get(id).is_none() => {
                format!("the token of {name} comes from the host of the shared pool where its tool has the login")
            }
            None if state.links.get(id).is_some() => format!("the token of {name} is not refreshed by lessor"),
            None => format!("the login of {name} has no refresh token"),
        },
    };
    ErrorInfo::new(ErrorKind::NeedsLogin, message).hint(renewal)
}
