//! The connection of a host to the database: messages are in order, late, and lost with the connection; what was sent
//! before it broke may still arrive.

use super::chance::Chance;
use super::database::{Answer, Request};

/// A claim without an answer is given up after this time; another request breaks the connection.
pub const TIMEOUT: u64 = 2_000;

/// A request without an answer.
pub struct Sent {
    /// When it was sent by the host's own clock.
    pub mono: u64,
    pub request: Request,
    /// The pool has its answer already: what comes late is given back.
    pub is_given_up: bool,
}

#[derive(Default)]
pub struct Link {
    pub is_up: bool,
    /// How many connections there were.
    pub epoch: u64,
    /// When it is tried again, in true time.
    pub retry_at: u64,
    /// To the database: arrival, connection, request.
    pub out: Vec<(u64, u64, Request)>,
    /// From the database.
    pub back: Vec<(u64, u64, Answer)>,
    /// Requests of this connection without an answer.
    pub sent: Vec<Sent>,
    last_out: u64,
    last_back: u64,
}

impl Link {
    pub fn connect(&mut self) {
        self.epoch += 1;
        self.is_up = true;
        (self.last_out, self.last_back) = (0, 0);
        self.sent.clear();
        self.back.clear();
    }

    pub fn send(&mut self, at: u64, mono: u64, request: Request, chance: &mut Chance) {
        self.last_out = self.last_out.max(at + delay(chance));
        self.out.push((self.last_out, self.epoch, request.clone()));
        self.sent.push(Sent { mono, request, is_given_up: false });
    }

    pub fn answer(&mut self, at: u64, epoch: u64, answer: Answer, chance: &mut Chance) {
        if epoch == self.epoch && self.is_up {
            self.last_back = self.last_back.max(at + delay(chance));
            self.back.push((self.last_back, epoch, answer));
        }
    }

    /// Breaks the connection; requests that are under way are lost, or arrive much later.
    pub fn cut(&mut self, at: u64, away: u64, chance: &mut Chance) {
        self.is_up = false;
        self.retry_at = at + away;
        self.sent.clear();
        self.back.clear();
        let late =
            std::mem::take(&mut self.out).into_iter().filter_map(|(arrives, epoch, request)| match chance.below(3) {
                0 => None,
                1 => Some((arrives, epoch, request)),
                _ => Some((arrives + chance.below(20_000), epoch, request)),
            });
        self.out = late.collect();
    }

    /// The oldest request that is waited for.
    pub fn awaited(&mut self) -> Option<&mut Sent> {
        self.sent.iter_mut().find(|sent| !sent.is_given_up)
    }

    /// When it was sent.
    pub fn awaited_since(&self) -> Option<u64> {
        self.sent.iter().find(|sent| !sent.is_given_up).map(|sent| sent.mono)
    }

    /// The next arrival at the database, and its place.
    pub fn next_out(&self) -> Option<(u64, usize)> {
        self.out.iter().enumerate().map(|(place, (at, ..))| (*at, place)).min()
    }

    pub fn next_back(&self) -> Option<(u64, usize)> {
        self.back.iter().enumerate().map(|(place, (at, ..))| (*at, place)).min()
    }
}

fn delay(chance: &mut Chance) -> u64 {
    match chance.below(40) {
        0 => chance.below(2_600),
        1..=5 => chance.below(80),
        _ => 1 + chance.below(6),
    }
}
