//! What the history says of requests, compared with what the upstream has received.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::TestGateway;
use crate::support::wait_until;
use crate::upstream::Upstream;

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}"#;
const AN_HOUR: &str = "content-type: application/json\r\nretry-after: 3600\r\n";

fn query(gateway: &TestGateway, params: Value) -> Value {
    gateway.home.client().call("history.query", params)
}

/// Waits until so many requests are in the history: one ends after its response was sent.
fn wait_for(gateway: &TestGateway, requests: u64) -> Value {
    wait_until("the requests are in the history", || {
        query(gateway, json!({ "limit": 0 }))["totals"]["requests"].as_u64() == Some(requests)
    });
    query(gateway, json!({ "by": "account" }))
}

fn command(gateway: &TestGateway, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.env("LESSOR_HOME", gateway.home.path()).env("LESSOR_NO_START", "1").env_remove("LESSOR_SOCKET");
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_history_agrees_with_the_upstream_also_after_the_daemon_was_killed() {
    let upstream = Upstream::by_key(|key| match key {
        "k-a" => (429, AN_HOUR, LIMITED),
        _ => (200, "content-type: application/json\r\n", r#"{"usage":{"input_tokens":12,"output_tokens":3}}"#),
    });
    let mut gateway = TestGateway::new("ab", upstream);
    let mut subscriber = gateway.home.client();
    subscriber.call("events.subscribe", json!({ "kinds": ["request.ended"] }));
    (0..3).for_each(|_| assert_eq!(gateway.send().status(), 200));
    for _ in 0..3 {
        let event = subscriber.receive().unwrap();
        assert_eq!(event["params"]["request"]["outcome"], "ok", "{event}");
    }
    let check = |gateway: &TestGateway| {
        let info = wait_for(gateway, 3);
        let totals = &info["totals"];
        assert_eq!(totals["attempts"].as_u64().unwrap(), gateway.upstream.keys().len() as u64, "{info}");
        assert_eq!((&totals["ok"], &totals["limited"], &totals["refused"]), (&json!(3), &json!(1), &json!(0)));
        assert_eq!(totals["tokens"]["output"], 9, "{info}");
        let of = |label: &str| info["groups"].as_array().unwrap().iter().find(|group| group["name"] == label).unwrap();
        assert_eq!((&of("b")["sums"]["requests"], &of("b")["sums"]["limited"]), (&json!(3), &json!(0)));
        assert_eq!((&of("a")["sums"]["requests"], &of("a")["sums"]["limited"]), (&json!(0), &json!(1)));
        let switched = info["requests"].as_array().unwrap().iter().find(|row| row["attempts"][1] != json!(null));
        let switched = switched.expect("one request was sent twice");
        assert_eq!(switched["attempts"][0]["account"]["label"], "a", "{switched}");
        assert!(switched["attempts"][0]["until"].as_u64().is_some(), "{switched}");
        assert_eq!(switched["account"]["label"], "b");
    };
    check(&gateway);
    let events = query(&gateway, json!({ "of": "events", "kinds": ["account.limited"] }));
    assert_eq!(events["events"][0]["account"]["label"], "a", "{events}");
    gateway.home.kill();
    gateway.home.start();
    check(&gateway);
    let lines = command(&gateway, &["requests", "--since", "1h"]);
    assert_eq!(lines.lines().count(), 3);
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["account"]["label"], "b");
    }
    let text = command(&gateway, &["history", "--since", "1h", "--by", "account"]);
    assert!(text.starts_with("last 60 min: 3 requests, 1 limit met, 0 seen by an agent"), "{text}");
    let csv = command(&gateway, &["history", "--by", "provider", "--csv"]);
    assert!(csv.lines().nth(1).is_some_and(|line| line.starts_with("anthropic,3,3,0,")), "{csv}");
}

#[test]
fn a_refused_request_says_why_no_other_account_served() {
    let gateway = TestGateway::with(
        "[limits]\nmax_rate_limit_wait = \"0s\"\n",
        "a",
        Upstream::by_key(|_| (429, AN_HOUR, LIMITED)),
    );
    assert_eq!(gateway.send().status(), 429);
    assert_eq!(gateway.send().status(), 429);
    let info = wait_for(&gateway, 2);
    assert_eq!(info["totals"]["refused"], 2, "{info}");
    for row in info["requests"].as_array().unwrap() {
        assert!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
    }
    let refused = query(&gateway, json!({ "status": "429", "account": "a" }));
    assert!(refused["totals"]["requests"].as_u64().unwrap() >= 1, "{refused}");
}

#[test]
fn requests_follow_prints_a_request_soon_after_its_end() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "content-type: application/json\r\n", "{}")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lessor"));
    command.env("LESSOR_HOME", gateway.home.path()).env("LESSOR_NO_START", "1").env_remove("LESSOR_SOCKET");
    let mut follower = command.args(["requests", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // the first ones may have ended before the command has subscribed: it prints those from the history
    assert_eq!(gateway.send().status(), 200);
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["outcome"], "ok", "{first}");
    // the quickest of some: the machine may be busy
    let mut latencies = Vec::new();
    for number in 0..10 {
        assert_eq!(gateway.send().status(), 200);
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let ended = line["at"].as_u64().unwrap() + line["duration_ms"].as_u64().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        latencies.push(now.saturating_sub(u128::from(ended)));
        assert!(line["id"].as_u64() > first["id"].as_u64(), "request {number} is another one: {line}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(latencies.iter().min() <= Some(&300), "{latencies:?} ms");
}

#[test]
fn kept_events_are_printed_also_after_the_next_start() {
    let mut gateway = TestGateway::new(
        "ab",
        Upstream::by_key(|key| if key == "k-a" { (429, AN_HOUR, LIMITED) } else { (200, "", "{}") }),
    );
    (0..2).for_each(|_| assert_eq!(gateway.send().status(), 200));
    let limited = |gateway: &TestGateway| command(gateway, &["events", "--since", "1h", "--kind", "account.limited"]);
    wait_until("the limit is kept", || !limited(&gateway).is_empty());
    gateway.home.kill();
    gateway.home.start();
    let lines = limited(&gateway);
    let event: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&event["kind"], &event["account"]["label"]), (&json!("account.limited"), &json!("a")), "{lines}");
    let all = command(&gateway, &["events", "--since", "1h"]);
    let times = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["at"].as_u64().unwrap());
    assert!(times.is_sorted(), "the oldest first: {all}");
    assert!(command(&gateway, &["events", "--kind", "account.limited"]).is_empty(), "none of this run");
}

#[test]
fn a_lease_of_one_request_leaves_the_request_and_no_more() {
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "content-type: application/json\r\n", "{}")));
    let subscribe = |kinds: &[&str]| {
        let mut subscriber = gateway.home.client();
        subscriber.call("events.subscribe", json!({ "kinds": kinds }));
        subscriber
    };
    let (mut by_default, mut by_name) = (subscribe(&[]), subscribe(&["lease.granted", "lease.ended"]));
    for _ in 0..3 {
        assert_eq!(gateway.send().status(), 200);
        // those that name the kinds get both events
        for kind in ["lease.granted", "lease.ended"] {
            let event = by_name.receive().unwrap();
            assert_eq!(event["params"]["kind"], kind, "{event}");
        }
    }
    let info = wait_for(&gateway, 3);
    for row in info["requests"].as_array().unwrap() {
        assert!(row["lease"].as_str().is_some_and(|lease| !lease.is_empty()), "{row}");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 1, "{row}");
        assert_eq!(row["attempts"][0]["account"], row["account"], "{row}");
    }
    assert_eq!(query(&gateway, json!({ "of": "leases" }))["leases"], json!([]));
    let kinds = json!(["lease.granted", "lease.ended"]);
    assert_eq!(query(&gateway, json!({ "of": "events", "kinds": kinds }))["events"], json!([]));
    // a lease that lives longer is recorded, and is the first that all subscribers hear of
    let mut holder = gateway.home.client();
    let (lease, key) = gateway.lease(&mut holder);
    assert_eq!(gateway.send_with(&key).status(), 200);
    let mut events = std::iter::repeat_with(|| by_default.receive().unwrap()["params"].clone());
    let first = events.find(|event| event["kind"].as_str().unwrap().starts_with("lease.")).unwrap();
    assert_eq!((&first["kind"], &first["lease"]), (&json!("lease.granted"), &lease["lease"]));
    holder.call("lease.release", json!({ "lease": lease["lease"] }));
    wait_until("the lease is recorded", || {
        let leases = query(&gateway, json!({ "of": "leases" }))["leases"].clone();
        leases.as_array().unwrap().iter().any(|found| found["lease"] == lease["lease"])
    });
    assert_eq!(query(&gateway, json!({ "of": "events", "kinds": kinds }))["events"].as_array().unwrap().len(), 2);
    // neither are they replayed to later subscribers
    let mut later = gateway.home.client();
    later.call("events.subscribe", json!({ "kinds": kinds, "recent": true }));
    let mut events = std::iter::repeat_with(|| later.receive().unwrap()["params"].clone());
    let replayed: Vec<Value> = events.by_ref().take_while(|event| event["kind"] != "replay.end").collect();
    assert_eq!(replayed.len(), 2, "{replayed:?}");
    assert!(replayed.iter().all(|event| event["lease"] == lease["lease"]), "{replayed:?}");
}
