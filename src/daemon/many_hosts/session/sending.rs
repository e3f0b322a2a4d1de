//! Sends what was learnt on this host to the database: limits, usage, login states, changes of accounts.

use std::sync::Arc;

use super::outgoing::{LimitChange, NumberedChange};
use crate::daemon::many_hosts::message::ClearedLimit;
use crate::daemon::many_hosts::times::{limit_for_database, usage_for_database};
use crate::daemon::state::Daemon;
use crate::pool::{AccountId, AccountRecord, LoginState};
use crate::shared_pool::{PoolClient, SharedPoolError, TokenGeneration};

/// Sends one change of the limits.
pub(super) async fn limit(
    daemon: &Daemon,
    client: &PoolClient,
    (_, change): &NumberedChange,
) -> Result<(), SharedPoolError> {
    match change {
        LimitChange::Set(limit) => client.set_limit(&limit_for_database(&daemon.many_hosts, limit)).await.map(drop),
        LimitChange::Cleared(ClearedLimit { account, which, at }) => {
            // what the user clears is what the pool has now; evidence says nothing of what was learnt after it
            let at = which.as_ref().map(|_| daemon.many_hosts.to_database(*at));
            let which = which.as_ref().map(|(scope, key)| (*scope, key.as_str()));
            client.clear_limit(*account, which, at).await
        }
    }
}

/// Sends what is known of the usage of an account.
pub(super) async fn usage(daemon: Arc<Daemon>, client: Arc<PoolClient>, id: AccountId) -> Result<(), SharedPoolError> {
    let usage = daemon.state().pool.account(id).map(|account| account.usage().kept());
    let Some(usage) = usage.filter(|usage| !usage.is_empty()) else { return Ok(()) };
    let usage = usage_for_database(&daemon.many_hosts, &usage);
    let read_at = usage.windows.iter().map(|window| window.as_of).max().unwrap_or_default();
    client.set_usage(id, &usage, read_at).await
}

/// How an account differs from what the pool knows of it.
#[derive(Debug, Default)]
struct AccountDifference {
    login_state: Option<(TokenGeneration, LoginState)>,
    record: Option<Box<AccountRecord>>,
}

/// Sends the login state of an account, and its record if this host may change it.
pub(in crate::daemon::many_hosts) async fn account(
    daemon: Arc<Daemon>,
    client: Arc<PoolClient>,
    id: AccountId,
    is_admin: bool,
) -> Result<(), SharedPoolError> {
    let AccountDifference { login_state, record } = difference(&daemon, id);
    if let Some((generation, login_state)) = login_state {
        client.set_login_state(id, generation, &login_state).await?;
        daemon.state().shared_accounts.set_login_state(id, login_state);
    }
    if let Some(record) = record.filter(|_| is_admin) {
        client.save_account(&record).await?;
        let state = &mut *daemon.state();
        let label_here = state.shared_accounts.get(id).and_then(|note| note.label_here.clone());
        state.shared_accounts.set_record(id, *record, label_here);
    }
    Ok(())
}

fn difference(daemon: &Daemon, id: AccountId) -> AccountDifference {
    let state = &*daemon.state();
    let note = state.shared_accounts.get(id).and_then(|note| Some((note, note.record.as_ref()?)));
    let known = state.pool.account(id).map(|account| &account.record);
    let (Some((note, pooled)), Some(known)) = (note, known) else { return AccountDifference::default() };
    let login_state = state.shared_login_state(id).filter(|found| *found != pooled.login_state);
    // what only this host has is not compared
    let label = if known.label == note.label_here && known.label.is_some() { &pooled.label } else { &known.label };
    let record = AccountRecord {
        label: label.clone(),
        login_state: pooled.login_state.clone(),
        last_used_at: pooled.last_used_at,
        kind: pooled.kind,
        ..known.clone()
    };
    AccountDifference {
        login_state: login_state.map(|found| (note.generation, found)),
        record: (record != *pooled).then(|| Box::new(record)),
    }
}
