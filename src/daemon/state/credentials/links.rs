//! Logins that another tool has, too: which file each account is linked to, and why one cannot be followed.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::{login_state_of, set_login_state};
use crate::credential::{FormerCredential, FormerRole, Link};
use crate::daemon::state::State;
use crate::daemon::state::mailbox::{LinkedLoginsMessage, Mailbox};
use crate::pool::{AccountId, LoginState, Now};
use crate::store::Write;

/// The links of all accounts. The watcher of the files hears of every change.
#[derive(Debug)]
pub(crate) struct Links {
    links: FxHashMap<AccountId, Link>,
    problems: FxHashMap<AccountId, String>,
    formers: FxHashMap<AccountId, FormerCredential>,
    /// The files of links that have ended or were replaced.
    left: Vec<String>,
    watcher: Mailbox<LinkedLoginsMessage>,
}

impl Links {
    pub(in crate::daemon::state) fn new(
        links: Vec<(AccountId, Link)>,
        formers: Vec<(AccountId, FormerCredential)>,
        watcher: Mailbox<LinkedLoginsMessage>,
    ) -> Self {
        let (links, formers) = (links.into_iter().collect(), formers.into_iter().collect());
        Self { links, problems: FxHashMap::default(), formers, left: Vec::new(), watcher }
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Link> {
        self.links.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AccountId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    pub(crate) fn insert(&mut self, id: AccountId, link: Link) {
        let before = self.links.insert(id, link);
        self.left.extend(before.map(|before| before.path));
        self.problems.remove(&id);
        self.watcher.send(LinkedLoginsMessage::LinksChanged);
    }

    /// An account was removed, or has a login of its own.
    pub(in crate::daemon::state) fn remove(&mut self, id: AccountId) {
        self.problems.remove(&id);
        self.formers.remove(&id);
        if let Some(before) = self.links.remove(&id) {
            self.left.push(before.path);
            self.watcher.send(LinkedLoginsMessage::LinksChanged);
        }
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

    /// The other credential of an account, while it is not certain whom the login in its file belongs to.
    pub(crate) fn former(&self, id: AccountId) -> Option<&FormerCredential> {
        self.formers.get(&id)
    }

    fn set_former(&mut self, id: AccountId, former: Option<FormerCredential>) {
        match former {
            Some(former) => self.formers.insert(id, former),
            None => self.formers.remove(&id),
        };
    }

    /// The files that accounts were linked to, and no account is any more since the last call.
    pub(crate) fn take_left(&mut self) -> Vec<String> {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|path| self.links.values().all(|link| link.path != *path));
        left
    }

    /// The files of all logins that are followed.
    pub(crate) fn followed_files(&self) -> BTreeSet<String> {
        self.links.values().filter(|link| link.is_followed()).map(|link| link.path.clone()).collect()
    }
}

impl State {
    /// An account has another login than its tool: it does not follow the tool's file any more.
    pub(crate) fn end_link(&mut self, id: AccountId) {
        if self.links.get(id).is_some() {
            self.shared.write(Write::SaveLink(id, None));
        }
        if self.links.former(id).is_some() {
            self.shared.write(Write::SaveFormer(id, None));
        }
        self.links.remove(id);
    }

    /// The login of an account is certainly its own.
    pub(crate) fn forget_former(&mut self, id: AccountId) {
        if self.links.former(id).is_some() {
            self.set_former(id, None);
        }
    }

    /// Removes the other credentials that are not needed any more.
    pub(crate) fn forget_formers(&mut self, now: Now) {
        let formers = self.links.formers.iter();
        let old: Vec<AccountId> = formers.filter(|(_, one)| !one.is_needed(now.wall)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.set_former(id, None));
    }

    /// Keeps the current credential of an account, which adopts another one from its file.
    pub(crate) fn keep_former(&mut self, now: Now, id: AccountId) {
        let on_trial = self.links.former(id).filter(|former| former.is_on_trial(now.wall));
        // the last one that is certainly the account's own
        let kept = on_trial.map(|former| &former.credential).or_else(|| self.credentials.get(id));
        let former = kept.map(|kept| FormerCredential::new(kept, FormerRole::Before, now.wall));
        self.set_former(id, former);
    }

    /// Exchanges the current and the other credential of an account; the current one is of `role` from then on. `false`
    /// if there is no other one, or that has this role already.
    pub(crate) fn exchange_former(&mut self, now: Now, id: AccountId, role: FormerRole) -> bool {
        let Some(mut record) = self.pool.account(id).map(|account| account.record.clone()) else { return false };
        let Some(other) = self.links.former(id).filter(|former| former.role != role) else { return false };
        let restored = other.credential.duplicate();
        let former = self.credentials.get(id).map(|current| FormerCredential::new(current, role, now.wall));
        self.set_former(id, former);
        if !matches!(record.login_state, LoginState::NeedsVerification(_)) {
            record.login_state = login_state_of(&restored);
        }
        let command = set_login_state(id, record.login_state.clone());
        // it was on disk before, so it can be used at once
        self.shared.write(Write::SaveAccount { record: Box::new(record), credential: Some(restored.duplicate()) });
        self.keep_credential(id, restored);
        self.apply_internal(now, command);
        true
    }

    fn set_former(&mut self, id: AccountId, former: Option<FormerCredential>) {
        let saved = former.as_ref().map(|former| FormerCredential {
            credential: former.credential.duplicate(),
            role: former.role,
            since: former.since,
        });
        self.shared.write(Write::SaveFormer(id, saved));
        self.links.set_former(id, former);
    }
}
