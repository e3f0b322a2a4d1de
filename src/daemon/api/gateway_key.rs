//! `gateway.key`: keys for the clients of the gateway.

use super::reply::{CallReply, CallResult, lease_ended};
use super::{lease::fence_of, session::bad};
use crate::daemon::state::{Daemon, GatewayState};
use crate::pool::{Bind, Fence};
use crate::protocol::{
    Answer, ErrorInfo, ErrorKind, GatewayAccess, GatewayKey, GatewayKeyParams, LeaseRef, SecretText,
};

/// The longest agent or label in a key, in bytes.
const LONGEST_NAME: usize = 64;

/// Creates a key for a lease, or for a client without one.
pub fn gateway_key(daemon: &Daemon, reply: &mut CallReply<'_>, params: GatewayKeyParams) -> CallResult {
    let key = match &params.lease {
        Some(lease) => key_of_lease(daemon, lease, &params)?,
        None => key_of_client(params)?,
    };
    let GatewayState { url, socket, trouble } = daemon.state().gateway.clone();
    let key = SecretText(daemon.gateway_keys.seal(&key).into());
    reply.answer(&Answer::GatewayAccess(GatewayAccess { key, url, socket, trouble }))
}

fn key_of_lease(daemon: &Daemon, lease: &str, params: &GatewayKeyParams) -> Result<GatewayKey, ErrorInfo> {
    if params.agent.is_some() || params.label.is_some() {
        return Err(bad("`agent` and `label` are set by the lease; give them only for a key without a lease"));
    }
    let fence = fence_of(daemon, &LeaseRef { lease: lease.to_owned(), fence: None })?;
    let state = &mut *daemon.state();
    let first: Fence = state.key_holder_of(fence).ok_or_else(lease_ended)?;
    let process = match state.pool.lease(fence).ok_or_else(lease_ended)?.bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => None,
    };
    Ok(GatewayKey::Lease { fence: first, process, directory: params.directory.as_deref().map(Into::into) })
}

fn key_of_client(params: GatewayKeyParams) -> Result<GatewayKey, ErrorInfo> {
    if params.directory.is_some() {
        return Err(bad("`directory` is for the key of a lease"));
    }
    for (name, text) in [("agent", &params.agent), ("label", &params.label)] {
        if text.as_ref().is_some_and(|text| text.len() > LONGEST_NAME) {
            return Err(bad(format!("`{name}` may have {LONGEST_NAME} bytes")));
        }
    }
    let random = |error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}"));
    let id = getrandom::u64().map_err(random)?;
    let text = |text: Option<String>| text.map(String::into_boxed_str);
    Ok(GatewayKey::Client { id, agent: text(params.agent), label: text(params.label) })
}
