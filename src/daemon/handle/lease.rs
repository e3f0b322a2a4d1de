//! Leases for requests that come by the gateway: of a holder that has one, or for the request alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::credential::Secret;
use crate::pool::{
    self, AccountId, Action, Bind, Command, ConnectionId, CredentialKind, Decision, Fence, Holder, LeaseRequest,
    Refusal, Reply, Target, WaiterId,
};
use crate::protocol::GatewayKey;
use crate::provider::BadTarget;

use crate::daemon::handle::GatewayHandle;
use crate::daemon::os::clock;
use crate::daemon::refresh::CredentialUse;
use crate::daemon::state::report::{ReportOutcome, UpstreamOutcome};
use crate::daemon::state::{State, Unsaved};

/// Connections of the gateway are counted from here: those of the socket never come so far.
const FIRST_CONNECTION: u64 = 1 << 62;

/// What stands for the key of who came without one.
const NO_KEY: u64 = 0;

/// Who asks, by the key that came with the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayClient {
    /// The number of its key's lease, if it is a holder's.
    run: Option<Fence>,
    /// Tells clients without a lease apart.
    pub id: u64,
    /// The agent's name.
    pub agent: Option<Box<str>>,
    /// A name for people.
    pub label: Option<Box<str>>,
    /// Where it works.
    pub directory: Option<Box<str>>,
}

/// What a request wants.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// The upstream.
    pub provider: &'a str,
    /// The model.
    pub model: Option<&'a str>,
    /// The quota, where the request can only be of one.
    pub pool: Option<&'a str>,
    /// Which credentials are served where it goes.
    pub kinds: &'a [CredentialKind],
    /// The conversation, where the client says one.
    pub session: Option<&'a str>,
    /// The connection it came on.
    pub connection: ConnectionId,
}

/// Why there is no lease for a request.
#[derive(Clone, PartialEq, Debug)]
pub enum NoLeaseReason {
    /// It names what there is not.
    Bad(BadTarget),
    /// Its holder has no lease any more: the key is dead.
    Gone,
    /// Nobody can serve it.
    Refused(Box<Refusal>),
}

/// How far a request has come.
#[derive(Debug)]
pub enum LeaseStep {
    /// It has an account.
    Leased(Box<LeasedAccount>),
    /// It may have one after this time, or when something changes.
    Wait(Duration, Option<Box<LeasedAccount>>),
}

/// An account for a request.
#[derive(Debug)]
pub struct LeasedAccount {
    lease: RequestLease,
    need: pool::RequestNeeds,
    /// Which account.
    pub account: AccountId,
    /// Its label, or else its id.
    pub name: String,
    /// How it authenticates.
    pub kind: CredentialKind,
    /// The key or token.
    pub secret: Secret,
    /// The vendor's own id of the account.
    pub vendor_id: Option<String>,
}

/// A lease; one that was taken for this request alone ends with it.
#[derive(Debug)]
struct RequestLease {
    desk: GatewayHandle,
    fence: Fence,
    for_request: bool,
}

impl Drop for RequestLease {
    fn drop(&mut self) {
        if self.for_request {
            let state = &mut *self.desk.daemon.state();
            self.desk.daemon.apply_unasked(state, clock::now(), Command::Release(self.fence));
        }
    }
}

/// A place in the queue.
#[derive(Debug)]
struct Queued {
    desk: GatewayHandle,
    waiter: WaiterId,
    answer: oneshot::Receiver<Result<Fence, Refusal>>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        let daemon = &self.desk.daemon;
        let state = &mut *daemon.state();
        if state.gateway_waiters.remove(&self.waiter).is_some() {
            daemon.apply_unasked(state, clock::now(), Command::Cancel(self.waiter));
        } else if let Ok(Ok(fence)) = self.answer.try_recv() {
            // granted in the moment its request went away
            daemon.apply_unasked(state, clock::now(), Command::Release(fence));
        }
    }
}

/// What a look under the lock came to.
enum LeaseAttempt {
    Fence(Fence, bool),
    Wait(Duration),
    Queued(Queued, bool),
}

impl GatewayHandle {
    /// Who a key stands for; `None` when it is none, or dead.
    #[must_use]
    pub fn visitor(&self, key: &str) -> Option<GatewayClient> {
        match self.daemon.pass_key.open(key)? {
            GatewayKey::Client { id, agent, label } => {
                Some(GatewayClient { run: None, id, agent, label, directory: None })
            }
            GatewayKey::Lease { fence, process, directory } => {
                let state = &mut *self.daemon.state();
                let first = state.run_named(fence, process)?;
                let ask = &state.key_holders.get(first)?.ask;
                let (agent, label) = (ask.agent.clone(), ask.label.clone());
                Some(GatewayClient { run: Some(first), id: first.0, agent, label, directory })
            }
        }
    }

    /// One that needs no key: it came by the user's own socket.
    #[must_use]
    pub fn local_visitor(&self) -> GatewayClient {
        GatewayClient { run: None, id: NO_KEY, agent: None, label: None, directory: None }
    }

    /// The id of the gateway's `number`th connection.
    #[must_use]
    pub fn connection(&self, number: u64) -> ConnectionId {
        ConnectionId(FIRST_CONNECTION + number)
    }

    /// Finds an account for a request, waiting in the queue at most so long; `held` is what it has from before.
    ///
    /// # Errors
    /// When there is none.
    pub async fn lease(
        &self,
        visitor: &GatewayClient,
        wanted: &RouteRequest<'_>,
        mut held: Option<Box<LeasedAccount>>,
        wait: Duration,
    ) -> Result<LeaseStep, NoLeaseReason> {
        let began = clock::now().mono;
        let mut without = Vec::new();
        loop {
            let left = wait.saturating_sub(clock::now().mono.since(began));
            let mut got = match self.lease_without(visitor, wanted, &without, held, left).await? {
                LeaseStep::Leased(got) => got,
                wait @ LeaseStep::Wait(..) => return Ok(wait),
            };
            // it is renewed first, if need be
            match self.daemon.fresh_credential(got.lease.fence, CredentialUse::Forward).await {
                Ok(credential) => {
                    (got.kind, got.secret) = (credential.kind, credential.access);
                    return Ok(LeaseStep::Leased(got));
                }
                Err(error) if error.is("stale_lease") => {}
                Err(error) => {
                    tracing::debug!(account = got.name, "another account is taken: {}", error.message);
                    without.push(got.account);
                }
            }
            held = Some(got);
        }
    }

    async fn lease_without(
        &self,
        visitor: &GatewayClient,
        wanted: &RouteRequest<'_>,
        without: &[AccountId],
        held: Option<Box<LeasedAccount>>,
        wait: Duration,
    ) -> Result<LeaseStep, NoLeaseReason> {
        let (looked, need, unsaved) = {
            let state = &mut *self.daemon.state();
            let need = state.need(wanted, without).map_err(NoLeaseReason::Bad)?;
            let fence = held.as_ref().map(|held| held.lease.fence);
            let (looked, unsaved) = self.look(state, visitor, wanted, &need, fence, wait);
            (looked, need, unsaved)
        };
        // from here on what was granted must be given back if the request goes away
        let looked = looked?;
        let (mut lease, unsaved) = match looked {
            LeaseAttempt::Wait(after) => return Ok(LeaseStep::Wait(after, held)),
            LeaseAttempt::Fence(fence, for_request) => (self.own(fence, for_request, held), unsaved),
            LeaseAttempt::Queued(mut queued, for_request) => {
                self.daemon.saved(unsaved).await;
                let answer = (&mut queued.answer).await;
                let fence = answer
                    .map_err(|_| NoLeaseReason::Gone)?
                    .map_err(|refusal| NoLeaseReason::Refused(Box::new(refusal)))?;
                (self.own(fence, for_request, held), Unsaved::new())
            }
        };
        self.took(visitor, wanted, &mut lease);
        self.daemon.saved(unsaved).await;
        let held = self.held(lease, need)?;
        Ok(LeaseStep::Leased(Box::new(held)))
    }

    /// What is held from now on; what was held before has ended, if it is another one.
    fn own(&self, fence: Fence, for_request: bool, before: Option<Box<LeasedAccount>>) -> RequestLease {
        if let Some(mut before) = before {
            before.lease.for_request &= before.lease.fence == fence;
            if before.lease.fence == fence {
                let for_request = std::mem::replace(&mut before.lease.for_request, false);
                return RequestLease { desk: self.clone(), fence, for_request };
            }
        }
        RequestLease { desk: self.clone(), fence, for_request }
    }

    fn look(
        &self,
        state: &mut State,
        visitor: &GatewayClient,
        wanted: &RouteRequest<'_>,
        need: &pool::RequestNeeds,
        held: Option<Fence>,
        wait: Duration,
    ) -> (Result<LeaseAttempt, NoLeaseReason>, Unsaved) {
        let now = clock::now();
        let refused = |refusal| NoLeaseReason::Refused(Box::new(refusal));
        let of_run = visitor.run.map(|first| state.key_holders.get(first).map(|run| run.lease_of(wanted.provider)));
        let fence = match of_run {
            // the holder's lease was ended by itself
            Some(None) => return (Err(NoLeaseReason::Gone), Unsaved::new()),
            Some(Some(fence)) => fence,
            None => held,
        };
        if let Some(fence) = fence {
            let command = Command::Serve { fence, need: Box::new(need.clone()) };
            let (reply, unsaved) = self.daemon.apply(state, now, command);
            let after = match reply {
                Ok(Reply::Decision(Decision { action: Action::Continue, .. })) => {
                    return (Ok(LeaseAttempt::Fence(fence, visitor.run.is_none())), unsaved);
                }
                Ok(Reply::Decision(Decision { action: Action::Switch, lease: Some(fence), .. })) => {
                    return (Ok(LeaseAttempt::Fence(fence, visitor.run.is_none())), unsaved);
                }
                Ok(Reply::Decision(Decision { action: Action::Wait | Action::Retry, after, .. })) => Some(after),
                // it has ended, or nobody else is left
                _ => None,
            };
            if let Some(after) = after.filter(|after| *after <= wait) {
                return (Ok(LeaseAttempt::Wait(after)), unsaved);
            }
            if state.pool.lease(fence).is_some() {
                return (Err(refused(state.pool.refusal_for(now, &self.ask(state, visitor, wanted, need)))), unsaved);
            }
        }
        let ask = LeaseRequest { wait: Some(wait), ..self.ask(state, visitor, wanted, need) };
        let (reply, unsaved) = self.daemon.apply(state, now, Command::Acquire(Box::new(ask)));
        let looked = match reply {
            Ok(Reply::Held(fence)) => Ok(LeaseAttempt::Fence(fence, visitor.run.is_none())),
            Ok(Reply::Queued(waiter)) => {
                let (tell, answer) = oneshot::channel();
                state.gateway_waiters.insert(waiter, tell);
                let queued = Queued { desk: self.clone(), waiter, answer };
                Ok(LeaseAttempt::Queued(queued, visitor.run.is_none()))
            }
            Ok(Reply::Decision(_) | Reply::Done) => Err(NoLeaseReason::Gone),
            Err(refusal) => Err(refused(refusal)),
        };
        (looked, unsaved)
    }

    /// What a visitor without a lease of this provider asks for.
    fn ask(
        &self,
        state: &State,
        visitor: &GatewayClient,
        wanted: &RouteRequest<'_>,
        need: &pool::RequestNeeds,
    ) -> LeaseRequest {
        let run = visitor.run.and_then(|first| state.key_holders.get(first));
        let (target, exclude) = (need.target.clone(), need.exclude.clone());
        match run {
            Some(run) => {
                let account = run.ask.account.clone().filter(|_| run.provider() == wanted.provider);
                LeaseRequest { target, exclude, account, exclusive: false, wait: None, ..run.ask.clone() }
            }
            None => LeaseRequest {
                target,
                connection: wanted.connection,
                bind: Bind::Connection(wanted.connection),
                holder: Holder::default(),
                ttl: None,
                session: session(visitor, wanted),
                label: visitor.label.clone(),
                agent: visitor.agent.clone(),
                account: None,
                exclude,
                priority: 0,
                wait: None,
                exclusive: false,
                request_id: None,
            },
        }
    }

    /// Notes which lease of a provider a holder has taken.
    fn took(&self, visitor: &GatewayClient, wanted: &RouteRequest<'_>, lease: &mut RequestLease) {
        let Some(first) = visitor.run else { return };
        let state = &mut *self.daemon.state();
        let known = state.key_holders.get(first).and_then(|run| run.lease_of(wanted.provider));
        let known = known.filter(|fence| state.pool.lease(*fence).is_some());
        if known == Some(lease.fence) {
            return;
        }
        let provider: Arc<str> = wanted.provider.into();
        if known.is_none() && state.key_holders.took(first, provider, lease.fence) {
            return;
        }
        // two requests at once: the other one's is the holder's
        self.daemon.apply_unasked(state, clock::now(), Command::Release(lease.fence));
        lease.fence = known.unwrap_or(lease.fence);
    }

    fn held(&self, lease: RequestLease, need: pool::RequestNeeds) -> Result<LeasedAccount, NoLeaseReason> {
        let state = &*self.daemon.state();
        let account = state.pool.lease(lease.fence).ok_or(NoLeaseReason::Gone)?.account;
        let record = &state.pool.account(account).ok_or(NoLeaseReason::Gone)?.record;
        let credential = state.credentials.get(&account).ok_or(NoLeaseReason::Gone)?;
        Ok(LeasedAccount {
            need,
            account,
            name: record.label.clone().unwrap_or_else(|| account.to_string()),
            kind: credential.kind,
            secret: credential.access.duplicate(),
            vendor_id: record.vendor_id.clone(),
            lease,
        })
    }

    /// Learns what an upstream answered to a request, and finds it another account where that is called for.
    ///
    /// # Errors
    /// When its lease has ended meanwhile, by another request or its holder: nothing is learnt.
    pub async fn learn(
        &self,
        held: Box<LeasedAccount>,
        heard: UpstreamOutcome<'_>,
    ) -> Result<(ReportOutcome, Box<LeasedAccount>), NoLeaseReason> {
        let reading = heard.read(&held.need.target.provider, clock::now().wall);
        let (learnt, unsaved) = {
            let state = &mut *self.daemon.state();
            self.daemon.learn(state, clock::now(), (held.lease.fence, Some(&held.need)), heard, reading)
        };
        let learnt = learnt.map_err(|refusal| NoLeaseReason::Refused(Box::new(refusal)))?;
        let Some(fence) = learnt.decision.lease else {
            // nothing is handed out that would have to wait for it
            unsaved.into_iter().for_each(|write| self.daemon.store.write(write, None));
            return Ok((learnt, held));
        };
        let mut held = held;
        let for_request = std::mem::replace(&mut held.lease.for_request, false);
        let lease = RequestLease { desk: self.clone(), fence, for_request };
        self.daemon.saved(unsaved).await;
        let held = self.held(lease, held.need.clone())?;
        Ok((learnt, Box::new(held)))
    }

    /// The same for what is learnt when nothing can be done any more: of a stream that had begun.
    pub fn learn_late(&self, held: &LeasedAccount, heard: UpstreamOutcome<'_>) {
        let reading = heard.read(&held.need.target.provider, clock::now().wall);
        let state = &mut *self.daemon.state();
        let which = (held.lease.fence, Some(&held.need));
        let (learnt, unsaved) = self.daemon.learn(state, clock::now(), which, heard, reading);
        if let Err(refusal) = learnt {
            tracing::debug!("what a stream told came too late: {}", refusal.message);
        }
        for write in unsaved {
            self.daemon.store.write(write, None);
        }
    }

    /// Sees to it that an account whose credential was refused has another one; answers whether it has.
    pub async fn renew(&self, held: &LeasedAccount, wait: Duration) -> bool {
        let is_another = || {
            let state = &*self.daemon.state();
            state.credentials.get(&held.account).is_some_and(|credential| credential.access != held.secret)
        };
        // by its tool, or for another request
        if is_another() {
            return true;
        }
        let renewed =
            tokio::time::timeout(wait, self.daemon.fresh_credential(held.lease.fence, CredentialUse::Another)).await;
        matches!(renewed, Ok(Ok(_))) && is_another()
    }

    /// Waits until something has changed that may serve somebody.
    pub async fn stirred(&self) {
        self.daemon.stirred.notified().await;
    }
}

/// What a request's conversation is called: as the client says, or else all of its key are one; without a key nothing
/// tells one client from another.
fn session(visitor: &GatewayClient, wanted: &RouteRequest<'_>) -> Option<Box<str>> {
    let of_key = || (visitor.id != NO_KEY).then(|| format!("key:{:x}", visitor.id).into());
    wanted.session.map(Into::into).or_else(of_key)
}

impl State {
    /// What a request needs.
    fn need(&self, wanted: &RouteRequest<'_>, without: &[AccountId]) -> Result<pool::RequestNeeds, BadTarget> {
        let RouteRequest { provider, model, pool, kinds, .. } = *wanted;
        let target: Target = self.catalog.target(provider, model, pool, self.pool.settings().quota.primary)?;
        let of_provider = self.pool.accounts().iter().filter(|account| account.record.provider == provider);
        let unserved = of_provider.filter(|account| !kinds.contains(&account.record.kind));
        let unserved = unserved.map(|account| account.record.id);
        let mut exclude: Vec<AccountId> = unserved.chain(without.iter().copied()).collect();
        exclude.sort_unstable();
        Ok(pool::RequestNeeds { target, exclude })
    }
}
