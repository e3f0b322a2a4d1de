//! Guests of a host that shares a pool: their leases take the host's seats, and end with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::daemons::{Hosts, account_of, accounts, acquire};
use crate::host_links::HostLink;
use crate::support::{Client, PATIENCE, wait_until};

fn leases(client: &mut Client) -> Vec<Value> {
    client.call("lease.list", json!({})).as_array().unwrap().clone()
}

#[test]
fn a_guests_lease_takes_a_seat_of_its_host_and_gives_it_back() {
    let hosts = Hosts::with_accounts(1);
    let link = HostLink::to(&hosts.homes[0], None);
    let guest = link.guest(600_000);
    let (mut agent, [_, mut second]) = (guest.client(), hosts.clients());
    let lease = acquire(&mut agent, PATIENCE);
    let account = account_of(&lease);
    // the pool is not that of the guest, and what other hosts do is not shown to it
    assert_eq!(agent.refused("pool.status", json!({})), "not_in_pool");
    assert!(accounts(&mut agent).iter().all(|account| account["sharing"].is_null()), "{:?}", accounts(&mut agent));
    let refused = acquire(&mut second, Duration::ZERO);
    assert!(refused["error"].is_object(), "the other host gets no seat: {refused}");
    // the guest's program ends, and the seat goes to the host that waits
    let waiting = std::thread::spawn({
        let mut client = hosts.homes[1].client();
        move || (acquire(&mut client, PATIENCE), client)
    });
    second.wait_for_queue(1);
    drop(agent);
    let (granted, _client) = waiting.join().unwrap();
    assert_eq!(account_of(&granted), account);
    assert!(granted["result"]["fence"].as_u64() > lease["result"]["fence"].as_u64());
}

#[test]
fn a_guests_lease_ends_with_the_seat_of_its_host_and_the_guest_learns_of_it_before() {
    let hosts = Hosts::with_accounts(1);
    let link = HostLink::to(&hosts.homes[0], None);
    let guest = link.guest(600_000);
    let (mut subscriber, mut agent) = (guest.client(), guest.client());
    subscriber.call("events.subscribe", json!({ "kinds": ["lease.revoked"] }));
    let lease = acquire(&mut agent, PATIENCE);
    let (database, name) = (&hosts.database, &hosts.database.name);
    let cut = format!(
        "alter database {name} with allow_connections false; \
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    );
    database.as_superuser("postgres", &cut);
    // without the database, the host's seats end in time: so does the lease, at both ends
    let mut revoked = || loop {
        let event = subscriber.receive().unwrap()["params"].clone();
        if event["kind"] == "lease.revoked" {
            return event;
        }
    };
    let warning = revoked();
    assert!(warning["until"].is_u64() && warning["fence"] == lease["result"]["fence"], "{warning}");
    assert_eq!(leases(&mut agent).len(), 1, "it may finish what it does");
    let end = revoked();
    assert!(end["until"].is_null() && end["fence"] == lease["result"]["fence"], "{end}");
    assert!(leases(&mut agent).is_empty() && leases(&mut hosts.homes[0].client()).is_empty());
    let renewed = json!({ "lease": lease["result"]["lease"], "fence": lease["result"]["fence"] });
    assert_eq!(agent.refused("lease.renew", renewed), "stale_lease");
    // the same guest gets a lease again when the database is back
    database.as_superuser("postgres", &format!("alter database {name} with allow_connections true"));
    wait_until("there is a lease again", || acquire(&mut agent, PATIENCE)["result"].is_object());
}
