//! What one host of the pool does for all of them, such as reading the usage of an account.

use std::time::Duration;

use crate::daemon::state::Daemon;
use crate::pool::AccountId;
use crate::shared_pool::DutyKind;

/// How long the answer of the database may take.
const LONGEST_CLAIM: Duration = Duration::from_secs(2);
/// Another host does it again after this time at the earliest: less than the shortest time between two queries.
const LASTS: Duration = Duration::from_secs(50);

/// Whether this host does it now. Of an account that no other host uses, it always does; of a shared one, not while the
/// database is away: another host may do it.
pub(in crate::daemon) async fn is_ours(daemon: &Daemon, account: AccountId, kind: DutyKind) -> bool {
    if !daemon.state().is_shared(account) {
        return true;
    }
    let (Some(client), Some(term)) = (daemon.many_hosts.client(), daemon.many_hosts.term()) else { return false };
    let every = {
        let state = &*daemon.state();
        state.config.config.quota.poll.map_or(LASTS, |every| LASTS.max(every.mul_f64(0.9)))
    };
    let claim = client.claim_duty(term.id, account, kind, every);
    matches!(tokio::time::timeout(LONGEST_CLAIM, claim).await, Ok(Ok(true)))
}
