//! The life of a lease: acquired, granted, extended, released, resumed, moved, ended.

use crate::pool::command::{Effect, Effects, Event, Handled, MoveCause, Reply};
use crate::pool::lease::recent::KnownAnswer;
use crate::pool::lease::{ChosenBy, Ending, Lease, LeaseKind, reacquire};
use crate::pool::model::{
    AccountId, Attestation, Bind, ConnectionId, Fence, Holder, Ineligible, LeaseRequest, Mode, Now, Process,
    QuotaChoice, QuotaChoices, Refusal, RefusalKind, Strategy, Ticket,
};
use crate::pool::select::choose::{Choice, Chosen};
use crate::pool::select::eligibility::closed_on;
use crate::pool::state::Pool;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The shortest lifetime of a lease: the clock's resolution.
const SHORTEST_LIFE: Duration = Duration::from_millis(1);

impl Pool {
    pub(crate) fn acquire(&mut self, now: Now, mut request: Box<LeaseRequest>, effects: &mut Effects) -> Handled {
        self.restrict_to_guest(&mut request);
        // first: a retry whose answer was lost must get its lease, even while the daemon shuts down
        if let Some(reply) = self.answered_before(now, &request)? {
            return Ok(reply);
        }
        if self.draining {
            return Err(Refusal::shutting_down());
        }
        if request.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Refusal::new(RefusalKind::BadRequest, "the lifetime of a lease must be greater than zero"));
        }
        // sorted, so that a lookup is cheap however long it is
        request.exclude.sort_unstable();
        request.exclude.dedup();
        if request.subagent.is_none() {
            self.check_guest_room(request.guest())?;
        }
        let id = request.request_key().map(Cow::into_owned);
        let reply = if let Some(until) = self.timers.grace() {
            let grace = Choice::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) };
            self.wait_for(now, request, grace)
        } else {
            match self.choose(now, &request, now.mono) {
                Choice::Grant(chosen) => Ok(Reply::Held(self.grant(now, request, chosen, effects))),
                Choice::Claim { chosen, .. } => self.wait_for_seat(now, request, chosen),
                Choice::Refuse(refusal) => {
                    self.refusals.note(now.wall, &request, &refusal);
                    Err(*refusal)
                }
                wait @ Choice::Wait { .. } => self.wait_for(now, request, wait),
            }
        }?;
        if let Some(id) = id {
            self.remember_answer(now, &id, &reply);
        }
        Ok(reply)
    }

    /// Grants a lease on the account that was chosen.
    pub(crate) fn grant(
        &mut self,
        now: Now,
        mut request: Box<LeaseRequest>,
        chosen: Chosen,
        effects: &mut Effects,
    ) -> Fence {
        let Chosen { slot, by, other, .. } = chosen;
        let mut workspace = self.workspace.take().unwrap_or_default();
        let comparison = self.comparison(now, &request, chosen, &mut workspace);
        self.workspace = Some(workspace);
        if let Some(target) = other.then(|| request.target.other_pool()).flatten() {
            request.target = target;
        }
        let (fence, reserved) = self.leases.take_fence();
        self.leases.set_comparison(fence, comparison);
        effects.extend(reserved.map(Effect::ReserveFences));
        if by.is_order() {
            self.advance_family(now, &request, slot);
        }
        self.accounts.take_lease(slot, fence, request.kind(), &self.settings.selection.tokens, now);
        let is_shared = self.accounts[slot].seats.is_some();
        if self.term.is_used() {
            self.note_grant(now, slot);
        }
        if let Some(session) = request.session.as_deref() {
            self.bind_session(now, &request, session, slot, effects);
        }
        let ttl = request.ttl.or(matches!(request.bind, Bind::Ttl).then_some(self.settings.leases.ttl));
        let ttl = ttl.map(|ttl| ttl.max(SHORTEST_LIFE));
        self.admit(now, slot, fence, request.target.quota());
        let request = *request;
        let lease = Arc::new(Lease {
            fence,
            account: self.accounts[slot].record.id,
            target: self.leases.share_target(request.target),
            session: request.session,
            label: request.label,
            agent: request.agent,
            bind: request.bind,
            holder: request.holder,
            exclusive: request.exclusive,
            pinned: request.account.is_some(),
            set: request.set.of_lease(),
            by,
            ttl,
            expires: ttl.map(|ttl| now.mono.after(ttl)),
            granted_at: now.wall,
            request_id: request.request_id,
            subagent: request.subagent,
        });
        self.insert_lease(now, lease, effects);
        effects.push(Effect::Emit(Event::Granted(fence)));
        if is_shared && self.term.has_warned() {
            effects.extend(self.term.until().map(|until| Effect::Emit(Event::SeatsEnd(fence, until))));
        }
        fence
    }

    pub(crate) fn extend_lease(&mut self, now: Now, fence: Fence, effects: &mut Effects) -> Handled {
        if let Some(moved_to) = self.follow_move(now, fence, effects) {
            return Ok(Reply::Held(moved_to));
        }
        let lease = self.leases.extend(fence, now, &mut self.timers).ok_or_else(Refusal::stale)?;
        if lease.ttl.is_some() && lease.is_durable() {
            effects.push(Effect::SaveLease(fence));
        }
        Ok(Reply::Held(fence))
    }

    pub(crate) fn release(&mut self, now: Now, fence: Fence, effects: &mut Effects) -> Handled {
        if self.end_lease(now, fence, Ending::Released, effects) { Ok(Reply::Done) } else { Err(Refusal::stale()) }
    }

    /// Resumes a lease from before a restart, or moves a live one to the connection that its holder has now.
    pub(crate) fn resume(
        &mut self,
        now: Now,
        ticket: Ticket,
        connection: ConnectionId,
        holder: Holder,
        effects: &mut Effects,
    ) -> Handled {
        let fence = ticket.fence;
        if let Some(lease) = self.leases.get(fence) {
            if lease.account != ticket.account {
                return Err(Refusal::stale());
            }
            self.check_attested(lease.account, &holder.attested)?;
            let set = self.check_resumed_by_guest(&holder, (lease.account, lease.set().clone()), Some(lease))?;
            let bind = resumed_bind(connection, &holder);
            self.leases.set_accounts(fence, set);
            self.leases.rebind(fence, bind, holder);
            if matches!(bind, Bind::Process(_)) {
                effects.push(Effect::SaveLease(fence));
            }
            return Ok(Reply::Held(fence));
        }
        if self.draining {
            return Err(Refusal::shutting_down());
        }
        let slot = self.accounts.slot(ticket.account).ok_or_else(Refusal::stale)?;
        let account = &self.accounts[slot];
        let kind = if ticket.exclusive { LeaseKind::Exclusive } else { LeaseKind::Shared };
        // once a new lease was granted on the account, a lower fence must never be used on it again
        let resumable = account.resumable
            && account.record.provider == *ticket.target.provider
            && self.leases.may_resume(fence)
            && self.has_room_for_another(account, ticket.exclusive)
            && account.keeps_seats()
            && account.has_seat(kind);
        if !resumable {
            return Err(Refusal::stale());
        }
        self.check_attested(ticket.account, &holder.attested)?;
        let set = self.check_resumed_by_guest(&holder, (ticket.account, ticket.set), None)?;
        // a ticket does not name the agent: where the policy allows one only, the holder is that one
        let agent = match account.policy.allowed_agents.as_deref() {
            Some([only]) => Some(only.as_str().into()),
            _ => None,
        };
        self.accounts.count_lease(slot, kind, now);
        self.accounts.note_seat_use(slot, now, &mut self.timers);
        let lease = Arc::new(Lease {
            fence,
            account: ticket.account,
            target: self.leases.share_target(ticket.target),
            session: ticket.session,
            label: ticket.label,
            agent,
            bind: resumed_bind(connection, &holder),
            holder,
            exclusive: ticket.exclusive,
            pinned: false,
            set: set.of_lease(),
            by: ChosenBy::Resumed,
            ttl: None,
            expires: None,
            granted_at: now.wall,
            request_id: None,
            subagent: None,
        });
        self.insert_lease(now, lease, effects);
        effects.push(Effect::Emit(Event::Granted(fence)));
        Ok(Reply::Held(fence))
    }

    /// Notes how the program of a lease's holder compares with its agent.
    pub(crate) fn attest(&mut self, fence: Fence, attested: Attestation) -> Handled {
        if self.leases.set_attested(fence, attested) { Ok(Reply::Done) } else { Err(Refusal::stale()) }
    }

    /// Refuses a lease on an account that is not for the program of its holder.
    fn check_attested(&self, account: AccountId, attested: &Attestation) -> Result<(), Refusal> {
        self.account(account).and_then(|account| account.attest_refusal(attested)).map_or(Ok(()), Err)
    }

    /// Acquires again for the holder of a lease, as if it had never been granted.
    pub(crate) fn reacquire_lease(
        &mut self,
        now: Now,
        fence: Fence,
        wait: Option<Duration>,
        effects: &mut Effects,
    ) -> Handled {
        let lease = self.leases.get(fence).ok_or_else(Refusal::stale)?.clone();
        let request = reacquire(&lease, lease.pinned_account());
        let request = LeaseRequest { wait, request_id: lease.request_id.clone(), ..request };
        let cause = self.obstacle_of(now, &lease).unwrap_or(MoveCause::Unavailable(Ineligible::Renewing, None));
        self.end_lease(now, fence, Ending::Switched, effects);
        let reply = self.acquire(now, Box::new(request), effects);
        match reply {
            Ok(Reply::Held(to)) => self.emit_move(&lease, to, cause, effects),
            Ok(Reply::Queued(waiter)) => self.queue.note_move(waiter, lease, cause),
            _ => {}
        }
        reply
    }

    pub(crate) fn connection_closed(&mut self, now: Now, connection: ConnectionId, effects: &mut Effects) -> Handled {
        for waiter in self.queue.of_connection(connection) {
            self.unqueue(now, waiter);
        }
        for fence in self.leases.forget_connection(connection).into_iter().rev() {
            self.end_lease(now, fence, Ending::ConnectionClosed, effects);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn process_ended(&mut self, now: Now, process: Process, effects: &mut Effects) -> Handled {
        for waiter in self.queue.of_process(process) {
            let refusal = Refusal::new(RefusalKind::BadRequest, "the process to bind the lease to has ended");
            self.answer(now, waiter, Err(refusal), effects);
        }
        for fence in self.leases.of_process(process).to_vec().into_iter().rev() {
            self.end_lease(now, fence, Ending::ProcessEnded, effects);
        }
        self.released.forget(process);
        Ok(Reply::Done)
    }

    /// Ends a lease; whether it was held.
    pub(crate) fn end_lease(&mut self, now: Now, fence: Fence, why: Ending, effects: &mut Effects) -> bool {
        let Some(lease) = self.leases.remove(fence, &mut self.timers) else { return false };
        self.request_faults.forget(fence);
        if let Some(slot) = self.accounts.slot(lease.account) {
            self.accounts.end_lease(slot, fence, lease.kind(), now, &mut self.timers);
        }
        if matches!(why, Ending::Released | Ending::ConnectionClosed) && lease.subagent.is_none() {
            self.note_released(now, &lease);
        }
        effects.push(Effect::Ended(lease, why));
        true
    }

    fn insert_lease(&mut self, now: Now, lease: Arc<Lease>, effects: &mut Effects) {
        if lease.is_durable() {
            effects.push(Effect::SaveLease(lease.fence));
        }
        self.leases.insert(lease, now.mono, &mut self.timers);
    }

    /// The answer this request id already has, if it still holds.
    fn answered_before(&mut self, now: Now, request: &LeaseRequest) -> Result<Option<Reply>, Refusal> {
        let Some(id) = request.request_key() else { return Ok(None) };
        let other = || {
            let stated = request.request_id.as_deref().unwrap_or_default();
            let message = format!("the request id {stated:?} was already used for a different request");
            Refusal::new(RefusalKind::BadRequest, message)
        };
        match self.requests.get(&id, now.mono) {
            Some(KnownAnswer::Held(fence)) => {
                // if the lease has ended, the request is a new one
                let Some(lease) = self.leases.get(fence) else { return Ok(None) };
                if !lease.target.is_same_request(&request.target)
                    || lease.exclusive != request.exclusive
                    || lease.set().only != request.set.only
                {
                    return Err(other());
                }
                self.check_attested(lease.account, &request.holder.attested)?;
                // the answer went to a connection that may be gone: bind the lease to the holder's connection
                let bind = resumed_bind(request.connection, &request.holder);
                self.leases.rebind(fence, bind, request.holder.clone());
                Ok(Some(Reply::Held(fence)))
            }
            Some(KnownAnswer::Queued(waiter)) => {
                let Some(queued) = self.queue.get(waiter) else { return Ok(None) };
                if queued.ask.target != request.target
                    || queued.ask.exclusive != request.exclusive
                    || queued.ask.set.only != request.set.only
                {
                    return Err(other());
                }
                self.queue.rebind(waiter, request);
                Ok(Some(Reply::Queued(waiter)))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn remember_answer(&mut self, now: Now, request_id: &str, reply: &Reply) {
        let answer = match *reply {
            Reply::Held(fence) => KnownAnswer::Held(fence),
            Reply::Queued(waiter) => KnownAnswer::Queued(waiter),
            Reply::Decision(_) | Reply::Done => return,
        };
        self.requests.put(request_id, answer, now.mono);
    }

    /// Binds a session to the account it was just granted.
    fn bind_session(&mut self, now: Now, request: &LeaseRequest, session: &str, slot: usize, effects: &mut Effects) {
        let selection = &self.settings.selection;
        if selection.mode == Mode::PerformanceFirst {
            return;
        }
        let ttl = selection.session_ttl;
        let provider = &request.target.provider;
        let id = self.accounts[slot].record.id;
        // a second, parallel lease elsewhere does not move a session that still has a lease on its account
        let elsewhere = self.sessions.get(provider, session, now.mono, ttl).filter(|bound| *bound != id);
        let stays = elsewhere.is_some_and(|bound| {
            let here = |lease: &Lease| lease.account == bound && lease.session.as_deref() == Some(session);
            self.accounts.get(bound).is_some_and(|account| account.leases > 0) && self.leases.iter().any(here)
        });
        if !stays {
            effects.extend(self.sessions.bind(provider, session, id, now, ttl).map(Effect::SaveSession));
        }
    }

    /// Moves the family's pointers to the account that the order chose.
    fn advance_family(&mut self, now: Now, request: &LeaseRequest, slot: usize) {
        let keep = self.settings.selection.strategy == Strategy::Sticky && {
            let provider = self.accounts.of_provider(&request.target.provider);
            let current = provider.and_then(|provider| provider.current(&request.target.family));
            // an account that is busy, or not open to this caller, stays the current one of all other callers
            let is_own = |why| matches!(why, Ineligible::Busy | Ineligible::Excluded | Ineligible::NotInSet);
            let stays = |why| is_own(why) || matches!(why, Ineligible::NotAllowed);
            let first = QuotaChoices::only(request.target.quotas(&self.settings.quota).first);
            current
                .and_then(|id| self.accounts.slot(id))
                .is_some_and(|slot| self.ineligible_on(slot, request, first, now).is_none_or(|(why, _)| stays(why)))
        };
        self.accounts.advance(slot, &request.target.family, keep);
    }

    fn note_released(&mut self, now: Now, lease: &Lease) {
        let window = self.settings.selection.reuse_window;
        let process = lease.bind.process().or(lease.holder.process);
        if let Some(process) = process.filter(|_| !window.is_zero()) {
            self.released.note(process, lease.account, now.mono, window);
        }
    }
}

impl Pool {
    /// The newest lease that the process of `ask` already holds for the same request, and whether its account can still
    /// serve it. The number of leases of the account does not matter: this is one of them.
    pub fn held_already(&self, now: Now, ask: &LeaseRequest) -> Option<(Fence, bool)> {
        let Bind::Process(process) = ask.bind else { return None };
        let held = self.leases.of_process(process).iter().filter_map(|fence| self.leases.get(*fence));
        let pinned = ask.account.as_deref().map(|reference| self.find_account(reference).ok());
        let named = |lease: &&Lease| match &pinned {
            Some(account) => account.is_some_and(|account| account.record.id == lease.account),
            None => true,
        };
        let same = held.filter(|lease| self.is_for(lease, ask)).filter(named).max_by_key(|lease| lease.fence)?;
        Some((same.fence, self.serves_on(now, same, ask)))
    }

    fn serves_on(&self, now: Now, lease: &Lease, ask: &LeaseRequest) -> bool {
        let Some(account) = self.account(lease.account) else { return false };
        // the quota it was leased on; reserves were checked then
        let quota = QuotaChoice { quota: lease.target.quota(), reserve: 0.0 };
        let quotas = match self.accounts.slot(lease.account) {
            Some(slot) if self.is_kept_back(slot, ask) => return false,
            Some(slot) => self.quotas_of(slot, ask, QuotaChoices::only(quota)),
            None => return false,
        };
        account.can_serve()
            && account.keeps_seats()
            && account.admits(ask.agent.as_deref(), &ask.holder)
            && !ask.exclude.contains(&account.record.id)
            && self.membership(&ask.set).has(account)
            && closed_on(account, quotas, now).is_none()
    }

    fn is_for(&self, lease: &Lease, ask: &LeaseRequest) -> bool {
        lease.target.is_same_request(&ask.target)
            && lease.session == ask.session
            && lease.agent == ask.agent
            && lease.pinned == ask.account.is_some()
            && self.is_same_set(lease.set(), &ask.set)
            && !lease.exclusive
            && !ask.exclusive
    }
}

/// What a resumed lease is bound to: the holder that a guest vouches for, else the connection.
fn resumed_bind(connection: ConnectionId, holder: &Holder) -> Bind {
    match holder.process.filter(|process| process.guest().is_some()) {
        Some(process) => Bind::Process(process),
        None => Bind::Connection(connection),
    }
}
