//! The queue: requests of higher priority first, then in the order of arrival.

pub(crate) mod serve;

use crate::pool::command::MoveCause;
use crate::pool::lease::Lease;
use crate::pool::model::{AccountId, AccountSet, Bind, ConnectionId, LeaseRequest, Mono, Process, WaiterId};
use crate::pool::timers::Timers;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Most queued requests; one more is refused as `overloaded`.
pub const MOST_WAITERS: usize = 4096;

/// A queued request.
#[derive(Debug)]
pub struct QueuedRequest {
    /// The request.
    pub ask: Box<LeaseRequest>,
    /// Since when.
    pub since: Mono,
    /// Until when.
    pub deadline: Mono,
    /// The lease that ended for it, and why: what serves it is a move of that lease.
    pub(crate) moves: Option<Box<(Lease, MoveCause)>>,
    /// The account of which a seat is claimed for it.
    pub(crate) claim: Option<SeatWait>,
    /// How many claims were made for it.
    pub(crate) claims: u8,
}

/// A queued request waits for a seat of this account, until the time at which the claim has failed at the latest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SeatWait {
    pub(crate) account: AccountId,
    pub(crate) until: Mono,
    /// How many claims of the account had ended before.
    pub(crate) after: u64,
}

impl QueuedRequest {
    pub(crate) fn new(ask: Box<LeaseRequest>, since: Mono, deadline: Mono) -> Self {
        Self { ask, since, deadline, moves: None, claim: None, claims: 0 }
    }

    /// When it is given up: not while a claim for it is under way.
    pub(crate) fn ends(&self) -> Mono {
        self.claim.map_or(self.deadline, |claim| claim.until.max(self.deadline))
    }
}

pub(crate) type QueuePosition = (Reverse<i8>, WaiterId);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<QueuePosition, QueuedRequest>,
    positions: FxHashMap<WaiterId, QueuePosition>,
    /// How many requests are to be bound to each process.
    processes: FxHashMap<Process, u32>,
    /// Processes that a request was to be bound to since [`Self::take_unbound`].
    unbound: Vec<Process>,
    next: u64,
    /// How many are those of sub-agents: they find room where others do not.
    subagents: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, waiter: QueuedRequest, timers: &mut Timers) -> WaiterId {
        let id = WaiterId(self.next);
        self.next += 1;
        let position = (Reverse(waiter.ask.priority), id);
        timers.set_waiter(id, waiter.ends());
        self.count_process(waiter.ask.bind, true);
        self.subagents += usize::from(waiter.ask.subagent.is_some());
        self.positions.insert(id, position);
        self.waiting.insert(position, waiter);
        id
    }

    pub(crate) fn remove(&mut self, id: WaiterId, timers: &mut Timers) -> Option<QueuedRequest> {
        let waiter = self.waiting.remove(&self.positions.remove(&id)?)?;
        timers.clear_waiter(id, waiter.ends());
        self.count_process(waiter.ask.bind, false);
        self.subagents -= usize::from(waiter.ask.subagent.is_some());
        Some(waiter)
    }

    /// A retry of the request, from another connection.
    pub(crate) fn rebind(&mut self, id: WaiterId, retry: &LeaseRequest) {
        let Some(waiter) = self.positions.get(&id).and_then(|position| self.waiting.get_mut(position)) else { return };
        let before = std::mem::replace(&mut waiter.ask.bind, retry.bind);
        waiter.ask.connection = retry.connection;
        waiter.ask.holder = retry.holder.clone();
        self.count_process(retry.bind, true);
        self.count_process(before, false);
    }

    /// Changes the accounts that a request may get.
    pub(crate) fn change_set(&mut self, id: WaiterId, change: impl FnOnce(AccountSet) -> AccountSet) {
        if let Some(waiter) = self.positions.get(&id).and_then(|position| self.waiting.get_mut(position)) {
            waiter.ask.set = change(std::mem::take(&mut waiter.ask.set));
        }
    }

    /// Notes that a request waits in place of a lease that has ended.
    pub(crate) fn note_move(&mut self, id: WaiterId, lease: Lease, cause: MoveCause) {
        let waiter = self.positions.get(&id).and_then(|position| self.waiting.get_mut(position));
        if let Some(waiter) = waiter {
            waiter.moves = Some(Box::new((lease, cause)));
        }
    }

    /// Notes which claim a request waits for.
    pub(crate) fn set_claim(&mut self, id: WaiterId, claim: Option<SeatWait>, timers: &mut Timers) {
        let waiter = self.positions.get(&id).and_then(|position| self.waiting.get_mut(position));
        let Some(waiter) = waiter else { return };
        timers.clear_waiter(id, waiter.ends());
        waiter.claims = waiter.claims.saturating_add(u8::from(claim.is_some()));
        waiter.claim = claim;
        timers.set_waiter(id, waiter.ends());
    }

    pub(crate) fn waits_for(&self, process: Process) -> bool {
        self.processes.contains_key(&process)
    }

    fn count_process(&mut self, bind: Bind, comes: bool) {
        let Bind::Process(process) = bind else { return };
        if comes {
            *self.processes.entry(process).or_default() += 1;
            return;
        }
        self.unbound.push(process);
        if let Some(count) = self.processes.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                self.processes.remove(&process);
            }
        }
    }

    pub(crate) fn get(&self, id: WaiterId) -> Option<&QueuedRequest> {
        self.waiting.get(self.positions.get(&id)?)
    }

    /// The first in order that comes after `position`.
    pub(crate) fn after(&self, position: Option<QueuePosition>) -> Option<(QueuePosition, &QueuedRequest)> {
        let from = position.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((from, Bound::Unbounded)).next().map(|(position, waiter)| (*position, waiter))
    }

    pub(crate) fn in_order(&self) -> impl Iterator<Item = (WaiterId, &QueuedRequest)> {
        self.waiting.iter().map(|((_, id), waiter)| (*id, waiter))
    }

    /// What [`Self::take_unbound`] will return.
    pub(crate) fn unbound(&self) -> &[Process] {
        &self.unbound
    }

    pub(crate) fn take_unbound(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.unbound)
    }

    pub(crate) fn of_connection(&self, connection: ConnectionId) -> Vec<WaiterId> {
        self.ids_where(|ask| ask.connection == connection)
    }

    pub(crate) fn of_process(&self, process: Process) -> Vec<WaiterId> {
        self.ids_where(|ask| ask.bind == Bind::Process(process))
    }

    pub(crate) fn has_subagents(&self) -> bool {
        self.subagents > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn is_consistent(&self) -> bool {
        self.waiting.len() == self.positions.len()
            && self.processes.iter().all(|(process, count)| self.of_process(*process).len() == *count as usize)
            && self.waiting.values().filter(|waiter| waiter.ask.subagent.is_some()).count() == self.subagents
            && self.waiting.keys().all(|position| self.positions.get(&position.1) == Some(position))
    }

    fn ids_where(&self, wanted: impl Fn(&LeaseRequest) -> bool) -> Vec<WaiterId> {
        self.in_order().filter(|(_, waiter)| wanted(&waiter.ask)).map(|(id, _)| id).collect()
    }
}

/// The changes that may allow or doom a queued request. Each sub-state notes its own.
#[derive(Debug, Default)]
pub struct QueueDirty {
    all: bool,
    /// Accounts that only have fewer leases than before.
    freed: Vec<usize>,
}

impl QueueDirty {
    /// Every queued request must be considered again.
    pub fn mark_all(&mut self) {
        self.all = true;
    }

    pub fn mark_freed(&mut self, slot: usize) {
        if !self.all {
            self.freed.push(slot);
        }
    }

    /// Returns the changes and forgets them. With `all`, `freed` may be incomplete.
    pub fn take(&mut self) -> Option<Changes> {
        if self.is_clean() {
            return None;
        }
        let (all, freed) = (std::mem::take(&mut self.all), std::mem::take(&mut self.freed));
        Some(if all { Changes::All } else { Changes::Freed(freed) })
    }

    /// Forgets the changes, without giving the memory back.
    pub fn clear(&mut self) {
        self.all = false;
        self.freed.clear();
    }

    /// Whether every queued request is to be considered again.
    pub fn has_all(&self) -> bool {
        self.all
    }

    pub fn is_clean(&self) -> bool {
        !self.all && self.freed.is_empty()
    }
}

#[derive(PartialEq, Eq, Debug)]
pub enum Changes {
    All,
    /// Only that these accounts have fewer leases than before.
    Freed(Vec<usize>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(priority: i8, pid: u32) -> QueuedRequest {
        let bind = Bind::Process(Process { pid, start: 1 });
        let ask = LeaseRequest { priority, bind, ..LeaseRequest::new("p", "f", ConnectionId(u64::from(pid))) };
        let ask = Box::new(ask);
        QueuedRequest::new(ask, Mono(0), Mono(u64::from(pid) * 10))
    }

    #[test]
    fn requests_are_ordered_by_priority_then_arrival_and_leave_no_timer_or_index() {
        let (mut queue, mut timers) = (Queue::default(), Timers::default());
        let [low, high, later] = [(0, 3), (5, 2), (5, 1)].map(|(p, pid)| queue.push(request(p, pid), &mut timers));
        assert_eq!(queue.in_order().map(|(id, _)| id).collect::<Vec<_>>(), [high, later, low]);
        let now = |ms| crate::pool::model::Now { mono: Mono(ms), ..Default::default() };
        assert_eq!((timers.due_waiter(now(9)), timers.due_waiter(now(10))), (None, Some(later)));
        assert_eq!(queue.of_process(Process { pid: 2, start: 1 }), [high]);
        queue.rebind(high, &request(5, 9).ask);
        assert_eq!(queue.of_connection(ConnectionId(9)), [high]);
        assert!(queue.is_consistent() && !queue.waits_for(Process { pid: 2, start: 1 }));
        assert_eq!(queue.take_unbound(), [Process { pid: 2, start: 1 }]);
        for id in [low, high, later] {
            assert!(queue.remove(id, &mut timers).is_some() && queue.remove(id, &mut timers).is_none());
        }
        assert!(queue.is_empty() && queue.is_consistent() && timers.due_waiter(now(99)).is_none());
    }

    #[test]
    fn a_general_change_outranks_freed_accounts_and_taking_the_changes_forgets_them() {
        let mut dirty = QueueDirty::default();
        dirty.mark_freed(3);
        assert_eq!(dirty.take(), Some(Changes::Freed(vec![3])));
        assert_eq!(dirty.take(), None);
        dirty.mark_freed(3);
        dirty.mark_all();
        assert_eq!(dirty.take(), Some(Changes::All));
        dirty.mark_all();
        dirty.clear();
        assert!(dirty.is_clean());
    }
}
