//! Adopts a login that another tool has written to the file that an account is linked to.

use std::sync::mpsc;

use tokio::sync::MutexGuard;

use crate::daemon::state::{Daemon, State, imported_limit, login_state_of, set_login_state};
use crate::pool::{AccountId, AccountRecord, Command, LoginState};
use crate::{credential::Link, credential::import::DiscoveredAccount, daemon::os::clock, store::Write};

/// What the file holds for a linked account.
enum Finding {
    /// Nothing has changed.
    Same,
    /// A newer login.
    New,
    /// The account cannot follow the file, and why.
    Problem(String),
}

/// Adopts what a tool has written for the accounts that are linked to the file and that `concerns` selects. A login is on
/// disk before it is used. To be called on a thread that may block, with `account_writes` locked.
pub(super) fn adopt(
    daemon: &Daemon,
    _account_writes: MutexGuard<'_, ()>,
    path: &str,
    entries: Result<&[DiscoveredAccount], &str>,
    concerns: impl Fn(&Link) -> bool,
) {
    let linked: Vec<(AccountId, Link)> = {
        let state = &*daemon.state();
        let here = state.links.iter().filter(|(_, link)| concerns(link) && link.path == path);
        here.map(|(id, link)| (id, link.clone())).collect()
    };
    for (id, link) in linked {
        let entry = entries.map(|entries| entries.iter().find(|entry| entry.item == link.item));
        let (finding, record) = {
            let state = &*daemon.state();
            let Some(account) = state.pool.account(id) else { continue };
            (compare(state, &account.record, entry), account.record.clone())
        };
        match (finding, entry) {
            (Finding::New, Ok(Some(entry))) => adopt_login(daemon, record, entry),
            (Finding::Problem(why), _) if link.is_followed() => {
                let name = record.display_name();
                tracing::warn!(account = %id, path, "{name} cannot follow its file: {why}");
                daemon.state().links.set_problem(id, Some(why));
            }
            _ => daemon.state().links.set_problem(id, None),
        }
    }
}

fn adopt_login(daemon: &Daemon, mut record: AccountRecord, entry: &DiscoveredAccount) {
    let id = record.id;
    if !matches!(record.login_state, LoginState::NeedsVerification(_)) {
        record.login_state = login_state_of(&entry.credential);
    }
    let login_state = record.login_state.clone();
    let credential = entry.credential.duplicate();
    let (sender, saved) = mpsc::channel();
    let write = Write::SaveAccount { record, credential: Some(credential.duplicate()) };
    daemon.store.write(write, Some(Box::new(move |result| drop(sender.send(result)))));
    if let Ok(Err(error)) = saved.recv() {
        // it is used all the same: the tool has it on disk, and it is adopted again after a restart
        tracing::error!(account = %id, "an adopted login could not be saved: {error}");
    }
    {
        let state = &mut *daemon.state();
        let now = clock::now();
        state.links.set_problem(id, None);
        state.keep_credential(id, credential, None);
        state.apply_internal(now, set_login_state(id, login_state));
        for limit in entry.limits.iter().cloned() {
            state.apply_internal(now, Command::SetLimit(id, imported_limit(limit)));
        }
    }
    tracing::info!(account = %id, tool = entry.tool.name(), "adopted a login that its tool has refreshed");
}

fn compare(state: &State, record: &AccountRecord, entry: Result<Option<&DiscoveredAccount>, &str>) -> Finding {
    let entry = match entry {
        Err(why) => return Finding::Problem(why.to_owned()),
        Ok(None) => return Finding::Problem("its login is no longer in the file".to_owned()),
        Ok(Some(entry)) => entry,
    };
    if belongs_to_another(record, entry) {
        let other = entry.email.as_deref().unwrap_or("another account");
        return Finding::Problem(format!("{other} is logged in there now; add that account, too: lessor import"));
    }
    let Some(known) = state.credentials.get(record.id) else { return Finding::New };
    let print = state.credentials.fingerprints.of(&entry.credential);
    let newer = entry.credential.expires_at > known.expires_at;
    let seen_before = state.credentials.fingerprints.known_since(record.id, print).is_some();
    let is_current = state.credentials.fingerprints.of(known) == print;
    if *known == entry.credential || (seen_before && !(is_current && newer)) { Finding::Same } else { Finding::New }
}

/// Whether the login in the file belongs to another account.
fn belongs_to_another(record: &AccountRecord, entry: &DiscoveredAccount) -> bool {
    let same = |one: &Option<String>, other: &Option<String>| {
        one.as_ref().zip(other.as_ref()).map(|(one, other)| one.eq_ignore_ascii_case(other))
    };
    let same = same(&record.vendor_id, &entry.vendor_id).or_else(|| same(&record.email, &entry.email));
    same == Some(false)
}
