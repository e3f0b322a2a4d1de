//! Credentials, and why an account has no usable one.

use std::borrow::Cow;

use super::denial::needs_login_words;
use super::remedy::{login_command, remedy};
use crate::daemon::os::clock;
use crate::daemon::state::{CredentialProblem, State};
use crate::pool::{Account, AccountId, Fence, Mono, millis};
use crate::protocol::{CredentialInfo, ErrorInfo, ErrorKind, SecretText};
use crate::{credential::Credential, provider};

pub(crate) fn credential<'a>(state: &'a State, account: &'a Account) -> Result<CredentialInfo<'a>, ErrorInfo> {
    let missing = || {
        ErrorInfo::new(ErrorKind::CredentialUnavailable, format!("the credential of {} is missing", account.record.id))
            .hint("add the account again")
    };
    if state.must_mark_handed_out(account.record.id) {
        // all secrets leave through here; the caller marks it before, see `many_hosts::handing_out`
        let message = format!("the shared pool does not know yet that {} is handed out", account.record.id);
        return Err(ErrorInfo::new(ErrorKind::CredentialUnavailable, message).hint("try again"));
    }
    let Credential { kind, access, expires_at, resource, .. } =
        state.credentials.get(account.record.id).ok_or_else(missing)?;
    let (header, scheme) = provider::credential_header(&account.record.provider, *kind);
    Ok(CredentialInfo {
        kind: *kind,
        secret: SecretText(Cow::Borrowed(access.expose())),
        expires_at: expires_at.map(|at| at.0),
        header: Cow::Borrowed(header),
        scheme: scheme.map(Cow::Borrowed),
        resource: resource.as_deref().map(Cow::Borrowed),
        account_id: provider::vendor_account_id(&account.record.provider, &account.record.owner).map(Cow::Borrowed),
    })
}

/// A copy that does not borrow from the state.
pub(crate) fn owned_credential(info: CredentialInfo<'_>) -> CredentialInfo<'static> {
    CredentialInfo {
        kind: info.kind,
        secret: SecretText(Cow::Owned(info.secret.0.into_owned())),
        expires_at: info.expires_at,
        header: Cow::Owned(info.header.into_owned()),
        scheme: info.scheme.map(|scheme| Cow::Owned(scheme.into_owned())),
        resource: info.resource.map(|resource| Cow::Owned(resource.into_owned())),
        account_id: info.account_id.map(|id| Cow::Owned(id.into_owned())),
    }
}

/// Why nothing is granted on an account whose token is being refreshed.
pub(crate) fn why_renewing(state: &State, id: AccountId) -> String {
    match state.logins.plan.last_failure(id) {
        Some((failure, _)) => format!("its token could not be refreshed: {}", failure.why),
        None => "its token is being refreshed".to_owned(),
    }
}

/// The error for a lease without a usable credential.
pub(crate) fn credential_problem(state: &State, problem: CredentialProblem) -> ErrorInfo {
    match problem {
        CredentialProblem::LeaseEnded => {
            ErrorInfo::new(ErrorKind::StaleLease, "this lease has ended").hint("acquire a new one")
        }
        CredentialProblem::NotAttested(fence) => not_attested(state, fence),
        CredentialProblem::NeedsLogin(id) => needs_login(state, id),
        CredentialProblem::NotNow(id, at) => not_now(state, id, at),
        CredentialProblem::JustRefreshed(id) => {
            let message = format!("the token of {} was refreshed a moment ago", state.account_name(id));
            ErrorInfo::new(ErrorKind::CredentialUnavailable, message)
                .hint("report `auth_failed` and continue with another account")
        }
        CredentialProblem::CannotRefresh(id) => cannot_refresh(state, id),
    }
}

fn not_attested(state: &State, fence: Fence) -> ErrorInfo {
    let lease = state.pool.lease(fence);
    let account = lease.and_then(|lease| state.pool.account(lease.account));
    let withheld = lease.zip(account).and_then(|(lease, account)| account.withheld_from(&lease.holder.attested));
    let why = withheld.unwrap_or_else(|| "the program behind the connection was not compared".to_owned());
    let error = ErrorInfo::new(ErrorKind::NotAllowed, why);
    if let Some(account) = account { error.hint(account.attest_hint()) } else { error }
}

fn needs_login(state: &State, id: AccountId) -> ErrorInfo {
    let now = clock::now();
    let Some(account) = state.pool.account(id) else {
        return ErrorInfo::new(ErrorKind::CredentialUnavailable, format!("account {id} was removed meanwhile"));
    };
    let remedy = remedy(state, now, account).unwrap_or_else(|| login_command(state, account));
    ErrorInfo::new(ErrorKind::CredentialUnavailable, needs_login_words(state, now, account))
        .hint(format!("{remedy}; report `auth_failed` to get another account"))
}

fn not_now(state: &State, id: AccountId, at: Option<Mono>) -> ErrorInfo {
    let why = state.logins.plan.last_failure(id).map(|(failure, _)| failure.why.clone());
    let why = why.unwrap_or_else(|| "the refresh takes longer than `refresh.wait`".to_owned());
    let message = format!("the token of {} could not be refreshed: {why}", state.account_name(id));
    let mut error = ErrorInfo::new(ErrorKind::CredentialUnavailable, message);
    let now = clock::now();
    let until = at.or_else(|| state.logins.plan.blocked(id, now)?.until);
    error.data.retry_after_ms = until.map(|at| millis(at.since(now.mono)));
    error.hint("try again then, or acquire another account")
}

fn cannot_refresh(state: &State, id: AccountId) -> ErrorInfo {
    let name = state.account_name(id);
    let (message, hint) = match state.missing_for_refresh(id) {
        Some(missing) => (format!("the token of {name} cannot be refreshed: {missing}"), missing.remedy()),
        None => (
            format!("lessor cannot refresh the credential of {name}"),
            "report `auth_failed` and continue with another account; add the account again to renew it".to_owned(),
        ),
    };
    ErrorInfo::new(ErrorKind::CredentialUnavailable, message).hint(hint)
}
