//! Streams: as they come, to their end or to their break, and no longer than their client listens.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::json;

use crate::scene::{Scene, messages};
use crate::support::{PATIENCE, wait_until};
use crate::upstream::{Upstream, begin_stream, chunk, end_stream};

/// An upstream that says what it is told, when it is told; and what it is told by.
fn puppet() -> (Upstream, Sender<&'static str>) {
    let (tell, told): (Sender<&str>, Receiver<&str>) = channel();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |_, stream| {
        begin_stream(stream);
        let told = told.lock().unwrap();
        loop {
            match told.recv_timeout(PATIENCE) {
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
    (upstream, tell)
}

const START: &str =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7}}}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n";
const ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Your account has hit its limit, try again in 2 hours\"}}\n\n";

#[test]
fn each_event_comes_when_it_is_said() {
    let (upstream, tell) = puppet();
    let scene = Scene::new("a", upstream);
    let mut visitor = scene.visitor();
    visitor.send(&messages(&scene.key, "{\"model\":\"m\"}"));
    tell.send(START).unwrap();
    // the next one is said only once this one was heard
    visitor.read_until("message_start\",\"message\"");
    for text in ["data: half", " an event", "\n\n"] {
        tell.send(text).unwrap();
        visitor.read_until(text);
    }
    tell.send(DELTA).unwrap();
    visitor.read_until("output_tokens");
    tell.send("end").unwrap();
    visitor.read_until("\r\n0\r\n\r\n");
    wait_until("its tokens are counted", || scene.metrics().contains("kind=\"output\"} 5"));
    assert!(
        scene.metrics().contains("model=\"m\",agent=\"test\",directory=\"\",kind=\"input\"} 7"),
        "{}",
        scene.metrics()
    );
}

#[test]
fn an_error_in_the_middle_is_passed_on_and_learnt_from() {
    let (upstream, tell) = puppet();
    let scene = Scene::new("ab", upstream);
    for text in [START, ERROR, "end"] {
        tell.send(text).unwrap();
    }
    let answer = scene.ask();
    let account = answer.header("x-lessor-account").unwrap().to_owned();
    assert_eq!((answer.text(), answer.whole), (format!("{START}{ERROR}"), true));
    wait_until("the limit is known", || scene.account(&account)["state"] == "limited");
}

#[test]
fn a_stream_that_is_cut_is_seen_to_be_cut() {
    let (upstream, tell) = puppet();
    let scene = Scene::new("a", upstream);
    for text in [START, "cut"] {
        tell.send(text).unwrap();
    }
    let answer = scene.ask();
    assert_eq!((answer.status(), answer.whole, answer.text().as_str()), (200, false, START));
    assert_eq!(scene.account("a")["state"], "ready");
    wait_until("it is counted", || scene.metrics().contains("outcome=\"broken\"} 1"));
}

#[test]
fn an_upstream_that_lies_about_its_length_deceives_nobody() {
    let upstream = Upstream::start(|asked, stream| {
        let length = if asked.text().contains("long") { 3 } else { 100 };
        let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhello");
        stream.write_all(said.as_bytes()).unwrap();
        false
    });
    let scene = Scene::new("a", upstream);
    let answer = scene.visitor().ask(&messages(&scene.key, "short"));
    assert_eq!((answer.whole, answer.text().as_str()), (false, "hello"), "less than it says");
    let answer = scene.visitor().ask(&messages(&scene.key, "long"));
    assert_eq!((answer.whole, answer.text().as_str()), (true, "hel"), "more than it says");
}

#[test]
fn when_the_client_goes_the_upstream_is_let_go_at_once() {
    let (gone, is_gone) = channel();
    let gone = Mutex::new(gone);
    let upstream = Upstream::start(move |_, stream| {
        begin_stream(stream);
        chunk(stream, START);
        // it is told by the end of the connection, or it goes on for ever
        while chunk(stream, "data: {\"type\":\"ping\"}\n\n") {}
        gone.lock().unwrap().send(()).unwrap();
        false
    });
    let scene = Scene::new("a", upstream);
    let mut visitor = scene.visitor();
    visitor.send(&messages(&scene.key, "{}"));
    visitor.read_until("ping");
    drop(visitor);
    is_gone.recv_timeout(PATIENCE).expect("the upstream still talks");
    let mut client = scene.home.client();
    wait_until("the lease has ended", || client.call("lease.list", json!({})) == json!([]));
}

#[test]
fn who_goes_before_the_answer_lets_the_upstream_go_too() {
    let (gone, is_gone) = channel();
    let (asked, is_asked) = channel();
    let both = Mutex::new((asked, gone));
    let upstream = Upstream::start(move |_, stream| {
        use std::io::Read;
        let both = both.lock().unwrap();
        both.0.send(()).unwrap();
        // nothing more is said on this connection: what comes is its end
        let _ended = stream.read(&mut [0]);
        both.1.send(()).unwrap();
        false
    });
    let scene = Scene::new("a", upstream);
    let mut visitor = scene.visitor();
    visitor.send(&messages(&scene.key, "{}"));
    is_asked.recv_timeout(PATIENCE).unwrap();
    drop(visitor);
    is_gone.recv_timeout(PATIENCE).expect("the upstream still waits");
}

#[test]
fn a_compressed_stream_is_passed_on_as_it_is_and_read_all_the_same() {
    use flate2::write::GzEncoder;
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{START}{DELTA}").as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let said = packed.clone();
    let upstream = Upstream::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        stream.write_all(&[head.as_bytes(), &said].concat()).is_ok()
    });
    let scene = Scene::new("a", upstream);
    let answer = scene.ask();
    assert_eq!(answer.body, packed);
    wait_until("its tokens are counted", || scene.metrics().contains("kind=\"output\"} 5"));
}
