//! Explaining a selection: why an account is chosen, and why the others are not.

use crate::limits::Reason;
use crate::pool::account::table::ProviderAccounts;
use crate::pool::lease::comparison::Comparison;
use crate::pool::lease::recent::RefusedRequest;
use crate::pool::lease::{ChosenBy, Lease, reacquire};
use crate::pool::limit::Limit;
use crate::pool::model::{
    AccountId, Fence, Ineligible, LeaseRequest, Now, Past, QuotaChoices, Refusal, RefusalKind, Tier, Wall,
};
use crate::pool::select::choose::Choice;
use crate::pool::select::eligibility::closed_on;
use crate::pool::select::place;
use crate::pool::select::strategy;
use crate::pool::select::workspace::Workspace;
use crate::pool::state::Pool;
use std::sync::Arc;
use std::time::Duration;

/// Most accounts that get a rank.
const MOST_RANKED: usize = 64;

/// What a request would get now.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The result.
    pub verdict: SelectionResult,
    /// What decides for the account that it would get.
    pub comparison: Option<Comparison>,
    /// Every account of the provider; those that can serve come first, in the order in which they would be chosen.
    pub candidates: Vec<CandidateAccount>,
}

/// The result of a selection.
#[derive(Clone, PartialEq, Debug)]
pub enum SelectionResult {
    /// It would get this account, for this reason.
    Grant(AccountId, ChosenBy),
    /// It would wait, for this reason; and the earliest time it could be granted, where that is known.
    Wait(RefusalKind, Option<Wall>),
    /// It would be refused.
    Refuse(Box<Refusal>),
}

/// One account, as selection sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct CandidateAccount {
    /// The account.
    pub account: AccountId,
    /// Its rank among those that can serve, from 1; only the first ones have a rank.
    pub rank: Option<usize>,
    /// Why it cannot serve.
    pub exclusion: Option<Exclusion>,
    /// The quota pool that would serve.
    pub pool: Option<Arc<str>>,
    /// Live leases; of an account in the shared pool, those of all hosts.
    pub leases: u32,
    /// How many it takes before it is shared.
    pub capacity: u32,
    /// Higher is preferred.
    pub priority: i32,
    /// The plan.
    pub tier: Tier,
    /// Whether it ranks last, because it is used beyond the soft threshold.
    pub over_threshold: bool,
    /// Whether it is used only while no other account can serve.
    pub fallback_only: bool,
    /// Whether its plan is used up and requests are paid for beyond it, which the settings avoid.
    pub pays_overage: bool,
    /// Health, in points.
    pub health: f64,
    /// Tokens in its bucket.
    pub tokens: f64,
    /// The time since its last use, if it was ever used.
    pub idle: Option<Duration>,
    /// The score of `hybrid`, including the bonus of the current account.
    pub score: f64,
    /// Whether it is the family's current account.
    pub current: bool,
    /// Used of the weekly window, where that is known.
    pub weekly: Option<f64>,
    /// When the weekly window resets.
    pub weekly_resets_at: Option<Wall>,
    /// Used of the 5-hour window, where that is known.
    pub short: Option<f64>,
}

/// Why an account cannot serve.
#[derive(Clone, PartialEq, Debug)]
pub struct Exclusion {
    /// The reason.
    pub why: Ineligible,
    /// Until when, where that is known.
    pub until: Option<Wall>,
    /// In words: why the login does not work, why it was disabled, what is left of a reserve.
    pub note: Option<String>,
    /// The limits that stand in its way, with their evidence.
    pub limits: Vec<Limit>,
}

/// Why a lease is on its account.
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
    /// What decided for it over the other accounts; none for a lease from before this run.
    pub comparison: Option<Comparison>,
    /// How the same request would be decided as things stand.
    pub now: Explanation,
}

impl Pool {
    /// What a request would get now, and why.
    pub fn explain(&self, now: Now, ask: &LeaseRequest) -> Explanation {
        let mut ask = ask.clone();
        ask.exclude.sort_unstable();
        let mut comparison = None;
        let verdict = match self.choose_with(now, &ask, now.mono, &mut Workspace::default()) {
            Choice::Grant(chosen) | Choice::Claim { chosen, is_full: false } => {
                comparison = Some(self.comparison(now, &ask, chosen, &mut Workspace::default()));
                SelectionResult::Grant(self.accounts[chosen.slot].record.id, chosen.by)
            }
            Choice::Claim { .. } => SelectionResult::Wait(RefusalKind::NoCapacity, None),
            Choice::Wait { kind, earliest } => SelectionResult::Wait(kind, earliest.map(|at| now.wall_of(at))),
            Choice::Refuse(refusal) => SelectionResult::Refuse(refusal),
        };
        let Some(provider) = self.accounts.of_provider(&ask.target.provider) else {
            return Explanation { verdict, comparison, candidates: Vec::new() };
        };
        let mut candidates: Vec<CandidateAccount> =
            provider.slots().iter().map(|&slot| self.candidate(now, &ask, provider, slot)).collect();
        for (place, slot) in self.rank(now, &ask, provider, &verdict).into_iter().enumerate() {
            candidates[self.accounts.position(slot)].rank = Some(place + 1);
        }
        candidates.sort_by_key(|one| (one.exclusion.is_some(), one.rank.unwrap_or(usize::MAX)));
        Explanation { verdict, comparison, candidates }
    }

    /// Why a lease is on its account.
    pub fn explain_lease(&self, now: Now, fence: Fence) -> Option<LeaseExplanation> {
        self.leases.get(fence).map(|lease| self.explain_ended_lease(now, lease))
    }

    /// The same for a lease that may have ended.
    pub fn explain_ended_lease(&self, now: Now, lease: &Lease) -> LeaseExplanation {
        let account = lease.pinned.then(|| lease.account.to_string().into());
        LeaseExplanation {
            fence: lease.fence,
            account: lease.account,
            by: lease.by,
            at: lease.granted_at,
            moved_from: self.leases.moved_from(lease.fence),
            comparison: self.leases.comparison(lease.fence),
            now: self.explain(now, &reacquire(lease, account)),
        }
    }

    /// The lease that was granted last, if it is still held.
    pub fn last_granted(&self) -> Option<Fence> {
        self.leases.iter().map(|lease| lease.fence).max()
    }

    /// The requests that were refused last, oldest first.
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &RefusedRequest> {
        self.refusals.iter()
    }

    fn candidate(&self, now: Now, ask: &LeaseRequest, provider: &ProviderAccounts, slot: usize) -> CandidateAccount {
        let account = &self.accounts[slot];
        let selection = &self.settings.selection;
        let quotas = self.quotas_of(slot, ask, ask.target.quotas(&self.settings.quota));
        let quota = self.quota_in_use(account, quotas, now);
        let window = |name| account.usage.window(name, quota.quota, now.wall);
        let current = strategy::current(self, ask, provider);
        let weekly = window(place::WEEKLY);
        let turned =
            quotas.second.is_some_and(|second| second.quota == quota.quota && quota.quota != quotas.first.quota);
        let pool =
            if turned { ask.target.other_pool().and_then(|target| target.pool) } else { ask.target.pool.clone() };
        CandidateAccount {
            account: account.record.id,
            rank: None,
            exclusion: self.exclusion(now, ask, slot, quotas),
            pool,
            leases: account.used(),
            capacity: account.policy.capacity,
            priority: account.policy.priority,
            tier: account.record.tier,
            over_threshold: self.is_over_threshold(slot, quotas, now),
            fallback_only: account.policy.fallback_only,
            pays_overage: self.avoids(slot, quotas, now),
            health: account.health.score(&selection.health, now.mono),
            tokens: account.bucket.tokens(&selection.tokens, now.mono),
            idle: account.last_used.map(|at| Past::from(now.mono).since(at)),
            score: self.hybrid_points(now, slot, current),
            current: current == Some(slot),
            weekly: weekly.map(|window| window.utilization),
            weekly_resets_at: weekly.and_then(|window| window.resets_at),
            short: window(place::SHORT).map(|window| window.utilization),
        }
    }

    fn exclusion(&self, now: Now, ask: &LeaseRequest, slot: usize, quotas: QuotaChoices) -> Option<Exclusion> {
        let account = &self.accounts[slot];
        let (why, until) = self.ineligible(slot, ask, now)?;
        let note = match why {
            Ineligible::NotInSet => self.set_in_words(&ask.set).map(|words| format!("the set: {words}")),
            Ineligible::Reserved if self.is_kept_back(slot, ask) => {
                Some("it serves only requests that name it".to_owned())
            }
            Ineligible::Disabled => account.record.disabled_reason.clone(),
            Ineligible::NotAllowed => {
                let only = |agents: &[String]| format!("only for {}", agents.join(", "));
                let withheld = account.withheld_from(&ask.holder.attested);
                withheld.filter(|_| account.allows(ask.agent.as_deref())).or_else(|| account.allowed_agents().map(only))
            }
            Ineligible::Reserved => {
                let used = account.usage.highest(quotas.first.quota, now.wall);
                used.map(|used| {
                    let percent = |part: f64| (100.0 * part).round();
                    let from = if self.keeps_reserve(slot, ask, now) { " for requests that name it" } else { "" };
                    let (left, kept) = (percent(1.0 - used), percent(quotas.first.reserve));
                    format!("{left} % is left, {kept} % is reserved{from}")
                })
            }
            Ineligible::Renewing => Some("its token is being refreshed".to_owned()),
            Ineligible::NoSeat => self.seat_trouble(now),
            _ => None,
        };
        let stands = |limit: &&Limit| {
            let quotas = [Some(quotas.first), quotas.second];
            limit.holds(now) && quotas.into_iter().flatten().any(|quota| limit.blocks(quota.quota))
        };
        let limits = if matches!(why, Ineligible::Limited | Ineligible::LacksModel) {
            account.limits.iter().filter(stands).cloned().collect()
        } else {
            vec![]
        };
        Some(Exclusion { why, until: until.map(|until| until.wall(now)), note, limits })
    }

    /// The accounts that can serve, in the order in which they would be chosen if each one before were gone.
    fn rank(&self, now: Now, ask: &LeaseRequest, provider: &ProviderAccounts, verdict: &SelectionResult) -> Vec<usize> {
        let quotas = ask.target.quotas(&self.settings.quota);
        let order = |slot: usize| self.ranked(slot, ask, quotas, now);
        let other = |slot: usize| {
            let first = QuotaChoices::only(self.quotas_of(slot, ask, quotas).first);
            closed_on(&self.accounts[slot], first, now).is_some()
        };
        let is_fallback = |slot: usize| self.accounts[slot].policy.fallback_only;
        let mut open: Vec<usize> =
            provider.slots().iter().copied().filter(|&slot| self.ineligible(slot, ask, now).is_none()).collect();
        let mut ranked = Vec::new();
        if let SelectionResult::Grant(chosen, _) = verdict {
            let chosen = self.accounts.slot(*chosen);
            ranked.extend(chosen);
            open.retain(|slot| Some(*slot) != chosen);
        }
        while !open.is_empty() && ranked.len() < MOST_RANKED {
            let place = |slot: usize| (is_fallback(slot), quotas.second.is_some() && other(slot), order(slot));
            let Some(best) = open.iter().map(|&slot| place(slot)).min() else { break };
            let ties: Vec<usize> = open.iter().copied().filter(|&slot| place(slot) == best).collect();
            let next = strategy::pick(self, now, ask, quotas.first.quota, provider, &ties, None).slot;
            let Some(next) = next else { break };
            ranked.push(next);
            open.retain(|slot| *slot != next);
        }
        ranked
    }
}
