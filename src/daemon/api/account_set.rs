//! The set of accounts that a call is restricted to: those that it lists, and the directory that its holder works in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::session::{Session, bad};
use crate::config::directory::{self, LONGEST_DIRECTORY};
use crate::config::nearest;
use crate::daemon::os::peer_process;
use crate::daemon::state::{Daemon, State};
use crate::pool::{AccountId, AccountSet};
use crate::protocol::{ErrorInfo, ErrorKind};

/// The most accounts that a call lists; each is looked up among all accounts.
const MOST_LISTED: usize = 64;
/// The longest name of an account, in bytes.
const LONGEST_NAME: usize = 256;
/// The most names that an error proposes.
const MOST_PROPOSED: usize = 6;

/// Checks the list of a call.
pub fn check_only(only: Option<&[impl AsRef<str>]>) -> Result<(), ErrorInfo> {
    match only {
        None => Ok(()),
        Some([]) => Err(bad("`only` lists no account; omit it to use any")),
        Some(names) if names.len() > MOST_LISTED => Err(bad(format!("`only` may list at most {MOST_LISTED} accounts"))),
        Some(names) if names.iter().any(|name| name.as_ref().len() > LONGEST_NAME) => {
            Err(bad(format!("the name of an account in `only` may have {LONGEST_NAME} bytes")))
        }
        Some(_) => Ok(()),
    }
}

/// A directory that a call states, in the form that is compared.
pub fn stated_directory(daemon: &Daemon, stated: &str) -> Result<Arc<str>, ErrorInfo> {
    let path = Path::new(stated);
    if stated.len() > LONGEST_DIRECTORY {
        return Err(bad(format!("`directory` may have {LONGEST_DIRECTORY} bytes")));
    }
    // links are followed only where it matters
    let found = if daemon.directory_sets.load(Ordering::Acquire) {
        directory::resolved(path)
    } else {
        directory::comparable(path)
    };
    found.map(Arc::from).ok_or_else(|| bad(format!("`directory` must be an absolute path, and {stated:?} is not one")))
}

impl Daemon {
    /// The directory that a process works in, where the configuration has a set for one.
    pub(crate) fn directory_of_process(&self, pid: u32) -> Option<Arc<str>> {
        let found =
            self.directory_sets.load(Ordering::Acquire).then(|| peer_process::working_directory(pid)).flatten()?;
        directory::comparable(&found).map(Arc::from)
    }
}

impl Session {
    /// The directory of a call's holder: the one that the call states, else that of the process `holder`, else that of
    /// the process that made the connection.
    pub(super) fn directory(
        &self,
        daemon: &Daemon,
        stated: Option<&str>,
        holder: Option<u32>,
    ) -> Result<Option<Arc<str>>, ErrorInfo> {
        match (stated, holder.or(self.pid)) {
            (Some(stated), _) => stated_directory(daemon, stated).map(Some),
            (None, Some(pid)) => Ok(daemon.directory_of_process(pid)),
            (None, None) => Ok(None),
        }
    }
}

/// The set of a call.
pub fn account_set(
    state: &State,
    only: Option<&[impl AsRef<str>]>,
    directory: Option<Arc<str>>,
) -> Result<AccountSet, ErrorInfo> {
    let Some(names) = only else { return Ok(AccountSet { only: None, directory }) };
    let mut listed = Vec::with_capacity(names.len());
    for name in names {
        let name = name.as_ref();
        listed.extend(state.accounts_named(name).map_err(|_| no_such_account(state, name))?);
    }
    listed.sort_unstable();
    listed.dedup();
    Ok(AccountSet { only: Some(listed.into()), directory })
}

fn no_such_account(state: &State, name: &str) -> ErrorInfo {
    let ids = || state.pool.accounts().iter().map(|account| account.record.id);
    let matching: Vec<AccountId> = ids().filter(|id| !name.is_empty() && id.starts_with(name)).collect();
    let (message, hint) = match matching.is_empty() {
        true => (format!("there is no account {name:?}, which `only` lists"), near(state, name)),
        false => {
            let names = references(state, matching.into_iter()).join(", ");
            (format!("{name:?}, which `only` lists, matches several accounts"), format!("name one of them: {names}"))
        }
    };
    ErrorInfo::new(ErrorKind::UnknownAccount, message).hint(hint)
}

/// Proposes the name that is nearest to an unknown one, else some names.
fn near(state: &State, name: &str) -> String {
    let records = || state.pool.accounts().iter().map(|account| &account.record);
    let names = records().flat_map(|record| [record.label.as_deref(), record.email.as_deref()]).flatten();
    if let Some(near) = nearest(name, names) {
        return format!("did you mean {near}?");
    }
    let known = references(state, records().map(|record| record.id)).join(", ");
    if known.is_empty() {
        "run `lessor account list` to see all accounts".to_owned()
    } else {
        format!("the accounts are: {known}")
    }
}

fn references(state: &State, ids: impl Iterator<Item = AccountId>) -> Vec<String> {
    ids.take(MOST_PROPOSED).map(|id| state.pool.account_reference(id)).collect()
}
