//! The lease of a request: room for it with the client's key, an account that can serve it, and how long it waits for
//! both.

use std::{pin::pin, time::Duration};

use hyper::{Response, StatusCode};
use tokio::time::{sleep, sleep_until};

use super::{DENIED_WAIT, Forward, NextStep};
use crate::daemon::{
    KeyRevoked, KeyUse, LeaseStep, LeasedAccount, NoAccount, NoLeaseReason, RequestLease, RouteRequest,
};
use crate::gateway::metrics::InFlightGuard;
use crate::gateway::refusal::NextRequest;
use crate::gateway::response::ClientBody;
use crate::gateway::waiting::now;
use crate::pool::AccountId;
use crate::provider;

/// How often a request that its provider has refused for every account is looked at again.
const DENIED_CHECK: Duration = Duration::from_secs(5);
/// A request whose lease takes longer waits for an account: a restart does not wait for it.
const ARRIVAL: Duration = Duration::from_millis(500);

/// A lease that can serve in no time is looked at again after this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// How often a request that waits for room looks for another account.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why a request that waits must have an answer.
enum WaitEnd {
    /// The provider has refused every account.
    Denied(Box<NoAccount>),
    /// Its client bears no longer wait.
    Due,
}

impl Forward<'_> {
    /// Waits until the client's key has room for the request, as long as the client bears.
    pub(super) async fn room_of_key(&mut self) -> Result<Option<KeyUse>, Box<Response<ClientBody>>> {
        let mut beginning = pin!(self.client.begin());
        let at_once = tokio::select! {
            biased;
            begun = &mut beginning => Some(begun),
            () = std::future::ready(()) => None,
        };
        let begun = match at_once {
            Some(begun) => begun,
            None => {
                // a restart does not wait for it
                self.request.in_flight = None;
                self.request.record.waits();
                let due = self.answer_due();
                loop {
                    tokio::select! {
                        begun = &mut beginning => {
                            self.request.record.waits_no_more();
                            break begun;
                        }
                        () = sleep(ARRIVAL), if !self.is_announced => self.announce(),
                        () = sleep_until(due) => {
                            let is_over = self.patience.limit_left().is_zero();
                            let next = if is_over { NextRequest::Stops } else { NextRequest::ComesBack };
                            return Err(Box::new(self.no_account(&self.client.no_room(), next)));
                        }
                    }
                }
            }
        };
        begun.map_err(|KeyRevoked| Box::new(self.unauthorized("the key was revoked")))
    }

    fn route_request<'r>(&'r self, avoid: &'r [AccountId]) -> RouteRequest<'r> {
        let parts = &self.request;
        RouteRequest {
            provider: &parts.route.provider,
            model: parts.model.as_deref(),
            pool: parts.pool,
            kinds: parts.route.kinds,
            takes_direct_logins: provider::accepts_direct_login(&parts.route.provider, &parts.route.path),
            session: parts.buffered.text.session.as_ref(),
            subagent: parts.buffered.text.subagent.as_ref(),
            project: parts.buffered.replaceable_project(),
            stored_ids: &parts.buffered.text.stored_ids,
            is_bound: parts.buffered.is_bound(),
            connection: parts.connection,
            peer: &parts.peer,
            avoid,
            uses_quota: provider::uses_quota(&parts.route.provider, &parts.route.path),
            turn: self.turn.as_ref(),
        }
    }

    /// Leases an account that can serve the request, waiting for one as long as the client bears.
    pub(super) async fn lease(
        &mut self,
        mut held: Option<RequestLease>,
    ) -> Result<(RequestLease, Box<LeasedAccount>), Box<Response<ClientBody>>> {
        let mut in_flight = self.request.in_flight.take();
        let mut changed = None;
        self.request.record.waits();
        loop {
            let step = self.lease_step(held.take(), &mut in_flight);
            let response = match step.await.map_err(Box::new)? {
                Ok(LeaseStep::Leased(lease, mut account)) => {
                    self.request.record.leased(&mut account);
                    (self.is_bound, self.is_announced) = (account.is_only, false);
                    return Ok((lease, account));
                }
                Ok(LeaseStep::Wait(after, before)) => {
                    (held, in_flight) = (before, None);
                    // from here on no change is missed: it is looked at once more, and then waits for one
                    let Some(change) = changed.take() else {
                        changed = Some(Box::pin(self.backend.handle.pool_changed()));
                        continue;
                    };
                    self.announce_wait(after);
                    let over = tokio::select! {
                        () = change => None,
                        () = sleep(after.max(SHORTEST_PAUSE)) => None,
                        over = self.wait_is_over() => Some(over),
                    };
                    let Some(over) = over else {
                        changed = Some(Box::pin(self.backend.handle.pool_changed()));
                        continue;
                    };
                    self.answer_to_wait(over)
                }
                Ok(LeaseStep::TokenIsLate(after, before)) => {
                    (held, in_flight) = (before, None);
                    self.announce_wait(after);
                    let over = tokio::select! {
                        () = self.pause(after) => continue,
                        over = self.wait_is_over() => over,
                    };
                    self.answer_to_wait(over)
                }
                Ok(LeaseStep::InTurn(before)) => {
                    (held, in_flight) = (before, None);
                    self.announce();
                    let over = tokio::select! {
                        () = self.called() => continue,
                        // an account may have come free that was limited when it began to wait
                        () = sleep(LOOK_AGAIN) => continue,
                        over = self.wait_is_over() => over,
                    };
                    self.answer_to_wait(over)
                }
                Err(NoLeaseReason::Gone) => {
                    self.backend.handle.came_after_lease();
                    self.unauthorized("the lease of its key has ended")
                }
                Err(NoLeaseReason::Bad(error)) => self.error(StatusCode::BAD_REQUEST, &format!("lessor: {error}")),
                Err(NoLeaseReason::Refused(found)) => self.no_account(&found, NextRequest::Stops),
            };
            return Err(Box::new(response));
        }
    }

    /// One step of that; `Err` is the answer when the client must have one. `in_flight` ends when the request has to wait.
    async fn lease_step(
        &mut self,
        held: Option<RequestLease>,
        in_flight: &mut Option<InFlightGuard>,
    ) -> Result<Result<LeaseStep, NoLeaseReason>, Response<ClientBody>> {
        let mut is_announced = self.is_announced;
        let ended = {
            let request = self.route_request(&[]);
            let leasing = self.backend.handle.lease(self.client, &request, held, self.patience.limit_left());
            let mut leasing = pin!(leasing);
            // most requests are leased an account at once, and need no timers
            let at_once = tokio::select! {
                biased;
                step = &mut leasing => Some(step),
                () = std::future::ready(()) => None,
            };
            if let Some(step) = at_once {
                return Ok(step);
            }
            let mut over = Box::pin(self.wait_is_over());
            loop {
                tokio::select! {
                    biased;
                    step = &mut leasing => break Ok(step),
                    over = &mut over => break Err(over),
                    () = sleep(ARRIVAL), if !is_announced => {
                        (*in_flight, is_announced) = (None, true);
                        self.backend.handle.request_waits(self.client, &request, None);
                    }
                }
            }
        };
        self.is_announced = is_announced;
        ended.map_err(|over| self.answer_to_wait(over))
    }

    /// Tells subscribers that the request waits, for this time at most; a wait that is over in a moment is no news.
    pub(super) fn announce_wait(&mut self, after: Duration) {
        if after >= ARRIVAL && !std::mem::replace(&mut self.is_announced, true) {
            self.backend.handle.request_waits(self.client, &self.route_request(&[]), Some(after));
        }
    }

    /// The same for a wait whose end is not known.
    fn announce(&mut self) {
        if !std::mem::replace(&mut self.is_announced, true) {
            self.backend.handle.request_waits(self.client, &self.route_request(&[]), None);
        }
    }

    /// Leases an account that has not failed, if one is free; otherwise the request starts over. A request that only one
    /// account can serve stays on it.
    pub(super) async fn elsewhere<R>(&mut self, held: Option<RequestLease>) -> NextStep<R> {
        if held.is_some() && self.is_bound {
            return NextStep::Retry(held);
        }
        let request = self.route_request(&self.failed);
        match self.backend.handle.lease(self.client, &request, held, Duration::ZERO).await {
            Ok(LeaseStep::Leased(lease, mut account)) => {
                self.request.record.leased(&mut account);
                NextStep::Send(lease, account)
            }
            Ok(LeaseStep::Wait(_, held) | LeaseStep::TokenIsLate(_, held) | LeaseStep::InTurn(held)) => {
                NextStep::Retry(held)
            }
            Err(_) => NextStep::Retry(None),
        }
    }

    /// Waits until there is room for the request.
    async fn called(&self) {
        match &self.turn {
            Some(turn) => turn.called().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the client must have an answer. It comes earlier if the provider has refused every account.
    async fn wait_is_over(&self) -> WaitEnd {
        let due = self.answer_due();
        let mut denied_due = (self.patience.began + DENIED_WAIT).max(now());
        while denied_due < due {
            sleep_until(denied_due).await;
            if let Ok(found) = self.find_no_account()
                && found.is_denied()
            {
                return WaitEnd::Denied(Box::new(found));
            }
            denied_due += DENIED_CHECK;
        }
        sleep_until(due).await;
        WaitEnd::Due
    }

    fn answer_to_wait(&mut self, over: WaitEnd) -> Response<ClientBody> {
        match over {
            WaitEnd::Denied(found) => self.no_account(&found, NextRequest::Stops),
            WaitEnd::Due => self.ask_again(),
        }
    }

    pub(super) fn find_no_account(&self) -> Result<NoAccount, NoLeaseReason> {
        self.backend.handle.no_account(self.client, &self.route_request(&[]))
    }

    /// The answer when the client has waited for as long as it bears: it sends its request again, unless the session's
    /// limit is reached.
    pub(super) fn ask_again(&mut self) -> Response<ClientBody> {
        let is_over = self.patience.limit_left().is_zero();
        let next = if is_over { NextRequest::Stops } else { NextRequest::ComesBack };
        match self.find_no_account() {
            Ok(found) => self.no_account(&found, next),
            Err(_) => self.unauthorized("the lease of its key has ended"),
        }
    }

    /// Waits until the time is over or the pool has changed.
    pub(super) async fn pause(&self, after: Duration) {
        tokio::select! {
            () = sleep(after.max(SHORTEST_PAUSE)) => {}
            () = self.backend.handle.pool_changed() => {}
        }
    }
}
