//! The lasting keys of the gateway, by their hashes. They have a lock of their own, so that a request's key is checked
//! without the state's.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::pool::{Fence, Process, Wall, millis};
use crate::protocol::{GatewayKey, GatewayKeySealer, KEY_ID_PREFIX, key_hash, key_id};
use crate::store::{GatewayKeyRecord, Store, Write, WriteCallback};

/// The most keys. No further one is made, and none that an earlier version made is accepted for the first time.
pub(crate) const MOST_KEYS: usize = 10_000;
/// How long an expired or revoked key is still listed.
pub(crate) const LISTED_AFTER_END: Duration = Duration::from_secs(30 * 86_400);
/// No key is longer, in bytes.
const LONGEST_KEY: usize = 1024;
/// The least letters of an id, after its prefix, that may stand for a key.
const LEAST_LETTERS: usize = 4;
/// Refusals for one reason are logged once in this time.
const LOG_PAUSE: Duration = Duration::from_secs(60);

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

/// A lasting key.
#[derive(Debug)]
pub struct LastingKey {
    /// As it was when it was made, or loaded.
    record: GatewayKeyRecord,
    /// When it was last used; 0: never.
    last_used_at: AtomicU64,
    /// The last use that was saved.
    saved_use: AtomicU64,
    /// When it was revoked; 0: it is not.
    revoked_at: AtomicU64,
    /// When a request with it was last refused because it has expired; 0: never.
    refused_at: AtomicU64,
    logged: LogPause,
    /// How many requests use it.
    in_use: AtomicU32,
    /// Room for requests, if there may only be so many at the same time.
    slots: Option<Arc<Semaphore>>,
    /// Turns true when it is revoked.
    revoked: watch::Sender<bool>,
}

/// A valid key of a request.
pub(crate) enum ValidKey {
    Lasting(Arc<LastingKey>),
    /// The key of a lease; whether that is still held is checked elsewhere.
    Lease(Fence, Option<Process>, Option<Box<str>>),
}

/// Why a request's key is not valid. Its client is not told.
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

/// A request that uses a key, from when there is room for it until its response has ended.
#[derive(Debug)]
pub struct KeyUse {
    key: Arc<LastingKey>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// Lets a line through once in a while.
#[derive(Debug, Default)]
pub(crate) struct LogPause(AtomicU64);

impl LogPause {
    pub(crate) fn is_over(&self, now: Wall) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        // a clock that was set back ends the pause
        let is_over = last == 0 || now.0 < last || now.0 - last >= millis(LOG_PAUSE);
        is_over && self.0.compare_exchange(last, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
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
        if key.is_revoked() {
            return Err(InvalidKey::Revoked(key));
        }
        if key.has_expired(now) {
            key.refused_at.store(now.0.max(1), Ordering::Relaxed);
            return Err(InvalidKey::Expired(key));
        }
        key.last_used_at.store(now.0.max(1), Ordering::Relaxed);
        Ok(ValidKey::Lasting(key))
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
        key.revoked.send_replace(true);
        if let Some(slots) = &key.slots {
            slots.close();
        }
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
        let is_over = |key: &LastingKey| !key.record.sealed && !key.is_listed(now);
        if self.read().keys.values().any(|key| is_over(key)) {
            self.write().keys.retain(|hash, key| {
                let is_over = is_over(key);
                if is_over {
                    store.write(Write::DropGatewayKey(*hash), None);
                }
                !is_over
            });
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

impl LastingKey {
    fn new(record: GatewayKeyRecord) -> Self {
        let number = |at: Option<Wall>| at.map_or(0, |at| at.0);
        let slots = record.max_leases.map(|most| Arc::new(Semaphore::new(most.max(1) as usize)));
        Self {
            last_used_at: AtomicU64::new(number(record.last_used_at)),
            saved_use: AtomicU64::new(number(record.last_used_at)),
            revoked_at: AtomicU64::new(number(record.revoked_at)),
            refused_at: AtomicU64::new(0),
            logged: LogPause::default(),
            in_use: AtomicU32::new(0),
            slots,
            revoked: watch::Sender::new(record.revoked_at.is_some()),
            record,
        }
    }

    fn current_record(&self) -> GatewayKeyRecord {
        GatewayKeyRecord { last_used_at: self.last_used_at(), revoked_at: self.revoked_at(), ..self.record.clone() }
    }

    /// What does not change.
    pub(crate) fn record(&self) -> &GatewayKeyRecord {
        &self.record
    }

    /// Its id, for people and commands.
    pub(crate) fn id(&self) -> String {
        key_id(&self.record.hash)
    }

    /// Its label and id, in words.
    pub(crate) fn name(&self) -> String {
        match &self.record.label {
            Some(label) => format!("{label:?} ({})", self.id()),
            None => self.id(),
        }
    }

    pub(crate) fn last_used_at(&self) -> Option<Wall> {
        time(&self.last_used_at)
    }

    pub(crate) fn revoked_at(&self) -> Option<Wall> {
        time(&self.revoked_at)
    }

    /// When a request was last refused because it has expired.
    pub(crate) fn refused_at(&self) -> Option<Wall> {
        time(&self.refused_at)
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked_at().is_some()
    }

    pub(crate) fn has_expired(&self, now: Wall) -> bool {
        self.record.expires_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn is_valid(&self, now: Wall) -> bool {
        !self.is_revoked() && !self.has_expired(now)
    }

    /// When it was revoked or expired.
    fn ended_at(&self, now: Wall) -> Option<Wall> {
        self.revoked_at().or_else(|| self.record.expires_at.filter(|at| *at <= now))
    }

    fn is_listed(&self, now: Wall) -> bool {
        self.ended_at(now).is_none_or(|at| now.since(at) < LISTED_AFTER_END)
    }

    /// Turns true when it is revoked.
    pub(crate) fn revocation(&self) -> watch::Receiver<bool> {
        self.revoked.subscribe()
    }

    /// Begins a request, when the key has room for it; `None` once it is revoked.
    pub(crate) async fn begin(self: &Arc<Self>) -> Option<KeyUse> {
        let slot = match &self.slots {
            Some(slots) => Some(slots.clone().acquire_owned().await.ok()?),
            None => None,
        };
        self.in_use.fetch_add(1, Ordering::Relaxed);
        let began = KeyUse { key: self.clone(), _slot: slot };
        (!self.is_revoked()).then_some(began)
    }
}

fn time(at: &AtomicU64) -> Option<Wall> {
    Some(Wall(at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
}

impl PartialEq for LastingKey {
    fn eq(&self, other: &Self) -> bool {
        self.record.hash == other.record.hash
    }
}

impl Eq for LastingKey {}

impl Drop for KeyUse {
    fn drop(&mut self) {
        self.key.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}
