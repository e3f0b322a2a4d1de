//! The database of the shared pool, as far as the hosts' seats need it: terms, seats, fences and wants. Every request is
//! one transaction.

use std::collections::{BTreeMap, BTreeSet};

use lessor::pool::{AccountId, Fence, FenceBlock, SeatLimits};

/// Fences are drawn in blocks of this size: small, so that hosts run out of them.
const BLOCK: u64 = 24;

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
    /// Begins a term, if `after` is still the newest one of the host: a request that comes late must end no newer term.
    Begin {
        life: u64,
        after: Option<usize>,
    },
    Resume {
        term: usize,
        life: u64,
        new_life: u64,
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
    Fences {
        above: Fence,
    },
    News {
        term: Option<usize>,
    },
}

#[derive(Clone, Debug)]
pub enum Answer {
    Begun {
        term: usize,
    },
    /// The newest term of the host is this one.
    HasTerm(Option<usize>),
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
    },
    /// Not an answer: another host waits for a seat.
    Wanted(AccountId),
}

#[derive(Default)]
pub struct Database {
    pub limits: BTreeMap<AccountId, SeatLimits>,
    pub seats: BTreeMap<AccountId, Vec<SeatRow>>,
    pub terms: Vec<TermRow>,
    next_fence: u64,
    wants: BTreeSet<(AccountId, usize)>,
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

    fn newest_of(&self, host: usize) -> Option<usize> {
        self.terms.iter().rposition(|term| term.host == host)
    }

    fn end(&mut self, term: usize) {
        self.terms[term].is_over = true;
        for row in self.seats.values_mut().flatten().filter(|row| row.term == Some(term)) {
            row.term = None;
        }
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
    pub fn carry_out(&mut self, host: usize, request: Request) -> (Answer, Vec<(usize, AccountId)>) {
        let mut told = Vec::new();
        let answer = match request {
            Request::Begin { after, .. } if self.newest_of(host) != after && self.fault != Fault::LateTerms => {
                Answer::HasTerm(self.newest_of(host))
            }
            Request::Begin { life, .. } => {
                // the host has ended all leases of its older terms
                for term in 0..self.terms.len() {
                    if self.terms[term].host == host && !self.terms[term].is_over {
                        self.end(term);
                    }
                }
                self.terms.push(TermRow { host, life, beat: 0, is_over: false });
                Answer::Begun { term: self.terms.len() - 1 }
            }
            Request::Resume { term, life, new_life } if self.is_valid(term, life) => {
                self.terms[term].life = new_life;
                self.terms[term].beat += 1;
                let held = self.seats.keys().map(|account| (*account, self.held(*account, term)));
                Answer::Resumed(Some(held.filter(|(_, held)| *held > 0).collect()))
            }
            Request::Resume { .. } => Answer::Resumed(None),
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
                    self.wants.insert((account, host));
                    told = self.holders(account, host).into_iter().map(|other| (other, account)).collect();
                    Answer::Full { account, elsewhere }
                } else {
                    let fences = self.draw(0);
                    let rows = self.seats.get_mut(&account).unwrap().iter_mut().filter(|row| row.term.is_none());
                    for row in rows.take(got as usize) {
                        assert!(row.fence < fences.from.0, "the fences of a seat rise");
                        *row = SeatRow { term: Some(term), fence: fences.from.0 };
                    }
                    self.wants.remove(&(account, host));
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
            Request::Fences { above } => Answer::Fences(self.draw(above.0)),
            Request::News { term } => {
                let elsewhere = self.seats.keys().map(|account| (*account, self.elsewhere(*account, term)));
                let others = self.terms.iter().enumerate().filter(|(at, of)| !of.is_over && Some(*at) != term);
                // a want is told once: its host repeats the claim for as long as it waits
                let is_for_us = |(account, of): &&(AccountId, usize)| {
                    *of != host && term.is_some_and(|t| self.held(*account, t) > 0)
                };
                let wanted: Vec<(AccountId, usize)> = self.wants.iter().filter(is_for_us).copied().collect();
                let answer = Answer::News {
                    elsewhere: elsewhere.collect(),
                    beats: others.map(|(at, of)| (at, of.beat)).collect(),
                    wanted: wanted.iter().map(|(account, _)| *account).collect(),
                };
                for want in wanted {
                    self.wants.remove(&want);
                }
                answer
            }
        };
        (answer, told)
    }
}
