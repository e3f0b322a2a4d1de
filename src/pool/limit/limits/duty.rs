//! Which host probes: of an account that several hosts use, the limits whose time is over admit a probe only where its
//! duty is.

use super::AccountLimits;
use crate::limits::Scope;
use crate::pool::limit::limits::LimitEnd;
use crate::pool::limit::phase::{ASK_AGAIN, Phase, Probe, ProbeDuty};
use crate::pool::model::{Fence, Mono, Quota};
use std::time::Duration;

/// A claim of the duty without an answer has failed after this time; the shell answers much sooner.
const CLAIM_LASTS: Duration = Duration::from_secs(10);

impl ProbeDuty {
    /// That of a limit whose time is over, if the other hosts can be asked: a holder that waits for it needs it now.
    pub fn new(is_reachable: bool, first_back: Option<Fence>) -> Self {
        match (is_reachable, first_back) {
            (false, _) => Self::Unreachable,
            (true, None) => Self::Free,
            (true, Some(_)) => Self::Wanted,
        }
    }
}

/// Reading.
impl AccountLimits {
    /// Whether a request on this quota would be a probe for which this host has no duty.
    pub fn awaits_duty(&self, quota: Quota<'_>) -> bool {
        self.0.iter().any(|limit| limit.awaits_duty() && limit.blocks(quota))
    }

    /// Whether the duty is asked for now.
    pub fn is_claiming_duty(&self) -> bool {
        use ProbeDuty::{Claiming, Wanted};
        self.0.iter().any(|limit| matches!(limit.phase, Phase::Awaiting { duty: Wanted | Claiming { .. }, .. }))
    }

    /// Whether a limit relies on the duty of this host.
    pub fn uses_duty(&self) -> bool {
        self.0.iter().any(|limit| matches!(limit.phase, Phase::HalfOpen { duty_since: Some(_), .. }))
    }
}

impl AccountLimits {
    /// Whether each limit that is half open has the duty where other hosts use the account, and needs none elsewhere.
    pub fn fits_sharing(&self, is_shared: bool) -> bool {
        self.0.iter().all(|limit| match limit.phase {
            Phase::HalfOpen { duty_since, .. } => duty_since.is_some() == is_shared,
            Phase::Awaiting { .. } => is_shared,
            Phase::Closed { .. } | Phase::Ramp { .. } => true,
        })
    }
}

/// Changing.
impl AccountLimits {
    /// Other hosts use the account from now on, and can be asked or not.
    pub fn begin_sharing(&mut self, is_reachable: bool) {
        for limit in &mut self.0 {
            if let Phase::HalfOpen { probe, duty_since: None } = limit.phase {
                let first_back = probe.map(|probe| probe.fence);
                limit.phase = Phase::Awaiting { duty: ProbeDuty::new(is_reachable, first_back), first_back };
            }
        }
    }

    /// No other host uses the account any more.
    pub fn end_sharing(&mut self) {
        for limit in &mut self.0 {
            match &mut limit.phase {
                Phase::HalfOpen { duty_since, .. } => *duty_since = None,
                phase @ Phase::Awaiting { .. } => *phase = Phase::HALF_OPEN,
                Phase::Closed { .. } | Phase::Ramp { .. } => {}
            }
        }
    }

    /// The other hosts can be asked again, or not any more. With `has_term` the duty of this host goes on.
    pub fn set_reachable(&mut self, is_reachable: bool, has_term: bool, alive: impl Fn(Fence) -> bool) {
        for limit in &mut self.0 {
            let (duty, first_back) = match limit.phase {
                Phase::Awaiting { duty, first_back } => (Some(duty), first_back),
                Phase::HalfOpen { probe, duty_since: Some(_) } if !has_term => (None, probe.map(|probe| probe.fence)),
                Phase::Closed { .. } | Phase::HalfOpen { .. } | Phase::Ramp { .. } => continue,
            };
            let first_back = first_back.filter(|fence| alive(*fence));
            let duty = match duty {
                Some(duty) if is_reachable && duty != ProbeDuty::Unreachable => duty,
                _ => ProbeDuty::new(is_reachable, first_back),
            };
            limit.phase = Phase::Awaiting { duty, first_back };
        }
    }

    /// A request on this quota needs the duty.
    pub fn want_duty(&mut self, quota: Quota<'_>) {
        for limit in self.0.iter_mut().filter(|limit| limit.blocks(quota)) {
            if let Phase::Awaiting { duty: duty @ ProbeDuty::Free, .. } = &mut limit.phase {
                *duty = ProbeDuty::Wanted;
            }
        }
    }

    /// Begins to ask for the duty if a limit needs it; returns those that it is asked for.
    pub fn claim_duty(&mut self, now: Mono) -> Vec<(Scope, String)> {
        let is_claiming = |phase| matches!(phase, Phase::Awaiting { duty: ProbeDuty::Claiming { .. }, .. });
        let mut wanted = Vec::new();
        if self.0.iter().any(|limit| is_claiming(limit.phase)) {
            return wanted;
        }
        for limit in &mut self.0 {
            if let Phase::Awaiting { duty: duty @ ProbeDuty::Wanted, .. } = &mut limit.phase {
                *duty = ProbeDuty::Claiming { until: now.after(CLAIM_LASTS) };
                wanted.push((limit.scope, limit.key.clone()));
            }
        }
        wanted
    }

    /// This host has the duty. Returns whether a limit still needs it.
    pub fn duty_claimed(&mut self, now: Mono, alive: impl Fn(Fence) -> bool) -> bool {
        let mut is_needed = false;
        for limit in &mut self.0 {
            if let Phase::Awaiting { duty: ProbeDuty::Claiming { .. }, first_back } = limit.phase {
                let probe = first_back.filter(|fence| alive(*fence)).map(|fence| Probe { fence, since: now });
                limit.phase = Phase::HalfOpen { probe, duty_since: Some(now) };
                is_needed = true;
            }
        }
        is_needed
    }

    /// Another host has the duty.
    pub fn duty_denied(&mut self, now: Mono) {
        for limit in &mut self.0 {
            if let Phase::Awaiting { duty, .. } = &mut limit.phase
                && *duty != ProbeDuty::Unreachable
            {
                *duty = ProbeDuty::Elsewhere { until: now.after(ASK_AGAIN) };
            }
        }
    }

    /// Another host has found out that a limit is over. Where requests wait for that, they return on the ramp.
    pub fn end_elsewhere(&mut self, scope: Scope, key: &str, now: Mono) -> Vec<LimitEnd> {
        let Some(at) = self.0.iter().position(|limit| limit.is_of(scope, key)) else { return Vec::new() };
        match self.0[at].phase {
            Phase::Closed { .. } => {
                let limit = self.0.remove(at);
                vec![LimitEnd::of(&limit, true, true)]
            }
            Phase::Awaiting { .. } | Phase::HalfOpen { .. } => {
                self.0[at].phase = Phase::ramp(now);
                vec![LimitEnd::of(&self.0[at], true, false)]
            }
            Phase::Ramp { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Reason;
    use crate::pool::limit::Limit;
    use crate::pool::limit::limits::LimitPassing;
    use crate::pool::limit::phase::PROBE_WITHIN;
    use crate::pool::model::{Deadline, LimitSource, Now, Wall};

    const QUOTA: Quota<'static> = Quota { key: "k", model: None, billed: None };
    const END: u64 = 400_000;

    fn at(ms: u64) -> Now {
        Now { mono: Mono(ms), wall: Wall(1_000_000 + ms) }
    }

    fn shared(is_reachable: bool) -> LimitPassing {
        LimitPassing { needs_no_ramp: false, shared: Some(is_reachable) }
    }

    /// A long limit of a shared account whose time is over.
    fn over(first_back: Option<Fence>) -> AccountLimits {
        let mut limits = AccountLimits::default();
        let until = Deadline::Mono(Mono(END));
        let limit = Limit::new(Scope::Pool, "k", Reason::QuotaExhausted, until, LimitSource::Server);
        limits.set(limit, at(0), &mut Vec::new());
        if let Some(fence) = first_back {
            limits.wait_out(QUOTA, fence, at(0));
        }
        assert!(limits.pass(at(END), shared(true), |_| true)[0].is_recovered);
        limits
    }

    fn duty(limits: &AccountLimits) -> Option<ProbeDuty> {
        match limits.as_slice()[0].phase {
            Phase::Awaiting { duty, .. } => Some(duty),
            _ => None,
        }
    }

    #[test]
    fn a_shared_limit_admits_no_probe_before_the_duty_is_here() {
        let mut limits = over(None);
        assert!(limits.awaits_duty(QUOTA) && limits.claim_duty(Mono(END)).is_empty(), "no request needs it");
        limits.admit(QUOTA, Fence(1), Mono(END));
        assert_eq!(limits.as_slice()[0].probe(), None);
        limits.want_duty(QUOTA);
        assert_eq!(limits.claim_duty(Mono(END)), [(Scope::Pool, "k".to_owned())]);
        assert!(limits.claim_duty(Mono(END)).is_empty() && limits.is_claiming_duty(), "one claim at a time");
        assert!(limits.duty_claimed(Mono(END), |_| true) && limits.uses_duty());
        assert!(!limits.awaits_duty(QUOTA) && !limits.duty_claimed(Mono(END), |_| true), "nothing waits for it");
        limits.admit(QUOTA, Fence(2), Mono(END));
        assert_eq!(limits.as_slice()[0].probe(), Some(Fence(2)));
        limits.probe_succeeded(Fence(2), Mono(END));
        assert!(!limits.uses_duty());
    }

    #[test]
    fn a_holder_that_waited_for_the_end_is_the_probe_if_it_still_lives() {
        for (alive, probe) in [(true, Some(Fence(7))), (false, None)] {
            let mut limits = over(Some(Fence(7)));
            assert_eq!(limits.claim_duty(Mono(END)).len(), 1, "it needs the duty");
            limits.duty_claimed(Mono(END), |_| alive);
            assert_eq!(limits.as_slice()[0].probe(), probe);
        }
    }

    #[test]
    fn a_duty_that_is_not_used_in_time_is_left_and_one_that_was_denied_is_asked_for_again() {
        let within = u64::try_from(PROBE_WITHIN.as_millis()).unwrap();
        let mut limits = over(None);
        limits.want_duty(QUOTA);
        limits.claim_duty(Mono(END));
        limits.duty_claimed(Mono(END), |_| true);
        assert_eq!(limits.next_change(Mono(END)).0, Some(Mono(END + within)));
        limits.pass(at(END + within), shared(true), |_| true);
        assert!(!limits.uses_duty() && duty(&limits) == Some(ProbeDuty::Free));
        limits.want_duty(QUOTA);
        limits.claim_duty(Mono(0));
        limits.duty_denied(Mono(END));
        assert!(limits.as_slice()[0].holds(at(END)));
        let again = limits.next_change(Mono(END)).0.unwrap();
        limits.pass(at(again.0), shared(true), |_| true);
        assert_eq!(duty(&limits), Some(ProbeDuty::Free));
        // a claim that is never answered
        limits.want_duty(QUOTA);
        limits.claim_duty(again);
        limits.pass(at(again.0 + 10_000), shared(true), |_| true);
        assert!(matches!(duty(&limits), Some(ProbeDuty::Elsewhere { .. })));
    }

    #[test]
    fn a_probe_that_ends_without_an_outcome_is_followed_by_another_one_only_while_the_duty_is_new() {
        let within = u64::try_from(PROBE_WITHIN.as_millis()).unwrap();
        for (after, is_kept) in [(within - 1, true), (within, false)] {
            let mut limits = over(Some(Fence(1)));
            limits.claim_duty(Mono(END));
            limits.duty_claimed(Mono(END), |_| true);
            assert!(limits.release_probe(Fence(1), Mono(END + after)));
            assert_eq!(limits.uses_duty(), is_kept);
            assert_eq!(limits.awaits_duty(QUOTA), !is_kept);
        }
    }

    #[test]
    fn what_happens_to_each_phase_when_the_database_or_the_term_goes_and_comes_back() {
        let mut limits = over(None);
        limits.want_duty(QUOTA);
        limits.claim_duty(Mono(END));
        limits.set_reachable(false, true, |_| true);
        assert!(limits.as_slice()[0].holds(at(END)) && duty(&limits) == Some(ProbeDuty::Unreachable));
        limits.want_duty(QUOTA);
        assert!(limits.claim_duty(Mono(END)).is_empty(), "it cannot be asked");
        limits.set_reachable(true, true, |_| true);
        limits.want_duty(QUOTA);
        limits.claim_duty(Mono(END));
        limits.duty_claimed(Mono(END), |_| true);
        limits.set_reachable(false, true, |_| true);
        assert!(limits.uses_duty(), "the database has it yet");
        limits.set_reachable(true, false, |_| true);
        assert!(!limits.uses_duty() && duty(&limits) == Some(ProbeDuty::Free), "with the term the duty is lost");
        limits.end_sharing();
        assert!(limits.as_slice()[0].admits(at(END)) == 1 && !limits.awaits_duty(QUOTA));
        limits.begin_sharing(true);
        assert!(limits.awaits_duty(QUOTA));
    }

    #[test]
    fn what_another_host_has_found_out_ends_a_limit_and_waiting_requests_return_on_the_ramp() {
        let mut limits = over(None);
        let [end] = &limits.end_elsewhere(Scope::Pool, "k", Mono(END))[..] else { panic!() };
        assert!(end.is_deleted && !end.is_recovered, "it was said to have recovered when its time was over");
        limits.admit(QUOTA, Fence(1), Mono(END));
        assert!(limits.as_slice()[0].holds(at(END)));
        assert!(limits.end_elsewhere(Scope::Pool, "k", Mono(END)).is_empty());
        let mut closed = AccountLimits::default();
        let until = Deadline::Mono(Mono(END));
        let limit = Limit::new(Scope::Pool, "k", Reason::QuotaExhausted, until, LimitSource::Server);
        closed.set(limit, at(0), &mut Vec::new());
        assert!(closed.end_elsewhere(Scope::Pool, "k", Mono(1))[0].is_recovered && closed.is_empty());
    }
}
