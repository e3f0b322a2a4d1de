//! Budgets of memory that all connections share, so that many small shares cannot add up to all of the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that its users may hold together.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    most: usize,
}

/// What one user holds of a budget; returned when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: MemoryBudget,
    bytes: usize,
}

/// The budget is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BudgetUsedUp;

impl MemoryBudget {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Budget { used: AtomicUsize::new(0), most }))
    }

    /// How many bytes are held.
    #[cfg(all(test, unix))]
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// An empty share.
    pub(crate) fn share(&self) -> MemoryShare {
        MemoryShare { budget: self.clone(), bytes: 0 }
    }
}

impl MemoryShare {
    /// Changes the share to this many bytes; it stays as it is when the budget does not allow that.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), BudgetUsedUp> {
        let Budget { used, most } = &*self.budget.0;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let fits = |used: usize| used.checked_add(more).filter(|sum| sum <= most);
            used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| BudgetUsedUp)?;
        } else if bytes < self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Returns everything.
    pub(crate) fn clear(&mut self) {
        if self.bytes > 0 {
            self.budget.0.used.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_their_budget_and_return_what_they_held() {
        let budget = MemoryBudget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.resize(60), Ok(()));
        assert_eq!(two.resize(41), Err(BudgetUsedUp));
        assert_eq!(two.resize(40), Ok(()));
        assert_eq!(one.resize(61), Err(BudgetUsedUp), "the share stays as it was");
        assert_eq!(one.resize(10), Ok(()));
        assert_eq!(two.resize(90), Ok(()));
        drop(two);
        assert_eq!(one.resize(100), Ok(()));
        one.clear();
        assert_eq!(budget.share().resize(usize::MAX), Err(BudgetUsedUp));
        assert_eq!(budget.share().resize(100), Ok(()));
    }
}
