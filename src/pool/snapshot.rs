//! What survives the daemon: taken out of the pool, and put back into a new one.

use crate::limits::LONGEST_BELIEVED;

use super::account::AccountRecord;
use super::command::Effect;
use super::id::{AccountId, Fence};
use super::lease::{Ending, Lease};
use super::limit::{Limit, LimitRecord, LimitSource};
use super::recovery::{LONG, Phase};
use super::session::SessionRecord;
use super::settings::PoolSettings;
use super::time::{Deadline, Now};
use super::usage::Usage;
use super::{Pool, limits};

/// The durable part of the pool's state.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// In the order they were added.
    pub accounts: Vec<AccountRecord>,
    /// Limits that were not over.
    pub limits: Vec<LimitRecord>,
    /// Where sessions live.
    pub sessions: Vec<SessionRecord>,
    /// What was known of accounts' windows.
    pub usage: Vec<(AccountId, Usage)>,
    /// Leases whose holders do not hang on a connection.
    pub leases: Vec<Lease>,
}

/// How a run begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolStart {
    /// The first fence of this run; higher than any before.
    pub fence: Fence,
    /// Whether holders may come back, because the last run did not end cleanly.
    pub grace: bool,
}

impl Pool {
    /// The durable part of the state.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let limits = self.accounts.iter().flat_map(|account| {
            account.limits.iter().filter(|l| l.is_kept()).map(|limit| limits::record(account.record.id, limit, now))
        });
        let known = self.accounts.iter().filter(|account| !account.usage.windows.is_empty());
        let usage = known.map(|account| (account.record.id, account.usage.kept()));
        // sorted: the same state gives the same bytes
        let mut sessions: Vec<SessionRecord> = self.sessions.records(now).collect();
        sessions.sort_unstable_by(|a, b| (&a.provider, &a.session).cmp(&(&b.provider, &b.session)));
        let mut leases: Vec<Lease> = self.leases.values().filter(|lease| lease.is_durable()).cloned().collect();
        leases.sort_unstable_by_key(|lease| lease.fence);
        Snapshot {
            accounts: self.accounts.iter().map(|account| account.record.clone()).collect(),
            limits: limits.collect(),
            sessions,
            usage: usage.collect(),
            leases,
        }
    }

    /// A pool that goes on where another one ended; what no longer fits together is left out.
    #[must_use]
    pub fn restore(
        now: Now,
        settings: PoolSettings,
        snapshot: Snapshot,
        start: PoolStart,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let mut pool = Self::new(settings);
        pool.next_fence = start.fence;
        pool.first_fence = start.fence;
        pool.skew = now.skew();
        pool.reserve_fences(effects);
        for record in snapshot.accounts {
            if !pool.slots.contains_key(&record.id) {
                pool.insert_account(now, record);
            }
        }
        for limit in snapshot.limits {
            pool.restore_limit(now, limit, effects);
        }
        for (id, usage) in snapshot.usage {
            if let Some(&slot) = pool.slots.get(&id) {
                pool.accounts[slot].usage = usage;
            }
        }
        pool.find_next_reset(now);
        pool.find_next_limit_end(now);
        pool.refresh_all();
        for record in &snapshot.sessions {
            if pool.slots.contains_key(&record.account) {
                pool.sessions.restore(now, record);
            }
        }
        let mut leases = snapshot.leases;
        leases.sort_unstable_by_key(|lease| std::cmp::Reverse(lease.fence));
        for lease in leases {
            pool.restore_lease(now, lease, effects);
        }
        pool.grace_until = start.grace.then(|| now.mono.after(pool.settings.leases.grace));
        pool.pass_time(now, effects);
        pool
    }

    fn restore_limit(&mut self, now: Now, record: LimitRecord, effects: &mut Vec<Effect>) {
        let Some(&slot) = self.slots.get(&record.account) else { return };
        let LimitRecord { account, key, scope, reason, until, source, since, evidence, link } = record;
        let long = since.is_some_and(|since| until.since(since) >= LONG);
        let since = since.unwrap_or(now.wall);
        // a time the server named is a time of day; a guessed wait is a span, which a set clock does not change
        let span = source != LimitSource::Server && until <= now.wall.after(LONGEST_BELIEVED);
        let until = if span { Deadline::Mono(now.mono_of(until)) } else { Deadline::Wall(until) };
        let mut limit = Limit { since, evidence, link, long, ..Limit::new(scope, key, reason, until, source) };
        if limit.until.passed(now) && long {
            // nobody has found out yet whether it is over
            limit.phase = Phase::HalfOpen(None);
        } else if limit.until.passed(now) {
            effects.push(Effect::DropLimit(account, Some((scope, limit.key))));
            return;
        }
        let limits = &mut self.accounts[slot].limits;
        match limits.iter_mut().find(|old| old.same_place(&limit)) {
            Some(old) if old.yields_to(&limit, now) => *old = limit,
            Some(_) => {}
            None => limits.push(limit),
        }
    }

    /// Takes in a lease, newest first; one that fits nowhere has ended, and the store is told.
    fn restore_lease(&mut self, now: Now, lease: Lease, effects: &mut Vec<Effect>) {
        let slot = self.slots.get(&lease.account).copied();
        let alone = |slot: &usize| {
            let account = &self.accounts[*slot];
            !account.exclusive && (!lease.exclusive || account.leases == 0)
        };
        let known = lease.fence >= self.first_fence || self.leases.contains_key(&lease.fence) || !lease.is_durable();
        let Some(slot) = slot.filter(|slot| !known && alone(slot)) else {
            if !self.leases.contains_key(&lease.fence) {
                effects.push(Effect::Ended(Box::new(lease), Ending::Revoked));
            }
            return;
        };
        let account = &mut self.accounts[slot];
        account.leases += 1;
        account.exclusive |= lease.exclusive;
        self.tolerate(slot);
        self.refresh(slot);
        // the newest answer is the one that stood
        if let Some(request) = lease.request_id.as_deref().filter(|id| self.requests.get(id, now.mono).is_none()) {
            self.remember(now, request, &super::Reply::Held(lease.fence));
        }
        // it is in the store already: no effect is wanted
        self.file(lease, &mut Vec::new());
    }
}
