//! Refreshes of logins that other hosts use, too. The steps are in [`steps`]; here they meet the daemon.

mod claims;
mod local;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use self::claims::RefreshAttempt;
use self::local::DaemonLogin;
use self::steps::{
    ClaimAnswer, HandOver, RefreshWait, RefreshWaitEnd, RefreshingHost, RefusalAnswer, claim, hand_over, is_away,
    settle_failed, settle_new, settle_refused,
};
use super::LONGEST_ATTEMPT;
use crate::credential::refresh::{RefreshFailure, RefreshFault, RefreshOutcome};
use crate::credential::{Credential, Secret};
use crate::daemon::many_hosts::message::PoolMessage;
use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::pool::AccountId;
use crate::shared_pool::{Membership, PoolClient, TokenGeneration};

/// How long a claim of another host is waited for until it is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long the token of another host is waited for. Meanwhile no other login of the same OAuth client is refreshed here.
const ADOPTION_TIME: Duration = Duration::from_secs(2);

/// A refresh that no other host sends, until it is settled.
#[derive(Debug)]
pub(super) struct SharedClaim {
    client: Arc<PoolClient>,
    membership: Arc<Membership>,
    attempt: RefreshAttempt,
}

/// Whether a shared login may be refreshed now.
pub(super) enum SharedBegin {
    /// It may, with this refresh token.
    Claimed(Secret, SharedClaim),
    /// Not by this attempt.
    Ended(RefreshOutcome),
}

/// Claims the refresh of a shared login. An answer that the pool does not have yet is given to it before.
pub(super) async fn begin(daemon: &Arc<Daemon>, id: AccountId) -> SharedBegin {
    let hosts = &daemon.many_hosts;
    let (Some(client), Some(membership), Some(term)) = (hosts.client(), hosts.membership(), hosts.term()) else {
        return SharedBegin::Ended(waits(daemon, is_away()));
    };
    // what the pool lost when its database was replaced by an older one is given to it once
    for is_again in [false, true] {
        let Some(known) = known_generation(daemon, &client, &membership, id).await else {
            return SharedBegin::Ended(waits(daemon, is_away()));
        };
        let is_renewed = {
            let state = &mut *daemon.state();
            state.update_refresh_plan(clock::now());
            state.logins.plan.is_renewed_meanwhile(id)
        };
        if is_renewed {
            // the token of another host has come since this attempt was begun: a newer one is of no use
            return SharedBegin::Ended(RefreshOutcome::Renewed);
        }
        let number = match getrandom::u64() {
            Ok(number) => number,
            Err(error) => {
                let why = format!("the system has no random bytes: {error}");
                return SharedBegin::Ended(failed(why, None));
            }
        };
        let host = RefreshingHost { membership: &membership, term: term.id, lasts: LONGEST_ATTEMPT };
        match claim(&*client, host, (id, known), number).await {
            ClaimAnswer::Claimed(claimed) => {
                let claim = SharedClaim { client, membership, attempt: claimed.attempt };
                return SharedBegin::Claimed(claimed.refresh, claim);
            }
            ClaimAnswer::Waits(wait) => {
                let is_renewed = is_adopted_soon(daemon, (id, known), &wait).await;
                return SharedBegin::Ended(if is_renewed { RefreshOutcome::Renewed } else { waits(daemon, wait) });
            }
            ClaimAnswer::LoginEnded => return SharedBegin::Ended(RefreshOutcome::LoginEnded),
            ClaimAnswer::PoolIsBehind(generation) if !is_again => local::fall_back(daemon, id, generation).await,
            ClaimAnswer::PoolIsBehind(_) => break,
        }
    }
    SharedBegin::Ended(waits(daemon, is_away()))
}

/// Waits for the token that another host has stored, or that it is getting while something waits for it here: a request that
/// was refused with the one before is sent again with it.
async fn is_adopted_soon(daemon: &Daemon, (id, known): (AccountId, TokenGeneration), wait: &RefreshWait) -> bool {
    let is_adopted = || daemon.state().shared_accounts.get(id).is_some_and(|note| note.generation > known);
    let is_under_way = matches!(wait.until, RefreshWaitEnd::Database(_));
    if !(wait.reads_news || is_under_way && daemon.state().logins.is_waited_for(id)) {
        return false;
    }
    // what adopts a token ends the waits for it
    let adopted = daemon.state().logins.attempt_ends(id);
    if wait.reads_news {
        daemon.mailboxes.many_hosts.send(PoolMessage::ReadNews);
    }
    if !is_adopted() {
        let _adopted_or_not = tokio::time::timeout(ADOPTION_TIME, adopted).await;
    }
    is_adopted()
}

/// The generation that this host has, once no answer waits to be given to the pool.
async fn known_generation(
    daemon: &Arc<Daemon>,
    client: &PoolClient,
    membership: &Membership,
    id: AccountId,
) -> Option<TokenGeneration> {
    match hand_over(client, &DaemonLogin(daemon), membership, id).await {
        HandOver::Stored(_) | HandOver::Gone => {}
        HandOver::Rotated | HandOver::Later => return None,
    }
    daemon.state().shared_accounts.get(id).map(|note| note.generation)
}

impl SharedClaim {
    /// It was not sent.
    pub(super) async fn unsent(&self) {
        settle_failed(&*self.client, self.attempt, true).await;
    }

    /// No answer came, and whether the server may have replaced the refresh token.
    pub(super) async fn failed(&self, may_be_rotated: bool) {
        settle_failed(&*self.client, self.attempt, !may_be_rotated).await;
    }

    /// The server has answered; whether this host uses the answer, and not one that another host has stored meanwhile.
    pub(super) async fn answered(
        &self,
        daemon: &Arc<Daemon>,
        (credential, life): (Credential, Option<Duration>),
    ) -> bool {
        let (local, access) = (DaemonLogin(daemon), credential.access.duplicate());
        let _handed = settle_new(&*self.client, &local, &self.membership, self.attempt, (credential, life)).await;
        daemon.state().credentials.get(self.attempt.account).is_some_and(|known| known.access == access)
    }

    /// The server has refused the refresh token; `None` if that is final.
    pub(super) async fn refused(&self, daemon: &Daemon) -> Option<RefreshOutcome> {
        match settle_refused(&*self.client, self.attempt).await {
            RefusalAnswer::Final => None,
            RefusalAnswer::Waits(wait) => Some(waits(daemon, wait)),
        }
    }

    /// Of which generation the refresh token was.
    pub(super) fn generation(&self) -> TokenGeneration {
        self.attempt.generation
    }
}

/// Gives the pool the answers that it does not have yet: after the connection to its database was made, or this host got
/// new keys.
pub(super) async fn hand_over_answers(daemon: &Arc<Daemon>, client: &PoolClient) {
    let Some(membership) = daemon.many_hosts.membership() else { return };
    let answers = daemon.state().pool_answers();
    for (id, _) in answers {
        let handed = match membership.refresher {
            true => hand_over(client, &DaemonLogin(daemon), &membership, id).await,
            // of a login that only this host refreshes, because its tool is here
            false => local::replace_as_admin(daemon, client, &membership, id).await,
        };
        if handed == HandOver::Later {
            // the database is away again, or keys are missing: none of the others would be stored
            return;
        }
    }
}

fn waits(daemon: &Daemon, wait: RefreshWait) -> RefreshOutcome {
    if wait.reads_news {
        daemon.mailboxes.many_hosts.send(PoolMessage::ReadNews);
    }
    let after = match wait.until {
        RefreshWaitEnd::After(time) => Some(time),
        RefreshWaitEnd::Later => None,
        // the host that has the claim may give it up before
        RefreshWaitEnd::Database(at) => Some(daemon.many_hosts.to_local(at).since(clock::now().wall).min(LONGEST_WAIT)),
    };
    failed(wait.why, after)
}

fn failed(why: String, wait: Option<Duration>) -> RefreshOutcome {
    RefreshOutcome::Failed(RefreshFailure { fault: RefreshFault::SharedPool, why, wait })
}
