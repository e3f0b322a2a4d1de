//! Changes of accounts that the pool has: only an admin makes them, and they are answered when the database has them.

use std::sync::Arc;

use super::migrate::MOVING;
use super::rekey::{SealedParts, current_keys, sealed};
use super::{not_admin, pool_error};
use crate::credential::Credential;
use crate::daemon::api::account::{AccountAction, changed_account};
use crate::daemon::api::reply::UnsavedAnswer;
use crate::daemon::api::session::find_account;
use crate::daemon::many_hosts::send_account;
use crate::daemon::state::{Daemon, State, Unsaved};
use crate::pool::{AccountId, AccountRecord, Command, Now, SeatLimits};
use crate::protocol::{ErrorInfo, ErrorKind};
use crate::shared_pool::{Membership, PoolClient, PoolCredential, SharedPoolErrorKind, TokenGeneration};
use crate::store::Write;

/// This host as an admin of its pool, and the connection to the database.
pub(in crate::daemon) struct PoolAdmin {
    membership: Arc<Membership>,
    client: Arc<PoolClient>,
}

/// How the pool has an account that was added or changed.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) struct PooledAccount {
    /// The generation of its credential.
    generation: TokenGeneration,
    limits: SeatLimits,
}

impl PoolAdmin {
    /// Refuses if this host is no admin, or the database is away. `command` is what an admin runs instead.
    pub(in crate::daemon) fn of(daemon: &Daemon, command: &str) -> Result<Self, ErrorInfo> {
        let membership = super::membership(daemon)?;
        if !membership.admin {
            return Err(not_admin(&membership, command));
        }
        let away = || {
            ErrorInfo::new(ErrorKind::PoolUnavailable, "the database of the shared pool cannot be reached now")
                .hint("see why: lessor pool status")
        };
        Ok(Self { client: daemon.many_hosts.client().ok_or_else(away)?, membership })
    }

    async fn seal(
        &self,
        id: AccountId,
        credential: &Credential,
    ) -> Result<(SealedParts, crate::shared_pool::KeyGeneration), ErrorInfo> {
        let keys = current_keys(&self.client, &self.membership).await?;
        Ok((sealed(&keys, &self.membership, id, credential)?, keys.generation()))
    }

    /// Adds an account to the pool, before this host has it.
    pub(in crate::daemon) async fn add(
        &self,
        daemon: &Daemon,
        record: &AccountRecord,
        credential: &Credential,
    ) -> Result<PooledAccount, ErrorInfo> {
        let info = self.client.pool_info().await.map_err(|error| pool_error(&error))?;
        let (parts, keys) = self.seal(record.id, credential).await?;
        let expires_at = credential.expires_at.map(|at| daemon.many_hosts.to_database(at));
        let sealed = PoolCredential { access: &parts.access, refresh: parts.refresh.as_deref(), expires_at, keys };
        let added = self.client.add_account(record, sealed, &[]).await;
        let generation = added.map_err(|error| match error.kind() {
            SharedPoolErrorKind::Conflict => {
                let label = record.label.as_deref().unwrap_or_default();
                let message = format!("the shared pool has an account with the label {label:?} already");
                ErrorInfo::new(ErrorKind::BadRequest, message).hint("choose another label: --label NAME")
            }
            _ => pool_error(&error),
        })?;
        let ceiling = info.settings.max_per_account;
        let capacity = record.max_leases.unwrap_or(info.settings.per_account).min(ceiling);
        Ok(PooledAccount { generation, limits: SeatLimits { capacity, ceiling } })
    }

    /// Replaces the credential of an account in the pool, before this host uses it.
    pub(in crate::daemon) async fn replace(
        &self,
        daemon: &Daemon,
        record: &AccountRecord,
        credential: &Credential,
    ) -> Result<TokenGeneration, ErrorInfo> {
        // a login that only this host refreshes, because another tool has it here
        let is_kept = daemon.state().keeps_refresh_here(record.id);
        let given = if is_kept { credential.without_refresh() } else { credential.duplicate() };
        let (parts, keys) = self.seal(record.id, &given).await?;
        let expires_at = given.expires_at.map(|at| daemon.many_hosts.to_database(at));
        let sealed = PoolCredential { access: &parts.access, refresh: parts.refresh.as_deref(), expires_at, keys };
        self.client.replace_credential(record, sealed).await.map_err(|error| pool_error(&error))
    }

    /// Sends what this host has changed of an account's settings; it is in effect here already.
    pub(in crate::daemon) async fn send(&self, daemon: &Arc<Daemon>, id: AccountId) -> Result<(), ErrorInfo> {
        let sent = send_account(daemon.clone(), self.client.clone(), id).await;
        sent.map_err(|error| {
            let message =
                format!("the change is in effect on this host, but the shared pool does not have it yet: {error}");
            ErrorInfo { message, ..pool_error(&error) }.hint("lessor goes on trying; see: lessor pool status")
        })
    }
}

/// What the pool has of an account that this host is about to save.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) enum PoolPart {
    /// Nothing: the account is this host's own.
    Own,
    /// The pool has the account since a moment ago.
    Added(PooledAccount),
    /// The pool has the new credential of the account.
    Replaced(TokenGeneration),
}

impl PoolPart {
    /// Gives an account that is new, or has a new credential, to the pool, if it is the pool's. Nothing is changed if that
    /// fails. `command` is what an admin runs instead.
    pub(in crate::daemon) async fn of(
        daemon: &Daemon,
        (record, is_new): (&AccountRecord, bool),
        credential: &Credential,
        command: &str,
    ) -> Result<Self, ErrorInfo> {
        if is_new && goes_to_pool(daemon, record) {
            let admin = PoolAdmin::of(daemon, command).map_err(|error| match error.data.kind {
                ErrorKind::NotAllowed => {
                    let hint = error.data.hint.clone().unwrap_or_default();
                    error.hint(format!("{hint}; or, for this host alone: lessor account add --own"))
                }
                _ => error,
            })?;
            return admin.add(daemon, record, credential).await.map(Self::Added);
        }
        if !is_new && daemon.state().is_shared(record.id) {
            return PoolAdmin::of(daemon, command)?.replace(daemon, record, credential).await.map(Self::Replaced);
        }
        Ok(Self::Own)
    }

    /// The write of the account, together with what the pool has of it.
    pub(in crate::daemon) fn with(self, id: AccountId, account: Write) -> Write {
        let generation = match self {
            Self::Own => return account,
            Self::Added(pooled) => pooled.generation,
            Self::Replaced(generation) => generation,
        };
        Write::Together(vec![account, Write::SaveSharedAccount(id, Some(generation.0))])
    }

    /// Notes the generation of a credential that was replaced.
    pub(in crate::daemon) fn note(self, state: &mut State, record: &AccountRecord) {
        if let Self::Replaced(generation) = self {
            let label_here = state.shared_accounts.get(record.id).and_then(|note| note.label_here.clone());
            state.shared_accounts.insert(record.id, generation);
            state.shared_accounts.set_record(record.id, record.clone(), label_here);
        }
    }
}

/// The account that a call names, if it is shared.
pub(in crate::daemon) fn shared(daemon: &Daemon, name: &str) -> Option<AccountId> {
    let state = &*daemon.state();
    find_account(state, name).ok().filter(|id| state.is_shared(*id))
}

/// Whether a new account goes to the pool: this host is in one, and does not keep the account for itself.
pub(in crate::daemon) fn goes_to_pool(daemon: &Daemon, record: &AccountRecord) -> bool {
    if !daemon.many_hosts.is_on() || daemon.many_hosts.membership().is_none() {
        return false;
    }
    let state = &*daemon.state();
    !state.config.config.shared_pool.own_accounts.iter().any(|name| record.is_named(name))
}

/// Changes a shared account.
pub(in crate::daemon) async fn change(daemon: Arc<Daemon>, id: AccountId, action: AccountAction) -> UnsavedAnswer {
    let (verb, name) = (verb(&action), daemon.state().account_reference(id));
    let admin = PoolAdmin::of(&daemon, &format!("lessor account {verb} {name}"))?;
    let _one_at_a_time = daemon.account_writes.lock().await;
    match action {
        AccountAction::Remove => {
            admin.client.remove_account(id).await.map_err(|error| pool_error(&error))?;
            let state = &mut *daemon.state();
            // a reading of the pool's accounts that is under way does not bring it back
            state.shared_accounts.note_own_change(id);
            answer(changed_account(state, id, AccountAction::Remove)?)
        }
        AccountAction::ClearLimits => {
            admin.client.clear_limit(id, None, None).await.map_err(|error| pool_error(&error))?;
            let state = &mut *daemon.state();
            answer(changed_account(state, id, AccountAction::ClearLimits)?)
        }
        other => {
            let changed = answer(changed_account(&mut daemon.state(), id, other)?)?;
            admin.send(&daemon, id).await?;
            Ok(changed)
        }
    }
}

fn answer(changed: Unsaved<Result<crate::protocol::Answer<'static>, ErrorInfo>>) -> UnsavedAnswer {
    changed.into_result().map_err(Unsaved::no_answer)
}

/// The command of an action.
fn verb(action: &AccountAction) -> &'static str {
    match action {
        AccountAction::Remove => "remove",
        AccountAction::Enable(true, _) => "enable",
        AccountAction::Enable(false, _) => "disable",
        AccountAction::Set(_) => "set",
        AccountAction::ClearLimits => "clear-limits",
    }
}

impl State {
    /// Puts an account in use that this host has added to the pool.
    pub(in crate::daemon) fn add_shared(&mut self, now: Now, record: AccountRecord, pooled: PooledAccount) {
        let id = record.id;
        debug_assert!(pooled.generation != MOVING);
        self.shared_accounts.note_own_change(id);
        self.shared_accounts.let_in(id);
        self.shared_accounts.insert(id, pooled.generation);
        self.shared_accounts.set_record(id, record.clone(), None);
        self.apply_from_pool(now, Command::AddSharedAccount(Box::new(record), pooled.limits));
    }
}
