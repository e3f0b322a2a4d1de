//! Streams of the gateway whose account moves into the pool or leaves it: another host may use it from then on.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::daemons::{Hosts, accounts, acquire};
use crate::support::{Home, PATIENCE, wait_until};
use crate::upstream::{Upstream, begin_stream, chunk};

/// A stream through a host's gateway that has begun.
struct Streamed(BufReader<TcpStream>);

impl Streamed {
    fn begin(home: &Home) -> Self {
        let access = home.client().call("gateway.key", json!({ "agent": "test" }));
        let (key, url) = (access["key"].as_str().unwrap(), access["url"].as_str().unwrap());
        let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = r#"{"model":"claude-sonnet-4-5","stream":true,"messages":[]}"#;
        let head = format!(
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut begun = Self(BufReader::new(stream));
        let mut seen = String::new();
        while !seen.contains("event: ping") {
            let mut byte = [0];
            assert_eq!(begun.0.read(&mut byte).unwrap(), 1, "the stream has not begun: {seen}");
            seen.push(byte[0].into());
        }
        begun
    }

    /// Whether the gateway has not ended it. The upstream sends nothing more.
    fn is_open(&mut self) -> bool {
        self.0.get_ref().set_nonblocking(true).unwrap();
        let end = loop {
            match self.0.read(&mut [0; 64]) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        self.0.get_ref().set_nonblocking(false).unwrap();
        end == Some(std::io::ErrorKind::WouldBlock)
    }

    /// What comes until the gateway ends it; the upstream does not.
    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // a connection that is reset has ended, too; a timeout is no end
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the stream goes on: {error}");
        }
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// An upstream whose streams begin and do not end.
fn streaming() -> Upstream {
    Upstream::start(|_, stream| begin_stream(stream) && chunk(stream, "event: ping\ndata: {\"type\":\"ping\"}\n\n"))
}

fn hosts_with(upstream: &Upstream) -> Hosts {
    let url = upstream.url();
    Hosts::configured(0, &format!("[quota]\npoll = \"off\"\n[providers.anthropic]\nbase_url = \"{url}\""))
}

#[test]
fn the_streams_of_an_account_are_cut_when_it_moves_into_the_pool() {
    let upstream = streaming();
    let hosts = hosts_with(&upstream);
    let [mut first, mut second] = hosts.clients();
    for label in ["moves", "stays"] {
        first.call(
            "account.add",
            json!({ "provider": "anthropic", "kind": "api_key", "secret": format!("k-{label}"), "label": label, "own": true }),
        );
    }
    let (one, other) = (Streamed::begin(&hosts.homes[0]), Streamed::begin(&hosts.homes[0]));
    let keys = upstream.keys();
    let is_of_moved = keys[0] == "k-moves";
    assert_ne!(keys[0], keys[1], "each has an account");
    let (moved, stayed) = if is_of_moved { (one, other) } else { (other, one) };
    // it has a lease
    let to_pool = json!({ "to": "pool", "accounts": ["moves"] });
    let refused = first.call("pool.migrate", to_pool);
    assert_eq!(refused["moved"], json!([]), "{refused}");
    let forced = json!({ "to": "pool", "accounts": ["moves"], "force": true });
    assert_eq!(first.call("pool.migrate", forced)["moved"].as_array().unwrap().len(), 1);
    assert!(!moved.rest().ends_with("0\r\n\r\n"), "a stream that was cut does not look like one that is complete");
    wait_until("the other host leases it", || acquire(&mut second, PATIENCE)["result"].is_object());
    // the other account is this host's own yet
    let leases = first.call("lease.list", json!({}));
    assert_eq!(leases.as_array().unwrap().len(), 1, "{leases}");
    drop(stayed);
}

#[test]
fn the_streams_of_other_hosts_are_cut_when_their_account_leaves_the_pool() {
    let upstream = streaming();
    let hosts = hosts_with(&upstream);
    let [mut first, mut second] = hosts.clients();
    for label in ["moves", "stays"] {
        first.call(
            "account.add",
            json!({ "provider": "anthropic", "kind": "api_key", "secret": format!("k-{label}"), "label": label }),
        );
    }
    wait_until("the second host has both", || accounts(&mut second).len() == 2);
    let (one, other) = (Streamed::begin(&hosts.homes[1]), Streamed::begin(&hosts.homes[1]));
    let keys = upstream.keys();
    let is_of_moved = keys[0] == "k-moves";
    assert_ne!(keys[0], keys[1], "each has an account");
    let (mut moved, mut stayed) = if is_of_moved { (one, other) } else { (other, one) };
    // the second host uses its seat
    let refused = first.call("pool.migrate", json!({ "to": "local", "accounts": ["moves"] }));
    assert_eq!(refused["moved"], json!([]), "{refused}");
    assert!(moved.is_open() && stayed.is_open());
    let forced = json!({ "to": "local", "accounts": ["moves"], "force": true });
    assert_eq!(first.call("pool.migrate", forced)["moved"].as_array().unwrap().len(), 1);
    assert!(!moved.rest().ends_with("0\r\n\r\n"), "a stream that was cut does not look like one that is complete");
    wait_until("its lease there has ended", || second.call("lease.list", json!({})).as_array().unwrap().len() == 1);
    // the requests on the other account go on, until it is removed
    assert!(stayed.is_open());
    first.call("account.remove", json!({ "account": "stays" }));
    assert!(!stayed.rest().ends_with("0\r\n\r\n"), "it was cut");
    wait_until("the second host has neither", || accounts(&mut second).is_empty());
}
