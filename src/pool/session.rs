//! Sessions: conversations that stay on one account for its prompt cache.

use crate::pool::model::{AccountId, Mono, Now, Past, Wall};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;

/// Most sessions kept; beyond it the least recently used are dropped.
const MOST: usize = 10_000;

/// A session as the store keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// The upstream.
    pub provider: String,
    /// The caller's name for the conversation.
    pub session: String,
    /// The account it is bound to.
    pub account: AccountId,
    /// When it was last used.
    pub used_at: Wall,
}

#[derive(Debug, Default)]
pub struct Sessions {
    bound: FxHashMap<Arc<str>, FxHashMap<Box<str>, Binding>>,
    len: usize,
    /// Whether a session has moved since [`Self::take_moved`].
    moved: bool,
}

/// Times are monotonic: setting the clock ends no session.
#[derive(Clone, Copy, Debug)]
struct Binding {
    account: AccountId,
    used_at: Past,
    saved_at: Past,
}

impl Sessions {
    /// The account a session is bound to, for a request made at `asked_at`.
    pub fn get(&self, provider: &str, session: &str, asked_at: Mono, ttl: Duration) -> Option<AccountId> {
        let binding = self.bound.get(provider)?.get(session)?;
        (Past::from(asked_at).since(binding.used_at) < ttl).then_some(binding.account)
    }

    /// Binds a session, or marks it as used. Returns the record when the store should save it.
    pub fn bind(
        &mut self,
        provider: &Arc<str>,
        session: &str,
        account: AccountId,
        now: Now,
        ttl: Duration,
    ) -> Option<SessionRecord> {
        let used_at = Past::from(now.mono);
        let record = || SessionRecord {
            provider: provider.to_string(),
            session: session.to_owned(),
            account,
            used_at: now.wall,
        };
        if let Some(binding) = self.bound.get_mut(provider).and_then(|names| names.get_mut(session)) {
            let moved = binding.account != account;
            let save = moved || used_at.since(binding.saved_at) > ttl / 4;
            let saved_at = if save { used_at } else { binding.saved_at };
            *binding = Binding { account, used_at, saved_at };
            self.moved |= moved;
            return save.then(record);
        }
        if self.len >= MOST {
            self.shrink(used_at, ttl);
        }
        self.insert(provider.clone(), session, Binding { account, used_at, saved_at: used_at });
        self.moved = true;
        Some(record())
    }

    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    pub fn restore(&mut self, now: Now, record: &SessionRecord) {
        let used_at = now.past_of(record.used_at);
        let binding = Binding { account: record.account, used_at, saved_at: used_at };
        if self.len < MOST {
            self.insert(Arc::from(record.provider.as_str()), &record.session, binding);
        }
    }

    pub fn forget_account(&mut self, account: AccountId) {
        self.retain(|binding| binding.account != account);
    }

    pub fn records(&self, now: Now) -> impl Iterator<Item = SessionRecord> {
        let all = self.bound.iter().flat_map(|(provider, names)| names.iter().map(move |entry| (provider, entry)));
        all.map(move |(provider, (session, binding))| SessionRecord {
            provider: provider.to_string(),
            session: session.to_string(),
            account: binding.account,
            used_at: now.wall_of_past(binding.used_at),
        })
    }

    fn insert(&mut self, provider: Arc<str>, session: &str, binding: Binding) {
        if self.bound.entry(provider).or_default().insert(session.into(), binding).is_none() {
            self.len += 1;
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Binding) -> bool) {
        for names in self.bound.values_mut() {
            names.retain(|_, binding| keep(binding));
        }
        self.bound.retain(|_, names| !names.is_empty());
        self.len = self.bound.values().map(FxHashMap::len).sum();
    }

    /// Drops expired sessions, and then enough others that a tenth of the table is free: a full table is not searched
    /// for every new session.
    fn shrink(&mut self, now: Past, ttl: Duration) {
        self.retain(|binding| now.since(binding.used_at) < ttl);
        let Some(mut surplus) = self.len.checked_sub(MOST - MOST / 10).filter(|surplus| *surplus > 0) else { return };
        let mut ages: Vec<Past> = self.bound.values().flat_map(FxHashMap::values).map(|b| b.used_at).collect();
        let (older, cut, _) = ages.select_nth_unstable(surplus - 1);
        let cut = *cut;
        // drop everything older than the cut, and as many of the same age as necessary
        surplus -= older.iter().filter(|at| **at < cut).count();
        self.retain(|binding| {
            let goes = binding.used_at < cut || (binding.used_at == cut && surplus > 0);
            surplus -= usize::from(goes && binding.used_at == cut);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(3600);

    fn at(mono: u64) -> Now {
        Now { mono: Mono(mono), wall: Wall(1_000_000 + mono) }
    }

    #[test]
    fn a_full_table_drops_the_least_recently_used_and_never_the_newest() {
        let (mut sessions, provider) = (Sessions::default(), Arc::from("p"));
        let account = AccountId::from_bits(1);
        // all in the same millisecond: the worst case for "older than the cut"
        for n in 0..=MOST {
            let _ = sessions.bind(&provider, &n.to_string(), account, at(5), TTL);
        }
        assert_eq!(sessions.len, MOST - MOST / 10 + 1);
        assert_eq!(sessions.get("p", &MOST.to_string(), Mono(5), TTL), Some(account));
        for n in 0..=MOST {
            let _ = sessions.bind(&provider, &format!("new{n}"), account, at(6 + n as u64), TTL);
        }
        assert!(sessions.len <= MOST);
        assert_eq!(sessions.get("p", &format!("new{MOST}"), Mono(6 + MOST as u64), TTL), Some(account));
        assert_eq!(sessions.get("p", "new0", Mono(6 + MOST as u64), TTL), None);
    }

    #[test]
    fn a_session_expires_by_monotonic_time_since_its_last_use() {
        let (mut sessions, provider) = (Sessions::default(), Arc::from("p"));
        let account = AccountId::from_bits(1);
        assert!(sessions.bind(&provider, "s", account, at(0), TTL).is_some());
        assert!(sessions.take_moved() && !sessions.take_moved());
        assert_eq!(sessions.get("p", "s", Mono(3_599_999), TTL), Some(account));
        assert_eq!(sessions.get("p", "s", Mono(3_600_000), TTL), None);
        // a use is saved only now and then
        assert_eq!(sessions.bind(&provider, "s", account, at(900_000), TTL), None);
        assert!(!sessions.take_moved());
        assert!(sessions.bind(&provider, "s", account, at(900_001), TTL).is_some());
        let set_back = Now { mono: Mono(900_002), wall: Wall(0) };
        assert_eq!(sessions.bind(&provider, "s", account, set_back, TTL), None);
        assert_eq!(sessions.records(set_back).count(), 1);
    }

    #[test]
    fn a_session_s_age_survives_a_reboot() {
        let mut sessions = Sessions::default();
        let account = AccountId::from_bits(1);
        let record =
            SessionRecord { provider: "p".into(), session: "s".into(), account, used_at: Wall(10_000_000 - 3_599_000) };
        // two seconds after the machine came up, an hour after the session's last use
        sessions.restore(Now { mono: Mono(2_000), wall: Wall(10_000_000) }, &record);
        assert_eq!(sessions.get("p", "s", Mono(2_999), TTL), Some(account));
        assert_eq!(sessions.get("p", "s", Mono(3_000), TTL), None);
    }
}
