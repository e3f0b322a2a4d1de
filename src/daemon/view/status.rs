//! `status`: the daemon, its accounts and its queue.

use std::sync::atomic::Ordering;

use super::{denial, gateway_key, provider, warnings};
use crate::daemon::state::{AccountState, Daemon, State};
use crate::daemon::{os::clock, refresh::awaited_refreshes};
use crate::pool::{Now, millis};
use crate::protocol::{AccountTotals, DaemonStatus, QueueRow};

pub(crate) fn status(daemon: &Daemon, now: Now) -> DaemonStatus {
    let state = &*daemon.state();
    let accounts = totals(state, now);
    let queue = state.pool.waiters().zip(1u64..).map(|((id, waiter), position)| QueueRow {
        position,
        eta_at: state.pool.eta(now, id).map(|at| at.0),
        provider: waiter.ask.target.provider.to_string(),
        model: waiter.ask.target.model.as_deref().map(str::to_owned),
        label: waiter.ask.label.as_deref().map(str::to_owned),
    });
    let mut warnings: Vec<String> = awaited_refreshes(state, now).into_iter().collect();
    warnings.extend(daemon.run.warnings.iter().cloned());
    match &daemon.run.keyring {
        Some(keyring) => warnings.push(warnings::of_keyring(&keyring.why())),
        None => warnings.extend(warnings::of_store(&daemon.store.health(), now.wall)),
    }
    warnings.extend(daemon.store.key_problem());
    warnings.extend(warnings::summed_up(warnings::of_many_hosts(daemon, state, now)));
    warnings.extend(daemon.history.trouble());
    warnings.extend(daemon.notice_troubles.warnings());
    warnings.extend(warnings::summed_up(state.config.notes()));
    warnings.extend(warnings::summed_up(warnings::of_refreshing(state, now)));
    warnings.extend(
        state.gateway.trouble.as_ref().map(|why| format!("the gateway does not listen everywhere it should: {why}")),
    );
    warnings.extend(warnings::summed_up(gateway_key::warnings(&daemon.gateway_keys, now.wall)));
    let shortage = daemon.gateway_shortage.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    warnings.extend(shortage.and_then(|shortage| warnings::of_shortage(&shortage, now.wall)));
    warnings.extend(warnings::summed_up(warnings::of_links(state)));
    warnings.extend(warnings::summed_up(denial::warnings(state, now)));
    warnings.extend(warnings::summed_up(state.attest_warnings(now.wall)));
    warnings.extend(warnings::unmatched_accounts(&state.config.config, &state.pool));
    DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: millis(clock::now().mono.since(daemon.run.started.mono)),
        socket: daemon.run.socket.clone(),
        gateway: state.gateway.info(),
        config: state.config.state(),
        accounts,
        leases: state.pool.lease_count() as u64,
        queue: queue.collect(),
        warnings,
        gateway_trouble: state.gateway.trouble.clone(),
        in_flight: daemon.in_flight.load(Ordering::Relaxed),
        history: daemon.history.status(),
        providers: provider::providers(state, now, daemon.run.keyring.is_some()),
        pool: super::pool_summary(state, now),
        guests: state.guest_infos(),
        host: state.config.config.join.host.as_deref().and_then(|host| daemon.host_link.info(host)),
    }
}

/// The number of accounts in each state.
pub(crate) fn totals(state: &State, now: Now) -> AccountTotals {
    let mut accounts = AccountTotals { total: state.pool.accounts().len() as u64, ..AccountTotals::default() };
    for account in state.pool.accounts() {
        match state.account_state(account, now) {
            AccountState::Ready => accounts.ready += 1,
            AccountState::PartlyLimited => accounts.partly_limited += 1,
            AccountState::Limited => accounts.limited += 1,
            AccountState::WaitingForToken => accounts.waiting_for_token += 1,
            AccountState::CannotRenew => accounts.cannot_renew += 1,
            AccountState::NeedsLogin => accounts.needs_login += 1,
            AccountState::NeedsVerification => accounts.needs_verification += 1,
            AccountState::Disabled => accounts.disabled += 1,
        }
    }
    accounts
}
