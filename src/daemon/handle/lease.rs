//! Leases for requests of the gateway: the lease of the client's key, or one for the request alone.
//!
//! A request that can be served at once takes the lock once: key, lease and credential are looked up together.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::needs::{LeaseUse, RequestOrigin, Restriction, RouteRequest};
use super::queue_place::QueuePlace;
use super::request_lease::{LeasedAccount, NoLeaseReason, RequestLease, ServingLease};
use super::{GatewayHandle, client::GatewayClient, no_account::NoAccount};
use crate::daemon::state::{
    AccountInFlight, CredentialProblem, CredentialResult, CredentialState, CredentialUse, State, Unsaved,
};
use crate::daemon::{os::clock, view};
use crate::pool::{AccountId, CredentialKind, Fence, InFlight, Now, RequestNeeds};
use crate::provider::vendor_account_id;

/// The next step of a request.
#[derive(Debug)]
pub enum LeaseStep {
    /// It uses this account.
    Leased(RequestLease, Box<LeasedAccount>),
    /// It tries again after this time, or when the pool has changed; with the lease that it has.
    Wait(Duration, Option<RequestLease>),
    /// The same where only tokens are late: the attempt itself has changed the pool.
    TokenIsLate(Duration, Option<RequestLease>),
    /// It tries again when it is called: as many requests are under way as there may be.
    InTurn(Option<RequestLease>),
}

/// The result of one attempt under the lock.
pub(super) enum LeaseAttempt {
    Granted(Box<LeaseGrant>),
    Wait(Duration),
    /// It waits for room on these accounts, with the lease that it has.
    InTurn(Vec<AccountId>),
    Queued(QueuePlace),
}

pub(super) struct LeaseGrant {
    fence: Unsaved<Fence>,
    credential: GrantedCredential,
    /// Accounts that may not serve it, if those have changed with the grant.
    exclude: Option<Vec<AccountId>>,
    /// Which lease it is.
    of_key: LeaseUse,
    /// The request as it is under way on the lease's account; or where it waits for room, if there is none.
    begun: Result<Option<Arc<AccountInFlight>>, Vec<AccountId>>,
}

pub(super) enum GrantedCredential {
    Usable(Box<LeasedAccount>),
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
pub(super) struct LeaseQuery<'a> {
    pub(super) client: &'a GatewayClient,
    pub(super) request: &'a RouteRequest<'a>,
    pub(super) of_key: &'a LeaseUse,
    pub(super) needs: &'a RequestNeeds,
    /// Where the client works.
    pub(super) directory: Option<&'a Arc<str>>,
    /// When the state was locked for it.
    pub(super) now: Now,
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
        let mut began = None;
        let mut excluded = request.avoid.to_vec();
        let mut awaits_token = false;
        loop {
            if let Some(held) = &mut held {
                held.not_under_way();
            }
            let attested = self.attest(client, request.peer).await;
            let directory = self.directory_of(client, request.peer);
            let directory = directory.as_ref();
            let (attempt, of_key, needs, restriction, left) = {
                let state = &mut *self.state();
                let now = clock::now();
                let left = wait.saturating_sub(now.mono.since(*began.get_or_insert(now.mono)));
                let holder = state.holder_of(client)?;
                let fence = held.as_ref().map(|held| held.fence);
                let of_key = state.lease_use(client, request, holder, &attested);
                let origin = RequestOrigin { client, held: fence, of_key: &of_key };
                let restriction = state.restriction(request, origin, now.mono);
                let needs = state.needs_of(request, &excluded, restriction, attested).map_err(NoLeaseReason::Bad)?;
                let query = LeaseQuery { client, request, of_key: &of_key, needs: &needs, directory, now };
                let attempt = self.attempt(state, query, fence, left);
                (
                    attempt.map_err(|reason| reason.explained(state, request, restriction)),
                    of_key,
                    needs,
                    restriction,
                    left,
                )
            };
            if awaits_token && !left.is_zero() && matches!(attempt, Err(NoLeaseReason::Refused(_))) {
                // no account is left but those whose token is late: they are tried again
                return Ok(LeaseStep::TokenIsLate(TOKEN_RETRY, held));
            }
            let grant = match attempt? {
                LeaseAttempt::Granted(grant) => *grant,
                LeaseAttempt::Queued(queued) => {
                    let granted = queued.answer().await.ok_or(NoLeaseReason::Gone)?;
                    let state = &mut *self.state();
                    let now = clock::now();
                    let query = LeaseQuery { client, request, of_key: &of_key, needs: &needs, directory, now };
                    let granted = granted
                        .map_err(|refusal| query.refused(state, refusal).explained(state, request, restriction))?;
                    self.grant(state, query, granted)
                }
                LeaseAttempt::Wait(after) => {
                    request.turn.iter().for_each(|turn| turn.leave());
                    return Ok(LeaseStep::Wait(after, held));
                }
                LeaseAttempt::InTurn(accounts) => {
                    request.turn.iter().for_each(|turn| turn.wait(accounts.clone()));
                    return Ok(LeaseStep::InTurn(held));
                }
            };
            // no await since the grant: from here on the lease is released if the client disconnects
            let fence = *grant.fence.peek();
            let needs = match grant.exclude {
                Some(exclude) => RequestNeeds { exclude, ..needs },
                None => needs,
            };
            let mut lease = self.own(fence, needs, (client, request, &grant.of_key), held.take());
            self.daemon.saved(grant.fence).await;
            match grant.begun {
                Ok(begun) => lease.in_flight = begun,
                Err(accounts) => {
                    request.turn.iter().for_each(|turn| turn.wait(accounts.clone()));
                    return Ok(LeaseStep::InTurn(Some(lease)));
                }
            }
            let was_refreshed = matches!(grant.credential, GrantedCredential::BeingRefreshed(..));
            match self.refreshed((client, request), fence, grant.credential).await {
                // while it was refreshed, the account may have been limited: it is looked at again
                GrantedCredential::Usable(_) if was_refreshed => {}
                GrantedCredential::Usable(mut account) => {
                    account.in_flight.clone_from(&lease.in_flight);
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
        let of_key = state.lease_use(client, request, holder, &attested);
        let origin = RequestOrigin { client, held: None, of_key: &of_key };
        let restriction = state.restriction(request, origin, now.mono);
        let needs = state.needs_of(request, request.avoid, restriction, attested).map_err(NoLeaseReason::Bad)?;
        let directory = directory.as_ref();
        let query = LeaseQuery { client, request, of_key: &of_key, needs: &needs, directory, now };
        let query = query.lease_request(state, None);
        let mut found = state.no_account(client.found_program(), &query, state.pool.refusal_for(now, &query));
        if state.pool.would_grant(now, &query) && self.daemon.requests.read(InFlight::waiting) > 0 {
            let provider = request.provider;
            found.refusal.message =
                format!("as many requests are under way on every {provider} account as there may be");
        }
        let restricted = state.restriction_in_words(request.provider, restriction).or(found.restricted);
        Ok(NoAccount { restricted, ..found })
    }

    /// The lease that the request uses from now on; it replaces the one it had before.
    fn own(
        &self,
        fence: Fence,
        needs: RequestNeeds,
        (client, request, of_key): (&GatewayClient, &RouteRequest<'_>, &LeaseUse),
        before: Option<RequestLease>,
    ) -> RequestLease {
        let mut ends_with_request = of_key.ends_with_request();
        // another one that was for this request alone ends here
        if let Some(before) = before.filter(|before| before.fence == fence).as_mut() {
            ends_with_request = std::mem::replace(&mut before.ends_with_request, false);
        }
        // what another account serves meanwhile does not lead the session there
        let session = of_key.session(request).or_else(|| client.default_session());
        let session = session.filter(|_| !of_key.is_detour).cloned();
        let (handle, needs, created_ids) = (self.clone(), Arc::new(needs), Vec::new());
        RequestLease { handle, fence, needs, ends_with_request, session, created_ids, response: None, in_flight: None }
    }

    /// Records which lease the holder uses, and copies the credential.
    pub(super) fn grant(&self, state: &mut State, query: LeaseQuery<'_>, granted: Unsaved<Fence>) -> LeaseGrant {
        let fence = self.record_user(state, query, *granted.peek());
        state.note_given((query.client, query.request), fence, query.now.wall);
        let begun = state.begin_request(query, fence);
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
        let account = state.pool.lease(fence).map(|lease| lease.account);
        let restriction =
            account.and_then(|account| state.restriction_after(query.request, query.client, account, query.now.mono));
        let exclude = restriction.is_some().then(|| state.excluded(query.request, &query.needs.exclude, restriction));
        let of_key = query.of_key.clone();
        LeaseGrant { fence: granted.map(|_| fence), credential, exclude, of_key, begun }
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
    ) -> Option<Box<LeasedAccount>> {
        let seats = self.seats_of(id);
        let record = &self.pool.account(id)?.record;
        let credential = self.credentials.get(id)?;
        let lease = self.pool.lease(fence)?;
        let serving = ServingLease {
            id: self.shared().lease_key.id(lease),
            label: lease.label.clone(),
            account: self.events.label(id, &self.pool),
            pool: lease.target.pool.clone(),
            process: lease.holder.process,
        };
        // boxed, because it is handed on several times
        Some(Box::new(LeasedAccount {
            id,
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
            in_flight: None,
            seats,
            lease: Box::new(serving),
        }))
    }
}
