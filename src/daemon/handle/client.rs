//! The client of a gateway request, by the key that it sends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::GatewayHandle;
use super::no_account::{FoundProgram, NoAccount};
use super::peer::GatewayPeer;
use crate::config::directory::comparable;
use crate::daemon::os::clock;
use crate::daemon::state::gateway_keys::{InvalidKey, ValidKey};
use crate::daemon::state::{FIRST_GATEWAY_CONNECTION, KeyUse, LastingKey};
use crate::pool::{Account, AccountId, ConnectionId, Fence, LoginState, Process, Refusal, RefusalKind};

/// The id of all clients without a key.
const NO_KEY: u64 = 0;

/// A client of the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayClient {
    /// Its lasting key.
    pub(super) key: Option<Arc<LastingKey>>,
    /// The fence in a lease's key and the process that the lease was bound to.
    pub(super) lease: Option<(Fence, Option<Process>)>,
    /// Distinguishes clients without a lease.
    pub(super) id: u64,
    /// The session of requests that name none.
    pub(super) session: Option<Arc<str>>,
    /// The agent that a key without a lease names, or as which the program of a client without a key is recognised.
    pub(super) agent: Option<Arc<str>>,
    /// The program of a client without a key, or why it is not known.
    pub(super) program: Option<Box<str>>,
    /// A name for people, from a key without a lease.
    pub(super) label: Option<Arc<str>>,
    /// The directory that it works in.
    pub directory: Option<Arc<str>>,
}

/// The key of a request was revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyRevoked;

impl GatewayClient {
    /// Whether its key is that of a lease.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether it is known by a key.
    pub(super) fn has_key(&self) -> bool {
        self.id != NO_KEY
    }

    /// The program that it was found to be, as it has no key.
    pub(super) fn found_program(&self) -> Option<FoundProgram<'_>> {
        Some(FoundProgram { agent: self.agent.as_deref(), words: self.program.as_deref()? })
    }

    /// Turns true when its key is revoked; a client without a lasting key has none.
    pub(crate) fn revocation(&self) -> Option<watch::Receiver<bool>> {
        self.key.as_ref().map(|key| key.revocation())
    }

    /// Waits until its key has room for a request.
    ///
    /// # Errors
    /// When the key was revoked.
    pub(crate) async fn begin(&self) -> Result<Option<KeyUse>, KeyRevoked> {
        match &self.key {
            Some(key) => key.begin().await.map(Some).ok_or(KeyRevoked),
            None => Ok(None),
        }
    }

    /// Why its key has no room for a request.
    pub(crate) fn no_room(&self) -> NoAccount {
        let limit = self.key.as_ref().and_then(|key| Some((key.name(), key.record().max_leases?)));
        let message = limit.map_or_else(
            || "the gateway key is in use".to_owned(),
            |(name, most)| {
                let requests = if most == 1 { "1 request" } else { &format!("{most} requests") };
                format!("the gateway key {name} serves {requests} at a time, and as many are running")
            },
        );
        let refusal =
            Refusal { kind: RefusalKind::NoCapacity, message, retry_at: None, accounts: Vec::new(), hint: None };
        NoAccount { refusal, accounts: Vec::new(), restricted: None }
    }

    /// The session of requests that name none: all requests with one key belong to one session. Clients without a key
    /// cannot be distinguished.
    pub(crate) fn default_session(&self) -> Option<&Arc<str>> {
        self.session.as_ref()
    }

    /// A client that is known by this id, of which nothing else is known.
    fn of(id: u64) -> Self {
        let session = (id != NO_KEY).then(|| format!("key:{id:x}").into());
        Self { key: None, lease: None, id, session, agent: None, program: None, label: None, directory: None }
    }
}

impl GatewayHandle {
    /// The client that a key was made for; `None` if the key is not valid, and the log says why. Whether a lease's key is
    /// still valid is checked with each lease.
    #[must_use]
    pub fn client(&self, key: &str) -> Option<GatewayClient> {
        let now = clock::now().wall;
        match self.daemon.gateway_keys.check(&self.daemon.store, key, now) {
            Ok(ValidKey::Lasting(key)) => {
                let record = key.record();
                let (agent, label, directory) = (record.agent.clone(), record.label.clone(), record.directory.clone());
                let client = GatewayClient::of(record.client);
                Some(GatewayClient { key: Some(key), agent, label, directory, ..client })
            }
            Ok(ValidKey::Lease(fence, process, directory)) => {
                Some(GatewayClient { lease: Some((fence, process)), directory, ..GatewayClient::of(fence.0) })
            }
            Err(why) => {
                if self.daemon.gateway_keys.is_logged(&why, now) {
                    tracing::warn!("a gateway request was refused: {}", in_words(&why));
                }
                None
            }
        }
    }

    /// Notes a request without any key.
    pub fn came_without_key(&self) {
        if self.daemon.gateway_keys.is_logged(&InvalidKey::Unknown, clock::now().wall) {
            tracing::warn!("a gateway request was refused: it has no key");
        }
    }

    /// Notes a request with the key of a lease that has ended.
    pub fn came_after_lease(&self) {
        if self.daemon.gateway_keys.is_ended_lease_logged(clock::now().wall) {
            tracing::info!("a gateway request was refused: the lease of its key has ended");
        }
    }

    /// A client without a key: it connected to the user's own socket.
    #[must_use]
    pub fn local_client(&self) -> GatewayClient {
        GatewayClient::of(NO_KEY)
    }

    /// Whether the key that a client was found by still stands for it: that of a lease is checked with each lease.
    #[must_use]
    pub fn serves_again(&self, client: &GatewayClient) -> bool {
        client.key.as_ref().is_none_or(|key| key.note_use(clock::now().wall))
    }

    /// Whether a client's key is still valid: a lease's key ends with the lease.
    #[must_use]
    pub fn is_valid(&self, client: &GatewayClient) -> bool {
        client.key.as_ref().is_none_or(|key| key.is_valid(clock::now().wall))
            && client.lease.is_none_or(|(fence, process)| self.state().key_holder(fence, process).is_some())
    }

    /// Whether a client still uses this account between two requests: its key is valid, the account serves, and the lease
    /// of the key, if it has one and the client `follows` it, is on it.
    #[must_use]
    pub fn uses_account(&self, client: &GatewayClient, provider: &str, (account, follows): (AccountId, bool)) -> bool {
        if client.key.as_ref().is_some_and(|key| !key.is_valid(clock::now().wall)) {
            return false;
        }
        let state = &mut *self.state();
        let serves = |found: &Account| found.enabled() && found.record.login_state == LoginState::Ready;
        if !state.pool.account(account).is_some_and(serves) {
            return false;
        }
        let Some((fence, process)) = client.lease else { return true };
        let Some(holder) = state.key_holder(fence, process) else { return false };
        let lease = state.key_holders.get(holder).and_then(|holder| holder.lease_of(provider));
        let lease = lease.and_then(|fence| state.pool.lease(fence));
        !follows || lease.is_none_or(|lease| lease.account == account)
    }

    /// The agent that the client's key or lease names.
    #[must_use]
    pub fn agent_of(&self, client: &GatewayClient) -> Option<Arc<str>> {
        let of_lease = || {
            let (fence, process) = client.lease?;
            let state = &mut *self.state();
            let holder = state.key_holder(fence, process)?;
            state.key_holders.get(holder)?.request.agent.clone()
        };
        client.agent.clone().or_else(of_lease)
    }

    /// The directory that a client works in, as `[directories]` compares directories: that of its key, or for a client
    /// without a key that of the process at the other end of its connection.
    pub(super) fn directory_of(&self, client: &GatewayClient, peer: &GatewayPeer) -> Option<Arc<str>> {
        if !self.daemon.directory_sets.load(Ordering::Acquire) {
            return None;
        }
        if client.has_key() {
            return comparable(Path::new(&**client.directory.as_ref()?)).map(Arc::from);
        }
        self.daemon.directory_of_process(peer.process()?.pid)
    }

    /// The id of the gateway's `number`th connection.
    #[must_use]
    pub fn connection(&self, number: u64) -> ConnectionId {
        ConnectionId(FIRST_GATEWAY_CONNECTION + number)
    }
}

/// Why a key is not valid, for the log.
fn in_words(why: &InvalidKey) -> String {
    match why {
        InvalidKey::Unknown => "its key is not known here".to_owned(),
        InvalidKey::Revoked(key) => format!("its key {} was revoked", key.name()),
        InvalidKey::Expired(key) => format!("its key {} has expired", key.name()),
        InvalidKey::NotListed(why) => format!("its key is not listed: {why}"),
    }
}
