//! What must survive a `kill -9` of the daemon before an answer that depends on it may go out.
//!
//! Every write of the state goes through [`Shared::write`], which hands it to the store at once and in order, and
//! counts it until it is in the database. An answer waits for two things: for what its own call has changed (the
//! [`Pending`] in an [`Unsaved`], which can be sent only through `api::reply` or [`Shared::saved`]), and for what
//! other calls have changed before, because it may say so, too: that an account is limited, or free again. Only an
//! answer about a lease waits for less: for the changes of that lease's account ([`UnsavedAccounts`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::{Daemon, Shared};
use crate::daemon::os::clock;
use crate::pool::{AccountId, Wall};
use crate::store::{Store, Write, WriteError};

/// What the store still has to write before an answer may go out, the stronger demand last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pending {
    /// Nothing.
    Nothing,
    /// Usage. The answer of the call that reported it waits for it, other answers do not.
    Usage,
    /// A lease or a limit. While the disk fails the daemon serves it from memory and goes on trying, so the answer
    /// goes out all the same.
    Lease,
    /// A change of accounts. While the disk fails the answer is an error.
    Account,
}

/// A result whose changes may not be on disk yet.
#[must_use = "answer through `api::reply`, wait with `Shared::saved`, or say with `no_answer` that there is none"]
#[derive(Debug)]
pub(crate) struct Unsaved<T> {
    value: T,
    pending: Pending,
}

impl<T> Unsaved<T> {
    /// A value for which the store still has to write this.
    pub(crate) fn pending(value: T, pending: Pending) -> Self {
        Self { value, pending }
    }

    /// A result that changed nothing.
    pub(crate) fn nothing_to_save(value: T) -> Self {
        Self { value, pending: Pending::Nothing }
    }

    /// The value, to decide by; not to answer with.
    pub(crate) fn peek(&self) -> &T {
        &self.value
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Unsaved<U> {
        Unsaved { value: change(self.value), pending: self.pending }
    }

    /// The same value, with at least this to be written before it is answered.
    pub(crate) fn or_at_least(self, pending: Pending) -> Self {
        Self { pending: self.pending.max(pending), ..self }
    }

    /// `next`, once this is saved, too.
    pub(crate) fn then<U>(self, next: Unsaved<U>) -> Unsaved<U> {
        Unsaved { value: next.value, pending: self.pending.max(next.pending) }
    }

    /// The value, where no answer depends on it.
    pub(crate) fn no_answer(self) -> T {
        self.value
    }

    /// For `api::reply`, which waits before it sends.
    pub(crate) fn into_parts(self) -> (T, Pending) {
        (self.value, self.pending)
    }
}

impl<T, E> Unsaved<Result<T, E>> {
    /// The two cases apart; both stay unsaved.
    pub(crate) fn into_result(self) -> Result<Unsaved<T>, Unsaved<E>> {
        let pending = self.pending;
        match self.value {
            Ok(value) => Ok(Unsaved { value, pending }),
            Err(error) => Err(Unsaved { value: error, pending }),
        }
    }
}

/// Counts the writes that answers depend on: those that were handed to the store, and those that are settled.
#[derive(Debug, Default)]
pub(crate) struct WriteCounts {
    handed: AtomicU64,
    /// A write is settled when it is in the database, or when the disk fails: it is served from memory then.
    settled: Arc<AtomicU64>,
}

/// Receives that everything handed over before is in the database, or why it is not.
pub type SavedSignal = oneshot::Receiver<Result<(), WriteError>>;

/// The last write of each account that an answer about one of its leases depends on.
#[derive(Debug, Default)]
pub(crate) struct UnsavedAccounts(FxHashMap<AccountId, u64>);

impl UnsavedAccounts {
    /// What an answer about a lease of this account waits for, although its own call may not have written it.
    pub(super) fn pending(&mut self, account: AccountId, counts: &WriteCounts) -> Pending {
        if self.0.is_empty() {
            return Pending::Nothing;
        }
        let settled = counts.settled.load(Ordering::Acquire);
        if settled == counts.handed.load(Ordering::Acquire) {
            self.0.clear();
        }
        if self.0.get(&account).is_some_and(|last| *last > settled) { Pending::Lease } else { Pending::Nothing }
    }

    pub(super) fn note(&mut self, account: AccountId, counts: &WriteCounts) {
        if self.0.len() == self.0.capacity() {
            let settled = counts.settled.load(Ordering::Acquire);
            self.0.retain(|_, last| *last > settled);
        }
        // counted under the state's lock: no write of this account is counted later
        self.0.insert(account, counts.handed.load(Ordering::Acquire));
    }
}

/// What the answers of the call that causes a write wait for. A new kind of write is to be decided here.
fn demand_of(write: &Write) -> Pending {
    match write {
        // while the disk fails, a change of an account is answered with an error
        Write::SaveAccount { .. }
        | Write::DeleteAccount(_)
        | Write::SaveLink(..)
        | Write::SaveFormer(..)
        | Write::SaveGatewayKey(_)
        | Write::DropGatewayKey(_)
        | Write::SaveClient(_)
        | Write::DropClient(_)
        | Write::SavePoolMembership(_)
        | Write::SaveSharedAccount(..) => Pending::Account,
        Write::SaveLease(_)
        | Write::DropLease(_)
        | Write::SaveMovedLease(..)
        | Write::SaveLimit(_)
        | Write::DropLimit(..)
        | Write::MarkAccepted(..)
        | Write::MarkRefresh(..)
        | Write::SavePoolAnswer(..) => Pending::Lease,
        Write::SaveUsage(..) => Pending::Usage,
        // a session is a hint for later requests, fences are reserved long before they are used, and no answer says
        // when an account was last used, that the gateway's port is kept, or in which term seats are held: a daemon that
        // does not know its last term begins another one
        Write::SaveSession(_)
        | Write::ReserveFences(_)
        | Write::GatewayPort(_)
        | Write::GatewayTlsPort(_)
        | Write::LastUsed(_)
        | Write::GatewayKeysUsed(_)
        | Write::SavePoolTerm(_) => Pending::Nothing,
        Write::Together(writes) => writes.iter().map(demand_of).max().unwrap_or(Pending::Nothing),
    }
}

impl Shared {
    /// Hands a write to the store; returns what the answer of the call that causes it waits for.
    pub(crate) fn write(&self, write: Write) -> Pending {
        let demand = demand_of(&write);
        self.store.write(write, None);
        if demand >= Pending::Lease {
            self.count_write();
        }
        demand
    }

    /// Has answers wait for a write that was just handed to the store.
    pub(crate) fn count_write(&self) {
        // counted between the write and its barrier: whatever was counted before is written before the barrier
        let number = self.counts.handed.fetch_add(1, Ordering::AcqRel) + 1;
        let settled = self.counts.settled.clone();
        self.store.when_saved(Box::new(move |_| _ = settled.fetch_max(number, Ordering::AcqRel)));
    }

    /// Whether nothing that an answer may depend on waits for the store.
    pub(crate) fn is_saved(&self) -> bool {
        self.counts.settled.load(Ordering::Acquire) == self.counts.handed.load(Ordering::Acquire)
    }

    /// What an answer waits for that may say what any call has changed.
    pub(crate) fn unsaved(&self) -> Pending {
        if self.is_saved() { Pending::Nothing } else { Pending::Lease }
    }

    /// Waits until everything that was changed until now is saved. While the disk fails it does not wait.
    pub(crate) async fn all_saved(&self) {
        if let Some(saved) = self.when_all_saved() {
            // a store that is closed has written everything
            let _saved_or_not = saved.await;
        }
    }

    /// Receives when everything that was changed until now is saved, or that the disk fails; `None` if it is saved
    /// already.
    pub(crate) fn when_all_saved(&self) -> Option<SavedSignal> {
        (!self.is_saved()).then(|| self.when_saved())
    }

    fn when_saved(&self) -> SavedSignal {
        let (done, outcome) = oneshot::channel();
        // the receiver is gone when the request was cancelled
        self.store.when_saved(Box::new(move |result| drop(done.send(result))));
        outcome
    }

    /// Waits until everything that the call of this value has changed is saved. While the disk fails it does not wait:
    /// leases are served from memory then.
    pub(crate) async fn saved<T>(&self, unsaved: Unsaved<T>) -> T {
        if unsaved.pending != Pending::Nothing
            && let Ok(Err(error)) = self.when_saved().await
        {
            tracing::warn!("served from memory, not saved yet: {error}");
        }
        unsaved.value
    }
}

impl Daemon {
    /// At a graceful end: writes down what is else written from time to time.
    pub(crate) fn save_readings(&self) {
        self.save_last_uses();
        let state = &*self.state();
        for account in state.pool.accounts() {
            let usage = account.usage().kept();
            if !usage.is_empty() {
                self.write(Write::SaveUsage(account.record.id, usage));
            }
        }
    }

    /// Writes down when accounts and keys of the gateway were last used, where that has changed.
    pub(crate) fn save_last_uses(&self) {
        self.gateway_keys.tidy(&self.store, clock::now().wall);
        let state = &mut *self.state();
        let used =
            state.pool.accounts().iter().filter_map(|account| Some((account.record.id, account.record.last_used_at?)));
        let changed: Vec<(AccountId, Wall)> = used.filter(|(id, at)| state.saved_uses.get(id) != Some(at)).collect();
        if !changed.is_empty() {
            state.saved_uses.extend(changed.iter().copied());
            self.write(Write::LastUsed(changed));
        }
    }
}

/// Writes one thing, and waits until it is on disk.
pub(crate) async fn save(store: &Store, write: Write) -> Result<(), WriteError> {
    let (done, outcome) = oneshot::channel();
    store.write(write, Some(Box::new(move |result| drop(done.send(result)))));
    outcome.await.unwrap_or(Err(WriteError::Closed))
}
