//! Replacing or moving the key while the store is open, on separate threads because a keyring may be slow.
//!
//! A new key is first stored beside the old one; then everything is sealed with it in one transaction; then it replaces
//! the old one. After a crash between any two steps one of the two keys fits, and the next start continues from there.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, thread};

use super::keyring;
use super::location::{KeyBackend, KeyCandidate, KeySlot, KeyStorage};
use super::seal::SealKey;
use crate::store::database::row_tags::RowTags;
use crate::store::error::{StoreError, WriteError};
use crate::store::reader::Reader;
use crate::store::writer::WriterMessage;
use crate::store::{Store, key};

/// The result of replacing the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rekeyed {
    /// Where the key is stored.
    pub place: KeyBackend,
    /// The place in words.
    pub location: String,
    /// The number of accounts whose secrets are sealed with it.
    pub accounts: u64,
}

/// Knows the key and where it is stored.
pub(in crate::store) struct KeyManager {
    storage: KeyStorage,
    state: Mutex<StoredKey>,
    /// Held during a change, so that there is one at a time.
    busy: Mutex<()>,
}

struct StoredKey {
    key: SealKey,
    place: KeyBackend,
    /// Why the key is not stored where the configuration wants it.
    trouble: Option<String>,
}

impl fmt::Debug for KeyManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// Which key is the first one that opens the database, and the tags of its rows.
pub(in crate::store) fn fitting(
    storage: &KeyStorage,
    candidates: &[KeyCandidate],
    reader: &Reader,
) -> Result<(usize, RowTags), StoreError> {
    let fault = |error| StoreError::from_sqlite(&storage.database, error);
    for (place, candidate) in candidates.iter().enumerate() {
        let tags = RowTags::new(&candidate.key).map_err(fault)?;
        if reader.fits(&candidate.key, &tags).map_err(fault)? {
            return Ok((place, tags));
        }
    }
    Err(StoreError::KeyWrong { key: storage.file.clone(), database: storage.database.clone() })
}

/// Completes a change of the key that was interrupted, once the database is accepted with this key.
pub(in crate::store) fn settle(storage: &KeyStorage, candidates: &[KeyCandidate], fits: &KeyCandidate) {
    let settled = match fits.slot {
        KeySlot::Next => storage.promote(fits.place, &fits.key),
        KeySlot::Current if candidates.len() > 1 => storage.discard(fits.place),
        KeySlot::Current | KeySlot::Former => Ok(()),
    };
    if let Err(error) = settled {
        // the key fits, and the next start tries again
        tracing::warn!("an interrupted change of the key could not be completed: {error}");
    }
}

impl KeyManager {
    pub(in crate::store) fn new(storage: KeyStorage, place: KeyBackend, key: &SealKey) -> Self {
        let state = StoredKey { key: key.duplicate(), place, trouble: None };
        Self { storage, state: Mutex::new(state), busy: Mutex::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, StoredKey> {
        // the values are replaced as a whole, so a poisoned lock does not leave them half-changed
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the key to the wanted place.
    fn settle(&self, wanted: KeyBackend) {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, place) = {
            let state = self.state();
            (state.key.duplicate(), state.place)
        };
        if place == wanted {
            self.state().trouble = None;
            return;
        }
        match self.storage.put(wanted, &key) {
            Ok(()) => {
                tracing::info!("the key was moved to {}", self.storage.describe(wanted));
                let state = &mut *self.state();
                (state.place, state.trouble) = (wanted, None);
            }
            Err(error) => {
                let why = format!("the key stays in {}: {error}", self.storage.describe(place));
                let before = self.state().trouble.replace(why.clone());
                if before.as_ref() != Some(&why) {
                    tracing::warn!("{why}");
                }
                return;
            }
        }
        if wanted == KeyBackend::File {
            self.storage.leave_keyring();
        }
    }

    fn rekey(&self, inbox: &Sender<WriterMessage>) -> Result<Rekeyed, StoreError> {
        let _one_at_a_time = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, prints) = {
            let state = self.state();
            (state.place, state.key.prints())
        };
        let damaged = |why| StoreError::KeyDamaged { path: self.storage.file.clone(), why };
        let mut new = key::random()?;
        new.adopt_prints(prints.map_err(damaged)?);
        self.storage.prepare(place, &new)?;
        let (tell, told) = channel();
        let tell = Box::new(move |resealed| drop(tell.send(resealed)));
        // if the channel is closed, the message is dropped, and with it the sender
        let _closed = inbox.send(WriterMessage::Reseal(Box::new(new.duplicate()), tell));
        let accounts = match told.recv().unwrap_or(Err(WriteError::Closed)) {
            Ok(accounts) => accounts,
            Err(error) => {
                if let Err(error) = self.storage.discard(place) {
                    tracing::debug!("an unused new key could not be removed: {error}");
                }
                return Err(StoreError::NotResealed(error));
            }
        };
        let promoted = self.storage.promote(place, &new);
        self.state().key = new;
        promoted.map_err(|error| StoreError::HalfRekeyed(Box::new(error)))?;
        tracing::info!(accounts, "all secrets were sealed with a new key");
        Ok(Rekeyed { place, location: self.storage.describe(place), accounts })
    }
}

/// Runs `work` on a new thread.
fn in_background(what: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("lessor-key".into()).spawn(work) {
        tracing::warn!("{what} failed: {error}");
    }
}

impl Store {
    /// Where the key is stored.
    #[must_use]
    pub fn key_backend(&self) -> KeyBackend {
        self.keeper.state().place
    }

    /// Why the key is not stored where the configuration wants it, if so.
    #[must_use]
    pub fn key_problem(&self) -> Option<String> {
        self.keeper.state().trouble.clone()
    }

    /// Moves the key in the background, if it is stored elsewhere.
    pub fn move_key(&self, wanted: KeyBackend) {
        let is_settled = {
            let state = self.keeper.state();
            state.place == wanted && state.trouble.is_none()
        };
        if is_settled {
            return;
        }
        let keeper = self.keeper.clone();
        in_background("moving the key", move || keeper.settle(wanted));
    }

    /// Seals everything with a new key; `done` is called with the result.
    pub fn rekey(&self, done: impl FnOnce(Result<Rekeyed, StoreError>) + Send + 'static) {
        let (keeper, inbox): (Arc<KeyManager>, Sender<WriterMessage>) = (self.keeper.clone(), self.inbox.clone());
        in_background("replacing the key", move || done(keeper.rekey(&inbox)));
    }

    /// Blocks until the keyring is unlocked, or until `give_up` returns true. Asks the user once to unlock it.
    pub fn wait_for_keyring(give_up: &dyn Fn() -> bool, mut told: impl FnMut(&keyring::KeyringError)) {
        in_background("asking to unlock the keyring", keyring::ask_to_unlock);
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

/// The first pause between two attempts to read a locked keyring; it doubles.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);
