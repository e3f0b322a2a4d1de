//! The queue at work: who waits, who is served, who is told that waiting is no use.

use super::command::{Effect, LeaseRequest, Reply};
use super::error::{Refusal, RefusalKind};
use super::id::{Fence, WaiterId};
use super::lease::Bind;
use super::queue::{MOST_WAITERS, Place, QueuedRequest};
use super::select::Choice;
use super::settings::Mode;
use super::time::{Mono, Now};
use super::{Pool, Stirred};

/// Kinds of unserved requests that one look through the queue compares with; beyond it each is looked at.
const MOST_COMPARED: usize = 8;

impl Pool {
    /// Queues `ask`, or says at once that waiting is no use.
    pub(super) fn wait_for(&mut self, now: Now, ask: LeaseRequest, choice: Choice) -> Result<Reply, Refusal> {
        let deadline = now.mono.after(self.patience(&ask));
        let kind = match choice {
            Choice::Wait { kind, .. } => kind,
            Choice::Grant { .. } | Choice::Refuse(_) => RefusalKind::NoCapacity,
        };
        if deadline <= now.mono || choice.too_late(deadline) {
            let mut refusal = self.refusal(now, &ask, kind);
            refusal.retry_at = refusal.retry_at.or(self.grace_until.map(|until| now.wall_of(until)));
            self.note_refused(now, &ask, &refusal);
            return Err(refusal);
        }
        if self.queue.len() >= MOST_WAITERS {
            return Err(Refusal::new(RefusalKind::Overloaded, "too many requests wait already"));
        }
        Ok(Reply::Queued(self.queue.push(QueuedRequest { ask, since: now.mono, deadline })))
    }

    pub(super) fn cancel(&mut self, waiter: WaiterId) -> Result<Reply, Refusal> {
        self.leave_queue(waiter);
        Ok(Reply::Done)
    }

    /// Serves the queue as far as it can be served, in order; afterwards nobody in it can be.
    pub(super) fn serve_queue(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // granting a session its account can stir the queue again; each round ends with one waiter less or is the last
        while (self.stirred.all || !self.stirred.freed.is_empty()) && !self.queue.is_empty() {
            let Stirred { all, freed } = std::mem::take(&mut self.stirred);
            if self.grace_until.is_some() {
                break;
            }
            self.serve_round(now, (!all).then_some(&freed), effects);
        }
        self.stirred.all = false;
        self.stirred.freed.clear();
        // last: who can be served now is served, even in the last moment
        while let Some(overdue) = self.queue.overdue(now.mono) {
            self.give_up(now, overdue, RefusalKind::WaitTimeout, effects);
        }
    }

    /// Looks through the queue once; where only some accounts were freed, only for whom these can serve.
    fn serve_round(&mut self, now: Now, freed: Option<&Vec<usize>>, effects: &mut Vec<Effect>) {
        // who asks for the same as somebody who got nothing gets nothing: a long queue is not searched for each
        let mut unserved: Vec<(WaiterId, Option<Mono>)> = Vec::new();
        let alike_counts = self.settings.selection.mode != Mode::CacheFirst;
        let mut ties = std::mem::take(&mut self.scratch);
        let mut last: Option<Place> = None;
        while let Some((place, waiter)) = self.queue.after(last) {
            last = Some(place);
            let (id, deadline) = (place.1, waiter.deadline);
            if let Some(freed) = freed {
                if !freed.iter().any(|&slot| self.has_room(&self.accounts[slot], false)) {
                    break;
                }
                if !freed.iter().any(|&slot| self.serves(slot, &waiter.ask, now)) {
                    continue;
                }
            }
            let same = |other: &QueuedRequest| alike_counts && asks_alike(&other.ask, &waiter.ask);
            let alike = unserved.iter().find(|(other, _)| self.queue.get(*other).is_some_and(same));
            let choice = match alike {
                Some((_, earliest)) => Choice::Wait { kind: RefusalKind::AllLimited, earliest: *earliest },
                None => self.choose_with(now, &waiter.ask, waiter.since, &mut ties),
            };
            let known = alike.is_some();
            match choice {
                Choice::Grant { slot, by, other } => {
                    let Some(QueuedRequest { ask, .. }) = self.queue.remove(id) else { continue };
                    let request = ask.request_id.clone();
                    let fence = self.grant(now, ask, slot, (by, other), effects);
                    if let Some(request) = request {
                        self.remember(now, &request, &Reply::Held(fence));
                    }
                    effects.push(Effect::Answer { waiter: id, result: Ok(fence) });
                }
                Choice::Refuse(refusal) => self.answer(id, Err(*refusal), effects),
                Choice::Wait { kind, earliest } => {
                    // whose time is over is told so, not that it would have been
                    if deadline > now.mono && earliest.is_some_and(|earliest| earliest > deadline) {
                        self.give_up(now, id, kind, effects);
                    } else if !known && unserved.len() < MOST_COMPARED {
                        unserved.push((id, earliest));
                    }
                }
            }
        }
        self.scratch = ties;
    }

    /// Whether this account stands open to this request.
    fn serves(&self, slot: usize, ask: &LeaseRequest, now: Now) -> bool {
        self.accounts[slot].record.provider == *ask.target.provider && self.obstacle(slot, ask, now).is_none()
    }

    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        self.draining = true;
        let waiting: Vec<WaiterId> = self.queue.in_order().map(|(id, _)| id).collect();
        for id in waiting {
            self.answer(id, Err(Refusal::new(RefusalKind::ShuttingDown, "the daemon is ending")), effects);
        }
        Ok(Reply::Done)
    }

    pub(super) fn answer(&mut self, waiter: WaiterId, result: Result<Fence, Refusal>, effects: &mut Vec<Effect>) {
        if self.leave_queue(waiter).is_some() {
            effects.push(Effect::Answer { waiter, result });
        }
    }

    /// Takes a waiter out who gets no lease.
    pub(super) fn leave_queue(&mut self, waiter: WaiterId) -> Option<QueuedRequest> {
        let left = self.queue.remove(waiter)?;
        self.unwatch_later(left.ask.bind);
        Some(left)
    }

    /// Notes that what was bound here is bound no more.
    pub(super) fn unwatch_later(&mut self, bind: Bind) {
        if let Bind::Process(process) = bind {
            self.unbound.push(process);
        }
    }

    /// Lets go of processes that nothing is bound to any more, and nobody who waits is to be: told last, because a
    /// command that ends a process's lease may grant it another one.
    pub(super) fn unwatch(&mut self, effects: &mut Vec<Effect>) {
        let mut unbound = std::mem::take(&mut self.unbound);
        unbound.sort_unstable();
        unbound.dedup();
        for process in unbound.drain(..) {
            if !self.by_process.contains_key(&process) && !self.queue.waits_for(process) {
                effects.push(Effect::Unwatch(process));
            }
        }
        self.unbound = unbound;
    }

    fn give_up(&mut self, now: Now, waiter: WaiterId, kind: RefusalKind, effects: &mut Vec<Effect>) {
        let Some(waiting) = self.queue.get(waiter) else { return };
        let ask = waiting.ask.clone();
        let refusal = self.refusal(now, &ask, kind);
        self.note_refused(now, &ask, &refusal);
        self.answer(waiter, Err(refusal), effects);
    }
}

/// Whether two requests can be served by the same accounts; which of these a session prefers is no matter to one that
/// none of them is open to.
fn asks_alike(left: &LeaseRequest, right: &LeaseRequest) -> bool {
    left.target == right.target
        && left.account == right.account
        && left.agent == right.agent
        && left.exclusive == right.exclusive
        && left.exclude == right.exclude
}
