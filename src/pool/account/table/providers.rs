//! The accounts of one provider in order, and where the strategies stand in each family of models.

use super::Accounts;
use crate::pool::model::AccountId;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Most families of one provider whose current account is kept; beyond it all start again from the first account.
const MOST_FAMILIES: usize = 1024;

/// One provider's accounts in order, and where the strategies stand.
#[derive(Debug, Default)]
pub struct ProviderAccounts {
    pub(super) slots: Vec<usize>,
    pub(super) families: FxHashMap<Arc<str>, FamilyPointer>,
}

/// Where the strategies stand in one family of models.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FamilyPointer {
    current: Option<AccountId>,
    last: Option<AccountId>,
}

impl ProviderAccounts {
    pub fn slots(&self) -> &[usize] {
        &self.slots
    }

    pub fn current(&self, family: &str) -> Option<AccountId> {
        self.families.get(family)?.current
    }

    pub fn last(&self, family: &str) -> Option<AccountId> {
        self.families.get(family)?.last
    }
}

impl Accounts {
    /// Notes that the order chose this account for a family; with `keep` the family's current account stays.
    pub fn advance(&mut self, slot: usize, family: &Arc<str>, keep: bool) {
        let id = self.list[slot].record.id;
        let families = &mut self.providers[self.positions[slot].provider].families;
        let pointer = match families.get_mut(family) {
            Some(pointer) => pointer,
            None => {
                if families.len() >= MOST_FAMILIES {
                    families.clear();
                }
                families.entry(family.clone()).or_default()
            }
        };
        pointer.last = Some(id);
        if !keep {
            pointer.current = Some(id);
        }
    }
}
