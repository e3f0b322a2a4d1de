//! What accounts authenticate with.

mod fingerprints;
mod keyring;
mod leased_credential;
mod links;
mod login_refresh;
mod oauth_settings;
mod renewal;
mod shared_logins;

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::State;
use crate::credential::{Credential, Secret};
use crate::pool::{
    AccountChange, AccountId, AccountRecord, Command, CredentialKind, Deadline, DenialsEnd, Limit, LimitSource,
    LoginProblem, LoginState, Now, Wall,
};
use crate::{credential::import::DiscoveredLimit, daemon::os::clock, store::Write};

pub(crate) use fingerprints::Fingerprints;
pub(crate) use keyring::KeyringWait;
pub use leased_credential::CredentialUse;
pub(crate) use leased_credential::{CredentialProblem, CredentialResult, CredentialState};
pub(crate) use links::Links;
pub(crate) use login_refresh::LoginRefresh;
pub(crate) use oauth_settings::client_of;
pub use oauth_settings::{connect_options, credential_check, direct_settings, oauth_given};
pub(crate) use renewal::{Renewal, is_ours_to_refresh};

/// The current credential of each account, the fingerprints of all it had, and when the next one ends.
#[derive(Debug)]
pub(crate) struct Credentials {
    current: FxHashMap<AccountId, Credential>,
    /// Fingerprints of every credential that was ever kept.
    pub(crate) fingerprints: Fingerprints,
    /// The earliest end of one that may have to be taken out of selection.
    next_end: Option<Wall>,
}

impl Credentials {
    pub(in crate::daemon::state) fn new(fingerprints: Fingerprints) -> Self {
        Self { current: FxHashMap::default(), fingerprints, next_end: None }
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Credential> {
        self.current.get(&id)
    }

    /// The refresh token of an account's login.
    pub(crate) fn refresh_token(&self, id: AccountId) -> Option<&Secret> {
        self.get(id)?.refresh.as_ref()
    }

    /// Takes in a credential from the store.
    pub(in crate::daemon::state) fn restore(&mut self, id: AccountId, credential: Credential, now: Wall) {
        // databases of earlier versions have no fingerprints
        self.fingerprints.keep(id, &credential, now);
        self.next_end = self.next_end.into_iter().chain(credential.expires_at).min();
        self.current.insert(id, credential);
    }

    fn replace(&mut self, id: AccountId, mut credential: Credential) {
        // the same secret again is as good as before
        if let Some(known) = self.current.get(&id).filter(|known| known.access == credential.access) {
            credential.accepted_at = credential.accepted_at.or(known.accepted_at);
        }
        self.fingerprints.keep(id, &credential, clock::now().wall);
        self.current.insert(id, credential);
        self.find_next_end(None);
    }

    pub(in crate::daemon::state) fn remove(&mut self, id: AccountId) {
        self.current.remove(&id);
        self.fingerprints.forget(id);
        self.find_next_end(None);
    }

    /// Finds the earliest end after `now`, or of all.
    fn find_next_end(&mut self, now: Option<Wall>) {
        let ends = self.current.values().filter_map(|credential| credential.expires_at);
        self.next_end = ends.filter(|end| now.is_none_or(|now| *end > now)).min();
    }
}

impl State {
    /// Replaces the credential of an account by another one. The same token again says nothing new of the account.
    pub(crate) fn keep_credential(&mut self, id: AccountId, credential: Credential) {
        let is_new = self.credentials.get(id).is_none_or(|known| known.access != credential.access);
        self.put_credential(id, credential, None, is_new.then_some(DenialsEnd::Replaced));
    }

    /// Keeps the refreshed token of a login; `life` is known if the server states it.
    pub(crate) fn keep_refreshed(&mut self, id: AccountId, credential: Credential, life: Option<Duration>) {
        self.put_credential(id, credential, life, Some(DenialsEnd::Refreshed));
    }

    fn put_credential(
        &mut self,
        id: AccountId,
        credential: Credential,
        life: Option<Duration>,
        ends: Option<DenialsEnd>,
    ) {
        self.logins.credential_replaced(id, life);
        self.credentials.replace(id, credential);
        self.follow_ups.extend(ends.map(|why| Command::ForgetDenials(id, why)));
        self.shared.mailboxes.usage.wake();
    }

    /// Which kind of credential the provider takes an account's as.
    pub(crate) fn api_kind(&self, record: &AccountRecord) -> CredentialKind {
        self.credentials.get(record.id).map_or(record.kind, Credential::api_kind)
    }

    /// The provider has accepted an account's credential: it is not shown as unchecked any more.
    pub(crate) fn credential_accepted(&mut self, id: AccountId, now: Now) {
        let Some(credential) = self.credentials.current.get_mut(&id).filter(|known| known.is_unchecked()) else {
            return;
        };
        credential.accepted_at = Some(now.wall);
        let print = self.credentials.fingerprints.of(credential);
        self.shared.write(Write::MarkAccepted(id, print, now.wall));
    }

    /// Commands that take accounts out of selection whose access token has ended and cannot be refreshed.
    pub(in crate::daemon::state) fn ended_credentials(&mut self, now: Now) -> Vec<Command> {
        if self.credentials.next_end.is_none_or(|end| end > now.wall) {
            return Vec::new();
        }
        self.credentials.find_next_end(Some(now.wall));
        let ended = self.credentials.current.iter().filter(|(id, credential)| {
            let is_ready = self.pool.account(**id).is_some_and(|of| of.record.login_state == LoginState::Ready);
            is_ready && self.has_ended_for_good(**id, credential, now.wall)
        });
        let login_state = LoginState::NeedsLogin(LoginProblem::AccessTokenEnded);
        ended.map(|(id, _)| set_login_state(*id, login_state.clone())).collect()
    }
}

pub(crate) fn set_login_state(id: AccountId, login_state: LoginState) -> Command {
    let change = AccountChange { login_state: Some(login_state), ..AccountChange::default() };
    Command::ChangeAccount(id, Box::new(change))
}

pub(in crate::daemon::state) fn has_ended(credential: &Credential, now: Wall) -> bool {
    credential.expires_at.is_some_and(|end| end <= now)
}

/// The login state of an account with this credential: one that has ended cannot be leased.
pub(crate) fn login_state_of(credential: &Credential) -> LoginState {
    if has_ended(credential, clock::now().wall) {
        LoginState::NeedsLogin(LoginProblem::AccessTokenEnded)
    } else {
        LoginState::Ready
    }
}

/// A limit that another tool knew of.
pub(crate) fn imported_limit(limit: DiscoveredLimit) -> Limit {
    let DiscoveredLimit { scope, key, reason, until } = limit;
    Limit::new(scope, key, reason, Deadline::Wall(until), LimitSource::Report)
}
