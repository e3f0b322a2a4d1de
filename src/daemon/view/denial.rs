//! What to say of an account that its provider refuses, and of one that lessor alone cannot make usable.

use std::time::Duration;

use super::remedy::{credential_hint, enabling_command, login_command, remedy};
use crate::daemon::log::login_words;
use crate::daemon::state::{AccountState, State};
use crate::pool::{Account, AccountId, AccountRecord, LimitSource, LoginState, Now, spoken};
use crate::protocol::{ErrorInfo, ErrorKind};

/// After so long it is unlikely that the refusals end without the user.
const LIKELY_FINAL: Duration = Duration::from_secs(6 * 3600);

/// That the provider refuses the account, and since when; after hours, with what the user can do.
pub(crate) fn denial_words(state: &State, now: Now, account: &Account) -> Option<String> {
    let limit = account.denial()?;
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
    account.denial()?;
    let (provider, remedy) = (&account.record.provider, credential_hint(state, account));
    Some(format!("{provider} refuses it now; if that goes on, {remedy}"))
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
    let why = login_words(&account.record, now.wall, Some(&login_command(state, account))).unwrap_or_default();
    match &account.record.login_state {
        _ if !account.enabled() => Some(disabled(state, account)),
        LoginState::Ready => None,
        LoginState::NeedsLogin(_) => {
            let message = needs_login_words(state, now, account);
            let hint = remedy(state, now, account).unwrap_or_else(|| credential_hint(state, account));
            Some(ErrorInfo::new(ErrorKind::NeedsLogin, message).hint(hint))
        }
        LoginState::NeedsVerification(verification) => {
            let place = verification.link.as_ref().map_or_else(String::new, |link| format!(" at {link}"));
            let hint = format!("confirm it{place}, then: lessor account verify {}", state.account_reference(id));
            Some(ErrorInfo::new(ErrorKind::NeedsVerification, format!("{name} must be verified: {why}")).hint(hint))
        }
    }
}

/// That an account's login has ended, or that its token cannot be renewed, and why.
pub(crate) fn needs_login_words(state: &State, now: Now, account: &Account) -> String {
    let name = state.account_name(account.record.id);
    let why = super::state_reason(state, now, account).unwrap_or_default();
    match state.account_state(account, now) {
        AccountState::CannotRenew => format!("{name} cannot serve: {why}"),
        _ => format!("{name} needs a new login: {why}"),
    }
}

/// That an account is disabled, by whom, and the command that enables it.
pub(crate) fn disabled(state: &State, account: &Account) -> ErrorInfo {
    let record = &account.record;
    let why = match (record.enabled, &record.disabled_reason) {
        (true, _) => format!(" {}", by_the_configuration(state, record)),
        (false, why) => why.as_ref().map(|why| format!(": {why}")).unwrap_or_default(),
    };
    let message = format!("{} is disabled{why}", state.account_name(record.id));
    let error = ErrorInfo::new(ErrorKind::NoAccount, message);
    match enabling_command(state, account) {
        Some(command) => error.hint(format!("enable it: {command}")),
        None => error.hint("enable it in the configuration: lessor config edit"),
    }
}

/// Which line of the configuration disables an account.
pub(super) fn by_the_configuration(state: &State, record: &AccountRecord) -> String {
    let section = state.pool.configured(record).map(|section| section.name.as_str()).unwrap_or_default();
    let line = state.config.config.location_of(&["accounts", section, "enabled"]);
    let line = line.unwrap_or_else(|| state.config.path.display().to_string());
    format!("by the configuration: {line}")
}
