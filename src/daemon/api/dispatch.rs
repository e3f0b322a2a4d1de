//! What each call does.

use std::sync::Arc;

use crate::credential::Secret;
use crate::pool::{Command, ConnectionId, Holder, Now, Refusal, Reply};
use crate::protocol::{
    Answer, Call, Codec, DisableAccountParams, ENCODING, Empty, ErrorInfo, HelloInfo, HelloParams, PROTOCOL, RequestId,
    SecretText, SubscribeParams,
};
use crate::provider::BadTarget;

use crate::daemon::api::account::Change;
use crate::daemon::api::lease::live_fence;
use crate::daemon::os::clock;
use crate::daemon::state::events::{KINDS, REPLAY_END};
use crate::daemon::state::outbox::Outbox;
use crate::daemon::state::{Daemon, Responder, State};
use crate::daemon::view;

/// One connection, as its calls see it.
#[derive(Debug)]
pub(crate) struct ClientSession {
    pub(crate) connection: ConnectionId,
    pub(crate) pid: Option<u32>,
    pub(crate) codec: Codec,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) holder: Option<Holder>,
    pub(crate) greeted: bool,
    /// The call at hand has no id, and gets no answer.
    pub(crate) quiet: bool,
}

/// What takes its time, and comes to an answer.
pub(crate) trait Work: Future<Output = Result<Answer<'static>, ErrorInfo>> + Send + 'static {}

impl<F: Future<Output = Result<Answer<'static>, ErrorInfo>> + Send + 'static> Work for F {}

/// What a call comes to, when it is not answered on the spot.
pub(crate) type CallResult = Result<(), ErrorInfo>;

impl ClientSession {
    /// Carries out a call; what can be said at once is appended to `out`.
    pub(crate) fn carry_out(&mut self, daemon: &Arc<Daemon>, id: Option<RequestId>, call: Call, out: &mut Vec<u8>) {
        if self.codec == Codec::Binary && !self.greeted && !matches!(call, Call::Hello(_)) {
            let error = ErrorInfo::new("bad_request", "a binary connection begins with `hello`");
            return self.refuse(id.as_ref(), &error, out);
        }
        // a lease that nobody can be told of would be held for nothing
        if id.is_none() && matches!(call, Call::Acquire(_) | Call::Token(_)) {
            return;
        }
        self.quiet = id.is_none();
        let start = out.len();
        let id = id.unwrap_or(RequestId::Number(0));
        if let Err(error) = self.dispatch(daemon, &id, call, out) {
            self.codec.refusal(&id, &error, out);
        }
        if self.quiet {
            out.truncate(start);
        }
    }

    /// Appends a refusal; a notification gets none.
    pub(crate) fn refuse(&self, id: Option<&RequestId>, error: &ErrorInfo, out: &mut Vec<u8>) {
        if let Some(id) = id {
            self.codec.refusal(id, error, out);
        }
    }

    fn dispatch(&mut self, daemon: &Arc<Daemon>, id: &RequestId, call: Call, out: &mut Vec<u8>) -> CallResult {
        if let Some(waiting) = &daemon.facts.waiting {
            waiting.check(&call)?;
        }
        match call {
            Call::Acquire(params) => self.acquire(daemon, id, *params, false, out),
            Call::Token(params) => self.acquire(daemon, id, *params, true, out),
            Call::Release(params) => {
                let fence = live_fence(daemon, &params)?;
                self.simple(daemon, id, Command::Release(fence), out)
            }
            Call::Renew(params) => self.renew(daemon, id, &params, out),
            Call::Resume(params) => self.resume(daemon, id, &params, out),
            Call::Report(params) => self.report(daemon, id, &params, out),
            Call::Credential(params) => self.credential(daemon, id, &params, out),
            Call::Hello(params) => self.hello(id, &params, out),
            Call::RefreshAccount(params) => {
                self.later(id, crate::daemon::api::refresh::refresh(daemon.clone(), params))
            }
            Call::ListLeases(_) => {
                let state = &*daemon.state();
                let rows = view::lease_rows(state, &daemon.key, clock::now());
                self.codec.answer(id, &Answer::Leases(rows), out);
                Ok(())
            }
            Call::ListAccounts(params) => {
                self.list_accounts(daemon, id, &params, out);
                Ok(())
            }
            Call::AddAccount(params) => self.later(id, crate::daemon::api::add_account::add(daemon.clone(), *params)),
            Call::RemoveAccount(params) => self.change(daemon, id, &params.account, Change::Remove, out),
            Call::SetAccount(params) => {
                let account = params.account.clone();
                self.change(daemon, id, &account, Change::Set(params), out)
            }
            Call::EnableAccount(params) => self.change(daemon, id, &params.account, Change::Enabled(true, None), out),
            Call::DisableAccount(DisableAccountParams { account, reason }) => {
                self.change(daemon, id, &account, Change::Enabled(false, reason), out)
            }
            Call::Status(_) => {
                let state = &*daemon.state();
                let status = view::status(daemon, state, clock::now());
                self.codec.answer(id, &Answer::Status(Box::new(status)), out);
                Ok(())
            }
            Call::Subscribe(params) => self.subscribe(daemon, id, params, out),
            Call::GetConfig(_) => {
                let document = crate::daemon::api::config::settings_document(&daemon.state().configured.config);
                self.codec.answer(id, &Answer::Config(document), out);
                Ok(())
            }
            Call::ReloadConfig(_) => self.reload_config(daemon, id),
            Call::ImportAccounts(params) => self.later(id, crate::daemon::api::import::import(daemon.clone(), *params)),
            Call::ExportAccounts(params) => {
                let document = crate::daemon::api::export::export(&daemon.state(), clock::now(), params.secrets);
                self.codec.answer(id, &Answer::Exported(document), out);
                Ok(())
            }
            Call::ClearLimits(params) => self.clear_limits(daemon, id, &params.account, out),
            Call::Forecast(params) => self.forecast(daemon, id, &params, out),
            Call::Explain(params) => self.explain(daemon, id, &params, out),
            Call::GatewayKey(params) => self.gateway_key(daemon, id, params, out),
            Call::AskUsage(params) => self.later(id, crate::daemon::api::usage::usage(daemon.clone(), params)),
            Call::VerifyAccount(params) => self.later(id, crate::daemon::api::usage::verify(daemon.clone(), params)),
            Call::Rekey(_) => self.later(id, crate::daemon::run::locked::rekey(daemon.clone())),
            Call::Stop(_) => {
                self.codec.answer(id, &Answer::Done(Empty {}), out);
                daemon.stop.send_replace(true);
                Ok(())
            }
        }
    }

    fn hello(&mut self, id: &RequestId, params: &HelloParams, out: &mut Vec<u8>) -> CallResult {
        let (lowest, highest) = params.protocol;
        if lowest > PROTOCOL || highest < PROTOCOL {
            let message = format!("this daemon speaks protocol {PROTOCOL}, the client {lowest} to {highest}");
            let hint = if lowest > PROTOCOL { "restart the daemon: it is older" } else { "update the client" };
            return Err(ErrorInfo::new("unsupported_version", message).hint(hint));
        }
        self.greeted = true;
        let hello = HelloInfo {
            server: "lessor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            features: vec![ENCODING.to_owned()],
        };
        self.codec.answer(id, &Answer::Hello(hello), out);
        Ok(())
    }

    fn subscribe(&self, daemon: &Daemon, id: &RequestId, params: SubscribeParams, out: &mut Vec<u8>) -> CallResult {
        if let Some(unknown) = params.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(bad(format!("there is no event kind {unknown:?}")).hint(format!("kinds: {}", KINDS.join(", "))));
        }
        debug_assert!(!KINDS.contains(&REPLAY_END));
        let state = &mut *daemon.state();
        self.codec.answer(id, &Answer::Done(Empty {}), out);
        state.events.subscribe(
            &state.pool,
            (self.connection, self.codec, &self.outbox),
            params.kinds,
            params.recent,
            out,
        );
        Ok(())
    }

    /// CallResult when the work is over; other calls are served meanwhile.
    pub(crate) fn later(&self, id: &RequestId, work: impl Work) -> CallResult {
        if !self.outbox.has_room() {
            return Err(too_many());
        }
        self.outbox.begin_wait();
        let to = self.responder(id, false);
        tokio::spawn(async move {
            let result = work.await;
            to.say(|out| match result {
                Ok(answer) => to.codec.answer(&to.id, &answer, out),
                Err(error) => to.codec.refusal(&to.id, &error, out),
            });
            to.outbox.end_wait();
        });
        Ok(())
    }

    /// CallResult once the file is read, on the thread that does.
    fn reload_config(&self, daemon: &Daemon, id: &RequestId) -> CallResult {
        if !self.outbox.has_room() {
            return Err(too_many());
        }
        self.outbox.begin_wait();
        daemon.reload.ask(Some(self.responder(id, false)));
        Ok(())
    }

    fn simple(&self, daemon: &Daemon, id: &RequestId, command: Command, out: &mut Vec<u8>) -> CallResult {
        let state = &mut *daemon.state();
        let now = clock::now();
        let (reply, unsaved) = daemon.apply(state, now, command);
        for write in unsaved {
            daemon.store.write(write, None);
        }
        refused(reply, now)?;
        self.codec.answer(id, &Answer::Done(Empty {}), out);
        Ok(())
    }

    pub(crate) fn responder(&self, id: &RequestId, wants_credential: bool) -> Responder {
        Responder {
            connection: self.connection,
            codec: self.codec,
            id: id.clone(),
            outbox: self.outbox.clone(),
            wants_credential,
            until: None,
            quiet: self.quiet,
        }
    }
}

pub(crate) fn bad_target(error: &BadTarget, state: &State) -> ErrorInfo {
    match error {
        BadTarget::Provider(_) => ErrorInfo::new("unknown_provider", error.to_string()).hint(format!(
            "there are: {}; another one is a section [providers.NAME] of the configuration",
            state.catalog.names().join(", ")
        )),
        BadTarget::Pool { .. } | BadTarget::TwoPools { .. } => bad(error.to_string()),
    }
}

pub(crate) fn too_many() -> ErrorInfo {
    ErrorInfo::new("overloaded", "too many calls of this connection wait already")
}

pub(crate) fn bad(message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new("bad_request", message)
}

pub(crate) fn refused(reply: Result<Reply, Refusal>, now: Now) -> Result<Reply, ErrorInfo> {
    reply.map_err(|refusal| ErrorInfo::of_refusal(&refusal, now.wall))
}

/// A secret from the wire.
pub(crate) fn secret(text: SecretText<'static>) -> Secret {
    Secret::new(text.0.into_owned())
}
