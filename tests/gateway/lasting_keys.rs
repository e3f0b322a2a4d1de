//! Lasting keys: they are listed, limited and revoked, and only a hash of each is stored.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{HttpClient, TestGateway, messages, request};
use crate::support::wait_until;
use crate::upstream::{Upstream, begin_stream, chunk, respond};

/// A key file, and keys that the last version without a list made with it.
const OLD_SECRET: &str = "lessor-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const OLD_DATABASE: &str = include_str!("../../src/store/tests/golden/5.sql");
/// Of the agent `claude` with the label `my editor`.
const OLD_KEY: &str = "lk_0a8crebsfg97p387cdp62xb4cm56ty90cnj6jx3febk6htzmg57943068njwerrv5zwg";
const OTHER_OLD_KEY: &str = "lk_0aepxvvhztnpde80017v4sm8r1qra5b46mj4t0yj0550";
/// With the label `unseen`.
const UNSEEN_OLD_KEY: &str = "lk_09n6sykvevx44x000xtpwwv5cnq4xk5ebxxaqpxvtddrfr6byrhz0";

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";

/// Streams that begin, and send nothing more until their connection is closed.
fn silent_streams() -> Upstream {
    Upstream::start(|_, stream| {
        begin_stream(stream);
        chunk(stream, START);
        let _ended = stream.read(&mut [0]);
        false
    })
}

/// So many answers, then streams that begin, and send nothing more until their connection is closed.
fn silent_streams_after(answers: usize) -> Upstream {
    let served = AtomicUsize::new(0);
    Upstream::start(move |_, stream| {
        if served.fetch_add(1, Ordering::Relaxed) < answers {
            return respond(stream, 200, "", "{}");
        }
        begin_stream(stream);
        chunk(stream, START);
        let _ended = stream.read(&mut [0]);
        false
    })
}

/// Streams that send until their connection is closed.
fn endless_streams() -> Upstream {
    Upstream::start(|_, stream| {
        begin_stream(stream);
        chunk(stream, START);
        let piece = format!("data: {}\n\n", "x".repeat(8000));
        while chunk(stream, &piece) {}
        false
    })
}

fn served() -> Upstream {
    Upstream::by_key(|_| (200, "", "{}"))
}

impl TestGateway {
    fn new_key(&self, params: Value) -> (String, String) {
        let access = self.home.client().call("gateway.key", params);
        (access["key"].as_str().unwrap().to_owned(), access["id"].as_str().unwrap().to_owned())
    }

    fn keys(&self) -> Vec<Value> {
        self.home.client().call("gateway.keys", json!({})).as_array().unwrap().clone()
    }

    fn listed(&self, id: &str) -> Value {
        let found = self.keys().into_iter().find(|key| key["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is not listed"))
    }

    fn revoke(&self, name: &str) -> Value {
        self.home.client().call("gateway.revoke", json!({ "key": name }))
    }

    /// A response that has begun.
    fn stream_with(&self, key: &str) -> HttpClient {
        let mut http = self.http_client();
        http.write(&messages(key, r#"{"stream":true}"#));
        http.read_until("message_start");
        http
    }

    fn status_with(&self, key: &str) -> u16 {
        self.send_with(key).status()
    }

    /// All bytes of the data directory, and of the log.
    fn stored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for directory in ["data", "state"] {
            for entry in std::fs::read_dir(self.home.path().join(directory)).unwrap() {
                bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
        bytes
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_key_is_listed_with_what_it_was_made_for_and_never_shown_again() {
    let gateway = TestGateway::new("a", served());
    let (key, id) =
        gateway.new_key(json!({ "label": "my editor", "agent": "claude", "ttl_ms": 60_000, "max_leases": 2 }));
    let listed = gateway.listed(&id);
    assert_eq!((&listed["label"], &listed["agent"]), (&json!("my editor"), &json!("claude")), "{listed}");
    assert_eq!((&listed["state"], &listed["max_leases"], &listed["leases"]), (&json!("valid"), &json!(2), &json!(0)));
    let left = listed["expires_at"].as_u64().unwrap() - listed["created_at"].as_u64().unwrap();
    assert_eq!((left, &listed["last_used_at"]), (60_000, &Value::Null));
    assert_eq!(gateway.status_with(&key), 200);
    assert!(gateway.listed(&id)["last_used_at"].is_u64());
    let events = gateway.home.path().join("state/lessor.log");
    assert!(std::fs::read_to_string(events).unwrap().contains(&id), "its creation is logged");
    let bytes = gateway.stored();
    assert!(contains(&bytes, "my editor"), "the row is not stored");
    assert!(!contains(&bytes, &key), "the key itself is stored");
    let shown = gateway.home.client().call("gateway.keys", json!({})).to_string()
        + &gateway.home.client().call("account.export", json!({ "secrets": true })).to_string()
        + &gateway.home.client().call("status", json!({})).to_string();
    assert!(!shown.contains(key.trim_start_matches("lk_")));
    // every part of it that could be used to guess the rest
    assert!(!bytes.windows(16).any(|part| part == &key.as_bytes()[3..19]), "a part of the key is stored");
}

#[test]
fn the_key_of_a_lease_is_not_listed() {
    let gateway = TestGateway::new("a", served());
    let before = gateway.keys().len();
    let mut client = gateway.home.client();
    let (_, key) = gateway.lease(&mut client);
    assert_eq!(gateway.status_with(&key), 200);
    assert_eq!(gateway.keys().len(), before);
    assert_eq!(client.refused("gateway.revoke", json!({ "key": key })), "unknown_key");
    let limited = json!({ "lease": client.acquire()["lease"], "max_leases": 1 });
    assert_eq!(client.refused("gateway.key", limited), "bad_request");
}

#[test]
fn a_revoked_key_is_refused_at_once_and_only_the_log_says_why() {
    let gateway = TestGateway::new("a", served());
    let (key, id) = gateway.new_key(json!({ "label": "laptop" }));
    let mut connection = gateway.http_client();
    assert_eq!(connection.send(&messages(&key, "{}")).status(), 200);
    let revoked = gateway.revoke("laptop");
    assert_eq!((&revoked["key"]["id"], &revoked["key"]["state"]), (&json!(id), &json!("revoked")), "{revoked}");
    // the connection was idle: it stays, and its next request is refused
    let refused = connection.send(&messages(&key, "{}"));
    assert_eq!(refused.status(), 401);
    let unknown = gateway.send_with("lk_0000000000000000000000000000000000000000");
    assert_eq!((unknown.status(), unknown.text()), (401, refused.text()), "the client learns no reason");
    let log = gateway.home.path().join("state/lessor.log");
    wait_until("the log names the key", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().any(|line| line.contains("refused") && line.contains(&id) && line.contains("revoked"))
    });
    assert_eq!(gateway.status_with(&gateway.key), 200, "other keys stay valid");
    assert_eq!(gateway.revoke(&id)["cut_off"], 0, "once more changes nothing");
}

#[test]
fn each_request_of_a_connection_counts_for_the_key_that_it_shows() {
    let gateway = TestGateway::new("a", served());
    let [(first, id), (second, _)] = ["one", "two"].map(|label| gateway.new_key(json!({ "label": label })));
    let mut connection = gateway.http_client();
    for key in [&first, &first, &second, &first] {
        assert_eq!(connection.send(&messages(key, "{}")).status(), 200);
    }
    let used = |id: &str| gateway.listed(id)["last_used_at"].as_u64().unwrap();
    let before = used(&id);
    wait_until("a later use is noted", || {
        assert_eq!(connection.send(&messages(&first, "{}")).status(), 200);
        used(&id) > before
    });
    gateway.revoke("one");
    let statuses = [&first, &second, &first].map(|key| connection.send(&messages(key, "{}")).status());
    assert_eq!(statuses, [401, 200, 401], "the key of a request before says nothing of this one");
    assert_eq!(connection.send(&messages("lk_0", "{}")).status(), 401);
}

#[test]
fn a_stream_is_cut_with_the_key_of_its_own_request() {
    let gateway = TestGateway::new("a", silent_streams_after(3));
    let [(first, _), (second, _)] = ["one", "two"].map(|label| gateway.new_key(json!({ "label": label })));
    let mut connection = gateway.http_client();
    for key in [&first, &second, &second] {
        assert_eq!(connection.send(&messages(key, "{}")).status(), 200);
    }
    connection.write(&messages(&second, r#"{"stream":true}"#));
    connection.read_until("message_start");
    // that of an earlier request, which has ended
    gateway.revoke("one");
    // longer than a cut takes
    connection.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let blocked = connection.stream.read(&mut [0]).unwrap_err();
    assert_eq!(blocked.kind(), std::io::ErrorKind::WouldBlock, "it goes on");
    connection.stream.set_read_timeout(None).unwrap();
    gateway.revoke("two");
    assert!(connection.try_receive().is_none(), "the response has no end");
}

#[test]
fn revoking_cuts_running_streams_within_100_ms() {
    let gateway = TestGateway::new("ab", silent_streams());
    let mut client = gateway.home.client();
    let mut other = gateway.stream_with(&gateway.key);
    // the machine may be busy with other tests: the fastest of some rounds counts
    let rounds = (0..5).map(|_| {
        let (key, id) = gateway.new_key(json!({}));
        let mut cut = gateway.stream_with(&key);
        assert_eq!(gateway.listed(&id)["leases"], 1);
        let began = Instant::now();
        assert_eq!(client.call("gateway.revoke", json!({ "key": id }))["cut_off"], 1);
        assert!(cut.try_receive().is_none(), "the response has no end");
        let took = began.elapsed();
        wait_until("its lease has ended", || client.call("lease.list", json!({})).as_array().unwrap().len() == 1);
        wait_until("its key has none", || gateway.listed(&id)["leases"] == 0);
        took
    });
    let fastest = rounds.min().unwrap();
    assert!(fastest < Duration::from_millis(100), "it took {fastest:?}");
    other.stream.set_nonblocking(true).unwrap();
    let blocked = other.stream.read(&mut [0]).unwrap_err();
    assert_eq!(blocked.kind(), std::io::ErrorKind::WouldBlock, "the stream of another key goes on");
}

#[test]
fn a_client_that_does_not_read_its_stream_is_cut_as_well() {
    let gateway = TestGateway::new("a", endless_streams());
    let (key, id) = gateway.new_key(json!({}));
    let _never_read = gateway.stream_with(&key);
    let mut client = gateway.home.client();
    assert_eq!(client.call("lease.list", json!({})).as_array().unwrap().len(), 1);
    client.call("gateway.revoke", json!({ "key": id }));
    wait_until("its lease has ended", || client.call("lease.list", json!({})) == json!([]));
}

#[test]
fn a_request_that_waits_for_an_account_is_cut_as_well() {
    let gateway = TestGateway::new("a", served());
    let mut holder = gateway.home.client();
    holder.call("lease.acquire", json!({ "provider": "anthropic", "exclusive": true, "wait_ms": 0 }));
    let (key, id) = gateway.new_key(json!({}));
    let mut waiting = gateway.http_client();
    waiting.write(&messages(&key, "{}"));
    wait_until("it waits", || gateway.listed(&id)["leases"] == 1);
    gateway.revoke(&id);
    assert!(waiting.try_receive().is_none_or(|answer| answer.status() == 401));
    wait_until("its place in the queue is free", || {
        gateway.home.client().call("status", json!({}))["queue"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_revocation_that_was_answered_survives_a_kill() {
    let mut gateway = TestGateway::new("a", served());
    let (key, id) = gateway.new_key(json!({ "label": "lost laptop" }));
    let (kept, _) = gateway.new_key(json!({}));
    gateway.revoke(&id);
    gateway.home.kill();
    gateway.home.start();
    gateway.connect();
    assert_eq!((gateway.status_with(&key), gateway.status_with(&kept)), (401, 200));
    assert_eq!(gateway.listed(&id)["state"], "revoked");
}

#[test]
fn a_key_ends_after_its_time_and_status_warns_while_it_is_used() {
    let gateway = TestGateway::new("a", served());
    let (key, id) = gateway.new_key(json!({ "label": "trial", "ttl_ms": 300 }));
    wait_until("it has expired", || gateway.listed(&id)["state"] == "expired");
    let warnings = || gateway.home.client().call("status", json!({}))["warnings"].to_string();
    assert!(!warnings().contains("trial"), "an unused key is no reason to warn: {}", warnings());
    assert_eq!(gateway.status_with(&key), 401);
    assert!(warnings().contains("trial"), "{}", warnings());
    let log = std::fs::read_to_string(gateway.home.path().join("state/lessor.log")).unwrap();
    assert!(log.lines().any(|line| line.contains("expired") && line.contains("trial")), "{log}");
    let mut client = gateway.home.client();
    for wrong in [json!({ "ttl_ms": 0 }), json!({ "max_leases": 0 }), json!({ "label": "x".repeat(65) })] {
        assert_eq!(client.refused("gateway.key", wrong), "bad_request");
    }
}

#[test]
fn a_key_serves_no_more_requests_at_a_time_than_it_allows() {
    let gateway = TestGateway::new("abc", silent_streams());
    let (key, id) = gateway.new_key(json!({ "label": "small", "max_leases": 1 }));
    let first = gateway.stream_with(&key);
    let mut watcher = gateway.home.client();
    watcher.call("events.subscribe", json!({ "kinds": ["request.waiting"] }));
    // this client gives up after three seconds
    let headers = format!("x-api-key: {key}\r\nx-stainless-timeout: 3\r\n");
    let began = Instant::now();
    let refused = gateway.http_client().send(&request("POST /anthropic/v1/messages", &headers, "{}"));
    assert_eq!(refused.status(), 429);
    assert!(refused.text().contains("rate_limit_error") && refused.text().contains("small"), "{}", refused.text());
    assert!(began.elapsed() < Duration::from_secs(20));
    let event = watcher.receive().unwrap()["params"].clone();
    assert_eq!((&event["kind"], &event["label"]), (&json!("request.waiting"), &json!("small")), "{event}");
    // another request waits until there is room
    let mut second = gateway.http_client();
    second.write(&messages(&key, r#"{"stream":true}"#));
    drop(first);
    second.read_until("message_start");
    assert_eq!((&gateway.listed(&id)["leases"], &gateway.listed(&id)["max_leases"]), (&json!(1), &json!(1)));
}

#[test]
fn a_key_is_named_by_a_beginning_of_its_id_or_a_label_that_only_it_has() {
    let gateway = TestGateway::new("a", served());
    let (_, first) = gateway.new_key(json!({ "label": "twice" }));
    let (_, second) = gateway.new_key(json!({ "label": "twice" }));
    let (third_key, third) = gateway.new_key(json!({ "label": "third" }));
    let mut client = gateway.home.client();
    for name in ["twice", "gk_", "nothing", "", "lk_0000000000000000000000000000000000000000"] {
        assert_eq!(client.refused("gateway.revoke", json!({ "key": name })), "unknown_key", "{name}");
    }
    assert_eq!(gateway.revoke(&first[..9])["key"]["id"], json!(first));
    assert_eq!(gateway.revoke("twice")["key"]["id"], json!(second), "the other one is revoked already");
    assert_eq!(gateway.revoke(&third_key)["key"]["id"], json!(third), "the key itself");
}

#[test]
fn keys_of_earlier_versions_stay_valid_are_listed_at_first_use_and_can_be_revoked() {
    let mut gateway = TestGateway::new("", served());
    gateway.home.stop();
    let path = gateway.home.path();
    std::fs::write(path.join("state/key"), OLD_SECRET).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let _missing = std::fs::remove_file(path.join(format!("data/lessor.db{suffix}")));
    }
    let database = rusqlite::Connection::open(path.join("data/lessor.db")).unwrap();
    database.execute_batch(OLD_DATABASE).unwrap();
    for table in ["account", "credential", "former_credential", "limits", "session", "usage", "lease"] {
        database.execute(&format!("DELETE FROM {table}"), []).unwrap();
    }
    drop(database);
    gateway.home.start();
    gateway.add("anthropic", "api_key", "a");
    gateway.connect();
    assert_eq!(gateway.status_with(OLD_KEY), 200);
    let old = gateway.keys().into_iter().find(|key| key["label"] == "my editor").expect("it is listed");
    assert_eq!((&old["agent"], &old["created_at"]), (&json!("claude"), &Value::Null), "{old}");
    assert_eq!(gateway.status_with(OTHER_OLD_KEY), 200);
    gateway.revoke("my editor");
    let unseen = gateway.revoke(UNSEEN_OLD_KEY);
    assert_eq!(unseen["key"]["label"], "unseen", "one that was never used can be revoked");
    for _ in 0..2 {
        let statuses = [OLD_KEY, OTHER_OLD_KEY, UNSEEN_OLD_KEY].map(|key| gateway.status_with(key));
        assert_eq!(statuses, [401, 200, 401]);
        // another writing of the same key is another key
        assert_eq!(gateway.status_with(&OLD_KEY.to_uppercase()), 401);
        gateway.home.kill();
        gateway.home.start();
        gateway.connect();
    }
    assert!(!contains(&gateway.stored(), OLD_KEY));
}
