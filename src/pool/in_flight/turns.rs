//! The requests that wait for room, and whose turn it is: keys one after the other, the requests of a key as they came.

use crate::pool::model::AccountId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};

/// A request, as it waits for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TurnTicket {
    /// Its number: those that came earlier have lower ones.
    pub ticket: u64,
    /// The key that it came with.
    pub key: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: FxHashMap<Option<u64>, BTreeMap<u64, WaitingRequest>>,
    /// The keys of all of them; the next one to be called first.
    rotation: VecDeque<Option<u64>>,
}

#[derive(Debug)]
struct WaitingRequest {
    /// Where it can be served; the best first.
    accounts: Vec<AccountId>,
    /// The account on which a place is kept for it.
    called_to: Option<AccountId>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(BTreeMap::len).sum()
    }

    pub(super) fn called_to(&self, turn: TurnTicket) -> Option<AccountId> {
        self.waiting.get(&turn.key)?.get(&turn.ticket)?.called_to
    }

    /// A request that waits already keeps its turn.
    pub(super) fn wait(&mut self, turn: TurnTicket, accounts: Vec<AccountId>) {
        let of_key = self.waiting.entry(turn.key).or_default();
        if of_key.is_empty() {
            self.rotation.push_back(turn.key);
        }
        of_key.insert(turn.ticket, WaitingRequest { accounts, called_to: None });
    }

    /// Ends a wait; answers whether there was one.
    pub(super) fn leave(&mut self, turn: TurnTicket) -> bool {
        let Some(of_key) = self.waiting.get_mut(&turn.key) else { return false };
        let has_waited = of_key.remove(&turn.ticket).is_some();
        if of_key.is_empty() {
            self.waiting.remove(&turn.key);
            self.rotation.retain(|key| *key != turn.key);
        }
        has_waited
    }

    /// The next request that can begin, and where.
    pub(super) fn next(
        &self,
        may_begin: impl Fn(TurnTicket) -> bool,
        has_room: impl Fn(AccountId) -> bool,
    ) -> Option<(TurnTicket, AccountId)> {
        self.rotation.iter().find_map(|key| {
            let mut waiting = self.waiting.get(key)?.iter().filter(|(_, request)| request.called_to.is_none());
            let turn = |ticket: &u64| TurnTicket { ticket: *ticket, key: *key };
            if !may_begin(turn(&0)) {
                return None;
            }
            waiting.find_map(|(ticket, request)| {
                let account = request.accounts.iter().copied().find(|account| has_room(*account))?;
                Some((turn(ticket), account))
            })
        })
    }

    /// A place is kept for the request; its key is called again after all others.
    pub(super) fn call(&mut self, turn: TurnTicket, account: AccountId) {
        let request = self.waiting.get_mut(&turn.key).and_then(|of_key| of_key.get_mut(&turn.ticket));
        if let Some(request) = request {
            request.called_to = Some(account);
        }
        if let Some(at) = self.rotation.iter().position(|key| *key == turn.key) {
            let key = self.rotation.remove(at);
            self.rotation.extend(key);
        }
    }

    /// The requests for which a place is kept.
    pub(super) fn called(&self) -> impl Iterator<Item = (u64, AccountId)> {
        let all = self.waiting.values().flatten();
        all.filter_map(|(ticket, request)| Some((*ticket, request.called_to?)))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let has_once = |key: &Option<u64>| self.rotation.iter().filter(|other| *other == key).count() == 1;
        if self.rotation.len() != self.waiting.len() || !self.waiting.keys().all(has_once) {
            return Err(format!("{} keys wait, and {} have a turn", self.waiting.len(), self.rotation.len()));
        }
        Ok(())
    }
}
