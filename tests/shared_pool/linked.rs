//! A shared account whose login another tool keeps on one host: that host has the file, and gives the pool each access token
//! that the tool gets.

use serde_json::json;

use crate::daemons::{Hosts, accounts};
use crate::support::{Client, Home, wait_until};

const HOUR: u64 = 3_600_000;

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Writes a login as Claude Code does.
fn write_login(home: &Home, access: &str, expires_at: u64) -> std::path::PathBuf {
    let directory = home.path().join("claude");
    std::fs::create_dir_all(&directory).unwrap();
    let (file, new) = (directory.join(".credentials.json"), directory.join("new"));
    let content = json!({ "claudeAiOauth": { "accessToken": access, "refreshToken": format!("rt-canary-{access}"),
        "expiresAt": expires_at, "scopes": ["user:inference"] } });
    std::fs::write(&new, content.to_string()).unwrap();
    std::fs::rename(&new, &file).unwrap();
    file
}

/// Whether the host can lease the account with the token that ends then: by its own clock, which it has compared with the
/// database's. A token that was handed out would keep the seat.
fn leases(client: &mut Client, ends: u64) -> bool {
    let ask = json!({ "provider": "anthropic", "agent": "claude", "wait_ms": 0, "credential": false });
    let lease = client.ask("lease.acquire", &ask);
    client.ask("lease.release", &json!({ "lease": lease["result"]["lease"] }));
    let known = accounts(client).first().and_then(|account| account["credential_expires_at"].as_u64());
    lease["result"].is_object() && known.is_some_and(|at| at.abs_diff(ends) < 1000)
}

/// Ends and starts the host; its client.
fn restart(home: &mut Home) -> Client {
    home.kill();
    home.start();
    home.client()
}

#[test]
fn the_host_that_has_the_file_adopts_each_login_and_the_others_get_its_access_tokens() {
    let mut hosts = Hosts::configured(0, "");
    let ends = [2, 3, 4].map(|hours| now() + hours * HOUR);
    let file = write_login(&hosts.homes[0], "at-1", ends[0]);
    let mut import = std::process::Command::new(env!("CARGO_BIN_EXE_lessor"));
    import.arg("import").arg(&file).env("LESSOR_HOME", hosts.homes[0].path()).env("HOME", hosts.homes[0].path());
    let done = import.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let [mut first, mut second] = hosts.clients();
    let account = accounts(&mut first).remove(0);
    assert_eq!(account["sharing"], "own", "only this host can read the file: {account}");
    let moved = first.call("pool.migrate", json!({ "to": "pool", "accounts": [account["id"]] }));
    assert_eq!(moved["moved"].as_array().unwrap().len(), 1, "{moved}");
    wait_until("the other host leases it", || leases(&mut second, ends[0]));
    // the tool gets another token
    write_login(&hosts.homes[0], "at-2", ends[1]);
    wait_until("the other host has the new token", || leases(&mut second, ends[1]));
    // the link outlives a restart of either host
    let mut second = restart(&mut hosts.homes[1]);
    wait_until("the other host goes on", || leases(&mut second, ends[1]));
    let mut first = restart(&mut hosts.homes[0]);
    let link = |client: &mut Client| accounts(client)[0]["link"].clone();
    wait_until("it is linked on the host that has the file", || link(&mut first).is_object());
    assert!(link(&mut second).is_null(), "{}", link(&mut second));
    write_login(&hosts.homes[0], "at-3", ends[2]);
    wait_until("the other host has the third token", || leases(&mut second, ends[2]));
    // no other program than the tool may refresh it
    assert_eq!(hosts.database.number("select count(*) from lessor.refresh_token"), 0);
    assert_eq!(hosts.database.number("select count(*) from lessor.account where has_refresh"), 0);
}
