//! The calls about leases.

mod binding;
mod moving;

use std::{sync::Arc, time::Duration};

use super::account_set::check_only;
use super::reply::{AnswerResult, CallReply, CallResult, LeaseReply, lease_ended};
use super::session::{Session, bad, fence_of, open_lease, refused, target};
use super::session_guest::SessionGuest;
use crate::daemon::state::{CredentialState, CredentialUse, Daemon, State, Unsaved};
use crate::daemon::{many_hosts::handing_out, os::clock, view};
use crate::pool::{AccountId, Bind, Command, Fence, GuestId, Holder, LeaseRequest, Mono, Now, Refusal, Reply, Ticket};
use crate::protocol::{AcquireParams, Answer, BindTo, CredentialParams, Empty, ErrorInfo, LeaseRef, LeaseToken};

pub(in crate::daemon::api) use binding::local_holder;
use binding::{LeaseBinding, connected, peer};
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
    let token = current_lease(daemon, open_lease(daemon, params)?);
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
        Ok(resumed) => {
            if let Reply::Held(fence) = *resumed.peek() {
                state.note_resumed(fence);
            }
            held(state, reply, now, resumed, (LeaseReply::Held, true))
        }
        Err(refusal) => refuse(state, reply, now, refusal),
    }
}

/// The lease that its holder has now: a holder does not learn that the gateway has moved its lease.
fn current_lease(daemon: &Daemon, token: LeaseToken) -> LeaseToken {
    daemon.state().moved_lease(token.fence).unwrap_or(token)
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
    let ticket = ticket(state, token)?;
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
