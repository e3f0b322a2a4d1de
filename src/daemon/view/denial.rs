//! What to say of an account that its provider refuses, and of one that lessor alone cannot make usable.

use std::time::Duration;

use super::remedy::credential_hint;
use crate::daemon::{log::login_words, state::State};
use crate::pool::{Account, AccountId, Limit, LimitSource, LoginState, Now, spoken};
use crate::protocol::{ErrorInfo, ErrorKind};

/// After so long it is unlikely that the refusals end without the user.
const LIKELY_FINAL: Duration = Duration::from_secs(6 * 3600);

/// That the provider refuses the account, and since when; after hours, with what the user can do.
pub(crate) fn denial_words(state: &State, now: Now, account: &Account) -> Option<String> {
    let limit = denied(account)?;
    let provider = &account.record.provider;
    let reason = limit.reason.name().replace('_', " ");
    let words = limit.evidence.as_deref().unwrap_or(&reason);
    if limit.source == LimitSource::Server {
        return Some(format!("{provider} refuses it: {words}"));
    }
    let since = now.wall.since(account.denied_since()?);
    if since < LIKELY_FINAL {
        return Some(format!("{provider} has refused it for {}: {words}", spoken(since)));
    }
    let remedy = credential_hint(state, account);
    Some(format!("{provider} has refused it for {}: {words}; {remedy}", spoken(since)))
}

/// What the user can do about an account that its provider refuses now.
pub(crate) fn denial_remedy(state: &State, account: &Account) -> Option<String> {
    denied(account)?;
    let (provider, remedy) = (&account.record.provider, credential_hint(state, account));
    Some(format!("{provider} refuses it now; if that goes on, {remedy}"))
}

/// The limit of an account that its provider refuses.
pub(super) fn denied(account: &Account) -> Option<&Limit> {
    account.limits().iter().find(|limit| limit.is_denial() && !limit.is_recovering())
}

/// The refusals that have lasted for hours, with what the user can do.
pub(super) fn warnings(state: &State, now: Now) -> impl Iterator<Item = String> {
    let is_long = move |account: &&Account| {
        let since = account.denied_since().map(|since| now.wall.since(since));
        account.enabled() && since.is_some_and(|since| since >= LIKELY_FINAL)
    };
    let accounts = state.pool.accounts().iter().filter(is_long);
    let words = move |account: &Account| {
        let since = spoken(now.wall.since(account.denied_since()?));
        let (name, provider) = (state.account_name(account.record.id), &account.record.provider);
        Some(format!("{provider} has refused {name} for {since}: {}", credential_hint(state, account)))
    };
    accounts.filter_map(words)
}

/// Why an account still cannot serve, and what its user must do; `None` if nothing is in the way but time.
pub(crate) fn still_unusable(state: &State, now: Now, id: AccountId) -> Option<ErrorInfo> {
    let account = state.pool.account(id)?;
    let name = state.account_name(id);
    let why = login_words(&account.record, now.wall).unwrap_or_default();
    match &account.record.login_state {
        _ if !account.enabled() => Some(disabled(state, account)),
        LoginState::Ready => None,
        LoginState::NeedsLogin(_) => {
            let message = format!("{name} needs a new login: {why}");
            Some(ErrorInfo::new(ErrorKind::NeedsLogin, message).hint(credential_hint(state, account)))
        }
        LoginState::NeedsVerification(verification) => {
            let place = verification.link.as_ref().map_or_else(String::new, |link| format!(" at {link}"));
            let hint = format!("confirm it{place}, then: lessor account verify {}", state.account_reference(id));
            Some(ErrorInfo::new(ErrorKind::NeedsVerification, format!("{name} must be verified: {why}")).hint(hint))
        }
    }
}

fn disabled(state: &State, account: &Account) -> ErrorInfo {
    let (name, record) = (state.account_name(account.record.id), &account.record);
    if record.enabled {
        let section = state.pool.configured(record).map(|section| section.name.as_str()).unwrap_or_default();
        let line = state.config.config.location_of(&["accounts", section, "enabled"]);
        let line = line.unwrap_or_else(|| state.config.path.display().to_string());
        let message = format!("{name} is disabled by the configuration: {line}");
        return ErrorInfo::new(ErrorKind::NoAccount, message).hint("change it there, or remove the line");
    }
    let why = record.disabled_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!("{name} is disabled{why}");
    let name = state.account_reference(record.id);
    ErrorInfo::new(ErrorKind::NoAccount, message).hint(format!("enable it: lessor account enable {name}"))
}
