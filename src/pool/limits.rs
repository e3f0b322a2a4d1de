//! Limits are filed, and end: by time or by command, never by a shorter guess (I7, I8).

use std::time::Duration;

use super::command::{Effect, Event, Reply};
use super::error::Refusal;
use super::id::AccountId;
use super::limit::{Limit, LimitRecord};
use super::time::{Deadline, Now};
use super::{LimitEnds, Pool};

/// A wait stated for longer than this is not believed.
pub(super) const LONGEST_BELIEVED: Duration = Duration::from_secs(32 * 86_400);
/// A wait stated for less than this is taken for this.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(2);

/// Most limits of one account: one for each model somebody thought of would have no bound.
const MOST_LIMITS: usize = 256;

impl Pool {
    pub(super) fn limit_account(
        &mut self,
        now: Now,
        id: AccountId,
        limit: Limit,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let believed = now.mono.after(LONGEST_BELIEVED);
        if limit.until.passed(now) || limit.until.mono(now) > believed {
            return Ok(Reply::Done);
        }
        let limits = &mut self.accounts[slot].limits;
        match limits.iter_mut().find(|old| old.same_place(&limit)) {
            Some(old) if !old.yields_to(&limit, now) => return Ok(Reply::Done),
            Some(old) => *old = limit.clone(),
            None => {
                if limits.len() >= MOST_LIMITS {
                    // the one that would end first anyway goes
                    let soonest = (0..limits.len()).min_by_key(|at| limits[*at].until.mono(now));
                    let dropped = soonest.map(|at| limits.swap_remove(at));
                    effects.extend(dropped.map(|old| Effect::DropLimit(id, Some((old.scope, old.key)))));
                }
                limits.push(limit.clone());
            }
        }
        self.refresh(slot);
        self.find_next_limit_end();
        self.stirred.all = true;
        let record = record(id, &limit, now);
        effects.push(Effect::SaveLimit(record.clone()));
        effects.push(Effect::Emit(Event::Limited(record)));
        Ok(Reply::Done)
    }

    pub(super) fn clear_limits(&mut self, id: AccountId, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let account = &mut self.accounts[slot];
        account.quota_failures = 0;
        account.refused.clear();
        if !account.limits.is_empty() {
            effects.push(Effect::DropLimit(id, None));
            for limit in account.limits.drain(..) {
                effects.push(Effect::Emit(Event::Recovered(id, limit.key)));
            }
        }
        self.refresh(slot);
        self.find_next_limit_end();
        self.stirred.all = true;
        Ok(Reply::Done)
    }

    /// Takes off the limits that are over.
    pub(super) fn end_limits(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for account in &mut self.accounts {
            let id = account.record.id;
            account.limits.retain(|limit| {
                let over = limit.until.passed(now);
                if over {
                    effects.push(Effect::DropLimit(id, Some((limit.scope, limit.key.clone()))));
                    effects.push(Effect::Emit(Event::Recovered(id, limit.key.clone())));
                }
                !over
            });
        }
        self.refresh_all();
        self.find_next_limit_end();
        self.stirred.all = true;
    }

    /// The clock was set: the store keeps ends on the wall clock, so those that are spans must be kept anew, or a
    /// restart would lose or stretch them (I7).
    pub(super) fn save_spans(&self, now: Now, effects: &mut Vec<Effect>) {
        for account in &self.accounts {
            let spans = account.limits.iter().filter(|limit| matches!(limit.until, Deadline::Mono(_)));
            effects.extend(spans.map(|limit| Effect::SaveLimit(record(account.record.id, limit, now))));
        }
    }

    pub(super) fn find_next_limit_end(&mut self) {
        let mut ends = LimitEnds::default();
        for limit in self.accounts.iter().flat_map(|account| &account.limits) {
            match limit.until {
                Deadline::Mono(at) => ends.mono = Some(ends.mono.map_or(at, |known| known.min(at))),
                Deadline::Wall(at) => ends.wall = Some(ends.wall.map_or(at, |known| known.min(at))),
            }
        }
        self.next_limit_end = ends;
    }
}

pub(super) fn record(account: AccountId, limit: &Limit, now: Now) -> LimitRecord {
    LimitRecord {
        account,
        key: limit.key.clone(),
        scope: limit.scope,
        reason: limit.reason,
        until: limit.until.wall(now),
        source: limit.source,
    }
}
