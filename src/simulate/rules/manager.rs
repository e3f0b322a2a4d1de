//! Antigravity-Manager 4.5.8 with its defaults (`Balance`, the breaker on, a refresh every 15 min): one gateway for all
//! agents, on its route for Claude.
//!
//! Kinder than the original: its window is open, so that quotas are refreshed; and what it does within two seconds of an
//! account's return works.

use crate::simulate::Load;
use crate::simulate::rng::Rng;
use crate::simulate::upstream::{MINUTE, Ms, QuotaKind, SECOND, SimulatedUpstream, UpstreamAnswer};
use crate::simulate::world::{AgentRequest, AgentStep, RoutingRules, Sent};
use rustc_hash::FxHashMap;

const SHORTEST_LOCK: Ms = 2 * SECOND;
/// Every lock is cut to this.
const LONGEST_LOCK: Ms = 300 * SECOND;
const LONGEST_SLEEP: Ms = 30 * SECOND;
/// A request with a shorter wait is retried on the same account.
const GRACE: Ms = 2 * SECOND;
/// New sessions follow the last choice for so long.
const WINDOW: Ms = MINUTE;
const REFRESH: Ms = 15 * MINUTE;
/// Two of the first so many are drawn.
const FIRST: usize = 5;

#[derive(Clone, Copy, Debug, Default)]
struct ManagerAttempt {
    number: usize,
    rotates: bool,
    over: bool,
}

#[derive(Debug)]
pub(crate) struct ManagerRules {
    /// Locks of the whole account.
    locked: Vec<Ms>,
    /// Locks of the model's family; a session that is bound does not look at them.
    family_locked: Vec<Ms>,
    bound: FxHashMap<u64, usize>,
    last: Option<(usize, Ms)>,
    /// What was left of each account's quota when it was last refreshed.
    left: Vec<f64>,
    refresh_at: Ms,
    attempts: Vec<ManagerAttempt>,
    most_attempts: usize,
    rng: Rng,
}

impl ManagerRules {
    pub(crate) fn new(load: &Load) -> Self {
        Self {
            locked: vec![0; load.accounts],
            family_locked: vec![0; load.accounts],
            bound: FxHashMap::default(),
            last: None,
            left: vec![1.0; load.accounts],
            refresh_at: 0,
            attempts: vec![ManagerAttempt::default(); load.agents],
            most_attempts: (load.accounts + 1).clamp(2, 3),
            rng: Rng::new(load.seed, 2_000_000),
        }
    }

    fn is_limited(&self, account: usize, now: Ms) -> bool {
        now < self.locked[account] || now < self.family_locked[account]
    }

    fn select(&mut self, now: Ms, request: AgentRequest) -> AgentStep {
        match self.choose(now, request) {
            Some(account) => AgentStep::Send(account),
            None => {
                let until = |account: usize| self.locked[account].max(self.family_locked[account]);
                let wait = (0..self.locked.len()).map(until).min().unwrap_or(now).saturating_sub(now);
                // whole seconds, cut
                if wait / SECOND <= 2 { AgentStep::Sleep(wait.max(1)) } else { AgentStep::GiveUp(Some(wait)) }
            }
        }
    }

    fn choose(&mut self, now: Ms, request: AgentRequest) -> Option<usize> {
        if self.attempts[request.agent].rotates {
            return self.draw(now);
        }
        if let Some(&account) = self.bound.get(&request.session) {
            if now >= self.locked[account] {
                return Some(account);
            }
            self.bound.remove(&request.session);
        }
        let last = self.last.filter(|(account, at)| now - at < WINDOW && !self.is_limited(*account, now));
        if let Some((account, _)) = last {
            return Some(account);
        }
        let account = self.draw(now)?;
        self.last = Some((account, now));
        self.bound.insert(request.session, account);
        Some(account)
    }

    /// The better of two of the first.
    fn draw(&mut self, now: Ms) -> Option<usize> {
        let mut open: Vec<usize> = (0..self.left.len()).filter(|account| !self.is_limited(*account, now)).collect();
        open.sort_by(|a, b| self.left[*b].total_cmp(&self.left[*a]));
        open.truncate(FIRST);
        let first = self.rng.below(open.len() as u64) as usize;
        let second = (first + 1 + self.rng.below(open.len().saturating_sub(1) as u64) as usize) % open.len().max(1);
        let (first, second) = (*open.get(first)?, *open.get(second)?);
        Some(if self.left[second] > self.left[first] { second } else { first })
    }

    fn refused(&mut self, now: Ms, request: AgentRequest, account: usize, meter: QuotaKind, wait: Ms) -> AgentStep {
        let until = now + wait.clamp(SHORTEST_LOCK, LONGEST_LOCK);
        match meter {
            QuotaKind::Minute => self.locked[account] = until,
            QuotaKind::FiveHours => self.family_locked[account] = until,
        }
        let attempt = &mut self.attempts[request.agent];
        attempt.number += 1;
        attempt.over = attempt.number >= self.most_attempts;
        attempt.rotates = wait > GRACE;
        AgentStep::Sleep(if wait <= GRACE { wait + 100 } else { (wait + 200).min(LONGEST_SLEEP) })
    }
}

impl RoutingRules for ManagerRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, _: &SimulatedUpstream) -> AgentStep {
        self.attempts[request.agent] = ManagerAttempt::default();
        self.select(now, request)
    }

    fn answered(&mut self, now: Ms, sent: Sent, _: &SimulatedUpstream) -> Option<AgentStep> {
        let Sent { request, account, answer } = sent;
        match answer {
            UpstreamAnswer::Served => None,
            UpstreamAnswer::Refused { meter, wait } => Some(self.refused(now, request, account, meter, wait)),
        }
    }

    fn resume(&mut self, now: Ms, request: AgentRequest, _: &SimulatedUpstream) -> AgentStep {
        // it sleeps after the last attempt as well
        if self.attempts[request.agent].over { AgentStep::GiveUp(None) } else { self.select(now, request) }
    }

    fn next_wakeup(&self, _: Ms, _: &SimulatedUpstream) -> Option<Ms> {
        Some(self.refresh_at)
    }

    fn wake(&mut self, now: Ms, upstream: &SimulatedUpstream) {
        if now < self.refresh_at {
            return;
        }
        self.refresh_at = now + REFRESH;
        self.left = (0..upstream.len()).map(|account| 1.0 - upstream.reading(account, now).five_hours).collect();
        // a refresh ends in a reload, and that forgets every lock
        self.locked.fill(0);
        self.family_locked.fill(0);
    }
}
