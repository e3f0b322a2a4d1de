//! Hosts that join, leave, are evicted and get new keys, on real daemons.

use std::time::Duration;

use serde_json::{Value, json};

use crate::daemons::{Database, Hosts, account_of, accounts, acquire, configuration, found, is_connected};
use crate::support::{Client, Home, PATIENCE, wait_until};

fn host(client: &mut Client, name: &str) -> Value {
    let hosts = client.call("pool.hosts", json!({}));
    let mut hosts = hosts.as_array().unwrap().iter().rev();
    hosts.find(|host| host["name"] == name).unwrap_or_else(|| panic!("no host {name}")).clone()
}

fn hint(refused: &Value) -> String {
    refused["error"]["data"]["hint"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_evicted_host_says_so_and_joins_again_with_a_new_token() {
    let hosts = Hosts::with_accounts(1);
    let [mut first, mut second] = hosts.clients();
    first.call("pool.evict", json!({ "host": "second" }));
    wait_until("the host knows that it was evicted", || second.call("status", json!({}))["pool"]["state"] == "evicted");
    let status = second.call("pool.status", json!({}));
    assert_eq!(status["summary"]["state"], "evicted", "{status}");
    assert!(status["summary"]["trouble"].as_str().unwrap().contains("lessor pool join-token"), "{status}");
    assert!(!status.to_string().contains("password"), "{status}");
    let warnings = second.call("status", json!({}))["warnings"].to_string();
    assert!(warnings.contains("was evicted") && !warnings.contains("password"), "{warnings}");
    // at once, also a request that would wait
    for wait in [Duration::ZERO, 10 * PATIENCE] {
        let refused = acquire(&mut second, wait);
        assert!(refused["error"]["message"].as_str().is_some_and(|why| why.contains("evicted")), "{refused}");
        assert!(hint(&refused).contains("lessor pool join --token-stdin"), "{refused}");
    }
    let refused = second.ask("pool.hosts", &json!({}));
    assert_eq!(refused["error"]["data"]["kind"], "not_in_pool", "{refused}");
    // the same machine may come back
    let token = first.call("pool.join_token", json!({ "name": "again" }))["token"].clone();
    assert_eq!(second.call("pool.join", json!({ "token": token }))["name"], "again");
    wait_until("it leases again", || acquire(&mut second, PATIENCE)["result"].is_object());
}

/// A request on the second host that waits: for ever, as it seems.
fn waiting(hosts: &Hosts) -> std::thread::JoinHandle<Value> {
    let mut client = hosts.homes[1].client();
    let waiting = std::thread::spawn(move || acquire(&mut client, 10 * PATIENCE));
    hosts.homes[1].client().wait_for_queue(1);
    waiting
}

#[test]
fn a_request_that_waits_is_refused_when_its_host_is_evicted_or_has_no_url() {
    let mut hosts = Hosts::with_accounts(1);
    let [mut first, mut second] = hosts.clients();
    let lease = acquire(&mut first, PATIENCE);
    assert!(lease["result"].is_object(), "{lease}");
    // the url is taken out of the configuration
    let waits = waiting(&hosts);
    let path = hosts.homes[1].path().join("config.toml");
    let with_url = std::fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = with_url.lines().filter(|line| !line.starts_with("url")).collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    second.call("config.reload", json!({}));
    let refused = waits.join().unwrap();
    assert!(hint(&refused).contains("lessor config set pool.url"), "{refused}");
    // the same after a restart
    hosts.homes[1].kill();
    hosts.homes[1].start();
    let mut second = hosts.homes[1].client();
    let refused = acquire(&mut second, 10 * PATIENCE);
    assert!(hint(&refused).contains("lessor pool leave"), "{refused}");
    std::fs::write(&path, with_url).unwrap();
    second.call("config.reload", json!({}));
    wait_until("it is connected", || second.call("status", json!({}))["pool"]["state"] == "connected");
    let waits = waiting(&hosts);
    first.call("pool.evict", json!({ "host": "second" }));
    let refused = waits.join().unwrap();
    assert!(refused["error"]["message"].as_str().is_some_and(|why| why.contains("evicted")), "{refused}");
    assert!(hint(&refused).contains("lessor pool join --token-stdin"), "{refused}");
}

#[test]
fn new_keys_reach_the_other_hosts_without_a_restart() {
    let hosts = Hosts::with_accounts(1);
    let [mut first, mut second] = hosts.clients();
    let before = first.call("pool.status", json!({}))["key_generation"].as_u64().unwrap();
    let unused = first.call("pool.join_token", json!({ "name": "third" }))["token"].clone();
    let rekeyed = first.call("pool.rekey", json!({}));
    assert_eq!((&rekeyed["key_generation"], &rekeyed["hosts"]), (&json!(before + 1), &json!(2)), "{rekeyed}");
    assert_eq!(rekeyed["void_tokens"], json!(["third"]));
    // sealed with the new keys
    first.add("later");
    wait_until("the other host can open it", || accounts(&mut second).len() == 2);
    let leases = [acquire(&mut second, PATIENCE), acquire(&mut second, PATIENCE)];
    assert_ne!(account_of(&leases[0]), account_of(&leases[1]));
    let mut third = Home::new(&configuration(&hosts.database, ""));
    third.start();
    let refused = third.client().ask("pool.join", &json!({ "token": unused }));
    assert!(hint(&refused).contains("lessor pool join-token"), "{refused}");
}

#[test]
fn a_host_that_has_left_can_join_another_pool() {
    let hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    let held = acquire(&mut second, PATIENCE);
    let refused = second.ask("pool.leave", &json!({}));
    assert!(hint(&refused).contains("--force"), "{refused}");
    let left = second.call("pool.leave", json!({ "force": true }));
    assert_eq!((&left["removed"], &left["ended"]), (&json!(2), &json!(1)), "{left}");
    assert!(accounts(&mut second).is_empty());
    assert_eq!(host(&mut first, "second")["state"], "gone");
    // what it held is free at once
    let lease = |client: &mut Client| account_of(&acquire(client, PATIENCE));
    let both = [lease(&mut first), lease(&mut first)];
    assert!(both.contains(&account_of(&held)), "{both:?}");
    // another database with another pool
    let other = Database::new();
    let mut founder = Home::new(&configuration(&other, ""));
    founder.start();
    let mut client = founder.client();
    found(&other, &mut client, "founder");
    wait_until("the other pool is there", || is_connected(&mut client));
    client.add("theirs");
    let token = client.call("pool.join_token", json!({ "name": "guest" }))["token"].clone();
    std::fs::write(hosts.homes[1].path().join("config.toml"), configuration(&other, "")).unwrap();
    assert_eq!(second.call("pool.join", json!({ "token": token }))["name"], "guest");
    wait_until("it has the accounts of that pool", || {
        let rows = accounts(&mut second);
        rows.len() == 1 && rows[0]["label"] == "theirs"
    });
    assert!(acquire(&mut second, PATIENCE)["result"].is_object());
    // a token serves once
    let mut third = Home::new(&configuration(&other, ""));
    third.start();
    let refused = third.client().ask("pool.join", &json!({ "token": token }));
    assert!(hint(&refused).contains("lessor pool join-token"), "{refused}");
    let refused = first.ask("pool.join", &json!({ "token": "lessor-join-1.AAAA" }));
    assert_eq!(refused["error"]["data"]["kind"], "bad_request", "{refused}");
}

#[test]
fn own_accounts_follow_the_configuration_without_a_restart() {
    let hosts = Hosts::with_accounts(1);
    let [mut first, _] = hosts.clients();
    let file = hosts.homes[0].path().join("config.toml");
    std::fs::write(&file, configuration(&hosts.database, "own_accounts = [\"keep\"]")).unwrap();
    first.call("config.reload", json!({}));
    first.add("keep");
    let sharing = |client: &mut Client| {
        let rows = accounts(client);
        rows.iter().find(|row| row["label"] == "keep").unwrap()["sharing"].clone()
    };
    assert_eq!(sharing(&mut first), "own");
    let skipped = first.call("pool.migrate", json!({ "to": "pool", "accounts": ["keep"] }));
    assert!(skipped["skipped"][0]["why"].as_str().unwrap().contains("own_accounts"), "{skipped}");
    std::fs::write(&file, configuration(&hosts.database, "")).unwrap();
    first.call("config.reload", json!({}));
    let moved = first.call("pool.migrate", json!({ "to": "pool", "accounts": ["keep"] }));
    assert_eq!(moved["moved"].as_array().unwrap().len(), 1, "{moved}");
    assert_eq!(sharing(&mut first), "pool");
}
