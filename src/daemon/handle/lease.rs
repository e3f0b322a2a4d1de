//! Leases for requests of the gateway: the lease of the client's key, or one for the request alone.
//!
//! A request that can be served at once takes the lock once: key, lease and credential are looked up together.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::needs::{RequestOrigin, Restriction, RouteRequest};
use super::queue_place::QueuePlace;
use super::request_lease::{LeasedAccount, NoLeaseReason, RequestLease, ServingLease};
use super::{GatewayHandle, client::GatewayClient, no_account::NoAccount};
use crate::daemon::state::{CredentialProblem, CredentialResult, CredentialState, CredentialUse, State, Unsaved};
use crate::daemon::{os::clock, view};
use crate::pool::{
    AccountId, AccountSet, Action, Bind, Command, CredentialKind, Decision, Fence, Holder, LeaseRequest, Refusal,
    Reply, RequestNeeds,
};
use crate::protocol::AccountLabel;
use crate::provider::vendor_account_id;

/// The next step of a request.
#[derive(Debug)]
pub enum LeaseStep {
    /// It uses this account.
    Leased(RequestLease, LeasedAccount),
    /// It tries again after this time, or when the pool has changed; with the lease that it has.
    Wait(Duration, Option<RequestLease>),
}

/// The result of one attempt under the lock.
enum LeaseAttempt {
    Granted(Box<LeaseGrant>),
    Wait(Duration),
    Queued(QueuePlace),
}

struct LeaseGrant {
    fence: Unsaved<Fence>,
    credential: GrantedCredential,
    needs: RequestNeeds,
}

enum GrantedCredential {
    Usable(LeasedAccount),
    /// It is about to be refreshed: how long to wait for that at most.
    BeingRefreshed(Duration, oneshot::Receiver<()>),
    Unavailable {
        id: AccountId,
        why: String,
        is_passing: bool,
    },
    /// The lease has ended.
    Stale,
}

/// How soon an account is tried again whose token could not be refreshed in time.
const TOKEN_RETRY: Duration = Duration::from_secs(1);

/// A request that needs a lease.
#[derive(Clone, Copy)]
struct LeaseQuery<'a> {
    client: &'a GatewayClient,
    request: &'a RouteRequest<'a>,
    of_key: HolderUse,
    needs: &'a RequestNeeds,
    /// Where the client works.
    directory: Option<&'a Arc<str>>,
}

/// How a request uses the lease of its client's key.
#[derive(Clone, Copy)]
struct HolderUse {
    /// The holder of the key, if it is the key of a lease.
    holder: Option<Fence>,
    /// The holder's lease is not for the program that sends the request: it gets one for itself, and the holder keeps
    /// its own.
    is_alone: bool,
}

impl HolderUse {
    /// The holder whose lease the request uses.
    fn sharing(self) -> Option<Fence> {
        self.holder.filter(|_| !self.is_alone)
    }
}

impl GatewayHandle {
    /// Leases an account for a request, waiting in the queue at most `wait`; `held` is the lease that it has.
    ///
    /// # Errors
    /// When no account can serve it.
    pub async fn lease(
        &self,
        client: &GatewayClient,
        request: &RouteRequest<'_>,
        mut held: Option<RequestLease>,
        wait: Duration,
    ) -> Result<LeaseStep, NoLeaseReason> {
        let began = clock::now().mono;
        let mut excluded = request.avoid.to_vec();
        let mut awaits_token = false;
        loop {
            let attested = self.attest(client, request.peer).await;
            let directory = self.directory_of(client, request.peer);
            let directory = directory.as_ref();
            let left = wait.saturating_sub(clock::now().mono.since(began));
            let (attempt, of_key, needs, restriction) = {
                let state = &mut *self.state();
                let holder = state.holder_of(client)?;
                let fence = held.as_ref().map(|held| held.fence);
                let withheld = |first| state.is_withheld(first, request.provider, &attested);
                let of_key = HolderUse { holder, is_alone: holder.is_some_and(withheld) };
                let origin = RequestOrigin { client, holder, held: fence, is_alone: of_key.is_alone };
                let restriction = state.restriction(request, origin, clock::now().mono);
                let needs = state.needs_of(request, &excluded, restriction, attested).map_err(NoLeaseReason::Bad)?;
                let query = LeaseQuery { client, request, of_key, needs: &needs, directory };
                let attempt = self.attempt(state, query, fence, left);
                (attempt.map_err(|reason| reason.explained(state, request, restriction)), of_key, needs, restriction)
            };
            if awaits_token && !left.is_zero() && matches!(attempt, Err(NoLeaseReason::Refused(_))) {
                // no account is left but those whose token is late: they are tried again
                return Ok(LeaseStep::Wait(TOKEN_RETRY, held));
            }
            let grant = match attempt? {
                LeaseAttempt::Granted(grant) => *grant,
                LeaseAttempt::Queued(queued) => {
                    let granted = queued.answer().await.ok_or(NoLeaseReason::Gone)?;
                    let state = &mut *self.state();
                    let query = LeaseQuery { client, request, of_key, needs: &needs, directory };
                    let granted = granted
                        .map_err(|refusal| query.refused(state, refusal).explained(state, request, restriction))?;
                    self.grant(state, query, granted)
                }
                LeaseAttempt::Wait(after) => return Ok(LeaseStep::Wait(after, held)),
            };
            // no await since the grant: from here on the lease is released if the client disconnects
            let fence = *grant.fence.peek();
            let lease = self.own(fence, grant.needs, (client, request, of_key), held.take());
            self.daemon.saved(grant.fence).await;
            let was_refreshed = matches!(grant.credential, GrantedCredential::BeingRefreshed(..));
            match self.refreshed((client, request), fence, grant.credential).await {
                // while it was refreshed, the account may have been limited: it is looked at again
                GrantedCredential::Usable(_) if was_refreshed => {}
                GrantedCredential::Usable(account) => {
                    if account.is_declared {
                        self.attest_later(client, request.peer, account.id);
                    }
                    return Ok(LeaseStep::Leased(lease, account));
                }
                GrantedCredential::Unavailable { id, why, is_passing } => {
                    tracing::debug!(account = %id, "another account is used: {why}");
                    excluded.push(id);
                    awaits_token |= is_passing;
                }
                GrantedCredential::BeingRefreshed(..) | GrantedCredential::Stale => {}
            }
            held = Some(lease);
        }
    }

    /// Why no account can serve a request now.
    ///
    /// # Errors
    /// When it is no refusal: the request is invalid, or its key's lease has ended.
    pub fn no_account(&self, client: &GatewayClient, request: &RouteRequest<'_>) -> Result<NoAccount, NoLeaseReason> {
        let attested = self.known_attestation(client, request.peer);
        let directory = self.directory_of(client, request.peer);
        let state = &mut *self.state();
        let holder = state.holder_of(client)?;
        let now = clock::now();
        let withheld = |first| state.is_withheld(first, request.provider, &attested);
        let of_key = HolderUse { holder, is_alone: holder.is_some_and(withheld) };
        let origin = RequestOrigin { client, holder, held: None, is_alone: of_key.is_alone };
        let restriction = state.restriction(request, origin, now.mono);
        let needs = state.needs_of(request, request.avoid, restriction, attested).map_err(NoLeaseReason::Bad)?;
        let query = LeaseQuery { client, request, of_key, needs: &needs, directory: directory.as_ref() };
        let query = query.lease_request(state, None);
        let found = state.no_account(&query, state.pool.refusal_for(now, &query));
        let restricted = state.restriction_in_words(request.provider, restriction).or(found.restricted);
        Ok(NoAccount { restricted, ..found })
    }

    /// The lease that the request uses from now on; it replaces the one it had before.
    fn own(
        &self,
        fence: Fence,
        needs: RequestNeeds,
        (client, request, of_key): (&GatewayClient, &RouteRequest<'_>, HolderUse),
        before: Option<RequestLease>,
    ) -> RequestLease {
        let mut ends_with_request = client.lease.is_none() || of_key.is_alone;
        if let Some(mut before) = before {
            let before_ends = std::mem::replace(&mut before.ends_with_request, false);
            if before.fence == fence {
                ends_with_request = before_ends;
            }
        }
        let session = request.session.map(Into::into).or_else(|| client.default_session());
        let (handle, created_ids) = (self.clone(), Vec::new());
        RequestLease { handle, fence, needs, ends_with_request, session, created_ids, response: None }
    }

    /// Looks for a lease: that of the key's holder, or the one that the request has, or a new one.
    fn attempt(
        &self,
        state: &mut State,
        query: LeaseQuery<'_>,
        held: Option<Fence>,
        wait: Duration,
    ) -> Result<LeaseAttempt, NoLeaseReason> {
        let now = clock::now();
        let holder = query.of_key.sharing();
        let of_holder = holder.and_then(|first| state.lease_of_holder(first, query.request.provider));
        let fence = if holder.is_some() { of_holder } else { held };
        if let Some(fence) = fence {
            let command = Command::Serve { fence, need: Box::new(query.needs.clone()) };
            let reply = state.apply(now, command);
            if let Some(attempt) = self.serve(state, query, reply, (fence, wait)) {
                return Ok(attempt);
            }
            if state.pool.lease(fence).is_some() {
                let refusal = state.pool.refusal_for(now, &query.lease_request(state, None));
                return Err(query.refused(state, refusal));
            }
        }
        let acquire = Command::Acquire(Box::new(query.lease_request(state, Some(wait))));
        let granted = state.apply(now, acquire).into_result();
        let granted = granted.map_err(|refusal| query.refused(state, refusal.no_answer()))?;
        match *granted.peek() {
            Reply::Held(fence) => Ok(LeaseAttempt::Granted(Box::new(self.grant(state, query, granted.map(|_| fence))))),
            Reply::Queued(waiter) => {
                let _queued = granted.no_answer();
                Ok(LeaseAttempt::Queued(QueuePlace::take(self, state, waiter)))
            }
            Reply::Decision(_) | Reply::Done => Err(NoLeaseReason::Gone),
        }
    }

    /// The result for a request that has a lease already; `None` if the lease cannot serve it.
    fn serve(
        &self,
        state: &mut State,
        query: LeaseQuery<'_>,
        reply: Unsaved<Result<Reply, Refusal>>,
        (fence, wait): (Fence, Duration),
    ) -> Option<LeaseAttempt> {
        // the lease has ended, or no other account is left
        let Ok(Reply::Decision(Decision { action, after, lease, .. })) = *reply.peek() else { return None };
        let fence = match (action, lease) {
            (Action::Continue, _) => fence,
            (Action::Switch, Some(moved_to)) => moved_to,
            (Action::Wait | Action::Retry, _) if after <= wait => return Some(LeaseAttempt::Wait(after)),
            _ => return None,
        };
        Some(LeaseAttempt::Granted(Box::new(self.grant(state, query, reply.map(|_| fence)))))
    }

    /// Records which lease the holder uses, and copies the credential.
    fn grant(&self, state: &mut State, query: LeaseQuery<'_>, granted: Unsaved<Fence>) -> LeaseGrant {
        let fence = self.record_holder(state, query, *granted.peek());
        state.note_given((query.client, query.request), fence);
        let credential = match state.credential_for(fence, CredentialUse::Forward) {
            // the setting was changed after the comparison
            Ok(CredentialState::Usable(id) | CredentialState::BeingRefreshed(id))
                if !state.may_be_used(id, &query.needs.attested) =>
            {
                let why = "it has become an account with attest = strict".to_owned();
                GrantedCredential::Unavailable { id, why, is_passing: false }
            }
            Ok(CredentialState::BeingRefreshed(id)) => {
                GrantedCredential::BeingRefreshed(state.logins.rules().wait, state.logins.attempt_ends(id))
            }
            found => state.granted_credential((query.client, query.request), fence, found),
        };
        let mut needs = query.needs.clone();
        if let Some(account) = state.pool.lease(fence).map(|lease| lease.account) {
            let restriction = state.restriction_after(query.request, query.client, account, clock::now().mono);
            if restriction.is_some() {
                needs.exclude = state.excluded(query.request, &needs.exclude, restriction);
            }
        }
        LeaseGrant { fence: granted.map(|_| fence), credential, needs }
    }

    /// The credential of a grant, after waiting for its refresh if there is one.
    async fn refreshed(
        &self,
        of: (&GatewayClient, &RouteRequest<'_>),
        fence: Fence,
        found: GrantedCredential,
    ) -> GrantedCredential {
        let GrantedCredential::BeingRefreshed(wait, refreshed) = found else { return found };
        let _in_time = tokio::time::timeout(wait, refreshed).await;
        let state = &mut *self.state();
        let found = state.current_credential(fence, CredentialUse::Forward);
        state.granted_credential(of, fence, found)
    }

    /// Records that the key's holder uses this lease for the provider; of two requests at once, both use the lease of
    /// the first.
    fn record_holder(&self, state: &mut State, query: LeaseQuery<'_>, fence: Fence) -> Fence {
        let Some(first) = query.of_key.sharing() else { return fence };
        let known = state.key_holders.get(first).and_then(|holder| holder.lease_of(query.request.provider));
        let known = known.filter(|fence| state.pool.lease(*fence).is_some());
        if known == Some(fence) {
            return fence;
        }
        let provider: Arc<str> = query.request.provider.into();
        if known.is_none() && state.key_holders.add(first, provider, fence) {
            return fence;
        }
        state.apply_internal(clock::now(), Command::Release(fence));
        known.unwrap_or(fence)
    }
}

impl LeaseQuery<'_> {
    fn refused(self, state: &State, refusal: Refusal) -> NoLeaseReason {
        NoLeaseReason::Refused(Box::new(state.no_account(&self.lease_request(state, None), refusal)))
    }

    /// The request for a lease of this provider.
    fn lease_request(self, state: &State, wait: Option<Duration>) -> LeaseRequest {
        let Self { client, request, needs, .. } = self;
        let (target, exclude) = (needs.target.clone(), needs.exclude.clone());
        let attested = needs.attested.clone();
        if let Some(holder) = self.of_key.holder.and_then(|first| state.key_holders.get(first)) {
            let account = holder.request.account.clone().filter(|_| holder.provider() == request.provider);
            let of_holder = holder.request.clone();
            let bind = if self.of_key.is_alone { Bind::Connection(request.connection) } else { of_holder.bind };
            let holder = Holder { attested, ..of_holder.holder.clone() };
            // what restricts the holder's lease restricts its requests to other providers, too
            let mut set = of_holder.set.clone();
            set.directory = set.directory.or_else(|| self.directory.cloned());
            return LeaseRequest { target, bind, holder, set, exclude, account, exclusive: false, wait, ..of_holder };
        }
        LeaseRequest {
            target,
            connection: request.connection,
            bind: Bind::Connection(request.connection),
            holder: Holder { attested, ..Holder::default() },
            ttl: None,
            session: request.session.map(Into::into).or_else(|| client.default_session()),
            label: client.label.clone(),
            agent: client.agent.clone(),
            account: None,
            exclude,
            set: AccountSet { only: None, directory: self.directory.cloned() },
            priority: 0,
            wait,
            exclusive: false,
            request_id: None,
        }
    }
}

impl NoLeaseReason {
    /// The reason, with why fewer accounts could serve the request than there are.
    fn explained(self, state: &State, request: &RouteRequest<'_>, by: Option<Restriction>) -> Self {
        match self {
            Self::Refused(mut found) => {
                let words = state.restriction_in_words(request.provider, by);
                found.restricted = words.or(found.restricted);
                Self::Refused(found)
            }
            other => other,
        }
    }
}

impl State {
    /// The holder of the client's key, if it is the key of a lease.
    fn holder_of(&mut self, client: &GatewayClient) -> Result<Option<Fence>, NoLeaseReason> {
        let named = client.lease.map(|(fence, process)| self.key_holder(fence, process).ok_or(NoLeaseReason::Gone));
        named.transpose()
    }

    /// Copies the credential of a lease, if it can be used.
    fn granted_credential(
        &mut self,
        of: (&GatewayClient, &RouteRequest<'_>),
        fence: Fence,
        found: CredentialResult,
    ) -> GrantedCredential {
        let Some(id) = self.pool.lease(fence).map(|lease| lease.account) else { return GrantedCredential::Stale };
        let account = match found {
            Ok(CredentialState::Usable(_)) => self.leased_account(of, fence, id),
            Ok(CredentialState::BeingRefreshed(_)) => return self.unavailable(id, CredentialProblem::NotNow(id, None)),
            Err(problem) => return self.unavailable(id, problem),
        };
        account.map_or(GrantedCredential::Stale, GrantedCredential::Usable)
    }

    fn unavailable(&self, id: AccountId, problem: CredentialProblem) -> GrantedCredential {
        let is_passing = matches!(problem, CredentialProblem::NotNow(..));
        GrantedCredential::Unavailable { id, why: view::credential_problem(self, problem).message, is_passing }
    }

    fn leased_account(
        &mut self,
        (client, request): (&GatewayClient, &RouteRequest<'_>),
        fence: Fence,
        id: AccountId,
    ) -> Option<LeasedAccount> {
        let in_flight = self.in_flight.counter(id);
        let record = &self.pool.account(id)?.record;
        let credential = self.credentials.get(id)?;
        let lease = self.pool.lease(fence)?;
        let (label, process) = (lease.label.clone(), lease.holder.process);
        let serving = ServingLease {
            id: self.shared().lease_key.id(lease),
            label,
            account: AccountLabel { id: id.to_string(), label: record.label.clone(), email: record.email.clone() },
            pool: lease.target.pool.as_deref().map(Into::into),
            process,
        };
        Some(LeasedAccount {
            id,
            name: record.label.clone().unwrap_or_else(|| id.to_string()),
            kind: credential.api_kind(),
            is_login: credential.kind == CredentialKind::Oauth,
            is_direct: credential.resource.is_some(),
            secret: credential.access.duplicate(),
            vendor_id: vendor_account_id(&record.provider, &record.owner).map(str::to_owned),
            project: record
                .project_id
                .clone()
                .filter(|own| request.project != Some(own.as_str()) && self.is_pooled_project(request)),
            is_only: self.is_bound(request),
            is_declared: self.is_declared(id),
            agent: client.agent.clone().or_else(|| lease.agent.clone()),
            in_flight,
            lease: Box::new(serving),
        })
    }
}
