//! Usage polling: within each provider's budget, and only with valid tokens.

use serde_json::{Value, json};

use crate::support::{Client, Home, wait_until};
use crate::upstream::Upstream;

const FAR: u64 = 4_102_444_800_000;

fn claude_usage() -> String {
    json!({
        "five_hour": { "utilization": 42.0, "resets_at": "2100-01-01T00:00:00Z" },
        "seven_day": { "utilization": 7.0, "resets_at": null },
    })
    .to_string()
}

fn login(client: &mut Client, provider: &str, label: &str, expires_at: u64) -> Value {
    let secret = format!("sk-canary-{label}");
    client.call(
        "account.add",
        json!({ "provider": provider, "kind": "oauth", "secret": secret, "refresh_token": "r", "label": label,
                "expires_at": expires_at, "account_id": label }),
    )
}

fn account(client: &mut Client, label: &str) -> Value {
    let accounts = client.call("account.list", json!({}));
    accounts.as_array().unwrap().iter().find(|account| account["label"] == label).unwrap().clone()
}

fn config(provider: &str, url: &str, poll: &str) -> String {
    format!("[quota]\npoll = \"{poll}\"\n[providers.{provider}]\nusage_url = \"{url}\"\n")
}

#[test]
fn polls_stay_within_the_budget_across_restarts() {
    let upstream = Upstream::new(|_, _| (200, "", claude_usage()));
    let mut home = Home::new(&config("anthropic", &format!("{}/own/usage", upstream.url), "1s"));
    home.start();
    let mut listener = home.client();
    listener.call("events.subscribe", json!({ "kinds": ["usage.updated"] }));
    let mut client = home.client();
    login(&mut client, "anthropic", "work", FAR);
    client.add("key");
    let event = listener.receive().unwrap();
    assert_eq!(
        (&event["params"]["kind"], &event["params"]["account"]["label"]),
        (&json!("usage.updated"), &json!("work"))
    );
    let usage = account(&mut client, "work")["usage"].clone();
    let row = |at: usize| (usage[at]["window"].clone(), usage[at]["utilization"].clone(), usage[at]["stale"].clone());
    assert_eq!(row(0), (json!("5h"), json!(0.42), json!(false)));
    assert_eq!(row(1), (json!("7d"), json!(0.07), json!(false)));
    // another call within the budget's pause is answered from memory
    for _ in 0..30 {
        assert_eq!(client.call("account.usage", json!({ "account": "work" }))["usage"][0]["utilization"], 0.42);
    }
    assert_eq!(client.call("account.usage", json!({ "account": "key" }))["usage"], json!([]));
    home.kill();
    home.start();
    let mut client = home.client();
    // after a restart the usage and the times of the polls are known
    wait_until("it is remembered", || account(&mut client, "work")["usage"][0]["utilization"] == 0.42);
    client.call("account.usage", json!({ "account": "work" }));
    let seen = upstream.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].line, "GET /own/usage HTTP/1.1");
    for header in ["authorization: bearer sk-canary-work", "anthropic-beta: oauth-2025-04-20", "user-agent: lessor/"] {
        assert!(seen[0].headers.contains(header), "{}", seen[0].headers);
    }
}

#[test]
fn a_refused_poll_is_reported_and_changes_no_usage() {
    let upstream = Upstream::new(|_, _| (429, "retry-after: 0\r\n", "{}".to_owned()));
    let mut home = Home::new(&config("anthropic", &upstream.url, "1s"));
    home.start();
    let mut client = home.client();
    login(&mut client, "anthropic", "work", FAR);
    wait_until("the failure is reported", || account(&mut client, "work")["usage_trouble"].is_string());
    for _ in 0..5 {
        client.call("account.usage", json!({ "account": "work" }));
    }
    let info = account(&mut client, "work");
    assert_eq!((&info["usage"], &info["state"]), (&json!([]), &json!("ready")), "{info}");
    assert!(info["usage_trouble"].as_str().unwrap().contains("429"), "{info}");
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].line.as_str()), (1, "GET /api/oauth/usage HTTP/1.1"));
    assert_eq!(home.output().matches("cannot be read").count(), 1, "one line for one change");
}

#[test]
fn a_usage_query_that_is_not_allowed_ends_no_login() {
    let body = r#"{"type":"error","error":{"type":"permission_error","message":"missing scope user:profile"}}"#;
    for status in [401, 403] {
        let upstream = Upstream::new(move |_, _| (status, "", body.to_owned()));
        let mut home = Home::new(&config("anthropic", &upstream.url, "15m"));
        home.start();
        let mut client = home.client();
        login(&mut client, "anthropic", "work", FAR);
        wait_until("the failure is reported", || account(&mut client, "work")["usage_trouble"].is_string());
        let info = account(&mut client, "work");
        assert_eq!((&info["state"], &info["limits"]), (&json!("ready"), &json!([])), "{status} {info}");
        let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "agent": "claude" }));
        assert_eq!(lease["account"]["label"], "work");
    }
}

#[test]
fn no_poll_is_sent_when_disabled_or_with_an_expired_token() {
    let upstream = Upstream::new(|_, _| {
        let window = json!({ "used_percent": 100, "limit_window_seconds": 604_800, "reset_after_seconds": 60 });
        (200, "", json!({ "plan_type": "plus", "rate_limit": { "primary_window": window } }).to_string())
    });
    let mut home = Home::new(&config("openai", &format!("{}/usage", upstream.url), "off"));
    home.start();
    let mut client = home.client();
    login(&mut client, "openai", "ended", 1_000);
    login(&mut client, "openai", "work", FAR);
    assert_eq!(client.call("account.usage", json!({ "account": "ended" }))["usage"], json!([]));
    assert_eq!(upstream.seen().len(), 0);
    let info = client.call("account.usage", json!({ "account": "work" }));
    assert_eq!(
        (&info["plan"], &info["tier"], &info["usage"][0]["window"]),
        (&json!("plus"), &json!("pro"), &json!("7d"))
    );
    assert!(upstream.seen()[0].headers.contains("chatgpt-account-id: work"), "{:?}", upstream.seen());
    let asked_for_usage = || upstream.seen().iter().filter(|request| request.line.contains("/usage")).count();
    // it is polled when it is due
    login(&mut client, "openai", "home", FAR);
    std::fs::write(home.path().join("config.toml"), config("openai", &format!("{}/usage", upstream.url), "1h"))
        .unwrap();
    client.call("config.reload", json!({}));
    wait_until("it is asked", || account(&mut client, "home")["plan"] == "plus");
    assert_eq!(asked_for_usage(), 2);
}

#[test]
fn a_required_confirmation_is_reported_with_its_link_and_the_user_can_confirm_it() {
    let upstream = Upstream::new(|_, _| {
        let refused = json!({ "error": { "code": 403, "status": "PERMISSION_DENIED", "details": [
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "VALIDATION_REQUIRED" },
            { "@type": "type.googleapis.com/google.rpc.Help", "links": [{ "url": "https://accounts.google.com/verify" }] },
        ] } });
        (403, "", refused.to_string())
    });
    let mut home = Home::new(&config("google", &upstream.url, "1h"));
    home.start();
    let mut client = home.client();
    login(&mut client, "google", "work", FAR);
    wait_until("it is known", || account(&mut client, "work")["state"] == "needs_verification");
    let info = account(&mut client, "work");
    assert_eq!(info["state_link"], "https://accounts.google.com/verify", "{info}");
    assert_eq!(
        client.refused("lease.acquire", json!({ "provider": "google", "agent": "gemini" })),
        "needs_verification"
    );
    // after a refusal without a time the next poll is an hour later
    let answer = client.ask("account.verify", &json!({ "account": "work" }));
    assert_eq!(answer["error"]["data"]["kind"], "needs_verification", "{answer}");
    assert!(
        answer["error"]["data"]["hint"].as_str().unwrap().contains("https://accounts.google.com/verify"),
        "{answer}"
    );
    // the user's confirmation is sufficient
    let info = client.call("account.verify", json!({ "account": "work", "confirmed": true }));
    assert_eq!((&info["state"], &info["state_link"]), (&json!("ready"), &Value::Null), "{info}");
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn windows_of_google_are_assigned_to_their_quotas() {
    let upstream = Upstream::new(|request, _| {
        let body = match request.line.split([':', ' ']).nth(2).unwrap_or_default() {
            "loadCodeAssist" => json!({ "paidTier": { "id": "g1-pro-tier" }, "cloudaicompanionProject": "proj-7" }),
            "fetchAvailableModels" => {
                json!({ "models": { "gemini-3-pro-high": { "quotaInfo": { "remainingFraction": 0.25 } } } })
            }
            _ => json!({ "buckets": [{ "modelId": "gemini-2.5-pro", "remainingFraction": 1 }] }),
        };
        (200, "", body.to_string())
    });
    let mut home = Home::new(&config("google", &upstream.url, "1h"));
    home.start();
    let mut client = home.client();
    login(&mut client, "google", "work", FAR);
    wait_until("it is known", || !account(&mut client, "work")["usage"].as_array().unwrap().is_empty());
    let info = account(&mut client, "work");
    assert_eq!(
        (&info["plan"], &info["tier"], &info["project_id"]),
        (&json!("g1-pro-tier"), &json!("pro"), &json!("proj-7"))
    );
    let keys: Vec<&Value> = info["usage"].as_array().unwrap().iter().map(|window| &window["key"]).collect();
    assert_eq!(keys, ["gemini-antigravity:gemini-3-pro", "gemini-cli:gemini-2.5-pro"]);
    let asked: Vec<String> = upstream.seen().iter().map(|request| request.line.clone()).collect();
    assert!(asked.contains(&"POST /v1internal:fetchAvailableModels HTTP/1.1".to_owned()), "{asked:?}");
    assert!(upstream.seen()[1].body.contains("proj-7"), "{:?}", upstream.seen());
}

#[test]
fn the_summary_of_antigravity_is_believed_and_models_that_are_all_unused_are_not() {
    for (has_summary, expected) in [(true, vec!["claude", "gemini-antigravity"]), (false, vec![])] {
        let upstream = Upstream::new(move |request, _| {
            let unused = json!({ "quotaInfo": { "remainingFraction": 1 } });
            let bucket = |id: &str, left: f64| json!({ "bucketId": id, "window": "weekly", "remainingFraction": left });
            let body = match request.line.split([':', ' ']).nth(2).unwrap_or_default() {
                "loadCodeAssist" => json!({ "paidTier": { "id": "g1-pro-tier" }, "cloudaicompanionProject": "proj-7" }),
                "retrieveUserQuotaSummary" if has_summary => json!({ "groups": [
                    { "displayName": "Gemini Models", "buckets": [bucket("gemini-weekly", 0.25)] },
                    { "displayName": "Claude and GPT models", "buckets": [bucket("3p-weekly", 1.0)] },
                ] }),
                "retrieveUserQuotaSummary" => return (404, "", "{}".to_owned()),
                "fetchAvailableModels" => {
                    json!({ "models": { "gemini-3-pro-high": unused, "claude-opus-4-6": unused } })
                }
                _ => json!({}),
            };
            (200, "", body.to_string())
        });
        let mut home = Home::new(&config("google", &upstream.url, "1h"));
        home.start();
        let mut client = home.client();
        login(&mut client, "google", "work", FAR);
        wait_until("the plan is known", || account(&mut client, "work")["plan"] == "g1-pro-tier");
        let info = account(&mut client, "work");
        let keys: Vec<&Value> = info["usage"].as_array().unwrap().iter().map(|window| &window["key"]).collect();
        assert_eq!(keys, expected, "{info}");
    }
}

#[test]
fn a_login_that_google_does_not_serve_says_so() {
    for status in [200, 403] {
        let upstream =
            Upstream::new(move |request, _| match request.line.split([':', ' ']).nth(2).unwrap_or_default() {
                "loadCodeAssist" => {
                    let why = "This client is no longer supported for Gemini Code Assist for individuals.";
                    let refused = json!({ "reasonCode": "UNSUPPORTED_CLIENT", "reasonMessage": why });
                    (200, "", json!({ "ineligibleTiers": [refused] }).to_string())
                }
                _ => (status, "", "{}".to_owned()),
            });
        let mut home = Home::new(&config("google", &upstream.url, "1h"));
        home.start();
        let mut client = home.client();
        login(&mut client, "google", "work", FAR);
        wait_until("it is said", || {
            let trouble = account(&mut client, "work")["usage_trouble"].to_string();
            trouble.contains("no longer supported") && trouble.contains("ended in June 2026")
        });
    }
}
