//! Changing the key, and its place, while the store is open; on threads of their own, as a keyring may take its time.
//!
//! A new key is kept beside the old one first, then everything is sealed with it in one transaction, then it takes the
//! old one's place: whichever step is the last before a crash, one of both fits, and the next start goes on from there.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::Connection;

use super::error::{StoreError, WriteError};
use super::seal::Key;
use super::vault::{Candidate, KeyPlace, Slot, Vault};
use super::writer::Message;
use super::{Store, database, key, keyring};

/// What became of the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rekeyed {
    /// Where it is.
    pub place: KeyPlace,
    /// The same, in words.
    pub where_it_is: String,
    /// How many accounts' secrets are sealed with it.
    pub accounts: u64,
}

/// Knows the key and where it is.
pub(super) struct Keeper {
    vault: Vault,
    state: Mutex<State>,
    /// One thing at a time.
    busy: Mutex<()>,
}

struct State {
    key: Key,
    place: KeyPlace,
    /// Why it is not where it is wanted.
    trouble: Option<String>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("vault", &self.vault).finish_non_exhaustive()
    }
}

/// The first key that opens the database; what a change of keys that was cut short has left to do is done.
pub(super) fn fitting(
    vault: &Vault,
    candidates: Vec<Candidate>,
    database: &Connection,
) -> Result<(Key, KeyPlace), StoreError> {
    let fault = |error| StoreError::from_sqlite(&vault.database, error);
    let spare = candidates.len() > 1;
    for Candidate { key, place, slot } in candidates {
        if !database::fits(database, &key).map_err(fault)? {
            continue;
        }
        let settled = match slot {
            Slot::Next => vault.promote(place, &key),
            Slot::Current if spare => vault.discard(place),
            Slot::Current => Ok(()),
        };
        if let Err(error) = settled {
            // it fits, and the next start tries again
            tracing::warn!("a change of the key that was cut short is not finished: {error}");
        }
        return Ok((key, place));
    }
    Err(StoreError::KeyWrong { key: vault.file.clone(), database: vault.database.clone() })
}

impl Keeper {
    pub(super) fn new(vault: Vault, place: KeyPlace, key: &Key) -> Self {
        let state = State { key: key.duplicate(), place, trouble: None };
        Self { vault, state: Mutex::new(state), busy: Mutex::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // whole values are put in: there is no half-changed state to fear
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the key where it is wanted.
    fn settle(&self, wanted: KeyPlace) {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, place) = {
            let state = self.state();
            (state.key.duplicate(), state.place)
        };
        if place == wanted {
            self.state().trouble = None;
            return;
        }
        match self.vault.put(wanted, &key) {
            Ok(()) => {
                tracing::info!("the key that seals all secrets is in {} now", self.vault.describe(wanted));
                let state = &mut *self.state();
                (state.place, state.trouble) = (wanted, None);
            }
            Err(error) => {
                let why = format!("the key stays in {} for now: {error}", self.vault.describe(place));
                let before = self.state().trouble.replace(why.clone());
                if before.as_ref() != Some(&why) {
                    tracing::warn!("{why}");
                }
                return;
            }
        }
        if wanted == KeyPlace::File {
            self.vault.leave_keyring();
        }
    }

    fn rekey(&self, inbox: &Sender<Message>) -> Result<Rekeyed, StoreError> {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, prints) = {
            let state = self.state();
            (state.place, state.key.prints())
        };
        let damaged = |why| StoreError::KeyDamaged { path: self.vault.file.clone(), why };
        let mut new = key::random()?;
        new.adopt_prints(prints.map_err(damaged)?);
        self.vault.prepare(place, &new)?;
        let (tell, told) = channel();
        let tell = Box::new(move |resealed| drop(tell.send(resealed)));
        // one that comes back undelivered is dropped, and so is its way to tell
        let _closed = inbox.send(Message::Reseal(Box::new(new.duplicate()), tell));
        let accounts = match told.recv().unwrap_or(Err(WriteError::Closed)) {
            Ok(accounts) => accounts,
            Err(error) => {
                if let Err(error) = self.vault.discard(place) {
                    tracing::debug!("a key that was not used is left over: {error}");
                }
                return Err(StoreError::NotResealed(error));
            }
        };
        let promoted = self.vault.promote(place, &new);
        self.state().key = new;
        promoted.map_err(|error| StoreError::HalfRekeyed(Box::new(error)))?;
        tracing::info!(accounts, "all secrets are sealed with a new key");
        Ok(Rekeyed { place, where_it_is: self.vault.describe(place), accounts })
    }
}

impl Store {
    /// Where the key is.
    #[must_use]
    pub fn key_place(&self) -> KeyPlace {
        self.keeper.state().place
    }

    /// Why the key is not where it is wanted, if it is not.
    #[must_use]
    pub fn key_trouble(&self) -> Option<String> {
        self.keeper.state().trouble.clone()
    }

    /// Brings the key where it is wanted, if it is elsewhere; nobody waits for it.
    pub fn settle_key(&self, wanted: KeyPlace) {
        let is_settled = {
            let state = self.keeper.state();
            state.place == wanted && state.trouble.is_none()
        };
        if is_settled {
            return;
        }
        let keeper = self.keeper.clone();
        let thread = thread::Builder::new().name("lessor-key".into()).spawn(move || keeper.settle(wanted));
        if let Err(error) = thread {
            tracing::warn!("the key stays where it is: {error}");
        }
    }

    /// Seals everything with a new key; `done` hears what came of it.
    pub fn rekey(&self, done: impl FnOnce(Result<Rekeyed, StoreError>) + Send + 'static) {
        let (keeper, inbox): (Arc<Keeper>, Sender<Message>) = (self.keeper.clone(), self.inbox.clone());
        let thread = thread::Builder::new().name("lessor-key".into()).spawn(move || done(keeper.rekey(&inbox)));
        if let Err(error) = thread {
            tracing::warn!("the key is not changed: {error}");
        }
    }

    /// Waits until the keyring is open and has what is asked of it, or `give_up`; asks its owner once to open it.
    pub fn wait_for_keyring(give_up: &dyn Fn() -> bool, mut told: impl FnMut(&keyring::KeyringTrouble)) {
        let asking = thread::Builder::new().name("lessor-unlock".into()).spawn(keyring::ask_to_unlock);
        if let Err(error) = asking {
            tracing::debug!("the keyring is not asked for: {error}");
        }
        let mut pause = FIRST_PAUSE;
        while !give_up() {
            match keyring::read("") {
                Ok(_) => return,
                Err(trouble) => told(&trouble),
            }
            let mut left = pause;
            while !left.is_zero() && !give_up() {
                let step = left.min(FIRST_PAUSE);
                thread::sleep(step);
                left -= step;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Between one look at a locked keyring and the next, at first.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
/// And in the end.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);
