//! Compares the program at the other end of a socket connection with the agent that a lease states, before the lease's
//! credential is handed to it.

use std::sync::Arc;

use super::session::Session;
use crate::daemon::attest::{StatedAgent, compare};
use crate::daemon::os::clock;
use crate::daemon::os::peer_process::{ancestry_until, resolved};
use crate::daemon::state::Daemon;
use crate::pool::{AccountId, AttestPolicy, Attestation, Command, ConnectionId, Fence, Process};
use crate::protocol::AcquireParams;

impl Session {
    /// How the program that asks for a lease, and for its credential, compares with the agent that it states; `process`
    /// is the one that the lease will belong to.
    pub(super) fn attest(
        &self,
        daemon: &Daemon,
        params: &AcquireParams<&str>,
        process: Option<Process>,
    ) -> Attestation {
        let Some(agent) = params.agent.filter(|_| params.credential) else { return Attestation::Later };
        let stated = StatedAgent { agent: agent.into(), process };
        if daemon.attest.is_strict() {
            return daemon.attest_process(self.pid, &stated);
        }
        if let Some(daemon) = daemon.daemon() {
            daemon.attest_later(self.connection, self.pid, stated, params.provider);
        }
        Attestation::Later
    }

    /// How it compares with the agents of the account that a lease from before a restart is on.
    pub(super) fn attest_resumed(&self, daemon: &Daemon, account: AccountId) -> Attestation {
        if !daemon.attest.is_strict() {
            return Attestation::Later;
        }
        let agents =
            daemon.state().pool.account(account).and_then(|account| account.allowed_agents().map(<[_]>::to_vec));
        let process = self.holder.as_ref().and_then(|holder| holder.process);
        let compared = agents
            .into_iter()
            .flatten()
            .map(|agent| daemon.attest_process(self.pid, &StatedAgent { agent: agent.into(), process }));
        // matching one of them suffices; otherwise all give the same reason
        compared.fold(Attestation::Later, |found, next| if found == Attestation::Matches { found } else { next })
    }

    /// Before a call that may hand out the credential of a lease, or asks for it: compares the program that makes it.
    pub(super) fn attest_call(&self, daemon: &Arc<Daemon>, id: &str, is_credential: bool) {
        let is_strict = daemon.attest.is_strict();
        if !is_strict && !is_credential {
            return;
        }
        let Some(fence) = daemon.lease_key.fence(id) else { return };
        let Some((stated, provider)) = stated_in(daemon, fence) else { return };
        if is_strict {
            let attested = match daemon.attest_process(self.pid, &stated) {
                // another program may renew and report a lease of the agent; it does not get the credential
                attested if !is_credential && attested != Attestation::Matches => Attestation::Later,
                attested => attested,
            };
            daemon.state().apply_internal(clock::now(), Command::Attest(fence, attested));
        } else {
            daemon.attest_later(self.connection, self.pid, stated, &provider);
        }
    }
}

/// The agent of a lease on an account that only some may hold, and the account's provider.
fn stated_in(daemon: &Daemon, fence: Fence) -> Option<(StatedAgent, String)> {
    let state = &*daemon.state();
    let lease = state.pool.lease(fence)?;
    let agent = lease.agent.clone()?;
    let process = lease.bind.process().or(lease.holder.process);
    Some((StatedAgent { agent, process }, lease.target.provider.to_string()))
}

impl Daemon {
    /// The programs that the configuration adds to an agent, with their links followed.
    pub(crate) fn configured_programs(&self, agent: &str) -> Vec<String> {
        let configured = self.state().config.config.agents.get(agent).map(|section| section.programs.clone());
        configured.map(|programs| resolved(&programs)).unwrap_or_default()
    }

    /// How the process at the other end of a socket connection compares; for a lease of another process, that process
    /// counts, too.
    pub(crate) fn attest_process(&self, pid: Option<u32>, stated: &StatedAgent) -> Attestation {
        let programs = self.configured_programs(&stated.agent);
        let unknown = || Err("the system does not tell which process made the connection".into());
        let nearest = |pid| ancestry_until(pid, |process| stated.process.is_none_or(|last| process == last));
        let attested = compare(&pid.map_or_else(unknown, nearest), stated, &programs);
        let other = stated.process.filter(|other| attested != Attestation::Matches && Some(other.pid) != pid);
        let other = other.map(|other| (other, nearest(other.pid)));
        match other {
            Some((other, Ok(all))) if all.first().is_some_and(|first| first.process == other) => {
                match compare(&Ok(all), stated, &programs) {
                    Attestation::Matches => Attestation::Matches,
                    _ => attested,
                }
            }
            _ => attested,
        }
    }

    /// Compares on another thread and notes a difference, once for each connection and agent.
    pub(crate) fn attest_later(
        self: &Arc<Self>,
        connection: ConnectionId,
        pid: Option<u32>,
        stated: StatedAgent,
        provider: &str,
    ) {
        let Some(room) = pid.and_then(|_| self.attest.begin(connection, &stated)) else { return };
        let (daemon, provider) = (self.clone(), provider.to_owned());
        self.runtime.spawn_blocking(move || {
            let _room = room;
            if let Attestation::Differs(program) = daemon.attest_process(pid, &stated) {
                daemon.note_difference(&stated, &program, &provider);
            }
        });
    }

    /// Notes that a program is not the agent that it states, if accounts of the provider believe it.
    fn note_difference(&self, stated: &StatedAgent, program: &Arc<str>, provider: &str) {
        let state = &mut *self.state();
        let believes = |id: &AccountId| {
            state.pool.account(*id).is_some_and(|account| {
                account.attest() == Some(AttestPolicy::Declared) && account.allows(Some(&stated.agent))
            })
        };
        let leased = state.pool.leases().filter(|lease| lease.agent.as_deref() == Some(&stated.agent));
        let leased = leased.filter(|lease| lease.holder.process == stated.process && stated.process.is_some());
        let of_provider = state.pool.accounts().iter().filter(|account| account.record.provider == provider);
        let account = leased
            .map(|lease| lease.account)
            .find(believes)
            .or_else(|| of_provider.map(|account| account.record.id).find(believes));
        if let Some(account) = account {
            state.note_difference(clock::now().wall, account, &stated.agent, program);
        }
    }
}
