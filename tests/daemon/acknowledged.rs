//! What an answer says has happened survives a `kill -9` right after it. `LESSOR_CHAOS_ROUNDS=60` is the long run.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::support::{Client, Home, reference};
use crate::upstream::Upstream;

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
    fn start(config: &str) -> Self {
        let home = Home::with_accounts(&format!("[leases]\ngrace = \"0s\"\noverflow = \"wait\"\n{config}"), 1);
        Self { client: home.client(), other: home.client(), home }
    }

    /// Before and after a kill; the checks that failed are counted over all rounds.
    fn rounds(check: impl FnMut(&mut Self) -> Result<(), String>) {
        Self::rounds_with("", check);
    }

    fn rounds_with(config: &str, mut check: impl FnMut(&mut Self) -> Result<(), String>) {
        let mut killed = Self::start(config);
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

#[test]
fn usage_that_has_hardly_changed_is_kept_too() {
    let mut round = 0;
    Killed::rounds(|killed| {
        round += 1;
        let used = 0.5 + f64::from(round % 2) / 10_000.0;
        let lease = killed.client.acquire();
        let usage = json!({ "window": "5h", "utilization": used });
        killed.client.call("lease.report", json!({ "lease": lease["lease"], "ok": true, "usage": usage }));
        killed.kill();
        let account = killed.account();
        expect(account["usage"][0]["utilization"].as_f64() == Some(used), &account.to_string())
    });
}

/// Sends a request through the gateway's socket, and returns what comes until the connection has sent `end`.
fn gateway(home: &Home, end: &str) -> String {
    let socket = home.path().join("run/gateway.sock");
    crate::support::wait_until("the gateway listens", || UnixStream::connect(&socket).is_ok());
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[]}"#;
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.contains(end) {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "{text}");
        text += &String::from_utf8_lossy(&bytes[..read]);
    }
    text
}

#[test]
fn a_limit_that_a_response_of_the_gateway_names_is_kept() {
    let error = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}"#;
    let refusal =
        Upstream::new(move |_, _| (429, "content-type: application/json\r\nretry-after: 7200\r\n", error.to_owned()));
    let stream = Upstream::new(move |_, _| {
        let events = format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\"}}}}\n\n{}event: error\ndata: {error}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n".repeat(2000)
        );
        (200, "content-type: text/event-stream\r\n", events)
    });
    for (upstream, end) in [(&refusal, "HTTP/1.1 429"), (&stream, "rate_limit_error")] {
        let config = format!("[providers.anthropic]\nbase_url = \"{}\"\n", upstream.url);
        Killed::rounds_with(&config, |killed| {
            killed.clear();
            let said = gateway(&killed.home, end);
            killed.kill();
            expect(killed.is_limited(), &said[..said.len().min(300)])
        });
    }
}

#[test]
fn a_graceful_end_keeps_what_is_written_from_time_to_time() {
    let mut killed = Killed::start("");
    for used in [0.5, 0.5001] {
        let lease = killed.client.acquire();
        let headers = json!({ "anthropic-ratelimit-unified-5h-utilization": used.to_string(),
            "anthropic-ratelimit-unified-5h-reset": "4102444800" });
        killed.client.call("lease.report", json!({ "lease": lease["lease"], "ok": true, "headers": headers }));
        killed.client.call("lease.release", reference(&lease));
    }
    let before = killed.account();
    assert_eq!(before["usage"][0]["utilization"], 0.5001, "{before}");
    assert_eq!(killed.home.stop(), Some(0));
    killed.home.start();
    killed.client = killed.home.client();
    let after = killed.account();
    assert_eq!((&after["usage"], &after["last_used_at"]), (&before["usage"], &before["last_used_at"]));
}
