//! `pool.init` and `pool.join`: this host becomes one of a pool.
//!
//! What it is there is on disk before others can depend on it: keys that only this process had would be lost in a crash.

use std::path::PathBuf;
use std::sync::Arc;

use super::database_url::{with_user, without_user};
use super::words::{check_name, check_rules, host_text, machine_name, overflow_name, overflow_named, random_password};
use super::{client, key_error, pool_error, save_membership};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::{bad, secret};
use crate::daemon::many_hosts;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::protocol::{Answer, ErrorInfo, ErrorKind, InitPoolParams, JoinPoolParams, PoolMemberInfo};
use crate::shared_pool::{
    HostKeyPair, JoinToken, Membership, NewHost, PoolAddress, PoolClient, PoolKeys, SharedPoolErrorKind,
    SharedPoolSettings, create_pool, new_pool_id,
};

/// `pool.init`
pub(super) async fn init(daemon: Arc<Daemon>, params: InitPoolParams) -> AnswerResult {
    let _one_at_a_time = daemon.account_writes.lock().await;
    if let Some(known) = daemon.many_hosts.membership() {
        if without_user(&known.address.url) == without_user(&params.url) {
            // once more after an interruption
            return member_info(&daemon, &known, false).await;
        }
        return Err(in_another_pool(&known));
    }
    let name = name_of(params.name)?;
    let settings = settings(&daemon, params.per_account, params.max_per_account, params.overflow.as_deref())?;
    let root_certificate = params.root_certificate.map(PathBuf::from);
    let owner = PoolAddress {
        url: params.url,
        password: params.password.map(secret),
        root_certificate: root_certificate.clone(),
    };
    let no_numbers = |error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}"));
    let pool = new_pool_id().map_err(no_numbers)?;
    let key_pair = HostKeyPair::generate().map_err(|error| key_error(&error))?;
    let keys = PoolKeys::first().map_err(|error| key_error(&error))?;
    let public = key_pair.public();
    let wrapped = keys.wrap_for(&pool, &public).map_err(|error| key_error(&error))?;
    let password = random_password()?;
    let host =
        NewHost { pool: &pool, name: &name, public_key: &public.0, wrapped: &wrapped, password: Some(&password) };
    let created = create_pool(&owner, &settings, &host).await;
    let created = created.map_err(|error| pool_error(&error).hint(error.remedy_for_owner()))?;
    let address = PoolAddress { url: with_user(&owner.url, &created.user), password: Some(password), root_certificate };
    let membership =
        Membership { pool, host: created.host, name, address, key_pair, keys, admin: true, refresher: true };
    save_membership(&daemon, Some(&membership)).await?;
    tracing::info!("created the shared pool {}", membership.pool);
    daemon.state().shared_accounts.let_all_in();
    let membership = Arc::new(membership);
    many_hosts::rejoin(&daemon, Some(membership.clone()));
    member_info(&daemon, &membership, true).await
}

/// `pool.join`
pub(super) async fn join(daemon: Arc<Daemon>, params: JoinPoolParams) -> AnswerResult {
    let _one_at_a_time = daemon.account_writes.lock().await;
    let text = secret(params.token);
    let token = JoinToken::parse(text.expose(), clock::now().wall).map_err(|error| bad(error.to_string()))?;
    if let Some(known) = daemon.many_hosts.membership() {
        // a host that was evicted may join again
        if known.pool != token.pool {
            return Err(in_another_pool(&known));
        }
        let works = match PoolClient::connect_to_join(&known.address).await {
            Ok(client) => client.own_host().await.is_ok(),
            Err(_) => false,
        };
        if works {
            return Err(bad(format!("this host is in this pool already, as {}", known.name))
                .hint("see: lessor pool status; to join as another host: lessor pool leave, then lessor pool join"));
        }
    }
    let membership = accept(&daemon, token, params.root_certificate.map(PathBuf::from)).await?;
    tracing::info!("joined the shared pool {} as {}", membership.pool, membership.name);
    daemon.state().shared_accounts.let_all_in();
    let membership = Arc::new(membership);
    many_hosts::rejoin(&daemon, Some(membership.clone()));
    member_info(&daemon, &membership, false).await
}

/// Accepts an invitation. What this host will be is saved first: once the invitation is accepted, its password and key
/// pair are the only ones.
async fn accept(daemon: &Daemon, token: JoinToken, root_certificate: Option<PathBuf>) -> Result<Membership, ErrorInfo> {
    let url = with_user(&token.url, &token.user);
    let invited =
        PoolAddress { url: url.clone(), password: Some(token.password), root_certificate: root_certificate.clone() };
    let connected = PoolClient::connect_to_join(&invited).await;
    let client = connected.map_err(|error| match error.kind() {
        SharedPoolErrorKind::Auth => ErrorInfo::new(
            ErrorKind::BadRequest,
            "the database does not know this token: it was used, has expired, or was made void by a rekey",
        )
        .hint("get a new one from an admin of the pool: lessor pool join-token"),
        _ => pool_error(&error),
    })?;
    let own = client.own_host().await.map_err(|error| pool_error(&error))?;
    if own.pool != token.pool {
        return Err(bad("the database at this address has another pool than the token was made for"));
    }
    let keys = token.one_time.unwrap_invitation(&own.pool, &own.wrapped).map_err(|error| key_error(&error))?;
    let key_pair = HostKeyPair::generate().map_err(|error| key_error(&error))?;
    let public = key_pair.public();
    let wrapped = keys.wrap_for(&own.pool, &public).map_err(|error| key_error(&error))?;
    let generation = keys.generation();
    let membership = Membership {
        pool: own.pool,
        host: own.host,
        name: own.name,
        address: PoolAddress { url, password: Some(random_password()?), root_certificate },
        key_pair,
        keys,
        admin: own.admin,
        refresher: own.refresher,
    };
    let no_password = || ErrorInfo::new(ErrorKind::Internal, "this host has no password for the database");
    save_membership(daemon, Some(&membership)).await?;
    let password = membership.address.password.as_ref().ok_or_else(no_password)?;
    let Err(error) = client.accept_invitation(&public.0, generation, &wrapped, password).await else {
        return Ok(membership);
    };
    // an answer that was lost: the new password tells
    if error.is_temporary() {
        match PoolClient::connect_to_join(&membership.address).await {
            Ok(_) => return Ok(membership),
            Err(again) if again.is_temporary() => {
                let message = format!("whether this host has joined is not known: {error}");
                return Err(ErrorInfo::new(ErrorKind::PoolUnavailable, message)
                    .hint("run the same command again; if the token is void then: lessor pool status"));
            }
            Err(_) => {}
        }
    }
    // what was known before may still be of use
    let before = daemon.many_hosts.membership();
    save_membership(daemon, before.as_deref()).await?;
    Err(pool_error(&error))
}

fn in_another_pool(known: &Membership) -> ErrorInfo {
    let place = without_user(&known.address.url);
    bad(format!("this host is in the pool of {place} already, as {}", known.name))
        .hint("a host is in one pool at a time; to leave that one: lessor pool leave")
}

/// What this host is in the pool, and what the pool has.
async fn member_info(daemon: &Daemon, membership: &Membership, created: bool) -> AnswerResult {
    // what this host is does not depend on whether the database still answers
    let (settings, accounts) = match client(daemon, membership).await {
        Ok(client) => (client.pool_info().await.ok(), client.news(None, None).await.ok()),
        Err(_) => (None, None),
    };
    let settings = settings.map(|info| info.settings).unwrap_or_default();
    let accounts = accounts.map_or(0, |news| news.accounts.len());
    Ok(Answer::PoolMember(Box::new(PoolMemberInfo {
        pool: membership.pool.clone(),
        url: membership.address.url.clone(),
        host: host_text(membership.host),
        name: membership.name.clone(),
        admin: membership.admin,
        refresher: membership.refresher,
        created,
        accounts: accounts as u64,
        per_account: settings.per_account,
        max_per_account: settings.max_per_account,
        overflow: overflow_name(settings.overflow).to_owned(),
    })))
}

/// The settings of a new pool: as given, else as this host's configuration has them.
fn settings(
    daemon: &Daemon,
    per_account: Option<u32>,
    max_per_account: Option<u32>,
    overflow: Option<&str>,
) -> Result<SharedPoolSettings, ErrorInfo> {
    let own = {
        let state = &*daemon.state();
        let leases = &state.pool.settings().leases;
        (leases.per_account, leases.max_per_account, leases.overflow)
    };
    let per_account = per_account.unwrap_or(own.0);
    let most = max_per_account.unwrap_or_else(|| own.1.max(per_account));
    check_rules(per_account, most)?;
    let overflow = overflow.map_or(Ok(own.2), overflow_named)?;
    Ok(SharedPoolSettings { per_account, max_per_account: most, overflow, ..SharedPoolSettings::default() })
}

/// The name of this host: as given, else that of the machine.
fn name_of(given: Option<String>) -> Result<String, ErrorInfo> {
    match given {
        Some(name) => check_name(&name).map(|()| name),
        None => Ok(machine_name()),
    }
}
