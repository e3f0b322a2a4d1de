//! The seats of one shared account on this host: which it holds, what others hold, what is claimed and what goes back.

use crate::pool::lease::{LeaseCounts, LeaseKind};
use crate::pool::model::{Ineligible, Mono};
use crate::pool::seats::{SeatCounts, SeatDenial, SeatLimits};
use std::time::Duration;
use wants::OwnWant;

/// After a claim that failed, the next one of the account: other hosts give back a free seat within this time.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the host may claim none at all.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// A claim without an answer has failed after this time; the shell answers much sooner.
pub(crate) const CLAIM_LASTS: Duration = Duration::from_secs(10);

/// Whether this host may use its seats, and claim more: the same for all accounts, kept with each one's digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct TermStanding {
    /// The term is valid.
    pub valid: bool,
    /// There are fences for new leases.
    pub fenced: bool,
    /// The database answers.
    pub connected: bool,
}

impl TermStanding {
    /// Whether the database can be asked for something in this term.
    pub fn can_ask(self) -> bool {
        self.valid && self.connected
    }
}

#[derive(Debug, Default)]
pub(crate) struct AccountSeats {
    /// None until they are known.
    limits: Option<SeatLimits>,
    standing: TermStanding,
    held: u32,
    /// How many were given back since the database has said how many are held.
    returned: u32,
    elsewhere: u32,
    claim: Option<ClaimUnderWay>,
    /// How many claims have ended, answered or not: requests that wait for one are considered again.
    ended: u64,
    /// How many queued requests of each kind wait for a claim.
    waiting: Waiting,
    /// A lease that could not wait would have moved here.
    is_asked: bool,
    block: Option<SeatBlock>,
    /// When a claim last found no free seat.
    full_at: Mono,
    /// The want in the database that this claim has left.
    own_want: Option<OwnWant>,
    /// Until when another host is known to wait for a seat.
    wanted: Option<Mono>,
    idle: Option<IdleSeats>,
    /// The ceiling was raised, and an exclusive lease may not have the new seats yet.
    is_raised: bool,
    /// An exclusive lease has ended: all its seats but one go back at once.
    has_surplus: bool,
    /// This host has the duty to probe the account.
    probes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Waiting {
    shared: u32,
    whole: u32,
    subagents: u32,
}

/// A claim that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct ClaimUnderWay {
    /// Then it has failed.
    until: Mono,
    whole: bool,
}

/// No claim is made before this time.
#[derive(Clone, Copy, Debug)]
struct SeatBlock {
    until: Mono,
    why: SeatDenial,
    /// It was a claim of all seats: others may succeed.
    of_whole: bool,
}

/// The fewest seats that were free at once since then: no lease needed them.
#[derive(Clone, Copy, Debug)]
struct IdleSeats {
    since: Mono,
    least: u32,
}

/// A claim that is to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewClaim {
    pub seats: u32,
    pub most: u32,
    pub whole: bool,
}

/// Reading.
impl AccountSeats {
    pub fn counts(&self) -> SeatCounts {
        SeatCounts { held: self.held, elsewhere: self.elsewhere }
    }

    pub fn limits(&self) -> Option<SeatLimits> {
        self.limits
    }

    /// Whether the term is valid.
    pub fn is_valid(&self) -> bool {
        self.standing.valid
    }

    pub fn standing(&self) -> TermStanding {
        self.standing
    }

    /// Whether seats may have to be given back at once.
    pub fn has_unneeded(&self) -> bool {
        self.has_surplus || self.wanted.is_some()
    }

    pub fn ended_claims(&self) -> u64 {
        self.ended
    }

    pub fn is_claiming(&self) -> bool {
        self.claim.is_some()
    }

    /// Whether a claim is under way, or has let other hosts know a moment ago that this one waits for a seat.
    pub fn is_being_wanted(&self) -> bool {
        self.claim.is_some() || self.waiting() > 0 || self.block.is_some_and(|block| block.why == SeatDenial::Full)
    }

    /// When a claim last found no free seat.
    pub fn full_at(&self) -> Mono {
        self.full_at
    }

    /// How many requests wait for a claim.
    pub fn waiting(&self) -> u32 {
        self.waiting.shared + self.waiting.whole + self.waiting.subagents
    }

    /// What counts as load beside this host's own leases: the seats of others, and those about to be claimed.
    pub fn load_beside(&self) -> u32 {
        self.elsewhere.saturating_add(self.waiting.shared + self.waiting.whole)
    }

    /// Whether a lease of this kind has a seat without a claim.
    pub fn has_seat(&self, kind: LeaseKind, counts: LeaseCounts) -> bool {
        match kind {
            _ if self.is_leaving(counts) => false,
            LeaseKind::Shared => self.held > counts.leases,
            LeaseKind::OfSubagent => self.held > 0,
            LeaseKind::Exclusive => self.limits.is_some_and(|limits| self.held >= limits.ceiling.max(1)),
        }
    }

    /// Why no lease of this kind can have a seat now, neither a free one nor by a claim.
    pub fn obstacle(&self, kind: LeaseKind, counts: LeaseCounts) -> Option<Ineligible> {
        if !self.standing.valid || !self.standing.fenced {
            return Some(Ineligible::NoSeat);
        }
        if self.has_seat(kind, counts) {
            return None;
        }
        if self.is_leaving(counts) {
            return Some(Ineligible::Busy);
        }
        match self.block_of(kind) {
            Some(SeatDenial::Full) => Some(Ineligible::Busy),
            Some(_) => Some(Ineligible::NoSeat),
            None if !self.standing.connected => Some(Ineligible::NoSeat),
            None if kind == LeaseKind::Exclusive && self.limits.is_none() => Some(Ineligible::NoSeat),
            None => None,
        }
    }

    fn block_of(&self, kind: LeaseKind) -> Option<SeatDenial> {
        self.block.filter(|block| !block.of_whole || kind == LeaseKind::Exclusive).map(|block| block.why)
    }

    /// How many held seats no lease needs. Sub-agents together need one, and an exclusive lease all.
    fn spare(&self, counts: LeaseCounts) -> u32 {
        if counts.exclusive {
            return 0;
        }
        self.held.saturating_sub(counts.leases.max(u32::from(counts.subagents > 0)))
    }

    /// When something changes by time alone.
    pub fn next_change(&self, linger: Duration) -> Option<Mono> {
        let idle = self.idle.map(|idle| idle.since.after(linger));
        let check = self.own_want.map(|want| want.check());
        [self.claim.map(|claim| claim.until), self.block.map(|block| block.until), self.wanted, idle, check]
            .into_iter()
            .flatten()
            .min()
    }

    /// The claim that is to be made now: for as many seats as are waited for and may be had.
    pub fn new_claim(&self, counts: LeaseCounts, ceiling: u32) -> Option<NewClaim> {
        let Waiting { shared, whole, subagents } = self.waiting;
        let mut kind = LeaseKind::Shared;
        let for_subagents = u32::from(subagents > 0 && self.held == 0 && shared == 0);
        let needed = (shared + u32::from(self.is_asked) + for_subagents)
            .saturating_sub(self.held - counts.leases.min(self.held));
        let room = ceiling.saturating_sub(self.held.saturating_add(self.elsewhere)).max(1);
        let mut claim = NewClaim { seats: needed.min(room), most: ceiling, whole: false };
        // also for an exclusive lease that is there: the ceiling may have been raised
        if counts.exclusive || needed == 0 && whole > 0 {
            kind = LeaseKind::Exclusive;
            let all = self.limits?.ceiling;
            claim = NewClaim { seats: all.saturating_sub(self.held), most: all, whole: true };
        }
        let is_possible = self.claim.is_none() && self.obstacle(kind, counts).is_none() && self.standing.connected;
        (is_possible && claim.seats > 0).then_some(claim)
    }

    /// Whether the counts fit together; else what does not, in words.
    pub fn check(&self, counts: LeaseCounts, may_differ: bool) -> Result<(), String> {
        let LeaseCounts { leases, subagents, exclusive } = counts;
        let Some(ceiling) = self.limits.map(|limits| limits.ceiling) else { return Ok(()) };
        if !may_differ && leases > self.held {
            return Err(format!("{leases} leases on {} seats (I1)", self.held));
        }
        if !may_differ && subagents > 0 && self.held == 0 {
            return Err("sub-agents without a seat".to_owned());
        }
        if !may_differ && (leases + subagents > 0) && !self.standing.valid {
            return Err("leases without a valid term".to_owned());
        }
        if self.elsewhere > ceiling.saturating_sub(self.held) {
            return Err(format!("{} seats and {} elsewhere of {ceiling}", self.held, self.elsewhere));
        }
        if !may_differ && exclusive && self.held < ceiling && !self.is_raised {
            return Err(format!("an exclusive lease with {} of {ceiling} seats", self.held));
        }
        if self.idle.is_some() != (self.spare(counts) > 0)
            || self.idle.is_some_and(|idle| idle.least > self.spare(counts))
        {
            return Err(format!("{:?} with {} spare seats", self.idle, self.spare(counts)));
        }
        Ok(())
    }
}

/// Changing. What depends on the counts is brought up to date by [`Self::note_use`].
impl AccountSeats {
    pub fn new(limits: Option<SeatLimits>, standing: TermStanding) -> Self {
        Self { limits, standing, ..Self::default() }
    }

    pub fn set_limits(&mut self, limits: SeatLimits) {
        self.is_raised |= self.limits.is_some_and(|before| before.ceiling < limits.ceiling);
        self.limits = Some(limits);
        self.clamp();
    }

    pub fn set_standing(&mut self, standing: TermStanding) {
        self.standing = standing;
        if !standing.connected {
            self.ended += 1;
            self.claim = None;
            self.is_asked = false;
        }
    }

    /// The seats of a term, as the database has them; no claim is under way. Those whose return was lost go back at once,
    /// and the others that are spare count as spare since the first of them was: so a host that connects again and again
    /// gives them back in time.
    pub fn hold(&mut self, held: u32) {
        self.ended += 1;
        let lost = held.saturating_sub(self.held).min(std::mem::take(&mut self.returned));
        self.idle = match self.idle {
            Some(idle) => Some(IdleSeats { least: u32::MAX, ..idle }),
            None => (lost > 0).then_some(IdleSeats { since: Mono::default(), least: lost }),
        };
        (self.held, self.claim, self.wanted) = (held, None, None);
        (self.is_asked, self.has_surplus, self.block) = (false, false, None);
        self.clamp();
    }

    /// A claim was answered; `false` if none is under way.
    pub fn claimed(&mut self, seats: u32, elsewhere: u32) -> bool {
        self.ended += 1;
        let is_awaited = self.claim.take().is_some();
        // the database has removed it with the claim
        self.own_want = None;
        if is_awaited {
            self.held = self.held.saturating_add(seats);
            // the new seats are for those that wait here; a host that got none says so again
            (self.block, self.wanted) = (None, None);
        }
        self.is_raised &= self.limits.is_some_and(|limits| self.held < limits.ceiling);
        self.elsewhere = elsewhere;
        self.clamp();
        is_awaited
    }

    pub fn denied(&mut self, elsewhere: u32, why: SeatDenial, now: Mono) {
        self.ended += 1;
        let of_whole = self.claim.take().is_some_and(|claim| claim.whole);
        self.elsewhere = elsewhere;
        self.clamp();
        if why == SeatDenial::Full {
            self.full_at = now;
            self.own_want = Some(OwnWant::recorded(now));
        }
        let pause = if why == SeatDenial::Refused { REFUSED_PAUSE } else { PAUSE };
        self.block = Some(SeatBlock { until: now.after(pause), why, of_whole });
    }

    /// Whether this host has the duty to probe the account is known: requests that wait for it are considered again.
    pub fn probe_answered(&mut self, has_duty: bool) {
        self.ended += 1;
        self.probes |= has_duty;
    }

    /// Whether this host has the duty to probe the account, or has just lost its use for it.
    pub fn has_probe(&self) -> bool {
        self.probes
    }

    /// Leaves the duty if no limit uses it; answers whether it has just been left.
    pub fn leave_probe(&mut self, is_used: bool) -> bool {
        let leaves = self.probes && !is_used;
        self.probes &= is_used;
        leaves
    }

    /// The duty was lost with the term.
    pub fn lose_probe(&mut self) {
        self.probes = false;
    }

    /// How many seats others hold; whether that is news.
    pub fn set_elsewhere(&mut self, elsewhere: u32) -> bool {
        let before = std::mem::replace(&mut self.elsewhere, elsewhere);
        self.clamp();
        if self.elsewhere < before {
            self.block = self.block.filter(|block| block.why != SeatDenial::Full);
        }
        self.elsewhere != before
    }

    /// News may be older than a claim: others hold no seat that this host holds.
    fn clamp(&mut self) {
        if let Some(limits) = self.limits {
            self.elsewhere = self.elsewhere.min(limits.ceiling.saturating_sub(self.held));
        }
    }

    pub fn begin_claim(&mut self, whole: bool, now: Mono) {
        self.claim = Some(ClaimUnderWay { until: now.after(CLAIM_LASTS), whole });
        self.is_asked = false;
    }

    /// A queued request waits for a claim of this account, or not any more.
    pub fn count_waiting(&mut self, kind: LeaseKind, comes: bool) {
        let count = match kind {
            LeaseKind::Shared => &mut self.waiting.shared,
            LeaseKind::Exclusive => &mut self.waiting.whole,
            LeaseKind::OfSubagent => &mut self.waiting.subagents,
        };
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
    }

    /// A lease that cannot wait would move here.
    pub fn ask(&mut self) {
        self.is_asked = true;
    }

    pub fn note_surplus(&mut self) {
        self.has_surplus = true;
    }

    /// Leases or seats have changed: follows how many seats are free.
    pub fn note_use(&mut self, counts: LeaseCounts, now: Mono) {
        let spare = self.spare(counts);
        self.idle = match self.idle {
            _ if spare == 0 => None,
            Some(IdleSeats { since, least }) => Some(IdleSeats { since, least: least.min(spare) }),
            None => Some(IdleSeats { since: now, least: spare }),
        };
    }

    /// Takes the seats that are to be given back at once, because another host waits or an exclusive lease has ended.
    pub fn take_unneeded(&mut self, counts: LeaseCounts, now: Mono) -> u32 {
        let spare = self.spare(counts);
        let mut back = 0;
        if self.has_surplus {
            back = spare.saturating_sub(1);
            self.has_surplus = false;
        }
        if self.wanted.is_some() && spare > 0 {
            back = spare;
            self.wanted = None;
            self.ended += 1;
            // the other host gets it before the next request of this one
            self.block = Some(SeatBlock { until: now.after(PAUSE), why: SeatDenial::Full, of_whole: false });
        }
        self.give_back(back, counts, now);
        back
    }

    /// Passes the time; returns how many seats no lease has used for as long as they are kept.
    pub fn pass(&mut self, counts: LeaseCounts, now: Mono, linger: Duration) -> u32 {
        if self.claim.is_some_and(|claim| claim.until <= now) {
            self.denied(self.elsewhere, SeatDenial::Unavailable, now);
        }
        self.block = self.block.filter(|block| block.until > now);
        self.wanted = self.wanted.filter(|until| *until > now);
        let Some(idle) = self.idle.filter(|idle| idle.since.after(linger) <= now) else { return 0 };
        self.idle = None;
        let back = idle.least.min(self.spare(counts));
        self.give_back(back, counts, now);
        back
    }

    fn give_back(&mut self, seats: u32, counts: LeaseCounts, now: Mono) {
        let seats = seats.min(self.held);
        self.held -= seats;
        self.returned = self.returned.saturating_add(seats);
        if self.held == 0 {
            self.wanted = None;
        }
        self.note_use(counts, now);
    }
}

mod wants;

#[cfg(test)]
mod tests;
