//! Compares the agent that a gateway client states with the program behind its connection, which is looked up at most
//! once for each connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::GatewayHandle;
use super::client::GatewayClient;
use super::sender::KnownSender;
use crate::daemon::attest::{Lookups, StatedAgent, compare, process_of};
use crate::daemon::os::clock;
use crate::daemon::os::peer_process::{Ancestry, RunningProgram, ancestry, ancestry_of_tcp_peer};
use crate::daemon::os::tcp_peer::find_tcp_peer;
use crate::daemon::state::State;
use crate::pool::{AccountId, AttestPolicy, Attestation, Fence, Process};

/// The other end of a gateway connection.
#[derive(Debug)]
pub struct GatewayPeer {
    pub(super) end: PeerEnd,
    ancestry: OnceCell<Vec<RunningProgram>>,
    /// The last comparison, and the version of the configuration that it was made with.
    last: Mutex<Option<(StatedAgent, u64, Attestation)>>,
    /// How many lookups have failed.
    failures: AtomicU32,
    /// Whether it was compared for a warning.
    is_compared: AtomicBool,
    /// The sender of its requests, for their records.
    pub(super) sender: Mutex<KnownSender>,
}

/// After so many failures a connection is not looked up again.
const MOST_FAILURES: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) enum PeerEnd {
    /// The addresses of this end and of the other one.
    Tcp(SocketAddr, SocketAddr),
    /// The process that connected.
    Process(Process),
    Unknown,
}

impl GatewayPeer {
    /// Of a TCP connection with these addresses, this end's and the other one's.
    #[must_use]
    pub fn tcp(addresses: Option<(SocketAddr, SocketAddr)>) -> Arc<Self> {
        Self::new(addresses.map_or(PeerEnd::Unknown, |(own, peer)| PeerEnd::Tcp(own, peer)))
    }

    /// Of a connection to the Unix socket, by the process that has just connected.
    #[must_use]
    pub fn local(pid: Option<u32>) -> Arc<Self> {
        Self::new(pid.and_then(process_of).map_or(PeerEnd::Unknown, PeerEnd::Process))
    }

    /// Whether it is a program of this user, or one whose user the system does not tell.
    #[must_use]
    pub fn may_be_of_this_user(&self) -> bool {
        match self.end {
            PeerEnd::Tcp(own, peer) => find_tcp_peer(own, peer).is_none_or(|peer| peer.is_of_this_user()),
            PeerEnd::Process(_) | PeerEnd::Unknown => true,
        }
    }

    fn new(end: PeerEnd) -> Arc<Self> {
        let (failures, is_compared) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Self {
            end,
            ancestry: OnceCell::new(),
            last: Mutex::default(),
            failures,
            is_compared,
            sender: Mutex::default(),
        })
    }

    /// The processes behind the connection; looked up on another thread, again after a failure that may pass.
    pub(super) async fn ancestry(&self, lookups: &Lookups) -> Ancestry {
        let end = self.end;
        let lookup = || async move {
            if self.failures.load(Ordering::Relaxed) >= MOST_FAILURES {
                return Err("the system has not told which process has the other end of the connection".into());
            }
            let found =
                lookups.run(move || end.ancestry()).await.unwrap_or_else(|| Err("the lookup has failed".into()));
            if found.is_err() {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            found
        };
        self.ancestry.get_or_try_init(lookup).await.cloned()
    }

    fn known(&self, stated: &StatedAgent, version: u64) -> Option<Attestation> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, _, attested) = last.as_ref().filter(|(known, at, _)| known == stated && *at == version)?;
        Some(attested.clone())
    }
}

impl PeerEnd {
    fn ancestry(self) -> Ancestry {
        match self {
            Self::Tcp(own, peer) => ancestry_of_tcp_peer(own, peer),
            Self::Process(process) => match ancestry(process.pid) {
                Ok(found) if found.first().is_some_and(|first| first.process == process) => Ok(found),
                _ => Err("the process that made the connection has ended".into()),
            },
            Self::Unknown => Err("the system does not tell which process made the connection".into()),
        }
    }
}

impl GatewayHandle {
    /// How the program of a request compares with the agent that its client states; compared only where an account
    /// depends on it.
    pub(super) async fn attest(&self, client: &GatewayClient, peer: &GatewayPeer) -> Attestation {
        if !self.daemon.attest.is_strict() {
            return Attestation::Later;
        }
        let stated = self.state().stated_agent(client);
        match stated {
            Some(stated) => self.compared(peer, stated).await,
            // without an agent it gets no account that depends on it
            None => Attestation::Later,
        }
    }

    /// The same, as far as it is known.
    pub(super) fn known_attestation(&self, client: &GatewayClient, peer: &GatewayPeer) -> Attestation {
        if !self.daemon.attest.is_strict() {
            return Attestation::Later;
        }
        let stated = self.state().stated_agent(client);
        stated.and_then(|stated| peer.known(&stated, self.config_version())).unwrap_or_default()
    }

    /// Notes, in the background, if the program of a request that was leased an account is not the agent that its client
    /// states.
    pub(super) fn attest_later(&self, client: &GatewayClient, peer: &Arc<GatewayPeer>, account: AccountId) {
        if peer.is_compared.load(Ordering::Relaxed) {
            return;
        }
        // with others under way, the next request of the connection is soon enough
        let Some(room) = self.daemon.attest.for_warnings.try_enter() else { return };
        if peer.is_compared.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(stated) = self.state().stated_agent(client) else { return };
        let (handle, peer) = (self.clone(), peer.clone());
        tokio::spawn(async move {
            let _room = room;
            if let Attestation::Differs(program) = handle.compared(&peer, stated.clone()).await {
                handle.state().note_difference(clock::now().wall, account, &stated.agent, &program);
            }
        });
    }

    async fn compared(&self, peer: &GatewayPeer, stated: StatedAgent) -> Attestation {
        let version = self.config_version();
        if let Some(known) = peer.known(&stated, version) {
            return known;
        }
        let (daemon, agent) = (self.daemon.clone(), stated.agent.clone());
        let lookups = &self.daemon.attest.lookups;
        let programs = lookups.run(move || daemon.configured_programs(&agent)).await;
        let attested = compare(&peer.ancestry(lookups).await, &stated, &programs.unwrap_or_default());
        if !matches!(attested, Attestation::Unknown(_)) || peer.failures.load(Ordering::Relaxed) >= MOST_FAILURES {
            let mut last = peer.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((stated, version, attested.clone()));
        }
        attested
    }

    fn config_version(&self) -> u64 {
        *self.daemon.config_version.borrow()
    }
}

impl State {
    /// The agent that a client's key or lease names, and the process of its lease.
    fn stated_agent(&mut self, client: &GatewayClient) -> Option<StatedAgent> {
        let Some((fence, process)) = client.lease else {
            return Some(StatedAgent { agent: client.agent.clone()?, process: None });
        };
        let first = self.key_holder(fence, process)?;
        let request = &self.key_holders.get(first)?.request;
        Some(StatedAgent { agent: request.agent.clone()?, process: process.or(request.holder.process) })
    }

    /// Whether the lease of a key's holder is on an account that is not for the program of a request with this key.
    pub(super) fn is_withheld(&self, first: Fence, provider: &str, attested: &Attestation) -> bool {
        let lease = self.key_holders.get(first).and_then(|holder| self.pool.lease(holder.lease_of(provider)?));
        // what is not compared yet is so when it gets an account
        *attested != Attestation::Later && lease.is_some_and(|lease| !self.may_be_used(lease.account, attested))
    }

    /// Whether an account serves a request of a program that compares so.
    pub(super) fn may_be_used(&self, account: AccountId, attested: &Attestation) -> bool {
        self.pool.account(account).is_none_or(|account| account.may_be_handed_to(attested))
    }

    /// Whether a difference is noted for an account: it believes what programs state.
    pub(super) fn is_declared(&self, account: AccountId) -> bool {
        self.pool.account(account).is_some_and(|account| account.attest() == Some(AttestPolicy::Declared))
    }
}
