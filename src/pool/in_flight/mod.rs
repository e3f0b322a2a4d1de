//! The requests that are under way: how many on each account and with each key, how many there may be, and whose turn it
//! is when there is room for one more.
//!
//! A request [begins](InFlight::begin) on an account that has room, and [ends](InFlight::end) there. One that finds no
//! room [waits](InFlight::wait); when there is room for it, it is *called*: a place on an account is kept for it until it
//! begins, waits again or leaves. Keys are called in turn, and the requests of one key in the order in which they came.

mod beside;
mod learnt_cap;
mod turns;

use crate::pool::model::{AccountId, LeaseSettings, Mono};
use learnt_cap::LearntCap;
use rustc_hash::FxHashMap;
use turns::Turns;

pub use turns::TurnTicket;

/// All requests that are under way or wait for room.
#[derive(Debug, Default)]
pub struct InFlight {
    /// 0: any number.
    per_account: u32,
    /// 0: any number.
    per_key: u32,
    accounts: FxHashMap<AccountId, AccountFlow>,
    /// The requests with each key, and the places that are kept for others.
    keys: FxHashMap<u64, u32>,
    turns: Turns,
}

/// The requests of one account.
#[derive(Debug, Default)]
struct AccountFlow {
    under_way: u32,
    /// Places that are kept for requests that were called.
    kept: u32,
    learnt: Option<LearntCap>,
}

impl AccountFlow {
    fn cap(&self, configured: u32, now: Mono) -> Option<u32> {
        let learnt = self.learnt.as_ref().and_then(|learnt| learnt.cap(now));
        [learnt, Some(configured).filter(|cap| *cap > 0)].into_iter().flatten().min()
    }

    fn has_room(&self, configured: u32, now: Mono) -> bool {
        self.cap(configured, now).is_none_or(|cap| self.under_way + self.kept < cap)
    }
}

impl InFlight {
    /// No request is under way.
    #[must_use]
    pub fn new(settings: &LeaseSettings) -> Self {
        let LeaseSettings { max_in_flight: per_account, max_in_flight_per_key: per_key, .. } = *settings;
        Self { per_account, per_key, ..Self::default() }
    }

    /// How many requests are under way on an account.
    #[must_use]
    pub fn under_way(&self, account: AccountId) -> u32 {
        self.accounts.get(&account).map_or(0, |flow| flow.under_way)
    }

    /// How many there may be, as configured or as learnt from a limit.
    #[must_use]
    pub fn cap(&self, account: AccountId, now: Mono) -> Option<u32> {
        let configured = Some(self.per_account).filter(|cap| *cap > 0);
        self.accounts.get(&account).map_or(configured, |flow| flow.cap(self.per_account, now))
    }

    /// Whether the number of requests is limited anywhere.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.per_account > 0 || self.per_key > 0 || self.accounts.values().any(|flow| flow.learnt.is_some())
    }

    /// How many requests wait for room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// Whether a request may begin on an account now.
    #[must_use]
    pub fn has_room(&self, turn: TurnTicket, account: AccountId, now: Mono) -> bool {
        let called_to = self.turns.called_to(turn);
        // the place that is kept for it is no more than the cap allows, unless that has fallen meanwhile
        let kept = u32::from(called_to == Some(account));
        let of_account = self.accounts.get(&account);
        let account_has_room = match of_account.and_then(|flow| Some((flow, flow.cap(self.per_account, now)?))) {
            Some((flow, cap)) if kept > 0 => flow.under_way < cap,
            Some((flow, cap)) => flow.under_way + flow.kept < cap,
            None => self.account_has_room(account, now),
        };
        let own = u32::from(called_to.is_some());
        let key_has_room = |key| self.keys.get(&key).is_none_or(|count| *count - own < self.per_key);
        account_has_room && turn.key.filter(|_| self.per_key > 0).is_none_or(key_has_room)
    }

    /// Begins a request, if there is room for it. Answers whether it has begun, and the requests that are called.
    pub fn begin(&mut self, turn: TurnTicket, account: AccountId, now: Mono) -> (bool, Vec<u64>) {
        if !self.has_room(turn, account, now) {
            return (false, Vec::new());
        }
        self.leave_turns(turn);
        self.accounts.entry(account).or_default().under_way += 1;
        self.count_key(turn.key);
        (true, self.call(now))
    }

    /// A request has ended. Answers those that are called.
    pub fn end(&mut self, key: Option<u64>, account: AccountId, now: Mono) -> Vec<u64> {
        if let Some(flow) = self.accounts.get_mut(&account) {
            flow.under_way = flow.under_way.saturating_sub(1);
        }
        self.forget_idle(account, now);
        self.uncount_key(key);
        self.call(now)
    }

    /// A request waits for room on one of these accounts, of which it likes the first best. Answers the requests that are
    /// called, maybe this one.
    pub fn wait(&mut self, turn: TurnTicket, accounts: Vec<AccountId>, now: Mono) -> Vec<u64> {
        self.give_back(turn);
        self.turns.wait(turn, accounts);
        self.call(now)
    }

    /// A request waits no more. Answers those that are called.
    pub fn leave(&mut self, turn: TurnTicket, now: Mono) -> Vec<u64> {
        if self.leave_turns(turn) { self.call(now) } else { Vec::new() }
    }

    /// An account has refused a request for its rate, or was overloaded: fewer may be under way at once.
    pub fn limited(&mut self, account: AccountId, began: Mono, now: Mono) {
        let flow = self.accounts.entry(account).or_default();
        flow.learnt = LearntCap::after_limit(flow.learnt.take(), flow.under_way, began, now);
    }

    /// An account has served a request. Answers the requests that are called.
    pub fn served(&mut self, account: AccountId, began: Mono, now: Mono) -> Vec<u64> {
        let Some(flow) = self.accounts.get_mut(&account) else { return Vec::new() };
        let Some(learnt) = &mut flow.learnt else { return Vec::new() };
        if !learnt.served(flow.under_way, began, now) {
            flow.learnt = None;
        }
        self.call(now)
    }

    /// Uses these settings from now on. Answers the requests that are called.
    pub fn configure(&mut self, settings: &LeaseSettings, now: Mono) -> Vec<u64> {
        (self.per_account, self.per_key) = (settings.max_in_flight, settings.max_in_flight_per_key);
        self.call(now)
    }

    /// What was learnt of an account does not hold any more. Answers the requests that are called.
    pub fn forget_limit(&mut self, account: AccountId, now: Mono) -> Vec<u64> {
        if let Some(flow) = self.accounts.get_mut(&account) {
            flow.learnt = None;
        }
        self.call(now)
    }

    fn account_has_room(&self, account: AccountId, now: Mono) -> bool {
        self.accounts.get(&account).is_none_or(|flow| flow.has_room(self.per_account, now))
    }

    fn key_has_room(&self, key: Option<u64>) -> bool {
        let Some(key) = key.filter(|_| self.per_key > 0) else { return true };
        self.keys.get(&key).is_none_or(|count| *count < self.per_key)
    }

    fn count_key(&mut self, key: Option<u64>) {
        if let Some(key) = key {
            *self.keys.entry(key).or_default() += 1;
        }
    }

    fn uncount_key(&mut self, key: Option<u64>) {
        let Some(key) = key else { return };
        if let Some(count) = self.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }

    /// Ends the wait of a request, and gives back the place that is kept for it; returns whether it has waited.
    fn leave_turns(&mut self, turn: TurnTicket) -> bool {
        self.give_back(turn);
        self.turns.leave(turn)
    }

    fn give_back(&mut self, turn: TurnTicket) {
        if let Some(account) = self.turns.called_to(turn) {
            self.accounts.entry(account).or_default().kept -= 1;
            self.uncount_key(turn.key);
        }
    }

    /// Keeps a place for each request that there is room for, in turn, and answers which.
    fn call(&mut self, now: Mono) -> Vec<u64> {
        let mut called = Vec::new();
        if self.turns.is_empty() {
            return called;
        }
        loop {
            let may_begin = |turn: TurnTicket| self.key_has_room(turn.key);
            let has_room = |account| self.account_has_room(account, now);
            let Some((turn, account)) = self.turns.next(may_begin, has_room) else { return called };
            self.turns.call(turn, account);
            self.accounts.entry(account).or_default().kept += 1;
            self.count_key(turn.key);
            called.push(turn.ticket);
        }
    }

    fn forget_idle(&mut self, account: AccountId, now: Mono) {
        let is_idle = |flow: &AccountFlow| {
            flow.under_way == 0 && flow.kept == 0 && flow.learnt.as_ref().is_none_or(|learnt| learnt.cap(now).is_none())
        };
        if self.accounts.get(&account).is_some_and(is_idle) {
            self.accounts.remove(&account);
        }
    }

    /// Checks what must hold after every step.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self, now: Mono) -> Result<(), String> {
        for (id, flow) in &self.accounts {
            let kept = self.turns.called().filter(|(_, account)| account == id).count();
            if flow.kept as usize != kept {
                return Err(format!("{id} keeps {} places for {kept} requests", flow.kept));
            }
        }
        let may_begin = |turn: TurnTicket| self.key_has_room(turn.key);
        match self.turns.next(may_begin, |account| self.account_has_room(account, now)) {
            Some((turn, account)) => Err(format!("{turn:?} waits although there is room on {account}")),
            None => self.turns.check(),
        }
    }
}
