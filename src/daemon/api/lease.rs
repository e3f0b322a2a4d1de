//! The calls about leases.

mod moving;

use std::{sync::Arc, time::Duration};

use super::account_set::{account_set, check_only, restricted_set};
use super::reply::{AnswerResult, CallReply, CallResult, LeaseReply, lease_ended};
use super::session::{Session, bad, fence_of, find_account, open_lease, refused, target};
use super::session_guest::SessionGuest;
use crate::daemon::state::guests::guest_of;
use crate::daemon::state::{CredentialState, CredentialUse, Daemon, State, Unsaved};
use crate::daemon::{many_hosts::handing_out, os::clock, os::opened_process::OpenedProcess, view};
use crate::pool::{
    AccountId, Attestation, Bind, Command, Fence, GuestId, Holder, LeaseRequest, Mono, Now, Process, Refusal, Reply,
    Ticket,
};
use crate::protocol::{
    AcquireParams, Answer, BindTo, Call, CredentialParams, Empty, ErrorInfo, ErrorKind, GuestHolder, LeaseRef,
    LeaseToken,
};

pub use moving::move_lease;

/// The longest text of a request, in bytes.
const LONGEST_TEXT: usize = 256;
/// The longest time to live of a lease.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);
/// The most accounts that a request excludes; each is looked up among all accounts.
const MOST_EXCLUDED: usize = 64;
const PRIORITIES: std::ops::RangeInclusive<i8> = -10..=10;

/// `lease.acquire`
pub fn acquire(
    session: &mut Session,
    daemon: &Daemon,
    reply: &mut CallReply<'_>,
    params: &AcquireParams<&str>,
) -> CallResult {
    check(params)?;
    let mut binding = LeaseBinding::find(session, daemon, params)?;
    let state = &mut *daemon.state();
    let now = clock::now();
    let (request, credential) = binding.request(session, state, params)?;
    grant(state, reply, now, request, credential)
}

/// `lease.token`: the lease that the process holds already, if it is usable, or a new one.
pub fn token(
    session: &mut Session,
    daemon: &Daemon,
    reply: &mut CallReply<'_>,
    params: &AcquireParams<&str>,
) -> CallResult {
    check(params)?;
    if !matches!(params.bind, BindTo::Pid(_)) {
        return Err(bad("`lease.token` binds to a process: `\"bind\": {\"pid\": N}`"));
    }
    let mut binding = LeaseBinding::find(session, daemon, params)?;
    let state = &mut *daemon.state();
    let now = clock::now();
    let (request, credential) = binding.request(session, state, params)?;
    // leases and limits whose time is over must end first
    state.apply_internal(now, Command::Tick);
    if let Some((fence, _)) = state.pool.held_already(now, &request)
        && state.pool.moves_to(fence).is_some()
    {
        // the user has moved it: its holder learns of that now
        state.apply_internal(now, Command::ExtendLease(fence));
    }
    match state.pool.held_already(now, &request) {
        Some((fence, true)) => {
            let kind = LeaseReply::Granted { until: until(state, now, &request) };
            reply.lease(state, now, Unsaved::nothing_to_save(fence), (kind, credential))
        }
        Some((fence, false)) => {
            // its account cannot serve the holder any more
            state.apply_internal(now, Command::Release(fence));
            grant(state, reply, now, request, credential)
        }
        None => grant(state, reply, now, request, credential),
    }
}

fn grant(state: &mut State, reply: &mut CallReply<'_>, now: Now, ask: LeaseRequest, credential: bool) -> CallResult {
    let (until, bind) = (until(state, now, &ask), ask.bind);
    check_guest_room(state, now, &ask)?;
    let result = state.apply(now, Command::Acquire(Box::new(ask)));
    if let Bind::Process(process) = bind {
        match result.peek() {
            Ok(_) => state.processes.bind(process),
            // nothing is bound to it
            Err(_) => state.processes.release(process),
        }
    }
    match result.into_result() {
        Ok(granted) => match *granted.peek() {
            Reply::Queued(waiter) => {
                let _in_the_queue = granted.no_answer();
                reply.when_granted(state, now, waiter, (until, credential))
            }
            _ => held(state, reply, now, granted, (LeaseReply::Granted { until }, credential)),
        },
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

/// Refuses a guest that has as many leases, or waits for them, as it may have.
fn check_guest_room(state: &mut State, now: Now, ask: &LeaseRequest) -> Result<(), ErrorInfo> {
    let Some(guest) = ask.bind.process().and_then(Process::guest) else { return Ok(()) };
    let Some(most) = state.guests.policy(guest).max_leases else { return Ok(()) };
    // those whose time is over do not count
    state.apply_internal(now, Command::Tick);
    if state.leases_of_guest(guest) + state.queued_of_guest(guest) < most as usize {
        return Ok(());
    }
    let name = state.guests.name(guest);
    let message = format!("the guest {name} may have {most} leases, and has or waits for as many");
    Err(ErrorInfo::new(ErrorKind::NoCapacity, message).hint("at the host: lessor share list"))
}

/// How long the holder waits for a lease.
fn until(state: &State, now: Now, request: &LeaseRequest) -> Mono {
    now.mono.after(request.wait.unwrap_or(state.pool.settings().limits.max_rate_limit_wait))
}

fn held(
    state: &mut State,
    reply: &mut CallReply<'_>,
    now: Now,
    granted: Unsaved<Reply>,
    kind: (LeaseReply, bool),
) -> CallResult {
    match *granted.peek() {
        Reply::Held(fence) => reply.lease(state, now, granted.map(|_| fence), kind),
        Reply::Queued(_) | Reply::Decision(_) | Reply::Done => Err(lease_ended()),
    }
}

fn refuse(state: &State, reply: &mut CallReply<'_>, now: Now, refusal: Unsaved<Refusal>) -> CallResult {
    reply.saved(refusal.map(|refusal| Err(refused(state, &refusal, now))))
}

/// What a lease is bound to. Its process is looked up before the state is locked.
struct LeaseBinding {
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
    fn find(session: &Session, daemon: &Daemon, params: &AcquireParams<&str>) -> Result<Self, ErrorInfo> {
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
    fn request(
        &mut self,
        session: &mut Session,
        state: &mut State,
        params: &AcquireParams<&str>,
    ) -> Result<(LeaseRequest, bool), ErrorInfo> {
        let target = target(state, params.provider, params.model, params.pool)?;
        let exclude = params.exclude.iter().map(|name| find_account(state, name)).collect::<Result<_, _>>()?;
        let set = account_set(state, params.only.as_deref(), self.directory.take())?;
        let set = match &session.guest {
            Some(guest) => restricted_set(state, guest.id, set)?,
            None => set,
        };
        let is_guest = self.guest.is_some();
        let (bind, holder) = self.holder(session, state);
        let default_ttl = (is_guest && self.to == BindTo::Ttl).then(|| state.pool.settings().leases.ttl);
        let holder = Holder { attested: self.attested.clone(), ..holder };
        let text = |text: Option<&str>| text.map(Into::into);
        let request = LeaseRequest {
            target,
            connection: session.connection,
            bind,
            holder,
            ttl: params.ttl_ms.map(Duration::from_millis).or(default_ttl),
            session: text(params.session),
            label: text(params.label),
            agent: text(params.agent),
            account: text(params.account),
            exclude,
            set,
            priority: params.priority,
            wait: params.wait_ms.map(Duration::from_millis),
            exclusive: params.exclusive,
            request_id: text(params.request_id),
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
fn peer(session: &Session) -> Result<Option<OpenedProcess>, ErrorInfo> {
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
fn connected(session: &mut Session, state: &mut State, process: &mut Option<OpenedProcess>) -> Holder {
    if let Some(holder) = &session.holder {
        return holder.clone();
    }
    let holder = state.processes.watch(process).unwrap_or_default();
    if let Some(process) = holder.process {
        state.processes.connect(process, session.connection);
    }
    session.holder.insert(holder).clone()
}

/// `lease.release`
pub fn release(daemon: &Daemon, reply: &mut CallReply<'_>, params: &LeaseRef<&str>) -> CallResult {
    let fence = fence_of(daemon, &reply.issued, params.lease, params.fence)?;
    reply.issued.forget(params.lease);
    let state = &mut *daemon.state();
    let now = clock::now();
    let released = state.apply(now, Command::Release(fence));
    match released.into_result() {
        Ok(released) => reply.own_saved_as(released, |_| Answer::Done(Empty {})),
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

/// `lease.renew`
pub fn extend(daemon: &Daemon, reply: &mut CallReply<'_>, params: &LeaseRef<&str>) -> CallResult {
    let fence = fence_of(daemon, &reply.issued, params.lease, params.fence)?;
    let state = &mut *daemon.state();
    let now = clock::now();
    match state.apply(now, Command::ExtendLease(fence)).into_result() {
        Ok(extended) => held(state, reply, now, extended, (LeaseReply::Held, true)),
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

/// `lease.resume`
pub fn resume(session: &mut Session, daemon: &Daemon, reply: &mut CallReply<'_>, params: &LeaseRef) -> CallResult {
    let token = open_lease(daemon, params)?;
    if let Some(guest) = session.guest.clone() {
        return resume_of_guest(&guest, session, daemon, (reply, token));
    }
    let mut process = peer(session)?;
    let attested = session.attest_resumed(daemon, token.account);
    let state = &mut *daemon.state();
    let now = clock::now();
    let (ticket, connection) = (ticket(state, token)?, session.connection);
    let holder = Holder { attested, ..connected(session, state, &mut process) };
    match state.apply(now, Command::Resume { ticket: Box::new(ticket), connection, holder }).into_result() {
        Ok(resumed) => held(state, reply, now, resumed, (LeaseReply::Held, true)),
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

/// `lease.resume` by a guest: the lease belongs to the holder that it vouches for now.
fn resume_of_guest(
    guest: &SessionGuest,
    session: &Session,
    daemon: &Daemon,
    (reply, token): (&mut CallReply<'_>, LeaseToken),
) -> CallResult {
    let holder = Holder { attested: guest.attestation(), ..guest.holder(daemon)? };
    let state = &mut *daemon.state();
    let now = clock::now();
    let mut ticket = ticket(state, token)?;
    if state.pool.lease(ticket.fence).is_some_and(|lease| guest_of(lease).is_none()) {
        return Err(lease_ended());
    }
    ticket.set = restricted_set(state, guest.id, ticket.set)?;
    match state
        .apply(now, Command::Resume { ticket: Box::new(ticket), connection: session.connection, holder })
        .into_result()
    {
        Ok(resumed) => held(state, reply, now, resumed, (LeaseReply::Held, true)),
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

fn ticket(state: &State, token: LeaseToken) -> Result<Ticket, ErrorInfo> {
    let provider = state.pool.account(token.account).ok_or_else(lease_ended)?.record.provider.clone();
    // without its set, only a lease that is known can go on
    let known = || state.pool.lease(token.fence).map(|lease| lease.set().clone());
    let set = token.set.clone().or_else(known).ok_or_else(lease_ended)?;
    Ok(Ticket {
        fence: token.fence,
        account: token.account,
        exclusive: token.exclusive,
        target: target(state, &provider, token.model.as_deref(), token.pool.as_deref())?,
        session: token.session,
        label: token.label,
        set,
    })
}

/// `lease.credential`
pub fn credential(daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, params: &CredentialParams) -> CallResult {
    let fence = fence_of(daemon, &reply.issued, &params.lease, None)?;
    let need = if params.force { CredentialUse::Replace } else { CredentialUse::HandOut };
    let state = &mut *daemon.state();
    let found = state.credential_for(fence, need).map_err(|problem| view::credential_problem(state, problem))?;
    match found {
        CredentialState::Usable(id) if state.must_mark_handed_out(id) => {
            reply.later(daemon, marked_credential(daemon.clone(), (fence, id)))
        }
        CredentialState::Usable(id) => {
            let account = state.pool.account(id).ok_or_else(lease_ended)?;
            // it was on disk before it was used
            reply.at_once(&Answer::Credential(view::credential(state, account)?))
        }
        CredentialState::BeingRefreshed(_) => reply.later(daemon, fresh_credential(daemon.clone(), fence, need)),
    }
}

async fn fresh_credential(daemon: Arc<Daemon>, fence: Fence, need: CredentialUse) -> AnswerResult {
    let read = |state: &State, id, _: &_| {
        if state.must_mark_handed_out(id) {
            return Ok(Err(id));
        }
        let account = state.pool.account(id).ok_or_else(lease_ended)?;
        view::credential(state, account).map(view::owned_credential).map(Ok)
    };
    match daemon.fresh_credential(fence, need, read).await {
        Ok(Ok(Ok(credential))) => Ok(Answer::Credential(credential)),
        Ok(Ok(Err(unmarked))) => marked_credential(daemon, (fence, unmarked)).await,
        Ok(Err(error)) => Err(error),
        Err(problem) => Err(view::credential_problem(&daemon.state(), problem)),
    }
}

/// The credential of a lease on an account that other hosts use, too, once these know that it is handed out.
async fn marked_credential(daemon: Arc<Daemon>, (fence, id): (Fence, AccountId)) -> AnswerResult {
    handing_out::mark(&daemon, id).await?;
    let state = &mut *daemon.state();
    match state.current_credential(fence, CredentialUse::HandOut) {
        Ok(CredentialState::Usable(id) | CredentialState::BeingRefreshed(id)) => {
            let account = state.pool.account(id).ok_or_else(lease_ended)?;
            view::credential(state, account).map(view::owned_credential).map(Answer::Credential)
        }
        Err(problem) => Err(view::credential_problem(state, problem)),
    }
}

/// `lease.list`: of a guest, its own only.
pub fn list(daemon: &Daemon, reply: &mut CallReply<'_>, of: Option<GuestId>) -> CallResult {
    let rows = view::lease_rows(&daemon.state(), clock::now(), of);
    // programs are looked up after the lock is released
    reply.answer(&Answer::Leases(view::with_programs(rows)))
}

fn check(params: &AcquireParams<&str>) -> Result<(), ErrorInfo> {
    let texts = [
        ("model", params.model),
        ("session", params.session),
        ("label", params.label),
        ("account", params.account),
        ("agent", params.agent),
        ("request_id", params.request_id),
    ];
    let too_long = |text: &Option<&str>| text.is_some_and(|text| text.len() > LONGEST_TEXT);
    if let Some((name, _)) = texts.iter().find(|(_, text)| too_long(text)) {
        return Err(bad(format!("`{name}` may have {LONGEST_TEXT} bytes")));
    }
    if params.exclude.len() > MOST_EXCLUDED {
        return Err(bad(format!("`exclude` may name at most {MOST_EXCLUDED} accounts")));
    }
    check_only(params.only.as_deref())?;
    if !PRIORITIES.contains(&params.priority) {
        return Err(bad(format!("`priority` is {}; it may be from -10 to 10", params.priority)));
    }
    let ttl = params.ttl_ms.map(Duration::from_millis);
    if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > LONGEST_TTL) {
        return Err(bad("`ttl_ms` may be from 1 ms to 30 days"));
    }
    Ok(())
}
