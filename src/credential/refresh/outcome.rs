//! How a refresh ended, and what the plan learns from it.

use super::{BREATH, RefreshFailure, RefreshFault, RefreshPlan, RefreshReason};
use crate::pool::{AccountId, Mono, Now};

/// How a refresh ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RefreshOutcome {
    /// There is a new token, already passed to `update`.
    Renewed,
    /// The login has ended or was removed; it is removed from the plan.
    LoginEnded,
    /// The refresh failed.
    Failed(RefreshFailure),
}

/// A change that is worth logging.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RefreshTransition {
    /// Refreshing fails from now on.
    Failing(RefreshFailure),
    /// Refreshing works again; since when it had failed.
    Recovered(Mono),
}

impl RefreshPlan {
    /// Records how a refresh ended. `chance` is a random number from 0 to 1.
    pub fn finish(
        &mut self,
        id: AccountId,
        ended: &RefreshOutcome,
        now: Now,
        chance: f64,
    ) -> Option<RefreshTransition> {
        let name = self.clients.iter().find(|(_, client)| client.running == Some(id)).map(|(name, _)| name.clone())?;
        let client = self.clients.get_mut(&name)?;
        client.running = None;
        client.calm_until = now.mono.after(BREATH.mul_f64(chance));
        match ended {
            RefreshOutcome::Renewed => {
                let one = self.accounts.get_mut(&id).and_then(|account| {
                    (account.running, account.wanted) = (None, None);
                    account.outage.recover()
                });
                client.unaccepted_for = None;
                client.outage.recover().or(one)
            }
            RefreshOutcome::LoginEnded => {
                // the endpoint answered, and rejected this login only
                client.unaccepted_for = None;
                let recovered = client.outage.recover();
                self.remove(id);
                recovered
            }
            RefreshOutcome::Failed(failure) => {
                // many logins of a wrong client are reported once
                let is_known = failure.fault.is_refusal_of_client()
                    && self.accounts.iter().any(|(other, one)| {
                        let last = one.outage.last.as_ref().filter(|_| *other != id && one.login.client == name);
                        last.is_some_and(|(before, _)| before == failure)
                    });
                let is_of_account = self.is_of_account(id, &name, failure.fault);
                if let Some(account) = self.accounts.get_mut(&id) {
                    account.running = None;
                    // the user sees the failure and can ask again
                    account.wanted.take_if(|(want, _)| *want == RefreshReason::UserRequest);
                    if is_of_account {
                        return account.outage.fail(failure, now.mono, chance).filter(|_| !is_known);
                    }
                    // it is tried after those that have not failed
                    account.outage.failures = account.outage.failures.saturating_add(1);
                }
                let client = self.clients.get_mut(&name).filter(|_| !is_of_account)?;
                client.outage.fail(failure, now.mono, chance).filter(|_| !is_known)
            }
        }
    }

    /// Whether a failure is only this login's. Remembers for which login the client was not accepted.
    fn is_of_account(&mut self, id: AccountId, client: &str, fault: RefreshFault) -> bool {
        let is_client_known = self.accounts.get(&id).is_some_and(|account| account.login.is_client_known);
        match fault {
            RefreshFault::Account | RefreshFault::SharedPool | RefreshFault::Tool | RefreshFault::ToolWantsLogin => {
                true
            }
            RefreshFault::ClientRefused => !is_client_known,
            RefreshFault::ClientUnknown => {
                let client = self.clients.get_mut(client);
                let before = client.and_then(|client| client.unaccepted_for.replace(id));
                !is_client_known && before.is_none_or(|before| before == id)
            }
            RefreshFault::Endpoint | RefreshFault::RateLimited | RefreshFault::Client | RefreshFault::Disk => false,
        }
    }
}
