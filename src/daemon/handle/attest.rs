//! Compares the agent that a gateway client states with the program behind its connection; of a client that states none,
//! the program tells it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::GatewayHandle;
use super::client::GatewayClient;
use super::peer::{GatewayPeer, MOST_FAILURES, RecognisedAgents};
use crate::daemon::attest::{StatedAgent, compare};
use crate::daemon::os::clock;
use crate::daemon::state::State;
use crate::pool::{AccountId, AttestPolicy, Attestation};
use crate::provider::{Program, known_agents};

impl GatewayHandle {
    /// How the program of a request compares with the agent that its client states; compared only where an account
    /// depends on it.
    pub(super) async fn attest(&self, client: &GatewayClient, peer: &GatewayPeer) -> Attestation {
        if !self.daemon.attest.is_strict() {
            return Attestation::Later;
        }
        if self.is_guest(client) {
            return Attestation::Unknown("it runs on another machine or in a container".into());
        }
        let stated = self.state().stated_agent(client);
        match stated {
            // boxed: each request's future has room for this one, and few are compared
            Some(stated) => Box::pin(self.compared(peer, stated)).await,
            // without an agent it gets no account that depends on it
            None => Attestation::Later,
        }
    }

    /// Whether the client has the key of a guest's lease: the program at the other end only passes on what it sends.
    #[must_use]
    pub fn is_guest(&self, client: &GatewayClient) -> bool {
        let Some((fence, process)) = client.lease else { return false };
        let state = &mut *self.state();
        let holder = state.key_holder(fence, process).and_then(|first| state.key_holders.get(first));
        let process = process.or(holder.and_then(|holder| holder.request.holder.process));
        process.is_some_and(|process| process.guest().is_some())
    }

    /// The same, as far as it is known.
    pub(super) fn known_attestation(&self, client: &GatewayClient, peer: &GatewayPeer) -> Attestation {
        if !self.daemon.attest.is_strict() {
            return Attestation::Later;
        }
        if self.is_guest(client) {
            return Attestation::Unknown("it runs on another machine or in a container".into());
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
        if peer.is_compared.swap(true, Ordering::Relaxed) || self.is_guest(client) {
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

    /// The client with the agent that its program is recognised as, if it has no key. Only the process that made the
    /// connection counts: there is no lease that says up to which process above it the agent is.
    pub async fn recognised(&self, client: GatewayClient, peer: &GatewayPeer, provider: &str) -> GatewayClient {
        if client.has_key() {
            return client;
        }
        let found = peer.ancestry(&self.daemon.attest.lookups).await;
        let nearest = found.as_ref().ok().and_then(|all| all.first());
        let program = match (nearest.and_then(|running| running.program.clone()), found.as_ref().err()) {
            (Some(program), _) => program,
            (None, why) => {
                let why = why.map_or("the system does not tell which program it is", |why| &**why);
                return GatewayClient { program: Some(why.into()), ..client };
            }
        };
        let words = program.in_words();
        let agents = self.agents_of(program, peer).await;
        let agent = match &agents[..] {
            [] => None,
            [only] => Some((&**only).into()),
            all => Some(self.state().agent_for(provider, all).into()),
        };
        GatewayClient { agent, program: Some(words.into()), ..client }
    }

    /// The agents that a program is recognised as: those that are built in, and those of the configuration.
    async fn agents_of(&self, program: Program, peer: &GatewayPeer) -> Arc<[Box<str>]> {
        let version = self.config_version();
        let known = peer.agents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.version == version) {
            return known.agents;
        }
        let daemon = self.daemon.clone();
        let lookup = move || -> Arc<[Box<str>]> {
            let mut names: Vec<String> = daemon.state().config.config.agents.keys().cloned().collect();
            names.extend(known_agents().map(str::to_owned).filter(|name| !names.contains(name)).collect::<Vec<_>>());
            let is_it = |name: &String| program.is_agent(name, &daemon.configured_programs(name));
            names.into_iter().filter(is_it).map(String::into_boxed_str).collect()
        };
        let Some(agents) = self.daemon.attest.lookups.run(lookup).await else { return Arc::default() };
        *peer.agents.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(RecognisedAgents { version, agents: agents.clone() });
        agents
    }

    fn config_version(&self) -> u64 {
        *self.daemon.config_version.borrow()
    }
}

impl State {
    /// Of several agents that a program is recognised as, one that an account of the provider is for.
    fn agent_for(&self, provider: &str, agents: &[Box<str>]) -> Box<str> {
        let accounts = || self.pool.accounts().iter().filter(|account| account.record.provider == provider);
        let is_named =
            |agent: &str| accounts().any(|account| account.attest().is_some() && account.allows(Some(agent)));
        agents.iter().find(|agent| is_named(agent)).or(agents.first()).cloned().unwrap_or_default()
    }

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
