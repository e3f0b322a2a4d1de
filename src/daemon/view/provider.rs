//! Whether the agents of each provider can start now, on what account, and if not, when.

use std::collections::BTreeSet;

use crate::daemon::state::{AccountState, State};
use crate::pool::{Forecast, Ineligible, LeaseRequest, Now, Outlook, SelectionResult, Target};
use crate::protocol::{AccountLabel, ProviderInfo};
use crate::provider;

/// Every provider that has accounts, by name. `locked`: the credentials cannot be read now.
pub(super) fn providers(state: &State, now: Now, locked: bool) -> Vec<ProviderInfo> {
    let names: BTreeSet<&str> = state.pool.accounts().iter().map(|account| account.record.provider.as_str()).collect();
    names.into_iter().map(|name| provider_info(state, now, name, locked)).collect()
}

/// One provider. `locked`: the credentials cannot be read now.
pub(crate) fn provider_info(state: &State, now: Now, name: &str, locked: bool) -> ProviderInfo {
    let accounts = state.pool.accounts().iter().filter(|account| account.record.provider == name).count() as u64;
    let agent = provider::PROVIDERS.iter().find(|known| known.name == name).and_then(|known| known.agents.first());
    let none = ProviderInfo {
        provider: name.to_owned(),
        agent: agent.map(|agent| (*agent).to_owned()),
        accounts,
        ..ProviderInfo::default()
    };
    // accounts of a provider that the configuration no longer has serve nothing
    let primary = state.pool.settings().quota.primary;
    let Ok(target) = state.catalog.target(name, None, None, primary) else { return none };
    if locked {
        return none;
    }
    let Forecast { grantable, next_at, accounts, .. } =
        state.pool.forecast(now, &LeaseRequest::of_agent(target.clone(), agent.copied()), None);
    let is_open = grantable > 0;
    let count = |has: &dyn Fn(&Outlook) -> bool| accounts.iter().filter(|one| has(one)).count() as u64;
    let is_partly = |one: &Outlook| {
        let account = state.pool.account(one.account);
        account.is_some_and(|account| state.account_state(account, now) == AccountState::PartlyLimited)
    };
    let returning = accounts.iter().filter(|one| one.until.is_some());
    let first = returning.min_by_key(|one| one.until).filter(|one| !is_open && one.until == next_at);
    let label = |account| AccountLabel { email: state.email_name(account), ..AccountLabel::of(&state.pool, account) };
    ProviderInfo {
        serving: if is_open { count(&|one| one.room > 0) } else { 0 },
        busy: count(&|one| one.why == Some(Ineligible::Busy)),
        limited: count(&|one| one.why == Some(Ineligible::Limited)),
        partly_limited: count(&|one| one.why == Some(Ineligible::Limited) && is_partly(one)),
        grantable: u64::from(grantable),
        next: next_account(state, now, target, agent.copied()).filter(|_| is_open).map(label),
        free_at: next_at.filter(|_| !is_open).map(|at| at.0),
        first_free: first.map(|one| label(one.account)),
        ..none
    }
}

/// The account that the next agent gets, unless that depends on its process.
fn next_account(state: &State, now: Now, target: Target, agent: Option<&str>) -> Option<crate::pool::AccountId> {
    if state.pool.settings().selection.pid_offset {
        return None;
    }
    let ask = LeaseRequest::of_agent(target, agent);
    match state.pool.explain(now, &ask).verdict {
        SelectionResult::Grant(account, _) => Some(account),
        SelectionResult::Wait(..) | SelectionResult::Refuse(_) => None,
    }
}
