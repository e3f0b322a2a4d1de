//! The record of a request: what happened to it, from its key and its route to the end of its response. It ends in one
//! row of the history, and in the metrics, whatever ends the request: a record that is dropped without an end belongs to a
//! request whose client has gone, or whose connection was cut.

mod attempts;
mod connection_cut;
mod names;
mod recorder;

pub(super) use attempts::AttemptFailure;
pub(super) use connection_cut::{CutReason, CutWatch};
pub(super) use recorder::RequestRecorder;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::waiting::now;
use crate::daemon::{GatewayClient, GatewayPeer, LeasedAccount, SenderLookup, clock};
use crate::pool::{Process, millis};
use crate::protocol::{AttemptRow, RequestRow, TokenSums};
use names::{shortened, without_secrets};

/// The longest reason that is recorded, in bytes.
const MAX_REASON: usize = 300;
/// The longest path and the longest name that are recorded, in bytes.
const MAX_PATH: usize = 200;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RequestEnd {
    /// With a complete response that is no refusal.
    Ok,
    /// The client got a refusal of the provider, or of lessor.
    Refused,
    /// The response broke off, or said in its middle that it failed.
    Broken,
    /// The client closed its connection before the response was complete.
    Cancelled,
}

impl RequestEnd {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(super) struct RecordedSource {
    pub(super) client: Arc<GatewayClient>,
    pub(super) peer: Arc<GatewayPeer>,
    /// Why the gateway has ended its connection.
    pub(super) cut: Arc<CutReason>,
    pub(super) received_at: Instant,
}

/// The record of a request that is under way.
#[derive(Debug)]
pub(super) struct RequestRecord {
    recorder: Arc<RequestRecorder>,
    source: RecordedSource,
    /// Until it has ended.
    row: Option<Box<RequestRow>>,
    /// The lease's holder.
    process: Option<Process>,
    waiting_since: Option<Instant>,
    waited: Duration,
    /// When the attempt was sent that has no result yet.
    attempt_since: Option<Instant>,
    first_byte: Option<Duration>,
    is_discarded: bool,
    /// `None` until it has ended.
    end: Option<RequestEnd>,
}

/// A request that has ended, with exact times.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedRequest<'a> {
    pub(super) row: &'a RequestRow,
    pub(super) times: RequestTimes,
}

/// How long a request took, exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestTimes {
    pub(super) first_byte: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) waited: Duration,
}

/// A path as it is recorded: short, and without anything that could be a key.
pub(super) fn recorded_path(path: &str) -> String {
    without_secrets(path, MAX_PATH).into_owned()
}

/// A text as it is recorded: mostly the same.
fn shared(text: &Arc<str>, recorded: Cow<'_, str>) -> Arc<str> {
    match recorded {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(other) => other.into(),
    }
}

impl RequestRecord {
    /// Of a request for this path of a provider, see [`recorded_path`].
    pub(super) fn begin(
        recorder: &Arc<RequestRecorder>,
        source: &RecordedSource,
        (provider, recorded_path): (Arc<str>, Arc<str>),
    ) -> Self {
        let elapsed = millis(now().duration_since(source.received_at));
        let row = RequestRow {
            at: clock::now().wall.0.saturating_sub(elapsed),
            provider,
            path: recorded_path,
            directory: source.client.directory.clone(),
            ..RequestRow::default()
        };
        Self {
            recorder: recorder.clone(),
            source: source.clone(),
            row: Some(Box::new(row)),
            process: None,
            waiting_since: None,
            waited: Duration::ZERO,
            attempt_since: None,
            first_byte: None,
            is_discarded: false,
            end: None,
        }
    }

    /// What was read from the request.
    pub(super) fn is_for(&mut self, model: Option<&Arc<str>>, session: Option<&Arc<str>>, pool: Option<&str>) {
        let row = self.row();
        row.model = model.map(|model| shared(model, without_secrets(model, MAX_PATH)));
        row.session = session.map(|session| shared(session, shortened(session, MAX_PATH)));
        row.pool = pool.map(Into::into);
    }

    /// It has this lease.
    pub(super) fn leased(&mut self, account: &mut LeasedAccount) {
        let row = self.row();
        row.lease = Some(std::mem::take(&mut account.lease.id));
        row.label.clone_from(&account.lease.label);
        row.agent.clone_from(&account.agent);
        row.pool = account.lease.pool.clone().or(row.pool.take());
        self.process = account.lease.process;
    }

    /// It waits for an account from now on.
    pub(super) fn waits(&mut self) {
        self.waiting_since.get_or_insert_with(now);
    }

    /// It waits no more.
    pub(super) fn waits_no_more(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += now().duration_since(since);
        }
    }

    /// The client gets the response of this account.
    pub(super) fn response_began(&mut self, account: &LeasedAccount, status: u16) {
        self.waits_no_more();
        self.first_byte = Some(now().duration_since(self.source.received_at));
        let row = self.row();
        (row.account, row.status) = (Some(account.lease.account.clone()), Some(status));
    }

    /// The tokens that the provider stated.
    pub(super) fn took(&mut self, tokens: Option<TokenSums>) {
        self.row().tokens = tokens;
    }

    /// lessor itself has refused it.
    pub(super) fn refused(&mut self, status: u16, reason: &str) {
        self.row().status = Some(status);
        self.ends(RequestEnd::Refused, Some(reason));
    }

    /// It ends so.
    pub(super) fn ends(&mut self, end: RequestEnd, reason: Option<&str>) {
        self.end = Some(end);
        self.row().reason = reason.map(|reason| shortened(reason, MAX_REASON).into_owned());
    }

    /// It is no request of a valid key: it is not recorded.
    pub(super) fn discard(mut self) {
        self.is_discarded = true;
    }

    /// The reason of the last attempt.
    pub(super) fn last_reason(&self) -> Option<&str> {
        self.row.as_ref()?.attempts.last()?.reason.as_deref()
    }

    /// It has ended without a response: the client has gone, or its connection was cut.
    fn ends_without_response(&mut self) {
        let is_before = self.first_byte.is_none();
        let waited = self.waiting_since.is_some();
        self.abandon_attempt();
        match self.source.cut.reason() {
            Some(reason) => self.ends(RequestEnd::Broken, Some(reason)),
            None => {
                let when = match (is_before, waited) {
                    (true, true) => "while it waited for an account",
                    (true, false) => "before the response",
                    (false, _) => "during the response",
                };
                self.ends(RequestEnd::Cancelled, Some(when));
            }
        }
        if is_before {
            self.row().status = None;
        }
    }

    fn row(&mut self) -> &mut RequestRow {
        self.row.get_or_insert_default()
    }

    /// The sender of the request, as far as it is known now.
    fn sender(&mut self) -> SenderLookup {
        if self.row().lease.is_none() {
            let facts = self.recorder.handle().key_holder_facts(&self.source.client);
            let row = self.row();
            (row.agent, row.label) = (facts.agent, facts.label);
            self.process = facts.process;
        }
        self.recorder.handle().sender(&self.source.peer, self.process.filter(|_| self.source.client.has_lease()))
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if self.is_discarded {
            return;
        }
        if self.end.is_none() {
            self.ends_without_response();
        }
        self.waits_no_more();
        let duration = now().duration_since(self.source.received_at);
        let sender = self.sender();
        let mut row = self.row.take().unwrap_or_default();
        row.outcome = self.end.map_or("", RequestEnd::name).into();
        row.waited_ms = millis(self.waited);
        row.first_byte_ms = self.first_byte.map(millis);
        row.duration_ms = millis(duration);
        let times = RequestTimes { first_byte: self.first_byte, duration, waited: self.waited };
        let is_last = self.source.cut.is_end_of_daemon();
        self.recorder.ended(row, times, sender, is_last);
    }
}

impl RequestRecord {
    fn last_attempt(&mut self) -> Option<&mut AttemptRow> {
        self.row().attempts.last_mut()
    }
}
