//! The one place that changes the state: a command goes into the pool, its effects are carried out, and what follows
//! from them is applied in the same loop.

use std::collections::VecDeque;
use std::sync::{Arc, atomic::Ordering};

use super::{Pending, State, Unsaved};
use crate::daemon::many_hosts::message::{PoolMessage, SeatsWanted};
use crate::pool::{AccountId, Command, Decision, Effect, Ending, Event, Fence, Lease, Now, Refusal, Reply};
use crate::{credential::refresh::RefreshReason, store::Write};

impl State {
    /// Applies a command and everything that follows from it. Every write is handed to the store before this returns.
    pub(crate) fn apply(&mut self, now: Now, command: Command) -> Unsaved<Result<Reply, Refusal>> {
        let mut pending = Pending::Nothing;
        for ended in self.ended_credentials(now) {
            self.step_internal(now, ended, &mut pending);
        }
        let reply = self.step(now, command, &mut pending);
        self.settle(now, &mut pending);
        Unsaved::pending(reply, pending)
    }

    /// Applies a command that no client waits for.
    pub(crate) fn apply_internal(&mut self, now: Now, command: Command) {
        if let Err(refusal) = self.apply(now, command).no_answer() {
            self.log.push(move || tracing::debug!("an internal command was refused: {}", refusal.message));
        }
    }

    /// Carries out what restoring has left to do.
    pub(super) fn begin(&mut self, now: Now, credentials: Vec<(AccountId, crate::credential::Credential)>) {
        for (id, credential) in credentials {
            self.credentials.restore(id, credential, now.wall);
            self.logins.account_changed(id);
        }
        let mut effects = std::mem::take(&mut self.effects);
        let mut pending = Pending::Nothing;
        self.carry_out(now, &mut effects, &mut pending);
        self.effects = effects;
        self.settle(now, &mut pending);
        self.resume_refreshes(now);
    }

    /// Applies what follows from effects until nothing does.
    fn settle(&mut self, now: Now, pending: &mut Pending) {
        if !self.follow_ups.is_empty() || self.logins.has_changes() {
            self.follow_up(now, pending);
        }
        if let Some(next) = self.pool.next_wakeup(now)
            && next.0 < self.shared.scheduled.load(Ordering::Relaxed)
        {
            self.shared.reschedule.notify_one();
        }
    }

    fn follow_up(&mut self, now: Now, pending: &mut Pending) {
        let mut due = VecDeque::from(std::mem::take(&mut self.follow_ups));
        loop {
            if due.is_empty() && self.logins.has_changes() {
                due.extend(self.plan_refreshes(now));
            }
            let Some(command) = due.pop_front() else { break };
            self.step_internal(now, command, pending);
            due.extend(self.follow_ups.drain(..));
        }
    }

    fn step_internal(&mut self, now: Now, command: Command, pending: &mut Pending) {
        if let Err(refusal) = self.step(now, command, pending) {
            self.log.push(move || tracing::debug!("an internal command was refused: {}", refusal.message));
        }
    }

    fn step(&mut self, now: Now, command: Command, pending: &mut Pending) -> Result<Reply, Refusal> {
        let mut effects = std::mem::take(&mut self.effects);
        let moves = command.moves();
        if let Command::LimitGuest(guest, limits) = &command {
            let before = self.pool.guest_limits(*guest);
            self.key_holders.change_sets(*guest, |set| limits.replace(set, before));
        }
        let reply = self.pool.handle(now, command, &mut effects);
        if let (Some(from), Ok(Reply::Decision(Decision { lease: Some(to), .. }) | Reply::Held(to))) = (moves, &reply)
            && from != *to
            && let Some(account) = self.pool.lease(*to).map(|lease| lease.account)
        {
            let to = *to;
            if let Some(first) = self.key_holders.moved(from, to, account) {
                self.save_move(first, to, pending);
            }
        }
        self.carry_out(now, &mut effects, pending);
        self.effects = effects;
        reply
    }

    fn carry_out(&mut self, now: Now, effects: &mut Vec<Effect>, pending: &mut Pending) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer { waiter, result } => {
                    if let Some(waiter) = self.waiters.remove(waiter) {
                        waiter.answer(self, now, Unsaved::pending(result, *pending));
                    }
                }
                Effect::SaveLease(fence) => self.save_lease(fence, pending),
                Effect::Ended(lease, why) => self.lease_ended(now, lease, why, pending),
                Effect::SaveAccount(id) => self.save_account(id, pending),
                Effect::DeleteAccount(id) => self.delete_account(id, pending),
                Effect::SaveLimit(record) => {
                    self.share_limit(&record);
                    self.write(record.account, Write::SaveLimit(record), pending);
                }
                Effect::DropLimit(account, which) => {
                    self.share_limit_end(now, account, which.as_ref());
                    self.write(account, Write::DropLimit(account, which), pending);
                }
                Effect::SaveSession(record) => self.write(record.account, Write::SaveSession(record), pending),
                Effect::ReserveFences(fence) => *pending = self.shared.write(Write::ReserveFences(fence)).max(*pending),
                Effect::SaveUsage(id) => {
                    if let Some(usage) = self.pool.account(id).map(|account| account.usage().kept()) {
                        self.write(id, Write::SaveUsage(id, usage), pending);
                        self.share_usage(id);
                    }
                }
                Effect::RefreshToken(id) => {
                    // where it cannot be refreshed, the report said so to the pool
                    let _outcome = self.logins.want(id, RefreshReason::Refused, now);
                }
                // its worker answers each of them, also while the database is away
                Effect::ClaimSeats { account, seats, most, whole } => {
                    let wanted = SeatsWanted { account, seats, most, whole };
                    self.shared.mailboxes.many_hosts.send(PoolMessage::Claim(wanted));
                }
                Effect::GiveBackSeats { account, seats } => {
                    self.note_given_back(account);
                    self.shared.mailboxes.many_hosts.send(PoolMessage::GiveBack { account, seats });
                }
                Effect::WithdrawWant { account } => {
                    self.shared.mailboxes.many_hosts.send(PoolMessage::WithdrawWant(account));
                }
                Effect::ClaimFences { above } => {
                    self.shared.mailboxes.many_hosts.send(PoolMessage::ClaimFences { above });
                }
                Effect::ClaimProbe { account, limits } => {
                    self.shared.mailboxes.many_hosts.send(PoolMessage::ClaimProbe { account, limits });
                }
                Effect::GiveUpProbe(account) => {
                    self.shared.mailboxes.many_hosts.send(PoolMessage::GiveUpProbe(account));
                }
                Effect::Unwatch(process) => self.processes.unbind(process),
                Effect::Emit(event) => self.emit(now, event),
            }
        }
    }

    /// Hands a write of this account to the store. The answer of this call waits for it, and those about the account's
    /// leases.
    pub(super) fn write(&mut self, account: AccountId, write: Write, pending: &mut Pending) {
        let demand = self.shared.write(write);
        if demand >= Pending::Lease {
            self.unsaved.note(account, &self.shared.counts);
        }
        *pending = demand.max(*pending);
    }

    /// What an answer that names this lease waits for beside the changes of its own call: a `kill -9` must not bring
    /// back the lease that had the account before, or lose the limit that ended there.
    pub(crate) fn pending_of(&mut self, lease: Fence) -> Pending {
        let account = self.pool.lease(lease).map(|lease| lease.account);
        account.map_or(Pending::Nothing, |account| self.unsaved.pending(account, &self.shared.counts))
    }

    fn save_lease(&mut self, fence: Fence, pending: &mut Pending) {
        if let Some(lease) = self.pool.shared_lease(fence).cloned() {
            self.write(lease.account, Write::SaveLease(lease), pending);
        }
    }

    fn lease_ended(&mut self, now: Now, lease: Arc<Lease>, why: Ending, pending: &mut Pending) {
        if lease.is_durable() {
            self.write(lease.account, Write::DropLease(lease.fence), pending);
        }
        self.note_cut_off(now, why);
        self.logins.lease_ended(lease.fence);
        self.events.ended(now.wall, &lease, why, &self.pool, &mut self.log);
        self.shared.capacity_changed.notify_waiters();
        let orphans = self.key_holders.ended(lease.fence, why);
        // those bound to the same process or connection end with it
        self.follow_ups.extend(orphans.into_iter().map(Command::Release));
        self.drop_moves(&lease, why, pending);
        self.last_ended = Some(lease);
    }

    fn save_account(&mut self, id: AccountId, pending: &mut Pending) {
        self.logins.account_changed(id);
        self.share_account_change(id);
        if let Some(record) = self.pool.account(id).map(|account| account.record.clone()) {
            self.write(id, Write::SaveAccount { record: Box::new(record), credential: None }, pending);
        }
    }

    fn delete_account(&mut self, id: AccountId, pending: &mut Pending) {
        self.credentials.remove(id);
        self.shared_accounts.remove(id);
        self.shared.requests.forget_limit(id);
        self.events.account_removed(id);
        self.saved_uses.remove(&id);
        self.links.remove(id);
        self.logins.account_removed(id);
        self.usage_notes.forget(id);
        self.write(id, Write::DeleteAccount(id), pending);
    }

    fn emit(&mut self, now: Now, event: Event) {
        if matches!(event, Event::Recovered(..) | Event::AccountChanged(_)) {
            self.shared.capacity_changed.notify_waiters();
        }
        if let Event::Moved(moved) = &event {
            self.session_accounts.note_move(moved.to);
        }
        if matches!(event, Event::AccountChanged(_)) {
            // the names in the policies of guests may mean other accounts now
            self.follow_ups.extend(self.limits_after_change());
        }
        let changed = match event {
            Event::AccountChanged(id) => self.pool.account(id).map(|account| self.account_state(account, now)),
            _ => None,
        };
        self.events.emit(now, (event, changed), &self.pool, &mut self.log);
    }
}
