//! `pool.leave`: this host gives back its seats and has no shared account any more.

use std::sync::Arc;

use super::{membership, pool_error, save_membership};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::bad;
use crate::daemon::many_hosts;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::pool::{AccountId, Command};
use crate::protocol::{Answer, ErrorInfo, LeavePoolParams, LeftPoolInfo};
use crate::shared_pool::{Membership, PoolClient, PoolHost, SharedPoolError, SharedPoolErrorKind};

/// `pool.leave`
pub(super) async fn leave(daemon: Arc<Daemon>, params: LeavePoolParams) -> AnswerResult {
    let membership = membership(&daemon)?;
    let _one_at_a_time = daemon.account_writes.lock().await;
    let shared = shared_accounts(&daemon);
    let leases = leases_on(&daemon, &shared);
    if leases > 0 && !params.force {
        let agents = if leases == 1 { "1 lease is".to_owned() } else { format!("{leases} leases are") };
        return Err(bad(format!("{agents} on shared accounts, and would end"))
            .hint("see: lessor leases; to leave all the same: lessor pool leave --force"));
    }
    let mut noted = false;
    let client = match connected(&daemon, &membership).await {
        Ok(client) => Some(client),
        // its role may not log in any more: it was evicted
        Err(error) if error.kind() == SharedPoolErrorKind::Auth || is_out(error.kind()) => {
            noted = true;
            None
        }
        Err(_) if params.force => None,
        Err(error) => return Err(pool_error(&error).hint(AWAY)),
    };
    if let Some(client) = client.as_ref().filter(|_| !params.force) {
        match client.hosts().await {
            Ok(hosts) => refuse_last(&hosts, &membership, shared.len())?,
            // it is not in the pool any more
            Err(error) if is_out(error.kind()) => {}
            Err(error) => return Err(pool_error(&error).hint(AWAY)),
        }
    }
    // no lease may outlive the seats
    daemon.state().lose_seats(clock::now());
    if let Some(client) = &client {
        if let Some(term) = daemon.many_hosts.term()
            && let Err(error) = client.end_term(term.id, term.life).await
        {
            // its seats are free after a while
            tracing::warn!("the seats of this host were not given back: {error}");
        }
        match client.leave().await {
            Ok(()) => noted = true,
            Err(error) if is_out(error.kind()) => noted = true,
            Err(error) if !params.force => return Err(pool_error(&error).hint(AWAY)),
            Err(error) => tracing::warn!("the shared pool does not know that this host has left: {error}"),
        }
    }
    save_membership(&daemon, None).await?;
    many_hosts::rejoin(&daemon, None);
    let kept = remove_shared(&daemon, &shared);
    daemon.all_saved().await;
    tracing::info!("left the shared pool {}", membership.pool);
    Ok(Answer::LeftPool(Box::new(LeftPoolInfo {
        pool: membership.pool.clone(),
        name: membership.name.clone(),
        removed: shared.len() as u64,
        kept,
        ended: leases,
        noted,
    })))
}

/// The worker's connection, else one for this call.
async fn connected(daemon: &Daemon, membership: &Membership) -> Result<Arc<PoolClient>, SharedPoolError> {
    match daemon.many_hosts.client() {
        Some(client) => Ok(client),
        None => PoolClient::connect_to_join(&membership.address).await.map(Arc::new),
    }
}

const AWAY: &str =
    "to leave without the database: lessor pool leave --force; then, on an admin: lessor pool evict HOST";

/// Whether this host has no access any more.
fn is_out(kind: SharedPoolErrorKind) -> bool {
    matches!(kind, SharedPoolErrorKind::Evicted | SharedPoolErrorKind::NotMember | SharedPoolErrorKind::NoPool)
}

fn refuse_last(hosts: &[PoolHost], own: &Membership, accounts: usize) -> Result<(), ErrorInfo> {
    let is_other = |host: &&PoolHost| host.id != own.host && host.ended_at.is_none() && host.joined_at.is_some();
    let has_other = |is: fn(&PoolHost) -> bool| hosts.iter().filter(is_other).any(is);
    let (admin, refresher) =
        (own.admin && !has_other(|host| host.admin), own.refresher && !has_other(|host| host.refresher));
    let what = match (admin, refresher) {
        (false, false) => return Ok(()),
        (true, true) => "the last admin and refresher: no host could change the pool or refresh its logins any more",
        (true, false) => "the last admin: no host could change the pool any more",
        (false, true) => "the last refresher: no login of the pool could be refreshed any more",
    };
    let hint = match accounts {
        0 => "to leave all the same: lessor pool leave --force".to_owned(),
        _ => "to keep its accounts here: lessor pool migrate --to-local; for another host with these rights: lessor pool \
              join-token --admin --refresher; to leave all the same: lessor pool leave --force"
            .to_owned(),
    };
    Err(bad(format!("{} is {what}", own.name)).hint(hint))
}

fn shared_accounts(daemon: &Daemon) -> Vec<AccountId> {
    daemon.state().shared_accounts.ids()
}

fn leases_on(daemon: &Daemon, accounts: &[AccountId]) -> u64 {
    let state = &*daemon.state();
    accounts.iter().filter_map(|id| state.pool.account(*id)).map(|account| u64::from(account.leases())).sum()
}

/// Removes the shared accounts from this host; returns how many it still has.
fn remove_shared(daemon: &Daemon, shared: &[AccountId]) -> u64 {
    let state = &mut *daemon.state();
    let now = clock::now();
    for id in shared {
        state.apply_from_pool(now, Command::RemoveAccount(*id));
        // news that the worker has read do not bring it back
        state.shared_accounts.move_out(*id);
    }
    state.pool.accounts().len() as u64
}
