//! Why an account is chosen, and why the others are not.

use std::sync::Arc;
use std::time::Duration;

use super::account::{Standing, Tier};
use super::command::Ask;
use super::error::{Kind, Refusal, Why};
use super::hot::Order;
use super::id::{AccountId, Fence};
use super::lease::Lease;
use super::limit::Limit;
use super::obstacle::closed_on;
use super::report::ask_again;
use super::select::{By, Choice};
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
    pub verdict: Verdict,
    /// Every account of the provider, those that can serve first, in the order they would be taken.
    pub candidates: Vec<Candidate>,
}

/// What a request comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// This account, and what decides for it.
    Grant(AccountId, By),
    /// It would wait: for what, and until when at the earliest, where that is known.
    Wait(Kind, Option<Wall>),
    /// It would be refused.
    Refuse(Box<Refusal>),
}

/// One account, as choosing sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
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
    pub why: Why,
    /// Until when, where that is known.
    pub until: Option<Wall>,
    /// In words: why the login does not work, why it was disabled, what is left of a reserve.
    pub note: Option<String>,
    /// The limits that stand in its way, with their evidence.
    pub limits: Vec<Limit>,
}

/// Why a lease is where it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided {
    /// The lease.
    pub fence: Fence,
    /// Its account.
    pub account: AccountId,
    /// What decided for it.
    pub by: By,
    /// When it was granted.
    pub at: Wall,
    /// The account a report moved it from, and why.
    pub moved_from: Option<(AccountId, Reason)>,
    /// How the same request would be decided as things stand.
    pub now: Explanation,
}

/// A request that was refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// When.
    pub at: Wall,
    /// What was asked for.
    pub ask: Ask,
    /// The answer, with what stood in each account's way.
    pub refusal: Refusal,
}

impl Pool {
    /// What `ask` would come to, and why.
    #[must_use]
    pub fn explain(&self, now: Now, ask: &Ask) -> Explanation {
        let mut ask = ask.clone();
        ask.exclude.sort_unstable();
        let verdict = match self.choose_with(now, &ask, now.mono, &mut Vec::new()) {
            Choice::Grant { slot, by, .. } => Verdict::Grant(self.accounts[slot].record.id, by),
            Choice::Wait { kind, earliest } => Verdict::Wait(kind, earliest.map(|at| now.wall_of(at))),
            Choice::Refuse(refusal) => Verdict::Refuse(refusal),
        };
        let Some(ring) = self.rings.get(&ask.target.provider) else {
            return Explanation { verdict, candidates: Vec::new() };
        };
        let mut candidates: Vec<Candidate> =
            ring.slots.iter().map(|&slot| self.candidate(now, &ask, ring, slot)).collect();
        for (place, slot) in self.ranked(now, &ask, ring, &verdict).into_iter().enumerate() {
            candidates[self.places[slot]].rank = Some(place + 1);
        }
        candidates.sort_by_key(|one| (one.exclusion.is_some(), one.rank.unwrap_or(usize::MAX)));
        Explanation { verdict, candidates }
    }

    /// Why a lease is where it is.
    #[must_use]
    pub fn decided(&self, now: Now, fence: Fence) -> Option<Decided> {
        self.leases.get(&fence).map(|lease| self.decided_for(now, lease))
    }

    /// The same of a lease that may have ended.
    #[must_use]
    pub fn decided_for(&self, now: Now, lease: &Lease) -> Decided {
        let account = lease.pinned.then(|| lease.account.to_string().into());
        Decided {
            fence: lease.fence,
            account: lease.account,
            by: lease.by,
            at: lease.granted_at,
            moved_from: self.moves.get(&lease.fence).copied(),
            now: self.explain(now, &ask_again(lease, account)),
        }
    }

    /// The lease that was granted last, if it is still held.
    #[must_use]
    pub fn last_granted(&self) -> Option<Fence> {
        self.leases.keys().max().copied()
    }

    /// The requests that were refused last, oldest first.
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &Refused> {
        self.refusals.iter()
    }

    /// Remembers a request that was refused.
    pub(super) fn note_refused(&mut self, now: Now, ask: &Ask, refusal: &Refusal) {
        if self.refusals.len() >= MOST_REFUSALS {
            self.refusals.pop_front();
        }
        self.refusals.push_back(Refused { at: now.wall, ask: ask.clone(), refusal: refusal.clone() });
    }

    fn candidate(&self, now: Now, ask: &Ask, ring: &Ring, slot: usize) -> Candidate {
        let (account, hot) = (&self.accounts[slot], &self.hot[slot]);
        let selection = &self.settings.selection;
        let lanes = self.lanes(&ask.target);
        let lane = self.lane_of(account, lanes, now);
        let window = |name| account.usage.window(name, lane.quota, now.wall);
        let current = strategy::current(self, ask, ring) == Some(slot);
        let weekly = window(strategy::WEEKLY);
        let turned = lanes.second.is_some_and(|second| second.quota == lane.quota && lane.quota != lanes.first.quota);
        let pool = if turned { ask.target.turned().and_then(|target| target.pool) } else { ask.target.pool.clone() };
        Candidate {
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

    fn exclusion(&self, now: Now, ask: &Ask, slot: usize, lanes: Lanes<'_>) -> Option<Exclusion> {
        let account = &self.accounts[slot];
        let (why, until) = self.obstacle(slot, ask, now)?;
        let note = match (why, &account.record.standing) {
            (Why::Disabled, _) => account.record.disabled_reason.clone(),
            (_, Standing::NeedsLogin(why) | Standing::NeedsVerification(why)) => Some(why.clone()),
            (Why::NotAllowed, _) => account.uses().map(|uses| format!("only for {}", uses.join(", "))),
            (Why::Reserved, _) => {
                let used = account.usage.highest(lanes.first.quota, now.wall);
                used.map(|used| {
                    let percent = |part: f64| (100.0 * part).round();
                    format!("{} % are left, {} % are kept", percent(1.0 - used), percent(lanes.first.reserve))
                })
            }
            (Why::Renewing, _) => Some("its token is being renewed".to_owned()),
            _ => None,
        };
        let stands = |limit: &&Limit| {
            let quotas = [Some(lanes.first), lanes.second];
            limit.holds(now) && quotas.into_iter().flatten().any(|lane| limit.blocks(lane.quota))
        };
        let limits = if why == Why::Limited { account.limits.iter().filter(stands).cloned().collect() } else { vec![] };
        Some(Exclusion { why, until: until.map(|until| until.wall(now)), note, limits })
    }

    /// Who can serve, in the order they would be taken if each before were gone.
    fn ranked(&self, now: Now, ask: &Ask, ring: &Ring, verdict: &Verdict) -> Vec<usize> {
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
        if let Verdict::Grant(chosen, _) = verdict {
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
