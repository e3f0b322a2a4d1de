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
        self.serve_queue(now, effects);
        let reply = self.carry_out(now, command, effects);
        self.serve_queue(now, effects);
        self.unwatch(effects);
        if self.queue.len() != queued_before {
            effects.push(Effect::Emit(Event::QueueChanged(self.queue.len())));
        }
        reply
    }

    /// When the pool must be called next, if nothing happens before.
    pub fn next_wakeup(&self, now: Now) -> Option<Mono> {
        self.timers.next(now, !self.queue.is_empty())
    }

    fn carry_out(&mut self, now: Now, command: Command, effects: &mut Effects) -> Handled {
        match command {
            Command::Acquire(request) => self.acquire(now, request, effects),
            Command::Cancel(waiter) => self.cancel(waiter),
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
            Command::ClearLimits(id) => self.clear_limits(now, id, effects),
            Command::ClearLimit(id, scope, key) => self.clear_limit(now, id, (scope, &key), effects),
            Command::SetUsage(id, usage) => self.set_usage(now, id, usage, effects),
            Command::LearnUsage(id, read) => self.learn_usage(now, id, read, effects),
            Command::Configure(settings) => self.configure(now, *settings),
            Command::ShareAccount(..)
            | Command::UnshareAccount(_)
            | Command::JoinTerm { .. }
            | Command::ResumeTerm { .. }
            | Command::ExtendSeats { .. }
            | Command::LoseConnection
            | Command::LoseSeats
            | Command::SeatsClaimed { .. }
            | Command::SeatsDenied { .. }
            | Command::SeatsElsewhere(_)
            | Command::SeatWanted(_)
            | Command::TakeFences(_) => Ok(Reply::Done),
            Command::Drain => self.drain(effects),
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
            self.skew = now.skew();
            self.accounts.reset_timers(now, &mut self.timers);
        }
        if self.timers.has_due_limits(now) {
            self.end_limits(now, effects);
        }
        while let Some(account) = self.timers.due_reset(now) {
            self.accounts.pass_reset(account, now, &mut self.timers);
        }
        if clock_set {
            self.save_spans(now, effects);
        }
    }
}
