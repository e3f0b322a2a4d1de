//! Requests that are counted without a row of their own, because more come at a time than may be written: those that
//! agree in all that a query can ask for become one row with their sums.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

use crate::protocol::{AttemptRow, RequestRow};

/// The most groups. Further requests are put together without their session and directory, in as many more groups.
const MOST_GROUPS: usize = 512;
/// The requests of a group are of one minute, in ms.
const MINUTE: u64 = 60_000;
/// What one request adds at most to a sum, and the most that a sum can be: sums of all rows stay numbers.
const MOST_OF_ONE: u64 = 1 << 36;
const MOST: u64 = 1 << 46;

/// Groups of requests, by a hash of what their requests have in common.
#[derive(Debug, Default)]
pub(super) struct SummedRequests(FxHashMap<u64, SummedGroup>);

/// Requests that have become one row.
#[derive(Clone, PartialEq, Debug)]
pub struct SummedGroup {
    /// What they have in common, and their sums. That of a single request is complete.
    pub(super) row: Box<RequestRow>,
    /// How many they are.
    pub(super) requests: u64,
}

impl SummedRequests {
    /// Adds a request, if there is room.
    pub(super) fn add(&mut self, row: &RequestRow) -> bool {
        if self.add_within(row, MOST_GROUPS) {
            return true;
        }
        let without = RequestRow { session: None, directory: None, ..row.clone() };
        self.add_within(&without, 2 * MOST_GROUPS)
    }

    fn add_within(&mut self, row: &RequestRow, most: usize) -> bool {
        let (mut hash, has_room) = (hash_of(row), self.0.len() < most);
        loop {
            match self.0.get_mut(&hash) {
                Some(group) if is_alike(&group.row, row) => {
                    group.add(row);
                    return true;
                }
                Some(_) => hash = hash.wrapping_add(1),
                None if has_room => {
                    self.0.insert(hash, SummedGroup { row: Box::new(row.clone()), requests: 1 });
                    return true;
                }
                None => return false,
            }
        }
    }

    /// Takes the groups, in order of time.
    pub(super) fn take(&mut self) -> Vec<SummedGroup> {
        let mut groups: Vec<SummedGroup> = std::mem::take(&mut self.0).into_values().collect();
        groups.sort_by_key(|group| group.row.at);
        groups
    }
}

impl SummedGroup {
    fn add(&mut self, more: &RequestRow) {
        let row = &mut *self.row;
        if self.requests == 1 {
            // of the first request alone
            (row.holder, row.lease, row.label, row.reason, row.first_byte_ms) = (None, None, None, None, None);
            row.path = Arc::default();
            for attempt in &mut row.attempts {
                (attempt.until, attempt.evidence) = (None, None);
            }
        }
        self.requests += 1;
        row.waited_ms = sum(row.waited_ms, more.waited_ms);
        row.duration_ms = sum(row.duration_ms, more.duration_ms);
        if let Some(tokens) = more.tokens {
            let sums = row.tokens.get_or_insert_default();
            sums.input = sum(sums.input, tokens.input);
            sums.output = sum(sums.output, tokens.output);
            sums.cached = sum(sums.cached, tokens.cached);
            sums.cache_written = sum(sums.cache_written, tokens.cache_written);
        }
        if let Some(cost) = more.cost_usd {
            *row.cost_usd.get_or_insert_default() += cost;
        }
    }
}

fn sum(one: u64, more: u64) -> u64 {
    one.min(MOST).saturating_add(more.min(MOST_OF_ONE)).min(MOST)
}

fn hash_of(row: &RequestRow) -> u64 {
    let mut hasher = FxHasher::default();
    (row.at / MINUTE, &row.provider, &row.model, row.status, &row.outcome).hash(&mut hasher);
    (&row.agent, &row.directory, &row.session).hash(&mut hasher);
    row.account.as_ref().map(|account| &account.id).hash(&mut hasher);
    for attempt in &row.attempts {
        attempt.account.id.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether each query counts both or neither.
fn is_alike(one: &RequestRow, other: &RequestRow) -> bool {
    let is_alike_attempt = |(one, other): (&AttemptRow, &AttemptRow)| {
        one.account.id == other.account.id && one.status == other.status && one.met_limit() == other.met_limit()
    };
    one.at / MINUTE == other.at / MINUTE
        && one.status == other.status
        && one.outcome == other.outcome
        && one.account.as_ref().map(|account| &account.id) == other.account.as_ref().map(|account| &account.id)
        && one.provider == other.provider
        && one.model == other.model
        && one.agent == other.agent
        && one.directory == other.directory
        && one.session == other.session
        && one.attempts.len() == other.attempts.len()
        && one.attempts.iter().zip(&other.attempts).all(is_alike_attempt)
}
