//! What the shell of a host does with the answers of the database.

use lessor::pool::{Command, Mono, SeatDenial};

use super::database::{Answer, Fault, Request};
use super::host::{MARGIN, TTL};
use super::link::Sent;
use super::world::World;

impl World {
    /// An answer has not come in time.
    pub fn give_up(&mut self, n: usize) {
        match self.hosts[n].link.awaited() {
            Some(Sent { request: Request::Claim { account, .. }, is_given_up, .. }) => {
                *is_given_up = true;
                let account = *account;
                let elsewhere = self.hosts[n].pool.as_ref().unwrap().seats(account).unwrap().elsewhere;
                self.run(n, Command::SeatsDenied { account, elsewhere, why: SeatDenial::Unavailable }).unwrap();
            }
            Some(Sent { request: Request::ClaimProbe { account, .. }, is_given_up, .. }) => {
                *is_given_up = true;
                let account = *account;
                drop(self.run(n, Command::ProbeDenied(account)));
            }
            _ => self.cut(n, 100),
        }
    }

    /// The term is over: another one begins.
    fn begin_again(&mut self, n: usize) {
        self.hosts[n].term = None;
        self.run(n, Command::LoseSeats).unwrap();
        for request in self.hosts[n].beginning() {
            self.send(n, request);
        }
    }

    pub fn deliver(&mut self, n: usize, answer: Answer) {
        if matches!(answer, Answer::Wanted | Answer::Notice) {
            // the news say of which accounts
            return self.hosts[n].poll_now(self.time);
        }
        let Sent { mono: sent, request, is_given_up } = self.hosts[n].link.sent.remove(0);
        if let (Answer::Probe(answer), Request::ClaimProbe { account, .. }) = (&answer, &request) {
            return self.probe_answered(n, *account, answer.clone(), is_given_up);
        }
        if is_given_up {
            if let (Answer::Claimed { account, seats, .. }, Request::Claim { term, life, .. }) = (answer, request) {
                self.tally.late += 1;
                self.send(n, Request::GiveBack { term, life, account, seats });
            }
            return;
        }
        let longer = if self.database.fault == Fault::LongTerms { TTL } else { 0 };
        let until = Mono(sent + TTL - MARGIN + longer);
        match (answer, request) {
            (Answer::Begun { term }, Request::Begin { life }) => {
                self.hosts[n].may_resume = false;
                self.joined(n, term, life);
                self.run(n, Command::JoinTerm { until }).unwrap();
                // its time was over while the answer was on its way
                if self.hosts[n].pool.as_ref().unwrap().seats_until().is_none() {
                    self.begin_again(n);
                }
            }
            (Answer::Resumed(Some(seats)), Request::Resume { term, new_life, .. }) => {
                let of_this_run = !std::mem::take(&mut self.hosts[n].may_resume);
                self.joined(n, term, new_life);
                if of_this_run && !self.hosts[n].is_valid(self.time) {
                    // its time was over while the answer was on its way
                    return self.begin_again(n);
                }
                self.run(n, Command::ResumeTerm { until, seats }).unwrap();
            }
            (Answer::Resumed(None), _) => {
                self.hosts[n].may_resume = false;
                self.begin_again(n);
            }
            (Answer::Beaten(true), _) if self.hosts[n].term.is_some() => {
                self.run(n, Command::ExtendSeats { until }).unwrap();
                // its time had passed before: the term is over
                if self.hosts[n].pool.as_ref().unwrap().seats_until().is_none() {
                    self.begin_again(n);
                }
            }
            (Answer::Beaten(false) | Answer::Over, _) if self.hosts[n].term.is_some() => self.begin_again(n),
            (Answer::Claimed { account, seats, elsewhere, fences }, _) if self.hosts[n].term.is_some() => {
                let seats = seats + u32::from(self.database.fault == Fault::TooManySeats);
                let claimed = self.run(n, Command::SeatsClaimed { account, seats, elsewhere, fences });
                self.hosts[n].claimed_from.insert(account, fences.from);
                if claimed.is_err() && self.hosts[n].term.is_some() {
                    // the pool does not know of these seats: a new connection asks what this host holds
                    self.cut(n, 10);
                }
            }
            (Answer::Full { account, elsewhere }, _) if self.hosts[n].term.is_some() => {
                self.tally.denied += 1;
                self.run(n, Command::SeatsDenied { account, elsewhere, why: SeatDenial::Full }).unwrap();
            }
            (Answer::Fences(fences), _) => drop(self.run(n, Command::TakeFences(fences))),
            (Answer::News { elsewhere, beats, wanted, revision, limits }, Request::News { term, after }) => {
                self.read_limits(n, (after, revision), limits);
                if self.hosts[n].term.map(|(term, _)| term) == term {
                    self.run(n, Command::SeatsElsewhere(elsewhere)).unwrap();
                    self.run(n, Command::SeatsWanted(wanted)).unwrap();
                }
                self.watch(n, &beats);
            }
            // of a term that is over
            _ => {}
        }
    }

    fn joined(&mut self, n: usize, term: usize, life: u64) {
        let host = &mut self.hosts[n];
        (host.term, host.store.term) = (Some((term, life)), Some((term, life)));
        host.offered.clear();
        host.next_beat = host.mono(self.time) + TTL / 3;
        host.next_poll = host.mono(self.time) + 50;
    }

    /// Ends terms of other hosts that were silent for long enough.
    fn watch(&mut self, n: usize, beats: &[(usize, u64)]) {
        let host = &mut self.hosts[n];
        let mono = host.mono(self.time);
        let lasts = if self.database.fault == Fault::HastyTakeovers { TTL / 2 } else { TTL + MARGIN };
        let mut silent = Vec::new();
        for (term, beat) in beats {
            let seen = host.seen.entry(*term).or_insert((*beat, mono));
            if seen.0 != *beat {
                *seen = (*beat, mono);
            } else if mono - seen.1 >= lasts {
                silent.push((*term, *beat));
            }
        }
        host.seen.retain(|term, _| beats.iter().any(|(of, _)| of == term));
        for (term, beat) in silent {
            self.send(n, Request::EndSilent { term, beat });
        }
    }
}
