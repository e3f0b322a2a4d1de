//! The life of a lease: granted, renewed, released, resumed, ended.

use std::time::Duration;

use super::command::{Effect, Event, LeaseRequest, Reply, Ticket};
use super::error::{Refusal, RefusalKind};
use super::id::{ConnectionId, Fence, Process};
use super::lease::{Bind, Ending, Holder, Lease};
use super::memory::Answered;
use super::select::{Choice, ChosenBy};
use super::settings::{Mode, Strategy};
use super::target::Lanes;
use super::time::{Now, Past};
use super::{Ineligible, Pool};

/// Fences are reserved on disk in blocks, so that no grant waits for it.
const FENCE_BLOCK: u64 = 1 << 20;
/// The shortest life of a lease: the clock's own step.
const SHORTEST_LIFE: Duration = Duration::from_millis(1);
/// Most families of one provider whose place in the order is remembered; beyond it all start anew.
const MOST_FAMILIES: usize = 1024;
/// Most ended leases of earlier runs that are remembered; beyond it none is resumed any more.
const MOST_SPENT: usize = 1 << 16;

impl Pool {
    pub(super) fn acquire(
        &mut self,
        now: Now,
        mut ask: LeaseRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        // first: a retry whose answer was lost must find its lease, even while the daemon ends
        if let Some(reply) = self.answered_before(now, &ask)? {
            return Ok(reply);
        }
        if self.draining {
            return Err(Refusal::new(RefusalKind::ShuttingDown, "the daemon is ending"));
        }
        if ask.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(Refusal::new(RefusalKind::BadRequest, "a lease cannot live for no time at all"));
        }
        // sorted, so that looking up is cheap however long it is
        ask.exclude.sort_unstable();
        ask.exclude.dedup();
        let request = ask.request_id.clone();
        let reply = if let Some(until) = self.grace_until {
            let grace = Choice::Wait { kind: RefusalKind::NoCapacity, earliest: Some(until) };
            self.wait_for(now, ask, grace)
        } else {
            match self.choose(now, &ask, now.mono) {
                Choice::Grant { slot, by, other } => Ok(Reply::Held(self.grant(now, ask, slot, (by, other), effects))),
                Choice::Refuse(refusal) => {
                    self.note_refused(now, &ask, &refusal);
                    Err(*refusal)
                }
                wait @ Choice::Wait { .. } => self.wait_for(now, ask, wait),
            }
        }?;
        if let Some(request) = request {
            self.remember(now, &request, &reply);
        }
        Ok(reply)
    }

    pub(super) fn grant(
        &mut self,
        now: Now,
        mut ask: LeaseRequest,
        slot: usize,
        (by, other): (ChosenBy, bool),
        effects: &mut Vec<Effect>,
    ) -> Fence {
        if let Some(turned) = other.then(|| ask.target.other_pool()).flatten() {
            ask.target = turned;
        }
        let fence = self.next_fence;
        self.next_fence = Fence(fence.0 + 1);
        if fence.0 + FENCE_BLOCK / 2 >= self.reserved_fence.0 {
            self.reserve_fences(effects);
        }
        if by.is_order() {
            self.advance_pointer(now, &ask, slot);
        }
        let selection = &self.settings.selection;
        let account = &mut self.accounts[slot];
        account.leases += 1;
        account.exclusive = ask.exclusive;
        account.resumable = false;
        account.last_used = Some(Past::from(now.mono));
        account.record.last_used_at = Some(now.wall);
        account.newest_fence = Some(fence);
        account.bucket.take(&selection.tokens, now.mono);
        let account = account.record.id;
        self.refresh(slot);
        if let Some(session) = ask.session.as_deref() {
            self.bind_session(now, &ask, session, slot, effects);
        }
        let ttl = ask.ttl.or(matches!(ask.bind, Bind::Ttl).then_some(self.settings.leases.ttl));
        let ttl = ttl.map(|ttl| ttl.max(SHORTEST_LIFE));
        let lease = Lease {
            fence,
            account,
            target: ask.target,
            session: ask.session,
            label: ask.label,
            agent: ask.agent,
            bind: ask.bind,
            holder: ask.holder,
            exclusive: ask.exclusive,
            pinned: ask.account.is_some(),
            by,
            ttl,
            expires: ttl.map(|ttl| now.mono.after(ttl)),
            granted_at: now.wall,
            request_id: ask.request_id,
        };
        self.file(lease, effects);
        self.let_through(now, slot, fence);
        effects.push(Effect::Emit(Event::Granted(fence)));
        fence
    }

    /// Asks for the next block of fences; at the start of a run too, so that it is kept before the first grant.
    pub(super) fn reserve_fences(&mut self, effects: &mut Vec<Effect>) {
        self.reserved_fence = Fence(self.next_fence.0.saturating_add(FENCE_BLOCK));
        effects.push(Effect::ReserveFences(self.reserved_fence));
    }

    pub(super) fn renew(&mut self, now: Now, fence: Fence, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let lease = self.leases.get_mut(&fence).ok_or_else(Refusal::stale)?;
        if let Some(ttl) = lease.ttl {
            let expires = now.mono.after(ttl);
            if let Some(before) = lease.expires.replace(expires) {
                self.expiries.remove(&(before, fence));
            }
            self.expiries.insert((expires, fence));
            if lease.is_durable() {
                effects.push(Effect::SaveLease(fence));
            }
        }
        Ok(Reply::Held(fence))
    }

    pub(super) fn release(&mut self, now: Now, fence: Fence, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        if !self.leases.contains_key(&fence) {
            return Err(Refusal::stale());
        }
        self.end_lease(now, fence, Ending::Released, effects);
        Ok(Reply::Done)
    }

    /// Takes up a lease from before a restart, or moves a live one to the connection its holder has now.
    pub(super) fn resume(
        &mut self,
        now: Now,
        ticket: Ticket,
        connection: ConnectionId,
        holder: Holder,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        let fence = ticket.fence;
        if let Some(lease) = self.leases.get(&fence) {
            if lease.account != ticket.account {
                return Err(Refusal::stale());
            }
            self.rebind(fence, connection, Some(holder));
            return Ok(Reply::Held(fence));
        }
        if self.draining {
            return Err(Refusal::new(RefusalKind::ShuttingDown, "the daemon is ending"));
        }
        let slot = self.slots.get(&ticket.account).copied().ok_or_else(Refusal::stale)?;
        let account = &self.accounts[slot];
        // once the account was granted anew, a lower fence must never be seen on it again; and what has ended has ended
        let resumable = fence < self.first_fence
            && account.resumable
            && account.record.provider == *ticket.target.provider
            && !self.spent.contains(&fence)
            && self.spent.len() < MOST_SPENT
            && self.has_room(account, ticket.exclusive);
        if !resumable {
            return Err(Refusal::stale());
        }
        let account = &mut self.accounts[slot];
        account.leases += 1;
        account.exclusive = ticket.exclusive;
        account.last_used = Some(Past::from(now.mono));
        account.record.last_used_at = Some(now.wall);
        // where the policy names one agent, the holder is that one: a ticket does not say
        let agent = match account.policy.allowed_agents.as_deref() {
            Some([only]) => Some(only.as_str().into()),
            _ => None,
        };
        self.refresh(slot);
        let lease = Lease {
            fence,
            account: ticket.account,
            target: ticket.target,
            session: ticket.session,
            label: ticket.label,
            agent,
            bind: Bind::Connection(connection),
            holder,
            exclusive: ticket.exclusive,
            pinned: false,
            by: ChosenBy::Resumed,
            ttl: None,
            expires: None,
            granted_at: now.wall,
            request_id: None,
        };
        self.file(lease, effects);
        effects.push(Effect::Emit(Event::Granted(fence)));
        Ok(Reply::Held(fence))
    }

    pub(super) fn connection_closed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        for waiter in self.queue.of_connection(connection) {
            self.leave_queue(waiter);
        }
        for fence in self.by_connection.remove(&connection).unwrap_or_default().into_iter().rev() {
            self.end_lease(now, fence, Ending::ConnectionClosed, effects);
        }
        Ok(Reply::Done)
    }

    pub(super) fn process_ended(
        &mut self,
        now: Now,
        process: Process,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Refusal> {
        for waiter in self.queue.of_process(process) {
            let refusal = Refusal::new(RefusalKind::BadRequest, "the process this lease was to be bound to has ended");
            self.answer(waiter, Err(refusal), effects);
        }
        if let Some(fences) = self.by_process.remove(&process) {
            for fence in fences.into_iter().rev() {
                self.end_lease(now, fence, Ending::ProcessEnded, effects);
            }
        }
        self.released.forget(process);
        Ok(Reply::Done)
    }

    /// Ends a lease that is held; does nothing to one that is not.
    pub(super) fn end_lease(&mut self, now: Now, fence: Fence, why: Ending, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.remove(&fence) else { return };
        if let Some(expires) = lease.expires {
            self.expiries.remove(&(expires, fence));
        }
        if !self.chains.is_empty() {
            self.chains.remove(&fence);
        }
        if !self.moves.is_empty() {
            self.moves.remove(&fence);
        }
        self.unwatch_later(lease.bind);
        match lease.bind {
            Bind::Connection(connection) => {
                if let Some(fences) = self.by_connection.get_mut(&connection) {
                    fences.retain(|held| *held != fence);
                }
            }
            Bind::Process(process) => {
                if let Some(fences) = self.by_process.get_mut(&process) {
                    fences.retain(|held| *held != fence);
                    if fences.is_empty() {
                        self.by_process.remove(&process);
                    }
                }
            }
            Bind::Ttl => {}
        }
        if let Some(&slot) = self.slots.get(&lease.account) {
            let account = &mut self.accounts[slot];
            account.leases -= 1;
            account.exclusive = false;
            account.tolerated = account.tolerated.min(account.leases);
            self.refresh(slot);
            self.pass_probe_on(now, slot, fence);
            if !self.queue.is_empty() {
                self.stirred.freed.push(slot);
            }
        }
        if fence < self.first_fence && self.spent.len() < MOST_SPENT {
            self.spent.insert(fence);
        }
        if matches!(why, Ending::Released | Ending::ConnectionClosed) {
            self.note_released(now, &lease);
        }
        effects.push(Effect::Ended(Box::new(lease), why));
    }

    /// Files a lease under everything it is found by.
    pub(super) fn file(&mut self, lease: Lease, effects: &mut Vec<Effect>) {
        let fence = lease.fence;
        match lease.bind {
            Bind::Connection(connection) => self.by_connection.entry(connection).or_default().push(fence),
            Bind::Process(process) => self.by_process.entry(process).or_default().push(fence),
            Bind::Ttl => {}
        }
        if let Some(expires) = lease.expires {
            self.expiries.insert((expires, fence));
        }
        if lease.is_durable() {
            effects.push(Effect::SaveLease(fence));
        }
        self.leases.insert(fence, lease);
    }

    fn rebind(&mut self, fence: Fence, connection: ConnectionId, holder: Option<Holder>) {
        let Some(lease) = self.leases.get_mut(&fence) else { return };
        let Bind::Connection(before) = lease.bind else { return };
        lease.bind = Bind::Connection(connection);
        if let Some(holder) = holder {
            lease.holder = holder;
        }
        if let Some(fences) = self.by_connection.get_mut(&before) {
            fences.retain(|held| *held != fence);
        }
        self.by_connection.entry(connection).or_default().push(fence);
    }

    /// The answer this request id already has, if it still stands.
    fn answered_before(&mut self, now: Now, ask: &LeaseRequest) -> Result<Option<Reply>, Refusal> {
        let Some(id) = ask.request_id.as_deref() else { return Ok(None) };
        let other =
            || Refusal::new(RefusalKind::BadRequest, format!("the request id {id:?} stands for another request"));
        match self.requests.get(id, now.mono) {
            Some(Answered::Held(fence)) => {
                // one that has ended serves nobody: the request is a new one
                let Some(lease) = self.leases.get(&fence) else { return Ok(None) };
                if !lease.target.asks_like(&ask.target) || lease.exclusive != ask.exclusive {
                    return Err(other());
                }
                // the answer went to a connection that may be gone: the lease follows its holder
                self.rebind(fence, ask.connection, Some(ask.holder.clone()));
                Ok(Some(Reply::Held(fence)))
            }
            Some(Answered::Queued(waiter)) => {
                let Some(waiting) = self.queue.get(waiter) else { return Ok(None) };
                if waiting.ask.target != ask.target || waiting.ask.exclusive != ask.exclusive {
                    return Err(other());
                }
                self.unwatch_later(waiting.ask.bind);
                self.queue.rebind(waiter, ask);
                Ok(Some(Reply::Queued(waiter)))
            }
            None => Ok(None),
        }
    }

    pub(super) fn remember(&mut self, now: Now, request: &str, reply: &Reply) {
        let answer = match *reply {
            Reply::Held(fence) => Answered::Held(fence),
            Reply::Queued(waiter) => Answered::Queued(waiter),
            Reply::Decision(_) | Reply::Done => return,
        };
        self.requests.put(request, answer, now.mono);
    }

    /// Binds a session to the account it was just granted, and keeps it there.
    fn bind_session(&mut self, now: Now, ask: &LeaseRequest, session: &str, slot: usize, effects: &mut Vec<Effect>) {
        let selection = &self.settings.selection;
        if selection.mode == Mode::PerformanceFirst {
            return;
        }
        let ttl = selection.session_ttl;
        let provider = &ask.target.provider;
        let id = self.accounts[slot].record.id;
        // a second, parallel lease elsewhere does not move a conversation that still holds its account
        let elsewhere = self.sessions.get(provider, session, now.mono, ttl).filter(|bound| *bound != id);
        let stays = elsewhere.is_some_and(|bound| {
            let here = |lease: &Lease| lease.account == bound && lease.session.as_deref() == Some(session);
            self.account(bound).is_some_and(|account| account.leases > 0) && self.leases.values().any(here)
        });
        if stays {
            return;
        }
        let (moved, record) = self.sessions.bind(provider, session, id, now, ttl);
        effects.extend(record.map(Effect::SaveSession));
        if moved && selection.mode == Mode::CacheFirst && !self.queue.is_empty() {
            // somebody of the same conversation may be waiting for the account it has left
            self.stirred.all = true;
        }
    }

    /// Moves the family's pointers to the account the order chose.
    fn advance_pointer(&mut self, now: Now, ask: &LeaseRequest, slot: usize) {
        let id = self.accounts[slot].record.id;
        let keep = self.settings.selection.strategy == Strategy::Sticky && {
            let current = self.rings.get(&ask.target.provider).and_then(|ring| ring.families.get(&ask.target.family));
            let slot = current.and_then(|pointer| pointer.current).and_then(|id| self.slots.get(&id).copied());
            // an account that is busy, or not for this caller, stays the current one for everybody else
            let stays = |why| matches!(why, Ineligible::Busy | Ineligible::Excluded | Ineligible::NotAllowed);
            let lanes = Lanes::only(self.lanes(&ask.target).first);
            slot.is_some_and(|slot| self.obstacle_on(slot, ask, lanes, now).is_none_or(|(why, _)| stays(why)))
        };
        let Some(ring) = self.rings.get_mut(&ask.target.provider) else { return };
        let pointer = match ring.families.get_mut(&ask.target.family) {
            Some(pointer) => pointer,
            None => {
                if ring.families.len() >= MOST_FAMILIES {
                    ring.families.clear();
                }
                ring.families.entry(ask.target.family.clone()).or_default()
            }
        };
        pointer.last = Some(id);
        if !keep {
            pointer.current = Some(id);
        }
    }

    fn note_released(&mut self, now: Now, lease: &Lease) {
        let window = self.settings.selection.reuse_window;
        let process = match lease.bind {
            Bind::Process(process) => Some(process),
            Bind::Connection(_) | Bind::Ttl => lease.holder.process,
        };
        if let Some(process) = process.filter(|_| !window.is_zero()) {
            self.released.note(process, lease.account, now.mono, window);
        }
    }
}
