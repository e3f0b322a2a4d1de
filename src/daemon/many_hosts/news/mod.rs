//! What other hosts have changed: limits, usage and seats. Accounts are adopted before (`adopt.rs`).

pub(super) mod adopt;
mod decide;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::message::PoolMessage;
use super::term::{self, BeginError};
use super::times::{limit_from_database, usage_from_database};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, OwnChangeCount, SharedAccounts, State};
use crate::limits::Scope;
use crate::pool::{AccountId, Command, Limit, Now, Wall};
use crate::shared_pool::{PoolClient, PoolNews, SharedLimit, SharedPoolError, SharedUsage};

/// So many changes are applied under one lock: others wait for it no longer than that takes.
const AT_ONCE: usize = 256;
/// Limits that were set within this time are the same, after a clock was set; for each `DRIFT` seconds that have passed since,
/// within a second more: this host's clock may be fast or slow.
const SAME_TIME: Duration = Duration::from_secs(1);
const DRIFT: u32 = 16;
const MILLISECOND: Duration = Duration::from_millis(1);

/// News whose accounts are adopted, and the rest is applied.
pub(super) struct AppliedNews {
    pub(super) news: Box<PoolNews>,
    pub(super) adopted: adopt::Adopted,
    /// This host has moved, added or removed some of the accounts since the reading began: it is read again.
    pub(super) is_outdated: bool,
}

/// The accounts that the pool does not have any more.
#[derive(PartialEq, Eq, Debug)]
struct GoneAccounts {
    gone: Vec<AccountId>,
    /// The reading does not know what this host has done with others since.
    is_outdated: bool,
}

/// Adopts the accounts of the news, and applies the rest. `begun` is from when the reading began.
pub(super) async fn adopt_and_apply(
    daemon: &Arc<Daemon>,
    client: &PoolClient,
    (mut news, begun): (Box<PoolNews>, OwnChangeCount),
) -> Result<AppliedNews, BeginError> {
    let has_old_keys =
        daemon.many_hosts.membership().is_some_and(|membership| membership.keys.generation() < news.keys);
    if has_old_keys {
        term::renew_membership(daemon, client).await?;
    }
    let accounts = std::mem::take(&mut news.accounts);
    let ids: Vec<_> = accounts.iter().map(|account| account.record.id).collect();
    let kept: Vec<_> = accounts.iter().filter(|one| one.has_kept_seats).map(|one| one.record.id).collect();
    let mut adopted = adopt::Adopted::default();
    if let Some(membership) = daemon.many_hosts.membership().filter(|_| !accounts.is_empty()) {
        adopted = adopt::adopt(daemon, &membership, (accounts, begun)).await;
    }
    let is_outdated = remove_gone(daemon, &news, &ids, begun).await | adopted.is_outdated;
    apply(daemon, &news);
    release_kept(daemon, client, &kept).await?;
    Ok(AppliedNews { news, adopted, is_outdated })
}

/// Lets other hosts have the seats that were kept for this one when a ceiling was raised. An exclusive lease claims them.
async fn release_kept(daemon: &Daemon, client: &PoolClient, kept: &[AccountId]) -> Result<(), SharedPoolError> {
    let Some(term) = daemon.many_hosts.term() else { return Ok(()) };
    for account in kept {
        let needs_them = daemon.state().pool.account(*account).is_some_and(|account| account.exclusive);
        if !needs_them {
            client.release_kept_seats(term.id, term.life, *account).await?;
        }
    }
    Ok(())
}

/// Removes the accounts that the pool does not have any more; `named` are those that the news name. Answers whether the news
/// are outdated.
async fn remove_gone(daemon: &Daemon, news: &PoolNews, named: &[AccountId], begun: OwnChangeCount) -> bool {
    if !news.full && news.removed.is_empty() {
        return false;
    }
    // no account is on its way into the pool or out of it
    let _account_writes = daemon.account_writes.lock().await;
    let state = &mut *daemon.state();
    let GoneAccounts { gone, is_outdated } = gone_accounts(&state.shared_accounts, news, named, begun);
    // a move into the pool or out of it was interrupted: without the pool's part it is this host's own
    let was_moving = |id: &AccountId| state.shared_accounts.get(*id).is_some_and(|note| note.generation.0 == 0);
    let (moving, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(was_moving);
    adopt::remove(state, clock::now(), &gone);
    moving.into_iter().for_each(|id| adopt::keep_as_own(state, clock::now(), id));
    is_outdated
}

/// Decides which accounts are gone. Only those count that this host has not changed since the reading began: what it has moved
/// into the pool since is not in a reading of everything, and may be in its list of removed ones.
fn gone_accounts(shared: &SharedAccounts, news: &PoolNews, named: &[AccountId], begun: OwnChangeCount) -> GoneAccounts {
    let mut gone = news.removed.clone();
    if news.full {
        let named: BTreeSet<AccountId> = named.iter().copied().collect();
        gone.extend(shared.ids().into_iter().filter(|id| !named.contains(id)));
    }
    gone.retain(|id| shared.get(*id).is_some());
    gone.sort_unstable();
    gone.dedup();
    let all = gone.len();
    gone.retain(|id| !shared.is_changed_since(*id, begun));
    GoneAccounts { is_outdated: gone.len() < all, gone }
}

/// Applies what the news say of limits, usage and seats.
fn apply(daemon: &Daemon, news: &PoolNews) {
    for limits in news.limits.chunks(AT_ONCE) {
        let state = &mut *daemon.state();
        let now = clock::now();
        limits.iter().for_each(|change| apply_limit(state, now, change, news.full));
    }
    if news.full {
        send_unknown_limits(&daemon.state(), &news.limits);
    }
    for readings in news.usage.chunks(AT_ONCE) {
        let state = &mut *daemon.state();
        let now = clock::now();
        readings.iter().for_each(|reading| apply_usage(state, now, reading));
    }
    let state = &mut *daemon.state();
    let now = clock::now();
    if !news.elsewhere.is_empty() {
        state.apply_from_pool(now, Command::SeatsElsewhere(news.elsewhere.clone()));
    }
    state.apply_from_pool(now, Command::SeatsWanted(news.wanted.clone()));
}

fn apply_limit(state: &mut State, now: Now, change: &SharedLimit, is_full: bool) {
    let shared = state.shared().clone();
    match change {
        SharedLimit::Set(limit) if state.is_shared(limit.account) => {
            let account = limit.account;
            let limit = limit_from_database(&shared.many_hosts, limit.clone(), now);
            let known = state.pool.account(account).map(|account| account.limits()).unwrap_or_default();
            state.apply_from_pool(now, limit_command(account, known, limit, is_full, now.wall));
        }
        SharedLimit::Cleared { account, which, at } if state.is_shared(*account) => {
            let cleared_at = shared.many_hosts.to_local(*at);
            // of all limits, those that were set before; a limit that was learnt since stands
            let limits = state.pool.account(*account).map(|account| account.limits().to_vec()).unwrap_or_default();
            let is_meant = |scope, key: &str| which.as_ref().is_none_or(|(of, named)| *of == scope && named == key);
            for limit in limits.into_iter().filter(|limit| is_meant(limit.scope, &limit.key)) {
                if limit.was_set_before(cleared_at.after(MILLISECOND), now.wall) {
                    state.apply_from_pool(now, Command::ClearLimit(*account, limit.scope, limit.key));
                }
            }
        }
        SharedLimit::Set(_) | SharedLimit::Cleared { .. } => {}
    }
}

/// Sends the limits that this host knows, and the database has neither in force nor as cleared: they were learnt while it was
/// away, by a daemon that has ended before it was back. The database leaves out those that it has cleared since.
fn send_unknown_limits(state: &State, all: &[SharedLimit]) {
    let now = clock::now();
    let named: BTreeSet<(AccountId, Scope, &str)> = all.iter().filter_map(name_of).collect();
    for account in state.shared_accounts.ids() {
        let limits = state.pool.account(account).map(|known| known.limits()).unwrap_or_default();
        for limit in limits.iter().filter(|limit| is_sent(limit, now)) {
            if !named.contains(&(account, limit.scope, limit.key.as_str())) {
                state.to_other_hosts(|| PoolMessage::Limit(limit.record(account, now)));
            }
        }
    }
}

/// Which limit this is of; none if it is all of an account.
fn name_of(change: &SharedLimit) -> Option<(AccountId, Scope, &str)> {
    match change {
        SharedLimit::Set(limit) => Some((limit.account, limit.scope, &limit.key)),
        SharedLimit::Cleared { account, which, .. } => {
            which.as_ref().map(|(scope, key)| (*account, *scope, key.as_str()))
        }
    }
}

/// Not one from before the clock was set back: the database could not tell that it is older than a clearing.
fn is_sent(limit: &Limit, now: Now) -> bool {
    !limit.is_recovering() && !limit.until.passed(now) && limit.since <= now.wall
}

/// The database has merged the limits of all hosts by the same rule as each of them (I8), in the order in which they came. So a
/// stronger limit that was set here *before* is over: another host has cleared it, or its time has ended by the database's
/// clock. If everything is read, the same limit is replaced, too: this host's clock may have been set since, and what it knows of
/// its end may be wrong. A limit that is replaced and has not reached the database yet comes back as news.
fn limit_command(account: AccountId, known: &[Limit], limit: Limit, is_full: bool, now: Wall) -> Command {
    let is_same = |known: &&Limit| (known.scope, &known.key) == (limit.scope, &limit.key);
    // a time is not the same to the millisecond after the way to the database's clock and back
    let same = if is_full { SAME_TIME + now.since(limit.since) / DRIFT } else { Duration::ZERO };
    let is_older = |known: &Limit| !known.is_recovering() && known.was_set_before(limit.since.after(same), now);
    if known.iter().find(is_same).is_some_and(is_older) {
        Command::ReplaceLimit(account, limit)
    } else {
        Command::SetLimit(account, limit)
    }
}

fn apply_usage(state: &mut State, now: Now, reading: &SharedUsage) {
    if !state.is_shared(reading.account) {
        return;
    }
    let shared = state.shared().clone();
    // what this host has read since stands
    let usage = usage_from_database(&shared.many_hosts, &reading.usage);
    state.apply_from_pool(now, Command::LearnUsage(reading.account, usage));
    // the poller looks again when the account is to be read next
    shared.mailboxes.usage.wake();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_pool::{KeyGeneration, NewsPosition, TokenGeneration};

    fn id(bits: u64) -> AccountId {
        AccountId::from_bits(bits)
    }

    fn news(full: bool, removed: &[u64]) -> PoolNews {
        PoolNews {
            position: NewsPosition(1),
            db_time: Wall(0),
            incarnation: 1,
            keys: KeyGeneration(1),
            full,
            settings_changed: false,
            accounts: Vec::new(),
            removed: removed.iter().copied().map(id).collect(),
            limits: Vec::new(),
            usage: Vec::new(),
            elsewhere: Vec::new(),
            hosts: Vec::new(),
            beats: Vec::new(),
            wanted: Vec::new(),
        }
    }

    #[test]
    fn a_reading_that_was_begun_before_a_move_does_not_remove_the_account() {
        let mut shared = SharedAccounts::default();
        [1, 2, 3].into_iter().for_each(|bits| shared.insert(id(bits), TokenGeneration(1)));
        shared.note_own_change(id(2));
        let begun = shared.own_changes();
        // it moves into the pool while everything is read
        shared.note_own_change(id(4));
        shared.insert(id(4), TokenGeneration(0));
        let of = |shared: &SharedAccounts, begun| gone_accounts(shared, &news(true, &[]), &[id(1)], begun);
        // 1 is named, and the pool has 2 and 3 no more
        assert_eq!(of(&shared, begun), GoneAccounts { gone: vec![id(2), id(3)], is_outdated: true });
        // a reading that was begun in the middle of the move, too, once it is over
        let middle = shared.own_changes();
        shared.note_own_change(id(4));
        assert_eq!(of(&shared, middle), GoneAccounts { gone: vec![id(2), id(3)], is_outdated: true });
        // one that was begun after it decides: the move was interrupted before the database's part
        let after = shared.own_changes();
        assert_eq!(of(&shared, after), GoneAccounts { gone: vec![id(2), id(3), id(4)], is_outdated: false });
    }

    #[test]
    fn an_account_that_was_moved_out_and_in_again_is_not_removed_by_what_was_read_in_between() {
        let mut shared = SharedAccounts::default();
        [1, 2].into_iter().for_each(|bits| shared.insert(id(bits), TokenGeneration(1)));
        let begun = shared.own_changes();
        shared.note_own_change(id(2));
        let of = |shared: &SharedAccounts, begun| gone_accounts(shared, &news(false, &[1, 2, 9]), &[], begun);
        assert_eq!(of(&shared, begun), GoneAccounts { gone: vec![id(1)], is_outdated: true });
        let after = shared.own_changes();
        assert_eq!(of(&shared, after), GoneAccounts { gone: vec![id(1), id(2)], is_outdated: false });
    }

    #[test]
    fn what_the_database_has_of_a_limit_since_replaces_a_stronger_one_and_not_a_newer_one() {
        use crate::limits::{Reason, Scope};
        use crate::pool::{Deadline, LimitSource, Mono};
        let limit = |since: u64, until: u64, source| {
            let until = Deadline::Mono(Mono(until));
            let limit = Limit::new(Scope::Pool, "k", Reason::RateLimitExceeded, until, source);
            Limit { since: Wall(since), ..limit }
        };
        let other = Limit { key: "other".to_owned(), ..limit(1, 90, LimitSource::Server) };
        let known = [other, limit(5_010, 9_000, LimitSource::Server)];
        let replaces_at = |now: Wall, guess: Limit, is_full: bool| {
            matches!(limit_command(id(1), &known, guess, is_full, now), Command::ReplaceLimit(..))
        };
        let replaces = |guess: Limit, is_full: bool| replaces_at(Wall(8_000), guess, is_full);
        // the server's word was cleared by another host, which has met a refusal without an end since
        assert!(replaces(limit(5_011, 6_000, LimitSource::Table), false));
        // it was learnt here later, and the database gets it next
        assert!(!replaces(limit(5_009, 6_000, LimitSource::Table), false));
        assert!(!replaces(limit(5_010, 6_000, LimitSource::Table), false));
        // the clock was set: the same limit, and not one from before
        assert!(replaces(limit(5_009, 8_000, LimitSource::Server), true));
        assert!(!replaces(limit(3_000, 6_000, LimitSource::Table), true));
        // this host's clock was set back since it learnt the limit
        assert!(replaces_at(Wall(4_000), limit(3_900, 6_000, LimitSource::Server), false));
        let unknown = Limit { key: "unknown".to_owned(), ..limit(5_011, 6_000, LimitSource::Table) };
        assert!(!replaces(unknown, true));
    }
}
