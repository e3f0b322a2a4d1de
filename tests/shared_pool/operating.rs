//! What operators do with a pool, on real daemons: evict a host, change accounts, move them into the pool and back.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemons::{Hosts, account_of, accounts, acquire};
use crate::support::{Client, Home, PATIENCE, wait_until};

/// Runs a command of lessor on this host; its output, and whether it succeeded.
fn lessor(home: &Home, words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lessor"))
        .args(words)
        .env("LESSOR_HOME", home.path())
        .env("LESSOR_NO_START", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// The accounts as their owner knows them: without what each host has of its own.
fn described(client: &mut Client) -> Vec<Value> {
    let mut rows = accounts(client);
    rows.sort_by_key(|row| row["id"].as_str().map(str::to_owned));
    let fields = ["id", "label", "provider", "kind", "tier", "enabled", "priority", "use", "reserve"];
    let row = |row: &Value| fields.map(|field| row[field].clone()).into_iter().collect();
    rows.iter().map(row).collect()
}

#[test]
fn an_evicted_host_can_lease_nothing_and_what_it_has_read_is_listed() {
    let hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    assert_eq!(described(&mut first), described(&mut second));
    let generation = first.call("pool.status", json!({}))["key_generation"].as_u64().unwrap();
    // a member may not do it
    let refused = second.ask("pool.evict", &json!({ "host": "first" }));
    assert_eq!(refused["error"]["data"]["kind"], "not_allowed", "{refused}");
    let evicted = first.call("pool.evict", json!({ "host": "second" }));
    assert_eq!(evicted["key_generation"], generation + 1, "{evicted}");
    assert_eq!((&evicted["resealed"], &evicted["trouble"]), (&json!(2), &Value::Null), "{evicted}");
    let replace = evicted["replace"].as_array().unwrap();
    assert_eq!(replace.len(), 2, "{evicted}");
    for secret in replace {
        assert_eq!((&secret["secret"], &secret["ends_at"]), (&json!("api_key"), &Value::Null), "{secret}");
        let command = secret["command"].as_str().unwrap();
        assert!(command.starts_with("lessor account set a") && command.ends_with("--api-key-stdin"), "{command}");
    }
    let refused = acquire(&mut second, Duration::from_secs(3));
    assert!(refused["error"].is_object(), "an evicted host was given a lease: {refused}");
    // the others go on with the new keys
    wait_until("the first host leases with the new keys", || {
        let lease = acquire(&mut first, PATIENCE);
        lease["result"].is_object()
    });
}

#[test]
fn accounts_move_to_the_pool_and_back_with_everything_they_have() {
    let hosts = Hosts::with_accounts(2);
    let [mut first, mut second] = hosts.clients();
    let before = described(&mut first);
    // a limit that is learnt in the pool comes along
    let lease = acquire(&mut first, PATIENCE);
    let limited = account_of(&lease);
    first.call(
        "lease.report",
        json!({ "lease": lease["result"]["lease"], "status": 429, "headers": { "retry-after": "900" },
                "body": "{\"error\":{\"type\":\"rate_limit_error\",\"message\":\"limit\"}}" }),
    );
    first.call("lease.release", json!({ "lease": lease["result"]["lease"] }));
    let limits = |client: &mut Client| {
        let rows = accounts(client);
        let row = rows.iter().find(|row| row["id"] == limited.as_str()).cloned().unwrap_or_default();
        row["limits"].as_array().map_or(0, Vec::len)
    };
    // while another host uses an account, it stays
    let used = acquire(&mut second, PATIENCE);
    let skipped = first.call("pool.migrate", json!({ "to": "local", "accounts": [account_of(&used)] }));
    assert_eq!(skipped["moved"], json!([]), "{skipped}");
    assert!(skipped["skipped"][0]["why"].as_str().unwrap().contains("second"), "{skipped}");
    second.call("lease.release", json!({ "lease": used["result"]["lease"] }));
    let back = first.call("pool.migrate", json!({ "to": "local" }));
    assert_eq!(back["moved"].as_array().unwrap().len(), 2, "{back}");
    assert_eq!(described(&mut first), before);
    assert_eq!(limits(&mut first), 1, "the limit stayed behind");
    assert!(accounts(&mut first).iter().all(|account| account["sharing"] == "own"));
    wait_until("the second host has no account any more", || accounts(&mut second).is_empty());
    // it works without the pool
    let own = acquire(&mut first, PATIENCE);
    first.call("lease.release", json!({ "lease": own["result"]["lease"] }));
    // once more there is nothing to do, and then the way into the pool again
    assert_eq!(first.call("pool.migrate", json!({ "to": "local" }))["moved"], json!([]));
    let shared = first.call("pool.migrate", json!({ "to": "pool" }));
    assert_eq!(shared["moved"].as_array().unwrap().len(), 2, "{shared}");
    wait_until("the second host has the accounts and the limit", || {
        described(&mut second) == before && limits(&mut second) == 1
    });
    assert_eq!(first.call("pool.migrate", json!({ "to": "pool" }))["already"], 2);
}

#[test]
fn shared_accounts_are_changed_by_admins_and_for_all_hosts() {
    let hosts = Hosts::with_accounts(1);
    let [mut first, mut second] = hosts.clients();
    for (method, params) in [
        ("account.remove", json!({ "account": "a0" })),
        ("account.disable", json!({ "account": "a0" })),
        ("account.set", json!({ "account": "a0", "priority": 3 })),
        ("account.clear_limits", json!({ "account": "a0" })),
        ("account.set", json!({ "account": "a0", "secret": "sk-canary-other" })),
    ] {
        let refused = second.ask(method, &params);
        assert_eq!(refused["error"]["data"]["kind"], "not_allowed", "{method}: {refused}");
        assert!(refused["error"]["data"]["hint"].as_str().unwrap().contains("lessor account"), "{refused}");
    }
    first.call("account.set", json!({ "account": "a0", "priority": 3, "label": "renamed" }));
    wait_until("the change is known", || {
        let rows = accounts(&mut second);
        rows[0]["label"] == "renamed" && rows[0]["priority"] == 3
    });
    first.add("new");
    wait_until("the new account is shared", || accounts(&mut second).len() == 2);
    let own = json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary-own", "label": "mine",
                      "own": true });
    assert_eq!(second.call("account.add", own)["sharing"], "own");
    assert_eq!(accounts(&mut first).len(), 2);
    first.call("account.remove", json!({ "account": "new" }));
    wait_until("it is removed everywhere", || accounts(&mut second).len() == 2);
    let lease = acquire(&mut first, PATIENCE);
    wait_until("the other host sees the seat", || {
        let rows = accounts(&mut second);
        rows.iter().any(|row| row["elsewhere"] == json!([{ "host": "first", "seats": 1 }]))
    });
    first.call("lease.release", json!({ "lease": lease["result"]["lease"] }));
}

#[test]
fn the_commands_say_what_an_operator_has_to_know() {
    let hosts = Hosts::with_accounts(1);
    let [first, second] = &hosts.homes;
    let (ok, text) = lessor(first, &["pool", "status"]);
    assert!(ok && text.contains("pool: connected as first, 2 of 2 hosts online"), "{text}");
    let (ok, text) = lessor(second, &["pool", "hosts"]);
    assert!(ok && text.contains("online, this host") && text.contains("admin, refresher"), "{text}");
    let (ok, text) = lessor(second, &["pool", "set", "per_account=2"]);
    assert!(!ok && text.contains("may only lease") && text.contains("lessor pool set"), "{text}");
    let (ok, text) = lessor(first, &["pool", "leave"]);
    assert!(!ok && text.contains("the last admin and refresher") && text.contains("--to-local"), "{text}");
    let (ok, text) = lessor(first, &["pool", "init", "postgres://me:s3cret@db/x"]);
    assert!(!ok && text.contains("--password-stdin") && !text.contains("s3cret"), "{text}");
    let (ok, text) = lessor(second, &["pool", "leave", "--yes"]);
    assert!(ok && text.contains("second has left the pool: 1 shared account removed here"), "{text}");
    let written = std::fs::read_to_string(second.path().join("config.toml")).unwrap();
    assert!(!written.contains("postgres://"), "{written}");
    assert!(accounts(&mut second.client()).is_empty());
}
