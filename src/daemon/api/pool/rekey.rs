//! `pool.rekey`: the secrets of the pool are sealed with new keys, which are wrapped for each host that is still in it.

use std::sync::Arc;

use super::{admin, client, key_error, pool_error, read_news};
use crate::credential::Credential;
use crate::daemon::api::reply::AnswerResult;
use crate::daemon::state::Daemon;
use crate::protocol::{Answer, ErrorInfo, ErrorKind, PoolRekeyInfo};
use crate::shared_pool::{
    HostId, HostPublicKey, Membership, PoolClient, PoolHost, PoolKeys, ResealedAccount, SharedAccount,
    SharedPoolErrorKind,
};

/// How often it is tried: each time another host has changed something between reading and writing.
const TRIES: usize = 8;

/// `pool.rekey`
pub(super) async fn rekey(daemon: Arc<Daemon>) -> AnswerResult {
    let membership = admin(&daemon, "lessor pool rekey")?;
    let client = client(&daemon, &membership).await?;
    let info = replace_keys(&client, &membership).await?;
    read_news(&daemon);
    Ok(Answer::RekeyedPool(info))
}

/// The keys of the pool as they are now, which may be newer than those that this host has stored.
pub(super) async fn current_keys(client: &PoolClient, membership: &Membership) -> Result<PoolKeys, ErrorInfo> {
    let own = client.own_host().await.map_err(|error| pool_error(&error))?;
    let keys = membership.key_pair.unwrap(&membership.pool, &own.wrapped, &membership.keys);
    keys.map_err(|error| key_error(&error))
}

/// Replaces the keys. The worker of each host, also of this one, fetches the new ones with the next news.
pub(super) async fn replace_keys(client: &PoolClient, membership: &Membership) -> Result<PoolRekeyInfo, ErrorInfo> {
    if !membership.refresher {
        let message = format!("{} has no key for refresh tokens, which would have to be sealed, too", membership.name);
        return Err(ErrorInfo::new(ErrorKind::NotAllowed, message)
            .hint("on an admin that is a refresher (lessor pool hosts shows which hosts are): lessor pool rekey"));
    }
    let mut void_tokens = Vec::new();
    for _ in 0..TRIES {
        let keys = current_keys(client, membership).await?;
        let next = keys.next().map_err(|error| key_error(&error))?;
        let mut hosts = client.hosts().await.map_err(|error| pool_error(&error))?;
        hosts.retain(|host| host.ended_at.is_none());
        // keys for a host that has not joined can be wrapped only for its token, which is not stored
        for invited in hosts.extract_if(.., |host| host.joined_at.is_none()).collect::<Vec<_>>() {
            client.evict(invited.id).await.map_err(|error| pool_error(&error))?;
            void_tokens.push(invited.name);
        }
        let news = client.news(None, None).await.map_err(|error| pool_error(&error))?;
        let mut accounts = Vec::with_capacity(news.accounts.len());
        for account in &news.accounts {
            match resealed(client, membership, (&keys, &next), account).await? {
                Some(sealed) => accounts.push(sealed),
                None => break,
            }
        }
        if accounts.len() < news.accounts.len() {
            continue;
        }
        let wrapped = wrapped(&next, &membership.pool, &hosts)?;
        let generation = next.generation();
        if client.rekey(generation, &accounts, &wrapped).await.map_err(|error| pool_error(&error))? {
            tracing::info!("the shared pool has new keys, generation {}", generation.0);
            return Ok(PoolRekeyInfo {
                key_generation: u64::from(generation.0.unsigned_abs()),
                resealed: accounts.len() as u64,
                hosts: wrapped.len() as u64,
                void_tokens,
            });
        }
    }
    let message = "the accounts of the pool changed again and again while they were sealed with new keys";
    Err(ErrorInfo::new(ErrorKind::PoolUnavailable, message).hint("try again: lessor pool rekey"))
}

/// An account sealed with the next keys; `None` if it has changed since it was read.
async fn resealed(
    client: &PoolClient,
    membership: &Membership,
    (keys, next): (&PoolKeys, &PoolKeys),
    account: &SharedAccount,
) -> Result<Option<ResealedAccount>, ErrorInfo> {
    let (pool, id) = (membership.pool.as_str(), account.record.id);
    if account.keys != keys.generation() {
        return Ok(None);
    }
    let access = keys.open_access(pool, id, account.keys, &account.access).map_err(|error| key_error(&error))?;
    let access = next.seal_access(pool, id, &access).map_err(|error| key_error(&error))?;
    let refresh = match account.has_refresh {
        false => None,
        true => {
            let found = match client.refresh_token(id).await {
                Err(error) if error.kind() == SharedPoolErrorKind::NotFound => return Ok(None),
                found => found.map_err(|error| pool_error(&error))?,
            };
            let Some((generation, sealed_with, sealed)) = found else { return Ok(None) };
            if generation != account.generation {
                return Ok(None);
            }
            let token = keys.open_refresh(pool, id, sealed_with, &sealed).map_err(|error| key_error(&error))?;
            Some(next.seal_refresh(pool, id, &token).map_err(|error| key_error(&error))?)
        }
    };
    Ok(Some(ResealedAccount { account: id, generation: account.generation, access, refresh }))
}

/// The keys wrapped for each host; only refreshers get the key of the refresh tokens.
fn wrapped(keys: &PoolKeys, pool: &str, hosts: &[PoolHost]) -> Result<Vec<(HostId, Vec<u8>)>, ErrorInfo> {
    let members = keys.without_refresh();
    let wrap = |host: &PoolHost| {
        let unreadable = |_| {
            ErrorInfo::new(ErrorKind::Internal, format!("the public key of {} in the database is damaged", host.name))
        };
        let public = HostPublicKey(<[u8; 32]>::try_from(host.public_key.as_slice()).map_err(unreadable)?);
        let keys = if host.refresher { keys } else { &members };
        Ok((host.id, keys.wrap_for(pool, &public).map_err(|error| key_error(&error))?))
    };
    hosts.iter().map(wrap).collect()
}

/// A credential sealed for the pool.
pub(in crate::daemon) struct SealedParts {
    /// Everything but the refresh token.
    pub access: Vec<u8>,
    /// The refresh token.
    pub refresh: Option<Vec<u8>>,
}

/// Seals a credential with the keys of the pool.
pub(super) fn sealed(
    keys: &PoolKeys,
    membership: &Membership,
    id: crate::pool::AccountId,
    credential: &Credential,
) -> Result<SealedParts, ErrorInfo> {
    let pool = membership.pool.as_str();
    let access = keys.seal_access(pool, id, credential).map_err(|error| key_error(&error))?;
    let refresh = credential.refresh.as_ref().map(|token| keys.seal_refresh(pool, id, token)).transpose();
    let refresh = refresh.map_err(|error| {
        key_error(&error).hint(
            "on an admin that is a refresher (lessor pool hosts shows which hosts are), or join again \
                                with a token of: lessor pool join-token --admin --refresher",
        )
    })?;
    Ok(SealedParts { access, refresh })
}
