//! The lasting keys of the gateway, by their hashes. They have a lock of their own, so that a request's key is checked
//! without the state's.

pub(super) mod conversations;
pub(super) mod key_holders;
pub(super) mod lasting_key;
pub(super) mod moved_leases;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::FxHashMap;

use crate::pool::{Fence, Process, Wall};
use crate::protocol::{GatewayKey, GatewayKeySealer, KEY_ID_PREFIX, key_hash};
use crate::store::{GatewayKeyRecord, Store, Write, WriteCallback};
use lasting_key::{LastingKey, LogPause};

/// The most keys. No further one is made, and none that an earlier version made is accepted for the first time.
pub(crate) const MOST_KEYS: usize = 10_000;
/// The most keys that have ended and are still listed; beyond it the first that ended are removed.
const MOST_ENDED: usize = 1_000;
/// No key is longer, in bytes.
const LONGEST_KEY: usize = 1024;
/// The fewest letters of an id, after its prefix, that may stand for a key.
const LEAST_LETTERS: usize = 4;

/// All lasting keys.
#[derive(Debug)]
pub(crate) struct GatewayKeys {
    sealer: GatewayKeySealer,
    table: RwLock<KeyTable>,
    /// When a request without any known key was last logged.
    unknown_logged: LogPause,
    /// When the key of an ended lease was last logged.
    ended_logged: LogPause,
}

#[derive(Debug, Default)]
struct KeyTable {
    keys: FxHashMap<[u8; 32], Arc<LastingKey>>,
    /// Whether a key that an earlier version made is valid although it is not listed.
    accepts_sealed: bool,
}

/// A valid key of a request.
pub(crate) enum ValidKey {
    Lasting(Arc<LastingKey>),
    /// The key of a lease; whether that is still held is checked elsewhere.
    Lease(Fence, Option<Process>, Option<Arc<str>>),
}

/// Why a request's key is not valid. The response does not say it; the log does.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum InvalidKey {
    Unknown,
    Revoked(Arc<LastingKey>),
    Expired(Arc<LastingKey>),
    /// An earlier version made it, and it cannot be listed.
    NotListed(&'static str),
}

/// Why a name does not find one key.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum NoSuchKey {
    None,
    /// The ids of those that have the name.
    Several(Vec<String>),
}

impl GatewayKeys {
    pub(crate) fn new(sealer: GatewayKeySealer, stored: Vec<GatewayKeyRecord>, accepts_sealed: bool) -> Self {
        let keys = stored.into_iter().map(|record| (record.hash, Arc::new(LastingKey::new(record)))).collect();
        let table = RwLock::new(KeyTable { keys, accepts_sealed });
        Self { sealer, table, unknown_logged: LogPause::default(), ended_logged: LogPause::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, KeyTable> {
        // each change is one insertion or removal, so a panic leaves no half of one
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, KeyTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a lease, which is not listed.
    pub(crate) fn seal(&self, key: &GatewayKey) -> String {
        self.sealer.seal(key)
    }

    /// Checks a key that a request presents; one that an earlier version made is listed when it is first seen.
    pub(crate) fn check(&self, store: &Store, key: &str, now: Wall) -> Result<ValidKey, InvalidKey> {
        if key.len() > LONGEST_KEY {
            return Err(InvalidKey::Unknown);
        }
        let sealed = match self.sealer.open(key) {
            Some(GatewayKey::Lease { fence, process, directory }) => {
                return Ok(ValidKey::Lease(fence, process, directory));
            }
            sealed => sealed,
        };
        let hash = key_hash(key);
        let known = self.read().keys.get(&hash).cloned();
        let key = match (known, sealed) {
            (Some(known), _) => known,
            (None, Some(sealed)) => self.list_sealed(store, hash, sealed, now)?,
            (None, None) => return Err(InvalidKey::Unknown),
        };
        if key.note_use(now) {
            return Ok(ValidKey::Lasting(key));
        }
        if key.is_revoked() {
            return Err(InvalidKey::Revoked(key));
        }
        key.refused_at.store(now.0.max(1), Ordering::Relaxed);
        Err(InvalidKey::Expired(key))
    }

    fn list_sealed(
        &self,
        store: &Store,
        hash: [u8; 32],
        sealed: GatewayKey,
        now: Wall,
    ) -> Result<Arc<LastingKey>, InvalidKey> {
        let table = &mut *self.write();
        if let Some(known) = table.keys.get(&hash) {
            return Ok(known.clone());
        }
        if !table.accepts_sealed {
            return Err(InvalidKey::NotListed(
                "a version made it that did not list keys, and this database accepts none",
            ));
        }
        if table.keys.len() >= MOST_KEYS {
            return Err(InvalidKey::NotListed("a version made it that did not list keys, and the list is full"));
        }
        let Some(record) = record_of_sealed(hash, sealed, now) else { return Err(InvalidKey::Unknown) };
        Ok(table.insert(store, record, None))
    }

    /// Whether there is room for another key.
    pub(crate) fn has_room(&self) -> bool {
        self.read().keys.len() < MOST_KEYS
    }

    /// Puts a key in use that is on disk.
    pub(crate) fn add(&self, record: GatewayKeyRecord) -> Arc<LastingKey> {
        let key = Arc::new(LastingKey::new(record));
        self.write().keys.insert(key.record.hash, key.clone());
        key
    }

    /// The keys that are listed, in the order in which they were made.
    pub(crate) fn listed(&self, now: Wall) -> Vec<Arc<LastingKey>> {
        let mut keys: Vec<_> = self.read().keys.values().filter(|key| key.is_listed(now)).cloned().collect();
        keys.sort_by_key(|key| (key.record.listed_at, key.record.hash));
        keys
    }

    /// The key of this id, unique beginning of an id, or label, or the key itself.
    pub(crate) fn find(&self, name: &str, now: Wall) -> Result<Arc<LastingKey>, NoSuchKey> {
        let listed = {
            let table = self.read();
            if let Some(key) = table.keys.get(&key_hash(name)) {
                return Ok(key.clone());
            }
            let keys = table.keys.values().filter(|key| key.is_listed(now));
            keys.cloned().collect::<Vec<_>>()
        };
        if let Some(key) = listed.iter().find(|key| key.id() == name) {
            return Ok(key.clone());
        }
        let letters = name.strip_prefix(KEY_ID_PREFIX).unwrap_or(name);
        let begins =
            |key: &LastingKey| letters.len() >= LEAST_LETTERS && key.id()[KEY_ID_PREFIX.len()..].starts_with(letters);
        let is_labelled = |key: &LastingKey| key.record.label.as_deref() == Some(name);
        // a name of a valid key is never taken for that of an ended one
        for is_valid in [true, false] {
            for matches in [&is_labelled as &dyn Fn(&LastingKey) -> bool, &begins] {
                let mut found = listed.iter().filter(|key| key.is_valid(now) == is_valid && matches(key));
                match (found.next(), found.next()) {
                    (Some(key), None) => return Ok(key.clone()),
                    (Some(first), Some(second)) => {
                        let ids = [first, second].into_iter().chain(found).map(|key| key.id());
                        return Err(NoSuchKey::Several(ids.collect()));
                    }
                    (None, _) => {}
                }
            }
        }
        Err(NoSuchKey::None)
    }

    /// Lists a key that an earlier version made and that was never used since, so that it can be revoked.
    pub(crate) fn find_sealed(&self, store: &Store, key: &str, now: Wall) -> Option<Arc<LastingKey>> {
        let sealed = self.sealer.open(key).filter(|_| key.len() <= LONGEST_KEY)?;
        let record = record_of_sealed(key_hash(key), sealed, now)?;
        let table = &mut *self.write();
        let known = table.keys.get(&record.hash).cloned();
        Some(known.unwrap_or_else(|| table.insert(store, record, None)))
    }

    /// Revokes a key at once; `done` is called when that is on disk. Answers how many requests are cut off; `None` if
    /// it was revoked before.
    pub(crate) fn revoke(&self, store: &Store, key: &LastingKey, now: Wall, done: WriteCallback) -> Option<u32> {
        // the order of its writes is that of its changes
        let _table = self.write();
        let at = now.0.max(1);
        let is_first = key.revoked_at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let cut_off = key.in_use.load(Ordering::Relaxed);
        key.cut_requests();
        store.write(Write::SaveGatewayKey(key.current_record()), Some(done));
        is_first.then_some(cut_off)
    }

    /// Tries again to save that a key is revoked, until the disk can be written.
    pub(crate) fn save_later(&self, store: &Store, key: &LastingKey) {
        let _table = self.write();
        store.write(Write::SaveGatewayKey(key.current_record()), None);
    }

    /// Saves when keys were last used, where that has changed, and removes those that ended long ago. One that an earlier
    /// version made stays for ever: it would be valid again.
    pub(crate) fn tidy(&self, store: &Store, now: Wall) {
        let mut uses = Vec::new();
        for key in self.read().keys.values() {
            let last = key.last_used_at.load(Ordering::Relaxed);
            if key.saved_use.swap(last, Ordering::Relaxed) != last {
                uses.push((key.record.hash, Wall(last)));
            }
        }
        if !uses.is_empty() {
            store.write(Write::GatewayKeysUsed(uses), None);
        }
        let mut ended: Vec<(Wall, [u8; 32], bool)> = Vec::new();
        for key in self.read().keys.values().filter(|key| !key.record.sealed) {
            ended.extend(key.ended_at(now).map(|at| (at, key.record.hash, key.is_listed(now))));
        }
        // the last that ended come first
        ended.sort_unstable_by(|one, other| other.cmp(one));
        for (place, (_, hash, is_listed)) in ended.into_iter().enumerate() {
            if place >= MOST_ENDED || !is_listed {
                self.write().keys.remove(&hash);
                store.write(Write::DropGatewayKey(hash), None);
            }
        }
    }

    /// Whether a refusal is to be logged, and not left out because the same was logged just before.
    pub(crate) fn is_logged(&self, refused: &InvalidKey, now: Wall) -> bool {
        match refused {
            InvalidKey::Unknown | InvalidKey::NotListed(_) => self.unknown_logged.is_over(now),
            InvalidKey::Revoked(key) | InvalidKey::Expired(key) => key.logged.is_over(now),
        }
    }

    /// The same, for the key of a lease that has ended.
    pub(crate) fn is_ended_lease_logged(&self, now: Wall) -> bool {
        self.ended_logged.is_over(now)
    }
}

/// `None` for the key of a lease.
fn record_of_sealed(hash: [u8; 32], sealed: GatewayKey, now: Wall) -> Option<GatewayKeyRecord> {
    let GatewayKey::Client { id: client, agent, label } = sealed else { return None };
    Some(GatewayKeyRecord {
        hash,
        client,
        label,
        agent,
        sealed: true,
        listed_at: now,
        expires_at: None,
        max_leases: None,
        directory: None,
        last_used_at: None,
        revoked_at: None,
    })
}

impl KeyTable {
    fn insert(&mut self, store: &Store, record: GatewayKeyRecord, done: Option<WriteCallback>) -> Arc<LastingKey> {
        let key = Arc::new(LastingKey::new(record));
        store.write(Write::SaveGatewayKey(key.record.clone()), done);
        self.keys.insert(key.record.hash, key.clone());
        key
    }
}

#[cfg(test)]
mod tests;
