//! Accounts that move into the pool and back: logins, and moves that were interrupted.

use serde_json::{Value, json};

use crate::daemons::{Database, Hosts, accounts, acquire, is_connected};
use crate::oauth_server::OauthServer;
use crate::support::{Client, PATIENCE, wait_until};

const HOUR: u64 = 3_600_000;

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn account(client: &mut Client, label: &str) -> Value {
    let rows = accounts(client);
    rows.iter().find(|row| row["label"] == label).cloned().unwrap_or_default()
}

#[test]
fn a_login_moves_into_the_pool_and_back_and_is_refreshed_by_one_host() {
    let server = OauthServer::start();
    let hosts = Hosts::configured(0, &server.config("mine"));
    let [mut first, mut second] = hosts.clients();
    let refresh = server.login("a");
    first.call(
        "account.add",
        json!({ "provider": "mine", "kind": "oauth", "secret": "at-canary-a-0", "refresh_token": refresh,
                "expires_at": now() + HOUR, "label": "a", "account_id": "a", "own": true }),
    );
    assert_eq!(account(&mut first, "a")["sharing"], "own");
    let moved = first.call("pool.migrate", json!({ "to": "pool", "accounts": ["a"] }));
    assert_eq!(moved["moved"].as_array().unwrap().len(), 1, "{moved}");
    wait_until("the other host has it", || account(&mut second, "a")["state"] == "ready");
    // a host without the role says who refreshes
    let refused = second.ask("account.refresh", &json!({ "account": "a" }));
    assert_eq!(refused["error"]["data"]["kind"], "not_allowed", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("first (online)"), "{refused}");
    assert!(refused["error"]["data"]["hint"].as_str().unwrap().contains("lessor account refresh a"), "{refused}");
    first.call("account.refresh", json!({ "account": "a" }));
    assert_eq!((server.refreshes("a"), server.reuses()), (1, 0));
    // each host has the end of the token on its own clock, by a difference that it has measured
    let end = |client: &mut Client| account(client, "a")["credential_expires_at"].as_u64();
    let known = end(&mut first).unwrap();
    wait_until("the other host has the new token", || end(&mut second).is_some_and(|at| at.abs_diff(known) < 1000));
    // back, with the refresh token of the last refresh
    let back = first.call("pool.migrate", json!({ "to": "local" }));
    assert_eq!(back["moved"].as_array().unwrap().len(), 1, "{back}");
    wait_until("the other host has it no more", || accounts(&mut second).is_empty());
    first.call("account.refresh", json!({ "account": "a" }));
    assert_eq!((server.refreshes("a"), server.reuses()), (2, 0));
    let row = account(&mut first, "a");
    assert_eq!((&row["sharing"], &row["state"]), (&json!("own"), &json!("ready")), "{row}");
    // an evicted member has read the access token, and not the login
    first.call("pool.migrate", json!({ "to": "pool" }));
    wait_until("the other host has it again", || account(&mut second, "a")["state"] == "ready");
    let evicted = first.call("pool.evict", json!({ "host": "second" }));
    let read = &evicted["replace"][0];
    assert_eq!((&read["secret"], &read["account"]["label"]), (&json!("access_token"), &json!("a")), "{evicted}");
    assert!(read["ends_at"].as_u64().is_some() && read["command"].is_null(), "{evicted}");
}

/// Has the changes of accounts wait in the database, until the connection that is returned lets them go on.
fn hold_changes(database: &Database) -> tokio_postgres::Client {
    database.as_superuser(
        &database.name,
        "create function lessor.test_wait() returns trigger language plpgsql as $$
           begin perform pg_advisory_xact_lock(42); return new; end $$;
         create trigger test_wait before insert or update of removed_at on lessor.account
           for each row execute function lessor.test_wait();",
    );
    let connection = database.connection();
    database.run(&connection, "select pg_advisory_lock(42)");
    connection
}

/// Kills the first host while its move waits in the database; whether the database's part takes effect all the same.
fn interrupted(hosts: &mut Hosts, to: &'static str, takes_effect: bool) {
    let held = hold_changes(&hosts.database);
    let socket = hosts.homes[0].socket();
    let moving = std::thread::spawn(move || {
        let mut client = Client::connect(&socket);
        client.try_ask("pool.migrate", &json!({ "to": to, "accounts": ["a0"], "force": true })).is_ok()
    });
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and objid = 42 and not granted";
    wait_until("the move waits in the database", || hosts.database.number(waits) == 1);
    hosts.homes[0].kill();
    assert!(!moving.join().unwrap(), "the move was answered");
    if !takes_effect {
        let end = "select count(pg_terminate_backend(pid)) from pg_locks
                   where locktype = 'advisory' and objid = 42 and not granted";
        assert_eq!(hosts.database.number(end), 1);
    }
    wait_until("the database has ended the call", || {
        if takes_effect {
            hosts.database.run(&held, "select pg_advisory_unlock_all()");
        }
        hosts.database.number(waits) == 0
    });
    hosts
        .database
        .as_superuser(&hosts.database.name, "drop trigger test_wait on lessor.account; drop function lessor.test_wait");
    hosts.homes[0].start();
    let mut first = hosts.homes[0].client();
    wait_until("the first host is connected again", || is_connected(&mut first));
    let again = first.call("pool.migrate", json!({ "to": to, "accounts": ["a0"], "force": true }));
    assert_eq!(again["skipped"], json!([]), "{again}");
    let is_there = hosts.database.number("select count(*) from lessor.account where removed_at is null");
    let sharing = if to == "pool" { "pool" } else { "own" };
    assert_eq!((account(&mut first, "a0")["sharing"].clone(), is_there), (json!(sharing), i64::from(to == "pool")));
    // it can be used, by whom it should be
    let mut second = hosts.homes[1].client();
    wait_until("the other host has it, or not", || accounts(&mut second).len() == usize::from(to == "pool"));
    let user = if to == "pool" { &mut second } else { &mut first };
    wait_until("it is leased", || {
        let lease = acquire(user, PATIENCE);
        user.ask("lease.release", &json!({ "lease": lease["result"]["lease"] }));
        lease["result"].is_object()
    });
}

#[test]
fn a_move_that_was_interrupted_goes_on_whatever_the_database_has_done() {
    let mut hosts = Hosts::with_accounts(1);
    for (to, takes_effect) in [("local", false), ("pool", false), ("local", true), ("pool", true)] {
        interrupted(&mut hosts, to, takes_effect);
    }
}
