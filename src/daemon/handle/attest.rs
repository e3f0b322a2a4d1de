//! Compares the agent that a gateway client states with the program behind its connection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::GatewayHandle;
use super::client::GatewayClient;
use super::peer::{GatewayPeer, MOST_FAILURES};
use crate::daemon::attest::{StatedAgent, compare};
use crate::daemon::os::clock;
use crate::daemon::state::State;
use crate::pool::{AccountId, AttestPolicy, Attestation};

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
        stated.and_then(|stated| peer.known_attestation(&stated, self.config_version())).unwrap_or_default()
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
        if let Some(known) = peer.known_attestation(&stated, version) {
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

    /// Whether an account serves a request of a program that compares so.
    pub(super) fn may_be_used(&self, account: AccountId, attested: &Attestation) -> bool {
        self.pool.account(account).is_none_or(|account| account.may_be_handed_to(attested))
    }

    /// Whether a difference is noted for an account: it believes what programs state.
    pub(super) fn is_declared(&self, account: AccountId) -> bool {
        self.pool.account(account).is_some_and(|account| account.attest() == Some(AttestPolicy::Declared))
    }
}
