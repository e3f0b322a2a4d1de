//! What a guest may have: another machine, or a container.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{AccountId, AccountSet, GuestId};

/// What a guest may have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GuestLimits {
    /// The accounts that it may use, sorted; `None` for all.
    pub only: Option<Arc<[AccountId]>>,
    /// How many leases it may have or wait for.
    pub most_leases: Option<u32>,
    /// Guests of one group count together: they have this number of leases between them.
    pub group: Option<Arc<str>>,
    /// What it is called in messages.
    pub name: Arc<str>,
}

impl GuestLimits {
    /// Whether it may use this account.
    pub(crate) fn allows(&self, account: AccountId) -> bool {
        self.only.as_ref().is_none_or(|only| only.binary_search(&account).is_ok())
    }

    /// The part of a set that the guest may use.
    pub(crate) fn within(&self, set: AccountSet) -> AccountSet {
        let Some(allowed) = &self.only else { return set };
        let only = match set.only {
            Some(only) => only.iter().copied().filter(|id| self.allows(*id)).collect(),
            None => allowed.clone(),
        };
        AccountSet { only: Some(only), ..set }
    }

    /// The set of what was acquired under the limits `before`: what those restricted only is restricted by these alone.
    #[must_use]
    pub fn replace(&self, set: AccountSet, before: Option<&Self>) -> AccountSet {
        let is_by_limits = set.only.is_some() && set.only == before.and_then(|before| before.only.clone());
        self.within(if is_by_limits { AccountSet { only: None, ..set } } else { set })
    }
}

/// The limits of all guests.
#[derive(Debug, Default)]
pub(crate) struct LimitedGuests(pub(crate) FxHashMap<GuestId, GuestLimits>);

impl LimitedGuests {
    pub(crate) fn get(&self, guest: GuestId) -> Option<&GuestLimits> {
        self.0.get(&guest)
    }

    /// Whether the leases of both count together.
    pub(crate) fn count_together(&self, one: GuestId, other: GuestId) -> bool {
        let group = |guest| self.get(guest).and_then(|limits| limits.group.as_deref());
        one == other || group(one).is_some_and(|name| group(other) == Some(name))
    }
}
