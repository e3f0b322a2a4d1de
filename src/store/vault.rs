//! Where the key is kept, and how it comes from one place to another, or is changed for a new one, so that after a crash
//! at any point a key that fits is found.

use std::path::PathBuf;

use super::Paths;
use super::error::StoreError;
use super::file;
use super::key::{self, InFile};
use super::keyring;
use super::seal::Key;

/// Where the key is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyPlace {
    /// In a file of its own.
    File,
    /// In the system's keyring.
    Keyring,
}

/// Which key: the one in use, or the one that takes its place when all is sealed with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Current,
    Next,
}

/// A key that may fit.
pub(super) struct Candidate {
    pub(super) key: Key,
    pub(super) place: KeyPlace,
    pub(super) slot: Slot,
}

/// The places.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    pub(super) file: PathBuf,
    pub(super) database: PathBuf,
}

impl Vault {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { file: paths.key.clone(), database: paths.database.clone() }
    }

    /// The keys there are for a database that exists, the likeliest first.
    pub(super) fn candidates(
        &self,
        wanted: KeyPlace,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Candidate>, StoreError> {
        let missing = || StoreError::KeyMissing { key: self.file.clone(), database: self.database.clone() };
        let (place, current) = match (key::look(&self.file, warnings)?, wanted) {
            (InFile::Key(key), _) => (KeyPlace::File, key),
            (InFile::InKeyring, _) => {
                let lost = || StoreError::NotInKeyring { database: self.database.clone(), file: self.file.clone() };
                (KeyPlace::Keyring, self.read_keyring(Slot::Current)?.ok_or_else(lost)?)
            }
            // the file is lost, but it was only to say where the key is
            (InFile::Nothing, KeyPlace::Keyring) => {
                (KeyPlace::Keyring, self.read_keyring(Slot::Current)?.ok_or_else(missing)?)
            }
            (InFile::Nothing, KeyPlace::File) => return Err(missing()),
        };
        let next = match place {
            KeyPlace::File => match key::look(&self.next_file(), warnings)? {
                InFile::Key(key) => Some(key),
                InFile::Nothing | InFile::InKeyring => None,
            },
            KeyPlace::Keyring => self.read_keyring(Slot::Next)?,
        };
        let mut all = vec![Candidate { key: current, place, slot: Slot::Current }];
        all.extend(next.map(|key| Candidate { key, place, slot: Slot::Next }));
        Ok(all)
    }

    /// A new key for a database that is still to be made: the one that is there already, if a start was cut short.
    pub(super) fn first(&self, wanted: KeyPlace, warnings: &mut Vec<String>) -> Result<Candidate, StoreError> {
        let found = match key::look(&self.file, warnings)? {
            InFile::Key(key) => Some((KeyPlace::File, key)),
            InFile::InKeyring => self.read_keyring(Slot::Current)?.map(|key| (KeyPlace::Keyring, key)),
            InFile::Nothing => None,
        };
        let (place, key) = match found {
            Some(found) => found,
            None => {
                let key = key::random()?;
                self.put(wanted, &key)?;
                (wanted, key)
            }
        };
        Ok(Candidate { key, place, slot: Slot::Current })
    }

    /// Keeps the key at this place, and makes sure that it is there.
    pub(super) fn put(&self, place: KeyPlace, key: &Key) -> Result<(), StoreError> {
        match place {
            KeyPlace::File => key::put(&self.file, key),
            KeyPlace::Keyring => {
                self.to_keyring(Slot::Current, key)?;
                // only now: until here the file has the key that fits
                key::refer_to_keyring(&self.file)
            }
        }
    }

    /// Keeps the key that will be the one.
    pub(super) fn prepare(&self, place: KeyPlace, key: &Key) -> Result<(), StoreError> {
        match place {
            KeyPlace::File => key::put(&self.next_file(), key),
            KeyPlace::Keyring => self.to_keyring(Slot::Next, key),
        }
    }

    /// Everything is sealed with the key that was prepared: it is the one from now on.
    pub(super) fn promote(&self, place: KeyPlace, key: &Key) -> Result<(), StoreError> {
        match place {
            KeyPlace::File => file::replace(&self.next_file(), &self.file),
            KeyPlace::Keyring => {
                self.to_keyring(Slot::Current, key)?;
                self.discard(place)
            }
        }
    }

    /// Forgets a key that was prepared.
    pub(super) fn discard(&self, place: KeyPlace) -> Result<(), StoreError> {
        match place {
            KeyPlace::File => file::clear(&self.next_file()),
            KeyPlace::Keyring => keyring::remove(&self.item(Slot::Next)).map_err(StoreError::Keyring),
        }
    }

    /// Forgets what was left in the keyring when the key came back to its file.
    pub(super) fn leave_keyring(&self) {
        if let Err(trouble) = keyring::remove(&self.item(Slot::Current)) {
            tracing::warn!("the key is in its file again, and its copy still in the keyring: {trouble}");
        }
    }

    /// Where a key of this place is, in words.
    pub(super) fn describe(&self, place: KeyPlace) -> String {
        match place {
            KeyPlace::File => self.file.display().to_string(),
            KeyPlace::Keyring => format!("the keyring, as the key of {}", self.database.display()),
        }
    }

    fn read_keyring(&self, slot: Slot) -> Result<Option<Key>, StoreError> {
        let text = keyring::read(&self.item(slot)).map_err(StoreError::Keyring)?;
        let damaged = |why| StoreError::KeyringDamaged { item: self.item(slot), why };
        text.map(|text| key::parse(&text).map_err(damaged)).transpose()
    }

    fn to_keyring(&self, slot: Slot, key: &Key) -> Result<(), StoreError> {
        keyring::write(&self.item(slot), &key::print(key)).map_err(StoreError::Keyring)?;
        match self.read_keyring(slot)? {
            Some(kept) if kept.bytes() == key.bytes() => Ok(()),
            _ => {
                let why = "what it was given to keep is not what it gives back";
                Err(StoreError::Keyring(keyring::KeyringTrouble::Unusable(why.to_owned())))
            }
        }
    }

    fn item(&self, slot: Slot) -> String {
        let database = self.database.display();
        match slot {
            Slot::Current => database.to_string(),
            Slot::Next => format!("{database} (next)"),
        }
    }

    fn next_file(&self) -> PathBuf {
        file::beside(&self.file, ".next")
    }
}
