//! The calls that the gateway's page makes: which it may make, with the same answers as on the socket.

use std::sync::Arc;

use super::dispatch::dispatch_planned;
use super::lease;
use super::reply::{CallReply, CallResult, PlannedAnswer, Responder};
use crate::daemon::state::Daemon;
use crate::protocol::Call;

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
        Call::Release(params) => lease::release(daemon, reply, &params.with_text(String::as_str)),
        call => dispatch_planned(daemon, reply, call, None),
    }
}
