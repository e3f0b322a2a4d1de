//! Finds a lease for a request, under the lock: one that others use as well, or a new one, on an account with room for one
//! more request.

use std::{sync::Arc, time::Duration};

use super::GatewayHandle;
use super::lease::{LeaseAttempt, LeaseQuery};
use super::needs::{LeaseUse, RouteRequest};
use super::queue_place::QueuePlace;
use super::request_lease::NoLeaseReason;
use crate::daemon::state::{AccountInFlight, State, Unsaved};
use crate::pool::{
    AccountId, AccountSet, Action, Bind, Command, Decision, Fence, Holder, LeaseRequest, Refusal, Reply, RequestNeeds,
};

impl GatewayHandle {
    /// Looks for a lease: that of the key's holder or of the conversation, or the one that the request has, or a new one.
    /// Accounts that have no room for one more request are left out, where others can serve.
    pub(super) fn attempt(
        &self,
        state: &mut State,
        query: LeaseQuery<'_>,
        held: Option<Fence>,
        wait: Duration,
    ) -> Result<LeaseAttempt, NoLeaseReason> {
        let now = query.now;
        let full = state.full_accounts(query.request);
        let fence = if query.of_key.ends_with_request() {
            held
        } else {
            state.shared_lease(query.of_key, query.request.provider)
        };
        let fence = fence.filter(|fence| state.pool.lease(*fence).is_some());
        if let Some(fence) = fence {
            if let Some(attempt) = self.elsewhere(state, query, fence, &full)? {
                return Ok(attempt);
            }
            // the accounts without room may be the only ones that can serve it
            let all = (!full.is_empty()).then(|| query.needs.clone());
            let mut found = None;
            for needs in [query.needs_without(&full)].into_iter().chain(all) {
                let reply = state.apply(now, Command::Serve { fence, need: Box::new(needs) });
                found = self.serve(state, query, reply, (fence, wait));
                if !matches!(found, None | Some(LeaseAttempt::Wait(_))) {
                    break;
                }
            }
            if let Some(found) = found {
                return Ok(found);
            }
            if state.pool.lease(fence).is_some() {
                let refusal = state.pool.refusal_for(now, &query.lease_request(state, None));
                return Err(query.refused(state, refusal));
            }
        }
        let ask = query.lease_request(state, Some(wait));
        if full.is_empty() {
            return self.acquire(state, query, ask);
        }
        let without = LeaseRequest { exclude: query.needs_without(&full).exclude, ..ask.clone() };
        if !state.pool.would_grant(now, &without) {
            return self.acquire(state, query, ask);
        }
        // its session stays where it is, and another account serves this request
        let provider = query.request.provider;
        let bound =
            ask.session.as_deref().and_then(|session| state.pool.account_of_session(provider, session, now.mono));
        if bound.is_none_or(|bound| full.binary_search(&bound).is_err()) || !query.of_key.ends_with_request() {
            return self.acquire(state, query, without);
        }
        let detour = LeaseUse { is_detour: true, ..query.of_key.clone() };
        self.acquire(state, LeaseQuery { of_key: &detour, ..query }, LeaseRequest { session: None, ..without })
    }

    fn acquire(
        &self,
        state: &mut State,
        query: LeaseQuery<'_>,
        ask: LeaseRequest,
    ) -> Result<LeaseAttempt, NoLeaseReason> {
        let granted = state.apply(query.now, Command::Acquire(Box::new(ask))).into_result();
        let granted = granted.map_err(|refusal| query.refused(state, refusal.no_answer()))?;
        match *granted.peek() {
            Reply::Held(fence) => Ok(LeaseAttempt::Granted(Box::new(self.grant(state, query, granted.map(|_| fence))))),
            Reply::Queued(waiter) => {
                let _queued = granted.no_answer();
                query.request.turn.iter().for_each(|turn| turn.leave());
                Ok(LeaseAttempt::Queued(QueuePlace::take(self, state, waiter)))
            }
            Reply::Decision(_) | Reply::Done => Err(NoLeaseReason::Gone),
        }
    }

    /// A request whose lease is on an account without room gets another account for itself, or waits for room; `None` if
    /// there is room, or the lease has to move anyway.
    fn elsewhere(
        &self,
        state: &mut State,
        query: LeaseQuery<'_>,
        fence: Fence,
        full: &[AccountId],
    ) -> Result<Option<LeaseAttempt>, NoLeaseReason> {
        let now = query.now;
        let Some(on) = state.pool.lease(fence).map(|lease| lease.account) else { return Ok(None) };
        if full.binary_search(&on).is_err() || !state.pool.serves_now(now, fence, query.needs) {
            return Ok(None);
        }
        let alone = LeaseUse { is_alone: true, is_detour: true, ..query.of_key.clone() };
        let query = LeaseQuery { of_key: &alone, ..query };
        let ask = query.lease_request(state, Some(Duration::ZERO));
        let without = LeaseRequest { exclude: query.needs_without(full).exclude, ..ask.clone() };
        if !state.pool.would_grant(now, &without) {
            let open = state.pool.open_accounts(now, &ask, Some(on));
            return Ok(Some(LeaseAttempt::InTurn(open.into_iter().filter(|id| full.contains(id)).collect())));
        }
        self.acquire(state, query, without).map(Some)
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
        let Ok(Reply::Decision(Decision { action, after, lease, may_end_sooner, .. })) = *reply.peek() else {
            return None;
        };
        let fence = match (action, lease) {
            (Action::Continue, _) => fence,
            (Action::Switch, Some(moved_to)) => moved_to,
            (Action::Wait | Action::Retry, _) if after <= wait => return Some(LeaseAttempt::Wait(after)),
            // the pool tells when an account is free
            (Action::Wait, _) if may_end_sooner && !wait.is_zero() => return Some(LeaseAttempt::Wait(wait)),
            _ => return None,
        };
        Some(LeaseAttempt::Granted(Box::new(self.grant(state, query, reply.map(|_| fence)))))
    }

    /// Records that the key's holder, or the conversation, uses this lease for the provider; of two requests at once, both
    /// use the lease of the first.
    pub(super) fn record_user(&self, state: &mut State, query: LeaseQuery<'_>, fence: Fence) -> Fence {
        if query.of_key.ends_with_request() {
            return fence;
        }
        let known = state.shared_lease(query.of_key, query.request.provider);
        let known = known.filter(|fence| state.pool.lease(*fence).is_some());
        if known == Some(fence) {
            if query.of_key.conversing().is_some() {
                // it is not idle
                state.apply_internal(query.now, Command::ExtendLease(fence));
            }
            return fence;
        }
        let is_added = known.is_none()
            && match (query.of_key.conversing(), query.of_key.sharing()) {
                (Some(conversation), _) => state.key_holders.conversations.add(conversation, fence),
                (None, Some(first)) => state.key_holders.add(first, query.request.provider.into(), fence),
                (None, None) => true,
            };
        // a conversation for which there is no room in the table has its lease until that is idle
        if is_added || known.is_none() && query.of_key.conversing().is_some() {
            return fence;
        }
        state.apply_internal(query.now, Command::Release(fence));
        known.unwrap_or(fence)
    }
}

impl LeaseQuery<'_> {
    pub(super) fn refused(self, state: &State, refusal: Refusal) -> NoLeaseReason {
        NoLeaseReason::Refused(Box::new(state.no_account(
            self.client.found_program(),
            &self.lease_request(state, None),
            refusal,
        )))
    }

    /// What the request needs, without these accounts.
    pub(super) fn needs_without(self, accounts: &[AccountId]) -> RequestNeeds {
        let mut needs = self.needs.clone();
        if !accounts.is_empty() {
            needs.exclude.extend_from_slice(accounts);
            needs.exclude.sort_unstable();
            needs.exclude.dedup();
        }
        needs
    }

    /// The request for a lease of this provider.
    pub(super) fn lease_request(self, state: &State, wait: Option<Duration>) -> LeaseRequest {
        let Self { client, request, needs, of_key, .. } = self;
        let ask = self.plain_request(state, wait);
        let subagent = state.subagent(self.now, client, request, of_key, &needs.target).map(Box::new);
        let session = of_key.session(request).cloned().filter(|_| of_key.conversation.is_some()).or(ask.session);
        // a lease beside the one that the session has does not lead the session away
        let session = session.filter(|_| !of_key.is_detour);
        let ask = LeaseRequest { subagent, session, ..ask };
        if of_key.conversing().is_some() { state.bind_conversation(ask, of_key) } else { ask }
    }

    pub(super) fn plain_request(self, state: &State, wait: Option<Duration>) -> LeaseRequest {
        let Self { client, request, needs, .. } = self;
        let (target, exclude) = (needs.target.clone(), needs.exclude.clone());
        let attested = needs.attested.clone();
        if let Some(holder) = self.of_key.holder.and_then(|first| state.key_holders.get(first)) {
            let account = holder.request.account.clone().filter(|_| holder.provider() == request.provider);
            let of_holder = holder.request.clone();
            let bind =
                if self.of_key.ends_with_request() { Bind::Connection(request.connection) } else { of_holder.bind };
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
            session: request.session.or_else(|| client.default_session()).cloned(),
            label: client.label.clone(),
            agent: client.agent.clone(),
            account: None,
            exclude,
            set: AccountSet { only: None, directory: self.directory.cloned() },
            priority: 0,
            wait,
            exclusive: false,
            request_id: None,
            subagent: None,
        }
    }
}

impl State {
    /// The accounts on which a request cannot begin now, sorted.
    pub(super) fn full_accounts(&self, request: &RouteRequest<'_>) -> Vec<AccountId> {
        let Some(turn) = request.turn else { return Vec::new() };
        let accounts = self.pool.accounts().iter().map(|account| &account.record);
        let of_provider = accounts.filter(|record| record.provider == request.provider).map(|record| record.id);
        let mut full = turn.full_accounts(of_provider);
        full.sort_unstable();
        full
    }

    /// Begins a request on the account of its lease; where there is no room, answers the accounts on which it waits for it.
    pub(super) fn begin_request(
        &self,
        query: LeaseQuery<'_>,
        fence: Fence,
    ) -> Result<Option<Arc<AccountInFlight>>, Vec<AccountId>> {
        let account = self.pool.lease(fence).map(|lease| lease.account);
        let Some((turn, account)) = query.request.turn.zip(account) else { return Ok(None) };
        turn.begin(account).map(Some).ok_or_else(|| {
            let full = self.full_accounts(query.request);
            let open = self.pool.open_accounts(query.now, &query.lease_request(self, None), Some(account));
            open.into_iter().filter(|id| full.binary_search(id).is_ok()).collect()
        })
    }
}
