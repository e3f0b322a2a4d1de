//! Logins that another tool has, too: which file each account is linked to, and why one cannot be followed.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::daemon::state::mailbox::{LinkedLoginsMessage, Mailbox};
use crate::{credential::Link, pool::AccountId};

/// The links of all accounts. The watcher of the files hears of every change.
#[derive(Debug)]
pub(crate) struct Links {
    links: FxHashMap<AccountId, Link>,
    problems: FxHashMap<AccountId, String>,
    watcher: Mailbox<LinkedLoginsMessage>,
}

impl Links {
    pub(in crate::daemon::state) fn new(links: Vec<(AccountId, Link)>, watcher: Mailbox<LinkedLoginsMessage>) -> Self {
        Self { links: links.into_iter().collect(), problems: FxHashMap::default(), watcher }
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AccountId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    pub(crate) fn insert(&mut self, id: AccountId, link: Link) {
        self.links.insert(id, link);
        self.problems.remove(&id);
        self.watcher.send(LinkedLoginsMessage::LinksChanged);
    }

    /// Ends a link; answers whether there was one.
    pub(crate) fn remove(&mut self, id: AccountId) -> bool {
        self.problems.remove(&id);
        let was_linked = self.links.remove(&id).is_some();
        if was_linked {
            self.watcher.send(LinkedLoginsMessage::LinksChanged);
        }
        was_linked
    }

    /// Why the file of an account cannot be followed.
    pub(crate) fn problem(&self, id: AccountId) -> Option<&String> {
        self.problems.get(&id)
    }

    pub(crate) fn set_problem(&mut self, id: AccountId, problem: Option<String>) {
        match problem {
            Some(problem) => self.problems.insert(id, problem),
            None => self.problems.remove(&id),
        };
    }

    /// The files of all logins that are followed.
    pub(crate) fn followed_files(&self) -> BTreeSet<String> {
        self.links.values().filter(|link| link.is_followed()).map(|link| link.path.clone()).collect()
    }
}
