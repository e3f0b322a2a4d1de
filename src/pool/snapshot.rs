//! Snapshots: the state that survives the daemon, and a pool that continues from it.

use crate::limits::LONGEST_BELIEVED;
use crate::pool::account::failures::Denials;
use crate::pool::account::record::AccountRecord;
use crate::pool::account::usage::Usage;
use crate::pool::command::{Effect, Effects, Reply};
use crate::pool::lease::table::Leases;
use crate::pool::lease::{Ending, Lease};
use crate::pool::limit::phase::Phase;
use crate::pool::limit::{Limit, LimitRecord};
use crate::pool::model::{AccountId, Deadline, Fence, LimitSource, LoginProblem, LoginState, Now, PoolSettings};
use crate::pool::session::SessionRecord;
use crate::pool::state::Pool;
use std::sync::Arc;

/// The durable part of the pool's state.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// In the order they were added.
    pub accounts: Vec<AccountRecord>,
    /// Limits that have not ended.
    pub limits: Vec<LimitRecord>,
    /// Sessions and their accounts.
    pub sessions: Vec<SessionRecord>,
    /// The known usage of accounts.
    pub usage: Vec<(AccountId, Usage)>,
    /// Leases that are not bound to a connection.
    pub leases: Vec<Lease>,
    /// The accounts in the shared pool: leases on them are served when the term is resumed.
    pub shared: Vec<AccountId>,
}

/// How a run of the daemon begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolStart {
    /// The first fence of this run; higher than any before.
    pub fence: Fence,
    /// Whether earlier holders may resume their leases first, because the last run did not end cleanly.
    pub grace: bool,
}

impl Pool {
    /// The durable part of the state.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let limits = self.accounts.iter().flat_map(|account| {
            account.limits.iter().filter(|l| l.is_kept()).map(|limit| limit.record(account.record.id, now))
        });
        let known = self.accounts.iter().filter(|account| !account.usage.windows.is_empty());
        let usage = known.map(|account| (account.record.id, account.usage.kept()));
        // sorted: the same state gives the same bytes
        let mut sessions: Vec<SessionRecord> = self.session_records(now).collect();
        sessions.sort_unstable_by(|a, b| (&a.provider, &a.session).cmp(&(&b.provider, &b.session)));
        let mut leases: Vec<Lease> = self.leases.iter().filter(|lease| lease.is_durable()).cloned().collect();
        leases.sort_unstable_by_key(|lease| lease.fence);
        Snapshot {
            accounts: self.accounts.iter().map(|account| account.record.clone()).collect(),
            limits: limits.collect(),
            sessions,
            usage: usage.collect(),
            leases,
            shared: self.shared_accounts(),
        }
    }

    /// The sessions of the snapshot, in no order.
    pub fn session_records(&self, now: Now) -> impl Iterator<Item = SessionRecord> {
        self.sessions.records(now)
    }

    /// A pool that continues from a snapshot; what no longer fits together is left out.
    #[must_use]
    pub fn restore(
        now: Now,
        settings: PoolSettings,
        snapshot: Snapshot,
        start: PoolStart,
        effects: &mut Effects,
    ) -> Self {
        let mut pool = Self::new(settings);
        pool.leases = Leases::starting_at(start.fence);
        pool.skew = now.skew();
        effects.push(Effect::ReserveFences(pool.leases.reserve_fences()));
        for mut record in snapshot.accounts {
            // earlier versions took a single refusal for the end of a login
            if matches!(record.login_state, LoginState::NeedsLogin(LoginProblem::RejectedByProvider { .. })) {
                record.login_state = LoginState::Ready;
                effects.push(Effect::SaveAccount(record.id));
            }
            if pool.accounts.slot(record.id).is_none() {
                pool.accounts.add(record, &pool.settings, now);
            }
        }
        for limit in snapshot.limits {
            pool.restore_limit(now, limit, effects);
        }
        for (id, usage) in snapshot.usage {
            if let Some(slot) = pool.accounts.slot(id) {
                pool.accounts.change_usage(slot, now, &mut pool.timers, |known| *known = usage);
            }
        }
        for record in &snapshot.sessions {
            if pool.accounts.slot(record.account).is_some() {
                pool.sessions.restore(now, record);
            }
        }
        pool.restore_shared(now, &snapshot.shared);
        let mut leases = snapshot.leases;
        leases.sort_unstable_by_key(|lease| std::cmp::Reverse(lease.fence));
        for lease in leases {
            pool.restore_lease(now, lease, effects);
        }
        pool.timers.set_grace(start.grace.then(|| now.mono.after(pool.settings.leases.grace)));
        pool.pass_time(now, effects);
        pool
    }

    /// Notes that leases from before this run have ended: they cannot be resumed.
    pub fn note_ended(&mut self, leases: impl Iterator<Item = Fence>) {
        leases.for_each(|fence| self.leases.retire(fence));
    }

    fn restore_limit(&mut self, now: Now, record: LimitRecord, effects: &mut Effects) {
        let Some(slot) = self.accounts.slot(record.account) else { return };
        let is_probed = record.is_probed();
        let LimitRecord { account, key, scope, reason, until, source, since, evidence, link } = record;
        let since = since.unwrap_or(now.wall);
        // a server states a time of day; a guessed wait is a span, which setting the clock does not change
        let span = source != LimitSource::Server && until <= now.wall.after(LONGEST_BELIEVED);
        let until = if span { Deadline::Mono(now.mono_of(until)) } else { Deadline::Wall(until) };
        let mut limit = Limit { since, evidence, link, ..Limit::new(scope, key, reason, until, source) };
        limit.probed = is_probed;
        if limit.until.passed(now) && limit.probed {
            // no probe has shown yet whether it is over
            limit.phase = Phase::HALF_OPEN;
        } else if limit.until.passed(now) {
            effects.push(Effect::DropLimit(account, Some((scope, limit.key))));
            return;
        }
        if limit.is_denial() {
            self.accounts.failures_mut(slot).denied = Some(Denials::restored(&limit, now));
        }
        self.accounts.change_limits(slot, now, &mut self.timers, |limits| limits.restore(limit, now));
    }

    /// Puts back a lease, newest first; one that no longer fits has ended, and the store must delete it.
    fn restore_lease(&mut self, now: Now, lease: Lease, effects: &mut Effects) {
        let slot = self.accounts.slot(lease.account);
        let alone = |slot: &usize| {
            let account = &self.accounts[*slot];
            !account.exclusive && (!lease.exclusive || account.leases == 0)
        };
        let known =
            !self.leases.is_from_before(lease.fence) || self.leases.contains(lease.fence) || !lease.is_durable();
        let Some(slot) = slot.filter(|slot| !known && alone(slot)) else {
            if !self.leases.contains(lease.fence) {
                effects.push(Effect::Ended(Arc::new(lease), Ending::Revoked));
            }
            return;
        };
        self.accounts.restore_lease(slot, lease.exclusive);
        // the newest answer counts
        if let Some(request) = lease.request_key().filter(|id| self.requests.get(id, now.mono).is_none()) {
            self.remember_answer(now, &request, &Reply::Held(lease.fence));
        }
        let target = self.leases.share_target(Arc::unwrap_or_clone(lease.target));
        // the store has it already: no effect
        self.leases.insert(Arc::new(Lease { target, ..lease }), now.mono, &mut self.timers);
    }
}
