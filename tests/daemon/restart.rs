//! What survives the daemon, and what does not.

use std::time::Instant;

use serde_json::json;

use crate::support::{Client, Home, fence, label, reference, signal};

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

fn restart(client: Client) {
    let answer = client.restart(5000);
    assert_eq!((&answer["comes_back"], &answer["in_flight"]), (&json!(true), &json!(0)));
}

#[test]
fn a_restart_keeps_the_process_and_its_holders_resume_first() {
    let mut home = Home::with_accounts(WAIT, 1);
    let mut holder = home.client();
    let held = holder.acquire();
    let mut waiting = home.client();
    waiting.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    home.client().wait_for_queue(1);
    restart(home.client());
    // before the next run accepts: it waits in the queue of the socket
    let mut other = home.client();
    assert_eq!(waiting.receive().unwrap()["error"]["data"]["kind"], "shutting_down");
    assert!(holder.receive().is_err(), "the connection is closed");
    other.send("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 5000 })).unwrap();
    let mut holder = home.client();
    assert_eq!(holder.call("lease.resume", reference(&held))["account"], held["account"]);
    assert_eq!(holder.call("hello", json!({}))["pid"], home.pid());
    drop(holder);
    let new = other.receive().unwrap()["result"].clone();
    assert!(fence(&new) > fence(&held));
    assert!(home.is_running());
    assert_eq!(home.stop(), Some(0));
    assert!(!home.socket().exists(), "the last run removes the socket");
}

#[test]
fn restarts_follow_each_other_without_a_grace_period() {
    let mut home = Home::with_accounts(WAIT, 1);
    for _ in 0..5 {
        restart(home.client());
        let begun = Instant::now();
        home.client().acquire();
        assert!(begun.elapsed().as_millis() < 1500, "no holder could resume: {:?}", begun.elapsed());
    }
    assert_eq!(home.client().call("account.list", json!({})).as_array().unwrap().len(), 1);
    assert_eq!(home.stop(), Some(0));
    home.start();
}

#[test]
fn a_stop_overtakes_a_restart() {
    for by_signal in [false, true] {
        for _ in 0..5 {
            let mut home = Home::with_accounts(WAIT, 1);
            let mut client = home.client();
            client.send("daemon.restart", &json!({})).unwrap();
            if by_signal {
                client.receive().unwrap();
                signal(home.pid(), rustix::process::Signal::TERM);
                let ended = home.wait();
                assert!(
                    ended == Some(0) || ended.is_none(),
                    "{ended:?}: stopped, or killed before it received signals"
                );
            } else {
                client.send("daemon.stop", &json!({})).unwrap();
                // the restart is answered when the configuration has been read, so maybe later, or refused
                let first = client.receive().unwrap();
                if let Ok(second) = client.receive() {
                    let answers = [first, second];
                    assert!(
                        answers.iter().any(|answer| answer["result"] == json!({})),
                        "the stop is answered: {answers:?}"
                    );
                } else {
                    // the restart closed the connection before it read the stop: the next daemon gets it
                    home.client().call("daemon.stop", json!({}));
                }
                assert_eq!(home.wait(), Some(0));
                assert!(!home.socket().exists());
            }
        }
    }
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
