//! The calls that query an account's provider: how much of its quota is used, and whether it is confirmed.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::refresh::refresh as refresh_account;
use crate::daemon::api::reply::{AnswerResult, UnsavedAnswer};
use crate::daemon::api::session::{find_account, refused};
use crate::daemon::state::{Daemon, PollOutcome, Unsaved, UsageRequest, login_state_of, set_login_state};
use crate::daemon::{os::clock, view};
use crate::pool::{AccountId, Command, DenialsEnd, LoginState, spoken};
use crate::protocol::{AccountRef, ErrorInfo, ErrorKind, VerifyAccountParams};
use crate::usage;

/// How long a call waits for a provider.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// `account.usage`: answers with the account after a query, if one is allowed now. A failure is part of the account.
pub async fn usage(daemon: Arc<Daemon>, params: AccountRef) -> AnswerResult {
    let id = find_account(&daemon.state(), &params.account)?;
    if can_ask(&daemon, id) && matches!(ask(&daemon, id).await, Some(PollOutcome::NoToken)) {
        refresh_and_ask(&daemon, id).await;
    }
    view::account_answer(&daemon.state(), clock::now(), id)
}

/// `account.verify`: lets an account serve again after its provider or the user has confirmed it.
pub async fn verify(daemon: Arc<Daemon>, params: VerifyAccountParams) -> UnsavedAnswer {
    let id = find_account(&daemon.state(), &params.account)?;
    let Some(place) = place_to_confirm(&daemon, id) else {
        let (state, now) = (&*daemon.state(), clock::now());
        return match view::still_unusable(state, now, id) {
            Some(problem) => Err(problem),
            None => view::account_answer(state, now, id).map(Unsaved::nothing_to_save),
        };
    };
    // a provider that cannot be queried cannot contradict the user
    if params.confirmed || !can_ask(&daemon, id) {
        return confirm(&daemon, id);
    }
    let unsure = |why: String| {
        let hint = format!("confirm it {place}, then try again; or, if that is done: --confirmed");
        Err(ErrorInfo::new(ErrorKind::NeedsVerification, why).hint(hint))
    };
    let outcome = match ask(&daemon, id).await {
        Some(PollOutcome::NoToken) => refresh_and_ask(&daemon, id).await,
        outcome => outcome,
    };
    match outcome {
        Some(PollOutcome::Asked(Ok(()))) => confirm(&daemon, id),
        Some(PollOutcome::Asked(Err(failure))) if failure.unconfirmed => {
            let place = page(failure.link.as_deref());
            Err(ErrorInfo::new(ErrorKind::NeedsVerification, format!("the account is not confirmed yet: {failure}"))
                .hint(format!("confirm it {place}, then try again")))
        }
        Some(PollOutcome::Asked(Err(failure))) => unsure(format!("the provider could not be queried: {failure}")),
        Some(PollOutcome::NotBefore(at)) => {
            let wait = spoken(at.since(clock::now().wall));
            unsure(format!("the provider was queried too often; try again in {wait}"))
        }
        Some(PollOutcome::NoToken) => unsure("its access token has ended, so the provider cannot be asked".to_owned()),
        None => unsure("the provider does not answer".to_owned()),
    }
}

/// Whether this account's provider can be queried.
fn can_ask(daemon: &Daemon, id: AccountId) -> bool {
    let state = &*daemon.state();
    let record = state.pool.account(id).map(|account| &account.record);
    record.is_some_and(|record| usage::is_reported(&record.provider, state.api_kind(record)))
}

/// Refreshes the token, then asks.
async fn refresh_and_ask(daemon: &Arc<Daemon>, id: AccountId) -> Option<PollOutcome> {
    match refresh_account(daemon.clone(), AccountRef { account: id.to_string() }).await {
        Ok(_) => ask(daemon, id).await,
        Err(_) => Some(PollOutcome::NoToken),
    }
}

async fn ask(daemon: &Daemon, id: AccountId) -> Option<PollOutcome> {
    ask_as(daemon, id, false).await
}

/// Asks after a change of the usage that the provider has confirmed; why it could not be read, if so.
pub(super) async fn ask_after_change(daemon: &Daemon, id: AccountId) -> Option<String> {
    match ask_as(daemon, id, true).await {
        Some(PollOutcome::Asked(Ok(()))) => None,
        Some(PollOutcome::Asked(Err(failure))) => Some(failure.message),
        Some(PollOutcome::NotBefore(at)) => {
            Some(format!("the provider may be asked again in {}", spoken(at.since(clock::now().wall))))
        }
        Some(PollOutcome::NoToken) => Some("its access token has ended".to_owned()),
        None => Some("the provider does not answer".to_owned()),
    }
}

async fn ask_as(daemon: &Daemon, id: AccountId, has_changed: bool) -> Option<PollOutcome> {
    let (answer, outcome) = oneshot::channel();
    daemon.mailboxes.usage.send(UsageRequest { account: id, has_changed, answer });
    tokio::time::timeout(LONGEST_WAIT, outcome).await.ok()?.ok()
}

/// Where the user can confirm the account, if it needs that.
fn place_to_confirm(daemon: &Daemon, id: AccountId) -> Option<String> {
    let state = &*daemon.state();
    let account = state.pool.account(id).filter(|account| account.enabled())?;
    match &account.record.login_state {
        LoginState::NeedsVerification(verification) => Some(page(verification.link.as_deref())),
        LoginState::Ready => {
            let denial = account.limits().iter().find(|limit| limit.is_denial());
            denial.map(|limit| page(limit.link.as_deref()))
        }
        LoginState::NeedsLogin(_) => None,
    }
}

fn page(link: Option<&str>) -> String {
    link.map_or_else(|| "with the provider".to_owned(), |link| format!("at {link}"))
}

fn confirm(daemon: &Daemon, id: AccountId) -> UnsavedAnswer {
    let state = &mut *daemon.state();
    let now = clock::now();
    let command = match state.pool.account(id).map(|account| &account.record.login_state) {
        Some(LoginState::NeedsVerification(_)) => {
            set_login_state(id, state.credentials.get(id).map_or(LoginState::Ready, login_state_of))
        }
        _ => Command::ForgetDenials(id, DenialsEnd::Accepted),
    };
    let confirmed = state.apply(now, command).into_result();
    let confirmed = confirmed.map_err(|refusal| refused(state, &refusal.no_answer(), now))?;
    if let Some(problem) = view::still_unusable(state, now, id) {
        let _saved_later = confirmed.no_answer();
        return Err(problem);
    }
    let answer = view::account_answer(state, now, id)?;
    Ok(confirmed.map(|_| answer))
}
