//! Requests under way, under random arrivals, ends, limits and settings: never more than the cap, in turn, and each is
//! served in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lessor::pool::{AccountId, InFlight, LeaseSettings, Mono, TurnTicket};
use proptest::prelude::*;

const ACCOUNTS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A request comes with this key, for these accounts.
    Come {
        key: u8,
        accounts: Vec<u8>,
    },
    /// The oldest that was called begins, or cannot use its account and waits for others.
    Begin {
        can_use: bool,
    },
    /// A request that is under way ends: served, or refused for its rate.
    End {
        which: u8,
        is_served: bool,
    },
    /// A waiting request's client gives up.
    GiveUp {
        which: u8,
    },
    Pass {
        seconds: u16,
    },
    Configure {
        account: u8,
        key: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let accounts = proptest::collection::btree_set(0..ACCOUNTS, 1..=3).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        4 => (0..4_u8, accounts).prop_map(|(key, accounts)| Step::Come { key, accounts }),
        4 => prop::bool::weighted(0.9).prop_map(|can_use| Step::Begin { can_use }),
        3 => (any::<u8>(), prop::bool::weighted(0.8)).prop_map(|(which, is_served)| Step::End { which, is_served }),
        1 => any::<u8>().prop_map(|which| Step::GiveUp { which }),
        1 => (0..400_u16).prop_map(|seconds| Step::Pass { seconds }),
        1 => (0..5_u8, 0..5_u8).prop_map(|(account, key)| Step::Configure { account, key }),
    ]
}

fn id(account: u8) -> AccountId {
    AccountId::from_bits(u64::from(account) + 1)
}

/// A client of the table.
#[derive(Default)]
struct Requests {
    table: InFlight,
    settings: LeaseSettings,
    now: Mono,
    next: u64,
    waiting: BTreeMap<u64, (TurnTicket, Vec<AccountId>)>,
    called: VecDeque<u64>,
    under_way: Vec<(TurnTicket, AccountId, Mono)>,
    served: BTreeSet<u64>,
}

impl Requests {
    fn note(&mut self, called: Vec<u64>) {
        for ticket in called {
            assert!(self.waiting.contains_key(&ticket), "{ticket} is called and does not wait");
            assert!(!self.called.contains(&ticket), "{ticket} is called twice");
            self.called.push_back(ticket);
        }
    }

    fn come(&mut self, key: u8, accounts: &[u8]) {
        let turn = TurnTicket { ticket: self.next, key: (key > 0).then_some(key.into()) };
        self.next += 1;
        let accounts: Vec<AccountId> = accounts.iter().map(|account| id(*account)).collect();
        if !self.try_begin(turn, &accounts) {
            self.waiting.insert(turn.ticket, (turn, accounts.clone()));
            let called = self.table.wait(turn, accounts, self.now);
            assert!(!called.contains(&turn.ticket), "there was no room for {turn:?}");
            self.note(called);
        }
    }

    fn try_begin(&mut self, turn: TurnTicket, accounts: &[AccountId]) -> bool {
        let Some(account) = accounts.iter().copied().find(|account| self.table.has_room(turn, *account, self.now))
        else {
            return false;
        };
        let (has_begun, called) = self.table.begin(turn, account, self.now);
        assert!(has_begun);
        self.under_way.push((turn, account, self.now));
        self.note(called);
        self.check_caps(account, turn);
        true
    }

    /// What has just begun has taken no account or key beyond its cap.
    fn check_caps(&self, account: AccountId, turn: TurnTicket) {
        let count = self.under_way.iter().filter(|(_, on, _)| *on == account).count();
        assert_eq!(self.table.under_way(account) as usize, count);
        assert!(self.table.cap(account, self.now).is_none_or(|cap| count <= cap as usize), "{count} on {account}");
        let of_key = self.under_way.iter().filter(|(other, ..)| other.key.is_some() && other.key == turn.key).count();
        let most = self.settings.max_in_flight_per_key as usize;
        assert!(most == 0 || of_key <= most, "{of_key} with one key");
    }

    fn begin_called(&mut self, can_use: bool) {
        let Some(ticket) = self.called.pop_front() else { return };
        let (turn, accounts) = self.waiting[&ticket].clone();
        if can_use && self.try_begin(turn, &accounts) {
            self.waiting.remove(&ticket);
            return;
        }
        // its account cannot serve it any more, or its cap has fallen
        let others: Vec<AccountId> =
            accounts.into_iter().filter(|account| !self.table.has_room(turn, *account, self.now)).collect();
        if others.is_empty() {
            self.waiting.remove(&ticket);
            let called = self.table.leave(turn, self.now);
            self.note(called);
        } else {
            self.waiting.insert(ticket, (turn, others.clone()));
            let called = self.table.wait(turn, others, self.now);
            self.note(called);
        }
    }

    fn end(&mut self, which: usize, is_served: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let (turn, account, began) = self.under_way.swap_remove(which % self.under_way.len());
        let called = if is_served {
            self.table.served(account, began, self.now)
        } else {
            self.table.limited(account, began, self.now);
            Vec::new()
        };
        self.note(called);
        let called = self.table.end(turn.key, account, self.now);
        self.note(called);
        self.served.insert(turn.ticket);
    }

    fn give_up(&mut self, which: usize) {
        let Some(ticket) = self.waiting.keys().nth(which % self.waiting.len().max(1)).copied() else { return };
        let (turn, _) = self.waiting.remove(&ticket).unwrap();
        self.called.retain(|called| *called != ticket);
        let called = self.table.leave(turn, self.now);
        self.note(called);
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Come { key, accounts } => self.come(*key, accounts),
            Step::Begin { can_use } => self.begin_called(*can_use),
            Step::End { which, is_served } => self.end((*which).into(), *is_served),
            Step::GiveUp { which } => self.give_up((*which).into()),
            Step::Pass { seconds } => {
                self.now = self.now.after(Duration::from_secs((*seconds).into()));
                // a cap may have ended meanwhile
                let called = self.table.configure(&self.settings, self.now);
                self.note(called);
            }
            Step::Configure { account, key } => {
                self.settings.max_in_flight = (*account).into();
                self.settings.max_in_flight_per_key = (*key).into();
                let called = self.table.configure(&self.settings, self.now);
                self.note(called);
            }
        }
        self.now = self.now.after(Duration::from_millis(1));
        self.table.check(self.now).unwrap();
        assert_eq!(self.table.waiting(), self.waiting.len());
    }

    /// Every request that waits is served when the others end.
    fn finish(mut self) {
        let mut rounds = 0;
        while !self.waiting.is_empty() || !self.under_way.is_empty() {
            while !self.called.is_empty() {
                self.begin_called(true);
            }
            self.end(0, true);
            self.table.check(self.now).unwrap();
            rounds += 1;
            assert!(rounds < 10_000, "{} requests wait for ever", self.waiting.len());
        }
    }
}

proptest! {
    #![proptest_config(crate::config(1024))]

    #[test]
    fn no_cap_is_exceeded_and_every_waiting_request_is_served(steps in proptest::collection::vec(step(), 1..120)) {
        let mut requests = Requests { now: Mono(1_000), ..Requests::default() };
        for step in &steps {
            requests.carry_out(step);
        }
        requests.finish();
    }
}

/// The tickets in the order in which they are called to a single place.
fn order(come: &[(u64, u64)]) -> Vec<u64> {
    let settings = LeaseSettings { max_in_flight: 1, ..LeaseSettings::default() };
    let (mut table, now) = (InFlight::new(&settings), Mono(5));
    let first = TurnTicket { ticket: 0, key: Some(99) };
    assert!(table.begin(first, id(0), now).0);
    for (ticket, key) in come {
        assert!(table.wait(TurnTicket { ticket: *ticket, key: Some(*key) }, vec![id(0)], now).is_empty());
    }
    let (mut order, mut called) = (Vec::new(), table.end(Some(99), id(0), now));
    while let [ticket] = called[..] {
        order.push(ticket);
        let key = come.iter().find(|(one, _)| *one == ticket).map(|(_, key)| *key);
        assert!(table.begin(TurnTicket { ticket, key }, id(0), now).0);
        called = table.end(key, id(0), now);
    }
    assert!(called.is_empty() && table.waiting() == 0);
    order
}

#[test]
fn keys_take_turns_and_the_requests_of_a_key_come_in_order() {
    // one key with many requests does not keep another one waiting
    assert_eq!(order(&[(1, 7), (2, 7), (3, 7), (4, 8), (5, 7)]), [1, 4, 2, 3, 5]);
    assert_eq!(order(&[(1, 7), (2, 7), (3, 8), (4, 8), (5, 9)]), [1, 3, 5, 2, 4]);
    assert_eq!(order(&[(9, 7), (2, 7), (4, 7)]), [2, 4, 9], "one that came earlier and was refused once goes first");
}

#[test]
fn a_request_that_looks_again_keeps_its_turn() {
    let settings = LeaseSettings { max_in_flight: 1, ..LeaseSettings::default() };
    let (mut table, now) = (InFlight::new(&settings), Mono(5));
    let turn = |ticket| TurnTicket { ticket, key: Some(ticket) };
    assert!(table.begin(turn(0), id(0), now).0);
    for ticket in [1, 2, 1, 1] {
        assert!(table.wait(turn(ticket), vec![id(0)], now).is_empty());
    }
    assert_eq!(table.end(Some(0), id(0), now), [1]);
    // it cannot use the place, and is the last from now on
    assert_eq!(table.wait(turn(1), vec![id(1)], now), [2, 1], "there is room on another account");
    assert_eq!(table.leave(turn(1), now), [] as [u64; 0]);
    assert!(table.begin(turn(2), id(0), now).0);
}
