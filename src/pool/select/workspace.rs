//! What selections work with, kept from one to the next.

use crate::pool::account::digest::{Rank, SelectionKey};
use crate::pool::select::index::Index;
use crate::pool::select::score::Standings;
use std::cmp::Ordering;

/// What a selection works with: kept from one to the next, so that they allocate nothing and compute little.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) leaders: Leaders,
    /// Without it every selection is a scan.
    pub(crate) index: Option<Index>,
    /// Without them the score of each leading account is computed.
    pub(crate) standings: Option<Standings>,
}

impl Workspace {
    pub(crate) fn indexed() -> Self {
        Self { leaders: Leaders::default(), index: Some(Index::default()), standings: Some(Standings::default()) }
    }
}

/// The open accounts that lead the order, and those that come next.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// In the provider's order.
    pub(crate) ties: Vec<usize>,
    /// Those that would lead without the ties, in the provider's order.
    pub(crate) behind: Vec<usize>,
    /// The lowest load of all open ones.
    pub(crate) least: u64,
    order: Option<Rank>,
    order_behind: Option<Rank>,
    /// The key of the first of each, where every account with an equal key is open and ranks alike.
    key: Option<SelectionKey>,
    key_behind: Option<SelectionKey>,
}

impl Leaders {
    /// The accounts that lead the order without this one.
    pub(super) fn without(&mut self, slot: usize) -> &[usize] {
        self.ties.retain(|tie| *tie != slot);
        if self.ties.is_empty() { &self.behind } else { &self.ties }
    }

    pub(super) fn clear(&mut self) {
        self.ties.clear();
        self.behind.clear();
        self.least = u64::MAX;
        (self.order, self.order_behind, self.key, self.key_behind) = (None, None, None, None);
    }

    /// Adds an account whose key is that of others; whether there are some.
    #[inline]
    pub(super) fn add_alike(&mut self, slot: usize, key: SelectionKey) -> bool {
        let alike = if self.key == Some(key) {
            &mut self.ties
        } else if self.key_behind == Some(key) {
            &mut self.behind
        } else {
            return false;
        };
        alike.push(slot);
        true
    }

    /// Whether an account of this order changes nothing: it comes behind them all, and has no lower load.
    #[inline]
    pub(super) fn ignore(&self, order: Rank) -> bool {
        self.order_behind.is_some_and(|behind| order > behind) && order.load() >= self.least
    }

    /// Notes the load of an open account. That of a fallback does not count beside an account that is used before it.
    pub(super) fn note_load(&mut self, order: Rank) {
        self.least = match self.order.map(Rank::is_fallback_only) {
            Some(false) if order.is_fallback_only() => self.least,
            Some(true) if !order.is_fallback_only() => order.load(),
            _ => self.least.min(order.load()),
        };
    }

    /// Adds an account; `key` if all with an equal one are open and rank alike.
    pub(super) fn add(&mut self, slot: usize, order: Rank, key: Option<SelectionKey>) {
        match self.order.map_or(Ordering::Less, |best| order.cmp(&best)) {
            Ordering::Less => {
                std::mem::swap(&mut self.ties, &mut self.behind);
                (self.order_behind, self.key_behind) = (self.order, self.key);
                (self.order, self.key) = (Some(order), key);
                self.ties.clear();
                self.ties.push(slot);
            }
            Ordering::Equal => self.ties.push(slot),
            Ordering::Greater => match self.order_behind.map_or(Ordering::Less, |next| order.cmp(&next)) {
                Ordering::Less => {
                    (self.order_behind, self.key_behind) = (Some(order), key);
                    self.behind.clear();
                    self.behind.push(slot);
                }
                Ordering::Equal => self.behind.push(slot),
                Ordering::Greater => {}
            },
        }
    }
}
