//! Streams: relayed event by event, to their end or until either side disconnects.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::json;

use crate::harness::{TestGateway, messages};
use crate::support::{PATIENCE, wait_until};
use crate::upstream::{Upstream, begin_stream, chunk, end_stream};

/// An upstream that sends what the test sends on the channel, when it does.
fn scripted() -> (Upstream, Sender<&'static str>) {
    let (script, lines): (Sender<&str>, Receiver<&str>) = channel();
    let lines = Mutex::new(lines);
    let upstream = Upstream::start(move |_, stream| {
        begin_stream(stream);
        let lines = lines.lock().unwrap();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok("end") => return end_stream(stream),
                Ok("cut") | Err(_) => return false,
                Ok(text) => {
                    if !chunk(stream, text) {
                        return false;
                    }
                }
            }
        }
    });
    (upstream, script)
}

const START: &str =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n";
const ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Your account has hit its limit, try again in 2 hours\"}}\n\n";

#[test]
fn each_event_is_relayed_at_once() {
    let (upstream, script) = scripted();
    let gateway = TestGateway::new("a", upstream);
    let mut http = gateway.http_client();
    http.write(&messages(&gateway.key, "{\"model\":\"m\"}"));
    script.send(START).unwrap();
    // the next event is sent only after this one was received
    http.read_until("message_start\",\"message\"");
    for text in ["data: half", " an event", "\n\n"] {
        script.send(text).unwrap();
        http.read_until(text);
    }
    script.send(DELTA).unwrap();
    http.read_until("output_tokens");
    script.send("end").unwrap();
    http.read_until("\r\n0\r\n\r\n");
    wait_until("the tokens are counted", || gateway.metrics().contains("kind=\"output\"} 5"));
    let metrics = gateway.metrics();
    let input = metrics.lines().find(|line| line.ends_with("kind=\"input\"} 7")).unwrap_or_else(|| panic!("{metrics}"));
    assert!(input.contains("model=\"m\",agent=\"test\",directory=\""), "{input}");
    #[cfg(target_os = "linux")]
    assert!(input.contains(std::env::current_dir().unwrap().to_str().unwrap()), "the sender's directory: {input}");
}

#[test]
fn an_error_in_the_middle_is_relayed_and_limits_the_account() {
    let (upstream, script) = scripted();
    let gateway = TestGateway::new("ab", upstream);
    for text in [START, ERROR, "end"] {
        script.send(text).unwrap();
    }
    let response = gateway.send();
    let account = response.header("x-lessor-account").unwrap().to_owned();
    assert_eq!((response.text(), response.complete), (format!("{START}{ERROR}"), true));
    wait_until("the limit is known", || gateway.account(&account)["state"] == "limited");
}

#[test]
fn a_stream_that_breaks_off_breaks_off_for_the_client() {
    let (upstream, script) = scripted();
    let gateway = TestGateway::new("a", upstream);
    for text in [START, "cut"] {
        script.send(text).unwrap();
    }
    let response = gateway.send();
    assert_eq!((response.status(), response.complete, response.text().as_str()), (200, false, START));
    assert_eq!(gateway.account("a")["state"], "ready");
    wait_until("it is counted", || gateway.metrics().contains("outcome=\"broken\"} 1"));
}

#[test]
fn a_wrong_content_length_is_handled_like_by_any_client() {
    let upstream = Upstream::start(|request, stream| {
        let length = if request.text().contains("long") { 3 } else { 100 };
        let sent = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhello");
        stream.write_all(sent.as_bytes()).unwrap();
        false
    });
    let gateway = TestGateway::new("a", upstream);
    let response = gateway.http_client().send(&messages(&gateway.key, "short"));
    assert_eq!((response.complete, response.text().as_str()), (false, "hello"), "less than announced");
    let response = gateway.http_client().send(&messages(&gateway.key, "long"));
    assert_eq!((response.complete, response.text().as_str()), (true, "hel"), "more than announced");
}

#[test]
fn when_the_client_disconnects_the_upstream_connection_closes_at_once() {
    let (closed, is_closed) = channel();
    let closed = Mutex::new(closed);
    let upstream = Upstream::start(move |_, stream| {
        begin_stream(stream);
        chunk(stream, START);
        // sends until the connection is closed
        while chunk(stream, "data: {\"type\":\"ping\"}\n\n") {}
        closed.lock().unwrap().send(()).unwrap();
        false
    });
    let gateway = TestGateway::new("a", upstream);
    let mut http = gateway.http_client();
    http.write(&messages(&gateway.key, "{}"));
    http.read_until("ping");
    drop(http);
    is_closed.recv_timeout(PATIENCE).expect("the upstream connection is still open");
    let mut client = gateway.home.client();
    wait_until("the lease has ended", || client.call("lease.list", json!({})) == json!([]));
}

#[test]
fn a_client_that_disconnects_before_the_response_closes_the_upstream_connection() {
    let (closed, is_closed) = channel();
    let (received, is_received) = channel();
    let both = Mutex::new((received, closed));
    let upstream = Upstream::start(move |_, stream| {
        use std::io::Read;
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        // no more bytes come on this connection: the read returns at its end
        let _ended = stream.read(&mut [0]);
        both.1.send(()).unwrap();
        false
    });
    let gateway = TestGateway::new("a", upstream);
    let mut http = gateway.http_client();
    http.write(&messages(&gateway.key, "{}"));
    is_received.recv_timeout(PATIENCE).unwrap();
    drop(http);
    is_closed.recv_timeout(PATIENCE).expect("the upstream connection is still open");
}

#[test]
fn a_compressed_stream_is_relayed_unchanged_and_its_tokens_are_counted() {
    use flate2::write::GzEncoder;
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{START}{DELTA}").as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let sent = packed.clone();
    let upstream = Upstream::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        stream.write_all(&[head.as_bytes(), &sent].concat()).is_ok()
    });
    let gateway = TestGateway::new("a", upstream);
    let response = gateway.send();
    assert_eq!(response.body, packed);
    wait_until("the tokens are counted", || gateway.metrics().contains("kind=\"output\"} 5"));
}
