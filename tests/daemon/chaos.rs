//! The daemon is killed repeatedly under load. `LESSOR_CHAOS_ROUNDS=100` is the long run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Home, fence, label, reference};

const HOLDERS: usize = 16;
const ROUNDS: usize = 6;

/// The accounts that the holders hold, as they record it.
#[derive(Default)]
struct Ledger {
    held: HashMap<String, usize>,
    newest: HashMap<String, u64>,
}

impl Ledger {
    fn take(&mut self, account: &str, fence: u64, who: usize) {
        let before = self.held.insert(account.to_owned(), who);
        assert!(before.is_none(), "{account} is held by {before:?} and by {who}");
        let newest = self.newest.insert(account.to_owned(), fence).unwrap_or_default();
        assert!(fence > newest, "fence {fence} of {account} after {newest}");
    }

    fn give_back(&mut self, account: &str) {
        self.held.remove(account);
    }
}

struct Shared {
    socket: PathBuf,
    ledger: Mutex<Ledger>,
    over: AtomicBool,
    resumed: AtomicU64,
    leased: AtomicU64,
}

#[test]
fn a_daemon_killed_under_load_loses_no_account_and_grants_no_lease_twice() {
    let rounds = std::env::var("LESSOR_CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut home = Home::with_accounts("[leases]\noverflow = \"wait\"\n", HOLDERS);
    let shared = Arc::new(Shared {
        socket: home.socket(),
        ledger: Mutex::default(),
        over: AtomicBool::new(false),
        resumed: AtomicU64::new(0),
        leased: AtomicU64::new(0),
    });
    let holders: Vec<_> = (0..HOLDERS)
        .map(|who| {
            let shared = shared.clone();
            std::thread::spawn(move || hold(who, &shared))
        })
        .collect();
    for round in 0..rounds {
        let before = shared.leased.load(Ordering::Relaxed);
        // some have leased since the last start and its grace period
        crate::support::wait_until("some hold leases", || {
            shared.leased.load(Ordering::Relaxed) > before + 4 || holders.iter().any(|holder| holder.is_finished())
        });
        assert!(!holders.iter().any(|holder| holder.is_finished()), "a holder failed in round {round}");
        home.kill();
        home.start();
    }
    shared.over.store(true, Ordering::Relaxed);
    for holder in holders {
        holder.join().expect("a holder failed");
    }
    let (leased, resumed) = (shared.leased.load(Ordering::Relaxed), shared.resumed.load(Ordering::Relaxed));
    println!("{rounds} kills, {leased} leases, {resumed} taken up again");
    assert!(resumed as usize >= rounds, "{resumed} leases were taken up again in {rounds} rounds");
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), HOLDERS);
}

fn hold(who: usize, shared: &Shared) {
    let mut client = connect(shared);
    while !shared.over.load(Ordering::Relaxed) {
        let asked = client.try_ask("lease.acquire", &json!({ "provider": "anthropic" }));
        let Ok(answer) = asked else {
            client = connect(shared);
            continue;
        };
        assert!(answer["error"].is_null(), "{answer}");
        let lease = answer["result"].clone();
        shared.ledger.lock().unwrap().take(&label(&lease), fence(&lease), who);
        shared.leased.fetch_add(1, Ordering::Relaxed);
        // some work, with renewals
        for _ in 0..(5 + who % 7) {
            std::thread::sleep(Duration::from_millis(3));
            if client.try_ask("lease.renew", &reference(&lease)).is_ok_and(|answer| answer["error"].is_null()) {
                continue;
            }
            // the daemon was killed; the lease is still valid
            client = connect(shared);
            let resumed = client.ask("lease.resume", &reference(&lease));
            assert_eq!(resumed["result"]["lease"], lease["lease"], "{resumed}");
            shared.resumed.fetch_add(1, Ordering::Relaxed);
        }
        // recorded first: after the release another holder may get the account
        shared.ledger.lock().unwrap().give_back(&label(&lease));
        let released = client.try_ask("lease.release", &reference(&lease));
        if released.is_err() {
            // killed in between: the lease ends with the connection, and is not resumed
            client = connect(shared);
        }
    }
}

fn connect(shared: &Shared) -> Client {
    let mut client = None;
    crate::support::wait_until("a daemon", || {
        client = Client::try_connect(&shared.socket).ok();
        client.as_mut().is_some_and(|client| client.try_ask("hello", &json!({})).is_ok())
    });
    client.unwrap()
}
