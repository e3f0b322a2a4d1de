//! `pool.migrate`: accounts move into the pool, or back to this host.
//!
//! Generation 0 of a shared account marks a move that is under way. It is on disk before the database is changed, and
//! afterwards the database decides: what it has is shared, what it lacks is this host's own. So an interruption at any
//! point loses nothing, uses nothing twice, and the same call goes on.

mod to_local;
mod to_pool;

use std::sync::Arc;
use std::time::Duration;

use self::to_local::to_local;
use self::to_pool::to_pool;
use super::{admin, client, read_news};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::{bad, find_account};
use crate::daemon::many_hosts::handle::PoolTerm;
use crate::daemon::many_hosts::message::PoolMessage;
use crate::daemon::os::clock;
use crate::daemon::state::{Daemon, save};
use crate::pool::{AccountId, Command};
use crate::protocol::{AccountLabel, Answer, ErrorInfo, ErrorKind, MigrateParams, MigratedInfo, SkippedAccountInfo};
use crate::shared_pool::{Membership, PoolClient, TokenGeneration};
use crate::store::Write;

/// How long the worker has for connecting, after this host has joined.
const CONNECTING: Duration = Duration::from_secs(15);
/// How often it is looked whether it has.
const STEP: Duration = Duration::from_millis(50);
/// The generation of an account whose move is under way.
pub(in crate::daemon) const MOVING: TokenGeneration = TokenGeneration(0);

/// Why an account was not moved.
enum NotMoved {
    /// It stays where it is, and the others go on.
    Skip(String),
    /// Nothing can be moved.
    Stop(ErrorInfo),
}

impl From<ErrorInfo> for NotMoved {
    fn from(error: ErrorInfo) -> Self {
        Self::Stop(error)
    }
}

/// `pool.migrate`
pub(super) async fn migrate(daemon: Arc<Daemon>, params: MigrateParams) -> AnswerResult {
    let is_back = match params.to.as_str() {
        "pool" => false,
        "local" => true,
        other => return Err(bad(format!("`to` may be pool or local; not {other:?}"))),
    };
    let command = if is_back { "lessor pool migrate --to-local" } else { "lessor pool migrate" };
    let membership = admin(&daemon, command)?;
    let connection = connection(&daemon, &membership).await?;
    let chosen = chosen(&daemon, params.accounts.as_deref(), is_back)?;
    let mut info = MigratedInfo { to: params.to, ..MigratedInfo::default() };
    for (id, label, is_shared) in chosen {
        if is_shared != is_back {
            info.already += 1;
            continue;
        }
        // each is moved alone: other changes of accounts come in between
        let _one_at_a_time = daemon.account_writes.lock().await;
        let moved = match is_back {
            true => to_local(&daemon, &membership, &connection, id, params.force).await,
            false => to_pool(&daemon, &membership, &connection, id, params.accounts.is_some(), params.force).await,
        };
        note_end(&daemon, id);
        match moved {
            Ok(()) => info.moved.push(label),
            Err(NotMoved::Skip(why)) => info.skipped.push(SkippedAccountInfo { account: label, why }),
            Err(NotMoved::Stop(error)) if info.moved.is_empty() => return Err(error),
            Err(NotMoved::Stop(error)) => {
                let moved = info.moved.len();
                let message = format!("{moved} accounts were moved, then: {}", error.message);
                let hint = match error.data.hint.clone() {
                    Some(hint) if hint.contains(command) => hint,
                    Some(hint) => format!("{hint}; then, to go on: {command}"),
                    None => format!("to go on: {command}"),
                };
                return Err(ErrorInfo { message, ..error }.hint(hint));
            }
        }
    }
    read_news(&daemon);
    Ok(Answer::Migrated(Box::new(info)))
}

type TermConnection = (Arc<PoolClient>, PoolTerm);

/// The worker's connection and term; it may be about to connect.
async fn connection(daemon: &Daemon, membership: &Membership) -> Result<TermConnection, ErrorInfo> {
    let connected = async {
        loop {
            if let (Some(client), Some(term)) = (daemon.many_hosts.client(), daemon.many_hosts.term()) {
                return (client, term);
            }
            tokio::time::sleep(STEP).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(CONNECTING, connected).await {
        return Ok(found);
    }
    // the reason, if the database gives one
    client(daemon, membership).await?;
    let message = "this host has not connected to its pool";
    Err(ErrorInfo::new(ErrorKind::PoolUnavailable, message)
        .hint("see why: lessor pool status; [pool] url of its configuration must be set: lessor config get pool.url"))
}

/// The accounts that are meant, and whether each is shared.
fn chosen(
    daemon: &Daemon,
    names: Option<&[String]>,
    is_back: bool,
) -> Result<Vec<(AccountId, AccountLabel, bool)>, ErrorInfo> {
    let state = &*daemon.state();
    let ids: Vec<AccountId> = match names {
        Some(names) => names.iter().map(|name| find_account(state, name)).collect::<Result<_, _>>()?,
        // own accounts that stay are not `already` moved back
        None if is_back => state.shared_accounts.ids(),
        None => state.pool.accounts().iter().map(|account| account.record.id).collect(),
    };
    let is_shared = |id| state.shared_accounts.get(id).is_some_and(|note| note.generation != MOVING || is_back);
    Ok(ids.into_iter().map(|id| (id, AccountLabel::of(&state.pool, id), is_shared(id))).collect())
}

/// Notes on disk what the account is, then in memory.
async fn mark(daemon: &Daemon, id: AccountId, generation: Option<TokenGeneration>) -> Result<(), ErrorInfo> {
    let write = Write::SaveSharedAccount(id, generation.map(|generation| generation.0));
    save(&daemon.store, write).await.map_err(not_saved)?;
    let shared = &mut daemon.state().shared_accounts;
    shared.note_own_change(id);
    match generation {
        Some(generation) => {
            shared.let_in(id);
            shared.insert(id, generation);
        }
        None => shared.move_out(id),
    }
    Ok(())
}

fn not_saved(error: crate::store::WriteError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("the move could not be saved: {error}"))
}

/// A move is over. If it is not known whether the database has taken part in it, all that the database has decides.
fn note_end(daemon: &Daemon, id: AccountId) {
    let shared = &mut daemon.state().shared_accounts;
    shared.note_own_change(id);
    if shared.get(id).is_some_and(|note| note.generation == MOVING) {
        daemon.mailboxes.many_hosts.send(PoolMessage::ReadAll);
    }
}

/// The account is this host's own from now on.
async fn make_own(daemon: &Daemon, id: AccountId) -> Result<(), ErrorInfo> {
    mark(daemon, id, None).await?;
    daemon.state().apply_from_pool(clock::now(), Command::UnshareAccount(id));
    Ok(())
}

/// Gives back seats.
async fn give_back(client: &PoolClient, term: PoolTerm, id: AccountId, seats: u32) {
    if let Err(error) = client.give_back_seats(term.id, term.life, id, seats).await {
        // at the latest they are free when the term has ended
        tracing::warn!(account = %id, "seats were not given back: {error}");
    }
}
