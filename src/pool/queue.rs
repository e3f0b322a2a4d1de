//! The fair queue: higher priority first, then first come, first served.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rustc_hash::FxHashMap;

use super::command::LeaseRequest;
use super::id::{ConnectionId, Process, WaiterId};
use super::lease::Bind;
use super::time::Mono;

/// Most requests that wait at a time; one more is refused as `overloaded`.
pub const MOST_WAITERS: usize = 4096;

/// A request that waits.
#[derive(Debug)]
pub struct QueuedRequest {
    /// What it asks for.
    pub ask: LeaseRequest,
    /// Since when.
    pub since: Mono,
    /// Until when.
    pub deadline: Mono,
}

pub(super) type Place = (Reverse<i8>, WaiterId);

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, QueuedRequest>,
    places: FxHashMap<WaiterId, Place>,
    deadlines: BTreeSet<(Mono, WaiterId)>,
    /// How many wait for a lease bound to each process.
    processes: FxHashMap<Process, u32>,
    next: u64,
}

impl Queue {
    pub(super) fn push(&mut self, waiter: QueuedRequest) -> WaiterId {
        let id = WaiterId(self.next);
        self.next += 1;
        let place = (Reverse(waiter.ask.priority), id);
        self.deadlines.insert((waiter.deadline, id));
        self.count_process(waiter.ask.bind, true);
        self.places.insert(id, place);
        self.waiting.insert(place, waiter);
        id
    }

    pub(super) fn remove(&mut self, id: WaiterId) -> Option<QueuedRequest> {
        let waiter = self.waiting.remove(&self.places.remove(&id)?)?;
        self.deadlines.remove(&(waiter.deadline, id));
        self.count_process(waiter.ask.bind, false);
        Some(waiter)
    }

    /// The same request, asked again from elsewhere.
    pub(super) fn rebind(&mut self, id: WaiterId, again: &LeaseRequest) {
        let Some(waiter) = self.places.get(&id).and_then(|place| self.waiting.get_mut(place)) else { return };
        let before = std::mem::replace(&mut waiter.ask.bind, again.bind);
        waiter.ask.connection = again.connection;
        waiter.ask.holder = again.holder.clone();
        self.count_process(again.bind, true);
        self.count_process(before, false);
    }

    pub(super) fn waits_for(&self, process: Process) -> bool {
        self.processes.contains_key(&process)
    }

    fn count_process(&mut self, bind: Bind, comes: bool) {
        let Bind::Process(process) = bind else { return };
        if comes {
            *self.processes.entry(process).or_default() += 1;
        } else if let Some(count) = self.processes.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                self.processes.remove(&process);
            }
        }
    }

    pub(super) fn get(&self, id: WaiterId) -> Option<&QueuedRequest> {
        self.waiting.get(self.places.get(&id)?)
    }

    /// The first in order that comes after `place`.
    pub(super) fn after(&self, place: Option<Place>) -> Option<(Place, &QueuedRequest)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range((from, Bound::Unbounded)).next().map(|(place, waiter)| (*place, waiter))
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = (WaiterId, &QueuedRequest)> {
        self.waiting.iter().map(|((_, id), waiter)| (*id, waiter))
    }

    pub(super) fn first_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(super) fn overdue(&self, now: Mono) -> Option<WaiterId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    pub(super) fn of_connection(&self, connection: ConnectionId) -> Vec<WaiterId> {
        self.ids_where(|ask| ask.connection == connection)
    }

    pub(super) fn of_process(&self, process: Process) -> Vec<WaiterId> {
        self.ids_where(|ask| ask.bind == Bind::Process(process))
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_consistent(&self) -> bool {
        self.waiting.len() == self.places.len()
            && self.waiting.len() == self.deadlines.len()
            && self.processes.iter().all(|(process, count)| self.of_process(*process).len() == *count as usize)
            && self.waiting.iter().all(|(place, waiter)| {
                self.places.get(&place.1) == Some(place) && self.deadlines.contains(&(waiter.deadline, place.1))
            })
    }

    fn ids_where(&self, wanted: impl Fn(&LeaseRequest) -> bool) -> Vec<WaiterId> {
        self.in_order().filter(|(_, waiter)| wanted(&waiter.ask)).map(|(id, _)| id).collect()
    }
}
