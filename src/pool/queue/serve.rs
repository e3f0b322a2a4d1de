//! Serving the queue: which requests wait, which are granted, and which are refused because waiting cannot help.

use crate::pool::command::{Effect, Effects, Handled, Reply};
use crate::pool::model::{Fence, LeaseRequest, Mode, Mono, Now, Refusal, RefusalKind, WaiterId};
use crate::pool::queue::{Changes, MOST_WAITERS, QueuePosition, QueuedRequest, SeatWait};
use crate::pool::select::choose::{Choice, Chosen};
use crate::pool::state::Pool;
use std::borrow::Cow;

/// Most different unserved requests that a round compares with; beyond it, it selects for each request.
const MOST_COMPARED: usize = 8;
/// Most claims for a request that does not wait for anything else.
const MOST_CLAIMS: u8 = 4;

impl Pool {
    /// Queues a request, or refuses it at once if waiting cannot help.
    pub(crate) fn wait_for(&mut self, now: Now, ask: Box<LeaseRequest>, choice: Choice) -> Handled {
        let deadline = now.mono.after(self.patience(&ask));
        let kind = match choice {
            Choice::Wait { kind, .. } => kind,
            Choice::Grant(_) | Choice::Claim { .. } | Choice::Refuse(_) => RefusalKind::NoCapacity,
        };
        if deadline <= now.mono || choice.too_late(deadline) {
            let mut refusal = self.refusal(now, &ask, kind);
            refusal.retry_at = refusal.retry_at.or(self.timers.grace().map(|until| now.wall_of(until)));
            self.refusals.note(now.wall, &ask, &refusal);
            return Err(refusal);
        }
        self.enqueue(now, ask, deadline).map(Reply::Queued)
    }

    /// Queues a request until a seat of its account is claimed, also one that does not wait for anything else.
    pub(crate) fn wait_for_seat(&mut self, now: Now, ask: Box<LeaseRequest>, chosen: Chosen) -> Handled {
        let deadline = now.mono.after(self.patience(&ask));
        let id = self.enqueue(now, ask, deadline)?;
        self.await_seat(now, id, chosen.slot);
        Ok(Reply::Queued(id))
    }

    fn enqueue(&mut self, now: Now, ask: Box<LeaseRequest>, deadline: Mono) -> Result<WaiterId, Refusal> {
        if self.queue.len() >= MOST_WAITERS {
            return Err(Refusal::new(RefusalKind::Overloaded, "too many requests are already waiting"));
        }
        Ok(self.queue.push(QueuedRequest::new(ask, now.mono, deadline), &mut self.timers))
    }

    /// Removes a request from the queue.
    pub(crate) fn unqueue(&mut self, now: Now, id: WaiterId) -> Option<QueuedRequest> {
        let waiter = self.queue.remove(id, &mut self.timers)?;
        if let Some(claim) = waiter.claim {
            self.end_seat_wait(now, claim.account, waiter.ask.kind());
        }
        Some(waiter)
    }

    pub(crate) fn cancel(&mut self, now: Now, waiter: WaiterId) -> Handled {
        self.unqueue(now, waiter);
        Ok(Reply::Done)
    }

    /// Grants every queued request that can be served, in order, and refuses those whose time is over.
    pub(crate) fn serve_queue(&mut self, now: Now, effects: &mut Effects) {
        loop {
            self.serve_rounds(now, effects);
            // last, so that a request that can be served in its last moment is served
            while let Some(overdue) = self.timers.due_waiter(now) {
                // a request that does not wait was queued for a claim only
                let has_waited = self.queue.get(overdue).is_some_and(|waiter| waiter.deadline > waiter.since);
                let kind = if has_waited { RefusalKind::WaitTimeout } else { RefusalKind::NoCapacity };
                self.give_up(now, overdue, kind, effects);
            }
            // one that waited for a seat makes room for others
            if self.accounts.dirty().is_clean() {
                return;
            }
        }
    }

    fn serve_rounds(&mut self, now: Now, effects: &mut Effects) {
        // a grant can bring about another change; each round serves a request or is the last
        while !self.queue.is_empty() && self.timers.grace().is_none() {
            let moved = self.sessions.take_moved() && self.settings.selection.mode == Mode::CacheFirst;
            match (self.queue_dirty.take(), self.accounts.dirty().take(), moved) {
                (None, None, false) => break,
                (None, Some(Changes::Freed(mut freed)), false) => {
                    freed.sort_unstable();
                    freed.dedup();
                    self.serve_round(now, Some(&freed), effects);
                }
                // requests of a moved session may be waiting for the account that it has left
                _ => self.serve_round(now, None, effects),
            }
        }
        self.queue_dirty.clear();
        self.accounts.dirty().clear();
        self.sessions.take_moved();
    }

    /// Visits the queue once, in order. Where only some accounts were freed, only requests that they can serve.
    fn serve_round(&mut self, now: Now, freed: Option<&[usize]>, effects: &mut Effects) {
        // a request that is served like one that got nothing gets nothing: no selection for each of a long queue
        let mut unserved: Vec<(WaiterId, Option<Mono>)> = Vec::new();
        let alike_counts = self.settings.selection.mode != Mode::CacheFirst;
        let mut last: Option<QueuePosition> = None;
        // the freed accounts that can serve a request
        let mut open = Vec::new();
        loop {
            let has_room = |slot: &usize| self.has_room_for_another(&self.accounts[*slot], false);
            if freed.is_some_and(|freed| !self.queue.has_subagents() && !freed.iter().any(has_room)) {
                break;
            }
            let Some((position, waiter)) = self.queue.after(last) else { break };
            last = Some(position);
            let (id, deadline) = (position.1, waiter.deadline);
            if waiter.claim.is_some() {
                self.serve_claimant(now, id, effects);
                if freed.is_some() && self.accounts.dirty().has_all() {
                    // where it waited it is no load any more: that account may serve the next ones better
                    break;
                }
                continue;
            }
            if let Some(freed) = freed {
                open.clear();
                open.extend(freed.iter().filter(|slot| self.serves(**slot, &waiter.ask, now)));
                if open.is_empty() {
                    continue;
                }
            }
            let same = |other: &QueuedRequest| alike_counts && other.ask.is_served_like(&waiter.ask);
            let alike = unserved.iter().find(|(other, _)| self.queue.get(*other).is_some_and(same));
            let choice = match alike {
                Some((_, earliest)) => Choice::Wait { kind: RefusalKind::AllLimited, earliest: *earliest },
                None => {
                    let mut workspace = self.workspace.take().unwrap_or_default();
                    // no other account could serve it before
                    let among = freed.is_some().then_some(&*open);
                    let choice = self.choose_among(now, &waiter.ask, waiter.since, among, &mut workspace);
                    self.workspace = Some(workspace);
                    choice
                }
            };
            let known = alike.is_some();
            match choice {
                Choice::Grant(chosen) => self.grant_queued(now, id, chosen, effects),
                Choice::Claim { chosen, .. } => self.await_seat(now, id, chosen.slot),
                Choice::Refuse(refusal) => self.answer(now, id, Err(*refusal), effects),
                Choice::Wait { kind, earliest } => {
                    // a request whose time is over is refused as such below
                    if deadline > now.mono && earliest.is_some_and(|earliest| earliest > deadline) {
                        self.give_up(now, id, kind, effects);
                    } else if !known && unserved.len() < MOST_COMPARED {
                        unserved.push((id, earliest));
                    }
                }
            }
        }
    }

    fn grant_queued(&mut self, now: Now, id: WaiterId, chosen: Chosen, effects: &mut Effects) {
        let Some(QueuedRequest { ask, moves, .. }) = self.unqueue(now, id) else { return };
        let request = ask.request_key().map(Cow::into_owned);
        let fence = self.grant(now, ask, chosen, effects);
        if let Some((before, cause)) = moves.map(|moves| *moves) {
            self.emit_move(&before, fence, cause, effects);
        }
        if let Some(request) = request {
            self.remember_answer(now, &request, &Reply::Held(fence));
        }
        effects.push(Effect::Answer { waiter: id, result: Ok(fence) });
    }

    /// Considers a request for which a seat was or is being claimed.
    fn serve_claimant(&mut self, now: Now, id: WaiterId, effects: &mut Effects) {
        let Some(waiter) = self.queue.get(id) else { return };
        let Some(SeatWait { account, after, .. }) = waiter.claim else { return };
        let (ask, since, deadline, claims) = (waiter.ask.clone(), waiter.since, waiter.deadline, waiter.claims);
        let slot = self.accounts.slot(account);
        let seats = slot.and_then(|slot| self.accounts[slot].seats.as_ref());
        let asks_to_probe = || slot.is_some_and(|slot| self.accounts[slot].limits.is_claiming_duty());
        let is_under_way = seats.is_some_and(|seats| seats.ended_claims() == after || asks_to_probe());
        // selected as if it did not wait: it is no load for itself
        if let Some(slot) = slot {
            self.accounts.count_waiting(slot, ask.kind(), false);
        }
        let mut choice = self.choose(now, &ask, since);
        if matches!(choice, Choice::Claim { .. }) {
            // a seat that is here is better than another claim
            let with_seats = self.only_with_seats(&ask, None);
            if let Choice::Grant(chosen) = self.choose(now, &with_seats, since) {
                choice = Choice::Grant(chosen.of_fewer());
            }
        }
        if is_under_way && !matches!(choice, Choice::Grant(_)) {
            if let Some(slot) = slot {
                self.accounts.count_waiting(slot, ask.kind(), true);
            }
            return;
        }
        self.queue.set_claim(id, None, &mut self.timers);
        // it is no load there any more
        self.accounts.dirty().mark_all();
        match choice {
            Choice::Grant(chosen) => self.grant_queued(now, id, chosen, effects),
            Choice::Claim { chosen, .. } if deadline > now.mono || claims < MOST_CLAIMS => {
                self.await_seat(now, id, chosen.slot);
            }
            Choice::Refuse(refusal) => {
                self.refusals.note(now.wall, &ask, &refusal);
                self.answer(now, id, Err(*refusal), effects);
            }
            Choice::Wait { kind, earliest: Some(earliest) } if deadline > now.mono && earliest > deadline => {
                self.give_up(now, id, kind, effects);
            }
            // it waits in turn, or its time is over
            Choice::Claim { .. } | Choice::Wait { .. } => {}
        }
    }

    fn serves(&self, slot: usize, ask: &LeaseRequest, now: Now) -> bool {
        self.accounts[slot].record.provider == *ask.target.provider && self.ineligible(slot, ask, now).is_none()
    }

    pub(crate) fn drain(&mut self, now: Now, effects: &mut Effects) -> Handled {
        self.draining = true;
        let waiting: Vec<WaiterId> = self.queue.in_order().map(|(id, _)| id).collect();
        for id in waiting {
            self.answer(now, id, Err(Refusal::shutting_down()), effects);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn answer(&mut self, now: Now, waiter: WaiterId, result: Result<Fence, Refusal>, effects: &mut Effects) {
        if self.unqueue(now, waiter).is_some() {
            effects.push(Effect::Answer { waiter, result });
        }
    }

    /// Reports processes that no lease and no queued request is bound to any more. It comes last, because a command that
    /// ends a lease of a process may grant it another one.
    pub(crate) fn unwatch(&mut self, effects: &mut Effects) {
        if self.leases.unbound().is_empty() && self.queue.unbound().is_empty() {
            return;
        }
        let mut unbound = self.leases.take_unbound();
        unbound.extend(self.queue.take_unbound());
        unbound.sort_unstable();
        unbound.dedup();
        unbound.retain(|process| self.leases.of_process(*process).is_empty() && !self.queue.waits_for(*process));
        effects.extend(unbound.into_iter().map(Effect::Unwatch));
    }

    fn give_up(&mut self, now: Now, waiter: WaiterId, kind: RefusalKind, effects: &mut Effects) {
        let Some(waiting) = self.queue.get(waiter) else { return };
        let ask = waiting.ask.clone();
        let refusal = self.refusal(now, &ask, kind);
        self.refusals.note(now.wall, &ask, &refusal);
        self.answer(now, waiter, Err(refusal), effects);
    }
}
