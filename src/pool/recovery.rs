//! How a limit ends: a long one lets a probe go first; then, as after a short one, more and more may.

use std::time::Duration;

use super::Pool;
use super::command::{Effect, Event};
use super::hot::most_of;
use super::id::Fence;
use super::lease::Lease;
use super::limit::Limit;
use super::time::{Deadline, Mono, Now, millis};

/// A limit of at least this span lets a probe go first: shorter ones cost less than waiting for its answer.
pub(super) const LONG: Duration = Duration::from_secs(300);
/// A probe that says nothing for so long has come through: its holder may be one that never reports.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many may go to a freshly recovered account at once; twice as many with every second, one by one within it: what
/// is left of its quota may be little, and all that is under way when the first is refused will be.
const RAMP: u32 = 2;
/// A step of the ramp, in milliseconds.
const RAMP_STEP: u64 = 1_000;
/// Steps of the ramp; after them everybody may.
const RAMP_STEPS: u32 = 4;
/// Holders that wait out a long limit on their account come back one after the other.
const APART: Duration = Duration::from_millis(500);
/// Most of them that are told apart.
const MOST_APART: u32 = 20;

/// Where a limit is between its beginning and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nobody is let through before its time.
    Closed {
        /// The first holder that waits it out on its account: it will be the probe.
        first_back: Option<Fence>,
        /// How many were told to wait after it.
        told: u32,
    },
    /// Its time is over, and one goes first.
    HalfOpen(Option<Probe>),
    /// Its time is over, and the probe came through where there was one.
    Ramp {
        since: Mono,
        /// How many were let in since.
        let_in: u32,
    },
}

/// Who goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Probe {
    pub(super) fence: Fence,
    pub(super) since: Mono,
}

impl Phase {
    pub(super) const CLOSED: Self = Self::Closed { first_back: None, told: 0 };

    /// How many may have been let in by now.
    fn allowed(since: Mono, now: Mono) -> u32 {
        let (steps, ms) = (millis(now.since(since)) / RAMP_STEP, millis(now.since(since)) % RAMP_STEP);
        if steps >= u64::from(RAMP_STEPS) {
            return RAMP << RAMP_STEPS;
        }
        let begun = u64::from(RAMP) << steps;
        // at most twice the last step's: far from the end of the type
        (begun + begun * ms / RAMP_STEP) as u32
    }

    /// When the next may be let in after `let_in` were.
    fn next_in(since: Mono, let_in: u32) -> Mono {
        let wanted = u64::from(let_in) + 1;
        let step = (0..RAMP_STEPS).find(|step| wanted <= u64::from(RAMP) << (step + 1));
        let ms = match step {
            _ if wanted <= u64::from(RAMP) => 0,
            Some(step) => {
                let begun = u64::from(RAMP) << step;
                u64::from(step) * RAMP_STEP + ((wanted - begun) * RAMP_STEP).div_ceil(begun)
            }
            None => u64::from(RAMP_STEPS) * RAMP_STEP,
        };
        since.after(Duration::from_millis(ms))
    }

    /// When the ramp is over.
    fn ramp_end(since: Mono) -> Mono {
        since.after(Duration::from_millis(RAMP_STEP * u64::from(RAMP_STEPS)))
    }
}

impl Limit {
    /// Whether it is in force.
    #[must_use]
    pub fn holds(&self, now: Now) -> bool {
        match self.phase {
            Phase::Closed { .. } => !self.until.passed(now),
            Phase::HalfOpen(probe) => probe.is_some(),
            Phase::Ramp { since, let_in } => let_in >= Phase::allowed(since, now.mono),
        }
    }

    /// How many it lets through now.
    pub(super) fn admits(&self, now: Now) -> u32 {
        match self.phase {
            Phase::Closed { .. } if self.until.passed(now) && self.long => 1,
            Phase::Closed { .. } if self.until.passed(now) => RAMP,
            Phase::Closed { .. } => 0,
            Phase::HalfOpen(probe) => u32::from(probe.is_none()),
            Phase::Ramp { since, let_in } => Phase::allowed(since, now.mono).saturating_sub(let_in),
        }
    }

    /// When it lets somebody through, where that is known: not while a probe is out.
    #[must_use]
    pub fn opens_at(&self) -> Option<Deadline> {
        match self.phase {
            Phase::Closed { .. } => Some(self.until),
            Phase::HalfOpen(_) => None,
            Phase::Ramp { since, let_in } => Some(Deadline::Mono(Phase::next_in(since, let_in))),
        }
    }

    /// The lease that probes whether it is over.
    #[must_use]
    pub fn probe(&self) -> Option<Fence> {
        match self.phase {
            Phase::HalfOpen(probe) => probe.map(|probe| probe.fence),
            Phase::Closed { .. } | Phase::Ramp { .. } => None,
        }
    }

    /// Whether nobody is let through yet.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. })
    }

    /// Whether its time is over: what is left of it only keeps the herd back.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        !matches!(self.phase, Phase::Closed { .. })
    }

    /// The phase of a limit that takes its place: whoever waits still comes back first.
    pub(super) fn phase_of_longer(&self) -> Phase {
        match self.phase {
            closed @ Phase::Closed { .. } => closed,
            Phase::HalfOpen(_) | Phase::Ramp { .. } => Phase::CLOSED,
        }
    }

    /// Whether it is to be kept: one that ramps has ended.
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self.phase, Phase::Ramp { .. })
    }

    /// When time changes it next.
    pub(super) fn next_change(&self, now: Mono) -> Option<Deadline> {
        match self.phase {
            Phase::Closed { .. } => Some(self.until),
            Phase::HalfOpen(probe) => probe.map(|probe| Deadline::Mono(probe.since.after(PATIENCE))),
            Phase::Ramp { since, let_in } => {
                let next = Some(Phase::next_in(since, let_in)).filter(|at| *at > now);
                Some(Deadline::Mono(next.unwrap_or(Phase::ramp_end(since))))
            }
        }
    }

    /// Lets time change it; answers whether it has ended for the store, and whether it is to be taken off.
    fn pass(&mut self, now: Now, alive: impl Fn(Fence) -> bool) -> Passed {
        match self.phase {
            Phase::Closed { first_back, .. } if self.until.passed(now) => {
                if !self.long {
                    self.phase = Phase::Ramp { since: now.mono, let_in: 0 };
                    return Passed::Over;
                }
                let fence = first_back.filter(|fence| alive(*fence));
                self.phase = Phase::HalfOpen(fence.map(|fence| Probe { fence, since: now.mono }));
                Passed::HalfOpened
            }
            Phase::HalfOpen(Some(probe)) if now.mono.since(probe.since) >= PATIENCE => {
                self.phase = Phase::Ramp { since: now.mono, let_in: 0 };
                Passed::CameThrough
            }
            Phase::Ramp { since, .. } if Phase::ramp_end(since) <= now.mono => Passed::Ramped,
            _ => Passed::Nothing,
        }
    }
}

/// What time has done to a limit.
#[derive(PartialEq)]
enum Passed {
    Nothing,
    Over,
    HalfOpened,
    CameThrough,
    Ramped,
}

impl Pool {
    /// Does to the limits what time does.
    pub(super) fn end_limits(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (leases, settings) = (&self.leases, &self.settings.leases);
        for account in &mut self.accounts {
            let id = account.record.id;
            // so few keep the herd back by themselves
            let is_narrow = most_of(settings, account.policy.capacity) <= RAMP;
            account.limits.retain_mut(|limit| {
                let passed = limit.pass(now, |fence| leases.contains_key(&fence));
                if matches!(passed, Passed::Over | Passed::CameThrough) {
                    effects.push(Effect::DropLimit(id, Some((limit.scope, limit.key.clone()))));
                }
                if matches!(passed, Passed::Over | Passed::HalfOpened) {
                    effects.push(Effect::Emit(Event::Recovered(id, limit.key.clone())));
                }
                passed != Passed::Ramped && !(passed == Passed::Over && is_narrow)
            });
        }
        self.refresh_all();
        self.find_next_limit_end(now);
        self.stirred.all = true;
    }

    /// A lease was granted: where a limit is half-open for it, it is the probe.
    pub(super) fn let_through(&mut self, now: Now, slot: usize, fence: Fence) {
        if self.likes[slot].unlimited() {
            return;
        }
        let Some(lease) = self.leases.get(&fence).cloned() else { return };
        self.let_lease_through(now, slot, &lease);
    }

    /// The same for a request that uses a lease in its own way.
    pub(super) fn let_lease_through(&mut self, now: Now, slot: usize, lease: &Lease) {
        let fence = lease.fence;
        let mut changed = false;
        for limit in &mut self.accounts[slot].limits {
            if !limit.blocks(lease.target.quota()) {
                continue;
            }
            match &mut limit.phase {
                Phase::HalfOpen(probe @ None) => *probe = Some(Probe { fence, since: now.mono }),
                Phase::Ramp { let_in, .. } => *let_in = let_in.saturating_add(1),
                Phase::Closed { .. } | Phase::HalfOpen(Some(_)) => continue,
            }
            changed = true;
        }
        if changed {
            self.find_next_limit_end(now);
        }
    }

    /// A lease has ended: if it was a probe, the next may go.
    pub(super) fn pass_probe_on(&mut self, now: Now, slot: usize, fence: Fence) {
        if self.likes[slot].unlimited() {
            return;
        }
        let mut changed = false;
        for limit in &mut self.accounts[slot].limits {
            match &mut limit.phase {
                Phase::HalfOpen(probe) if probe.is_some_and(|probe| probe.fence == fence) => {
                    *probe = None;
                    changed = true;
                }
                Phase::Closed { first_back, .. } if *first_back == Some(fence) => *first_back = None,
                _ => {}
            }
        }
        if changed {
            self.find_next_limit_end(now);
        }
    }

    /// A holder had success: where it was the probe, the limit is over.
    pub(super) fn probe_came_through(&mut self, now: Now, slot: usize, fence: Fence, effects: &mut Vec<Effect>) {
        let account = &mut self.accounts[slot];
        let id = account.record.id;
        let mut changed = false;
        for limit in account.limits.iter_mut().filter(|limit| limit.probe() == Some(fence)) {
            limit.phase = Phase::Ramp { since: now.mono, let_in: 0 };
            effects.push(Effect::DropLimit(id, Some((limit.scope, limit.key.clone()))));
            changed = true;
        }
        if changed {
            self.find_next_limit_end(now);
            self.stirred.all = true;
        }
    }

    /// A holder waits out its account's limits; answers how much later than their end it should come.
    pub(super) fn will_be_back(&mut self, now: Now, slot: usize, fence: Fence) -> Duration {
        let Some(lease) = self.leases.get(&fence) else { return Duration::ZERO };
        let mut later = Duration::ZERO;
        for limit in &mut self.accounts[slot].limits {
            if !limit.long || !limit.blocks(lease.target.quota()) || !limit.holds(now) {
                continue;
            }
            if let Phase::Closed { first_back, told } = &mut limit.phase {
                match first_back {
                    None => *first_back = Some(fence),
                    Some(first) if *first == fence => {}
                    Some(_) => {
                        *told = (*told + 1).min(MOST_APART);
                        later = later.max(APART * *told);
                    }
                }
            }
        }
        later
    }
}
