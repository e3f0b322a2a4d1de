//! What a user should know without looking for it.

use crate::config::Config;
use crate::credential::refresh::Fault;
use crate::pool::{AccountId, LoginState, Now, Pool, Wall, spoken};
use crate::store::Health;

use crate::daemon::state::State;

/// The disk.
pub(crate) fn of_store(health: &Health, now: Wall) -> Option<String> {
    match health {
        Health::Ok => None,
        Health::ReadOnly => {
            Some("the data directory is read-only: leases are served, but nothing that changes is kept".to_owned())
        }
        Health::Failing(failure) => Some(format!(
            "the database cannot be written for {} ({}): leases are served from memory, {} changes wait{}",
            spoken(now.since(failure.since)),
            failure.message,
            failure.waiting,
            if failure.dropped > 0 { format!(", {} were lost", failure.dropped) } else { String::new() },
        )),
    }
}

/// Logins that cannot be renewed: each trouble once, however many share it.
pub(crate) fn of_refreshing(state: &State, now: Now) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for account in state.pool.accounts() {
        let (id, provider) = (account.record.id, &account.record.provider);
        if let Some((failure, since)) = state.refreshing.plan.trouble(id) {
            let (why, since) = (&failure.why, spoken(now.mono.since(since)));
            let remedy = match failure.fault {
                Fault::Client => format!("; check [providers.{provider}.oauth], then: lessor account refresh {id}"),
                Fault::Account | Fault::Disk | Fault::Endpoint | Fault::TooMany => String::new(),
            };
            let whose = if failure.fault == Fault::Account { account.display_name() } else { provider.clone() };
            told.push(format!("logins of {whose} are not renewed for {since}: {why}{remedy}"));
        } else if account.record.login_state == LoginState::Ready
            && account.enabled()
            && let Some(missing) = state.why_not_refreshed(id)
        {
            let remedy = missing.remedy();
            told.push(format!("logins of {provider} end and are not renewed: {missing}; {remedy}"));
        }
    }
    told.sort_unstable();
    told.dedup();
    told
}

/// Logins whose files cannot be followed.
pub(crate) fn of_links(state: &State) -> Vec<String> {
    let name =
        |id: &AccountId| state.pool.account(*id).map_or_else(|| id.to_string(), |account| account.display_name());
    let told = state.link_troubles.iter().filter_map(|(id, why)| Some((id, state.links.get(id)?, why)));
    told.map(|(id, link, why)| format!("{} cannot follow {}: {why}", name(id), link.path)).collect()
}

/// Sections of the configuration that no account answers to.
pub(crate) fn of_accounts(config: &Config, pool: &Pool) -> Vec<String> {
    let unmatched = config
        .pool
        .accounts
        .iter()
        .filter(|section| !pool.accounts().iter().any(|account| account.record.is_named(&section.name)));
    unmatched
        .map(|section| format!("the configuration's section [accounts.{:?}] matches no account", section.name))
        .collect()
}
