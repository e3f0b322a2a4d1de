//! Limits as the reference knows them: closed until a time; a long one then lets a probe go first, then more and more.

use std::time::Duration;

use lessor::limits::Scope;
use lessor::pool::{Deadline, Fence, Limit, LimitSource, Mono, Now, Target};

const LONG: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);
/// After so many milliseconds the one after `let_in` others may go: one at once, in the step that follows one, then two,
/// four, eight, evenly.
fn ramp(let_in: u32) -> u64 {
    let in_step = |step: u64| (1..=1_u64 << step).map(move |n| step * STEP + (n * STEP).div_ceil(1 << step));
    std::iter::once(0).chain((0..4).flat_map(in_step)).nth(let_in as usize).unwrap_or(RAMP_END)
}
const STEP: u64 = 2_000;
const RAMP_END: u64 = 4 * STEP;

#[derive(Clone, PartialEq, Debug)]
pub struct MLimit {
    pub scope: Scope,
    pub key: String,
    pub until: Deadline,
    pub stated: bool,
    pub long: bool,
    pub phase: Phase,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Phase {
    Closed { first_back: Option<Fence> },
    Probing(Option<(Fence, Mono)>),
    Ramp(Mono, u32),
}

impl MLimit {
    pub fn filed(limit: &Limit, now: Now, before: Option<&Self>) -> Self {
        let first_back = match before.map(|old| &old.phase) {
            Some(Phase::Closed { first_back }) => *first_back,
            _ => None,
        };
        Self {
            scope: limit.scope,
            key: limit.key.clone(),
            until: limit.until,
            stated: limit.source != LimitSource::Table,
            long: limit.until.mono(now).since(now.mono) >= LONG || limit.is_denial(),
            phase: Phase::Closed { first_back },
        }
    }

    /// What is left of it after a restart.
    pub fn kept(limit: &Limit, now: Now) -> Self {
        let phase = if limit.is_recovering() { Phase::Probing(None) } else { Phase::Closed { first_back: None } };
        let span = limit.until.wall(now).since(limit.since);
        let stated = limit.source != LimitSource::Table;
        Self {
            scope: limit.scope,
            key: limit.key.clone(),
            until: limit.until,
            stated,
            long: span >= LONG || limit.is_denial(),
            phase,
        }
    }

    pub fn blocks(&self, target: &Target) -> bool {
        match self.scope {
            Scope::Account => true,
            Scope::Pool => self.key == *target.key,
            Scope::Model => target.model.as_ref().is_some_and(|m| self.key == format!("{}:{m}", target.key)),
            _ => false,
        }
    }

    /// Whether it blocks every request, and when it admits the next, where that is known.
    pub fn shut(&self, now: Now) -> (bool, Option<Mono>) {
        match self.phase {
            Phase::Closed { .. } => (!self.until.passed(now), Some(self.until.mono(now))),
            Phase::Probing(probe) => (probe.is_some(), None),
            Phase::Ramp(since, let_in) => {
                let opens = since.after(Duration::from_millis(ramp(let_in)));
                (now.mono < opens, Some(opens))
            }
        }
    }

    /// Lets time pass; answers whether anything is left of it. `most` leases can be on its account.
    pub fn pass(&mut self, now: Now, most: usize, alive: impl Fn(Fence) -> bool) -> bool {
        match self.phase {
            Phase::Closed { .. } if self.until.passed(now) && !self.long => {
                self.phase = Phase::Ramp(now.mono, 0);
                most > 1
            }
            Phase::Closed { first_back } if self.until.passed(now) => {
                self.phase = Phase::Probing(first_back.filter(|fence| alive(*fence)).map(|fence| (fence, now.mono)));
                true
            }
            Phase::Probing(Some((fence, _))) if !alive(fence) => {
                self.phase = Phase::Probing(None);
                true
            }
            Phase::Probing(Some((_, since))) if now.mono.since(since) >= PATIENCE => {
                self.phase = Phase::Ramp(now.mono, 0);
                true
            }
            Phase::Ramp(since, _) => now.mono.since(since) < Duration::from_millis(RAMP_END),
            _ => true,
        }
    }

    pub fn next_change(&self, now: Now) -> Option<Mono> {
        match self.phase {
            Phase::Closed { .. } => Some(self.until.mono(now)),
            Phase::Probing(probe) => probe.map(|(_, since)| since.after(PATIENCE)),
            Phase::Ramp(since, let_in) => {
                let times = [ramp(let_in), RAMP_END].map(|ms| since.after(Duration::from_millis(ms)));
                times.into_iter().find(|at| *at > now.mono)
            }
        }
    }

    /// A lease was granted through it.
    pub fn let_through(&mut self, fence: Fence, now: Mono) {
        match &mut self.phase {
            Phase::Probing(probe @ None) => *probe = Some((fence, now)),
            Phase::Ramp(_, let_in) => *let_in += 1,
            _ => {}
        }
    }

    pub fn ended(&mut self, fence: Fence) {
        match &mut self.phase {
            Phase::Probing(probe) if probe.is_some_and(|(probe, _)| probe == fence) => *probe = None,
            Phase::Closed { first_back } if *first_back == Some(fence) => *first_back = None,
            _ => {}
        }
    }
}
