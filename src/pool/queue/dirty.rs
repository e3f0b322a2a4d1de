//! What has changed since the queue was last served.

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

    /// This account has fewer leases than before.
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
