//! Which accounts the requests of an agent's session, and those of a gateway key, were given. What an agent says of its
//! quota is about one of them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash, RandomState};

use rustc_hash::FxHashMap;

use crate::pool::{AccountId, Fence, Now, Pool, Wall};

/// The most entries; the older half is dropped then.
const MOST: usize = 20_000;
/// The most accounts that are known of one entry, beside the last.
const MOST_OTHERS: usize = 15;

/// Whose requests were given accounts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Asker<'a> {
    /// The session that the agent names.
    Session(&'a str),
    /// The client of the gateway.
    Client(u64),
}

/// The accounts by a hash of provider and asker.
#[derive(Debug, Default)]
pub(crate) struct SessionAccounts {
    hasher: RandomState,
    entries: FxHashMap<u64, GivenAccounts>,
    /// The leases that have been on another account.
    moved: BTreeSet<Fence>,
    /// The last of them that is forgotten: of earlier leases it is not known.
    forgotten: Option<Fence>,
}

/// The accounts that requests were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GivenAccounts {
    /// The last one.
    pub(crate) last: AccountId,
    /// When that was.
    pub(crate) at: Wall,
    /// All others.
    pub(crate) others: Vec<AccountId>,
    /// There may be more that are not known.
    pub(crate) is_incomplete: bool,
}

impl SessionAccounts {
    /// With the sessions of the last run, which may have had other accounts as well.
    pub(crate) fn restored(pool: &Pool, now: Now) -> Self {
        let mut accounts = Self::default();
        for session in pool.session_records(now) {
            accounts.note(&session.provider, Asker::Session(&session.session), session.account, (now.wall, true));
        }
        accounts
    }

    pub(crate) fn get(&self, provider: &str, asker: Asker<'_>) -> Option<&GivenAccounts> {
        self.entries.get(&self.hash(provider, asker))
    }

    /// Notes that a request was given this account; whether the asker may have had others before that are not known.
    pub(crate) fn note(
        &mut self,
        provider: &str,
        asker: Asker<'_>,
        account: AccountId,
        (at, had_others): (Wall, bool),
    ) {
        let key = self.hash(provider, asker);
        if self.entries.len() >= MOST && !self.entries.contains_key(&key) {
            let mut times: Vec<Wall> = self.entries.values().map(|given| given.at).collect();
            let (_, median, _) = times.select_nth_unstable(MOST / 2);
            let median = *median;
            self.entries.retain(|_, given| given.at > median);
        }
        let new = || GivenAccounts { last: account, at, others: Vec::new(), is_incomplete: had_others };
        let given = self.entries.entry(key).or_insert_with(new);
        given.at = at;
        if given.last != account {
            given.others.retain(|other| *other != account);
            let before = std::mem::replace(&mut given.last, account);
            if given.others.len() < MOST_OTHERS {
                given.others.push(before);
            } else {
                given.is_incomplete = true;
            }
        }
    }

    /// Notes that a lease has been on another account.
    pub(crate) fn note_move(&mut self, to: Fence) {
        self.moved.insert(to);
        if self.moved.len() > MOST {
            self.forgotten = self.moved.pop_first().max(self.forgotten);
        }
    }

    /// Whether a lease has, or may have, been on another account.
    pub(crate) fn is_moved(&self, lease: Fence) -> bool {
        self.moved.contains(&lease) || self.forgotten.is_some_and(|last| lease <= last)
    }

    fn hash(&self, provider: &str, asker: Asker<'_>) -> u64 {
        self.hasher.hash_one((provider, asker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_only(given: &GivenAccounts) -> bool {
        given.others.is_empty() && !given.is_incomplete
    }

    fn id(number: u64) -> AccountId {
        AccountId::from_bits(number)
    }

    #[test]
    fn the_last_account_and_all_others_are_known() {
        let mut accounts = SessionAccounts::default();
        let session = Asker::Session("s");
        assert_eq!(accounts.get("p", session), None);
        accounts.note("p", session, id(1), (Wall(1), false));
        accounts.note("p", session, id(1), (Wall(2), false));
        let given = accounts.get("p", session).unwrap();
        assert_eq!((given.last, given.at, is_only(given)), (id(1), Wall(2), true));
        accounts.note("p", session, id(2), (Wall(3), false));
        accounts.note("p", session, id(1), (Wall(4), false));
        let given = accounts.get("p", session).unwrap();
        assert_eq!((given.last, given.others.as_slice(), given.is_incomplete), (id(1), &[id(2)][..], false));
        assert!(accounts.get("q", session).is_none() && accounts.get("p", Asker::Session("t")).is_none());
        accounts.note("p", Asker::Client(7), id(1), (Wall(5), true));
        assert!(!is_only(accounts.get("p", Asker::Client(7)).unwrap()), "it may have had others");
    }

    #[test]
    fn a_move_is_never_forgotten_without_a_trace() {
        let mut accounts = SessionAccounts::default();
        accounts.note_move(Fence(5));
        assert!(accounts.is_moved(Fence(5)) && !accounts.is_moved(Fence(4)));
        (0..MOST as u64).for_each(|number| accounts.note_move(Fence(10 + number)));
        assert!(accounts.moved.len() <= MOST && accounts.is_moved(Fence(5)));
        assert!(accounts.is_moved(Fence(4)), "it may have been");
        assert!(!accounts.is_moved(Fence(1 << 40)));
    }

    #[test]
    fn both_the_accounts_and_the_entries_are_bounded() {
        let mut accounts = SessionAccounts::default();
        for number in 0..40 {
            accounts.note("p", Asker::Client(0), id(number), (Wall(1), false));
        }
        let given = accounts.get("p", Asker::Client(0)).unwrap();
        assert!(given.others.len() <= MOST_OTHERS && given.is_incomplete && given.last == id(39));
        for number in 1..=MOST as u64 {
            accounts.note("p", Asker::Client(number), id(1), (Wall(number), false));
        }
        assert!(accounts.entries.len() <= MOST / 2 + 2, "{}", accounts.entries.len());
        assert!(accounts.get("p", Asker::Client(MOST as u64)).is_some());
    }
}
