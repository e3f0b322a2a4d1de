//! A lasting key of the gateway: what is known of it, and the requests that use it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::pool::{Wall, millis};
use crate::protocol::key_id;
use crate::store::GatewayKeyRecord;

/// How long an expired or revoked key is still listed.
pub(crate) const LISTED_AFTER_END: Duration = Duration::from_secs(30 * 86_400);
/// Refusals for one reason are logged once in this time.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// A lasting key.
#[derive(Debug)]
pub struct LastingKey {
    /// As it was when it was made, or loaded.
    pub(super) record: GatewayKeyRecord,
    /// When it was last used; 0: never.
    pub(super) last_used_at: AtomicU64,
    /// The last use that was saved.
    pub(super) saved_use: AtomicU64,
    /// When it was revoked; 0: it is not.
    pub(super) revoked_at: AtomicU64,
    /// When a request with it was last refused because it has expired; 0: never.
    pub(super) refused_at: AtomicU64,
    pub(super) logged: LogPause,
    /// How many requests use it.
    pub(super) in_use: AtomicU32,
    /// Room for requests, if there may only be so many at the same time.
    pub(super) slots: Option<Arc<Semaphore>>,
    /// How the requests that use it are cut.
    cut: Mutex<KeyCutState>,
}

/// How the requests of a key are cut when it is revoked. The many keys that have ended, or were never used, have no channel.
#[derive(Debug)]
enum KeyCutState {
    /// No request has used it.
    Unused,
    /// Turns true when it is revoked.
    Used(watch::Sender<bool>),
    Revoked,
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

impl LastingKey {
    pub(super) fn new(record: GatewayKeyRecord) -> Self {
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
            cut: Mutex::new(if record.revoked_at.is_some() { KeyCutState::Revoked } else { KeyCutState::Unused }),
            record,
        }
    }

    pub(super) fn current_record(&self) -> GatewayKeyRecord {
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

    /// Notes a use of it; `false` if it is not valid.
    pub(crate) fn note_use(&self, now: Wall) -> bool {
        let is_valid = self.is_valid(now);
        if is_valid {
            self.last_used_at.store(now.0.max(1), Ordering::Relaxed);
        }
        is_valid
    }

    /// When it was revoked or expired.
    pub(super) fn ended_at(&self, now: Wall) -> Option<Wall> {
        self.revoked_at().or_else(|| self.record.expires_at.filter(|at| *at <= now))
    }

    pub(super) fn is_listed(&self, now: Wall) -> bool {
        self.ended_at(now).is_none_or(|at| now.since(at) < LISTED_AFTER_END)
    }

    /// Turns true when it is revoked.
    pub(crate) fn revocation(&self) -> watch::Receiver<bool> {
        let cut = &mut *self.cut();
        match cut {
            KeyCutState::Used(revoked) => revoked.subscribe(),
            KeyCutState::Revoked => watch::channel(true).1,
            KeyCutState::Unused => {
                let (revoked, receiver) = watch::channel(false);
                *cut = KeyCutState::Used(revoked);
                receiver
            }
        }
    }

    /// Cuts the requests that use it, and lets no further one begin.
    pub(super) fn cut_requests(&self) {
        if let KeyCutState::Used(revoked) = std::mem::replace(&mut *self.cut(), KeyCutState::Revoked) {
            revoked.send_replace(true);
        }
        if let Some(slots) = &self.slots {
            slots.close();
        }
    }

    fn cut(&self) -> MutexGuard<'_, KeyCutState> {
        // each change is one assignment
        self.cut.lock().unwrap_or_else(PoisonError::into_inner)
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
