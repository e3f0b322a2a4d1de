//! Carrying out a command: the one way into the pool.

use crate::pool::command::{Command, Effect, Effects, Event, Handled, RefusalOrigin, Reply};
use crate::pool::lease::Ending;
use crate::pool::model::{Mono, Now, Refusal};
use crate::pool::state::Pool;
use std::time::Duration;

/// Clocks whose difference changes by more than this have been set.
const CLOCK_SET: Duration = Duration::from_secs(1);

impl Pool {
    /// Carries out `command` at `now`; what the shell must do is appended to `effects`, in order.
    ///
    /// # Errors
    /// A [`Refusal`] with the reason, and what would help.
    pub fn handle(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) -> Result<Reply, Refusal> {
        let queued_before = self.queue.len();
        self.pass_time(now, effects);
        self.give_back_unneeded(now, effects);
        self.serve_queue(now, effects);
        let reply = self.carry_out(now, command, effects);
        self.give_back_unneeded(now, effects);
        self.serve_queue(now, effects);
        self.claim_seats(now, effects);
        self.unwatch(effects);
        if self.queue.len() != queued_before {
            effects.push(Effect::Emit(Event::QueueChanged(self.queue.len())));
        }
        reply
    }

    /// When the pool must be called next, if nothing happens before.
    pub fn next_wakeup(&self, now: Now) -> Option<Mono> {
        let next = self.timers.next(now, !self.queue.is_empty());
        next.into_iter().chain(self.term.next_change()).min()
    }

    fn carry_out(&mut self, now: Now, command: Command, effects: &mut Effects) -> Handled {
        match command {
            Command::Acquire(request) => self.acquire(now, request, effects),
            Command::Cancel(waiter) => self.cancel(now, waiter),
            Command::ExtendLease(fence) => self.extend_lease(now, fence, effects),
            Command::Release(fence) => self.release(now, fence, effects),
            Command::Resume { ticket, connection, holder } => self.resume(now, *ticket, connection, holder, effects),
            Command::Attest(fence, attested) => self.attest(fence, attested),
            Command::Report { fence, outcome } => self.report(now, fence, &outcome, None, effects),
            Command::ReportOf { fence, outcome, need } => self.report(now, fence, &outcome, Some(&*need), effects),
            Command::Serve { fence, need } => self.serve(now, fence, &need, effects),
            Command::ConnectionClosed(connection) => self.connection_closed(now, connection, effects),
            Command::ProcessEnded(process) => self.process_ended(now, process, effects),
            Command::AddAccount(record) => self.add_account(now, *record, effects),
            Command::RemoveAccount(id) => self.remove_account(now, id, effects),
            Command::ChangeAccount(id, change) => self.change_account(now, id, *change, effects),
            Command::SetRenewing(id, renewing) => self.set_renewing(id, renewing, effects),
            Command::Reacquire { fence, wait } => self.reacquire_lease(now, fence, wait, effects),
            Command::MoveLease { fence, to, exclude, when } => {
                self.move_lease(now, fence, (to, exclude), when, effects)
            }
            Command::ForgetDenials(id, why) => self.forget_denials(now, id, why, effects),
            Command::Deny(id, details) => self.deny(now, id, &details, effects),
            Command::NoteRenewal(id) => self.note_renewal(now, id),
            Command::SetLimit(id, limit) => self.limit_account(now, id, limit, RefusalOrigin::default(), effects),
            Command::ReplaceLimit(id, limit) => self.replace_limit(now, id, limit, effects),
            Command::ClearLimits(id) => self.clear_limits(now, id, effects),
            Command::ClearLimit(id, scope, key) => self.clear_limit(now, id, (scope, &key), effects),
            Command::SetUsage(id, usage) => self.set_usage(now, id, usage, effects),
            Command::LearnUsage(id, read) => self.learn_usage(now, id, read, effects),
            Command::Configure(settings) => self.configure(now, *settings),
            Command::AddSharedAccount(record, limits) => self.add_shared_account(now, *record, limits, effects),
            Command::ShareAccount(id, limits) => self.share_account(now, id, limits, effects),
            Command::UnshareAccount(id) => self.unshare_account(now, id),
            Command::JoinTerm { until } => self.join_term(now, until, effects),
            Command::ResumeTerm { until, seats } => self.resume_term(now, until, &seats, effects),
            Command::ExtendSeats { until } => self.extend_seats(now, until),
            Command::LoseConnection => self.lose_connection(now),
            Command::SetPoolClosed(is_closed) => self.set_pool_closed(is_closed),
            Command::LoseSeats => self.lose_seats(now, effects),
            Command::SeatsClaimed { account, seats, elsewhere, fences } => {
                self.seats_claimed(now, account, (seats, elsewhere), fences, effects)
            }
            Command::SeatsDenied { account, elsewhere, why } => self.seats_denied(now, account, elsewhere, why),
            Command::SeatsElsewhere(seats) => self.seats_elsewhere(now, &seats),
            Command::SeatsWanted(wanted) => self.seats_wanted(now, &wanted),
            Command::ProbeClaimed(id) => self.probe_claimed(now, id),
            Command::ProbeDenied(id) => self.probe_denied(now, id),
            Command::TakeFences(fences) => self.take_fences(now, fences, effects),
            Command::LimitGuest(guest, limits) => self.limit_guest(now, guest, *limits, effects),
            Command::ForgetGuest(guest) => self.forget_guest(guest),
            Command::Drain => self.drain(now, effects),
            Command::Tick => Ok(Reply::Done),
        }
    }

    /// Carries out what is due.
    pub(super) fn pass_time(&mut self, now: Now, effects: &mut Effects) {
        while let Some(fence) = self.timers.due_lease(now) {
            self.end_lease(now, fence, Ending::Expired, effects);
        }
        if self.timers.end_grace(now) {
            self.queue_dirty.mark_all();
        }
        // if the clock was set, what was stated as a time of day is nearer or farther now
        let clock_set = u128::from(now.skew().abs_diff(self.skew)) >= CLOCK_SET.as_millis();
        if clock_set {
            let step = now.skew().saturating_sub(self.skew);
            self.skew = now.skew();
            self.accounts.follow_clock(step);
            self.accounts.reset_timers(now, &mut self.timers);
        }
        if self.timers.has_due_limits(now) {
            self.end_limits(now, effects);
        }
        self.pass_term(now, effects);
        while let Some(account) = self.timers.due_reset(now) {
            self.accounts.pass_reset(account, now, &mut self.timers);
        }
        if clock_set {
            self.save_spans(now, effects);
        }
    }
}
