//! Which account a request gets: DESIGN's order, from the explicit wish down to the strategy.

use std::cmp::Ordering;

use super::account::Account;
use super::command::LeaseRequest;
use super::error::{Ineligible, Refusal, RefusalKind};
use super::hot::{Like, Order};
use super::id::Process;
use super::lease::Bind;
use super::obstacle::{is_closed, is_closed_on};
use super::settings::{Fallback, Mode};
use super::target::{Lane, Lanes};
use super::time::{Mono, Now};
use super::{Pool, Ring, strategy};

/// What choosing comes to.
#[derive(Debug)]
pub(super) enum Choice {
    /// This account, why, and whether on the request's other quota.
    Grant { slot: usize, by: ChosenBy, other: bool },
    /// Nobody now; the earliest time it can be different, where that is known.
    Wait { kind: RefusalKind, earliest: Option<Mono> },
    /// Nobody, whatever time passes.
    Refuse(Box<Refusal>),
}

/// What decided for an account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ChosenBy {
    /// The request named it.
    Account,
    /// Its session lives there.
    Session,
    /// The configuration prefers it.
    Preferred,
    /// The same process released it lately.
    Reuse,
    /// The holder's pid.
    PidOffset,
    /// The order of accounts, and among equals the strategy.
    Strategy,
    /// It was the family's current account when every first quota was closed.
    Current,
    /// It had the lease before, and has another quota.
    SameAccount,
    /// The lease is from before this run: that is no longer known.
    #[default]
    Resumed,
}

impl ChosenBy {
    /// The stable name, as in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Session => "session",
            Self::Preferred => "preferred",
            Self::Reuse => "reuse",
            Self::PidOffset => "pid_offset",
            Self::Strategy => "strategy",
            Self::Current => "current",
            Self::SameAccount => "same_account",
            Self::Resumed => "resumed",
        }
    }

    /// Whether the family's order decided, and moves on by it.
    pub(super) fn is_order(self) -> bool {
        matches!(self, Self::Strategy | Self::Current)
    }
}

/// One request to choose for.
struct Turn<'a> {
    now: Now,
    ask: &'a LeaseRequest,
    asked_at: Mono,
    /// The account it names.
    pinned: Option<usize>,
    ring: &'a Ring,
}

/// An account that is wanted more than the order says.
enum Wanted {
    Take(usize, ChosenBy),
    /// Until then its limit is waited for.
    Await(Mono),
}

impl Pool {
    /// Chooses for `ask`, made at `asked_at`.
    pub(super) fn choose(&mut self, now: Now, ask: &LeaseRequest, asked_at: Mono) -> Choice {
        let mut ties = std::mem::take(&mut self.scratch);
        let choice = self.choose_with(now, ask, asked_at, &mut ties);
        self.scratch = ties;
        choice
    }

    pub(super) fn choose_with(&self, now: Now, ask: &LeaseRequest, asked_at: Mono, ties: &mut Vec<usize>) -> Choice {
        let Some(ring) = self.rings.get(&ask.target.provider) else {
            return Choice::Refuse(Box::new(self.no_account(ask)));
        };
        let pinned = match &ask.account {
            Some(reference) => match self.resolve_for(reference, ask) {
                Ok(slot) => Some(slot),
                Err(refusal) => return Choice::Refuse(Box::new(refusal)),
            },
            None => None,
        };
        let lanes = self.lanes(&ask.target);
        let turn = Turn { now, ask, asked_at, pinned, ring };
        let choice = match lanes.second {
            // every account's first quota, then the second ones
            Some(second) if self.settings.quota.fallback == Fallback::AccountsFirst => self
                .choose_on(&turn, Lanes::only(lanes.first), ties)
                .or_else(|| self.choose_on(&turn, Lanes { pools_only: true, ..Lanes::only(second) }, ties)),
            _ => self.choose_on(&turn, lanes, ties),
        };
        choice.unwrap_or_else(|| self.blocked(now, ask, pinned.as_ref().map_or(&ring.slots[..], std::slice::from_ref)))
    }

    /// Chooses on these quotas. Nothing when nobody is open.
    fn choose_on(&self, turn: &Turn<'_>, lanes: Lanes<'_>, ties: &mut Vec<usize>) -> Option<Choice> {
        let Turn { now, ask, ring, .. } = *turn;
        let grant = |slot: usize, by: ChosenBy| {
            // where both quotas will do, the first goes first
            let second = lanes.second.is_some() && is_closed(&self.accounts[slot], lanes.first, now);
            Some(Choice::Grant { slot, by, other: lanes.pools_only || second })
        };
        if let Some(slot) = turn.pinned {
            return self.obstacle_on(slot, ask, lanes, now).is_none().then(|| grant(slot, ChosenBy::Account)).flatten();
        }
        match self.wanted(turn, lanes) {
            Some(Wanted::Take(slot, by)) => return grant(slot, by),
            Some(Wanted::Await(until)) => {
                return Some(Choice::Wait { kind: RefusalKind::AllLimited, earliest: Some(until) });
            }
            None => {}
        }
        let least = self.leading(now, ask, lanes, &ring.slots, ties)?;
        if let Some(slot) = self.reusable(now, ask, lanes, least) {
            return grant(slot, ChosenBy::Reuse);
        }
        if lanes.pools_only
            && let Some(slot) = strategy::current(self, ask, ring).filter(|slot| ties.contains(slot))
        {
            return grant(slot, ChosenBy::Current);
        }
        match strategy::offset(self, ask, ring) {
            // an offset is the holder's own place, not the family's: its pointer stays
            Some(start) => grant(strategy::first_from(self, ties, start), ChosenBy::PidOffset),
            None => grant(strategy::pick(self, now, ask, lanes.first.quota, ring, ties), ChosenBy::Strategy),
        }
    }

    /// The session's account, else the preferred one.
    fn wanted(&self, turn: &Turn<'_>, lanes: Lanes<'_>) -> Option<Wanted> {
        let selection = &self.settings.selection;
        let ask = turn.ask;
        let bound = ask
            .session
            .as_deref()
            .filter(|_| selection.mode != Mode::PerformanceFirst)
            .and_then(|name| self.sessions.get(&ask.target.provider, name, turn.asked_at, selection.session_ttl))
            .and_then(|id| self.slots.get(&id).copied());
        if let Some(slot) = bound {
            let wanted = self.take_wanted(turn, lanes, slot, ChosenBy::Session);
            if wanted.is_some() {
                return wanted;
            }
        }
        let preferred = selection.preferred_account.as_deref()?;
        let slot = self.resolve_for(preferred, ask).ok()?;
        self.take_wanted(turn, lanes, slot, ChosenBy::Preferred)
    }

    fn take_wanted(&self, turn: &Turn<'_>, lanes: Lanes<'_>, slot: usize, by: ChosenBy) -> Option<Wanted> {
        let Turn { now, ask, asked_at, .. } = *turn;
        let account = &self.accounts[slot];
        match self.obstacle_on(slot, ask, lanes, now) {
            None => {
                (by == ChosenBy::Session || account.leases < account.policy.capacity).then_some(Wanted::Take(slot, by))
            }
            Some((Ineligible::Limited, Some(until))) if self.settings.selection.mode == Mode::CacheFirst => {
                let until = until.mono(now);
                let patience = self.settings.selection.max_cache_wait.min(self.patience(ask));
                (until <= asked_at.after(patience)).then_some(Wanted::Await(until))
            }
            Some(_) => None,
        }
    }

    /// Collects into `ties` the open accounts that lead the order, and answers the lowest load among all open ones.
    fn leading(
        &self,
        now: Now,
        ask: &LeaseRequest,
        lanes: Lanes<'_>,
        slots: &[usize],
        ties: &mut Vec<usize>,
    ) -> Option<u64> {
        ties.clear();
        let mut best: Option<Order> = None;
        let mut least = u64::MAX;
        let mut agents = None;
        let leases = &self.settings.leases;
        let tier_first = self.settings.selection.tier_first;
        // the leader, when whoever is like it leads as well
        let mut leader: Option<Like> = None;
        for &slot in slots {
            let like = self.likes[slot];
            if leader == Some(like) {
                ties.push(slot);
                continue;
            }
            let order = if tier_first { like.order } else { like.order.any_tier() };
            // who is behind, even below the threshold, and carries more than another, changes nothing
            if best.is_some_and(|best| order > best) && order.load() >= least {
                continue;
            }
            if !like.ready()
                || !like.has_room(leases, ask.exclusive)
                || !self.is_open(slot, like, ask, lanes, now, &mut agents)
            {
                continue;
            }
            least = least.min(order.load());
            let order =
                if like.unmeasured() || !self.is_spent(slot, lanes, now) { order } else { order.over_threshold() };
            match best.map_or(Ordering::Less, |best| order.cmp(&best)) {
                Ordering::Less => {
                    best = Some(order);
                    leader = (like.unlimited() && like.unmeasured() && ask.exclude.is_empty()).then_some(like);
                    ties.clear();
                    ties.push(slot);
                }
                Ordering::Equal => ties.push(slot),
                Ordering::Greater => {}
            }
        }
        best.map(|_| least)
    }

    /// Whether nothing else stands in the way of an account that is ready and has room: `obstacle`, without saying
    /// what. `agents` keeps the answer for the list of agents last looked at; neighbours mostly share one.
    #[inline]
    fn is_open(
        &self,
        slot: usize,
        like: Like,
        ask: &LeaseRequest,
        lanes: Lanes<'_>,
        now: Now,
        agents: &mut Option<(usize, bool)>,
    ) -> bool {
        let account = &self.accounts[slot];
        if !(like.unlimited() && like.unmeasured() && !lanes.pools_only) && is_closed_on(account, lanes, now)
            || !ask.exclude.is_empty() && ask.exclude.binary_search(&account.record.id).is_ok()
        {
            return false;
        }
        match *agents {
            _ if like.allowed_agents() == 0 => true,
            Some((known, allowed)) if like.allowed_agents() == known => allowed,
            _ => {
                let allowed = account.allows(ask.agent.as_deref());
                *agents = Some((like.allowed_agents(), allowed));
                allowed
            }
        }
    }

    /// Whether the quota that would serve is over the soft threshold.
    pub(super) fn is_spent(&self, slot: usize, lanes: Lanes<'_>, now: Now) -> bool {
        let threshold = self.settings.quota.soft_threshold;
        let account = &self.accounts[slot];
        let lane = self.lane_of(account, lanes, now);
        threshold < 1.0 && account.usage.highest(lane.quota, now.wall).is_some_and(|used| used >= threshold)
    }

    /// The quota of the account that would serve.
    pub(super) fn lane_of<'a>(&self, account: &Account, lanes: Lanes<'a>, now: Now) -> Lane<'a> {
        lanes.second.filter(|_| is_closed(account, lanes.first, now)).unwrap_or(lanes.first)
    }

    /// The account this process released lately, if nobody carries less: what comes back finds its cache (I2 holds).
    fn reusable(&self, now: Now, ask: &LeaseRequest, lanes: Lanes<'_>, least: u64) -> Option<usize> {
        let selection = &self.settings.selection;
        if selection.mode == Mode::PerformanceFirst || selection.reuse_window.is_zero() {
            return None;
        }
        let released = self.released.of(process_of(ask)?, now.mono, selection.reuse_window);
        released.filter_map(|id| self.slots.get(&id).copied()).find(|&slot| {
            let account = &self.accounts[slot];
            *account.record.provider == *ask.target.provider
                && self.likes[slot].order.load() <= least
                && self.obstacle_on(slot, ask, lanes, now).is_none()
        })
    }

    /// How long a request may wait.
    pub(super) fn patience(&self, ask: &LeaseRequest) -> std::time::Duration {
        ask.wait.unwrap_or(self.settings.limits.max_rate_limit_wait)
    }
}

/// The process a request is for: the one it is bound to, else the one that asks.
pub(super) fn process_of(ask: &LeaseRequest) -> Option<Process> {
    match ask.bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => ask.holder.process,
    }
}

impl Choice {
    /// The earliest time, if it is known to lie beyond `deadline`.
    pub(super) fn too_late(&self, deadline: Mono) -> bool {
        matches!(self, Self::Wait { earliest: Some(earliest), .. } if *earliest > deadline)
    }
}
