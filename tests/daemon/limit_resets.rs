//! Banked limit resets: shown always, used only by a call, and each of them once, whatever gets lost.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Client, Home, wait_until};
use crate::upstream::{Answer, Upstream};

const FAR: u64 = 4_102_444_800_000;
const CREDITS: &str = "/backend-api/wham/rate-limit-reset-credits";

/// A ChatGPT plan: how much of it is used, its resets, and which uses it has seen.
#[derive(Default)]
struct Plan {
    credits: Vec<&'static str>,
    /// The resets that were used, each with the id of its use.
    used: Vec<(String, String)>,
    /// The bodies of all requests to use one.
    requests: Vec<Value>,
    used_percent: u32,
    /// The status of the next answers to a use, after it has had its effect.
    lost_answers: Vec<u16>,
    /// The status of the next answers to a use, without effect.
    refusals: Vec<u16>,
    /// Nothing of it is used, as far as the provider is concerned.
    nothing_to_reset: bool,
}

impl Plan {
    fn answer(&mut self, line: &str, body: &str) -> Answer {
        let path = line.split(' ').nth(1).unwrap_or_default();
        if path.ends_with("/usage") {
            let window = json!({ "used_percent": self.used_percent, "limit_window_seconds": 604_800, "reset_after_seconds": 90_000 });
            return (200, "", json!({ "plan_type": "plus", "rate_limit": { "primary_window": window } }).to_string());
        }
        if path == CREDITS {
            let credit = |id: &&str| {
                let status = if self.used.iter().any(|(used, _)| used == id) { "redeemed" } else { "available" };
                json!({ "id": id, "status": status, "expires_at": "2099-01-01T00:00:00Z", "title": "Full reset" })
            };
            let credits: Vec<Value> = self.credits.iter().map(credit).collect();
            return (200, "", json!({ "credits": credits }).to_string());
        }
        assert_eq!(line, format!("POST {CREDITS}/consume HTTP/1.1"));
        let (status, code) = self.consume(body);
        (status, "", json!({ "code": code, "windows_reset": 1 }).to_string())
    }

    fn consume(&mut self, body: &str) -> (u16, &'static str) {
        let request: Value = serde_json::from_str(body).unwrap();
        self.requests.push(request.clone());
        if !self.refusals.is_empty() {
            return (self.refusals.remove(0), "refused");
        }
        let (credit, id) = (request["credit_id"].as_str().unwrap(), request["redeem_request_id"].as_str().unwrap());
        let code = match () {
            () if self.nothing_to_reset => "nothing_to_reset",
            () if self.used.iter().any(|(used, _)| used == credit) => "already_redeemed",
            () => {
                self.used.push((credit.to_owned(), id.to_owned()));
                self.used_percent = 0;
                "reset"
            }
        };
        (if self.lost_answers.is_empty() { 200 } else { self.lost_answers.remove(0) }, code)
    }
}

struct World {
    home: Home,
    plan: Arc<Mutex<Plan>>,
    _upstream: Upstream,
}

impl World {
    fn new(plan: Plan) -> Self {
        let plan = Arc::new(Mutex::new(plan));
        let of_upstream = plan.clone();
        let upstream =
            Upstream::new(move |request, _| of_upstream.lock().unwrap().answer(&request.line, &request.body));
        let config = format!("[quota]\npoll = \"1h\"\n[providers.openai]\nusage_url = \"{}\"\n", upstream.url);
        let mut home = Home::new(&config);
        home.start();
        let world = Self { home, plan, _upstream: upstream };
        let mut client = world.home.client();
        let login = json!({ "provider": "openai", "kind": "oauth", "secret": "sk-canary-work", "refresh_token": "r",
                            "label": "work", "expires_at": FAR, "account_id": "work" });
        client.call("account.add", login);
        wait_until("its resets are known", || account(&mut client)["resets"].is_object());
        world
    }

    fn plan<T>(&self, of: impl Fn(&Plan) -> T) -> T {
        of(&self.plan.lock().unwrap())
    }
}

fn account(client: &mut Client) -> Value {
    client.call("account.list", json!({}))[0].clone()
}

fn reset(client: &mut Client) -> Value {
    client.ask("account.reset", &json!({ "account": "work" }))
}

#[test]
fn a_reset_is_shown_used_once_and_ends_the_limits_that_the_usage_disproves() {
    let world = World::new(Plan { credits: vec!["one", "two"], used_percent: 100, ..Plan::default() });
    let mut client = world.home.client();
    let shown = account(&mut client)["resets"].clone();
    assert_eq!((&shown["available"], &shown["unfinished"]), (&json!(2), &json!(false)));
    assert_eq!(shown["next_expires_at"], 4_070_908_800_000_u64, "{shown}");
    let lease = client.call("lease.acquire", json!({ "provider": "openai", "agent": "codex" }));
    let body = json!({ "error": { "type": "usage_limit_reached", "resets_in_seconds": 80_000 } }).to_string();
    client.call("lease.report", json!({ "lease": lease["lease"], "status": 429, "headers": {}, "body": body }));
    assert_eq!(account(&mut client)["state"], "limited");
    let mut listener = world.home.client();
    listener.call("events.subscribe", json!({ "kinds": ["account.reset"] }));

    let answer = reset(&mut client)["result"].clone();
    assert_eq!((&answer["windows"], &answer["was_used_before"]), (&json!(1), &json!(false)), "{answer}");
    let after = &answer["account"];
    assert_eq!((&after["state"], &after["usage"][0]["utilization"]), (&json!("ready"), &json!(0.0)), "{answer}");
    assert_eq!(after["resets"]["available"], 1);
    let event = listener.receive().unwrap();
    assert_eq!(event["params"]["account"]["label"], "work", "{event}");
    assert_eq!(event["params"]["reason"], "1 window was reset");
    let recorded = client.call("history.query", json!({ "of": "events", "kinds": ["account.reset"] }));
    assert_eq!(recorded["events"].as_array().unwrap().len(), 1);
    assert_eq!(world.plan(|plan| plan.used.len()), 1);
}

#[test]
fn a_lost_answer_is_followed_by_the_same_use_also_after_a_crash() {
    for crashes in [false, true] {
        let plan = Plan { credits: vec!["one", "two"], used_percent: 100, lost_answers: vec![502], ..Plan::default() };
        let mut world = World::new(plan);
        let mut client = world.home.client();
        let lost = reset(&mut client);
        assert_eq!(lost["error"]["data"]["kind"], "provider_failed", "{lost}");
        assert!(lost["error"]["data"]["hint"].as_str().unwrap().contains("uses no second reset"), "{lost}");
        assert_eq!(account(&mut client)["resets"]["unfinished"], true);
        if crashes {
            world.home.kill();
            world.home.start();
            client = world.home.client();
            wait_until("it is remembered", || account(&mut client)["resets"]["unfinished"] == true);
        }
        let answer = reset(&mut client)["result"].clone();
        assert_eq!(answer["was_used_before"], true, "{answer}");
        assert_eq!(answer["account"]["resets"]["unfinished"], false, "{answer}");
        let requests = world.plan(|plan| plan.requests.clone());
        assert_eq!((requests.len(), &requests[0]), (2, &requests[1]), "the same reset, the same id");
        // the next one is another use
        assert_eq!(reset(&mut client)["result"]["was_used_before"], false);
        let used = world.plan(|plan| plan.used.clone());
        assert_eq!(used.iter().map(|(credit, _)| credit.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_ne!(used[0].1, used[1].1);
        assert_eq!(reset(&mut client)["error"]["data"]["kind"], "no_reset");
    }
}

#[test]
fn a_crash_before_the_answer_is_followed_by_the_same_use() {
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let plan = Arc::new(Mutex::new(Plan { credits: vec!["one"], ..Plan::default() }));
    let of_upstream = plan.clone();
    let upstream = Upstream::new(move |request, _| {
        let answer = of_upstream.lock().unwrap().answer(&request.line, &request.body);
        if request.line.starts_with("POST") && of_upstream.lock().unwrap().requests.len() == 1 {
            arrived.send(()).unwrap();
            let _the_daemon_is_dead = may_go_on.recv();
        }
        answer
    });
    let mut home = Home::new(&format!("[providers.openai]\nusage_url = \"{}\"\n", upstream.url));
    home.start();
    let mut client = home.client();
    let login = json!({ "provider": "openai", "kind": "oauth", "secret": "sk-canary-work", "refresh_token": "r",
                        "label": "work", "expires_at": FAR, "account_id": "work" });
    client.call("account.add", login);
    client.send("account.reset", &json!({ "account": "work" })).unwrap();
    has_arrived.recv_timeout(crate::support::PATIENCE).unwrap();
    home.kill();
    go_on.send(()).unwrap();
    home.start();
    let answer = reset(&mut home.client());
    assert_eq!(answer["result"]["was_used_before"], true, "{answer}");
    let plan = plan.lock().unwrap();
    assert_eq!((plan.requests.len(), &plan.requests[0]), (2, &plan.requests[1]));
}

#[test]
fn a_use_that_the_provider_refuses_is_over_and_says_why() {
    let world = World::new(Plan { credits: vec!["one"], refusals: vec![403], ..Plan::default() });
    let mut client = world.home.client();
    let refused = reset(&mut client);
    assert_eq!(refused["error"]["data"]["kind"], "provider_failed", "{refused}");
    assert_eq!(account(&mut client)["resets"]["unfinished"], false);
    // another use, with an id of its own
    assert_eq!(reset(&mut client)["result"]["was_used_before"], false);
    let requests = world.plan(|plan| plan.requests.clone());
    assert_ne!(requests[0]["redeem_request_id"], requests[1]["redeem_request_id"]);

    let world = World::new(Plan { credits: vec!["one"], nothing_to_reset: true, ..Plan::default() });
    let mut client = world.home.client();
    let kept = reset(&mut client);
    assert_eq!(kept["error"]["data"]["kind"], "no_reset", "{kept}");
    assert!(kept["error"]["message"].as_str().unwrap().contains("is kept"), "{kept}");
    assert_eq!(account(&mut client)["resets"]["available"], 1);
}

#[test]
fn accounts_without_resets_and_what_cannot_be_stored_are_refused_before_the_provider_is_asked() {
    let world = World::new(Plan { credits: vec!["one"], ..Plan::default() });
    let mut client = world.home.client();
    client.add("key");
    assert_eq!(client.refused("account.reset", json!({ "account": "key" })), "no_reset");
    assert_eq!(client.refused("account.reset", json!({ "account": "nobody" })), "unknown_account");
    let file = world.home.path().join("state/resets.json");
    std::fs::write(&file, "damaged").unwrap();
    assert_eq!(client.refused("account.reset", json!({ "account": "work" })), "io");
    assert_eq!(world.plan(|plan| plan.requests.len()), 0);
}
