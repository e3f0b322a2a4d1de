//! The tasks of a session: what each has brought, and what follows from it.

use super::claims::ClaimEnd;
use super::outgoing::NumberedChange;
use super::probes::ProbeOutcome;
use super::{PoolSession, SessionEnd};
use crate::daemon::many_hosts::clock_offset::measured;
use crate::daemon::many_hosts::loss::PoolLoss;
use crate::daemon::many_hosts::news::{self, AppliedNews};
use crate::daemon::many_hosts::term::BeginError;
use crate::daemon::os::clock;
use crate::daemon::state::OwnChangeCount;
use crate::pool::{Mono, Now};
use crate::shared_pool::{BeatAnswer, PoolInfo, PoolNews, SharedPoolError, SharedPoolErrorKind};

/// A clock whose difference to the database's changes by so many ms was set.
const CLOCK_STEP: u64 = 1_000;

/// A reading of the news that has begun.
pub(super) struct BegunReading {
    pub(super) at: Mono,
    /// How many changes of its accounts this host had made by then.
    pub(super) own_changes: OwnChangeCount,
}

/// What a task has brought.
pub(super) enum TaskEnd {
    /// Without an answer in time: none.
    Beat(Now, Option<Result<Option<BeatAnswer>, SharedPoolError>>),
    News(BegunReading, Now, Result<Box<PoolNews>, SharedPoolError>),
    Applied(Result<AppliedNews, BeginError>),
    Claim(Result<ClaimEnd, SharedPoolError>),
    Probe(Result<ProbeOutcome, SharedPoolError>),
    Limit(NumberedChange, Result<(), SharedPoolError>),
    Info(Result<PoolInfo, SharedPoolError>),
    Other(Result<(), SharedPoolError>),
}

impl PoolSession<'_> {
    /// Carries out what follows from the end of a task.
    pub(super) fn finish(&mut self, done: TaskEnd) -> Option<SessionEnd> {
        match done {
            TaskEnd::Beat(sent, answer) => {
                self.beat.end();
                match answer {
                    Some(Ok(Some(answer))) => self.beat_accepted(sent, answer),
                    Some(Ok(None)) => Some(self.term_is_over()),
                    Some(Err(error)) => Some(self.lost(&error)),
                    None => Some(SessionEnd::Lost(PoolLoss::passing("its database does not answer"))),
                }
            }
            TaskEnd::News(begun, received, news) => match news {
                Ok(news) => {
                    self.look_for_silent_terms(&news, begun.at, received.mono);
                    let (daemon, client) = (self.daemon.clone(), self.client.clone());
                    self.tasks.spawn(async move {
                        let begun = begun.own_changes;
                        TaskEnd::Applied(news::adopt_and_apply(&daemon, &client, (news, begun)).await)
                    });
                    None
                }
                Err(error) => {
                    self.news.end();
                    self.failed(&error)
                }
            },
            TaskEnd::Applied(applied) => {
                self.news.end();
                match applied {
                    Ok(applied) => self.news_applied(applied),
                    Err(BeginError::Database(error)) => return self.failed(&error),
                    Err(BeginError::Unfit(why)) => return Some(SessionEnd::Lost(PoolLoss::refused(why))),
                }
                None
            }
            TaskEnd::Claim(Ok(ClaimEnd::Answered)) => None,
            TaskEnd::Claim(Ok(ClaimEnd::TermOver)) => Some(self.term_is_over()),
            TaskEnd::Probe(Ok(outcome)) => {
                match outcome {
                    ProbeOutcome::Ours(account, end) => self.memory.probes.claimed(account, end),
                    ProbeOutcome::HasNews => self.news.ask(clock::now().mono),
                    ProbeOutcome::Denied => {}
                }
                None
            }
            TaskEnd::Limit((_, change), Ok(())) => {
                self.memory.probes.sent(change.account());
                None
            }
            TaskEnd::Limit(change, Err(error)) => {
                self.memory.probes.sent(change.1.account());
                // what the database refuses would be refused again
                if error.is_temporary() {
                    self.memory.outgoing.limit_failed(change);
                }
                self.failed(&error)
            }
            TaskEnd::Info(Ok(info)) => {
                self.use_settings(info.settings);
                None
            }
            TaskEnd::Other(Ok(())) => None,
            TaskEnd::Claim(Err(error))
            | TaskEnd::Probe(Err(error))
            | TaskEnd::Info(Err(error))
            | TaskEnd::Other(Err(error)) => self.failed(&error),
        }
    }

    /// A call has failed: that ends the session if no other call can succeed.
    fn failed(&mut self, error: &SharedPoolError) -> Option<SessionEnd> {
        use SharedPoolErrorKind as Kind;
        if self.client.is_closed() {
            return Some(self.lost(error));
        }
        match error.kind() {
            Kind::TermOver => Some(self.term_is_over()),
            Kind::Evicted | Kind::NotMember | Kind::Auth | Kind::NoPool | Kind::SchemaNewer | Kind::SchemaOlder => {
                Some(self.lost(error))
            }
            Kind::KeysReplaced => {
                self.read_all();
                None
            }
            _ => {
                tracing::debug!("a call to the shared pool has failed: {error}");
                None
            }
        }
    }

    fn lost(&self, error: &SharedPoolError) -> SessionEnd {
        SessionEnd::Lost(PoolLoss::of(error, &self.target))
    }

    fn beat_accepted(&mut self, sent: Now, answer: BeatAnswer) -> Option<SessionEnd> {
        let received = clock::now();
        if let Some(offset) = measured(sent, received, answer.db_time, Some(0)) {
            self.daemon.many_hosts.set_clock_offset(offset);
            let before = self.memory.clock_offset.replace(offset);
            if before.is_some_and(|before| before.abs_diff(offset) >= CLOCK_STEP) {
                // the clock was set: the ends of limits that were learnt before are wrong now
                self.read_all();
            }
        }
        if self.memory.incarnation.replace(answer.incarnation) != Some(answer.incarnation) {
            tracing::warn!("the database of the shared pool is another one than before: everything is read again");
            self.forget_database();
        }
        let until = self.validity.accepted(sent.mono);
        let holds = {
            let state = &mut *self.daemon.state();
            state.extend_seats(clock::now(), until)
        };
        if !holds {
            return Some(SessionEnd::TermOver);
        }
        self.daemon.many_hosts.change_status(|status| status.seats_until = Some(until));
        None
    }

    /// Another host has ended the term, or this one was evicted.
    fn term_is_over(&self) -> SessionEnd {
        self.daemon.state().lose_seats(clock::now());
        tracing::warn!(
            term = self.term.id.0,
            "the seats of this host in the shared pool were taken over by others: its leases there have ended"
        );
        SessionEnd::TermOver
    }
}
