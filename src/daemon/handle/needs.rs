//! What a request needs of an account. Accounts that cannot serve it are excluded: their kind of credential is not
//! accepted where it goes, another account has what it refers to, or its conversation stays on one kind.

use std::sync::Arc;

use super::client::GatewayClient;
use super::peer::GatewayPeer;
use crate::config::KindMix;
use crate::daemon::state::{Asker, ConversationKey, RequestTurn, Served, State};
use crate::pool::{
    AccountId, AccountRecord, Attestation, ConnectionId, CredentialKind, Fence, LoginState, Mono, RequestNeeds, Wall,
};
use crate::provider::{NamedSubagent, TargetError};

/// What a request needs of an account.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// The provider.
    pub provider: &'a str,
    /// The model.
    pub model: Option<&'a str>,
    /// The quota, if the request can only be counted against one.
    pub pool: Option<&'a str>,
    /// Which credentials are accepted where the request goes.
    pub kinds: &'a [CredentialKind],
    /// Whether logins for the provider's public API are accepted there.
    pub takes_direct_logins: bool,
    /// The session, if the client names one.
    pub session: Option<&'a Arc<str>>,
    /// The sub-agent that sends it.
    pub subagent: Option<&'a NamedSubagent>,
    /// The cloud project that it names, if that can be replaced.
    pub project: Option<&'a str>,
    /// The ids of what an account stores, such as files and earlier responses.
    pub stored_ids: &'a [String],
    /// Only the account that served earlier requests can serve it.
    pub is_bound: bool,
    /// The connection that it came on.
    pub connection: ConnectionId,
    /// The other end of that connection.
    pub peer: &'a Arc<GatewayPeer>,
    /// Accounts that must not serve it.
    pub avoid: &'a [AccountId],
    /// It takes from a quota; otherwise only limits of whole accounts apply to it.
    pub uses_quota: bool,
    /// Its place among the requests that wait for room; without one it begins whatever is under way.
    pub turn: Option<&'a RequestTurn>,
}

/// Which accounts may serve a request, beyond what its target says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Restriction {
    /// This account only: it has what the request refers to.
    Account(AccountId),
    /// Accounts with an API key, or those with a login.
    Keys(bool),
}

/// Which lease a request uses.
#[derive(Clone, Debug)]
pub(super) struct LeaseUse {
    /// The holder of the key, if it is the key of a lease.
    pub(super) holder: Option<Fence>,
    /// The conversation of the sub-agent that sends it, if that has a lease of its own.
    pub(super) conversation: Option<ConversationKey>,
    /// The lease that it would share is not for the program that sends it, or has no room now: it gets one for itself.
    pub(super) is_alone: bool,
    /// Its session stays on the account that has no room now.
    pub(super) is_detour: bool,
}

impl LeaseUse {
    /// The holder whose lease the request uses.
    pub(super) fn sharing(&self) -> Option<Fence> {
        self.holder.filter(|_| !self.is_alone && self.conversation.is_none())
    }

    /// The conversation whose lease the request uses.
    pub(super) fn conversing(&self) -> Option<&ConversationKey> {
        self.conversation.as_ref().filter(|_| !self.is_alone)
    }

    /// Whether the lease is for this request only, and ends with it.
    pub(super) fn ends_with_request(&self) -> bool {
        self.sharing().is_none() && self.conversing().is_none()
    }

    /// The session that the request belongs to, if that is named: a sub-agent's conversation is one of its own.
    pub(super) fn session<'a>(&'a self, request: &RouteRequest<'a>) -> Option<&'a Arc<str>> {
        self.conversation.as_ref().map(|conversation| &conversation.name).or(request.session)
    }
}

/// Where a request comes from, and which lease it has.
#[derive(Clone, Copy)]
pub(super) struct RequestOrigin<'a> {
    pub(super) client: &'a GatewayClient,
    /// The lease of an earlier attempt.
    pub(super) held: Option<Fence>,
    /// Which lease it uses. Where that is one for itself, another program sends it than the holder's: the holder's
    /// conversations are not its own.
    pub(super) of_key: &'a LeaseUse,
}

impl State {
    /// Notes which account a request is given, for what its agent states of its quota.
    pub(super) fn note_given(
        &mut self,
        (client, request): (&GatewayClient, &RouteRequest<'_>),
        lease: Fence,
        now: Wall,
    ) {
        let Some(account) = self.pool.lease(lease).map(|lease| lease.account).filter(|_| request.uses_quota) else {
            return;
        };
        // the requests of a holder from before a restart may have been given others
        let had_others = client.lease.is_some_and(|(first, _)| self.pool.is_from_before(first));
        let at = (now, had_others);
        if let Some(session) = request.session {
            self.session_accounts.note(request.provider, Asker::Session(session), account, at);
        }
        if client.has_key() {
            self.session_accounts.note(request.provider, Asker::Client(client.id), account, at);
        }
    }

    /// What a request needs.
    pub(super) fn needs_of(
        &self,
        request: &RouteRequest<'_>,
        excluded: &[AccountId],
        restriction: Option<Restriction>,
        attested: Attestation,
    ) -> Result<RequestNeeds, TargetError> {
        let RouteRequest { provider, model, pool, uses_quota, .. } = *request;
        let mut target = self.catalog.target(provider, model, pool, self.pool.settings().quota.primary)?;
        if !uses_quota {
            target = target.without_quota();
        }
        let exclude = self.excluded(request, excluded, restriction);
        Ok(RequestNeeds { target, exclude, attested })
    }

    /// The accounts that may not serve the request, sorted; `more` are excluded too.
    pub(super) fn excluded(
        &self,
        request: &RouteRequest<'_>,
        more: &[AccountId],
        restriction: Option<Restriction>,
    ) -> Vec<AccountId> {
        let provider = request.provider;
        let needs_project = self.is_pooled_project(request);
        // the common case, without a look at each account's credential
        let kinds = [CredentialKind::ApiKey, CredentialKind::Oauth, CredentialKind::Token];
        let takes_all = request.takes_direct_logins && kinds.iter().all(|kind| request.kinds.contains(kind));
        let may_serve = |record: &AccountRecord| {
            (takes_all || self.is_accepted(request, record))
                && (!needs_project || record.project_id.is_some())
                && match restriction {
                    Some(Restriction::Account(only)) => record.id == only,
                    Some(Restriction::Keys(keys)) => is_key(record.kind) == keys,
                    None => true,
                }
        };
        let records = self.pool.accounts().iter().map(|account| &account.record);
        let unusable = records.filter(|record| record.provider == provider && !may_serve(record));
        let mut exclude: Vec<AccountId> = unusable.map(|record| record.id).chain(more.iter().copied()).collect();
        exclude.sort_unstable();
        exclude.dedup();
        exclude
    }

    /// Whether the request names the project of an account of the pool: it is replaced by that of the leased account.
    pub(super) fn is_pooled_project(&self, request: &RouteRequest<'_>) -> bool {
        let Some(project) = request.project else { return false };
        let mut records = self.pool.accounts().iter().map(|account| &account.record);
        records.any(|record| record.provider == request.provider && record.project_id.as_deref() == Some(project))
    }

    /// Whether only the account that served earlier requests can serve this one. A project that no account of the pool is
    /// known to have belongs to the account that the session began on.
    pub(super) fn is_bound(&self, request: &RouteRequest<'_>) -> bool {
        request.is_bound || request.project.is_some() && !self.is_pooled_project(request)
    }

    /// Which accounts may serve the request, as far as that is known before one is leased.
    pub(super) fn restriction(
        &self,
        request: &RouteRequest<'_>,
        origin: RequestOrigin<'_>,
        now: Mono,
    ) -> Option<Restriction> {
        let current = self.current_account(request, origin);
        let served = self.session_account(request, origin, now);
        if self.is_bound(request) {
            let mut stored = request.stored_ids.iter();
            let creator = stored.find_map(|id| self.served_by.get(request.provider, Served::Stored(id), now, None));
            let owner = creator.or(served).or(current).or_else(|| self.account_of_run(request, origin));
            // an account that is gone serves nothing; another one gives the provider's own answer
            if let Some(owner) = owner.filter(|owner| self.is_in_service(*owner, request)) {
                return Some(Restriction::Account(owner));
            }
        }
        let keys = |account: AccountId| self.pool.account(account).map(|account| is_key(account.record.kind));
        match self.mix(request.provider) {
            KindMix::Always => None,
            KindMix::NewSessions if origin.of_key.is_alone => None,
            KindMix::NewSessions => {
                // a sub-agent's conversation is a new one
                let of_lease = current.filter(|_| origin.of_key.holder.is_some());
                let keys = of_lease.or(served).and_then(keys)?;
                // where no account of the kind is left, a conversation on the other kind is better than none
                self.has_kind_in_service(request, keys).then_some(Restriction::Keys(keys))
            }
            KindMix::Never => {
                let of_key = self.served_by.get(request.provider, Served::Key(origin.client.id), now, None);
                let of_key = of_key.filter(|_| origin.client.has_key());
                let of_run = || self.account_of_run(request, origin);
                let keys = of_key.or(served).or(current).or_else(of_run).and_then(keys)?;
                Some(Restriction::Keys(keys))
            }
        }
    }

    /// What the lease on this account restricts the rest of the request to.
    pub(super) fn restriction_after(
        &mut self,
        request: &RouteRequest<'_>,
        client: &GatewayClient,
        account: AccountId,
        now: Mono,
    ) -> Option<Restriction> {
        if self.is_bound(request) {
            return Some(Restriction::Account(account));
        }
        if self.mix(request.provider) != KindMix::Never {
            return None;
        }
        let key = Served::Key(client.id);
        if client.has_key() && self.served_by.get(request.provider, key, now, None).is_none() {
            self.served_by.note(request.provider, key, account, now);
        }
        Some(Restriction::Keys(is_key(self.pool.account(account)?.record.kind)))
    }

    /// The account of the lease that the request's holder, or an earlier attempt, has.
    fn current_account(&self, request: &RouteRequest<'_>, origin: RequestOrigin<'_>) -> Option<AccountId> {
        let of_key = LeaseUse { is_alone: false, ..origin.of_key.clone() };
        let shared = self.shared_lease(&of_key, request.provider);
        let fence = if of_key.ends_with_request() { origin.held } else { shared };
        self.pool.lease(fence?).map(|lease| lease.account)
    }

    /// The account of the run that a sub-agent belongs to.
    fn account_of_run(&self, request: &RouteRequest<'_>, origin: RequestOrigin<'_>) -> Option<AccountId> {
        let fence = self.key_holders.get(origin.of_key.holder?)?.lease_of(request.provider)?;
        self.pool.lease(fence).map(|lease| lease.account)
    }

    /// The account that has served the request's session. Requests that name no session are one for as long as the pool
    /// keeps a session.
    fn session_account(&self, request: &RouteRequest<'_>, origin: RequestOrigin<'_>, now: Mono) -> Option<AccountId> {
        let get = |session: &str, ttl| self.served_by.get(request.provider, Served::Session(session), now, ttl);
        match origin.of_key.session(request) {
            Some(session) => get(session, None),
            None => get(origin.client.default_session()?, Some(self.pool.settings().selection.session_ttl)),
        }
    }

    fn is_in_service(&self, account: AccountId, request: &RouteRequest<'_>) -> bool {
        self.pool.account(account).is_some_and(|account| {
            account.enabled()
                && account.record.login_state == LoginState::Ready
                && account.record.provider == request.provider
                && self.is_accepted(request, &account.record)
        })
    }

    /// Whether an account's credential is accepted where the request goes.
    fn is_accepted(&self, request: &RouteRequest<'_>, record: &AccountRecord) -> bool {
        let is_direct = self.credentials.get(record.id).is_some_and(|credential| credential.resource.is_some());
        if is_direct { request.takes_direct_logins } else { request.kinds.contains(&record.kind) }
    }

    fn has_kind_in_service(&self, request: &RouteRequest<'_>, keys: bool) -> bool {
        let mut accounts = self.pool.accounts().iter().filter(|account| is_key(account.record.kind) == keys);
        accounts.any(|account| self.is_in_service(account.record.id, request))
    }

    /// Why fewer accounts can serve the request than there are.
    pub(super) fn restriction_in_words(&self, provider: &str, restriction: Option<Restriction>) -> Option<String> {
        match restriction? {
            Restriction::Account(only) => {
                let account = self.pool.account(only);
                let only = account.map_or_else(|| only.to_string(), |account| self.short_name(&account.record));
                Some(format!(
                    "the request refers to what only the account {only} has, so no other account can serve it"
                ))
            }
            Restriction::Keys(keys) => {
                // without an account of the other kind, the setting would change nothing
                let mut others = self.pool.accounts().iter().filter(|account| {
                    account.record.provider == provider && is_key(account.record.kind) != keys && account.enabled()
                });
                others.next()?;
                let kind = if keys { "an API key" } else { "a login" };
                Some(format!(
                    "this conversation began on {kind} and stays on that kind of account; to let it move, run `lessor config \
                     set providers.{provider}.mix always`"
                ))
            }
        }
    }
}

/// Whether a kind is an API key, and not a login or its token.
pub(super) fn is_key(kind: CredentialKind) -> bool {
    kind == CredentialKind::ApiKey
}
