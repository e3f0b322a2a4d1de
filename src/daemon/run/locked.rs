//! The key in the keyring: waiting for it, with a daemon that says so and serves what needs no secret; changing it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::protocol::{Answer, Call, ErrorInfo, RekeyInfo};
use crate::store::{KeyPlace, KeyringTrouble, Store};

use crate::daemon::state::Daemon;

const HINT: &str = "unlock it (log in to your desktop, or open its password manager); lessor goes on by itself";

/// What is waited for.
#[derive(Debug)]
pub(crate) struct KeyringWait {
    why: Mutex<String>,
    over: Notify,
    given_up: AtomicBool,
}

impl KeyringWait {
    /// Begins to wait, on a thread of its own.
    pub(crate) fn begin(first: &KeyringTrouble) -> std::io::Result<Arc<Self>> {
        let waiting = Arc::new(Self {
            why: Mutex::new(first.to_string()),
            over: Notify::new(),
            given_up: AtomicBool::new(false),
        });
        let theirs = waiting.clone();
        std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
            let given_up = || theirs.given_up.load(Ordering::Relaxed);
            Store::wait_for_keyring(&given_up, |trouble| *theirs.why() = trouble.to_string());
            theirs.over.notify_one();
        })?;
        Ok(waiting)
    }

    /// Waits no longer.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// What the user should know.
    pub(crate) fn warning(&self) -> String {
        format!("{}: no account can serve until its key is there; {HINT}", self.why())
    }

    /// Refuses what needs a secret, or what would not be kept.
    pub(crate) fn check(&self, call: &Call) -> Result<(), ErrorInfo> {
        match call {
            Call::Hello(_)
            | Call::Status(_)
            | Call::ListAccounts(_)
            | Call::ListLeases(_)
            | Call::GetConfig(_)
            | Call::ReloadConfig(_)
            | Call::Subscribe(_)
            | Call::Stop(_) => Ok(()),
            _ => Err(ErrorInfo::new("credential_unavailable", format!("{}, and with it every secret", self.why()))
                .hint(HINT)),
        }
    }

    fn why(&self) -> MutexGuard<'_, String> {
        // a whole text is put in at once
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Comes when the key that is waited for may be there; never, if none is.
pub(crate) async fn unlocked(daemon: &Daemon) {
    match &daemon.facts.waiting {
        Some(waiting) => waiting.over.notified().await,
        None => std::future::pending().await,
    }
}

/// Seals all secrets with a new key.
pub(crate) async fn rekey(daemon: Arc<Daemon>) -> Result<Answer<'static>, ErrorInfo> {
    let (done, told) = oneshot::channel();
    daemon.store.rekey(move |outcome| drop(done.send(outcome)));
    let ending = || ErrorInfo::new("shutting_down", "the daemon is about to end");
    match told.await.map_err(|_| ending())? {
        Ok(rekeyed) => Ok(Answer::Rekeyed(RekeyInfo {
            key: match rekeyed.place {
                KeyPlace::File => "file",
                KeyPlace::Keyring => "keyring",
            }
            .to_owned(),
            place: rekeyed.where_it_is,
            accounts: rekeyed.accounts,
        })),
        Err(error) => Err(ErrorInfo::new("internal", format!("the key was not changed: {error}"))),
    }
}
