//! When several accounts in a row refuse the same request, the request is at fault, not the accounts.

use crate::limits::{Reason, Scope};
use crate::pool::model::{AccountId, Fence, Mono};
use rustc_hash::FxHashMap;
use std::time::Duration;

/// So many accounts in a row that refuse the same request prove that the request is at fault.
const SEVERAL: usize = 3;
/// Most refusals kept of one request: then it is at fault in any case.
const MOST_KEPT: usize = 16;
/// How often a request that every account forbids tries all of them once more, with pauses of 2, 4 and 8 s: the
/// provider may refuse everything for a moment.
const MOST_ROUNDS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Failures of the service that are further apart are those of different requests.
const SAME_REQUEST: Duration = Duration::from_secs(120);

/// The refusals in a row of the requests under each lease.
#[derive(Debug, Default)]
pub struct RequestFaults(FxHashMap<Fence, RequestRefusals>);

/// What one request met on its way from account to account.
#[derive(Debug, Default)]
pub struct RequestRefusals {
    pub refusals: Vec<RequestRefusal>,
    /// The accounts whose answers blamed the request, once for each answer.
    blamed_by: Vec<AccountId>,
    /// The accounts that it has tried once more before it moved.
    tried_again: Vec<AccountId>,
    /// How often it has tried every account.
    rounds: u32,
    /// How often its only account refused it without an explanation.
    retries: u32,
    failed: FailedOn,
}

/// The accounts on which the service failed, and how often in a row on the last one.
#[derive(Clone, Debug, Default)]
pub struct FailedOn {
    pub accounts: Vec<AccountId>,
    pub times: u32,
    at: Mono,
}

/// A refusal that may have been the request's fault, and the penalty for the account.
#[derive(Clone, Debug)]
pub struct RequestRefusal {
    pub account: AccountId,
    pub reason: Reason,
    pub scope: Scope,
    pub key: String,
    /// The health points it cost the account.
    pub points: f64,
}

/// Reasons that an upstream gives for a request as well as for an account. An exhausted quota or a login that does not
/// work is not among them: several accounts in that state prove nothing.
pub fn may_be_the_request(reason: Reason) -> bool {
    matches!(reason, Reason::Forbidden | Reason::Unknown)
}

impl RequestFaults {
    /// Notes that the account of this lease refused its request; `None`, that the row of refusals has ended.
    pub fn note(&mut self, fence: Fence, refusal: Option<RequestRefusal>) {
        match refusal {
            Some(refusal) => self.0.entry(fence).or_default().push(refusal),
            None => self.forget(fence),
        }
    }

    /// Notes that the request tries this account once more; `false` if it has done so.
    pub fn try_again(&mut self, fence: Fence, account: AccountId) -> bool {
        let tried = &mut self.0.entry(fence).or_default().tried_again;
        let is_new = tried.len() < MOST_KEPT && !tried.contains(&account);
        if is_new {
            tried.push(account);
        }
        is_new
    }

    /// Counts another unexplained refusal by the only account; returns how many there were.
    pub fn count_retry(&mut self, fence: Fence) -> u32 {
        let row = self.0.entry(fence).or_default();
        row.retries = row.retries.saturating_add(1);
        row.retries
    }

    /// Notes that the service failed on this account; returns all of the request's failures.
    pub fn note_failure(&mut self, fence: Fence, account: AccountId, now: Mono) -> FailedOn {
        let failed = &mut self.0.entry(fence).or_default().failed;
        if now.since(failed.at) >= SAME_REQUEST {
            *failed = FailedOn::default();
        }
        failed.at = now;
        if failed.accounts.last() == Some(&account) {
            failed.times = failed.times.saturating_add(1);
        } else {
            failed.times = 1;
            failed.accounts.push(account);
        }
        failed.clone()
    }

    pub fn forget(&mut self, fence: Fence) {
        if !self.0.is_empty() {
            self.0.remove(&fence);
        }
    }

    pub fn take(&mut self, fence: Fence) -> Option<RequestRefusals> {
        self.0.remove(&fence)
    }

    /// Continues the row of refusals under the lease that the request moved to.
    pub fn put(&mut self, fence: Fence, refusals: RequestRefusals) {
        self.0.insert(fence, refusals);
    }

    /// Whether the request under this lease is at fault; `last` says that no other account is left to try.
    pub fn is_at_fault(&self, fence: Fence, last: bool) -> bool {
        self.0.get(&fence).is_some_and(|refusals| refusals.prove_a_fault(last))
    }

    /// The accounts whose answers blamed the request: they would again.
    pub fn blamed_by(&self, fence: Fence) -> Vec<AccountId> {
        self.0.get(&fence).map(|refusals| refusals.blamed_by.clone()).unwrap_or_default()
    }
}

impl RequestRefusals {
    fn push(&mut self, refusal: RequestRefusal) {
        if refusal.scope == Scope::Request && self.blamed_by.len() < MOST_KEPT {
            self.blamed_by.push(refusal.account);
        }
        if self.refusals.len() < MOST_KEPT && self.refusals.iter().all(|known| known.account != refusal.account) {
            self.refusals.push(refusal);
        }
    }

    fn prove_a_fault(&self, last: bool) -> bool {
        // an account that forbids everything looks the same: every other one is asked first
        let several = if self.is_forbidden() { MOST_KEPT } else { SEVERAL };
        // a retry on the same account may bring an answer that blames the request to an end
        let is_final = |one: &RequestRefusal| one.reason == Reason::Forbidden || one.scope != Scope::Request;
        self.refusals.len() >= several
            || self.blamed_by.len() >= SEVERAL
            || last && self.refusals.len() >= 2 && self.refusals.iter().all(is_final)
    }

    fn is_forbidden(&self) -> bool {
        self.refusals.iter().any(|one| one.reason == Reason::Forbidden && one.scope != Scope::Request)
    }

    /// The pause before the request tries every account once more, if it does.
    pub fn next_round(&self) -> Option<(Self, Duration)> {
        let next = Self { rounds: self.rounds + 1, ..Self::default() };
        (self.is_forbidden() && self.rounds < MOST_ROUNDS).then(|| (next, FIRST_PAUSE * 2_u32.pow(self.rounds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(account: u64, reason: Reason, scope: Scope) -> Option<RequestRefusal> {
        Some(RequestRefusal { account: AccountId::from_bits(account), reason, scope, key: String::new(), points: 0.0 })
    }

    #[test]
    fn three_accounts_in_a_row_prove_that_the_request_is_at_fault() {
        let (mut faults, fence) = (RequestFaults::default(), Fence(1));
        for account in [1, 1, 2] {
            faults.note(fence, refusal(account, Reason::Unknown, Scope::Account));
        }
        assert!(!faults.is_at_fault(fence, false), "there is another account to try");
        assert!(faults.is_at_fault(fence, true), "there is none");
        faults.note(fence, refusal(3, Reason::Unknown, Scope::Account));
        assert!(faults.is_at_fault(fence, false));
        faults.note(fence, None);
        assert!(!faults.is_at_fault(fence, true), "another answer ends the row");
        for account in [1, 2] {
            faults.note(fence, refusal(account, Reason::Forbidden, Scope::Request));
        }
        assert!(faults.is_at_fault(fence, true) && !faults.is_at_fault(fence, false));
        assert_eq!(faults.blamed_by(fence).len(), 2);
        let row = faults.take(fence).unwrap();
        faults.put(Fence(2), row);
        assert!(faults.is_at_fault(Fence(2), true) && !faults.is_at_fault(fence, true));
    }

    #[test]
    fn a_request_that_all_accounts_forbid_tries_them_again_for_a_while() {
        let (mut faults, fence) = (RequestFaults::default(), Fence(1));
        let mut pauses = Vec::new();
        loop {
            for account in 1..=5 {
                faults.note(fence, refusal(account, Reason::Forbidden, Scope::Account));
                assert!(!faults.is_at_fault(fence, false), "every account is asked");
            }
            assert!(faults.is_at_fault(fence, true));
            let Some((next, pause)) = faults.take(fence).unwrap().next_round() else { break };
            pauses.push(pause.as_secs());
            faults.put(fence, next);
        }
        assert_eq!(pauses, [2, 4, 8]);
    }

    #[test]
    fn failures_of_the_service_are_counted_per_account_for_one_request() {
        let (mut faults, fence) = (RequestFaults::default(), Fence(1));
        let [a, b] = [1, 2].map(AccountId::from_bits);
        let times = |failed: FailedOn| (failed.accounts.len(), failed.times);
        assert_eq!(times(faults.note_failure(fence, a, Mono(0))), (1, 1));
        assert_eq!(times(faults.note_failure(fence, a, Mono(500))), (1, 2));
        assert_eq!(times(faults.note_failure(fence, b, Mono(900))), (2, 1));
        assert_eq!(times(faults.note_failure(fence, b, Mono(500_000))), (1, 1), "another request");
    }
}
