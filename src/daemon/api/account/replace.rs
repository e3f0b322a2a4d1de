//! `account.set` with a new secret or OAuth client: the account stays, its credential is replaced. The new one is on
//! disk before it is used.

use std::sync::Arc;

use super::add::{check_account_texts, check_secret};
use super::{AccountAction, pool_command};
use crate::credential::Credential;
use crate::daemon::api::pool::shared_account::PoolPart;
use crate::daemon::api::reply::UnsavedAnswer;
use crate::daemon::api::session::{bad, find_account, refused, secret};
use crate::daemon::state::{Daemon, State, save};
use crate::daemon::{os::clock, view};
use crate::pool::{Account, AccountId, AccountRecord, Command, CredentialKind, LoginState, Wall};
use crate::protocol::{ErrorInfo, ErrorKind, SecretText, SetAccountParams};
use crate::{provider, store::Write};

/// Whether a call replaces a credential.
pub fn is_wanted(params: &SetAccountParams) -> bool {
    params.secret.is_some() || params.kind.is_some() || params.client_id.is_some() || params.expires_at.is_some()
}

/// Replaces the credential of an account, and changes its settings.
pub async fn replace(daemon: Arc<Daemon>, mut params: SetAccountParams) -> UnsavedAnswer {
    let _lock = daemon.account_writes.lock().await;
    let new = NewSecret {
        secret: params.secret.take(),
        kind: params.kind.take(),
        client_id: params.client_id.take(),
        expires_at: params.expires_at.take().map(Wall),
    };
    let is_new_secret = new.secret.is_some();
    let (id, record, credential, command, initial) = {
        let state = &*daemon.state();
        let id = find_account(state, &params.account)?;
        let removed = || ErrorInfo::new(ErrorKind::UnknownAccount, "the account was removed meanwhile");
        let account = state.pool.account(id).ok_or_else(removed)?;
        let credential = new_credential(state, account, new)?;
        let command = pool_command(state, id, AccountAction::Set(Box::new(params)))?;
        let command = with_login_state(command, state, account, &credential);
        let initial = match &command {
            Command::ChangeAccount(_, change) => change.login_state.clone(),
            _ => None,
        };
        let initial = initial.unwrap_or_else(|| account.record.login_state.clone());
        (id, account.record.clone(), credential, command, initial)
    };
    let instead = format!("lessor account set {}", daemon.state().account_reference(id));
    let pooled = AccountRecord { login_state: initial, ..record.clone() };
    let part = PoolPart::of(&daemon, (&pooled, false), &credential, &instead).await?;
    let write = Write::SaveAccount { record: Box::new(record), credential: Some(credential.duplicate()) };
    let not_saved = |error| ErrorInfo::new(ErrorKind::Internal, format!("the credential could not be saved: {error}"));
    save(&daemon.store, part.with(id, write)).await.map_err(not_saved)?;
    let state = &mut *daemon.state();
    part.note(state, &pooled);
    let now = clock::now();
    if is_new_secret {
        state.end_link(id);
    }
    state.keep_credential(id, credential);
    let changed = state.apply(now, command).into_result();
    let changed = changed.map_err(|refusal| refused(state, &refusal.no_answer(), now))?;
    let answer = view::account_answer(state, now, id)?;
    Ok(changed.map(|_| answer))
}

/// The change of the account's settings, with the login state that follows from its new credential.
fn with_login_state(command: Command, state: &State, account: &Account, credential: &Credential) -> Command {
    let record = &account.record;
    match command {
        // a new secret does not confirm the account to its provider
        Command::ChangeAccount(id, mut change) if !matches!(record.login_state, LoginState::NeedsVerification(_)) => {
            let is_login = credential.kind == CredentialKind::Oauth;
            let initial = state.initial_login_state(&record.provider, credential);
            change.login_state = if is_login { None } else { Some(initial) };
            Command::ChangeAccount(id, change)
        }
        other => other,
    }
}

/// What a call says about the new credential of an account.
struct NewSecret {
    secret: Option<SecretText<'static>>,
    kind: Option<CredentialKind>,
    client_id: Option<String>,
    expires_at: Option<Wall>,
}

fn new_credential(state: &State, account: &Account, new: NewSecret) -> Result<Credential, ErrorInfo> {
    let NewSecret { secret: new_secret, kind, client_id: client, expires_at } = new;
    let (record, name) = (&account.record, state.account_name(account.record.id));
    let none = || ErrorInfo::new(ErrorKind::CredentialUnavailable, format!("{name} has no credential"));
    let known = state.credentials.get(record.id);
    check_account_texts(&[("client_id", client.as_deref())])?;
    match new_secret {
        None if kind.is_some() => Err(bad("`kind` says what a new `secret` is, and there is none")),
        None if expires_at.is_some() => Err(bad("`expires_at` says when a new `secret` expires, and there is none")),
        None => {
            let known = known.ok_or_else(none)?;
            if known.kind != CredentialKind::Oauth {
                return Err(bad(format!("{name} is no login, so it has no OAuth client")));
            }
            let client_id = client.filter(|client| !client.is_empty());
            let given = state.oauth_given(&record.provider);
            let client_id = client_id.map(|client| given.client_named(&client).map_or(client.clone(), str::to_owned));
            Ok(Credential { client_id, ..known.duplicate() })
        }
        Some(_) if client.is_some() => Err(bad("a key or token has no OAuth client: give `secret` or `client_id`")),
        Some(text) => {
            check_secret(&text.0)?;
            check_kind(state, account, kind, &text.0)?;
            let credential = Credential { expires_at, ..Credential::new(record.kind, secret(text)) };
            refuse_known(state, record.id, &record.provider, &credential)?;
            Ok(credential)
        }
    }
}

fn check_kind(state: &State, account: &Account, kind: Option<CredentialKind>, text: &str) -> Result<(), ErrorInfo> {
    let (record, name) = (&account.record, account.display_name());
    let provider = &record.provider;
    if record.kind == CredentialKind::Oauth {
        return Err(bad(format!("{name} is a login, which has no key")).hint(format!(
            "log in again: {}; or: lessor account add {provider} --oauth-stdin",
            view::login_command(state, account)
        )));
    }
    if let Some(kind) = kind.filter(|kind| *kind != record.kind) {
        let word = |kind| if kind == CredentialKind::ApiKey { "an API key" } else { "a token" };
        let message = format!("{name} has {}, not {}", word(record.kind), word(kind));
        return Err(bad(message).hint("add another account for it: lessor account add"));
    }
    provider::wrong_kind(provider, record.kind, text).map_or(Ok(()), |why| Err(bad(why)))
}

/// Refuses a secret that an account has already.
fn refuse_known(state: &State, id: AccountId, provider: &str, credential: &Credential) -> Result<(), ErrorInfo> {
    let has_it = |account: &&Account| {
        let other = account.record.id;
        account.record.provider == provider
            && state.credentials.get(other).is_some_and(|known| known.access == credential.access)
    };
    match state.pool.accounts().iter().find(has_it) {
        None => Ok(()),
        Some(own) if own.record.id == id => Err(bad(format!("{} has this secret already", state.account_name(id)))
            .hint(format!("to try it: lessor account check {}", state.account_reference(id)))),
        Some(other) => {
            let id = other.record.id;
            Err(bad(format!("this secret is that of {} ({id}) already", state.account_name(other.record.id)))
                .hint("each account needs a secret of its own"))
        }
    }
}
