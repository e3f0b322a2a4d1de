//! What a crash must keep, as it is in memory, and the comparison of what was restored with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::state::State;
use crate::limits::Scope;
use crate::pool::{AccountId, Limit, LoginState, Now, Tier};

/// The leases, settings and limits of a state.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Contents {
    /// The leases that are bound to a process or a time: their accounts.
    leases: BTreeMap<u64, AccountId>,
    accounts: BTreeMap<AccountId, AccountContents>,
}

type LimitKey = (Scope, String, &'static str);

#[derive(Clone, PartialEq, Debug)]
struct AccountContents {
    label: Option<String>,
    enabled: bool,
    disabled_reason: Option<String>,
    max_leases: Option<u32>,
    priority: i32,
    tier: Tier,
    login_state: LoginState,
    /// Those that hold for a while yet.
    limits: BTreeSet<LimitKey>,
    refresh: Option<String>,
}

/// A limit that ends sooner is not compared.
const SOON: std::time::Duration = std::time::Duration::from_secs(120);

impl Contents {
    pub(super) fn of(state: &State, now: Now) -> Self {
        let durable = state.pool.leases().filter(|lease| lease.is_durable());
        let later = Now { mono: now.mono.after(SOON), wall: now.wall.after(SOON) };
        let accounts = state.pool.accounts().iter().map(|account| {
            let record = &account.record;
            // one whose time is over is not kept
            let lasts = |limit: &&Limit| !limit.is_recovering() && limit.holds(now) && limit.holds(later);
            let limits = account.limits().iter().filter(lasts);
            let contents = AccountContents {
                label: record.label.clone(),
                enabled: record.enabled,
                disabled_reason: record.disabled_reason.clone(),
                max_leases: record.max_leases,
                priority: record.priority,
                tier: record.tier,
                login_state: record.login_state.clone(),
                limits: limits.map(|limit| (limit.scope, limit.key.clone(), limit.reason.name())).collect(),
                refresh: state.credentials.refresh_token(record.id).map(|token| token.expose().to_owned()),
            };
            (record.id, contents)
        });
        Self { leases: durable.map(|lease| (lease.fence.0, lease.account)).collect(), accounts: accounts.collect() }
    }

    /// The refresh tokens in use.
    pub(super) fn refresh_tokens(&self) -> impl Iterator<Item = (AccountId, &str)> {
        self.accounts.iter().filter_map(|(id, account)| Some((*id, account.refresh.as_deref()?)))
    }

    pub(super) fn forget_limits(&mut self) {
        self.accounts.values_mut().for_each(|account| account.limits.clear());
    }

    /// Checks that what was restored after a `kill -9` was there at some time from `stages`, the last state that was
    /// saved and what followed it; each lease and each account on its own, because they are written one after the other.
    /// What was answered must be as it was then, or later.
    pub(super) fn check_after_kill(&self, stages: &[Self], answered: &Answered) {
        let fences = stages.iter().flat_map(|stage| stage.leases.keys()).chain(self.leases.keys());
        for fence in fences.copied().collect::<BTreeSet<u64>>() {
            let restored = self.leases.get(&fence);
            let from = answered.leases.get(&fence).copied().unwrap_or(0);
            let were: Vec<_> = stages.iter().map(|stage| stage.leases.get(&fence)).collect();
            let is_known = were[from..].contains(&restored);
            assert!(is_known, "lease {fence} is restored as {restored:?}; it was {were:?}, answered at {from}");
        }
        self.check_accounts(stages, answered, AccountContents::is_as);
    }

    /// The same after a power failure: leases are gone, and only credentials and the accounts themselves must be there.
    pub(super) fn check_after_power_failure(&self, stages: &[Self]) {
        assert!(self.leases.is_empty(), "leases have survived the machine: {:?}", self.leases);
        self.check_accounts(stages, &Answered::default(), |_, _| true);
    }

    fn check_accounts(
        &self,
        stages: &[Self],
        answered: &Answered,
        is_same: impl Fn(&AccountContents, &AccountContents) -> bool,
    ) {
        let ids = stages.iter().flat_map(|stage| stage.accounts.keys()).chain(self.accounts.keys());
        for id in ids.copied().collect::<BTreeSet<AccountId>>() {
            let restored = self.accounts.get(&id);
            let from = answered.accounts.get(&id).copied().unwrap_or(0);
            let were: Vec<_> = stages.iter().map(|stage| stage.accounts.get(&id)).collect();
            let possible = |was: &Option<&AccountContents>| match (restored, was) {
                (None, None) => true,
                (Some(restored), Some(was)) => is_same(restored, &was.with_limits_of(restored, &were[from..])),
                _ => false,
            };
            let is_known = were[from..].iter().any(possible);
            assert!(is_known, "account {id} is restored as {restored:#?}; it was {were:#?}, answered at {from}");
        }
    }
}

/// What an answer says has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Promise {
    Lease(u64),
    Account(AccountId),
}

/// The stages at which leases and accounts were when an answer about them was sent.
#[derive(Debug, Default)]
pub(super) struct Answered {
    leases: BTreeMap<u64, usize>,
    accounts: BTreeMap<AccountId, usize>,
}

impl Answered {
    pub(super) fn note(&mut self, what: Promise, stage: usize) {
        match what {
            Promise::Lease(fence) => self.leases.insert(fence, stage),
            Promise::Account(id) => self.accounts.insert(id, stage),
        };
    }
}

impl AccountContents {
    /// Whether it is the same but for its token, which is compared with the provider's.
    fn is_as(&self, other: &Self) -> bool {
        let Self { refresh, .. } = self;
        refresh.is_some() == other.refresh.is_some()
            && Self { refresh: other.refresh.clone(), ..self.clone() } == *other
    }

    /// This, with the limits of `restored` if each of them, and each that is missing there, was so at some time.
    fn with_limits_of(&self, restored: &Self, were: &[Option<&Self>]) -> Self {
        let known = || were.iter().flatten();
        let all: BTreeSet<_> = known().flat_map(|of| of.limits.iter()).collect();
        let can_be = |limit: &LimitKey| {
            let is_there = restored.limits.contains(limit);
            known().any(|of| of.limits.contains(limit) == is_there)
        };
        let is_possible =
            restored.limits.iter().all(|limit| all.contains(limit)) && all.iter().all(|limit| can_be(limit));
        let limits = if is_possible { restored.limits.clone() } else { self.limits.clone() };
        Self { limits, ..self.clone() }
    }
}
