//! `session.report`: what an agent states of its quota is learnt for the account of its session's last request, and never
//! for another.

#[cfg(target_os = "linux")]
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{TestGateway, request};
use crate::upstream::Upstream;

/// 2100.
const FAR: u64 = 4_102_444_800_000;
const HOUR: u64 = 3_600_000;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Two logins, `a` and `b`, and a key for their agent.
fn gateway() -> TestGateway {
    let upstream = Upstream::by_key(|_| (200, "", "{}"));
    let mut gateway = TestGateway::with("", "", upstream);
    for label in ["a", "b"] {
        let login = json!({ "provider": "anthropic", "kind": "oauth", "secret": format!("k-{label}"), "refresh_token": "r",
                            "expires_at": FAR, "label": label, "account_id": label });
        gateway.home.client().call("account.add", login);
    }
    gateway.key = agent_key(&gateway);
    gateway
}

fn agent_key(gateway: &TestGateway) -> String {
    gateway.home.client().call("gateway.key", json!({ "agent": "claude" }))["key"].as_str().unwrap().to_owned()
}

/// Sends a request of a session; returns the account that served it.
fn ask(gateway: &TestGateway, key: &str, session: &str) -> String {
    let headers = format!("x-api-key: {key}\r\nx-claude-code-session-id: {session}\r\n");
    let message = gateway.http_client().send(&request("POST /anthropic/v1/messages", &headers, r#"{"model":"m"}"#));
    assert_eq!(message.status(), 200, "{message:?}");
    message.header("x-lessor-account").unwrap().to_owned()
}

fn window(name: &str, used: f64, resets_at: u64) -> Value {
    json!({ "name": name, "used_percentage": used, "resets_at": resets_at })
}

fn report(gateway: &TestGateway, session: &str, more: Value, windows: &[Value]) -> Value {
    let mut params = json!({ "session": session, "windows": windows });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    gateway.home.client().call("session.report", params)
}

/// The windows of an account, with what is used.
fn usage(gateway: &TestGateway, label: &str) -> Vec<(String, f64)> {
    let account = gateway.account(label);
    let row = |row: &Value| (row["window"].as_str().unwrap().to_owned(), row["utilization"].as_f64().unwrap());
    account["usage"].as_array().unwrap().iter().map(row).collect()
}

fn used(five_hour: f64) -> Vec<(String, f64)> {
    vec![("5h".to_owned(), five_hour)]
}

#[test]
fn windows_are_learnt_for_the_account_of_the_session_and_only_if_they_say_more() {
    let gateway = gateway();
    let reset = now() + HOUR;
    let state = |used: f64| report(&gateway, "s", json!({}), &[window("five_hour", used, reset)]);
    let unknown = state(42.0);
    assert_eq!((&unknown["account"], &unknown["learnt"]), (&Value::Null, &json!(false)), "no request of it was seen");
    let account = ask(&gateway, &gateway.key, "s");
    let other = if account == "a" { "b" } else { "a" };
    let learnt = state(42.0);
    assert_eq!((&learnt["account"]["label"], &learnt["learnt"]), (&json!(account), &json!(true)), "{learnt}");
    assert_eq!(
        (learnt["usage"][0]["window"].as_str(), learnt["usage"][0]["utilization"].as_f64()),
        (Some("5h"), Some(0.42))
    );
    assert_eq!(learnt["provider"]["accounts"], 2);
    for (stated, expected) in [(42.0, 0.42), (10.0, 0.42), (42.9, 0.42), (60.0, 0.60), (59.0, 0.60)] {
        state(stated);
        assert_eq!(usage(&gateway, &account), used(expected), "{stated}");
    }
    // an earlier window, one of another account, and what no window can be
    for (windows, why) in [
        (vec![window("five_hour", 99.0, reset - 10 * 60_000)], "another reset"),
        (vec![window("five_hour", 99.0, reset + 10 * 60_000)], "another reset"),
        (vec![window("five_hour", 99.0, now() + 6 * HOUR)], "longer than the window"),
        (vec![window("five_hour", 99.0, 1)], "over"),
        (vec![window("five_hour", -1.0, reset), window("seven_day", 1e9, reset)], "impossible"),
        (vec![window("spend_limit", 99.0, reset), window("5h", 99.0, reset), window("", 99.0, reset)], "unknown names"),
    ] {
        assert_eq!(report(&gateway, "s", json!({}), &windows)["learnt"], false, "{why}");
        assert_eq!(usage(&gateway, &account), used(0.60), "{why}");
    }
    assert_eq!(usage(&gateway, other), []);
    assert_eq!(usage(&gateway, &account), used(0.60));
}

#[test]
fn after_a_move_windows_that_could_be_those_of_the_account_before_are_not_learnt() {
    let gateway = gateway();
    let first = ask(&gateway, &gateway.key, "s");
    let second = if first == "a" { "b" } else { "a" };
    let (reset, other_reset) = (now() + HOUR, now() + 2 * HOUR);
    gateway.home.client().call("account.disable", json!({ "account": first }));
    assert_eq!(ask(&gateway, &gateway.key, "s"), second);
    // of the first account nothing is known: they could be its
    let unsure = report(&gateway, "s", json!({}), &[window("five_hour", 42.0, reset)]);
    assert_eq!((&unsure["account"]["label"], &unsure["learnt"]), (&json!(second), &json!(false)));
    gateway.home.client().call("account.enable", json!({ "account": first }));
    gateway.home.client().call("account.disable", json!({ "account": second }));
    let of_first = ask(&gateway, &gateway.key, "t");
    assert_eq!(of_first, first);
    let key = json!({ "key": gateway.key });
    assert_eq!(report(&gateway, "t", json!({}), &[window("five_hour", 30.0, reset)])["learnt"], true);
    // now they are: the same reset is its, another one is that of the second account
    assert_eq!(report(&gateway, "s", json!({}), &[window("five_hour", 42.0, reset)])["learnt"], false);
    assert_eq!(usage(&gateway, second), []);
    assert_eq!(report(&gateway, "s", key, &[window("five_hour", 42.0, other_reset)])["learnt"], true);
    assert_eq!((usage(&gateway, second), usage(&gateway, &first)), (used(0.42), used(0.30)));
}

#[test]
fn other_sessions_of_the_same_agent_count_and_so_does_a_restart() {
    let mut gateway = gateway();
    let windows = [window("five_hour", 42.0, now() + HOUR)];
    let first = ask(&gateway, &gateway.key, "s");
    gateway.home.client().call("account.disable", json!({ "account": first }));
    assert_ne!(ask(&gateway, &gateway.key, "t"), first);
    // the agent can state for the new session what it was told in the one before
    assert_eq!(report(&gateway, "t", json!({ "key": gateway.key }), &windows)["learnt"], false);
    assert_eq!((usage(&gateway, "a"), usage(&gateway, "b")), (vec![], vec![]));
    gateway.home.stop();
    gateway.home.start();
    gateway.connect();
    let key = agent_key(&gateway);
    ask(&gateway, &key, "s");
    assert_eq!(report(&gateway, "s", json!({}), &windows)["learnt"], false, "who served it before is not known");
}

#[test]
fn an_api_key_has_no_such_windows() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    assert_eq!(ask(&gateway, &gateway.key, "s"), "a");
    let answer = report(&gateway, "s", json!({}), &[window("five_hour", 42.0, now() + HOUR)]);
    assert_eq!((&answer["account"]["label"], &answer["learnt"]), (&json!("a"), &json!(false)));
    assert_eq!(usage(&gateway, "a"), []);
}

/// A process that is recognised as Claude Code.
#[cfg(target_os = "linux")]
struct Agent {
    child: Child,
    _directory: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl Agent {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let installed = directory.path().join("node_modules/@anthropic-ai/claude-code/bin");
        std::fs::create_dir_all(&installed).unwrap();
        std::fs::copy("/bin/sleep", installed.join("claude")).unwrap();
        let mut command = Command::new(installed.join("claude"));
        command.arg("600").stdin(Stdio::null());
        // writing the copy may still be seen as under way by another process that was forked meanwhile
        let child = loop {
            match command.spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                started => break started.unwrap(),
            }
        };
        Self { child, _directory: directory }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_that_uses_an_account_of_its_own_is_not_believed() {
    let gateway = gateway();
    let account = ask(&gateway, &gateway.key, "s");
    let windows = [window("five_hour", 42.0, now() + HOUR)];
    let agent = Agent::start();
    let pid = json!({ "pid": agent.pid() });
    let foreign = report(&gateway, "s", pid.clone(), &windows);
    assert_eq!((&foreign["account"], &foreign["learnt"]), (&Value::Null, &json!(false)));
    assert_eq!(usage(&gateway, &account), []);
    // with a lease for its process, and the gateway key of it, its session is the one of these requests
    let lease = json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": agent.pid() }, "wait_ms": 0 });
    let mut client = gateway.home.client();
    let lease = client.call("lease.acquire", lease);
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    assert_eq!(
        report(&gateway, "u", pid.clone(), &[])["account"],
        lease["account"]
            .as_object()
            .map_or(Value::Null, |of| { json!({ "id": of["id"], "label": of["label"], "email": of["email"] }) })
    );
    let account = ask(&gateway, &key, "u");
    assert_eq!(report(&gateway, "u", pid, &windows)["learnt"], true);
    assert_eq!(usage(&gateway, &account), used(0.42));
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_with_the_credential_of_a_lease_itself_states_windows_of_its_account_until_that_is_moved() {
    let gateway = gateway();
    let agent = Agent::start();
    let mut client = gateway.home.client();
    let lease = json!({ "provider": "anthropic", "agent": "claude", "bind": { "pid": agent.pid() }, "wait_ms": 0 });
    let lease = client.call("lease.acquire", lease);
    let label = lease["account"]["label"].as_str().unwrap();
    let state = |used: f64| {
        report(&gateway, "never-seen", json!({ "pid": agent.pid() }), &[window("five_hour", used, now() + HOUR)])
    };
    assert_eq!(state(42.0)["learnt"], true);
    assert_eq!(usage(&gateway, label), used(0.42));
    let refused = json!({ "lease": lease["lease"], "reason": "quota_exhausted", "retry_after_ms": 60_000 });
    assert_eq!(client.call("lease.report", refused)["action"], "switch");
    let after = state(77.0);
    assert_eq!((after["account"]["label"] == *label, &after["learnt"]), (false, &json!(false)), "{after}");
    assert_eq!(usage(&gateway, label), used(0.42));
}

#[test]
fn impossible_statements_are_answered_and_not_learnt() {
    let gateway = gateway();
    let account = ask(&gateway, &gateway.key, "s");
    let link = json!({ "key": gateway.key });
    for windows in [
        vec![window("five_hour", -1.0, now() + HOUR)],
        vec![window("five_hour", f64::MAX, now() + HOUR)],
        vec![window("five_hour", 50.0, u64::MAX)],
        vec![window("five_hour", 50.0, 0)],
        vec![window("", 50.0, now() + HOUR), window(&"x".repeat(100_000), 50.0, now() + HOUR)],
        vec![window("ten_year", 50.0, now() + HOUR); 2_000],
    ] {
        let answer = report(&gateway, "s", link.clone(), &windows);
        assert_eq!((&answer["learnt"], &answer["account"]["label"]), (&json!(false), &json!(account)), "{answer}");
    }
    for more in [json!({ "pid": 0 }), json!({ "pid": u32::MAX }), json!({ "key": "x".repeat(100_000) })] {
        let answer = report(&gateway, &"s".repeat(100_000), more, &[window("five_hour", 50.0, now() + HOUR)]);
        assert_eq!((&answer["learnt"], &answer["account"]), (&json!(false), &json!(null)), "{answer}");
    }
    let mut client = gateway.home.client();
    for wrong in [
        json!({ "session": "s", "windows": [{ "name": "five_hour", "used_percentage": "50" }] }),
        json!({ "session": "s", "read_at": -1 }),
        json!({ "session": "s", "pid": -1 }),
        json!({ "session": 5 }),
        json!({ "sessions": "s" }),
    ] {
        assert_eq!(client.refused("session.report", wrong.clone()), "bad_request", "{wrong}");
    }
    assert!(usage(&gateway, &account).is_empty());
    // a time far in the future counts as now
    let ahead = json!({ "key": gateway.key, "read_at": u64::MAX });
    assert_eq!(report(&gateway, "s", ahead, &[window("five_hour", 50.0, now() + HOUR)])["learnt"], true);
    assert_eq!(report(&gateway, "s", link, &[window("five_hour", 70.0, now() + HOUR)])["learnt"], false, "it is older");
    for name in ["", "none", &"x".repeat(100_000), "\u{1b}[2J"] {
        let kind = client.refused("account.reset", json!({ "account": name }));
        assert!(["unknown_account", "bad_request"].contains(&kind.as_str()), "{kind}");
    }
}
