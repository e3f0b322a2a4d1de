//! The key of all secrets: its replacement, and the calls that work while it is in a locked keyring.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::reply::AnswerResult;
use crate::daemon::{api::session::shutting_down, state::Daemon, view::KEYRING_HINT};
use crate::protocol::{Answer, Call, ErrorInfo, ErrorKind, RekeyInfo};
use crate::store::KeyBackend;

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
