//! What an answer says has happened survives a `kill -9` right after it. `LESSOR_CHAOS_ROUNDS=60` is the long run.

use serde_json::{Value, json};

use crate::support::{Client, Home, reference};

/// The rounds of each change.
fn rounds() -> usize {
    std::env::var("LESSOR_CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4)
}

/// A home with one account and two connections. What several tests do to it is here.
struct Killed {
    home: Home,
    client: Client,
    other: Client,
}

impl Killed {
    /// Before and after a kill; the checks that failed are counted over all rounds.
    fn rounds(mut check: impl FnMut(&mut Self) -> Result<(), String>) {
        let home = Home::with_accounts("[leases]\ngrace = \"0s\"\noverflow = \"wait\"\n", 1);
        let mut killed = Self { client: home.client(), other: home.client(), home };
        let lost: Vec<String> = (0..rounds()).filter_map(|_| check(&mut killed).err()).collect();
        assert!(lost.is_empty(), "{} of {} were lost: {lost:#?}", lost.len(), rounds());
    }

    fn kill(&mut self) {
        self.home.kill();
        self.home.start();
        (self.client, self.other) = (self.home.client(), self.home.client());
    }

    fn lease(&mut self, bind: &Value) -> Value {
        self.client.call("lease.acquire", json!({ "provider": "anthropic", "bind": bind, "ttl_ms": 600_000 }))
    }

    fn is_held(&mut self, lease: &Value) -> bool {
        self.client.call("lease.list", json!({})).as_array().unwrap().iter().any(|row| row["fence"] == lease["fence"])
    }

    fn account(&mut self) -> Value {
        self.client.call("account.list", json!({}))[0].clone()
    }

    fn is_limited(&mut self) -> bool {
        self.account()["limits"].as_array().is_some_and(|limits| !limits.is_empty())
    }

    fn clear(&mut self) {
        self.client.call("account.clear_limits", json!({ "account": "a0" }));
    }
}

fn exhausted(lease: &Value) -> Value {
    json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 600_000 })
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[test]
fn a_released_lease_does_not_come_back() {
    for bind in [json!({ "pid": std::process::id() }), json!("ttl")] {
        Killed::rounds(|killed| {
            let lease = killed.lease(&bind);
            killed.client.call("lease.release", reference(&lease));
            killed.kill();
            expect(!killed.is_held(&lease), "the release")
        });
    }
}

#[test]
fn a_lease_granted_after_a_release_can_be_resumed() {
    for bind in [json!({ "pid": std::process::id() }), json!("ttl")] {
        Killed::rounds(|killed| {
            let before = killed.lease(&bind);
            // the answer of the release is not waited for: the grant says that it has happened
            killed.client.send("lease.release", &reference(&before)).unwrap();
            let mut lease = Value::Null;
            crate::support::wait_until("the account is free", || {
                let answer = killed.other.ask("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0 }));
                lease = answer["result"].clone();
                !lease.is_null()
            });
            killed.kill();
            let resumed = killed.client.ask("lease.resume", &reference(&lease));
            let result = expect(resumed["result"]["fence"] == lease["fence"], &resumed.to_string());
            killed.client = killed.home.client();
            result
        });
    }
}

#[test]
fn a_lease_granted_from_the_queue_after_a_release_can_be_resumed() {
    Killed::rounds(|killed| {
        let before = killed.lease(&json!("ttl"));
        killed.other.send("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 60_000 })).unwrap();
        killed.client.wait_for_queue(1);
        killed.client.send("lease.release", &reference(&before)).unwrap();
        let lease = killed.other.receive().unwrap()["result"].clone();
        killed.kill();
        let resumed = killed.client.ask("lease.resume", &reference(&lease));
        let result = expect(resumed["result"]["fence"] == lease["fence"], &resumed.to_string());
        killed.client = killed.home.client();
        result
    });
}

#[test]
fn a_reported_limit_is_kept() {
    Killed::rounds(|killed| {
        killed.clear();
        let lease = killed.client.acquire();
        killed.client.call("lease.report", exhausted(&lease));
        killed.kill();
        expect(killed.is_limited(), "the limit")
    });
}

#[test]
fn a_limit_that_another_connection_is_refused_by_is_kept() {
    Killed::rounds(|killed| {
        killed.clear();
        let lease = killed.client.acquire();
        killed.client.send("lease.report", &exhausted(&lease)).unwrap();
        crate::support::wait_until("the account is limited", || {
            let asked = killed.other.ask("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0 }));
            asked["error"]["data"]["retry_after_ms"].as_u64().is_some_and(|wait| wait > 60_000)
        });
        killed.kill();
        expect(killed.is_limited(), "the limit")
    });
}

#[test]
fn a_limit_that_a_second_report_repeats_is_kept() {
    Killed::rounds(|killed| {
        killed.clear();
        let lease = killed.client.acquire();
        killed.client.send("lease.report", &exhausted(&lease)).unwrap();
        // the same event: nothing is written for it
        killed.other.call("lease.report", exhausted(&lease));
        killed.kill();
        expect(killed.is_limited(), "the limit")
    });
}

#[test]
fn a_limit_that_a_list_shows_is_kept() {
    Killed::rounds(|killed| {
        killed.clear();
        let lease = killed.client.acquire();
        killed.client.send("lease.report", &exhausted(&lease)).unwrap();
        crate::support::wait_until("the limit is shown", || {
            killed.other.call("account.list", json!({}))[0]["limits"]
                .as_array()
                .is_some_and(|limits| !limits.is_empty())
        });
        killed.kill();
        expect(killed.is_limited(), "the limit")
    });
}

#[test]
fn cleared_limits_stay_cleared() {
    Killed::rounds(|killed| {
        let lease = killed.client.acquire();
        killed.client.call("lease.report", exhausted(&lease));
        killed.client.send("account.clear_limits", &json!({ "account": "a0" })).unwrap();
        // there may be nothing to clear any more
        killed.other.call("account.clear_limits", json!({ "account": "a0" }));
        killed.kill();
        let result = expect(!killed.is_limited(), "the clearing");
        killed.clear();
        result
    });
}

#[test]
fn reported_usage_and_changes_of_accounts_are_kept() {
    let mut round = 0;
    Killed::rounds(|killed| {
        round += 1;
        let used = f64::from(round % 90) / 100.0;
        let lease = killed.client.acquire();
        let resets_at = "2099-01-01T00:00:00Z";
        let usage = json!({ "window": "5h", "utilization": used, "resets_at": resets_at });
        killed.client.call("lease.report", json!({ "lease": lease["lease"], "ok": true, "usage": usage }));
        killed.client.call("account.disable", json!({ "account": "a0", "reason": format!("round {round}") }));
        killed.kill();
        let account = killed.account();
        killed.client.call("account.enable", json!({ "account": "a0" }));
        let is_kept = account["usage"][0]["utilization"].as_f64() == Some(used)
            && account["enabled"] == false
            && account.to_string().contains(&format!("round {round}"));
        expect(is_kept, &account.to_string())
    });
}
