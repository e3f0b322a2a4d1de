//! When several accounts in a row refuse the same request, the request is at fault, not the accounts.

use crate::limits::{Reason, Scope};
use crate::pool::model::{AccountId, Fence};
use rustc_hash::FxHashMap;

/// So many accounts in a row that refuse the same request prove that the request is at fault.
const SEVERAL: usize = 3;
/// Most refusals kept of one request: long before, the request is known to be at fault.
const MOST_KEPT: usize = 16;

/// The refusals in a row of the requests under each lease.
#[derive(Debug, Default)]
pub struct RequestFaults(FxHashMap<Fence, RequestRefusals>);

/// What one request met on its way from account to account.
#[derive(Debug, Default)]
pub struct RequestRefusals {
    pub refusals: Vec<RequestRefusal>,
    /// The accounts whose answers blamed the request, once for each answer.
    blamed_by: Vec<AccountId>,
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
        self.refusals.len().max(self.blamed_by.len()) >= SEVERAL
            || last && self.refusals.len() >= 2 && self.refusals.iter().all(|one| one.reason == Reason::Forbidden)
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
        assert!(!faults.is_at_fault(fence, true), "two accounts with an unknown reason prove nothing");
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
}
