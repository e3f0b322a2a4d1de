//! Where the key is stored, and how it moves to another place or is replaced. After a crash at any point a key that
//! fits is found.

use std::path::PathBuf;

use super::KeyFile;
use super::keyring;
use super::seal::SealKey;
use crate::store::StorePaths;
use crate::store::error::StoreError;
use crate::store::file::{self, ExposedFiles};
use crate::store::key;

/// Where the key is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyBackend {
    /// In the key file.
    File,
    /// In the system's keyring.
    Keyring,
}

/// Which key: the current one; the next one, which replaces it once everything is sealed with it; or the one of a
/// database that was set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum KeySlot {
    Current,
    Next,
    Former,
}

/// A key that may fit the database.
pub(in crate::store) struct KeyCandidate {
    pub(in crate::store) key: SealKey,
    pub(in crate::store) place: KeyBackend,
    pub(in crate::store) slot: KeySlot,
}

/// The places where a key can be stored.
#[derive(Clone, Debug)]
pub(in crate::store) struct KeyStorage {
    pub(in crate::store) file: PathBuf,
    pub(in crate::store) database: PathBuf,
}

impl KeyStorage {
    pub(in crate::store) fn new(paths: &StorePaths) -> Self {
        Self { file: paths.key.clone(), database: paths.database.clone() }
    }

    /// The keys that may fit an existing database, the most likely first.
    pub(in crate::store) fn candidates(
        &self,
        wanted: KeyBackend,
        exposed: &mut ExposedFiles,
    ) -> Result<Vec<KeyCandidate>, StoreError> {
        let missing = || StoreError::KeyMissing { key: self.file.clone(), database: self.database.clone() };
        let (place, current) = match (key::read(&self.file, exposed)?, wanted) {
            (KeyFile::Key(key), _) => (KeyBackend::File, key),
            (KeyFile::InKeyring, _) => {
                let lost = || StoreError::NotInKeyring { database: self.database.clone(), file: self.file.clone() };
                (KeyBackend::Keyring, self.read_keyring(KeySlot::Current)?.ok_or_else(lost)?)
            }
            // the key file is lost, but it only said that the key is in the keyring
            (KeyFile::Nothing, KeyBackend::Keyring) => {
                (KeyBackend::Keyring, self.read_keyring(KeySlot::Current)?.ok_or_else(missing)?)
            }
            (KeyFile::Nothing, KeyBackend::File) => return Err(missing()),
        };
        let next = match place {
            KeyBackend::File => match key::read(&self.next_file(), exposed)? {
                KeyFile::Key(key) => Some(key),
                KeyFile::Nothing | KeyFile::InKeyring => None,
            },
            KeyBackend::Keyring => self.read_keyring(KeySlot::Next)?,
        };
        let mut all = vec![KeyCandidate { key: current, place, slot: KeySlot::Current }];
        all.extend(next.map(|key| KeyCandidate { key, place, slot: KeySlot::Next }));
        Ok(all)
    }

    /// A key for a new database, and whether it existed: it is the key of a database that is missing, or the start that
    /// made it was interrupted.
    pub(in crate::store) fn first(
        &self,
        wanted: KeyBackend,
        exposed: &mut ExposedFiles,
    ) -> Result<(KeyCandidate, bool), StoreError> {
        let found = match key::read(&self.file, exposed)? {
            KeyFile::Key(key) => Some((KeyBackend::File, key)),
            KeyFile::InKeyring => self.read_keyring(KeySlot::Current)?.map(|key| (KeyBackend::Keyring, key)),
            KeyFile::Nothing => None,
        };
        let existed = found.is_some();
        let (place, key) = match found {
            Some(found) => found,
            None => {
                let key = key::random()?;
                self.put(wanted, &key)?;
                (wanted, key)
            }
        };
        Ok((KeyCandidate { key, place, slot: KeySlot::Current }, existed))
    }

    /// Stores the key at this place and verifies it.
    pub(in crate::store) fn put(&self, place: KeyBackend, key: &SealKey) -> Result<(), StoreError> {
        match place {
            KeyBackend::File => key::put(&self.file, key),
            KeyBackend::Keyring => {
                self.to_keyring(KeySlot::Current, key)?;
                // only now: until here the file contains the key that fits
                key::refer_to_keyring(&self.file)
            }
        }
    }

    /// Stores the next key beside the current one.
    pub(in crate::store) fn prepare(&self, place: KeyBackend, key: &SealKey) -> Result<(), StoreError> {
        match place {
            KeyBackend::File => key::put(&self.next_file(), key),
            KeyBackend::Keyring => self.to_keyring(KeySlot::Next, key),
        }
    }

    /// Makes the next key the current one, after everything was sealed with it.
    pub(in crate::store) fn promote(&self, place: KeyBackend, key: &SealKey) -> Result<(), StoreError> {
        match place {
            KeyBackend::File => file::replace(&self.next_file(), &self.file),
            KeyBackend::Keyring => {
                self.to_keyring(KeySlot::Current, key)?;
                self.discard(place)
            }
        }
    }

    /// Keeps the current key beside the one that will replace it: the database that it fits is set aside as well.
    pub(in crate::store) fn keep_former(&self, place: KeyBackend, key: &SealKey) -> Result<(), StoreError> {
        match place {
            KeyBackend::File => key::put(&file::free_name(&self.file), key),
            KeyBackend::Keyring => self.to_keyring(KeySlot::Former, key),
        }
    }

    /// Removes a prepared next key.
    pub(in crate::store) fn discard(&self, place: KeyBackend) -> Result<(), StoreError> {
        match place {
            KeyBackend::File => file::clear(&self.next_file()),
            KeyBackend::Keyring => keyring::remove(&self.item(KeySlot::Next)).map_err(StoreError::Keyring),
        }
    }

    /// Removes the keyring's copy after the key was moved back to its file.
    pub(in crate::store) fn leave_keyring(&self) {
        if let Err(trouble) = keyring::remove(&self.item(KeySlot::Current)) {
            tracing::warn!(
                "the key was moved to its file, but its copy in the keyring could not be removed: {trouble}"
            );
        }
    }

    /// Describes the place for messages.
    pub(in crate::store) fn describe(&self, place: KeyBackend) -> String {
        match place {
            KeyBackend::File => self.file.display().to_string(),
            KeyBackend::Keyring => format!("the keyring (the key of {})", self.database.display()),
        }
    }

    fn read_keyring(&self, slot: KeySlot) -> Result<Option<SealKey>, StoreError> {
        let text = keyring::read(&self.item(slot)).map_err(StoreError::Keyring)?;
        let damaged = |why| StoreError::KeyringDamaged { item: self.item(slot), why };
        text.map(|text| key::parse(&text).map_err(damaged)).transpose()
    }

    fn to_keyring(&self, slot: KeySlot, key: &SealKey) -> Result<(), StoreError> {
        keyring::write(&self.item(slot), &key::print(key)).map_err(StoreError::Keyring)?;
        match self.read_keyring(slot)? {
            Some(kept) if kept.bytes() == key.bytes() => Ok(()),
            _ => {
                let why = "it does not return the key that was stored in it";
                Err(StoreError::Keyring(keyring::KeyringError::Unusable(why.to_owned())))
            }
        }
    }

    fn item(&self, slot: KeySlot) -> String {
        let database = self.database.display();
        match slot {
            KeySlot::Current => database.to_string(),
            KeySlot::Next => format!("{database} (next)"),
            KeySlot::Former => format!("{database} (former)"),
        }
    }

    fn next_file(&self) -> PathBuf {
        file::beside(&self.file, ".next")
    }
}
