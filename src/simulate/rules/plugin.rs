//! opencode-antigravity-auth 1.6.0 with its defaults (`hybrid`, `cache_first`, soft threshold 90 %): every agent is a
//! process that learns limits for itself, and shares a file with the others that it reads when it starts, once a task.
//!
//! Kinder than the original: the file is written at once and never lost, tokens never expire, and no request fails for
//! other reasons.

use crate::simulate::Load;
use crate::simulate::upstream::{HOUR, MINUTE, Ms, QuotaKind, SECOND, SimulatedUpstream, UpstreamAnswer};
use crate::simulate::world::{AgentRequest, AgentStep, RoutingRules, Sent};

const FIRST_RETRY: Ms = SECOND;
const SWITCH: Ms = 5 * SECOND;
const MAX_CACHE_FIRST_WAIT: Ms = MINUTE;
const MAX_RATE_LIMIT_WAIT: Ms = 300 * SECOND;
const SHORTEST_LOCK: Ms = 2 * SECOND;
const DEDUP: Ms = 2 * SECOND;
const RESET_AFTER: Ms = 2 * MINUTE;
const LONGEST_RETRY: Ms = MINUTE;
const SOFT_THRESHOLD: f64 = 0.9;
const QUOTA_INTERVAL: Ms = 15 * MINUTE;
const QUOTA_TTL: Ms = 30 * MINUTE;
const STICKINESS: f64 = 150.0;
const MIN_USABLE: f64 = 50.0;
const MAX_TOKENS: f64 = 50.0;
const TOKENS_PER_MINUTE: f64 = 6.0;

#[derive(Clone, Debug, Default)]
struct PluginAccount {
    limited_until: Ms,
    last_used: Ms,
    quota: Option<UsagePage>,
    health: f64,
    health_at: Ms,
    tokens: f64,
    tokens_at: Ms,
    /// 429 answers in a row, and when the last one was counted.
    attempts: u32,
    counted_at: Ms,
}

#[derive(Clone, Copy, Debug)]
struct UsagePage {
    used: f64,
    resets_at: Ms,
    at: Ms,
}

impl PluginAccount {
    fn new(now: Ms) -> Self {
        Self { health: 70.0, health_at: now, tokens: MAX_TOKENS, tokens_at: now, ..Self::default() }
    }

    fn health(&self, now: Ms) -> f64 {
        let regained = (now - self.health_at) * 2 / HOUR;
        (self.health + regained as f64).min(100.0)
    }

    fn add_health(&mut self, now: Ms, points: f64) {
        (self.health, self.health_at) = ((self.health(now) + points).clamp(0.0, 100.0), now);
    }

    fn tokens(&self, now: Ms) -> f64 {
        let refilled = (now - self.tokens_at) as f64 / MINUTE as f64 * TOKENS_PER_MINUTE;
        (self.tokens + refilled).min(MAX_TOKENS)
    }

    fn add_token(&mut self, now: Ms, tokens: f64) {
        (self.tokens, self.tokens_at) = ((self.tokens(now) + tokens).clamp(0.0, MAX_TOKENS), now);
    }

    fn is_limited(&self, now: Ms) -> bool {
        now < self.limited_until
    }

    /// Over the soft threshold, as far as a page that is not too old says.
    fn is_soft_blocked(&self, now: Ms) -> bool {
        self.quota.is_some_and(|quota| now - quota.at <= QUOTA_TTL && quota.used >= SOFT_THRESHOLD)
    }

    fn score(&self, now: Ms) -> f64 {
        let idle = (now - self.last_used) as f64 / SECOND as f64;
        2.0 * self.health(now) + 500.0 * self.tokens(now) / MAX_TOKENS + 0.1 * idle.min(3600.0)
    }
}

#[derive(Clone, Debug)]
struct PluginProcess {
    session: u64,
    accounts: Vec<PluginAccount>,
    current: usize,
    cursor: usize,
    /// What it does when its sleep is over.
    then: AfterSleep,
}

#[derive(Clone, Copy, Debug)]
enum AfterSleep {
    Select,
    Send(usize),
    /// Passes the refusal on to its caller, with its time.
    GiveUp(Ms),
}

#[derive(Debug)]
pub(crate) struct PluginRules {
    processes: Vec<Option<PluginProcess>>,
    /// The file: limits, last uses and pages of all accounts, and the current one.
    file: Vec<PluginAccount>,
    active: usize,
}

impl PluginRules {
    pub(crate) fn new(load: &Load) -> Self {
        Self { processes: vec![None; load.agents], file: vec![PluginAccount::new(0); load.accounts], active: 0 }
    }

    /// The process of this task; a new one reads the file.
    fn process(&mut self, now: Ms, request: AgentRequest) -> &mut PluginProcess {
        let (file, active) = (&self.file, self.active);
        let fresh = || {
            let read = |known: &PluginAccount| PluginAccount {
                limited_until: known.limited_until,
                last_used: known.last_used,
                quota: known.quota,
                ..PluginAccount::new(now)
            };
            let accounts = file.iter().map(read).collect();
            let (session, then) = (request.session, AfterSleep::Select);
            PluginProcess { session, accounts, current: active, cursor: active, then }
        };
        let slot = &mut self.processes[request.agent];
        slot.take_if(|process| process.session != request.session);
        slot.get_or_insert_with(fresh)
    }

    /// Writes what the process knows: the later limit and use, and its current account.
    fn save(&mut self, agent: usize) {
        let Some(process) = &self.processes[agent] else { return };
        for (kept, known) in self.file.iter_mut().zip(&process.accounts) {
            kept.limited_until = kept.limited_until.max(known.limited_until);
            kept.last_used = kept.last_used.max(known.last_used);
            if known.quota.is_some_and(|new| kept.quota.is_none_or(|old| old.at < new.at)) {
                kept.quota = known.quota;
            }
        }
        self.active = process.current;
    }

    fn select(&mut self, now: Ms, request: AgentRequest) -> AgentStep {
        let step = self.process(now, request).select(now);
        self.save(request.agent);
        step
    }
}

impl PluginProcess {
    fn select(&mut self, now: Ms) -> AgentStep {
        match self.hybrid(now).or_else(|| self.sticky(now)) {
            Some(account) => self.send(now, account),
            None => self.none_free(now),
        }
    }

    fn send(&mut self, now: Ms, account: usize) -> AgentStep {
        self.current = account;
        let known = &mut self.accounts[account];
        known.last_used = now;
        known.add_token(now, -1.0);
        AgentStep::Send(account)
    }

    fn is_open(&self, now: Ms, account: usize) -> bool {
        let known = &self.accounts[account];
        !known.is_limited(now) && !known.is_soft_blocked(now)
    }

    fn hybrid(&self, now: Ms) -> Option<usize> {
        let usable = |account: &usize| {
            let known = &self.accounts[*account];
            self.is_open(now, *account) && known.health(now) >= MIN_USABLE && known.tokens(now) >= 1.0
        };
        let rank = |account: usize| {
            let bonus = if account == self.current { STICKINESS } else { 0.0 };
            self.accounts[account].score(now) + bonus
        };
        // of equals the first
        (0..self.accounts.len()).rev().filter(usable).max_by(|a, b| rank(*a).total_cmp(&rank(*b)))
    }

    fn sticky(&mut self, now: Ms) -> Option<usize> {
        if self.is_open(now, self.current) {
            return Some(self.current);
        }
        let open: Vec<usize> = (0..self.accounts.len()).filter(|account| self.is_open(now, *account)).collect();
        let next = open.get(self.cursor.checked_rem(open.len())?).copied();
        self.cursor += 1;
        next
    }

    /// Sleeps until the first account is free, if that is soon enough; else returns an error.
    fn none_free(&mut self, now: Ms) -> AgentStep {
        self.then = AfterSleep::Select;
        if self.accounts.iter().all(|known| known.is_soft_blocked(now)) {
            let resets = self.accounts.iter().filter_map(|known| known.quota).map(|quota| quota.resets_at);
            return match resets.min().filter(|at| *at > now).map(|at| at - now) {
                Some(wait) if wait <= MAX_RATE_LIMIT_WAIT => AgentStep::Sleep(wait),
                wait => AgentStep::GiveUp(wait),
            };
        }
        let left = self.accounts.iter().map(|known| known.limited_until.saturating_sub(now)).min();
        match left.filter(|left| *left > 0).unwrap_or(MINUTE) {
            wait if wait > MAX_RATE_LIMIT_WAIT => AgentStep::GiveUp(Some(wait)),
            wait => AgentStep::Sleep(wait),
        }
    }

    fn refused(&mut self, now: Ms, account: usize, meter: QuotaKind, wait: Ms) -> AgentStep {
        let several = self.accounts.len() > 1;
        let known = &mut self.accounts[account];
        let since = now - known.counted_at;
        if known.attempts == 0 || since >= DEDUP {
            known.attempts = if since < RESET_AFTER { known.attempts + 1 } else { 1 };
            known.counted_at = now;
        }
        known.add_health(now, -10.0);
        known.add_token(now, 1.0);
        if known.attempts == 1 && meter == QuotaKind::Minute {
            known.limited_until = now + FIRST_RETRY + wait.max(SHORTEST_LOCK);
            if wait <= MAX_CACHE_FIRST_WAIT {
                self.then = AfterSleep::Send(account);
                return AgentStep::Sleep(FIRST_RETRY + wait);
            }
            self.then = AfterSleep::Select;
            return AgentStep::Sleep(FIRST_RETRY);
        }
        known.limited_until = now + wait.max(SHORTEST_LOCK);
        if several {
            self.then = AfterSleep::Select;
            return AgentStep::Sleep(SWITCH);
        }
        let retry = (SECOND << (known.attempts - 1).min(6)).min(LONGEST_RETRY);
        self.then = AfterSleep::GiveUp(wait.saturating_sub(retry));
        AgentStep::Sleep(retry)
    }

    fn served(&mut self, now: Ms, account: usize, upstream: &SimulatedUpstream) {
        let known = &mut self.accounts[account];
        known.attempts = 0;
        known.add_health(now, 1.0);
        known.last_used = now;
        if known.quota.is_none_or(|quota| now - quota.at >= QUOTA_INTERVAL) {
            let reading = upstream.reading(account, now);
            known.quota = Some(UsagePage { used: reading.five_hours, resets_at: reading.five_hours_end, at: now });
        }
    }
}

impl RoutingRules for PluginRules {
    fn begin(&mut self, now: Ms, request: AgentRequest, _: &SimulatedUpstream) -> AgentStep {
        self.select(now, request)
    }

    fn answered(&mut self, now: Ms, sent: Sent, upstream: &SimulatedUpstream) -> Option<AgentStep> {
        let Sent { request, account, answer } = sent;
        let process = self.process(now, request);
        let step = match answer {
            UpstreamAnswer::Served => {
                process.served(now, account, upstream);
                None
            }
            UpstreamAnswer::Refused { meter, wait } => Some(process.refused(now, account, meter, wait)),
        };
        self.save(request.agent);
        step
    }

    fn resume(&mut self, now: Ms, request: AgentRequest, _: &SimulatedUpstream) -> AgentStep {
        let process = self.process(now, request);
        match process.then {
            AfterSleep::Select => self.select(now, request),
            AfterSleep::Send(account) => process.send(now, account),
            AfterSleep::GiveUp(wait) => AgentStep::GiveUp(Some(wait)),
        }
    }
}
