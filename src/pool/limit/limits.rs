//! All limits of one account: at most one per scope and key. A limit ends by time, by evidence or by command, never by a
//! weaker statement (I7, I8).

mod duty;

use crate::limits::{LONGEST_BELIEVED, Reason, Scope};
use crate::pool::limit::phase::{ASK_AGAIN, PROBE_PATIENCE, PROBE_WITHIN, Phase, Probe, ProbeDuty};
use crate::pool::limit::{Limit, is_probed};
use crate::pool::model::{Deadline, Fence, LimitSource, Mono, Now, Quota, Wall};
use std::time::Duration;

/// Most limits of one account, so that one limit per model has a bound.
const MOST_LIMITS: usize = 256;
/// Holders that wait for the end of a long limit return at this distance.
const RETURN_STEP: Duration = Duration::from_millis(500);
/// Most holders that return at a distance.
const MOST_STEPS: u32 = 20;

#[derive(Debug, Default)]
pub struct AccountLimits(Vec<Limit>);

/// A limit that has ended, or has reached its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitEnd {
    pub scope: Scope,
    pub key: String,
    /// The store must delete it.
    pub is_deleted: bool,
    /// The account can serve the key again.
    pub is_recovered: bool,
}

/// What decides about a limit of an account when its time passes.
#[derive(Clone, Copy, Debug)]
pub struct LimitPassing {
    /// The account's capacity is small enough without a ramp.
    pub needs_no_ramp: bool,
    /// Whether the other hosts can be asked who probes; none if no other host uses the account.
    pub shared: Option<bool>,
}

/// What time has done to a limit.
#[derive(PartialEq)]
enum Passed {
    Nothing,
    /// A short limit is over.
    Over,
    /// A long limit admits a probe.
    HalfOpened,
    /// Who probes is asked again, or left to another host.
    DutyChanged,
    /// The probe made no report for so long that it counts as a success.
    ProbeSilent,
    Ramped,
}

impl LimitEnd {
    fn of(limit: &Limit, is_deleted: bool, is_recovered: bool) -> Self {
        Self { scope: limit.scope, key: limit.key.clone(), is_deleted, is_recovered }
    }
}

impl AccountLimits {
    pub fn as_slice(&self) -> &[Limit] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.0.iter()
    }

    /// Sets a limit, unless a stronger one of the same scope and key holds (I8). Returns it as it was set.
    pub fn set(&mut self, limit: Limit, now: Now, ends: &mut Vec<LimitEnd>) -> Option<Limit> {
        self.put(limit, now, Limit::yields_to, ends)
    }

    /// Sets a limit in place of that of the same scope and key, also of a stronger one: it is over, as other hosts know.
    pub fn replace(&mut self, limit: Limit, now: Now, ends: &mut Vec<LimitEnd>) -> Option<Limit> {
        self.put(limit, now, |_, _, _| true, ends)
    }

    fn put(
        &mut self,
        mut limit: Limit,
        now: Now,
        yields: impl FnOnce(&Limit, &Limit, Now) -> bool,
        ends: &mut Vec<LimitEnd>,
    ) -> Option<Limit> {
        let believed = now.mono.after(LONGEST_BELIEVED);
        if limit.until.passed(now) || limit.until.mono(now) > believed {
            return None;
        }
        if limit.since == Wall::default() {
            limit.since = now.wall;
        }
        limit.phase = Phase::CLOSED;
        // by what all hosts know of it: one that learns it later must not take it for a short one
        limit.probed = is_probed(limit.scope, limit.reason, limit.since.min(now.wall), limit.until.wall(now));
        match self.0.iter_mut().find(|old| old.is_of(limit.scope, &limit.key)) {
            Some(old) if !yields(old, &limit, now) => return None,
            Some(old) => {
                limit.phase = old.phase.of_replacement();
                *old = limit.clone();
            }
            None => {
                if self.0.len() >= MOST_LIMITS {
                    let soonest = (0..self.0.len()).min_by_key(|at| self.0[*at].until.mono(now));
                    let dropped = soonest.map(|at| self.0.swap_remove(at)).filter(Limit::is_kept);
                    ends.extend(dropped.map(|old| LimitEnd::of(&old, true, false)));
                }
                self.0.push(limit.clone());
            }
        }
        Some(limit)
    }

    pub fn restore(&mut self, limit: Limit, now: Now) {
        match self.0.iter_mut().find(|old| old.is_of(limit.scope, &limit.key)) {
            Some(old) if old.yields_to(&limit, now) => *old = limit,
            Some(_) => {}
            None => self.0.push(limit),
        }
    }

    /// Applies the passing of time. `alive` says whether a lease is still held.
    pub fn pass(&mut self, now: Now, how: LimitPassing, alive: impl Fn(Fence) -> bool) -> Vec<LimitEnd> {
        let mut ends = Vec::new();
        self.0.retain_mut(|limit| {
            let passed = pass(limit, now, how.shared, &alive);
            let is_deleted = matches!(passed, Passed::Over | Passed::ProbeSilent);
            let is_recovered = matches!(passed, Passed::Over | Passed::HalfOpened);
            if is_deleted || is_recovered {
                ends.push(LimitEnd::of(limit, is_deleted, is_recovered));
            }
            passed != Passed::Ramped && !(passed == Passed::Over && how.needs_no_ramp)
        });
        ends
    }

    /// Counts a request that a recovering limit admits: a half-open one takes it as its probe.
    pub fn admit(&mut self, quota: Quota<'_>, fence: Fence, now: Mono) {
        for limit in self.0.iter_mut().filter(|limit| limit.blocks(quota)) {
            match &mut limit.phase {
                Phase::HalfOpen { probe: probe @ None, .. } => *probe = Some(Probe { fence, since: now }),
                Phase::Ramp { admitted, .. } => *admitted = admitted.saturating_add(1),
                Phase::Closed { .. } | Phase::Awaiting { .. } | Phase::HalfOpen { .. } => {}
            }
        }
    }

    /// A lease has ended: if it was a probe, the next request may be one, by a duty that is not too old for another
    /// probe. Returns whether it was.
    pub fn release_probe(&mut self, fence: Fence, now: Mono) -> bool {
        let mut was_probe = false;
        for limit in &mut self.0 {
            match &mut limit.phase {
                Phase::HalfOpen { probe, duty_since } if probe.is_some_and(|probe| probe.fence == fence) => {
                    was_probe = true;
                    if duty_since.is_some_and(|since| since.after(PROBE_WITHIN) <= now) {
                        limit.phase = Phase::Awaiting { duty: ProbeDuty::Free, first_back: None };
                    } else {
                        *probe = None;
                    }
                }
                Phase::Closed { first_back, .. } | Phase::Awaiting { first_back, .. } if *first_back == Some(fence) => {
                    *first_back = None;
                }
                _ => {}
            }
        }
        was_probe
    }

    /// For a trial selection: as if this lease were no probe. Returns which limits it probes, for [`Self::set_probes`].
    pub fn take_probes(&mut self, fence: Fence) -> Vec<(usize, Probe)> {
        let probed = self.0.iter_mut().enumerate().filter(|(_, limit)| limit.probe() == Some(fence));
        let taken = probed.filter_map(|(at, limit)| match &mut limit.phase {
            Phase::HalfOpen { probe, .. } => Some((at, probe.take()?)),
            Phase::Closed { .. } | Phase::Awaiting { .. } | Phase::Ramp { .. } => None,
        });
        taken.collect()
    }

    pub fn set_probes(&mut self, probes: Vec<(usize, Probe)>) {
        for (at, taken) in probes {
            if let Phase::HalfOpen { probe, .. } = &mut self.0[at].phase {
                *probe = Some(taken);
            }
        }
    }

    /// A request on this quota succeeded: where requests return a few at a time, another one may take its place.
    pub fn widen_ramp(&mut self, quota: Quota<'_>) {
        for limit in self.0.iter_mut().filter(|limit| limit.blocks(quota)) {
            if let Phase::Ramp { admitted, .. } = &mut limit.phase {
                *admitted = admitted.saturating_sub(1);
            }
        }
    }

    /// A request of this lease succeeded: limits that it probed are over.
    pub fn probe_succeeded(&mut self, fence: Fence, now: Mono) -> Vec<LimitEnd> {
        let probed = self.0.iter_mut().filter(|limit| limit.probe() == Some(fence));
        let over = probed.map(|limit| {
            limit.phase = Phase::ramp(now);
            LimitEnd::of(limit, true, false)
        });
        over.collect()
    }

    /// A holder waits for the end of the limits of its quota. Returns how much later than that end it should return.
    pub fn wait_out(&mut self, quota: Quota<'_>, fence: Fence, now: Now) -> Duration {
        let mut later = Duration::ZERO;
        for limit in self.0.iter_mut().filter(|limit| limit.probed && limit.blocks(quota) && limit.holds(now)) {
            let Phase::Closed { first_back, told } = &mut limit.phase else { continue };
            match first_back {
                None => *first_back = Some(fence),
                Some(first) if *first == fence => {}
                Some(_) => {
                    *told = (*told + 1).min(MOST_STEPS);
                    later = later.max(RETURN_STEP * *told);
                }
            }
        }
        later
    }

    pub fn clear(&mut self) -> Vec<LimitEnd> {
        self.0.drain(..).map(|limit| LimitEnd::of(&limit, false, !limit.is_recovering())).collect()
    }

    /// Removes the limits by an exhausted quota that a usage reading disproves (I7).
    pub fn end_disproved(&mut self, disproves: impl Fn(&Limit) -> bool) -> Vec<LimitEnd> {
        let disproved = |limit: &mut Limit| limit.reason == Reason::QuotaExhausted && disproves(limit);
        let ended = self.0.extract_if(.., disproved);
        ended.map(|limit| LimitEnd::of(&limit, limit.is_kept(), !limit.is_recovering())).collect()
    }

    /// Removes the limits that a success or a new credential disproves.
    pub fn end_where(&mut self, is_over: impl Fn(&Limit) -> bool) -> Vec<LimitEnd> {
        let ended = self.0.extract_if(.., |limit| is_over(limit));
        ended.map(|limit| LimitEnd::of(&limit, limit.is_kept(), !limit.is_recovering())).collect()
    }

    /// Removes the guess that was made for one refusal, if it still stands.
    pub fn remove_guess(&mut self, scope: Scope, key: &str, reason: Reason) -> Option<LimitEnd> {
        let is_guess = |limit: &Limit| limit.reason == reason && limit.source == LimitSource::Table;
        let guess = |limit: &Limit| limit.is_of(scope, key) && is_guess(limit) && limit.is_kept();
        let at = self.0.iter().position(guess)?;
        Some(LimitEnd::of(&self.0.remove(at), true, true))
    }

    /// The clock was set by so many ms: other hosts compare when a limit was set with when one was cleared.
    pub fn follow_clock(&mut self, step: i64) {
        self.0.iter_mut().for_each(|limit| limit.since = Wall(limit.since.0.saturating_add_signed(step)));
    }

    /// When time changes any of them next, on each clock.
    pub fn next_change(&self, now: Mono) -> (Option<Mono>, Option<Wall>) {
        let changes = || self.0.iter().filter_map(|limit| limit.next_change(now));
        let mono = changes().filter_map(|at| if let Deadline::Mono(at) = at { Some(at) } else { None }).min();
        let wall = changes().filter_map(|at| if let Deadline::Wall(at) = at { Some(at) } else { None }).min();
        (mono, wall)
    }
}

fn pass(limit: &mut Limit, now: Now, shared: Option<bool>, alive: impl Fn(Fence) -> bool) -> Passed {
    match limit.phase {
        Phase::Closed { .. } if limit.until.passed(now) && !limit.probed => {
            limit.phase = Phase::ramp(now.mono);
            Passed::Over
        }
        Phase::Closed { first_back, .. } if limit.until.passed(now) => {
            let first_back = first_back.filter(|fence| alive(*fence));
            limit.phase = match shared {
                Some(is_reachable) => Phase::Awaiting { duty: ProbeDuty::new(is_reachable, first_back), first_back },
                None => {
                    let probe = first_back.map(|fence| Probe { fence, since: now.mono });
                    Phase::HalfOpen { probe, duty_since: None }
                }
            };
            Passed::HalfOpened
        }
        Phase::Awaiting { duty: ProbeDuty::Claiming { until }, first_back } if until <= now.mono => {
            let duty = ProbeDuty::Elsewhere { until: now.mono.after(ASK_AGAIN) };
            limit.phase = Phase::Awaiting { duty, first_back };
            Passed::DutyChanged
        }
        Phase::Awaiting { duty: ProbeDuty::Elsewhere { until }, first_back } if until <= now.mono => {
            let first_back = first_back.filter(|fence| alive(*fence));
            limit.phase = Phase::Awaiting { duty: ProbeDuty::new(true, first_back), first_back };
            Passed::DutyChanged
        }
        Phase::HalfOpen { probe: None, duty_since: Some(since) } if since.after(PROBE_WITHIN) <= now.mono => {
            limit.phase = Phase::Awaiting { duty: ProbeDuty::Free, first_back: None };
            Passed::DutyChanged
        }
        Phase::HalfOpen { probe: Some(probe), .. } if now.mono.since(probe.since) >= PROBE_PATIENCE => {
            limit.phase = Phase::ramp(now.mono);
            Passed::ProbeSilent
        }
        Phase::Ramp { since, .. } if Phase::ramp_end(since) <= now.mono => Passed::Ramped,
        _ => Passed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: LimitPassing = LimitPassing { needs_no_ramp: false, shared: None };
    const QUOTA: Quota<'static> = Quota { key: "k", model: None, billed: None };

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms), wall: Wall(1_000_000 + ms) }
    }

    fn limit(source: LimitSource, until: u64) -> Limit {
        Limit::new(Scope::Pool, "k", Reason::QuotaExhausted, Deadline::Mono(Mono(until)), source)
    }

    #[test]
    fn a_limit_that_replaces_another_need_not_be_stronger_and_keeps_who_probes_first() {
        let (mut limits, mut ends) = (AccountLimits::default(), Vec::new());
        limits.set(limit(LimitSource::Server, 600_000), at(0), &mut ends);
        limits.wait_out(QUOTA, Fence(1), at(0));
        assert!(limits.set(limit(LimitSource::Table, 60_000), at(1), &mut ends).is_none());
        assert!(limits.replace(limit(LimitSource::Table, 60_000), at(1), &mut ends).is_some());
        let [replaced] = limits.as_slice() else { panic!("{limits:?}") };
        assert_eq!((replaced.source, replaced.until), (LimitSource::Table, Deadline::Mono(Mono(60_000))));
        assert_eq!(replaced.phase, Phase::Closed { first_back: Some(Fence(1)), told: 0 });
        // one whose time is over replaces nothing
        assert!(limits.replace(limit(LimitSource::Server, 1), at(1), &mut ends).is_none());
        assert!(limits.as_slice().len() == 1 && ends.is_empty());
    }

    /// Which of two limits stands (I8): the earlier one, and its source and end.
    #[test]
    fn a_guess_never_replaces_a_server_s_word_and_the_longest_stated_wait_wins() {
        use LimitSource::{Report, Server, Table};
        for (old, new, stands) in [
            ((Server, 60), (Table, 600), (Server, 60)),
            ((Server, 60), (Table, 30), (Server, 60)),
            ((Report, 60), (Table, 600), (Report, 60)),
            ((Server, 60), (Server, 30), (Server, 60)),
            ((Server, 60), (Server, 90), (Server, 90)),
            ((Server, 60), (Report, 90), (Report, 90)),
            ((Report, 90), (Server, 60), (Report, 90)),
            ((Table, 600), (Server, 60), (Server, 60)),
            ((Table, 60), (Table, 90), (Table, 90)),
            ((Table, 60), (Table, 30), (Table, 60)),
        ] {
            let mut limits = AccountLimits::default();
            for (source, seconds) in [old, new] {
                limits.set(limit(source, seconds * 1_000), at(0), &mut Vec::new());
            }
            let [kept] = limits.as_slice() else { panic!("one key has one limit") };
            assert_eq!(kept.until, Deadline::Mono(Mono(stands.1 * 1_000)), "{old:?} then {new:?}");
            assert_eq!(kept.source, stands.0, "{old:?} then {new:?}");
        }
        let mut limits = AccountLimits::default();
        limits.set(limit(Server, 60_000), at(0), &mut Vec::new());
        assert!(limits.set(limit(Table, 90_000), at(60_000), &mut Vec::new()).is_some(), "the word no longer holds");
    }

    #[test]
    fn a_short_limit_ramps_and_a_long_one_admits_one_probe_first() {
        let mut limits = AccountLimits::default();
        limits.set(limit(LimitSource::Server, 10_000), at(0), &mut Vec::new());
        assert_eq!(limits.next_change(Mono(0)), (Some(Mono(10_000)), None));
        let ends = limits.pass(at(10_000), ALONE, |_| true);
        assert!(ends[0].is_deleted && ends[0].is_recovered);
        limits.admit(QUOTA, Fence(1), Mono(10_000));
        limits.admit(QUOTA, Fence(2), Mono(10_000));
        assert!(limits.as_slice()[0].holds(at(10_000)));
        assert!(limits.pass(at(18_000), ALONE, |_| true).is_empty() && limits.is_empty());

        limits.set(limit(LimitSource::Server, 400_000), at(0), &mut Vec::new());
        assert_eq!(limits.wait_out(QUOTA, Fence(3), at(0)), Duration::ZERO);
        assert_eq!(limits.wait_out(QUOTA, Fence(4), at(0)), RETURN_STEP);
        let ends = limits.pass(at(400_000), ALONE, |_| true);
        assert!(!ends[0].is_deleted && ends[0].is_recovered);
        assert_eq!(limits.as_slice()[0].probe(), Some(Fence(3)), "the first that waits is the probe");
        limits.release_probe(Fence(3), Mono(0));
        limits.admit(QUOTA, Fence(5), Mono(400_001));
        assert!(limits.probe_succeeded(Fence(4), Mono(400_002)).is_empty());
        assert_eq!(limits.probe_succeeded(Fence(5), Mono(400_002)).len(), 1);
        assert!(limits.as_slice()[0].is_recovering());
    }

    #[test]
    fn the_number_of_limits_is_bounded_and_the_one_that_ends_soonest_is_dropped() {
        let (mut limits, mut ends) = (AccountLimits::default(), Vec::new());
        for n in 0..=MOST_LIMITS as u64 {
            let limit = Limit { key: format!("k:{n}"), scope: Scope::Model, ..limit(LimitSource::Server, 9_000 + n) };
            limits.set(limit, at(0), &mut ends);
        }
        assert_eq!((limits.as_slice().len(), ends.len(), &*ends[0].key), (MOST_LIMITS, 1, "k:0"));
    }
}
