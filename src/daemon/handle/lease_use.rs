//! Which lease a request uses: that of its key's holder, that of a sub-agent's conversation, or one for itself alone.

use std::sync::Arc;

use super::client::GatewayClient;
use super::needs::{LeaseUse, RouteRequest};
use crate::daemon::state::{ConversationKey, ConversationOwner, State};
use crate::pool::{AccountId, Attestation, Bind, Fence, LeaseRequest, Mono, Now, Subagent, SubagentPlacement, Target};
use crate::provider::NamedSubagent;

impl State {
    /// Which lease a request uses; `holder` is that of its key.
    pub(super) fn lease_use(
        &mut self,
        client: &GatewayClient,
        request: &RouteRequest<'_>,
        holder: Option<Fence>,
        attested: &Attestation,
    ) -> LeaseUse {
        if let Some(first) = holder {
            // what its process has leased for the same purpose is the holder's as well
            let _lease = self.lease_of_holder(first, request.provider);
        }
        let conversation = request.subagent.and_then(|named| self.conversation(client, request, holder, named));
        let shared = LeaseUse { holder, conversation, is_alone: false, is_detour: false };
        // what is not compared yet is so when it gets an account
        let lease = self.shared_lease(&shared, request.provider).filter(|_| *attested != Attestation::Later);
        let account = lease.and_then(|fence| self.pool.lease(fence)).map(|lease| lease.account);
        let is_withheld = account.is_some_and(|account| !self.may_be_used(account, attested));
        LeaseUse { is_alone: is_withheld, ..shared }
    }

    /// The lease that other requests use as well.
    pub(super) fn shared_lease(&self, of_key: &LeaseUse, provider: &str) -> Option<Fence> {
        match of_key.conversing() {
            Some(conversation) => self.key_holders.conversations.lease_of(conversation),
            None => self.key_holders.get(of_key.sharing()?)?.lease_of(provider),
        }
    }

    /// The conversation of a sub-agent that has a lease of its own.
    fn conversation(
        &self,
        client: &GatewayClient,
        request: &RouteRequest<'_>,
        holder: Option<Fence>,
        named: &NamedSubagent,
    ) -> Option<ConversationKey> {
        let is_exclusive = holder.and_then(|first| self.key_holders.get(first)).is_some_and(|of| of.request.exclusive);
        if is_exclusive || self.pool.settings().selection.subagents == SubagentPlacement::WithParent {
            return None;
        }
        Some(conversation_key(client, request, holder, &named.id))
    }

    /// What the request for a conversation's lease says of the sub-agent.
    pub(super) fn subagent(
        &self,
        now: Now,
        client: &GatewayClient,
        request: &RouteRequest<'_>,
        of_key: &LeaseUse,
        target: &Target,
    ) -> Option<Subagent> {
        of_key.conversation.as_ref()?;
        let named = request.subagent?;
        let parent = self.account_of_parent(client, request, of_key.holder, named, now.mono);
        let requests = &self.shared().requests;
        let apart = parent
            .and_then(|parent| requests.read(|in_flight| self.pool.apart_from_parent(now, parent, target, in_flight)));
        Some(Subagent { id: named.id.clone(), parent, apart })
    }

    /// The account of the agent that has started a sub-agent: of another sub-agent, or of the run.
    fn account_of_parent(
        &self,
        client: &GatewayClient,
        request: &RouteRequest<'_>,
        holder: Option<Fence>,
        named: &NamedSubagent,
        now: Mono,
    ) -> Option<AccountId> {
        let of_subagent = || {
            let key = conversation_key(client, request, holder, named.parent.as_deref()?);
            self.pool.lease(self.key_holders.conversations.lease_of(&key)?).map(|lease| lease.account)
        };
        let of_run = || {
            let fence = self.key_holders.get(holder?)?.lease_of(request.provider)?;
            self.pool.lease(fence).map(|lease| lease.account)
        };
        let of_session = || {
            // opencode's and Codex's sub-agents have sessions of their own, and name that of their parent
            let named = [
                named.parent.as_deref(),
                request.session.map(|session| &**session).filter(|session| *session != &*named.id),
            ];
            let mut sessions = named.into_iter().flatten().chain(client.default_session().map(|session| &**session));
            sessions.find_map(|session| self.pool.account_of_session(request.provider, session, now))
        };
        of_subagent().or_else(of_run).or_else(|| if holder.is_none() { of_session() } else { None })
    }

    /// What ends the lease of a conversation: the run that it belongs to, or that it is idle.
    pub(super) fn bind_conversation(&self, ask: LeaseRequest, of_key: &LeaseUse) -> LeaseRequest {
        let holder = of_key.holder.and_then(|first| self.key_holders.get(first));
        let bind = holder.map_or(Bind::Ttl, |holder| holder.request.bind);
        LeaseRequest { bind, ttl: Some(self.pool.settings().leases.ttl), ..ask }
    }
}

/// The conversation of a sub-agent: its name is not that of another sub-agent in another session.
fn conversation_key(
    client: &GatewayClient,
    request: &RouteRequest<'_>,
    holder: Option<Fence>,
    id: &str,
) -> ConversationKey {
    let owner = holder.map_or(ConversationOwner::Client(client.id), ConversationOwner::Holder);
    let run = request.session.filter(|session| request.subagent.is_none_or(|named| ***session != *named.id));
    // where the agent gives each sub-agent a session of its own, the key's is the same for all of them
    let run = run.or_else(|| client.default_session()).map_or("", |session| session);
    ConversationKey { owner, provider: Arc::from(request.provider), name: format!("{run}/{id}").into() }
}
