//! How long one request may wait: as long as its program bears, and as long as its session may in all.

use std::sync::OnceLock;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::time::Instant;

use super::sessions::{WaitKey, WaitingSessions};
use crate::daemon::{GatewayClient, GatewayHandle};
use crate::provider::Patience;

/// Where the vendors' own client libraries state how long they wait for a response, in seconds.
const CLIENT_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-timeout");

pub(in crate::gateway) struct RequestPatience {
    pub(in crate::gateway) key: WaitKey,
    pub(in crate::gateway) began: Instant,
    /// The session's first refusal, or the beginning of this request.
    first_refusal: Instant,
    /// How long the session may wait, over all its requests.
    limit: Duration,
    timeout: Option<Duration>,
    most: Option<Duration>,
    user_agent: Option<HeaderValue>,
    /// Known when a request has to wait: looking up the agent of a lease takes the daemon's lock.
    program: OnceLock<Patience>,
}

impl RequestPatience {
    pub(in crate::gateway) fn new(
        sessions: &WaitingSessions,
        key: WaitKey,
        limit: Duration,
        headers: &HeaderMap,
    ) -> Self {
        let began = now();
        let first_refusal = sessions.first_refusal(&key, began).unwrap_or(began);
        let timeout = headers.get(CLIENT_TIMEOUT).and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        Self {
            key,
            began,
            first_refusal,
            limit,
            timeout: timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            most: None,
            user_agent: headers.get(USER_AGENT).cloned(),
            program: OnceLock::new(),
        }
    }

    /// The client gives up after this time, whatever its program bears otherwise.
    pub(in crate::gateway) fn waits_at_most(&mut self, most: Duration) {
        self.most = Some(most);
    }

    pub(in crate::gateway) fn program(&self, handle: &GatewayHandle, client: &GatewayClient) -> Patience {
        *self.program.get_or_init(|| {
            let user_agent = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()).unwrap_or_default();
            let named = Patience::of(user_agent, None);
            let is_known = named != Patience::of("", None);
            let program = if is_known { named } else { Patience::of("", handle.agent_of(client).as_deref()) };
            let mut program = program.within(self.timeout);
            program.bears = self.most.map_or(program.bears, |most| program.bears.min(most));
            program
        })
    }

    /// How long the session may still wait.
    pub(in crate::gateway) fn limit_left(&self) -> Duration {
        self.limit.saturating_sub(now().duration_since(self.first_refusal))
    }

    /// When the client must have an answer.
    pub(in crate::gateway) fn answer_due(&self, program: Patience) -> Instant {
        self.began + program.bears.min(self.limit.saturating_sub(self.began.duration_since(self.first_refusal)))
    }

    /// The session was refused and comes back, or has reached its limit.
    pub(in crate::gateway) fn note_refusal(&self, sessions: &WaitingSessions) {
        sessions.refused(&self.key, self.first_refusal, now());
    }
}

#[expect(clippy::disallowed_methods, reason = "tokio's own clock, for tokio's own timer")]
pub(in crate::gateway) fn now() -> Instant {
    Instant::now()
}
