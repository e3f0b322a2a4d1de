//! The key of all secrets: replacing it, and what can be served while it is locked away.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::daemon::state::Daemon;
use crate::daemon::view::KEYRING_HINT;
use crate::protocol::{Answer, Call, ErrorInfo, RekeyInfo};
use crate::store::KeyBackend;

/// Refuses, while the keyring is locked, what needs a secret or would have to be saved.
pub(crate) fn check_locked(why: &str, call: &Call) -> Result<(), ErrorInfo> {
    match call {
        Call::Hello(_)
        | Call::Status(_)
        | Call::ListAccounts(_)
        | Call::ListLeases(_)
        | Call::GetConfig(_)
        | Call::ReloadConfig(_)
        | Call::Subscribe(_)
        | Call::Stop(_) => Ok(()),
        _ => {
            let message = format!("{why}, so no secret is available");
            Err(ErrorInfo::new("credential_unavailable", message).hint(KEYRING_HINT))
        }
    }
}

/// Seals all secrets with a new key.
pub(crate) async fn rekey(daemon: Arc<Daemon>) -> Result<Answer<'static>, ErrorInfo> {
    let (done, outcome) = oneshot::channel();
    daemon.store.rekey(move |result| drop(done.send(result)));
    let ending = || ErrorInfo::new("shutting_down", "the daemon is about to end");
    match outcome.await.map_err(|_| ending())? {
        Ok(rekeyed) => Ok(Answer::Rekeyed(RekeyInfo {
            key: match rekeyed.place {
                KeyBackend::File => "file",
                KeyBackend::Keyring => "keyring",
            }
            .to_owned(),
            place: rekeyed.location,
            accounts: rekeyed.accounts,
        })),
        Err(error) => Err(ErrorInfo::new("internal", format!("the key was not changed: {error}"))),
    }
}
