//! What other hosts have changed: limits, usage and seats. Accounts are adopted before (`adopt.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::adopt;
use super::term::{self, BeginError};
use super::times::{limit_from_database, usage_from_database};
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, Command, Now};
use crate::shared_pool::{PoolClient, PoolNews, SharedLimit, SharedPoolError, SharedUsage};

/// So many changes are applied under one lock: others wait for it no longer than that takes.
const AT_ONCE: usize = 256;

/// News whose accounts are adopted, and the rest is applied.
pub(super) struct AppliedNews {
    pub(super) news: Box<PoolNews>,
    pub(super) adopted: adopt::Adopted,
}

/// Adopts the accounts of the news, and applies the rest.
pub(super) async fn adopt_and_apply(
    daemon: &Arc<Daemon>,
    client: &PoolClient,
    mut news: Box<PoolNews>,
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
        adopted = adopt::adopt(daemon, &membership, accounts).await;
    }
    apply(daemon, &news, &ids);
    release_kept(daemon, client, &kept).await?;
    Ok(AppliedNews { news, adopted })
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

/// Applies what the news say of limits, usage and seats. `accounts` are those that they name.
fn apply(daemon: &Daemon, news: &PoolNews, accounts: &[AccountId]) {
    let gone = gone_accounts(&daemon.state(), news, accounts);
    if !gone.is_empty() {
        let state = &mut *daemon.state();
        // a move into the pool or out of it was interrupted: without the pool's part it is this host's own
        let is_moving = |id: &AccountId| state.shared_accounts.get(*id).is_some_and(|note| note.generation.0 == 0);
        let (moving, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(is_moving);
        adopt::remove(state, clock::now(), &gone);
        moving.into_iter().for_each(|id| adopt::keep_as_own(state, clock::now(), id));
    }
    for limits in news.limits.chunks(AT_ONCE) {
        let state = &mut *daemon.state();
        let now = clock::now();
        limits.iter().for_each(|change| apply_limit(state, now, change));
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

/// The accounts that the pool does not have any more.
fn gone_accounts(state: &State, news: &PoolNews, accounts: &[AccountId]) -> Vec<AccountId> {
    let mut gone = news.removed.clone();
    if news.full {
        let known: BTreeSet<AccountId> = accounts.iter().copied().collect();
        gone.extend(state.shared_accounts.ids().into_iter().filter(|id| !known.contains(id)));
    }
    gone.retain(|id| state.is_shared(*id));
    gone.sort_unstable();
    gone.dedup();
    gone
}

fn apply_limit(state: &mut State, now: Now, change: &SharedLimit) {
    let shared = state.shared().clone();
    match change {
        SharedLimit::Set(limit) if state.is_shared(limit.account) => {
            let account = limit.account;
            let limit = limit_from_database(&shared.many_hosts, limit.clone(), now);
            state.apply_from_pool(now, Command::SetLimit(account, limit));
        }
        SharedLimit::Cleared { account, which, at } if state.is_shared(*account) => {
            let cleared_at = shared.many_hosts.to_local(*at);
            // of all limits, those that were set before; a limit that was learnt since stands
            let limits = state.pool.account(*account).map(|account| account.limits().to_vec()).unwrap_or_default();
            let is_meant = |scope, key: &str| which.as_ref().is_none_or(|(of, named)| *of == scope && named == key);
            for limit in limits.into_iter().filter(|limit| is_meant(limit.scope, &limit.key)) {
                if limit.since <= cleared_at {
                    state.apply_from_pool(now, Command::ClearLimit(*account, limit.scope, limit.key));
                }
            }
        }
        SharedLimit::Set(_) | SharedLimit::Cleared { .. } => {}
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
