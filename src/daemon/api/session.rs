//! What the calls share: their connection, the lookup of accounts and targets, common errors.

use std::sync::Arc;

use crate::daemon::{
    state::{Outbox, State},
    view,
};
use crate::pool::{AccountId, AccountRecord, ConnectionId, Holder, Now, Refusal, Target};
use crate::protocol::{Codec, ErrorInfo, ErrorKind, SecretText};
use crate::{credential::Secret, daemon::os::clock, provider::TargetError};

/// When a call that was refused for lack of room may be sent again.
const RETRY_AFTER_MS: u64 = 500;

/// One connection, as its calls see it.
#[derive(Debug)]
pub struct Session {
    pub connection: ConnectionId,
    /// The process at the other end.
    pub pid: Option<u32>,
    pub codec: Codec,
    pub outbox: Arc<Outbox>,
    /// That process, once it is watched.
    pub holder: Option<Holder>,
    pub greeted: bool,
}

pub fn find_account(state: &State, name: &str) -> Result<AccountId, ErrorInfo> {
    match state.pool.find_account(name) {
        Ok(account) => Ok(account.record.id),
        // an address that several accounts have is the name of the first of them
        Err(refusal) => {
            let records = state.pool.accounts().iter().map(|account| &account.record);
            // only then is it worth comparing the account with all others
            let may_be = |record: &&AccountRecord| record.email.as_ref().is_some_and(|email| name.starts_with(email));
            let mut ids = records.filter(may_be).map(|record| record.id);
            let named = ids.find(|id| state.email_name(*id).as_deref() == Some(name));
            named.ok_or_else(|| refused(state, &refusal, clock::now()))
        }
    }
}

/// The error for a refusal of the pool.
pub fn refused(state: &State, refusal: &Refusal, now: Now) -> ErrorInfo {
    view::refusal(state, refusal, now)
}

/// The target of a request that names a provider, a model and a pool.
pub fn target(state: &State, provider: &str, model: Option<&str>, pool: Option<&str>) -> Result<Target, ErrorInfo> {
    let primary = state.pool.settings().quota.primary;
    state.catalog.target(provider, model, pool, primary).map_err(|error| match error {
        TargetError::Provider(_) => ErrorInfo::new(ErrorKind::UnknownProvider, error.to_string()).hint(format!(
            "known providers: {}; add another one as a section [providers.NAME] of the configuration",
            state.catalog.names().join(", ")
        )),
        TargetError::Pool { .. } | TargetError::NotInPool { .. } | TargetError::TwoPools { .. } => {
            bad(error.to_string())
        }
    })
}

/// The error for a call that the ending daemon does not answer any more.
pub fn shutting_down<E>(_: E) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::ShuttingDown, "the daemon is about to end")
}

/// The error for a call that cannot be served for lack of room, and may be sent again.
pub fn overloaded(message: impl Into<String>) -> ErrorInfo {
    let mut error = ErrorInfo::new(ErrorKind::Overloaded, message).hint("try again in a moment");
    error.data.retry_after_ms = Some(RETRY_AFTER_MS);
    error
}

pub fn bad(message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, message)
}

/// A secret from the wire.
pub fn secret(text: SecretText<'static>) -> Secret {
    Secret::new(text.0.into_owned())
}

/// A secret for the wire.
pub fn exposed(secret: &Secret) -> SecretText<'static> {
    SecretText(secret.expose().to_owned().into())
}
