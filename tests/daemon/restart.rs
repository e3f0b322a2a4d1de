//! What survives the daemon, and what does not.

use std::time::Instant;

use serde_json::json;

use crate::support::{Home, fence, label, reference};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

#[test]
fn after_a_crash_holders_resume_before_new_requests_are_served() {
    let mut home = Home::with_accounts(WAIT, 2);
    let held = home.client().acquire();
    let mut holder = home.client();
    let held = {
        let _the_first_ended_with_its_connection = held;
        holder.acquire()
    };
    home.kill();
    home.start();
    let begun = Instant::now();
    let mut other = home.client();
    let refusal = other.ask("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0 }));
    assert_eq!(refusal["error"]["data"]["kind"], "no_capacity");
    assert!(refusal["error"]["data"]["retry_after_ms"].as_u64().unwrap() <= 2000, "{refusal}");
    other.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    let mut holder = home.client();
    let resumed = holder.call("lease.resume", reference(&held));
    assert_eq!((&resumed["lease"], &resumed["account"]), (&held["lease"], &held["account"]));
    assert_eq!(resumed["credential"], held["credential"]);
    let new = other.receive().unwrap()["result"].clone();
    assert!(begun.elapsed().as_millis() >= 1000, "it waited for the grace period");
    assert_ne!(label(&new), label(&held));
    assert!(fence(&new) > fence(&held));
    assert_eq!(holder.refused("lease.resume", json!({ "lease": held["lease"], "fence": 7 })), "stale_lease");
}

#[test]
fn a_lease_cannot_resume_after_its_account_was_granted_again() {
    let mut home = Home::with_accounts(WAIT, 1);
    let mut holder = home.client();
    let held = holder.acquire();
    home.kill();
    home.start();
    let mut other = home.client();
    let new = other.acquire();
    assert_eq!(other.refused("lease.resume", reference(&held)), "stale_lease");
    other.call("lease.release", reference(&new));
    assert_eq!(other.refused("lease.resume", reference(&held)), "stale_lease", "a lower fence stays stale");
    for method in ["lease.renew", "lease.release"] {
        assert_eq!(other.refused(method, reference(&held)), "stale_lease");
    }
    let forged = json!({ "lease": "ls_0123456789abcdefghjkmnpqrstvwxyz" });
    assert_eq!(other.refused("lease.resume", forged), "unknown_lease");
}

#[test]
fn leases_bound_to_a_process_or_a_time_survive_a_restart() {
    let mut home = Home::with_accounts(WAIT, 3);
    let mut client = home.client();
    let pid = std::process::id();
    let asked = json!({ "provider": "anthropic", "bind": { "pid": pid }, "label": "mine", "request_id": "r" });
    let bound = client.call("lease.acquire", asked.clone());
    let timed = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": "ttl", "ttl_ms": 600_000 }));
    let limited = client.acquire();
    let report = json!({ "lease": limited["lease"], "reason": "quota_exhausted", "retry_after_ms": 46_800_000 });
    client.call("lease.report", report);
    client.call("account.disable", json!({ "account": label(&timed), "reason": "holiday" }));
    let until = |home: &Home| {
        let accounts = home.client().call("account.list", json!({}));
        let limited = accounts.as_array().unwrap().iter().find(|a| !a["limits"].as_array().unwrap().is_empty());
        limited.unwrap()["limits"][0]["until"].as_u64().unwrap()
    };
    let before = until(&home);
    for clean in [true, false] {
        if clean {
            assert_eq!(home.stop(), Some(0));
        } else {
            home.kill();
        }
        home.start();
        let rows = home.client().call("lease.list", json!({}));
        let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| (fence_of(row), row["bind"].clone())).collect();
        assert_eq!(rows, [(fence(&bound), json!("pid")), (fence(&timed), json!("ttl"))]);
        assert!(until(&home).abs_diff(before) < 2000, "a stated time is the same after a restart");
        let accounts = home.client().call("account.list", json!({}));
        let disabled = accounts.as_array().unwrap().iter().find(|account| account["label"] == label(&timed)).unwrap();
        assert_eq!((&disabled["state"], &disabled["state_reason"]), (&json!("disabled"), &json!("holiday")));
        assert_eq!(home.client().call("lease.acquire", asked.clone())["lease"], bound["lease"], "asked again");
    }
}

fn fence_of(row: &serde_json::Value) -> u64 {
    row["fence"].as_u64().unwrap()
}

#[test]
fn after_a_clean_stop_requests_are_served_immediately() {
    let mut home = Home::with_accounts(WAIT, 1);
    let before = home.client().acquire();
    assert_eq!(home.stop(), Some(0));
    assert!(!home.socket().exists());
    home.start();
    let lease = home.client().call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 }));
    assert!(fence(&lease) > fence(&before));
}

#[test]
fn sessions_stay_on_their_account_after_a_restart() {
    let mut home = Home::with_accounts(WAIT, 6);
    let ask = json!({ "provider": "anthropic", "session": "s1" });
    let first = home.client().call("lease.acquire", ask.clone());
    home.kill();
    home.start();
    assert_eq!(label(&home.client().call("lease.acquire", ask)), label(&first));
}
