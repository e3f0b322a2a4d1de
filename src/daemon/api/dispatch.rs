//! Dispatches each call to the code that serves it.

use std::sync::Arc;

use super::account::{self, AccountAction, add, check, export, import, refresh, replace, usage};
use super::reply::{CallReply, CallResult, Responder};
use super::session::{Session, bad};
use super::{config, explain, gateway_key, lease, report, secrets};
use crate::daemon::state::events::{KINDS, REPLAY_END};
use crate::daemon::{os::clock, state::Daemon, view};
use crate::protocol::{
    Answer, Call, Codec, DisableAccountParams, ENCODING, Empty, ErrorInfo, ErrorKind, HelloInfo, HelloParams, PROTOCOL,
    RequestId, SubscribeParams,
};

impl Session {
    /// Serves a call; an immediate answer is appended to `out`.
    pub fn serve(&mut self, daemon: &Arc<Daemon>, id: Option<RequestId>, call: Call, out: &mut Vec<u8>) {
        if self.codec == Codec::Binary && !self.greeted && !matches!(call, Call::Hello(_)) {
            let error = ErrorInfo::new(ErrorKind::BadRequest, "a binary connection begins with `hello`");
            return self.refuse(id, &error, out);
        }
        // a notification gets no answer, so its sender would not know the lease
        if id.is_none() && matches!(call, Call::Acquire(_) | Call::Token(_)) {
            return;
        }
        let mut reply = CallReply::new(daemon, self.responder(id), out);
        if let Err(error) = self.dispatch(daemon, &mut reply, call) {
            reply.refuse(&error);
        }
    }

    /// Refuses a message; a notification gets no answer.
    pub fn refuse(&self, id: Option<RequestId>, error: &ErrorInfo, out: &mut Vec<u8>) {
        self.responder(id).refuse(error, out);
    }

    fn responder(&self, id: Option<RequestId>) -> Responder {
        Responder {
            connection: self.connection,
            codec: self.codec,
            quiet: id.is_none(),
            id: id.unwrap_or(RequestId::Number(0)),
            outbox: self.outbox.clone(),
        }
    }

    fn dispatch(&mut self, daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, call: Call) -> CallResult {
        if let Some(keyring) = &daemon.run.keyring {
            secrets::check_locked(&keyring.why(), &call)?;
        }
        match call {
            Call::Acquire(params) => lease::acquire(self, daemon, reply, *params),
            Call::Token(params) => lease::token(self, daemon, reply, *params),
            Call::Release(params) => lease::release(daemon, reply, &params),
            Call::Renew(params) => lease::extend(daemon, reply, &params),
            Call::Resume(params) => lease::resume(self, daemon, reply, &params),
            Call::Report(params) => report::report(daemon, reply, &params),
            Call::Credential(params) => lease::credential(daemon, reply, &params),
            Call::ListLeases(_) => lease::list(daemon, reply),
            Call::Hello(params) => self.hello(reply, &params),
            Call::Subscribe(params) => subscribe(daemon, reply, params),
            Call::Status(_) => reply.at_once(&Answer::Status(Box::new(view::status(daemon, clock::now())))),
            Call::ListAccounts(params) => account::list(daemon, reply, &params),
            Call::AddAccount(params) => reply.later_saved(daemon, add::add(daemon.clone(), *params)),
            Call::RemoveAccount(params) => account::change(daemon, reply, &params.account, AccountAction::Remove),
            Call::SetAccount(params) if replace::is_wanted(&params) => {
                reply.later_saved(daemon, replace::replace(daemon.clone(), *params))
            }
            Call::CheckAccount(params) => reply.later_saved(daemon, check::check(daemon.clone(), params)),
            Call::SetAccount(params) => {
                let account = params.account.clone();
                account::change(daemon, reply, &account, AccountAction::Set(params))
            }
            Call::EnableAccount(params) => {
                account::change(daemon, reply, &params.account, AccountAction::Enable(true, None))
            }
            Call::DisableAccount(DisableAccountParams { account, reason }) => {
                account::change(daemon, reply, &account, AccountAction::Enable(false, reason))
            }
            Call::ClearLimits(params) => account::change(daemon, reply, &params.account, AccountAction::ClearLimits),
            Call::RefreshAccount(params) => reply.later(daemon, refresh::refresh(daemon.clone(), params)),
            Call::ImportAccounts(params) => reply.later_saved(daemon, import::import(daemon.clone(), *params)),
            Call::ExportAccounts(params) => export::export(daemon, reply, params.secrets),
            Call::AskUsage(params) => reply.later(daemon, usage::usage(daemon.clone(), params)),
            Call::VerifyAccount(params) => reply.later_saved(daemon, usage::verify(daemon.clone(), params)),
            Call::Forecast(params) => explain::forecast(daemon, reply, &params),
            Call::Explain(params) => explain::explain(daemon, reply, &params),
            Call::GatewayKey(params) => gateway_key::gateway_key(daemon, reply, params),
            Call::GetConfig(_) => config::get(daemon, reply),
            Call::ReloadConfig(_) => reply.later(daemon, config::reload(daemon.clone())),
            Call::Rekey(_) => reply.later(daemon, secrets::rekey(daemon.clone())),
            Call::Restart(params) => reply.later(daemon, config::restart(daemon.clone(), params)),
            Call::Stop(_) => {
                daemon.restart.send_replace(None);
                daemon.stop.send_replace(true);
                reply.at_once(&Answer::Done(Empty {}))
            }
        }
    }

    fn hello(&mut self, reply: &mut CallReply<'_>, params: &HelloParams) -> CallResult {
        let (lowest, highest) = params.protocol;
        if lowest > PROTOCOL || highest < PROTOCOL {
            let message = format!("this daemon speaks protocol {PROTOCOL}, the client {lowest} to {highest}");
            let hint = if lowest > PROTOCOL { "restart the daemon: it is older" } else { "update the client" };
            return Err(ErrorInfo::new(ErrorKind::UnsupportedVersion, message).hint(hint));
        }
        self.greeted = true;
        reply.at_once(&Answer::Hello(HelloInfo {
            server: "lessor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            features: vec![ENCODING.to_owned()],
        }))
    }
}

fn subscribe(daemon: &Daemon, reply: &mut CallReply<'_>, params: SubscribeParams) -> CallResult {
    if let Some(unknown) = params.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(bad(format!("there is no event kind {unknown:?}")).hint(format!("kinds: {}", KINDS.join(", "))));
    }
    debug_assert!(!KINDS.contains(&REPLAY_END));
    reply.subscribe(&mut daemon.state(), params.kinds, params.recent)
}
