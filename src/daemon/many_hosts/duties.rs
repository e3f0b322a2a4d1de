//! Which host reads the usage of an account for all of them.

use std::time::Duration;

use crate::daemon::state::Daemon;
use crate::pool::AccountId;

/// How long the answer of the database may take.
const LONGEST_CLAIM: Duration = Duration::from_secs(2);
/// Another host reads it again after this time at the earliest: less than the shortest time between two queries.
const LASTS: Duration = Duration::from_secs(50);

/// Whether this host reads the usage of an account now. Of an account that no other host uses, it always does; of a shared one, not while the
/// database is away: another host may read it.
pub(in crate::daemon) async fn reads_usage(daemon: &Daemon, account: AccountId) -> bool {
    if !daemon.state().is_shared(account) {
        return true;
    }
    let (Some(client), Some(term)) = (daemon.many_hosts.client(), daemon.many_hosts.term()) else { return false };
    let every = {
        let state = &*daemon.state();
        state.config.config.quota.poll.map_or(LASTS, |every| LASTS.max(every.mul_f64(0.9)))
    };
    let claim = client.claim_reading(term.id, account, every);
    matches!(tokio::time::timeout(LONGEST_CLAIM, claim).await, Ok(Ok(true)))
}
