//! Every command that is meant to make an account usable does, or says what will: for each state, each command.

use serde_json::{Value, json};

use crate::support::{Client, Home, reference};

/// Brings an account into a state; it is called `a` and has an API key, or a login where the state needs one.
type Enter = fn(&mut Client);

fn report(client: &mut Client, report: Value) {
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "agent": "claude", "account": "a" }));
    let mut params = json!({ "lease": lease["lease"] });
    params.as_object_mut().unwrap().extend(report.as_object().unwrap().clone());
    client.call("lease.report", params);
    client.call("lease.release", reference(&lease));
}

const STATES: [(&str, Enter); 8] = [
    ("ready", |_| {}),
    ("disabled", |client| drop(client.call("account.disable", json!({ "account": "a", "reason": "on holiday" })))),
    ("rate limited", |client| report(client, json!({ "reason": "rate_limit_exceeded", "retry_after_ms": 60_000 }))),
    ("refused by 401", |client| report(client, json!({ "status": 401, "body": "{}" }))),
    ("refused by 403", |client| report(client, json!({ "reason": "forbidden" }))),
    ("out of credit", |client| report(client, json!({ "reason": "out_of_credit" }))),
    ("unverified", |client| report(client, json!({ "reason": "verification_required" }))),
    ("ended", |client| {
        client.call("account.remove", json!({ "account": "a" }));
        let login = json!({ "provider": "anthropic", "kind": "oauth", "secret": "at-canary-a", "label": "a",
            "expires_at": 1_600_000_000_000_u64 });
        client.call("account.add", login);
    }),
];

const COMMANDS: [(&str, &str); 4] = [
    ("account.enable", "{}"),
    ("account.clear_limits", "{}"),
    ("account.refresh", "{}"),
    ("account.verify", r#"{"confirmed":true}"#),
];

#[test]
fn every_command_mends_an_account_or_says_what_will() {
    let home = Home::with_accounts("[limits]\nmax_rate_limit_wait = \"1s\"", 0);
    let mut client = home.client();
    for (state, enter) in STATES {
        for (command, more) in COMMANDS {
            client.add("a");
            enter(&mut client);
            let mut params: Value = serde_json::from_str(more).unwrap();
            params["account"] = json!("a");
            let answer = client.ask(command, &params);
            let after = client.call("account.list", json!({}))[0].clone();
            let what = format!("{command} on an account that is {state}: {answer}, now {after}");
            if let Some(error) = answer["error"].as_object() {
                // these kinds are exit code 5: the user is needed
                let kind = error["data"]["kind"].as_str().unwrap();
                assert!(["no_account", "needs_login", "needs_verification"].contains(&kind), "{what}");
                let hint = error["data"]["hint"].as_str().unwrap_or_default();
                assert!(hint.contains("lessor "), "{what}");
            } else {
                let has_limit = ["rate limited", "out of credit"].contains(&state) && command != "account.clear_limits";
                let is_denied = state.starts_with("refused") && command == "account.enable";
                let usable = after["state"] == "ready" || has_limit || is_denied;
                assert!(usable, "{what}");
            }
            client.call("account.remove", json!({ "account": "a" }));
        }
    }
}

/// What gives a known account a credential: the method, and what its answer must lead to.
const CREDENTIALS: [&str; 4] = ["login", "import", "import of an earlier token", "import of the same token"];

fn give(client: &mut Client, way: &str) -> Value {
    let import = |client: &mut Client, entry: Value| client.ask("account.import", &json!({ "entries": [entry] }));
    let from_tool = |secret: &str, ends: u64| {
        let mut entry = login_of_a(secret, ends);
        entry["tool"] = json!("claude-code");
        entry
    };
    match way {
        "login" => client.ask("account.add", &login_of_a("at-canary-new", ENDS + 1)),
        "import" => import(client, from_tool("at-canary-new", ENDS + 1)),
        "import of an earlier token" => import(client, from_tool("at-canary-old", ENDS - 1)),
        _ => import(client, from_tool("at-canary-a", ENDS)),
    }
}

/// When the token of a login ends.
const ENDS: u64 = 4_102_444_800_000;

fn login_of_a(secret: &str, ends: u64) -> Value {
    json!({ "provider": "anthropic", "kind": "oauth", "secret": secret, "label": "a", "email": "a@example.org",
        "expires_at": ends })
}

#[test]
fn a_new_credential_ends_what_was_refused_and_the_same_one_ends_nothing() {
    let home = Home::with_accounts("[limits]\nmax_rate_limit_wait = \"1s\"", 0);
    let mut client = home.client();
    let states = STATES
        .into_iter()
        .filter(|(state, _)| *state != "ended")
        .chain([("refused for its organisation", closed as Enter), ("without a model", lacks_model as Enter)]);
    for (state, enter) in states {
        for way in CREDENTIALS {
            let mut login = login_of_a("at-canary-a", ENDS);
            login["use"] = json!(["any"]);
            client.call("account.add", login);
            enter(&mut client);
            let before = client.call("account.list", json!({}))[0].clone();
            let answer = give(&mut client, way);
            let accounts = client.call("account.list", json!({}));
            let after = accounts[0].clone();
            let what = format!("{way} on an account that is {state}: {answer}, was {before}, now {after}");
            assert_eq!(accounts.as_array().unwrap().len(), 1, "{what}");
            let reasons = |account: &Value| -> Vec<Value> {
                account["limits"].as_array().unwrap().iter().map(|limit| limit["reason"].clone()).collect()
            };
            let is_refused = state.starts_with("refused");
            let is_taken = ["login", "import"].contains(&way);
            if is_taken && (is_refused || ["ready", "without a model"].contains(&state)) {
                assert_eq!((&after["state"], reasons(&after)), (&json!("ready"), vec![]), "{what}");
            } else if !is_taken {
                assert_eq!((&after["state"], reasons(&after)), (&before["state"], reasons(&before)), "{what}");
                let message = answer["result"]["entries"][0]["message"].as_str().unwrap();
                assert!(!is_refused || message.contains("log in again: lessor login anthropic"), "{what}");
            } else {
                // the user logs in after confirming the account; a quota is the account's, whatever its token
                let is_confirmed = state == "unverified" && way == "login";
                assert!(
                    after["state"] == if is_confirmed { json!("ready") } else { before["state"].clone() },
                    "{what}"
                );
                assert_eq!(reasons(&after), reasons(&before), "{what}");
                let message = answer["result"]["entries"][0]["message"].as_str().unwrap_or_default();
                let needs_user = way == "import" && ["disabled", "unverified"].contains(&state);
                assert!(!needs_user || message.contains("lessor account "), "{what}");
            }
            client.call("account.remove", json!({ "account": "a" }));
        }
    }
}

fn closed(client: &mut Client) {
    let body = json!({ "type": "error", "error": { "type": "invalid_request_error",
        "message": "This organization has been disabled." } });
    report(client, json!({ "status": 400, "body": body }));
}

fn lacks_model(client: &mut Client) {
    let ask = json!({ "provider": "anthropic", "model": "claude-opus-4", "agent": "claude", "account": "a" });
    let lease = client.call("lease.acquire", ask);
    let body = json!({ "type": "error", "error": { "type": "permission_error",
        "message": "Your plan does not have access to the model claude-opus-4" } });
    client.call("lease.report", json!({ "lease": lease["lease"], "status": 403, "body": body }));
    client.call("lease.release", reference(&lease));
}

#[test]
fn what_a_refused_account_needs_is_named_with_the_provider_s_words() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    let lease = client.acquire();
    let mut params = json!({ "lease": lease["lease"] });
    params["status"] = json!(401);
    params["body"] =
        json!({ "type": "error", "error": { "type": "authentication_error", "message": "invalid x-api-key" } });
    client.call("lease.report", params);
    let account = client.call("account.list", json!({}))[0].clone();
    assert_eq!((&account["state"], &account["limits"][0]["reason"]), (&json!("limited"), &json!("auth_failed")));
    assert!(account["state_reason"].as_str().unwrap().contains("anthropic has refused it for"), "{account}");
    assert!(account["limits"][0]["evidence"].as_str().unwrap().contains("invalid x-api-key"), "{account}");
    let status = client.call("status", json!({}));
    assert_eq!((&status["accounts"]["limited"], &status["accounts"]["partly_limited"]), (&json!(1), &json!(0)));
}

#[test]
fn a_limit_on_one_model_limits_the_account_partly() {
    let home = Home::with_accounts("", 1);
    let mut client = home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "model": "claude-opus-4" }));
    let mut params = json!({ "lease": lease["lease"] });
    params["status"] = json!(429);
    params["headers"] = json!({
        "anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-5h-status": "allowed",
        "anthropic-ratelimit-unified-7d-status": "allowed", "anthropic-ratelimit-unified-7d_oi-status": "rejected",
        "anthropic-ratelimit-unified-7d_oi-utilization": "1.0", "anthropic-ratelimit-unified-7d_oi-reset": "4102444800",
    });
    params["body"] = json!({ "type": "error", "error": { "type": "rate_limit_error",
        "message": "limit for this model reached: claude-opus-4" } });
    client.call("lease.report", params);
    let account = client.call("account.list", json!({}))[0].clone();
    let status = client.call("status", json!({}));
    let seen = (&account["limits"][0]["scope"], &account["state"], &status["accounts"]["partly_limited"]);
    assert_eq!(seen, (&json!("model"), &json!("partly_limited"), &json!(1)), "{account}");
}

#[test]
fn a_preferred_account_that_does_not_exist_is_a_warning() {
    let home = Home::with_accounts("[selection]\npreferred_account = \"gone@example.org\"", 1);
    let mut client = home.client();
    let warnings = client.call("status", json!({}))["warnings"].to_string();
    assert!(warnings.contains("preferred_account") && warnings.contains("there is no account"), "{warnings}");
}

#[test]
fn an_ended_login_without_a_client_cannot_be_renewed() {
    let home = Home::with_accounts("", 0);
    let mut client = home.client();
    let ended = json!({ "provider": "google", "kind": "oauth", "secret": "at-canary-a", "refresh_token": "rt-canary-a",
        "label": "a", "expires_at": 1_600_000_000_000_u64 });
    client.call("account.add", ended);
    let account = client.call("account.list", json!({}))[0].clone();
    let totals = client.call("status", json!({}))["accounts"].clone();
    assert_eq!((&account["state"], &totals["cannot_renew"]), (&json!("cannot_renew"), &json!(1)), "{account}");
    assert!(account["state_reason"].as_str().unwrap().contains("cannot be renewed"), "{account}");
    assert_eq!(client.refused("account.refresh", json!({ "account": "a" })), "needs_login");
}
