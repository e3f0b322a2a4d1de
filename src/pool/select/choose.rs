//! Which account a request gets: from the account it names down to the strategy (docs/architecture.md, selection).

use crate::pool::account::table::ProviderAccounts;
use crate::pool::lease::ChosenBy;
use crate::pool::model::{
    Fallback, Ineligible, LeaseRequest, Mode, Mono, Now, Overflow, QuotaChoices, Refusal, RefusalKind,
};
use crate::pool::select::eligibility::is_closed;
use crate::pool::select::score::{Score, Standings};
use crate::pool::select::strategy::{self, Pick};
use crate::pool::select::workspace::{Leaders, Workspace};
use crate::pool::state::Pool;

/// With more accounts of a provider, a grant does not note what decided: that would cost more than the selection.
pub(super) const MOST_COMPARED: usize = 64;

#[derive(Debug)]
pub(crate) enum Choice {
    Grant(Chosen),
    /// This account, of which this host must claim a seat first, or the duty to probe it.
    Claim {
        chosen: Chosen,
        /// Other hosts hold all seats, as far as is known: the claim tells them that one is wanted.
        is_full: bool,
    },
    /// No account now; the earliest time at which another try can succeed, where that is known.
    Wait {
        kind: RefusalKind,
        earliest: Option<Mono>,
    },
    /// No account, however long it waits.
    Refuse(Box<Refusal>),
}

/// The account that a request gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub(crate) slot: usize,
    /// Why.
    pub(crate) by: ChosenBy,
    /// Whether it is used in the request's other quota pool.
    pub(crate) other: bool,
    /// The account that the request would get without this one.
    pub(crate) next: NextBest,
    /// The scores of both, if they decided.
    pub(crate) scores: Option<[Score; 2]>,
}

/// The account that a request would get without the chosen one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NextBest {
    NotSought,
    None,
    Slot(usize),
}

impl From<Option<usize>> for NextBest {
    fn from(slot: Option<usize>) -> Self {
        slot.map_or(Self::None, Self::Slot)
    }
}

pub(super) struct Search<'a> {
    pub(super) now: Now,
    pub(super) ask: &'a LeaseRequest,
    asked_at: Mono,
    /// The account it names.
    pinned: Option<usize>,
    pub(super) provider: &'a ProviderAccounts,
    /// Only these accounts can be open, in the provider's order; the others are known not to be.
    among: Option<&'a [usize]>,
}

/// An account that outranks the order.
enum Favorite {
    Take(usize, ChosenBy),
    /// Wait until its limit ends then.
    Await(Mono),
}

impl Pool {
    /// Selects an account for a request made at `asked_at`.
    pub(crate) fn choose(&mut self, now: Now, ask: &LeaseRequest, asked_at: Mono) -> Choice {
        let mut workspace = self.workspace.take().unwrap_or_default();
        let choice = self.choose_with(now, ask, asked_at, &mut workspace);
        self.workspace = Some(workspace);
        choice
    }

    pub(crate) fn choose_with(
        &self,
        now: Now,
        ask: &LeaseRequest,
        asked_at: Mono,
        workspace: &mut Workspace,
    ) -> Choice {
        self.choose_among(now, ask, asked_at, None, workspace)
    }

    /// The same if it is known that only these accounts can be open; they are in the provider's order.
    pub(crate) fn choose_among(
        &self,
        now: Now,
        ask: &LeaseRequest,
        asked_at: Mono,
        among: Option<&[usize]>,
        workspace: &mut Workspace,
    ) -> Choice {
        let Some(provider) = self.accounts.of_provider(&ask.target.provider) else {
            return Choice::Refuse(Box::new(self.no_account(ask)));
        };
        let pinned = match &ask.account {
            Some(reference) => match self.accounts.find(reference, Some(&ask.target.provider)) {
                Ok(slot) => Some(slot),
                Err(refusal) => return Choice::Refuse(Box::new(refusal)),
            },
            None => None,
        };
        let quotas = ask.target.quotas(&self.settings.quota);
        let search = Search { now, ask, asked_at, pinned, provider, among };
        let choice = match quotas.second {
            // the first quota of every account, then the second ones
            Some(second) if self.settings.quota.fallback == Fallback::AccountsFirst => {
                let first = self.choose_on(&search, QuotaChoices::only(quotas.first), workspace);
                let second = QuotaChoices { pools_only: true, ..QuotaChoices::only(second) };
                let is_fallback = |slot: usize| pinned.is_none() && self.accounts[slot].policy.fallback_only;
                match first {
                    None => self.choose_on(&search, second, workspace),
                    // the second quota of another account is used before a fallback
                    Some(Choice::Grant(Chosen { slot, .. })) if is_fallback(slot) => {
                        match self.choose_on(&search, second, workspace) {
                            Some(Choice::Grant(chosen)) if !is_fallback(chosen.slot) => Some(Choice::Grant(chosen)),
                            _ => first,
                        }
                    }
                    first => first,
                }
            }
            _ => self.choose_on(&search, quotas, workspace),
        };
        let slots = pinned.as_ref().map_or(provider.slots(), std::slice::from_ref);
        match choice.unwrap_or_else(|| self.blocked(now, ask, slots)) {
            Choice::Grant(chosen) if self.must_claim(&chosen, ask) => Choice::Claim { chosen, is_full: false },
            choice => choice,
        }
    }

    /// Whether this host must claim a seat of the account first, or the duty to probe it.
    fn must_claim(&self, chosen: &Chosen, ask: &LeaseRequest) -> bool {
        let account = &self.accounts[chosen.slot];
        if account.seats.is_none() {
            return false;
        }
        let quotas = ask.target.quotas(&self.settings.quota);
        let used = if chosen.other { quotas.second.unwrap_or(quotas.first) } else { quotas.first };
        !account.has_seat(ask.kind()) || self.awaits_probe(chosen.slot, used.quota)
    }

    /// The account that is asked although its plan lacks the model, because every other one that could serve lacks it as
    /// well: the provider's own answer says so best, and a plan may have changed.
    fn without_model(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> Option<usize> {
        let lacks = |slot: &usize| {
            let account = &self.accounts[*slot];
            let quota = ask.target.quotas(&self.settings.quota).first.quota;
            let is_limited = || {
                account.limits.iter().any(|limit| limit.blocks(quota) && limit.holds(now) && !limit.is_missing_model())
            };
            matches!(self.ineligible(*slot, ask, now), Some((Ineligible::LacksModel, _)))
                && account.renewing.is_none()
                && !is_limited()
                && self.has_room(account, ask)
                && account.seat_obstacle(ask.kind()).is_none()
        };
        slots.iter().copied().filter(lacks).min_by_key(|slot| self.accounts.key(*slot).rank)
    }

    /// The result of a selection when none of `slots` is open.
    pub(crate) fn blocked(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> Choice {
        if let Some(refusal) = self.refused_by_set(ask, slots) {
            return Choice::Refuse(Box::new(refusal));
        }
        let mut earliest: Option<Mono> = None;
        let (mut busy, mut open_ended, mut seatless) = (false, false, false);
        for &slot in slots {
            match self.ineligible(slot, ask, now) {
                // a lease may end at any moment: when another account can serve changes nothing
                Some((Ineligible::Busy, _)) => {
                    busy = true;
                    break;
                }
                // no seat comes until a person acts, and none that is held becomes free
                Some((Ineligible::NoSeat, _)) if self.term.is_closed() && !self.accounts[slot].keeps_seats() => {}
                // a lease may end here too, and the database may answer again
                Some((Ineligible::NoSeat, _)) => seatless = true,
                // no time helps
                Some((Ineligible::Reserved, _)) if self.is_kept_back(slot, ask) => {}
                Some((Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, Some(until))) => {
                    let until = until.mono(now);
                    earliest = Some(earliest.map_or(until, |known| known.min(until)));
                }
                Some((Ineligible::Limited | Ineligible::Reserved | Ineligible::Renewing, None)) => open_ended = true,
                _ => {}
            }
        }
        if busy && let Some(slot) = self.wanted_seat(now, ask, slots) {
            return Choice::Claim { chosen: Chosen::new(slot, ChosenBy::Strategy), is_full: true };
        }
        if (busy || seatless) && self.settings.leases.overflow == Overflow::Fail {
            return Choice::Refuse(Box::new(self.refusal(now, ask, RefusalKind::NoCapacity)));
        }
        if busy {
            return Choice::Wait { kind: RefusalKind::NoCapacity, earliest: None };
        }
        if open_ended {
            // a probe, a usage reading or a token may arrive at any moment
            return Choice::Wait { kind: RefusalKind::AllLimited, earliest: None };
        }
        if seatless {
            return Choice::Wait { kind: RefusalKind::NoCapacity, earliest: None };
        }
        if earliest.is_some() {
            return Choice::Wait { kind: RefusalKind::AllLimited, earliest };
        }
        if let Some(slot) = self.without_model(now, ask, slots) {
            return Choice::Grant(Chosen::new(slot, ChosenBy::Strategy));
        }
        Choice::Refuse(Box::new(self.refusal(now, ask, self.permanent_kind(now, ask, slots))))
    }

    fn permanent_kind(&self, now: Now, ask: &LeaseRequest, slots: &[usize]) -> RefusalKind {
        let has = |wanted: Ineligible| {
            slots.iter().any(|&slot| self.ineligible(slot, ask, now).is_some_and(|(why, _)| why == wanted))
        };
        if slots.iter().any(|&slot| self.is_withheld(slot, ask, now)) {
            return RefusalKind::NotAllowed;
        }
        let kinds = [
            (Ineligible::Excluded, RefusalKind::NoCapacity),
            (Ineligible::NeedsLogin, RefusalKind::NeedsLogin),
            (Ineligible::NeedsVerification, RefusalKind::NeedsVerification),
            (Ineligible::NotAllowed, RefusalKind::NotAllowed),
            (Ineligible::Reserved, RefusalKind::NotAllowed),
            (Ineligible::NoSeat, RefusalKind::NoCapacity),
            (Ineligible::LacksModel, RefusalKind::NoCapacity),
        ];
        kinds.into_iter().find(|(why, _)| has(*why)).map_or(RefusalKind::NoAccount, |(_, kind)| kind)
    }

    /// Selects on these quotas; `None` if no account is open.
    fn choose_on(&self, search: &Search, quotas: QuotaChoices, workspace: &mut Workspace) -> Option<Choice> {
        let Search { now, ask, .. } = *search;
        let grant = |chosen: Chosen| {
            // where both quotas are open, the first is used
            let first = self.quotas_of(chosen.slot, ask, quotas).first;
            let second = quotas.second.is_some() && is_closed(&self.accounts[chosen.slot], first, now);
            Some(Choice::Grant(Chosen { other: quotas.pools_only || second, ..chosen }))
        };
        if let Some(slot) = search.pinned {
            let is_open = self.ineligible_on(slot, ask, quotas, now).is_none();
            return if is_open { grant(Chosen::new(slot, ChosenBy::Account)) } else { None };
        }
        match self.wanted(search, quotas) {
            Some(Favorite::Take(slot, by)) => return grant(Chosen::new(slot, by)),
            Some(Favorite::Await(until)) => {
                return Some(Choice::Wait { kind: RefusalKind::AllLimited, earliest: Some(until) });
            }
            None => {}
        }
        let Workspace { leaders, index, standings } = workspace;
        if search.among.is_some() {
            let found = self.first_of_all(search, quotas, leaders, standings.as_mut());
            if cfg!(debug_assertions) {
                let all = self.first_of_all(&Search { among: None, ..*search }, quotas, leaders, None);
                let is_same = found.map(|it| (it.slot, it.by)) == all.map(|it| (it.slot, it.by));
                assert!(is_same, "of {:?} it finds {found:?}, and of all {all:?}, for {ask:?}", search.among);
            }
            return grant(found?);
        }
        let mut scanned = || self.first_of_all(search, quotas, leaders, standings.as_mut());
        grant(match self.lane(search, quotas, index.as_mut()) {
            None => scanned()?,
            Some(lane) => {
                let found = self.first_in_order(search, quotas, lane);
                if !cfg!(debug_assertions) {
                    return grant(found?);
                }
                let scanned = scanned();
                let is_same = found.map(|found| (found.slot, found.by)) == scanned.map(|it| (it.slot, it.by));
                assert!(is_same, "the index finds {found:?}, and a scan {scanned:?}, for {ask:?}");
                scanned?
            }
        })
    }

    /// The account that the order and the strategy choose: from a scan of the accounts.
    fn first_of_all(
        &self,
        search: &Search,
        quotas: QuotaChoices,
        leaders: &mut Leaders,
        mut standings: Option<&mut Standings>,
    ) -> Option<Chosen> {
        let Search { now, ask, provider, among, .. } = *search;
        // of a short list, only its accounts are looked at
        let listed = ask.set.only.as_deref().map(|only| self.slots_of(only, provider));
        let slots = among.or(listed.as_deref()).unwrap_or(provider.slots());
        if !self.leading(now, ask, quotas, slots.iter().copied(), leaders) {
            return None;
        }
        let is_compared = provider.slots().len() <= MOST_COMPARED;
        let mut pick = |ties: &[usize]| {
            strategy::pick(self, now, ask, quotas.first.quota, provider, ties, standings.as_deref_mut())
        };
        let mut chosen = |slot: usize, by: ChosenBy, leaders: &mut Leaders| {
            let next = if is_compared { pick(leaders.without(slot)).slot.into() } else { NextBest::NotSought };
            Some(Chosen { next, ..Chosen::new(slot, by) })
        };
        if let Some(slot) = self.reusable(now, ask, quotas, &leaders.ties, || Some(leaders.least)) {
            return chosen(slot, ChosenBy::Reuse, leaders);
        }
        if quotas.pools_only
            && let Some(slot) = strategy::current(self, ask, provider).filter(|slot| leaders.ties.contains(slot))
        {
            return Some(Chosen::new(slot, ChosenBy::Current));
        }
        if let Some(start) = strategy::offset(self, ask, provider) {
            // an offset is the holder's own start: the family's pointers stay
            return chosen(strategy::first_from(self, &leaders.ties, start), ChosenBy::PidOffset, leaders);
        }
        if let [only] = *leaders.ties {
            return chosen(only, ChosenBy::Strategy, leaders);
        }
        let Pick { slot, next, scores } = pick(&leaders.ties);
        Some(Chosen { next: next.into(), scores, ..Chosen::new(slot?, ChosenBy::Strategy) })
    }

    /// The session's account, else that of a sub-agent's parent, else the preferred one.
    fn wanted(&self, search: &Search, quotas: QuotaChoices) -> Option<Favorite> {
        let selection = &self.settings.selection;
        let ask = search.ask;
        let bound = ask
            .session
            .as_deref()
            .filter(|_| selection.mode != Mode::PerformanceFirst)
            .and_then(|name| self.sessions.get(&ask.target.provider, name, search.asked_at, selection.session_ttl))
            .and_then(|id| self.accounts.slot(id));
        if let Some(slot) = bound {
            let wanted = self.take_wanted(search, quotas, slot, ChosenBy::Session);
            if wanted.is_some() {
                return wanted;
            }
        }
        let in_turn = selection.mode == Mode::PerformanceFirst;
        if let Some(slot) = ask.beside().filter(|_| !in_turn).and_then(|id| self.accounts.slot(id)) {
            let is_open = self.ineligible_on(slot, ask, quotas, search.now).is_none();
            if is_open && !self.is_left_for_another(search.now, ask, quotas, slot) {
                return Some(Favorite::Take(slot, ChosenBy::Parent));
            }
        }
        let preferred = selection.preferred_account.as_deref()?;
        let slot = self.accounts.find(preferred, Some(&ask.target.provider)).ok()?;
        self.take_wanted(search, quotas, slot, ChosenBy::Preferred)
    }

    fn take_wanted(&self, search: &Search, quotas: QuotaChoices, slot: usize, by: ChosenBy) -> Option<Favorite> {
        let Search { now, ask, asked_at, .. } = *search;
        let account = &self.accounts[slot];
        match self.ineligible_on(slot, ask, quotas, now) {
            None if self.is_left_for_another(now, ask, quotas, slot) => None,
            None => {
                let subagents = if ask.subagent.is_some() { account.subagents } else { 0 };
                let has_room = account.used() + subagents < account.policy.capacity;
                (by == ChosenBy::Session || has_room).then_some(Favorite::Take(slot, by))
            }
            Some((Ineligible::Limited, Some(until))) if self.settings.selection.mode == Mode::CacheFirst => {
                let until = until.mono(now);
                let patience = self.settings.selection.max_cache_wait.min(self.patience(ask));
                (until <= asked_at.after(patience)).then_some(Favorite::Await(until))
            }
            Some(_) => None,
        }
    }

    /// The account this process released recently, if no account has less load: its caches are warm (I2 holds). Those in
    /// `open` are known to be open.
    pub(super) fn reusable(
        &self,
        now: Now,
        ask: &LeaseRequest,
        quotas: QuotaChoices,
        open: &[usize],
        least: impl FnOnce() -> Option<u64>,
    ) -> Option<usize> {
        let selection = &self.settings.selection;
        if selection.mode == Mode::PerformanceFirst || selection.reuse_window.is_zero() || ask.subagent.is_some() {
            return None;
        }
        let mut released = self.released.of(ask.process()?, now.mono, selection.reuse_window).peekable();
        released.peek()?;
        let least = least()?;
        released.filter_map(|id| self.accounts.slot(id)).find(|&slot| {
            let account = &self.accounts[slot];
            *account.record.provider == *ask.target.provider
                && self.accounts.key(slot).rank.load() <= least
                && !self.is_left_for_another(now, ask, quotas, slot)
                && (open.contains(&slot) || self.ineligible_on(slot, ask, quotas, now).is_none())
        })
    }

    /// How long a request may wait.
    pub(crate) fn patience(&self, ask: &LeaseRequest) -> std::time::Duration {
        ask.wait.unwrap_or(self.settings.limits.max_rate_limit_wait)
    }
}

impl Chosen {
    pub(crate) fn new(slot: usize, by: ChosenBy) -> Self {
        Self { slot, by, other: false, next: NextBest::NotSought, scores: None }
    }

    /// Chosen among fewer accounts than the request may have: the next best of all is not known.
    pub(crate) fn of_fewer(self) -> Self {
        Self { next: NextBest::NotSought, scores: None, ..self }
    }
}

impl Choice {
    /// The earliest time, if it is known to lie beyond `deadline`.
    pub(crate) fn too_late(&self, deadline: Mono) -> bool {
        matches!(self, Self::Wait { earliest: Some(earliest), .. } if *earliest > deadline)
    }
}
