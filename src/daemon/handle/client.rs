//! The client of a gateway request, by the key that it sends.

use super::GatewayHandle;
use crate::pool::{ConnectionId, Fence, Process};
use crate::protocol::GatewayKey;

/// The first id of the gateway's connections; those of the socket never get this high.
const FIRST_CONNECTION: u64 = 1 << 62;

/// The id of all clients without a key.
const NO_KEY: u64 = 0;

/// A client of the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayClient {
    /// The fence in a lease's key and the process that the lease was bound to.
    pub(super) lease: Option<(Fence, Option<Process>)>,
    /// Distinguishes clients without a lease.
    pub(super) id: u64,
    /// The agent that a key without a lease names.
    pub(super) agent: Option<Box<str>>,
    /// A name for people, from a key without a lease.
    pub(super) label: Option<Box<str>>,
    /// The directory that it works in.
    pub directory: Option<Box<str>>,
}

impl GatewayClient {
    /// Whether it is known by a key.
    pub(super) fn has_key(&self) -> bool {
        self.id != NO_KEY
    }

    /// The session of requests that name none: all requests with one key belong to one session. Clients without a key
    /// cannot be distinguished.
    pub(crate) fn default_session(&self) -> Option<Box<str>> {
        self.has_key().then(|| format!("key:{:x}", self.id).into())
    }
}

impl GatewayHandle {
    /// The client that a key was made for; `None` if the key is not one of this daemon. Whether a lease's key is still
    /// valid is checked with each lease.
    #[must_use]
    pub fn client(&self, key: &str) -> Option<GatewayClient> {
        Some(match self.daemon.gateway_keys.open(key)? {
            GatewayKey::Client { id, agent, label } => GatewayClient { lease: None, id, agent, label, directory: None },
            GatewayKey::Lease { fence, process, directory } => {
                GatewayClient { lease: Some((fence, process)), id: fence.0, agent: None, label: None, directory }
            }
        })
    }

    /// A client without a key: it connected to the user's own socket.
    #[must_use]
    pub fn local_client(&self) -> GatewayClient {
        GatewayClient { lease: None, id: NO_KEY, agent: None, label: None, directory: None }
    }

    /// Whether a client's key is still valid: a lease's key ends with the lease.
    #[must_use]
    pub fn is_valid(&self, client: &GatewayClient) -> bool {
        client.lease.is_none_or(|(fence, process)| self.state().key_holder(fence, process).is_some())
    }

    /// The agent that the client's key or lease names.
    #[must_use]
    pub fn agent_of(&self, client: &GatewayClient) -> Option<Box<str>> {
        let of_lease = || {
            let (fence, process) = client.lease?;
            let state = &mut *self.state();
            let holder = state.key_holder(fence, process)?;
            state.key_holders.get(holder)?.request.agent.clone()
        };
        client.agent.clone().or_else(of_lease)
    }

    /// The id of the gateway's `number`th connection.
    #[must_use]
    pub fn connection(&self, number: u64) -> ConnectionId {
        ConnectionId(FIRST_CONNECTION + number)
    }
}
