//! Which account has served a session, created something, or was the first of a gateway key. What follows up on it must
//! go to the same account, or at least to the same kind of credential.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::pool::{AccountId, Mono, Now, Pool};

/// The most entries; the older half is dropped then.
const MOST: usize = 20_000;

/// What an account has served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Served<'a> {
    /// A conversation.
    Session(&'a str),
    /// A response, file or cache that the account stores, by its id.
    Stored(&'a str),
    /// Requests with this gateway key.
    Key(u64),
}

/// The accounts, by a hash of provider and what they have served.
#[derive(Debug, Default)]
pub(crate) struct ServedBy {
    hasher: RandomState,
    entries: FxHashMap<u64, (AccountId, Mono)>,
}

impl ServedBy {
    /// With the sessions of the last run.
    pub(crate) fn restored(pool: &Pool, now: Now) -> Self {
        let mut served = Self::default();
        for session in pool.session_records(now) {
            served.note(&session.provider, Served::Session(&session.session), session.account, now.mono);
        }
        served
    }

    /// The account that served it last, if that is not longer ago than `ttl`.
    pub(crate) fn get(&self, provider: &str, what: Served<'_>, now: Mono, ttl: Option<Duration>) -> Option<AccountId> {
        let (account, at) = self.entries.get(&self.hash(provider, what))?;
        ttl.is_none_or(|ttl| now.since(*at) < ttl).then_some(*account)
    }

    /// Records that the account has served it.
    pub(crate) fn note(&mut self, provider: &str, what: Served<'_>, account: AccountId, now: Mono) {
        if self.entries.len() >= MOST {
            let mut times: Vec<Mono> = self.entries.values().map(|(_, at)| *at).collect();
            let (_, median, _) = times.select_nth_unstable(MOST / 2);
            let median = *median;
            self.entries.retain(|_, (_, at)| *at > median);
        }
        self.entries.insert(self.hash(provider, what), (account, now));
    }

    fn hash(&self, provider: &str, what: Served<'_>) -> u64 {
        self.hasher.hash_one((provider, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_account_is_known_by_provider_and_kind_of_name() {
        let mut served = ServedBy::default();
        let (one, other) = (AccountId::from_bits(1), AccountId::from_bits(2));
        served.note("p", Served::Session("x"), one, Mono(0));
        let get = |served: &ServedBy, provider, what| served.get(provider, what, Mono(5), None);
        assert_eq!(get(&served, "p", Served::Session("x")), Some(one));
        assert_eq!(get(&served, "q", Served::Session("x")), None);
        assert_eq!(get(&served, "p", Served::Stored("x")), None);
        served.note("p", Served::Session("x"), other, Mono(1));
        assert_eq!(get(&served, "p", Served::Session("x")), Some(other));
        let ttl = |ms| served.get("p", Served::Session("x"), Mono(5), Some(Duration::from_millis(ms)));
        assert_eq!((ttl(4), ttl(5)), (None, Some(other)));
    }

    #[test]
    fn the_older_half_is_dropped() {
        let mut served = ServedBy::default();
        for number in 0..=MOST as u64 {
            served.note("p", Served::Key(number), AccountId::from_bits(1), Mono(number));
        }
        assert!(served.entries.len() <= MOST / 2 + 1);
        assert!(served.get("p", Served::Key(0), Mono(0), None).is_none());
        assert!(served.get("p", Served::Key(MOST as u64), Mono(0), None).is_some());
    }
}
