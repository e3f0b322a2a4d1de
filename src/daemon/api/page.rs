//! `page.open`: codes for the gateway's page; and the calls that the page makes, with the same answers as on the socket.

use std::sync::Arc;
use std::time::Duration;

use super::dispatch::dispatch_planned;
use super::lease;
use super::reply::{AnswerResult, CallReply, CallResult, PlannedAnswer, Responder};
use crate::daemon::os::clock;
use crate::daemon::page_sessions::CodeState;
use crate::daemon::state::{Daemon, GatewayState};
use crate::protocol::{Answer, Call, ErrorInfo, ErrorKind, OpenPageParams, PageAccess, SecretText};

/// How long an answer waits until the code is used; a client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Makes a code, or waits for what becomes of one.
pub async fn open(daemon: Arc<Daemon>, params: OpenPageParams) -> AnswerResult {
    let GatewayState { url, trouble, .. } = daemon.state().gateway.clone();
    let url = url.map(|url| format!("{url}/ui"));
    let Some(code) = params.wait_for else {
        if url.is_none() {
            let why = trouble.unwrap_or_else(|| "gateway.enabled is false".to_owned());
            let error = ErrorInfo::new(ErrorKind::NoGateway, format!("the gateway does not listen: {why}"));
            return Err(error.hint("the page is part of the gateway: lessor config set gateway.enabled true"));
        }
        let made = daemon.page.make_code(clock::now(), params.actions);
        let no_random = |error| ErrorInfo::new(ErrorKind::Internal, format!("no random number is available: {error}"));
        let (code, expires_at) = made.map_err(no_random)?;
        let code = Some(SecretText(code.to_string().into()));
        let access = PageAccess { url, trouble, code, expires_at: Some(expires_at.0), state: "open".to_owned() };
        return Ok(Answer::PageAccess(Box::new(access)));
    };
    let state = || daemon.page.state_of(clock::now(), &code.0);
    let no_longer_open = async {
        loop {
            let used = daemon.page.code_used();
            if state() != CodeState::Open {
                return;
            }
            // a code that ends wakes nothing
            let _used_or_later = tokio::time::timeout(Duration::from_secs(1), used).await;
        }
    };
    let _in_time = tokio::time::timeout(LONGEST_WAIT, no_longer_open).await;
    let state = match state() {
        CodeState::Open => "open",
        CodeState::Used => "used",
        CodeState::Ended => "ended",
    };
    let access = PageAccess { url, trouble, code: None, expires_at: None, state: state.to_owned() };
    Ok(Answer::PageAccess(Box::new(access)))
}

/// What a page may do with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageCall {
    /// It changes nothing.
    View,
    /// It needs a session that may change something.
    Action,
    /// It is not for a page: it hands out secrets, or changes what the page does not show.
    NotForPages,
}

/// What a page may do with this call.
pub fn page_call(call: &Call) -> PageCall {
    match call {
        Call::Status(_) | Call::ListAccounts(_) | Call::ListLeases(_) | Call::QueryHistory(_) => PageCall::View,
        Call::EnableAccount(_)
        | Call::DisableAccount(_)
        | Call::ClearLimits(_)
        | Call::RefreshAccount(_)
        | Call::Release(_)
        | Call::MoveLease(_) => PageCall::Action,
        _ => PageCall::NotForPages,
    }
}

/// Serves a call of the page; the answer may come later, through the responder's outbox.
pub fn serve(daemon: &Arc<Daemon>, responder: &Responder, call: Call) -> PlannedAnswer {
    PlannedAnswer::of(daemon, responder, |reply| dispatch(daemon, reply, call))
}

fn dispatch(daemon: &Arc<Daemon>, reply: &mut CallReply<'_>, call: Call) -> CallResult {
    match call {
        Call::Release(params) => lease::release(daemon, reply, &params),
        call => dispatch_planned(daemon, reply, call, None),
    }
}
