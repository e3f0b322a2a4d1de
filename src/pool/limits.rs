//! Limits are filed, and end: by time or by command, never by a shorter guess (I7, I8).

use crate::limits::{LONGEST_BELIEVED, Reason};

use super::account::Account;
use super::command::{Effect, Event, Reply};
use super::error::Refusal;
use super::id::AccountId;
use super::limit::{Limit, LimitRecord};
use super::recovery::{LONG, Phase};
use super::time::{Deadline, Now};
use super::{LimitEnds, Pool};

/// Most limits of one account: one for each model somebody thought of would have no bound.
const MOST_LIMITS: usize = 256;

impl Pool {
    pub(super) fn limit_account(
        &mut self,
        now: Now,
        id: AccountId,
        mut limit: Limit,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let believed = now.mono.after(LONGEST_BELIEVED);
        if limit.until.passed(now) || limit.until.mono(now) > believed {
            return Ok(Reply::Done);
        }
        (limit.since, limit.phase) = (now.wall, Phase::CLOSED);
        limit.long = limit.until.mono(now).since(now.mono) >= LONG;
        let limits = &mut self.accounts[slot].limits;
        match limits.iter_mut().find(|old| old.same_place(&limit)) {
            Some(old) if !old.yields_to(&limit, now) => return Ok(Reply::Done),
            Some(old) => {
                limit.phase = old.phase_of_longer();
                *old = limit.clone();
            }
            None => {
                if limits.len() >= MOST_LIMITS {
                    // the one that would end first anyway goes
                    let soonest = (0..limits.len()).min_by_key(|at| limits[*at].until.mono(now));
                    let dropped = soonest.map(|at| limits.swap_remove(at));
                    let kept = dropped.filter(Limit::is_kept);
                    effects.extend(kept.map(|old| Effect::DropLimit(id, Some((old.scope, old.key)))));
                }
                limits.push(limit.clone());
            }
        }
        self.refresh(slot);
        self.find_next_limit_end(now);
        self.stirred.all = true;
        let record = record(id, &limit, now);
        effects.push(Effect::SaveLimit(record.clone()));
        effects.push(Effect::Emit(Event::Limited(record)));
        Ok(Reply::Done)
    }

    pub(super) fn clear_limits(
        &mut self,
        now: Now,
        id: AccountId,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let slot = self.slot(id)?;
        let account = &mut self.accounts[slot];
        account.quota_failures = 0;
        account.refused.clear();
        if !account.limits.is_empty() {
            effects.push(Effect::DropLimit(id, None));
            for limit in account.limits.drain(..).filter(|limit| !limit.is_recovering()) {
                effects.push(Effect::Emit(Event::Recovered(id, limit.key)));
            }
        }
        self.refresh(slot);
        self.find_next_limit_end(now);
        self.stirred.all = true;
        Ok(Reply::Done)
    }

    /// The clock was set: the store keeps ends on the wall clock, so those that are spans must be kept anew, or a
    /// restart would lose or stretch them (I7).
    pub(super) fn save_spans(&self, now: Now, effects: &mut Vec<Effect>) {
        for account in &self.accounts {
            let spans =
                account.limits.iter().filter(|limit| limit.is_kept() && matches!(limit.until, Deadline::Mono(_)));
            effects.extend(spans.map(|limit| Effect::SaveLimit(record(account.record.id, limit, now))));
        }
    }

    pub(super) fn find_next_limit_end(&mut self, now: Now) {
        let mut ends = LimitEnds::default();
        let limits = self.accounts.iter().flat_map(|account| &account.limits);
        for change in limits.filter_map(|limit| limit.next_change(now.mono)) {
            match change {
                Deadline::Mono(at) => ends.mono = Some(ends.mono.map_or(at, |known| known.min(at))),
                Deadline::Wall(at) => ends.wall = Some(ends.wall.map_or(at, |known| known.min(at))),
            }
        }
        self.next_limit_end = ends;
    }

    /// A reading that is newer than a limit by the quota, and shows room in everything that counts for it, ends it (I7).
    pub(super) fn end_by_reading(&mut self, now: Now, slot: usize, effects: &mut Vec<Effect>) {
        let Account { record, limits, usage, .. } = &mut self.accounts[slot];
        let id = record.id;
        let before = limits.len();
        limits.retain(|limit| {
            let ends = limit.reason == Reason::QuotaExhausted && usage.speaks_against(limit, now);
            if ends && limit.is_kept() {
                effects.push(Effect::DropLimit(id, Some((limit.scope, limit.key.clone()))));
            }
            if ends && !limit.is_recovering() {
                effects.push(Effect::Emit(Event::Recovered(id, limit.key.clone())));
            }
            !ends
        });
        if limits.len() < before {
            self.refresh(slot);
            self.find_next_limit_end(now);
            self.stirred.all = true;
        }
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
        since: Some(limit.since),
        evidence: limit.evidence.clone(),
        link: limit.link.clone(),
    }
}
