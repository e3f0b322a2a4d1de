//! The gateway's requests that are under way, and those that wait for room. The table has a lock of its own, taken after
//! the state's where both are needed: a request begins under both, and ends under this one alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::daemon::os::clock;
use crate::limits::Reason;
use crate::pool::{AccountId, InFlight, LeaseSettings, Mono, TurnTicket};

/// The table, shared by everything that counts in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestsInFlight(Arc<SharedTable>);

#[derive(Debug, Default)]
struct SharedTable {
    table: Mutex<TableWithWaiters>,
    next_ticket: AtomicU64,
}

#[derive(Debug, Default)]
struct TableWithWaiters {
    table: InFlight,
    /// How the requests that wait are woken, by their tickets.
    wakers: FxHashMap<u64, Arc<Notify>>,
}

/// A request that is under way on an account, until it ends or is dropped.
#[derive(Debug)]
pub struct AccountInFlight {
    requests: RequestsInFlight,
    key: Option<u64>,
    account: AccountId,
    began: Mono,
    has_ended: AtomicBool,
}

/// A request's place among those that wait for room; it is left on drop.
#[derive(Debug)]
pub struct RequestTurn {
    requests: RequestsInFlight,
    turn: TurnTicket,
    /// Made when it waits: most requests begin at once.
    called: OnceLock<Arc<Notify>>,
}

impl TableWithWaiters {
    /// Wakes the requests that there is room for now.
    fn wake(&mut self, called: Vec<u64>) {
        for waker in called.iter().filter_map(|ticket| self.wakers.get(ticket)) {
            waker.notify_one();
        }
    }
}

impl RequestsInFlight {
    pub(crate) fn new(settings: &LeaseSettings) -> Self {
        let table = TableWithWaiters { table: InFlight::new(settings), ..TableWithWaiters::default() };
        Self(Arc::new(SharedTable { table: Mutex::new(table), next_ticket: AtomicU64::new(0) }))
    }

    fn lock(&self) -> MutexGuard<'_, TableWithWaiters> {
        // every change of the table is complete before anything can panic
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the table.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&InFlight) -> R) -> R {
        read(&self.lock().table)
    }

    pub(crate) fn configure(&self, settings: &LeaseSettings) {
        let locked = &mut *self.lock();
        let called = locked.table.configure(settings, clock::now().mono);
        locked.wake(called);
    }

    /// What was learnt from an account's limits does not hold any more.
    pub(crate) fn forget_limit(&self, account: AccountId) {
        let locked = &mut *self.lock();
        let called = locked.table.forget_limit(account, clock::now().mono);
        locked.wake(called);
    }

    /// A request's place; those that come later have later ones.
    pub(crate) fn turn(&self, key: Option<u64>) -> RequestTurn {
        let ticket = self.0.next_ticket.fetch_add(1, Ordering::Relaxed);
        RequestTurn { requests: self.clone(), turn: TurnTicket { ticket, key }, called: OnceLock::new() }
    }
}

impl RequestTurn {
    /// The accounts on which it cannot begin now.
    pub(crate) fn full_accounts(&self, of: impl Iterator<Item = AccountId>) -> Vec<AccountId> {
        let locked = self.requests.lock();
        if !locked.table.is_limited() {
            return Vec::new();
        }
        let now = clock::now().mono;
        of.filter(|account| !locked.table.has_room(self.turn, *account, now)).collect()
    }

    /// Begins the request on an account; `None` if there is no room for it.
    pub(crate) fn begin(&self, account: AccountId) -> Option<Arc<AccountInFlight>> {
        let locked = &mut *self.requests.lock();
        let began = clock::now().mono;
        let (has_begun, called) = locked.table.begin(self.turn, account, began);
        locked.wake(called);
        if !has_begun {
            return None;
        }
        locked.wakers.remove(&self.turn.ticket);
        let (requests, key) = (self.requests.clone(), self.turn.key);
        Some(Arc::new(AccountInFlight { requests, key, account, began, has_ended: AtomicBool::new(false) }))
    }

    /// Waits from now on for room on one of these accounts; the first is the best.
    pub(crate) fn wait(&self, accounts: Vec<AccountId>) {
        let locked = &mut *self.requests.lock();
        locked.wakers.insert(self.turn.ticket, self.called.get_or_init(Arc::default).clone());
        let called = locked.table.wait(self.turn, accounts, clock::now().mono);
        locked.wake(called);
    }

    /// It does not wait for room, but for something else, or for nothing.
    pub(crate) fn leave(&self) {
        let locked = &mut *self.requests.lock();
        if locked.wakers.remove(&self.turn.ticket).is_some() {
            let called = locked.table.leave(self.turn, clock::now().mono);
            locked.wake(called);
        }
    }

    /// Waits until it is called.
    pub async fn called(&self) {
        self.called.get_or_init(Arc::default).notified().await;
    }
}

impl Drop for RequestTurn {
    fn drop(&mut self) {
        self.leave();
    }
}

impl AccountInFlight {
    /// It is not under way on this account any more.
    pub fn end(&self) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            let locked = &mut *self.requests.lock();
            let called = locked.table.end(self.key, self.account, clock::now().mono);
            locked.wake(called);
        }
    }

    /// The account has begun a good answer.
    pub(crate) fn served(&self) {
        let locked = &mut *self.requests.lock();
        let called = locked.table.served(self.account, self.began, clock::now().mono);
        locked.wake(called);
    }

    /// The account has refused the request, for this reason.
    pub(crate) fn refused(&self, reason: Reason) {
        // only these can be about how many requests come at once
        if matches!(reason, Reason::RateLimitExceeded | Reason::ModelCapacityExhausted) {
            self.requests.lock().table.limited(self.account, self.began, clock::now().mono);
        }
    }
}

impl Drop for AccountInFlight {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> AccountId {
        AccountId::from_bits(number)
    }

    fn under_way(requests: &RequestsInFlight, account: u64) -> u32 {
        requests.read(|table| table.under_way(id(account)))
    }

    #[test]
    fn requests_are_counted_on_their_account_until_they_end() {
        let requests = RequestsInFlight::default();
        let first = requests.turn(Some(1)).begin(id(1)).unwrap();
        let second = requests.turn(None).begin(id(1)).unwrap();
        assert_eq!((under_way(&requests, 1), under_way(&requests, 2)), (2, 0));
        first.end();
        first.end();
        drop(first);
        assert_eq!(under_way(&requests, 1), 1);
        let shared = second.clone();
        drop(second);
        assert_eq!(under_way(&requests, 1), 1);
        drop(shared);
        assert_eq!(under_way(&requests, 1), 0);
    }

    #[tokio::test]
    async fn a_request_is_woken_when_there_is_room_and_gives_its_place_back_when_it_is_dropped() {
        let settings = LeaseSettings { max_in_flight: 1, ..LeaseSettings::default() };
        let requests = RequestsInFlight::new(&settings);
        let turns = [1, 2, 3].map(|key| requests.turn(Some(key)));
        let begun = turns[0].begin(id(1)).unwrap();
        for turn in &turns[1..] {
            assert_eq!(turn.full_accounts([id(1), id(2)].into_iter()), [id(1)]);
            assert!(turn.begin(id(1)).is_none());
            turn.wait(vec![id(1)]);
        }
        drop(begun);
        turns[1].called().await;
        let [_, second, third] = turns;
        drop(second);
        third.called().await;
        assert!(third.begin(id(1)).is_some());
        assert_eq!(requests.read(InFlight::waiting), 0);
    }
}
