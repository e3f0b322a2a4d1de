//! What this host has learnt and the database does not have yet. It is kept while the database is away, and bounded: of each
//! thing only the last state counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::daemon::many_hosts::message::ClearedLimit;
use crate::limits::Scope;
use crate::pool::{AccountId, LimitRecord, Mono, Wall};

/// How often the usage of an account is sent at most: under load each response states it.
const USAGE_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be sent.
#[derive(Debug, Default)]
pub(in crate::daemon::many_hosts) struct Outgoing {
    limits: BTreeMap<LimitKey, NumberedChange>,
    /// All limits of these were cleared, with which change and when; what is in `limits` came later.
    cleared: BTreeMap<AccountId, (u64, Wall)>,
    changes: u64,
    usage: BTreeSet<AccountId>,
    usage_sent: BTreeMap<AccountId, Mono>,
    accounts: BTreeSet<AccountId>,
}

/// Which limit: its account, scope and key.
type LimitKey = (AccountId, Scope, String);

/// A change, and its number: a later one has a higher number.
pub(in crate::daemon::many_hosts) type NumberedChange = (u64, LimitChange);

/// What became of a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::daemon::many_hosts) enum LimitChange {
    /// It was set.
    Set(LimitRecord),
    /// It is over, before its time or by its probe.
    Cleared(ClearedLimit),
}

impl LimitChange {
    pub(in crate::daemon::many_hosts) fn account(&self) -> AccountId {
        match self {
            Self::Set(limit) => limit.account,
            Self::Cleared(cleared) => cleared.account,
        }
    }

    /// The limit; `None` for all of the account.
    fn key(&self) -> Option<LimitKey> {
        match self {
            Self::Set(limit) => Some((limit.account, limit.scope, limit.key.clone())),
            Self::Cleared(ClearedLimit { account, which, .. }) => {
                which.clone().map(|(scope, key)| (*account, scope, key))
            }
        }
    }
}

impl Outgoing {
    /// A limit was learnt or cleared.
    pub(in crate::daemon::many_hosts) fn limit(&mut self, change: LimitChange) {
        self.changes += 1;
        self.put((self.changes, change));
    }

    /// A change could not be sent: it is sent again, unless a later one has replaced it.
    pub(in crate::daemon::many_hosts) fn limit_failed(&mut self, failed: NumberedChange) {
        let (number, change) = &failed;
        let is_later = |other: &u64| other > number;
        let is_cleared = self.cleared.get(&change.account()).is_some_and(|(other, _)| is_later(other));
        let is_replaced = change.key().and_then(|key| self.limits.get(&key)).is_some_and(|(other, _)| is_later(other));
        if !is_cleared && !is_replaced {
            self.put(failed);
        }
    }

    fn put(&mut self, (number, change): NumberedChange) {
        let account = change.account();
        match (change.key(), &change) {
            (Some(key), _) => _ = self.limits.insert(key, (number, change)),
            (None, LimitChange::Cleared(cleared)) => {
                self.limits.retain(|(of, ..), (other, _)| *of != account || *other > number);
                self.cleared.insert(account, (number, cleared.at));
            }
            (None, LimitChange::Set(_)) => {}
        }
    }

    /// The usage of an account has changed.
    pub(in crate::daemon::many_hosts) fn usage(&mut self, account: AccountId) {
        self.usage.insert(account);
    }

    /// The record or login state of an account has changed.
    pub(in crate::daemon::many_hosts) fn account(&mut self, account: AccountId) {
        self.accounts.insert(account);
    }

    /// The changes of limits that are to be sent now, in order.
    pub(in crate::daemon::many_hosts) fn take_limits(&mut self) -> Vec<NumberedChange> {
        let cleared = std::mem::take(&mut self.cleared).into_iter();
        let cleared = cleared
            .map(|(account, (number, at))| (number, LimitChange::Cleared(ClearedLimit { account, which: None, at })));
        let mut changes: Vec<NumberedChange> = cleared.chain(std::mem::take(&mut self.limits).into_values()).collect();
        changes.sort_unstable_by_key(|(number, _)| *number);
        changes
    }

    /// The accounts whose record or login state is to be sent now.
    pub(in crate::daemon::many_hosts) fn take_accounts(&mut self) -> BTreeSet<AccountId> {
        std::mem::take(&mut self.accounts)
    }

    /// The accounts whose usage is to be sent now.
    pub(in crate::daemon::many_hosts) fn take_usage(&mut self, now: Mono) -> Vec<AccountId> {
        self.usage_sent.retain(|_, sent| now.since(*sent) < USAGE_INTERVAL);
        let due: Vec<AccountId> =
            self.usage.iter().copied().filter(|account| !self.usage_sent.contains_key(account)).collect();
        for account in &due {
            self.usage.remove(account);
            self.usage_sent.insert(*account, now);
        }
        due
    }

    /// When usage is due next that may not be sent yet.
    pub(in crate::daemon::many_hosts) fn next_usage(&self) -> Option<Mono> {
        let due = |account| self.usage_sent.get(account).map_or(Mono::default(), |sent| sent.after(USAGE_INTERVAL));
        self.usage.iter().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Reason;
    use crate::pool::LimitSource;

    fn id(number: u64) -> AccountId {
        AccountId::from_bits(number)
    }

    fn limit(account: u64, key: &str, until: u64) -> LimitChange {
        LimitChange::Set(LimitRecord {
            account: id(account),
            key: key.to_owned(),
            scope: Scope::Pool,
            reason: Reason::QuotaExhausted,
            until: Wall(until),
            source: LimitSource::Server,
            since: None,
            evidence: None,
            link: None,
        })
    }

    fn cleared(account: u64, which: Option<(Scope, String)>) -> LimitChange {
        LimitChange::Cleared(ClearedLimit { account: id(account), which, at: Wall(5) })
    }

    fn taken(outgoing: &mut Outgoing) -> Vec<LimitChange> {
        outgoing.take_limits().into_iter().map(|(_, change)| change).collect()
    }

    #[test]
    fn of_each_limit_only_the_last_change_is_sent() {
        let mut outgoing = Outgoing::default();
        outgoing.limit(limit(1, "a", 10));
        outgoing.limit(limit(1, "a", 20));
        outgoing.limit(limit(2, "a", 10));
        let one = cleared(2, Some((Scope::Pool, "a".to_owned())));
        outgoing.limit(one.clone());
        assert_eq!(taken(&mut outgoing), [limit(1, "a", 20), one]);
        assert!(taken(&mut outgoing).is_empty());
    }

    #[test]
    fn what_was_set_after_all_limits_were_cleared_is_sent_after_that() {
        let mut outgoing = Outgoing::default();
        outgoing.limit(limit(1, "a", 10));
        outgoing.limit(cleared(1, None));
        outgoing.limit(limit(1, "b", 10));
        let sent = outgoing.take_limits();
        for failed in sent.into_iter().rev() {
            outgoing.limit_failed(failed);
        }
        assert_eq!(taken(&mut outgoing), [cleared(1, None), limit(1, "b", 10)]);
    }

    #[test]
    fn a_change_that_was_not_sent_does_not_replace_a_later_one() {
        let mut outgoing = Outgoing::default();
        outgoing.limit(limit(1, "a", 10));
        outgoing.limit(limit(1, "b", 10));
        let sent = outgoing.take_limits();
        outgoing.limit(limit(1, "a", 20));
        sent.clone().into_iter().for_each(|failed| outgoing.limit_failed(failed));
        assert_eq!(taken(&mut outgoing), [limit(1, "b", 10), limit(1, "a", 20)]);
        outgoing.limit(cleared(1, None));
        sent.into_iter().for_each(|failed| outgoing.limit_failed(failed));
        assert_eq!(taken(&mut outgoing), [cleared(1, None)]);
    }

    #[test]
    fn the_usage_of_an_account_is_sent_every_five_seconds_at_most() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.next_usage(), None);
        outgoing.usage(id(1));
        assert_eq!(outgoing.take_usage(Mono(1000)), [id(1)]);
        outgoing.usage(id(1));
        outgoing.usage(id(2));
        assert_eq!(outgoing.take_usage(Mono(2000)), [id(2)]);
        assert_eq!(outgoing.next_usage(), Some(Mono(6000)));
        assert!(outgoing.take_usage(Mono(5999)).is_empty());
        assert_eq!(outgoing.take_usage(Mono(6000)), [id(1)]);
    }
}
