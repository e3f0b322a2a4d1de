//! `pool.evict`: a host loses its access, the pool gets new keys, and what the host has read is listed.

use std::sync::Arc;

use super::hosts::{find_host, host_info};
use super::rekey::replace_keys;
use super::{admin, client, pool_error, read_news};
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::api::session::bad;
use crate::daemon::state::Daemon;
use crate::daemon::view;
use crate::pool::{AccountId, CredentialKind};
use crate::protocol::{AccountLabel, Answer, ErrorInfo, EvictHostParams, EvictedHostInfo, ExposedSecretInfo};
use crate::shared_pool::{PoolHost, SharedAccount};

/// `pool.evict`
pub(super) async fn evict(daemon: Arc<Daemon>, params: EvictHostParams) -> AnswerResult {
    let membership = admin(&daemon, &format!("lessor pool evict {}", params.host))?;
    let client = client(&daemon, &membership).await?;
    let hosts = client.hosts().await.map_err(|error| pool_error(&error))?;
    let host = find_host(&hosts, &params.host)?;
    if host.id == membership.host {
        return Err(bad("this is the host that would be evicted; a host does not evict itself")
            .hint("to leave the pool with it: lessor pool leave"));
    }
    if !params.force {
        refuse_last(&hosts, host)?;
    }
    let (seats, info) =
        tokio::try_join!(client.seats_of_hosts(), client.pool_info()).map_err(|error| pool_error(&error))?;
    let shown = host_info(host, &membership, &seats, (info.db_time, info.settings.ttl));
    // what it could read, as long as it could
    let accounts = client.news(None, None).await.map_err(|error| pool_error(&error))?.accounts;
    client.evict(host.id).await.map_err(|error| pool_error(&error))?;
    tracing::warn!("evicted the host {} from the shared pool", host.name);
    let (key_generation, resealed, trouble) = match replace_keys(&client, &membership).await {
        Ok(rekeyed) => (rekeyed.key_generation, rekeyed.resealed, None),
        Err(ErrorInfo { message, data, .. }) => {
            let hint = data.hint.unwrap_or_else(|| "to do that now: lessor pool rekey".to_owned());
            (u64::from(info.keys.0.unsigned_abs()), 0, Some(format!("{message}; {hint}")))
        }
    };
    read_news(&daemon);
    let had_joined = host.joined_at.is_some();
    let read = accounts.iter().filter(|_| had_joined).map(|account| exposed(&daemon, account, host.refresher));
    Ok(Answer::EvictedHost(Box::new(EvictedHostInfo {
        host: shown,
        key_generation,
        resealed,
        trouble,
        replace: read.collect(),
    })))
}

/// Refuses to leave the pool without a refresher. An admin is left: the one who evicts.
fn refuse_last(hosts: &[PoolHost], host: &PoolHost) -> Result<(), ErrorInfo> {
    let is_other = |other: &&PoolHost| other.id != host.id && other.ended_at.is_none() && other.joined_at.is_some();
    if !host.refresher
        || host.joined_at.is_none()
        || host.ended_at.is_some()
        || hosts.iter().filter(is_other).any(|other| other.refresher)
    {
        return Ok(());
    }
    let message = format!("{} is the last refresher: without it no login of the pool can be refreshed", host.name);
    Err(bad(message).hint(format!(
        "make another one first: lessor pool join-token --refresher; or: lessor pool evict {} --force",
        host.name
    )))
}

/// What a host has read of an account: each host gets all keys and access tokens, and refreshers the refresh tokens.
fn exposed(daemon: &Daemon, account: &SharedAccount, is_refresher: bool) -> ExposedSecretInfo {
    let (id, record) = (account.record.id, &account.record);
    let secret = match record.kind {
        CredentialKind::ApiKey => "api_key",
        CredentialKind::Token => "token",
        CredentialKind::Oauth if is_refresher && account.has_refresh => "login",
        CredentialKind::Oauth => "access_token",
    };
    let is_lasting = matches!(secret, "api_key" | "login") || account.expires_at.is_none();
    ExposedSecretInfo {
        account: AccountLabel { id: id.to_string(), label: record.label.clone(), email: record.email.clone() },
        provider: record.provider.clone(),
        secret: secret.to_owned(),
        ends_at: account.expires_at.filter(|_| secret != "login").map(|at| at.0),
        command: if is_lasting || secret == "token" { command(daemon, id, secret) } else { None },
    }
}

/// The command that stores what replaces it.
fn command(daemon: &Daemon, id: AccountId, secret: &str) -> Option<String> {
    let state = &*daemon.state();
    let account = state.pool.account(id)?;
    let name = state.account_reference(id);
    Some(match secret {
        "api_key" => format!("lessor account set {name} --api-key-stdin"),
        "token" => format!("lessor account set {name} --token-stdin"),
        _ => view::login_command(state, account),
    })
}
