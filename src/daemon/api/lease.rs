//! The calls about leases.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::{Bind, Command, Fence, Holder, LeaseRequest, Now, Reply, Ticket};
use crate::protocol::{AcquireParams, Answer, BindTo, CredentialParams, ErrorInfo, LeaseRef, LeaseToken, RequestId};

use crate::daemon::api::account::find;
use crate::daemon::api::dispatch::{CallResult, ClientSession, bad, bad_target, refused, too_many};
use crate::daemon::api::reply::ReplyKind;
use crate::daemon::os::clock;
use crate::daemon::refresh::{CredentialState, CredentialUse};
use crate::daemon::state::{Daemon, Responder, State, Unsaved};
use crate::daemon::view;

/// The longest text of a request's own.
const LONGEST_TEXT: usize = 256;
/// The longest life a lease may be given.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 86_400);
/// The priorities there are.
const PRIORITIES: std::ops::RangeInclusive<i8> = -10..=10;

impl ClientSession {
    pub(crate) fn acquire(
        &mut self,
        daemon: &Arc<Daemon>,
        id: &RequestId,
        params: AcquireParams,
        again: bool,
        out: &mut Vec<u8>,
    ) -> CallResult {
        check_texts(&params)?;
        if again && !matches!(params.bind, BindTo::Pid(_)) {
            return Err(bad("`lease.token` binds to a process: `\"bind\": {\"pid\": N}`"));
        }
        if !PRIORITIES.contains(&params.priority) {
            return Err(bad(format!("`priority` is {}; it may be from -10 to 10", params.priority)));
        }
        let ttl = params.ttl_ms.map(Duration::from_millis);
        if ttl.is_some_and(|ttl| ttl.is_zero() || ttl > LONGEST_TTL) {
            return Err(bad("`ttl_ms` may be from 1 ms to 30 days"));
        }
        let state = &mut *daemon.state();
        let target = state
            .catalog
            .target(
                &params.provider,
                params.model.as_deref(),
                params.pool.as_deref(),
                state.pool.settings().quota.primary,
            )
            .map_err(|error| bad_target(&error, state))?;
        let exclude = params.exclude.iter().map(|name| find(state, name)).collect::<Result<_, _>>()?;
        let (bind, holder) = self.bind(daemon, state, params.bind)?;
        let text = |text: Option<String>| text.map(String::into_boxed_str);
        let ask = LeaseRequest {
            target,
            connection: self.connection,
            bind,
            holder,
            ttl,
            session: text(params.session),
            label: text(params.label),
            agent: text(params.agent),
            account: text(params.account),
            exclude,
            priority: params.priority,
            wait: params.wait_ms.map(Duration::from_millis),
            exclusive: params.exclusive,
            request_id: text(params.request_id),
        };
        let now = clock::now();
        let until = now.mono.after(ask.wait.unwrap_or(state.pool.settings().limits.max_rate_limit_wait));
        let responder = Replying { caller: self, id, wants_credential: params.credential };
        if again {
            // what time ends does not serve any more
            daemon.apply_unasked(state, now, Command::Tick);
            match state.pool.held_already(now, &ask) {
                Some((fence, true)) => {
                    let reply = Reply::Held(fence);
                    return responder.held(
                        daemon,
                        state,
                        now,
                        (&reply, ReplyKind::Granted { until }),
                        Unsaved::new(),
                        out,
                    );
                }
                // the same holder goes on with another account: this one is of no use to it
                Some((fence, false)) => daemon.apply_unasked(state, now, Command::Release(fence)),
                None => {}
            }
        }
        let (reply, unsaved) = daemon.apply(state, now, Command::Acquire(Box::new(ask)));
        if let Bind::Process(process) = bind {
            // one that was refused has nothing bound to it: it need not be watched
            match &reply {
                Ok(_) => state.watchers.bind(process.pid),
                Err(_) => state.watchers.let_go(process.pid),
            }
        }
        match refused(reply, now)? {
            Reply::Queued(waiter) => {
                if !self.outbox.has_room() {
                    daemon.apply_unasked(state, now, Command::Cancel(waiter));
                    return Err(too_many());
                }
                self.outbox.begin_wait();
                let to = self.responder(id, params.credential);
                state.wait_for(waiter, Responder { until: Some(until), ..to }, now);
                Ok(())
            }
            reply => responder.held(daemon, state, now, (&reply, ReplyKind::Granted { until }), unsaved, out),
        }
    }

    /// What ends the lease, and who holds it.
    fn bind(&mut self, daemon: &Arc<Daemon>, state: &mut State, to: BindTo) -> Result<(Bind, Holder), ErrorInfo> {
        match to {
            BindTo::Connection => Ok((Bind::Connection(self.connection), self.holder(daemon, state)?)),
            BindTo::Ttl => Ok((Bind::Ttl, self.holder(daemon, state)?)),
            BindTo::Pid(pid) => {
                let found = state.watchers.watch(daemon, pid).map_err(|error| match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        ErrorInfo::new("not_allowed", format!("process {pid} belongs to another user"))
                    }
                    _ => ErrorInfo::new("overloaded", format!("process {pid} cannot be watched: {error}")),
                })?;
                let found = found.ok_or_else(|| bad(format!("there is no process {pid}")))?;
                let holder = Holder { process: Some(found.process), program: found.program };
                Ok((Bind::Process(found.process), holder))
            }
        }
    }

    /// The process at the other end, watched from its first lease on: a child may hold the connection open after it.
    fn holder(&mut self, daemon: &Arc<Daemon>, state: &mut State) -> Result<Holder, ErrorInfo> {
        if let Some(holder) = &self.holder {
            return Ok(holder.clone());
        }
        let Some(pid) = self.pid else { return Ok(Holder::default()) };
        let holder = match state.watchers.watch(daemon, pid) {
            Ok(Some(found)) => {
                state.watchers.connect(pid, self.connection);
                Holder { process: Some(found.process), program: found.program }
            }
            Ok(None) => return Err(bad("the process that made this connection has ended")),
            Err(error) => {
                tracing::warn!(pid, "a holder cannot be watched; its leases end with its connection: {error}");
                Holder::default()
            }
        };
        self.holder = Some(holder.clone());
        Ok(holder)
    }

    pub(crate) fn renew(&self, daemon: &Daemon, id: &RequestId, params: &LeaseRef, out: &mut Vec<u8>) -> CallResult {
        let fence = live_fence(daemon, params)?;
        let state = &mut *daemon.state();
        let now = clock::now();
        let (reply, unsaved) = daemon.apply(state, now, Command::ExtendLease(fence));
        let reply = refused(reply, now)?;
        Replying { caller: self, id, wants_credential: true }.held(
            daemon,
            state,
            now,
            (&reply, ReplyKind::Held),
            unsaved,
            out,
        )
    }

    pub(crate) fn resume(
        &mut self,
        daemon: &Arc<Daemon>,
        id: &RequestId,
        params: &LeaseRef,
        out: &mut Vec<u8>,
    ) -> CallResult {
        let token = open(daemon, params)?;
        let state = &mut *daemon.state();
        let stale = || ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
        let provider = state.pool.account(token.account).ok_or_else(stale)?.record.provider.clone();
        let target = state
            .catalog
            .target(&provider, token.model.as_deref(), token.pool.as_deref(), state.pool.settings().quota.primary)
            .map_err(|error| bad_target(&error, state))?;
        let holder = self.holder(daemon, state)?;
        let ticket = Ticket {
            fence: token.fence,
            account: token.account,
            exclusive: token.exclusive,
            target,
            session: token.session,
            label: token.label,
        };
        let now = clock::now();
        let command = Command::Resume { ticket: Box::new(ticket), connection: self.connection, holder };
        let (reply, unsaved) = daemon.apply(state, now, command);
        let reply = refused(reply, now)?;
        Replying { caller: self, id, wants_credential: true }.held(
            daemon,
            state,
            now,
            (&reply, ReplyKind::Held),
            unsaved,
            out,
        )
    }

    pub(crate) fn credential(
        &self,
        daemon: &Arc<Daemon>,
        id: &RequestId,
        params: &CredentialParams,
        out: &mut Vec<u8>,
    ) -> CallResult {
        let fence = live_fence(daemon, &LeaseRef { lease: params.lease.clone(), fence: None })?;
        let need = if params.force { CredentialUse::Another } else { CredentialUse::HandOut };
        let state = &mut *daemon.state();
        match daemon.credential_for(state, fence, need)? {
            CredentialState::Usable(_) => {
                let stale = || ErrorInfo::new("stale_lease", "this lease has ended").hint("acquire a new one");
                let lease = state.pool.lease(fence).ok_or_else(stale)?;
                let account = state.pool.account(lease.account).ok_or_else(stale)?;
                self.codec.answer(id, &Answer::Credential(view::credential_info(state, account)?), out);
                Ok(())
            }
            CredentialState::Unavailable(error) => Err(error),
            CredentialState::BeingRefreshed(_) => self.later(id, view::fresh_credential(daemon.clone(), fence, need)),
        }
    }
}

/// A reply on its way.
struct Replying<'a> {
    caller: &'a ClientSession,
    id: &'a RequestId,
    wants_credential: bool,
}

impl Replying<'_> {
    /// Answers a lease that is held: at once, or once it is kept.
    fn held(
        &self,
        daemon: &Daemon,
        state: &mut State,
        now: Now,
        (reply, shape): (&Reply, ReplyKind),
        unsaved: Unsaved,
        out: &mut Vec<u8>,
    ) -> CallResult {
        let Reply::Held(fence) = *reply else { return Ok(()) };
        let responder = self.caller.responder(self.id, self.wants_credential);
        if self.wants_credential {
            if daemon.waits_for_token(state, now, fence) {
                responder.outbox.begin_wait();
                daemon.hand_out_later(state, (fence, shape), vec![responder], unsaved);
                return Ok(());
            }
            if let Some(account) = state.pool.lease(fence).map(|lease| lease.account) {
                state.note_handed(fence, account);
            }
        }
        if unsaved.is_empty() {
            view::lease(state, &daemon.key, now, fence, &responder, out);
        } else {
            let mut bytes = Vec::new();
            view::lease(state, &daemon.key, now, fence, &responder, &mut bytes);
            daemon.deliver(&responder, unsaved, bytes);
        }
        Ok(())
    }
}

/// The fence of a lease id, if this daemon made it and the caller's fence agrees.
pub(crate) fn live_fence(daemon: &Daemon, params: &LeaseRef) -> Result<Fence, ErrorInfo> {
    open(daemon, params).map(|token| token.fence)
}

fn open(daemon: &Daemon, params: &LeaseRef) -> Result<LeaseToken, ErrorInfo> {
    let unknown = || ErrorInfo::new("unknown_lease", "this is not a lease of this daemon").hint("acquire a new one");
    let token = daemon.key.open(&params.lease).ok_or_else(unknown)?;
    match params.fence {
        Some(fence) if fence != token.fence.0 => {
            Err(ErrorInfo::new("stale_lease", "the fence is not the one this lease was granted with"))
        }
        _ => Ok(token),
    }
}

fn check_texts(params: &AcquireParams) -> Result<(), ErrorInfo> {
    let texts = [
        ("model", &params.model),
        ("session", &params.session),
        ("label", &params.label),
        ("account", &params.account),
        ("agent", &params.agent),
        ("request_id", &params.request_id),
    ];
    let too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > LONGEST_TEXT);
    match texts.iter().find(|(_, text)| too_long(text)) {
        Some((name, _)) => Err(bad(format!("`{name}` may have {LONGEST_TEXT} bytes"))),
        None => Ok(()),
    }
}
