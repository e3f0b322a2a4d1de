//! The seats that other hosts of the pool hold, by account: asked of the database when people look, and kept for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::daemon::os::clock;
use crate::daemon::state::Daemon;
use crate::pool::{AccountId, Mono};
use crate::protocol::HostSeatsInfo;
use crate::shared_pool::{HostId, HostSeats, PoolHost};

/// How long an answer of the database is shown: `top` looks once a second.
const KEPT: Duration = Duration::from_secs(2);
/// How long a view waits for the database.
const PATIENCE: Duration = Duration::from_millis(800);

/// The seats of other hosts, as they were last read.
#[derive(Debug, Default)]
pub(crate) struct PoolSeats(Mutex<SeatsAsOf>);

#[derive(Debug, Default)]
struct SeatsAsOf {
    read_at: Option<Mono>,
    by_account: BTreeMap<AccountId, Vec<HostSeatsInfo>>,
}

impl PoolSeats {
    /// Those of an account.
    pub(crate) fn of(&self, id: AccountId) -> Vec<HostSeatsInfo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_account.get(&id).cloned().unwrap_or_default()
    }

    fn is_fresh(&self, now: Mono) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.read_at.is_some_and(|at| now.since(at) < KEPT)
    }

    fn set(&self, now: Mono, by_account: BTreeMap<AccountId, Vec<HostSeatsInfo>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = SeatsAsOf { read_at: Some(now), by_account };
    }
}

/// Reads the seats, unless that was done a moment ago. Without the database none are shown.
pub(crate) async fn read_pool_seats(daemon: &Arc<Daemon>) {
    let now = clock::now().mono;
    if !daemon.many_hosts.is_on() || daemon.pool_seats.is_fresh(now) {
        return;
    }
    let (Some(client), Some(membership)) = (daemon.many_hosts.client(), daemon.many_hosts.membership()) else {
        return daemon.pool_seats.set(now, BTreeMap::new());
    };
    let both = async { tokio::try_join!(client.hosts(), client.seats_of_hosts()) };
    let seats = match tokio::time::timeout(PATIENCE, both).await {
        Ok(Ok((hosts, seats))) => by_account(&hosts, &seats, membership.host),
        _ => BTreeMap::new(),
    };
    daemon.pool_seats.set(now, seats);
}

fn by_account(hosts: &[PoolHost], seats: &[HostSeats], own: HostId) -> BTreeMap<AccountId, Vec<HostSeatsInfo>> {
    let mut found: BTreeMap<AccountId, Vec<HostSeatsInfo>> = BTreeMap::new();
    for held in seats.iter().filter(|held| held.host != Some(own)) {
        let name = held.host.and_then(|id| hosts.iter().find(|host| host.id == id)).map(|host| host.name.clone());
        let host = name.unwrap_or_else(|| "a handed-out token".to_owned());
        let rows = found.entry(held.account).or_default();
        match rows.iter_mut().find(|row| row.host == host) {
            Some(row) => row.seats += u64::from(held.seats),
            None => rows.push(HostSeatsInfo { host, seats: held.seats.into() }),
        }
    }
    found.values_mut().for_each(|rows| rows.sort_by(|one, other| one.host.cmp(&other.host)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(host: Option<i64>, account: u64, seats: u32) -> HostSeats {
        HostSeats { host: host.map(HostId), term: None, account: AccountId::from_bits(account), seats, handed_out: 0 }
    }

    #[test]
    fn the_seats_of_other_hosts_are_summed_by_host() {
        let seats = [held(Some(1), 7, 1), held(Some(2), 7, 1), held(Some(2), 7, 2), held(None, 8, 1)];
        let found = by_account(&[], &seats, HostId(1));
        let of = |id| found[&AccountId::from_bits(id)].clone();
        assert_eq!(of(7), [HostSeatsInfo { host: "a handed-out token".into(), seats: 3 }]);
        assert_eq!(of(8).len(), 1);
        assert_eq!(found.len(), 2);
    }
}
