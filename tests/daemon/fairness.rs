//! What hostile clients cost the others: a good client's time for a lease, and the daemon's memory.
//!
//! `.ci/fairness` runs the same in a release build, for longer, and with the bounds that hold there.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lessor::protocol::{Call, HelloParams, MAGIC, MAX_MESSAGE, encode_call};
use serde_json::{Value, json};

use crate::support::{Client, Holder, Home, reference, resident, wait_until};

/// How many hostile connections there are.
const HOSTILE: usize = 40;
/// Accounts of the daemon.
const ACCOUNTS: usize = 20;
/// The memory that the daemon may use.
const MOST_MEMORY: u64 = 128 << 20;
/// Seconds for each load, where the figures are measured.
const SECONDS: &str = "LESSOR_FAIRNESS_SECONDS";

/// What the good client may wait.
#[derive(Clone, Copy)]
struct Bounds {
    time: Duration,
    p99: Duration,
    most: Duration,
}

/// For a debug build on a machine that has other things to do.
const GENEROUS: Bounds =
    Bounds { time: Duration::from_millis(400), p99: Duration::from_millis(500), most: Duration::from_secs(2) };

/// What hostile clients send, again and again.
struct Load {
    name: &'static str,
    bytes: Vec<u8>,
    /// Whether they read what comes back.
    reads: bool,
    /// Whether they disconnect after having sent it.
    leaves: bool,
}

fn calls(method: &str, params: &Value, count: usize) -> Vec<u8> {
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    format!("{line}\n").repeat(count).into_bytes()
}

/// The largest import, of logins that are all different.
fn largest_import(dry_run: bool) -> Vec<u8> {
    // each entry is compared with all before: a debug build would take a minute for as many as fit
    let padding = "x".repeat(if cfg!(debug_assertions) { 300 } else { 0 });
    let mut entries = String::new();
    for number in 0.. {
        let entry = format!(
            "{}{{\"tool\":\"claude\",\"provider\":\"anthropic\",\"kind\":\"api_key\",\"secret\":\"sk-canary-{padding}{number}\"}}",
            if number == 0 { "" } else { "," }
        );
        if entries.len() + entry.len() + 200 > MAX_MESSAGE {
            break;
        }
        entries += &entry;
    }
    let params = format!("{{\"dry_run\":{dry_run},\"entries\":[{entries}]}}");
    format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"account.import\",\"params\":{params}}}\n").into_bytes()
}

fn loads() -> Vec<Load> {
    let load = |name, bytes| Load { name, bytes, reads: true, leaves: false };
    let asks = |method, params: Value| load(method, calls(method, &params, 100));
    let acquire = calls("lease.acquire", &json!({ "provider": "anthropic", "wait_ms": 0, "ttl_ms": 1 }), 1);
    let release = calls("lease.release", &json!({ "lease": "nonsense" }), 1);
    let report = json!({ "lease": "nonsense", "status": 429, "body": "y".repeat(MAX_MESSAGE - 500) });
    let exclude: Vec<String> = (0..64).map(|number| format!("a{number}")).collect();
    let mut hello = MAGIC.to_vec();
    encode_call(1, Call::Hello(HelloParams::default()), &mut hello).unwrap();
    let mut bad_frame = hello.clone();
    bad_frame.extend_from_slice(&[9, 0, 0, 0]);
    bad_frame.extend_from_slice(&[0xff; 9]);
    vec![
        asks("config.get", json!({})),
        asks("status", json!({})),
        asks("account.list", json!({})),
        asks("lease.list", json!({})),
        asks("explain", json!({ "what": "a1" })),
        asks("forecast", json!({ "provider": "anthropic", "count": 1000 })),
        asks("account.export", json!({ "secrets": true })),
        asks("account.usage", json!({ "account": "nonsense" })),
        asks("account.add", json!({ "provider": "anthropic", "kind": "api_key", "secret": "a b" })),
        asks("account.set", json!({ "account": "a1", "tier": "pro" })),
        asks("gateway.key", json!({ "agent": "claude" })),
        asks("hello", json!({})),
        Load { reads: false, ..asks("status", json!({})) },
        Load { reads: false, name: "events.subscribe", ..asks("events.subscribe", json!({ "recent": true })) },
        load("account.import", largest_import(true)),
        load("acquire, release", [acquire, release].concat().repeat(50)),
        load(
            "acquire, exclude",
            calls(
                "lease.acquire",
                &json!({ "provider": "anthropic", "exclude": exclude, "wait_ms": 0, "ttl_ms": 1 }),
                20,
            ),
        ),
        load("large report", calls("lease.report", &report, 1)),
        load("malformed lines", b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":7}\n".repeat(100)),
        load("large garbage", [b"{\"x\":[", &b"[1],".repeat(60_000)[..], b"[]]}\n"].concat()),
        Load { leaves: true, ..load("malformed frames", bad_frame) },
        Load { leaves: true, ..load("connections", hello) },
    ]
}

/// One hostile connection.
struct Hostile {
    stream: UnixStream,
    sent: usize,
}

impl Hostile {
    fn connect(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Self { stream, sent: 0 })
    }

    /// Sends and reads what is possible now; `None` when the connection has ended.
    fn go_on(&mut self, load: &Load, received: &mut [u8]) -> Option<bool> {
        let mut has_done = false;
        match self.stream.write(&load.bytes[self.sent..]) {
            Ok(written) => {
                has_done = true;
                self.sent += written;
                if self.sent == load.bytes.len() {
                    self.sent = 0;
                    if load.leaves {
                        return None;
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        if load.reads {
            match self.stream.read(received) {
                Ok(0) => return None,
                Ok(_) => has_done = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        Some(has_done)
    }
}

/// Loads the daemon from one thread until `stop`.
fn attack(socket: &Path, load: &Load, stop: &AtomicBool) {
    let mut all: Vec<Option<Hostile>> = (0..HOSTILE).map(|_| Hostile::connect(socket)).collect();
    let mut received = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let mut has_done = false;
        for one in &mut all {
            match one.as_mut().and_then(|hostile| hostile.go_on(load, &mut received)) {
                Some(done) => has_done |= done,
                None => {
                    *one = Hostile::connect(socket);
                    has_done |= load.leaves;
                }
            }
        }
        if !has_done {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Ends the threads beside a measurement, also when it fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the good client has seen.
#[derive(Debug)]
struct Seen {
    cycles: u64,
    p50: Duration,
    p99: Duration,
    most: Duration,
}

const GOOD: &str = "LESSOR_TEST_GOOD_CLIENT";

/// Starts the good client in a process of its own.
fn good_client(home: &Home, time: Duration) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fairness::acquire_and_release", "--nocapture"]).env(GOOD, home.socket());
    command.env(SECONDS, time.as_secs_f64().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test: the good client runs this.
#[test]
fn acquire_and_release() {
    let Some(socket) = std::env::var_os(GOOD) else { return };
    let time: f64 = std::env::var(SECONDS).unwrap().parse().unwrap();
    let mut client = Client::connect(Path::new(&socket));
    client.call("hello", json!({}));
    println!("good: connected");
    // until the load has begun
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed().as_secs_f64() < time {
        let start = Instant::now();
        let lease = client.acquire();
        client.call("lease.release", reference(&lease));
        times.push(start.elapsed());
        std::thread::sleep(Duration::from_micros(500));
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_micros();
    println!("good: {} {} {} {}", times.len(), at(50), at(99), at(100));
}

/// The next line of the good client.
fn line_of(lines: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the good client has failed");
        // the test runner says things before it, without a line's end
        if let Some((_, rest)) = line.split_once("good: ") {
            return rest.trim().to_owned();
        }
    }
}

/// What a good client sees while the daemon is under this load, and the most memory that the daemon has used.
fn measure(home: &Home, load: &Load, time: Duration) -> (Seen, u64) {
    let mut child = good_client(home, time);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line_of(&mut lines), "connected");
    let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let (socket, pid) = (home.socket(), home.pid());
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| attack(&socket, load, &stop));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let _at_the_end = StopOnDrop(&stop);
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        line_of(&mut lines)
    });
    child.wait().unwrap();
    let numbers: Vec<u64> = seen.split(' ').map(|number| number.parse().unwrap()).collect();
    let time = |place: usize| Duration::from_micros(numbers[place]);
    (Seen { cycles: numbers[0], p50: time(1), p99: time(2), most: time(3) }, peak.into_inner())
}

fn run(bounds: Bounds) {
    let mut failures = Vec::new();
    println!("{:<22} {:>7} {:>9} {:>9} {:>9} {:>8}", "HOSTILE CLIENTS SEND", "CYCLES", "P50", "P99", "MOST", "MEMORY");
    for load in loads() {
        let home = Home::with_accounts("[leases]\nmax_per_account = 64\n", ACCOUNTS);
        let (seen, peak) = measure(&home, &load, bounds.time);
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
        let (p50, p99, most) = (ms(seen.p50), ms(seen.p99), ms(seen.most));
        let name = if load.reads { load.name.to_owned() } else { format!("{}, unread", load.name) };
        println!("{name:<22} {:>7} {p50:>9} {p99:>9} {most:>9} {:>4} MiB", seen.cycles, peak >> 20);
        if seen.p99 > bounds.p99 || seen.most > bounds.most || peak > MOST_MEMORY {
            failures.push(format!("{name}: {seen:?}, {} MiB", peak >> 20));
        }
        assert!(!home.output().contains("panicked"), "{}", home.output());
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn hostile_clients_do_not_delay_the_leases_of_others() {
    run(GENEROUS);
}

/// Run by `.ci/fairness`: only a release build on an idle machine holds these bounds.
#[test]
#[ignore = "measures; run by .ci/fairness"]
fn a_lease_takes_5_ms_at_most_beside_hostile_clients() {
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3.0);
    let (p99, most) = (Duration::from_millis(5), Duration::from_millis(50));
    run(Bounds { time: Duration::from_secs_f64(seconds), p99, most });
}

#[test]
fn the_end_of_a_holder_is_noticed_beside_hostile_clients() {
    for load in loads().into_iter().filter(|load| ["config.get", "hello", "large garbage"].contains(&load.name)) {
        let home = Home::with_accounts("", 1);
        let stop = AtomicBool::new(false);
        let socket = home.socket();
        std::thread::scope(|scope| {
            let _at_the_end = StopOnDrop(&stop);
            scope.spawn(|| attack(&socket, &load, &stop));
            for _ in 0..3 {
                let mut holder = Holder::start(&home);
                holder.child.kill().unwrap();
                // the only account is free again
                let begun = Instant::now();
                let mut client = home.client();
                let wait = json!({ "provider": "anthropic", "exclusive": true, "wait_ms": 10_000 });
                let lease = client.call("lease.acquire", wait);
                client.call("lease.release", reference(&lease));
                println!("{}: served {:?} after the kill", load.name, begun.elapsed());
                assert!(begun.elapsed() < GENEROUS.most, "{}: {:?}", load.name, begun.elapsed());
            }
        });
    }
}

/// The most memory that the daemon has while `work` runs.
fn peak_during(home: &Home, work: impl FnOnce()) -> u64 {
    let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let pid = home.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _at_the_end = StopOnDrop(&stop);
        work();
    });
    peak.into_inner()
}

/// The test needs more descriptors than a shell gives by default.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

fn check_memory(what: &str, home: &Home, peak: u64) {
    println!("{what}: {} MiB", peak >> 20);
    assert!(peak <= MOST_MEMORY, "{what}: {} MiB", peak >> 20);
    assert_eq!(home.client().acquire()["account"]["label"], "a0");
}

/// Writes as much as the daemon takes.
fn send_all(stream: &mut UnixStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _refused_or_full = stream.write_all(bytes);
}

#[test]
fn imports_of_many_connections_have_bounded_memory_and_are_answered() {
    let home = Home::with_accounts("", 1);
    let import = largest_import(true);
    let peak = peak_during(&home, || {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let mut client = home.client();
                    client.stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
                    let mut sender = client.stream.try_clone().unwrap();
                    let import = &import;
                    scope.spawn(move || (0..3).for_each(|_| sender.write_all(import).unwrap()));
                    for _ in 0..3 {
                        let answer = client.receive().unwrap();
                        let error = &answer["error"]["data"];
                        let is_overloaded = error["kind"] == "overloaded" && error["retry_after_ms"].as_u64().is_some();
                        assert!(answer["result"].is_object() || is_overloaded, "{answer}");
                        assert_eq!(answer["id"], 1);
                    }
                });
            }
        });
    });
    check_memory("10 connections with imports", &home, peak);
}

#[test]
fn messages_sent_in_part_have_bounded_memory() {
    raise_descriptor_limit();
    let mut home = Home::with_accounts("", 1);
    // each of them would be a whole message with one byte more
    let part = |id: usize| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"hello\",\"x\":\"{}", "y".repeat(MAX_MESSAGE - 1000))
    };
    let mut clients = Vec::new();
    let peak = peak_during(&home, || {
        for id in 0..1000 {
            let Ok(client) = Client::try_connect(&home.socket()) else { break };
            let mut stream = client.stream.try_clone().unwrap();
            send_all(&mut stream, part(id).as_bytes());
            clients.push(client);
        }
    });
    assert!(home.is_running());
    // the last ones did not fit: they are answered by their id, and the connection goes on
    let last = clients.len() - 1;
    let client = &mut clients[last];
    let answer = client.receive().unwrap();
    assert_eq!((&answer["id"], &answer["error"]["data"]["kind"]), (&json!(last), &json!("overloaded")), "{answer}");
    client.stream.write_all(b"\"}\n").unwrap();
    assert_eq!(client.call("hello", json!({}))["server"], "lessor");
    println!("{} connections", clients.len());
    drop(clients);
    check_memory("messages sent in part", &home, peak);
}

#[test]
fn answers_that_are_not_read_have_bounded_memory() {
    raise_descriptor_limit();
    let home = Home::with_accounts("", 400);
    let size = home.client().ask("account.list", &json!({})).to_string().len();
    let mut clients = Vec::new();
    let peak = peak_during(&home, || {
        for _ in 0..100 {
            let mut stream = UnixStream::connect(home.socket()).unwrap();
            send_all(&mut stream, &calls("account.list", &json!({}), 64));
            clients.push(stream);
        }
        // one that reads is answered all the same, with less if there is no room
        wait_until("a client is served", || home.client().call("hello", json!({}))["server"] == "lessor");
    });
    drop(clients);
    check_memory(&format!("100 connections that do not read answers of {size} bytes"), &home, peak);
    wait_until("answers fit again", || home.client().ask("account.list", &json!({}))["result"].is_array());
}
