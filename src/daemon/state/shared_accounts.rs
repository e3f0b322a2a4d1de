//! The accounts that this host shares with others, as far as the state's lock is needed: the seats of its term, and what
//! goes to the other hosts. What comes from them is applied by `daemon/many_hosts`.

pub(crate) mod own_changes;

use rustc_hash::{FxHashMap, FxHashSet};

use self::own_changes::OwnChanges;
use super::State;
use crate::daemon::many_hosts::message::{ClearedLimit, PoolMessage};
use crate::daemon::many_hosts::seats::{AccountRequests, RequestSeats, TermSeats};
use crate::limits::Scope;
use crate::pool::{AccountId, AccountRecord, Command, Ending, Fence, LimitRecord, LoginState, Mono, Now, Wall};
use crate::shared_pool::TokenGeneration;

/// All that the state knows of them. Empty without a shared pool.
#[derive(Debug, Default)]
pub(crate) struct SharedAccounts {
    accounts: FxHashMap<AccountId, SharedAccountNote>,
    /// Accounts that were moved out of the pool to this host: news that were read before that do not bring them back.
    moved_out: FxHashSet<AccountId>,
    own_changes: OwnChanges,
    /// The seats of the term of this host, also after they have ended.
    seats: Option<TermSeats>,
    /// What the requests on each account watch.
    requests: FxHashMap<AccountId, AccountRequests>,
    /// The command that is being applied comes from the pool: what it changes is not sent back.
    is_from_pool: bool,
}

/// What is known of one of them.
#[derive(Debug)]
pub(crate) struct SharedAccountNote {
    /// Of which generation the stored credential is.
    pub(crate) generation: TokenGeneration,
    /// Whether the pool has a refresh token of it, once that is known.
    pub(crate) has_refresh: Option<bool>,
    /// The record as the pool has it, once it is known.
    pub(crate) record: Option<AccountRecord>,
    /// Its label here, if another account has its label in the pool.
    pub(crate) label_here: Option<String>,
    /// When its token ends, once the database has said it.
    token_end: Option<KnownTokenEnd>,
    /// Its token was handed out in this term, and the database knows: which of its credentials, counted in this run.
    handed_out: Option<(TermSeats, u64)>,
    /// The limits that the other hosts know of.
    limits: Vec<KnownLimit>,
}

/// When a token ends by the database's clock, as the database says. Setting this host's clock does not change it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownTokenEnd {
    /// Of which credential, counted in this run.
    pub(super) credential: u64,
    /// None: never.
    pub(super) at: Option<Wall>,
}

#[derive(Debug)]
struct KnownLimit {
    scope: Scope,
    key: String,
    /// When it ends, on this host's clock.
    until: Wall,
    /// The others wait for the outcome of one probe when its time is over.
    is_probed: bool,
}

impl SharedAccounts {
    /// The accounts that the store has as shared; `limits` are those that were restored.
    pub(crate) fn restored(shared: Vec<(AccountId, i64)>, limits: impl Iterator<Item = LimitRecord>) -> Self {
        let mut known = Self::default();
        if !shared.is_empty() {
            shared.into_iter().for_each(|(id, generation)| known.insert(id, TokenGeneration(generation)));
            limits.for_each(|limit| known.note_limit(&limit));
        }
        known
    }

    /// The account is shared from now on, or has a credential of another generation.
    pub(crate) fn insert(&mut self, id: AccountId, generation: TokenGeneration) {
        let new = || SharedAccountNote {
            generation,
            has_refresh: None,
            record: None,
            label_here: None,
            token_end: None,
            handed_out: None,
            limits: Vec::new(),
        };
        self.accounts.entry(id).or_insert_with(new).generation = generation;
    }

    /// The account is this host's own from now on.
    pub(crate) fn make_own(&mut self, id: AccountId) {
        self.accounts.remove(&id);
    }

    /// The account was removed. If it was shared, another host may use it next: its requests are cut.
    pub(crate) fn remove(&mut self, id: AccountId) {
        if self.accounts.remove(&id).is_some() {
            self.cut_requests(id);
        } else {
            self.requests.remove(&id);
        }
    }

    /// The account was moved out of the pool: it is this host's own, whatever older news say.
    pub(crate) fn move_out(&mut self, id: AccountId) {
        self.accounts.remove(&id);
        self.moved_out.insert(id);
    }

    /// The account is moved into the pool, maybe again.
    pub(crate) fn let_in(&mut self, id: AccountId) {
        self.moved_out.remove(&id);
    }

    /// This host has joined a pool: what it moved out of one, or left behind with one, may come again.
    pub(crate) fn let_all_in(&mut self) {
        self.moved_out.clear();
    }

    /// Whether the account was moved out of the pool.
    pub(crate) fn was_moved_out(&self, id: AccountId) -> bool {
        self.moved_out.contains(&id)
    }

    /// What is known of an account, if it is shared.
    pub(crate) fn get(&self, id: AccountId) -> Option<&SharedAccountNote> {
        self.accounts.get(&id)
    }

    /// The record of a shared account as the pool has it, and its label here if that is another one.
    pub(crate) fn set_record(&mut self, id: AccountId, record: AccountRecord, label_here: Option<String>) {
        if let Some(note) = self.accounts.get_mut(&id) {
            (note.record, note.label_here) = (Some(record), label_here);
        }
    }

    /// Whether the pool has a refresh token of an account.
    pub(crate) fn set_has_refresh(&mut self, id: AccountId, has_refresh: bool) {
        if let Some(note) = self.accounts.get_mut(&id) {
            note.has_refresh = Some(has_refresh);
        }
    }

    /// The database has said when the token of a credential ends.
    pub(super) fn set_token_end(&mut self, id: AccountId, end: KnownTokenEnd) {
        if let Some(note) = self.accounts.get_mut(&id) {
            note.token_end = Some(end);
        }
    }

    /// When the token of this credential ends, if the database has said it.
    pub(super) fn token_end(&self, id: AccountId, credential: u64) -> Option<KnownTokenEnd> {
        self.accounts.get(&id)?.token_end.filter(|end| end.credential == credential)
    }

    /// The pool knows the login state of an account.
    pub(crate) fn set_login_state(&mut self, id: AccountId, state: LoginState) {
        if let Some(record) = self.accounts.get_mut(&id).and_then(|note| note.record.as_mut()) {
            record.login_state = state;
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Their ids, in order.
    pub(crate) fn ids(&self) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = self.accounts.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Another host may use the account next: the requests that are under way on it here are cut.
    pub(crate) fn cut_requests(&mut self, id: AccountId) {
        if let Some(requests) = self.requests.remove(&id) {
            requests.cut();
        }
    }

    /// Whether this host has a term whose seats were not cut.
    pub(crate) fn has_seats(&self) -> bool {
        self.seats.as_ref().is_some_and(|seats| !seats.is_cut())
    }

    /// The seats of the term.
    pub(crate) fn seats(&self) -> Option<&TermSeats> {
        self.seats.as_ref()
    }

    /// The other hosts know of this limit.
    fn note_limit(&mut self, limit: &LimitRecord) {
        let Some(note) = self.accounts.get_mut(&limit.account) else { return };
        note.limits.retain(|known| known.scope != limit.scope || known.key != limit.key);
        note.limits.push(KnownLimit {
            scope: limit.scope,
            key: limit.key.clone(),
            until: limit.until,
            is_probed: limit.is_probed(),
        });
    }

    /// Limits of an account are over here; answers whether the other hosts still have one of them.
    fn forget_limits(&mut self, account: AccountId, which: Option<&(Scope, String)>, now: Wall) -> bool {
        let Some(note) = self.accounts.get_mut(&account) else { return false };
        let is_meant = |scope: Scope, key: &str| which.is_none_or(|(of, named)| *of == scope && *named == key);
        let over = note.limits.extract_if(.., |known| is_meant(known.scope, &known.key));
        // one whose time is over ends everywhere, unless it takes a probe
        over.filter(|known| known.until > now || known.is_probed).count() > 0
    }

    /// The limits that the other hosts know of.
    #[cfg(test)]
    fn limits(&self, account: AccountId) -> usize {
        self.accounts.get(&account).map_or(0, |note| note.limits.len())
    }
}

impl State {
    /// Whether other hosts use the account, too.
    pub(crate) fn is_shared(&self, id: AccountId) -> bool {
        self.shared_accounts.accounts.contains_key(&id)
    }

    /// The seats that a request on this account uses; `None` if no other host can use it.
    pub(crate) fn seats_of(&mut self, id: AccountId) -> Option<RequestSeats> {
        let is_shared = self.is_shared(id);
        // an own account may move into the pool while the request runs
        if !is_shared && !self.shared.many_hosts.is_on() {
            return None;
        }
        let shared = &mut self.shared_accounts;
        let term = is_shared.then(|| shared.seats.clone().unwrap_or_else(TermSeats::ended));
        let requests = shared.requests.entry(id).or_insert_with(AccountRequests::new).clone();
        Some(RequestSeats::new(term, requests))
    }

    /// A new term begins, without seats.
    pub(crate) fn begin_seats(&mut self, now: Now, until: Mono) {
        self.end_seats();
        self.apply_internal(now, Command::JoinTerm { until });
        self.shared_accounts.seats = Some(TermSeats::new(until));
    }

    /// The term from before goes on with these seats, after a restart of the daemon or of the connection.
    pub(crate) fn resume_seats(&mut self, now: Now, until: Mono, seats: Vec<(AccountId, u32)>) {
        self.apply_internal(now, Command::ResumeTerm { until, seats });
        match self.shared_accounts.seats.as_ref().filter(|seats| !seats.is_cut()) {
            Some(seats) => seats.extend(until),
            None => self.shared_accounts.seats = Some(TermSeats::new(until)),
        }
    }

    /// A heartbeat was accepted; `false` if the time of the seats was over already: the term cannot go on.
    pub(crate) fn extend_seats(&mut self, now: Now, until: Mono) -> bool {
        let seats = self.shared_accounts.seats.as_ref();
        let Some(seats) = seats.filter(|seats| !seats.is_cut() && seats.until() > now.mono) else {
            self.lose_seats(now);
            return false;
        };
        seats.extend(until);
        self.apply_internal(now, Command::ExtendSeats { until });
        true
    }

    /// The term is over: leases on shared accounts end, and their requests are cut.
    pub(crate) fn lose_seats(&mut self, now: Now) {
        self.end_seats();
        self.apply_internal(now, Command::LoseSeats);
    }

    fn end_seats(&mut self) {
        if let Some(seats) = &self.shared_accounts.seats {
            seats.cut();
        }
    }

    /// Applies a command that other hosts caused: what it changes is not sent to them.
    pub(crate) fn apply_from_pool(&mut self, now: Now, command: Command) {
        if self.pool.next_wakeup(now).is_some_and(|due| due <= now.mono) {
            // what time has done here, such as the end of a probe, is news for them
            self.apply_internal(now, Command::Tick);
        }
        self.from_pool(|state| state.apply_internal(now, command));
    }

    /// Changes what other hosts have changed: it is not sent to them.
    #[expect(clippy::wrong_self_convention, reason = "it says where the change comes from")]
    pub(crate) fn from_pool(&mut self, change: impl FnOnce(&mut Self)) {
        self.shared_accounts.is_from_pool = true;
        change(self);
        self.shared_accounts.is_from_pool = false;
    }

    /// Whether the database must be asked before the token of this account leaves the daemon: lessor cannot stop its use,
    /// so the seats must stay taken as long as it lives. Asked once for each token and term.
    pub(crate) fn must_mark_handed_out(&self, id: AccountId) -> bool {
        let Some(note) = self.shared_accounts.accounts.get(&id) else { return false };
        let known = note.handed_out.as_ref();
        known.is_none_or(|(term, token)| {
            Some(term) != self.shared_accounts.seats.as_ref() || term.is_cut() || *token != self.logins.generation(id)
        })
    }

    /// The same for the account of a lease.
    pub(crate) fn must_mark_lease(&self, fence: Fence) -> bool {
        self.pool.lease(fence).is_some_and(|lease| self.must_mark_handed_out(lease.account))
    }

    /// The database knows that this token of an account is handed out, in the term with these seats.
    pub(crate) fn note_handed_out(&mut self, id: AccountId, term: TermSeats, token: u64) {
        if let Some(note) = self.shared_accounts.accounts.get_mut(&id) {
            note.handed_out = Some((term, token));
        }
    }

    /// Seats were given back, and with them their marks: another one of the account is marked again.
    pub(super) fn note_given_back(&mut self, id: AccountId) {
        if self.pool.seats(id).is_none_or(|seats| seats.held == 0)
            && let Some(note) = self.shared_accounts.accounts.get_mut(&id)
        {
            note.handed_out = None;
        }
    }

    /// A lease on a shared account has ended. When the time of the seats is over, the requests of all of them are cut.
    pub(super) fn note_cut_off(&self, now: Now, why: Ending) {
        let is_over = || self.pool.seats_until().is_none_or(|until| until <= now.mono);
        if why == Ending::CutOff
            && let Some(seats) = self.shared_accounts.seats.as_ref().filter(|_| is_over())
        {
            seats.cut();
        }
    }

    /// A limit was set.
    pub(super) fn share_limit(&mut self, limit: &LimitRecord) {
        if self.is_shared(limit.account) {
            self.shared_accounts.note_limit(limit);
            self.to_other_hosts(|| PoolMessage::Limit(limit.clone()));
        }
    }

    /// Limits were cleared, or have ended.
    pub(super) fn share_limit_end(&mut self, now: Now, account: AccountId, which: Option<&(Scope, String)>) {
        if self.is_shared(account) && self.shared_accounts.forget_limits(account, which, now.wall) {
            let cleared = || ClearedLimit { account, which: which.cloned(), at: now.wall };
            self.to_other_hosts(|| PoolMessage::ClearLimit(cleared()));
        }
    }

    /// The usage of an account has changed.
    pub(super) fn share_usage(&self, id: AccountId) {
        if self.is_shared(id) {
            self.to_other_hosts(|| PoolMessage::Usage(id));
        }
    }

    /// The record of an account has changed.
    pub(super) fn share_account_change(&self, id: AccountId) {
        if self.is_shared(id) {
            self.to_other_hosts(|| PoolMessage::Account(id));
        }
    }

    /// The login state of a shared account, if it is evidence for all hosts: the end of a token says only that this host
    /// has no newer one yet.
    pub(crate) fn shared_login_state(&self, id: AccountId) -> Option<LoginState> {
        use crate::pool::LoginProblem::AccessTokenEnded;
        let state = &self.pool.account(id)?.record.login_state;
        (*state != LoginState::NeedsLogin(AccessTokenEnded)).then(|| state.clone())
    }

    pub(crate) fn to_other_hosts(&self, message: impl FnOnce() -> PoolMessage) {
        if !self.shared_accounts.is_from_pool && self.shared.many_hosts.is_on() {
            self.shared.mailboxes.many_hosts.send(message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Reason;
    use crate::pool::LimitSource;

    fn limit(key: &str, until: u64) -> LimitRecord {
        LimitRecord {
            account: AccountId::from_bits(1),
            key: key.to_owned(),
            scope: Scope::Pool,
            reason: Reason::QuotaExhausted,
            until: Wall(until),
            source: LimitSource::Server,
            since: None,
            evidence: None,
            link: None,
        }
    }

    #[test]
    fn only_a_limit_that_was_cleared_before_its_time_is_cleared_on_other_hosts() {
        let id = AccountId::from_bits(1);
        let mut shared = SharedAccounts::restored(vec![(id, 7)], [limit("claude", 1000)].into_iter());
        let claude = (Scope::Pool, "claude".to_owned());
        assert!(!shared.forget_limits(id, Some(&(Scope::Pool, "other".to_owned())), Wall(10)));
        assert!(shared.forget_limits(id, Some(&claude), Wall(999)));
        assert!(!shared.forget_limits(id, Some(&claude), Wall(999)), "they know of it already");
        shared.note_limit(&limit("claude", 1000));
        assert!(!shared.forget_limits(id, Some(&claude), Wall(1000)), "its time is over everywhere");
        let probed = LimitRecord { since: Some(Wall(0)), ..limit("claude", 600_000) };
        shared.note_limit(&probed);
        assert!(shared.forget_limits(id, Some(&claude), Wall(700_000)), "the others wait for its probe");
        shared.note_limit(&limit("claude", 1000));
        shared.note_limit(&limit("claude", 3000));
        shared.note_limit(&limit("opus", 2000));
        assert_eq!(shared.limits(id), 2);
        assert!(shared.forget_limits(id, None, Wall(2500)));
        assert_eq!(shared.limits(id), 0);
    }

    #[test]
    fn the_end_of_a_token_that_the_database_has_named_holds_for_that_credential_only() {
        let id = AccountId::from_bits(5);
        let mut shared = SharedAccounts::restored(vec![(id, 7)], std::iter::empty());
        assert_eq!(shared.token_end(id, 1), None);
        let end = KnownTokenEnd { credential: 1, at: Some(Wall(9)) };
        shared.set_token_end(id, end);
        assert_eq!((shared.token_end(id, 1), shared.token_end(id, 2)), (Some(end), None));
    }

    #[test]
    fn an_own_account_has_no_notes() {
        let mut shared = SharedAccounts::default();
        shared.note_limit(&limit("claude", 1000));
        assert!(shared.ids().is_empty() && !shared.forget_limits(AccountId::from_bits(1), None, Wall(1)));
    }
}
