//! The database of the shared pool, as far as the hosts' seats need it: terms, seats, fences and wants. Every request is
//! one transaction.

use std::collections::{BTreeMap, BTreeSet};

use lessor::limits::Scope;
use lessor::pool::{AccountId, Fence, FenceBlock, SeatLimits};

use super::limits::{LimitChange, LimitTable, ProbeAnswer};

/// Fences are drawn in blocks of this size: small, so that hosts run out of them.
const BLOCK: u64 = 24;
/// A host that was denied a seat is taken to wait for one for this time, or until it has one.
const WANT_LASTS: u64 = 60_000;

/// One seat of an account.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeatRow {
    /// The term that holds it.
    pub term: Option<usize>,
    /// The first fence that its holder may use on it.
    pub fence: u64,
}

/// A host's period of holding seats.
#[derive(Clone, Debug)]
pub struct TermRow {
    pub host: usize,
    pub life: u64,
    pub beat: u64,
    pub is_over: bool,
}

#[derive(Clone, Debug)]
pub enum Request {
    /// Begins a term; those that were begun or resumed with the same life end.
    Begin {
        life: u64,
    },
    /// Goes on with a term that has one of these lives.
    Resume {
        term: usize,
        lives: Vec<u64>,
        new_life: u64,
    },
    /// All leases of the term have ended.
    End {
        term: usize,
        lives: Vec<u64>,
    },
    Beat {
        term: usize,
        life: u64,
    },
    EndSilent {
        term: usize,
        beat: u64,
    },
    Claim {
        term: usize,
        life: u64,
        account: AccountId,
        seats: u32,
        most: u32,
        whole: bool,
    },
    GiveBack {
        term: usize,
        life: u64,
        account: AccountId,
        seats: u32,
    },
    WithdrawWant {
        term: usize,
        account: AccountId,
    },
    Fences {
        above: Fence,
    },
    /// What has changed since; limits after this revision.
    News {
        term: Option<usize>,
        after: u64,
    },
    Limit(LimitChange),
    ClaimProbe {
        term: usize,
        account: AccountId,
        limits: Vec<(Scope, String)>,
        lasts: u64,
    },
    EndProbe {
        term: usize,
        account: AccountId,
        until: u64,
    },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Begun {
        term: usize,
    },
    /// None: the term is over.
    Resumed(Option<Vec<(AccountId, u32)>>),
    /// Whether the term goes on.
    Beaten(bool),
    Done,
    Claimed {
        account: AccountId,
        seats: u32,
        elsewhere: u32,
        fences: FenceBlock,
    },
    Full {
        account: AccountId,
        elsewhere: u32,
    },
    Over,
    Fences(FenceBlock),
    News {
        elsewhere: Vec<(AccountId, u32)>,
        beats: Vec<(usize, u64)>,
        wanted: Vec<AccountId>,
        revision: u64,
        limits: Vec<LimitChange>,
    },
    Probe(ProbeAnswer),
    /// Not an answer: another host waits for a seat.
    Wanted,
    /// Not an answer: there is news of limits.
    Notice,
}

#[derive(Default)]
pub struct Database {
    pub limits: BTreeMap<AccountId, SeatLimits>,
    /// What hosts have learnt of the accounts' limits.
    pub limits_learnt: LimitTable,
    pub seats: BTreeMap<AccountId, Vec<SeatRow>>,
    pub terms: Vec<TermRow>,
    next_fence: u64,
    /// The account, the term that waits, and since when.
    wants: BTreeMap<(AccountId, usize), u64>,
    pub takeovers: u64,
    pub fault: Fault,
}

/// What is wrong in a run that must fail: it shows that the checks see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fault {
    #[default]
    None,
    /// Hosts believe that their terms are valid for longer than the others wait.
    LongTerms,
    /// Hosts end the terms of others too early.
    HastyTakeovers,
    /// Hosts give back one seat more than is free.
    UsedSeatsGoBack,
    /// Requests of an earlier connection are carried out whenever they arrive.
    LateRequests,
    /// A request for a new term that comes late ends a newer one.
    LateTerms,
    /// More seats are given out than there are.
    TooManySeats,
    /// News are read only as far as notices name them.
    LostNews,
    /// Hosts read news of limits, and do not heed them.
    DeafHosts,
    /// What one host clears is not sent to the others.
    ClearsStayHere,
    /// A weaker limit replaces a stronger one.
    WeakerLimits,
    /// Each host may probe.
    ManyProbers,
}

impl Database {
    pub fn new(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    pub fn add(&mut self, account: AccountId, limits: SeatLimits) {
        self.limits.insert(account, limits);
        self.seats.insert(account, vec![SeatRow::default(); limits.ceiling as usize]);
    }

    /// How many seats of an account a term holds.
    pub fn held(&self, account: AccountId, term: usize) -> u32 {
        self.seats[&account].iter().filter(|row| row.term == Some(term)).count() as u32
    }

    fn elsewhere(&self, account: AccountId, term: Option<usize>) -> u32 {
        self.seats[&account].iter().filter(|row| row.term.is_some() && row.term != term).count() as u32
    }

    fn is_valid(&self, term: usize, life: u64) -> bool {
        self.terms
            .get(term)
            .is_some_and(|term| !term.is_over && (term.life == life || self.fault == Fault::LateRequests))
    }

    fn end(&mut self, term: usize) {
        self.terms[term].is_over = true;
        for row in self.seats.values_mut().flatten().filter(|row| row.term == Some(term)) {
            row.term = None;
        }
        self.wants.retain(|(_, of), _| *of != term);
    }

    fn draw(&mut self, above: u64) -> FenceBlock {
        // whole blocks only, so that none overlap
        let next = self.next_fence.max((above + 1).next_multiple_of(BLOCK)).max(BLOCK);
        self.next_fence = next + BLOCK;
        FenceBlock { from: Fence(next), to: Fence(next + BLOCK - 1) }
    }

    /// The hosts that hold seats of an account, but for one of them.
    fn holders(&self, account: AccountId, but: usize) -> BTreeSet<usize> {
        let holders = self.seats[&account].iter().filter_map(|row| row.term).map(|term| self.terms[term].host);
        holders.filter(|host| *host != but).collect()
    }

    /// Carries out a request; the second part is what other hosts are told.
    pub fn carry_out(&mut self, time: u64, host: usize, request: Request) -> (Answer, Vec<(usize, Answer)>) {
        let mut told = Vec::new();
        let answer = match request {
            Request::Begin { life } => {
                for term in 0..self.terms.len() {
                    let is_meant = self.terms[term].life == life || self.fault == Fault::LateTerms;
                    if self.terms[term].host == host && is_meant && !self.terms[term].is_over {
                        self.end(term);
                    }
                }
                self.terms.push(TermRow { host, life, beat: 0, is_over: false });
                Answer::Begun { term: self.terms.len() - 1 }
            }
            Request::Resume { term, lives, new_life } if lives.iter().any(|life| self.is_valid(term, *life)) => {
                self.terms[term].life = new_life;
                self.terms[term].beat += 1;
                let held = self.seats.keys().map(|account| (*account, self.held(*account, term)));
                Answer::Resumed(Some(held.filter(|(_, held)| *held > 0).collect()))
            }
            Request::Resume { .. } => Answer::Resumed(None),
            Request::End { term, lives } => {
                if lives.iter().any(|life| self.is_valid(term, *life)) {
                    self.end(term);
                }
                Answer::Done
            }
            Request::Beat { term, life } => {
                let goes_on = self.is_valid(term, life);
                if goes_on {
                    self.terms[term].beat += 1;
                }
                Answer::Beaten(goes_on)
            }
            Request::EndSilent { term, beat } => {
                if !self.terms[term].is_over && self.terms[term].beat == beat {
                    self.takeovers += 1;
                    self.end(term);
                }
                Answer::Done
            }
            Request::Claim { term, life, .. } if !self.is_valid(term, life) => Answer::Over,
            Request::Claim { term, account, seats, most, whole, .. } => {
                let taken = self.seats[&account].iter().filter(|row| row.term.is_some()).count() as u32;
                let free = self.seats[&account].len() as u32 - taken;
                let got = seats.min(free).min(most.saturating_sub(taken));
                let elsewhere = self.elsewhere(account, Some(term));
                if got == 0 || whole && (got < seats || elsewhere > 0) {
                    self.wants.insert((account, term), time);
                    told = self.holders(account, host).into_iter().map(|other| (other, Answer::Wanted)).collect();
                    Answer::Full { account, elsewhere }
                } else {
                    let fences = self.draw(0);
                    let rows = self.seats.get_mut(&account).unwrap().iter_mut().filter(|row| row.term.is_none());
                    for row in rows.take(got as usize) {
                        assert!(row.fence < fences.from.0, "the fences of a seat rise");
                        *row = SeatRow { term: Some(term), fence: fences.from.0 };
                    }
                    self.wants.remove(&(account, term));
                    Answer::Claimed { account, seats: got, elsewhere, fences }
                }
            }
            Request::GiveBack { term, life, account, seats } => {
                if self.is_valid(term, life) {
                    let rows = self.seats.get_mut(&account).unwrap().iter_mut();
                    for row in rows.filter(|row| row.term == Some(term)).take(seats as usize) {
                        row.term = None;
                    }
                }
                Answer::Done
            }
            Request::WithdrawWant { term, account } => {
                self.wants.remove(&(account, term));
                Answer::Done
            }
            Request::Fences { above } => Answer::Fences(self.draw(above.0)),
            Request::Limit(change) => {
                if self.limits_learnt.change(time, change, self.fault) {
                    let hosts: BTreeSet<usize> = self.terms.iter().map(|term| term.host).collect();
                    told =
                        hosts.into_iter().filter(|other| *other != host).map(|other| (other, Answer::Notice)).collect();
                }
                Answer::Done
            }
            Request::ClaimProbe { term, account, limits, lasts } => {
                if self.terms.get(term).is_none_or(|term| term.is_over) {
                    Answer::Over
                } else {
                    let is_open = |term: usize| !self.terms[term].is_over;
                    let wanted = (account, &limits[..]);
                    Answer::Probe(self.limits_learnt.claim_probe(time, term, wanted, (lasts, is_open), self.fault))
                }
            }
            Request::EndProbe { term, account, until } => {
                self.limits_learnt.end_probe(term, account, until);
                Answer::Done
            }
            Request::News { term, after } => {
                let elsewhere = self.seats.keys().map(|account| (*account, self.elsewhere(*account, term)));
                let others = self.terms.iter().enumerate().filter(|(at, of)| !of.is_over && Some(*at) != term);
                let is_for_us = |of: usize, account: AccountId, since: u64| {
                    Some(of) != term
                        && time < since + WANT_LASTS
                        && term.is_some_and(|term| self.held(account, term) > 0)
                };
                let wanted: BTreeSet<AccountId> = self
                    .wants
                    .iter()
                    .filter(|((account, of), since)| is_for_us(*of, *account, **since))
                    .map(|((account, _), _)| *account)
                    .collect();
                let (revision, limits) = self.limits_learnt.news(time, after, self.fault);
                Answer::News {
                    revision,
                    limits,
                    elsewhere: elsewhere.collect(),
                    beats: others.map(|(at, of)| (at, of.beat)).collect(),
                    wanted: wanted.into_iter().collect(),
                }
            }
        };
        (answer, told)
    }
}
