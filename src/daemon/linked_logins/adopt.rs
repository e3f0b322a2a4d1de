//! What another tool has written of a login that is linked to its file.

use std::collections::BTreeSet;
use std::sync::mpsc;

use crate::credential::Link;
use crate::credential::import::Entry;
use crate::pool::{AccountChange, AccountId, AccountRecord, Command, LoginState};
use crate::store::Write;

use crate::daemon::api::add_account::login_state;
use crate::daemon::api::import::filed;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, State};

/// What a look at a file means for an account that is linked to it.
enum Meaning {
    /// Nothing new.
    Same,
    /// A login to take over.
    New,
    /// It cannot be followed, and why.
    Trouble(String),
}

impl Daemon {
    /// The files of all logins that are followed.
    pub(crate) fn followed(&self) -> BTreeSet<String> {
        let state = &*self.state();
        state.links.values().filter(|link| link.is_followed()).map(|link| link.path.clone()).collect()
    }

    /// Takes over what a tool has written, on disk before it counts; called on a thread that may wait.
    pub(crate) fn take_from(&self, path: &str, seen: Result<&[Entry], &str>) {
        self.take_where(path, seen, Link::is_followed);
    }

    /// The same for some of the logins that are linked to the file.
    pub(crate) fn take_where(&self, path: &str, seen: Result<&[Entry], &str>, concerns: impl Fn(&Link) -> bool) {
        let _one_at_a_time = self.adding.blocking_lock();
        let linked: Vec<(AccountId, Link)> = {
            let state = &*self.state();
            let here = state.links.iter().filter(|(_, link)| concerns(link) && link.path == path);
            here.map(|(id, link)| (*id, link.clone())).collect()
        };
        for (id, link) in linked {
            let entry = seen.map(|entries| entries.iter().find(|entry| entry.item == link.item));
            let (meaning, record) = {
                let state = &*self.state();
                let Some(account) = state.pool.account(id) else { continue };
                (meaning(state, &account.record, entry), account.record.clone())
            };
            match (meaning, entry) {
                (Meaning::New, Ok(Some(entry))) => self.adopt_login(record, entry),
                (Meaning::Trouble(why), _) if link.is_followed() => {
                    let name = record.display_name();
                    tracing::warn!(account = %id, path, "{name} cannot follow its file: {why}");
                    self.state().link_troubles.insert(id, why);
                }
                _ => drop(self.state().link_troubles.remove(&id)),
            }
        }
    }

    fn adopt_login(&self, mut record: AccountRecord, entry: &Entry) {
        let id = record.id;
        if !matches!(record.login_state, LoginState::NeedsVerification(_)) {
            record.login_state = login_state(&entry.credential);
        }
        let credential = entry.credential.duplicate();
        let (done, kept) = mpsc::channel();
        let write = Write::SaveAccount { record: record.clone(), credential: Some(credential.duplicate()) };
        self.store.write(write, Some(Box::new(move |result| drop(done.send(result)))));
        if let Ok(Err(error)) = kept.recv() {
            // the tool has it on disk: it is served, and taken over again after a restart
            tracing::error!(account = %id, "a login that was taken over could not be saved: {error}");
        }
        let state = &mut *self.state();
        let now = clock::now();
        state.link_troubles.remove(&id);
        state.keep_credential(id, credential);
        let change = AccountChange { login_state: Some(record.login_state), ..AccountChange::default() };
        self.apply_unasked(state, now, Command::ChangeAccount(id, Box::new(change)));
        for limit in entry.limits.iter().cloned() {
            self.apply_unasked(state, now, Command::SetLimit(id, filed(limit)));
        }
        tracing::info!(account = %id, tool = entry.tool.name(), "a login was refreshed by its tool, and is taken over");
    }
}

fn meaning(state: &State, record: &AccountRecord, entry: Result<Option<&Entry>, &str>) -> Meaning {
    let entry = match entry {
        Err(why) => return Meaning::Trouble(why.to_owned()),
        Ok(None) => return Meaning::Trouble("its login is no longer there".to_owned()),
        Ok(Some(entry)) => entry,
    };
    if is_anothers(record, entry) {
        let whose = entry.email.as_deref().unwrap_or("another account");
        return Meaning::Trouble(format!("{whose} is logged in there now; take that one in, too: lessor import"));
    }
    let Some(known) = state.credentials.get(&record.id) else { return Meaning::New };
    let print = state.tokens.of(&entry.credential);
    let newer = entry.credential.expires_at > known.expires_at;
    let seen_before = state.tokens.known_since(record.id, print).is_some();
    let is_current = state.tokens.of(known) == print;
    if *known == entry.credential || (seen_before && !(is_current && newer)) { Meaning::Same } else { Meaning::New }
}

/// Whether somebody else has logged in with the tool since.
fn is_anothers(record: &AccountRecord, entry: &Entry) -> bool {
    let same = |one: &Option<String>, other: &Option<String>| {
        one.as_ref().zip(other.as_ref()).map(|(one, other)| one.eq_ignore_ascii_case(other))
    };
    let same = same(&record.vendor_id, &entry.vendor_id).or_else(|| same(&record.email, &entry.email));
    same == Some(false)
}
