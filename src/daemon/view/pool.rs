//! The pool that this host shares with others, in `status`.

use std::time::Duration;

use crate::daemon::many_hosts::loss::JOIN_AGAIN;
use crate::daemon::many_hosts::status::{PoolAwayKind, PoolLink, SeenHost};
use crate::daemon::state::State;
use crate::pool::Now;
use crate::protocol::PoolSummaryInfo;

/// The pool as this host knows it, without asking the database; `None` without one.
pub(crate) fn pool_summary(state: &State, now: Now) -> Option<PoolSummaryInfo> {
    let many_hosts = &state.shared().many_hosts;
    let status = many_hosts.status();
    let membership = many_hosts.membership();
    let (word, trouble) = match &status.link {
        PoolLink::Unset => return None,
        PoolLink::NotJoined => ("not_joined", None),
        PoolLink::NoUrl => {
            let url = membership.as_ref().map_or("URL", |membership| membership.address.url.as_str());
            let why = format!(
                "[pool] url is not set, so the pool is not used; to use it: lessor config set pool.url '{url}'"
            );
            ("off", Some(why))
        }
        PoolLink::Connecting => ("connecting", None),
        PoolLink::Connected(_) => ("connected", None),
        PoolLink::Away(away) => {
            let (word, why) = match away.kind {
                PoolAwayKind::Unreachable => ("away", away.why.clone()),
                PoolAwayKind::Refused => ("refused", away.why.clone()),
                PoolAwayKind::Evicted => ("evicted", JOIN_AGAIN.to_owned()),
            };
            (word, Some(why))
        }
    };
    let is_in = |seen: &&SeenHost| seen.host.ended_at.is_none() && seen.host.joined_at.is_some();
    let hosts = || status.hosts.iter().filter(is_in);
    let patience = status.settings.map_or(Duration::MAX, |settings| settings.ttl.saturating_add(settings.margin));
    let is_heard = |seen: &SeenHost| seen.seen.is_some_and(|at| now.mono.since(at) <= patience);
    let is_online = |seen: &&SeenHost| if seen.is_own { status.is_connected() } else { is_heard(seen) };
    let seats = state.pool.accounts().iter().filter_map(|account| state.pool.seats(account.record.id));
    let (held, elsewhere) = seats.fold((0, 0), |(held, elsewhere), seats| {
        (held + u64::from(seats.held), elsewhere + u64::from(seats.elsewhere))
    });
    Some(PoolSummaryInfo {
        state: word.to_owned(),
        name: membership.map(|membership| membership.name.clone()),
        hosts: hosts().count() as u64,
        online: hosts().filter(is_online).count() as u64,
        refreshers: hosts().filter(is_online).filter(|seen| seen.host.refresher).count() as u64,
        accounts: state.shared_accounts.ids().len() as u64,
        seats: held,
        elsewhere,
        seats_until: status.seats_until.map(|until| now.wall_of(until).0),
        trouble,
    })
}
