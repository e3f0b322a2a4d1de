//! The limits in the database, and who probes: the rules of `shared_pool/schema/1/limits.sql`. Times are the database's.

use std::collections::BTreeMap;

use lessor::limits::Scope;
use lessor::pool::{AccountId, LimitSource};

use super::database::Fault;

/// Which limit: its account, scope and key.
pub type LimitKey = (AccountId, Scope, String);

#[derive(Clone, Debug)]
pub struct LimitRow {
    pub until: u64,
    pub source: LimitSource,
    pub since: u64,
    pub cleared_at: Option<u64>,
    revision: u64,
    pub changed_at: u64,
}

impl LimitRow {
    pub fn strength(&self) -> (bool, u64) {
        (self.source != LimitSource::Table, self.until)
    }
}

/// What a host has learnt of a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LimitChange {
    Set { key: LimitKey, until: u64, source: LimitSource, since: u64 },
    Cleared { account: AccountId, which: Option<(Scope, String)>, at: u64 },
}

impl LimitChange {
    pub fn account(&self) -> AccountId {
        match self {
            Self::Set { key, .. } => key.0,
            Self::Cleared { account, .. } => *account,
        }
    }

    /// The limit; `None` for all of the account.
    pub fn key(&self) -> Option<LimitKey> {
        match self {
            Self::Set { key, .. } => Some(key.clone()),
            Self::Cleared { account, which, .. } => which.clone().map(|(scope, key)| (*account, scope, key)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeAnswer {
    Claimed(u64),
    Held,
    Cleared(Vec<(Scope, String)>),
    Limited,
}

#[derive(Default)]
pub struct LimitTable {
    pub rows: BTreeMap<LimitKey, LimitRow>,
    /// When all limits of an account were cleared last, and with which revision.
    all_cleared: BTreeMap<AccountId, (u64, u64)>,
    revision: u64,
    duties: BTreeMap<AccountId, (usize, u64)>,
    /// How often the duty was claimed.
    pub claimed: u64,
}

impl LimitTable {
    /// Carries out a change; answers whether there is news.
    pub fn change(&mut self, time: u64, change: LimitChange, fault: Fault) -> bool {
        self.revision += 1;
        let (revision, changed_at) = (self.revision, time);
        match change {
            LimitChange::Set { key, until, source, since } => {
                let since = since.min(time);
                let is_late = self.all_cleared.get(&key.0).is_some_and(|(at, _)| *at >= since);
                let row = LimitRow { until, source, since, cleared_at: None, revision, changed_at };
                if until <= time {
                    // a stated wait had replaced a guess, which is over with it
                    let is_guess = |old: &&mut LimitRow| old.source == LimitSource::Table && old.since <= since;
                    let holds = |old: &&mut LimitRow| old.cleared_at.is_none() && old.until > time;
                    let is_stated = source != LimitSource::Table && since <= until;
                    let replaced = self.rows.get_mut(&key).filter(is_guess).filter(holds).filter(|_| is_stated);
                    return replaced.is_some_and(|old| {
                        (old.cleared_at, old.revision, old.changed_at) = (Some(until), revision, time);
                        true
                    });
                }
                let yields = |old: &LimitRow| match old.cleared_at {
                    Some(at) => since > at,
                    None => old.until <= time || row.strength() > old.strength() || fault == Fault::WeakerLimits,
                };
                if is_late || !self.rows.get(&key).is_none_or(yields) {
                    return false;
                }
                if let Some(old) = self.rows.get(&key).filter(|old| old.cleared_at.is_none() && old.until > time) {
                    assert!(row.strength() > old.strength(), "{row:?} replaces {old:?} (I8)");
                }
                self.rows.insert(key, row);
            }
            LimitChange::Cleared { account, which, at } => {
                let at = at.min(time);
                for ((of, scope, key), row) in &mut self.rows {
                    let is_meant = which.as_ref().is_none_or(|which| *which == (*scope, key.clone()));
                    if *of == account && is_meant && row.cleared_at.is_none() && row.since <= at {
                        (row.cleared_at, row.revision, row.changed_at) = (Some(at), revision, time);
                    }
                }
                if which.is_none() {
                    // a host may take what was learnt a moment later for older
                    for ((of, ..), row) in &mut self.rows {
                        if *of == account && row.cleared_at.is_none() && row.until > time {
                            (row.revision, row.changed_at) = (revision, time);
                        }
                    }
                    let all = self.all_cleared.entry(account).or_insert((at, revision));
                    *all = (all.0.max(at), revision);
                }
            }
        }
        true
    }

    /// What has changed after a revision, and the newest one.
    pub fn news(&self, time: u64, after: u64, fault: Fault) -> (u64, Vec<LimitChange>) {
        let is_news = |revision: u64| revision > after && fault != Fault::LostNews;
        let mut news: Vec<LimitChange> = Vec::new();
        for (account, (at, _)) in self.all_cleared.iter().filter(|(_, (_, revision))| is_news(*revision)) {
            news.push(LimitChange::Cleared { account: *account, which: None, at: *at });
        }
        for (key, row) in self.rows.iter().filter(|(_, row)| is_news(row.revision)) {
            match row.cleared_at {
                Some(at) => {
                    news.push(LimitChange::Cleared { account: key.0, which: Some((key.1, key.2.clone())), at });
                }
                None if row.until > time => {
                    let LimitRow { until, source, since, .. } = *row;
                    news.push(LimitChange::Set { key: key.clone(), until, source, since });
                }
                None => {}
            }
        }
        (self.revision, news)
    }

    pub fn claim_probe(
        &mut self,
        time: u64,
        term: usize,
        (account, limits): (AccountId, &[(Scope, String)]),
        (lasts, is_open): (u64, impl Fn(usize) -> bool),
        fault: Fault,
    ) -> ProbeAnswer {
        let row = |(scope, key): &(Scope, String)| self.rows.get(&(account, *scope, key.clone()));
        let is_cleared = |limit: &&(Scope, String)| row(limit).is_some_and(|row| row.cleared_at.is_some());
        let cleared: Vec<_> = limits.iter().filter(is_cleared).cloned().collect();
        if !cleared.is_empty() {
            return ProbeAnswer::Cleared(cleared);
        }
        if limits.iter().any(|limit| row(limit).is_some_and(|row| row.until > time + 1_000)) {
            return ProbeAnswer::Limited;
        }
        let held = self.duties.get(&account).filter(|(by, until)| *until > time && *by != term && is_open(*by));
        if held.is_some() && fault != Fault::ManyProbers {
            return ProbeAnswer::Held;
        }
        let until = (time + lasts)
            .max(self.duties.get(&account).filter(|(by, _)| *by == term).map_or(0, |(_, until)| until + 1));
        self.claimed += 1;
        self.duties.insert(account, (term, until));
        ProbeAnswer::Claimed(until)
    }

    pub fn end_probe(&mut self, term: usize, account: AccountId, until: u64) {
        if self.duties.get(&account) == Some(&(term, until)) {
            self.duties.remove(&account);
        }
    }
}
