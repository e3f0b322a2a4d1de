//! Leases on distinct accounts, which end with what they are bound to.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Holder, Home, label, reference, signal, wait_until};

const WAIT: &str = "[leases]\noverflow = \"wait\"\n";

#[test]
fn sixteen_processes_hold_distinct_accounts_and_a_kill_frees_one_immediately() {
    let home = Home::with_accounts(WAIT, 16);
    let mut holders: Vec<Holder> = (0..16).map(|_| Holder::start(&home)).collect();
    assert_eq!(holders.iter().map(|holder| &holder.label).collect::<HashSet<_>>().len(), 16);
    let mut watcher = home.client();
    // the best of three: a busy machine is sometimes late, a daemon that waits for a timer always
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let mut waiter = home.client();
        waiter.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
        watcher.wait_for_queue(1);
        let mut killed = holders.remove(0);
        let begun = Instant::now();
        killed.child.kill().unwrap();
        let answer = waiter.receive().unwrap();
        fastest = fastest.min(begun.elapsed());
        assert_eq!(label(&answer["result"]), killed.label);
        waiter.call("lease.release", reference(&answer["result"]));
        holders.push(Holder::start(&home));
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[test]
fn a_child_that_inherits_the_connection_does_not_keep_the_lease() {
    let home = Home::with_accounts(WAIT, 1);
    let mut holder = Holder::start_with(&home, true);
    assert!(holder.grandchild.is_some());
    let mut waiter = home.client();
    waiter.send("lease.acquire", &json!({ "provider": "anthropic" })).unwrap();
    home.client().wait_for_queue(1);
    holder.child.kill().unwrap();
    assert_eq!(label(&waiter.receive().unwrap()["result"]), holder.label);
}

#[test]
fn shared_accounts_are_shared_evenly() {
    let home = Home::with_accounts("[leases]\noverflow = \"share\"\n", 8);
    let mut clients: Vec<Client> = (0..12).map(|_| home.client()).collect();
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for client in &mut clients {
        *held.entry(label(&client.acquire())).or_default() += 1;
    }
    assert_eq!(held.len(), 8);
    assert!(held.values().all(|count| (1..=2).contains(count)), "{held:?}");
}

#[test]
fn a_closed_connection_frees_its_lease_before_the_next_request() {
    let home = Home::with_accounts(WAIT, 1);
    let mut other = home.client();
    for _ in 0..50 {
        let mut holder = home.client();
        holder.acquire();
        assert_eq!(other.refused("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 })), "no_capacity");
        drop(holder);
        let lease = other.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 1000 }));
        other.call("lease.release", reference(&lease));
    }
}

#[test]
fn a_lease_bound_to_a_process_ends_with_it_and_not_with_the_connection() {
    let home = Home::with_accounts(WAIT, 1);
    let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut client = home.client();
    let bound = json!({ "provider": "anthropic", "bind": { "pid": process.id() } });
    client.call("lease.acquire", bound.clone());
    drop(client);
    let mut other = home.client();
    assert_eq!(other.refused("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 0 })), "no_capacity");
    process.kill().unwrap();
    process.wait().unwrap();
    other.call("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 2000 }));
    assert_eq!(other.refused("lease.acquire", bound), "bad_request", "a dead process holds nothing");
}

#[test]
fn a_lease_past_its_time_is_stale() {
    let home = Home::with_accounts(WAIT, 1);
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "ttl_ms": 50, "bind": "ttl" }));
    assert!(lease["expires_at"].is_u64());
    // the daemon is stopped, too, and applies the time afterwards
    signal(home.pid(), Signal::STOP);
    std::thread::sleep(Duration::from_millis(60));
    signal(home.pid(), Signal::CONT);
    let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted" });
    assert_eq!(client.refused("lease.report", report), "stale_lease");
    for method in ["lease.renew", "lease.release", "lease.resume"] {
        assert_eq!(client.refused(method, reference(&lease)), "stale_lease", "{method}");
    }
    assert!(client.call("account.list", json!({}))[0]["limits"].as_array().unwrap().is_empty(), "it changed nothing");
}

#[test]
fn a_limit_moves_its_holder_and_keeps_others_off_the_account() {
    let home = Home::with_accounts(WAIT, 2);
    let mut client = home.client();
    let lease = client.acquire();
    let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 3_600_000 });
    let decision = client.call("lease.report", report.clone());
    assert_eq!(decision["action"], "switch");
    assert_ne!(label(&decision["lease"]), label(&lease));
    assert_eq!(client.refused("lease.report", report), "stale_lease");
    let mut other = home.client();
    let refusal = other.ask("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0 }));
    let why: Vec<_> =
        refusal["error"]["data"]["accounts"].as_array().unwrap().iter().map(|a| a["why"].clone()).collect();
    assert!(why.contains(&json!("limited")) && why.contains(&json!("busy")), "{refusal}");
}

#[test]
fn the_queue_is_served_in_order_and_refused_when_waiting_is_useless() {
    let home = Home::with_accounts(WAIT, 1);
    let mut holder = home.client();
    let lease = holder.acquire();
    let mut watcher = home.client();
    let mut waiters = Vec::new();
    for (number, priority) in [(1, 0), (2, 0), (3, 5)] {
        let mut waiter = home.client();
        let params = json!({ "provider": "anthropic", "priority": priority, "label": format!("w{number}") });
        waiter.send("lease.acquire", &params).unwrap();
        watcher.wait_for_queue(number);
        waiters.push(waiter);
    }
    let queue = watcher.call("status", json!({}))["queue"].clone();
    let order: Vec<_> = queue.as_array().unwrap().iter().map(|row| row["label"].as_str().unwrap()).collect();
    assert_eq!(order, ["w3", "w1", "w2"]);
    holder.call("lease.release", reference(&lease));
    for next in [2, 0, 1] {
        let lease = waiters[next].receive().unwrap()["result"].clone();
        waiters[next].call("lease.release", reference(&lease));
    }
    let lease = holder.acquire();
    assert_eq!(watcher.refused("lease.acquire", json!({ "provider": "anthropic", "wait_ms": 30 })), "wait_timeout");
    let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 3_600_000 });
    assert_eq!(holder.call("lease.report", report)["action"], "wait");
    let begun = Instant::now();
    let refusal = watcher.ask("lease.acquire", &json!({ "provider": "anthropic" }));
    assert_eq!(refusal["error"]["data"]["kind"], "all_limited", "{refusal}");
    assert!(refusal["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 3_000_000);
    assert!(begun.elapsed() < Duration::from_secs(10), "it is refused without waiting");
}

#[test]
fn the_same_request_gets_the_same_lease() {
    let home = Home::with_accounts(WAIT, 2);
    let asked = json!({ "provider": "anthropic", "request_id": "r1" });
    let mut first = home.client();
    let lease = first.call("lease.acquire", asked.clone());
    let mut again = home.client();
    assert_eq!(again.call("lease.acquire", asked)["lease"], lease["lease"]);
    // it is bound to the connection of the last request
    drop(first);
    assert_eq!(again.call("lease.renew", reference(&lease))["lease"], lease["lease"]);
    drop(again);
    let mut other = home.client();
    wait_until("the lease ended", || other.call("lease.list", json!({})).as_array().unwrap().is_empty());
}

#[test]
fn events_report_grants_and_ends() {
    let home = Home::with_accounts(WAIT, 1);
    let mut listener = home.client();
    listener.call("events.subscribe", json!({ "kinds": ["lease.granted", "lease.ended", "account.limited"] }));
    let mut holder = home.client();
    let lease = holder.acquire();
    let report = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 60_000 });
    holder.call("lease.report", report);
    holder.call("lease.release", reference(&lease));
    for kind in ["lease.granted", "account.limited", "lease.ended"] {
        let event = listener.receive().unwrap();
        assert_eq!(
            (event["method"].as_str(), event["params"]["kind"].as_str()),
            (Some("event"), Some(kind)),
            "{event}"
        );
        assert_eq!(event["params"]["account"]["label"], "a0");
    }
    assert_eq!(listener.refused("events.subscribe", json!({ "kinds": ["nonsense"] })), "bad_request");
}

#[test]
fn adding_an_account_rejects_invalid_and_recognizes_known_ones() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    let add = |more: Value| {
        let mut params = json!({ "provider": "anthropic", "kind": "api_key", "secret": "sk-canary-x" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for (more, kind) in [
        (json!({ "label": "a0" }), "bad_request"),
        (json!({ "provider": "antropic" }), "unknown_provider"),
        (json!({ "secret": "" }), "bad_request"),
        (json!({ "secret": "two\nlines" }), "bad_request"),
        (json!({ "max_leases": 0 }), "bad_request"),
        (json!({ "use": ["no name"] }), "bad_request"),
        (json!({ "refresh_token": "r" }), "bad_request"),
    ] {
        assert_eq!(client.refused("account.add", add(more.clone())), kind, "{more}");
    }
    let first = client.call("account.add", add(json!({})));
    assert_eq!(client.call("account.add", add(json!({})))["id"], first["id"], "the same key is the same account");
    let login = json!({ "provider": "anthropic", "kind": "oauth", "secret": "at", "email": "a@b.c" });
    let login = client.call("account.add", login);
    assert_eq!(login["use"], json!(["claude"]));
    let pinned = json!({ "provider": "anthropic", "account": login["id"] });
    assert_eq!(client.refused("lease.acquire", pinned.clone()), "not_allowed");
    let mut pinned = pinned;
    pinned["agent"] = json!("claude");
    client.call("lease.acquire", pinned);
    let ended = json!({ "provider": "google", "kind": "oauth", "secret": "at", "expires_at": 1_000 });
    client.call("account.add", ended);
    let ask = json!({ "provider": "google", "agent": "gemini" });
    assert_eq!(client.refused("lease.acquire", ask), "needs_login", "an ended token is not handed out");
}

#[test]
fn events_say_which_holder_moved_where_and_why() {
    let home = Home::with_accounts(WAIT, 2);
    let mut listener = home.client();
    listener.call("events.subscribe", json!({ "kinds": ["lease.granted", "lease.moved", "account.limited"] }));
    let mut holder = home.client();
    let model = "claude-opus-4-1";
    let ask = json!({ "provider": "anthropic", "model": model, "session": "s1", "agent": "claude", "label": "l" });
    let lease = holder.call("lease.acquire", ask);
    let report = json!({ "lease": lease["lease"], "status": 429, "headers": { "retry-after": "76" } });
    let decision = holder.call("lease.report", report);
    let mut next = || listener.receive().unwrap()["params"].clone();
    let granted = next();
    let of_holder = |event: &Value| {
        let own = u64::from(std::process::id());
        assert_eq!(
            (&event["session"], &event["agent"], &event["label"]),
            (&json!("s1"), &json!("claude"), &json!("l"))
        );
        assert_eq!((&event["model"], &event["holder"]["pid"]), (&json!(model), &json!(own)));
        assert!(event["holder"]["program"].as_str().is_some_and(|program| !program.is_empty()), "{event}");
    };
    assert_eq!((&granted["kind"], &granted["lease"]), (&json!("lease.granted"), &lease["lease"]));
    of_holder(&granted);
    let limited = next();
    let account = &lease["account"]["label"];
    assert_eq!((&limited["kind"], &limited["account"]["label"]), (&json!("account.limited"), account));
    assert_eq!((&limited["status"], &limited["stated_wait_ms"]), (&json!(429), &json!(76_000)));
    assert_eq!(limited["model"], model);
    assert!(limited["evidence"].as_str().unwrap().contains("retry-after: 76"), "{limited}");
    let moved = next();
    assert_eq!((&moved["kind"], &moved["from"]["label"]), (&json!("lease.moved"), account));
    assert_eq!(moved["account"]["label"], decision["lease"]["account"]["label"]);
    assert_eq!((&moved["lease"], &moved["reason"]), (&decision["lease"]["lease"], &limited["reason"]));
    assert_eq!((&moved["until"], &moved["key"]), (&limited["until"], &limited["key"]));
    of_holder(&moved);
    assert_eq!(next()["kind"], "lease.granted");
    // one that subscribes later gets the same
    let mut late = home.client();
    late.call("events.subscribe", json!({ "kinds": ["lease.moved"], "recent": true }));
    assert_eq!(late.receive().unwrap()["params"], moved);
}
