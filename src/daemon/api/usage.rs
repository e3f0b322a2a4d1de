//! The calls that ask an account's provider: what it has used, and whether its owner has confirmed it.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::{AccountChange, AccountId, Command, LoginState, spoken};
use crate::protocol::{AccountRef, Answer, ErrorInfo, VerifyAccountParams};
use crate::usage;

use crate::daemon::api::account::find;
use crate::daemon::api::dispatch::refused;
use crate::daemon::api::refresh::refresh as refresh_account;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::daemon::usage::poller::PollOutcome;
use crate::daemon::view;

/// How long whoever asks is kept waiting for a provider.
const PATIENCE: Duration = Duration::from_secs(50);

/// What is known after asking, if that is allowed now; asking in vain is told with the account.
pub(crate) async fn usage(daemon: Arc<Daemon>, params: AccountRef) -> Result<Answer<'static>, ErrorInfo> {
    let id = find(&daemon.state(), &params.account)?;
    if asks(&daemon, id) && matches!(ask(&daemon, id).await, Some(PollOutcome::NoToken)) {
        renew_and_ask(&daemon, id).await;
    }
    answer(&daemon, id)
}

/// Lets an account serve again when its owner has confirmed it: by the provider's word, or by theirs.
pub(crate) async fn verify(daemon: Arc<Daemon>, params: VerifyAccountParams) -> Result<Answer<'static>, ErrorInfo> {
    let id = find(&daemon.state(), &params.account)?;
    // nothing is wanted of it
    let Some(wanted) = wanted_at(&daemon, id) else { return answer(&daemon, id) };
    // who cannot be asked is believed
    if params.confirmed || !asks(&daemon, id) {
        confirm(&daemon, id)?;
        return answer(&daemon, id);
    }
    let unsure = |why: String| {
        let hint = format!("confirm it {wanted}, then try again; or, if that is done: --confirmed");
        Err(ErrorInfo::new("needs_verification", why).hint(hint))
    };
    let outcome = match ask(&daemon, id).await {
        Some(PollOutcome::NoToken) => renew_and_ask(&daemon, id).await,
        outcome => outcome,
    };
    match outcome {
        Some(PollOutcome::Asked(Ok(()))) => {
            confirm(&daemon, id)?;
            answer(&daemon, id)
        }
        Some(PollOutcome::Asked(Err(failure))) if failure.unconfirmed => {
            let place = place(failure.link.as_deref());
            Err(ErrorInfo::new("needs_verification", format!("it is not confirmed yet: {failure}"))
                .hint(format!("confirm it {place}, then try again")))
        }
        Some(PollOutcome::Asked(Err(failure))) => unsure(format!("the provider could not be asked: {failure}")),
        Some(PollOutcome::NotBefore(at)) => {
            let wait = spoken(at.since(clock::now().wall));
            unsure(format!("the provider was asked too often lately; try again in {wait}"))
        }
        Some(PollOutcome::NoToken) => unsure("its access token has ended, so the provider cannot be asked".to_owned()),
        None => unsure("the provider does not answer".to_owned()),
    }
}

/// Whether this account's provider can be asked about it.
fn asks(daemon: &Daemon, id: AccountId) -> bool {
    let state = &*daemon.state();
    state.pool.account(id).is_some_and(|account| usage::can_tell(&account.record.provider, account.record.kind))
}

/// Asks with a new token, where one can be had.
async fn renew_and_ask(daemon: &Arc<Daemon>, id: AccountId) -> Option<PollOutcome> {
    match refresh_account(daemon.clone(), AccountRef { account: id.to_string() }).await {
        Ok(_) => ask(daemon, id).await,
        Err(_) => Some(PollOutcome::NoToken),
    }
}

async fn ask(daemon: &Daemon, id: AccountId) -> Option<PollOutcome> {
    let polls = daemon.polls.get()?;
    tokio::time::timeout(PATIENCE, polls.ask(id)).await.ok()?
}

/// Where the confirmation is given that the account waits for, if it does.
fn wanted_at(daemon: &Daemon, id: AccountId) -> Option<String> {
    let state = &*daemon.state();
    match &state.pool.account(id)?.record.login_state {
        LoginState::NeedsVerification(verification) => Some(place(verification.link.as_deref())),
        LoginState::Ready | LoginState::NeedsLogin(_) => None,
    }
}

fn place(link: Option<&str>) -> String {
    link.map_or_else(|| "with the provider".to_owned(), |link| format!("at {link}"))
}

fn confirm(daemon: &Daemon, id: AccountId) -> Result<(), ErrorInfo> {
    let state = &mut *daemon.state();
    let waits = state
        .pool
        .account(id)
        .is_some_and(|account| matches!(account.record.login_state, LoginState::NeedsVerification(_)));
    if !waits {
        return Ok(());
    }
    let login_state =
        state.credentials.get(&id).map_or(LoginState::Ready, crate::daemon::api::add_account::login_state);
    let now = clock::now();
    let change = AccountChange { login_state: Some(login_state), ..AccountChange::default() };
    let (reply, unsaved) = daemon.apply(state, now, Command::ChangeAccount(id, Box::new(change)));
    for write in unsaved {
        daemon.store.write(write, None);
    }
    refused(reply, now).map(drop)
}

fn answer(daemon: &Daemon, id: AccountId) -> Result<Answer<'static>, ErrorInfo> {
    let state = &*daemon.state();
    let gone = || ErrorInfo::new("unknown_account", format!("account {id} was removed meanwhile"));
    let account = state.pool.account(id).ok_or_else(gone)?;
    Ok(Answer::Account(Box::new(view::account_info(state, clock::now(), account))))
}
