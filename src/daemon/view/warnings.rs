//! The warnings of `status`.

use crate::daemon::state::State;
use crate::pool::{LoginState, Now, Pool, Wall, spoken};
use crate::{config::Config, credential::refresh::RefreshFault, store::StoreHealth};

/// The keyring with the key of all secrets is locked.
pub(crate) fn of_keyring(why: &str) -> String {
    format!("{why}: no account can serve until the key is available; {KEYRING_HINT}")
}

/// What to do about a locked keyring.
pub(crate) const KEYRING_HINT: &str =
    "unlock it (log in to your desktop, or open its password manager); lessor then continues without a restart";

/// The database cannot be written.
pub(crate) fn of_store(health: &StoreHealth, now: Wall) -> Option<String> {
    match health {
        StoreHealth::Ok => None,
        StoreHealth::ReadOnly => {
            Some("the data directory is read-only: leases are served, but no change is saved".to_owned())
        }
        StoreHealth::Failing(failure) => Some(format!(
            "the database cannot be written ({1}; for {0} now): leases are served from memory, {2} changes wait{3}",
            spoken(now.since(failure.since)),
            failure.message,
            failure.waiting,
            if failure.dropped > 0 { format!(", {} were lost", failure.dropped) } else { String::new() },
        )),
    }
}

/// Logins that cannot be refreshed: each problem once, even if several accounts have it.
pub(crate) fn of_refreshing(state: &State, now: Now) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for account in state.pool.accounts() {
        let (id, provider) = (account.record.id, &account.record.provider);
        if let Some((failure, since)) = state.logins.plan.last_failure(id) {
            let (why, since) = (&failure.why, spoken(now.mono.since(since)));
            let remedy = if failure.fault == RefreshFault::Client {
                format!("; check [providers.{provider}.oauth], then: lessor account refresh {id}")
            } else {
                String::new()
            };
            let name = if failure.fault == RefreshFault::Account { account.display_name() } else { provider.clone() };
            warnings.push(format!("logins of {name} have not been refreshed for {since}: {why}{remedy}"));
        } else if account.record.login_state == LoginState::Ready
            && account.enabled()
            && let Some(missing) = state.missing_for_refresh(id)
        {
            let remedy = missing.remedy();
            warnings.push(format!("logins of {provider} end and cannot be refreshed: {missing}; {remedy}"));
        }
    }
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

/// Logins whose files cannot be followed.
pub(crate) fn of_links(state: &State) -> Vec<String> {
    let problems = state.links.iter().filter_map(|(id, link)| Some((id, link, state.links.problem(id)?)));
    problems.map(|(id, link, why)| format!("{} cannot follow {}: {why}", state.account_name(id), link.path)).collect()
}

/// Sections of the configuration that match no account.
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
