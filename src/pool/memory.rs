//! What is remembered for a while: answers by request id, and what processes released. Both are bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::id::{AccountId, Fence, Process, WaiterId};
use super::time::Mono;

/// How long a request id stands for its answer.
const REQUEST_MEMORY: Duration = Duration::from_secs(60);
/// Most answers remembered; beyond it the oldest is forgotten early.
const MOST_REQUESTS: usize = 1 << 15;
/// Processes remembered before the first sweep.
const SWEEP_AT: usize = 4096;
/// Most processes remembered within the window; beyond it all are forgotten: a cache gone cold, nothing worse.
const MOST_PROCESSES: usize = 1 << 16;
/// Accounts remembered for one process; the oldest goes first.
const MOST_RELEASED: usize = 8;

/// The answer a request id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    Held(Fence),
    Queued(WaiterId),
}

/// Answers by request id.
#[derive(Debug, Default)]
pub(super) struct Requests {
    answers: FxHashMap<Arc<str>, (Answered, Mono)>,
    /// Every entry of `answers`, and some that were replaced since, oldest first.
    order: VecDeque<(Mono, Arc<str>)>,
}

impl Requests {
    pub(super) fn get(&self, id: &str, now: Mono) -> Option<Answered> {
        let (answer, at) = self.answers.get(id)?;
        (now.since(*at) < REQUEST_MEMORY).then_some(*answer)
    }

    pub(super) fn put(&mut self, id: &str, answer: Answered, now: Mono) {
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

/// What each process released lately, oldest first.
#[derive(Debug)]
pub(super) struct Released {
    by_process: FxHashMap<Process, Vec<(AccountId, Mono)>>,
    sweep_at: usize,
}

impl Default for Released {
    fn default() -> Self {
        Self { by_process: FxHashMap::default(), sweep_at: SWEEP_AT }
    }
}

impl Released {
    /// What `process` released within `window`, latest first.
    pub(super) fn of(&self, process: Process, now: Mono, window: Duration) -> impl Iterator<Item = AccountId> {
        let released = self.by_process.get(&process).map_or(&[][..], Vec::as_slice);
        released.iter().rev().filter(move |(_, at)| now.since(*at) < window).map(|(account, _)| *account)
    }

    pub(super) fn note(&mut self, process: Process, account: AccountId, now: Mono, window: Duration) {
        if self.by_process.len() >= self.sweep_at {
            self.by_process.retain(|_, released| released.iter().any(|(_, at)| now.since(*at) < window));
            if self.by_process.len() >= MOST_PROCESSES {
                self.by_process.clear();
            }
            // the next sweep comes after as many newcomers as this one looked at: cheap on average
            self.sweep_at = (2 * self.by_process.len()).max(SWEEP_AT);
        }
        let released = self.by_process.entry(process).or_default();
        released.retain(|(known, _)| *known != account);
        if released.len() >= MOST_RELEASED {
            released.remove(0);
        }
        released.push((account, now));
    }

    pub(super) fn forget(&mut self, process: Process) {
        self.by_process.remove(&process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_after_their_time_and_beyond_the_bound() {
        let mut requests = Requests::default();
        requests.put("a", Answered::Held(Fence(1)), Mono(0));
        assert_eq!(requests.get("a", Mono(59_999)), Some(Answered::Held(Fence(1))));
        assert_eq!(requests.get("a", Mono(60_000)), None);
        // a newer answer under the same id outlives the older entry
        requests.put("a", Answered::Held(Fence(2)), Mono(50_000));
        requests.put("b", Answered::Held(Fence(3)), Mono(60_001));
        assert_eq!(requests.get("a", Mono(60_001)), Some(Answered::Held(Fence(2))));
        for n in 0..MOST_REQUESTS as u64 {
            requests.put(&format!("n{n}"), Answered::Held(Fence(n)), Mono(60_002));
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
