//! Choosing by the index: the accounts are visited in their order, until the first one that may serve the request.

use crate::pool::account::digest::Rank;
use crate::pool::lease::ChosenBy;
use crate::pool::model::{Now, QuotaChoices, Strategy};
use crate::pool::select::choose::{Chosen, Search};
use crate::pool::select::index::{FEWEST_INDEXED, Index};
use crate::pool::select::lane::{Lane, Place};
use crate::pool::select::place::{StrategyKey, strategy_of};
use crate::pool::select::score::Hybrid;
use crate::pool::select::strategy;
use crate::pool::state::Pool;

impl Pool {
    /// The order for a request; `None` if the accounts are to be scanned: there are few of them, or the request has an
    /// order of its own.
    pub(super) fn lane<'i>(
        &self,
        search: &Search,
        quotas: QuotaChoices,
        index: Option<&'i mut Index>,
    ) -> Option<&'i Lane> {
        let Search { now, ask, provider, .. } = *search;
        let has_own_order = ask.subagent.is_some()
            || ask.set.only.is_some()
            || quotas.second.is_some()
            || quotas.pools_only
            || strategy::offset(self, ask, provider).is_some();
        if provider.slots().len() < FEWEST_INDEXED || has_own_order {
            return None;
        }
        index?.lane(&self.accounts, &self.settings, now, &ask.target.provider, quotas.first.quota)
    }

    /// As `first_of_all`, by the index.
    pub(super) fn first_in_order(&self, search: &Search, quotas: QuotaChoices, lane: &Lane) -> Option<Chosen> {
        let Search { now, ask, provider, .. } = *search;
        let mut agents = None;
        let leases = &self.settings.leases;
        let set = self.membership(&ask.set);
        let mut may_serve = |place: &&Place| {
            let (slot, key) = (place.slot, self.accounts.key(place.slot));
            key.has_room(leases, ask)
                && !key.lacks_seat(ask)
                && (!set.is_restricted() || set.has(&self.accounts[slot]))
                && self.is_open(slot, key, ask, quotas, now, &mut agents)
        };
        let first = *lane.iter().find(&mut may_serve)?;
        let least = || least_load(lane, first.rank, &mut may_serve);
        if let Some(slot) = self.reusable(now, ask, quotas, &[], least) {
            return Some(Chosen::new(slot, ChosenBy::Reuse));
        }
        let at_or_after = |start: usize, may_serve: &mut dyn FnMut(&&Place) -> bool| {
            let from = Place { slot: start, ..Place::at(first.rank) };
            lane.starting_at(from).take_while(|place| place.rank == first.rank).find(may_serve).map(|place| place.slot)
        };
        let slot = match strategy::start(self, ask, provider) {
            Some(start) => at_or_after(start, &mut may_serve).unwrap_or(first.slot),
            None if strategy_of(&self.settings.selection) == Strategy::Hybrid => {
                let current = strategy::current(self, ask, provider);
                self.best_score(now, lane, first, current, &mut may_serve)
            }
            None => first.slot,
        };
        Some(Chosen::new(slot, ChosenBy::Strategy))
    }

    /// The account of the highest score: among the first of each pace, and the current one.
    fn best_score(
        &self,
        now: Now,
        lane: &Lane,
        first: Place,
        current: Option<usize>,
        may_serve: &mut dyn FnMut(&&Place) -> bool,
    ) -> usize {
        let hybrid = Hybrid::new(&self.settings.selection);
        let is_like_first = |place: &&Place| (place.rank, place.level) == (first.rank, first.level);
        let of_current = current.and_then(|slot| lane.place(self.accounts.position(slot)));
        let mut best = (self.key_of(&hybrid, &first, current, now), first);
        let mut consider = |place: &Place| {
            let key = self.key_of(&hybrid, place, current, now);
            if (key, place.tie_break, place.slot) < (best.0, best.1.tie_break, best.1.slot) {
                best = (key, *place);
            }
        };
        if let Some(place) = of_current.filter(is_like_first).filter(&mut *may_serve) {
            consider(place);
        }
        for pace in first.pace.later() {
            let from = Place { level: first.level, pace, ..Place::at(first.rank) };
            let same_pace = lane.starting_at(from).take_while(|place| is_like_first(place) && place.pace == pace);
            if let Some(place) = same_pace.into_iter().find(&mut *may_serve) {
                consider(place);
            }
        }
        best.1.slot
    }

    fn key_of(&self, hybrid: &Hybrid, place: &Place, current: Option<usize>, now: Now) -> StrategyKey {
        StrategyKey::hybrid(hybrid, self.accounts.inputs(place.slot), current == Some(place.slot), now)
    }
}

/// The lowest load of all accounts that may serve; of fallbacks only where no other account may.
fn least_load(lane: &Lane, first: Rank, may_serve: &mut dyn FnMut(&&Place) -> bool) -> Option<u64> {
    // mostly there are no last resorts: then the first account has it
    if lane.last().is_some_and(|last| last.rank.last_resorts() == first.last_resorts()) {
        return Some(first.load());
    }
    let least = |last_resorts: Rank| {
        let alike =
            lane.starting_at(Place::at(last_resorts)).take_while(|place| place.rank.last_resorts() == last_resorts);
        alike.into_iter().find(&mut *may_serve).map(|place| place.rank.load())
    };
    Rank::all_last_resorts(first.is_fallback_only()).filter_map(least).min()
}
