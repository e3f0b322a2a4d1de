//! What decided between the account that a request gets and the best of the others.

use crate::pool::account::digest::Rank;
use crate::pool::account::table::ProviderAccounts;
use crate::pool::lease::ChosenBy;
use crate::pool::lease::comparison::{Comparison, Criterion, PassedAccount};
use crate::pool::model::{Ineligible, LeaseRequest, Mode, Now, Past, QuotaChoices, Strategy};
use crate::pool::select::choose::{Chosen, MOST_COMPARED, NextBest};
use crate::pool::select::eligibility::is_closed;
use crate::pool::select::place;
use crate::pool::select::score::{Hybrid, Level, Score};
use crate::pool::select::strategy;
use crate::pool::select::workspace::Workspace;
use crate::pool::state::Pool;

impl Pool {
    /// What decides for the account that a request is about to get.
    pub(crate) fn comparison(
        &self,
        now: Now,
        ask: &LeaseRequest,
        Chosen { slot, by, other: second, next, scores }: Chosen,
        workspace: &mut Workspace,
    ) -> Comparison {
        let provider = self.accounts.provider_of(slot);
        if provider.slots().len() > MOST_COMPARED {
            return Comparison::default();
        }
        let passed = self.passed(now, ask, slot);
        let quotas = || ask.target.quotas(&self.settings.quota);
        let (other, scores) = match next {
            _ if ask.target.has_two_quotas(&self.settings.quota) => {
                (self.best_of_both_quotas(now, ask, quotas(), slot), None)
            }
            NextBest::Slot(next) => (Some((next, false)), scores),
            NextBest::None => (None, None),
            NextBest::NotSought => {
                (self.best_other(now, ask, quotas(), slot, workspace).map(|other| (other, false)), None)
            }
        };
        debug_assert_eq!(other, self.best_of_both_quotas(now, ask, quotas(), slot));
        let Some(other) = other else { return Comparison { passed, ..Comparison::default() } };
        let over = Some(self.accounts[other.0].record.id);
        let is_ordered = by.is_order() || by == ChosenBy::PidOffset;
        let criterion = || self.criterion(now, ask, provider, quotas(), [(slot, second), other]);
        let by = match criterion_of_scores(scores) {
            Some(known) => {
                debug_assert_eq!(known, criterion());
                Some(known)
            }
            None => is_ordered.then(criterion),
        };
        Comparison { over, by, passed }
    }

    /// The account that a request with one quota would get if the one of `slot` were gone.
    fn best_other(
        &self,
        now: Now,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        slot: usize,
        workspace: &mut Workspace,
    ) -> Option<usize> {
        let provider = self.accounts.provider_of(slot);
        let Workspace { leaders, standings, .. } = workspace;
        let others = provider.slots().iter().copied().filter(|&other| other != slot);
        self.leading(now, ask, quotas, others, leaders);
        strategy::pick(self, now, ask, quotas.first.quota, provider, &leaders.ties, standings.as_mut()).slot
    }

    /// The same for a request that may have two quotas, and whether the account would serve it in the other quota pool.
    fn best_of_both_quotas(
        &self,
        now: Now,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        slot: usize,
    ) -> Option<(usize, bool)> {
        let provider = self.accounts.provider_of(slot);
        let is_second = |slot: usize| {
            let first = self.quotas_of(slot, ask, quotas).first;
            quotas.second.is_some() && is_closed(&self.accounts[slot], first, now)
        };
        let is_fallback = |slot: usize| self.accounts[slot].policy.fallback_only;
        let rank = |slot: usize| (is_fallback(slot), is_second(slot), self.ranked(slot, ask, quotas, now));
        // for a sub-agent, its parent's account differs from one with an equal key
        let is_plain = ask.subagent.is_none() && ask.exclude.is_empty() && !self.membership(&ask.set).is_restricted();
        let (mut best, mut ties) = (None, Vec::new());
        // the key of the leading account, where every account with an equal key is open and leads as well
        let mut leader = None;
        for &other in provider.slots().iter().filter(|&&other| other != slot) {
            let key = self.accounts.key(other);
            if leader == Some(key) {
                ties.push(other);
                continue;
            }
            // mostly the key alone tells that it is not open
            let cannot_serve = !key.is_ready() || is_plain && !key.has_room(&self.settings.leases, ask);
            if cannot_serve || self.ineligible(other, ask, now).is_some() {
                continue;
            }
            let rank = rank(other);
            if best.is_some_and(|best| rank > best) {
                continue;
            }
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
                leader = (key.is_unlimited() && key.is_unmeasured() && is_plain).then_some(key);
                ties.clear();
            }
            ties.push(other);
        }
        let other = strategy::pick(self, now, ask, quotas.first.quota, provider, &ties, None).slot?;
        Some((other, best?.1))
    }

    /// The account's place in the order before the strategy.
    pub(crate) fn ranked(&self, slot: usize, ask: &LeaseRequest, quotas: QuotaChoices, now: Now) -> Rank {
        self.rank_on(slot, self.accounts.key(slot).rank_for(ask), self.quotas_of(slot, ask, quotas), now)
    }

    /// The account of the session, or the preferred one, where another account is chosen instead.
    fn passed(&self, now: Now, ask: &LeaseRequest, chosen: usize) -> Option<PassedAccount> {
        if ask.account.is_some() {
            return None;
        }
        let selection = &self.settings.selection;
        let provider = &ask.target.provider;
        let session = ask.session.as_deref().filter(|_| selection.mode != Mode::PerformanceFirst);
        let of_session = || self.sessions.get(provider, session?, now.mono, selection.session_ttl);
        let of_config = || self.accounts.find(selection.preferred_account.as_deref()?, Some(provider)).ok();
        let (slot, wanted_by) = of_session()
            .and_then(|id| Some((self.accounts.slot(id)?, ChosenBy::Session)))
            .or_else(|| Some((of_config()?, ChosenBy::Preferred)))?;
        if slot == chosen {
            return None;
        }
        let account = &self.accounts[slot];
        let (why, until) = match self.ineligible(slot, ask, now) {
            Some((why, until)) => (Some(why), until),
            None if self.is_left_for_another(now, ask, ask.target.quotas(&self.settings.quota), slot) => (None, None),
            None => (Some(Ineligible::Busy), None),
        };
        let until = until.map(|until| until.wall(now));
        let is_fallback = account.policy.fallback_only;
        Some(PassedAccount { account: account.record.id, wanted_by, why, is_fallback, until })
    }

    /// The first criterion of the order in which two accounts differ; each with whether its second quota pool serves.
    fn criterion(
        &self,
        now: Now,
        ask: &LeaseRequest,
        provider: &ProviderAccounts,
        quotas: QuotaChoices,
        slots: [(usize, bool); 2],
    ) -> Criterion {
        let [(chosen, second), (other, other_second)] = slots;
        let slots = [chosen, other];
        let keys = slots.map(|slot| self.accounts.key(slot));
        if keys[0] == keys[1] && keys[0].is_unlimited() && keys[0].is_unmeasured() && second == other_second {
            return self.strategy_criterion(now, ask, provider, quotas, slots);
        }
        let fallback = slots.map(|slot| self.accounts[slot].policy.fallback_only);
        if fallback[0] != fallback[1] {
            return Criterion::Fallback;
        }
        if second != other_second {
            return Criterion::QuotaPool;
        }
        let are_measured = !keys.iter().all(|key| key.is_unmeasured());
        let pays = slots.map(|slot| are_measured && self.avoids(slot, self.quotas_of(slot, ask, quotas), now));
        if pays[0] != pays[1] {
            return Criterion::Overage;
        }
        let is_over = |slot| self.is_over_threshold(slot, self.quotas_of(slot, ask, quotas), now);
        let over = slots.map(|slot| are_measured && is_over(slot));
        if over[0] != over[1] {
            return Criterion::SoftThreshold(slots.map(|slot| self.fullest(slot, ask, quotas, now)));
        }
        let loads = slots.map(|slot| self.accounts.key(slot).rank_for(ask).load());
        if loads[0] != loads[1] {
            let leases = slots.map(|slot| (self.accounts[slot].used(), self.accounts[slot].policy.capacity));
            let subagents = slots.map(|slot| (self.accounts[slot].used(), self.accounts[slot].subagents));
            let is_equal =
                u64::from(leases[0].0) * u64::from(leases[1].1) == u64::from(leases[1].0) * u64::from(leases[0].1);
            let counts_all = ask.subagent.is_some() && subagents.iter().any(|(_, subagents)| *subagents > 0);
            return if is_equal || counts_all { Criterion::Subagents(subagents) } else { Criterion::Leases(leases) };
        }
        let priorities = slots.map(|slot| self.accounts[slot].policy.priority);
        if priorities[0] != priorities[1] {
            return Criterion::Priority(priorities);
        }
        let tiers = slots.map(|slot| self.accounts[slot].record.tier);
        if self.settings.selection.tier_first && tiers[0] != tiers[1] {
            return Criterion::Tier(tiers);
        }
        self.strategy_criterion(now, ask, provider, quotas, slots)
    }

    /// What the strategy compares.
    fn strategy_criterion(
        &self,
        now: Now,
        ask: &LeaseRequest,
        provider: &ProviderAccounts,
        quotas: QuotaChoices,
        slots: [usize; 2],
    ) -> Criterion {
        if let Some(process) = ask.process().filter(|_| strategy::offset(self, ask, provider).is_some()) {
            return Criterion::PidOffset(process.pid);
        }
        let selection = &self.settings.selection;
        let window =
            |slot: usize, name: &str| self.accounts[slot].usage.window(name, quotas.first.quota, now.wall).cloned();
        let used = |name: &str| slots.map(|slot| window(slot, name).map(|window| window.utilization));
        match place::strategy_of(selection) {
            Strategy::RoundRobin => return Criterion::Turn,
            Strategy::Sticky => {
                let is_current = strategy::current(self, ask, provider) == Some(slots[0]);
                return if is_current { Criterion::Current } else { Criterion::Order };
            }
            Strategy::Hybrid => {
                let hybrid = Hybrid::new(selection);
                let level = |slot: usize| hybrid.rank(self.accounts.inputs(slot), now.mono).0;
                let are_usable = level(slots[0]) == Level::Usable && level(slots[1]) == Level::Usable;
                if let Some(criterion) = (!are_usable).then(|| self.level_criterion(now, slots)).flatten() {
                    return criterion;
                }
                let current = strategy::current(self, ask, provider);
                let points = |slot: usize| self.hybrid_points(now, slot, current);
                let scores = [points(slots[0]), points(slots[1])];
                if scores[0] != scores[1] {
                    return Criterion::Score(scores);
                }
            }
            Strategy::LeastUsed => {
                for (name, criterion) in
                    [(place::WEEKLY, Criterion::Weekly as fn(_) -> _), (place::SHORT, Criterion::Short)]
                {
                    let used = used(name);
                    if used[0] != used[1] {
                        return criterion(used);
                    }
                }
            }
            Strategy::DrainSoonest => {
                let weekly = slots.map(|slot| window(slot, place::WEEKLY).and_then(|window| window.resets_at));
                if weekly[0] != weekly[1] {
                    return Criterion::WeeklyReset(weekly);
                }
            }
        }
        let fullest = slots.map(|slot| self.fullest(slot, ask, quotas, now));
        if fullest[0] != fullest[1] {
            return Criterion::Used(fullest);
        }
        let idle = slots.map(|slot| self.accounts[slot].last_used);
        if idle[0] != idle[1] {
            return Criterion::Idle(idle.map(|used| used.map(|at| Past::from(now.mono).since(at))));
        }
        Criterion::Order
    }

    /// Whether one of two accounts is not healthy enough, or has no token, and the other one is or has.
    fn level_criterion(&self, now: Now, slots: [usize; 2]) -> Option<Criterion> {
        let selection = &self.settings.selection;
        let health = slots.map(|slot| self.accounts[slot].health.score(&selection.health, now.mono));
        if (health[0] < selection.health.min_usable) != (health[1] < selection.health.min_usable) {
            return Some(Criterion::Health(health));
        }
        let tokens = slots.map(|slot| self.accounts[slot].bucket.tokens(&selection.tokens, now.mono));
        ((tokens[0] < 1.0) != (tokens[1] < 1.0)).then_some(Criterion::Tokens(tokens))
    }

    /// The score of `hybrid`, with the bonus of the current account.
    pub(crate) fn hybrid_points(&self, now: Now, slot: usize, current: Option<usize>) -> f64 {
        let (_, score) = Hybrid::new(&self.settings.selection).rank(self.accounts.inputs(slot), now.mono);
        (if current == Some(slot) { score.of_current() } else { score }).points()
    }

    fn fullest(&self, slot: usize, ask: &LeaseRequest, quotas: QuotaChoices, now: Now) -> Option<f64> {
        let (account, quotas) = (&self.accounts[slot], self.quotas_of(slot, ask, quotas));
        account.usage.highest(self.quota_in_use(account, quotas, now).quota, now.wall)
    }
}

/// The criterion where the scores of `hybrid` decided between accounts that lead the order equally.
fn criterion_of_scores(scores: Option<[Score; 2]>) -> Option<Criterion> {
    let points = scores?.map(Score::points);
    (points[0] != points[1]).then_some(Criterion::Score(points))
}
