//! What each call does.

use std::sync::Arc;

use crate::credential::Secret;
use crate::pool::{Command, ConnectionId, Holder, Now, Refusal, Reply};
use crate::protocol::{
    Answer, Call, Codec, DisableAccount, ENCODING, Empty, ErrorInfo, Hello, HelloInfo, PROTOCOL, RequestId, SecretText,
    Subscribe,
};
use crate::provider::BadTarget;

use super::account_calls::Change;
use super::answers;
use super::clock;
use super::core::{Core, Daemon, Responder};
use super::events::{KINDS, REPLAY_END};
use super::leasing::live_fence;
use super::outbox::Outbox;

/// One connection, as its calls see it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: ConnectionId,
    pub(super) pid: Option<u32>,
    pub(super) codec: Codec,
    pub(super) outbox: Arc<Outbox>,
    pub(super) holder: Option<Holder>,
    pub(super) greeted: bool,
    /// The call at hand has no id, and gets no answer.
    pub(super) quiet: bool,
}

/// What takes its time, and comes to an answer.
pub(super) trait Work: Future<Output = Result<Answer<'static>, ErrorInfo>> + Send + 'static {}

impl<F: Future<Output = Result<Answer<'static>, ErrorInfo>> + Send + 'static> Work for F {}

/// What a call comes to, when it is not answered on the spot.
pub(super) type Answered = Result<(), ErrorInfo>;

impl Caller {
    /// Carries out a call; what can be said at once is appended to `out`.
    pub(super) fn carry_out(&mut self, daemon: &Arc<Daemon>, id: Option<RequestId>, call: Call, out: &mut Vec<u8>) {
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
    pub(super) fn refuse(&self, id: Option<&RequestId>, error: &ErrorInfo, out: &mut Vec<u8>) {
        if let Some(id) = id {
            self.codec.refusal(id, error, out);
        }
    }

    fn dispatch(&mut self, daemon: &Arc<Daemon>, id: &RequestId, call: Call, out: &mut Vec<u8>) -> Answered {
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
            Call::RefreshAccount(params) => self.later(id, super::refreshing::refresh_account(daemon.clone(), params)),
            Call::ListLeases(_) => {
                let core = &*daemon.core();
                let rows = answers::lease_rows(core, &daemon.key, clock::now());
                self.codec.answer(id, &Answer::Leases(rows), out);
                Ok(())
            }
            Call::ListAccounts(params) => {
                self.list_accounts(daemon, id, &params, out);
                Ok(())
            }
            Call::AddAccount(params) => self.later(id, super::adding::add(daemon.clone(), *params)),
            Call::RemoveAccount(params) => self.change(daemon, id, &params.account, Change::Remove, out),
            Call::SetAccount(params) => {
                let account = params.account.clone();
                self.change(daemon, id, &account, Change::Set(params), out)
            }
            Call::EnableAccount(params) => self.change(daemon, id, &params.account, Change::Enabled(true, None), out),
            Call::DisableAccount(DisableAccount { account, reason }) => {
                self.change(daemon, id, &account, Change::Enabled(false, reason), out)
            }
            Call::Status(_) => {
                let core = &*daemon.core();
                let status = answers::status(daemon, core, clock::now());
                self.codec.answer(id, &Answer::Status(Box::new(status)), out);
                Ok(())
            }
            Call::Subscribe(params) => self.subscribe(daemon, id, params, out),
            Call::GetConfig(_) => {
                let document = super::settings_document(&daemon.core().configured.config);
                self.codec.answer(id, &Answer::Config(document), out);
                Ok(())
            }
            Call::ReloadConfig(_) => self.reload_config(daemon, id),
            Call::ImportAccounts(params) => self.later(id, super::importing::import(daemon.clone(), *params)),
            Call::ExportAccounts(params) => {
                let document = super::exporting::export(&daemon.core(), clock::now(), params.secrets);
                self.codec.answer(id, &Answer::Exported(document), out);
                Ok(())
            }
            Call::ClearLimits(params) => self.clear_limits(daemon, id, &params.account, out),
            Call::Forecast(params) => self.forecast(daemon, id, &params, out),
            Call::Explain(params) => self.explain(daemon, id, &params, out),
            Call::GatewayKey(params) => self.gateway_key(daemon, id, params, out),
            Call::AskUsage(params) => self.later(id, super::asking::usage(daemon.clone(), params)),
            Call::VerifyAccount(params) => self.later(id, super::asking::verify(daemon.clone(), params)),
            Call::Rekey(_) => self.later(id, super::unlocking::rekey(daemon.clone())),
            Call::Stop(_) => {
                self.codec.answer(id, &Answer::Done(Empty {}), out);
                daemon.stop.send_replace(true);
                Ok(())
            }
        }
    }

    fn hello(&mut self, id: &RequestId, params: &Hello, out: &mut Vec<u8>) -> Answered {
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

    fn subscribe(&self, daemon: &Daemon, id: &RequestId, params: Subscribe, out: &mut Vec<u8>) -> Answered {
        if let Some(unknown) = params.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(bad(format!("there is no event kind {unknown:?}")).hint(format!("kinds: {}", KINDS.join(", "))));
        }
        debug_assert!(!KINDS.contains(&REPLAY_END));
        let core = &mut *daemon.core();
        self.codec.answer(id, &Answer::Done(Empty {}), out);
        core.events.subscribe(
            &core.pool,
            (self.connection, self.codec, &self.outbox),
            params.kinds,
            params.recent,
            out,
        );
        Ok(())
    }

    /// Answered when the work is over; other calls are served meanwhile.
    pub(super) fn later(&self, id: &RequestId, work: impl Work) -> Answered {
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

    /// Answered once the file is read, on the thread that does.
    fn reload_config(&self, daemon: &Daemon, id: &RequestId) -> Answered {
        if !self.outbox.has_room() {
            return Err(too_many());
        }
        self.outbox.begin_wait();
        daemon.reload.ask(Some(self.responder(id, false)));
        Ok(())
    }

    fn simple(&self, daemon: &Daemon, id: &RequestId, command: Command, out: &mut Vec<u8>) -> Answered {
        let core = &mut *daemon.core();
        let now = clock::now();
        let (reply, unsaved) = daemon.apply(core, now, command);
        for write in unsaved {
            daemon.store.write(write, None);
        }
        refused(reply, now)?;
        self.codec.answer(id, &Answer::Done(Empty {}), out);
        Ok(())
    }

    pub(super) fn responder(&self, id: &RequestId, wants_credential: bool) -> Responder {
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

pub(super) fn bad_target(error: &BadTarget, core: &Core) -> ErrorInfo {
    match error {
        BadTarget::Provider(_) => ErrorInfo::new("unknown_provider", error.to_string()).hint(format!(
            "there are: {}; another one is a section [providers.NAME] of the configuration",
            core.catalog.names().join(", ")
        )),
        BadTarget::Pool { .. } | BadTarget::TwoPools { .. } => bad(error.to_string()),
    }
}

pub(super) fn too_many() -> ErrorInfo {
    ErrorInfo::new("overloaded", "too many calls of this connection wait already")
}

pub(super) fn bad(message: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new("bad_request", message)
}

pub(super) fn refused(reply: Result<Reply, Refusal>, now: Now) -> Result<Reply, ErrorInfo> {
    reply.map_err(|refusal| ErrorInfo::of_refusal(&refusal, now.wall))
}

/// A secret from the wire.
pub(super) fn secret(text: SecretText<'static>) -> Secret {
    Secret::new(text.0.into_owned())
}
