//! Dispatches each call to the code that serves it: calls about one lease on the thread of the connections, all others
//! on that of the planner.

use std::sync::Arc;

use super::account::{self, AccountAction, add, check, export, import, refresh, replace, reset, usage};
use super::pool::shared_account;
use super::reply::{CallReply, CallResult, Responder};
use super::session::{Session, bad};
use super::{agent_session, config, explain, gateway_key, history, lease, page, pool, report, secrets};
use crate::daemon::state::events::{DEFAULT_KINDS, KINDS, REPLAY_END};
use crate::daemon::{memory::MemoryShare, os::clock, state::Daemon, view};
use crate::protocol::{
    Answer, Call, Codec, CredentialParams, DisableAccountParams, ENCODING, Empty, ErrorInfo, ErrorKind, HelloInfo,
    HelloParams, LeaseCall, LeaseRef, PROTOCOL, PlainMessage, ReportParams, RequestId, SubscribeParams,
};

/// About how much memory an entry of an import takes.
const MEMORY_OF_ENTRY: usize = 2048;

impl Session {
    /// Serves a call; an immediate answer is appended to `out`.
    pub fn serve(&mut self, daemon: &Arc<Daemon>, id: Option<RequestId>, call: Call, out: &mut Vec<u8>) {
        if self.awaits_hello() && !matches!(call, Call::Hello(_)) {
            let error = ErrorInfo::new(ErrorKind::BadRequest, "a binary connection begins with `hello`");
            return self.refuse(id, &error, out);
        }
        if is_pointless(id.as_ref(), &call) {
            return;
        }
        self.answer(daemon, id, out, |session, reply| session.dispatch(daemon, reply, call));
    }

    /// Serves a call about one lease; an immediate answer is appended to `out`.
    pub fn serve_plain(&mut self, daemon: &Arc<Daemon>, message: PlainMessage<'_>, out: &mut Vec<u8>) {
        let PlainMessage { id, call } = message;
        self.answer(daemon, id, out, |session, reply| session.dispatch_plain(daemon, reply, &call));
    }

    fn answer(
        &mut self,
        daemon: &Arc<Daemon>,
        id: Option<RequestId>,
        out: &mut Vec<u8>,
        serve: impl FnOnce(&mut Self, &mut CallReply<'_>) -> CallResult,
    ) {
        let mut reply = CallReply::new(daemon, self.responder(id), out);
        reply.issued = std::mem::take(&mut self.issued);
        if let Err(error) = serve(self, &mut reply) {
            reply.refuse(&error);
        }
        self.issued = reply.issued;
    }

    /// Whether a call about one lease is served in the way that most are: nothing keeps it from being served at once.
    pub fn serves_plain(&self, daemon: &Daemon) -> bool {
        !self.awaits_hello() && daemon.run.keyring.is_none()
    }

    /// Whether the client has to send `hello` before anything else.
    pub fn awaits_hello(&self) -> bool {
        self.codec == Codec::Binary && !self.greeted
    }

    /// Refuses a message; a notification gets no answer.
    pub fn refuse(&self, id: Option<RequestId>, error: &ErrorInfo, out: &mut Vec<u8>) {
        self.responder(id).refuse(error, out);
    }

    /// Where the answer to `id` goes.
    pub fn responder(&self, id: Option<RequestId>) -> Responder {
        Responder {
            connection: self.connection,
            codec: self.codec,
            quiet: id.is_none(),
            id: id.unwrap_or(RequestId::Number(0)),
            outbox: self.outbox.clone(),
        }
    }

    fn dispatch(&mut self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, call: Call) -> CallResult {
        check_locked(daemon, &call)?;
        self.check_guest(&call)?;
        match call {
            Call::GuestHolders(params) => self.guest_holders(daemon, reply, &params),
            Call::Acquire(params) => lease::acquire(self, daemon, reply, &params.with_texts(String::as_str)),
            Call::Token(params) => lease::token(self, daemon, reply, &params.with_texts(String::as_str)),
            Call::Release(params) => lease::release(daemon, reply, &params.with_text(String::as_str)),
            Call::Renew(params) => self.renew(daemon, reply, &params.with_text(String::as_str)),
            Call::Resume(params) => lease::resume(self, daemon, reply, &params),
            Call::Report(params) => self.report(daemon, reply, &params),
            Call::Credential(params) => self.credential(daemon, reply, &params),
            Call::Hello(params) => reply.at_once(&Answer::Hello(self.hello(&params)?)),
            Call::Stop(_) => {
                daemon.restart.send_replace(None);
                // the status says from now on what is waited for
                let _words = daemon.end_refreshing();
                daemon.stop.send_replace(true);
                reply.at_once(&Answer::Done(Empty {}))
            }
            _planned => Err(bad("this call is planned by its connection")),
        }
    }

    fn dispatch_plain(&mut self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, call: &LeaseCall<'_>) -> CallResult {
        match call {
            LeaseCall::Acquire(params) => lease::acquire(self, daemon, reply, params),
            LeaseCall::Token(params) => lease::token(self, daemon, reply, params),
            LeaseCall::Release(params) => lease::release(daemon, reply, params),
            LeaseCall::Renew(params) => self.renew(daemon, reply, params),
            LeaseCall::Report(params) => self.report(daemon, reply, params),
            LeaseCall::Credential(params) => self.credential(daemon, reply, params),
        }
    }

    fn renew(&self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, params: &LeaseRef<&str>) -> CallResult {
        self.attest_call(daemon, params.lease, false);
        lease::extend(daemon, reply, params)
    }

    fn report(&self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, params: &ReportParams) -> CallResult {
        self.attest_call(daemon, &params.lease, false);
        report::report(daemon, reply, params)
    }

    fn credential(&self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, params: &CredentialParams) -> CallResult {
        self.attest_call(daemon, &params.lease, true);
        lease::credential(daemon, reply, params)
    }

    /// Answers a greeting before there is a state, which it does not depend on; `false` if it has to be refused.
    pub fn greet(&mut self, id: Option<RequestId>, params: &HelloParams, out: &mut Vec<u8>) -> bool {
        let Ok(hello) = self.hello(params) else { return false };
        self.responder(id).greeting(hello, out);
        true
    }

    fn hello(&mut self, params: &HelloParams) -> Result<HelloInfo, ErrorInfo> {
        let (lowest, highest) = params.protocol;
        if lowest > PROTOCOL || highest < PROTOCOL {
            let message = format!("this daemon speaks protocol {PROTOCOL}, the client {lowest} to {highest}");
            let hint = if lowest > PROTOCOL {
                "the daemon is older; to replace it without losing a lease: lessor restart"
            } else {
                "update the client"
            };
            return Err(ErrorInfo::new(ErrorKind::UnsupportedVersion, message).hint(hint));
        }
        self.greeted = true;
        Ok(HelloInfo {
            server: "lessor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            features: vec![ENCODING.to_owned()],
        })
    }
}

fn subscribe(daemon: &Daemon, reply: &mut CallReply<'_>, params: SubscribeParams) -> CallResult {
    if let Some(unknown) = params.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str()) && *kind != DEFAULT_KINDS) {
        return Err(bad(format!("there is no event kind {unknown:?}")).hint(format!("kinds: {}", KINDS.join(", "))));
    }
    debug_assert!(!KINDS.contains(&REPLAY_END) && !KINDS.contains(&DEFAULT_KINDS));
    reply.subscribe(daemon, (params.kinds, None), params.recent)
}

/// Whether a call is a notification whose sender would not know what it got: a lease or a key.
pub fn is_pointless(id: Option<&RequestId>, call: &Call) -> bool {
    id.is_none() && matches!(call, Call::Acquire(_) | Call::Token(_) | Call::GatewayKey(_))
}

/// Whether a call is served on the planner's thread: all but those about one lease, whose time does not depend on how
/// much the daemon has.
pub fn is_planned(call: &Call) -> bool {
    !matches!(
        call,
        Call::Acquire(_)
            | Call::Token(_)
            | Call::Release(_)
            | Call::Renew(_)
            | Call::Resume(_)
            | Call::Report(_)
            | Call::Credential(_)
            | Call::Hello(_)
            | Call::Stop(_)
            | Call::GuestHolders(_)
    )
}

/// About how much memory a call of this many bytes takes until it is answered.
pub fn memory_of(call: &Call, bytes: usize) -> usize {
    let entries = if let Call::ImportAccounts(params) = call { params.entries.len() } else { 0 };
    2 * bytes + entries * MEMORY_OF_ENTRY
}

/// Serves a call that needs no session; `memory` is returned when it is answered.
pub fn dispatch_planned(
    daemon: &Arc<Daemon>,
    reply: &mut CallReply<'_>,
    call: Call,
    memory: Option<MemoryShare>,
) -> CallResult {
    check_locked(daemon, &call)?;
    match call {
        Call::Subscribe(params) => subscribe(daemon, reply, params),
        Call::ListLeases(_) => lease::list(daemon, reply, None),
        Call::Status(_) => reply.at_once(&Answer::Status(Box::new(view::status(daemon, clock::now())))),
        Call::ListAccounts(params) if daemon.many_hosts.is_on() => {
            reply.later(daemon, holding(memory, account::list_of_pool(daemon.clone(), params)))
        }
        Call::ListAccounts(params) => account::list(daemon, reply, &params),
        Call::AddAccount(params) => reply.later_saved(daemon, holding(memory, add::add(daemon.clone(), *params))),
        Call::RemoveAccount(params) => change(daemon, reply, &params.account, AccountAction::Remove),
        Call::SetAccount(params) if replace::is_wanted(&params) => {
            reply.later_saved(daemon, holding(memory, replace::replace(daemon.clone(), *params)))
        }
        Call::CheckAccount(params) => reply.later_saved(daemon, holding(memory, check::check(daemon.clone(), params))),
        Call::SetAccount(params) => {
            let account = params.account.clone();
            change(daemon, reply, &account, AccountAction::Set(params))
        }
        Call::EnableAccount(params) => change(daemon, reply, &params.account, AccountAction::Enable(true, None)),
        Call::DisableAccount(DisableAccountParams { account, reason }) => {
            change(daemon, reply, &account, AccountAction::Enable(false, reason))
        }
        Call::ClearLimits(params) => change(daemon, reply, &params.account, AccountAction::ClearLimits),
        Call::RefreshAccount(params) => reply.later(daemon, holding(memory, refresh::refresh(daemon.clone(), params))),
        Call::ImportAccounts(params) => {
            reply.later_saved(daemon, holding(memory, import::import(daemon.clone(), *params)))
        }
        Call::ExportAccounts(params) => export::export(daemon, reply, params.secrets),
        Call::AskUsage(params) => reply.later(daemon, holding(memory, usage::usage(daemon.clone(), params))),
        Call::VerifyAccount(params) => {
            reply.later_saved(daemon, holding(memory, usage::verify(daemon.clone(), params)))
        }
        Call::ResetLimits(params) => reply.later(daemon, holding(memory, reset::reset(daemon.clone(), params))),
        Call::AgentSession(params) => {
            reply.later(daemon, holding(memory, agent_session::report(daemon.clone(), *params)))
        }
        Call::Forecast(params) => explain::forecast(daemon, reply, &params),
        Call::Explain(params) => explain::explain(daemon, reply, &params),
        Call::GatewayKey(params) => gateway_key::gateway_key(daemon, reply, params),
        Call::GatewayKeys(_) => gateway_key::list(daemon, reply),
        Call::RevokeGatewayKey(params) => {
            reply.later(daemon, holding(memory, gateway_key::revoke(daemon.clone(), params)))
        }
        Call::QueryHistory(params) => {
            reply.later(daemon, holding(memory, history::query(daemon.clone(), *params, None)))
        }
        Call::MoveLease(params) => lease::move_lease(daemon, reply, &params),
        Call::OpenPage(params) => reply.later(daemon, holding(memory, page::open(daemon.clone(), params))),
        Call::GetConfig(_) => config::get(daemon, reply),
        Call::ReloadConfig(_) => reply.later(daemon, holding(memory, config::reload(daemon.clone()))),
        Call::SetSecret(params) => reply.later(daemon, holding(memory, secrets::set(daemon.clone(), *params))),
        Call::ListSecrets(params) => secrets::list(daemon, reply, &params),
        Call::RemoveSecret(params) => reply.later(daemon, holding(memory, secrets::remove(daemon.clone(), params))),
        Call::Rekey(_) => reply.later(daemon, holding(memory, secrets::rekey(daemon.clone()))),
        Call::Restart(params) => reply.later(daemon, holding(memory, config::restart(daemon.clone(), params))),
        Call::InitPool(_)
        | Call::JoinPool(_)
        | Call::CreateJoinToken(_)
        | Call::ListPoolHosts(_)
        | Call::PoolStatus(_)
        | Call::EvictHost(_)
        | Call::RekeyPool(_)
        | Call::LeavePool(_)
        | Call::SetPool(_)
        | Call::MigrateAccounts(_) => reply.later(daemon, holding(memory, pool::serve(daemon.clone(), call))),
        Call::Report(params) => report::report(daemon, reply, &params),
        Call::Acquire(_)
        | Call::Token(_)
        | Call::Release(_)
        | Call::Renew(_)
        | Call::Resume(_)
        | Call::Credential(_)
        | Call::Hello(_)
        | Call::Stop(_)
        | Call::GuestHolders(_) => Err(bad("this call needs its connection")),
    }
}

/// Changes an account; one that is shared, in the pool first.
fn change(daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, name: &str, action: AccountAction) -> CallResult {
    match shared_account::shared(daemon, name) {
        Some(id) => reply.later_saved(daemon, shared_account::change(daemon.clone(), id, action)),
        None => account::change(daemon, reply, name, action),
    }
}

/// Keeps the memory of a call counted until its work is over.
async fn holding<T>(memory: Option<MemoryShare>, work: impl Future<Output = T>) -> T {
    let _memory = memory;
    work.await
}

fn check_locked(daemon: &Daemon, call: &Call) -> Result<(), ErrorInfo> {
    match &daemon.run.keyring {
        Some(keyring) => secrets::check_locked(&keyring.why(), call),
        None => Ok(()),
    }
}
