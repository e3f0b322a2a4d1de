//! The login on this host's disk and in the daemon's memory.

use std::sync::Arc;
use std::time::Duration;

use super::steps::{HandOver, LocalLogin};
use crate::credential::Credential;
use crate::daemon::many_hosts::message::PoolMessage;
use crate::daemon::refresh::attempt::{RefreshedLogin, save_credential};
use crate::daemon::state::{Daemon, save};
use crate::pool::{AccountId, AccountRecord, Wall};
use crate::shared_pool::{Membership, PoolClient, PoolCredential, SharedPoolErrorKind, TokenGeneration};
use crate::store::Write;

/// The logins of the daemon.
pub(super) struct DaemonLogin<'a>(pub(super) &'a Arc<Daemon>);

impl LocalLogin for DaemonLogin<'_> {
    async fn keep_answer(
        &self,
        account: AccountId,
        from: TokenGeneration,
        credential: Credential,
        life: Option<Duration>,
    ) -> bool {
        save_credential(self.0, account, RefreshedLogin::Shared(from), credential, life).await
    }

    fn answer(&self, account: AccountId) -> Option<(TokenGeneration, Credential)> {
        self.0.state().pool_answer(account)
    }

    async fn answer_stored(&self, account: AccountId, generation: TokenGeneration) {
        let daemon = self.0;
        // no news are adopted between the check and the write
        let _account_writes = daemon.account_writes.lock().await;
        let is_newest = {
            let state = daemon.state();
            state.shared_accounts.get(account).is_some_and(|note| note.generation < generation)
        };
        if is_newest {
            // ends the mark of the answer, too
            let saved = save(&daemon.store, Write::SaveSharedAccount(account, Some(generation.0))).await;
            if let Err(error) = saved {
                // the database refuses the answer when it comes again
                tracing::error!(%account, "that the shared pool has a refreshed login could not be saved: {error}");
            }
        }
        let state = &mut *daemon.state();
        state.logins.pool_answer_stored(account);
        if is_newest {
            state.shared_accounts.insert(account, generation);
        }
    }

    fn read_news(&self) {
        self.0.mailboxes.many_hosts.send(PoolMessage::ReadNews);
    }

    fn to_database(&self, at: Wall) -> Wall {
        self.0.many_hosts.to_database(at)
    }
}

/// Gives the pool an answer that it does not have yet, as an admin that is no refresher: without a refresh token.
pub(super) async fn replace_as_admin(
    daemon: &Arc<Daemon>,
    client: &PoolClient,
    membership: &Membership,
    id: AccountId,
) -> HandOver {
    let local = DaemonLogin(daemon);
    let Some((_, credential)) = local.answer(id) else { return HandOver::Gone };
    let record = {
        let state = &*daemon.state();
        let Some(here) = state.pool.account(id).map(|account| account.record.clone()) else { return HandOver::Gone };
        let pooled = state.shared_accounts.get(id).and_then(|note| note.record.clone());
        AccountRecord { login_state: here.login_state.clone(), ..pooled.unwrap_or(here) }
    };
    let access = match membership.keys.seal_access(&membership.pool, id, &credential) {
        Ok(access) => access,
        Err(error) => {
            tracing::error!(account = %id, "a refreshed login cannot be given to the shared pool: {error}");
            return HandOver::Later;
        }
    };
    let expires_at = credential.expires_at.map(|at| local.to_database(at));
    let sealed = PoolCredential { access: &access, refresh: None, expires_at, keys: membership.keys.generation() };
    match client.replace_credential(&record, sealed).await {
        Ok(generation) => {
            local.answer_stored(id, generation).await;
            HandOver::Stored(generation)
        }
        Err(error) if error.kind() == SharedPoolErrorKind::NotFound => HandOver::Gone,
        Err(error) => {
            tracing::warn!(account = %id, "a refreshed login is given to the shared pool later: {error}");
            local.read_news();
            HandOver::Later
        }
    }
}

/// The database of the pool has an older generation than this host: it was replaced by a copy of an earlier time. If this
/// host has the refresh token of the newer login, the pool gets it again; otherwise the older one is tried.
pub(super) async fn fall_back(daemon: &Arc<Daemon>, id: AccountId, generation: TokenGeneration) {
    let _account_writes = daemon.account_writes.lock().await;
    let has_token = daemon.state().credentials.refresh_token(id).is_some();
    let mut writes = vec![Write::SaveSharedAccount(id, Some(generation.0))];
    if has_token {
        writes.push(Write::SavePoolAnswer(id, Some(generation.0)));
    }
    if let Err(error) = save(&daemon.store, Write::Together(writes)).await {
        tracing::error!(account = %id, "what the shared pool has lost could not be saved: {error}");
    }
    let state = &mut *daemon.state();
    state.shared_accounts.insert(id, generation);
    if has_token {
        state.logins.note_pool_answer(id, generation);
    }
    let name = state.account_name(id);
    state.log.push(move || {
        tracing::warn!(
            account = %id,
            "the database of the shared pool has an older login of {name} than this host: it was restored or has lost its \
             last changes"
        );
    });
}
