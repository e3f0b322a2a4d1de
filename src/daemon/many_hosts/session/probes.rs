//! The duty to probe an account for all hosts: claimed when the pool asks, and ended once the database has the outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::claims::{CLAIM_TIME, CurrentTerm};
use crate::limits::Scope;
use crate::pool::{AccountId, Command};
use crate::shared_pool::{ProbeClaim, ProbeEnd, SharedPoolError};

/// Another host takes the duty over after this time at the latest: longer than a host waits for a request that it can
/// send, and then for the outcome (`pool/limit/phase.rs`).
const PROBE_LASTS: Duration = Duration::from_secs(80);

/// How a claim of the duty has ended. The pool has its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProbeOutcome {
    /// This host has it.
    Ours(AccountId, ProbeEnd),
    /// It has not.
    Denied,
    /// It has not, and there is news of the limit.
    HasNews,
}

/// The duties of this host.
#[derive(Debug, Default)]
pub(in crate::daemon::many_hosts) struct ProbeDuties {
    held: BTreeMap<AccountId, ProbeEnd>,
    /// The pool has given these up.
    given_up: BTreeSet<AccountId>,
    /// How many changes of the limits of an account are being sent.
    sending: BTreeMap<AccountId, u32>,
}

impl ProbeDuties {
    /// The pool asks for the duty.
    pub(super) fn asked(&mut self, account: AccountId) {
        self.given_up.remove(&account);
    }

    pub(super) fn claimed(&mut self, account: AccountId, end: ProbeEnd) {
        self.held.insert(account, end);
    }

    /// The pool does not probe any more.
    pub(in crate::daemon::many_hosts) fn give_up(&mut self, account: AccountId) {
        self.given_up.insert(account);
    }

    /// A change of the account's limits is being sent.
    pub(super) fn sends(&mut self, account: AccountId) {
        *self.sending.entry(account).or_default() += 1;
    }

    /// It was sent, or has failed.
    pub(super) fn sent(&mut self, account: AccountId) {
        if let Some(count) = self.sending.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.sending.remove(&account);
            }
        }
    }

    /// The connection is lost, and what was being sent with it.
    pub(super) fn disconnected(&mut self) {
        self.sending.clear();
    }

    /// The duties that are to be ended now: the database has the outcome of these probes.
    pub(super) fn take_ended(&mut self) -> Vec<(AccountId, ProbeEnd)> {
        let Self { held, given_up, sending } = self;
        let due = given_up.iter().copied().filter(|account| !sending.contains_key(account));
        let ended: Vec<_> = due.filter_map(|account| Some((account, held.remove(&account)?))).collect();
        given_up.retain(|account| !ended.iter().any(|(of, _)| of == account));
        ended
    }
}

impl CurrentTerm {
    /// Claims the duty to probe an account, and answers the pool in time.
    pub(super) async fn claim_probe(
        self,
        account: AccountId,
        limits: Vec<(Scope, String)>,
    ) -> Result<ProbeOutcome, SharedPoolError> {
        let (client, term) = (self.client.clone(), self.term.id);
        let mut call = std::pin::pin!(client.claim_probe(term, account, &limits, PROBE_LASTS));
        let Ok(answer) = tokio::time::timeout(CLAIM_TIME, &mut call).await else {
            self.deny_probe(account);
            if let ProbeClaim::Claimed(end) = call.await? {
                // the pool has given it up
                client.end_probe(term, account, end).await?;
            }
            return Ok(ProbeOutcome::Denied);
        };
        match answer {
            Ok(ProbeClaim::Claimed(end)) => {
                let mut is_used = true;
                let claimed = Command::ProbeClaimed(account);
                self.apply(|state, now| is_used = state.apply(now, claimed).no_answer().is_ok());
                if is_used {
                    return Ok(ProbeOutcome::Ours(account, end));
                }
                client.end_probe(term, account, end).await?;
                Ok(ProbeOutcome::Denied)
            }
            Ok(ProbeClaim::Held) => {
                self.deny_probe(account);
                Ok(ProbeOutcome::Denied)
            }
            Ok(ProbeClaim::Cleared(over)) => {
                self.apply(|state, now| {
                    for (scope, key) in over {
                        state.apply_from_pool(now, Command::ClearLimit(account, scope, key));
                    }
                });
                self.deny_probe(account);
                Ok(ProbeOutcome::HasNews)
            }
            Ok(ProbeClaim::Limited) => {
                self.deny_probe(account);
                Ok(ProbeOutcome::HasNews)
            }
            Err(error) => {
                self.deny_probe(account);
                Err(error)
            }
        }
    }

    /// Another host may probe the account.
    pub(super) async fn end_probe(self, (account, end): (AccountId, ProbeEnd)) -> Result<(), SharedPoolError> {
        self.client.end_probe(self.term.id, account, end).await
    }

    fn deny_probe(&self, account: AccountId) {
        self.apply(|state, now| state.apply_from_pool(now, Command::ProbeDenied(account)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_ends_once_the_database_has_the_outcome() {
        let (mut duties, account) = (ProbeDuties::default(), AccountId::from_bits(1));
        duties.claimed(account, ProbeEnd(7));
        assert!(duties.take_ended().is_empty(), "the probe is under way");
        duties.sends(account);
        duties.give_up(account);
        assert!(duties.take_ended().is_empty(), "others could probe before they know of the outcome");
        duties.sent(account);
        assert_eq!(duties.take_ended(), [(account, ProbeEnd(7))]);
        assert!(duties.take_ended().is_empty());
        // given up before the claim's end is known
        duties.give_up(account);
        assert!(duties.take_ended().is_empty());
        duties.claimed(account, ProbeEnd(8));
        assert_eq!(duties.take_ended(), [(account, ProbeEnd(8))]);
        // it is asked for again: what was given up before does not end it
        duties.give_up(account);
        duties.asked(account);
        duties.claimed(account, ProbeEnd(9));
        assert!(duties.take_ended().is_empty());
    }

    #[test]
    fn what_was_being_sent_when_the_connection_broke_holds_up_nothing() {
        let (mut duties, account) = (ProbeDuties::default(), AccountId::from_bits(1));
        duties.claimed(account, ProbeEnd(7));
        duties.sends(account);
        duties.give_up(account);
        duties.disconnected();
        assert_eq!(duties.take_ended().len(), 1);
    }
}
