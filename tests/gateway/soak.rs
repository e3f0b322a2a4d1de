//! Half an hour of mixed load: the daemon's memory, descriptors and threads stay flat. `.ci/soak` runs it.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{TestGateway, messages};
use crate::support::{Client, Home, descriptors, reference, resident};
use crate::upstream::{Upstream, respond};

const SAMPLE: Duration = Duration::from_secs(5);
/// The growth of memory that counts as flat, in KiB per minute.
const FLAT: f64 = 20.0;

/// What the load has done.
#[derive(Default)]
struct Counts {
    over: AtomicBool,
    responses: AtomicU64,
    refused: AtomicU64,
    leases: AtomicU64,
    changes: AtomicU64,
}

impl Counts {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy)]
struct Sample {
    minute: f64,
    resident: f64,
    /// Without the pages of files, such as the program's: the system takes those back when others need memory, and a growth
    /// of the rest would be hidden.
    own: f64,
    descriptors: f64,
    threads: f64,
}

#[test]
#[ignore = "takes half an hour: .ci/soak"]
fn memory_descriptors_and_threads_stay_flat() {
    let minutes = std::env::var("LESSOR_SOAK_MINUTES").ok().map_or(30.0, |minutes| minutes.parse::<f64>().unwrap());
    let number = AtomicU64::new(0);
    let upstream = Upstream::start(move |_, stream| answer(stream, number.fetch_add(1, Ordering::Relaxed)));
    let gateway = TestGateway::with("[leases]\nper_account = 4\n", "abcdef", upstream.clone());
    let counts = Counts::default();
    let pid = gateway.home.pid();
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (gateway, counts) = (&gateway, &counts);
            scope.spawn(move || send_requests(gateway, counts, number));
        }
        for bind in [json!("connection"), json!("ttl"), json!({ "pid": std::process::id() })] {
            let (home, counts) = (&gateway.home, &counts);
            scope.spawn(move || lease(home, counts, &bind));
        }
        scope.spawn(|| look(&gateway.home, &counts));
        scope.spawn(|| change(&gateway, &counts));
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < minutes * 60.0 {
            std::thread::sleep(SAMPLE);
            upstream.forget();
            samples.push(Sample {
                minute: begun.elapsed().as_secs_f64() / 60.0,
                resident: resident(pid) as f64 / 1024.0,
                own: own_memory(pid) / 1024.0,
                descriptors: descriptors(pid) as f64,
                threads: std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() as f64,
            });
        }
        counts.over.store(true, Ordering::Relaxed);
    });
    // by then the tables that are kept up to a bound are full, such as the 1000 ended keys that are listed, of which the load
    // makes two a second, and so are the caches of the databases
    let warm: Vec<Sample> = samples.iter().copied().filter(|sample| sample.minute > minutes / 3.0).collect();
    let memory = slope(&warm, |sample| sample.resident);
    let own = slope(&warm, |sample| sample.own);
    let last = warm.last().unwrap();
    // over the time that is measured: one thread more, because a few lookups coincided on a busy machine, is at most 1.5
    let span = last.minute - warm[0].minute;
    let files = slope(&warm, |sample| sample.descriptors) * span;
    let threads = slope(&warm, |sample| sample.threads) * span;
    let [responses, refused, leases, changes] = [&counts.responses, &counts.refused, &counts.leases, &counts.changes]
        .map(|count| count.load(Ordering::Relaxed));
    println!(
        "{minutes} min: {responses} responses ({refused} refused), {leases} leases, {changes} changes\n\
         memory {:.1} MiB, {memory:+.1} KiB/min, of it without files {:.1} MiB, {own:+.1} KiB/min; {} descriptors, \
         {files:+.1} in all; {} threads, {threads:+.1} in all",
        last.resident / 1024.0,
        last.own / 1024.0,
        last.descriptors,
        last.threads
    );
    assert!(responses > 100 && leases > 100 && changes > 10, "there was no load");
    assert!(memory < FLAT && own < FLAT, "memory grows");
    assert!(files < 4.0 && threads < 2.0, "descriptors or threads grow");
}

/// The memory of a process that is not pages of files, in bytes.
fn own_memory(pid: u32) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: Vec<f64> = statm.split(' ').map_while(|pages| pages.parse().ok()).collect();
    (pages[1] - pages[2]) * 4096.0
}

/// The slope of a value by the method of least squares, per minute.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let middle = samples.iter().map(|sample| sample.minute).sum::<f64>() / count;
    let mean = samples.iter().map(&value).sum::<f64>() / count;
    let covariance: f64 = samples.iter().map(|sample| (sample.minute - middle) * (value(sample) - mean)).sum();
    covariance / samples.iter().map(|sample| (sample.minute - middle).powi(2)).sum::<f64>()
}

/// Mostly a short answer; sometimes a stream, a long body, a refusal.
fn answer(stream: &mut TcpStream, number: u64) -> bool {
    match number % 100 {
        0 | 1 => respond(stream, 429, "retry-after: 1\r\n", r#"{"type":"error","error":{"type":"rate_limit_error"}}"#),
        2..8 => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let event = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            let sent = stream.write_all(head.as_bytes()).and_then(|()| {
                (0..40).try_for_each(|_| stream.write_all(chunk.as_bytes()))?;
                stream.write_all(b"0\r\n\r\n")
            });
            sent.is_ok()
        }
        8 => respond(stream, 200, "content-type: application/json\r\n", &format!("\"{}\"", "x".repeat(1 << 20))),
        _ => respond(stream, 200, "content-type: application/json\r\n", r#"{"usage":{"input_tokens":1}}"#),
    }
}

fn send_requests(gateway: &TestGateway, counts: &Counts, number: u64) {
    let mut sent = number;
    while counts.goes_on() {
        let mut client = gateway.http_client();
        for _ in 0..50 {
            sent = sent.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let length = if sent.is_multiple_of(61) { 200_000 } else { (sent >> 40) as usize % 3000 };
            let text = format!("{sent}{}", "y".repeat(length));
            let body = format!(r#"{{"model":"claude-sonnet-4-5","messages":[{{"role":"user","content":"{text}"}}]}}"#);
            let response = client.send(&messages(&gateway.key, &body));
            counts.responses.fetch_add(1, Ordering::Relaxed);
            counts.refused.fetch_add(u64::from(response.status() == 429), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lease(home: &Home, counts: &Counts, bind: &Value) {
    while counts.goes_on() {
        let mut client = home.client();
        for round in 0..100 {
            let params = json!({ "provider": "anthropic", "bind": bind, "session": format!("s{}", round % 40) });
            let lease = client.ask("lease.acquire", &params)["result"].clone();
            if !lease.is_null() {
                // its account may be removed meanwhile
                client.ask("lease.renew", &reference(&lease));
                client.ask("lease.report", &json!({ "lease": lease["lease"], "ok": true }));
                client.ask("lease.release", &reference(&lease));
                counts.leases.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Subscribers and readers that come and go.
fn look(home: &Home, counts: &Counts) {
    while counts.goes_on() {
        let mut subscriber = home.client();
        subscriber.call("events.subscribe", json!({ "kinds": [] }));
        let mut client: Client = home.client();
        for method in ["status", "account.list", "lease.list", "config.get"] {
            client.call(method, json!({}));
        }
        client.call("forecast", json!({ "provider": "anthropic" }));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Accounts, keys and the configuration change.
fn change(gateway: &TestGateway, counts: &Counts) {
    let path = gateway.home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let mut number = 0_u64;
    while counts.goes_on() {
        number += 1;
        let label = format!("z{number}");
        gateway.add("anthropic", "api_key", &label);
        let mut client = gateway.home.client();
        client.call("account.set", json!({ "account": label, "priority": number % 5 }));
        let key = client.call("gateway.key", json!({ "agent": "test", "label": label }));
        client.call("gateway.revoke", json!({ "key": key["id"] }));
        client.call("account.remove", json!({ "account": label }));
        std::fs::write(&path, format!("{config}\n[selection.health]\nsuccess = {}\n", 1 + number % 2)).unwrap();
        client.call("config.reload", json!({}));
        counts.changes.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(500));
    }
}
