//! Accounts of the pool: those that were added, changed or removed by other hosts, and their credentials. A credential is
//! on disk, sealed with this host's own key, before it is used, so that a restart without the database has it.

use std::sync::Arc;
use std::time::Duration;

use super::decide::{AdoptDecision, change_to, decide};
use crate::credential::Credential;
use crate::daemon::many_hosts::handle::ManyHosts;
use crate::daemon::many_hosts::times::credential_from_database;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, OwnChangeCount, State, save};
use crate::pool::{AccountChange, AccountId, AccountRecord, Command, CredentialKind, LoginState, Now, SeatLimits};
use crate::shared_pool::{Membership, PoolKeyError, SharedAccount};
use crate::store::Write;

/// So many accounts are saved in one transaction, and put in use under one lock.
const AT_ONCE: usize = 64;

/// What became of the accounts of the pool.
#[derive(Debug, Default)]
pub(in crate::daemon::many_hosts) struct Adopted {
    /// Some were sealed with newer keys than this host has.
    pub(in crate::daemon::many_hosts) needs_keys: bool,
    /// Those that this host does not use, or not with their newest credential, and why.
    pub(in crate::daemon::many_hosts) left_out: Vec<(AccountId, String)>,
    /// Those that it uses.
    pub(in crate::daemon::many_hosts) used: Vec<AccountId>,
    /// This host has moved, added or removed some since the reading began: they are left as they are.
    pub(in crate::daemon::many_hosts) is_outdated: bool,
}

/// An account on its way into use.
struct Adopting {
    account: SharedAccount,
    decision: AdoptDecision,
    credential: Option<Credential>,
}

impl Adopting {
    /// What this host has given itself comes back without the refresh token, which the pool does not have.
    fn with_own_refresh(self, state: &State) -> Self {
        let id = self.account.record.id;
        let known = || state.credentials.get(id).filter(|_| state.keeps_refresh_here(id));
        let credential = self.credential.map(|credential| {
            let known = known().filter(|known| known.access == credential.access);
            credential.with_refresh_of(known)
        });
        Self { credential, ..self }
    }
}

/// Adopts accounts of the pool. `begun` is from when their reading began.
pub(in crate::daemon::many_hosts) async fn adopt(
    daemon: &Arc<Daemon>,
    membership: &Membership,
    (accounts, begun): (Vec<SharedAccount>, OwnChangeCount),
) -> Adopted {
    let mut adopted = Adopted::default();
    let own_accounts = daemon.state().config.config.shared_pool.own_accounts.clone();
    let mut accounts = accounts.into_iter().peekable();
    while accounts.peek().is_some() {
        // no other login is saved between the decision and the use
        let _account_writes = daemon.account_writes.lock().await;
        let mut some = Vec::new();
        for account in accounts.by_ref().take(AT_ONCE) {
            if daemon.state().shared_accounts.is_changed_since(account.record.id, begun) {
                adopted.is_outdated = true;
                continue;
            }
            let decision = decide(&daemon.state(), &own_accounts, &account);
            let opened = open((&daemon.many_hosts, membership), account, decision, &mut adopted);
            some.extend(opened.map(|adopting| adopting.with_own_refresh(&daemon.state())));
        }
        let writes: Vec<Write> = some.iter().filter_map(write_of).collect();
        if !writes.is_empty()
            && let Err(error) = save(&daemon.store, Write::Together(writes)).await
        {
            // they are used all the same: the pool has them, and they are adopted again after a restart
            tracing::error!("accounts of the shared pool could not be saved: {error}");
        }
        let state = &mut *daemon.state();
        let now = clock::now();
        for adopting in some {
            adopted.used.push(adopting.account.record.id);
            put_in_use(state, now, adopting);
        }
    }
    adopted
}

/// Opens the credential, if the account needs it.
fn open(
    (hosts, membership): (&ManyHosts, &Membership),
    account: SharedAccount,
    decision: AdoptDecision,
    adopted: &mut Adopted,
) -> Option<Adopting> {
    let id = account.record.id;
    let needs_credential = match &decision {
        AdoptDecision::LeaveOut(why) => {
            adopted.left_out.push((id, why.clone()));
            return None;
        }
        AdoptDecision::Add { .. } => true,
        AdoptDecision::Change { takes_credential, .. } => *takes_credential,
    };
    if !needs_credential {
        return Some(Adopting { account, decision, credential: None });
    }
    match membership.keys.open_access(&membership.pool, id, account.keys, &account.access) {
        Ok(credential) => {
            let credential = credential_from_database(hosts, credential, account.expires_at);
            Some(Adopting { account, decision, credential: Some(credential) })
        }
        Err(error) => {
            adopted.needs_keys |= matches!(error, PoolKeyError::OtherGeneration { .. });
            adopted.left_out.push((id, error.to_string()));
            None
        }
    }
}

/// What is saved before the account is used.
fn write_of(adopting: &Adopting) -> Option<Write> {
    let (AdoptDecision::Add { record, .. } | AdoptDecision::Change { record, .. }) = &adopting.decision else {
        return None;
    };
    let credential = adopting.credential.as_ref()?;
    let record = AccountRecord { kind: credential.kind, ..(**record).clone() };
    Some(Write::Together(vec![
        Write::SaveAccount { record: Box::new(record), credential: Some(credential.duplicate()) },
        Write::SaveSharedAccount(adopting.account.record.id, Some(adopting.account.generation.0)),
    ]))
}

fn put_in_use(state: &mut State, now: Now, adopting: Adopting) {
    let Adopting { account, decision, credential } = adopting;
    let SharedAccount { record: pooled, capacity, ceiling, generation, has_refresh, token_life, expires_at, .. } =
        account;
    let id = pooled.id;
    let share = Command::ShareAccount(id, SeatLimits { capacity, ceiling });
    let label_here = |record: &AccountRecord| record.label.clone().filter(|_| record.label != pooled.label);
    match decision {
        AdoptDecision::LeaveOut(_) => {}
        AdoptDecision::Add { record, turns_off } => {
            state.shared_accounts.insert(id, generation);
            state.shared_accounts.set_has_refresh(id, has_refresh);
            let label_here = label_here(&record);
            state.from_pool(|state| {
                if let Some(credential) = credential {
                    state.keep_credential(id, credential);
                    learn_life(state, id, token_life);
                }
                state.apply_internal(now, Command::AddSharedAccount(record, SeatLimits { capacity, ceiling }));
            });
            state.shared_accounts.set_record(id, pooled, label_here);
            if let Some(own) = turns_off {
                turn_off(state, now, own, id);
            }
            let name = state.account_name(id);
            state.log.push(move || tracing::info!(account = %id, "{name} was added: the shared pool has it"));
        }
        AdoptDecision::Change { record, .. } => {
            let is_new = state.shared_accounts.get(id).is_none();
            let label_here = label_here(&record);
            let has_changed = state.pool.account(id).is_some_and(|known| !is_like(&known.record, &record));
            if credential.is_some() || is_new {
                state.shared_accounts.insert(id, generation);
            }
            state.shared_accounts.set_has_refresh(id, has_refresh);
            state.from_pool(|state| {
                state.apply_internal(now, share);
                if let Some(credential) = credential {
                    replace(state, now, id, credential);
                    learn_life(state, id, token_life);
                }
                if has_changed {
                    let change = change_to(&record);
                    state.apply_internal(now, Command::ChangeAccount(id, Box::new(change)));
                }
            });
            state.shared_accounts.set_record(id, pooled, label_here);
        }
    }
    state.note_token_end(id, generation, expires_at);
}

/// Whether the record here is what the pool says; a token that has ended here is no difference.
fn is_like(known: &AccountRecord, record: &AccountRecord) -> bool {
    AccountRecord { last_used_at: known.last_used_at, kind: known.kind, ..record.clone() } == *known
}

/// When the token is due for a refresh depends on its whole life: without it, each host would think that a short one is due at
/// once.
fn learn_life(state: &mut State, id: AccountId, life: Option<Duration>) {
    if let Some(life) = life {
        state.logins.learn_life(id, life);
    }
}

/// Puts a credential in use that another host has refreshed or replaced; what waits for it goes on.
fn replace(state: &mut State, now: Now, id: AccountId, credential: Credential) {
    let is_login = credential.kind == CredentialKind::Oauth;
    let works = state.pool.account(id).is_some_and(|known| known.record.login_state == LoginState::Ready);
    if is_login && works && state.credentials.get(id).is_some() {
        state.keep_refreshed(id, credential, None);
    } else {
        state.keep_credential(id, credential);
    }
    // the record does not change: this notifies subscribers
    state.apply_internal(now, Command::ChangeAccount(id, Box::default()));
    state.logins.attempt_ended(id);
}

/// Turns off an account of this host that the pool has, too.
fn turn_off(state: &mut State, now: Now, own: AccountId, pooled: AccountId) {
    let reason = format!("the shared pool has this login as {}", state.account_name(pooled));
    let change = AccountChange { enabled: Some((false, Some(reason))), ..AccountChange::default() };
    state.apply_internal(now, Command::ChangeAccount(own, Box::new(change)));
    let (own_name, name) = (state.account_name(own), state.account_name(pooled));
    state.log.push(move || {
        tracing::warn!(
            account = %own,
            "{own_name} was turned off: it is the login of {name}, which the shared pool has; to use it here alone, list \
             it in [pool] own_accounts"
        );
    });
}

/// An account whose move was interrupted is this host's own, because the pool does not have it.
pub(in crate::daemon::many_hosts) fn keep_as_own(state: &mut State, now: Now, id: AccountId) {
    state.shared_accounts.make_own(id);
    let _saved_later = state.shared().write(Write::SaveSharedAccount(id, None));
    state.apply_from_pool(now, Command::UnshareAccount(id));
    let name = state.account_name(id);
    state.log.push(move || tracing::info!(account = %id, "{name} is this host's own: its move was interrupted"));
}

/// Removes accounts that the pool does not have any more.
pub(in crate::daemon::many_hosts) fn remove(state: &mut State, now: Now, accounts: &[AccountId]) {
    for id in accounts.iter().copied().filter(|id| state.is_shared(*id)).collect::<Vec<_>>() {
        let name = state.account_name(id);
        state.apply_from_pool(now, Command::RemoveAccount(id));
        state.log.push(move || tracing::info!(account = %id, "{name} was removed from the shared pool"));
    }
}
