//! Bounded memories of the recent past: answers by request id, accounts that processes released, and refused requests.

use crate::pool::model::{AccountId, Fence, LeaseRequest, Mono, Process, Refusal, WaiterId, Wall};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a request id keeps its answer.
const REQUEST_MEMORY: Duration = Duration::from_secs(60);
/// Most answers kept; beyond it the oldest is dropped early.
const MOST_REQUESTS: usize = 1 << 15;
/// Processes kept before the first sweep.
const SWEEP_AT: usize = 4096;
/// Most processes kept within the window; beyond it all are dropped, which only makes caches cold.
const MOST_PROCESSES: usize = 1 << 16;
/// Accounts kept for one process; the oldest is dropped first.
const MOST_RELEASED: usize = 8;

const MOST_REFUSALS: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KnownAnswer {
    Held(Fence),
    Queued(WaiterId),
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    answers: FxHashMap<Arc<str>, (KnownAnswer, Mono)>,
    /// Every entry of `answers`, and some that were replaced since, oldest first.
    order: VecDeque<(Mono, Arc<str>)>,
}

impl Requests {
    pub(crate) fn get(&self, id: &str, now: Mono) -> Option<KnownAnswer> {
        let (answer, at) = self.answers.get(id)?;
        (now.since(*at) < REQUEST_MEMORY).then_some(*answer)
    }

    pub(crate) fn put(&mut self, id: &str, answer: KnownAnswer, now: Mono) {
        while let Some((at, _)) = self.order.front()
            && (now.since(*at) >= REQUEST_MEMORY || self.order.len() >= MOST_REQUESTS)
            && let Some((at, oldest)) = self.order.pop_front()
        {
            if self.answers.get(&oldest).is_some_and(|(_, put)| *put == at) {
                self.answers.remove(&oldest);
            }
        }
        let id: Arc<str> = id.into();
        self.order.push_back((now, id.clone()));
        self.answers.insert(id, (answer, now));
    }
}

/// The accounts each process released recently, oldest first.
#[derive(Debug)]
pub(crate) struct Released {
    by_process: FxHashMap<Process, Vec<(AccountId, Mono)>>,
    sweep_at: usize,
}

impl Default for Released {
    fn default() -> Self {
        Self { by_process: FxHashMap::default(), sweep_at: SWEEP_AT }
    }
}

impl Released {
    /// The accounts `process` released within `window`, latest first.
    pub(crate) fn of(&self, process: Process, now: Mono, window: Duration) -> impl Iterator<Item = AccountId> {
        let released = self.by_process.get(&process).map_or(&[][..], Vec::as_slice);
        released.iter().rev().filter(move |(_, at)| now.since(*at) < window).map(|(account, _)| *account)
    }

    pub(crate) fn note(&mut self, process: Process, account: AccountId, now: Mono, window: Duration) {
        if self.by_process.len() >= self.sweep_at {
            self.by_process.retain(|_, released| released.iter().any(|(_, at)| now.since(*at) < window));
            if self.by_process.len() >= MOST_PROCESSES {
                self.by_process.clear();
            }
            // the next sweep comes after as many new processes as this one visited: cheap on average
            self.sweep_at = (2 * self.by_process.len()).max(SWEEP_AT);
        }
        let released = self.by_process.entry(process).or_default();
        released.retain(|(known, _)| *known != account);
        if released.len() >= MOST_RELEASED {
            released.remove(0);
        }
        released.push((account, now));
    }

    pub(crate) fn forget(&mut self, process: Process) {
        self.by_process.remove(&process);
    }
}

/// A request that was refused.
#[derive(Clone, PartialEq, Debug)]
pub struct RefusedRequest {
    /// When.
    pub at: Wall,
    /// The request.
    pub ask: LeaseRequest,
    /// The answer, with the reason for each account.
    pub refusal: Refusal,
}

/// The requests that were refused last, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Refusals(VecDeque<RefusedRequest>);

impl Refusals {
    pub(crate) fn note(&mut self, at: Wall, request: &LeaseRequest, refusal: &Refusal) {
        if self.0.len() >= MOST_REFUSALS {
            self.0.pop_front();
        }
        self.0.push_back(RefusedRequest { at, ask: request.clone(), refusal: refusal.clone() });
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &RefusedRequest> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_dropped_after_their_time_and_beyond_the_bound() {
        let mut requests = Requests::default();
        requests.put("a", KnownAnswer::Held(Fence(1)), Mono(0));
        assert_eq!(requests.get("a", Mono(59_999)), Some(KnownAnswer::Held(Fence(1))));
        assert_eq!(requests.get("a", Mono(60_000)), None);
        // a newer answer under the same id outlives the older entry
        requests.put("a", KnownAnswer::Held(Fence(2)), Mono(50_000));
        requests.put("b", KnownAnswer::Held(Fence(3)), Mono(60_001));
        assert_eq!(requests.get("a", Mono(60_001)), Some(KnownAnswer::Held(Fence(2))));
        for n in 0..MOST_REQUESTS as u64 {
            requests.put(&format!("n{n}"), KnownAnswer::Held(Fence(n)), Mono(60_002));
        }
        assert_eq!(requests.order.len(), MOST_REQUESTS);
        assert_eq!(requests.answers.len(), MOST_REQUESTS);
        assert_eq!(requests.get("a", Mono(60_002)), None);
    }

    #[test]
    fn released_accounts_are_swept() {
        let (mut released, window) = (Released::default(), Duration::from_secs(60));
        let (process, account) = (|pid| Process { pid, start: 1 }, AccountId::from_bits);
        for pid in 0..2 * SWEEP_AT as u32 {
            released.note(process(pid), account(1), Mono(u64::from(pid) * 1_000), window);
        }
        assert!(released.by_process.len() <= SWEEP_AT + 1, "{}", released.by_process.len());
        let now = Mono(2 * SWEEP_AT as u64 * 1_000);
        for n in 0..20 {
            released.note(process(1), account(n), now, window);
        }
        let latest: Vec<AccountId> = released.of(process(1), now, window).collect();
        assert_eq!(latest, (12..20).rev().map(account).collect::<Vec<_>>());
        released.forget(process(1));
        assert_eq!(released.of(process(1), now, window).next(), None);
    }
}
