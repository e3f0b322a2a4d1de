//! Why an account is chosen, and why the others are not.

use std::sync::Arc;
use std::time::Duration;

use super::account::Tier;
use super::command::LeaseRequest;
use super::error::{Ineligible, Refusal, RefusalKind};
use super::hot::Order;
use super::id::{AccountId, Fence};
use super::lease::Lease;
use super::limit::Limit;
use super::obstacle::closed_on;
use super::report::reacquire;
use super::select::{Choice, ChosenBy};
use super::target::Lanes;
use super::time::{Now, Past, Wall};
use super::{Pool, Ring, strategy};
use crate::limits::Reason;

/// Refusals that are remembered.
pub(super) const MOST_REFUSALS: usize = 32;
/// Most accounts whose place in the order is told.
const MOST_RANKED: usize = 64;

/// What comes of a request, as things stand.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// What it comes to.
    pub verdict: SelectionResult,
    /// Every account of the provider, those that can serve first, in the order they would be taken.
    pub candidates: Vec<CandidateAccount>,
}

/// What a request comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum SelectionResult {
    /// This account, and what decides for it.
    Grant(AccountId, ChosenBy),
    /// It would wait: for what, and until when at the earliest, where that is known.
    Wait(RefusalKind, Option<Wall>),
    /// It would be refused.
    Refuse(Box<Refusal>),
}

/// One account, as choosing sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct CandidateAccount {
    /// Which.
    pub account: AccountId,
    /// Its place among those that can serve, from 1; of very many only the first have one.
    pub rank: Option<usize>,
    /// Why it cannot serve.
    pub exclusion: Option<Exclusion>,
    /// Which of its quotas would serve.
    pub pool: Option<Arc<str>>,
    /// Live leases.
    pub leases: u32,
    /// How many it takes before it is shared.
    pub capacity: u32,
    /// Higher is preferred.
    pub priority: i32,
    /// The plan.
    pub tier: Tier,
    /// Whether it ranks last, because it is used beyond the soft threshold.
    pub over_threshold: bool,
    /// Health, in points.
    pub health: f64,
    /// Tokens in its bucket.
    pub tokens: f64,
    /// Since its last use; never in this and the last runs is none.
    pub idle: Option<Duration>,
    /// What `hybrid` makes of health, tokens and rest, the bonus of the current account included.
    pub score: f64,
    /// Whether it is the family's current account.
    pub current: bool,
    /// Used of the weekly window, where that is known.
    pub weekly: Option<f64>,
    /// When the weekly window starts anew.
    pub weekly_resets_at: Option<Wall>,
    /// Used of the 5-hour window, where that is known.
    pub short: Option<f64>,
}

/// Why an account cannot serve.
#[derive(Clone, PartialEq, Debug)]
pub struct Exclusion {
    /// What stands in its way.
    pub why: Ineligible,
    /// Until when, where that is known.
    pub until: Option<Wall>,
    /// In words: why the login does not work, why it was disabled, what is left of a reserve.
    pub note: Option<String>,
    /// The limits that stand in its way, with their evidence.
    pub limits: Vec<Limit>,
}

/// Why a lease is where it is.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaseExplanation {
    /// The lease.
    pub fence: Fence,
    /// Its account.
    pub account: AccountId,
    /// What decided for it.
    pub by: ChosenBy,
    /// When it was granted.
    pub at: Wall,
    /// The account a report moved it from, and why.
    pub moved_from: Option<(AccountId, Reason)>,
    /// How the same request would be decided as things stand.
    pub now: Explanation,
}

/// A request that was refused.
#[derive(Clone, PartialEq, Debug)]
pub struct RefusedRequest {
    /// When.
    pub at: Wall,
    /// What was asked for.
    pub ask: LeaseRequest,
    /// The answer, with what stood in each account's way.
    pub refusal: Refusal,
}

impl Pool {
    /// What `ask` would come to, and why.
    #[must_use]
    pub fn explain(&self, now: Now, ask: &LeaseRequest) -> Explanation {
        let mut ask = ask.clone();
        ask.exclude.sort_unstable();
        let verdict = match self.choose_with(now, &ask, now.mono, &mut Vec::new()) {
            Choice::Grant { slot, by, .. } => SelectionResult::Grant(self.accounts[slot].record.id, by),
            Choice::Wait { kind, earliest } => SelectionResult::Wait(kind, earliest.map(|at| now.wall_of(at))),
            Choice::Refuse(refusal) => SelectionResult::Refuse(refusal),
        };
        let Some(ring) = self.rings.get(&ask.target.provider) else {
            return Explanation { verdict, candidates: Vec::new() };
        };
        let mut candidates: Vec<CandidateAccount> =
            ring.slots.iter().map(|&slot| self.candidate(now, &ask, ring, slot)).collect();
        for (place, slot) in self.ranked(now, &ask, ring, &verdict).into_iter().enumerate() {
            candidates[self.places[slot]].rank = Some(place + 1);
        }
        candidates.sort_by_key(|one| (one.exclusion.is_some(), one.rank.unwrap_or(usize::MAX)));
        Explanation { verdict, candidates }
    }

    /// Why a lease is where it is.
    #[must_use]
    pub fn explain_lease(&self, now: Now, fence: Fence) -> Option<LeaseExplanation> {
        self.leases.get(&fence).map(|lease| self.explain_ended_lease(now, lease))
    }

    /// The same of a lease that may have ended.
    #[must_use]
    pub fn explain_ended_lease(&self, now: Now, lease: &Lease) -> LeaseExplanation {
        let account = lease.pinned.then(|| lease.account.to_string().into());
        LeaseExplanation {
            fence: lease.fence,
            account: lease.account,
            by: lease.by,
            at: lease.granted_at,
            moved_from: self.moves.get(&lease.fence).copied(),
            now: self.explain(now, &reacquire(lease, account)),
        }
    }

    /// The lease that was granted last, if it is still held.
    #[must_use]
    pub fn last_granted(&self) -> Option<Fence> {
        self.leases.keys().max().copied()
    }

    /// The requests that were refused last, oldest first.
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &RefusedRequest> {
        self.refusals.iter()
    }

    /// Remembers a request that was refused.
    pub(super) fn note_refused(&mut self, now: Now, ask: &LeaseRequest, refusal: &Refusal) {
        if self.refusals.len() >= MOST_REFUSALS {
            self.refusals.pop_front();
        }
        self.refusals.push_back(RefusedRequest { at: now.wall, ask: ask.clone(), refusal: refusal.clone() });
    }

    fn candidate(&self, now: Now, ask: &LeaseRequest, ring: &Ring, slot: usize) -> CandidateAccount {
        let (account, hot) = (&self.accounts[slot], &self.hot[slot]);
        let selection = &self.settings.selection;
        let lanes = self.lanes(&ask.target);
        let lane = self.lane_of(account, lanes, now);
        let window = |name| account.usage.window(name, lane.quota, now.wall);
        let current = strategy::current(self, ask, ring) == Some(slot);
        let weekly = window(strategy::WEEKLY);
        let turned = lanes.second.is_some_and(|second| second.quota == lane.quota && lane.quota != lanes.first.quota);
        let pool =
            if turned { ask.target.other_pool().and_then(|target| target.pool) } else { ask.target.pool.clone() };
        CandidateAccount {
            account: account.record.id,
            rank: None,
            exclusion: self.exclusion(now, ask, slot, lanes),
            pool,
            leases: account.leases,
            capacity: account.policy.capacity,
            priority: account.policy.priority,
            tier: account.record.tier,
            over_threshold: self.is_spent(slot, lanes, now),
            health: account.health.score(&selection.health, now.mono),
            tokens: account.bucket.tokens(&selection.tokens, now.mono),
            idle: account.last_used.map(|at| Past::from(now.mono).since(at)),
            score: strategy::Hybrid::new(selection, now).rank(hot).1 + if current { strategy::STICKINESS } else { 0.0 },
            current,
            weekly: weekly.map(|window| window.utilization),
            weekly_resets_at: weekly.and_then(|window| window.resets_at),
            short: window(strategy::SHORT).map(|window| window.utilization),
        }
    }

    fn exclusion(&self, now: Now, ask: &LeaseRequest, slot: usize, lanes: Lanes<'_>) -> Option<Exclusion> {
        let account = &self.accounts[slot];
        let (why, until) = self.obstacle(slot, ask, now)?;
        let note = match why {
            Ineligible::Disabled => account.record.disabled_reason.clone(),
            Ineligible::NotAllowed => {
                account.allowed_agents().map(|allowed_agents| format!("only for {}", allowed_agents.join(", ")))
            }
            Ineligible::Reserved => {
                let used = account.usage.highest(lanes.first.quota, now.wall);
                used.map(|used| {
                    let percent = |part: f64| (100.0 * part).round();
                    format!("{} % are left, {} % are kept", percent(1.0 - used), percent(lanes.first.reserve))
                })
            }
            Ineligible::Renewing => Some("its token is being renewed".to_owned()),
            _ => None,
        };
        let stands = |limit: &&Limit| {
            let quotas = [Some(lanes.first), lanes.second];
            limit.holds(now) && quotas.into_iter().flatten().any(|lane| limit.blocks(lane.quota))
        };
        let limits =
            if why == Ineligible::Limited { account.limits.iter().filter(stands).cloned().collect() } else { vec![] };
        Some(Exclusion { why, until: until.map(|until| until.wall(now)), note, limits })
    }

    /// Who can serve, in the order they would be taken if each before were gone.
    fn ranked(&self, now: Now, ask: &LeaseRequest, ring: &Ring, verdict: &SelectionResult) -> Vec<usize> {
        let lanes = self.lanes(&ask.target);
        let tier_first = self.settings.selection.tier_first;
        let order = |slot: usize| -> Order {
            let order = self.likes[slot].order;
            let order = if tier_first { order } else { order.any_tier() };
            if self.is_spent(slot, lanes, now) { order.over_threshold() } else { order }
        };
        let other = |slot: usize| closed_on(&self.accounts[slot], Lanes::only(lanes.first), now).is_some();
        let mut open: Vec<usize> =
            ring.slots.iter().copied().filter(|&slot| self.obstacle(slot, ask, now).is_none()).collect();
        let mut ranked = Vec::new();
        if let SelectionResult::Grant(chosen, _) = verdict {
            let chosen = self.slots.get(chosen).copied();
            ranked.extend(chosen);
            open.retain(|slot| Some(*slot) != chosen);
        }
        while !open.is_empty() && ranked.len() < MOST_RANKED {
            let place = |slot: usize| (lanes.second.is_some() && other(slot), order(slot));
            let Some(best) = open.iter().map(|&slot| place(slot)).min() else { break };
            let ties: Vec<usize> = open.iter().copied().filter(|&slot| place(slot) == best).collect();
            let next = strategy::pick(self, now, ask, lanes.first.quota, ring, &ties);
            ranked.push(next);
            open.retain(|slot| *slot != next);
        }
        ranked
    }
}
