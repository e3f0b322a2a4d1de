//! `gateway.key`, `gateway.keys`, `gateway.revoke`: keys for the clients of the gateway.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::account_set::stated_directory;
use super::reply::{AnswerResult, CallReply, CallResult, lease_ended};
use super::session::{IssuedLeases, bad, fence_of, shutting_down};
use crate::daemon::state::gateway_keys::{MOST_KEYS, NoSuchKey};
use crate::daemon::state::{Daemon, GatewayState, LISTED_AFTER_END, LastingKey, save};
use crate::daemon::{os::clock, view};
use crate::pool::{Bind, Fence, Wall};
use crate::protocol::{
    Answer, ErrorInfo, ErrorKind, GatewayAccess, GatewayKey, GatewayKeyParams, GuestAddresses, LASTING_KEY_BYTES,
    RevokeKeyParams, RevokedKeyInfo, SecretText, key_hash, lasting_key, looks_like_key,
};
use crate::store::{GatewayKeyRecord, Write};

/// The longest agent or label in a key, in bytes.
const LONGEST_NAME: usize = 64;
/// The longest life of a key that ends, in ms: 100 years.
const LONGEST_TTL: u64 = 100 * 366 * 86_400_000;
/// The most leases at a time that a key can be limited to.
const MOST_LEASES: u32 = 100_000;

/// Creates a key for a lease, or for a client without one.
pub fn gateway_key(daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, params: GatewayKeyParams) -> CallResult {
    match &params.lease {
        Some(lease) => {
            let key = daemon.gateway_keys.seal(&key_of_lease(daemon, lease, &params)?);
            reply.answer(&access(daemon, key, None))
        }
        None => reply.later(daemon, create(daemon.clone(), params)),
    }
}

/// The key of a guest's lease, with the addresses at which the guest's programs use it; none of a container.
pub fn key_for_guest(
    daemon: &Daemon,
    reply: &mut CallReply<'_>,
    params: &GatewayKeyParams,
    addresses: Option<&GuestAddresses>,
) -> CallResult {
    let lease = params.lease.as_deref().unwrap_or_default();
    let key = daemon.gateway_keys.seal(&key_of_lease(daemon, lease, params)?);
    let websocket = Some(daemon.state().config.config.gateway.websocket);
    let addresses = addresses.cloned().unwrap_or_default();
    let trouble = addresses.gateway_url.is_none().then(|| "a guest reaches the gateway by its own daemon".to_owned());
    reply.answer(&Answer::GatewayAccess(GatewayAccess {
        key: SecretText(key.into()),
        url: addresses.gateway_url,
        socket: addresses.gateway_socket,
        trouble,
        id: None,
        expires_at: None,
        secure_url: addresses.secure_url,
        ca_file: addresses.ca_file,
        ca_bundle: addresses.ca_bundle,
        websocket,
    }))
}

fn access(daemon: &Daemon, key: String, lasting: Option<&LastingKey>) -> Answer<'static> {
    let (GatewayState { url, socket, trouble, secure }, websocket) = {
        let state = &*daemon.state();
        (state.gateway.clone(), Some(state.config.config.gateway.websocket))
    };
    let key = SecretText(key.into());
    let id = lasting.map(LastingKey::id);
    let expires_at = lasting.and_then(|key| key.record().expires_at).map(|at| at.0);
    let secure = secure.map(|secure| (secure.url, secure.ca_file, secure.ca_bundle));
    let (secure_url, ca_file, ca_bundle) =
        secure.map_or((None, None, None), |(url, ca_file, bundle)| (Some(url), Some(ca_file), Some(bundle)));
    Answer::GatewayAccess(GatewayAccess {
        key,
        url,
        socket,
        trouble,
        id,
        expires_at,
        secure_url,
        ca_file,
        ca_bundle,
        websocket,
    })
}

/// Creates a lasting key; it is on disk before it is handed out.
async fn create(daemon: Arc<Daemon>, mut params: GatewayKeyParams) -> AnswerResult {
    let now = clock::now().wall;
    let stated = params.directory.take();
    let directory = stated.map(|stated| stated_directory(&daemon, &stated)).transpose()?;
    let (text, record) = key_of_client(params, directory.as_deref(), now)?;
    if !daemon.gateway_keys.has_room() {
        // those that have ended may be in the way
        daemon.gateway_keys.tidy(&daemon.store, now);
    }
    if !daemon.gateway_keys.has_room() {
        let error = ErrorInfo::new(ErrorKind::Overloaded, format!("there are {MOST_KEYS} gateway keys already"));
        return Err(error.hint("revoke some that are no longer used: lessor gateway revoke --unused 90d"));
    }
    let not_saved = |error| ErrorInfo::new(ErrorKind::Internal, format!("the key could not be saved: {error}"));
    save(&daemon.store, Write::SaveGatewayKey(record.clone())).await.map_err(not_saved)?;
    let key = daemon.gateway_keys.add(record);
    {
        let state = &mut *daemon.state();
        state.events.key_created(now, &key, &state.pool);
    }
    tracing::info!(kind = "key.created", key = key.id(), "the gateway key {} was created", key.name());
    Ok(access(&daemon, text, Some(&key)))
}

/// Lists the lasting keys.
pub fn list(daemon: &Daemon, reply: &mut CallReply<'_>) -> CallResult {
    let now = clock::now().wall;
    let keys = daemon.gateway_keys.listed(now);
    reply.answer(&Answer::GatewayKeys(keys.iter().map(|key| view::gateway_key(key, now)).collect()))
}

/// Revokes a lasting key: at once, and on disk before it is answered.
pub async fn revoke(daemon: Arc<Daemon>, RevokeKeyParams { key: name }: RevokeKeyParams) -> AnswerResult {
    let now = clock::now().wall;
    let key = find(&daemon, &name.0, now)?;
    let (done, outcome) = oneshot::channel();
    // the receiver is gone when the daemon ends
    let cut_off = daemon.gateway_keys.revoke(&daemon.store, &key, now, Box::new(move |result| drop(done.send(result))));
    // a list says so, too
    daemon.count_write();
    if let Some(cut_off) = cut_off {
        {
            let state = &mut *daemon.state();
            state.events.key_revoked(now, &key, &state.pool);
        }
        let (id, name) = (key.id(), key.name());
        tracing::info!(kind = "key.revoked", key = id, cut_off, "the gateway key {name} was revoked");
    }
    if let Err(error) = outcome.await.map_err(shutting_down)? {
        daemon.gateway_keys.save_later(&daemon.store, &key);
        let message = format!("the key is revoked, but that could not be saved yet: {error}");
        return Err(
            ErrorInfo::new(ErrorKind::Internal, message).hint("until it is saved, a restart makes it valid again")
        );
    }
    let key = view::gateway_key(&key, now);
    Ok(Answer::RevokedKey(Box::new(RevokedKeyInfo { key, cut_off: cut_off.unwrap_or_default() })))
}

fn find(daemon: &Daemon, name: &str, now: Wall) -> Result<Arc<LastingKey>, ErrorInfo> {
    let unknown = |message: String| ErrorInfo::new(ErrorKind::UnknownKey, message);
    match daemon.gateway_keys.find(name, now) {
        Ok(key) => Ok(key),
        Err(NoSuchKey::Several(ids)) => {
            let ids = ids.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(unknown(format!("several gateway keys have this name: {ids}")).hint("name one by its id"))
        }
        Err(NoSuchKey::None) if looks_like_key(name) => {
            let sealed = daemon.gateway_keys.find_sealed(&daemon.store, name, now);
            let hint = "the key of a lease ends with it: lessor leases, lessor release";
            sealed.ok_or_else(|| unknown("this is no lasting key of this gateway".to_owned()).hint(hint))
        }
        Err(NoSuchKey::None) => {
            let days = LISTED_AFTER_END.as_secs() / 86_400;
            let message = format!("no gateway key has the id or label {name:?}");
            let hint = format!("list them: lessor gateway keys; ended ones are listed for {days} days");
            Err(unknown(message).hint(hint))
        }
    }
}

fn key_of_lease(daemon: &Daemon, lease: &str, params: &GatewayKeyParams) -> Result<GatewayKey, ErrorInfo> {
    if params.agent.is_some() || params.label.is_some() {
        return Err(bad("`agent` and `label` are set by the lease; give them only for a key without a lease"));
    }
    if params.ttl_ms.is_some() || params.max_leases.is_some() {
        return Err(bad(
            "the key of a lease ends with it; give `ttl_ms` and `max_leases` only for a key without a lease",
        ));
    }
    let fence = fence_of(daemon, &IssuedLeases::default(), lease, None)?;
    let state = &mut *daemon.state();
    let first: Fence = state.key_holder_of(fence).ok_or_else(lease_ended)?;
    let process = match state.pool.lease(fence).ok_or_else(lease_ended)?.bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => None,
    };
    Ok(GatewayKey::Lease { fence: first, process, directory: params.directory.as_deref().map(Into::into) })
}

/// A new lasting key, and what is stored of it.
fn key_of_client(
    params: GatewayKeyParams,
    directory: Option<&str>,
    now: Wall,
) -> Result<(String, GatewayKeyRecord), ErrorInfo> {
    let GatewayKeyParams { agent, label, ttl_ms, max_leases, directory: _, lease: _ } = params;
    for (name, text) in [("agent", &agent), ("label", &label)] {
        if text.as_ref().is_some_and(|text| text.len() > LONGEST_NAME) {
            return Err(bad(format!("`{name}` may have {LONGEST_NAME} bytes")));
        }
    }
    if ttl_ms.is_some_and(|ttl| ttl == 0 || ttl > LONGEST_TTL) {
        return Err(bad("`ttl_ms` must be at least 1, and at most 100 years"));
    }
    if max_leases.is_some_and(|most| most == 0 || most > MOST_LEASES) {
        return Err(bad(format!("`max_leases` must be from 1 to {MOST_LEASES}")));
    }
    if label.as_deref().is_some_and(looks_like_key) {
        return Err(bad("`label` looks like a gateway key; a label is shown to people"));
    }
    let random = |error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}"));
    let mut bytes = zeroize::Zeroizing::new([0; LASTING_KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(random)?;
    let text = lasting_key(&bytes);
    let name = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Into::into);
    let record = GatewayKeyRecord {
        hash: key_hash(&text),
        client: getrandom::u64().map_err(random)?,
        label: name(label),
        agent: name(agent),
        sealed: false,
        listed_at: now,
        expires_at: ttl_ms.map(|ttl| Wall(now.0.saturating_add(ttl))),
        max_leases,
        directory: directory.map(Into::into),
        last_used_at: None,
        revoked_at: None,
    };
    Ok((text, record))
}
