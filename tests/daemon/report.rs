//! `lease.report` in its three forms, over a real socket.

use lessor::limits::Reason;
use lessor::pool::{LimitRecord, Wall};
use lessor::protocol::{BodyText, HeaderList, ReportParams};
use lessor::store::Write;
use serde_json::{Value, json};

use crate::support::{Client, Home, fence, label, reference, wait_until};

const HOUR: u64 = 3_600_000;

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A response of Claude: this window is used up until then.
fn spent(lease: &Value, window: &str, resets_at: u64) -> Value {
    json!({
        "lease": lease["lease"],
        "status": 429,
        "headers": {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": (resets_at / 1000).to_string(),
            format!("anthropic-ratelimit-unified-{window}-status"): "rejected",
            format!("anthropic-ratelimit-unified-{window}-utilization"): "1.0",
            format!("anthropic-ratelimit-unified-{window}-reset"): resets_at / 1000,
        },
        "body": "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"This request would exceed \
                 your account's rate limit.\"}}",
    })
}

fn report(client: &mut Client, lease: &Value, what: &Value) -> Value {
    let mut params = what.clone();
    params["lease"] = lease["lease"].clone();
    client.call("lease.report", params)
}

fn accounts(client: &mut Client) -> Vec<Value> {
    client.call("account.list", json!({})).as_array().unwrap().clone()
}

fn account(client: &mut Client, label: &str) -> Value {
    accounts(client).into_iter().find(|account| account["label"] == label).unwrap()
}

#[test]
fn a_reported_limit_moves_the_holder_and_returns_the_new_lease() {
    let home = Home::with_accounts("", 2);
    let mut client = home.client();
    let lease = client.acquire();
    let until = (now() / 1000 + 13 * 3600) * 1000;
    let decision = client.call("lease.report", spent(&lease, "5h", until));
    assert_eq!(
        (&decision["action"], &decision["reason"], &decision["scope"], &decision["after_ms"]),
        (&json!("switch"), &json!("quota_exhausted"), &json!("account"), &json!(0))
    );
    assert!(decision["evidence"].as_str().unwrap().contains("429"), "{decision}");
    let moved = &decision["lease"];
    assert_ne!(label(moved), label(&lease));
    assert!(fence(moved) > fence(&lease));
    assert_eq!(moved["credential"]["secret"], format!("sk-canary-{}", label(moved)));
    // the old lease has ended, and a report with it changes nothing
    assert_eq!(client.refused("lease.report", json!({ "lease": lease["lease"], "ok": true })), "stale_lease");
    assert_eq!(client.call("lease.list", json!({})).as_array().unwrap().len(), 1);
    let limited = account(&mut client, &label(&lease));
    assert_eq!(limited["state"], "limited");
    let limit = &limited["limits"][0];
    assert!(limit["until"].as_u64().unwrap().abs_diff(until) < 1_000, "{limit} not until {until}");
    assert_eq!((&limit["source"], &limit["scope"]), (&json!("server"), &json!("account")));
    assert_eq!(limit["evidence"], decision["evidence"]);
    // the usage of the window was updated, too
    let window = &limited["usage"][0];
    assert_eq!(
        (&window["window"], &window["utilization"], &window["resets_at"]),
        (&json!("5h"), &json!(1.0), &json!(until))
    );
    // no other account can serve: the answer names the end of the limit
    let decision = client.call("lease.report", spent(moved, "7d", until + HOUR));
    assert_eq!(decision["action"], "wait", "{decision}");
    assert!(decision["after_ms"].as_u64().unwrap().abs_diff(13 * HOUR) < 60_000, "{decision}");
}

/// The same as above, with the binary codec and the Rust client.
#[test]
fn the_binary_codec_carries_the_same_report() {
    let home = Home::with_accounts("", 2);
    let mut client = lessor::client::Client::connect_at(&home.socket()).unwrap();
    let request =
        || lessor::protocol::AcquireParams { provider: "anthropic".into(), credential: true, ..Default::default() };
    let lease = client.acquire(request()).unwrap();
    let id = || lease.lease.clone().into_owned();
    let ok = ReportParams {
        ok: Some(true),
        headers: Some(HeaderList(vec![("anthropic-ratelimit-unified-7d-utilization".into(), "0.25".into())])),
        ..ReportParams { lease: id(), ..ReportParams::default() }
    };
    assert_eq!(client.report(ok).unwrap().action, "continue");
    let answer = ReportParams {
        status: Some(429),
        headers: Some(HeaderList(vec![("retry-after".into(), "120".into())])),
        body: Some(BodyText(r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#.into())),
        ..ReportParams { lease: id(), ..ReportParams::default() }
    };
    let decision = client.report(answer).unwrap();
    assert_eq!((&*decision.action, decision.reason.as_deref()), ("switch", Some("rate_limit_exceeded")));
    let moved = decision.lease.unwrap();
    assert!(moved.credential.is_some());
    let params =
        ReportParams { reason: Some(Reason::QuotaExhausted), retry_after_ms: Some(5_000), ..ReportParams::default() };
    let decision = client.report(ReportParams { lease: moved.lease.into_owned(), ..params }).unwrap();
    assert_eq!((&*decision.action, decision.after_ms), ("wait", 5_000));
    let accounts = client.accounts(lessor::protocol::ListAccountsParams::default()).unwrap();
    assert_eq!(accounts.iter().filter(|account| account.state == "limited").count(), 2);
    assert!(
        accounts.iter().any(|account| account.usage.iter().any(|one| one.window == "7d" && one.utilization == 0.25))
    );
}

#[test]
fn each_kind_of_refusal_has_its_action() {
    let home = Home::with_accounts("", 3);
    let mut client = home.client();
    for (what, action, reason, scope) in [
        (json!({"status": 200, "headers": {}, "body": "{}"}), "continue", Value::Null, Value::Null),
        (json!({"status": 302}), "continue", Value::Null, Value::Null),
        (
            json!({"status": 400, "body": {"error": {"type": "invalid_request_error", "message": "no messages"}}}),
            "stop",
            json!("request_rejected"),
            json!("request"),
        ),
        (
            json!({"status": 529, "body": {"type": "error", "error": {"type": "overloaded_error"}}}),
            "retry",
            json!("model_capacity_exhausted"),
            json!("service"),
        ),
        (json!({"status": 500}), "retry", json!("server_error"), json!("service")),
        // status 200 with an error in the body
        (
            json!({"status": 200, "body": "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"}),
            "retry",
            json!("model_capacity_exhausted"),
            json!("service"),
        ),
        // Claude's 429 without a window: the request moves, and no account is limited
        (
            json!({"status": 429, "headers": {"x-should-retry": "true"},
            "body": {"type": "error", "error": {"type": "rate_limit_error", "message": "try again later"}}}),
            "switch",
            json!("rate_limit_exceeded"),
            json!("request"),
        ),
        (
            json!({"status": 401, "body": {"type": "error", "error": {"type": "authentication_error"}}}),
            "switch",
            json!("auth_failed"),
            json!("account"),
        ),
    ] {
        let lease = client.acquire();
        let decision = report(&mut client, &lease, &what);
        assert_eq!(
            (&decision["action"], &decision["reason"], &decision["scope"]),
            (&json!(action), &reason, &scope),
            "{what}: {decision}"
        );
        let held = if action == "switch" { &decision["lease"] } else { &lease };
        client.call("lease.release", reference(held));
    }
    let states: Vec<Value> = accounts(&mut client).into_iter().map(|account| account["state"].clone()).collect();
    assert_eq!(states.iter().filter(|state| **state == "ready").count(), 2, "{states:?}");
    // a single 401 ends no account
    assert_eq!(states.iter().filter(|state| **state == "limited").count(), 1, "{states:?}");
    assert_eq!(client.call("status", json!({}))["accounts"]["limited"], 1);
}

#[test]
fn a_request_that_no_account_can_serve_is_not_retried_forever() {
    let home = Home::with_accounts("", 5);
    let mut client = home.client();
    let windowless = json!({"status": 429, "headers": {"x-should-retry": "true"},
        "body": {"type": "error", "error": {"type": "rate_limit_error", "message": "try again later"}}});
    let (mut lease, mut seen) = (client.acquire(), vec![]);
    let end = loop {
        seen.push(label(&lease));
        let decision = report(&mut client, &lease, &windowless);
        if decision["action"] != "switch" {
            break decision;
        }
        lease = decision["lease"].clone();
    };
    assert_eq!((&end["action"], &end["reason"], seen.len()), (&json!("stop"), &json!("request_rejected"), 3));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "each account is tried once");
    assert_eq!(client.call("status", json!({}))["accounts"]["ready"], 5);
}

#[test]
fn a_required_user_action_comes_with_its_link() {
    let mut home = Home::new("");
    home.start();
    let mut client = home.client();
    let add = json!({"provider": "google", "kind": "api_key", "secret": "k", "label": "g"});
    client.call("account.add", add);
    let lease = client.call("lease.acquire", json!({"provider": "google"}));
    let link = "https://accounts.google.com/signin/continue?sarp=1";
    let body = json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Verify your account to continue.",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "VALIDATION_REQUIRED",
            "domain": "cloudcode-pa.googleapis.com", "metadata": {"validation_url": link}}]}});
    let decision = report(&mut client, &lease, &json!({"status": 403, "body": body}));
    assert_eq!((&decision["action"], &decision["reason"]), (&json!("stop"), &json!("verification_required")));
    assert_eq!(decision["link"], link);
    let check = |client: &mut Client| {
        let account = account(client, "g");
        assert_eq!((&account["state"], &account["state_link"]), (&json!("needs_verification"), &json!(link)));
        assert!(account["state_reason"].as_str().unwrap().contains("confirmed"), "{account}");
        assert_eq!(client.refused("lease.acquire", json!({"provider": "google"})), "needs_verification");
    };
    check(&mut client);
    drop(client);
    home.kill();
    home.start();
    check(&mut home.client());
}

#[test]
fn a_limit_and_its_evidence_survive_a_restart() {
    let mut home = Home::with_accounts("", 1);
    let mut client = home.client();
    let lease = client.acquire();
    let until = (now() / 1000 + 13 * 3600) * 1000;
    client.call("lease.report", spent(&lease, "5h", until));
    let before = account(&mut client, "a0");
    drop(client);
    home.kill();
    home.start();
    let mut client = home.client();
    let after = account(&mut client, "a0");
    let left = |account: &Value| account["limits"][0]["until"].as_u64().unwrap();
    assert!(left(&after).abs_diff(left(&before)) < 100, "{after}");
    for field in ["key", "reason", "scope", "source", "since", "evidence", "link"] {
        assert_eq!(after["limits"][0][field], before["limits"][0][field], "{field}");
    }
    assert_eq!(after["usage"], before["usage"], "its usage, too");
    let refusal = client.ask("lease.acquire", &json!({"provider": "anthropic", "wait_ms": 30_000}));
    let wait = refusal["error"]["data"]["retry_after_ms"].as_u64().unwrap();
    assert!(wait.abs_diff(13 * HOUR) < 60_000, "{refusal}");
    // only the user ends it sooner
    let cleared = client.call("account.clear_limits", json!({"account": "a0"}));
    assert_eq!((&cleared["state"], &cleared["limits"]), (&json!("ready"), &json!([])));
    client.acquire();
    drop(client);
    home.kill();
    home.start();
    assert_eq!(account(&mut home.client(), "a0")["limits"], json!([]));
}

#[test]
fn reported_successes_update_usage_and_notify_subscribers() {
    let home = Home::with_accounts("", 1);
    let mut listener = home.client();
    listener.call(
        "events.subscribe",
        json!({"kinds": ["usage.updated", "account.limited", "account.ready", "account.changed"]}),
    );
    let mut client = home.client();
    let lease = client.acquire();
    let resets_at = (now() / 1000 + 600) * 1000;
    let headers = json!({
        "Anthropic-Ratelimit-Unified-Status": "allowed",
        "anthropic-ratelimit-unified-5h-utilization": 0.42,
        "anthropic-ratelimit-unified-5h-reset": resets_at / 1000,
        "anthropic-ratelimit-requests-limit": ["50"],
        "anthropic-ratelimit-requests-remaining": 5,
    });
    let decision = report(&mut client, &lease, &json!({"ok": true, "headers": headers}));
    assert_eq!(
        decision,
        json!({"action": "continue", "after_ms": 0, "reason": null, "scope": null, "lease": null,
        "evidence": null, "link": null})
    );
    let event = listener.receive().unwrap();
    assert_eq!(
        (&event["params"]["kind"], &event["params"]["account"]["label"]),
        (&json!("usage.updated"), &json!("a0"))
    );
    let usage = account(&mut client, "a0")["usage"].clone();
    assert_eq!(
        (&usage[0]["window"], &usage[0]["utilization"], &usage[0]["resets_at"], &usage[0]["rate"]),
        (&json!("5h"), &json!(0.42), &json!(resets_at), &json!(false))
    );
    assert_eq!(
        (&usage[1]["window"], &usage[1]["utilization"], &usage[1]["rate"]),
        (&json!("requests"), &json!(0.9), &json!(true))
    );
    // an unchanged value sends no event; a value that the holder states does
    report(&mut client, &lease, &json!({"ok": true, "headers": headers}));
    let stated = json!({"window": "7d", "utilization": 0.5, "resets_at": resets_at});
    report(&mut client, &lease, &json!({"ok": true, "usage": stated}));
    assert_eq!(listener.receive().unwrap()["params"]["kind"], "usage.updated");
    assert_eq!(account(&mut client, "a0")["usage"][1]["window"], "7d");
    // a limit, its end, and an account that must be verified send events
    report(&mut client, &lease, &json!({"reason": "quota_exhausted", "retry_after_ms": 60_000}));
    let event = listener.receive().unwrap()["params"].clone();
    assert_eq!((&event["kind"], &event["reason"]), (&json!("account.limited"), &json!("quota_exhausted")));
    client.call("account.clear_limits", json!({"account": "a0"}));
    assert_eq!(listener.receive().unwrap()["params"]["kind"], "account.ready");
    report(&mut client, &lease, &json!({"reason": "verification_required"}));
    let event = listener.receive().unwrap()["params"].clone();
    assert_eq!((&event["kind"], &event["state"]), (&json!("account.changed"), &json!("needs_verification")));
}

/// A full window of a minute does not affect the selection; a full window of five hours does.
#[test]
fn rate_windows_do_not_affect_the_selection() {
    let home = Home::with_accounts("[selection]\nstrategy = \"sticky\"\nreuse_window = \"0s\"", 2);
    let mut client = home.client();
    let lease = client.acquire();
    let full = json!({"anthropic-ratelimit-requests-limit": 50, "anthropic-ratelimit-requests-remaining": 0});
    report(&mut client, &lease, &json!({"ok": true, "headers": full}));
    client.call("lease.release", reference(&lease));
    let again = client.acquire();
    assert_eq!(label(&again), label(&lease));
    let full = json!({"anthropic-ratelimit-unified-5h-utilization": "0.95"});
    report(&mut client, &again, &json!({"ok": true, "headers": full}));
    client.call("lease.release", reference(&again));
    assert_ne!(label(&client.acquire()), label(&lease));
}

#[test]
fn five_reports_of_one_event_count_once() {
    let home = Home::with_accounts("[leases]\nper_account = 5", 1);
    let mut clients: Vec<Client> = (0..5).map(|_| home.client()).collect();
    let leases: Vec<Value> = clients.iter_mut().map(Client::acquire).collect();
    for (client, lease) in clients.iter_mut().zip(&leases) {
        client.send("lease.report", &json!({ "lease": lease["lease"], "reason": "quota_exhausted" })).unwrap();
    }
    for client in &mut clients {
        let decision = client.receive().unwrap()["result"].clone();
        assert_eq!(decision["action"], "wait", "{decision}");
        assert!(
            (59_000..=63_000).contains(&decision["after_ms"].as_u64().unwrap()),
            "the ladder has one step: {decision}"
        );
    }
    let candidate = clients[0].call("explain", json!({"what": "a0"}))["candidates"][0].clone();
    assert_eq!(candidate["health"], 60.0, "{candidate}");
}

#[test]
fn after_a_limit_one_waiter_is_served_before_the_others_in_order() {
    // several would be served at once, if the first one did not test the account
    let mut home = Home::with_accounts("[leases]\noverflow = \"wait\"\nper_account = 5", 1);
    let mut holder = home.client();
    let lease = holder.acquire();
    // a long limit that has just ended, as after a suspend
    holder.call("lease.report", spent(&lease, "5h", (now() / 1000 + 3600) * 1000));
    holder.call("lease.release", reference(&lease));
    drop(holder);
    home.kill();
    home.edit_store(|opened| {
        let [limit] = &opened.loaded.snapshot.limits[..] else { panic!("{:?}", opened.loaded) };
        let (until, since) = (Wall(now() + 1_500), Some(Wall(now() - HOUR)));
        opened.store.write(Write::SaveLimit(LimitRecord { until, since, ..limit.clone() }), None);
    });
    home.start();
    let mut clients: Vec<Client> = (0..4).map(|_| home.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let ask = json!({"provider": "anthropic", "wait_ms": 60_000, "label": format!("w{n}")});
        client.send("lease.acquire", &ask).unwrap();
        home.client().wait_for_queue(n + 1);
    }
    let mut waiting = clients.into_iter();
    let mut first = waiting.next().unwrap();
    let probe = first.receive().unwrap()["result"].clone();
    let mut watcher = home.client();
    assert_eq!(watcher.call("status", json!({}))["queue"].as_array().unwrap().len(), 3, "the others wait for it");
    report(&mut first, &probe, &json!({"ok": true}));
    first.call("lease.release", reference(&probe));
    for mut client in waiting {
        let lease = client.receive().unwrap()["result"].clone();
        client.call("lease.release", reference(&lease));
    }
    wait_until("the queue is empty", || watcher.call("status", json!({}))["queue"] == json!([]));
}

#[test]
fn a_moved_durable_lease_is_saved_before_it_is_answered() {
    let mut home = Home::with_accounts("", 2);
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({"provider": "anthropic", "bind": {"pid": std::process::id()}}));
    let moved = report(&mut client, &lease, &json!({"reason": "quota_exhausted"}))["lease"].clone();
    drop(client);
    home.kill();
    home.start();
    let mut client = home.client();
    let held = client.call("lease.list", json!({}));
    assert_eq!((held.as_array().unwrap().len(), &held[0]["lease"]), (1, &moved["lease"]));
}

#[test]
fn a_report_must_have_exactly_one_form() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    let lease = client.acquire();
    for what in [
        json!({}),
        json!({"ok": false}),
        json!({"ok": true, "reason": "unknown"}),
        json!({"ok": true, "status": 200}),
        json!({"ok": true, "retry_after_ms": 5}),
        json!({"status": 429, "reason": "unknown"}),
        json!({"status": 42}),
        json!({"status": 70_000}),
        json!({"status": "many"}),
        json!({"reason": "tired"}),
        json!({"reason": "unknown", "body": "x"}),
        json!({"headers": {}}),
        json!({"status": 429, "headers": "retry-after: 5"}),
        json!({"status": 429, "nonsense": 1}),
        json!({"ok": true, "usage": []}),
        json!({"ok": true, "usage": {"5h": {"utilization": "much"}}}),
    ] {
        let mut params = what.clone();
        params["lease"] = lease["lease"].clone();
        assert_eq!(client.refused("lease.report", params), "bad_request", "{what}");
    }
    assert_eq!(client.refused("lease.report", json!({"lease": "ls_x", "ok": true})), "unknown_lease");
    assert_eq!(account(&mut client, "a0")["state"], "ready");
}
