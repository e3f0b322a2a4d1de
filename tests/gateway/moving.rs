//! `lease.move`: the lease of a gateway key has its new account from the next request on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::json;

use crate::harness::TestGateway;
use crate::support::{PATIENCE, fence, label, reference};
use crate::upstream::{Upstream, begin_stream, chunk, end_stream, respond};

const BODY: &str = r#"{"model":"claude-sonnet-4-5","messages":[]}"#;

fn other_of(label: &str) -> &'static str {
    if label == "a" { "b" } else { "a" }
}

/// An upstream whose requests with a session are streams, which end when the test says so.
fn streaming() -> (Upstream, Sender<()>) {
    let (end, ended): (Sender<()>, Receiver<()>) = channel();
    let ended = Mutex::new(ended);
    let upstream = Upstream::start(move |request, stream| {
        if request.header("x-stream").is_none() {
            return respond(stream, 200, "", "{}");
        }
        begin_stream(stream);
        chunk(stream, "event: ping\ndata: {}\n\n") && ended.lock().unwrap().recv_timeout(PATIENCE).is_ok() && {
            chunk(stream, "event: message_stop\ndata: {}\n\n") && end_stream(stream)
        }
    });
    (upstream, end)
}

#[test]
fn the_next_request_uses_the_new_account_and_one_under_way_ends_on_the_old_one() {
    let (upstream, end) = streaming();
    let gateway = TestGateway::with("[leases]\noverflow = \"wait\"\n", "ab", upstream);
    let (mut client, mut user) = (gateway.home.client(), gateway.home.client());
    let (lease, key) = gateway.lease(&mut client);
    let before = label(&lease);
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(before.as_str()));
    let headers = format!("x-api-key: {key}\r\nx-stream: 1\r\n");
    let mut stream = gateway.http_client();
    stream.write(&crate::harness::request("POST /anthropic/v1/messages", &headers, BODY));
    stream.read_until("ping");

    let moved = user.call("lease.move", json!({ "lease": lease["lease"], "to": other_of(&before) }));
    assert_eq!((&moved["from"]["label"], &moved["to"]["label"]), (&json!(before), &json!(other_of(&before))));
    assert!(fence(&moved) > fence(&lease) && moved["at_next_request"] == false, "{moved}");
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(other_of(&before)));
    end.send(()).unwrap();
    stream.read_until("\r\n0\r\n\r\n");
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(other_of(&before)));
    let leases = user.call("lease.list", json!({}));
    assert_eq!((leases.as_array().unwrap().len(), label(&leases[0])), (1, other_of(&before).to_owned()));
    assert_eq!(client.refused("lease.renew", json!({ "lease": lease["lease"] })), "stale_lease");
}

#[test]
fn the_lease_of_a_run_moves_also_after_a_restart_and_stays_moved() {
    let config = "[leases]\ngrace = \"0s\"\n";
    let mut gateway = TestGateway::with(config, "ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let bind = json!({ "pid": std::process::id() });
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "bind": bind, "credential": false }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    let first = label(&lease);
    client.call("lease.move", json!({ "pid": std::process::id() }));
    gateway.home.kill();
    gateway.home.start();
    gateway.connect();
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(other_of(&first)), "the move was saved");
    gateway.home.kill();
    gateway.home.start();
    gateway.connect();
    // no request has come with the key yet
    gateway.home.client().call("lease.move", json!({ "pid": std::process::id(), "to": first }));
    for _ in 0..2 {
        assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(first.as_str()));
    }
    assert_eq!(gateway.home.client().call("lease.list", json!({})).as_array().unwrap().len(), 1);
}

#[test]
fn the_lease_of_a_run_leaves_a_disabled_account_with_its_next_request() {
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let (lease, key) = gateway.lease(&mut client);
    let before = label(&lease);
    client.call("account.disable", json!({ "account": before }));
    let leases = client.call("lease.list", json!({}));
    assert_eq!(label(&leases[0]), before, "a change of the account ends no lease");
    assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some(other_of(&before)));
    let leases = client.call("lease.list", json!({}));
    assert_eq!((leases.as_array().unwrap().len(), label(&leases[0])), (1, other_of(&before).to_owned()));
}

#[test]
fn a_run_that_has_requested_its_account_keeps_the_one_it_was_moved_to() {
    let gateway = TestGateway::new("ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let lease = client.call("lease.acquire", json!({ "provider": "anthropic", "account": "a", "credential": false }));
    let key = client.call("gateway.key", json!({ "lease": lease["lease"] }))["key"].as_str().unwrap().to_owned();
    client.call("lease.move", json!({ "lease": lease["lease"], "to": "b" }));
    for _ in 0..2 {
        assert_eq!(gateway.send_with(&key).header("x-lessor-account"), Some("b"));
    }
}

#[test]
fn the_session_of_a_request_moves_with_its_next_request() {
    let (upstream, end) = streaming();
    let gateway = TestGateway::new("ab", upstream);
    let headers = format!("x-api-key: {}\r\nx-claude-code-session-id: s1\r\n", gateway.key);
    let send = |headers: &str| {
        let request = crate::harness::request("POST /anthropic/v1/messages", headers, BODY);
        gateway.http_client().send(&request).header("x-lessor-account").unwrap().to_owned()
    };
    let before = send(&headers);
    let mut stream = gateway.http_client();
    stream.write(&crate::harness::request("POST /anthropic/v1/messages", &format!("{headers}x-stream: 1\r\n"), BODY));
    stream.read_until("ping");
    let mut user = gateway.home.client();
    let leases = user.call("lease.list", json!({}));
    let moved = user.call("lease.move", json!({ "lease": leases[0]["lease"] }));
    assert_eq!((&moved["to"]["label"], &moved["at_next_request"]), (&json!(other_of(&before)), &json!(true)));
    assert_eq!(moved["lease"], leases[0]["lease"]);
    assert_eq!(send(&headers), other_of(&before));
    end.send(()).unwrap();
    stream.read_until("\r\n0\r\n\r\n");
    assert_eq!(send(&headers), other_of(&before));
}

#[test]
fn moves_that_would_not_last_are_refused() {
    let gateway =
        TestGateway::with("[selection]\nmode = \"performance-first\"\n", "ab", Upstream::by_key(|_| (200, "", "{}")));
    let mut client = gateway.home.client();
    let (lease, _) = gateway.lease(&mut client);
    assert_eq!(client.refused("lease.move", json!({ "lease": lease["lease"] })), "bad_request");
}

#[test]
fn a_conversation_moves_to_another_kind_of_credential_only_where_that_is_allowed() {
    let gateway = TestGateway::new("a", Upstream::by_key(|_| (200, "", "{}")));
    gateway.login("t-1", 4_102_444_800_000);
    let mut client = gateway.home.client();
    let ask = json!({ "provider": "anthropic", "agent": "claude", "account": "a", "credential": false });
    let lease = client.call("lease.acquire", ask);
    client.call("gateway.key", json!({ "lease": lease["lease"] }));
    let to = json!({ "lease": lease["lease"], "to": "login" });
    assert_eq!(client.refused("lease.move", to), "not_allowed");
    assert_eq!(client.refused("lease.move", json!({ "lease": lease["lease"] })), "no_account");
}

#[test]
fn a_connection_s_lease_that_the_gateway_has_moved_is_resumed_on_its_new_account() {
    let first: Mutex<Option<String>> = Mutex::new(None);
    let upstream = Upstream::start(move |request, stream| {
        let is_first = *first.lock().unwrap().get_or_insert(request.key()) == request.key();
        let (status, headers) = if is_first { (429, "retry-after: 7200\r\n") } else { (200, "") };
        respond(stream, status, headers, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#)
    });
    let mut gateway = TestGateway::with("[leases]\noverflow = \"wait\"\n", "ab", upstream);
    let mut holder = gateway.home.client();
    let (lease, key) = gateway.lease(&mut holder);
    let moved_to = other_of(&label(&lease));
    let served_by = |gateway: &TestGateway| gateway.send_with(&key).header("x-lessor-account").map(str::to_owned);
    assert_eq!(served_by(&gateway).as_deref(), Some(moved_to));
    let mut current = gateway.home.client().call("lease.list", json!({}))[0].clone();
    // its holder presents the lease that it was granted, or the one of an event; after a crash, and after a restart
    for (presents_current, crashes) in [(false, true), (true, true), (false, false)] {
        if crashes {
            gateway.home.kill();
            gateway.home.start();
        } else {
            gateway.home.client().restart(0);
        }
        gateway.connect();
        holder = gateway.home.client();
        let presented = reference(if presents_current { &current } else { &lease });
        let resumed = holder.call("lease.resume", presented.clone());
        assert_eq!((&resumed["lease"], &resumed["fence"]), (&current["lease"], &current["fence"]), "{crashes}");
        assert_eq!((label(&resumed), resumed["provider"].as_str()), (moved_to.to_owned(), Some("anthropic")));
        current = resumed;
        // its answer was lost: it presents it again
        assert_eq!(holder.call("lease.resume", presented.clone())["lease"], current["lease"]);
        let leases = holder.call("lease.list", json!({}));
        assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
        assert_eq!(served_by(&gateway).as_deref(), Some(moved_to), "the key is that of the lease");
    }
    holder.call("lease.release", json!({ "lease": current["lease"] }));
    for ended in [&lease, &current] {
        assert_eq!(holder.refused("lease.resume", reference(ended)), "stale_lease");
    }
    gateway.home.kill();
    gateway.home.start();
    gateway.connect();
    assert_eq!(gateway.send_with(&key).status(), 401);
}
