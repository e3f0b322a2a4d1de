//! `secrets.…`: the key of all secrets, and the OAuth clients whose secrets are stored; the calls that work while the key
//! is in a locked keyring.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::account::of_each_account;
use super::reply::{AnswerResult, CallReply, CallResult};
use super::session::{bad, exposed, secret, shutting_down, target};
use crate::credential::oauth::StoredClient;
use crate::daemon::state::{Daemon, State, save};
use crate::daemon::{os::clock, view::KEYRING_HINT};
use crate::pool::AccountId;
use crate::protocol::{
    AccountLabel, Answer, Call, ErrorInfo, ErrorKind, ListSecretsParams, RekeyInfo, RemoveSecretParams,
    SetSecretParams, StoredClientInfo,
};
use crate::store::{KeyBackend, Write};

/// The most stored clients.
const MOST_CLIENTS: usize = 256;
/// The longest name, id or secret of a client, in bytes.
const LONGEST_TEXT: usize = 256;
/// How the ids of Google's clients end.
const GOOGLE_IDS: &str = ".apps.googleusercontent.com";

/// While the keyring is locked, refuses calls that need a secret or save something.
pub fn check_locked(why: &str, call: &Call) -> Result<(), ErrorInfo> {
    match call {
        Call::Hello(_)
        | Call::Status(_)
        | Call::ListAccounts(_)
        | Call::ListLeases(_)
        | Call::GetConfig(_)
        | Call::GatewayKeys(_)
        | Call::ReloadConfig(_)
        | Call::Subscribe(_)
        | Call::Stop(_)
        | Call::Restart(_) => Ok(()),
        _ => {
            let message = format!("{why}, so no secret is available");
            Err(ErrorInfo::new(ErrorKind::CredentialUnavailable, message).hint(KEYRING_HINT))
        }
    }
}

/// Seals all secrets with a new key.
pub async fn rekey(daemon: Arc<Daemon>) -> AnswerResult {
    let (done, outcome) = oneshot::channel();
    daemon.store.rekey(move |result| drop(done.send(result)));
    match outcome.await.map_err(shutting_down)? {
        Ok(rekeyed) => Ok(Answer::Rekeyed(RekeyInfo {
            key: match rekeyed.place {
                KeyBackend::File => "file",
                KeyBackend::Keyring => "keyring",
            }
            .to_owned(),
            place: rekeyed.location,
            accounts: rekeyed.accounts,
        })),
        Err(error) => Err(ErrorInfo::new(ErrorKind::Internal, format!("the key was not changed: {error}"))),
    }
}

/// `secrets.set`: on disk before it is used.
pub async fn set(daemon: Arc<Daemon>, params: SetSecretParams) -> AnswerResult {
    let _one_at_a_time = daemon.account_writes.lock().await;
    let client = client_of(&daemon.state(), params)?;
    saved(&daemon, Write::SaveClient(client.clone())).await?;
    let users = {
        let state = &mut *daemon.state();
        state.keep_client(client.clone(), clock::now());
        users(state, &client.name)
    };
    tracing::info!("the OAuth client {} was stored", client.name);
    Ok(Answer::StoredClient(Box::new(info(&client, users, false))))
}

/// `secrets.list`
pub fn list(daemon: &Daemon, reply: &mut CallReply<'_>, params: &ListSecretsParams) -> CallResult {
    let is_wanted = |client: &&StoredClient| params.provider.as_ref().is_none_or(|wanted| client.is_of(wanted));
    let clients: Vec<StoredClient> = daemon.state().stored_clients.iter().filter(is_wanted).cloned().collect();
    let users = match clients.is_empty() {
        true => Vec::new(),
        false => of_each_account(daemon, |state, _, account| {
            let id = account.record.id;
            Some((state.stored_client_of(id)?, AccountLabel::of(&state.pool, id)))
        }),
    };
    let rows = clients.iter().map(|client| {
        let own = users.iter().filter(|(name, _)| *name == client.name).map(|(_, user)| user.clone());
        info(client, own.collect(), params.secrets)
    });
    reply.answer(&Answer::StoredClients(rows.collect()))
}

/// `secrets.remove`
pub async fn remove(daemon: Arc<Daemon>, RemoveSecretParams { name, force }: RemoveSecretParams) -> AnswerResult {
    let _one_at_a_time = daemon.account_writes.lock().await;
    let (client, users) = {
        let state = &*daemon.state();
        let client = state.stored_clients.iter().find(|client| client.name == name).cloned();
        let unknown = || bad(format!("no OAuth client is stored as {name:?}")).hint("see: lessor secrets list");
        (client.ok_or_else(unknown)?, users(state, &name))
    };
    if !users.is_empty() && !force {
        let names: Vec<&str> = users.iter().take(3).map(name_of).collect();
        let more = users.len().saturating_sub(names.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let message = format!("the logins of {}{more} are refreshed with the OAuth client {name}", names.join(", "));
        return Err(bad(message).hint(format!("to remove it all the same: lessor secrets remove {name} --yes")));
    }
    saved(&daemon, Write::DropClient(name.clone())).await?;
    daemon.state().forget_client(&name, clock::now());
    tracing::info!("the OAuth client {name} was removed");
    Ok(Answer::StoredClient(Box::new(info(&client, users, false))))
}

async fn saved(daemon: &Daemon, write: Write) -> Result<(), ErrorInfo> {
    let not_saved =
        |error| ErrorInfo::new(ErrorKind::Internal, format!("the OAuth client could not be saved: {error}"));
    save(&daemon.store, write).await.map_err(not_saved)
}

/// The client to store: what the call leaves out is as stored, or as configured.
fn client_of(state: &State, params: SetSecretParams) -> Result<StoredClient, ErrorInfo> {
    let SetSecretParams { name, provider, client_id, secret: new } = params;
    check(&name, client_id.as_deref(), new.as_ref().map(|text| &*text.0))?;
    if let Some(provider) = &provider {
        target(state, provider, None, None)?;
    }
    let known = state.stored_clients.iter().find(|client| client.name == name);
    if let Some(known) = known {
        let differs = |new: &Option<String>, old: &Option<String>| new.is_some() && old.is_some() && new != old;
        if differs(&client_id, &known.client_id) || differs(&provider, &known.provider) {
            let id = known.client_id.as_deref().unwrap_or("another one");
            let message = format!("{name} is the name of another stored OAuth client ({id})");
            return Err(bad(message).hint(format!("choose another name, or: lessor secrets remove {name}")));
        }
    } else if state.stored_clients.len() >= MOST_CLIENTS {
        return Err(bad(format!("{MOST_CLIENTS} OAuth clients are stored, and no more are accepted"))
            .hint("remove those that are not needed: lessor secrets remove NAME"));
    }
    let configured = configured(state, &name, client_id.as_deref());
    let client_id = client_id.or_else(|| known?.client_id.clone());
    let of_google = || client_id.as_ref().filter(|id| id.ends_with(GOOGLE_IDS)).map(|_| "google".to_owned());
    let provider = provider.or_else(|| known?.provider.clone()).or_else(of_google).or(configured);
    if let (Some(id), None) = (&client_id, &provider) {
        return Err(bad(format!("of which provider is the OAuth client {id}?"))
            .hint(format!("lessor secrets set {name} --client-id {id} --provider PROVIDER")));
    }
    if new.is_none() && client_id.is_none() {
        return Err(bad("an OAuth client has an id, a secret, or both"));
    }
    let is_same = |other: &&StoredClient| {
        other.name != name && other.client_id.is_some() && other.client_id == client_id && other.provider == provider
    };
    if let Some(other) = state.stored_clients.iter().find(is_same) {
        let message = format!("this OAuth client is stored already, as {}", other.name);
        return Err(bad(message).hint(format!("to replace its secret: lessor secrets set {}", other.name)));
    }
    let secret = new.map(|text| Arc::new(secret(text)));
    Ok(StoredClient { name, provider, client_id, secret, added_at: clock::now().wall })
}

/// The provider whose configuration names this client, if it is one.
fn configured(state: &State, name: &str, client_id: Option<&str>) -> Option<String> {
    let providers = state.config.config.providers.iter();
    let names_it = |(provider, section): &(&String, &crate::config::ProviderSection)| {
        let oauth = &section.oauth;
        let has_id = |id: &Option<String>| id.is_some() && id.as_deref() == client_id;
        let is_default = provider.as_str() == name && oauth.client_id.is_some();
        is_default
            || has_id(&oauth.client_id)
            || oauth.clients.contains_key(name)
            || oauth.clients.values().any(|client| has_id(&client.client_id))
    };
    let mut named = providers.filter(names_it).map(|(provider, _)| provider.clone());
    named.next().filter(|_| named.next().is_none())
}

fn check(name: &str, client_id: Option<&str>, secret: Option<&str>) -> Result<(), ErrorInfo> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.chars().all(is_name) {
        return Err(bad("the name of an OAuth client has letters, digits, `-`, `_` and `.` only, 64 at most"));
    }
    let is_word = |text: &str| {
        !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    for (what, text) in [("client id", client_id), ("client secret", secret)] {
        if text.is_some_and(|text| !is_word(text)) {
            return Err(bad(format!("the {what} is empty, over {LONGEST_TEXT} bytes, or holds blanks or line breaks")));
        }
    }
    Ok(())
}

fn users(state: &State, name: &str) -> Vec<AccountLabel> {
    let ids = state.pool.accounts().iter().map(|account| account.record.id);
    let is_user = |id: &AccountId| state.stored_client_of(*id).as_deref() == Some(name);
    ids.filter(is_user).map(|id| AccountLabel::of(&state.pool, id)).collect()
}

fn name_of(account: &AccountLabel) -> &str {
    account.label.as_deref().or(account.email.as_deref()).unwrap_or(&account.id)
}

fn info(client: &StoredClient, used_by: Vec<AccountLabel>, with_secret: bool) -> StoredClientInfo {
    StoredClientInfo {
        name: client.name.clone(),
        provider: client.provider.clone(),
        client_id: client.client_id.clone(),
        has_secret: client.secret.is_some(),
        added_at: client.added_at.0,
        used_by,
        secret: client.secret.as_ref().filter(|_| with_secret).map(|secret| exposed(secret)),
    }
}
