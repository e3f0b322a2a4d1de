//! The warnings of `status`.

use std::time::Duration;

use crate::credential::refresh::{RefreshFailure, RefreshFault};
use crate::daemon::state::{GatewayShortage, State};
use crate::pool::{LoginState, Mono, Now, Pool, Wall, spoken};
use crate::{config::Config, store::StoreHealth};

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

/// How long `status` says that connections of the gateway had no place.
const SHORTAGE_SHOWN: Duration = Duration::from_secs(3600);

/// Too many connections of the gateway were open.
pub(crate) fn of_shortage(shortage: &GatewayShortage, now: Wall) -> Option<String> {
    let GatewayShortage { closed, last, user, without_key, share, open, most } = shortage;
    let since = now.since(*last);
    (since < SHORTAGE_SHOWN).then(|| {
        format!(
            "the gateway had too many connections, and has closed {closed} since its start; the last one {} ago, of \
             {user}, who had {without_key} open without a key ({share} allowed); {open} of {most} were open in all",
            spoken(since.max(Duration::from_secs(1))),
        )
    })
}

/// Logins that cannot be refreshed: each problem once, even if several accounts have it.
pub(crate) fn of_refreshing(state: &State, now: Now) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let mut failing: Vec<FailingLogins<'_>> = Vec::new();
    for account in state.pool.accounts() {
        let (id, provider) = (account.record.id, &account.record.provider);
        if let Some((failure, since)) = state.logins.plan.last_failure(id) {
            let is_same = |known: &&mut FailingLogins<'_>| {
                known.provider == provider && known.failure.why == failure.why && known.failure.fault == failure.fault
            };
            match failing.iter_mut().find(is_same).filter(|_| failure.fault != RefreshFault::Account) {
                Some(known) => {
                    known.since = known.since.min(since);
                    known.names.push(state.account_name(id));
                }
                None => {
                    let names = vec![state.account_name(id)];
                    failing.push(FailingLogins { provider, first: state.account_reference(id), names, failure, since });
                }
            }
        } else if account.record.login_state == LoginState::Ready
            && account.enabled()
            && let Some(missing) = state.missing_for_refresh(id)
        {
            let remedy = missing.remedy();
            warnings.push(format!("logins of {provider} end and cannot be refreshed: {missing}; {remedy}"));
        }
    }
    warnings.extend(failing.iter().map(|logins| logins.warning(now)));
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

/// The most accounts that one warning names.
const MOST_NAMES: usize = 3;

/// Logins that cannot be refreshed for the same reason.
struct FailingLogins<'a> {
    provider: &'a str,
    /// What the first one is called in a command.
    first: String,
    names: Vec<String>,
    failure: &'a RefreshFailure,
    since: Mono,
}

impl FailingLogins<'_> {
    fn warning(&self, now: Now) -> String {
        let provider = self.provider;
        let some = self.names.get(..MOST_NAMES).unwrap_or(&self.names).join(", ");
        let more = match self.names.len().saturating_sub(MOST_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = &self.first;
        let (name, remedy) = match self.failure.fault {
            RefreshFault::Account => (some, String::new()),
            RefreshFault::Client => (
                provider.to_owned(),
                format!("; check [providers.{provider}.oauth], then: lessor account refresh {first}"),
            ),
            RefreshFault::ClientRefused | RefreshFault::ClientUnknown => (
                format!("{some}{more}"),
                format!(
                    "; check [providers.{provider}.oauth], then: lessor account refresh {first}; if another client \
                     made the login: lessor account set {first} client_id=ID"
                ),
            ),
            RefreshFault::Endpoint | RefreshFault::RateLimited | RefreshFault::Disk => {
                (provider.to_owned(), String::new())
            }
        };
        let since = spoken(now.mono.since(self.since));
        format!("logins of {name} have not been refreshed for {since}: {}{remedy}", self.failure.why)
    }
}

/// Logins whose files cannot be followed.
pub(crate) fn of_links(state: &State) -> Vec<String> {
    let problems = state.links.iter().filter_map(|(id, link)| Some((id, link, state.links.problem(id)?)));
    problems.map(|(id, link, why)| format!("{} cannot follow {}: {why}", state.account_name(id), link.path)).collect()
}

/// Sections of the configuration that match no account, and a preferred account that does not exist.
pub(crate) fn of_accounts(config: &Config, pool: &Pool) -> Vec<String> {
    let unmatched = config
        .pool
        .accounts
        .iter()
        .filter(|section| !pool.accounts().iter().any(|account| account.record.is_named(&section.name)));
    let unmatched = unmatched
        .map(|section| format!("the configuration's section [accounts.{:?}] matches no account", section.name));
    let preferred = config.pool.selection.preferred_account.as_deref();
    let preferred = preferred.and_then(|name| match pool.find_account(name) {
        Ok(_) => None,
        Err(refusal) => Some(format!("selection.preferred_account is {name:?}, but {}", refusal.message)),
    });
    unmatched.chain(preferred).collect()
}
