//! `pool.…`: the pool that this host shares with others.

mod database_url;
mod evict;
mod hosts;
mod leave;
mod member;
mod migrate;
mod rekey;
pub(in crate::daemon) mod shared_account;
mod words;

use std::sync::Arc;

use super::reply::AnswerResult;
use super::session::bad;
use crate::daemon::many_hosts::loss::{JOIN_AGAIN, is_eviction};
use crate::daemon::many_hosts::message::PoolMessage;
use crate::daemon::state::{Daemon, save};
use crate::protocol::{Call, ErrorInfo, ErrorKind};
use crate::shared_pool::{Membership, PoolClient, PoolKeyError, SharedPoolError, SharedPoolErrorKind};
use crate::store::Write;

/// Serves a call about the shared pool.
pub async fn serve(daemon: Arc<Daemon>, call: Call) -> AnswerResult {
    if let Call::InitPool(_) | Call::JoinPool(_) = call {
        check_no_guest(&daemon)?;
    }
    match call {
        Call::InitPool(params) => member::init(daemon, *params).await,
        Call::JoinPool(params) => member::join(daemon, *params).await,
        Call::CreateJoinToken(params) => hosts::join_token(daemon, params).await,
        Call::ListPoolHosts(_) => hosts::list(daemon).await,
        Call::PoolStatus(_) => hosts::status(daemon).await,
        Call::EvictHost(params) => evict::evict(daemon, params).await,
        Call::RekeyPool(_) => rekey::rekey(daemon).await,
        Call::LeavePool(params) => leave::leave(daemon, params).await,
        Call::SetPool(params) => hosts::set(daemon, params).await,
        Call::MigrateAccounts(params) => migrate::migrate(daemon, params).await,
        other => Err(bad(format!("{} is not about the shared pool", other.method()))),
    }
}

/// Refuses a pool of its own to a machine that uses the accounts of another one: only these serve its programs.
fn check_no_guest(daemon: &Daemon) -> Result<(), ErrorInfo> {
    let Some(host) = daemon.state().config.config.join.host.clone() else { return Ok(()) };
    let message = format!("this machine uses the accounts of {host}, and can share no pool of its own meanwhile");
    Err(ErrorInfo::new(ErrorKind::BadRequest, message)
        .hint(format!("to share one, run this at {host}; or first, here: lessor leave")))
}

/// What this host is in its pool.
fn membership(daemon: &Daemon) -> Result<Arc<Membership>, ErrorInfo> {
    daemon.many_hosts.membership().ok_or_else(|| {
        ErrorInfo::new(ErrorKind::NotInPool, "this host shares no pool with other hosts")
            .hint("create one: lessor pool init URL; or join one: lessor pool join --token-stdin")
    })
}

/// The same, if this host is an admin of it.
fn admin(daemon: &Daemon, command: &str) -> Result<Arc<Membership>, ErrorInfo> {
    let membership = membership(daemon)?;
    if membership.admin { Ok(membership) } else { Err(not_admin(&membership, command)) }
}

/// The refusal of what only an admin may do.
fn not_admin(membership: &Membership, command: &str) -> ErrorInfo {
    let message = format!("{} may only lease in this pool; an admin does this", membership.name);
    ErrorInfo::new(ErrorKind::NotAllowed, message)
        .hint(format!("on an admin (lessor pool hosts shows which hosts are): {command}"))
}

/// The connection to the pool's database: the worker's, else one for this call.
async fn client(daemon: &Daemon, membership: &Membership) -> Result<Arc<PoolClient>, ErrorInfo> {
    if let Some(client) = daemon.many_hosts.client() {
        return Ok(client);
    }
    let client = PoolClient::connect_to_join(&membership.address).await;
    client.map(Arc::new).map_err(|error| own_error(&error))
}

/// The error for what the database has refused this host with its own role, which it has let in before.
fn own_error(error: &SharedPoolError) -> ErrorInfo {
    if !is_eviction(error.kind()) {
        return pool_error(error);
    }
    ErrorInfo::new(ErrorKind::NotInPool, "this host was evicted from the pool").hint(JOIN_AGAIN)
}

/// The error for a call that the pool's database did not serve.
fn pool_error(error: &SharedPoolError) -> ErrorInfo {
    use SharedPoolErrorKind as Kind;
    let kind = match error.kind() {
        Kind::NotPermitted => ErrorKind::NotAllowed,
        Kind::NotMember | Kind::Evicted | Kind::NoPool => ErrorKind::NotInPool,
        Kind::Address | Kind::Conflict | Kind::NotFound | Kind::PoolExists => ErrorKind::BadRequest,
        _ => ErrorKind::PoolUnavailable,
    };
    ErrorInfo::new(kind, error.message()).hint(error.remedy())
}

/// The error for what the pool's keys do not open or seal.
fn key_error(error: &PoolKeyError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, error.to_string())
}

/// Keeps what this host is in the pool; it is on disk when this returns.
async fn save_membership(daemon: &Daemon, membership: Option<&Membership>) -> Result<(), ErrorInfo> {
    let not_saved = |error: String| {
        ErrorInfo::new(ErrorKind::Internal, format!("what this host is in the pool could not be saved: {error}"))
    };
    let bytes = membership.map(Membership::to_bytes).transpose().map_err(not_saved)?;
    save(&daemon.store, Write::SavePoolMembership(bytes)).await.map_err(|error| not_saved(error.to_string()))
}

/// Has the worker see now what this call has changed in the database.
fn read_news(daemon: &Daemon) {
    daemon.mailboxes.many_hosts.send(PoolMessage::ReadNews);
}
