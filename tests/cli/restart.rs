//! `restart`: agents, leases, socket, port and keys outlive the daemon's run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Home, eventually};

/// The parts of a response, in the order in which the test lets them go.
type Parts = Receiver<&'static str>;

/// An upstream that answers each request with a stream whose parts the test sends.
struct Upstream {
    url: String,
    /// The stream of each request that has come.
    streams: Receiver<Sender<&'static str>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (came, streams) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (part, parts) = channel();
                let came: Sender<Sender<&'static str>> = came.clone();
                std::thread::spawn(move || answer(stream, &parts, || drop(came.send(part))));
            }
        });
        Self { url, streams }
    }

    fn next(&self) -> Sender<&'static str> {
        self.streams.recv_timeout(Duration::from_secs(20)).expect("a request reaches the upstream")
    }
}

fn answer(mut stream: TcpStream, parts: &Parts, came: impl FnOnce()) {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while !seen.ends_with(b"{}") {
        match stream.read(&mut chunk) {
            Ok(length) if length > 0 => seen.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
    came();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let _gone = stream.write_all(head.as_bytes());
    for part in parts {
        let _gone = write!(stream, "{:x}\r\n{part}\r\n", part.len());
    }
    let _gone = stream.write_all(b"0\r\n\r\n");
}

/// A request to the gateway, on a connection of its own.
struct Request(TcpStream);

impl Request {
    fn send(url: &str, key: &str) -> std::io::Result<Self> {
        let mut request = Self::begin(url, key)?;
        request.0.write_all(b"{}")?;
        Ok(request)
    }

    /// Sends its head.
    fn begin(url: &str, key: &str) -> std::io::Result<Self> {
        let address = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let head = "POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n";
        stream.write_all(format!("{head}x-api-key: {key}\r\n\r\n").as_bytes())?;
        Ok(Self(stream))
    }

    /// Reads until the response holds this.
    fn until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(end) {
            match self.0.read(&mut chunk) {
                Ok(length) if length > 0 => seen.extend_from_slice(&chunk[..length]),
                other => panic!("no {end:?} in {:?}: {other:?}", String::from_utf8_lossy(&seen)),
            }
        }
        String::from_utf8(seen).unwrap()
    }
}

struct Setup {
    home: Home,
    upstream: Upstream,
    agent: Child,
    url: String,
    key: String,
}

/// A daemon that a client has started, an agent under `lessor run`, and its key for the gateway.
fn running() -> Setup {
    let upstream = Upstream::start();
    let home = Home::new();
    let config = format!("[providers.anthropic]\nbase_url = \"{}\"\n", upstream.url);
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    home.feed(&["account", "add", "anthropic", "--api-key-stdin", "--label", "work"], "sk-canary\n").ok();
    let said = home.path().join("said");
    let script = format!("echo $ANTHROPIC_BASE_URL $ANTHROPIC_API_KEY >{}; read never", said.display());
    let mut agent = home.command(&["run", "claude", "--", "sh", "-c", &script]);
    let agent = agent.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the agent knows its key", || std::fs::read_to_string(&said).is_ok_and(|said| said.ends_with('\n')));
    let said = std::fs::read_to_string(&said).unwrap();
    let (url, key) = said.trim().split_once(' ').unwrap();
    let url = url.strip_suffix("/anthropic").unwrap().to_owned();
    Setup { home, upstream, agent, url, key: key.to_owned() }
}

impl Setup {
    /// Ends the agent; what it has written to standard error.
    fn end(mut self) -> String {
        drop(self.agent.stdin.take());
        String::from_utf8(self.agent.wait_with_output().unwrap().stderr).unwrap()
    }
}

#[test]
fn a_restart_waits_for_streams_and_keeps_leases_port_and_keys() {
    let setup = running();
    let Setup { home, upstream, url, key, .. } = &setup;
    home.run(&["acquire", "anthropic", "--ttl", "1h", "--label", "timed"]).ok();
    let leases = |home: &Home| {
        let rows = home.json(&["leases"]);
        rows.as_array().unwrap().iter().map(|row| (row["lease"].clone(), row["holder"].clone())).collect::<Vec<_>>()
    };
    let held = leases(home);
    assert_eq!(held.len(), 2);
    let before = home.json(&["status"]);
    let mut first = Request::send(url, key).unwrap();
    let stream = upstream.next();
    stream.send("data: one\n\n").unwrap();
    first.until("data: one");
    let mut restart = home.command(&["restart", "--json"]);
    let mut restart = restart.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut note = String::new();
    BufReader::new(restart.stderr.take().unwrap()).read_line(&mut note).unwrap();
    assert!(note.contains("waiting for 1 request in flight, at most 50 s"), "{note}");
    // the gateway accepts no connection any more, and refuses none
    let mut second = loop {
        let request = Request::send(url, key).expect("no connection is refused");
        request.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if upstream.streams.recv_timeout(Duration::from_millis(200)).is_err() {
            break request;
        }
    };
    second.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // the daemon serves its clients while it waits for the stream
    assert_eq!(home.json(&["status", "--no-start"])["pid"], before["pid"]);
    stream.send("data: two\n\n").unwrap();
    first.until("data: two");
    stream.send("data: three\n\n").unwrap();
    drop(stream);
    assert!(first.until("0\r\n\r\n").contains("data: three"));
    let ended = Instant::now();
    // the request that waited gets its response from the next run
    let stream = upstream.next();
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    drop(stream);
    second.until("0\r\n\r\n");
    let output = restart.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let restarted: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    let after = home.json(&["status", "--no-start"]);
    let wanted =
        json!({ "restarted": true, "version": env!("CARGO_PKG_VERSION"), "pid": after["pid"], "in_flight": 1 });
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(restarted[name], *value, "{name} of {restarted}");
    }
    assert!(after["uptime_ms"].as_u64() < before["uptime_ms"].as_u64().map(|up| up + 100), "{after} {before}");
    assert_eq!((&after["socket"], &after["gateway"]), (&before["socket"], &before["gateway"]));
    assert_eq!(leases(home), held);
    // and again, with nothing in flight
    home.run(&["restart"]).ok().says("restarted: lessor").says("(pid ");
    let mut third = Request::send(url, key).unwrap();
    drop(upstream.next());
    third.until("0\r\n\r\n");
    let notes = setup.end();
    assert!(
        notes.contains("the daemon was restarted; sh keeps its account") && !notes.contains("not running"),
        "{notes}"
    );
}

#[test]
fn a_stream_that_takes_too_long_is_cut() {
    let setup = running();
    let Setup { home, upstream, url, key, .. } = &setup;
    let mut request = Request::send(url, key).unwrap();
    let stream = upstream.next();
    stream.send("data: one\n\n").unwrap();
    request.until("data: one");
    let begun = Instant::now();
    home.run(&["restart", "--drain", "300ms"]).ok().complains("at most 0 s");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut next = Request::send(url, key).unwrap();
    drop(upstream.next());
    next.until("0\r\n\r\n");
    setup.end();
}

#[test]
fn the_gateway_refuses_no_connection_while_the_daemon_restarts() {
    let setup = running();
    let Setup { home, upstream, url, key, .. } = &setup;
    let served = std::thread::scope(|scope| {
        let restarts = scope.spawn(|| (0..3).for_each(|_| drop(home.run(&["restart"]).ok())));
        let (mut served, mut slowest) = (0, Duration::ZERO);
        while !restarts.is_finished() {
            let begun = Instant::now();
            let mut request = Request::send(url, key).expect("no connection is refused");
            drop(upstream.next());
            request.until("0\r\n\r\n");
            slowest = slowest.max(begun.elapsed());
            served += 1;
        }
        restarts.join().unwrap();
        (served, slowest)
    });
    assert!(served.0 > 3 && served.1 < Duration::from_secs(3), "{served:?}");
    setup.end();
}

#[test]
fn a_restart_waits_for_a_request_that_is_being_sent() {
    let setup = running();
    let Setup { home, upstream, url, key, .. } = &setup;
    let mut request = Request::begin(url, key).unwrap();
    let metrics = || {
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        let head = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n";
        stream.write_all(format!("{head}x-api-key: {key}\r\n\r\n").as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    eventually("it has come", || metrics().contains("lessor_requests_in_flight 1"));
    let mut restart = home.command(&["restart"]);
    let mut restart = restart.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut note = String::new();
    BufReader::new(restart.stderr.take().unwrap()).read_line(&mut note).unwrap();
    assert!(note.contains("waiting for 1 request in flight"), "{note}");
    request.0.write_all(b"{}").unwrap();
    drop(upstream.next());
    request.until("0\r\n\r\n");
    assert!(restart.wait().unwrap().success());
    setup.end();
}

#[test]
fn a_restart_without_a_daemon_starts_one() {
    let home = Home::new();
    let started = home.json(&["restart"]);
    assert_eq!((&started["restarted"], &started["version"]), (&json!(false), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(home.json(&["ping", "--no-start"])["pid"], started["pid"]);
    home.run(&["stop"]).ok();
    home.run(&["restart", "--no-start"]).exits(3).complains("lessor daemon");
    home.run(&["restart"]).ok().says("started: lessor").says("no daemon was running");
}

#[test]
fn a_configuration_that_is_not_valid_prevents_a_restart() {
    let home = Home::new();
    let pid = home.json(&["ping"])["pid"].clone();
    std::fs::write(home.path().join("config.toml"), "[daemon]\nlgo = 1\n").unwrap();
    // at once: the daemon may not have read the file yet
    home.run(&["restart"]).exits(6).complains("the next daemon would not start").complains("lessor config edit");
    assert_eq!(home.json(&["ping", "--no-start"])["pid"], pid);
}

#[test]
fn a_request_that_waits_for_an_account_queues_again_after_a_restart() {
    let home = Home::with_keys(&[("anthropic", "work")]);
    let lease = home.json(&["acquire", "anthropic", "--ttl", "1h", "--exclusive"]);
    let mut waiting = home.command(&["acquire", "anthropic", "--ttl", "1h", "--wait", "60s"]);
    let waiting = waiting.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let queue = |home: &Home| home.json(&["status"])["queue"].as_array().unwrap().len();
    eventually("it waits", || queue(&home) == 1);
    home.run(&["restart"]).ok();
    eventually("it waits again", || queue(&home) == 1);
    home.run(&["release", lease["lease"].as_str().unwrap()]).ok();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
