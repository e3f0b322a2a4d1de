//! The gateway's page: its sessions, the calls that it makes, and the events that it shows.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::GatewayHandle;
use crate::daemon::api::connection::planner::let_others_lock;
use crate::daemon::api::page_calls::{PageCall, page_call, serve};
use crate::daemon::api::reply::Responder;
use crate::daemon::memory::MemoryBudget;
use crate::daemon::os::clock;
use crate::daemon::page_sessions::{CodeRefused, OpenedSession, PageSession};
use crate::daemon::state::Outbox;
use crate::pool::ConnectionId;
use crate::protocol::{Codec, ErrorInfo, ErrorKind, RawMessage, RequestId};

/// How many calls of pages are served at a time; others wait.
const MOST_CALLS: usize = 2;
/// How long a call waits for its turn, and for its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
/// The memory of events that pages have not read.
const MEMORY_OF_EVENTS: usize = 8 << 20;

static CALLS: Semaphore = Semaphore::const_new(MOST_CALLS);
static EVENTS: LazyLock<MemoryBudget> = LazyLock::new(|| MemoryBudget::new(MEMORY_OF_EVENTS));

/// The events for one page; dropped, it gets no more of them.
#[derive(Debug)]
pub struct PageEvents {
    handle: GatewayHandle,
    connection: ConnectionId,
    outbox: Arc<Outbox>,
}

impl GatewayHandle {
    /// Opens a session of the page with a code. `is_own`: it does not come from another user of this machine.
    ///
    /// # Errors
    /// When the code is wrong, or too many wrong ones have come.
    pub fn open_page(&self, code: &str, is_own: bool) -> Result<OpenedSession, CodeRefused> {
        self.daemon.page.open(clock::now(), code, is_own)
    }

    /// The session of a key, if it is valid.
    #[must_use]
    pub fn page_session(&self, key: &str) -> Option<PageSession> {
        self.daemon.page.find(clock::now(), key)
    }

    /// Counts a call of the session with this key; `false` if it has made so many that it has to wait.
    #[must_use]
    pub fn count_page_call(&self, key: &str) -> bool {
        self.daemon.page.count_call(clock::now(), key)
    }

    /// Whether a session is still valid.
    #[must_use]
    pub fn is_page_valid(&self, session: PageSession) -> bool {
        session.ends > clock::now().mono
    }

    /// Serves a call of the page, a message as on the socket, and returns the same answer as there: a line of JSON.
    pub async fn page_call(&self, connection: ConnectionId, session: PageSession, message: &[u8]) -> Vec<u8> {
        let outbox = Arc::new(Outbox::new(&EVENTS));
        let responder = |id| Responder { connection, codec: Codec::Json, id, outbox: outbox.clone(), quiet: false };
        let refusal = |id: RequestId, error: &ErrorInfo| {
            let mut out = Vec::new();
            responder(id).refuse(error, &mut out);
            out
        };
        let no_id = || RequestId::Json("null".into());
        let (id, call) = match (RawMessage { codec: Codec::Json, bytes: message }).parse() {
            Ok(incoming) => (incoming.id.unwrap_or_else(no_id), incoming.call),
            Err(fatal) => (no_id(), Err(*fatal.error)),
        };
        let call = match call.map(|call| (page_call(&call), call)) {
            Ok((PageCall::View, call)) => call,
            Ok((PageCall::Action, call)) if session.may_act => call,
            Ok((PageCall::Action, _)) => {
                let error = ErrorInfo::new(ErrorKind::NotAllowed, "this page only shows, and changes nothing");
                return refusal(id, &error.hint("open one that may: lessor ui --actions"));
            }
            Ok((PageCall::NotForPages, call)) => {
                let message = format!("`{}` is not for the page", call.method());
                return refusal(id, &ErrorInfo::new(ErrorKind::NotAllowed, message));
            }
            Err(error) => return refusal(id, &error),
        };
        let responder = responder(id.clone());
        let served = tokio::time::timeout(CALL_TIMEOUT, async {
            let _turn = CALLS.acquire().await.ok()?;
            let daemon = self.daemon.clone();
            // apart from the requests of agents, which this thread forwards
            let work = tokio::task::spawn_blocking(move || {
                let_others_lock(&daemon);
                serve(&daemon, &responder, call)
            });
            let mut answer = work.await.ok()?.when_saved(&self.daemon).await;
            while answer.is_empty() {
                outbox.changed().await;
                outbox.drain_into(&mut answer);
                if outbox.is_closed() {
                    return None;
                }
            }
            Some(answer)
        });
        match served.await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => {
                let error = ErrorInfo::new(ErrorKind::Overloaded, "the daemon has not answered in time");
                refusal(id, &error.hint("try again in a moment"))
            }
        }
    }

    /// The events from now on.
    #[must_use]
    pub fn page_events(&self, connection: ConnectionId, kinds: Vec<String>) -> PageEvents {
        let outbox = Arc::new(Outbox::new(&EVENTS));
        let _replay = self.state().events.subscribe((connection, Codec::Json, &outbox), (kinds, None));
        PageEvents { handle: self.clone(), connection, outbox }
    }
}

impl PageEvents {
    /// Waits until there are events, or it has ended.
    pub async fn arrived(&self) {
        self.outbox.changed().await;
    }

    /// The events that have come, one message a line; `None` when so many were left unread that it has ended.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut events = Vec::new();
        self.outbox.drain_into(&mut events);
        (!self.outbox.is_closed()).then_some(events)
    }
}

impl Drop for PageEvents {
    fn drop(&mut self) {
        self.handle.state().events.unsubscribe(self.connection);
    }
}
