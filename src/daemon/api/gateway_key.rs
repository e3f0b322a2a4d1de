//! Keys to the gateway, and what is known of it.

use crate::pool::{Bind, Fence};
use crate::protocol::{
    Answer, ErrorInfo, GatewayAccess, GatewayInfo, GatewayKey, GatewayKeyParams, LeaseRef, RequestId, SecretText,
};

use crate::daemon::api::dispatch::{CallResult, ClientSession, bad};
use crate::daemon::api::lease::live_fence;
use crate::daemon::state::Daemon;

/// The longest name that a key carries.
const LONGEST_NAME: usize = 64;

/// Where the gateway listens, and why not everywhere it should.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GatewayState {
    /// `http://HOST:PORT`
    pub url: Option<String>,
    /// Its Unix socket.
    pub socket: Option<String>,
    /// Why it does not listen everywhere it should.
    pub trouble: Option<String>,
}

impl GatewayState {
    /// For `status`.
    pub(crate) fn told(&self) -> Option<GatewayInfo> {
        let info = GatewayInfo { url: self.url.clone(), socket: self.socket.clone() };
        (info != GatewayInfo::default()).then_some(info)
    }
}

impl ClientSession {
    pub(crate) fn gateway_key(
        &self,
        daemon: &Daemon,
        id: &RequestId,
        params: GatewayKeyParams,
        out: &mut Vec<u8>,
    ) -> CallResult {
        let pass = match &params.lease {
            Some(lease) => pass_of_lease(daemon, lease, &params)?,
            None => pass_of_client(params)?,
        };
        let GatewayState { url, socket, trouble } = daemon.state().gateway.clone();
        let key = SecretText(daemon.pass_key.seal(&pass).into());
        self.codec.answer(id, &Answer::GatewayAccess(GatewayAccess { key, url, socket, trouble }), out);
        Ok(())
    }
}

fn pass_of_lease(daemon: &Daemon, lease: &str, params: &GatewayKeyParams) -> Result<GatewayKey, ErrorInfo> {
    if params.agent.is_some() || params.label.is_some() {
        return Err(bad("`agent` and `label` are the lease's own; they are for a key without one"));
    }
    let fence = live_fence(daemon, &LeaseRef { lease: lease.to_owned(), fence: None })?;
    let state = &mut *daemon.state();
    let ended = || ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
    let first: Fence = state.run_of(fence).ok_or_else(ended)?;
    let process = match state.pool.lease(fence).ok_or_else(ended)?.bind {
        Bind::Process(process) => Some(process),
        Bind::Connection(_) | Bind::Ttl => None,
    };
    Ok(GatewayKey::Lease { fence: first, process, directory: params.directory.as_deref().map(Into::into) })
}

fn pass_of_client(params: GatewayKeyParams) -> Result<GatewayKey, ErrorInfo> {
    if params.directory.is_some() {
        return Err(bad("`directory` is for the key of a lease"));
    }
    for (name, text) in [("agent", &params.agent), ("label", &params.label)] {
        if text.as_ref().is_some_and(|text| text.len() > LONGEST_NAME) {
            return Err(bad(format!("`{name}` may have {LONGEST_NAME} bytes")));
        }
    }
    let random = |error| ErrorInfo::new("internal", format!("no random number could be had: {error}"));
    let id = getrandom::u64().map_err(random)?;
    let text = |text: Option<String>| text.map(String::into_boxed_str);
    Ok(GatewayKey::Client { id, agent: text(params.agent), label: text(params.label) })
}
