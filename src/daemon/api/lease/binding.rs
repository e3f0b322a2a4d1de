//! What a lease is bound to, and the request for the pool that follows from a call.

use std::{sync::Arc, time::Duration};

use super::super::account_set::account_set;
use super::super::session::{Session, bad, find_account, target};
use crate::daemon::os::opened_process::OpenedProcess;
use crate::daemon::state::{Daemon, State};
use crate::pool::{Attestation, Bind, Holder, LeaseRequest};
use crate::protocol::{AcquireParams, BindTo, Call, ErrorInfo, ErrorKind, GuestHolder};

/// What a lease is bound to. Its process is looked up before the state is locked.
pub(super) struct LeaseBinding {
    to: BindTo,
    process: Option<OpenedProcess>,
    /// Of a guest: the holder that it vouches for, which no process of this system is.
    guest: Option<Holder>,
    /// How the program compares with the agent that it states.
    attested: Attestation,
    /// Where its holder works.
    directory: Option<Arc<str>>,
}

impl LeaseBinding {
    pub(super) fn find(session: &Session, daemon: &Daemon, params: &AcquireParams<&str>) -> Result<Self, ErrorInfo> {
        let to = params.bind;
        if let Some(guest) = &session.guest {
            // a process id or a directory that a guest names says nothing here
            let holder = guest.holder(daemon)?;
            let attested = guest.attestation();
            return Ok(Self { to, process: None, guest: Some(holder), attested, directory: None });
        }
        let process = match to {
            BindTo::Pid(pid) => Some(open_process(pid)?),
            BindTo::Connection | BindTo::Ttl => peer(session)?,
        };
        let known = || session.holder.as_ref().and_then(|holder| holder.process);
        let attested = session.attest(daemon, params, process.as_ref().map(OpenedProcess::process).or_else(known));
        let holder = process.as_ref().map(OpenedProcess::process).or_else(known).map(|process| process.pid);
        let directory = session.directory(daemon, params.directory, holder)?;
        Ok(Self { to, process, guest: None, attested, directory })
    }

    /// The request for the pool, and whether its holder also wants the credential.
    pub(super) fn request(
        &mut self,
        session: &mut Session,
        state: &mut State,
        params: &AcquireParams<&str>,
    ) -> Result<(LeaseRequest, bool), ErrorInfo> {
        let target = target(state, params.provider, params.model, params.pool)?;
        let hidden = |error| match &session.guest {
            Some(guest) => guest.without_other_accounts(state, error),
            None => error,
        };
        let exclude = params.exclude.iter().map(|name| find_account(state, name)).collect::<Result<_, _>>();
        let exclude = exclude.map_err(hidden)?;
        let set = account_set(state, params.only.as_deref(), self.directory.take()).map_err(hidden)?;
        let set = match &session.guest {
            Some(guest) => state.pool.set_of_guest(guest.id, set),
            None => set,
        };
        let is_guest = self.guest.is_some();
        let (bind, holder) = self.holder(session, state);
        let default_ttl = (is_guest && self.to == BindTo::Ttl).then(|| state.pool.settings().leases.ttl);
        let holder = Holder { attested: self.attested.clone(), ..holder };
        let request = LeaseRequest {
            target,
            connection: session.connection,
            bind,
            holder,
            ttl: params.ttl_ms.map(Duration::from_millis).or(default_ttl),
            session: params.session.map(Into::into),
            label: params.label.map(Into::into),
            agent: params.agent.map(Into::into),
            account: params.account.map(Into::into),
            exclude,
            set,
            priority: params.priority,
            wait: params.wait_ms.map(Duration::from_millis),
            exclusive: params.exclusive,
            request_id: params.request_id.map(Into::into),
            subagent: None,
        };
        Ok((request, params.credential))
    }

    /// What ends the lease, and which process holds it.
    fn holder(&mut self, session: &mut Session, state: &mut State) -> (Bind, Holder) {
        if let Some(holder) = self.guest.take() {
            return (holder.process.map_or(Bind::Connection(session.connection), Bind::Process), holder);
        }
        match self.to {
            BindTo::Connection => (Bind::Connection(session.connection), connected(session, state, &mut self.process)),
            BindTo::Ttl => (Bind::Ttl, connected(session, state, &mut self.process)),
            BindTo::Pid(_) => {
                let holder = state.processes.watch(&mut self.process).unwrap_or_default();
                (holder.process.map_or(Bind::Connection(session.connection), Bind::Process), holder)
            }
        }
    }
}

/// Of a call that goes to a host: the holder here that its lease will belong to, watched from now on.
pub(in crate::daemon::api) fn local_holder(
    session: &mut Session,
    daemon: &Daemon,
    call: &Call,
) -> Result<Option<GuestHolder>, ErrorInfo> {
    let bind = match call {
        Call::Acquire(params) | Call::Token(params) => params.bind,
        Call::Resume(_) => BindTo::Connection,
        _ => return Ok(None),
    };
    let link = &daemon.host_link;
    match bind {
        BindTo::Ttl => Ok(Some(link.own_holder(std::process::id()))),
        BindTo::Pid(pid) => {
            let mut opened = Some(open_process(pid)?);
            let state = &mut *daemon.state();
            let holder = state.processes.watch(&mut opened).unwrap_or_default();
            let Some(process) = holder.process else { return Ok(None) };
            state.processes.bind(process);
            Ok(Some(link.process_holder(process, holder.program.as_deref())))
        }
        BindTo::Connection => {
            let mut opened = peer(session)?;
            let state = &mut *daemon.state();
            let holder = connected(session, state, &mut opened);
            Ok(Some(link.connection_holder(session.connection, session.pid, holder.program.as_deref())))
        }
    }
}

/// A process that a lease is to be bound to.
fn open_process(pid: u32) -> Result<OpenedProcess, ErrorInfo> {
    let opened = OpenedProcess::open(pid).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ErrorInfo::new(ErrorKind::NotAllowed, format!("process {pid} belongs to another user"))
        }
        _ => ErrorInfo::new(ErrorKind::Overloaded, format!("process {pid} cannot be watched: {error}")),
    })?;
    opened.ok_or_else(|| bad(format!("there is no process {pid}")))
}

/// The process at the other end of the connection, opened before its first lease.
pub(super) fn peer(session: &Session) -> Result<Option<OpenedProcess>, ErrorInfo> {
    let Some(pid) = session.pid.filter(|_| session.holder.is_none()) else { return Ok(None) };
    match OpenedProcess::open(pid) {
        Ok(Some(opened)) => Ok(Some(opened)),
        Ok(None) => Err(bad("the process that made this connection has ended")),
        Err(error) => {
            tracing::warn!(pid, "a holder cannot be watched; its leases end with its connection: {error}");
            Ok(None)
        }
    }
}

/// The holder at the other end, watched from its first lease on: after its end a child may keep the connection open.
pub(super) fn connected(session: &mut Session, state: &mut State, process: &mut Option<OpenedProcess>) -> Holder {
    if let Some(holder) = &session.holder {
        return holder.clone();
    }
    let holder = state.processes.watch(process).unwrap_or_default();
    if let Some(process) = holder.process {
        state.processes.connect(process, session.connection);
    }
    session.holder.insert(holder).clone()
}
