//! A request that waits for a lease: its place in the queue, and the event that says so.

use std::time::Duration;

use tokio::sync::oneshot;

use super::GatewayHandle;
use super::client::GatewayClient;
use super::needs::RouteRequest;
use crate::daemon::os::clock;
use crate::daemon::state::{State, Unsaved, Waiter};
use crate::pool::{Command, Fence, Now, Refusal, WaiterId};
use crate::protocol::EventInfo;

/// A place in the queue; it is left on drop.
pub(super) struct QueuePlace {
    handle: GatewayHandle,
    /// `None` once the request was answered.
    waiter: Option<WaiterId>,
    answer: oneshot::Receiver<Unsaved<Result<Fence, Refusal>>>,
}

impl QueuePlace {
    pub(super) fn take(handle: &GatewayHandle, state: &mut State, waiter: WaiterId) -> Self {
        let (answered, answer) = oneshot::channel();
        state.waiters.insert(waiter, RequestWaiter(answered));
        Self { handle: handle.clone(), waiter: Some(waiter), answer }
    }

    /// The granted lease, or the refusal; `None` if the daemon stops.
    pub(super) async fn answer(mut self) -> Option<Result<Unsaved<Fence>, Refusal>> {
        let answer = (&mut self.answer).await;
        self.waiter = None;
        Some(answer.ok()?.into_result().map_err(Unsaved::no_answer))
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter else { return };
        let state = &mut *self.handle.state();
        if state.waiters.remove(waiter).is_some() {
            state.apply_internal(clock::now(), Command::Cancel(waiter));
        } else if let Ok(Ok(fence)) = self.answer.try_recv().map(Unsaved::no_answer) {
            // granted at the moment when the client disconnected
            state.apply_internal(clock::now(), Command::Release(fence));
        }
    }
}

impl GatewayHandle {
    /// Says that a request waits, and when the first account is free, to those that asked for it. Where no account says
    /// when, it is the time after which the request is sent again.
    pub fn request_waits(&self, client: &GatewayClient, request: &RouteRequest<'_>, after: Option<Duration>) {
        if !self.state().events.tells_of_waiting() {
            return;
        }
        let Ok(found) = self.no_account(client, request) else { return };
        let facts = self.key_holder_facts(client);
        let now = clock::now().wall;
        let until = found.accounts.iter().filter_map(|account| account.until).min();
        let until = until.or(after.map(|after| now.after(after)));
        let event = EventInfo {
            at: now.0,
            provider: Some(request.provider.to_owned()),
            model: request.model.map(str::to_owned),
            session: request.session.map(|session| session.to_string()),
            agent: facts.agent.as_deref().map(str::to_owned),
            label: facts.label.as_deref().map(str::to_owned),
            until: until.map(|until| until.0),
            ..EventInfo::default()
        };
        self.state().events.request_waits(event, facts.process);
    }
}

/// Receives the end of a request's wait.
#[derive(Debug)]
struct RequestWaiter(oneshot::Sender<Unsaved<Result<Fence, Refusal>>>);

impl Waiter for RequestWaiter {
    fn answer(self: Box<Self>, _state: &mut State, _now: Now, result: Unsaved<Result<Fence, Refusal>>) {
        // a request that was cancelled at this moment finds its lease in `QueuePlace::drop`
        if let Err(unsent) = self.0.send(result) {
            let _lease = unsent.no_answer();
        }
    }
}
