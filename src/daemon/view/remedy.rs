//! What the user can do about an account that does not serve.

use std::path::Path;

use crate::config::format_key;
use crate::credential::{LinkMode, LoginHome};
use crate::daemon::state::{AccountState, State, is_ours_to_refresh};
use crate::pool::{Account, AccountId, CredentialKind, LoginProblem, LoginState, Now};
use crate::visible::shell_word;

/// What lets an account serve that needs its user: one command, or, where another tool has the login, what to do there.
pub(crate) fn remedy(state: &State, now: Now, account: &Account) -> Option<String> {
    let record = &account.record;
    let name = state.account_reference(record.id);
    match state.account_state(account, now) {
        AccountState::Disabled => enabling_command(state, account),
        AccountState::NeedsVerification => Some(format!("lessor account verify {name}")),
        AccountState::CannotRenew => match state.missing_for_refresh(record.id) {
            Some(missing) => Some(missing.command()),
            None => Some(login_command(state, account)),
        },
        AccountState::NeedsLogin => {
            let of_tool = state.links.get(record.id).filter(|link| !is_ours_to_refresh(link));
            let has_only_ended = record.login_state == LoginState::NeedsLogin(LoginProblem::AccessTokenEnded);
            match of_tool.filter(|_| has_only_ended) {
                Some(link) => Some(format!("start {} once: it refreshes this login, and lessor follows", link.tool)),
                None => Some(credential_remedy(state, account).1),
            }
        }
        AccountState::Limited => account.denial().map(|_| format!("lessor account check {name}")),
        AccountState::Ready | AccountState::PartlyLimited | AccountState::WaitingForToken => None,
    }
}

/// What enables a disabled account: where it was disabled, by command or by the configuration.
pub(super) fn enabling_command(state: &State, account: &Account) -> Option<String> {
    let record = &account.record;
    if !record.enabled {
        return Some(format!("lessor account enable {}", state.account_reference(record.id)));
    }
    let section = state.pool.configured(record).map(|section| section.name.as_str())?;
    let key = shell_word(&format_key(&["accounts", section, "enabled"]))?;
    Some(format!("lessor config set {key} true"))
}

/// How the user gives an account a credential that works: what to do, and the command for it.
pub(super) fn credential_remedy(state: &State, account: &Account) -> (&'static str, String) {
    let (name, record) = (state.account_reference(account.record.id), &account.record);
    match record.kind {
        CredentialKind::Oauth => ("log in again", login_command(state, account)),
        kind => renewal_command(&record.provider, kind, false, &name),
    }
}

/// What to do for a new credential in place of an account's own, and the command for it.
#[must_use]
pub fn renewal_command(provider: &str, kind: CredentialKind, is_direct: bool, name: &str) -> (&'static str, String) {
    match kind {
        CredentialKind::Oauth if is_direct => {
            ("log in again", format!("lessor login {provider} --chatgpt --label {name}"))
        }
        CredentialKind::Oauth => ("log in again", format!("lessor login {provider}")),
        CredentialKind::ApiKey => ("replace the key", format!("lessor account set {name} --api-key-stdin")),
        CredentialKind::Token if provider == "anthropic" => {
            ("replace the token", format!("lessor login claude --token --label {name}"))
        }
        CredentialKind::Token => ("replace the token", format!("lessor account set {name} --token-stdin")),
    }
}

/// The command that logs in to an account in the way in which it was made: with its vendor's program, or with an OAuth
/// client of the user's.
pub(crate) fn login_command(state: &State, account: &Account) -> String {
    let (record, link) = (&account.record, state.links.get(account.record.id));
    let provider = &record.provider;
    if let Some(program) = link.and_then(|link| LoginHome::program_of(Path::new(&link.path))) {
        return format!("lessor login {}", program.name());
    }
    if state.credentials.get(record.id).is_some_and(|credential| credential.resource.is_some()) {
        return renewal_command(provider, record.kind, true, &state.account_reference(record.id)).1;
    }
    let given = state.oauth_given(provider);
    let client = state.credentials.get(record.id).and_then(|credential| credential.client_id.as_deref());
    if let Some(client) = given.clients.iter().find(|known| Some(known.client_id.as_str()) == client) {
        let name = shell_word(&client.name).unwrap_or_else(|| client.client_id.clone());
        return format!("lessor login {provider} --client {name}");
    }
    format!("lessor login {provider}")
}

/// What to do when the server does not accept the OAuth client of a login.
pub(crate) fn refused_client_remedy(state: &State, account: &Account) -> String {
    let (name, provider) = (state.account_reference(account.record.id), &account.record.provider);
    let is_direct = state.credentials.get(account.record.id).is_some_and(|credential| credential.resource.is_some());
    if is_direct {
        // its client is registered with the first login
        return format!(
            "if lessor was removed from the account there: lessor account remove {name}, then: lessor login {provider} \
             --chatgpt"
        );
    }
    let check = client_check(state, account.record.id);
    format!(
        "{check}, then: lessor account refresh {name}; if another client made the login: lessor account set {name} \
         client_id=ID"
    )
}

/// The same as a sentence; a login that another tool has is renewed there.
pub(super) fn credential_hint(state: &State, account: &Account) -> String {
    match state.links.get(account.record.id).filter(|link| link.mode == LinkMode::Link) {
        Some(link) if account.record.kind == CredentialKind::Oauth => {
            format!("log in with {} again; lessor reads its file", link.tool)
        }
        _ => {
            let (what, command) = credential_remedy(state, account);
            format!("{what}: {command}")
        }
    }
}

/// The same for a refresh that is not possible.
pub(crate) fn renewal_hint(state: &State, account: &Account) -> String {
    let record = &account.record;
    if let LoginState::NeedsVerification(_) = &record.login_state {
        let name = state.account_reference(record.id);
        return format!("confirm the account with its provider, then: lessor account verify {name}");
    }
    let of_tool = state.links.get(record.id).filter(|link| !is_ours_to_refresh(link));
    let missing = state.missing_for_refresh(record.id).filter(|_| !has_ended(&record.login_state));
    match (record.kind, of_tool, missing) {
        (CredentialKind::Oauth, Some(link), _) => {
            format!("{} refreshes this login: use it once, or log in again there; lessor then follows", link.tool)
        }
        (CredentialKind::Oauth, None, Some(missing)) => missing.remedy(),
        _ => credential_hint(state, account),
    }
}

/// What to check when a server refuses the OAuth client of an account.
pub(crate) fn client_check(state: &State, id: AccountId) -> String {
    match state.stored_client_of(id) {
        Some(name) => format!("store its secret again: lessor secrets set {name}"),
        None => {
            let provider = state.pool.account(id).map_or("", |account| &account.record.provider);
            format!("check [providers.{provider}.oauth]")
        }
    }
}

fn has_ended(login_state: &LoginState) -> bool {
    matches!(login_state, LoginState::NeedsLogin(problem) if *problem != LoginProblem::AccessTokenEnded)
}
