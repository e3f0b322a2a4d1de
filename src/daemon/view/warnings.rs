//! The warnings of `status`.

use std::{collections::HashSet, time::Duration};

use rustc_hash::FxBuildHasher;

use super::remedy::{self, refused_client_remedy};
use crate::credential::refresh::{RefreshFailure, RefreshFault};
use crate::daemon::many_hosts::status::{PoolAway, PoolAwayKind, PoolLink};
use crate::daemon::state::{GatewayShortage, Shared, State};
use crate::pool::{LoginState, Mono, Now, Pool, Wall, spoken};
use crate::{config::Config, store::StoreHealth};

/// The keyring with the key of all secrets is locked.
pub(crate) fn of_keyring(why: &str) -> String {
    format!("{why}: no account can serve until the key is available; {KEYRING_HINT}")
}

/// The pool that this host shares with others.
pub(crate) fn of_many_hosts(daemon: &Shared, state: &State, now: Now) -> Vec<String> {
    let status = daemon.many_hosts.status();
    let mut warnings = Vec::new();
    match &status.link {
        PoolLink::Unset | PoolLink::Connecting | PoolLink::Connected(_) => {}
        PoolLink::NotJoined => warnings.push(
            "[pool] url is set, but this host has not joined the pool: lessor pool join --token-stdin".to_owned(),
        ),
        PoolLink::NoUrl => warnings.push(
            "this host has joined a shared pool, and [pool] url is not set: the pool's accounts are not leased; set the url, or leave the pool: lessor pool leave"
                .to_owned(),
        ),
        PoolLink::Away(PoolAway { kind: PoolAwayKind::Evicted, why, .. }) => warnings.push(why.clone()),
        PoolLink::Away(PoolAway { kind, since, why, next }) => {
            let (since, next) = (spoken(now.wall.since(*since)), spoken(next.since(now.mono)));
            let seats = match status.seats_until.filter(|until| *until > now.mono && state.shared_accounts.has_seats()) {
                Some(until) => format!("leases on its accounts end in {}", spoken(until.since(now.mono))),
                None => "its accounts are not leased".to_owned(),
            };
            let what = if *kind == PoolAwayKind::Refused { "used" } else { "reached" };
            warnings.push(format!(
                "the shared pool cannot be {what} for {since} now ({why}): {seats}; lessor tries again in {next}"
            ));
        }
    }
    let patience = status.settings.map_or(Duration::MAX, |settings| settings.ttl.saturating_add(settings.margin));
    if status.is_connected() && !status.hosts.is_empty() && !status.has_refresher(now.mono, patience) {
        warnings.push(
            "no host that refreshes the shared pool's logins is online: they end with their access tokens; start one, or let a host do it: lessor pool hosts"
                .to_owned(),
        );
    }
    for (id, why) in status.left_out {
        warnings.push(format!("the account {id} of the shared pool is not used here: {why}"));
    }
    warnings
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
            "the gateway had too many connections and has closed {closed} since its start, the last one {} ago, of \
             {user}, who had {without_key} open without a key ({share} allowed); {open} of {most} were open in all",
            spoken(since.max(Duration::from_secs(1))),
        )
    })
}

/// Logins that cannot be refreshed: each problem once, even if several accounts have it.
pub(crate) fn of_refreshing(state: &State, now: Now) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let mut failing: Vec<FailingLogins<'_>> = Vec::new();
    let mut waiting = Vec::new();
    for account in state.pool.accounts() {
        let (id, provider) = (account.record.id, &account.record.provider);
        if let Some((failure, since)) = state.logins.plan.last_failure(id) {
            // that another host refreshes it is no failure while there is a token
            if failure.fault == RefreshFault::SharedPool && account.renewing().is_none() {
                continue;
            }
            let is_same = |known: &&mut FailingLogins<'_>| {
                known.provider == provider && known.failure.why == failure.why && known.failure.fault == failure.fault
            };
            let is_of_account = failure.fault == RefreshFault::Account;
            match failing.iter_mut().filter(|_| !is_of_account).find(is_same) {
                Some(known) => {
                    known.since = known.since.min(since);
                    known.names.push(state.account_name(id));
                }
                None => {
                    let names = vec![state.account_name(id)];
                    let (first, check) = (state.account_reference(id), super::client_check(state, id));
                    let client_remedy = refused_client_remedy(state, account);
                    let login = state.started_program(id).map(|_| remedy::login_command(state, account));
                    failing.push(FailingLogins { provider, first, check, client_remedy, names, login, failure, since });
                }
            }
        } else if account.enabled() && state.waits_for_other_host(id, now) {
            waiting.push(state.account_name(id));
        } else if account.record.login_state == LoginState::Ready
            && account.enabled()
            && let Some(missing) = state.missing_for_refresh(id)
        {
            let remedy = missing.remedy();
            warnings.push(format!("logins of {provider} end and cannot be refreshed: {missing}; {remedy}"));
        }
    }
    warnings.extend(failing.iter().map(|logins| logins.warning(now)));
    warnings.extend(of_waiting(state, &waiting));
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

/// Logins of the shared pool whose token only another host can replace.
fn of_waiting(state: &State, names: &[String]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let some = names.get(..MOST_NAMES).unwrap_or(names).join(", ");
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let hosts = state.shared().many_hosts.status().hosts;
    let is_online = hosts.iter().any(|seen| !seen.is_own && seen.host.refresher && !seen.host.terms.is_empty());
    let why = if is_online {
        "a host of the shared pool that refreshes logins has to replace them"
    } else {
        "no host of the shared pool that refreshes logins is online: start one of them, or let this host refresh (lessor \
         pool hosts lists them)"
    };
    Some(format!("the tokens of {some}{more} have ended or end now, and {why}"))
}

/// The most accounts or sections that one warning names.
const MOST_NAMES: usize = 3;
/// The most warnings of one kind.
const MOST_WARNINGS: usize = 20;
/// The most characters of a warning.
const LONGEST: usize = 1000;

/// Logins that cannot be refreshed for the same reason.
struct FailingLogins<'a> {
    provider: &'a str,
    /// What the first one is called in a command.
    first: String,
    /// What to check of its client.
    check: String,
    /// What to do if its client is not accepted.
    client_remedy: String,
    names: Vec<String>,
    /// The command that makes the first one again, if its tool is started to refresh it.
    login: Option<String>,
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
        let (first, check) = (&self.first, &self.check);
        let (name, remedy) = match self.failure.fault {
            RefreshFault::Account => (some, String::new()),
            RefreshFault::SharedPool => (format!("{some}{more}"), String::new()),
            RefreshFault::Tool | RefreshFault::ToolWantsLogin => (
                format!("{some}{more}"),
                self.login.as_ref().map(|command| format!("; to log in again: {command}")).unwrap_or_default(),
            ),
            RefreshFault::Client => (provider.to_owned(), format!("; {check}, then: lessor account refresh {first}")),
            RefreshFault::ClientRefused | RefreshFault::ClientUnknown => {
                (format!("{some}{more}"), format!("; {}", self.client_remedy))
            }
            RefreshFault::Endpoint | RefreshFault::RateLimited | RefreshFault::Disk => {
                (provider.to_owned(), String::new())
            }
        };
        let since = spoken(now.mono.since(self.since));
        format!("logins of {name} have not been refreshed for {since}: {}{remedy}", self.failure.why)
    }
}

/// Logins whose files cannot be followed.
pub(crate) fn of_links(state: &State) -> impl Iterator<Item = String> {
    let problems = state.links.iter().filter_map(|(id, link)| Some((id, link, state.links.problem(id)?)));
    problems.map(|(id, link, why)| format!("{} cannot follow {}: {why}", state.account_name(id), link.path))
}

/// Sections of the configuration that match no account, and a preferred account that does not exist.
pub(crate) fn unmatched_accounts(config: &Config, pool: &Pool) -> Vec<String> {
    let names: HashSet<&str, FxBuildHasher> = pool
        .accounts()
        .iter()
        .flat_map(|account| [account.record.label.as_deref(), account.record.email.as_deref()])
        .flatten()
        .collect();
    let is_account = |name: &str| name.parse().is_ok_and(|id| pool.account(id).is_some());
    let sections = config.pool.accounts.iter().map(|section| section.name.as_str());
    let mut unmatched = sections.filter(|name| !names.contains(name) && !is_account(name));
    let first: Vec<String> = unmatched.by_ref().take(MOST_NAMES).map(|name| format!("[accounts.{name:?}]")).collect();
    let unmatched = match (first.as_slice(), unmatched.count()) {
        ([], _) => None,
        ([one], _) => Some(format!("the configuration's section {one} matches no account")),
        (some, more) => {
            let number = some.len() + more;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            Some(format!("{number} sections of the configuration match no account: {}{more}", some.join(", ")))
        }
    };
    let unknown = config.pool.directories.iter().filter_map(|set| {
        let is_unknown = |name: &&String| !names.contains(name.as_str()) && !is_account(name);
        let unknown: Vec<String> = set.accounts.iter().filter(is_unknown).map(|name| format!("{name:?}")).collect();
        let names = unknown.join(", ");
        (!unknown.is_empty())
            .then(|| format!("no account has the name {names}, which [directories.{:?}] lists", set.name))
    });
    let preferred = config.pool.selection.preferred_account.as_deref();
    let preferred = preferred.and_then(|name| match pool.find_account(name) {
        Ok(_) => None,
        Err(refusal) => Some(format!("selection.preferred_account is {name:?}, but {}", refusal.message)),
    });
    unmatched.into_iter().chain(unknown.take(MOST_NAMES)).chain(preferred).collect()
}

/// Warnings of one kind, each cut to a sensible length, and the number of the others.
pub(crate) fn summed_up(warnings: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut warnings = warnings.into_iter();
    let mut shown: Vec<String> = warnings.by_ref().take(MOST_WARNINGS).map(cut).collect();
    let more = warnings.count();
    if more > 0 {
        shown.push(format!("… and {more} more warnings of this kind; see: lessor account list"));
    }
    shown
}

fn cut(mut warning: String) -> String {
    if let Some((at, _)) = warning.char_indices().nth(LONGEST) {
        warning.truncate(at);
        warning.push('…');
    }
    warning
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{AccountSettings, PoolSettings};

    #[test]
    fn thousands_of_unmatched_sections_are_one_warning() {
        let pool = Pool::new(PoolSettings::default());
        let warnings = |number: usize| {
            let mut config = Config::default();
            let section = |n| AccountSettings { name: format!("a{n:05}"), ..AccountSettings::default() };
            config.pool.accounts = (0..number).map(section).collect();
            unmatched_accounts(&config, &pool)
        };
        assert_eq!(warnings(0), [""; 0]);
        assert_eq!(warnings(1), [r#"the configuration's section [accounts."a00000"] matches no account"#]);
        let two = r#"2 sections of the configuration match no account: [accounts."a00000"], [accounts."a00001"]"#;
        assert_eq!(warnings(2), [two]);
        let many = warnings(10_000);
        assert!(many.len() == 1 && many[0].starts_with("10000 sections of") && many[0].ends_with("and 9997 more"));
    }

    #[test]
    fn warnings_of_one_kind_are_bounded_in_number_and_length() {
        let long = summed_up((0..5000).map(|_| "ü".repeat(5000)));
        assert_eq!(long.len(), MOST_WARNINGS + 1);
        assert!(long.iter().all(|warning| warning.chars().count() <= LONGEST + 1));
        assert!(long.last().unwrap().contains(&format!("and {} more", 5000 - MOST_WARNINGS)));
        assert_eq!(summed_up(["a".to_owned()].into_iter()), ["a"]);
    }
}
