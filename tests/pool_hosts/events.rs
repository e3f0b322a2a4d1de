//! What happens next, at the hosts and in the database, and when.

use lessor::pool::Command;

use super::database::{Answer, Request};
use super::host::TTL;
use super::learning::POLL;
use super::link::TIMEOUT;
use super::world::World;

/// What happens next at a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    AtDatabase(usize),
    AtHost(usize),
    Wakeup,
    Beat,
    Poll,
    Timeout,
    Connect,
    Restart,
}

impl World {
    /// Lets time pass until then, with everything that is due.
    pub fn advance(&mut self, to: u64) {
        while let Some((at, n, what)) = self.next_event().filter(|(at, ..)| *at <= to) {
            self.time = self.time.max(at);
            if self.is_traced {
                eprintln!("{} host {n} {what:?}", self.time);
            }
            self.happen(n, what);
            self.check();
            self.compare_limits();
        }
        self.time = self.time.max(to);
        self.check();
    }

    fn next_event(&mut self) -> Option<(u64, usize, Due)> {
        let mut next: Option<(u64, usize, Due)> = None;
        for (n, host) in self.hosts.iter().enumerate() {
            let mut note = |at: u64, what: Due| {
                if next.as_ref().is_none_or(|(known, ..)| at < *known) {
                    next = Some((at, n, what));
                }
            };
            if let Some((at, place)) = host.link.next_out() {
                note(at, Due::AtDatabase(place));
            }
            let Some(pool) = &host.pool else {
                note(host.down_until, Due::Restart);
                continue;
            };
            let after_freeze = |at: u64| at.max(host.frozen_until);
            let of_mono = |mono: u64| after_freeze(host.time_of(mono));
            if let Some(at) = pool.next_wakeup(host.now(self.time)) {
                note(of_mono(at.0), Due::Wakeup);
            }
            if !host.link.is_up {
                note(after_freeze(host.link.retry_at), Due::Connect);
                continue;
            }
            if let Some((at, place)) = host.link.next_back() {
                note(after_freeze(at), Due::AtHost(place));
            }
            if let Some(sent) = host.link.awaited_since() {
                note(of_mono(sent + TIMEOUT), Due::Timeout);
            }
            if host.term.is_some() {
                note(of_mono(host.next_beat), Due::Beat);
                note(of_mono(host.next_poll), Due::Poll);
            }
        }
        next
    }

    fn happen(&mut self, n: usize, what: Due) {
        let time = self.time;
        match what {
            Due::AtDatabase(place) => {
                let (_, epoch, request) = self.hosts[n].link.out.remove(place);
                let asked = self.is_traced.then(|| format!("{request:?}"));
                let (answer, told) = self.database.carry_out(time, n, request);
                if let Some(asked) = asked {
                    eprintln!("{} host {n} asks {asked}: {answer:?}", self.time);
                }
                self.tally.takeovers = self.database.takeovers;
                if let Answer::Claimed { account, fences, .. } = &answer {
                    let before = self.newest.get(account).copied().unwrap_or_default();
                    assert!(fences.from > before, "{fences:?} on {account} after {before:?}");
                }
                self.hosts[n].link.answer(time, epoch, answer, &mut self.chance);
                for (host, notice) in told {
                    // a notice of limits may be lost
                    if matches!(notice, Answer::Notice) && self.chance.one_in(4) {
                        continue;
                    }
                    let epoch = self.hosts[host].link.epoch;
                    self.hosts[host].link.answer(time, epoch, notice, &mut self.chance);
                }
            }
            Due::Restart => {
                self.tally.restarts += 1;
                let grace = self.chance.one_in(2);
                self.hosts[n].restart(time, grace);
                self.hosts[n].link.retry_at = time + self.chance.below(3_000);
                for account in self.shared.clone() {
                    let limits = self.database.limits[&account];
                    self.run(n, Command::ShareAccount(account, limits)).unwrap();
                }
            }
            Due::Wakeup => drop(self.run(n, Command::Tick)),
            Due::Connect => {
                let life = self.chance.next();
                self.hosts[n].link.connect();
                for request in self.hosts[n].first_requests(life) {
                    self.send(n, request);
                }
            }
            Due::Timeout => self.give_up(n),
            Due::Beat => {
                let host = &mut self.hosts[n];
                host.next_beat = host.mono(time) + TTL / 3;
                host.learning.compare_clocks();
                if let Some((term, life)) = host.term {
                    self.send(n, Request::Beat { term, life });
                }
            }
            Due::Poll => {
                let host = &mut self.hosts[n];
                // by a clock that may be slow
                host.next_poll = host.mono(time) + 300 + self.chance.below(POLL * 9 / 10 - 300);
                let (term, after) = (host.term.map(|(term, _)| term), host.learning.position());
                self.send(n, Request::News { term, after });
            }
            Due::AtHost(place) => {
                let (_, _, answer) = self.hosts[n].link.back.remove(place);
                self.deliver(n, answer);
            }
        }
    }
}
