//! A disk that is full or read-only: leases are still served, and `status` shows a warning.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Home, reference, wait_until};

/// Starts a daemon whose data directory is mounted by `mount`, in a separate mount namespace; `false` where that is not
/// allowed.
fn start_with(home: &mut Home, mount: &str) -> bool {
    let allowed = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("not run: this machine allows no mount namespaces");
        return false;
    }
    let mut command = Command::new("unshare");
    let script = format!("set -e; d=$LESSOR_HOME/data; mkdir -p -m 700 \"$d\"; {mount}; exec \"$0\" daemon");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_lessor")]).env("LESSOR_HOME", home.path());
    home.start_as(command);
    true
}

/// The data directory as the daemon sees it.
fn inside(home: &Home, path: &str) -> std::path::PathBuf {
    Path::new("/proc").join(home.pid().to_string()).join("root").join(home.path().strip_prefix("/").unwrap()).join(path)
}

fn warnings(home: &Home) -> String {
    home.client().call("status", json!({}))["warnings"].to_string()
}

#[test]
fn accounts_on_a_read_only_disk_are_served() {
    let mut home = Home::with_accounts("", 2);
    assert_eq!(home.stop(), Some(0));
    if !start_with(&mut home, "mount --bind \"$d\" \"$d\"; mount -o remount,bind,ro \"$d\"") {
        return;
    }
    let mut client = home.client();
    let lease = client.acquire();
    assert_eq!(lease["credential"]["secret"], "sk-canary-a0");
    client.call("lease.release", reference(&lease));
    assert!(warnings(&home).contains("read-only"), "{}", warnings(&home));
    let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary-x" });
    let refusal = client.ask("account.add", &params);
    assert_eq!(refusal["error"]["data"]["kind"], "internal", "{refusal}");
    assert_eq!(client.call("account.list", json!({})).as_array().unwrap().len(), 2);
}

#[test]
fn a_full_disk_is_reported_and_writes_resume_later() {
    let mut home = Home::new("");
    if !start_with(&mut home, "mount -t tmpfs -o size=1m,mode=700 none \"$d\"") {
        return;
    }
    let mut client = home.client();
    client.add("a");
    let filler = inside(&home, "data/filler");
    let _until_it_is_full = std::fs::write(&filler, vec![0u8; 4 << 20]);
    let mut refused = None;
    for number in 0..200 {
        let long = format!("sk-canary-{number}-{}", "x".repeat(8000));
        let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": long });
        let answer = client.ask("account.add", &params);
        if !answer["error"].is_null() {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!(refused["error"]["data"]["kind"], "internal", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("could not be saved"), "{refused}");
    // leases are served from memory, also those that would be saved
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl" }));
    client.call("lease.renew", reference(&lease));
    assert!(warnings(&home).contains("database"), "{}", warnings(&home));
    std::fs::remove_file(&filler).unwrap();
    wait_until("it is written again", || {
        client.call("lease.renew", reference(&lease));
        warnings(&home) == "[]"
    });
    client.add("b");
}

#[test]
fn accounts_on_a_disk_that_is_full_at_the_start_are_served() {
    for size in ["300k", "1m"] {
        let mut home = Home::new("");
        let mount = format!(
            "mount -t tmpfs -o size={size},mode=700 none \"$d\"; \
             echo sk-canary-a0 | \"$0\" account add anthropic --api-key-stdin --label a0 >/dev/null; \"$0\" stop >/dev/null; \
             dd if=/dev/zero of=\"$d/filler\" bs=4k 2>/dev/null || true"
        );
        if !start_with(&mut home, &mount) {
            return;
        }
        let mut client = home.client();
        let lease = client.acquire();
        assert_eq!(lease["credential"]["secret"], "sk-canary-a0");
        client.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl" }));
        let params = json!({ "provider": "anthropic", "kind": "api_key", "secret": "x".repeat(50_000) });
        let refusal = client.ask("account.add", &params);
        assert_eq!(refusal["error"]["data"]["kind"], "internal", "{refusal}");
        let shown = warnings(&home);
        assert!(shown.contains("cannot be written") || shown.contains("read-only"), "{shown}");
        assert_eq!(home.stop(), Some(0));
    }
}
