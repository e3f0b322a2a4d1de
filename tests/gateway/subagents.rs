//! Sub-agents of a run: where their requests go, and that none sees a limit on how many requests an account takes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, request};
use crate::support::{Client, wait_until};
use crate::upstream::{Message, Upstream, respond};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"too many requests at once"}}"#;
const A_SECOND: &str = "content-type: application/json\r\nretry-after: 1\r\n";
/// How long the model takes.
const ANSWER: Duration = Duration::from_millis(60);

/// What an upstream has seen.
#[derive(Clone, Default)]
struct SeenRequests(Arc<Mutex<SeenCounts>>);

#[derive(Clone, Default)]
struct SeenCounts {
    at_once: BTreeMap<String, usize>,
    most_at_once: usize,
    served: BTreeMap<String, usize>,
    refused: usize,
}

impl SeenRequests {
    fn counts(&self) -> SeenCounts {
        self.0.lock().unwrap().clone()
    }

    /// An upstream that takes so many requests of an account at once, and each for a while.
    fn upstream(&self, most: usize, answer: Duration) -> Upstream {
        let seen = self.clone();
        Upstream::start(move |message, stream| {
            let key = message.key();
            let is_refused = {
                let counts = &mut *seen.0.lock().unwrap();
                let at_once = counts.at_once.entry(key.clone()).or_default();
                *at_once += 1;
                let is_refused = *at_once > most;
                if !is_refused {
                    counts.most_at_once = counts.most_at_once.max(*at_once);
                }
                is_refused
            };
            if !is_refused {
                std::thread::sleep(answer);
            }
            {
                let counts = &mut *seen.0.lock().unwrap();
                *counts.at_once.get_mut(&key).unwrap() -= 1;
                if is_refused {
                    counts.refused += 1;
                } else {
                    *counts.served.entry(key).or_default() += 1;
                }
            }
            if is_refused { respond(stream, 429, A_SECOND, LIMITED) } else { respond(stream, 200, "", "{}") }
        })
    }
}

/// A request of the run's agent, or of a sub-agent of it.
fn of(key: &str, subagent: Option<(&str, Option<&str>)>) -> Vec<u8> {
    let mut headers = format!("x-api-key: {key}\r\nx-claude-code-session-id: session\r\n");
    if let Some((id, parent)) = subagent {
        headers += &format!("x-claude-code-agent-id: {id}\r\n");
        headers += &parent.map(|parent| format!("x-claude-code-parent-agent-id: {parent}\r\n")).unwrap_or_default();
    }
    request("POST /anthropic/v1/messages", &headers, r#"{"model":"claude-sonnet-4-5","messages":[]}"#)
}

fn ask(gateway: &TestGateway, key: &str, subagent: &str) -> String {
    account(&gateway.http_client().send(&of(key, Some((subagent, None)))))
}

fn account(response: &Message) -> String {
    assert_eq!(response.status(), 200, "{response:?}");
    response.header("x-lessor-account").unwrap().to_owned()
}

fn leases(client: &mut Client) -> Vec<Value> {
    client.call("lease.list", json!({})).as_array().unwrap().clone()
}

fn config(placement: &str) -> String {
    format!("[selection]\nsubagents = \"{placement}\"\n")
}

/// The table of docs/selection-and-limits.md: `cargo test --test gateway subagents::fifty -- --nocapture --test-threads 1`.
fn fifty(placement: &str, most: usize) -> (SeenCounts, usize) {
    const SUBAGENTS: usize = 50;
    const REQUESTS: usize = 3;
    let seen = SeenRequests::default();
    let gateway = TestGateway::with(&config(placement), "abcde", seen.upstream(most, ANSWER));
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    let parent = account(&gateway.http_client().send(&of(&key, None)));
    assert_eq!(lease["account"]["label"], parent.as_str());
    let began = Instant::now();
    let (port, key) = (gateway.port, &key);
    let refused: usize = std::thread::scope(|scope| {
        let run = |number: usize| {
            let id = format!("agent-{number}");
            let mut http = HttpClient::connect(port);
            let answers: Vec<Message> = (0..REQUESTS).map(|_| http.send(&of(key, Some((&id, None))))).collect();
            let refused = answers.iter().filter(|answer| answer.status() != 200);
            refused.inspect(|answer| eprintln!("{}: {}", answer.status(), answer.text())).count()
        };
        let all: Vec<_> = (0..SUBAGENTS).map(|number| scope.spawn(move || run(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    let took = began.elapsed();
    let counts = seen.counts();
    let per_account =
        ["k-a", "k-b", "k-c", "k-d", "k-e"].map(|key| counts.served.get(key).copied().unwrap_or_default());
    let limit = if most > 1_000 { "none".to_owned() } else { most.to_string() };
    eprintln!(
        "| {placement} | {limit} | {per_account:?} (parent: {parent}) | {} | {} | {refused} | {:.1} s |",
        counts.most_at_once,
        counts.refused,
        took.as_secs_f64()
    );
    assert_eq!(counts.served.values().sum::<usize>(), SUBAGENTS * REQUESTS + 1);
    (counts, refused)
}

#[test]
fn fifty_with_their_parent() {
    let (counts, refused) = fifty("with-parent", usize::MAX);
    assert_eq!((counts.served.len(), counts.refused, refused), (1, 0, 0));
}

#[test]
fn fifty_spread() {
    let (counts, refused) = fifty("spread", usize::MAX);
    assert!(counts.served.values().all(|served| (24..=36).contains(served)), "{:?}", counts.served);
    assert_eq!((counts.refused, refused), (0, 0));
}

#[test]
fn fifty_automatically() {
    let (counts, refused) = fifty("auto", usize::MAX);
    assert!(counts.served.values().all(|served| (24..=36).contains(served)), "{:?}", counts.served);
    assert_eq!((counts.refused, refused), (0, 0));
}

#[test]
fn fifty_with_their_parent_and_a_limit_of_eight_at_once() {
    let (_, refused) = fifty("with-parent", 8);
    assert_eq!(refused, 0);
}

#[test]
fn fifty_spread_and_a_limit_of_eight_at_once() {
    let (counts, refused) = fifty("spread", 8);
    assert_eq!(refused, 0);
    assert!(counts.refused <= 25, "{} of 150 requests were refused", counts.refused);
}

#[test]
fn fifty_automatically_and_a_limit_of_eight_at_once() {
    let (counts, refused) = fifty("auto", 8);
    assert_eq!(refused, 0);
    assert!(counts.refused <= 25, "{} of 150 requests were refused", counts.refused);
}

#[test]
fn a_sub_agent_keeps_its_account_and_its_lease_ends_with_the_run() {
    let gateway = TestGateway::with(&config("spread"), "abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    let parent = lease["account"]["label"].as_str().unwrap().to_owned();
    let first: Vec<String> = ["x", "y", "z"].map(|id| ask(&gateway, &key, id)).to_vec();
    assert!(first[0] != first[1] && !first[..2].contains(&parent), "{first:?}");
    for _ in 0..3 {
        assert_eq!(["x", "y", "z"].map(|id| ask(&gateway, &key, id)).to_vec(), first);
        assert_eq!(account(&gateway.http_client().send(&of(&key, None))), parent);
    }
    let held = leases(&mut client);
    let subagents: BTreeSet<&str> = held.iter().filter_map(|lease| lease["subagent"].as_str()).collect();
    assert_eq!((held.len(), subagents), (4, BTreeSet::from(["x", "y", "z"])));
    client.call("lease.release", json!({ "lease": lease["lease"] }));
    assert!(leases(&mut client).is_empty());
}

#[test]
fn parallel_runs_keep_distinct_accounts_beside_the_sub_agents_of_one() {
    let gateway = TestGateway::with(&config("spread"), "abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut clients: Vec<_> = (0..3).map(|_| gateway.home.client()).collect();
    let (first, key) = gateway.lease(&mut clients[0]);
    for number in 0..9 {
        ask(&gateway, &key, &number.to_string());
    }
    let others = [1, 2].map(|at| gateway.lease(&mut clients[at]).0);
    let accounts: BTreeSet<&str> =
        [&first, &others[0], &others[1]].into_iter().map(|lease| lease["account"]["label"].as_str().unwrap()).collect();
    assert_eq!(accounts.len(), 3);
}

#[test]
fn automatically_the_first_few_are_with_their_parent_and_a_limit_moves_one_only() {
    let upstream = Upstream::start(|message, stream| {
        let is_refused = message.header("x-claude-code-agent-id") == Some("limited") && message.key() == "k-a";
        if is_refused { respond(stream, 429, "retry-after: 3600\r\n", LIMITED) } else { respond(stream, 200, "", "{}") }
    });
    let gateway = TestGateway::with(&config("auto"), "abc", upstream);
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    assert_eq!(lease["account"]["label"], "a");
    let on: Vec<String> = ["1", "2", "3", "4", "5"].map(|id| ask(&gateway, &key, id)).to_vec();
    assert_eq!(on[..4], ["a"; 4]);
    assert_ne!(on[4], "a", "there is no room for the cache of another one");
    // one of a sub-agent's own is with its parent as well, here the sub-agent
    let grandchild = gateway.http_client().send(&of(&key, Some(("6", Some("5")))));
    assert_eq!(account(&grandchild), on[4]);
    let lease = lease_of(&mut client, "1")["lease"].clone();
    let explained = client.call("explain", json!({ "what": lease }));
    assert_eq!(explained["decided"]["by"], "parent", "{explained}");
    let lease = lease_of(&mut client, "5")["lease"].clone();
    let explained = client.call("explain", json!({ "what": lease }));
    assert_eq!(explained["decided"]["apart"], "subagents", "{explained}");
    assert_ne!(ask(&gateway, &key, "limited"), "a");
    assert_eq!(lease_of_run(&mut client)["account"]["label"], "a", "the run's own lease stays");
}

fn lease_of(client: &mut Client, subagent: &str) -> Value {
    leases(client).into_iter().find(|lease| lease["subagent"] == subagent).unwrap()
}

fn lease_of_run(client: &mut Client) -> Value {
    leases(client).into_iter().find(|lease| lease["subagent"].is_null()).unwrap()
}

#[test]
fn a_run_on_one_account_keeps_its_sub_agents_there() {
    let gateway = TestGateway::with(&config("spread"), "abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "account": "b" }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    for number in 0..6 {
        assert_eq!(ask(&gateway, &key, &number.to_string()), "b");
    }
}

#[test]
fn sub_agents_of_a_lasting_key_are_spread_and_stay() {
    let gateway = TestGateway::with(&config("spread"), "abc", Upstream::by_key(|_| (200, "", "{}")));
    let ids = ["1", "2", "3", "4", "5", "6"];
    let first: Vec<String> = ids.map(|id| ask(&gateway, &gateway.key, id)).to_vec();
    let count = |letter: &str| first.iter().filter(|on| *on == letter).count();
    assert_eq!([count("a"), count("b"), count("c")], [2, 2, 2], "{first:?}");
    assert_eq!(ids.map(|id| ask(&gateway, &gateway.key, id)).to_vec(), first);
}

/// An upstream that answers when the test says so.
struct HeldUpstream {
    answer: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
    send: std::sync::mpsc::Sender<()>,
}

impl HeldUpstream {
    fn new() -> Self {
        let (send, answer) = std::sync::mpsc::channel();
        Self { answer: Arc::new(Mutex::new(answer)), send }
    }

    fn upstream(&self) -> Upstream {
        let answer = self.answer.clone();
        Upstream::start(move |_, stream| {
            answer.lock().unwrap().recv().unwrap();
            respond(stream, 200, "", "{}")
        })
    }
}

#[test]
fn at_the_cap_a_request_goes_to_another_account_or_waits_and_the_lease_stays() {
    let held = HeldUpstream::new();
    let gateway = TestGateway::with("[leases]\nmax_in_flight = 1\n", "ab", held.upstream());
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    let own = lease["account"]["label"].as_str().unwrap().to_owned();
    let mut clients: Vec<HttpClient> = Vec::new();
    for number in 0..3 {
        let mut http = gateway.http_client();
        http.write(&of(&key, None));
        clients.push(http);
        let wanted = (number + 1).min(2);
        wait_until("the request is under way", || gateway.upstream.received().len() == wanted);
    }
    wait_until("the third request waits", || gateway.metrics().contains("lessor_in_flight_waiting 1\n"));
    let on: BTreeSet<String> = gateway.upstream.keys().into_iter().collect();
    assert_eq!(on.len(), 2, "the second one went to the other account");
    let listed = leases(&mut client);
    assert!(listed.iter().any(|one| one["lease"] == lease["lease"]), "{listed:?}");
    (0..3).for_each(|_| held.send.send(()).unwrap());
    let answers: Vec<String> = clients.iter_mut().map(|http| account(&http.receive())).collect();
    assert_eq!(answers[0], own);
    assert_ne!(answers[1], own);
    wait_until("only the run's lease is left", || leases(&mut client).len() == 1);
}

#[test]
fn a_reload_raises_the_cap_for_the_requests_that_wait() {
    let held = HeldUpstream::new();
    let gateway = TestGateway::with("[leases]\nmax_in_flight = 1\n", "a", held.upstream());
    let mut sent: Vec<HttpClient> = (0..3).map(|_| gateway.http_client()).collect();
    sent.iter_mut().for_each(|http| http.write(&of(&gateway.key, None)));
    wait_until("two wait", || gateway.metrics().contains("lessor_in_flight_waiting 2\n"));
    assert!(gateway.metrics().contains("lessor_account_in_flight_cap{provider=\"anthropic\",account=\"a\"} 1\n"));
    assert_eq!(
        (gateway.account("a")["in_flight"].as_u64(), gateway.account("a")["in_flight_cap"].as_u64()),
        (Some(1), Some(1))
    );
    let path = gateway.home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap().replace("max_in_flight = 1", "max_in_flight = 3");
    std::fs::write(&path, config).unwrap();
    gateway.home.client().call("config.reload", json!({}));
    wait_until("all are under way", || gateway.upstream.received().len() == 3);
    (0..3).for_each(|_| held.send.send(()).unwrap());
    sent.iter_mut().for_each(|http| assert_eq!(http.receive().status(), 200));
}

#[test]
fn the_requests_of_one_key_wait_when_as_many_are_under_way_and_another_key_s_do_not() {
    let held = HeldUpstream::new();
    let gateway = TestGateway::with("[leases]\nmax_in_flight_per_key = 2\n", "ab", held.upstream());
    let mut sent: Vec<HttpClient> = Vec::new();
    let mut send = |key: &str| {
        let mut http = gateway.http_client();
        http.write(&of(key, None));
        sent.push(http);
    };
    (0..4).for_each(|_| send(&gateway.key));
    wait_until("two wait", || gateway.metrics().contains("lessor_in_flight_waiting 2\n"));
    let other =
        gateway.home.client().call("gateway.key", json!({ "agent": "test" }))["key"].as_str().unwrap().to_owned();
    send(&other);
    wait_until("the other key's is under way", || gateway.upstream.received().len() == 3);
    (0..5).for_each(|_| held.send.send(()).unwrap());
    sent.iter_mut().for_each(|http| assert_eq!(http.receive().status(), 200));
}

#[test]
fn the_lease_of_a_run_is_the_one_that_is_moved_by_its_process_and_a_sub_agents_events_say_so() {
    let upstream = Upstream::start(|message, stream| {
        let is_refused = message.header("x-claude-code-agent-id").is_some() && message.key() == "k-b";
        if is_refused { respond(stream, 429, "retry-after: 3600\r\n", LIMITED) } else { respond(stream, 200, "", "{}") }
    });
    let gateway = TestGateway::with(&config("spread"), "abc", upstream);
    let mut client = gateway.home.client();
    let mut events = gateway.home.client();
    events.call("events.subscribe", json!({ "kinds": ["lease.moved"] }));
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": { "pid": std::process::id() } }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let ids = ["1", "2", "3", "4"];
    let on = ids.map(|id| ask(&gateway, &key, id));
    let moved = client.call("lease.move", json!({ "pid": std::process::id(), "to": "c" }));
    assert_eq!((&moved["from"]["label"], &moved["to"]["label"]), (&lease["account"]["label"], &json!("c")));
    assert_eq!(ids.map(|id| ask(&gateway, &key, id)), on, "the sub-agents stay");
    assert_eq!(account(&gateway.http_client().send(&of(&key, None))), "c");
    let (mut of_run, mut of_subagents) = (0, 0);
    while of_run == 0 {
        let event = events.receive().unwrap()["params"].clone();
        *(if event["subagent"].is_null() { &mut of_run } else { &mut of_subagents }) += 1;
    }
    assert!(of_subagents > 0, "those that began on b were moved before");
}

#[test]
fn after_a_restart_the_key_of_a_run_serves_it_and_its_sub_agents_and_no_lease_is_left_over() {
    let mut gateway = TestGateway::with(&config("spread"), "abc", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": { "pid": std::process::id() } }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let ids = ["1", "2", "3"];
    let on = ids.map(|id| ask(&gateway, &key, id));
    for is_killed in [false, true] {
        if is_killed {
            gateway.home.kill();
            gateway.home.start();
            gateway.connect();
        } else {
            gateway.home.client().restart(60_000);
        }
        let mut client = gateway.home.client();
        assert_eq!(leases(&mut client).len(), 1, "the run's, which alone is stored");
        assert_eq!(ids.map(|id| ask(&gateway, &key, id)), on, "killed: {is_killed}");
        assert_eq!(account(&gateway.http_client().send(&of(&key, None))), lease["account"]["label"].as_str().unwrap());
        assert_eq!(leases(&mut client).len(), 4);
        let to = json!({ "pid": std::process::id(), "to": lease["account"]["id"] });
        let answer = client.ask("lease.move", &to).to_string();
        assert!(answer.contains(" already"), "the run's lease is the one that is meant: {answer}");
    }
    let mut client = gateway.home.client();
    let run = lease_of_run(&mut client)["lease"].clone();
    client.call("lease.release", json!({ "lease": run }));
    assert!(leases(&mut client).is_empty());
    assert_eq!(gateway.http_client().send(&of(&key, Some(("1", None)))).status(), 401);
}
